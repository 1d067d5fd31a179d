"""Databases that pg_restore alone cannot restore, and some that look like it: see unrestorable.sql."""

from __future__ import annotations

import re
from pathlib import Path

_TEXT = Path(__file__).with_name("unrestorable.sql").read_text()


def group(name: str) -> dict[str, str]:
    """The statements of each case of a group."""
    found = re.findall(rf"(?ms)^-- {name}: ([^\n]*)\n(.*?)(?=^-- \w+: |\Z)", _TEXT)
    assert found, f"there is no group {name!r}"
    return dict(found)
