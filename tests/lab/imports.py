"""What a Python file imports, for the tests that hold which room may use which."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path


def imports(
    path: Path, is_module: Callable[[str], bool], nodes: Callable[[ast.AST], Iterable[ast.AST]] = ast.walk
) -> Iterator[str]:
    """Yield the full name of every module that a file imports, wherever in it.

    Args:
        path: The file.
        is_module: Whether a name after `from … import` is a module itself, and not something in one.
        nodes: Which nodes of the file's tree count.

    Raises:
        AssertionError: An import is relative.
    """
    for node in nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if is_module(whole) else str(node.module)
