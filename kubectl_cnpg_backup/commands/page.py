"""`page`: the state of a release and a timeline of its archives, as one file that any browser shows."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from kubectl_cnpg_backup.commands.common import Commands, add_command, add_wait
from kubectl_cnpg_backup.commands.status import look, status_of
from kubectl_cnpg_backup.errors import PluginError
from kubectl_cnpg_backup.model.objects import parse_time
from kubectl_cnpg_backup.model.release import clusters_of
from kubectl_cnpg_backup.model.schedule import EARLY, due_before
from kubectl_cnpg_backup.model.status import Database, Status, VolumeReport
from kubectl_cnpg_backup.output import timeline
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode
from watch import page, problems, standing
from watch.memory import Drilled, Record
from watch.notices import Place

_ALERTS = {"late": "CnpgBackupStale", "refused": "CnpgBackupPruneRefused"}
_OF_VOLUME = "CnpgBackupVolumeFull"


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(commands, "page", "Write the state and a timeline of the archives as one HTML file.", run)
    command.add_argument(
        "file", nargs="?", default="backups.html", metavar="FILE", help="where to (default: backups.html); - prints it"
    )
    add_wait(command)


def run(session: Session) -> int:
    """Write the page."""
    screen, file = session.screen, session.options.file
    with screen.waiting("page: waiting for a pod that mounts the volume"):
        report = look(session)
        found = status_of(session, report)
        clusters = clusters_of(session.release, session.configs())
    made = page.render(made_of(found, report, clusters, session.now))
    if file == "-":
        print(made, end="")
        return ExitCode.DONE
    try:
        Path(file).write_text(made)
    except OSError as error:
        raise PluginError(f"{file} cannot be written: {error.strerror}", "give another FILE") from None
    if screen.is_table:
        screen.line(
            f"{file}: {len(found.databases)} databases as of {problems.moment(session.now)}; open it in a browser"
        )
    else:
        screen.document({"file": file, "databases": len(found.databases)})
    return ExitCode.DONE


def made_of(found: Status, report: VolumeReport, clusters: Mapping[str, str], now: datetime) -> page.Page:
    """Return the page of what was found.

    Args:
        found: The status of the release.
        report: What is on the volume.
        clusters: The cluster of each database, as `namespace/name`.
        now: The moment, UTC.
    """
    release, volume = found.release, found.volume
    names = {one.name: one for one in found.databases}
    wrong = [
        problems.Problem(
            one.subject,
            _ALERTS.get(names[one.subject].state, "CnpgBackupFailing") if one.subject in names else _OF_VOLUME,
            one.problem,
            remedy=one.remedy,
        )
        for one in found.problems
    ]
    sizes = {} if volume is None else {"capacity": volume.bytes, "used": volume.used, "full": volume.full}
    return page.Page(
        Place(release.namespace, release.name),
        now,
        now,
        [_database(one, clusters.get(one.name, ""), now) for one in found.databases],
        sorted(wrong, key=lambda one: (one.subject not in names, one.rank, one.subject)),
        sizes,
        release.claim,
        served=False,
        archives={str(entry["database"]): timeline.archives(entry) for entry in report.listing},
        note=timeline.LEGEND,
        version=release.version,
    )


def _database(one: Database, cluster: str, now: datetime) -> standing.Database:
    namespace, _, name = cluster.partition("/")
    key = (now, "", True)
    numbers = {} if one.backups is None else {"kept": float(one.backups), "total": float(one.bytes or 0)}
    state = one.state if one.state in page.STATES else "unknown"
    record = Record(
        key, state, one.why, key if one.backups is not None else None, one.newest, numbers, one.last_success
    )
    limit = None
    if one.cronjob is not None and not one.cronjob.suspended:
        try:
            due = due_before(one.cronjob.schedule, one.cronjob.time_zone, now, 2)
        except PluginError:
            due = None
        limit = None if due is None else now - due + EARLY
    suspended = one.cronjob is not None and one.cronjob.suspended
    cronjob = "" if one.cronjob is None else one.cronjob.name
    return standing.Database(
        one.name,
        cronjob,
        name,
        namespace,
        "",
        suspended,
        state,
        one.why,
        record,
        _drilled(one, now),
        one.next_run,
        limit,
    )


def _drilled(one: Database, now: datetime) -> Drilled | None:
    drill = one.last_drill
    if drill is None or not drill.get("result"):
        return None
    at = parse_time(drill.get("finished") or drill.get("at")) or now
    result = str(drill["result"])
    seconds = drill.get("restore_seconds")
    took = int(timedelta(seconds=seconds).total_seconds()) if isinstance(seconds, int | float) else None
    return Drilled((at, "", True), result, at if result == "proved" else None, took)
