"""The pinned tools; `make tools` builds them beforehand, so that this takes no time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.chart.common import CI_FILES
from tests.lab import chart


@pytest.fixture(scope="session", autouse=True)
def tools() -> dict[str, Path]:
    """The pinned binaries; what `tests.lab.chart` renders with is then one of them."""
    binaries = {name: chart.pinned(name) for name in ("helm", "helm3", "helm-unittest", "ct")}
    for name in ("helm", "helm3"):
        os.utime(binaries[name])
    chart.find.cache_clear()
    return binaries


@pytest.fixture(scope="session")
def tool_path(tools: dict[str, Path]) -> str:
    """A PATH on which the pinned tools, and the linters of the Python environment, come first."""
    folders = [str(binary.parent) for name, binary in tools.items() if name != "helm3"]
    return os.pathsep.join([*folders, str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.fixture(params=CI_FILES, ids=lambda path: path.name.removesuffix("-values.yaml"))
def ci_file(request: pytest.FixtureRequest) -> Path:
    """Each values file of chart/ci in turn: a new one is covered as soon as it is there."""
    path: Path = request.param
    return path
