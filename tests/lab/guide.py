"""docs/restore.md, whose every command is run by a test: `<!-- runs: NAME -->` above a block gives it a name.

A block of the language `text` shows what the named block before it prints at its end. No test runs it as a command;
tests compare it with what is printed.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "restore.md"
OUTPUT = "text"
_BLOCK = re.compile(
    r"^(?:<!-- runs: (?P<name>[a-z-]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


def blocks(text: str) -> list[tuple[str, str, str]]:
    """Name, language and text of each block of a page; a block without a name has an empty one."""
    return [(match["name"] or "", match["language"], match["text"]) for match in _BLOCK.finditer(text)]


def block(name: str) -> str:
    """The block of the guide that has this name."""
    found = [text for own, _, text in blocks(GUIDE.read_text()) if own == name]
    assert len(found) == 1, f"docs/restore.md has {len(found)} blocks {name!r}"
    return found[0]


def output(name: str) -> list[str]:
    """The last lines that the block of this name prints, as the guide shows them."""
    page = blocks(GUIDE.read_text())
    found = [after[2] for before, after in itertools.pairwise(page) if before[0] == name]
    assert len(found) == 1, f"docs/restore.md shows no output of {name!r}"
    return found[0].splitlines()


def same_but_for_numbers(shown: list[str], printed: list[str]) -> bool:
    """Whether two outputs agree in everything but their numbers, which include moments."""
    return [re.sub(r"\d+", "0", line) for line in shown] == [re.sub(r"\d+", "0", line) for line in printed]
