"""A download: resumed where the stream broke, and named only when every byte is right."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from kubectl_cnpg_backup.cluster.api import Executed
from kubectl_cnpg_backup.cluster.download import Archive, fetch, part_of, prepare
from kubectl_cnpg_backup.cluster.inspector import ROOT, Inspector
from kubectl_cnpg_backup.commands.download import pick
from kubectl_cnpg_backup.errors import NotFoundError, PluginError, RefusedError
from tests.plugin.common import backup

NAME = "app-20261122-140000.dump"
CONTENT = bytes(range(256)) * 5000


@dataclass
class Here:
    """Runs the inspector's commands on this machine; each stream breaks after so many bytes."""

    volume: Path
    breaks: list[int] = field(default_factory=list)
    commands: list[Sequence[str]] = field(default_factory=list)

    def execute(self, command: Sequence[str], sink: Callable[[bytes], None]) -> Executed:
        self.commands.append(command)
        real = [word.replace(ROOT, str(self.volume), 1) for word in command]
        done = subprocess.run(real, capture_output=True, check=False)
        if self.breaks:
            sink(done.stdout[: self.breaks.pop(0)])
            raise ConnectionError("broken")
        sink(done.stdout)
        return Executed(done.returncode, b"", done.stderr.decode())


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "volume" / "app").mkdir(parents=True)
    (tmp_path / "volume" / "app" / NAME).write_bytes(CONTENT)
    return tmp_path / "volume"


def archive(content: bytes = CONTENT) -> Archive:
    return Archive("app", NAME, len(content), hashlib.sha256(content).hexdigest())


def bring(here: Here, target: Path, what: Archive | None = None) -> list[int]:
    came: list[int] = []
    fetch(cast(Inspector, here), what or archive(), target, came.append)
    return came


def test_an_archive_comes_whole_and_can_be_checked_with_sha256sum(volume: Path, tmp_path: Path) -> None:
    target = tmp_path / NAME
    assert not prepare(archive(), target)
    assert sum(bring(Here(volume), target)) == len(CONTENT)
    assert target.read_bytes() == CONTENT
    assert target.stat().st_mode & 0o077 == 0, "others may read it"
    subprocess.run(["sha256sum", "-c", f"{NAME}.sha256"], cwd=tmp_path, check=True, capture_output=True)
    assert prepare(archive(), target), "it would be fetched again"


def test_a_broken_stream_goes_on_where_it_was(volume: Path, tmp_path: Path) -> None:
    here, target = Here(volume, breaks=[1000, 0, 300_000]), tmp_path / NAME
    bring(here, target)
    assert target.read_bytes() == CONTENT
    assert [command[2] for command in here.commands] == ["+1", "+1001", "+1001", "+301001"]


def test_an_earlier_download_that_was_cut_off_is_gone_on_with(volume: Path, tmp_path: Path) -> None:
    target = tmp_path / NAME
    part_of(target).write_bytes(CONTENT[:4321])
    assert sum(bring(Here(volume), target)) == len(CONTENT) - 4321
    assert target.read_bytes() == CONTENT


def test_a_stream_that_brings_nothing_is_given_up(volume: Path, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="keeps breaking: broken; start again later"):
        bring(Here(volume, breaks=[100, *[0] * 20]), tmp_path / NAME)
    assert part_of(tmp_path / NAME).read_bytes() == CONTENT[:100]


def test_what_is_not_the_archive_gets_no_name(volume: Path, tmp_path: Path) -> None:
    target = tmp_path / NAME
    part_of(target).write_bytes(b"x" * 10)
    with pytest.raises(PluginError, match=r"arrived with sha256 .* not .*kubectl cnpg-backup verify"):
        bring(Here(volume), target)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "volume"]


def test_an_archive_that_is_gone_is_told(volume: Path, tmp_path: Path) -> None:
    (volume / "app" / NAME).unlink()
    with pytest.raises(PluginError, match=r"cannot be read: .*No such file"):
        bring(Here(volume), tmp_path / NAME)


def test_nothing_that_is_there_is_written_over(tmp_path: Path) -> None:
    target = tmp_path / NAME
    target.write_bytes(b"something else")
    with pytest.raises(RefusedError, match="is not this archive"):
        prepare(archive(), target)
    target.unlink()
    part_of(target).write_bytes(CONTENT + b"more")
    with pytest.raises(RefusedError, match="longer than the archive"):
        prepare(archive(), target)


def test_backups_that_a_clock_hides_from_the_newest_are_named() -> None:
    ages = [timedelta(days=-400), timedelta(hours=-1), timedelta(hours=1)]
    backups = [backup(f"app-{index}.dump", age, 9, sha256="") for index, age in enumerate(ages)]
    archive, note = pick("app", backups, "app")
    assert archive.name == "app-2.dump"
    assert "2 backups are dated after now, the latest app-0.dump" in note
    assert pick("app", backups, "app-0.dump") == (Archive("app", "app-0.dump", 9, ""), "")
    assert pick("app", backups[2:], "app")[1] == ""
    with pytest.raises(NotFoundError, match="dated after now"):
        pick("app", backups[:2], "app")
