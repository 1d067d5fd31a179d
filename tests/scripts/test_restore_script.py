"""restore.sh on a real PostgreSQL: all or nothing, the old database kept, every refusal one clear line."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.damage import Damage
from tests.lab.data import Fingerprint, fingerprint, plausible
from tests.lab.postgres import Server, identifier
from tests.scripts.conftest import PASSWORD, RESTORE, Pod, Session, wait_for, wait_until

SUPERUSER_PASSWORD = "super:secret"


@dataclass
class Case:
    """A backed-up database, its owner's role, and the pod that restores it."""

    pod: Pod
    name: str

    @property
    def server(self) -> Server:
        return self.pod.server

    @property
    def archive(self) -> Path:
        return self.pod.archives(self.name)[-1]

    def owner(self, role: str, password: str = PASSWORD) -> None:
        """Let this be the owner's Secret."""
        secret = self.pod.folder / "credentials" / self.name
        (secret / "owner-username").write_text(role)
        (secret / "owner-password").write_text(password)

    def superuser(self) -> None:
        """Let the superuser's Secret be there."""
        secret = self.pod.folder / "credentials" / self.name
        (secret / "superuser-username").write_text("postgres")
        (secret / "superuser-password").write_text(SUPERUSER_PASSWORD)

    def may_create_databases(self) -> None:
        self.server.psql(f"ALTER ROLE {identifier(self.name)} CREATEDB")

    def fingerprint(self, dbname: str | None = None) -> Fingerprint:
        return fingerprint(self.server, dbname or self.name)

    def damage_data(self) -> None:
        """Damage that a restore must undo: deleted rows, a dropped table, a changed one."""
        self.server.psql("DELETE FROM sessions; DROP TABLE totp_configurations; UPDATE users SET email = ''", self.name)

    def databases(self) -> set[str]:
        """Databases whose names begin as this one's."""
        prefix = self.name[:6]
        return {name for (name,) in self.server.sql("SELECT datname FROM pg_database") if name.startswith(prefix)}

    def restore(self, expect: int = 0, /, **environment: str) -> str:
        return self.pod.restore(self.name, expect, **environment)

    def drop_old(self) -> None:
        """Drop what a restore in place has set aside, with the statement that it printed, as the owner."""
        (statement,) = re.findall("no longer need it: (.*)", (self.pod.folder / "termination-log").read_text())
        self.server.psql(f"SET ROLE {identifier(self.name)}; {statement}", self.name)

    def fails(self, error: str, remedy: str, expect: int = 1, **environment: str) -> str:
        """A restore fails with that line and that remedy, and changes nothing at all."""
        before, there = self.fingerprint(), self.databases()
        log = self.restore(expect, **environment)
        failed = re.findall(r"FAILED: (.*)", log)
        assert len(failed) == 1, log
        assert re.search(error, failed[0]), f"{failed[0]!r} does not match {error!r}"
        (found,) = re.findall(r"remedy: (.*)", log)
        assert re.search(remedy, found), f"{found!r} does not match {remedy!r}"
        assert self.fingerprint().differences(before) == []
        assert self.databases() == there
        assert failed[0] in (self.pod.folder / "termination-log").read_text()
        return log


MakeCase = Callable[..., Case]


_SMALL = r"""
CREATE TYPE kind AS ENUM ('a', 'b');
CREATE TABLE users (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, username text UNIQUE, email text, k kind);
CREATE TABLE sessions (id serial PRIMARY KEY, user_id int REFERENCES users, data jsonb);
CREATE TABLE totp_configurations (id int PRIMARY KEY REFERENCES users, secret bytea);
CREATE TABLE logs (at timestamptz, line text);
CREATE INDEX ON logs USING gin (line gin_trgm_ops);
INSERT INTO users (username, email, k) SELECT 'u' || n, E'\\ \'q\' ä\n' || n, 'b' FROM generate_series(1, 200) n;
INSERT INTO sessions (user_id, data)
  SELECT 1 + n % 200, jsonb_build_object('n', n) FROM generate_series(1, 2000) n;
INSERT INTO totp_configurations SELECT id, sha224(int8send(id)) FROM users;
INSERT INTO logs SELECT '2026-01-01', md5(n::text) FROM generate_series(1, 3000) n;
CREATE VIEW active AS SELECT username, count(*) FROM users JOIN sessions ON user_id = users.id GROUP BY 1;
"""


def small(server: Server, dbname: str, owner: str) -> None:
    """Four tables with what a restore has to bring along: identity, serial, foreign keys, an enum, an extension."""
    server.psql(f"CREATE EXTENSION pg_trgm; SET ROLE {owner}; {_SMALL}", dbname)


@pytest.fixture
def shell(request: pytest.FixtureRequest, shell_paths: dict[str, str]) -> str:
    """The pod's own shell, unless a test asks for another one."""
    return shell_paths[getattr(request, "param", "busybox")]


in_all_shells = pytest.mark.parametrize(
    "shell", ["busybox", "dash", pytest.param("bash", marks=pytest.mark.long)], indirect=True
)


@pytest.fixture(scope="module", autouse=True)
def _superuser(server: Server) -> None:
    server.psql(f"ALTER ROLE postgres PASSWORD '{SUPERUSER_PASSWORD}'")


@pytest.fixture
def make_case(pod: Pod, server: Server) -> Iterator[MakeCase]:
    """Create a database with its own owner, fill it, back it up; afterwards drop it and those made next to it."""
    made: list[Case] = []

    def make(fill: Callable[[Server, str, str], object] = small, name: str | None = None, **conf: Any) -> Case:
        name = name or f"r{uuid.uuid4().hex[:7]}"
        case = Case(pod, name)
        made.append(case)
        server.create_role(name, PASSWORD)
        server.create_database(name, owner=name)
        fill(server, name, name)
        pod.add(name, user=name, **conf)
        case.owner(name)
        pod.run()
        return case

    yield make
    for case in made:
        for name in case.databases():
            server.drop_database(name)
        server.psql(f"DROP ROLE {identifier(case.name)}")


@pytest.fixture
def case(make_case: MakeCase) -> Case:
    """A small database, backed up."""
    return make_case()


@in_all_shells
def test_beside_brings_back_every_row_and_keeps_the_old_database(case: Case) -> None:
    good = case.fingerprint()
    case.damage_data()
    broken = case.fingerprint()
    case.superuser()
    log = case.restore(RESTORE_REPLACE="yes")
    assert good.differences(case.fingerprint()) == []
    assert "a new database" in log
    (old,) = case.databases() - {case.name}
    assert re.fullmatch(rf"{case.name}_before_\d{{8}}_\d{{6}}", old)
    assert broken.differences(case.fingerprint(old)) == []
    assert f'DROP DATABASE "{old}"' in (case.pod.folder / "termination-log").read_text()
    analyzed = case.server.value("SELECT count(*) FROM pg_stats WHERE schemaname = 'public'", case.name)
    assert int(analyzed) > 0, "no statistics: the planner would guess"


@pytest.mark.parametrize(("way", "jobs"), [("beside", "1"), ("beside", "2"), ("in-place", "2")])
@pytest.mark.sample(2)
def test_every_table_is_analyzed_once(make_case: MakeCase, way: str, jobs: str) -> None:
    """Partitions, their parents and materialized views, by one connection or by two."""
    case = make_case(lambda server, name, owner: plausible(server, name, owner, megabytes=10))
    case.may_create_databases()
    case.restore(RESTORE_WAY=way, RESTORE_JOBS=jobs, RESTORE_REPLACE="yes")
    never = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'm', 'p') AND reltuples < 0"
    assert case.server.sql(never, case.name) == []
    counts = case.server.sql(
        "SELECT relname, analyze_count FROM pg_stat_user_tables WHERE schemaname !~ '_before_'", case.name
    )
    assert len(counts) > 5
    assert {count for _, count in counts} == {"1"}, counts


@in_all_shells
def test_in_place_brings_back_every_row_in_one_transaction(case: Case) -> None:
    good = case.fingerprint()
    case.damage_data()
    log = case.restore(RESTORE_REPLACE="yes")
    assert "in place, in one transaction" in log
    assert case.databases() == {case.name}
    case.drop_old()
    assert good.differences(case.fingerprint()) == []


def with_a_large_object(server: Server, dbname: str, owner: str) -> None:
    small(server, dbname, owner)
    server.psql(f"SET ROLE {owner}; SELECT lo_from_bytea(4711, 'x')", dbname)


def test_in_place_that_fails_after_its_large_objects_changes_nothing(make_case: MakeCase, tmp_path: Path) -> None:
    """pg_restore's script commits after each lot of them."""
    case = make_case(with_a_large_object)
    case.damage_data()
    case.server.psql("SELECT lo_put(4711, 0, 'y')", case.name)
    content = "SELECT convert_from(lo_get(4711), 'UTF8')"
    path = stand_in(case, tmp_path, 'case "$*" in "-f - "*.most*) echo "SELECT no_such_column;"; exit ;; esac')
    case.fails("no_such_column", "server's log", RESTORE_REPLACE="yes", PATH=path)
    assert case.server.value(content, case.name) == "y"
    case.restore(RESTORE_REPLACE="yes")
    assert case.server.value(content, case.name) == "x"


def test_in_place_commits_nothing_when_the_filter_of_its_large_objects_is_killed(
    make_case: MakeCase, tmp_path: Path
) -> None:
    """A pipe succeeds if its last program does: the others' end has to be looked at."""
    case = make_case(with_a_large_object)
    case.server.psql("SELECT lo_put(4711, 0, 'y')", case.name)
    path = stand_in(
        case, tmp_path, 'case "$1" in *BEGIN\\;*COMMIT\\;*) cat >/dev/null; kill -9 $$ ;; esac', program="awk"
    )
    case.restore(1, RESTORE_REPLACE="yes", PATH=path)
    assert case.server.value("SELECT convert_from(lo_get(4711), 'UTF8')", case.name) == "y"


def test_owner_that_may_create_databases_restores_beside(case: Case) -> None:
    good = case.fingerprint()
    case.damage_data()
    case.may_create_databases()
    case.restore(RESTORE_REPLACE="yes")
    assert good.differences(case.fingerprint()) == []
    assert len(case.databases()) == 2
    owner = case.server.value(f"SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = '{case.name}'")
    assert owner == case.name


def test_settings_grants_and_comment_of_the_database_come_back(make_case: MakeCase) -> None:
    def fill(server: Server, dbname: str, owner: str) -> None:
        small(server, dbname, owner)
        server.psql(
            f"ALTER DATABASE {dbname} SET work_mem = '7MB';"
            f"ALTER ROLE {owner} IN DATABASE {dbname} SET work_mem = '9MB';"
            f"COMMENT ON DATABASE {dbname} IS 'ours; ''quoted'''; REVOKE TEMP ON DATABASE {dbname} FROM PUBLIC"
        )

    case = make_case(fill)
    case.superuser()
    query = (
        "SELECT (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(d.datacl) a), "
        "shobj_description(d.oid, 'pg_database'), array_agg(s.setrole::regrole || s.setconfig::text ORDER BY 1) "
        "FROM pg_database d LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid "
        f"WHERE datname = '{case.name}' GROUP BY d.oid, d.datacl"
    )
    before = case.server.value(query)
    assert "7MB" in before
    log = case.restore(RESTORE_REPLACE="yes")
    assert "warning" not in log
    assert case.server.value(query) == before


@pytest.mark.parametrize("way", [pytest.param("beside", marks=pytest.mark.long), "in-place"])
def test_partitions_large_objects_and_materialized_views_come_back(make_case: MakeCase, way: str) -> None:
    case = make_case(lambda server, name, owner: plausible(server, name, owner, megabytes=12))
    good = case.fingerprint()
    case.server.psql("DELETE FROM events; DROP TABLE imports.uploads; DROP MATERIALIZED VIEW daily", case.name)
    case.may_create_databases()
    case.restore(RESTORE_REPLACE="yes", RESTORE_WAY=way, RESTORE_JOBS="2")
    if way == "in-place":
        case.drop_old()
    assert good.differences(case.fingerprint()) == []


def test_newer_objects_are_kept_aside_in_place(case: Case) -> None:
    good = case.fingerprint()
    case.server.psql(f"SET ROLE {case.name}; CREATE TABLE newer (id int); INSERT INTO newer VALUES (1), (2)", case.name)
    case.server.psql("DELETE FROM sessions WHERE id > 10", case.name)
    case.restore(RESTORE_REPLACE="yes")
    (aside,) = case.server.sql("SELECT nspname FROM pg_namespace WHERE nspname ~ '^public_before_'", case.name)
    tables = case.fingerprint().tables
    assert (tables[f"{aside[0]}.newer"].rows, tables[f"{aside[0]}.sessions"].rows) == (2, 10)
    case.drop_old()
    assert good.differences(case.fingerprint()) == []


def test_newer_object_that_needs_an_older_one_does_not_stop_the_restore_in_place(case: Case) -> None:
    good = case.fingerprint()
    case.server.psql(f"SET ROLE {case.name}; CREATE VIEW newer AS SELECT username FROM users", case.name)
    case.restore(RESTORE_REPLACE="yes")
    case.drop_old()
    assert good.differences(case.fingerprint()) == []


def test_lost_database_is_made_anew(case: Case) -> None:
    good = case.fingerprint()
    case.server.drop_database(case.name)
    case.superuser()
    case.restore()
    assert good.differences(case.fingerprint()) == []
    assert case.databases() == {case.name}


def test_restore_under_another_name_leaves_the_database_alone(case: Case) -> None:
    good, look = case.fingerprint(), f"{case.name} to=look"
    case.superuser()
    case.server.psql("DELETE FROM sessions", case.name)
    broken = case.fingerprint()
    case.restore(RESTORE_INTO=look)
    assert good.differences(case.fingerprint(look)) == []
    assert broken.differences(case.fingerprint()) == []
    assert case.databases() == {case.name, look}


def test_selection_brings_the_rows_of_those_tables_alone(case: Case) -> None:
    case.may_create_databases()
    part = f"{case.name}_part"
    # Their users stay behind.
    case.restore(RESTORE_INTO=part, RESTORE_TABLES="sessions, public.logs")
    rows = {name: content.rows for name, content in case.fingerprint(part).tables.items() if content.rows}
    assert rows == {"public.sessions": 2000, "public.logs": 3000}
    assert "public.users" in case.fingerprint(part).tables, "its definition is there"


@pytest.mark.long
def test_selection_of_a_schema(make_case: MakeCase) -> None:
    case = make_case(lambda server, name, owner: plausible(server, name, owner, megabytes=10))
    case.superuser()
    part = f"{case.name}_part"
    case.restore(RESTORE_INTO=part, RESTORE_SCHEMAS="imports")
    rows = {name: content.rows for name, content in case.fingerprint(part).tables.items() if content.rows}
    assert set(rows) == {"imports.uploads"}, "only these rows"


def test_selection_of_what_is_not_there_is_refused(case: Case) -> None:
    case.superuser()
    case.fails("no rows of 'public.nosuch'", "archive: public.", RESTORE_INTO="x", RESTORE_TABLES="nosuch")


def test_database_that_is_not_empty_is_not_replaced_unless_told(case: Case) -> None:
    case.superuser()
    case.fails(r"refused: database '.*' is not empty, it has 4 tables", "RESTORE_REPLACE=yes", expect=3)


def test_dry_run_says_the_way_and_changes_nothing(case: Case) -> None:
    case.superuser()
    before, there = case.fingerprint(), case.databases()
    log = case.restore(RESTORE_REPLACE="yes", RESTORE_DRY_RUN="yes")
    assert "method: beside, in a new database" in log
    assert "nothing was changed" in log
    assert case.fingerprint().differences(before) == []
    assert case.databases() == there


def test_wrong_password_is_one_clear_line(case: Case) -> None:
    case.owner(case.name, "wrong")
    case.fails("password authentication failed", "Secret", RESTORE_REPLACE="yes")


def test_role_without_rights_is_one_clear_line(make_case: MakeCase) -> None:
    case = make_case()
    case.owner("backup")
    log = case.fails(r"cannot set aside what is in .* \(and \d+ more\)", "superuser", RESTORE_REPLACE="yes")
    assert f"in the way: table public.users belongs to role {case.name}" in log
    assert f"in the way: type public.kind belongs to role {case.name}" in log


def test_database_that_nobody_may_create_is_one_clear_line(case: Case) -> None:
    case.fails("'nosuch' does not exist, and role", "CREATEDB", RESTORE_INTO="nosuch")


def granted_to_a_role() -> tuple[Callable[[Server, str, str], None], str]:
    """What fills a database of which a role of its own may read a table, and the role's name."""
    role = f"reader {uuid.uuid4().hex[:6]}"

    def fill(server: Server, dbname: str, owner: str) -> None:
        small(server, dbname, owner)
        server.psql(f'CREATE ROLE "{role}" LOGIN; GRANT SELECT ON users TO "{role}"', dbname)

    return fill, role


def test_missing_role_is_made_by_the_superuser_and_one_clear_line_for_others(make_case: MakeCase) -> None:
    fill, role = granted_to_a_role()
    case = make_case(fill)
    good = case.fingerprint()
    case.server.psql(f'REVOKE SELECT ON users FROM "{role}"; DROP ROLE "{role}"', case.name)
    case.fails(f"the archive names role '{role}', which the server lacks", "globals.sql", RESTORE_REPLACE="yes")
    case.superuser()
    log = case.restore(RESTORE_REPLACE="yes")
    assert f"role '{role}' was missing and has been created" in log
    assert good.differences(case.fingerprint()) == []
    assert case.server.value(f"SELECT rolcanlogin FROM pg_roles WHERE rolname = '{role}'") == "f"
    for name in case.databases():
        case.server.psql(f'DROP OWNED BY "{role}"', name)
    case.server.psql(f'DROP ROLE "{role}"')


def test_missing_extension_is_one_clear_line(make_case: MakeCase) -> None:
    def fill(server: Server, dbname: str, owner: str) -> None:
        small(server, dbname, owner)
        server.psql("CREATE EXTENSION hstore", dbname)

    case = make_case(fill)
    control = Path(case.server.installation.run("pg_config", "--sharedir").stdout.strip()) / "extension/hstore.control"
    hidden = control.with_suffix(".hidden")
    case.superuser()
    control.rename(hidden)
    try:
        case.fails("extension 'hstore' is in the archive but not on the server", "image", RESTORE_REPLACE="yes")
    finally:
        hidden.rename(control)


def test_extension_for_superusers_is_one_clear_line(make_case: MakeCase) -> None:
    def fill(server: Server, dbname: str, owner: str) -> None:
        small(server, dbname, owner)
        server.psql("CREATE EXTENSION pageinspect", dbname)

    case = make_case(fill)
    case.may_create_databases()
    case.fails("only a superuser may create it", "enableSuperuserAccess", RESTORE_REPLACE="yes", RESTORE_WAY="beside")
    good = case.fingerprint()
    case.damage_data()
    log = case.restore(RESTORE_REPLACE="yes")
    assert (
        "only a superuser can create extension 'pageinspect' in a new database, so the one that is there is kept" in log
    )
    case.drop_old()
    assert good.differences(case.fingerprint()) == []


def test_archive_of_a_newer_major_is_one_clear_line(case: Case) -> None:
    metadata = case.archive.with_suffix(".json")
    metadata.write_text(re.sub(r'"server_version": "[^"]*"', '"server_version": "18.1"', metadata.read_text()))
    case.superuser()
    case.fails("of PostgreSQL 18.1, the server is 17.* never into an older major", "18 or newer", RESTORE_REPLACE="yes")


def test_image_of_another_major_is_one_clear_line(case: Case, newer_server: Server) -> None:
    case.superuser()
    path = f"{newer_server.bin}:{case.pod.environment()['PATH']}"
    # Its libpq has no TLS.
    case.fails("this image's pg_restore is 18|sslmode value", ".", RESTORE_REPLACE="yes", PATH=path)


def test_truncated_archive_is_never_chosen(case: Case) -> None:
    archive = case.archive
    Damage("truncation", archive.stat().st_size * 2 // 3).apply(archive)
    case.pod.renew()
    done = case.pod.retention(
        "choose", "--database", case.name, "--requests", str(case.pod.folder / "results"), expect=1
    )
    assert f"{archive.name} does not count: damaged: it has " in done.stderr
    assert not list((case.pod.folder / "results").iterdir())


def test_wrong_sha256_takes_the_archive_out_of_view_and_names_the_one_before(case: Case) -> None:
    case.pod.run()
    older, newest = case.pod.archives(case.name)
    Damage("bit flip", newest.stat().st_size * 2 // 3, 3).apply(newest)
    case.pod.renew()
    done = case.pod.retention(
        "choose", "--database", case.name, "--requests", str(case.pod.folder / "results"), expect=1
    )
    assert f"{newest.name} is bad" in done.stderr
    assert f"restore the one before it, {older.name}" in done.stderr
    assert newest.with_name(f"{newest.name}.bad").exists()
    assert not list((case.pod.folder / "results").iterdir())


@pytest.mark.parametrize(
    ("way", "jobs", "kept"),
    [
        ("beside", "1", 0.99),
        ("beside", "2", 0.99),
        ("in-place", "1", 0.99),
        *(pytest.param("in-place", "1", kept, marks=pytest.mark.long) for kept in (0.2, 0.35, 0.5, 0.65, 0.8, 0.9)),
    ],
)
def test_archive_that_is_damaged_after_the_choice_changes_nothing(case: Case, way: str, jobs: str, kept: float) -> None:
    """As on a volume that decays while one looks: nothing takes effect before the archive is read to its end."""
    case.superuser()
    before, there = case.fingerprint(), case.databases()
    case.pod.renew()
    results = str(case.pod.folder / "results")
    case.pod.retention("choose", "--database", case.name, "--requests", results, expect=0)
    Damage("truncation", int(case.archive.stat().st_size * kept)).apply(case.archive)
    process = case.pod.start(RESTORE, RESTORE_REPLACE="yes", RESTORE_WAY=way, RESTORE_JOBS=jobs)
    log = wait_for(process, 60)
    assert process.returncode == 1
    assert re.search("FAILED: .*could not read from input file", log), log
    assert "newest before" in log
    assert "nothing was changed" in log
    assert case.fingerprint().differences(before) == []
    assert case.databases() == there


def stand_in(case: Case, folder: Path, script: str, program: str = "pg_restore") -> str:
    """PATH with a program that runs a script in `folder` before the real one, which is `$real`."""
    programs = folder / "programs"
    programs.mkdir()
    appears = 'appears() { for _ in $(seq 30); do [ ! -e "$1" ] || return 0; sleep 0.1; done; return 1; }'
    real = f"real={shutil.which(program, path=case.pod.environment()['PATH'])}"
    where = f"cd {folder}\n" if program == "pg_restore" else ""
    (programs / program).write_text(f'#!/bin/sh\n{where}{real}\n{appears}\n{script}\nexec "$real" "$@"\n')
    (programs / program).chmod(0o755)
    return f"{programs}:{case.pod.environment()['PATH']}"


_FINDS_DAMAGE = 'echo "pg_restore: error: could not read from input file: end of file" >&2; exit 1'


def test_dry_run_reads_the_archive_to_its_end(case: Case, tmp_path: Path) -> None:
    case.superuser()
    touched = 'case "$*" in "-d "* | "-f - "* | --clean*) touch begun ;; "-f /dev/null "*)'
    path = stand_in(case, tmp_path, f"{touched} appears begun || {{ {_FINDS_DAMAGE}; }} ;; esac")
    options = {"RESTORE_WAY": "beside", "RESTORE_DRY_RUN": "yes", "RESTORE_REPLACE": "yes", "PATH": path}
    case.fails("cannot be read: .*end of file", "newest before", 1, **options)


def test_missing_role_is_not_made_for_an_archive_that_cannot_be_read(make_case: MakeCase, tmp_path: Path) -> None:
    fill, role = granted_to_a_role()
    case = make_case(fill)
    case.server.psql(f'REVOKE SELECT ON users FROM "{role}"; DROP ROLE "{role}"', case.name)
    case.superuser()
    path = stand_in(
        case,
        tmp_path,
        f'case "$*" in "-d "*) touch begun ;; "-f /dev/null "*) appears begun; {_FINDS_DAMAGE} ;; esac',
    )
    log = case.fails("cannot be read: .*end of file", "newest before", RESTORE_REPLACE="yes", PATH=path)
    assert "roles created" not in log
    assert case.server.value(f"SELECT count(*) FROM pg_roles WHERE rolname = '{role}'") == "0"


def test_pg_restore_that_fails_midway_commits_nothing_in_place(case: Case, tmp_path: Path) -> None:
    """The statements before the failure were sent; without the last one there is no transaction."""
    before = case.fingerprint()
    # Cut between two statements: all tables exist and are empty.
    cut = "awk '/^COPY / { exit } { print }'"
    path = stand_in(case, tmp_path, f'case "$*" in "-f - "*) "$real" "$@" | {cut}; exit 1 ;; esac')
    log = case.restore(1, RESTORE_REPLACE="yes", RESTORE_WAY="in-place", PATH=path)
    assert "nothing was changed" in log
    assert case.fingerprint().differences(before) == []


def test_sessions_of_the_application_do_not_stop_the_swap(case: Case) -> None:
    session = Session(case.server, case.name)
    session.sql("BEGIN; LOCK TABLE users; SELECT 1")
    case.superuser()
    case.restore(RESTORE_REPLACE="yes")
    session._psql.kill()
    session.close()
    assert len(case.databases()) == 2


def test_session_that_the_owner_may_not_end_leaves_a_restored_database_to_swap_by_hand(case: Case) -> None:
    good = case.fingerprint()
    case.damage_data()
    broken = case.fingerprint()
    session = Session(case.server, case.name)
    session.sql("SELECT 1")
    case.may_create_databases()
    log = case.restore(1, RESTORE_REPLACE="yes", RESTORE_SWAP_TRIES="1")
    session.close()
    assert "cannot be renamed" in log
    (kept,) = case.databases() - {case.name}
    assert kept.startswith(f"{case.name}_restored_")
    assert good.differences(case.fingerprint(kept)) == []
    assert broken.differences(case.fingerprint()) == []
    (statements,) = re.findall(r"then: (ALTER .*;)", log)
    case.server.psql(statements)
    assert good.differences(case.fingerprint()) == []


def test_sigterm_leaves_nothing_beside_and_the_old_database_whole(make_case: MakeCase) -> None:
    case = make_case(lambda server, name, owner: plausible(server, name, owner, megabytes=20))
    case.may_create_databases()
    old = case.fingerprint()
    process = case.pod.start_restore(case.name, RESTORE_REPLACE="yes", RESTORE_JOBS="2")
    wait_until(lambda: len(case.databases()) > 1, "the new database")
    process.send_signal(signal.SIGTERM)
    log = wait_for(process, 60)
    assert process.returncode == 143, log
    assert "stopped by SIGTERM" in log, log
    assert case.databases() == {case.name}
    assert old.differences(case.fingerprint()) == []


def test_sigterm_is_told_also_while_an_answer_is_read(case: Case) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(60)
        conf = case.pod.folder / "config" / f"{case.name}.conf"
        text = re.sub(r"(?m)^port=.*$", f"port={silent.getsockname()[1]}", conf.read_text())
        conf.write_text(re.sub(r"(?m)^wait_timeout=.*$", "wait_timeout=60", text))
        process = case.pod.start_restore(case.name, RESTORE_REPLACE="yes")
        # psql asks, and its answer would go into a file.
        connection, _ = silent.accept()
        process.send_signal(signal.SIGTERM)
        log = wait_for(process, 60)
        connection.close()
    assert process.returncode == 143, log
    assert "stopped by SIGTERM" in log, log


def test_progress_and_who_is_in_the_way_are_told(case: Case) -> None:
    session = Session(case.server, case.name)
    session.sql("SET application_name = 'the app'; BEGIN; LOCK TABLE users; SELECT 1")
    process = case.pod.start_restore(
        case.name, RESTORE_REPLACE="yes", RESTORE_WAY="in-place", RESTORE_PROGRESS_SECONDS="0.1"
    )
    assert process.stdout
    for line in process.stdout:
        if "WAITING" in line:
            break
    assert "WAITING for the session of postgres (the app, pid" in line
    ((restored, whole),) = re.findall(r"s, (\d+) MiB of about (\d+) MiB", line)
    assert int(restored) * 2 < int(whole), "what was there before does not count"
    session.close()
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_wrong_options_are_usage_errors(case: Case) -> None:
    before = case.fingerprint()
    for option, value in {"WAY": "besides", "REPLACE": "true", "DRY_RUN": "1", "JOBS": "0", "TABLES": "users"}.items():
        options = {f"RESTORE_{option}": value}
        log = case.restore(2, **options)
        assert f"RESTORE_{option}" in log
    assert case.fingerprint().differences(before) == []
