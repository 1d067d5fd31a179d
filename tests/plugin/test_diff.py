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
from kubectl_cnpg_backup.model import difference, row_difference
from kubectl_cnpg_backup.output.screen import Screen
from kubectl_cnpg_backup.parser import parse
from kubectl_cnpg_backup.session import Session
from tests.lab.postgres import Server, identifier
from tests.plugin.common import config_of, release
from tests.plugin.test_describe_commands import Pod
from tests.retention.world import World

Sink = Callable[[bytes], None] | None
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

    def execute(self, pod: str, container: str, command: list[str], sink: Sink = None) -> Executed:
        assert (pod, container) == (self.primary, "postgres")
        environment = {**self.server.superuser_env, "PATH": f"{self.server.bin}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        if sink is not None:
            # In pieces that end anywhere.
            for start in range(0, len(done.stdout), 7):
                sink(done.stdout[start : start + 7])
        return Executed(done.returncode, b"" if sink else done.stdout, done.stderr.decode())


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
    def inspecting(self: Session, template: object = None, meanwhile: object = None) -> Iterator[Inspector]:  # noqa: ARG001
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


ROWS_BEFORE = """
CREATE TABLE people (id int PRIMARY KEY, name text, note text);
INSERT INTO people SELECT n, 'person ' || n, NULL FROM generate_series(1, 100) n;
CREATE SCHEMA audit; CREATE TABLE audit.people (id int);
CREATE TABLE pairs (a text, "B, b" int, c text, PRIMARY KEY (a, "B, b"));
INSERT INTO pairs VALUES (E'tab\\there', 1, 'x'), ('line' || chr(10) || 'end', 1, 'x'), (chr(92), 2, 'x');
INSERT INTO pairs VALUES ('z', 1, 'x');
CREATE TABLE bare (a int, b int); INSERT INTO bare VALUES (1, 1), (2, 2), (NULL, 3);
CREATE TABLE metrics (at date, id int, v int, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
CREATE TABLE metrics_1 (v int, id int NOT NULL, at date NOT NULL);
ALTER TABLE metrics ATTACH PARTITION metrics_1 FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE metrics_2 PARTITION OF metrics FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY LIST (id);
CREATE TABLE metrics_2a PARTITION OF metrics_2 DEFAULT;
INSERT INTO metrics SELECT '2026-01-10', n, n FROM generate_series(1, 5) n;
INSERT INTO metrics SELECT '2026-02-10', n, n FROM generate_series(1, 5) n;
"""
ROWS_AFTER = """
UPDATE people SET name = 'other', note = 'x' WHERE id = 7; UPDATE people SET note = '' WHERE id = 8;
DELETE FROM people WHERE id BETWEEN 10 AND 59; INSERT INTO people VALUES (1000, 'new', NULL), (-1, 'new', NULL);
UPDATE pairs SET c = 'y' WHERE a LIKE 'tab%' OR a = chr(92); DELETE FROM pairs WHERE a LIKE 'line%';
ALTER TABLE pairs ADD COLUMN d int DEFAULT 1;
UPDATE bare SET b = 9 WHERE a = 1;
UPDATE metrics SET v = 0 WHERE id = 1; DELETE FROM metrics WHERE at > '2026-02-01' AND id = 2;
INSERT INTO metrics VALUES ('2026-01-11', 99, 1);
"""


@pytest.fixture(scope="module")
def row_states(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, bytes, bytes]]:
    """A database whose rows differ in its two archives; the live one is as the second."""
    with Server() as server:
        server.create_database("kutt")
        server.psql(ROWS_BEFORE, "kutt")
        dumps = []
        for sql in (ROWS_AFTER, "SELECT"):
            path = tmp_path_factory.mktemp("dumps") / "dump"
            command = [str(server.bin / "pg_dump"), "-Fc", "-f", str(path), "kutt"]
            subprocess.run(command, env=server.superuser_env, check=True)
            dumps.append(path.read_bytes())
            server.psql(sql, "kutt")
        yield server, dumps[0], dumps[1]


class TestRows:
    """`--table`: which rows differ."""

    @pytest.fixture
    def states(self, row_states: tuple[Server, bytes, bytes]) -> tuple[Server, bytes, bytes]:
        return row_states

    @pytest.mark.parametrize("after", [["NEW"], []], ids=["two backups", "the live database"])
    def test_rows_are_told_apart_by_key_and_column(
        self, called: Callable[..., int], after: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert called("OLD", *after, "--table", "public.people", "--show", "100", "-o", "json") == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["same"], found["changed"], found["gone"], found["added"]) == (48, 2, 50, 2)
        assert found["left_out"] == 0
        rows = {one["key"]["id"]: (one["change"], one["columns"]) for one in found["rows"]}
        assert rows["7"] == ("changed", ["name", "note"])
        assert rows["8"] == ("changed", ["note"]), "NULL is not an empty text"
        assert rows["1000"] == rows["-1"] == ("added", [])
        assert [one for one in rows if rows[one][0] == "gone"] == [str(n) for n in range(10, 60)], "sorted as numbers"

    def test_the_output_is_bounded_and_holds_no_values(
        self, called: Callable[..., int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert called("OLD", "NEW", "--table", "public.people", "--show", "3", "--check") == 1
        text = capsys.readouterr().out
        assert len([line for line in text.splitlines() if "id=" in line]) == 3
        assert "48 rows are the same, 2 added, 50 gone, 2 changed; 51 of them are not shown" in text
        assert "person" not in text
        assert called("NEW", "NEW", "--table", "public.people", "--check") == 0
        assert "52 rows are the same, none differ" in capsys.readouterr().out

    def test_keys_of_several_columns_and_odd_values_are_read(
        self, called: Callable[..., int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert called("OLD", "NEW", "--table", "pairs", "-o", "json") == 0
        found = json.loads(capsys.readouterr().out)
        rows = {(one["key"]["a"], one["key"]["B, b"]): one["change"] for one in found["rows"]}
        assert rows == {("tab\there", "1"): "changed", ("line\nend", "1"): "gone", ("\\", "2"): "changed"}
        assert found["columns_only_after"] == ["d"]
        assert found["same"] == 1
        assert called("OLD", "NEW", "--table", "pairs") == 0
        printed = capsys.readouterr()
        assert "a=line" in printed.out.replace("?", " ")
        assert "\nend" not in printed.out, "a line of its own"
        assert "columns that only the second has, not compared: d" in printed.err

    def test_all_partitions_of_a_table_are_compared(
        self, called: Callable[..., int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert called("OLD", "--table", "metrics", "-o", "json") == 0
        found = json.loads(capsys.readouterr().out)
        rows = sorted((one["key"]["at"], one["key"]["id"], one["change"]) for one in found["rows"])
        assert rows == [
            ("2026-01-10", "1", "changed"), ("2026-01-11", "99", "added"), ("2026-02-10", "1", "changed"),
            ("2026-02-10", "2", "gone"),
        ]  # fmt: skip
        assert found["same"] == 7
        assert called("OLD", "--table", "metrics_1", "-o", "json") == 0
        assert json.loads(capsys.readouterr().out)["same"] == 4

    def test_without_a_primary_key_columns_are_named(
        self, called: Callable[..., int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(UsageError, match=r"table public\.bare has no primary key"):
            called("OLD", "NEW", "--table", "bare")
        assert called("OLD", "NEW", "--table", "bare", "--key", "a", "-o", "json") == 0
        (row,) = json.loads(capsys.readouterr().out)["rows"]
        assert row == {"change": "changed", "key": {"a": "1"}, "columns": ["b"]}
        with pytest.raises(UsageError, match=r"the table has no column 'c'.*its columns: a, b"):
            called("OLD", "NEW", "--table", "bare", "--key", "a,c")
        with pytest.raises(PluginError, match="several rows of the table have the key c=x"):
            called("OLD", "NEW", "--table", "pairs", "--key", "c")

    def test_wrong_tables_are_refused_with_what_may_be_meant(self, called: Callable[..., int]) -> None:
        with pytest.raises(UsageError, match=r"means several tables.*audit\.people, public\.people"):
            called("OLD", "NEW", "--table", "people")
        with pytest.raises(NotFoundError, match=r"there is no table peple.*did you mean .public\.people"):
            called("OLD", "NEW", "--table", "peple")
        for wrong in ("a b", "people; DROP TABLE x", "", '"'):
            if wrong:
                with pytest.raises(UsageError):
                    called("OLD", "NEW", "--table", wrong)
        with pytest.raises(UsageError, match="--key has no effect without --table"):
            called("OLD", "NEW", "--key", "id")

    def test_more_rows_than_fit_are_refused(self, called: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(row_difference, "MOST", 99)
        with pytest.raises(PluginError, match="the table has more than 99 rows"):
            called("OLD", "NEW", "--table", "public.people")
