"""Layers import downwards alone, the rule touches no disk, and the package needs nothing but the standard library."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.imports import imports
from tests.retention.world import REPOSITORY

PACKAGE = REPOSITORY / "retention"
LAYERS = ("ground", "rule", "volume", "pod", "cli")
"""From below: each imports from itself and from those before it. The ground is what lies beside the folders."""
PURE_LIBRARY = {
    "bisect", "collections", "collections.abc", "dataclasses", "datetime", "enum", "functools", "html",
    "itertools", "json", "math", "operator", "random", "re", "textwrap", "typing",
}  # fmt: skip
"""What does no input or output; `json` works on texts here, `random` on a seed that is given."""
FORBIDDEN_NAMES = {"open", "print", "input", "exec", "eval", "__import__"}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
DOORS = {"retention", "retention.__main__"}
"""What the world comes in by: the one import path for users, and the command."""


def _layer(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else "ground"


def _imports(path: Path) -> Iterator[str]:
    return imports(path, MODULES.__contains__)


PURE = sorted(name for name in MODULES if _layer(name) in ("ground", "rule") and name not in DOORS)


@pytest.mark.parametrize("module", sorted(MODULES.keys() - DOORS))
def test_no_module_imports_from_a_layer_above_its_own(module: str) -> None:
    allowed = LAYERS[: LAYERS.index(_layer(module)) + 1]
    for name in _imports(MODULES[module]):
        if name.split(".")[0] == "retention":
            assert name not in DOORS, f"{module} imports the package through its own door"
            assert _layer(name) in allowed, f"{module} is of layer {_layer(module)} and imports {name} from above it"


def test_every_folder_is_a_layer() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(LAYERS) - {"ground"}


@pytest.mark.parametrize("module", PURE)
def test_rule_and_ground_import_nothing_that_does_io(module: str) -> None:
    outside = {name for name in _imports(MODULES[module]) if name.split(".")[0] != "retention"}
    assert outside <= PURE_LIBRARY, f"{module} imports {outside - PURE_LIBRARY}, which the rule must not"
    names = {node.id for node in ast.walk(ast.parse(MODULES[module].read_text())) if isinstance(node, ast.Name)}
    assert not names & FORBIDDEN_NAMES, module


@pytest.mark.parametrize("module", PURE)
def test_rule_and_ground_know_no_clock(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not attributes & {"now", "utcnow", "today", "time_ns", "monotonic", "SystemRandom"}, module


def test_whole_package_imports_the_standard_library_alone() -> None:
    for path in MODULES.values():
        outside = {name.split(".")[0] for name in _imports(path)} - sys.stdlib_module_names - {"retention"}
        assert not outside, f"{path.name} imports {outside}"


def test_no_module_is_too_long_to_be_read_at_a_sitting() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert not {name: length for name, length in lengths.items() if length >= 500}


def test_package_runs_without_site_packages_and_environment(tmp_path: Path) -> None:
    """As in the pod: a copy of the files, an interpreter that looks nowhere else, a read-only place."""
    copy = tmp_path / "retention"
    for path in MODULES.values():
        target = copy / path.relative_to(PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
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
