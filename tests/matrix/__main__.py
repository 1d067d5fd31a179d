"""Compute every cell of the matrix and write docs/restore-matrix.md: `make matrix`.

Arguments go to pytest, such as `-k partitions`: then only those rows of the page are written anew. Exit code 1 if a
cell keeps no promise; the page is written in any case, so that it shows which.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.matrix.kinds import ALL
from tests.matrix.page import PAGE, read, render


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as own:
        # Cells that are kept outlive a run that is cut short.
        folder = os.environ.get("MATRIX_CELLS", own)
        command = [sys.executable, "-m", "pytest", "-q", "-m", "long", "-n", "2", "--dist", "worksteal"]
        command += [*arguments, "tests/matrix"]
        done = subprocess.run(command, env={**os.environ, "MATRIX_CELLS": folder}, check=False)
        rows = read(PAGE.read_text()) if PAGE.exists() else {}
        for path in Path(folder).glob("*.json"):
            name, cells = json.loads(path.read_text())
            rows[name] = cells
    missing = [name for name in ALL if name not in rows]
    if missing:
        print(f"{PAGE.name} is not written: no cells of {missing}", file=sys.stderr)
        return 1
    PAGE.write_text(render({name: rows[name] for name in ALL}))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
