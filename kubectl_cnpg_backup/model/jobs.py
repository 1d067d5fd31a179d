"""Jobs made from the chart's CronJobs, the way `kubectl create job --from` makes them."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from copy import deepcopy
from typing import Any

from kubectl_cnpg_backup.errors import UsageError
from kubectl_cnpg_backup.model.objects import Object, name_of
from kubectl_cnpg_backup.model.release import CONFIG_VOLUME, CronJob, configured_as, databases_in
from kubectl_cnpg_backup.model.words import meant

ONLY = "BACKUP_ONLY"
"""The variable that names for which databases of entries (all databases of a cluster) a run or a drill is."""
STARTED_BY = "app.kubernetes.io/managed-by"
PLUGIN = "kubectl-cnpg_backup"
_NAME_LENGTH = 63
_FILE_SUFFIXES = (".conf", ".all", ".policy.json", ".assertions")
"""What follows a database's name in the names of its own files of the configuration."""


def job_from(cronjob: CronJob, suffix: str) -> dict[str, Any]:
    """Return a Job made from a CronJob's template, owned by it, so that its history limits apply to the Job as well.

    Args:
        cronjob: The CronJob.
        suffix: The end of its name, after a dash; a name that is too long is cut before it.
    """
    source = deepcopy(dict(cronjob.source))
    template = source["spec"]["jobTemplate"]
    metadata = template.get("metadata") or {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{cronjob.name[: _NAME_LENGTH - len(suffix) - 1].rstrip('-.')}-{suffix}",
            "namespace": source["metadata"]["namespace"],
            "labels": {**(metadata.get("labels") or {}), STARTED_BY: PLUGIN},
            "annotations": {**(metadata.get("annotations") or {}), "cronjob.kubernetes.io/instantiate": "manual"},
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": "CronJob",
                    "name": cronjob.name,
                    "uid": source["metadata"]["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": template["spec"],
    }


def only_databases(job: dict[str, Any], databases: Iterable[str], config: Object) -> dict[str, Any]:
    """Return a Job that backs up or drills only some databases: the configuration of the others is not mounted.

    Args:
        job: A Job from a CronJob of backups or drills.
        databases: The ones it is for.
        config: The ConfigMap that its pod mounts as configuration.
    """
    wanted = list(databases)
    # Only the files of other databases are left out: a pod whose mount names a missing key never starts.
    configured = {database: configured_as(database, config) for database in wanted}
    mounted = set(configured.values())
    left_out = set(databases_in(config)) - mounted
    others = {f"{database}{suffix}" for database in left_out for suffix in _FILE_SUFFIXES}
    own = {f"{database}{suffix}" for database in mounted for suffix in _FILE_SUFFIXES}
    kept = [key for key in sorted(config.get("data") or {}) if key in own or key not in others]
    found = {database: entry for database, entry in configured.items() if entry not in wanted}
    changed = with_environment(job, {ONLY: " ".join(found)}) if found else deepcopy(job)
    spec = changed["spec"]["template"]["spec"]
    for volume in spec["volumes"]:
        if volume["name"] == CONFIG_VOLUME:
            volume["configMap"]["items"] = [{"key": key, "path": key} for key in kept]
    unneeded = _unneeded_containers(spec, left_out, Counter(found.values()))
    if unneeded:
        spec["initContainers"] = [one for one in spec["initContainers"] if one["name"] not in unneeded]
    return changed


def _unneeded_containers(spec: Object, left_out: Container[str], found: Mapping[str, int]) -> set[str]:
    """Return which containers of a drill would start for nothing.

    A drill has two for each database, with its number, and two for each slot of an entry.

    Args:
        spec: The pod's.
        left_out: The databases and entries that it is not for.
        found: How many databases of an entry it is for, by the entry; without one it is for as many as there are slots.

    Raises:
        UsageError: When an entry has fewer slots than databases are wanted.
    """
    unneeded: set[str] = set()
    slots: Counter[str] = Counter()
    for container in spec.get("initContainers") or ():
        arguments = dict(argument.partition("=")[::2] for argument in container.get("args") or ())
        database = arguments.get("--database", "")
        slots[database] += "--slot" in arguments
        if database in left_out or (database in found and slots[database] > found[database]):
            number = str(container["name"]).rpartition("-")[2]
            unneeded |= {f"{kind}-{number}" for kind in ("hand-over", "drill")}
    for entry, wanted in found.items():
        if 0 < slots[entry] < wanted:
            raise UsageError(
                f"a drill restores at most {slots[entry]} databases of entry {entry}, and {wanted} are named",
                "name fewer of them, or raise drill.perEntry",
            )
    return unneeded


def with_environment(job: dict[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """Return a Job whose containers have these environment variables; one that exists is replaced."""
    changed = deepcopy(job)
    spec = changed["spec"]["template"]["spec"]
    for container in [*(spec.get("initContainers") or ()), *spec["containers"]]:
        others = [variable for variable in container.get("env") or () if variable["name"] not in values]
        container["env"] = [*others, *({"name": name, "value": value} for name, value in values.items())]
    return changed


def databases_per_cronjob(
    wanted: Iterable[str],
    cronjobs: Iterable[CronJob],
    configs: Mapping[str, Object],
    *,
    with_suspended: bool = False,
) -> dict[str, tuple[str, ...]]:
    """Return which databases each CronJob's run is for.

    Args:
        wanted: Names of databases, or of entries with all databases of a cluster; all when empty.
        cronjobs: The release's CronJobs of one component.
        configs: The ConfigMap of each CronJob, by its name.
        with_suspended: Whether a suspended one runs as well when no database is named.

    Returns:
        By the CronJob's name: its databases, or an empty tuple for all of them. A suspended CronJob is left out
        unless one of its databases is named.

    Raises:
        UsageError: When a database is not configured, or there is nothing to run.
    """
    names = list(dict.fromkeys(wanted))
    jobs = list(cronjobs)
    if not names:
        active = {cronjob.name: () for cronjob in jobs if with_suspended or not cronjob.suspended}
        if not active:
            raise UsageError(
                "every CronJob of the release is suspended", "name a database, which then runs all the same"
            )
        return dict(active)
    known = sorted({database for config in configs.values() for database in databases_in(config)})
    for name in names:
        if not any(configured_as(name, config) for config in configs.values()):
            raise UsageError(
                f"database {name!r} is not configured", f"{meant(name, known)}available: {', '.join(known) or 'none'}"
            )
    chosen = {name: tuple(one for one in names if configured_as(one, config)) for name, config in configs.items()}
    return {name: databases for name, databases in chosen.items() if databases}


def describe(job: Object) -> str:
    """Return a Job as a message names it."""
    return f"job/{name_of(job)}"
