# Without comments: they are in the project's file of this name.
import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from retention.errors import ConfigError, LockedError, RetentionError, UsageError, VolumeError
from retention.keyvalue import format_lines
from retention.names import Grammar, Kind, base_of, file_name
from retention.rule.backup import Backup, Finding, Scan, dated_after
from retention.text import later, parse_moment, shown
from retention.volume import pins, verify
from retention.volume.directory import Directory
from retention.volume.folder import Folder
from retention.volume.sidecars import read_document
NEWEST, PINNED, PROVED = "newest", "pinned", "proved"
_BEFORE = "newest before "
WORDS = f"{NEWEST}, '{_BEFORE}2026-01-01T00:00Z', {PINNED}, {PROVED}, or an archive's name"
REQUEST_SUFFIX, FAILURE_SUFFIX = ".request", ".unchosen"
SLOT_SUFFIX = ".slot"
LOCK_SECONDS = 10
_RESTORE_PER_DUMP = 3
@dataclass(frozen=True, slots=True)
class Request:
 database: str
 backup: Backup
 facts: Mapping[str, str]
 def text(self):
  values = {
   "database": self.database,
   "base": self.backup.base,
   "bytes": str(self.backup.bytes),
   "sha256": self.backup.sha256,
   **self.facts,
  }
  return format_lines(values)
def select(found, wanted, *, now, is_proved = lambda _: False):
 words, moment = " ".join(wanted.split()), later(now, timedelta(microseconds=1))
 if words == NEWEST:
  candidates = [backup for backup in found.backups if backup.time <= now]
 elif words == PINNED:
  candidates = [backup for backup in found.backups if backup.pin is not None and backup.pin.holds(now)]
 elif words == PROVED:
  return _newest_proved(found, is_proved, now=now)
 elif words.startswith(_BEFORE):
  given = parse_moment(words.removeprefix(_BEFORE))
  if given is None:
   raise UsageError(f"{wanted!r}: not a date and time such as 2026-01-01T00:00Z", f"give {WORDS}")
  moment = given
  candidates = [backup for backup in found.backups if backup.time < moment]
 else:
  return _named(found, wanted.strip())
 unsound = newer_unsound(found, candidates[:1], before=moment)
 if words == PINNED:
  unsound = [finding for finding in unsound if finding.name in found.pinned]
 if unsound:
  name = candidates[0].name if candidates else ""
  raise RetentionError(
   f"{found.database}: {unsound[0].name} {'is newer and ' if name else ''}does not count: {unsound[0].reason}",
   f"nothing else was chosen in its place: to restore the newest sound one, give its name, --backup {name}"
   if name
   else unsound[0].remedy,
  )
 if not candidates and words == NEWEST and (there := dated_later(found, now=now)):
  raise AllDatedLaterError(f"{found.database}: {there}", DATED_LATER_REMEDY)
 if not candidates:
  raise RetentionError(f"{found.database}: no backup matches {words!r}", _what_is_there(found))
 return candidates[0]
def _newest_proved(found, is_proved, *, now):
 for backup in found.backups:
  if backup.time <= now and is_proved(backup):
   return backup
 raise RetentionError(
  f"{found.database}: no drill has proved any of its {len(found.backups)} backups",
  f"run one, and see what it reports: kubectl cnpg-backup drill {found.database}; or restore the newest backup",
 )
def newer_unsound(found, chosen, *, before):
 grammar, newer = Grammar(found.database), []
 for finding in (*found.damaged, *found.incomplete):
  parsed = grammar.parse(finding.name)
  if parsed is None or parsed.kind is not Kind.ARCHIVE or parsed.time >= before:
   continue
  if not chosen or parsed.time > chosen[0].time:
   newer.append(finding)
 return sorted(newer, key=lambda finding: finding.name, reverse=True)
def newer_bad(found, chosen, *, now):
 return [
  file_name(base, Kind.BAD) for base in found.bad if base > chosen.base and base <= base_of(found.database, now)
 ]
def dated_later(found, *, now):
 text = dated_after(found.backups, now)
 return f"{text}: not taken for the newest" if text else ""
DATED_LATER_REMEDY = "check the clocks of the nodes; to restore one of them, give its name"
class AllDatedLaterError(RetentionError):
 pass
def _named(found, name):
 name = name if name.endswith(Kind.ARCHIVE.value) else f"{name}{Kind.ARCHIVE.value}"
 for backup in found.backups:
  if backup.name == name:
   return backup
 bad = name.removesuffix(Kind.ARCHIVE.value) in found.bad
 reason = "it was judged bad" if bad else next((f.reason for f in found.not_counted() if f.name == name), "")
 raise RetentionError(
  f"{found.database}: {shown(name)} is not a backup{': ' if reason else ''}{reason}", _what_is_there(found)
 )
def _what_is_there(found):
 if not found.backups:
  return "the database has no backups: check that this is the right claim and the right database"
 newest, oldest = found.backups[0].name, found.backups[-1].name
 return f"{len(found.backups)} backups are available, from {oldest} to {newest}; give {WORDS}"
def protect(directory, backup, *, now, expires):
 reason = f"being restored by {directory.holder}"
 try:
  pins.protect(directory, backup.base, reason=reason, expires=expires, now=now)
 except (VolumeError, LockedError) as error:
  return f"the archive could not be pinned while it is restored: {error}"
 return ""
def check(directory, backup):
 (checked,) = verify.verify(directory, frozenset({backup.name}), done=lambda _: None)
 if checked.result == "good":
  if not directory.folder.exists(backup.name) and not directory.folder.lists(backup.name):
   raise RetentionError(f"{backup.name} was deleted while it was read", "choose again")
  return
 older = next((other.name for other in directory.scan().backups if other.time < backup.time), None)
 remedy = f"restore the one before it, {older}" if older else "there is no older backup; see `list` for newer ones"
 raise RetentionError(f"{checked.name} is {checked.result}: {checked.reason}", remedy)
def request(directory, backup):
 folder = directory.folder
 document = read_document(folder, file_name(backup.base, Kind.METADATA)) or {}
 facts = facts_of(document)
 seconds = (read_document(folder, file_name(backup.base, Kind.DRILL)) or {}).get("restore_seconds")
 if not isinstance(seconds, int):
  dumped = document.get("dump_seconds")
  seconds = max(1, dumped * _RESTORE_PER_DUMP) if isinstance(dumped, int) else None
 if seconds is not None:
  facts["expected_seconds"] = str(seconds)
 return Request(directory.database, backup, facts)
def facts_of(document):
 names = ("dbname", "server_version", "client_version", "tables", "rows", "database_bytes")
 return {key: str(document[key]) for key in names if isinstance(document.get(key), (str, int))}
@dataclass(frozen=True, slots=True)
class Sample:
 backups: list[Backup]
 unsound: list[Finding]
 warning: str
def sample(directory, *, now, chance):
 found = directory.scan()
 backups = [backup for backup in found.backups if backup.time <= now]
 chosen = [*backups[:1], *chance.sample(backups[1:], min(1, len(backups) - 1 if backups else 0))]
 unsound = newer_unsound(found, backups[:1], before=later(now, timedelta(microseconds=1)))
 warning = dated_later(found, now=now)
 if warning and not chosen:
  raise AllDatedLaterError(warning, "check the clocks of the nodes")
 return Sample(chosen, unsound, warning)
def longest_undrilled(entry, present, drills, most):
 never = datetime.min.replace(tzinfo=UTC)
 own = (name for name in present if name.startswith(f"{entry}."))
 return sorted(own, key=lambda name: (drills.get(name, never), name))[:most]
def write_slot(requests, slot, database):
 _write(requests, f"{slot}{SLOT_SUFFIX}", format_lines({"database": database}))
def write(requests, chosen):
 for one in chosen:
  _write(requests, f"{one.backup.base}{REQUEST_SUFFIX}", one.text())
def note_failure(requests, database, error):
 name = f"{database}{FAILURE_SUFFIX}"
 if error is not None:
  _write(requests, name, format_lines({"database": database, "error": error.problem, "remedy": error.remedy}))
  return
 with _in(requests) as folder:
  folder.remove(name)
def _write(requests, name, text):
 with _in(requests) as folder:
  folder.write(name, text.encode())
@contextlib.contextmanager
def _in(requests):
 try:
  with Folder.open(requests) as folder:
   yield folder
 except VolumeError as error:
  raise ConfigError(error.problem, error.remedy) from None
