# Without comments: they are in the project's file of this name.
from collections.abc import Iterator
from datetime import timedelta
from html import escape
from itertools import pairwise
from textwrap import wrap
from retention.rule.policy import Tier
from retention.rule.simulate import Day, Simulation, format_span, longest_age, place, summary
from retention.text import format_duration, format_size
LIGHT = {
 "paper": "#ffffff",
 "ink": "#1d2129",
 "faint": "#5b6472",
 "line": "#d5dae1",
 "gap": "#ef3d7b",
 "tiers": ("#2a5ae0", "#a58a1a", "#06401c", "#b44ab8", "#3a1440"),
}
DARK = {
 "paper": "#10151c",
 "ink": "#e9eef5",
 "faint": "#9aa6b5",
 "line": "#2d3642",
 "gap": "#e8356b",
 "tiers": ("#7a6cff", "#e8a020", "#8cf5a8", "#d79af0", "#f2f8ff"),
}
_WIDTH, _LEFT, _RIGHT = 960, 72, 28
_LINE, _ROW, _MOST_ROWS = 20, 15, 42
_MIDDLE, _LAST = 235, 590
_TICK_ROOM = 46
_SUMMARY_LENGTH = 112
_LONGEST_NAME = 13
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_TICKS = (
 *((hours * _HOUR, f"{hours}h") for hours in (1, 2, 3, 6, 12)),
 *((days * _DAY, f"{days}d") for days in (1, 2, 4, 7, 14, 30, 60, 90, 180)),
 *((365 * years * _DAY, f"{years}y") for years in (1, 2, 3, 5, 10, 20, 50, 100)),
)
_SHAPES = (
 '<circle r="4.4"/>',
 '<rect x="-4" y="-4" width="8" height="8"/>',
 '<path d="M0-5.6 5.6 0 0 5.6-5.6 0z"/>',
 '<path d="M0-5.4 5 4.2H-5z"/>',
 '<path d="M-5-4.2H5L0 5.4z"/>',
 '<path d="M-4.6-1.7h2.9v-2.9h3.4v2.9h2.9v3.4h-2.9v2.9h-3.4v-2.9h-2.9z"/>',
)
def to_svg(simulation):
 return _Drawing(simulation).svg()
def to_html(simulation):
 scenario = simulation.scenario
 names = [tier.name for tier in scenario.policy.tiers]
 header = ["day", *names, "total", "made", "deleted", "reach", "largest gap", *(["size"] if scenario.size else [])]
 rows = []
 for day in simulation.days:
  cells = [str(day.day), *(str(day.kept.get(name, 0)) for name in names), str(day.total), str(day.made)]
  cells += [str(day.deleted), format_span(day.reach), format_span(max(day.gaps.values(), default=timedelta(0)))]
  cells += [format_size(day.bytes)] if scenario.size else []
  rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
 lines = [
  "<!DOCTYPE html>",
  '<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">',
  '<meta name="viewport" content="width=device-width">',
  f"<title>{escape(_title(simulation))}</title>",
  "<style>",
  f":root{{--paper:{LIGHT['paper']};--ink:{LIGHT['ink']};--line:{LIGHT['line']}}}",
  f"@media (prefers-color-scheme:dark){{:root{{--paper:{DARK['paper']};--ink:{DARK['ink']};"
  f"--line:{DARK['line']}}}}}",
  "body{background:var(--paper);color:var(--ink);font:14px system-ui,sans-serif;margin:1.5rem}",
  "svg{max-width:100%;height:auto}",
  "table{border-collapse:collapse;font-variant-numeric:tabular-nums}",
  "td,th{border-bottom:1px solid var(--line);padding:.2rem .7rem;text-align:right}",
  "</style></head><body>",
  to_svg(simulation),
  "<h2>Day by day</h2>",
  "<table><thead><tr>" + "".join(f"<th>{escape(name)}</th>" for name in header) + "</tr></thead><tbody>",
  *rows,
  "</tbody></table></body></html>",
 ]
 return "\n".join(lines)
def _title(simulation):
 return (
  f"What is kept, in {len(simulation.days)} days of a backup every {format_duration(simulation.scenario.every)}"
 )
def _short(name):
 return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
class _Drawing:
 def __init__(self, simulation):
  self._simulation = simulation
  self._tiers = simulation.scenario.policy.tiers
  self._unit = self._tiers[0].every
  self._longest = longest_age(simulation) * 1.04
  days = simulation.days
  step = -(-len(days) // _MOST_ROWS)
  self._days = days[step - 1 :: step]
  self._parts: list[str] = []
 def svg(self):
  y = self._head(30)
  y = self._legend(y + 14)
  top = y + 34
  bottom = top + _ROW * len(self._days)
  self._axis(top, bottom)
  for index, day in enumerate(self._days):
   self._row(day, top + _ROW * index + _ROW / 2)
  height = bottom + 16
  return "\n".join(
   [
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}" '
    f'height="{height:g}" role="img" aria-label="{escape(_title(self._simulation))}">',
    f"<style>{_style(len(self._tiers))}</style>",
    "<defs>"
    + "".join(f'<g id="s{i}">{_SHAPES[i % len(_SHAPES)]}</g>' for i in range(len(self._tiers)))
    + '<g id="so"><circle r="4" fill="none" stroke-width="2"/></g></defs>',
    f'<rect class="paper" width="{_WIDTH}" height="{height:g}"/>',
    *self._parts,
    "</svg>",
   ]
  )
 def _text(self, x, y, text, style = "", anchor = ""):
  attributes = (f' class="{style}"' if style else "") + (f' text-anchor="{anchor}"' if anchor else "")
  self._parts.append(f'<text x="{x:g}" y="{y:g}"{attributes}>{escape(text)}</text>')
 def _head(self, y):
  self._text(_RIGHT, y, _title(self._simulation), "title")
  for line in self._summary():
   for part in wrap(line, _SUMMARY_LENGTH):
    y += _LINE
    self._text(_RIGHT, y, part, "faint")
  return y
 def _summary(self):
  scenario = self._simulation.scenario
  disturbed = [f"starts up to {format_span(scenario.jitter)} late"] if scenario.jitter else []
  disturbed += [f"{scenario.fail_percent} % of the runs fail"] if scenario.fail_percent else []
  disturbed += [f"{scenario.manual} by hand each day"] if scenario.manual else []
  disturbed += [
   f"none for {format_span(outage.length)} from day {outage.begin // _DAY + 1} on"
   for outage in scenario.outages
  ]
  if disturbed:
   text = "; ".join(disturbed)
   yield text if len(text) <= 3 * _SUMMARY_LENGTH else f"{text[: 3 * _SUMMARY_LENGTH]}…"
  steady = self._simulation.steady
  if steady is None:
   yield summary(self._simulation)[0]
   return
  low, high = (format_span(reach) for reach in steady.reach)
  most = f"At most {self._simulation.most_kept} backups"
  size = f", {format_size(self._simulation.most_bytes)}" if self._simulation.most_bytes else ""
  yield (
   f"{most}{size}. Full after {format_span(steady.since)}; from then on it reaches back {low} to {high}, "
   f"and one run deletes at most {steady.most_deleted}."
  )
 def _legend(self, y):
  steady = self._simulation.steady
  for index, tier in enumerate(self._tiers):
   y += _LINE
   self._mark(_RIGHT + 6, y - 4.5, str(index))
   self._text(_RIGHT + 22, y, _short(tier.name), "strong")
   kept = f"keeps {tier.keep}, one every {format_duration(tier.every)}"
   kept += f", until {format_duration(tier.until)}" if tier.until else ""
   self._text(_RIGHT + _MIDDLE, y, kept)
   if steady is not None:
    least, most = steady.kept[tier.name]
    count = str(least) if least == most else f"{least} to {most}"
    self._text(
     _RIGHT + _LAST, y, f"when full: {count} kept, gaps up to {format_span(steady.gaps[tier.name])}"
    )
  y += _LINE
  self._mark(_RIGHT + 6, y - 4.5, "o")
  self._text(_RIGHT + 22, y, "oldest", "strong")
  self._text(_RIGHT + _MIDDLE, y, "the oldest of all, while the last tier has free places")
  self._parts.append(f'<path class="gap" d="M{_RIGHT + _LAST} {y - 4.5:g}h24"/>')
  self._text(_RIGHT + _LAST + 34, y, "a gap wider than the tier's distance")
  return y
 def _x(self, age):
  return round(_LEFT + place(age, self._unit, self._longest) * (_WIDTH - _LEFT - _RIGHT), 1)
 def _axis(self, top, bottom):
  self._text(_LEFT, top - 10, "now", "faint", "middle")
  self._text(_RIGHT, top - 10, "age", "faint", "middle")
  self._parts.append(f'<path class="grid" d="M{_LEFT} {top:g}V{bottom:g}"/>')
  last = float(_LEFT)
  for age, name in _TICKS:
   x = self._x(age)
   if age > self._longest or x > _WIDTH - _RIGHT or x - last < _TICK_ROOM:
    continue
   last = x
   self._parts.append(f'<path class="grid" d="M{x:g} {top:g}V{bottom:g}"/>')
   self._text(x, top - 10, name, "faint", "middle")
 def _row(self, day, y):
  self._text(_LEFT - 14, y + 4, str(day.day), "small", "end")
  if not day.keep:
   return
  end = self._x(day.end - day.keep[-1].time)
  self._parts.append(f'<path class="row" d="M{_LEFT} {y:g}H{end:g}"/>')
  for begin, stop in self._wide(day):
   self._parts.append(f'<path class="gap" d="M{begin:g} {y:g}H{stop:g}"/>')
  index = {tier.name: str(number) for number, tier in enumerate(self._tiers)}
  for kept in reversed(day.keep):
   self._mark(self._x(day.end - kept.time), y, index.get(kept.tier, "o"))
 def _wide(self, day):
  scenario = self._simulation.scenario
  slack = scenario.jitter + timedelta(minutes=1)
  newest = day.end - day.keep[0].time
  if newest > scenario.every + slack:
   yield float(_LEFT), self._x(newest)
  tiers: dict[str, Tier] = {tier.name: tier for tier in self._tiers}
  for newer, older in pairwise(day.keep):
   tier = tiers.get(older.tier)
   if tier is not None and newer.time - older.time > max(tier.every, scenario.every) + slack:
    yield self._x(day.end - newer.time), self._x(day.end - older.time)
 def _mark(self, x, y, kind):
  self._parts.append(f'<use href="#s{kind}" class="m{kind}" x="{x:g}" y="{y:g}"/>')
def _style(tiers):
 both = []
 for colours in (LIGHT, DARK):
  rules = [f"--{name}:{colours[name]}" for name in ("paper", "ink", "faint", "line", "gap")]
  rules += [f"--t{index}:{colours['tiers'][index % len(colours['tiers'])]}" for index in range(tiers)]
  both.append("svg{" + ";".join(rules) + "}")
 return (
  f"{both[0]}@media (prefers-color-scheme:dark){{{both[1]}}}"
  "text{font:13px system-ui,'Segoe UI','DejaVu Sans',sans-serif;fill:var(--ink)}"
  ".title{font-size:18px;font-weight:600}.strong{font-weight:600}.faint{fill:var(--faint)}"
  ".small{font-size:11px;fill:var(--faint)}.paper{fill:var(--paper)}"
  ".grid{stroke:var(--line)}.row{stroke:var(--line);stroke-width:2}"
  ".gap{stroke:var(--gap);stroke-width:4;stroke-dasharray:6 2}"
  + "".join(f".m{index}{{fill:var(--t{index})}}" for index in range(tiers))
  + ".mo{stroke:var(--ink)}"
 )
