"""dump.sh with stand-ins for PostgreSQL's programs: faults of a volume need no server, and each run is quick."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.scripts.conftest import Pod

PROGRAMS = {
    "psql": 'case "$*" in *foresee.sql) ;; *) echo "170005|17.5|f|9000" ;; esac',
    "pg_dump": """[ "$1" != --version ] || { echo "pg_dump (PostgreSQL) 17.5"; exit 0; }
while [ $# -gt 0 ]; do [ "$1" != -f ] || out=$2; shift; done
/usr/bin/head -c 3000 /dev/urandom >"$out"
""",
    "pg_restore": """case "$*" in
  *--help*) ;;
  *-l*) echo "; Archive"; echo "215; 1259 16386 TABLE public t app"; echo "216; 0 16386 TABLE DATA public t app" ;;
  *) cat "$3" >/dev/null ;;
esac
""",
    "pg_dumpall": 'while [ $# -gt 0 ]; do [ "$1" != -f ] || out=$2; shift; done; echo "CREATE ROLE app;" >"$out"',
}


class StandIns(Pod):
    """A pod without a server, whose programs can be replaced by scripts (of dash, whatever the shell under test)."""

    @classmethod
    def make(cls, folder: Path, shell: str) -> StandIns:
        """Make the pod, with one database called `app`."""
        programs = folder / "programs"
        programs.mkdir()
        pod = cls(folder, SimpleNamespace(port=5432, bin=programs, ca=None), f"{programs}:{shell}")  # type: ignore[arg-type]
        for name, script in PROGRAMS.items():
            pod.program(name, script)
        for tool in Path(shell).glob("sh"):
            (programs / "sh").symlink_to(tool)
        pod.add("app")
        return pod

    def add(self, name: str, **conf: Any) -> None:
        """Configure a database."""
        super().add(name, ca=False, **{"sslmode": "disable", "wait_timeout": "3", "lock_timeout": "2", **conf})

    def program(self, name: str, script: str) -> None:
        """Put a program before all others of that name."""
        path = self.folder / "programs" / name
        path.write_text(f"#!/bin/dash\n{script}\n")
        path.chmod(0o755)

    def start(self, script: Path, **environment: str) -> subprocess.Popen[str]:
        """Start a script by the shell under test."""
        return subprocess.Popen(
            ["sh", str(script)],
            env={**self.environment(), **environment},
            executable=str(self.folder / "programs" / "sh"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def environment(self) -> dict[str, str]:
        """The pod's environment."""
        return {**super().environment(), "PATH": f"{self.shell_path}:/usr/bin:/bin"}

    def states(self, name: str = "app") -> list[str]:
        """All values of `state` in a database's result."""
        lines = (self.folder / "results" / f"{name}.result").read_text().splitlines()
        return [line.removeprefix("state=") for line in lines if line.startswith("state=")]


@contextmanager
def tmpfs(path: Path, size: str) -> Iterator[Path]:
    """Mount a small volume over a folder."""
    assert os.geteuid() == 0, "a full volume is tested on a tmpfs, which takes root to mount"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)
