"""No object of the user's database stands in for PostgreSQL's own in the SQL that the scripts run, often as superuser.

Whoever owns a database may put anything into it: functions, operators, types and views of the names that the scripts
use, and a search_path that finds them first.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.postgres import Server, literal, scratch_folder
from tests.scripts.conftest import DUMP, PASSWORD, REPO, Pod, drop_owner
from tests.scripts.test_drill import DrillPod
from tests.scripts.test_restore_script import SUPERUSER_PASSWORD, Case

SCRIPTS = sorted(path for path in (REPO / "scripts").iterdir() if path.suffix in {".sh", ".sql"})
# Looked up by name, too: IN, = ANY, IS DISTINCT FROM, USING; BETWEEN; LIKE and NOT LIKE.
_UNWRITTEN = {"=", "<>", "<=", ">=", "~~", "!~~", "||"}


def words(pattern: str) -> str:
    """All that a pattern finds in the scripts, as an array for SQL."""
    found = {word for path in SCRIPTS for word in re.findall(pattern, path.read_text())}
    if "[" in pattern and "<" in pattern:
        found |= _UNWRITTEN
    return "{" + ",".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in sorted(found)) + "}"


def put_stand_ins(server: Server, dbname: str) -> None:
    """Make stand-ins for everything that the scripts name, and a search_path that finds them first."""
    server.psql(
        Path(__file__).with_name("stand_ins.sql").read_text(),
        dbname,
        functions=words(r"\b([a-z_0-9]+)\("),
        operators=words(r"([-+*/<>=~!@#%^&|?]+)"),
        relations=words(r"\b(pg_[a-z_]+)\b"),
        types=words(r"::([a-z_0-9]+)"),
    )
    made = {"format": 5, "count": 1, "string_agg": 1, "pg_has_role": 6, "has_database_privilege": 6, "set_config": 1}
    for name, least in made.items():
        found = (
            f"SELECT count(*) FROM pg_proc WHERE proname = {literal(name)} AND pronamespace = 'public'::regnamespace"
        )
        assert int(server.value(found, dbname)) >= least, f"too few stand-ins for {name}"
    assert (
        int(server.value("SELECT count(*) FROM pg_operator WHERE oprnamespace = 'public'::regnamespace", dbname)) > 200
    )
    server.psql(f"ALTER DATABASE {dbname} SET search_path = public, pg_catalog")


class Watched:
    """A server whose databases are full of stand-ins, and a backup of one of them."""

    def __init__(self, server: Server, pod: DrillPod) -> None:
        self.server, self.pod, self.case = server, pod, Case(pod, "app")
        server.psql(f"ALTER ROLE postgres PASSWORD '{SUPERUSER_PASSWORD}'")
        server.create_role("app", PASSWORD)
        server.create_database("app", "app")
        server.psql(
            "CREATE TABLE t (id serial PRIMARY KEY, v text); INSERT INTO t SELECT 1, 'x'; GRANT ALL ON t TO app", "app"
        )
        server.psql("ALTER TABLE t OWNER TO app", "app")
        for dbname in ("app", "postgres"):
            put_stand_ins(server, dbname)
        pod.add("app", user="postgres", password=SUPERUSER_PASSWORD, count_rows="true")
        self.case.owner("app")
        pod.run()
        self.roles = self.rights()

    def rights(self) -> str:
        return self.server.value(
            "SET search_path = pg_catalog; SELECT md5(string_agg(r::text, '' ORDER BY oid)) FROM pg_authid r"
        )

    def called(self) -> list[str]:
        """What the server, and that of a drill, logged of stand-ins."""
        drill = self.pod.folder / "scratch" / "log"
        log = self.server.log + (drill.read_text() if drill.exists() else "")
        return [line for line in log.splitlines() if "ERROR:  stand-in called" in line]

    def assert_untouched(self) -> None:
        assert self.called() == []
        assert self.rights() == self.roles


@pytest.fixture
def watched(shell_paths: dict[str, str]) -> Iterator[Watched]:
    top = scratch_folder()
    top.chmod(0o711)
    programs = top / "programs"
    shutil.copytree(shell_paths["busybox"], programs, symlinks=True)
    programs.chmod(0o755)
    (top / "pod").mkdir()
    with Server() as server:
        yield Watched(server, DrillPod(top / "pod", server, str(programs)))


def check(pod: Pod, script: Path = DUMP) -> str:
    """The output of dump.sh --check, which must be that all is ready."""
    pod.renew()
    done = subprocess.run(
        ["sh", str(script), "--check"], executable=f"{pod.shell_path}/sh", env=pod.environment(),
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_stand_ins_are_never_called(watched: Watched) -> None:
    case, pod = watched.case, watched.pod
    watched.assert_untouched()
    assert " ready " in check(pod)
    watched.assert_untouched()
    pod.drill()
    assert pod.sidecar(case.archive)["result"] == "proved"
    watched.assert_untouched()
    log = case.restore(RESTORE_REPLACE="yes")
    assert "in place" in log
    watched.assert_untouched()
    case.superuser()
    case.restore(RESTORE_REPLACE="yes", RESTORE_DRY_RUN="yes")
    watched.assert_untouched()
    for way in ("beside", "in-place"):
        case.restore(RESTORE_REPLACE="yes", RESTORE_WAY=way)
        watched.assert_untouched()


@pytest.mark.parametrize("script", ["restore.sh", "dump.sh"])
def test_without_the_preamble_they_would_be(watched: Watched, tmp_path: Path, script: str) -> None:
    """So the test above would see it."""
    shutil.copytree(REPO / "scripts", tmp_path / "scripts")
    library = tmp_path / "scripts" / "lib.sh"
    text = library.read_text()
    library.write_text(re.sub(r'(?ms)^preamble=".*?"$', 'preamble="SELECT 1 WHERE false"', text))
    assert library.read_text() != text
    if script == "dump.sh":
        check(watched.pod, tmp_path / "scripts" / script)
    else:
        watched.case.superuser()
        process = watched.pod.start_restore("app", RESTORE_REPLACE="yes", RESTORE_DRY_RUN="yes")
        process.communicate(timeout=60)
        assert watched.called() == []
        process = watched.pod.start(tmp_path / "scripts" / script, RESTORE_REPLACE="yes", RESTORE_DRY_RUN="yes")
        process.communicate(timeout=60)
    assert watched.called()


def test_timeouts_and_read_only_defaults_do_not_cut_a_restore(pod: Pod, server: Server) -> None:
    name = "hurried"
    case = Case(pod, name)
    server.create_role(name, PASSWORD)
    server.create_database(name, name)
    try:
        server.psql(
            f"""SET ROLE {name}; CREATE TABLE t (v text); INSERT INTO t VALUES ('x');
            CREATE FUNCTION slow(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS
              $$ BEGIN PERFORM pg_catalog.pg_sleep(0.7); RETURN $1; END $$;
            CREATE INDEX ON t (slow(v))""",
            name,
        )
        pod.add(name, user=name, count_rows="true")
        case.owner(name)
        pod.run()
        for limit in ("statement", "lock", "transaction", "idle_session", "idle_in_transaction_session"):
            server.psql(f"ALTER ROLE {name} SET {limit}_timeout = 400; ALTER DATABASE {name} SET {limit}_timeout = 400")
        server.psql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        log = case.restore(RESTORE_REPLACE="yes")
        assert "in place" in log
        assert "warning" not in log
        case.may_create_databases()
        log = case.restore(RESTORE_REPLACE="yes")
        assert "beside" in log
        assert "warning" not in log
    finally:
        drop_owner(server, name)
