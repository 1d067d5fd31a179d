"""The pure core touches no disk, and the package needs nothing but the standard library."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.retention.world import REPOSITORY

PACKAGE = REPOSITORY / "retention"
CORE = ("errors", "names", "policy", "rule", "__init__")
ALLOWED_IN_CORE = {
    "bisect", "collections.abc", "dataclasses", "datetime", "enum", "functools",
    "itertools", "json", "operator", "re", "typing",
    *(f"retention.{name}" for name in CORE),
}  # fmt: skip
"""What does no input or output; `json` works on texts here."""
FORBIDDEN_NAMES = {"open", "print", "input", "exec", "eval", "__import__"}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            found.add(str(node.module))
    return found


@pytest.mark.parametrize("module", CORE)
def test_core_imports_nothing_that_does_io(module: str) -> None:
    path = PACKAGE / f"{module}.py"
    assert _imports(path) <= ALLOWED_IN_CORE, f"{path.name} imports what the core must not"
    names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert not names & FORBIDDEN_NAMES, path.name


@pytest.mark.parametrize("module", CORE)
def test_core_knows_no_clock(module: str) -> None:
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not attributes & {"now", "utcnow", "today", "time_ns", "monotonic"}, module


def test_whole_package_imports_the_standard_library_alone() -> None:
    for path in PACKAGE.glob("*.py"):
        outside = {name.split(".")[0] for name in _imports(path)} - sys.stdlib_module_names - {"retention"}
        assert not outside, f"{path.name} imports {outside}"


def test_package_is_flat() -> None:
    """Keys of a ConfigMap hold no slash."""
    assert not [path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"]


def test_package_runs_without_site_packages_and_environment(tmp_path: Path) -> None:
    """As in the pod: a copy of the files, an interpreter that looks nowhere else, a read-only place."""
    copy = tmp_path / "retention"
    copy.mkdir()
    for path in PACKAGE.glob("*.py"):
        (copy / path.name).write_bytes(path.read_bytes())
    start = f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['retention', 'plan', '-']; "
    start += "runpy.run_module('retention', run_name='__main__')"
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-W", "error", "-c", start],
        input=b"app-20260101-000000.dump\n",
        capture_output=True,
        env={},
        cwd="/",
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert b"Hourly 1 of 6" in ended.stdout
    assert ended.stderr == b""


def test_public_surface_is_what_users_import() -> None:
    import retention

    assert {"Policy", "Tier", "plan"} <= set(retention.__all__)
    assert (PACKAGE / "py.typed").exists()
