"""Random damage to archives, and who notices it: the read back, `finish`, `verify`.

The seed is fixed, so that the same archive is damaged at the same places every time.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from tests.lab.postgres import Installation

Kind = Literal["truncation", "bit flip"]
KINDS: tuple[Kind, ...] = ("truncation", "bit flip")
_SEED = 20260101
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Damage:
    """One way to damage an archive.

    Attributes:
        kind: Cut off, or one bit turned.
        offset: The first byte that is missing, or the byte of the bit.
        bit: Which bit of it, 0 to 7; without meaning for a truncation.
    """

    kind: Kind
    offset: int
    bit: int = 0

    def apply(self, path: Path) -> None:
        """Damage a file in place."""
        with path.open("r+b") as file:
            if self.kind == "truncation":
                file.truncate(self.offset)
                return
            file.seek(self.offset)
            byte = file.read(1)[0]
            file.seek(self.offset)
            file.write(bytes([byte ^ 1 << self.bit]))


def damages(kind: Kind, size: int, count: int) -> list[Damage]:
    """Evenly spread damages of a file of `size` bytes."""
    chosen = random.Random(f"{_SEED} {kind}")
    return [Damage(kind, chosen.randrange(size), chosen.randrange(8)) for _ in range(count)]


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What reading damaged archives found, without any sha256.

    Attributes:
        caught: pg_restore failed.
        harmless: It did not, and its SQL is that of the sound archive.
        silent: It did not, and its SQL is another one.
    """

    caught: int
    harmless: int
    silent: int


def read_back(installation: Installation, archive: Path, kind: Kind, count: int, folder: Path) -> ReadBack:
    """Damage copies of an archive and read each one whole, as the dump container reads what pg_dump wrote."""
    sound = _read(installation, archive)
    assert sound is not None, f"{archive} cannot be read even without damage"

    def trial(numbered: tuple[int, Damage]) -> str:
        number, damage = numbered
        copy = folder / f"trial-{number}"
        shutil.copyfile(archive, copy)
        damage.apply(copy)
        found = _read(installation, copy)
        copy.unlink()
        if found is None:
            return "caught"
        return "harmless" if found == sound else "silent"

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = list(pool.map(trial, enumerate(damages(kind, archive.stat().st_size, count))))
    return ReadBack(found.count("caught"), found.count("harmless"), found.count("silent"))


def _read(installation: Installation, archive: Path) -> str | None:
    """The sha256 of the archive's SQL, None when pg_restore fails."""
    with subprocess.Popen(
        [installation.bin / "pg_restore", "-f", "-", archive],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.defpath},
    ) as process:
        assert process.stdout
        digest = hashlib.sha256()
        for line in process.stdout:
            # A random key that pg_restore makes up at each run (since 17.6).
            if not line.startswith((b"\\restrict ", b"\\unrestrict ")):
                digest.update(line)
    return digest.hexdigest() if process.returncode == 0 else None


def _renamed(base: str, number: int) -> str:
    """A base some seconds before this one."""
    start = datetime.strptime(base[-15:], "%Y%m%d-%H%M%S").replace(tzinfo=UTC) - timedelta(seconds=number)
    return f"{base[:-15]}{start:%Y%m%d-%H%M%S}"


def stage_copies(folder: Path, base: str, kind: Kind, count: int) -> list[str]:
    """Stage damaged copies beside a staged archive; the bases that they have.

    Args:
        folder: The database's directory, with `.<base>.dump.staged` and its sidecars.
        base: Of the sound staged archive, which stays as it is.
        kind: How to damage the copies.
        count: How many.
    """
    staged = folder / f".{base}.dump.staged"
    bases = []
    for number, damage in enumerate(damages(kind, staged.stat().st_size, count), start=1):
        name = _renamed(base, number)
        copy = folder / f".{name}.dump.staged"
        shutil.copyfile(staged, copy)
        damage.apply(copy)
        for suffix in ("sha256", "result"):
            text = Path(f"{staged}.{suffix}").read_text().replace(base, name)
            Path(f"{copy}.{suffix}").write_text(text)
        bases.append(name)
    return bases


def publish_copies(folder: Path, base: str, kind: Kind, count: int) -> list[str]:
    """Put damaged copies beside a published archive, with its sidecars; the bases that they have."""
    archive = folder / f"{base}.dump"
    bases = []
    for number, damage in enumerate(damages(kind, archive.stat().st_size, count), start=1):
        name = _renamed(base, number)
        copy = folder / f"{name}.dump"
        shutil.copyfile(archive, copy)
        damage.apply(copy)
        sha256 = (folder / f"{base}.dump.sha256").read_text()
        (folder / f"{name}.dump.sha256").write_text(sha256.replace(base, name))
        shutil.copyfile(folder / f"{base}.json", folder / f"{name}.json")
        bases.append(name)
    return bases


def verify(root: Path) -> dict[str, str]:
    """Run `retention verify` on a volume: for each archive `good` or `bad`."""
    command: Sequence[str] = [sys.executable, "-S", "-m", "retention", "verify", "--format", "json", str(root)]
    done = subprocess.run(
        command,
        cwd=_ROOT,
        env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    documents = json.loads(done.stdout)
    documents = documents if isinstance(documents, list) else [documents]
    return {archive["name"]: archive["result"] for document in documents for archive in document["archives"]}
