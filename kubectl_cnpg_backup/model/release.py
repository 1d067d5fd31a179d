"""What the API server knows about a release: its CronJobs, its runs, and how each database ended."""

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from kubectl_cnpg_backup.errors import NotFoundError, UsageError
from kubectl_cnpg_backup.model.objects import (
    Object,
    condition,
    container_statuses,
    containers_of,
    dig,
    job_state,
    killed_by,
    labels,
    mounts,
    name_of,
    owner_of,
    parse_time,
    pods_of,
    termination_of,
)
from kubectl_cnpg_backup.model.words import meant
from retention import keyvalue
from retention import message as termination
from retention.names import is_database

NAME_LABEL = "app.kubernetes.io/name"
INSTANCE_LABEL = "app.kubernetes.io/instance"
COMPONENT_LABEL = "app.kubernetes.io/component"
CHART = "cnpg-backup"
SELECTOR = f"{NAME_LABEL}={CHART}"
"""Finds the objects of every release of the chart."""

BACKUP, INSPECTOR, RESTORE, DRILL = "backup", "inspect", "restore", "drill"
COPY = "copy"
"""A copy of a database into another one, on a schedule."""
OPEN = "open"
"""A backup that someone looks at, in a throwaway server."""
OFFSITE, FETCH = "offsite", "fetch"
"""Copies outside the cluster, and the way back."""
OFFSITE_DRILL = "offsite-drill"
"""Restores copies from the store. Its pods are the only ones of a CronJob that do not mount the claim."""
FIRST_RUN = "first-run"
"""The Job that checks the volume when the release is installed; no CronJob makes it."""
CONFIG_VOLUME = "config"
"""The volume of a run's pod that holds `<database>.conf`."""

_CONF_SUFFIX, _ENTRY_SUFFIX = ".conf", ".all"


@dataclass(frozen=True, slots=True)
class CronJob:
    """One CronJob of a release.

    Attributes:
        name: Its name.
        component: What its pods are for: `backup`, `inspect`, `restore`, `drill`, `open`, `offsite`,
            `offsite-drill`, `copy`.
        schedule: The cron expression.
        time_zone: An IANA name; `Etc/UTC` where the object names none.
        suspended: Whether the schedule is off.
        last_schedule: When it last started a Job on schedule, UTC.
        last_success: When a run last ended well, UTC.
        source: The complete object.
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
        return dig(self.source, "spec", "jobTemplate", "spec", "template", "spec")

    @property
    def config_map(self) -> str:
        """Name of the ConfigMap with the databases' configuration; empty where its pods mount none."""
        for volume in self.pod_spec.get("volumes") or ():
            if volume.get("name") == CONFIG_VOLUME:
                return str(dig(volume, "configMap").get("name") or "")
        return ""

    @property
    def claim(self) -> str:
        """Name of the claim that its pods mount; empty where they mount none."""
        for volume in self.pod_spec.get("volumes") or ():
            claim = dig(volume, "persistentVolumeClaim").get("claimName")
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
        strangers: Names of CronJobs that have its labels and are not its own: they do not mount its claim, and are not
            those that restore copies, by their names.
    """

    name: str
    instance: str
    version: str
    namespace: str
    cronjobs: tuple[CronJob, ...]
    strangers: tuple[str, ...] = ()

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
                "upgrade the release to a chart that has one, and check that its values do not switch it off",
            )
        return found[0]

    @property
    def claim(self) -> str:
        """Name of the claim with the backups."""
        return next((cronjob.claim for cronjob in self.cronjobs if cronjob.claim), "")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run ended for one database, according to the pod's termination message.

    Attributes:
        database: Its name.
        result: ok, warning, refused or failed.
        newest: When its newest backup began, UTC; to the minute in messages of older charts. None when there is none.
        why: The most important thing to know, one line; empty where there was no room for it.
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
        cronjob: Name of the CronJob that it was made from; empty where that is unknown.
        component: What it is for: that of a CronJob, or `first-run`.
        state: running, succeeded or failed.
        started: When it started, UTC; None while it has not.
        finished: When it ended, UTC.
        exit_code: Exit code of the pod; None while it runs, or when the pod is gone.
        reason: Why it failed, according to Kubernetes: of the pod if that was evicted or killed, or else of the Job.
        killed: Whether its pod was evicted or killed, so that it left no result.
        foreign: Why it is not a run of the release, although it has its labels; empty where it is one.
        databases: The databases that it is limited to; None where it is for all of its CronJob.
        limit: When Kubernetes ends it at the latest, UTC; None where it has not started, or has no deadline.
        message: The pod's termination message; empty when the pod is gone.
        verdicts: What the message says about each database.
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
    killed: bool = False
    foreign: str = ""
    databases: frozenset[str] | None = None
    limit: datetime | None = None


def read_cronjob(item: Object) -> CronJob:
    """Return a CronJob from the API's object."""
    spec, status = dig(item, "spec"), dig(item, "status")
    own, template = labels(item), dig(spec, "jobTemplate", "metadata", "labels")
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
        every = sorted((read_cronjob(item) for item in items), key=lambda cronjob: cronjob.name)
        claim = _claim_of(app, every)
        members = tuple(
            cronjob for cronjob in every if claim and (mounts(cronjob.pod_spec, claim) or _drills_copies(app, cronjob))
        )
        strangers = tuple(cronjob.name for cronjob in every if cronjob not in members)
        if members:
            own = labels(members[0].source)
            version = str(own.get("helm.sh/chart") or "").removeprefix(f"{CHART}-").replace("_", "+")
            instance = str(own.get(INSTANCE_LABEL) or app)
            result.append(Release(app, instance, version, namespace, members, strangers))
    return result


def _claim_of(app: str, cronjobs: Sequence[CronJob]) -> str:
    """Return the claim that the CronJobs of a release mount, which the access policy guards, unlike labels.

    It is that of the inspector, whose name is the release's and so is taken already; without one, that of the oldest.
    """
    mounting = [cronjob for cronjob in cronjobs if cronjob.claim]
    name = _shortened(app, _LONGEST - len("-inspect"))
    named = [cronjob for cronjob in mounting if cronjob.name == f"{name}-inspect"]
    oldest = sorted(mounting, key=lambda one: (str(dig(one.source, "metadata").get("creationTimestamp")), one.name))
    return next((cronjob.claim for cronjob in (*named, *oldest)), "")


def _drills_copies(app: str, cronjob: CronJob) -> bool:
    """Tell whether a CronJob is the release's own that restores copies, by the name that only the chart gives."""
    start, found, rest = cronjob.name.rpartition(_DRILLS)
    length = _LONGEST - len(found + rest)
    return bool(found) and cronjob.component == OFFSITE_DRILL and start == _shortened(app, length)


_DRILLS = "-offsite-drill"
_LONGEST = 52
"""As many characters as the name of a CronJob has at most."""


def _shortened(app: str, length: int) -> str:
    """Return a release's name as the chart shortens it."""
    if len(app) <= length:
        return app
    start = app[: length - 9].removesuffix("-").removesuffix(".")
    return f"{start}-{hashlib.sha256(app.encode()).hexdigest()[:8]}"


def select_release(found: Sequence[Release], wanted: str, namespace: str) -> Release:
    """Return the wanted release, or the only one.

    Raises:
        UsageError: When there is none, none of that name, or several to choose from.
    """
    names = ", ".join(release.name for release in found)
    if not found:
        raise UsageError(
            f"namespace {namespace} has no release of {CHART}", "give the release's namespace with --namespace"
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
    question = meant(wanted, (release.name for release in found))
    raise UsageError(f"namespace {namespace} has no release {wanted!r}", f"{question}available: {names}")


def databases_in(config: Object) -> tuple[str, ...]:
    """Return the databases and the entries (all databases of a cluster) that a ConfigMap configures, sorted."""
    files = (name.rpartition(".") for name in dig(config, "data"))
    return tuple(sorted(name for name, _, kind in files if f".{kind}" in (_CONF_SUFFIX, _ENTRY_SUFFIX)))


def entries_in(config: Object) -> tuple[str, ...]:
    """Return the entries of a ConfigMap that mean all databases of a cluster, sorted."""
    names = dig(config, "data")
    return tuple(sorted(name.removesuffix(_ENTRY_SUFFIX) for name in names if name.endswith(_ENTRY_SUFFIX)))


def entry_of(database: str, entries: Container[str]) -> str:
    """Return the entry that a database found by a run belongs to, if it is one of these; else nothing."""
    entry, dot, _ = database.partition(".")
    return entry if dot and entry in entries and is_database(database) else ""


def configured_as(database: str, config: Object) -> str:
    """Return under which name a ConfigMap configures a database: its own, or that of its entry; empty if under none."""
    return database if database in databases_in(config) else entry_of(database, entries_in(config))


def read_conf(config: Object, database: str) -> dict[str, str]:
    """Return the settings of one database, or those of its entry; empty where the ConfigMap has no file for it.

    Raises:
        ConfigError: When a line is not `key=value`, or a key occurs twice.
    """
    file = f"{database}{_CONF_SUFFIX}"
    if file not in dig(config, "data"):
        file = f"{database.partition('.')[0]}{_ENTRY_SUFFIX}"
    return keyvalue.parse(str(dig(config, "data").get(file) or ""), file).values


def clusters_of(release: Release, configs: Mapping[str, Object]) -> dict[str, str]:
    """Return the cluster of each database, as `namespace/name`.

    Args:
        release: The release.
        configs: The ConfigMap of each CronJob that backs up, by the CronJob's name.
    """
    found = {}
    for config in configs.values():
        for database in databases_in(config):
            conf = read_conf(config, database)
            if conf.get("cluster"):
                found[database] = f"{conf.get('namespace', release.namespace)}/{conf['cluster']}"
    return found


def parse_verdicts(message: str) -> tuple[Verdict, ...]:
    """Return what a pod's termination message says about each database, without a line that was cut off."""
    lines = termination.read(message).lines
    return tuple(Verdict(line.database, line.result, line.newest, line.why) for line in lines)


def read_runs(jobs: Iterable[Object], pods: Sequence[Object], release: Release | None = None) -> list[Run]:
    """Return the Jobs of a release, newest first.

    Args:
        jobs: What has the labels of a run.
        pods: Their pods.
        release: The release: what does not mount its claim, or has another CronJob as its owner, is not its own and
            counts for nothing. Without it nothing is looked at.
    """
    runs = []
    for job in jobs:
        name, status = name_of(job), dig(job, "status")
        if release is not None and (foreign := _foreign(job, release)):
            started = parse_time(status.get("startTime"))
            runs.append(Run(name, "", "", job_state(job), started, None, None, "", "", (), foreign=foreign))
            continue
        own, cuckoos = pods_of(name, pods), []
        if release is not None and labels(job).get(COMPONENT_LABEL) != OFFSITE_DRILL:
            cuckoos = [pod for pod in own if not mounts(dig(pod, "spec"), release.claim)]
            own = [pod for pod in own if pod not in cuckoos]
        containers = containers_of(job)
        code, message = termination_of(own[-1], containers) if own else (None, "")
        state = job_state(job)
        killed = killed_by(own[-1], containers) if own and state == "failed" else ""
        if cuckoos and state == "succeeded" and code != 0:
            state = "failed"
            killed = (
                f"pod {name_of(cuckoos[-1])} ended it, which does not mount claim {release.claim if release else ''}"
            )
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
                killed or ": ".join(str(failed[key]) for key in ("reason", "message") if failed.get(key)),
                message,
                parse_verdicts(message),
                bool(killed) or (state == "failed" and code is None),
                databases=_limited_to(job),
                limit=_limit(job),
            )
        )
    never = datetime.min.replace(tzinfo=UTC)
    return sorted(runs, key=lambda run: (run.started or never, run.job), reverse=True)


def _foreign(job: Object, release: Release) -> str:
    """Return why a Job with a release's labels is not a run of it, by what the access policy guards."""
    uids = {cronjob.name: dig(cronjob.source, "metadata").get("uid") for cronjob in release.cronjobs}
    if labels(job).get(COMPONENT_LABEL) == OFFSITE_DRILL:
        own = {cronjob.name for cronjob in release.of(OFFSITE_DRILL)}
        if owner_of(job, "CronJob") not in own:
            return "its owner is no CronJob of the release"
    elif not mounts(dig(job, "spec", "template", "spec"), release.claim):
        return f"it does not mount claim {release.claim}"
    for owner in dig(job, "metadata").get("ownerReferences") or ():
        if owner.get("kind") == "CronJob" and uids.get(str(owner.get("name")), owner.get("uid")) != owner.get("uid"):
            return f"its owner is another CronJob {owner.get('name')}, which is gone"
    return ""


def _limit(job: Object) -> datetime | None:
    """Return when Kubernetes ends a Job at the latest."""
    started, most = parse_time(dig(job, "status").get("startTime")), dig(job, "spec").get("activeDeadlineSeconds")
    return None if started is None or not most else started + timedelta(seconds=int(most))


def _limited_to(job: Object) -> frozenset[str] | None:
    """Return the databases whose configuration a Job mounts; None where it mounts all that there is."""
    for volume in dig(job, "spec", "template", "spec").get("volumes") or ():
        if volume.get("name") == CONFIG_VOLUME and dig(volume, "configMap").get("items"):
            keys = [str(item["key"]) for item in volume["configMap"]["items"]]
            return frozenset(key.removesuffix(_CONF_SUFFIX) for key in keys if key.endswith(_CONF_SUFFIX))
    return None


def run_that_vanished(job: Object, pods: Sequence[Object]) -> Run | None:
    """Return how a Job ended that is gone, by what was last seen of it; None when it had not ended.

    The controller of a CronJob deletes Jobs beyond the history limits as soon as they end.
    """
    own = pods_of(name_of(job), pods)
    ended = condition(job, "Complete", "Failed")
    if ended is None and own:
        states = [dig(one, "state", "terminated") for one in container_statuses(own[-1], containers_of(job))]
        failed = any(int(state.get("exitCode") or 0) for state in states if state)
        if failed or dig(own[-1], "status").get("phase") == "Failed":
            ended = {"type": "Failed", "status": "True"}
        elif states and all(states):
            ended = {"type": "Complete", "status": "True"}
    if ended is None:
        return None
    (run,) = read_runs([{**job, "status": {**dig(job, "status"), "conditions": [ended]}}], own)
    return run


def exit_code_of(run: Run) -> int:
    """Return the exit code of a run that has ended: its program's own, or 1 where it was evicted or killed."""
    if run.state == "succeeded":
        return 0
    return 1 if run.killed else run.exit_code or 1


def worst(codes: Iterable[int]) -> int:
    """Return the exit code of several runs: a failed database beats wrong usage, which beats a refusal."""
    present = set(codes)
    for code in (1, 2, 3):
        if code in present:
            return code
    return max(present, default=0)
