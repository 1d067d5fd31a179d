"""What the API server knows of a release: its CronJobs, its runs, and how each database ended. Values in, values out.

Objects are taken as the API's JSON has them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kubectl_cnpg_backup.errors import NotFoundError, PluginError, UsageError

Object = Mapping[str, Any]

NAME_LABEL = "app.kubernetes.io/name"
INSTANCE_LABEL = "app.kubernetes.io/instance"
COMPONENT_LABEL = "app.kubernetes.io/component"
CHART = "cnpg-backup"
SELECTOR = f"{NAME_LABEL}={CHART}"
"""Finds the objects of every release of the chart."""

BACKUP, INSPECTOR, RESTORE, DRILL = "backup", "inspect", "restore", "drill"
CONFIG_VOLUME = "config"
"""The volume of a run's pod that holds `<database>.conf`."""

_CONF_SUFFIX = ".conf"
_VERDICT = re.compile(r"(?P<database>\S+) (?P<result>ok|warning|refused|failed) \((?P<newest>[^)]*)\): (?P<why>.*)")
_NEWEST = re.compile(r"newest (\d{4}-\d{2}-\d{2} \d{2}:\d{2})Z")


@dataclass(frozen=True, slots=True)
class CronJob:
    """One CronJob of a release.

    Attributes:
        name: Its name.
        component: What its pods are for: `backup`, `inspect`, `restore`, `drill`.
        schedule: The cron expression.
        time_zone: An IANA name; `Etc/UTC` where the object says nothing.
        suspended: Whether the schedule is off.
        last_schedule: When it was last due and started, UTC.
        last_success: When a run last ended well, UTC.
        source: The whole object.
    """

    name: str
    component: str
    schedule: str
    time_zone: str
    suspended: bool
    last_schedule: datetime | None
    last_success: datetime | None
    source: Object

    @property
    def pod_spec(self) -> Object:
        """The spec of its pods."""
        return _dig(self.source, "spec", "jobTemplate", "spec", "template", "spec")

    @property
    def config_map(self) -> str:
        """Name of the ConfigMap with the databases' configuration; empty where its pods mount none."""
        for volume in self.pod_spec.get("volumes") or ():
            if volume.get("name") == CONFIG_VOLUME:
                return str(_dig(volume, "configMap").get("name") or "")
        return ""

    @property
    def claim(self) -> str:
        """Name of the claim that its pods mount; empty where they mount none."""
        for volume in self.pod_spec.get("volumes") or ():
            claim = _dig(volume, "persistentVolumeClaim").get("claimName")
            if claim:
                return str(claim)
        return ""


@dataclass(frozen=True, slots=True)
class Release:
    """An installation of the chart.

    Attributes:
        name: The value of the label `app`, which all its objects share.
        instance: Helm's name of the release.
        version: Version of the chart.
        namespace: Where it is.
        cronjobs: Its CronJobs, sorted by name.
    """

    name: str
    instance: str
    version: str
    namespace: str
    cronjobs: tuple[CronJob, ...]

    @property
    def selector(self) -> str:
        """Finds the release's own objects."""
        return f"{SELECTOR},app={self.name}"

    def of(self, component: str) -> tuple[CronJob, ...]:
        """Return the CronJobs of one component."""
        return tuple(cronjob for cronjob in self.cronjobs if cronjob.component == component)

    def template(self, component: str) -> CronJob:
        """Return the CronJob that Jobs of a component are made from.

        Raises:
            NotFoundError: When this release has none.
        """
        found = self.of(component)
        if not found:
            raise NotFoundError(
                f"release {self.name} in namespace {self.namespace} has no CronJob for '{component}'",
                "upgrade the release to a chart that has it, and see whether its values switch it off",
            )
        return found[0]

    @property
    def claim(self) -> str:
        """Name of the claim with the backups."""
        return next((cronjob.claim for cronjob in self.cronjobs if cronjob.claim), "")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run ended for one database, by the pod's termination message.

    Attributes:
        database: Its name.
        result: ok, warning, refused or failed.
        newest: When its newest backup began, UTC, to the minute; None when there is none.
        why: One line.
    """

    database: str
    result: str
    newest: datetime | None
    why: str


@dataclass(frozen=True, slots=True)
class Run:
    """A Job of a release.

    Attributes:
        job: Its name.
        cronjob: Name of the CronJob that it was made from; empty where that is not known.
        component: What it is for.
        state: running, succeeded or failed.
        started: When it started, UTC; None while it has not.
        finished: When it ended, UTC.
        exit_code: Of the program that has the last word; None while there is none, or the pod is gone.
        reason: Why Kubernetes says that it failed.
        message: The pod's last words; empty when the pod is gone.
        verdicts: What they say of each database.
    """

    job: str
    cronjob: str
    component: str
    state: str
    started: datetime | None
    finished: datetime | None
    exit_code: int | None
    reason: str
    message: str
    verdicts: tuple[Verdict, ...]


def parse_time(text: object) -> datetime | None:
    """Return the moment of one of the API's timestamps, UTC."""
    if isinstance(text, datetime):
        return text.astimezone(UTC)
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None


def labels(item: Object) -> Object:
    """Return an object's labels."""
    return _dig(item, "metadata", "labels")


def name_of(item: Object) -> str:
    """Return an object's name."""
    return str(_dig(item, "metadata").get("name") or "")


def _dig(item: Any, *path: str) -> Object:
    """Return the map below a path, empty where there is none."""
    for step in path:
        item = (item or {}).get(step)
    return item if isinstance(item, Mapping) else {}


def read_cronjob(item: Object) -> CronJob:
    """Return a CronJob from the API's object."""
    spec, status = _dig(item, "spec"), _dig(item, "status")
    own, template = labels(item), _dig(spec, "jobTemplate", "metadata", "labels")
    return CronJob(
        name_of(item),
        str(own.get(COMPONENT_LABEL) or template.get(COMPONENT_LABEL) or BACKUP),
        str(spec.get("schedule") or ""),
        str(spec.get("timeZone") or "Etc/UTC"),
        bool(spec.get("suspend")),
        parse_time(status.get("lastScheduleTime")),
        parse_time(status.get("lastSuccessfulTime")),
        item,
    )


def releases(cronjobs: Iterable[Object], namespace: str) -> list[Release]:
    """Return the releases that CronJobs belong to, sorted by name."""
    found: dict[str, list[Object]] = {}
    for item in cronjobs:
        app = str(labels(item).get("app") or "")
        if app:
            found.setdefault(app, []).append(item)
    result = []
    for app, items in sorted(found.items()):
        own = labels(items[0])
        version = str(own.get("helm.sh/chart") or "").removeprefix(f"{CHART}-").replace("_", "+")
        members = sorted((read_cronjob(item) for item in items), key=lambda cronjob: cronjob.name)
        result.append(Release(app, str(own.get(INSTANCE_LABEL) or app), version, namespace, tuple(members)))
    return result


def choose(found: Sequence[Release], wanted: str, namespace: str) -> Release:
    """Return the release that is meant: the wanted one, or the only one.

    Raises:
        UsageError: When there is none, or no such one, or several to choose from.
    """
    names = ", ".join(release.name for release in found)
    if not found:
        raise UsageError(
            f"there is no release of {CHART} in namespace {namespace}", "name its namespace with --namespace"
        )
    if not wanted:
        if len(found) == 1:
            return found[0]
        raise UsageError(f"namespace {namespace} has several releases: {names}", "choose one with --release")
    matching = [release for release in found if release.name == wanted]
    matching = matching or [release for release in found if release.instance == wanted]
    if len(matching) == 1:
        return matching[0]
    if matching:
        several = ", ".join(release.name for release in matching)
        raise UsageError(f"release {wanted!r} has several parts: {several}", "choose one of them with --release")
    raise UsageError(f"there is no release {wanted!r} in namespace {namespace}", f"there is {names}")


def databases_in(config: Object) -> tuple[str, ...]:
    """Return the databases that a configuration's ConfigMap has a file for, sorted."""
    names = _dig(config, "data")
    return tuple(sorted(name.removesuffix(_CONF_SUFFIX) for name in names if name.endswith(_CONF_SUFFIX)))


def read_conf(config: Object, database: str) -> dict[str, str]:
    """Return the settings of one database, `key=value` a line; the last one wins."""
    text = str(_dig(config, "data").get(f"{database}{_CONF_SUFFIX}") or "")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def parse_verdicts(message: str) -> tuple[Verdict, ...]:
    """Return what a pod's termination message says of each database; what was cut off is left out."""
    verdicts = []
    for line in message.splitlines():
        match = _VERDICT.fullmatch(line)
        if match is None:
            continue
        newest = _NEWEST.fullmatch(match["newest"])
        moment = datetime.strptime(newest[1], "%Y-%m-%d %H:%M").replace(tzinfo=UTC) if newest else None
        verdicts.append(Verdict(match["database"], match["result"], moment, match["why"]))
    return tuple(verdicts)


def owner_of(item: Object, kind: str) -> str:
    """Return the name of the owner of a kind, or nothing."""
    for reference in _dig(item, "metadata").get("ownerReferences") or ():
        if reference.get("kind") == kind:
            return str(reference.get("name") or "")
    return ""


def condition(item: Object, *types: str) -> Object | None:
    """Return the first true condition of one of these types."""
    for entry in _dig(item, "status").get("conditions") or ():
        if entry.get("type") in types and entry.get("status") == "True":
            found: Object = entry
            return found
    return None


def job_state(job: Object) -> str:
    """Return how a Job stands: running, succeeded or failed."""
    ended = condition(job, "Complete", "Failed")
    if ended is None:
        return "running"
    return "succeeded" if ended["type"] == "Complete" else "failed"


def container_statuses(pod: Object) -> list[Object]:
    """Return the states of a pod's containers in the order in which they run."""
    status = _dig(pod, "status")
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def last_words(pod: Object) -> tuple[int | None, str]:
    """Return exit code and termination message of a pod: of the first container that failed, or of the last one."""
    code: int | None = None
    message = ""
    for status in container_statuses(pod):
        ended = _dig(status, "state", "terminated")
        if not ended:
            continue
        code, message = int(ended.get("exitCode", 0)), str(ended.get("message") or "")
        if code:
            break
    return code, message


def pods_of(job: str, pods: Iterable[Object]) -> list[Object]:
    """Return a Job's pods, oldest first."""
    own = [pod for pod in pods if labels(pod).get("batch.kubernetes.io/job-name") == job]
    return sorted(own, key=lambda pod: str(_dig(pod, "metadata").get("creationTimestamp") or ""))


def read_runs(jobs: Iterable[Object], pods: Sequence[Object]) -> list[Run]:
    """Return the Jobs of a release, newest first."""
    runs = []
    for job in jobs:
        name, status = name_of(job), _dig(job, "status")
        own = pods_of(name, pods)
        code, message = last_words(own[-1]) if own else (None, "")
        state = job_state(job)
        ended = condition(job, "Complete", "Failed")
        failed = ended if state == "failed" and ended is not None else {}
        runs.append(
            Run(
                name,
                owner_of(job, "CronJob"),
                str(labels(job).get(COMPONENT_LABEL) or BACKUP),
                state,
                parse_time(status.get("startTime")),
                parse_time(status.get("completionTime")) or parse_time((ended or {}).get("lastTransitionTime")),
                code,
                ": ".join(str(failed[key]) for key in ("reason", "message") if failed.get(key)),
                message,
                parse_verdicts(message),
            )
        )
    never = datetime.min.replace(tzinfo=UTC)
    return sorted(runs, key=lambda run: (run.started or never, run.job), reverse=True)


def exit_code_of(run: Run) -> int:
    """Return what a run that has ended comes to: the program's own exit code, or 1 where Kubernetes ended it."""
    if run.state == "succeeded":
        return 0
    return run.exit_code or 1


def worst(codes: Iterable[int]) -> int:
    """Return the exit code of several runs: a failed database beats wrong usage, which beats a refusal."""
    present = set(codes)
    for code in (1, 2, 3):
        if code in present:
            return code
    return max(present, default=0)


def claim_problem(item: Object) -> PluginError | None:
    """Return what is wrong with a claim, or None when it is bound."""
    phase = str(_dig(item, "status").get("phase") or "unknown")
    if phase == "Bound" and not _dig(item, "metadata").get("deletionTimestamp"):
        return None
    if _dig(item, "metadata").get("deletionTimestamp"):
        return PluginError(
            f"claim {name_of(item)} is being deleted", "copy the backups elsewhere before the last pod lets go of it"
        )
    return PluginError(
        f"claim {name_of(item)} is {phase}", "see `kubectl describe pvc` for what its storage class lacks"
    )
