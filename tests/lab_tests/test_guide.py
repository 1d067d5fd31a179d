"""Whoever pastes a command of docs/restore.md in the worst night pastes one that a test has run."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.lab.guide import GUIDE, OUTPUT, blocks

TESTS = Path(__file__).resolve().parents[1]
RUNNERS = ("block", "follow")
"""Functions of the tests that run a block, or return it to be run."""
COMPARER = "output"
"""The function of the tests that returns the output of a block, to be compared with what the block prints."""


def unproved(page: str, run: set[str], compared: set[str] | None = None) -> list[str]:
    """What is wrong with the blocks of a page, given the names that tests run, and those whose output they compare."""
    commands = [(name, text) for name, language, text in blocks(page) if language != OUTPUT]
    names = [name for name, _ in commands]
    wrong = [f"no marker: {text.splitlines()[0]}" for name, text in commands if not name]
    wrong += [f"run by no test: {name}" for name in names if name and name not in run]
    wrong += [f"twice: {name}" for name in set(names) if name and names.count(name) > 1]
    wrong += [f"output that no test compares: {name}" for name in shown(page) if name not in (compared or set())]
    return wrong + [f"run and not there: {name}" for name in run - set(names)]


def shown(page: str) -> list[str]:
    """For each output on a page the name of the block before it, which prints it."""
    found = blocks(page)
    return [found[index - 1][0] if index else "" for index, (_, language, _) in enumerate(found) if language == OUTPUT]


def given(*functions: str) -> set[str]:
    """The names that are given to one of these functions anywhere in the tests, as literals."""
    found = set()
    for path in TESTS.rglob("test_*.py"):
        text = path.read_text()
        if "tests.lab.guide" not in text or path == Path(__file__):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called in functions:
                    found.add(str(node.args[0].value))
    return found


def test_every_block_of_the_guide_is_run_by_a_test() -> None:
    page = GUIDE.read_text()
    assert len(blocks(page)) == page.count("\n```") // 2, "a block is not seen"
    assert unproved(page, given(*RUNNERS), given(COMPARER)) == []


def test_a_block_that_nobody_runs_is_found() -> None:
    marked, bare = "<!-- runs: a -->\n```sh\necho\n```\n", "\n```sh\nrm -r /\n```\n"
    assert unproved(marked, {"a"}) == []
    assert unproved(marked + bare, {"a"}) == ["no marker: rm -r /"]
    assert unproved(marked, set()) == ["run by no test: a"]
    assert unproved(marked + marked, {"a"}) == ["twice: a"]
    assert unproved(bare, {"a"}) == ["no marker: rm -r /", "run and not there: a"]


def test_an_output_needs_no_runner_but_a_comparison() -> None:
    marked, printed = "<!-- runs: a -->\n```sh\necho\n```\n", "\n```text\nrm -r /\n```\n"
    assert unproved(marked + printed, {"a"}, {"a"}) == []
    assert unproved(marked + printed, {"a"}) == ["output that no test compares: a"]
    assert unproved(printed, set(), set()) == ["output that no test compares: "]
