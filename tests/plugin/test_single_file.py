"""The plugin as one executable file: it needs a Python and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab.release.project import read
from tests.lab.chart import ROOT

pytestmark = pytest.mark.long


def test_the_single_file_runs_without_anything_that_is_installed(tmp_path: Path) -> None:
    file = tmp_path / "kubectl-cnpg_backup"
    subprocess.run([ROOT / "tools" / "single-file", file], check=True, stdin=subprocess.DEVNULL, timeout=600)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        # A Python without the packages of this environment.
        bare = [f"{sys.base_prefix}/bin/python3", "-s", str(file)]
        return subprocess.run(
            [*bare, *arguments],
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    assert run("--version").stdout == f"kubectl cnpg-backup {read(ROOT).python_version}\n"
    assert (tmp_path / ".shiv").is_dir()
    refused = run("status", "--kubeconfig", str(tmp_path / "missing"))
    assert refused.returncode == 2, refused.stderr
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error: the kubeconfig cannot be used")
