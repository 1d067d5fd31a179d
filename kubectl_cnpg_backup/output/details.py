"""One backup for people: all that is known about it, and its tables."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from kubectl_cnpg_backup.output import tables
from kubectl_cnpg_backup.output.tables import Column, Table
from retention.text import format_age, format_duration

_DESCRIBED = (Column("WHAT"), Column("VALUE", wraps=True))


def described(document: Mapping[str, Any], now: datetime) -> Table:
    """Return what `retention describe` says about a backup, one thing a line; what is not known is left out."""
    backup, metadata = document["backup"], document.get("metadata") or {}
    rows = [
        ("database", _joined(document["database"], _in_brackets(_cluster(metadata)))),
        ("taken", _joined(_moment(backup["time"]), f"({tables.age(backup['age_seconds'])} ago)", _taking(metadata))),
        ("source", _joined(metadata.get("role"), _in_brackets(metadata.get("host")))),
        ("size", _joined(tables.size(backup["bytes"]), _of_database(metadata), metadata.get("compression"))),
        ("contents", _contents(backup, metadata)),
        ("versions", _versions(metadata)),
        ("verified", _verified(backup, metadata)),
        ("drilled", _drilled(backup.get("drill"), now)),
        ("pin", _pin(backup.get("pin"))),
        ("tier", _joined(f"{backup.get('tier') or '-'}:", backup.get("reason"))),
        ("deleted", _deleted(document.get("deletion"), now)),
        ("prune", f"refused: {document['prune_refused']}" if document.get("prune_refused") else ""),
        ("warnings", "; ".join(map(str, metadata.get("warnings") or ()))),
        ("sha256", str(backup["sha256"])),
        ("files", ", ".join(f"{one['name']} ({tables.size(one['bytes'])})" for one in document["files"])),
    ]
    return Table(_DESCRIBED, [row for row in rows if row[1]], {})


def _joined(*parts: object) -> str:
    return " ".join(str(part) for part in parts if part)


def _in_brackets(text: object) -> str:
    return f"({text})" if text else ""


def _moment(text: object) -> str:
    return f"{str(text)[:19].replace('T', ' ')}Z"


def _cluster(metadata: Mapping[str, Any]) -> str:
    place = "/".join(str(metadata[key]) for key in ("namespace", "cluster") if metadata.get(key))
    dbname = metadata.get("dbname")
    return ", ".join(filter(None, (f"cluster {place}" if place else "", f"named {dbname!r} there" if dbname else "")))


def _taking(metadata: Mapping[str, Any]) -> str:
    seconds, attempts = metadata.get("dump_seconds"), metadata.get("attempts") or 1
    tries = f" and {attempts} attempts" if attempts > 1 else ""
    return "" if seconds is None else f"in {seconds} s{tries}"


def _of_database(metadata: Mapping[str, Any]) -> str:
    size = metadata.get("database_bytes")
    return f"of a database of {tables.size(size)}," if isinstance(size, int) else ""


def _contents(backup: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    rows = "rows were not counted" if metadata.get("rows") is None else f"{metadata['rows']} rows"
    roles = "" if metadata.get("globals") is None else f", {'with' if metadata['globals'] else 'without'} roles"
    return f"{tables.count(backup.get('tables'))} tables, {rows}{roles}; see `kubectl cnpg-backup tables`"


def _versions(metadata: Mapping[str, Any]) -> str:
    names = {"server_version": "server", "client_version": "pg_dump", "chart_version": "chart"}
    return ", ".join(f"{name} {metadata[key]}" for key, name in names.items() if metadata.get(key))


def _verified(backup: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    how = dict(metadata.get("verification") or {})
    adopted = "adopted: made by someone else; " if metadata.get("adopted") else ""
    return f"{adopted}{_joined(tables.verified(backup), _in_brackets(how.get('method')))}"


def _drilled(drill: object, now: datetime) -> str:
    if not isinstance(drill, Mapping) or not drill:
        return "never"
    seconds = drill.get("restore_seconds")
    restored = "" if seconds is None else f"restored in {seconds} s"
    counts = ", ".join(f"{drill[key]} {key}" for key in ("tables", "rows", "indexes") if drill.get(key) is not None)
    why = drill.get("problem") or drill.get("error") or drill.get("warning")
    return "; ".join(filter(None, (f"{tables.drilled(drill, now)} ago", restored, counts, str(why or ""))))


def _pin(pin: object) -> str:
    if not isinstance(pin, Mapping):
        return "none"
    return _joined(tables.pinned(pin), f"({pin['reason']})" if pin.get("reason") else "")


def _deleted(deletion: object, now: datetime) -> str:
    """Return when a backup goes, and why, and under what condition."""
    if not isinstance(deletion, Mapping):
        return "never by a run: its database is not configured"
    every = format_duration(timedelta(seconds=int(deletion["assumes_run_every_seconds"])))
    if deletion.get("expected"):
        moment = datetime.fromisoformat(str(deletion["expected"]))
        when = f"about {_moment(moment.isoformat())} ({format_age(now - moment)})"
        return f"{when}, if a run succeeds every {every}: {deletion['reason']}"
    if deletion.get("not_before"):
        return f"not before {_moment(deletion['not_before'])}: {deletion['reason']}"
    return f"never by a run: {deletion['reason']}"


def read_rows(text: str) -> dict[int, int]:
    """Return the rows of each entry of an archive, as scripts/tables.sh prints them."""
    pairs = (line.partition("\t") for line in text.splitlines())
    return {int(number): int(rows) for number, _, rows in pairs if number.isdecimal() and rows.isdecimal()}


def with_rows(found: Iterable[Mapping[str, Any]], rows: Mapping[int, int]) -> list[dict[str, Any]]:
    """Return the tables of an archive with their rows; None where they are not known."""
    return [{**one, "rows": rows.get(one["entry"])} for one in found]


def full_name(table: Mapping[str, Any]) -> str:
    """Return a table's name as in SQL, which `restore --table` takes."""
    return ".".join(part if _is_plain(part) else '"' + part.replace('"', '""') + '"' for part in _parts(table))


def _parts(table: Mapping[str, Any]) -> tuple[str, str]:
    return str(table["schema"]), str(table["name"])


def _is_plain(name: str) -> bool:
    return name.isidentifier() and name.isascii() and name == name.lower()


def tables_of(document: Mapping[str, Any]) -> Table:
    """Return the tables of an archive."""
    columns = [one for one in tables.TABLES if one.header != "ROWS" or _counted(document)]
    rows = []
    for one in document["tables"]:
        size = tables.size(one["bytes"]) if one["entry"] is not None else "-"
        rows.append([size, *([tables.count(one["rows"])] if _counted(document) else []), full_name(one)])
    return tables.make(columns, rows)


def _counted(document: Mapping[str, Any]) -> bool:
    return any(one["rows"] is not None for one in document["tables"])


def title(document: Mapping[str, Any]) -> str:
    """Return what stands above the tables of an archive."""
    large = int(document["large_objects_bytes"])
    more = f", and {tables.size(large)} of large objects" if large else ""
    return f"{document['name']}: {len(document['tables'])} tables{more}; sizes are those in the archive, compressed"
