"""Hands the archives of one database to the container of a drill that restores them, and takes its results.

Code of that database's owner may run in that container. So the container sees no volume as a whole, only the folder of
each that has the database's name, and nothing that it leaves there is believed before it was checked here.
"""

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from retention.errors import ConfigError, RetentionError, StoppedError, VolumeError
from retention.keyvalue import KeyValues, format_lines, parse
from retention.names import Kind, database_of_archive, file_name, is_database
from retention.pod import config
from retention.pod.choose import REQUEST_SUFFIX, SLOT_SUFFIX
from retention.text import format_size, parse_size
from retention.volume.checksum import digest
from retention.volume.folder import Folder, volume_error

RESULT_SUFFIX = ".drill"
PROVED, FAILED, DAMAGED, GONE, UNPROVED, NOT_REACHED = "proved", "failed", "damaged", "gone", "unproved", "not-reached"
NUMBERS = ("restore_seconds", "tables", "sequences", "rows", "indexes", "assertions")

FOLDERS = "databases"
"""Where each volume of the pod has a folder for each database: all that its container sees of that volume."""
OPEN = "open"
"""The folder that the container of `open` sees, whatever its database is called."""
ARCHIVES, CONFIGURATION = "archives", "config"
"""What a database's folder on the scratch volume holds at first: its archives, and its part of the configuration."""

_BEGAN, _PARAMETERS = "began", "drill.parameters"
_SERVER_BYTES = 640 * 1024 * 1024
"""What an empty server and its WAL need."""
MOST_GLOBALS = 16 * 1024 * 1024
"""The most bytes of a globals file that a drill reads."""
_REPORTED = frozenset({PROVED, FAILED, UNPROVED, NOT_REACHED})
"""The states that a container may report. Whether an archive is damaged or gone is seen here."""
_LONGEST, _MOST_WARNINGS = 800, 20
_VERSION = re.compile(r"[0-9A-Za-z.]{1,20}")


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of a drill's pod.

    Attributes:
        config: The configuration.
        results: The requests of `choose` and the results; a folder for each database's container.
        run: Files in memory; a folder for each database's container.
        scratch: The disk space of the throwaway servers; a folder for each database's container.
        scratch_size: How much that is, as Kubernetes writes it.
        seconds: How long all restores of the drill may take together.
    """

    config: Path
    results: Path
    run: Path
    scratch: Path
    scratch_size: str
    seconds: int


class NotHandedOverError(RetentionError):
    """Why an archive is not handed over, with the state of its result."""

    def __init__(self, problem: str, remedy: str, state: str = FAILED) -> None:
        super().__init__(problem, remedy)
        self.state = state


class Source(Protocol):
    """Where the archives are that a drill restores."""

    def give(self, request: KeyValues, base: str, target: Path, check_space: Callable[[], None]) -> int:
        """Put a requested archive into a folder, with the names of its roles, and return its size.

        Args:
            request: The request.
            base: Its archive's base.
            target: The folder, which is empty but for other archives.
            check_space: Raises where it does not fit into the scratch volume.

        Raises:
            RetentionError: When it cannot be given; a `NotHandedOverError` also says what is known of it then.
        """
        ...


def requested(results: Path) -> tuple[dict[str, str], list[RetentionError]]:
    """Return the requested bases, each with its database, and a warning for each file that is no request.

    Raises:
        ConfigError: When the directory cannot be read.
    """
    requests, strays = {}, []
    for name in _names(results):
        if not name.endswith(REQUEST_SUFFIX) or name.startswith("."):
            continue
        base = name.removesuffix(REQUEST_SUFFIX)
        database = database_of_archive(f"{base}{Kind.ARCHIVE.value}")
        if database is None:
            strays.append(RetentionError(f"{results / name}: not the name of a request", "`choose` did not write it"))
        else:
            requests[base] = database
    return requests, strays


def _is_there(path: Path) -> bool:
    """Whether there is such a name. One that cannot be looked at is there: reading it will say why."""
    try:
        path.lstat()
    except OSError as error:
        return error.errno != errno.ENOENT
    return True


def _names(directory: Path) -> list[str]:
    try:
        return sorted(path.name for path in directory.iterdir())
    except OSError as error:
        refusal = volume_error(error, str(directory))
        raise ConfigError(refusal.problem, refusal.remedy) from None


def slots(results: Path) -> dict[str, str]:
    """Return the database of each slot that has one in this drill.

    Raises:
        ConfigError: When the directory or a file in it cannot be read.
    """
    found = {}
    for name in _names(results):
        if name.endswith(SLOT_SUFFIX) and not name.startswith("."):
            values = config.read_result(results / name)
            if values is not None and is_database(database := values.text("database")):
                found[name.removesuffix(SLOT_SUFFIX)] = database
    return found


def gather(results: Path, log: Callable[[str], None]) -> dict[str, str]:
    """Take what the containers have left, and return the requested bases, each with its database.

    Raises:
        ConfigError: When the directory cannot be read or written.
    """
    collect(results)
    requests, strays = requested(results)
    for stray in strays:
        log(f"warning: {stray.problem}; {stray.remedy}")
    return requests


@dataclass(frozen=True, slots=True)
class Prepared:
    """The folders of the next container: its name in each volume, its part of the scratch volume, the seconds left."""

    seen: str
    own: Path
    seconds: int


def prepare(places: Places, database: str, seen: str, log: Callable[[str], None]) -> Prepared:
    """Take the results of the databases before, remove all that their containers left, and make the next folders.

    Args:
        places: The folders of the pod.
        database: The database that the next container restores; empty if there is none.
        seen: The folder that it sees.
        log: Called with each event as it happens.

    Raises:
        ConfigError: When the folders of the pod cannot be read or written.
    """
    collect(places.results)
    clear(places, log)
    own = places.scratch / FOLDERS / seen
    try:
        for folder in (places.results / FOLDERS / seen, places.run / FOLDERS / seen, own):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in (ARCHIVES, CONFIGURATION):
            (own / name).mkdir(mode=0o700, exist_ok=True)
        _copy_configuration(places, database, own / CONFIGURATION)
        return Prepared(seen, own, places.seconds - _elapsed(places.results))
    except OSError as error:
        refusal = volume_error(error, str(error.filename or own))
        raise ConfigError(refusal.problem, refusal.remedy) from None


def hand_over(
    places: Places,
    source: Source,
    database: str,
    *,
    slot: str = "",
    now: datetime,
    log: Callable[[str], None],
) -> None:
    """Take the results of the databases before, remove all that their containers left, and hand over the next archives.

    What cannot be handed over gets its result here.

    Args:
        places: The folders of the pod.
        source: Where the archives are.
        database: Whose archives are next; with a slot, the entry that means all databases of a cluster.
        slot: The folder that the next container sees, if `choose` has decided for whom it is.
        now: The moment, UTC.
        log: Called with each event as it happens.

    Raises:
        ConfigError: When the folders of the pod cannot be read or written.
    """
    seen = slot or database
    if slot:
        database = slots(places.results).get(slot, "")
    prepared = prepare(places, database, seen, log)
    hand_over_requested(places, source, database, prepared, now=now, log=log)


def hand_over_requested(
    places: Places,
    source: Source,
    database: str,
    prepared: Prepared,
    *,
    now: datetime,
    log: Callable[[str], None],
) -> None:
    """Hand over the requested archives of a database to a container whose folders are there.

    Raises:
        ConfigError: When the folders of the pod cannot be read or written.
        StoppedError: When the source says that the work has to end.
    """
    own, left = prepared.own, prepared.seconds
    requests, _ = requested(places.results)
    handed = 0
    for base in sorted((base for base, owner in requests.items() if owner == database), reverse=True):
        try:
            request = config.read_result(places.results / f"{base}{REQUEST_SUFFIX}") or _nothing(base)
            handed += _hand_over_one(places, source, own / ARCHIVES, request, base, handed, left)
        except StoppedError:
            raise
        except (RetentionError, OSError) as caught:
            why = volume_error(caught, str(caught.filename or own)) if isinstance(caught, OSError) else caught
            state = why.state if isinstance(why, NotHandedOverError) else FAILED
            log(f"{database}: FAILED: {file_name(base, Kind.ARCHIVE)}: {why}")
            facts = {"state": state, "error": why.problem, "remedy": why.remedy}
            moments = dict.fromkeys(("started", "finished"), str(int(now.timestamp())))
            write(places.results, f"{base}{RESULT_SUFFIX}", {"database": database, "base": base, **facts, **moments})
            continue
        text = {**request.values, "seconds": str(left)}
        write(places.results / FOLDERS / prepared.seen, f"{base}{REQUEST_SUFFIX}", text)
        log(f"{database}: {file_name(base, Kind.ARCHIVE)} is handed over, {format_size(request.number('bytes') or 0)}")


def hand_over_to_open(
    places: Places, source: Source, database: str, *, slot: str, now: datetime, log: Callable[[str], None]
) -> None:
    """Hand over the one archive that someone wants to look at.

    Raises:
        RetentionError: When it is not handed over; nothing else would say why.
    """
    if slot:
        raise ConfigError("--slot and --open exclude each other", "give one of them")
    requests, _ = requested(places.results)
    if not requests:
        raise ConfigError(f"{places.results} has no request", "`choose` writes it; look at its log")
    write(places.results, f"{OPEN}{SLOT_SUFFIX}", {"database": database})
    hand_over(places, source, database, slot=OPEN, now=now, log=log)
    for base in requests:
        refused = config.read_result(places.results / f"{base}{RESULT_SUFFIX}")
        if refused is not None:
            name = file_name(base, Kind.ARCHIVE)
            raise RetentionError(f"{name}: {refused.text('error')}", refused.text("remedy"))


def _nothing(base: str) -> KeyValues:
    return KeyValues(f"{base}{REQUEST_SUFFIX}", {}, {})


def write(directory: Path, name: str, values: Mapping[str, str], warnings: Iterable[str] = ()) -> None:
    """Write a file of `key=value` lines in one step.

    Raises:
        ConfigError: When the directory cannot be written.
    """
    text = format_lines(values) + "".join(format_lines({"warning": warning}) for warning in warnings)
    try:
        with Folder.open(directory) as folder:
            folder.write(name, text.encode(errors="replace"))
    except VolumeError as error:
        raise ConfigError(error.problem, error.remedy) from None


def _uptime() -> int:
    """Return the seconds since the node started. All its containers share this clock, and no correction changes it."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))


def _elapsed(results: Path) -> int:
    """Return how many seconds ago the first archives of this drill were handed over."""
    found = config.read_result(results / _BEGAN)
    began = None if found is None else found.number(_BEGAN)
    now = _uptime()
    # It is later only after the node has started again, and the drill with it.
    if began is None or began > now:
        began = now
        write(results, _BEGAN, {_BEGAN: str(began)})
    return now - began


def _copy_configuration(places: Places, database: str, target: Path) -> None:
    """The container reads only what concerns its own database, and the server's parameters."""
    assertions = places.config / f"{database}.assertions"
    if not assertions.exists():
        # Those of its entry are meant for each of its databases.
        assertions = assertions.with_name(f"{config.entry_of(database)}.assertions")
    for source, name in ((assertions, f"{database}.assertions"), (places.config / _PARAMETERS, _PARAMETERS)):
        if database and source.exists():
            shutil.copyfile(source, target / name)


def _hand_over_one(
    places: Places, source: Source, target: Path, request: KeyValues, base: str, handed: int, seconds: int
) -> int:
    """Let an archive and the roles that belong to it be put into a folder; return its size.

    Raises:
        RetentionError: When it is not handed over.
    """
    if seconds <= 0:
        limit = f"not reached within the {places.seconds} s of the drill"
        raise NotHandedOverError(limit, "raise drill.timeoutSeconds", NOT_REACHED)
    return source.give(request, base, target, lambda: _check_space(places, request, handed))


@dataclass(frozen=True, slots=True)
class Volume:
    """The volume as the source of a drill's archives."""

    root: Folder

    def give(self, request: KeyValues, base: str, target: Path, check_space: Callable[[], None]) -> int:
        """Copy an archive and the names of its roles; see `Source.give`."""
        name = file_name(base, Kind.ARCHIVE)
        database = database_of_archive(name) or ""
        with self.root.child(database) as folder:
            if not folder.exists(name) and not folder.lists(name):
                raise NotHandedOverError("it was pruned before its turn came", "nothing needs to be done", GONE)
            check_space()
            try:
                sha256, size = _copy(folder, name, target / name)
            except VolumeError:
                raise NotHandedOverError("it cannot be read", "check the volume") from None
            if sha256 != request.text("sha256"):
                (target / name).unlink()
                reason = "its sha256 differs from the one it was published with"
                raise NotHandedOverError(reason, "check the volume", DAMAGED)
            write_roles(target, base, folder.read(file_name(base, Kind.GLOBALS), MOST_GLOBALS))
        return size


def _check_space(places: Places, request: KeyValues, handed: int) -> None:
    """A full scratch volume gets the pod evicted, and then nothing is recorded."""
    archives = handed + (request.number("bytes") or 0)
    needed = archives + (request.number("database_bytes") or 0) * 5 // 4 + _SERVER_BYTES
    if needed > parse_size(places.scratch_size):
        reason = f"it needs about {_mebibytes(needed)} of scratch space, and the limit is {places.scratch_size}"
        raise NotHandedOverError(reason, "raise drill.scratch.sizeLimit")
    found = os.statvfs(places.scratch)
    free = found.f_bavail * found.f_frsize
    # The archives that were handed over are no longer part of what is free.
    if needed - handed > free:
        reason = f"it needs about {_mebibytes(needed)} of scratch space, and only {_mebibytes(free)} are free"
        raise NotHandedOverError(reason, "free space on the node")


def _mebibytes(size: int) -> str:
    return f"{-(-size // 1024**2)} MiB"


def _copy(folder: Folder, name: str, target: Path) -> tuple[str, int]:
    """Copy an archive; return the sha256 and the size of what was read."""

    def write(chunk: memoryview) -> None:
        while chunk:
            try:
                chunk = chunk[os.write(fd, chunk) :]
            except OSError as error:
                reason = f"it cannot be copied for the drill: {os.strerror(error.errno or 0)}"
                raise NotHandedOverError(reason, "raise drill.scratch.sizeLimit, or free space on the node") from None

    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        return digest(folder, name, lambda: None, write)
    finally:
        os.close(fd)


def write_roles(target: Path, base: str, content: bytes | None) -> None:
    """Write the names of a cluster's roles next to an archive: they are all of the globals that the drill needs."""
    if content is not None:
        lines = [line for line in content.splitlines(keepends=True) if line.startswith(b"CREATE ROLE ")]
        (target / file_name(base, Kind.GLOBALS)).write_bytes(b"".join(lines))


def clear(places: Places, log: Callable[[str], None]) -> None:
    """Give back the space of the containers before. No other container sees what cannot be removed."""
    for folder in (place / FOLDERS for place in (places.results, places.run, places.scratch)):
        for name in _names(folder) if _is_there(folder) else ():
            path = folder / name
            with contextlib.suppress(OSError, RecursionError):
                _open_up(path)
                shutil.rmtree(path)
            if _is_there(path):
                log(f"warning: {path}: what the drill of this database left there cannot be removed")


def _open_up(path: Path) -> None:
    """Let this user remove what is in folders that a container has closed."""
    path.chmod(0o700)
    for top, directories, _ in os.walk(path):
        for directory in directories:
            inner = Path(top, directory)
            if not inner.is_symlink():
                inner.chmod(0o700)


def collect(results: Path) -> None:
    """Take the results of all containers, checked, next to their requests; one that is there already stays.

    Raises:
        ConfigError: When the directory cannot be read or written.
    """
    requests, _ = requested(results)
    shown_as = {database: slot for slot, database in slots(results).items()}
    for base, database in requests.items():
        name = f"{base}{RESULT_SUFFIX}"
        folder = results / FOLDERS / shown_as.get(database, database)
        if _is_there(results / name) or not _is_there(folder):
            continue
        values, warnings = _checked(folder, name)
        if values:
            write(results, name, {"database": database, "base": base, **values}, warnings)


def _checked(folder: Path, name: str) -> tuple[dict[str, str], list[str]]:
    """Return what a container reported about an archive, and its warnings; nothing where it reported nothing."""
    try:
        with Folder.open(folder) as opened:
            content = opened.read(name)
        if content is None:
            return {}, []
        found = parse(content.decode(errors="replace"), name)
    except (VolumeError, ConfigError) as error:
        problem = f"the result of its drill cannot be read: {error.problem.removeprefix(f'{folder}/')}"
        return {"state": FAILED, "error": problem, "remedy": "run the drill again"}, []
    state = found.text("state")
    if state not in _REPORTED:
        problem = f"its drill reported the unknown state {state[:20]!r}"
        return {"state": FAILED, "error": problem, "remedy": "run the drill again"}, []
    values = {"state": state}
    for key in ("started", "finished", *NUMBERS):
        if (number := found.number(key)) is not None:
            values[key] = str(number)
    values["amcheck"] = "yes" if found.text("amcheck") == "yes" else "no"
    if _VERSION.fullmatch(version := found.text("server_version")):
        values["server_version"] = version
    for key in ("error", "remedy"):
        if state != PROVED and (text := found.text(key)):
            values[key] = text[:_LONGEST]
    return values, [warning[:_LONGEST] for warning in found.warnings[:_MOST_WARNINGS]]
