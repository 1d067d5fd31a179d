"""`describe` and `tables` from the command line to a real archive; only the pod is this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from kubectl_cnpg_backup.cli import build_parser
from kubectl_cnpg_backup.cluster.api import Cluster, Executed
from kubectl_cnpg_backup.cluster.inspector import ROOT, Inspector
from kubectl_cnpg_backup.errors import NotFoundError, UsageError
from kubectl_cnpg_backup.output.screen import Screen
from kubectl_cnpg_backup.parser import parse
from kubectl_cnpg_backup.session import Session
from tests.lab.postgres import Server
from tests.plugin.common import release
from tests.retention.world import World

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Pod:
    """Runs the commands of both containers of an inspector on this machine."""

    folder: Path
    bin: Path

    def execute(
        self,
        pod: str,  # noqa: ARG002
        container: str,
        command: Sequence[str],
        sink: Callable[[bytes], None] | None = None,
    ) -> Executed:
        places = {
            ROOT: self.folder / "backups",
            "/etc/cnpg-backup": self.folder / "config",
            "/opt/cnpg-backup": REPOSITORY,
        }
        words = [next((word.replace(old, str(new), 1) for old, new in places.items() if word.startswith(old)), word)
                 for word in command]  # fmt: skip
        if container == "retention":
            words[0] = sys.executable
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "BACKUP_RUN": str(self.folder / "run"),
            "BACKUP_RESULTS": str(self.folder / "results"),
        }
        done = subprocess.run(words, env=environment, capture_output=True, check=False)
        errors = done.stderr.decode().replace(str(self.folder / "backups"), ROOT)
        if sink is not None:
            sink(done.stdout)
        return Executed(done.returncode, b"" if sink else done.stdout, errors)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[bytes, Path]]:
    """A real archive, and the folder of PostgreSQL's programs."""
    with Server() as server:
        server.create_database("app")
        server.psql('CREATE TABLE "Items" AS SELECT generate_series(1, 321) AS id; CREATE TABLE empty (a int)', "app")
        path = tmp_path_factory.mktemp("dump") / "app.dump"
        subprocess.run(
            [str(server.bin / "pg_dump"), "-Fc", "-d", "app", "-f", str(path)], env=server.superuser_env, check=True
        )
        yield path.read_bytes(), server.bin


@pytest.fixture
def called(quick_path: Path, archive: tuple[bytes, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    world = World(quick_path)
    world.configure("app")
    now = datetime.now(UTC).replace(microsecond=0)
    for hours in (1, 3, 5):
        world.publish("app", now - timedelta(hours=hours), content=archive[0])
    (quick_path / "run").mkdir(exist_ok=True)
    pod = Inspector(
        cast(Cluster, Pod(quick_path, archive[1])), "pod", "retention", "inspect", ["--config", "/etc/cnpg-backup"]
    )

    @contextmanager
    def inspecting(self: Session, template: object = None, meanwhile: object = None) -> Iterator[Inspector]:  # noqa: ARG001
        yield pod

    monkeypatch.setattr(Session, "inspecting", inspecting)

    def call(*words: str) -> int:
        options = parse(build_parser(), list(words))
        session = Session(options, cast(Cluster, None), Screen(options.output))
        session.release = release()
        return int(options.run(session))

    return call


@pytest.fixture
def quick_path(tmp_path: Path) -> Path:
    return tmp_path


def test_the_newest_backup_of_a_database_is_described(
    called: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert called("describe", "app", "-o", "json") == 0
    document: Any = json.loads(capsys.readouterr().out)
    assert document["backup"]["age_seconds"] < 2 * 3600
    assert document["deletion"]["expected"] is not None
    assert called("describe", document["backup"]["name"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(document["backup"]["name"])
    assert "if a run succeeds every 2h" in text
    assert called("describe", "app", "-o", "jsonpath={.backup.sha256}") == 0
    assert capsys.readouterr().out.strip() == document["backup"]["sha256"]


def test_tables_are_listed_with_their_rows_on_demand(
    called: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert called("tables", "app", "-o", "name") == 0
    assert capsys.readouterr().out.splitlines() == ['public."Items"', "public.empty"]
    assert called("tables", "app") == 0
    assert "ROWS" not in capsys.readouterr().out
    assert called("tables", "app", "--rows", "--sort-by", "rows", "-o", "json") == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    assert [(one["name"], one["rows"]) for one in tables] == [("empty", 0), ("Items", 321)]
    assert called("tables", "app", "--rows") == 0
    assert 'public."Items"' in capsys.readouterr().out


def test_a_backup_or_a_column_that_is_not_there_is_refused(called: Callable[..., int]) -> None:
    with pytest.raises(NotFoundError, match="the volume has no database 'ap'"):
        called("describe", "ap")
    with pytest.raises(Exception, match="there is no such backup; the newest are app-"):
        called("describe", "app-20200101-000000.dump")
    with pytest.raises(UsageError, match="is not a column"):
        called("tables", "app", "--sort-by", "weight")
