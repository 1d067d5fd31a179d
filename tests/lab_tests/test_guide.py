"""Whoever pastes a command of docs/restore.md in the worst night pastes one that a test has run."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.lab.guide import GUIDE, blocks

TESTS = Path(__file__).resolve().parents[1]
RUNNERS = ("block", "follow")
"""Functions of the tests that run a block, or give it to be run."""


def unproved(page: str, run: set[str]) -> list[str]:
    """What is wrong with the blocks of a page, given the names that tests run."""
    names = [name for name, *_ in blocks(page)]
    wrong = [f"no marker: {text.splitlines()[0]}" for name, _, text in blocks(page) if not name]
    wrong += [f"run by no test: {name}" for name in names if name and name not in run]
    wrong += [f"twice: {name}" for name in set(names) if name and names.count(name) > 1]
    return wrong + [f"run and not there: {name}" for name in run - set(names)]


def run_by_tests() -> set[str]:
    """The names that are given to a runner anywhere in the tests, as literals."""
    found = set()
    for path in TESTS.rglob("test_*.py"):
        text = path.read_text()
        if "tests.lab.guide" not in text or path == Path(__file__):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called in RUNNERS:
                    found.add(str(node.args[0].value))
    return found


def test_every_block_of_the_guide_is_run_by_a_test() -> None:
    page = GUIDE.read_text()
    assert len(blocks(page)) == page.count("\n```") // 2, "a block is not seen"
    assert unproved(page, run_by_tests()) == []


def test_a_block_that_nobody_runs_is_found() -> None:
    marked, bare = "<!-- runs: a -->\n```sh\necho\n```\n", "\n```sh\nrm -r /\n```\n"
    assert unproved(marked, {"a"}) == []
    assert unproved(marked + bare, {"a"}) == ["no marker: rm -r /"]
    assert unproved(marked, set()) == ["run by no test: a"]
    assert unproved(marked + marked, {"a"}) == ["twice: a"]
    assert unproved(bare, {"a"}) == ["no marker: rm -r /", "run and not there: a"]
