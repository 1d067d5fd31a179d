"""drill.sh and `retention drill`: an archive that a drill calls proved can be restored; any other one is reported."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.damage import Damage
from tests.lab.postgres import Server, scratch_folder, server_user
from tests.scripts.conftest import PASSWORD, REPO, Pod, drop_owner, wait_for, wait_until


class DrillPod(Pod):
    """A pod whose drill runs as a user that PostgreSQL accepts, in folders that this user may enter."""

    def open_to_the_server_user(self) -> None:
        """Let this user own what the drill container mounts."""
        shutil.copytree(REPO / "scripts", self.folder / "scripts", dirs_exist_ok=True)
        for path in (self.folder, *self.folder.rglob("*")):
            os.chown(path, server_user().uid, server_user().gid, follow_symlinks=False)

    def databases(self) -> list[str]:
        return sorted(path.stem for path in (self.folder / "config").glob("*.conf"))

    def own(self, volume: str, name: str = "") -> Path:
        """The folder of a volume that the container of a database sees; of the only database if there is no name."""
        return self.folder / volume / "databases" / (name or self.databases()[0])

    def choose_for_drill(self) -> None:
        """Run the first container of a drill, in a new pod."""
        self.renew()
        shutil.rmtree(self.folder / "scratch", ignore_errors=True)
        (self.folder / "scratch").mkdir()
        config, results = str(self.folder / "config"), str(self.folder / "results")
        self.retention("choose", "--drill", config, "--requests", results, expect=0)

    def hand_over(self, name: str, size: str = "10Gi", seconds: str = "120") -> str:
        """Run the container that hands over the archives of a database; return its log."""
        volumes = [
            word for key in ("config", "results", "run", "scratch") for word in (f"--{key}", str(self.folder / key))
        ]
        more = ("--scratch-size", size, "--seconds", seconds)
        done = self.retention("hand-over", "--database", name, *volumes, *more, expect=0)
        self.open_to_the_server_user()
        return done.stdout

    def start_drill_of(self, name: str, **environment: str) -> subprocess.Popen[str]:
        """Start the container that restores the archives of a database, which were handed over."""
        own = {
            "BACKUP_CONFIG": str(self.own("scratch", name) / "config"),
            "BACKUP_RUN": str(self.own("run", name)),
            "BACKUP_RESULTS": str(self.own("results", name)),
            "DRILL_SCRATCH": str(self.own("scratch", name)),
            "DRILL_TIMEOUT": "120",
            # There are no credentials, and no backups.
            "BACKUP_CREDENTIALS": "",
            "BACKUP_ROOT": "",
        }
        process: subprocess.Popen[str] = subprocess.Popen(
            ["sh", str(self.folder / "scripts" / "drill.sh")],
            executable=f"{self.shell_path}/sh",
            env={**self.environment(), **own, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            cwd="/",
            **server_user().drop,  # type: ignore[call-overload]
        )
        return process

    def start_drill(self, **environment: str) -> subprocess.Popen[str]:
        """Run the drill of the only database up to the container that restores, and start that one."""
        self.choose_for_drill()
        (name,) = self.databases()
        self.hand_over(name, seconds=environment.get("DRILL_TIMEOUT", "120"))
        return self.start_drill_of(name, **environment)

    def end_drill_of(self, process: subprocess.Popen[str], name: str = "", expect: int = 0) -> str:
        """Wait for the container that restores; return what it wrote for itself. Its log is empty."""
        log = wait_for(process)
        path = self.own("scratch", name) / "drill.log"
        own = path.read_text() if path.exists() else ""
        assert process.returncode == expect, f"drill.sh exited {process.returncode}:\n{log}{own}"
        assert log.replace("drill.sh: no archive was handed over\n", "") == ""
        return own

    def drill(self, expect: int = 0, /, size: str = "10Gi", **environment: str) -> str:
        """Run all containers of a drill; return their logs, and what those that restore wrote for themselves."""
        self.choose_for_drill()
        log = ""
        for name in self.databases():
            log += self.hand_over(name, size, environment.get("DRILL_TIMEOUT", "120"))
            log += self.end_drill_of(self.start_drill_of(name, **environment), name)
        return log + self.record_drill(expect)

    def record_drill(self, expect: int = 0) -> str:
        """Run the last container of a drill; return its log."""
        config, results = str(self.folder / "config"), str(self.folder / "results")
        return self.retention("drill", "--config", config, "--results", results, expect=expect).stdout

    def sidecar(self, archive: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(archive.with_suffix(".drill.json").read_text())
        return found

    def status(self, expect: int) -> list[dict[str, Any]]:
        """The output of `retention status`; checks its exit code."""
        done = subprocess.run(
            ["python3", "-m", "retention", "status", "--format", "json", str(self.root)],
            cwd=REPO, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == expect, done.stdout + done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    def pinned(self, name: str) -> list[str]:
        return sorted(path.name.removesuffix(".pin") for path in self.directory(name).glob("*.pin"))


@pytest.fixture(params=["busybox"])
def pod(request: pytest.FixtureRequest, server: Server) -> DrillPod:
    return open_pod(server, request.param)


def open_pod(server: Server, name: str = "busybox") -> DrillPod:
    """A pod of this shell in a folder that every user may enter."""
    folder, programs = shell_folder(name)
    return DrillPod(folder, server, programs)


def shell_folder(name: str) -> tuple[Path, str]:
    """A folder for a pod that every user may enter, and one with the programs of a shell."""
    top = scratch_folder()
    top.chmod(0o711)
    programs, shell = top / "programs", shutil.which(name)
    assert shell
    programs.mkdir(mode=0o755)
    if name == "busybox":
        subprocess.run([shell, "--install", "-s", str(programs)], check=True)
    else:
        (programs / "sh").symlink_to(shell)
    (top / "pod").mkdir()
    return top / "pod", str(programs)


Make = Callable[..., str]


@pytest.fixture
def make(pod: DrillPod, server: Server) -> Iterator[Make]:
    """Make a database with rows, and back it up `backups` times."""
    made: list[str] = []

    def make(fill: str = "", backups: int = 1, options: str = "LOGIN") -> str:
        name = f"d{uuid.uuid4().hex[:7]}"
        made.append(name)
        server.create_role(name, PASSWORD, options)
        server.create_database(name, owner=name)
        server.psql(
            f"SET ROLE {name}; CREATE TABLE t (id serial PRIMARY KEY, v text);"
            f"INSERT INTO t (v) SELECT md5(n::text) FROM generate_series(1, 500) n; {fill}",
            name,
        )
        pod.add(name, user=name)
        for _ in range(backups):
            pod.run()
        return name

    yield make
    for name in made:
        drop_owner(server, name)


@pytest.mark.parametrize("pod", ["busybox", "dash", pytest.param("bash", marks=pytest.mark.long)], indirect=True)
@pytest.mark.sample(1)
def test_drill_proves_the_newest_and_one_more_and_says_so(pod: DrillPod, make: Make) -> None:
    name = make(backups=2)
    log = pod.drill()
    older, newest = pod.archives(name)
    for archive in (older, newest):
        found = pod.sidecar(archive)
        assert (found["result"], found["tables"], found["sequences"], found["rows"]) == ("proved", 1, 1, 500), log
        assert found["amcheck"] is True
        assert found["indexes"] == 1
    assert pod.pinned(name) == [newest.name]
    (entry,) = pod.status(0)
    assert entry["drill"]["result"] == "proved"
    assert entry["drill"]["proved"] == newest.name
    assert "1 databases proved" in (pod.folder / "termination-log").read_text()
    left = {str(path.relative_to(pod.own("scratch"))) for path in pod.own("scratch").rglob("*")}
    assert left == {"archives", "config", "drill.log", "log"}, "the drill left files of the archives or of its servers"


def test_a_run_and_a_drill_prove_a_backup_of_the_major_of_the_default_image(default_server: Server) -> None:
    pod = open_pod(default_server)
    default_server.create_role("sixteen", PASSWORD)
    default_server.create_database("sixteen", owner="sixteen")
    default_server.psql("SET ROLE sixteen; CREATE TABLE t AS SELECT generate_series(1, 500) AS id", "sixteen")
    pod.add("sixteen", user="sixteen", ca=False, sslmode="disable", count_rows="true")
    pod.run()
    (archive,) = pod.archives("sixteen")
    assert pod.metadata(archive)["server_version"].startswith("16.")
    log = pod.drill()
    found = pod.sidecar(archive)
    assert (found["result"], found["tables"], found["rows"]) == ("proved", 1, 500), log


def test_drill_compares_the_rows_that_were_counted_with_those_that_come_back(pod: DrillPod, make: Make) -> None:
    name = make(
        "CREATE TABLE u () INHERITS (t); INSERT INTO u VALUES (1, 'u'); CREATE MATERIALIZED VIEW m AS SELECT FROM t"
    )
    pod.add(name, user=name, count_rows="true")
    pod.run()
    archive = pod.archives(name)[-1]
    pod.archives(name)[0].unlink()
    assert pod.metadata(archive)["rows"] == 501
    pod.drill()
    assert (pod.sidecar(archive)["result"], pod.sidecar(archive)["rows"]) == ("proved", 501)
    path = archive.with_suffix(".json")
    path.write_text(path.read_text().replace('"rows": 501', '"rows": 500'))
    pod.drill(1)
    found = pod.sidecar(archive)
    assert found["result"] == "failed"
    assert found["problem"] == "it has 501 rows, the archive held 500 when it was made"


def test_drill_needs_no_network_and_leaves_no_server(pod: DrillPod, make: Make) -> None:
    make()
    process = pod.start_drill(PGHOST="nowhere.invalid", PGPASSFILE="/nonexistent")
    assert "proved" in pod.end_drill_of(process)
    owned = subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True, text=True, check=False)
    assert owned.stdout == "", "a server outlived its drill"


def test_flipped_bit_is_found_the_archive_becomes_bad_and_the_proved_one_stays_pinned(
    pod: DrillPod, make: Make
) -> None:
    name = make()
    pod.drill()
    (proved,) = pod.archives(name)
    pod.run()
    damaged = pod.archives(name)[-1]
    Damage("bit flip", damaged.stat().st_size - 300, 2).apply(damaged)
    log = pod.drill(1)
    assert f"{damaged.name} damaged" in log
    assert pod.archives(name) == [proved]
    assert damaged.with_name(f"{damaged.name}.bad").exists()
    assert pod.sidecar(damaged)["result"] == "damaged"
    assert pod.pinned(name) == [proved.name]
    (entry,) = pod.status(1)
    assert entry["result"] == "failed"
    assert entry["drill"]["result"] == "failed"
    assert "1 of 1 drills failed" in (pod.folder / "termination-log").read_text()
    # The next backup keeps both results.
    pod.run(expect=1)
    (entry,) = pod.status(1)
    assert entry["drill"]["result"] == "failed"


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        (
            "share/extension/hstore.control",
            "could not be proved for want of extension 'hstore' in the image there/it:17",
        ),
        ("lib/hstore.so", "could not access file"),
    ],
)
@pytest.mark.sample(1)
def test_archive_whose_extension_the_image_lacks_is_neither_proved_nor_bad(
    pod: DrillPod, make: Make, missing: str, why: str
) -> None:
    name = make("RESET ROLE; CREATE EXTENSION hstore")
    kind = "--sharedir" if missing.startswith("share") else "--pkglibdir"
    folder = Path(pod.server.installation.run("pg_config", kind).stdout.strip())
    file = folder / missing.split("/", 1)[1]
    hidden = file.with_suffix(".hidden")
    file.rename(hidden)
    try:
        log = pod.drill(1, DRILL_IMAGE="there/it:17")
    finally:
        hidden.rename(file)
    assert why in log
    assert "set image of this database to one that has it, such as the image of its cluster" in log
    (archive,) = pod.archives(name)
    assert pod.sidecar(archive)["result"] == "unproved"
    assert pod.pinned(name) == []
    (entry,) = pod.status(1)
    assert entry["drill"]["result"] == "failed"
    pod.drill()
    assert pod.sidecar(archive)["result"] == "proved"


def test_parameters_of_the_user_apply_and_cannot_open_the_server(pod: DrillPod, make: Make) -> None:
    name = make()
    parameters = pod.folder / "config" / "drill.parameters"
    parameters.write_text("max_locks_per_transaction = '3000'\nlisten_addresses = '*'\nmy.own = 'it''s'\nssl = 'on'\n")
    (pod.folder / "config" / f"{name}.assertions").write_text(
        "SELECT current_setting('max_locks_per_transaction') = '3000' AND current_setting('my.own') = 'it''s'\n"
        "SELECT current_setting('listen_addresses') = '' AND current_setting('ssl') = 'off'\n"
    )
    log = pod.drill()
    (archive,) = pod.archives(name)
    assert pod.sidecar(archive)["result"] == "proved", log
    parameters.write_text("no_such_parameter = '1'\n")
    log = pod.drill(1)
    assert "correct drill.postgresql" in log
    assert pod.sidecar(archive)["result"] == "unproved"


def test_adopted_archive_without_a_file_of_roles_is_proved(pod: DrillPod, make: Make, server: Server) -> None:
    role = f"gone_{uuid.uuid4().hex[:6]}"
    name = make(
        f"RESET ROLE; CREATE ROLE {role}; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';"
        f"ALTER FUNCTION f() OWNER TO {role}; CREATE VIEW v AS SELECT 1 AS one; ALTER VIEW v OWNER TO {role}"
    )
    (archive,) = pod.archives(name)
    archive.with_suffix(".globals.sql").unlink()
    log = pod.drill()
    assert pod.sidecar(archive)["result"] == "proved", log
    server.psql(f"DROP OWNED BY {role}; DROP ROLE {role}", name)


def test_assertions_of_the_user_decide(pod: DrillPod, make: Make) -> None:
    name = make()
    assertions = pod.folder / "config" / f"{name}.assertions"
    assertions.write_text("SELECT count(*) = 500 FROM t\nSELECT max(id) > 10 FROM t\n")
    pod.drill()
    assert pod.sidecar(pod.archives(name)[0])["assertions"] == 2
    for query, message in (
        ("SELECT count(*) > 500 FROM t", "is not true"),
        ("SELECT 1 FROM t", "is not true"),
        ("SELECT nosuch", "failed with an error"),
        ("SELECT NULL", "is not true"),
    ):
        assertions.write_text(f"SELECT true\n{query}\n")
        log = pod.drill(1)
        assert re.search(f"assertion 2 {message}", log), log


def test_roles_owners_partitions_and_odd_names_are_no_obstacle(pod: DrillPod, make: Make) -> None:
    role = f"Odd 'role' {uuid.uuid4().hex[:4]}"
    name = make(
        f'RESET ROLE; CREATE ROLE "{role}"; GRANT SELECT ON t TO "{role}"; ALTER TABLE t ENABLE ROW LEVEL SECURITY;'
        f'CREATE POLICY p ON t TO "{role}" USING (true);'
        'CREATE SCHEMA "S 1"; CREATE TABLE "S 1"."T""x" AS SELECT 1 AS a;'
        "CREATE TABLE e (at date PRIMARY KEY) PARTITION BY RANGE (at);"
        "CREATE TABLE e1 PARTITION OF e FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');"
        "INSERT INTO e VALUES ('2026-02-02')",
        options="LOGIN SUPERUSER",
    )
    pod.drill()
    found = pod.sidecar(pod.archives(name)[-1])
    assert (found["result"], found["tables"], found["rows"]) == ("proved", 4, 502)
    pod.server.psql(f'DROP POLICY p ON t; DROP OWNED BY "{role}"; DROP ROLE "{role}"', name)


def test_scratch_volume_that_is_too_small_is_told_before_anything_is_restored(pod: DrillPod, make: Make) -> None:
    make()
    log = pod.drill(1, size="100Mi")
    assert re.search("it needs about 6[0-9]+ MiB of scratch space, and the limit is 100Mi", log), log
    assert "raise drill.scratch.sizeLimit" in log


def test_drill_out_of_time_says_which_archives_it_did_not_reach(pod: DrillPod, make: Make) -> None:
    make("INSERT INTO t (v) SELECT repeat(md5(n::text), 20) FROM generate_series(1, 100000) n", backups=2)
    log = pod.drill(1, DRILL_TIMEOUT="1")
    assert "drill.timeoutSeconds" in log


def test_sigterm_ends_a_drill_with_its_server(pod: DrillPod, make: Make) -> None:
    make("INSERT INTO t (v) SELECT repeat(md5(n::text), 20) FROM generate_series(1, 100000) n")
    process = pod.start_drill()
    wait_until((pod.own("scratch") / "data" / "postmaster.pid").exists, "the throwaway server")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    owned = subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True, text=True, check=False)
    assert owned.stdout == ""


def test_drill_restores_as_a_restore_would(pod: DrillPod, make: Make, server: Server) -> None:
    """In a database of the same name, without tablespaces, with connections enough to be in the same order."""
    place = server.folder / f"space-{uuid.uuid4().hex[:6]}"
    place.mkdir()
    os.chown(place, server_user().uid, server_user().gid)
    space = place.name.replace("-", "_")
    server.psql(f"CREATE TABLESPACE {space} LOCATION '{place}'; GRANT CREATE ON TABLESPACE {space} TO PUBLIC")
    try:
        name = make(f"CREATE TABLE far (i int) TABLESPACE {space}; CREATE INDEX ON far (i) TABLESPACE {space}")
        (pod.folder / "config" / f"{name}.assertions").write_text(f"SELECT current_database() = '{name}'\n")
        log = pod.drill()
        assert pod.sidecar(pod.archives(name)[-1])["result"] == "proved", log
        server.psql("DROP TABLE far", name)
    finally:
        server.psql(f"DROP TABLESPACE {space}")


def test_drill_never_proves_what_a_restore_cannot_bring_back(pod: DrillPod, make: Make) -> None:
    """A view that selects from itself, which pg_dump cannot write so that it comes back."""
    name = make("CREATE VIEW itself AS SELECT 1 AS id; CREATE OR REPLACE VIEW itself AS SELECT id FROM itself")
    log = pod.drill(1)
    assert pod.sidecar(pod.archives(name)[-1])["result"] == "failed"
    assert "view public.itself refers to itself, and PostgreSQL cannot create such a view; in the source, " in log
    assert "RESTORE_ON_ERROR=keep" in log


def test_drill_proves_what_a_restore_brings_back_only_carefully(pod: DrillPod, make: Make) -> None:
    """A CHECK that reads another table, which comes later: with two connections it may be there in time."""
    name = make(
        "CREATE TABLE zz (v text PRIMARY KEY); INSERT INTO zz VALUES ('a');"
        "CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql STABLE AS "
        "'SELECT EXISTS (SELECT FROM public.zz WHERE v = p)';"
        "CREATE TABLE aa (v text CHECK (known(v))); INSERT INTO aa VALUES ('a')"
    )
    log = pod.drill()
    assert pod.sidecar(pod.archives(name)[-1])["result"] == "proved"
    assert "its checks after its rows" in log


@pytest.mark.parametrize("role_is", ["missing", "plain"])
@pytest.mark.sample(1)
def test_archive_with_objects_of_a_former_superuser_is_proved(
    pod: DrillPod, make: Make, server: Server, role_is: str
) -> None:
    """What only a superuser can own, of a role that no globals file calls one, or that none has."""
    name = make(backups=0)
    role = f"{name}_former"
    server.psql(
        f"CREATE ROLE {role} SUPERUSER; SET ROLE {role};"
        "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'begin end';"
        "CREATE EVENT TRIGGER former ON ddl_command_end EXECUTE FUNCTION e();"
        "CREATE PUBLICATION former FOR ALL TABLES; CREATE FOREIGN DATA WRAPPER former; CREATE PUBLICATION plain",
        name,
    )
    server.psql(f"ALTER ROLE {role} NOSUPERUSER; GRANT CREATE ON DATABASE {name} TO {role}")
    server.psql(f"ALTER PUBLICATION plain OWNER TO {name}", name)
    try:
        pod.run()
        (archive,) = pod.archives(name)
        globals_file = archive.with_suffix(".globals.sql")
        if role_is == "missing":
            globals_file.unlink(missing_ok=True)
        pod.drill()
        assert pod.sidecar(archive)["result"] == "proved"
    finally:
        server.psql("SET event_triggers = off; DROP EVENT TRIGGER former", name)
        server.psql(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}", name)


@pytest.mark.long
def test_drill_has_locks_enough_for_twenty_thousand_tables() -> None:
    with Server(settings={"max_locks_per_transaction": "2048"}) as server:
        pod = open_pod(server)
        server.create_role("many", PASSWORD)
        server.create_database("many", owner="many")
        made = "SELECT format('CREATE TABLE t%s ()', n) FROM generate_series({0}000, {0}999) n"
        for part in range(10, 30):
            server.psql(f"SET ROLE many; {made.format(part)} \\gexec", "many")
        pod.add("many", user="many")
        pod.run()
        log = pod.drill(0, DRILL_TIMEOUT="1500")
        assert pod.sidecar(pod.archives("many")[-1])["tables"] == 20000, log
