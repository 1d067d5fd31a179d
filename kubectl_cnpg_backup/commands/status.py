"""`status`: the databases, the volume, and what is wrong."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from kubectl_cnpg_backup.cluster.inspector import ROOT, error_lines
from kubectl_cnpg_backup.commands.common import (
    Commands,
    add_command,
    add_table_options,
    add_wait,
    sorted_by,
    superusers,
)
from kubectl_cnpg_backup.commands.everywhere import add_all_namespaces
from kubectl_cnpg_backup.commands.watching import add_watch, runs_of, watch
from kubectl_cnpg_backup.errors import ForbiddenError, PluginError
from kubectl_cnpg_backup.model.release import Run, clusters_of, databases_in, entries_in
from kubectl_cnpg_backup.model.status import Status, VolumeReport, database_document, describe, document
from kubectl_cnpg_backup.output import tables
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode

PREVIEW = "what the API server knows, until a pod has read the volume:"
"""The title of what is shown meanwhile."""


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands, "status", "Show the state of each database and of the volume; exit 1 when something is wrong.", run
    )
    command.add_argument("--no-volume", action="store_true", help="start no pod: show only what the API server knows")
    add_wait(command)
    add_table_options(command)
    several = command.add_mutually_exclusive_group()
    add_all_namespaces(several)
    add_watch(several)


def run(session: Session) -> int:
    """Show the status of the release."""
    return watch(session, _essence, _show) if session.options.watch else _show(session)


def _essence(session: Session) -> object:
    """Return what the API server knows of the status, without ages, which change all the time."""
    found = _describe(session, _configured(session, silent=True), {}, None)
    databases = [(database.name, database.state, database.newest) for database in found.databases]
    return databases, {(one.subject, one.remedy) for one in found.problems}, runs_of(session)


@dataclass(frozen=True, slots=True)
class _Configured:
    """What the configuration names; nothing where this user may not read it.

    Attributes:
        databases: The databases of each CronJob.
        clusters: The cluster of each database.
        entries: What of `databases` means all databases of a cluster.
    """

    databases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    clusters: Mapping[str, str] = field(default_factory=dict)
    entries: frozenset[str] = frozenset()


def _configured(session: Session, *, silent: bool = False) -> _Configured:
    try:
        configs = session.configs()
    except ForbiddenError as error:
        if not silent:
            session.screen.note(f"cannot read which databases are configured: {error}")
        return _Configured()
    return _Configured(
        {name: databases_in(config) for name, config in configs.items()},
        clusters_of(session.release, configs),
        frozenset(name for config in configs.values() for name in entries_in(config)),
    )


def _describe(
    session: Session,
    configured: _Configured,
    has_superuser: Mapping[str, bool | None],
    report: VolumeReport | None,
    runs: Sequence[Run] | None = None,
) -> Status:
    runs = session.runs_and_others() if runs is None else runs
    return describe(session.release, configured.databases, runs, report, session.now, has_superuser, configured.entries)


def preview(session: Session) -> None:
    """Show the databases as the API server knows them, while a pod that reads the volume starts."""
    if not session.screen.can_preview:
        return
    with suppress(PluginError):
        found = _describe(session, _configured(session, silent=True), {}, None)
        session.screen.preview(tables.status(found, session.now), PREVIEW)


def status_of(session: Session, report: VolumeReport | None) -> Status:
    """Return the status of the release, with what was found on the volume."""
    configured = _configured(session)
    return _describe(session, configured, superusers(session, configured.clusters), report)


def _show(session: Session) -> int:
    screen, order = session.screen, sorted_by(session, tables.STATUS)
    with screen.waiting("status: asking the API server"):
        # The runs come first: the pod that looks at the volume is none of them.
        release, runs = session.release, session.runs_and_others()
        configured = _configured(session)
        has_superuser: dict[str, bool | None] = {}

        def meanwhile() -> None:
            has_superuser.update(superusers(session, configured.clusters))
            if screen.can_preview:
                quick = _describe(session, configured, has_superuser, None, runs)
                screen.preview(tables.status(quick, session.now), PREVIEW)

        report = None
        if session.options.no_volume:
            meanwhile()
        else:
            report = look(session, meanwhile)
    found = _describe(session, configured, has_superuser, report, runs)
    databases = sorted(found.databases, key=lambda one: order(database_document(one, session.now)))
    found = replace(found, databases=tuple(databases))
    code = ExitCode.FAILED if found.problems else ExitCode.DONE
    if not screen.is_table:
        screen.document(document(found, session.now), [database.name for database in found.databases])
        return code
    title = "" if session.options.all_namespaces else f"release {release.name} in namespace {release.namespace}"
    screen.table(tables.status(found, session.now), title)
    if screen.rows_alone:
        return code
    if found.volume is not None:
        screen.line()
        screen.line(tables.volume_line(found))
    for line in tables.restore_lines(found, configured.clusters):
        screen.line(line)
    if found.problems:
        screen.line()
    for problem in found.problems:
        screen.line(f"wrong: {problem.subject}: {problem.problem}; {problem.remedy}", style=tables.WRONG)
    return code


def look(session: Session, meanwhile: Callable[[], None] = lambda: None) -> VolumeReport:
    """Return what an inspector pod finds on the volume; `meanwhile` is done while it starts."""
    with session.inspecting(meanwhile=meanwhile) as pod:
        status, done = pod.retention_json("status", ROOT)
        listing, _ = pod.retention_json("list", ROOT, config=True)
        for line in error_lines(done.errors):
            session.screen.note(line)
    room: Mapping[str, int] = next((entry for entry in status if entry.get("volume_bytes") is not None), {})
    return VolumeReport(status, listing, room.get("volume_bytes"), room.get("volume_used_bytes"))
