# Without comments: they are in the project's file of this name.
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from retention.errors import ConfigError, PolicyError
from retention.keyvalue import KeyValues, parse
from retention.names import is_database
from retention.rule.policy import Limits, Policy
from retention.volume.folder import SMALL_FILE, close_quietly, volume_error
_SUFFIX = ".conf"
_ENTRY_SUFFIX = ".all"
EMPTY_REMEDY = "if that is right, set allowEmpty: true for the database"
_RENDER_AGAIN = "render the chart again: it writes every key"
@dataclass(frozen=True, slots=True)
class DatabaseConfig:
 database: str
 cluster: str
 namespace: str
 lock_timeout: int
 may_be_empty: bool
 fail_on_shrink: bool
 allow_large_prune: bool
 limits: Limits
def read_text(path):
 text = _read(path)
 if text is None:
  raise ConfigError(f"{path}: there is no such file", "check the path")
 return text
def _read(path):
 try:
  fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
  try:
   if not stat.S_ISREG(os.fstat(fd).st_mode):
    raise ConfigError(f"{path}: not a regular file", "check what is mounted there, or move it away")
   content = b""
   while len(content) <= SMALL_FILE and (chunk := os.read(fd, SMALL_FILE + 1 - len(content))):
    content += chunk
  finally:
   close_quietly(fd)
 except FileNotFoundError:
  return None
 except OSError as error:
  refusal = volume_error(error, str(path))
  raise ConfigError(refusal.problem, refusal.remedy) from None
 except ValueError as error:
  raise ConfigError(f"{str(path)!r}: {error}", "check the path") from None
 if len(content) > SMALL_FILE:
  raise ConfigError(f"{path}: larger than {SMALL_FILE} bytes", "check that this is the right file")
 try:
  return content.decode()
 except UnicodeDecodeError as error:
  raise ConfigError(f"{path}: not UTF-8 at byte {error.start}", "write it in UTF-8") from None
def databases_in(directory):
 names = _names_in(directory)
 databases = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
 if not databases and not any(name.endswith(_ENTRY_SUFFIX) for name in names):
  raise ConfigError(
   f"{directory}: there is no <database>.conf in it", "check --config, and what is mounted there"
  )
 return databases
def entries_in(directory):
 return [name.removesuffix(_ENTRY_SUFFIX) for name in _names_in(directory) if name.endswith(_ENTRY_SUFFIX)]
def entry_of(database):
 return database.partition(".")[0]
def concerned_by(directory):
 databases, entries = frozenset(databases_in(directory)), frozenset(entries_in(directory))
 return lambda database: database in databases or ("." in database and entry_of(database) in entries)
def _names_in(directory):
 try:
  return sorted(path.name for path in directory.iterdir() if not path.name.startswith("."))
 except OSError as error:
  refusal = volume_error(error, str(directory))
  raise ConfigError(refusal.problem, refusal.remedy) from None
def read_database(directory, database):
 path, expected = directory / f"{database}{_SUFFIX}", database
 text, entry = _read(path), entry_of(database)
 if text is None and "." in database:
  of_entry = directory / f"{entry}{_ENTRY_SUFFIX}"
  if (text := _read(of_entry)) is not None:
   path, expected = of_entry, entry
 values = parse(read_text(path) if text is None else text, str(path))
 named = values.require("database", _RENDER_AGAIN)
 if named != expected or not is_database(database):
  raise ConfigError(
   f"{path}: database is {named!r}", "it has to equal the name of the file and be a safe directory name"
  )
 yes_or_no = {"false": False, "true": True}
 return DatabaseConfig(
  database=database,
  cluster=values.require("cluster", _RENDER_AGAIN),
  namespace=values.require("namespace", _RENDER_AGAIN),
  lock_timeout=_number(values, "lock_timeout", "give a whole number of seconds"),
  may_be_empty=_choice(values, "allow_empty", yes_or_no),
  fail_on_shrink=_choice(values, "on_shrink", {"warn": False, "fail": True}),
  allow_large_prune=_choice(values, "allow_large_prune", yes_or_no),
  limits=_limits(values),
 )
def _limits(values):
 percent, most_bytes, least = (
  _number(values, key, "give a whole number") for key in ("large_prune_percent", "max_bytes", "min_backups")
 )
 try:
  return Limits(percent, most_bytes or None, least)
 except PolicyError as error:
  raise ConfigError(f"{values.source}: {error.problem}", error.remedy) from None
def _number(values, key, remedy):
 text, number = values.require(key, _RENDER_AGAIN), values.number(key)
 if number is None:
  raise ConfigError(f"{values.source}: {key} is {text!r}", remedy)
 return number
def _choice(values, key, choices):
 text = values.require(key, _RENDER_AGAIN)
 if text not in choices:
  raise ConfigError(f"{values.source}: {key} is {text!r}", f"give one of {', '.join(choices)}")
 return choices[text]
def read_policy(directory, database):
 own = [f"{database}.policy.json", "policy.json"]
 entry = entry_of(database)
 if "." in database and _read(directory / f"{entry}{_ENTRY_SUFFIX}") is not None:
  own[0] = f"{entry}.policy.json"
 for name in own:
  path = directory / name
  text = _read(path)
  if text is not None:
   return Policy.from_json(text, str(path))
 raise ConfigError(
  f"{directory}: there is no policy.json in it", "render the chart again; without it nothing is pruned"
 )
def read_result(path):
 text = _read(path)
 return None if text is None else parse(text, str(path))
