"""A drill of the copies: the newest copy of each database is restored, as a drill restores an archive of the volume.

The pod does not mount the volume. `hand_over` brings a copy straight into the folder of the container that restores
it, and `record` writes what was found next to the copy. A marker is never written again: where a store replaces an
object in place, a kill in the middle of that would cost a good copy.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from offsite.age import Identity
from offsite.age.errors import HeaderError, MacError, PayloadError
from offsite.remote.rclone import Rclone
from offsite.rule import names
from offsite.rule.copies import Copies, Copy
from offsite.rule.marker import AGE
from offsite.rule.names import Part
from offsite.steps.check import note
from offsite.steps.clock import Clock, DeadlineError
from offsite.steps.content import Content, NotWhatWasSentError
from offsite.steps.listing import read_copies
from offsite.steps.verify import DAMAGED, SOUND, verify
from retention.errors import RetentionError, StoppedError, VolumeError
from retention.keyvalue import KeyValues
from retention.names import Kind, file_name
from retention.pod import choose, config, drill, handover
from retention.pod.choose import FAILURE_SUFFIX, REQUEST_SUFFIX
from retention.pod.drill import Drilled, DrillOutcome
from retention.pod.handover import NOT_REACHED, PROVED, NotHandedOverError, Places, Prepared
from retention.rule.backup import SKEW
from retention.text import format_age, format_size
from retention.volume import locks
from retention.volume.folder import Folder

ATTEMPT_SUFFIX = ".copy"
"""Ends the file that says from which copy an archive is; the containers that restore do not see it."""

NO_KEY = "put it under key.txt into the Secret that offsite.identitySecretName names"
_CHANGED = (NotWhatWasSentError, PayloadError, MacError, HeaderError)
"""What shows that a copy is not what was sent, unlike a key that fits none of its recipients."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the copies of a database are, and who can read them.

    Attributes:
        remote: The destination.
        cluster_id: The folder of the release there.
        identities: Returns the secret keys, or raises what is wrong with them; None where none are given.
        wait_seconds: How long to wait for rclone.
    """

    remote: Rclone
    cluster_id: str
    identities: Callable[[], tuple[Identity, ...]] | None
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class _Source:
    """A copy as the source of the archive that a container restores."""

    place: Destination
    database: str
    copy: Copy
    content: Content
    clock: Clock

    def give(self, _: KeyValues, base: str, target: Path, check_space: Callable[[], None]) -> int:
        """Fetch and decrypt the archive, and the names of its roles; see `handover.Source.give`."""
        check_space()
        name = file_name(base, Kind.ARCHIVE)
        with Folder.open(target) as folder:
            try:
                # First, since it is small.
                roles = self.content.small(Part.GLOBALS, handover.MOST_GLOBALS)
                self.content.write_archive(folder, name)
                handover.write_roles(target, base, roles)
            except BaseException as error:
                # Nothing of it may be taken for an archive.
                with contextlib.suppress(VolumeError):
                    folder.remove(name)
                raise _explained(self, error) from None
        return self.content.stored(Part.ARCHIVE).bytes


def _explained(source: _Source, error: BaseException) -> BaseException:
    """Return the error with what is known of the copy; one that has changed is read again, and no longer counts."""
    if isinstance(error, DeadlineError):
        return NotHandedOverError("it was not fetched in time", "raise drill.timeoutSeconds", NOT_REACHED)
    if isinstance(error, VolumeError):
        remedy = "raise drill.scratch.sizeLimit, or free space on the node"
        return NotHandedOverError(f"it cannot be written for the drill: {error.reason}", remedy)
    if not isinstance(error, _CHANGED):
        return error
    place, database = source.place, source.database
    folder = f"{place.cluster_id}/{database}"
    (found,) = verify(place.remote, folder, Copies(database), source.copy, clock=source.clock, check=source.clock.check)
    if found.result == SOUND:
        return NotHandedOverError(
            f"{error.problem}; read again, it is what was sent", "run the drill again; check the network if this stays"
        )
    state = handover.DAMAGED if found.result == DAMAGED else handover.FAILED
    return NotHandedOverError(found.reason, "check the store", state)


def hand_over(
    place: Destination,
    places: Places,
    database: str,
    *,
    slot: str = "",
    only: Sequence[str] = (),
    now: datetime,
    stop: locks.Stop,
    log: Callable[[str], None],
) -> None:
    """Take the results of the databases before, remove what their containers left, and hand over the newest copy.

    What keeps a copy from being handed over is left for `record`.

    Args:
        place: Where the copies are.
        places: The folders of the pod.
        database: Whose copy is next; with a slot, the entry that means all databases of a cluster.
        slot: The folder that the next container sees, if an entry has several.
        only: The databases of entries that the drill is for; all if it is empty.
        now: The moment, UTC.
        stop: Says when the work has to end.
        log: Called with each event as it happens.

    Raises:
        ConfigError: When the folders of the pod cannot be read or written.
        StoppedError: After SIGTERM.
    """
    entry = database
    try:
        place.remote.wait(place.wait_seconds)
        if slot:
            database = _choose_for(place, places, entry, slot, only)
    except RetentionError as error:
        _note_failure(places, entry, error, log)
        database = ""
    prepared = handover.prepare(places, database, slot or entry, log)
    if not database:
        return
    clock = Clock(now, prepared.seconds, stop)
    try:
        source = _request(place, places, database, prepared, clock, log)
    except DeadlineError:
        _note_failure(places, database, RetentionError("it was not fetched in time", "raise drill.timeoutSeconds"), log)
        return
    except StoppedError:
        raise
    except RetentionError as error:
        _note_failure(places, database, error, log)
        return
    if source is not None:
        handover.hand_over_requested(places, source, database, prepared, now=now, log=log)


def _note_failure(places: Places, database: str, error: RetentionError, log: Callable[[str], None]) -> None:
    log(f"{database}: FAILED: {error}")
    choose.note_failure(places.results, database, error)


def _choose_for(place: Destination, places: Places, entry: str, slot: str, only: Sequence[str]) -> str:
    """Return whose turn it is in a slot, and note it: first those that no drill has restored, or longest ago."""
    present: set[str] = set()
    restored: dict[str, datetime] = {}
    for one in place.remote.list(place.cluster_id):
        database, name = names.database_of(one.path) or ("", "")
        parsed = names.parse(database, name) if config.entry_of(database) == entry and database != entry else None
        if parsed is not None and parsed.part is Part.MARKER:
            present.add(database)
        if parsed is not None and parsed.part is Part.RESTORED and parsed.seen is not None:
            restored[database] = max(parsed.seen, restored.get(database, parsed.seen))
    taken = set(handover.slots(places.results).values())
    named = [name for name in only if config.entry_of(name) == entry]
    turn = [name for name in named if name not in taken]
    if not named:
        turn = choose.longest_undrilled(entry, present - taken, restored, 1)
    if turn:
        choose.write_slot(places.results, slot, turn[0])
    return turn[0] if turn else ""


def _request(
    place: Destination, places: Places, database: str, prepared: Prepared, clock: Clock, log: Callable[[str], None]
) -> _Source | None:
    """Leave the request for the newest copy of a database, and return where its archive is; None for no copy."""
    copy = _newest(place, database, clock(), log)
    if copy is None:
        log(f"{database}: there is no copy of it")
        return None
    if prepared.seconds <= 0:
        raise DeadlineError("the time of the drill is over")
    log(f"{database}: fetching {copy.base}, {format_age(clock() - copy.time)} old, {format_size(copy.bytes)}")
    if copy.marker.encryption == AGE and place.identities is None:
        raise RetentionError(f"{copy.base} is encrypted, and there is no secret key", NO_KEY)
    identities = () if place.identities is None else place.identities()
    content = Content(place.remote, f"{place.cluster_id}/{database}", copy, identities, clock.check)
    document, archive = _metadata(place, database, copy, content, clock), content.stored(Part.ARCHIVE)
    facts = {"database": database, "base": copy.base, "bytes": str(archive.bytes), "sha256": archive.sha256}
    handover.write(places.results, f"{copy.base}{ATTEMPT_SUFFIX}", {"attempt": copy.marker.attempt})
    handover.write(places.results, f"{copy.base}{REQUEST_SUFFIX}", facts | choose.facts_of(document))
    return _Source(place, database, copy, content, clock)


def _metadata(place: Destination, database: str, copy: Copy, content: Content, clock: Clock) -> dict[str, object]:
    try:
        return content.metadata()
    except _CHANGED as error:
        raise _explained(_Source(place, database, copy, content, clock), error) from None


def _newest(place: Destination, database: str, now: datetime, log: Callable[[str], None]) -> Copy | None:
    """Return the newest copy that counts; None for none.

    Raises:
        RetentionError: When there are copies, and none of them counts.
    """
    copies = read_copies(place.remote, place.cluster_id, database)
    newest = next((copy for copy in copies.complete if copy.time <= now + SKEW), None)
    for finding in copies.damaged:
        parsed = names.parse(database, finding.name)
        if newest is not None and parsed is not None and parsed.time > newest.time:
            log(f"{database}: warning: {finding.name} is newer and does not count: {finding.reason}")
    if newest is None and copies.damaged:
        first = copies.damaged[0]
        raise RetentionError(f"none of its copies counts: {first.name}: {first.reason}", first.remedy)
    if newest is None and copies.complete:
        raise RetentionError(f"{copies.complete[0].base} is dated after now", "check the clocks of the nodes")
    return newest


def to_record(databases: Path, results: Path) -> list[str]:
    """Return the databases of a drill: those of a configuration, those of the slots, and entries that had no turn.

    Raises:
        ConfigError: When a folder cannot be read.
    """
    without = [one for one in config.entries_in(databases) if (results / f"{one}{FAILURE_SUFFIX}").exists()]
    return [*config.databases_in(databases), *handover.slots(results).values(), *without]


def record(
    remote: Rclone,
    cluster_id: str,
    results: Path,
    databases: Sequence[str],
    *,
    wait_seconds: float,
    clock: Callable[[], datetime],
    log: Callable[[str], None],
) -> list[DrillOutcome]:
    """Write next to each copy that was restored that it was; return how the drill of each database ended.

    Args:
        remote: The destination.
        cluster_id: The folder of the release there.
        results: The directory of the requests and of drill.sh's results.
        databases: Those that were to be drilled.
        wait_seconds: How long to wait for rclone.
        clock: The moment, UTC.
        log: Called with each event as it happens.

    Raises:
        ConfigError: When the results cannot be read.
    """
    requests = handover.gather(results, log)
    outcomes = [drill.outcome_of(results, database, requests) for database in databases]
    away: RetentionError | None = None
    try:
        remote.wait(wait_seconds)
    except RetentionError as error:
        away = error
    for outcome in outcomes:
        for one in outcome.drilled:
            if one.state == PROVED:
                _note_restored(remote, cluster_id, results, outcome, one, away, clock())
            log(f"{outcome.database}: {one.name} {one.state}{f': {one.problem}' if one.problem else ''}")
        for warning in outcome.warnings:
            log(f"{outcome.database}: warning: {warning}")
        if outcome.problem is not None:
            log(f"{outcome.database}: failed: {outcome.problem}")
    return outcomes


def _note_restored(
    remote: Rclone,
    cluster_id: str,
    results: Path,
    outcome: DrillOutcome,
    one: Drilled,
    away: RetentionError | None,
    now: datetime,
) -> None:
    """Write next to a copy that it was restored. A proof that is not there is none: nothing would show it."""
    try:
        if away is not None:
            raise away
        found = config.read_result(results / f"{one.base}{ATTEMPT_SUFFIX}")
        attempt = "" if found is None else found.text("attempt")
        place = f"{cluster_id}/{outcome.database}"
        if remote.look(f"{place}/{names.object_name(one.base, attempt, Part.MARKER)}") is None:
            outcome.warnings.append(f"{one.name} was restored, but its copy is gone by now: nothing says so there")
            return
        document = {"schema": 1, "result": PROVED, **{key: one.result.number(key) for key in handover.NUMBERS}}
        note(remote, f"{place}/{names.restored_name(one.base, attempt, now)}", document)
    except RetentionError as error:
        problem = f"{one.name} was restored, and this cannot be written next to its copy: {error.problem}"
        outcome.problem = RetentionError(problem, error.remedy)
