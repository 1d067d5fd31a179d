"""Databases that use real extensions, on Debian's PostgreSQL, and the pod that backs them up and restores them."""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.lab.postgres import Server, identifier
from tests.scripts.conftest import PASSWORD, drop_owner
from tests.scripts.test_drill import DrillPod, open_pod
from tests.scripts.test_restore_script import SUPERUSER_PASSWORD

CRON = "jobsapp"


@dataclass(frozen=True)
class Kind:
    """What a superuser makes, and what the owner then does with it.

    Attributes:
        superuser: Run by the superuser.
        owner: Run by the owner.
    """

    superuser: str
    owner: str = ""


KINDS = {
    "postgis": Kind(
        "CREATE EXTENSION postgis; INSERT INTO spatial_ref_sys (srid, auth_name, srtext, proj4text)"
        " VALUES (990001, 'mine', 'a', 'b')",
        "CREATE TABLE places (id int PRIMARY KEY, at geometry(Point, 4326)); CREATE INDEX ON places USING gist (at);"
        "INSERT INTO places SELECT n, ST_SetSRID(ST_Point(n, n), 4326) FROM generate_series(1, 50) n;"
        "CREATE VIEW near AS SELECT id FROM places WHERE ST_DWithin(at, ST_SetSRID(ST_Point(3, 3), 4326), 2)",
    ),
    "topology": Kind(
        "CREATE EXTENSION IF NOT EXISTS postgis; CREATE EXTENSION postgis_topology;"
        "INSERT INTO topology.topology (id, name, srid, precision) VALUES (7, 'city', 4326, 0);"
        "INSERT INTO topology.layer VALUES (7, 1, 'public', 'streets', 'topo', 1, 0, NULL)",
        "CREATE TABLE streets (id int)",
    ),
    "pg_partman": Kind(
        "CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman; GRANT ALL ON SCHEMA partman TO PUBLIC;"
        "GRANT ALL ON ALL TABLES IN SCHEMA partman TO PUBLIC",
        "CREATE TABLE events (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);"
        "SELECT partman.create_parent('public.events', 'at', 'native', 'monthly', p_start_partition := '2026-01-01');"
        "INSERT INTO events SELECT n, '2026-01-01'::timestamptz + n * interval '1 day' FROM generate_series(1, 60) n",
    ),
    "pgaudit": Kind("CREATE EXTENSION pgaudit", "CREATE TABLE audited (id int PRIMARY KEY)"),
    "contrib": Kind(
        'CREATE EXTENSION "uuid-ossp"; CREATE EXTENSION pgcrypto; CREATE EXTENSION citext;'
        "CREATE EXTENSION postgres_fdw; CREATE EXTENSION pg_stat_statements;"
        "GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO PUBLIC",
        "CREATE TABLE users (id uuid PRIMARY KEY DEFAULT uuid_generate_v4(), mail citext UNIQUE, secret bytea);"
        "INSERT INTO users (mail, secret) SELECT n || '@x', digest(n::text, 'sha256') FROM generate_series(1, 20) n;"
        "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw; CREATE FOREIGN TABLE away (i int) SERVER far",
    ),
}
TOGETHER = Kind("; ".join(kind.superuser for kind in KINDS.values()), ";".join(kind.owner for kind in KINDS.values()))
JOBS = Kind(
    "CREATE EXTENSION pg_cron; SELECT cron.schedule('nightly', '0 3 * * *', 'VACUUM');"
    "INSERT INTO cron.job_run_details (jobid, runid, status) VALUES (1, 1, 'succeeded')",
    "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 30)",
)


@dataclass
class App:
    """A database that uses extensions, and the pod that backs it up."""

    pod: DrillPod
    name: str

    @property
    def server(self) -> Server:
        return self.pod.server

    def plain(self, dbname: str = "") -> list[str]:
        """The database as SQL, with the rows of the extensions' configuration."""
        done = subprocess.run(
            [str(self.server.bin / "pg_dump"), "-Fp"],
            env={"PATH": os.defpath, **self.server.superuser_env, "PGDATABASE": dbname or self.name},
            capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [line for line in done.stdout.split("\n") if not re.match(r"\\(un)?restrict |-- Dumped|$|--$", line)]

    def sql(self, sql: str, role: str = "") -> str:
        return self.server.psql(f"SET ROLE {identifier(role or self.name)}; {sql}", self.name)

    def admin(self, sql: str) -> str:
        return self.server.psql(sql, self.name)

    def restore(self, expect: int = 0, /, *, superuser: bool = True, **environment: str) -> str:
        secret = self.pod.folder / "credentials" / self.name
        (secret / "owner-username").write_text(self.name)
        (secret / "owner-password").write_text(PASSWORD)
        for file, text in (("superuser-username", "postgres"), ("superuser-password", SUPERUSER_PASSWORD)):
            (secret / file).unlink(missing_ok=True)
            if superuser:
                (secret / file).write_text(text)
        return self.pod.restore(self.name, expect, **{"RESTORE_REPLACE": "yes", **environment})

    def drop_old(self, log: str) -> None:
        """Drop what was set aside, with the statement that the restore printed."""
        for statement in re.findall("no longer need it: (.*)", log):
            if not statement.startswith("DROP DATABASE"):
                self.admin(statement)


def differences(before: list[str], after: list[str]) -> list[str]:
    lines = difflib.unified_diff(before, after, lineterm="", n=0)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


@pytest.fixture(scope="module", name="server")
def debian_server() -> Iterator[Server]:
    """Debian's PostgreSQL, with libraries that its extensions need at the start."""
    libraries = {"shared_preload_libraries": "pg_cron,pgaudit,pg_stat_statements", "cron.database_name": CRON}
    with Server(debian=True, settings=libraries) as running:
        running.psql(f"ALTER ROLE postgres PASSWORD '{SUPERUSER_PASSWORD}'")
        yield running


@pytest.fixture(name="pod")
def debian_pod(server: Server) -> DrillPod:
    return open_pod(server)


Make = Callable[..., App]


@pytest.fixture(name="make")
def make_app(pod: DrillPod, server: Server) -> Iterator[Make]:
    """Make a database of this kind and a backup of it."""
    made: list[str] = []

    def make(kind: Kind, name: str = "", options: str = "LOGIN") -> App:
        name = name or f"x{uuid.uuid4().hex[:7]}"
        made.append(name)
        server.create_role(name, PASSWORD, options)
        server.create_database(name, owner=name)
        app = App(pod, name)
        app.admin(kind.superuser)
        app.sql(kind.owner)
        conf = {"count_rows": "true"} if server.ca else {"count_rows": "true", "sslmode": "disable"}
        pod.add(name, user="postgres", password=SUPERUSER_PASSWORD, ca=server.ca is not None, **conf)
        pod.run()
        return app

    yield make
    for name in made:
        drop_owner(server, name)
