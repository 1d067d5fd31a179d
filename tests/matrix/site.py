"""A server, a pod, and one database `shop` that is made, backed up, changed and restored again and again."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.lab.data import fingerprint
from tests.lab.postgres import PostgresError, Server, identifier, literal, scratch_folder, server_user
from tests.matrix.kind import ROLES, Kind
from tests.scripts.conftest import PASSWORD
from tests.scripts.migrations import install_extensions
from tests.scripts.test_drill import DrillPod

NAME = "shop"
SUPERUSER_PASSWORD = "of the superuser"
ASIDE = r"_before_\d{8}_\d{6}"
_SETTINGS = {"wal_level": "logical", "max_prepared_transactions": "5", "max_replication_slots": "10"}

_PEOPLE = ", ".join(f"({literal(role)})" for role in (*ROLES, "pg_monitor", "backup", NAME))
_MINE = r"!~ '^pg_|^information_schema$'"
# Every right that one of these roles has, one a line, by name.
RIGHTS = rf"""
SET search_path = pg_catalog, pg_temp;
WITH person (role) AS (VALUES {_PEOPLE}),
space AS (SELECT oid, nspname FROM pg_namespace WHERE nspname {_MINE})
SELECT role || ' ' || word || ' ' || what FROM (
  SELECT role, word, 'relation ' || c.oid::regclass AS what FROM person, pg_class c
    CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) word
  WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND relnamespace IN (SELECT oid FROM space)
    AND has_table_privilege(role, c.oid, word)
  UNION ALL
  SELECT role, word, format('column %s.%s', c.oid::regclass, attname) FROM person, pg_class c
    JOIN pg_attribute a ON attrelid = c.oid AND attacl IS NOT NULL AND NOT attisdropped
    CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) word
  WHERE relnamespace IN (SELECT oid FROM space) AND has_column_privilege(role, c.oid, attnum, word)
  UNION ALL
  SELECT role, word, 'sequence ' || c.oid::regclass FROM person, pg_class c
    CROSS JOIN unnest(ARRAY['SELECT', 'USAGE', 'UPDATE']) word
  WHERE relkind = 'S' AND relnamespace IN (SELECT oid FROM space) AND has_sequence_privilege(role, c.oid, word)
  UNION ALL
  SELECT role, 'EXECUTE', 'function ' || p.oid::regprocedure FROM person, pg_proc p
  WHERE pronamespace IN (SELECT oid FROM space) AND has_function_privilege(role, p.oid, 'EXECUTE')
  UNION ALL
  SELECT role, 'USAGE', 'type ' || t.oid::regtype FROM person, pg_type t
  WHERE typnamespace IN (SELECT oid FROM space) AND has_type_privilege(role, t.oid, 'USAGE')
  UNION ALL
  SELECT role, word, 'schema ' || nspname FROM person, space CROSS JOIN unnest(ARRAY['USAGE', 'CREATE']) word
  WHERE has_schema_privilege(role, space.oid, word)
  UNION ALL
  SELECT role, word, 'database' FROM person CROSS JOIN unnest(ARRAY['CONNECT', 'CREATE', 'TEMPORARY']) word
  WHERE has_database_privilege(role, current_database(), word)
  UNION ALL
  SELECT role, 'USAGE', 'server ' || srvname FROM person, pg_foreign_server s
  WHERE has_server_privilege(role, s.oid, 'USAGE')
  UNION ALL
  SELECT role, 'USAGE', 'wrapper ' || fdwname FROM person, pg_foreign_data_wrapper w
  WHERE has_foreign_data_wrapper_privilege(role, w.oid, 'USAGE')
  UNION ALL
  SELECT role, 'USAGE', 'language ' || lanname FROM person, pg_language l
  WHERE has_language_privilege(role, l.oid, 'USAGE')
  UNION ALL
  SELECT role, privilege_type, 'large object ' || m.oid FROM person, pg_largeobject_metadata m,
    aclexplode(coalesce(lomacl, acldefault('L', lomowner)))
  WHERE CASE grantee WHEN 0 THEN true ELSE pg_has_role(role, grantee, 'USAGE') END
  UNION ALL
  SELECT role, privilege_type,
    format('what %s makes in %s (%s)', defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype)
  FROM person, pg_default_acl, aclexplode(defaclacl)
  WHERE CASE grantee WHEN 0 THEN true ELSE pg_has_role(role, grantee, 'USAGE') END
) rights
"""
# What no schema holds, and what the server names after an object's number, is not among them.
_INVENTORY = r"""
SET search_path = pg_catalog, pg_temp;
WITH RECURSIVE of_extension (classid, objid) AS (
  SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
  UNION SELECT d.classid, d.objid FROM pg_depend d
    JOIN of_extension e ON e.classid = d.refclassid AND e.objid = d.refobjid
  WHERE d.deptype IN ('a', 'i'))
SELECT DISTINCT o.type || ' ' || replace(o.identity, E'\n', ' ')
FROM pg_depend d, pg_identify_object(d.classid, d.objid, 0) o
WHERE d.objid >= 16384 AND o.identity !~ '_RETURN'
  AND o.type !~ '^(toast|default acl|event trigger|cast|extension|publication|server|user mapping|large|schema)'
  AND o.type !~ 'of access method|^foreign-data wrapper'
  AND (d.classid, d.objid) NOT IN (SELECT * FROM of_extension)
  AND o.identity !~ 'pg_toast|^pg_catalog\.'
"""
_OUTSIDE = r"""
SET search_path = pg_catalog, pg_temp;
SELECT 'publication ' || pubname FROM pg_publication UNION ALL SELECT 'server ' || srvname FROM pg_foreign_server
UNION ALL SELECT 'subscription ' || subname FROM pg_subscription
  WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger
"""


def shortened(text: str) -> str:
    """The text with every name of a schema, or of what no schema holds, of more than 40 bytes as it is set aside."""
    return re.sub(
        r"(?<![.\w])\w{41,}(?=\.)|(?<=^publication )\w{41,}$",
        lambda long: f"{long[0][:8]}_{hashlib.md5(long[0].encode()).hexdigest()[:8]}",  # noqa: S324
        text,
    )


_ABOUT_THE_DUMP = ("-- PostgreSQL database dump", "SET default_table")
"""pg_dump's own lines, which depend on what else is in the dump: whether there is any table, for example."""


def differences(before: list[str], after: list[str]) -> list[str]:
    """Lines that differ between two dumps."""
    lines = difflib.unified_diff(before, after, lineterm="", n=0)
    return [
        line for line in lines if not line.startswith(("---", "+++", "@@")) and not line[1:].startswith(_ABOUT_THE_DUMP)
    ]


class Site:
    """Where all cells of one server are computed, one after the other."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        busybox = shutil.which("busybox")
        assert busybox, "busybox is not installed"
        top = scratch_folder()
        top.chmod(0o711)
        (top / "programs").mkdir(mode=0o755)
        (top / "pod").mkdir()
        subprocess.run([busybox, "--install", "-s", str(top / "programs")], check=True)
        self.pod = DrillPod(top / "pod", server, str(top / "programs"))
        self._wrap_pg_dump(top / "wrapped")
        self.wrapped = top / "wrapped"
        tablespace = folder / "tablespace"
        tablespace.mkdir(parents=True)
        for path in (tablespace, folder):
            path.chmod(0o755 if path == folder else 0o700)
            os.chown(path, server_user().uid, server_user().gid)
        server.psql(
            "".join(f"CREATE ROLE {role};" for role in (*ROLES, "backup"))
            + f"ALTER ROLE postgres PASSWORD {literal(SUPERUSER_PASSWORD)};"
            f"CREATE ROLE {NAME} LOGIN PASSWORD {literal(PASSWORD)}; CREATE ROLE group_of_shop ROLE {NAME};"
        )
        server.psql(f"CREATE TABLESPACE fast LOCATION {literal(str(tablespace))}")
        server.psql(f"GRANT CREATE ON TABLESPACE fast TO {NAME}")
        install_extensions(server)

    def _wrap_pg_dump(self, folder: Path) -> None:
        """A pg_dump that keeps what a drill dumps in order to read everything."""
        folder.mkdir(mode=0o755)
        real = self.server.bin / "pg_dump"
        keep = f"case $* in *'-f /dev/null'*) {real} -Fp -w -f \"$DRILL_SCRATCH/drilled.sql\" || exit ;; esac"
        wrapper = folder / "pg_dump"
        wrapper.write_text(f'#!/bin/sh\n{keep}\nexec {real} "$@"\n')
        wrapper.chmod(0o755)

    # The database.

    def databases(self) -> set[str]:
        return {name for (name,) in self.server.sql(f"SELECT datname FROM pg_database WHERE datname ~ '^{NAME}|^bare'")}

    def clear(self) -> None:
        """Drop every database that a restore may have left, and what would keep it."""
        found = self.server.sql(
            "SELECT 1, database, gid FROM pg_prepared_xacts UNION ALL SELECT 2, database, slot_name FROM "
            "pg_replication_slots "
            "WHERE NOT active UNION ALL SELECT 3, datname, subname FROM pg_subscription JOIN pg_database d ON d.oid = "
            "subdbid "
            f"UNION ALL SELECT 4, datname, NULL FROM pg_database WHERE datname ~ '^{NAME}|^bare' ORDER BY 1"
        )
        for step, dbname, name in found:
            quoted = identifier(name)
            statements = {
                "1": f"ROLLBACK PREPARED {literal(name)}",
                "2": f"SELECT pg_drop_replication_slot({literal(name)})",
                "3": "SET event_triggers = off; SET default_transaction_read_only = off; "
                f"ALTER SUBSCRIPTION {quoted} DISABLE; ALTER SUBSCRIPTION {quoted} SET (slot_name = NONE); DROP "
                f"SUBSCRIPTION {quoted}",
            }
            if step == "4":
                self.server.psql(f"ALTER DATABASE {identifier(dbname)} IS_TEMPLATE false")
                self.server.drop_database(dbname)
            else:
                self.server.psql(statements[step], dbname)
        self.server.psql(f"ALTER ROLE {NAME} RESET ALL; ALTER ROLE {NAME} NOCREATEDB")

    def build(self, kind: Kind) -> None:
        """The database as it is when it is backed up."""
        self.clear()
        self.server.create_database(NAME, NAME)
        self._run(kind.superuser)
        self._run(kind.owner, f"SET SESSION AUTHORIZATION {NAME};")
        self._run(kind.then)

    def change(self, kind: Kind) -> None:
        """What happens to it between the backup and the restore."""
        self._run(kind.since, f"SET SESSION AUTHORIZATION {NAME};")
        self._run(kind.since_superuser)

    def _run(self, sql: str, first: str = "") -> None:
        if sql:
            self.server.psql(f"{first} {sql}", NAME)

    # What it is.

    def plain(self, dbname: str = NAME) -> list[str]:
        """The whole database as SQL, under the name `shop`."""
        done = subprocess.run(
            [str(self.server.bin / "pg_dump"), "-Fp", "-C"],
            env={"PATH": os.defpath, **self.server.superuser_env, "PGDATABASE": dbname},
            capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip
        if done.returncode:
            raise PostgresError(done.stderr)
        return tidy(done.stdout, dbname)

    def rights(self, dbname: str = NAME) -> set[str]:
        lines = self.server.psql(f"SET default_transaction_read_only = off; {RIGHTS}", dbname).split("\n")
        return {line for line in lines if line}

    def views(self, dbname: str = NAME) -> dict[str, object]:
        """What materialized views hold, which no dump contains."""
        names = self.server.psql("SELECT schemaname || '.' || matviewname FROM pg_matviews", dbname).split()
        return (
            {name: rows for name, rows in fingerprint(self.server, dbname).tables.items() if name in names}
            if names
            else {}
        )

    def inventory(self) -> set[str]:
        """Every object of a schema, and every object without one."""
        found = self.server.psql(_INVENTORY, NAME).split("\n") + self.server.psql(_OUTSIDE, NAME).split("\n")
        return {line for line in found if line}

    def rows(self) -> dict[str, object]:
        """What is in each table, materialized view and sequence."""
        found = fingerprint(self.server, NAME)
        return {**{k: v for k, v in found.tables.items() if "." in k}, **found.sequences}

    # The pod.

    def configure(self, kind: Kind) -> None:
        """An empty claim, and the credentials of who makes the backup."""
        shutil.rmtree(self.pod.root)
        self.pod.root.mkdir()
        tls = {} if self.server.ca else {"sslmode": "disable"}
        by_owner = kind.dumped_by == "owner"
        self.pod.add(
            NAME, user=NAME if by_owner else "postgres", password=PASSWORD if by_owner else SUPERUSER_PASSWORD,
            ca=self.server.ca is not None, allow_empty="true", **tls,
        )  # fmt: skip

    def restore(self, superuser: bool, **options: str) -> tuple[int, str]:
        secret = self.pod.folder / "credentials" / NAME
        (secret / "owner-username").write_text(NAME)
        (secret / "owner-password").write_text(PASSWORD)
        for key, value in (("username", "postgres"), ("password", SUPERUSER_PASSWORD)):
            path = secret / f"superuser-{key}"
            path.write_text(value) if superuser else path.unlink(missing_ok=True)
        process = self.pod.start_restore(NAME, **options)
        log, _ = process.communicate(timeout=600)
        return process.returncode, log

    def drill(self) -> tuple[bool, str, list[str]]:
        """Whether the drill proved the archive, its log, and what it dumped."""
        path = f"{self.wrapped}:{self.pod.environment()['PATH']}"
        log = self.pod.end_drill_of(self.pod.start_drill(PATH=path))
        kept = self.pod.own("scratch") / "drilled.sql"
        text = kept.read_text() if kept.exists() else ""
        kept.unlink(missing_ok=True)
        return "proved " in log, log, tidy(text, NAME)


def tidy(sql: str, dbname: str) -> list[str]:
    """The lines of a plain dump without those that differ between two runs of pg_dump on the same database."""
    if dbname != NAME:
        sql = re.sub(rf"\b{dbname}\b", NAME, sql)
    return [line for line in sql.split("\n") if not re.match(r"\\(un)?restrict |-- Dumped|$|--$|-- TOC entry", line)]


def parted(lines: list[str]) -> tuple[list[str], list[str]]:
    """What is in the database, and what `pg_dump -C` says of the database itself."""
    inside: list[str] = []
    itself: list[str] = []
    part = inside
    for line in lines:
        if header := re.match(r"-- Name: (.*?); Type: ([^;]*);", line):
            part = itself if header[2].startswith("DATABASE") or header[1] == f"DATABASE {NAME}" else inside
        (inside if line.startswith("SET default_table") else part).append(line)
    return inside, itself


def without_owners(lines: list[str]) -> list[str]:
    """As `pg_dump --no-owner` writes it."""
    lines = [line for line in lines if not re.match(r"ALTER .* OWNER TO .*;$", line)]
    return [re.sub(r"^(-- (?:Data for )?Name: .*; Owner: )[^;]*", r"\1-", line) for line in lines]


@contextlib.contextmanager
def running_site(major: int) -> Iterator[Site]:
    """A site on a server of this major."""
    with Server(major=18 if major == 18 else 17, settings=_SETTINGS) as server:
        folder = scratch_folder()
        folder.chmod(0o755)
        yield Site(server, folder / "server")
