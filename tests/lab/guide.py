"""docs/restore.md, whose every command is run by a test: `<!-- runs: NAME -->` above a block gives it a name."""

from __future__ import annotations

import re
from pathlib import Path

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "restore.md"
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
