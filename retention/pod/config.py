"""Reads the files of a run that are not on the volume: `<database>.conf`, the policies, and the scripts' results."""

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
"""Ends the file of an entry that means all databases of a cluster; their directories are `<entry>.<…>`."""

EMPTY_REMEDY = "if that is right, set allowEmpty: true for the database"
"""What to do about an archive without a table."""

_RENDER_AGAIN = "render the chart again: it writes every key"


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """What the steps of a pod need to know about a database.

    Its file has more keys than these: those are read by dump.sh and ignored here.

    Attributes:
        database: The name of its directory and the prefix of its files.
        cluster: The cluster it belongs to, for messages.
        namespace: The cluster's namespace, for messages.
        lock_timeout: Seconds to wait for the lock on the volume.
        may_be_empty: Whether an archive without any table counts.
        fail_on_shrink: Whether an archive of less than half the last one's tables or bytes is a failure.
        allow_large_prune: Whether a prune of more than 3 backups and more than the limits say may go ahead.
        limits: The safety limits around its policy.
    """

    database: str
    cluster: str
    namespace: str
    lock_timeout: int
    may_be_empty: bool
    fail_on_shrink: bool
    allow_large_prune: bool
    limits: Limits


def read_text(path: Path) -> str:
    """Return a configuration file's text.

    Raises:
        ConfigError: When it is missing, cannot be read, is too large, or is not UTF-8.
    """
    text = _read(path)
    if text is None:
        raise ConfigError(f"{path}: there is no such file", "check the path")
    return text


def _read(path: Path) -> str | None:
    try:
        # Kubernetes mounts these files as links. A pipe or a device in the place of one must not block the reader.
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


def databases_in(directory: Path) -> list[str]:
    """Return the names of the databases that a directory configures by a file of their own, sorted.

    Raises:
        ConfigError: When it cannot be read, or configures nothing.
    """
    names = _names_in(directory)
    databases = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
    if not databases and not any(name.endswith(_ENTRY_SUFFIX) for name in names):
        raise ConfigError(
            f"{directory}: there is no <database>.conf in it", "check --config, and what is mounted there"
        )
    return databases


def entries_in(directory: Path) -> list[str]:
    """Return the names of the entries that mean all databases of a cluster, sorted.

    Raises:
        ConfigError: When the directory cannot be read.
    """
    return [name.removesuffix(_ENTRY_SUFFIX) for name in _names_in(directory) if name.endswith(_ENTRY_SUFFIX)]


def entry_of(database: str) -> str:
    """Return the entry that a directory belongs to if it is one of all databases of a cluster."""
    return database.partition(".")[0]


def concerned_by(directory: Path) -> Callable[[str], bool]:
    """Return whether a directory's configuration concerns a database, as a function of its name.

    Raises:
        ConfigError: When it cannot be read, or configures nothing.
    """
    databases, entries = frozenset(databases_in(directory)), frozenset(entries_in(directory))
    return lambda database: database in databases or ("." in database and entry_of(database) in entries)


def _names_in(directory: Path) -> list[str]:
    try:
        return sorted(path.name for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as error:
        refusal = volume_error(error, str(directory))
        raise ConfigError(refusal.problem, refusal.remedy) from None


def read_database(directory: Path, database: str) -> DatabaseConfig:
    """Return the configuration of one database: its own, or that of its entry.

    Raises:
        ConfigError: Naming the file, the key and what it should be.
    """
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


def _limits(values: KeyValues) -> Limits:
    percent, most_bytes, least = (
        _number(values, key, "give a whole number") for key in ("large_prune_percent", "max_bytes", "min_backups")
    )
    try:
        return Limits(percent, most_bytes or None, least)
    except PolicyError as error:
        raise ConfigError(f"{values.source}: {error.problem}", error.remedy) from None


def _number(values: KeyValues, key: str, remedy: str) -> int:
    text, number = values.require(key, _RENDER_AGAIN), values.number(key)
    if number is None:
        raise ConfigError(f"{values.source}: {key} is {text!r}", remedy)
    return number


def _choice(values: KeyValues, key: str, choices: dict[str, bool]) -> bool:
    text = values.require(key, _RENDER_AGAIN)
    if text not in choices:
        raise ConfigError(f"{values.source}: {key} is {text!r}", f"give one of {', '.join(choices)}")
    return choices[text]


def read_policy(directory: Path, database: str) -> Policy:
    """Return the policy of one database: its own, that of its entry, or the common one.

    Raises:
        ConfigError: When there is none, or it is wrong (a PolicyError then).
    """
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


def read_result(path: Path) -> KeyValues | None:
    """Return the result that a container of shell scripts left in a file, or None when it left none.

    Raises:
        ConfigError: When it cannot be read or understood.
    """
    text = _read(path)
    return None if text is None else parse(text, str(path))
