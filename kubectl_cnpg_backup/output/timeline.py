"""The archives of a database for the page: a timeline of their ages, and a list."""

from collections.abc import Mapping, Sequence
from math import log
from typing import Any

from retention.text import format_size
from watch.page import text

_WIDTH, _HEIGHT, _EDGE = 600, 24, 8
_MINUTE = 60
_MARKS = (3600, 86400, 7 * 86400, 30 * 86400, 365 * 86400)
LEGEND = (
    "In the timelines, the youngest is on the left; lines are at 1 hour, 1 day, 1 week, 1 month and 1 year. A dot is "
    "a backup, a square a pinned one, a ring one that the next prune deletes. A bar above one: a drill restored it."
)


def archives(entry: Mapping[str, Any]) -> str:
    """Return the backups of a database as HTML: a picture that says the same as the list below it.

    Args:
        entry: What `retention list` says of the database.
    """
    backups, ignored = list(entry.get("backups") or ()), list(entry.get("ignored") or ())
    if not backups and not ignored:
        return ""
    noun = "backup" if len(backups) == 1 else "backups"
    bad = f", {len(ignored)} other files" if ignored else ""
    label = f"Timeline of {len(backups)} {noun} of {entry.get('database')}"
    lines = [_line(one) for one in backups]
    lines += [text(f"{one.get('name')}: {one.get('reason')}") for one in ignored]
    listed = "".join(f"<li>{line}" for line in lines)
    summary = f"{len(backups)} {noun}{bad}"
    return f"{_picture(backups, label)}<details><summary>{summary}</summary><ul>{listed}</ul></details>"


def _line(one: Mapping[str, Any]) -> str:
    words = [str(one.get("time"))[:16].replace("T", " ") + "Z", format_size(int(one.get("bytes") or 0))]
    words += [str(one["tier"])] if one.get("tier") else [str(one.get("reason") or "")]
    words += ["pinned"] if _pinned(one) else []
    words += [f"drill: {result}"] if (result := _drill(one)) else []
    return text(", ".join(words))


def _picture(backups: Sequence[Mapping[str, Any]], label: str) -> str:
    ages = [max(int(one.get("age_seconds") or 0), 0) for one in backups]
    longest = max([*ages, 2 * 86400])
    kept, pinned, going, drilled = [], [], [], []
    for one, age in zip(backups, ages, strict=True):
        x = _place(age, longest)
        if _pinned(one):
            pinned.append(f"M{x} 15h0")
        elif one.get("tier"):
            kept.append(f"M{x} 15h0")
        else:
            going.append(f"M{x - 4} 15a4 4 0 1 0 8 0a4 4 0 1 0-8 0")
        if _drill(one) == "proved":
            drilled.append(f"M{x - 4} 6h8")
    grid = [f"M{_place(age, longest)} 2v22" for age in _MARKS if age < longest]
    groups = (("g", grid), ("r", kept), ("q", pinned), ("h", going), ("v", drilled))
    paths = "".join(f'<path class={name} d="{"".join(parts)}"/>' for name, parts in groups if parts)
    return f'<svg class=t viewBox="0 0 {_WIDTH} {_HEIGHT}" role=img aria-label="{text(label)}">{paths}</svg>'


def _place(age: int, longest: int) -> int:
    share = log(1 + age / _MINUTE) / log(1 + longest / _MINUTE)
    return round(_EDGE + share * (_WIDTH - 2 * _EDGE))


def _pinned(one: Mapping[str, Any]) -> bool:
    pin = one.get("pin")
    return isinstance(pin, Mapping) and bool(pin.get("holds"))


def _drill(one: Mapping[str, Any]) -> str:
    drill = one.get("drill")
    return str(drill.get("result") or "") if isinstance(drill, Mapping) else ""
