"""`diff`: what differs between two backups, or between a backup and the database as it is now."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from kubectl_cnpg_backup.cluster import inspector
from kubectl_cnpg_backup.cluster.inspector import ROOT, Inspector
from kubectl_cnpg_backup.commands.common import (
    Commands,
    add_command,
    add_wait,
    archive_path,
    directories,
)
from kubectl_cnpg_backup.commands.download import pick
from kubectl_cnpg_backup.commands.restore import restore_template
from kubectl_cnpg_backup.errors import NotFoundError, PluginError
from kubectl_cnpg_backup.model import difference, new_cluster
from kubectl_cnpg_backup.model.difference import State
from kubectl_cnpg_backup.model.objects import dig, name_of
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
    command.add_argument("--definitions", action="store_true", help="show how each definition has changed")
    command.add_argument("--check", action="store_true", help="exit 1 if a definition differs")
    add_wait(command)


def run(session: Session) -> int:
    """Show the differences."""
    options, screen = session.options, session.screen
    names = [options.before, *([options.after] if options.after else [])]
    for name in names:
        if database_of_archive(name) is None:
            directories([name])
    with screen.waiting("diff: waiting for a pod that mounts the volume"):
        find = None if options.after else _server_of(session, database_of_archive(names[0]) or names[0])
        with session.inspecting(inspector.newest_template(session.release)) as pod:
            paths = [archive_path(name) if database_of_archive(name) else _newest(session, pod, name) for name in names]
            states = [_archive(session, pod, path) for path in paths]
            if find is not None:
                states.append(_live(session, find, _name_on_server(pod, paths[0])))
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


def _archive(session: Session, pod: Inspector, path: str) -> State:
    """Return the state that an archive holds."""
    name = path.rpartition("/")[2]
    session.screen.note(f"diff: reading the definitions of {name}")
    objects = difference.read_objects(pod.postgres("pg_restore", "--schema-only", "-f", "-", path))
    rows = {}
    if not session.options.no_rows:
        session.screen.note(f"diff: reading {name} in full, to count its rows")
        listed, _ = pod.retention_json("tables", path)
        counted = details.with_rows(listed["tables"], details.read_rows(pod.postgres("sh", _SCRIPT, path)))
        rows = {(str(one["schema"]), str(one["name"])): int(one["rows"]) for one in counted if one["rows"] is not None}
    return State(name, objects, rows)


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


def _live(session: Session, where: _Server, dbname: str) -> State:
    """Return the state of a database as it is now, by the programs in the pod of its primary.

    Raises:
        PluginError: When the server cannot be asked.
    """
    primary = where.primary
    server = session.cluster.in_namespace(where.namespace)
    title = f"{dbname} in cluster {where.cluster} now"

    def ask(*command: str) -> str:
        words = ["env", f"PGDATABASE={dbname}", "PGUSER=postgres", "PGAPPNAME=cnpg-backup-diff", *command]
        try:
            done = server.execute(primary, _SERVER, words)
        except ConnectionError as error:
            raise PluginError(f"the connection to pod {primary} was lost: {error}", "try again") from None
        if done.code:
            raise PluginError(f"{title}: {inspector.last_line(done.errors) or 'it cannot be read'}")
        return done.output.decode(errors="replace")

    session.screen.note(f"diff: reading the definitions of {title}")
    objects = difference.read_objects(ask("pg_dump", "--schema-only", "--lock-wait-timeout=10s"))
    rows = {}
    if not session.options.no_rows:
        session.screen.note(f"diff: counting the rows of {title}")
        script = 'printf %s "$1" | psql -XAtq -v ON_ERROR_STOP=1 -f -'
        for line in ask("sh", "-c", script, "sh", difference.live_query()).splitlines():
            schema, name, count = json.loads(line)
            rows[schema, name] = int(count)
    return State(title, objects, rows)
