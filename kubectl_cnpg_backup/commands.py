"""What each command does: asks the cluster, lets the pure modules decide, shows the result."""

import argparse
import importlib.metadata
import secrets
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from kubectl_cnpg_backup import doctor, download, inspector, jobs, newcluster, standing, tables
from kubectl_cnpg_backup.cluster import Cluster
from kubectl_cnpg_backup.errors import ExitCode, ForbiddenError, NotFoundError, PluginError, RefusedError, UsageError
from kubectl_cnpg_backup.follow import Follower, follow_all, waits_for
from kubectl_cnpg_backup.inspector import ROOT, Inspector
from kubectl_cnpg_backup.interrupt import uninterrupted
from kubectl_cnpg_backup.release import (
    BACKUP,
    DRILL,
    INSPECTOR,
    RESTORE,
    SELECTOR,
    CronJob,
    Object,
    Release,
    Run,
    choose,
    container_statuses,
    databases_in,
    exit_code_of,
    name_of,
    pods_of,
    read_conf,
    read_runs,
    releases,
    worst,
)
from kubectl_cnpg_backup.screen import Screen
from retention.names import database_of_archive, is_database

_FOLLOWED_LINES = 2000
"""The most lines of a log that are kept to find its last table."""


@dataclass
class Session:
    """One call of the plugin.

    Attributes:
        options: The command line.
        cluster: The cluster and the namespace.
        screen: Where it prints.
    """

    options: argparse.Namespace
    cluster: Cluster
    screen: Screen

    @classmethod
    def open(cls, options: argparse.Namespace) -> "Session":
        """Connect to the cluster that the options name."""
        cluster = Cluster.connect(options.kubeconfig, options.context, options.namespace)
        return cls(options, cluster, Screen(options.output))

    @cached_property
    def release(self) -> Release:
        """The release that is meant."""
        namespace = self.cluster.namespace
        found = releases(self.cluster.cronjobs(SELECTOR), namespace)
        return choose(found, self.options.release, namespace)

    @cached_property
    def now(self) -> datetime:
        """The moment of this call, UTC."""
        return datetime.now(UTC)

    def runs(self) -> list[Run]:
        """The release's Jobs, newest first."""
        selector = self.release.selector
        return read_runs(self.cluster.jobs(selector), self.cluster.pods(selector))

    def configs(self, component: str = BACKUP) -> dict[str, Object]:
        """The ConfigMap of each CronJob of a component, by the CronJob's name; a missing one is empty."""
        found: dict[str, Object] = {}
        for cronjob in self.release.of(component):
            try:
                found[cronjob.name] = self.cluster.config_map(cronjob.config_map)
            except NotFoundError:
                found[cronjob.name] = {}
        return found

    def inspecting(self, template: CronJob | None = None) -> AbstractContextManager[Inspector]:
        """A pod that sees the volume, for the length of a block; made from this template, or from any inspector's."""
        template = template or self.release.template(INSPECTOR)
        return inspector.inspecting(self.cluster, template, self.options.wait, self.screen.note)

    def retention(self, command: str, paths: Iterable[str], *, config: bool = False) -> tuple[list[Any], int]:
        """Run a command of `python3 -m retention` for several paths in one pod.

        Returns:
            One document for each database, and the worst exit code.
        """
        documents: list[Any] = []
        codes = []
        with self.screen.waiting(f"{command}: waiting for a pod that sees the volume"), self.inspecting() as pod:
            self.screen.note(f"{command}: reading the volume")
            for path in paths:
                document, done = pod.retention_json(command, path, config=config)
                documents += document if isinstance(document, list) else [document]
                codes.append(done.code)
                for line in done.errors.splitlines():
                    self.screen.note(line.removeprefix("retention: "))
        return documents, worst(codes)


def _paths(databases: Sequence[str]) -> list[str]:
    """Return the directories of databases, or the root of all."""
    for name in databases:
        if not is_database(name):
            raise UsageError(f"{name!r} is not the name of a database on the volume", "see `list` for those")
    return [f"{ROOT}/{name}" for name in databases] or [ROOT]


def _archive_path(name: str) -> str:
    """Return the path of an archive on the volume."""
    database = database_of_archive(name)
    if database is None:
        raise UsageError(f"{name!r} is not an archive's name (<database>-YYYYMMDD-HHMMSS.dump)", "see `list` for those")
    return f"{ROOT}/{database}/{name}"


def run_list(session: Session) -> int:
    """List the backups."""
    documents, code = session.retention("list", _paths(session.options.database), config=True)
    screen = session.screen
    if not screen.is_table:
        screen.document(documents)
        return code
    for number, entry in enumerate(documents):
        total = tables.size(sum(int(backup["bytes"]) for backup in entry["backups"]))
        if number:
            screen.line()
        screen.table(
            tables.backups(entry, session.now), f"{entry['database']}: {len(entry['backups'])} backups, {total}"
        )
        for finding in entry["ignored"]:
            screen.line(f"ignored {finding['name']}: {finding['reason']}", style=tables.CAREFUL)
    if not documents:
        screen.line("there is no backup on the volume")
    return code


def run_plan(session: Session) -> int:
    """Show what the next prune would do."""
    paths = _paths(session.options.database)
    screen = session.screen
    with screen.waiting("plan: waiting for a pod that sees the volume"), session.inspecting() as pod:
        plans: list[Any] = []
        listing: list[Any] = []
        codes: list[int] = []
        for path in paths:
            for command, documents in (("plan", plans), ("list", listing)):
                document, done = pod.retention_json(command, path, config=True)
                documents += document if isinstance(document, list) else [document]
                codes.append(done.code)
    if not screen.is_table:
        screen.document(plans)
        return worst(codes)
    ages = {
        backup["name"]: timedelta(seconds=backup["age_seconds"]) for entry in listing for backup in entry["backups"]
    }
    for number, entry in enumerate(plans):
        if number:
            screen.line()
        title = f"{entry['database']}: {len(entry['keep'])} kept, {len(entry['delete'])} to delete"
        screen.table(tables.plan(entry, ages), title)
    return worst(codes)


def run_verify(session: Session) -> int:
    """Read archives again."""
    what = session.options.what
    paths = [_archive_path(name) if database_of_archive(name) else _paths([name])[0] for name in what] or [ROOT]
    documents, code = session.retention("verify", paths)
    screen = session.screen
    if not screen.is_table:
        screen.document(documents)
        return code
    screen.table(tables.checked(documents))
    results = [one["result"] for entry in documents for one in entry["archives"]]
    screen.line(f"{len(results)} archives read, {sum(result in ('bad', 'unread') for result in results)} not good")
    return code


_ADOPT = "/opt/cnpg-backup/scripts/adopt.sh"


def run_adopt(session: Session) -> int:
    """Let archives that came from elsewhere count."""
    paths = _paths(session.options.database)
    session.screen.note("adopt: waiting for a pod that sees the volume")
    with session.inspecting(inspector.newest_template(session.release)) as pod:
        return _adopt(session, pod, paths)


def _adopt(session: Session, pod: Inspector, paths: Sequence[str]) -> int:
    options, screen = session.options, session.screen
    found, codes = _adoptions(pod, paths, "--dry-run")
    names = [str(one["name"]) for entry in found for one in entry["archives"] if one["result"] == "adoptable"]
    if options.dry_run or not names:
        _show_adoptions(screen, found, "there is no archive without sidecars")
        return worst(codes)
    if not options.yes:
        for entry in found:
            screen.note("\n".join(tables.adopted_lines(entry)))
        if not screen.confirm(f"Read {', '.join(names)} whole, and let them count in release {session.release.name}?"):
            raise RefusedError("nothing was changed", "answer y, or say --yes")
    # One after the other, so that what is adopted stays so when the rest is cut off.
    for number, name in enumerate(names, 1):
        screen.note(f"reading {name} ({number} of {len(names)})")
        pod.postgres("sh", _ADOPT, _archive_path(name))
        (entry,), _ = _adoptions(pod, [_archive_path(name)], "--results", inspector.RESULTS)
        documents = {one["name"]: one for one in entry["archives"]}
        for known in found:
            known["archives"] = [documents.get(one["name"], one) for one in known["archives"]]
            if known["database"] == entry["database"]:
                known["next_prune"] = entry["next_prune"]
    _show_adoptions(screen, found, "")
    refused = any(one["result"] != "adopted" for entry in found for one in entry["archives"])
    return ExitCode.FAILED if refused else ExitCode.DONE


def _adoptions(pod: Inspector, paths: Iterable[str], *how: str) -> tuple[list[Any], list[int]]:
    """Run `retention adopt` for several paths; return a document for each database, and the exit codes."""
    documents: list[Any] = []
    codes = []
    for path in paths:
        document, done = pod.retention_json("adopt", *how, path, config=True)
        documents += document if isinstance(document, list) else [document]
        codes.append(done.code)
    return documents, codes


def _show_adoptions(screen: Screen, found: Sequence[Any], nothing: str) -> None:
    if not screen.is_table:
        screen.document(found)
        return
    lines = [line for entry in found for line in tables.adopted_lines(entry)]
    for line in lines or [nothing]:
        screen.line(line)


def run_pin(session: Session) -> int:
    """Keep backups besides the tiers."""
    options = session.options
    limit = ["--for", options.length] if options.length else ["--until", options.until] if options.until else []
    paths = [_archive_path(name) for name in options.archive]
    return _pins(session, ["pin", "--reason", options.reason, *limit, *paths], "pin")


def run_unpin(session: Session) -> int:
    """Hand backups back to the tiers."""
    options = session.options
    paths = [_archive_path(name) for name in options.archive]
    names = ", ".join(options.archive)
    if not (options.yes or options.dry_run) and not session.screen.confirm(
        f"Take the pin from {names} in release {session.release.name}, so that the next run may delete it?"
    ):
        raise RefusedError("nothing was changed", "answer y, or say --yes")
    return _pins(session, ["unpin", *paths], "unpin")


def _pins(session: Session, arguments: Sequence[str], verb: str) -> int:
    screen = session.screen
    if session.options.dry_run:
        names = session.options.archive
        _tell(
            screen, {"dry_run": True, verb: names}, f"would {verb} {', '.join(names)} of release {session.release.name}"
        )
        return ExitCode.DONE
    with screen.waiting(f"{verb}: waiting for a pod that sees the volume"), session.inspecting() as pod:
        done = pod.retention(*arguments)
    lines = done.output.decode(errors="replace").splitlines()
    told = [line.removeprefix("retention: ") for line in done.errors.splitlines()]
    if not screen.is_table:
        screen.document({"done": lines, "errors": told})
    for line in lines if screen.is_table else ():
        screen.line(line)
    if done.code and told:
        raise PluginError(told[-1])
    return done.code


def _tell(screen: Screen, document: object, text: str) -> None:
    if screen.is_table:
        screen.line(text)
    else:
        screen.document(document)


def run_download(session: Session) -> int:
    """Fetch an archive."""
    options, screen = session.options, session.screen
    database = database_of_archive(options.what) or options.what
    (path,) = _paths([database])
    with session.inspecting() as pod:
        listing, _ = pod.retention_json("list", path)
        archive = _pick(database, listing["backups"], options.what)
        target = options.to / archive.name if options.to.is_dir() else options.to
        if not target.parent.is_dir():
            raise UsageError(f"{target.parent} is not a folder", "make it first")
        document = {
            "archive": archive.name,
            "path": str(target),
            "bytes": archive.bytes,
            "sha256": archive.sha256,
            "dry_run": options.dry_run,
        }
        if options.dry_run:
            _tell(screen, document, f"would fetch {archive.name} ({tables.size(archive.bytes)}) to {target}")
            return ExitCode.DONE
        if download.prepare(archive, target):
            _tell(screen, document, f"{target} is there already, and whole")
            return ExitCode.DONE
        part = download.part_of(target)
        here = part.stat().st_size if part.exists() else 0
        free = download.free_of(target.parent)
        if free is not None and free < archive.bytes - here:
            raise PluginError(
                f"{target.parent} has {tables.size(free)} free, the rest of {archive.name} takes "
                f"{tables.size(archive.bytes - here)}",
                "choose another place with --to",
            )
        if here:
            screen.note(f"going on after {tables.size(here)}")
        with screen.transfer(archive.name, archive.bytes, here) as progress:
            download.fetch(pod, archive, target, progress)
    _tell(screen, document, f"{target}: {tables.size(archive.bytes)}, sha256 is right")
    return ExitCode.DONE


def _pick(database: str, backups: Sequence[Mapping[str, Any]], wanted: str) -> download.Archive:
    """Return the backup that is named, or the newest one of a database that is."""
    if wanted == database:
        chosen = next((backup for backup in backups if int(backup["age_seconds"]) >= 0), None)
    else:
        chosen = next((backup for backup in backups if backup["name"] == wanted), None)
    if chosen is None:
        names = ", ".join(str(backup["name"]) for backup in backups[:3])
        raise NotFoundError(f"{wanted}: no such backup", f"the newest are {names}" if names else "there is none at all")
    return download.Archive(database, str(chosen["name"]), int(chosen["bytes"]), str(chosen["sha256"]))


def run_status(session: Session) -> int:
    """Show how each database stands."""
    screen = session.screen
    with screen.waiting("status: asking the API server"):
        release, runs = session.release, session.runs()
        try:
            configured = {name: databases_in(config) for name, config in session.configs().items()}
        except ForbiddenError as error:
            configured = {}
            screen.note(f"the databases' configuration is left out: {error}")
        seen = None if session.options.no_volume else _see(session)
    result = standing.judge(release, configured, runs, seen, session.now)
    if not screen.is_table:
        screen.document(standing.document(result, session.now))
        return ExitCode.FAILED if result.problems else ExitCode.DONE
    screen.table(standing.table(result, session.now), f"release {release.name} in namespace {release.namespace}")
    if result.volume is not None:
        screen.line()
        screen.line(standing.volume_line(result))
    if result.problems:
        screen.line()
    for problem in result.problems:
        screen.line(f"wrong: {problem.subject}: {problem.problem}; {problem.remedy}", style=tables.WRONG)
    return ExitCode.FAILED if result.problems else ExitCode.DONE


def _see(session: Session) -> standing.Seen:
    """Let an inspector pod look at the volume."""
    with session.inspecting() as pod:
        status, done = pod.retention_json("status", ROOT)
        listing, _ = pod.retention_json("list", ROOT, config=True)
        for line in done.errors.splitlines():
            session.screen.note(line.removeprefix("retention: "))
    room: Mapping[str, int] = next((entry for entry in status if entry.get("volume_bytes") is not None), {})
    return standing.Seen(status, listing, room.get("volume_bytes"), room.get("volume_used_bytes"))


def run_logs(session: Session) -> int:
    """Show the log of a run."""
    wanted, screen, cluster = session.options.job, session.screen, session.cluster
    runs = session.runs()
    if wanted:
        run = next((run for run in runs if run.job == wanted), None)
        known = ", ".join(run.job for run in runs[:5]) or "none"
        if run is None:
            raise NotFoundError(f"release {session.release.name} has no job {wanted!r}", f"the newest are {known}")
    else:
        run = next((run for run in runs if run.component == BACKUP), None)
        if run is None:
            raise NotFoundError(
                f"no run of release {session.release.name} is left", "start one: kubectl cnpg-backup run"
            )
    if not screen.is_table:
        return _logs_document(session, run)
    screen.note(f"job/{run.job}, {run.state}")
    if session.options.follow and run.state == "running":
        follow_all([Follower(cluster, run.job, screen.log, screen.note)])
        (run,) = [again for again in session.runs() if again.job == run.job]
        return exit_code_of(run)
    for lines in _log_of(session, run).values():
        for line in lines:
            screen.log(line)
    return ExitCode.DONE


def _log_of(session: Session, run: Run) -> dict[str, list[str]]:
    own = pods_of(run.job, session.cluster.pods(session.release.selector))
    if not own:
        raise NotFoundError(f"the pod of job/{run.job} is gone, and its log with it", run.reason)
    found = {}
    for status in container_statuses(own[-1]):
        if "waiting" not in (status.get("state") or {}):
            name = str(status["name"])
            try:
                found[name] = list(session.cluster.log_lines(name_of(own[-1]), name, follow=False))
            except ConnectionError as error:
                raise PluginError(f"the log of container {name} broke off: {error}", "try again") from None
    return found


def _logs_document(session: Session, run: Run) -> int:
    session.screen.document({**standing.run_document(run), "logs": _log_of(session, run)})
    return ExitCode.DONE


def run_run(session: Session) -> int:
    """Back up now."""
    options, screen, cluster = session.options, session.screen, session.cluster
    made = _jobs_of(session, BACKUP)
    if options.dry_run:
        return _dry_run(session, made)
    if options.detach:
        for job in made:
            cluster.create_job(job)
            screen.note(f"started {jobs.describe(job)}; see kubectl cnpg-backup logs -f {name_of(job)}")
        if not screen.is_table:
            screen.document([{"job": name_of(job)} for job in made])
        return ExitCode.DONE
    return _carry_out(session, made)


def run_drill(session: Session) -> int:
    """Prove that backups restore."""
    session.release.template(DRILL)
    made = _jobs_of(session, DRILL)
    return _dry_run(session, made) if session.options.dry_run else _carry_out(session, made)


def run_restore(session: Session) -> int:
    """Restore a database."""
    options = session.options
    cronjob, conf = _restorer(session)
    target = options.into or conf.get("dbname", options.database)
    cluster, namespace = conf.get("cluster", ""), conf.get("namespace", "")
    if options.cluster:
        cluster, namespace = options.cluster, session.cluster.namespace
        if _cluster(session, options.cluster) is None:
            raise NotFoundError(
                f"there is no cluster {options.cluster!r} in namespace {namespace}",
                "make one from a backup: kubectl cnpg-backup new-cluster",
            )
    where = f"database {target!r} of cluster {cluster} in namespace {namespace}"
    session.screen.note(f"restore of {options.database} ({options.backup}) into {where}")
    replaces = options.replace and not options.dry_run
    if replaces and not (options.yes or session.screen.confirm(f"Replace {where} with that backup?")):
        raise RefusedError("nothing was changed", "answer y, or say --yes")
    job = jobs.with_environment(jobs.job_from(cronjob, secrets.token_hex(3)), _wishes(options))
    if not options.cluster:
        return _carry_out(session, [job])
    return _carry_out(
        session, [newcluster.aimed(job, options.database, options.cluster, namespace)], reaches=options.cluster
    )


def _restorer(session: Session) -> tuple[CronJob, dict[str, str]]:
    """Return the CronJob that restores the database that is meant, and that database's settings."""
    release, database = session.release, session.options.database
    release.template(RESTORE)
    cronjobs = {cronjob.name: cronjob for cronjob in release.of(RESTORE)}
    configs = session.configs(RESTORE)
    configured = {name: databases_in(config) for name, config in configs.items()}
    (name,) = jobs.choose_databases([database], cronjobs.values(), configured)
    return cronjobs[name], read_conf(configs[name], database)


def _cluster(session: Session, name: str, namespace: str = "") -> Object | None:
    """Return a CloudNativePG cluster, None where there is none of that name."""
    namespace = namespace or session.cluster.namespace
    try:
        return session.cluster.custom(newcluster.GROUP, newcluster.VERSION, newcluster.PLURAL, name, namespace)
    except NotFoundError:
        return None


def _wishes(options: argparse.Namespace) -> dict[str, str]:
    """Return what a restore is told, as docs/restore.md has it."""
    return {
        "RESTORE_DATABASE": options.database,
        "RESTORE_BACKUP": options.backup,
        "RESTORE_INTO": options.into,
        "RESTORE_REPLACE": "yes" if options.replace else "no",
        "RESTORE_WAY": options.way,
        "RESTORE_TABLES": " ".join(options.table),
        "RESTORE_SCHEMAS": " ".join(options.schema),
        "RESTORE_OWNER": options.owner,
        "RESTORE_JOBS": options.jobs,
        "RESTORE_DRY_RUN": "yes" if options.dry_run else "no",
    }


def run_new_cluster(session: Session) -> int:
    """Make a cluster from a backup."""
    options, screen, cluster = session.options, session.screen, session.cluster
    name = newcluster.check_name(options.name)
    for size in filter(None, [options.storage]):
        newcluster.bytes_of(size)
    cronjob, conf = _restorer(session)
    if _cluster(session, name) is not None:
        raise RefusedError(
            f"cluster {name} is there already in namespace {cluster.namespace}; nothing was changed",
            "choose another --name, or restore into that one: kubectl cnpg-backup restore --cluster",
        )
    old = _old_cluster(session, conf)
    wishes = newcluster.Wishes(
        name, cluster.namespace, options.image, options.instances, options.storage, options.storage_class
    )
    with session.inspecting(inspector.beside(session.release, cronjob)) as pod:
        with screen.waiting(f"looking at the backups of {options.database}"):
            contents = _look(pod, options)
            major = newcluster.target_major(contents, pod.postgres("pg_restore", "--version"))
            manifest, notes = newcluster.manifest(contents, wishes, major, old)
            job = newcluster.aimed(
                jobs.with_environment(jobs.job_from(cronjob, secrets.token_hex(3)), _into_new(options, contents)),
                options.database, name, cluster.namespace,
            )  # fmt: skip
            way = newcluster.way(job, name) if newcluster.needs_way(job, cluster.network_policies()) else None
            _try_to_make(session, manifest, job, way)
        _describe_new(session, contents, manifest, old, notes)
        if options.dry_run:
            made = [one for one in (manifest, job, way) if one is not None]
            screen.manifests(made)
            return ExitCode.DONE
        spec, what = manifest["spec"], newcluster.image_of(manifest)
        question = (
            f"Make cluster {name} in namespace {cluster.namespace} ({what}, {newcluster.counted(spec['instances'])} of "
            f"{spec['storage']['size']}) and restore {contents.archive} into its database {contents.dbname!r}?"
        )
        if not (options.yes or screen.confirm(question)):
            raise RefusedError("nothing was changed", "answer y, or say --yes")
        with screen.waiting(f"reading {contents.archive} whole"):
            _choose(pod, options.database, contents.archive)
    go_on = _go_on(session, contents.archive)
    try:
        cluster.create_custom(newcluster.GROUP, newcluster.VERSION, newcluster.PLURAL, manifest)
        screen.note(f"made cluster/{name}")
        with screen.waiting(f"cluster {name} begins"):
            _await_cluster(session, name)
        code = _carry_out(
            session, [job], reaches=name, more={"cluster": name, "archive": contents.archive, **_next(session, conf)}
        )
    except (PluginError, KeyboardInterrupt):
        for line in go_on:
            screen.note(line)
        raise
    for line in _told_next(session, conf) if code == ExitCode.DONE else go_on:
        (screen.line if screen.is_table else screen.note)(line)
    return code


def _old_cluster(session: Session, conf: Mapping[str, str]) -> Object | None:
    """Return the cluster that is backed up, where it is still there and may be looked at."""
    namespace = conf.get("namespace") or session.cluster.namespace
    try:
        return _cluster(session, str(conf.get("cluster")), namespace)
    except ForbiddenError as error:
        if namespace == session.cluster.namespace:
            raise
        session.screen.note(f"cluster {conf.get('cluster')} is not looked at: {error.problem}")
        return None


def _look(pod: Inspector, options: argparse.Namespace) -> newcluster.Contents:
    """Return what the archive that is meant holds."""
    request = _choose(pod, options.database, options.backup, "--look")
    base = next((line.removeprefix("base=") for line in request.splitlines() if line.startswith("base=")), "")
    listing = pod.postgres("pg_restore", "-C", "-l", f"{ROOT}/{options.database}/{base}.dump")
    return newcluster.read_contents(request, listing)


def _choose(pod: Inspector, database: str, backup: str, *how: str) -> str:
    """Let an archive be chosen, kept from prune for a day and read whole, as a restore does; return its request."""
    done = pod.retention(
        "choose", f"--database={database}", f"--backup={backup}", f"--requests={inspector.RESULTS}", *how, ROOT
    )
    if done.code:
        told = [line.removeprefix("retention: ") for line in done.errors.splitlines()]
        raise PluginError(told[-1] if told else f"choosing an archive ended with {done.code}")
    return pod.postgres("sh", "-c", f"cat {inspector.RESULTS}/*.request")


def _into_new(options: argparse.Namespace, contents: newcluster.Contents) -> dict[str, str]:
    return {"RESTORE_DATABASE": options.database, "RESTORE_BACKUP": contents.archive, "RESTORE_JOBS": options.jobs}


def _try_to_make(session: Session, manifest: dict[str, Any], job: dict[str, Any], way: dict[str, Any] | None) -> None:
    """Let the API server say whether all would be made: rights, policies and CloudNativePG's own checks."""
    cluster = session.cluster
    try:
        cluster.create_custom(newcluster.GROUP, newcluster.VERSION, newcluster.PLURAL, manifest, dry_run=True)
    except NotFoundError as error:
        raise PluginError(f"clusters cannot be made here: {error.problem}", "is CloudNativePG installed?") from None
    cluster.create_job(job, dry_run=True)
    if way is not None:
        cluster.create_network_policy(way, dry_run=True)


def _describe_new(
    session: Session,
    contents: newcluster.Contents,
    manifest: Mapping[str, Any],
    old: Object | None,
    notes: Sequence[str],
) -> None:
    spec = manifest["spec"]
    lines = [
        f"{contents.archive}: PostgreSQL {contents.server_version}, database {contents.dbname!r} of "
        f"{contents.owner or 'an owner that it does not tell'}, {tables.size(contents.database_bytes)}",
        f"extensions: {', '.join(contents.extensions)}; the image must have them" if contents.extensions else "",
        f"new cluster {manifest['metadata']['name']}: {newcluster.image_of(manifest)}, "
        f"{newcluster.counted(spec['instances'])} with "
        f"{spec['storage']['size']} of {spec['storage'].get('storageClass', 'the default storage class')} each",
        f"settings as those of cluster {name_of(old)}" if old else "the old cluster is gone: settings are defaults",
        *notes,
    ]
    for line in filter(None, lines):
        session.screen.note(line)


def _await_cluster(session: Session, name: str) -> None:
    """Wait until a new cluster is ready, and tell how it stands meanwhile."""
    cluster, limit = session.cluster, session.options.timeout
    deadline, told = time.monotonic() + limit, ""
    while True:
        found = _cluster(session, name)
        if found is None:
            raise NotFoundError(f"cluster {name} is gone: somebody deleted it")
        if newcluster.is_ready(found):
            return
        waiting = [
            f"{name_of(pod)}: {waits_for(pod)}" for pod in cluster.pods(f"cnpg.io/cluster={name}") if waits_for(pod)
        ]
        state = "; ".join([newcluster.stands(found), *waiting])
        if state != told:
            told = state
            session.screen.note(f"cluster/{name}: {state}")
        if time.monotonic() > deadline:
            why = "; ".join(filter(None, [state, newcluster.reason_of(found)]))
            raise PluginError(
                f"cluster {name} is not ready after {limit:g} s: {why}",
                f"see kubectl describe cluster {name} -n {cluster.namespace}; --timeout gives it more time",
            )
        time.sleep(1)


def _again(session: Session, *words: str) -> str:
    """Return a command of this plugin for the same release, as one pastes it."""
    options = session.options
    where = ["-n", session.cluster.namespace]
    for option in ("release", "context", "kubeconfig"):
        if getattr(options, option):
            where += [f"--{option}", getattr(options, option)]
    return shlex.join(["kubectl", "cnpg-backup", *words, *where])


def _go_on(session: Session, archive: str) -> list[str]:
    """Return what to do when a restore into a new cluster did not come to its end."""
    options, namespace = session.options, session.cluster.namespace
    restore = _again(session, "restore", options.database, "--cluster", options.name, "--backup", archive)
    return [
        f"cluster {options.name} is left as it is, where it was made; the old one was not touched",
        f"to go on, once it is ready: {restore}",
        f"to be rid of it: kubectl delete cluster {options.name} -n {namespace}",
    ]


def _next(session: Session, conf: Mapping[str, str]) -> dict[str, Any]:
    """Return what a person does with a new cluster, for machines."""
    name, namespace = session.options.name, session.cluster.namespace
    return {
        "host": f"{name}-rw.{namespace}.svc",
        "secret": f"{name}-app",
        "values": {"databases": [newcluster.values_for(session.options.database, name, namespace, conf)]},
    }


def _told_next(session: Session, conf: Mapping[str, str]) -> list[str]:
    name, namespace = session.options.name, session.cluster.namespace
    values = newcluster.values_for(session.options.database, name, namespace, conf)
    told = ", ".join(f"{key}: {value}" for key, value in values.items())
    return [
        f"cluster {name} holds the backup; its host is {name}-rw.{namespace}.svc, the application's password is in "
        f"Secret {name}-app",
        f"to back it up from now on, in values: databases: [{{{told}}}]",
        f"to take the superuser's password away again: kubectl patch cluster {name} -n {namespace} --type=merge "
        """-p '{"spec":{"enableSuperuserAccess":false}}'""",
    ]


def _dry_run(session: Session, made: Sequence[dict[str, Any]]) -> int:
    for job in made:
        session.cluster.create_job(job, dry_run=True)
    names = ", ".join(jobs.describe(job) for job in made)
    _tell(session.screen, made, f"would start {names}; the API server accepts it")
    return ExitCode.DONE


def _carry_out(
    session: Session, made: Sequence[dict[str, Any]], *, reaches: str = "", more: Mapping[str, Any] | None = None
) -> int:
    """Start Jobs, follow them to their end, and return what they come to; when stopped, take them back.

    Args:
        session: The call.
        made: The Jobs.
        reaches: A cluster that their pods may reach meanwhile; in the end the Jobs are gone, and the way with them.
        more: What a document for machines says besides.
    """
    screen, cluster = session.screen, session.cluster
    kept: dict[str, list[str]] = {name_of(job): [] for job in made}
    begun: list[str] = []
    finished = False
    try:
        for job in made:
            begun.append(name_of(job))
            there = cluster.create_job(job)
            screen.note(f"started {jobs.describe(job)}")
            if reaches and newcluster.needs_way(job, cluster.network_policies()):
                cluster.create_network_policy(newcluster.way(there, reaches))
                screen.note(f"networkpolicy/{name_of(job)} lets it reach cluster {reaches}")
        with screen.waiting("waiting for the pod"):
            follow_all([_follower(session, name, kept, several=len(made) > 1) for name in begun])
        code = _conclude(session, begun, kept, more or {})
        finished = True
    finally:
        if not finished or reaches:
            with uninterrupted():
                for name in begun:
                    cluster.delete_job(name)
                    rest = (
                        "and the way that it had"
                        if finished
                        else "what it had completed stays, the next run clears up the rest"
                    )
                    screen.note(f"deleted job/{name}{' ' if finished else '; '}{rest}")
    return code


def _jobs_of(session: Session, component: str) -> list[dict[str, Any]]:
    """Return the Jobs that do the work of a component for the databases that are wanted."""
    wanted = session.options.database
    cronjobs = {cronjob.name: cronjob for cronjob in session.release.of(component)}
    configs = session.configs(component) if wanted else {}
    configured = {name: databases_in(config) for name, config in configs.items()}
    chosen = jobs.choose_databases(wanted, cronjobs.values(), configured, with_suspended=component != BACKUP)
    suffix = f"manual-{secrets.token_hex(3)}"
    made = []
    for name, databases in chosen.items():
        job = jobs.job_from(cronjobs[name], suffix)
        made.append(jobs.only_databases(job, databases, configs[name]) if databases else job)
    return made


def _follower(session: Session, job: str, kept: Mapping[str, list[str]], *, several: bool) -> Follower:
    prefix = f"{job}: " if several else ""
    starts: list[int] = []

    def say(line: str) -> None:
        kept[job].append(line)
        del kept[job][:-_FOLLOWED_LINES]
        header = tables.run_table_starts(line)
        starts[:] = header or (starts if starts and tables.is_row(line, starts) else [])
        # In a terminal the table comes at the end, made to fit.
        if not (starts and session.screen.output.is_terminal):
            session.screen.log(f"{prefix}{line}")

    return Follower(session.cluster, job, say, lambda text: session.screen.note(f"{prefix}{text}"))


def _conclude(
    session: Session, names: Sequence[str], kept: Mapping[str, Sequence[str]], more: Mapping[str, Any]
) -> int:
    """Show how runs have ended, and return what they come to."""
    screen = session.screen
    by_name = {run.job: run for run in session.runs()}
    ended = [by_name[name] for name in names if name in by_name]
    missing = [name for name in names if name not in by_name]
    code = worst([*(exit_code_of(run) for run in ended), *(ExitCode.FAILED for _ in missing)])
    if not screen.is_table:
        documents = [
            {
                **standing.run_document(run),
                "databases": [{"database": v.database, "result": v.result, "why": v.why} for v in run.verdicts],
            }
            for run in ended
        ]
        screen.document({"exit_code": code, "jobs": documents, **more})
        return code
    rows = [row for name in names for row in tables.parse_run_table(kept[name])]
    if screen.output.is_terminal and rows:
        screen.line()
        screen.table(tables.run(rows))
    for run in ended:
        if run.state == "failed" and run.exit_code is None:
            screen.line(f"job/{run.job} failed: {run.reason or run.message}", style=tables.WRONG)
    for name in missing:
        screen.line(f"job/{name} is gone: somebody deleted it", style=tables.WRONG)
    screen.line(f"exit code {code}", style=tables.WRONG if code else tables.GOOD)
    return code


def run_inspect(session: Session) -> int:
    """Open a shell in a pod that sees the volume."""
    options = session.options
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise PluginError("kubectl is not on PATH, and the shell goes through it", "install kubectl")
    with session.inspecting() as pod:
        template = session.release.template(INSPECTOR)
        container = inspector.container_with(template.pod_spec, python=options.write)
        interactive = not options.run
        command = [
            *(kubectl, "exec", "--namespace", session.cluster.namespace),
            *(["--kubeconfig", options.kubeconfig] if options.kubeconfig else []),
            *(["--context", session.cluster.context] if session.cluster.context else []),
            *(["--stdin", "--tty"] if interactive and session.screen.output.is_terminal else ["--stdin"]),
            *(pod.pod, "--container", container, "--"),
            *(options.run or ["sh"]),
        ]
        if interactive:
            session.screen.note(f"{pod.pod} sees the backups below {ROOT}; it ends with this shell")
        return subprocess.run(command, check=False).returncode


def run_doctor(session: Session) -> int:
    """See whether all is as it should be."""
    screen = session.screen
    with screen.waiting("doctor: looking around"):
        findings = doctor.examine(_facts(session))
    wrong = any(finding.level is doctor.Level.WRONG for finding in findings)
    if screen.is_table:
        screen.table(doctor.table(findings))
    else:
        screen.document(doctor.document(findings))
    return ExitCode.FAILED if wrong else ExitCode.DONE


def _facts(session: Session) -> doctor.Facts:
    cluster, release = session.cluster, session.release
    record = _looked(lambda: cluster.config_map(f"{release.name}-access").get("data") or {})
    access = None if isinstance(record, _Missing) else record
    wanted = doctor.wanted_secrets(release)
    configs = _looked(session.configs)
    clusters = _clusters(release, configs) if isinstance(configs, dict) else {}
    policies = _looked(cluster.network_policies)
    claim = _looked(lambda: cluster.claim(release.claim)) if release.claim else _Missing()
    return doctor.Facts(
        release=release,
        now=session.now,
        kubernetes=cluster.version(),
        plugin=_version(),
        runs=session.runs(),
        claim=None if isinstance(claim, _Missing) else claim,
        policies=() if isinstance(policies, _Missing) else policies,
        access=access,
        access_policies=_access_policies(cluster, access) if isinstance(access, Mapping) else {},
        secrets={name: _secret_keys(cluster, name) for name in wanted},
        wanted_secrets=wanted,
        servers={name: _server_image(cluster, name) for name in clusters},
        clusters=clusters,
        missing_rights=[right for right in doctor.RIGHTS if not cluster.may(right.verb, right.group, right.resource)],
    )


class _Missing:
    """An object that is not there."""


def _looked(look: Any) -> Any:
    """Return what was found, `_Missing`, or why this user may not look."""
    try:
        return look()
    except NotFoundError:
        return _Missing()
    except ForbiddenError as error:
        return doctor.Unreadable(error.problem)


def _clusters(release: Release, configs: Mapping[str, Object]) -> dict[str, str]:
    """Return the clusters that are backed up, with the image that dumps them."""
    found = {}
    for cronjob in release.of(BACKUP):
        config = configs[cronjob.name]
        image = _dump_image(cronjob)
        for database in databases_in(config):
            conf = read_conf(config, database)
            if conf.get("cluster"):
                found[f"{conf.get('namespace', release.namespace)}/{conf['cluster']}"] = image
    return found


def _dump_image(cronjob: CronJob) -> str:
    containers = cronjob.pod_spec.get("initContainers") or ()
    return str(containers[0].get("image")) if containers else ""


def _server_image(cluster: Cluster, name: str) -> str | doctor.Unreadable | None:
    namespace, _, own = name.partition("/")
    found = _looked(lambda: cluster.custom("postgresql.cnpg.io", "v1", "clusters", own, namespace))
    if isinstance(found, _Missing):
        return None
    if isinstance(found, doctor.Unreadable):
        return found
    return str((found.get("status") or {}).get("image") or found["spec"].get("imageName") or "")


def _secret_keys(cluster: Cluster, name: str) -> frozenset[str] | doctor.Unreadable | None:
    found = _looked(lambda: cluster.secret(name))
    if isinstance(found, _Missing):
        return None
    return found if isinstance(found, doctor.Unreadable) else frozenset(found.get("data") or {})


def _access_policies(cluster: Cluster, record: Mapping[str, str]) -> dict[str, bool | doctor.Unreadable]:
    """Return whether each built-in policy that the chart says it made is there."""
    kind, _, names = record.get("builtin", "").partition(" ")
    found: dict[str, bool | doctor.Unreadable] = {}
    for name in names.split(", ") if kind == "ValidatingAdmissionPolicy" else ():
        there = _looked(lambda name=name: cluster.admission_policy(name))
        found[name] = there if isinstance(there, doctor.Unreadable) else not isinstance(there, _Missing)
    return found


def _version() -> str:
    try:
        return importlib.metadata.version("cnpg-backup")
    except importlib.metadata.PackageNotFoundError:
        return ""
