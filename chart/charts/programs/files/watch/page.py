# Without comments: they are in the project's file of this name.
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html import escape
from retention.text import format_age, format_size, shown
from watch import marks
from watch.notices import Place
from watch.problems import CRITICAL, Problem, moment
from watch.standing import Database, worst_first
STATES = ("failed", "late", "refused", "unknown", "warning", "ok")
_SHAPES = {
 "ok": "<circle cx='8' cy='8' r='6.5'/>",
 "warning": "<path d='M8 1 15.5 15H.5z'/>",
 "refused": "<path d='M8 0 16 8 8 16 0 8z'/>",
 "failed": "<path d='M3.5 0 8 4.5 12.5 0 16 3.5 11.5 8 16 12.5 12.5 16 8 11.5 3.5 16 0 12.5 4.5 8 0 3.5z'/>",
 "late": "<path d='M2 0h12v16H2zM5 3v10h6V3z'/>",
 "unknown": "<path d='M0 6h16v4H0z'/>",
}
LIGHT = {
 "paper": "#ffffff", "ink": "#1d2129", "faint": "#56606e", "line": "#d5dae1", "link": "#1f4fc4",
 "ok": "#1a6b3c", "warning": "#8a6a00", "refused": "#7d3bb0", "failed": "#c4123f", "late": "#b04a00",
 "unknown": "#56606e",
}
DARK = {
 "paper": "#10151c", "ink": "#e9eef5", "faint": "#9aa6b5", "line": "#2d3642", "link": "#8fb0ff",
 "ok": "#6fdc98", "warning": "#e8b730", "refused": "#cf9cf5", "failed": "#ff7b95", "late": "#ff9d5c",
 "unknown": "#9aa6b5",
}
LIVE = "live"
_REFRESH = timedelta(seconds=60)
_OLD = timedelta(minutes=5)
_MOST_PROBLEMS = 20
@dataclass(frozen=True, slots=True)
class Page:
 place: Place
 made: datetime
 read: datetime | None
 databases: Sequence[Database]
 problems: Sequence[Problem]
 volume: Mapping[str, float] = field(default_factory=dict)
 claim: str = ""
 out_of_date: str | None = None
 served: bool = True
 live: bool = False
 archives: Mapping[str, str] = field(default_factory=dict)
 note: str = ""
 version: str = ""
def text(found):
 return escape(shown(str(found)))
def headline(page):
 if page.read is None:
  return "Nothing is known yet"
 if not page.databases:
  return "No database is known"
 count = len(page.databases)
 named = {one.name for one in page.databases}
 wrong = [problem for problem in page.problems if problem.subject in named]
 if page.out_of_date is not None:
  return "This page is out of date"
 if wrong:
  first = wrong[0].subject
  if count == 1:
   return f"{first} has a problem"
  return f"{len(wrong)} of {count} databases {'has' if len(wrong) == 1 else 'have'} a problem; the worst: {first}"
 newest = [one.record.newest for one in page.databases if one.record is not None and one.record.newest is not None]
 unsure = sum(one.state not in ("ok", "warning") for one in page.databases)
 if unsure or not newest:
  return f"Of {unsure or count} of {count} databases it is not known how their backups are"
 age = format_age(max(page.made - min(newest), timedelta(0)))
 if count == 1:
  return f"The database is backed up; its newest backup is {age} old"
 return f"All {count} databases are backed up; the oldest of their newest backups is {age} old"
def _state(page):
 if page.read is None or page.out_of_date is not None or not page.databases:
  return "unknown"
 states = [_known(one.state) for one in page.databases]
 worst = min(states, key=STATES.index)
 bad = any(problem.severity == CRITICAL for problem in page.problems)
 return worst if not page.problems or worst not in ("ok", "warning") else "failed" if bad else "warning"
def _known(state):
 return state if state in STATES else "unknown"
def render(page):
 state = _state(page)
 drawn = marks.draw({one.name: one.past for one in page.databases}, page.made)
 title = text(f"{headline(page)} · {page.place.short()}")
 icon = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16' fill='{LIGHT[state]}'>{_SHAPES[state]}</svg>"
 refresh = f'<meta http-equiv="refresh" content="{_REFRESH.seconds}">' if page.live else ""
 symbols = "".join(f'<symbol id="{name}" viewBox="0 0 16 16">{shape}</symbol>' for name, shape in _SHAPES.items())
 return "\n".join(
  [
   '<!doctype html><html lang="en"><head><meta charset="utf-8">',
   '<meta name="viewport" content="width=device-width,initial-scale=1">',
   '<meta name="color-scheme" content="light dark">',
   f'{refresh}<link rel="icon" href="data:image/svg+xml,{escape(_quoted(icon))}">',
   f"<title>{title}</title><style>{_style(page, drawn)}</style></head><body>",
   f'<svg width="0" height="0" aria-hidden="true" class="d">{symbols}</svg><main>',
   f"<h1>{_mark(state)} {text(headline(page))}</h1>",
   *_top(page),
   *_problems(page),
   *_table(page, drawn),
   *_volume(page),
   *_bottom(page, drawn),
   "</main></body></html>",
   "",
  ]
 )
def _quoted(found):
 return found.replace("%", "%25").replace("#", "%23").replace("<", "%3C").replace(">", "%3E")
def _mark(state):
 state = _known(state)
 return f'<svg class="m {state}" aria-hidden="true"><use href="#{state}"/></svg>'
def _top(page):
 read = "never" if page.read is None else moment(page.read)
 lines = [
  f"<p>{text(page.place.text()).capitalize()}. As of <b>{read}</b>; the page was made at {moment(page.made)}."
 ]
 if not page.served:
  more = "It is a file, and does not change."
 elif page.live:
  more = 'It renews itself every minute; <a href="./">stop that</a>.'
 else:
  more = f'<a href="{LIVE}">Renew it every minute</a>.'
 lines[-1] += f" {more}</p>"
 if page.out_of_date is not None:
  lines.append(f'<p class="n"><b>Out of date:</b> {text(page.out_of_date)}.</p>')
 if page.served:
  lines.append('<p class="n o"><b>Out of date:</b> this page is some minutes old; load it again.</p>')
 return lines
def _problems(page):
 if not page.problems:
  return []
 lines = ["<h2>What is wrong</h2><ul>"]
 for problem in page.problems[:_MOST_PROBLEMS]:
  runbook = page.place.runbook(problem.alert)
  if problem.remedy:
   link = f"{text(problem.remedy)}."
  elif page.place.runbooks:
   link = f'<a href="{text(runbook)}">{text(problem.alert)}</a>'
  else:
   link = f"<code>{text(runbook)}</code>"
  facts = text(" ".join(problem.facts))
  lines.append(f"<li><b>{text(problem.subject)}</b> {text(problem.what)}. {facts} What to do: {link}</li>")
 more = len(page.problems) - _MOST_PROBLEMS
 lines.append(f"</ul><p>… and {more} more, in the table.</p>" if more > 0 else "</ul>")
 return lines
_COLUMNS = ("Database", "State", "Newest backup", "Kept", "Last drill", "Next run")
def _table(page, drawn):
 if page.read is None or not page.databases:
  return []
 head = "".join(f"<th role=columnheader scope=col>{name}" for name in _COLUMNS)
 rows = [_row(one, page, drawn) for one in worst_first(page.databases)]
 return [
  "<h2 id=t>Databases</h2><table role=table aria-labelledby=t><thead role=rowgroup>",
  f"<tr role=row>{head}</thead><tbody role=rowgroup>",
  *rows,
  "</tbody></table>",
  *([f"<p><small>{text(page.note)}</small></p>"] if page.note else ()),
 ]
def _row(one, page, drawn):
 state = _known(one.state)
 record, drilled = one.record, one.drilled
 numbers = record.numbers if record is not None else {}
 where = f"{one.cluster_namespace}/{one.cluster}" if one.cluster else ""
 why = one.why if state not in ("ok",) else ""
 kept = ""
 if "kept" in numbers:
  size = f", {format_size(int(numbers['total']))}" if "total" in numbers else ""
  pinned = f", {int(numbers['pinned'])} pinned" if numbers.get("pinned") else ""
  kept = f"{int(numbers['kept'])}{size}{pinned}"
 drill = "none seen"
 if drilled is not None:
  took = f", restored in {_span(drilled.restore_seconds)}" if drilled.restore_seconds is not None else ""
  when = drilled.proved or drilled.judged[0]
  word = {"proved": "proved", "failed": "failed", "none": "nothing to drill"}.get(drilled.result, "not known")
  last = f"; last proved {format_age(page.made - when)} ago{took}" if drilled.proved else ""
  drill = f"{word}{last}"
 due = "suspended" if one.suspended else moment(one.next_run) if one.next_run is not None else "not known"
 cells = (
  ("", f"<b>{text(one.name)}</b>" + (f"<br><small>{text(where)}</small>" if where else "")),
  ("", f"{_mark(state)} {state}" + (f"<br><small>{text(why)}</small>" if why else "")),
  (_COLUMNS[2], _newest(one, page.made)),
  (_COLUMNS[3], kept or "not known"),
  (_COLUMNS[4], text(drill)),
  (_COLUMNS[5], due),
 )
 row = "".join(
  f"<td role=cell{f' data-l={chr(34)}{label}{chr(34)}' if label else ''}>{cell}" for label, cell in cells
 )
 archives = drawn.pictures.get(one.name, "") + page.archives.get(one.name, "")
 more = f"<tr role=row class=a><td role=cell colspan={len(_COLUMNS)}>{archives}" if archives else ""
 return f"<tr role=row>{row}{more}"
def _newest(one, now):
 record = one.record
 if record is None or (record.newest is None and record.looked is None):
  return "not known"
 if record.newest is None:
  return "none"
 age, limit = max(now - record.newest, timedelta(0)), one.stale_after
 size = record.numbers.get("bytes")
 words = f"{format_age(age)} old" + (f", {format_size(int(size))}" if size is not None else "")
 if not limit:
  return words
 share = min(age / limit * 60, 90)
 label = f"{format_age(age)} old; more than {format_age(limit)} is too old"
 return (
  f'{words}<svg class="b{" x" if age > limit else ""}" viewBox="0 0 90 8" role=img aria-label="{label}">'
  f'<path d="M0 1h{share:.0f}v6H0z"/><path class=l d="M60 0v8"/></svg>'
 )
def _span(seconds):
 return f"{seconds} s" if seconds < 120 else format_age(timedelta(seconds=seconds))
def _volume(page):
 volume = page.volume
 capacity = volume.get("capacity")
 if page.read is None or not capacity:
  return []
 used, full, growth = (volume.get(key) for key in ("used", "full", "growth"))
 parts = [f"{format_size(int(capacity))} in all"]
 marks = ""
 if used is not None:
  parts.insert(0, f"{format_size(int(used))} used")
  marks += f'<path d="M0 1h{min(used / capacity, 1) * 90:.0f}v6H0z"/>'
 if full is not None:
  parts.append(f"{format_size(int(full))} needed once all tiers are full")
  marks += f'<path class=l d="M{min(full / capacity * 90, 89.5):.1f} 0v8"/>'
 if growth and full is not None and growth > 0 and capacity > full:
  days = (capacity - full) / growth / 86400
  parts.append(f"too small in {days:.0f} days at the present growth" if days < 3650 else "big enough for years")
 elif full is not None and full > capacity:
  parts.append("too small")
 bad = " x" if full is not None and full > capacity else ""
 words = text("; ".join(parts))
 claim = f" {text(page.claim)}" if page.claim else ""
 label = f'role=img aria-label="{words}"'
 return [
  f"<h2>Volume{claim}</h2><p>{words}.</p>",
  f'<svg class="b w{bad}" viewBox="0 0 90 8" preserveAspectRatio=none {label}>{marks}</svg>',
 ]
def _bottom(page, drawn):
 place = page.place
 where = f"-n {place.namespace} --release {place.release}"
 example = next(iter(sorted(one.name for one in page.databases)), "DATABASE")
 legend = " ".join(f"<li>{_mark(state)} {word}</li>" for state, word in _LEGEND)
 return [
  "<h2>If you need a restore</h2>",
  f"<p><code>kubectl cnpg-backup restore {text(example)} {text(where)}</code></p>",
  "<p>It says what it will do, and asks before it does it.</p>",
  f"<h2>States</h2><ul class=k>{legend}</ul>",
  _past(drawn),
  f"<p><small>cnpg-backup {text(page.version)}. {_SERVED if page.served else _FILE}</small></p>",
 ]
def _past(drawn):
 if not drawn.pictures:
  return ""
 days = f", and bars for the last {drawn.days} days, the higher the worse" if drawn.days else ""
 return (
  f"<h2>Runs and days</h2><p>Below each database are marks for its last {drawn.runs} runs, the oldest first"
  f"{days}. Where there is a gap, no run was seen.</p><ul class=k>{marks.legend()}</ul>"
 )
_SERVED = "This is a report of the runs, and not a proof: <code>kubectl cnpg-backup status</code> reads the volume."
_FILE = "It was read from the volume, which may have changed since then."
_LEGEND = (
 ("ok", "ok: backed up, and read back"),
 ("warning", "warning: backed up, and something deserves a look"),
 ("refused", "refused: backed up, but old backups are not deleted"),
 ("late", "late: the newest backup is too old"),
 ("failed", "failed: the last run, or the last drill, failed"),
 ("unknown", "unknown: nobody has seen how it is"),
)
def _style(page, drawn):
 def colours(palette):
  return "".join(f"--{name}:{value};" for name, value in palette.items())
 states = "".join(f".{state}{{--c:var(--{state});fill:var(--c)}}" for state in STATES)
 return (
  f":root{{color-scheme:light dark;{colours(LIGHT)}}}"
  f"@media(prefers-color-scheme:dark){{:root{{{colours(DARK)}}}}}{states}{_RULES}"
  f"{_ARCHIVES if page.archives else ''}{marks.STYLE if drawn.pictures else ''}"
 )
_ARCHIVES = """
.t{display:block;width:100%;max-width:600px;height:24px;overflow:visible}
.t path{fill:none;stroke:var(--ink);stroke-width:9}
.t .g{stroke:var(--line);stroke-width:1}.t .r{stroke-linecap:round}.t .q{stroke-linecap:square}
.t .v{stroke:var(--ok);stroke-width:3}.t .h{stroke-width:2}
.a li{color:var(--faint)}
""".strip().replace("\n", "")
_RULES = (
 """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.45 system-ui,sans-serif}
main{max-width:1200px;margin:0 auto;padding:1rem}
h1{font-size:1.5rem;overflow-wrap:anywhere}h2{font-size:1.15rem;margin:1.6rem 0 .4rem}
a{color:var(--link)}
small,.k{color:var(--faint)}
code,td,li,p,small{overflow-wrap:anywhere}
ul{padding-left:1.2rem}.k{list-style:none;padding:0}
.d{position:absolute}symbol path,symbol circle{fill-rule:evenodd}
.m{width:1em;height:1em;vertical-align:-.12em;forced-color-adjust:auto}
.n{border:2px solid var(--failed);padding:.5rem}
.o{visibility:hidden;height:0;margin:0;padding:0;border:0;overflow:hidden;animation:o 0s %ss forwards}
@keyframes o{to{visibility:visible;height:auto;padding:.5rem;border:2px solid var(--failed)}}
table{border-collapse:collapse;width:100%%}
th,td{text-align:left;vertical-align:top;padding:.45rem .6rem .45rem 0;border-top:1px solid var(--line)}
th{color:var(--faint);font-weight:600;border:0}
.a td{border:0;padding-top:0}
.b{display:block;width:90px;height:8px;fill:var(--ok);background:var(--line);margin-top:.3rem}
.b.x{fill:var(--failed)}.b.w{width:100%%;max-width:30rem;height:12px}
.l{stroke:var(--ink);stroke-width:1.5;vector-effect:non-scaling-stroke}
summary{cursor:pointer;color:var(--link)}
:focus-visible{outline:3px solid var(--link);outline-offset:2px}
@media(max-width:720px){thead{position:absolute;clip-path:inset(50%%);width:1px;height:1px;overflow:hidden}
table,tbody,tr,td{display:block}td{border:0;padding:.1rem 0}tr{border-top:1px solid var(--line);padding:.6rem 0}
.a{border:0;padding:0}[data-l]::before{content:attr(data-l) ": ";color:var(--faint)}}
@media(forced-colors:active){.m,.b{fill:CanvasText}.h *,.y *{stroke:CanvasText}.b{border:1px solid}}
@media print{.o{display:none}body{font-size:11px}tr{break-inside:avoid}}
""".strip().replace("\n", "")
 % int(_OLD.total_seconds())
)
