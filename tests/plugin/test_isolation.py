"""The plugin's layers: what computes speaks to no cluster and prints nothing; only a session loads the client."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.imports import imports

PACKAGE = Path(__file__).resolve().parents[2] / "kubectl_cnpg_backup"
ALLOWED = {
    "ground": set[str](),
    "model": {"ground"},
    "output": {"ground", "model"},
    "cluster": {"ground", "model"},
    "session": {"ground", "model", "cluster", "output"},
    "names": {"ground", "model"},
    "commands": {"ground", "model", "cluster", "output", "session", "names"},
    "command line": {"ground", "model", "session", "commands", "names"},
}
"""The layers from which each layer may import, apart from itself."""
GROUND = {"errors", "interrupt"}
CLIENT = {"kubernetes", "urllib3", "websocket"}
SCREEN = {"rich", "yaml"}
HEAVY = {
    "cluster.api": CLIENT | {"yaml"}, "cluster.login": CLIENT | {"yaml"}, "cluster.refusals": CLIENT,
    "output.screen": SCREEN,
}  # fmt: skip
"""The modules that take long to load, and the libraries that they alone import."""
PURE_LIBRARY = {
    "collections", "copy", "cronsim", "dataclasses", "datetime", "difflib", "enum", "hashlib", "json", "re",
    "retention", "typing", "watch", "zoneinfo",
}  # fmt: skip
"""What the model may import: nothing that does input or output."""

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix("."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def layer(module: str) -> str:
    first = module.split(".")[0]
    if first in ALLOWED:
        return first
    return "ground" if first in GROUND else "command line"


def _loaded(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what runs when a file is loaded: neither functions nor what is for types only."""
    yield node
    for child in ast.iter_child_nodes(node):
        types_only = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not types_only and not isinstance(child, ast.FunctionDef):
            yield from _loaded(child)


def _imports(path: Path, *, while_loading: bool = False) -> Iterator[str]:
    """Yield what a file imports; with `while_loading` only what is loaded with the file itself."""
    return imports(path, lambda name: own(name) in MODULES, _loaded if while_loading else ast.walk)


def own(name: str) -> str:
    """The name of a module of the plugin's own, as MODULES has it; a name that is not in it for any other."""
    return name.removeprefix(f"{PACKAGE.name}.") if name.split(".")[0] == PACKAGE.name else f"not ours: {name}"


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {""}))
def test_no_module_imports_from_a_layer_that_its_own_must_not_know(module: str) -> None:
    allowed = {layer(module), *ALLOWED[layer(module)]}
    for name in _imports(MODULES[module]):
        if own(name) in MODULES:
            assert layer(own(name)) in allowed, f"{module} imports {name}"


@pytest.mark.parametrize("module", sorted(name for name in MODULES if layer(name) in ("model", "ground")))
def test_the_model_does_no_input_or_output_and_knows_no_clock(module: str) -> None:
    outside = {name.split(".")[0] for name in _imports(MODULES[module]) if own(name) not in MODULES}
    assert outside <= PURE_LIBRARY | (
        {"signal", "threading", "contextlib", "types"} if module == "interrupt" else set()
    )
    text = MODULES[module].read_text()
    assert "datetime.now" not in text
    assert "print(" not in text


@pytest.mark.parametrize("module", sorted(MODULES))
def test_nothing_heavy_is_loaded_before_a_cluster_is_opened(module: str) -> None:
    loaded = set(_imports(MODULES[module], while_loading=True))
    assert module in HEAVY or not {own(name) for name in loaded} & HEAVY.keys(), (
        f"{module} loads the client or the screen"
    )
    libraries = {name.split(".")[0] for name in loaded} & (CLIENT | SCREEN)
    assert libraries <= HEAVY.get(module, set()), f"{module} imports {libraries}"


def test_no_module_is_too_long_to_be_read_at_a_sitting() -> None:
    assert not {name: path for name, path in MODULES.items() if len(path.read_text().splitlines()) > 500}
