"""The pinned tools that tests call: each is built once by `tools/build`, and found again in the cache."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@functools.cache
def built(name: str) -> Path:
    """The folder of the programs of a pinned tool."""
    done = subprocess.run([ROOT / "tools" / "build", name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"tools/build {name} failed:\n{done.stderr[-2000:]}"
    return Path(done.stdout.strip())


def program(name: str, tool: str = "") -> str:
    """The path of a program, and of the tool that has it if that is called otherwise."""
    return str(built(tool or name) / name)
