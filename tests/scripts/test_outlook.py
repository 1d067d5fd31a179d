"""What a dump predicts of a restore is what the restore then does: its method, and everything that is in its way."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.lab.postgres import Server
from tests.scripts.conftest import PASSWORD, Pod, drop_owner
from tests.scripts.test_check import check
from tests.scripts.test_restore_script import SUPERUSER_PASSWORD, Case

TABLE = "CREATE TABLE t (i int);"


@dataclass(frozen=True)
class Situation:
    """A database, its owner, and what is predicted: the method, and a part of each obstacle.

    Attributes:
        method: The method.
        obstacles: A part of each obstacle that is listed.
        remedies: A part of each remedy.
        sql: Run by the owner; {role} is the owner.
        superuser: Run by a superuser before that.
        attributes: Those of the role.
        never: Whether not even the superuser could restore.
    """

    method: str
    obstacles: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ("enableSuperuserAccess: true",)
    sql: str = TABLE
    superuser: str = ""
    attributes: str = "NOSUPERUSER"
    never: bool = False


SITUATIONS = {
    "plain owner": Situation("in-place", remedies=("enableSuperuserAccess: true", '"createdb": true')),
    "owner with CREATEDB": Situation("beside", remedies=(), attributes="CREATEDB"),
    "role that is the superuser": Situation("beside", remedies=(), attributes="SUPERUSER"),
    "member of the owner with CREATEDB": Situation(
        "beside",
        remedies=(),
        superuser='CREATE ROLE "{role} owner"; GRANT "{role} owner" TO {role};'
        'ALTER DATABASE {role} OWNER TO "{role} owner";'
        "GRANT ALL ON SCHEMA public TO {role}",
        attributes="CREATEDB",
    ),
    "CREATEDB without the ownership of the database": Situation(
        "none",
        ("may not create a schema in this database",),
        superuser="ALTER DATABASE {role} OWNER TO postgres; GRANT ALL ON SCHEMA public TO {role}",
        attributes="CREATEDB",
    ),
    "table of another role": Situation(
        "none",
        ("table public.theirs belongs to role postgres",),
        ("enableSuperuserAccess: true", '"createdb": true', "ALTER … OWNER TO"),
        superuser="CREATE EXTENSION citext; CREATE TABLE theirs (i int)",
    ),
    "table of another role in a schema that is renamed": Situation(
        "in-place",
        remedies=("enableSuperuserAccess: true", '"createdb": true'),
        superuser="CREATE TABLE theirs (i int)",
    ),
    "names with blanks, quotes and line ends": Situation(
        "none",
        ('table public."My ""T"" x" belongs to role "Jörg \'s"',),
        ("enableSuperuserAccess: true", '"createdb": true', "ALTER … OWNER TO"),
        superuser="""CREATE EXTENSION citext; CREATE ROLE "Jörg 's"; CREATE TABLE "My ""T""\nx" (i int);
         ALTER TABLE "My ""T""\nx" OWNER TO "Jörg 's" """,
    ),
    "more objects of others than a line can hold": Situation(
        "none",
        (*(f"table public.t{i} belongs to role postgres" for i in range(10, 20)), "(and 15 more)"),
        ("enableSuperuserAccess: true", '"createdb": true', "ALTER … OWNER TO"),
        superuser="CREATE EXTENSION citext;"
        "SELECT format('CREATE TABLE t%s ()', i) FROM generate_series(10, 34) i\n\\gexec\n",
    ),
    "range type next to an extension": Situation(
        "none",
        tuple(f"range type public.span{more}: only a superuser can move its functions" for more in ("", "_multirange")),
        ("enableSuperuserAccess: true", '"createdb": true'),
        sql=TABLE + "CREATE EXTENSION citext; CREATE TYPE span AS RANGE (subtype = float8)",
    ),
    "extension for superusers, and an owner with CREATEDB": Situation(
        "in-place",
        remedies=("enableSuperuserAccess: true",),
        superuser="CREATE EXTENSION pageinspect",
        attributes="CREATEDB",
    ),
    "extension for superusers": Situation("in-place", superuser="CREATE EXTENSION pageinspect"),
    "extension that the server has lost, in place": Situation(
        "in-place",
        remedies=("use an image",),
        superuser='CREATE EXTENSION "lost {role}"',
        never=True,
    ),
    "extension that the server has lost, beside": Situation(
        "none",
        ("extension 'lost {role}' is in the database but not on the server",),
        ("use an image", "RESTORE_WAY=in-place"),
        attributes="CREATEDB",
        superuser='CREATE EXTENSION "lost {role}"',
        never=True,
    ),
    "TimescaleDB": Situation(
        "none",
        ("TimescaleDB",),
        superuser="CREATE EXTENSION timescaledb",
    ),
    "more locks than the server has room for": Situation(
        "none",
        ("one transaction needs about ",),
        ("enableSuperuserAccess: true", '"createdb": true', "max_locks_per_transaction: "),
        sql="SELECT format('CREATE TABLE t%s (id serial PRIMARY KEY, v text)', i) "
        "FROM generate_series(1, 2600) i\n\\gexec\n",
    ),
    "view that refers to itself": Situation(
        "none",
        ("view public.v refers to itself",),
        ("in the source, replace or drop it",),
        sql=TABLE + "CREATE VIEW v AS SELECT 1 AS a; CREATE OR REPLACE VIEW v AS SELECT a FROM v",
        attributes="CREATEDB",
        never=True,
    ),
    "event trigger, beside": Situation(
        "none",
        ("event trigger guard: only a superuser can create it",),
        superuser="CREATE FUNCTION g() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        "ALTER FUNCTION g OWNER TO {role};"
        "CREATE EVENT TRIGGER guard ON sql_drop EXECUTE FUNCTION g()",
        attributes="CREATEDB",
    ),
    "publication of all tables and rights on PostgreSQL's own functions, beside": Situation(
        "none",
        (
            "rights on pg_catalog FUNCTION pg_ls_dir(text) postgres: only a superuser can grant them",
            "publication everything of all tables: only a superuser can create it",
        ),
        superuser="CREATE PUBLICATION everything FOR ALL TABLES; GRANT EXECUTE ON FUNCTION pg_ls_dir(text) TO backup",
        attributes="CREATEDB",
    ),
    "the same in place, where they stay": Situation(
        "in-place",
        remedies=("enableSuperuserAccess: true", '"createdb": true'),
        superuser="CREATE PUBLICATION everything FOR ALL TABLES; GRANT EXECUTE ON FUNCTION pg_ls_dir(text) TO backup;"
        "CREATE CAST (bytea AS text) WITHOUT FUNCTION",
    ),
    "functions in C and LEAKPROOF": Situation(
        "none",
        (
            "function twin(integer): only a superuser can create one in C",
            "function whole(): only a superuser can create one that is LEAKPROOF",
        ),
        superuser="CREATE FUNCTION twin(int) RETURNS int LANGUAGE internal AS 'int4up';"
        "CREATE FUNCTION whole() RETURNS int LANGUAGE sql LEAKPROOF AS 'SELECT 1';"
        "ALTER FUNCTION twin OWNER TO {role}; ALTER FUNCTION whole OWNER TO {role}",
    ),
    "rights that another role has granted": Situation(
        "none",
        ('rights that role "{role} owner" has granted: only a superuser can grant them in its name',),
        superuser='CREATE ROLE "{role} owner"; CREATE TABLE given (i int); ALTER TABLE given OWNER TO {role};'
        'GRANT SELECT ON given TO "{role} owner" WITH GRANT OPTION; GRANT USAGE ON SCHEMA public TO "{role} owner";'
        'SET ROLE "{role} owner"; GRANT SELECT ON given TO backup; RESET ROLE',
    ),
    "empty database": Situation(
        "in-place", remedies=("enableSuperuserAccess: true", '"createdb": true'), sql="SELECT 1"
    ),
}  # fmt: skip


@pytest.fixture
def shell(request: pytest.FixtureRequest, shell_paths: dict[str, str]) -> str:
    """The pod's own shell, unless a test asks for another one."""
    return shell_paths[getattr(request, "param", "busybox")]


Make = Callable[[Situation], Case]


@pytest.fixture
def make(pod: Pod, server: Server) -> Iterator[Make]:
    """Make a database and its owner, whose Secret both a dump and a restore use."""
    made: list[str] = []
    folder = Path(server.installation.run("pg_config", "--sharedir").stdout.strip()) / "extension"

    def make(situation: Situation) -> Case:
        name = f"o{uuid.uuid4().hex[:7]}"
        made.append(name)
        for extension in ("timescaledb", f"lost {name}"):
            (folder / f"{extension}.control").write_text("default_version = '1'\n")
            (folder / f"{extension}--1.sql").write_text("SELECT 1;\n")
        server.psql(f"ALTER ROLE postgres PASSWORD '{SUPERUSER_PASSWORD}'")
        server.create_role(name, PASSWORD, f"LOGIN {situation.attributes}")
        server.create_database(name, owner=name)
        server.psql(situation.superuser.replace("{role}", name), name)
        server.psql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC", name)
        server.psql(f"SET ROLE {name}; {situation.sql}", name)
        for path in folder.glob(f"lost {name}*"):
            path.unlink()
        pod.add(name, user=name, allow_empty="true")
        case = Case(pod, name)
        case.owner(name)
        return case

    yield make
    for name in made:
        drop_owner(server, name)
        server.psql(f'DROP ROLE IF EXISTS "{name} owner", "Jörg \'s"')


def predicted(pod: Pod, name: str) -> tuple[dict[str, str], list[str], list[str]]:
    """What the last dump's result says: its keys, and all obstacles and remedies."""
    text = (pod.folder / "results" / f"{name}.result").read_text()
    return (
        pod.result(name),
        re.findall(r"restore_obstacle_\d+=(.*)", text),
        re.findall(r"restore_remedy_\d+=(.*)", text),
    )


def assert_fits(found: list[str], parts: tuple[str, ...], name: str) -> None:
    assert len(found) == len(parts), found
    for text, part in zip(found, parts, strict=True):
        assert part.replace("{role}", name) in text


SHORT = ("plain owner", "owner with CREATEDB", "table of another role")


@pytest.mark.parametrize(
    "situation",
    [pytest.param(one, id=name, marks=() if name in SHORT else pytest.mark.long) for name, one in SITUATIONS.items()],
)
def test_prediction_is_what_the_restore_then_does(make: Make, situation: Situation) -> None:
    case = make(situation)
    pod, name = case.pod, case.name
    pod.run()
    result, obstacles, remedies = predicted(pod, name)
    assert (result["restore_method"], result["restore_role"]) == (situation.method, name)
    assert_fits(obstacles, situation.obstacles, name)
    assert_fits(remedies, situation.remedies, name)
    if "ALTER DATABASE" not in situation.superuser:
        # A backup role asks the same about the database's owner.
        pod.add(name, allow_empty="true", dumps_as_owner="false")
        pod.dump()
        again, *others = predicted(pod, name)
        assert (again["restore_method"], again["restore_role"], *others) == (
            situation.method,
            name,
            obstacles,
            remedies,
        )

    options = {"RESTORE_DRY_RUN": "yes", "RESTORE_REPLACE": "yes"}
    log = case.restore(int(situation.method == "none"), **options).replace("\n", " ")
    if situation.method == "none":
        for obstacle in obstacles:
            words = re.sub(r"^one transaction |: only a superuser may create.*| is in the database but.*", "", obstacle)
            assert words in log or "more)" in words or ("TimescaleDB" in words and "TimescaleDB" in log), log
    else:
        assert f"method: {situation.method.replace('-', ' ')}" in log
    case.superuser()
    if situation.never:
        log = case.restore(1, **options)
        assert "not on the server" in log or "refers to itself" in log
    else:
        assert "method: beside" in case.restore(**options)


@pytest.mark.parametrize("shell", ["dash", "busybox"], indirect=True)
def test_check_prints_the_outlook_below_its_table_and_needs_no_archive(make: Make) -> None:
    case = make(Situation("in-place", attributes="NOINHERIT REPLICATION CONNECTION LIMIT 7"))
    name = case.name
    case.server.psql(
        f"CREATE ROLE \"{name} owner\"; GRANT \"{name} owner\" TO {name}; COMMENT ON ROLE {name} IS 'ä''s'"
    )
    table = check(case.pod, 0)
    assert (
        f"\n{name}: a restore as '{name}' would be in place; for beside: spec: {{enableSuperuserAccess: true}}" in table
    )
    (line,) = re.findall(r"spec: \{managed: \{roles: \[(.*)\]\}\} in the Cluster", table)
    # CloudNativePG takes from a role what its entry lacks.
    assert json.loads(line) == {
        "name": name, "login": True, "createdb": True, "inherit": False, "replication": True, "connectionLimit": 7,
        "comment": "ä's", "inRoles": [f"{name} owner"],
    }  # fmt: skip
    assert yaml.safe_load(line) == json.loads(line), "JSON is YAML"


def test_locks_are_counted_by_the_newest_archive_where_only_a_check_is_made(make: Make) -> None:
    case = make(SITUATIONS["more locks than the server has room for"])
    assert "would be in place" in check(case.pod, 0), "nothing says yet how many locks its archive takes"
    case.pod.run()
    (wanted,) = re.findall(r'max_locks_per_transaction: "(\d+)"', check(case.pod, 0))
    assert 64 < int(wanted) < 64 * 8


@pytest.mark.parametrize("fault", ["fails", "hangs", "prints nothing", "prints nonsense"])
@pytest.mark.sample(1)
def test_dump_is_good_whatever_becomes_of_the_outlook(make: Make, tmp_path: Path, fault: str) -> None:
    """The program that asks is replaced by one that spoils the answers to these questions alone."""
    case = make(Situation("in-place"))
    programs = tmp_path / "programs"
    programs.mkdir()
    act = {
        "fails": "exit 3", "hangs": "exec sleep 600", "prints nothing": "exit 0",
        "prints nonsense": r"printf 'restore\037x\037in-place\037f\037t\037{\037y\037z\nmoved\037a\037b)\n'; exit 0",
    }[fault]  # fmt: skip
    psql = programs / "psql"
    psql.write_text(f'#!/bin/dash\ncase "$*" in *facts.outlook*) {act} ;; esac\nexec {case.server.bin}/psql "$@"\n')
    psql.chmod(0o755)
    case.pod.dump(PATH=f"{programs}:{case.pod.environment()['PATH']}")
    result = case.pod.result(case.name)
    assert (result["state"], result["restore_method"]) == ("staged", "unknown")
    case.pod.finish(expect=0)
    case.pod.check(case.archive)


def test_outlook_takes_nothing_of_a_databases_last_minute(make: Make) -> None:
    case = make(Situation("in-place"))
    case.pod.add(case.name, user=case.name, timeout="59")
    case.pod.run()
    assert json.loads((case.pod.root / "status.json").read_text())["databases"][case.name]["restore"] is None
