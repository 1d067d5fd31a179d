"""Which databases there are, and which of them a release backs up: values in, values out."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from kubectl_cnpg_backup.model.objects import Object, dig, name_of
from kubectl_cnpg_backup.model.release import CronJob, Release, databases_in
from retention import keyvalue
from retention.keyvalue import KeyValues

CLUSTERS, DATABASES = "clusters", "databases"
"""The custom resources of CloudNativePG that are listed."""

BACKED_UP, UNPROTECTED, SUSPENDED, EXCLUDED, COPY, UNKNOWN, GONE = (
    "backed-up", "unprotected", "suspended", "excluded", "copy", "unknown", "gone",
)  # fmt: skip
BAD = (UNPROTECTED, SUSPENDED, UNKNOWN)
"""The states with which `--check` fails: nobody backs the database up, or nobody can tell."""

_ENTRY_SUFFIX = ".all"
_DEFAULT_DATABASE = "app"
"""What CloudNativePG calls the first database where the Cluster names none."""
_MAINTENANCE = "postgres"
_SHORT = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?")
_LONGEST_DIRECTORY = 63
_LEFT_BY_RESTORE = re.compile(r"_(?:restoring|before|restored)_[0-9]{8}_[0-9]{6}$")

QUERY = """\
SET search_path = pg_catalog, pg_temp; SET statement_timeout = '20s'; SET default_transaction_read_only = on;
SELECT json_agg(json_build_object('name', d.datname, 'bytes', pg_database_size(d.oid),
  'owner', pg_get_userbyid(d.datdba),
  'copy', coalesce(starts_with(shobj_description(d.oid, 'pg_database'), 'cnpg-backup: copy of '), false),
  'empty', d.datname = 'postgres' AND NOT EXISTS (SELECT FROM pg_class c
    WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'm') AND NOT EXISTS (SELECT FROM pg_depend e
      WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e'))) ORDER BY d.datname)
FROM pg_database d WHERE d.datallowconn AND NOT d.datistemplate"""
"""What a server is asked, in its database `postgres`: that one counts only if it has a table of its own."""


@dataclass(frozen=True, slots=True)
class Protector:
    """What a release says about a database.

    Attributes:
        namespace: Of the release.
        release: Its name.
        name: The database's name in the release.
        cronjob: The CronJob that backs it up; empty where it is suspended in the values.
        state: backed-up, suspended or excluded.
        last_success: When that CronJob last succeeded, UTC; None where it is not known.
    """

    namespace: str
    release: str
    name: str
    cronjob: str
    state: str
    last_success: datetime | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A database of a CloudNativePG cluster.

    Attributes:
        namespace: Of its cluster.
        cluster: Name of its cluster.
        database: Its name in PostgreSQL.
        state: backed-up, unprotected, suspended, excluded, copy (of another cluster or database), unknown, or gone.
        by: Who backs it up.
        found_in: What knows it: `cluster`, `database/NAME`, `server`, `release`.
        owner: The role that owns it; empty where that is not known.
        bytes: Its size; None where the server was not asked.
        why: What there is to say about it.
        copied: Whether a release has made it, as a copy of another database.
        wal_archive: Whether its cluster archives WAL, or is backed up by CloudNativePG itself.
    """

    namespace: str
    cluster: str
    database: str
    state: str = UNPROTECTED
    by: tuple[Protector, ...] = ()
    found_in: tuple[str, ...] = ()
    owner: str = ""
    bytes: int | None = None
    why: str = ""
    wal_archive: bool = False
    copied: bool = False

    @property
    def name(self) -> str:
        """How `--exclude` and `-o name` call it."""
        return f"{self.namespace}/{self.cluster}/{self.database}"


@dataclass(frozen=True, slots=True)
class Server:
    """What asking a server gave: its databases, or why it could not be asked."""

    databases: tuple[Mapping[str, Any], ...] = ()
    problem: str = ""


def read_server(output: str) -> Server:
    """Return the databases that a server has named in answer to `QUERY`."""
    try:
        rows = json.loads(output.strip().splitlines()[-1])
        return Server(tuple(row for row in rows if not row["empty"]))
    except (ValueError, KeyError, TypeError, IndexError):
        return Server(problem="its answer cannot be read")


def bootstrap_database(cluster: Object) -> str:
    """Return the database that CloudNativePG has made the cluster with; empty where it has made none."""
    bootstrap = dig(cluster, "spec", "bootstrap")
    for method in ("initdb", "recovery", "pg_basebackup"):
        if method in bootstrap:
            how = dig(bootstrap, method)
            if dig(how, "import").get("type") == "monolith":
                return ""
            return str(how.get("database") or _DEFAULT_DATABASE)
    return _DEFAULT_DATABASE


def imported_databases(cluster: Object) -> list[str]:
    """Return the databases that CloudNativePG has imported by name."""
    imported = dig(cluster, "spec", "bootstrap", "initdb", "import")
    if imported.get("type") != "monolith":
        return []
    return [str(name) for name in imported.get("databases") or () if "*" not in str(name)]


def is_replica(cluster: Object) -> bool:
    """Tell whether a cluster only follows another one."""
    replica = dig(cluster, "spec", "replica")
    if replica.get("primary"):
        return bool(replica["primary"] != (replica.get("self") or name_of(cluster)))
    return bool(replica.get("enabled"))


def has_wal_archive(cluster: Object) -> bool:
    """Tell whether a cluster has backups of CloudNativePG's own."""
    spec = dig(cluster, "spec")
    plugins = spec.get("plugins") or ()
    return bool(dig(spec, "backup")) or any(bool(one.get("isWALArchiver")) for one in plugins)


def databases_of(cluster: Object, objects: Iterable[Object], server: Server | None) -> list[Found]:
    """Return the databases of a cluster, by name.

    Args:
        cluster: The Cluster.
        objects: The `Database` objects of its namespace.
        server: What its server has said; None where it was not asked. It knows best: what only the Cluster's own
            bootstrap names may have been dropped since.
    """
    namespace, name = str(dig(cluster, "metadata").get("namespace") or ""), name_of(cluster)
    common = Found(namespace, name, "", wal_archive=has_wal_archive(cluster))
    asked = server is not None and not server.problem
    found: dict[str, Found] = {}
    for row in server.databases if server is not None else ():
        size = row.get("bytes")
        found[str(row["name"])] = replace(
            common,
            database=str(row["name"]),
            found_in=("server",),
            owner=str(row.get("owner") or ""),
            bytes=size if isinstance(size, int) else None,
            copied=bool(row.get("copy")),
        )
    own = dig(cluster, "spec", "bootstrap", "initdb")
    first = bootstrap_database(cluster)
    for database in (first, *imported_databases(cluster)):
        if database and (not asked or database in found):
            owner = str(own.get("owner") or first) if database == first else ""
            found[database] = _also(found.get(database), replace(common, database=database, owner=owner), "cluster")
    for item in objects:
        spec = dig(item, "spec")
        if dig(spec, "cluster").get("name") != name or spec.get("ensure") == "absent" or not spec.get("name"):
            continue
        database, missing = str(spec["name"]), asked and spec["name"] not in found
        one = replace(
            common,
            database=database,
            owner=str(spec.get("owner") or ""),
            why="the server does not have it" if missing else "",
        )
        found[database] = _also(found.get(database), one, f"database/{name_of(item)}")
    return [found[database] for database in sorted(found)]


def _also(known: Found | None, one: Found, source: str) -> Found:
    if known is None:
        return replace(one, found_in=(source,))
    return replace(known, found_in=(*known.found_in, source), owner=known.owner or one.owner)


@dataclass(frozen=True, slots=True)
class Configured:
    """What a CronJob's configuration says about one database, or about all databases of a cluster."""

    release: Release
    conf: KeyValues
    name: str
    entry: bool
    cronjob: CronJob | None

    @property
    def cluster(self) -> tuple[str, str]:
        """Namespace and name of the cluster that it names; the name is empty for a server that is not one."""
        cluster, host = self.conf.text("cluster"), self.conf.text("host")
        # Without a cluster the chart takes the database's name; its host is then somebody else's.
        named = cluster != self.name or host.startswith(f"{cluster}-")
        return self.conf.text("namespace") or self.release.namespace, cluster if named else ""

    def covers(self, database: str) -> Protector | None:
        """Return what this says about a database of its cluster; None where it says nothing."""
        name, state = self.name, BACKED_UP if self.cronjob and not self.cronjob.suspended else SUSPENDED
        if self.entry:
            name = directory_of(self.name, database)
            patterns = self.conf.repeated.get("exclude", ())
            if _LEFT_BY_RESTORE.search(database) or any(matches(pattern, database) for pattern in patterns):
                state = EXCLUDED
        elif database != self.conf.text("dbname"):
            return None
        job = self.cronjob
        return Protector(
            self.release.namespace,
            self.release.name,
            name,
            "" if job is None else job.name,
            state,
            None if job is None else job.last_success,
        )


def configured(release: Release, configs: Iterable[tuple[CronJob, Object]]) -> Iterator[Configured]:
    """Yield what a release says about databases.

    Args:
        release: The release.
        configs: Its CronJobs, each with its ConfigMap; those of a component other than `backup` only tell which
            databases the values suspend.

    Raises:
        ConfigError: When a file in a ConfigMap cannot be read.
    """
    seen: set[str] = set()
    for cronjob, config in sorted(configs, key=lambda pair: pair[0].component != "backup"):
        active = cronjob.component == "backup"
        for name in databases_in(config):
            if name in seen:
                continue
            seen.add(name)
            entry = f"{name}{_ENTRY_SUFFIX}" in dig(config, "data")
            file = f"{name}{_ENTRY_SUFFIX}" if entry else f"{name}.conf"
            conf = keyvalue.parse(str(dig(config, "data")[file]), file)
            yield Configured(release, conf, name, entry, cronjob if active else None)


def assess(
    databases: Iterable[Found],
    said: Sequence[Configured],
    *,
    replicas: Iterable[tuple[str, str]] = (),
    unread: Sequence[str] = (),
    excluded: Sequence[str] = (),
) -> list[Found]:
    """Return databases with who backs them up.

    Args:
        databases: All that there are.
        said: What all releases say.
        replicas: Namespace and name of the clusters that only follow another one.
        unread: Releases whose configuration could not be read: what nobody else backs up, they might.
        excluded: Patterns of names, `namespace/cluster/database`, that the user leaves out.
    """
    followers, result = set(replicas), []
    by_cluster: dict[tuple[str, str], list[Configured]] = {}
    for one in said:
        by_cluster.setdefault(one.cluster, []).append(one)
    for database in databases:
        sayings = by_cluster.get((database.namespace, database.cluster), ())
        by = tuple(found for one in sayings if (found := one.covers(database.database)) is not None)
        result.append(_assessed(replace(database, by=by), followers, unread, excluded))
    known = {(one.namespace, one.cluster, one.database) for one in result}
    asked = {(one.namespace, one.cluster) for one in result if "server" in one.found_in}
    clusters = {(one.namespace, one.cluster) for one in result}
    for one in said:
        namespace, cluster = one.cluster
        name = one.conf.text("dbname")
        if one.entry or not cluster or (namespace, cluster, name) in known:
            continue
        by, state, why = tuple(filter(None, [one.covers(name)])), "", ""
        if (namespace, cluster) not in clusters:
            state, why = GONE, "there is no such cluster"
        elif (namespace, cluster) in asked:
            state, why = GONE, "the server does not have it"
        result.append(Found(namespace, cluster, name, state or by[0].state, by, ("release",), why=why))
    return sorted(result, key=lambda one: (one.namespace, one.cluster, one.database))


def _assessed(one: Found, replicas: set[tuple[str, str]], unread: Sequence[str], excluded: Sequence[str]) -> Found:
    states = {protector.state for protector in one.by}
    if BACKED_UP in states:
        return replace(one, state=BACKED_UP)
    if any(_excludes(pattern, one) for pattern in excluded):
        return replace(one, state=EXCLUDED, why="left out by --exclude")
    if SUSPENDED in states:
        return replace(one, state=SUSPENDED, why=one.why or "its backups are suspended")
    if _LEFT_BY_RESTORE.search(one.database):
        return replace(one, state=EXCLUDED, why="a restore has left it; drop it once you no longer need it")
    if EXCLUDED in states:
        return replace(one, state=EXCLUDED, why="left out by `exclude` of its entry")
    if one.copied:
        return replace(one, state=COPY, why="a release has made it as a copy of another database, and makes it again")
    if (one.namespace, one.cluster) in replicas:
        return replace(one, state=COPY, why="its cluster follows another one; that one is to be backed up")
    if unread:
        return replace(one, state=UNKNOWN, why=f"cannot be read: {', '.join(unread)}")
    return replace(one, why=one.why or "no release backs it up")


def _excludes(pattern: str, one: Found) -> bool:
    """Tell whether a pattern such as `shop/*` or `shop/db/tmp_*` names a database or its cluster."""
    return any(matches(pattern, name) for name in (one.name, f"{one.namespace}/{one.cluster}", one.namespace))


def directory_of(entry: str, database: str) -> str:
    """Return the name of a database of an entry, as scripts/every.sh gives it."""
    name = f"{entry}.{database}"
    if _SHORT.fullmatch(database) and len(name.encode()) <= _LONGEST_DIRECTORY:
        return name
    content = database.encode("utf-8", "surrogateescape")
    text = re.sub(rb"[^a-z0-9]+", b"-", bytes(content).lower()).decode()
    text = text[:21].lstrip("-").rstrip("-")
    return f"{entry}.{text or 'db'}.{hashlib.sha256(content).hexdigest()[:16]}"


_CLASSES = {
    "alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "lower": "a-z", "upper": "A-Z", "space": r"\s",
}  # fmt: skip


def matches(pattern: str, name: str) -> bool:
    """Tell whether a pattern of the shell, as `exclude` holds them, matches a name; `?` is one byte, as in the runs."""
    raw = pattern.encode("utf-8", "surrogateescape").decode("latin-1")
    try:
        expression = re.compile("".join(_translated(raw)), re.DOTALL)
    except re.error:
        return pattern == name
    return expression.fullmatch(name.encode("utf-8", "surrogateescape").decode("latin-1")) is not None


def _translated(pattern: str) -> Iterator[str]:
    place = 0
    while place < len(pattern):
        one = pattern[place]
        place += 1
        if one == "*":
            yield ".*"
        elif one == "?":
            yield "."
        elif one == "\\" and place < len(pattern):
            yield re.escape(pattern[place])
            place += 1
        elif one == "[" and (end := _end_of_set(pattern, place)):
            inside = pattern[place : end - 1]
            negated = inside[:1] in ("!", "^")
            body = re.sub(
                r"\[:(\w+):\]|\\(.)|(.)",
                lambda match: _CLASSES.get(match[1], "") if match[1] else _in_set(match[2] or match[3], bool(match[2])),
                inside[negated:],
                flags=re.DOTALL,
            )
            yield f"[{'^' if negated else ''}{body}]"
            place = end
        else:
            yield re.escape(one)


def _in_set(character: str, quoted: bool) -> str:
    if character == "-" and not quoted:
        return "-"
    return character if character.isalnum() else f"\\{character}"


def _end_of_set(pattern: str, start: int) -> int:
    """Return where a set that begins with `[` ends, after its `]`; 0 where it does not end."""
    place = start + (pattern[start : start + 1] in ("!", "^"))
    first = place
    while place < len(pattern):
        if pattern[place] == "]" and place > first:
            return place + 1
        if pattern.startswith("[:", place) and (end := pattern.find(":]", place + 2)) > 0:
            place = end + 2
        else:
            place += 2 if pattern[place] == "\\" else 1
    return 0


def summary(found: Sequence[Found]) -> str:
    """Return in one line how many databases there are, and how many of them nobody backs up."""
    counted = [one for one in found if one.state != GONE]
    bad = sum(one.state in BAD for one in counted)
    clusters = {(one.namespace, one.cluster) for one in counted}
    text = f"{len(counted)} databases in {len(clusters)} clusters"
    return f"{text}; {bad} not backed up" if bad else f"{text}; all that need it are backed up"


def document(one: Found) -> dict[str, Any]:
    """Return a database for programs."""
    return {
        "namespace": one.namespace,
        "cluster": one.cluster,
        "database": one.database,
        "state": one.state,
        "why": one.why,
        "bytes": one.bytes,
        "owner": one.owner or None,
        "found_in": list(one.found_in),
        "wal_archive": one.wal_archive,
        "backed_up_by": [
            {
                "namespace": by.namespace,
                "release": by.release,
                "name": by.name,
                "cronjob": by.cronjob or None,
                "state": by.state,
                "last_success": None if by.last_success is None else by.last_success.isoformat(),
            }
            for by in one.by
        ],
    }
