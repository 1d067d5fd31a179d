# Without comments: they are in the project's file of this name.
from offsite.remote.rclone import Rclone
from offsite.rule import names
from offsite.rule.copies import Copies, Entry, sort_out
from offsite.rule.marker import Marker, MarkerError, parse_marker
from offsite.rule.names import Part
MARKER_BYTES = 64 * 1024
def databases(remote, cluster_id):
 places = (names.database_of(entry.path) for entry in remote.list(cluster_id))
 return sorted({place[0] for place in places if place is not None})
def read_copies(remote, cluster_id, database):
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
