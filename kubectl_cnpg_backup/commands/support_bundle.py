"""`support-bundle`: one archive with what a maintainer needs to find a fault, and nothing secret."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kubectl_cnpg_backup.cluster.inspector import ROOT
from kubectl_cnpg_backup.commands import doctor, version
from kubectl_cnpg_backup.commands.common import Commands, add_command, add_wait, count, show
from kubectl_cnpg_backup.commands.status import look, status_of
from kubectl_cnpg_backup.errors import UsageError
from kubectl_cnpg_backup.model import doctor as examination
from kubectl_cnpg_backup.model import redaction, versions
from kubectl_cnpg_backup.model.objects import Object, container_statuses, containers_of, name_of, pods_of
from kubectl_cnpg_backup.model.status import document as status_document
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode, RetentionError
from retention.text import format_size

_JOBS = 10
"""Of how many Jobs, the newest, the logs are taken."""
_README = """\
Release {release} in namespace {namespace}, {now}, made by kubectl cnpg-backup support-bundle.

What is in it: the release's CronJobs, Jobs, pods, claim and settings; events; the last {lines} lines of the logs of the
newest {jobs} Jobs; what status, doctor and version say; and what is on the volume, by name and size.

What is not: Secrets, which are not asked for. Helm keeps the release's values in one; what they were rendered to is in
objects/. Of annotations, environment variables and volumes that the chart does not set there are only names. What looks
like a password, a token or a key in a text is replaced by "{left_out}". Names of databases, hosts and users are there.

"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands, "support-bundle", "Write an archive with what a maintainer needs for help, without secrets.", run
    )
    command.add_argument(
        "--to", type=Path, default=Path(), metavar="PATH", help="folder or file (default: this folder)"
    )
    command.add_argument("--lines", type=count, default=500, metavar="N", help="last lines of each log (default: 500)")
    command.add_argument("--no-volume", action="store_true", help="start no pod: only what the API server knows")
    add_wait(command)


class _Bundle:
    """The files of the archive, and what could not be had."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.missing: list[str] = []

    def add(self, name: str, read: Callable[[], object]) -> None:
        """Add a document; when it cannot be read, note why, and go on."""
        try:
            found = read()
        except RetentionError as error:
            self.missing.append(f"{name}: {redaction.text(str(error))}")
            return
        self.files[name] = found if isinstance(found, str) else json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def run(session: Session) -> int:
    """Write the archive."""
    options, screen, release = session.options, session.screen, session.release
    name = f"cnpg-backup-support-{release.namespace}-{release.name}-{session.now:%Y%m%d-%H%M%S}.tar.gz"
    target = options.to / name if options.to.is_dir() else options.to
    if target.exists() or not target.parent.is_dir():
        raise UsageError(
            f"{target} exists already" if target.exists() else f"{target.parent} is not a folder", "choose another --to"
        )
    bundle = _Bundle()
    with screen.waiting("support-bundle: asking the API server"):
        _collect(session, bundle)
    bundle.files["README.txt"] = _readme(session, bundle)
    content = packed(bundle.files, f"{release.name}-support", int(session.now.timestamp()))
    with target.open("xb") as file:
        target.chmod(0o600)
        file.write(content)
    document = {"path": str(target), "bytes": len(content), "files": sorted(bundle.files), "missing": bundle.missing}
    for one in bundle.missing:
        screen.note(f"not in it: {one}")
    show(
        screen,
        document,
        f"{target}: {len(bundle.files)} files, {format_size(len(content))}; look through it before you send it",
    )
    return ExitCode.DONE


def _readme(session: Session, bundle: _Bundle) -> str:
    head = _README.format(
        release=session.release.name,
        namespace=session.release.namespace,
        now=session.now.isoformat(timespec="seconds"),
        lines=session.options.lines,
        jobs=_JOBS,
        left_out=redaction.LEFT_OUT,
    )
    return head + "".join(f"missing: {one}\n" for one in bundle.missing)


def packed(files: dict[str, str], folder: str, moment: int) -> bytes:
    """Return a compressed tar archive with these files."""
    out = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=out, mode="wb", mtime=moment) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as tar,
    ):
        for name, text in sorted(files.items()):
            content = text.encode(errors="replace")
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(content), moment, 0o600
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def _collect(session: Session, bundle: _Bundle) -> None:
    cluster, release, scrub = session.cluster, session.release, redaction.scrubbed
    bundle.add("version.json", lambda: versions.document(version.versions(session)))
    bundle.add("objects/cronjobs.json", lambda: [redaction.cronjob(one.source) for one in release.cronjobs])
    jobs: list[Object] = []
    pods: list[Object] = []

    def remember(found: Sequence[Object], place: list[Object]) -> Sequence[Object]:
        place.extend(found)
        return found

    selector = release.selector
    bundle.add("objects/jobs.json", lambda: [redaction.job(one) for one in remember(cluster.jobs(selector), jobs)])
    bundle.add("objects/pods.json", lambda: [redaction.pod(one) for one in remember(cluster.pods(selector), pods)])
    for config in sorted({one.config_map for one in release.cronjobs if one.config_map}):
        bundle.add(f"objects/configmap-{config}.json", partial(_config_map, session, config))
    if release.claim:
        bundle.add("objects/claim.json", lambda: redaction.claim(cluster.claim(release.claim)))
    bundle.add(
        "objects/networkpolicies.json", lambda: [redaction.network_policy(one) for one in cluster.network_policies()]
    )
    bundle.add("events.json", lambda: _events(session, jobs, pods))
    bundle.add(
        "doctor.json", lambda: scrub(examination.document(examination.examine(doctor.facts(session, secrets=False))))
    )
    found: dict[str, Any] = {}
    if not session.options.no_volume:
        bundle.add("volume.json", lambda: scrub(_volume(session, found)))
    bundle.add("status.json", lambda: scrub(status_document(status_of(session, found.get("report")), session.now)))
    newest = sorted(jobs, key=lambda one: str((one.get("metadata") or {}).get("creationTimestamp")), reverse=True)
    for job in newest[:_JOBS]:
        _logs(session, bundle, job, pods)


def _config_map(session: Session, name: str) -> dict[str, Any]:
    return redaction.config_map(session.cluster.config_map(name))


def _events(session: Session, jobs: Sequence[Object], pods: Sequence[Object]) -> list[dict[str, Any]]:
    release, cluster = session.release, session.cluster
    wanted = [
        *(("CronJob", one.name) for one in release.cronjobs),
        *(("PersistentVolumeClaim", name) for name in [release.claim] if name),
        *(("Job", name_of(one)) for one in jobs),
        *(("Pod", name_of(one)) for one in pods),
    ]
    return [redaction.event(one) for kind, name in wanted for one in cluster.events_of(kind, name)]


def _volume(session: Session, found: dict[str, Any]) -> dict[str, Any]:
    found["report"] = report = look(session)
    return {"root": ROOT, "status": report.status, "list": report.listing}


def _logs(session: Session, bundle: _Bundle, job: Object, pods: Sequence[Object]) -> None:
    own = pods_of(name_of(job), pods)
    for pod in own[-1:]:
        for state in container_statuses(pod, containers_of(job)):
            name = str(state.get("name"))
            if redaction.is_own(name) and "waiting" not in (state.get("state") or {}):
                bundle.add(f"logs/{name_of(job)}/{name}.log", partial(_log, session, name_of(pod), name))


def _log(session: Session, pod: str, container: str) -> str:
    lines = session.cluster.log_lines(pod, container, follow=False)
    try:
        return redaction.log(lines, session.options.lines, lambda more: f"({more} lines before this one)")
    except ConnectionError as error:
        raise RetentionError(f"the log broke off: {error}") from None
