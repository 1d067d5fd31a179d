"""What is at the destination: the databases that have copies there, and the copies of each."""

from offsite.remote.rclone import Rclone
from offsite.rule import names
from offsite.rule.copies import Copies, Entry, sort_out
from offsite.rule.marker import Marker, MarkerError, parse_marker
from offsite.rule.names import Part

MARKER_BYTES = 64 * 1024
"""No marker has more."""


def databases(remote: Rclone, cluster_id: str) -> list[str]:
    """Return the databases that have something at the destination, sorted.

    Raises:
        RemoteError: When the destination refuses.
    """
    places = (names.database_of(entry.path) for entry in remote.list(cluster_id))
    return sorted({place[0] for place in places if place is not None})


def read_copies(remote: Rclone, cluster_id: str, database: str) -> Copies:
    """Return the copies of a database.

    Raises:
        RemoteError: When the destination refuses.
    """
    place = f"{cluster_id}/{database}"
    entries: list[Entry] = remote.list(place)
    markers: dict[str, Marker | str] = {}
    for entry in entries:
        parsed = names.parse(database, entry.path)
        if parsed is not None and parsed.part is Part.MARKER:
            try:
                markers[entry.path] = parse_marker(remote.read(f"{place}/{entry.path}", MARKER_BYTES), entry.path)
            except MarkerError as error:
                markers[entry.path] = error.problem
    return sort_out(database, entries, markers)
