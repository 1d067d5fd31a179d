"""open.sh: a backup is a database to look at, which nobody takes for the original, and nothing of it stays."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from retention import keyvalue
from tests.lab.postgres import Server, server_user
from tests.scripts.conftest import PASSWORD, drop_owner, kill_session, wait_until
from tests.scripts.test_drill import DrillPod, shell_folder


class OpenPod(DrillPod):
    """The pod of `open`: choose, hand-over, and the container that someone looks into."""

    port = 0

    def choose_to_open(self, name: str, backup: str = "newest", size: str = "10Gi", expect: int = 0) -> str:
        """Run both init containers; return the log of the second."""
        self.renew()
        (self.folder / "scratch").mkdir(exist_ok=True)
        results = str(self.folder / "results")
        self.retention("choose", "--database", name, "--backup", backup, "--requests", results, expect=0)
        volumes = [
            word for key in ("config", "results", "run", "scratch") for word in (f"--{key}", str(self.folder / key))
        ]
        more = ("--open", "--scratch-size", size, "--seconds", "600")
        done = self.retention("hand-over", "--database", name, *volumes, *more, expect=expect)
        self.open_to_the_server_user()
        return done.stdout + done.stderr

    def surroundings(self, **environment: str) -> dict[str, str]:
        return {
            **self.environment(),
            "BACKUP_CONFIG": str(self.own("scratch", "open") / "config"),
            "BACKUP_RUN": str(self.own("run", "open")),
            "BACKUP_RESULTS": str(self.own("results", "open")),
            "DRILL_SCRATCH": str(self.own("scratch", "open")),
            "OPEN_SECONDS": "600",
            "OPEN_PORT": str(self.port),
            "OPEN_LINGER": "60",
            "BACKUP_CREDENTIALS": "",
            "BACKUP_ROOT": "",
            **environment,
        }

    def command(self, *arguments: str) -> list[str]:
        return ["sh", str(self.folder / "scripts" / "open.sh"), *arguments]

    @contextmanager
    def opened(self, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """Start the container; afterwards end it as Kubernetes does."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        process: subprocess.Popen[str] = subprocess.Popen(
            self.command(), executable=f"{self.shell_path}/sh", env=self.surroundings(**environment),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, cwd="/", **server_user().drop,  # type: ignore[call-overload]
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(30)
            kill_session(process)
            log, _ = process.communicate(timeout=10)
        assert log == "", "something of this container has its log"

    def execute(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program in the container, as `kubectl exec` does."""
        done: subprocess.CompletedProcess[str] = subprocess.run(
            self.command(*arguments), executable=f"{self.shell_path}/sh", env=self.surroundings(), input=stdin,
            capture_output=True, text=True, timeout=120, check=False, cwd="/",
            **server_user().drop,  # type: ignore[call-overload]
        )  # fmt: skip
        return done

    def state(self) -> dict[str, str]:
        return keyvalue.parse(self.execute("--state").stdout, "state").values

    def sql(self, query: str) -> str:
        done = self.execute("--psql", "-At", "-c", query)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def pod_of(server: Server, shell: str) -> OpenPod:
    folder, programs = shell_folder(shell)
    return OpenPod(folder, server, programs)


@pytest.fixture
def pod(request: pytest.FixtureRequest, server: Server) -> OpenPod:
    return pod_of(server, getattr(request, "param", "busybox"))


def fill(pod: OpenPod, server: Server, mine: str = "", database: str = "") -> str:
    """Make a database with 500 rows, and back it up."""
    name = f"o{uuid.uuid4().hex[:7]}"
    server.create_role(name, PASSWORD, "LOGIN")
    server.create_database(database or name, owner=name)
    server.psql(
        f"SET ROLE {name}; CREATE TABLE t (id serial PRIMARY KEY, v text);"
        f"INSERT INTO t (v) SELECT md5(n::text) FROM generate_series(1, 500) n; {mine}",
        database or name,
    )
    pod.add(name, user=name, dbname=database or name)
    pod.run()
    return name


@pytest.fixture
def filled(pod: OpenPod, server: Server) -> Iterator[str]:
    name = fill(
        pod,
        server,
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY; SELECT lo_from_bytea(4711, 'seen');"
        "CREATE TABLE for_all (a int); GRANT ALL ON for_all TO PUBLIC",
    )
    yield name
    drop_owner(server, name)


@pytest.mark.parametrize("pod", ["busybox", "dash", pytest.param("bash", marks=pytest.mark.long)], indirect=True)
def test_a_copy_is_read_in_full_and_cannot_be_changed_or_taken_for_the_original(pod: OpenPod, filled: str) -> None:
    pod.choose_to_open(filled)
    with pod.opened():
        assert pod.sql("SELECT count(*) FROM t") == "500", "policies for rows keep nobody from looking"
        assert pod.sql("SELECT convert_from(lo_get(4711), 'UTF8')") == "seen"
        stamp = pod.archives(filled)[0].name.removeprefix(f"{filled}-").removesuffix(".dump").replace("-", "_")
        assert pod.sql("SELECT current_database()") == f"{filled}_copy_{stamp}"
        assert pod.sql("SHOW cluster_name") == f"copy of {pod.archives(filled)[0].stem}"
        assert "read-only transaction" in pod.execute("--psql", "-c", "INSERT INTO for_all VALUES (1)").stderr
        for wrong in ("DELETE FROM t", "CREATE TABLE u (a int)", "SET transaction_read_only = off; DELETE FROM t"):
            done = pod.execute("--psql", "-c", wrong)
            assert done.returncode != 0, wrong
            assert "read-only transaction" in done.stderr or "permission denied" in done.stderr
        piped = pod.execute("--psql", "-At", stdin="SELECT 1;\nSELECT wrong;\nSELECT 2;\n")
        assert (piped.returncode, piped.stdout) == (3, "1\n"), "a script ends at its first error"
        assert {"ready", "no"} <= set(pod.state().values())
        assert not list((pod.own("scratch", "open") / "archives").glob("*.dump")), "space is taken twice"


def test_a_client_needs_the_password_and_is_the_reader(pod: OpenPod, filled: str, server: Server) -> None:
    pod.choose_to_open(filled)
    with pod.opened():
        pod.sql("SELECT 1")
        login = keyvalue.parse(pod.execute("--login").stdout, "login").values

        def connect(user: str, password: str) -> subprocess.CompletedProcess[str]:
            where = {"PGHOST": "127.0.0.1", "PGPORT": str(pod.port), "PGUSER": user, "PGPASSWORD": password}
            return subprocess.run(
                [str(server.bin / "psql"), "-XAtw", "-d", pod.state()["dbname"], "-c", "SELECT current_user"],
                env={**os.environ, **where}, capture_output=True, text=True, check=False,
            )  # fmt: skip

        assert connect(login["user"], login["password"]).stdout == "cnpg_backup_reader\n"
        assert "password authentication failed" in connect(login["user"], "wrong").stderr
        for other in ("postgres", filled, "cnpg_backup_drill"):
            assert connect(other, login["password"]).returncode != 0, f"{other} may connect"
        running = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
        assert login["password"] not in running


def test_a_writable_copy_is_one_only_on_demand(pod: OpenPod, filled: str) -> None:
    pod.choose_to_open(filled)
    with pod.opened(OPEN_WRITE="yes"):
        assert pod.sql("DELETE FROM t WHERE id > 1; SELECT count(*) FROM t") == "DELETE 499\n1"
        login = keyvalue.parse(pod.execute("--login").stdout, "login").values
        assert login["user"] == "postgres"


def test_a_trigger_of_the_owner_keeps_nobody_out(pod: OpenPod, server: Server) -> None:
    trap = (
        "CREATE FUNCTION shut() RETURNS event_trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'nobody may log in'; END $$;"
        "CREATE EVENT TRIGGER keep_out ON login EXECUTE FUNCTION shut()"
    )
    name = fill(pod, server)
    try:
        server.psql(trap, name)
        subprocess.run(
            [str(server.bin / "psql"), "-XAtq", "-d", name, "-c", "ALTER EVENT TRIGGER keep_out ENABLE ALWAYS"],
            env={**server.superuser_env, "PGOPTIONS": "-c event_triggers=off"}, check=True,
        )  # fmt: skip
        subprocess.run(
            [str(server.bin / "pg_dump"), "-Fc", "-f", str(pod.folder / "trapped.dump"), name],
            env={**server.superuser_env, "PGOPTIONS": "-c event_triggers=off"}, check=True,
        )  # fmt: skip
        pod.choose_to_open(name)
        (handed,) = (pod.own("scratch", "open") / "archives").glob("*.dump")
        handed.write_bytes((pod.folder / "trapped.dump").read_bytes())
        with pod.opened():
            assert pod.sql("SELECT count(*) FROM pg_event_trigger, t") == "500"
    finally:
        subprocess.run(
            [str(server.bin / "psql"), "-XAtq", "-d", name, "-c", "DROP EVENT TRIGGER keep_out"],
            env={**server.superuser_env, "PGOPTIONS": "-c event_triggers=off"}, check=True,
        )  # fmt: skip
        drop_owner(server, name)


def test_what_cannot_be_restored_says_why_to_who_waits_for_it(pod: OpenPod, filled: str) -> None:
    pod.choose_to_open(filled)
    (handed,) = (pod.own("scratch", "open") / "archives").glob("*.dump")
    handed.write_bytes(handed.read_bytes()[:-100])
    with pod.opened(OPEN_LINGER="1") as process:
        done = pod.execute("--psql", "-c", "SELECT 1")
        assert done.returncode == 1
        assert f"{pod.archives(filled)[0].name}: " in done.stderr
        assert pod.state()["state"] == "failed"
        assert process.wait(30) == 1


def test_an_archive_for_which_there_is_no_room_is_refused_before(pod: OpenPod, filled: str) -> None:
    log = pod.choose_to_open(filled, size="1Mi", expect=1)
    assert "of scratch space, and the limit is 1Mi; raise drill.scratch.sizeLimit" in log
    assert "scratch space" in (pod.folder / "termination-log").read_text()


def test_a_stopped_container_leaves_no_server(pod: OpenPod, filled: str) -> None:
    pod.choose_to_open(filled)
    with pod.opened() as process:
        pod.sql("SELECT 1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
        owned = subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True, text=True, check=False)
        assert owned.stdout == ""


def test_it_ends_after_its_time(pod: OpenPod, filled: str) -> None:
    pod.choose_to_open(filled)
    with pod.opened(OPEN_SECONDS="2") as process:
        assert process.wait(120) == 0


def test_a_server_that_dies_is_the_end_and_says_so(pod: OpenPod, filled: str) -> None:
    pod.choose_to_open(filled)
    with pod.opened(OPEN_LINGER="1") as process:
        pod.sql("SELECT 1")
        pid = int((pod.own("scratch", "open") / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pod.state()["state"] == "failed", "the state says that the server is gone")
        assert "raise drill.resources.limits.memory" in pod.state()["remedy"]
        assert process.wait(30) == 1


@pytest.mark.parametrize("database", ["postgres copies: ö%/" + "ü" * 20, "x" * 63, "a=b host=c"])
def test_a_database_of_any_name_has_a_copy_whose_name_says_so(pod: OpenPod, server: Server, database: str) -> None:
    name = fill(pod, server, database=database)
    try:
        pod.choose_to_open(name)
        with pod.opened():
            copy = pod.sql("SELECT current_database()")
            assert "_copy_20" in copy
            assert len(copy.encode()) <= 63
            assert database.startswith(copy[: copy.index("_copy_20")])
            assert pod.sql("SELECT count(*) FROM t") == "500"
    finally:
        server.drop_database(database)
        drop_owner(server, name)
