"""Draws the earlier runs of a database: a mark for each of the last ones, and a bar for each day of a year.

Marks differ in shape and bars in height, so that no colour is needed to tell them apart. Equal neighbours are one path:
a page of hundreds of databases stays small.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, pairwise

from retention.message import FAILED, OK, REFUSED, WARNING
from watch.past import MOST_DAYS, MOST_RUNS, UNKNOWN, Ended, Past

_SLOT, _HEIGHT = 8, 10
_WORDS = {
    OK: "ok",
    WARNING: "warning",
    REFUSED: "refused",
    FAILED: "failed",
    UNKNOWN: "unknown: how it ended was not seen",
}
_SHAPES = {
    OK: ("5", ""),
    WARNING: ("8", "l3-6 3 6zm8 0"),
    REFUSED: ("5", "l3.5-5 3.5 5-3.5 5zm8 0"),
    FAILED: ("2", "l6 6m0-6-6 6m8-6"),
    UNKNOWN: ("8", "h6m2 0"),
}
"""Where a mark begins, from the top, and its path, which ends where the next mark begins. OK is a dashed line."""
_BARS = {OK: "8.5", WARNING: "7.5", REFUSED: "6.5", FAILED: "5", UNKNOWN: "5"}
"""Where the middle of a day's bar is, from the top; see STYLE for its height."""
_ROOM = ((MOST_RUNS, MOST_DAYS), (MOST_RUNS, 90), (MOST_RUNS // 2, 30), (MOST_RUNS // 4, 0))
"""How many runs and days are drawn: the first of these for which all pictures together are small enough."""
_MOST_BYTES = 250_000

STYLE = """
.h,.y{display:block;width:100%;max-width:480px;height:auto}.y{max-width:730px;height:10px;margin-top:.2rem}
.h.s,.y.s{display:inline-block;width:16px;height:10px;margin:0}.h.s{width:13px;height:16px;vertical-align:middle}
.h path{fill:none;stroke-width:2.5}.h .ok{stroke-width:5;stroke-linecap:round;stroke-dasharray:0 8}
.h .warning,.h .refused{fill:var(--c);stroke-width:.5}.h path,.y path{stroke:var(--c)}
.y .ok{stroke-width:3}.y .warning{stroke-width:5}.y .refused{stroke-width:7}.y .failed{stroke-width:10}
.y .unknown{stroke-width:2}
""".strip().replace("\n", "")
"""What they look like; the colour of a state is --c."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """The earlier runs of several databases.

    Attributes:
        pictures: By database, of those of which a run is known: its last runs, and the days of the last year.
        runs: How many runs there is room for.
        days: How many days there is room for.
    """

    pictures: Mapping[str, str]
    runs: int
    days: int


def draw(pasts: Mapping[str, Past], now: datetime) -> Drawn:
    """Draw earlier runs: of all databases the same number, so that what is not drawn looks like no gap.

    Args:
        pasts: By database.
        now: The moment, UTC.
    """
    for runs, days in _ROOM:
        pictures = {name: _runs(past, now, runs) + _days(past, now, days) for name, past in pasts.items() if past.runs}
        if sum(map(len, pictures.values())) <= _MOST_BYTES:
            break
    return Drawn(pictures, runs, days)


def legend() -> str:
    """Return what the marks and bars mean, as items of a list."""
    items = []
    for result, words in _WORDS.items():
        run = _svg("h s", _SLOT, _path(result, _marks(result, [(0, 1)])))
        day = _svg("y s", _SLOT, _path(result, f"M0 {_BARS[result]}h8"), stretched=True)
        items.append(f"<li>{run} {day} {words}</li>")
    return " ".join(items)


def slots(runs: Sequence[Ended], now: int) -> list[str]:
    """Return the last runs in slots of equal time, oldest first; an empty slot is a time in which no run was seen.

    Args:
        runs: The runs, oldest first.
        now: The moment, in minutes since 1970.
    """
    moments = [minute for minute, _ in runs]
    gaps = sorted(later - earlier for earlier, later in pairwise(moments))
    # How often there is a run, whatever the schedule says: half of the gaps are no longer.
    usual = max(gaps[(len(gaps) - 1) // 2], 1) if gaps else None
    found: list[str] = []
    for minute, (at, result) in zip([*moments[:1], *moments], runs, strict=False):
        found += [""] * _left_out(at - minute, usual)
        found.append(result)
    found += [""] * _left_out(now - moments[-1], usual) if moments else []
    return found[-MOST_RUNS:]


def _left_out(minutes: int, usual: int | None) -> int:
    return 0 if usual is None else min(max(round(minutes / usual) - 1, 0), MOST_RUNS)


def _runs(past: Past, now: datetime, most: int) -> str:
    runs = past.ended()
    found = slots(runs, int(now.timestamp()) // 60)[-most:]
    paths = [_path(result, _marks(result, spans)) for result, spans in _spans(found, most).items()]
    at, last = runs[-1]
    ended = datetime.fromtimestamp(at * 60, UTC)
    label = f"Last runs: {_counted(found, 'in gaps')}. The last: {last}, {ended:%Y-%m-%d %H:%M}Z"
    return _svg("h", _SLOT * most, *paths, label=label)


def _marks(result: str, spans: Sequence[tuple[int, int]]) -> str:
    if result == OK:
        return "".join(f"M{_SLOT * x + 4} 5h{_SLOT * (count - 1) or ''}.1" for x, count in spans)
    y, shape = _SHAPES[result]
    return _row([(_SLOT * x, _SLOT * count) for x, count in spans], 1, y, lambda width: shape * (width // _SLOT))


def _days(past: Past, now: datetime, most: int) -> str:
    known = past.by_day()
    if known is None or not most:
        return ""
    last, days = known
    found = [*days, *[""] * min(max((now.date() - last).days, 0), most)][-most:]
    paths = [
        _path(result, _row(spans, 0, _BARS[result], lambda width: f"h{width}"))
        for result, spans in _spans(found, most).items()
    ]
    return _svg("y", most, *paths, label=f"Last {len(found)} days: {_counted(found, 'without a run')}", stretched=True)


def _counted(found: Sequence[str], gaps: str) -> str:
    counts = Counter(found)
    none = [f"{counts['']} {gaps}"] if counts[""] else []
    return ", ".join([*(f"{counts[result]} {result}" for result in _WORDS if counts[result]), *none])


def _spans(found: Sequence[str], most: int) -> dict[str, list[tuple[int, int]]]:
    """Return for each result where it begins and how often it follows itself, the last at the right end."""
    spans: dict[str, list[tuple[int, int]]] = {}
    at = most - len(found)
    for one, group in groupby(found):
        count = len(list(group))
        if one:
            spans.setdefault(one, []).append((at, count))
        at += count
    return spans


def _row(spans: Sequence[tuple[int, int]], margin: int, y: str, drawn: Callable[[int], str]) -> str:
    """Return the path of spans in a row, each of which is drawn from its begin to its end."""
    parts, at = [], None
    for x, width in spans:
        parts.append(f"M{x + margin} {y}" if at is None else f"m{x - at} 0")
        parts.append(drawn(width))
        at = x + width
    return "".join(parts)


def _path(result: str, shape: str) -> str:
    return f'<path class={result} d="{shape}"/>'


def _svg(kind: str, width: int, *paths: str, label: str = "", stretched: bool = False) -> str:
    named = f'role=img aria-label="{label}"' if label else "aria-hidden=true"
    whole = " preserveAspectRatio=none" if stretched else ""
    quoted = f'"{kind}"' if " " in kind else kind
    return f'<svg class={quoted} viewBox="0 0 {width} {_HEIGHT}"{whole} {named}>{"".join(paths)}</svg>'
