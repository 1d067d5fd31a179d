"""`diff`: what differs between two backups, or between a backup and the database as it is now."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from kubectl_cnpg_backup.cluster import inspector
from kubectl_cnpg_backup.cluster.inspector import ROOT, Inspector
from kubectl_cnpg_backup.commands.common import (
    Commands,
    add_command,
    add_wait,
    archive_path,
    count,
    directories,
)
from kubectl_cnpg_backup.commands.download import pick
from kubectl_cnpg_backup.commands.restore import restore_template
from kubectl_cnpg_backup.errors import NotFoundError, PluginError, UsageError
from kubectl_cnpg_backup.model import difference, new_cluster, row_difference
from kubectl_cnpg_backup.model.difference import State
from kubectl_cnpg_backup.model.objects import dig, name_of
from kubectl_cnpg_backup.model.row_difference import Rows
from kubectl_cnpg_backup.output import details, differences
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode
from retention.names import database_of_archive

_SCRIPT = "/opt/cnpg-backup/scripts/tables.sh"
_SERVER = "postgres"
"""The container of CloudNativePG's pods with the server and its programs."""


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands, "diff", "Show what differs between two backups, or a backup and the database as it is now.", run
    )
    command.add_argument(
        "before", metavar="ARCHIVE|DATABASE", help="name of an archive, or of a database for its newest archive"
    )
    command.add_argument(
        "after", nargs="?", metavar="ARCHIVE|DATABASE", help="the one to compare with; without it, the live database"
    )
    command.add_argument(
        "--no-rows", action="store_true", help="do not count rows, which reads archives and tables in full"
    )
    command.add_argument(
        "--table",
        default="",
        metavar="TABLE",
        help="show which rows of this table differ, named as in SQL; values are not shown",
    )
    command.add_argument(
        "--key",
        default="",
        metavar="COLUMNS",
        help="with --table: a row is the same one by these columns (default: the primary key)",
    )
    command.add_argument(
        "--show", type=count, default=20, metavar="N", help="with --table: how many rows are shown (default: 20)"
    )
    command.add_argument("--definitions", action="store_true", help="show how each definition has changed")
    command.add_argument("--check", action="store_true", help="exit 1 if a definition differs, or with --table a row")
    add_wait(command)


def run(session: Session) -> int:
    """Show the differences."""
    options, screen = session.options, session.screen
    if options.key and not options.table:
        raise UsageError("--key has no effect without --table", "name the table")
    names = [options.before, *([options.after] if options.after else [])]
    for name in names:
        if database_of_archive(name) is None:
            directories([name])
    with screen.waiting("diff: waiting for a pod that mounts the volume"):
        find = None if options.after else _server_of(session, database_of_archive(names[0]) or names[0])
        with session.inspecting(inspector.newest_template(session.release)) as pod:
            paths = [archive_path(name) if database_of_archive(name) else _newest(session, pod, name) for name in names]
            sides: list[_Side] = [_Archive(session, pod, path) for path in paths]
            if find is not None:
                sides.append(_Live(session, find, _name_on_server(pod, paths[0])))
            states = [one.state(rows=not options.no_rows and not options.table) for one in sides]
            if options.table:
                return _rows(session, sides, states)
    before, after = states
    changes = difference.compare(before, after)
    _show(session, before, after, changes)
    differ = any(one.what != difference.ROWS for one in changes)
    return int(ExitCode.FAILED if options.check and differ else ExitCode.DONE)


def _show(session: Session, before: State, after: State, changes: Sequence[difference.Change]) -> None:
    screen = session.screen
    if not screen.is_table:
        screen.document(difference.document(before, after, changes))
        return
    screen.table(differences.table(changes), f"{before.title} -> {after.title}")
    if session.options.definitions:
        for one in changes:
            lines = difference.statement_diff(one) if one.what != difference.ROWS else []
            if lines:
                screen.line()
                screen.line(f"{one.what} {one.type.lower()} {one.name}", style="bold")
            for line in lines:
                screen.line(line)
    if not changes:
        counted = "" if session.options.no_rows else " and the number of rows of each table"
        screen.line(f"the definitions{counted} are the same")


def _rows(session: Session, sides: Sequence["_Side"], states: Sequence[State]) -> int:
    """Show which rows of a table differ."""
    options, screen = session.options, session.screen
    table = row_difference.table_named(options.table, states)
    key = row_difference.key_of(table, options.key, states)
    found = []
    for side, state in zip(sides, states, strict=True):
        rows = row_difference.Rows(state.title, row_difference.leaves(table, state.objects), key)
        screen.note(f"diff: reading the rows of {table[0]}.{table[1]} in {state.title}")
        if ("TABLE", *table) in state.objects:
            side.copy(rows)
        found.append(rows)
    compared = row_difference.compare(found[0], found[1], options.show)
    if screen.is_table:
        for line in differences.row_notes(compared):
            screen.note(line)
        if compared.rows:
            screen.table(differences.rows(compared), f"{states[0].title} -> {states[1].title}")
        screen.line(differences.row_counts(compared))
    else:
        screen.document(row_difference.document(states[0], states[1], table, key, compared))
    return int(ExitCode.FAILED if options.check and compared.differ else ExitCode.DONE)


class _Side(Protocol):
    """One of the two states that are compared."""

    def state(self, *, rows: bool) -> State:
        """Return its definitions, and if wanted the number of rows of each table."""

    def copy(self, rows: Rows) -> None:
        """Read the rows of some tables."""


@dataclass(frozen=True, slots=True)
class _Archive:
    """What an archive holds."""

    session: Session
    pod: Inspector
    path: str

    @property
    def name(self) -> str:
        """The archive's name."""
        return self.path.rpartition("/")[2]

    def state(self, *, rows: bool) -> State:
        """Return its definitions, and if wanted the number of rows of each table."""
        self.session.screen.note(f"diff: reading the definitions of {self.name}")
        objects = difference.read_objects(self.pod.postgres("pg_restore", "--schema-only", "-f", "-", self.path))
        counts = {}
        if rows:
            self.session.screen.note(f"diff: reading {self.name} in full, to count its rows")
            listed, _ = self.pod.retention_json("tables", self.path)
            counted = details.with_rows(
                listed["tables"], details.read_rows(self.pod.postgres("sh", _SCRIPT, self.path))
            )
            counts = {
                (str(one["schema"]), str(one["name"])): int(one["rows"]) for one in counted if one["rows"] is not None
            }
        return State(self.name, objects, counts)

    def copy(self, rows: Rows) -> None:
        """Read the rows of some tables."""
        wanted = [
            f"--{what}={name}"
            for table in sorted(rows.tables)
            for what, name in zip(("schema", "table"), table, strict=True)
        ]
        self.pod.postgres("pg_restore", "--data-only", "-f", "-", *wanted, self.path, sink=rows.feed)


def _newest(session: Session, pod: Inspector, database: str) -> str:
    listing, _ = pod.retention_json("list", f"{ROOT}/{database}")
    archive, future = pick(database, listing["backups"], database)
    if future:
        session.screen.note(f"{future}; check the clocks of the nodes")
    return f"{ROOT}/{database}/{archive.name}"


def _name_on_server(pod: Inspector, path: str) -> str:
    """Return the name in PostgreSQL of the database that an archive holds."""
    document, _ = pod.retention_json("describe", path, config=True)
    return str((document.get("metadata") or {}).get("dbname") or document["database"])


@dataclass(frozen=True, slots=True)
class _Server:
    """The cluster of a database, and the pod of its primary."""

    namespace: str
    cluster: str
    primary: str


def _server_of(session: Session, database: str) -> _Server:
    """Return where a database is now.

    Raises:
        NotFoundError: When its cluster has no primary that is known.
    """
    session.options.database = database
    _, conf = restore_template(session)
    namespace, cluster = conf["namespace"], conf["cluster"]
    # Operators may list clusters, and not all of them may get one.
    every = session.cluster.in_namespace(namespace).customs(new_cluster.GROUP, new_cluster.VERSION, new_cluster.PLURAL)
    found = next((one for one in every if name_of(one) == cluster), {})
    primary = str(dig(found, "status").get("currentPrimary") or "")
    if not primary:
        raise NotFoundError(
            f"the primary of cluster {cluster} in namespace {namespace} is not known",
            f"see how the cluster is: kubectl get cluster {cluster} --namespace {namespace}",
        )
    return _Server(namespace, cluster, primary)


@dataclass(frozen=True, slots=True)
class _Live:
    """A database as it is now, by the programs in the pod of its primary."""

    session: Session
    where: _Server
    dbname: str

    @property
    def title(self) -> str:
        """What it is, for people."""
        return f"{self.dbname} in cluster {self.where.cluster} now"

    def _ask(self, *command: str, sink: Callable[[bytes], None] | None = None) -> str:
        primary, server = self.where.primary, self.session.cluster.in_namespace(self.where.namespace)
        words = ["env", f"PGDATABASE={self.dbname}", "PGUSER=postgres", "PGAPPNAME=cnpg-backup-diff", *command]
        try:
            done = server.execute(primary, _SERVER, words, sink)
        except ConnectionError as error:
            raise PluginError(f"the connection to pod {primary} was lost: {error}", "try again") from None
        if done.code:
            raise PluginError(f"{self.title}: {inspector.last_line(done.errors) or 'it cannot be read'}")
        return done.output.decode(errors="replace")

    def state(self, *, rows: bool) -> State:
        """Return its definitions, and if wanted the number of rows of each table."""
        self.session.screen.note(f"diff: reading the definitions of {self.title}")
        objects = difference.read_objects(self._ask("pg_dump", "--schema-only", "--lock-wait-timeout=10s"))
        counts = {}
        if rows:
            self.session.screen.note(f"diff: counting the rows of {self.title}")
            script = 'printf %s "$1" | psql -XAtq -v ON_ERROR_STOP=1 -f -'
            for line in self._ask("sh", "-c", script, "sh", difference.live_query()).splitlines():
                schema, name, number = json.loads(line)
                counts[schema, name] = int(number)
        return State(self.title, objects, counts)

    def copy(self, rows: Rows) -> None:
        """Read the rows of some tables."""
        wanted = [f"--table={row_difference.quoted(table)}" for table in sorted(rows.tables)]
        self._ask("pg_dump", "--data-only", "--lock-wait-timeout=10s", *wanted, sink=rows.feed)
