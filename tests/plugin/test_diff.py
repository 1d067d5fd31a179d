"""`diff` from the command line to real archives and a real server; only the pods are this machine."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from kubectl_cnpg_backup.cli import build_parser
from kubectl_cnpg_backup.cluster.api import Cluster, Executed
from kubectl_cnpg_backup.cluster.inspector import Inspector
from kubectl_cnpg_backup.errors import NotFoundError, PluginError, UsageError
from kubectl_cnpg_backup.model import difference
from kubectl_cnpg_backup.output.screen import Screen
from kubectl_cnpg_backup.parser import parse
from kubectl_cnpg_backup.session import Session
from tests.lab.postgres import Server, identifier
from tests.plugin.common import config_of, release
from tests.plugin.test_describe_commands import Pod
from tests.retention.world import World

MIGRATION = """
CREATE TABLE invoices (id int PRIMARY KEY);
DROP TABLE sessions;
ALTER TABLE items ADD COLUMN price numeric(10, 2) NOT NULL DEFAULT 0;
INSERT INTO clicks SELECT * FROM generate_series(1, 7);
CREATE INDEX by_price ON items (price);
COMMENT ON COLUMN items.id IS 'one';
COMMENT ON TABLE items IS 'all';
"""
ODD = 'Odd; Type: TABLE "x"'


@dataclass
class Live:
    """The API server, and the pod of the primary of a cluster."""

    server: Server
    primary: str = "kutt-postgresql-cnpg-1"
    namespace: str = "default"

    def config_map(self, name: str) -> dict[str, Any]:  # noqa: ARG002
        return config_of("cnpg-backup-restore")

    def customs(self, group: str, version: str, plural: str) -> list[Mapping[str, Any]]:
        assert (group, version, plural) == ("postgresql.cnpg.io", "v1", "clusters")
        status = {"currentPrimary": self.primary} if self.primary else {}
        return [{"metadata": {"name": "other"}}, {"metadata": {"name": "kutt-postgresql-cnpg"}, "status": status}]

    def in_namespace(self, namespace: str) -> Live:
        assert namespace == "default"
        return self

    def execute(self, pod: str, container: str, command: list[str]) -> Executed:
        assert (pod, container) == (self.primary, "postgres")
        environment = {**self.server.superuser_env, "PATH": f"{self.server.bin}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        return Executed(done.returncode, done.stdout, done.stderr.decode())


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, bytes, bytes]]:
    """A server with a database `kutt`, and archives of it before and after a migration."""
    with Server() as server:
        server.create_database("kutt")
        server.psql(
            "CREATE TABLE items AS SELECT generate_series(1, 40) AS id; CREATE TABLE clicks (a int);"
            f"CREATE TABLE sessions (id int); CREATE TABLE {identifier(ODD)} (a int);"
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; GRANT SELECT ON items TO PUBLIC",
            "kutt",
        )
        folder = tmp_path_factory.mktemp("dumps")

        def dump(name: str) -> bytes:
            subprocess.run(
                [str(server.bin / "pg_dump"), "-Fc", "-f", str(folder / name), "kutt"],
                env=server.superuser_env, check=True,
            )  # fmt: skip
            return (folder / name).read_bytes()

        old = dump("old")
        server.psql(MIGRATION, "kutt")
        yield server, old, dump("new")


@pytest.fixture
def called(tmp_path: Path, states: tuple[Server, bytes, bytes], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    server, old, new = states
    world = World(tmp_path)
    world.configure("kutt")
    now = datetime.now(UTC).replace(microsecond=0)
    world.publish("kutt", now - timedelta(hours=3), content=old)
    world.publish("kutt", now - timedelta(hours=1), content=new)
    (tmp_path / "run").mkdir(exist_ok=True)
    pod = Inspector(
        cast(Cluster, Pod(tmp_path, server.bin)), "pod", "retention", "inspect", ["--config", "/etc/cnpg-backup"]
    )

    @contextmanager
    def inspecting(self: Session, template: object = None) -> Iterator[Inspector]:  # noqa: ARG001
        yield pod

    monkeypatch.setattr(Session, "inspecting", inspecting)

    def call(*words: str, primary: str = "kutt-postgresql-cnpg-1") -> int:
        archives = sorted(path.name for path in (tmp_path / "backups" / "kutt").glob("*.dump"))
        places = {"OLD": archives[0], "NEW": archives[-1]}
        options = parse(build_parser(), ["diff", *(places.get(word, word) for word in words)])
        session = Session(options, cast(Cluster, Live(server, primary)), Screen(options.output))
        session.release = release()
        return int(options.run(session))

    return call


def changes(text: str) -> dict[str, tuple[str, Any, Any]]:
    return {
        f"{one['type']} {one['name']}": (one["change"], one["rows_before"], one["rows_after"])
        for one in json.loads(text)["changes"]
    }


AFTER = {
    "TABLE invoices": ("added", None, 0),
    "TABLE sessions": ("gone", 0, None),
    "TABLE items": ("changed", 40, 40),
    "TABLE clicks": ("rows", 0, 7),
    "CONSTRAINT invoices invoices_pkey": ("added", None, None),
    "INDEX by_price": ("added", None, None),
    "COMMENT TABLE items": ("added", None, None),
    "COMMENT COLUMN items.id": ("added", None, None),
}


def test_two_backups_differ_in_what_a_migration_has_changed(
    called: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert called("OLD", "NEW", "-o", "json") == 0
    assert changes(capsys.readouterr().out) == AFTER
    assert called("OLD", "NEW", "--check") == 1
    text = capsys.readouterr().out
    assert "gone     table       public.sessions" in text
    assert called("OLD", "NEW", "--definitions", "--no-rows") == 0
    assert "+    price numeric(10,2) DEFAULT 0 NOT NULL" in capsys.readouterr().out


def test_a_backup_is_the_same_as_itself(called: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert called("NEW", "kutt", "--check") == 0, "the newest of the database"
    assert "the definitions and the number of rows of each table are the same" in capsys.readouterr().out


def test_a_backup_is_compared_with_the_database_as_it_is_now(
    called: Callable[..., int], states: tuple[Server, bytes, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    server = states[0]
    assert called("kutt", "--check") == 0
    assert "are the same" in capsys.readouterr().out
    server.psql("DELETE FROM items WHERE id > 10", "kutt")
    try:
        assert called("kutt", "--check", "-o", "json") == 0, "rows come and go"
        assert changes(capsys.readouterr().out) == {"TABLE items": ("rows", 40, 10)}
        server.psql("CREATE POLICY mine ON items USING (true)", "kutt")
        assert called("kutt", "--check", "-o", "json") == 1
        assert set(changes(capsys.readouterr().out)) == {"TABLE items", "POLICY items mine"}
    finally:
        server.psql("DROP POLICY IF EXISTS mine ON items; INSERT INTO items SELECT generate_series(11, 40)", "kutt")


def test_what_cannot_be_compared_is_said(called: Callable[..., int]) -> None:
    with pytest.raises(NotFoundError, match="the primary of cluster kutt-postgresql-cnpg in namespace default is not"):
        called("kutt", primary="")
    with pytest.raises(UsageError):
        called("kutt", "../etc")
    with pytest.raises(PluginError):
        called("kutt-20200101-000000.dump", "NEW")


def test_what_stands_between_two_objects_belongs_to_neither() -> None:
    text = (
        "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\nSET statement_timeout = 0;\n\n"
        "--\n-- Name: a; Type: TABLE; Schema: public; Owner: o\n--\n\nCREATE TABLE public.a (\n    b int\n);\n\n\n"
        "SET default_tablespace = '';\n\nSET default_table_access_method = heap;\n\n"
        "--\n-- Name: x; Type: TABLE; Schema: y; Type: VIEW; Schema: s; Owner: o\n--\n\n"
        "CREATE VIEW v AS SELECT 1;\n\n\n"
        "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n\n"
    )
    assert difference.read_objects(text) == {
        ("TABLE", "public", "a"): "CREATE TABLE public.a (\n    b int\n);",
        ("VIEW", "s", "x; Type: TABLE; Schema: y"): "CREATE VIEW v AS SELECT 1;",
    }
