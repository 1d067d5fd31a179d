"""CHANGELOG.md as programs read it: the entries of one version, and what they are short."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lab.release.project import ReleaseError

KINDS = {
    "Added": "added", "Changed": "changed", "Deprecated": "deprecated", "Removed": "removed", "Fixed": "fixed",
    "Security": "security",
}  # fmt: skip
"""The headings of Keep a Changelog, and what Artifact Hub calls them."""

UNRELEASED = "Unreleased"


@dataclass(frozen=True)
class Entry:
    """One change: its kind, and its text in one line."""

    kind: str
    text: str

    @property
    def short(self) -> str:
        """The first sentence, without marks of Markdown."""
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", self.text).replace("`", "").replace("**", "")
        return re.split(r"(?<=[.:;])\s+(?=[A-Z0-9])", plain, maxsplit=1)[0].rstrip(".:;")


def section(text: str, version: str) -> str:
    """Return the text below the heading of a version, or below that of what is not released yet.

    Raises:
        ReleaseError: there is neither.
    """
    for name in (version, UNRELEASED):
        found = re.search(rf"^## \[{re.escape(name)}\][^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        if found:
            return found[1].strip()
    raise ReleaseError(f"CHANGELOG.md has no section for {version}; add the heading `## [{version}] - DATE`")


def entries(text: str, version: str) -> list[Entry]:
    """Return the changes of a version, in the order of the page.

    Raises:
        ReleaseError: a heading of the section is not one of Keep a Changelog, or nothing is listed.
    """
    kind, found = "", list[Entry]()
    for line in section(text, version).splitlines():
        if line.startswith("### "):
            heading = line.removeprefix("### ").strip()
            if heading not in KINDS:
                raise ReleaseError(f"CHANGELOG.md: {heading!r} is not a kind of change; use one of {', '.join(KINDS)}")
            kind = KINDS[heading]
        elif line.startswith(("- ", "* ")) and kind:
            found.append(Entry(kind, line[2:].strip()))
        elif line.startswith("  ") and found:
            found[-1] = Entry(found[-1].kind, f"{found[-1].text} {line.strip()}")
    if not found:
        raise ReleaseError(f"CHANGELOG.md lists no change of {version}; write what users will notice")
    return found
