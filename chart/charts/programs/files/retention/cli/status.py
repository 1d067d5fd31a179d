# Without comments: they are in the project's file of this name.
import argparse
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from retention.cli.common import (
 DIRECTORY,
 Commands,
 add_command,
 add_format,
 now_of,
 print_error,
 print_json,
 real_path,
 visit_databases,
)
from retention.errors import ExitCode, VolumeError
from retention.names import STATUS, Kind, is_database
from retention.pod import outlook, report, status
from retention.rule.backup import Scan, dated_after, seconds_ahead
from retention.text import format_age, format_size, shown, table
from retention.volume import unfinished
from retention.volume.directory import Directory
from retention.volume.folder import Folder
def add(commands):
 command = add_command(commands, "status", _status, "Show the backups of each database and how its last run ended.")
 command.add_argument("path", metavar="PATH", help=DIRECTORY)
 add_format(command, "text", "json")
def _status(options):
 now = now_of(options)
 def work(directory):
  found = directory.scan()
  return found, unfinished.find(directory.folder, found, now)
 visit = visit_databases(options, work)
 space = _space(options.path)
 last = _last_runs(options.path, is_root=visit.is_root)
 entries = [_entry(found, left, last.get(found.database), now) for found, left in visit.results]
 if visit.is_root:
  there = {found.database for found, _ in visit.results}
  entries += [_entry(Scan(name), [], last[name], now) for name in sorted(last) if name not in there]
 if options.format == "json":
  print_json(visit.shaped([{**entry, **space} for entry in entries]))
 else:
  _print_status(entries)
 results = {entry["result"] for entry in entries}
 if visit.code or report.FAILED in results or any(entry["ahead_seconds"] for entry in entries):
  return ExitCode.FAILED
 return ExitCode.REFUSED if report.REFUSED in results else ExitCode.DONE
def _space(path):
 try:
  with Folder.open(real_path(path)) as folder:
   capacity, used = folder.space()
 except VolumeError as error:
  print_error(str(error))
  return {"volume_bytes": None, "volume_used_bytes": None}
 return {"volume_bytes": capacity, "volume_used_bytes": used}
def _last_runs(path, *, is_root):
 real = real_path(path)
 try:
  with Folder.open(real if is_root else real.parent) as root:
   content = status.read(root)
 except VolumeError as error:
  print_error(str(error))
  return {}
 databases = {} if content is None else status.parse(content)
 if databases is None:
  print_error(f"{real / STATUS}: cannot be understood; the next run replaces it")
  return {}
 return {name: entry for name, entry in databases.items() if is_database(name) and isinstance(entry, dict)}
def _entry(
 found, left, last, now
):
 newest = next((backup for backup in found.backups if backup.time <= now), None)
 last = last or {}
 bad = [*(f"{base}{Kind.BAD.value}" for base in found.bad), *(finding.name for finding in found.damaged)]
 warnings = _texts(last.get("warnings"))
 drilled = last.get("drill")
 drilled = drilled if isinstance(drilled, dict) else None
 failed = bad or (drilled is not None and drilled.get("result") == "failed")
 result = report.FAILED if failed else str(last.get("result", "unknown"))
 more = [f"{finding.name} is {finding.reason}" for finding in found.incomplete]
 if left:
  size = format_size(sum(one.bytes or 0 for one in left))
  more.append(
   f"{len(left)} files ({size}) of dumps that began over a day ago and were never published; "
   f"if no CronJob backs it up any more, remove them: python3 -m retention clean /backups/{found.database}"
  )
 future = dated_after(found.backups, now)
 if future and not any("dated after now" in text for text in warnings):
  more.insert(0, f"{future}; check the clocks of the nodes")
 if (more or future) and result == report.OK:
  result = report.WARNING
 return {
  "database": found.database,
  "result": result,
  "newest": None if newest is None else newest.name,
  "newest_age_seconds": None if newest is None else (now - newest.time) // timedelta(seconds=1),
  "backups": len(found.backups),
  "bytes": sum(backup.bytes for backup in found.backups),
  "pinned": sum(backup.pin is not None and backup.pin.holds(now) for backup in found.backups),
  "future": sum(backup.time > now for backup in found.backups),
  "ahead_seconds": seconds_ahead(found.backups, now),
  "staged": len(found.staged),
  "bad": bad,
  "last_run": _text(last.get("last_run")),
  "last_success": _text(last.get("last_success")),
  "problems": _problems(last.get("problems")),
  "refused": _text(last.get("refused")),
  "warnings": [*more, *(text for text in warnings if text not in more)],
  "drill": drilled,
  "restore": last.get("restore"),
 }
def _text(found):
 return None if found is None else str(found)
def _texts(found):
 if found is None:
  return []
 return [str(one) for one in found] if isinstance(found, list) else [str(found)]
def _problems(found):
 problems = []
 for one in found if isinstance(found, list) else [] if found is None else [found]:
  facts = one if isinstance(one, dict) else {"problem": one}
  problems.append({key: str(facts.get(key) or "") for key in ("problem", "remedy")})
 return problems
def _print_status(entries):
 rows = []
 for entry in entries:
  age = entry["newest_age_seconds"]
  rows.append(
   (
    entry["database"],
    entry["result"],
    "none" if age is None else format_age(timedelta(seconds=age)),
    str(entry["backups"]),
    format_size(entry["bytes"]),
    str(entry["pinned"]),
    str(entry["last_run"] or "never"),
    _last_drill(entry["drill"]),
    outlook.word(entry["restore"]),
    _why(entry),
   )
  )
 header = ("DATABASE", "RESULT", "NEWEST", "BACKUPS", "SIZE", "PINNED", "LAST RUN", "DRILL", "RESTORE", "WHY")
 print(table(header, rows))
 for entry in entries:
  text = outlook.sentence(entry["restore"])
  if text and outlook.word(entry["restore"]) != "beside":
   print(shown(f"{entry['database']}: {text}"))
def _last_drill(drilled):
 return "never" if drilled is None else shown(f"{drilled.get('result')} {str(drilled.get('at'))[:10]}")
def _why(entry):
 if entry["bad"]:
  return f"bad archives: {', '.join(entry['bad'])}"
 drilled = entry["drill"]
 if drilled is not None and drilled.get("result") == "failed":
  return shown(f"the drill failed: {drilled.get('problem')}; {drilled.get('remedy')}")
 problems = [shown("; ".join(filter(None, problem.values()))) for problem in entry["problems"]]
 first = [*problems[:1], *([shown(str(entry["refused"]))] if entry["refused"] else [])]
 return "; ".join(first or [shown(str(text)) for text in entry["warnings"]][:1])
