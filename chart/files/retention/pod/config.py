"""What configures a run: `<database>.conf`, the policies beside it, and the results that the dump container left."""

from dataclasses import dataclass
from pathlib import Path

from retention.errors import ConfigError, PolicyError
from retention.keyvalue import Result, _pairs, parse_result
from retention.names import is_database
from retention.rule.policy import Limits, Policy
from retention.volume.folder import SMALL_FILE, volume_error

_SINGLE_KEYS = frozenset(
    {
        "database",
        "cluster",
        "namespace",
        "dbname",
        "host",
        "standby_host",
        "port",
        "sslmode",
        "username",
        "compression",
        "timeout",
        "wait_timeout",
        "lock_timeout",
        "lock_wait_timeout",
        "retries",
        "allow_empty",
        "count_rows",
        "on_shrink",
        "allow_large_prune",
        "large_prune_percent",
        "max_bytes",
        "min_backups",
        "most_backups",
    }
)


_MANY_KEYS = frozenset({"extra_arg"})


_ALL_SUFFIX = ".conf"


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """What `finish` needs to know about a database.

    Attributes:
        database: The name of its directory and the prefix of its files.
        cluster: The cluster it belongs to, for messages.
        namespace: The cluster's namespace, for messages.
        lock_timeout: Seconds to wait for the lock on the volume.
        allow_empty: Whether an archive without any table counts.
        fail_on_shrink: Whether an archive of less than half the last one's tables or bytes is a failure.
        allow_large_prune: Whether a prune of more than 3 backups and more than the limits say may go ahead.
        limits: What stands around its policy.
    """

    database: str
    cluster: str
    namespace: str
    lock_timeout: int
    allow_empty: bool
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
        with path.open("rb") as file:
            content = file.read(SMALL_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        told = volume_error(error, str(path))
        raise ConfigError(told.problem, told.remedy) from None
    except ValueError as error:
        raise ConfigError(f"{str(path)!r}: {error}", "check the path") from None
    if len(content) > SMALL_FILE:
        raise ConfigError(f"{path}: larger than {SMALL_FILE} bytes", "check that this is the right file")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}", "write it in UTF-8") from None


def databases_in(directory: Path) -> list[str]:
    """Return the names of the databases that a directory configures, sorted.

    Raises:
        ConfigError: When it cannot be read, or configures none.
    """
    try:
        names = sorted(path.name for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as error:
        told = volume_error(error, str(directory))
        raise ConfigError(told.problem, told.remedy) from None
    databases = [name.removesuffix(_ALL_SUFFIX) for name in names if name.endswith(_ALL_SUFFIX)]
    if not databases:
        raise ConfigError(f"{directory}: there is no <database>.conf in it", "check --config and what is mounted there")
    return databases


def read_database(directory: Path, database: str) -> DatabaseConfig:
    """Return the configuration of one database.

    Raises:
        ConfigError: Naming the file, the key and what it should be.
    """
    path = directory / f"{database}{_ALL_SUFFIX}"
    values = _single_values(path)
    for key in sorted(_SINGLE_KEYS - values.keys()):
        raise ConfigError(f"{path}: {key} is missing", "every key has to be there; render the chart again")
    if values["database"] != database or not is_database(database):
        raise ConfigError(
            f"{path}: database is {values['database']!r}", "it has to equal the file's stem and be a safe name"
        )
    return DatabaseConfig(
        database=database,
        cluster=values["cluster"],
        namespace=values["namespace"],
        lock_timeout=_seconds(path, "lock_timeout", values["lock_timeout"]),
        allow_empty=_choice(path, "allow_empty", values["allow_empty"], {"false": False, "true": True}),
        fail_on_shrink=_choice(path, "on_shrink", values["on_shrink"], {"warn": False, "fail": True}),
        allow_large_prune=_choice(
            path, "allow_large_prune", values["allow_large_prune"], {"false": False, "true": True}
        ),
        limits=_limits(path, values),
    )


def _limits(path: Path, values: dict[str, str]) -> Limits:
    numbers = {key: _number(path, key, values[key]) for key in ("large_prune_percent", "max_bytes", "min_backups")}
    try:
        return Limits(numbers["large_prune_percent"], numbers["max_bytes"] or None, numbers["min_backups"])
    except PolicyError as error:
        raise ConfigError(f"{path}: {error.problem}", error.remedy) from None


def read_policy(directory: Path, database: str) -> Policy:
    """Return the policy of one database: its own, or the one of all.

    Raises:
        ConfigError: When there is none, or it is wrong (a PolicyError then).
    """
    for name in (f"{database}.policy.json", "policy.json"):
        path = directory / name
        text = _read(path)
        if text is not None:
            return Policy.from_json(text, str(path))
    raise ConfigError(
        f"{directory}: there is no policy.json in it", "render the chart again; without it nothing is pruned"
    )


def read_result(path: Path) -> Result | None:
    """Return the result that the dump container left for a database, or None when it left none.

    Raises:
        ConfigError: When it cannot be read or understood.
    """
    text = _read(path)
    return None if text is None else parse_result(text, str(path))


def _single_values(path: Path) -> dict[str, str]:
    values: dict[str, str] = {}
    for key, value in _pairs(read_text(path), str(path)):
        if key in _MANY_KEYS:
            continue
        if key not in _SINGLE_KEYS:
            raise ConfigError(f"{path}: unknown key {key!r}", "check that chart and scripts are of one version")
        if key in values:
            raise ConfigError(f"{path}: {key} occurs twice", "keep one of them")
        values[key] = value
    return values


def _seconds(path: Path, key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ConfigError(f"{path}: {key} is {text!r}", "give a whole number of seconds")
    return int(text)


def _number(path: Path, key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ConfigError(f"{path}: {key} is {text!r}", "give a whole number")
    return int(text)


def _choice(path: Path, key: str, text: str, choices: dict[str, bool]) -> bool:
    if text not in choices:
        raise ConfigError(f"{path}: {key} is {text!r}", f"give one of {', '.join(choices)}")
    return choices[text]
