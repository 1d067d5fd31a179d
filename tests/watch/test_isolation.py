"""The watcher runs on a bare Python, beside no dump: what judges does no input or output, what does is thin."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.imports import imports
from tests.retention.test_isolation import FORBIDDEN_NAMES, PURE_LIBRARY
from tests.retention.world import REPOSITORY

PACKAGE = REPOSITORY / "watch"
SHELLS = {"watch.api", "watch.couriers", "watch.sender", "watch.server", "watch.serve", "watch.__main__"}
"""What speaks to the world, and nothing else does."""
OF_RETENTION = {"retention.message", "retention.names", "retention.text", "retention.errors"}
"""The ground of the package that runs beside dumps; nothing that touches a volume."""
MODULES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
PURE = sorted(MODULES.keys() - SHELLS)


def _imports(path: Path) -> Iterator[str]:
    return imports(path, lambda name: name in MODULES or (REPOSITORY / f"{name.replace('.', '/')}.py").exists())


@pytest.mark.parametrize("module", PURE)
def test_what_judges_does_no_io_and_knows_no_clock(module: str) -> None:
    found = set(_imports(MODULES[module]))
    assert not found & SHELLS, f"{module} imports {found & SHELLS}"
    outside = {name for name in found if name.split(".")[0] not in ("watch", "retention")}
    assert outside <= PURE_LIBRARY | {"base64", "hashlib", "html", "urllib.parse"}, (
        f"{module} imports {outside - PURE_LIBRARY}"
    )
    tree = ast.parse(MODULES[module].read_text())
    assert not {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & FORBIDDEN_NAMES
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not attributes & {"now", "utcnow", "today", "time_ns", "monotonic"}, module


@pytest.mark.parametrize("module", sorted(MODULES))
def test_watcher_imports_the_standard_library_and_the_ground_of_retention_alone(module: str) -> None:
    for name in _imports(MODULES[module]):
        if name.split(".")[0] == "retention":
            assert name in OF_RETENTION, f"{module} imports {name}"
        else:
            assert name.split(".")[0] in {*sys.stdlib_module_names, "watch"}, f"{module} imports {name}"


def test_no_module_is_too_long_to_be_read_at_a_sitting() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert not {name: length for name, length in lengths.items() if length >= 500}


def test_nothing_beside_the_dumps_imports_the_watcher() -> None:
    for path in (REPOSITORY / "retention").rglob("*.py"):
        assert not {name for name in _imports(path) if name.split(".")[0] == "watch"}, path


def test_watcher_loads_without_site_packages() -> None:
    every = "; ".join(f"import {module}" for module in sorted(MODULES) if module != "watch.__main__")
    start = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); {every}"
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-W", "error", "-c", start], capture_output=True, env={}, check=False
    )
    assert ended.returncode == 0, ended.stderr
