"""The demo, small: it keeps its promises, and fails when one is broken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Turns a bit of the archive that the demo is about to restore.
SABOTAGE = """
import sys
from lab import demo

restore = demo.Demo._lose_and_restore

def damaged(self):
    archive = self.published(demo.LOST)[0].archive
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    restore(self)

demo.Demo._lose_and_restore = damaged
sys.exit(demo.main())
"""


def play(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command, "--megabytes", "10"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "50", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def test_demo_shows_every_promise_in_a_narrow_pipe_and_cleans_up() -> None:
    done = play("-m", "lab.demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout, "escape sequences in a pipe"
    assert "promises checked, all kept" in done.stdout
    assert not done.stderr
    folder = next(word for word in done.stdout.split() if word.endswith("/backups"))
    assert not Path(folder).exists(), f"{folder} was left behind"


@pytest.mark.long
def test_demo_fails_when_the_archive_to_restore_is_damaged() -> None:
    done = play("-c", SABOTAGE)
    assert done.returncode == 1, f"a damaged archive went unnoticed:\n{done.stdout}"
    assert "computed checksum did NOT match" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
