"""The room imports one way, its judgement touches nothing, and it needs the standard library alone."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.imports import imports
from tests.retention.test_isolation import FORBIDDEN_NAMES, PURE_LIBRARY
from tests.retention.world import REPOSITORY

PACKAGE = REPOSITORY / "offsite"
LAYERS = ("age", "rule", "remote", "settings", "steps", "cli")
"""From below: each imports from itself and from those before it."""
FOREIGN = {
    "age": {"retention.errors"},
    "rule": {"retention.errors", "retention.names", "retention.text", "retention.rule"},
    "remote": {"retention.errors", "retention.text"},
    "settings": {"retention.errors", "retention.keyvalue", "retention.text", "retention.rule", "retention.pod.config"},
    "steps": {
        "retention.errors", "retention.keyvalue", "retention.message", "retention.names", "retention.text",
        "retention.pod", "retention.rule", "retention.volume",
    },
    "cli": {
        "retention.errors", "retention.names", "retention.text", "retention.volume", "retention.cli.common",
        "retention.pod",
    },
}  # fmt: skip
"""What each layer may take from the other room. That one takes nothing from this one."""
DOORS = {"offsite", "offsite.__main__"}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
INSIDE = sorted(MODULES.keys() - DOORS)
PURE = [name for name in INSIDE if name.split(".")[1] == "rule"]


def _layer(module: str) -> str:
    return module.split(".")[1]


def _imports(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    return imports(path, modules.__contains__)


@pytest.mark.parametrize("module", INSIDE)
def test_no_module_imports_from_a_layer_above_its_own(module: str) -> None:
    allowed = LAYERS[: LAYERS.index(_layer(module)) + 1]
    for name in _imports(MODULES[module], MODULES):
        if name.split(".")[0] == "offsite":
            assert name not in DOORS, f"{module} imports the room through its own door"
            assert _layer(name) in allowed, f"{module} imports {name} from above it"
        if name.split(".")[0] == "retention":
            known = FOREIGN[_layer(module)]
            assert any(name == one or name.startswith(f"{one}.") for one in known), f"{module} imports {name}"


def test_the_other_room_knows_nothing_of_this_one() -> None:
    for path in (REPOSITORY / "retention").rglob("*.py"):
        assert not any(name.split(".")[0] == "offsite" for name in _imports(path, {})), path


@pytest.mark.parametrize("module", PURE)
def test_the_rule_touches_nothing_and_knows_no_clock(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    outside = {
        name for name in _imports(MODULES[module], MODULES) if name.split(".")[0] not in ("offsite", "retention")
    }
    assert outside <= PURE_LIBRARY, f"{module} imports {outside - PURE_LIBRARY}"
    assert not {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & FORBIDDEN_NAMES
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not attributes & {"now", "utcnow", "today", "time_ns", "monotonic"}


def test_the_room_imports_the_standard_library_alone() -> None:
    for path in MODULES.values():
        outside = (
            {name.split(".")[0] for name in _imports(path, {})} - sys.stdlib_module_names - {"offsite", "retention"}
        )
        assert not outside, f"{path.name} imports {outside}"


def test_no_module_is_too_long_to_be_read_at_a_sitting() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert not {name: length for name, length in lengths.items() if length >= 500}


def test_the_room_runs_without_site_packages_and_environment(tmp_path: Path) -> None:
    """As in the pod: copies of the files, an interpreter that looks nowhere else."""
    for room in ("offsite", "retention"):
        for path in (REPOSITORY / room).rglob("*.py"):
            target = tmp_path / path.relative_to(REPOSITORY)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    start = f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['offsite', 'probe']; "
    start += "runpy.run_module('offsite', run_name='__main__')"
    command = [sys.executable, "-I", "-S", "-B", "-W", "error", "-c", start]
    ended = subprocess.run(command, capture_output=True, env={}, cwd="/", check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == b"this image can encrypt\n"
