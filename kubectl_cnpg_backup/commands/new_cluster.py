"""`new-cluster`: makes a CloudNativePG cluster for a backup, and restores into it."""

import secrets
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubectl_cnpg_backup.cluster import inspector
from kubectl_cnpg_backup.cluster.inspector import ROOT, Inspector
from kubectl_cnpg_backup.commands.common import (
    NOTHING_CHANGED,
    Commands,
    add_command,
    add_dry_run,
    add_former_wait,
    add_source,
    add_yes,
    ask,
    count,
    seconds,
    size,
)
from kubectl_cnpg_backup.commands.following import carry_out
from kubectl_cnpg_backup.commands.restore import find_cluster, restore_template
from kubectl_cnpg_backup.errors import ForbiddenError, NotFoundError, PluginError, RefusedError
from kubectl_cnpg_backup.model import new_cluster
from kubectl_cnpg_backup.model.jobs import job_from, with_environment
from kubectl_cnpg_backup.model.objects import Object, name_of, waits_for
from kubectl_cnpg_backup.model.release import CronJob
from kubectl_cnpg_backup.output import tables
from kubectl_cnpg_backup.session import Session
from retention import keyvalue
from retention.errors import ExitCode


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands, "new-cluster", "Make a new CloudNativePG cluster from a backup; the old one is not touched.", run
    )
    add_source(command)
    command.add_argument("--name", required=True, metavar="NEW", help="name of the new cluster")
    command.add_argument(
        "--storage",
        type=size,
        metavar="10Gi",
        help="size of each instance's volume (default: twice the database plus 2Gi, or the old cluster's if larger)",
    )
    command.add_argument(
        "--storage-class",
        default="",
        metavar="NAME",
        help="storage class of these volumes (default: the old cluster's)",
    )
    command.add_argument(
        "--instances", type=count, default=0, metavar="N", help="number of instances (default: the old cluster's)"
    )
    command.add_argument("--image", default="", help="image of PostgreSQL (default: the old cluster's)")
    command.add_argument(
        "--timeout",
        type=seconds,
        default=900.0,
        metavar="15m",
        help="how long to wait until the new cluster is ready (default: 15m)",
    )
    add_dry_run(command, "print the manifests, change nothing")
    add_yes(command)
    add_former_wait(command, 180.0)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What will be made.

    Attributes:
        contents: What the archive holds.
        manifest: The new cluster.
        job: The Job that restores into it.
        policy: The NetworkPolicy that the Job needs; None when it needs none.
    """

    contents: new_cluster.Contents
    manifest: dict[str, Any]
    job: dict[str, Any]
    policy: dict[str, Any] | None


def run(session: Session) -> int:
    """Make a cluster from a backup."""
    name = new_cluster.check_name(session.options.name)
    cronjob, conf = restore_template(session)
    if find_cluster(session, name) is not None:
        raise RefusedError(
            f"cluster {name} exists already in namespace {session.cluster.namespace}; {NOTHING_CHANGED}",
            "choose another --name, or restore into that one: kubectl cnpg-backup restore --cluster",
        )
    old = _old_cluster(session, conf)
    with session.inspecting(inspector.template_like(session.release, cronjob)) as pod:
        plan = _plan(session, pod, cronjob, conf, old)
        if session.options.dry_run:
            session.screen.manifests([one for one in (plan.manifest, plan.job, plan.policy) if one is not None])
            return ExitCode.DONE
        _ask(session, plan)
        archive = plan.contents.archive
        with session.screen.waiting(f"reading {archive} in full"):
            _request_archive(pod, session.options.database, archive)
    return _make(session, plan, conf)


def _old_cluster(session: Session, conf: Mapping[str, str]) -> Object | None:
    """Return the cluster that is backed up, if it still exists and this user may read it."""
    namespace = conf.get("namespace") or session.cluster.namespace
    try:
        return find_cluster(session, str(conf.get("cluster")), namespace)
    except ForbiddenError as error:
        if namespace == session.cluster.namespace:
            raise
        session.screen.note(f"cannot read the settings of cluster {conf.get('cluster')}: {error.problem}")
        return None


def _plan(session: Session, pod: Inspector, cronjob: CronJob, conf: Mapping[str, str], old: Object | None) -> _Plan:
    """Return what would be made, after the API server has checked it; describe it to the user."""
    options, cluster = session.options, session.cluster
    with session.screen.waiting(f"looking at the backups of {options.database}"):
        contents = _look(session, pod)
        major = new_cluster.target_major(contents, pod.postgres("pg_restore", "--version"))
        wanted = new_cluster.Options(
            options.name,
            cluster.namespace,
            options.image,
            options.instances,
            options.storage or "",
            options.storage_class,
        )
        manifest, notes = new_cluster.manifest(contents, wanted, major, old)
        restore = {
            "RESTORE_DATABASE": options.database,
            "RESTORE_BACKUP": contents.archive,
            "RESTORE_JOBS": options.jobs,
        }
        job = with_environment(job_from(cronjob, secrets.token_hex(3)), restore)
        job = new_cluster.pointed_at_cluster(
            job, conf.get("database", options.database), options.name, cluster.namespace
        )
        needed = new_cluster.needs_network_policy(job, cluster.network_policies())
        plan = _Plan(contents, manifest, job, new_cluster.network_policy_for(job, options.name) if needed else None)
        _try_to_make(session, plan)
    for line in [*_description(plan, old), *notes]:
        session.screen.note(line)
    return plan


def _look(session: Session, pod: Inspector) -> new_cluster.Contents:
    """Return what the archive that the options name holds."""
    database = session.options.database
    request = _request_archive(pod, database, session.options.backup, "--look")
    listing = pod.postgres("pg_restore", "-C", "-l", f"{ROOT}/{database}/{request.get('base', '')}.dump")
    return new_cluster.read_contents(request, listing)


def _request_archive(pod: Inspector, database: str, backup: str, *how: str) -> dict[str, str]:
    """Let `retention choose` select an archive, pin it for a day and read it in full; return the request it wrote.

    With `--look` it only selects the archive.
    """
    done = pod.retention(
        "choose", f"--database={database}", f"--backup={backup}", f"--requests={inspector.RESULTS}", *how, ROOT
    )
    if done.code:
        raise PluginError(inspector.last_line(done.errors) or f"choosing an archive ended with exit code {done.code}")
    text = pod.postgres("sh", "-c", f"cat {inspector.RESULTS}/*.request")
    return keyvalue.parse(text, "the request").values


def _try_to_make(session: Session, plan: _Plan) -> None:
    """Let the API server check everything that will be made: rights, policies and CloudNativePG's own checks."""
    cluster = session.cluster
    try:
        cluster.create_custom(new_cluster.GROUP, new_cluster.VERSION, new_cluster.PLURAL, plan.manifest, dry_run=True)
    except NotFoundError as error:
        raise PluginError(
            f"the API server knows no CloudNativePG clusters: {error.problem}", "install CloudNativePG first"
        ) from None
    cluster.create_job(plan.job, dry_run=True)
    if plan.policy is not None:
        cluster.create_network_policy(plan.policy, dry_run=True)


def _description(plan: _Plan, old: Object | None) -> list[str]:
    contents, spec = plan.contents, plan.manifest["spec"]
    storage = spec["storage"]
    lines = [
        f"{contents.archive}: PostgreSQL {contents.server_version}, database {contents.dbname!r} of "
        f"{contents.owner or 'an owner that the archive does not name'}, {tables.size(contents.database_bytes)}",
        f"extensions: {', '.join(contents.extensions)}; the image must have them" if contents.extensions else "",
        f"new cluster {name_of(plan.manifest)}: {new_cluster.image_of(plan.manifest)}, "
        f"{new_cluster.counted(spec['instances'])} with {storage['size']} of "
        f"{storage.get('storageClass', 'the default storage class')} each",
        f"settings as in cluster {name_of(old)}" if old else "the old cluster is gone: settings are defaults",
    ]
    return [line for line in lines if line]


def _ask(session: Session, plan: _Plan) -> None:
    spec, contents = plan.manifest["spec"], plan.contents
    ask(
        session,
        f"Make cluster {name_of(plan.manifest)} in namespace {session.cluster.namespace} "
        f"({new_cluster.image_of(plan.manifest)}, {new_cluster.counted(spec['instances'])} of "
        f"{spec['storage']['size']}) and restore {contents.archive} into its database {contents.dbname!r}?",
    )


def _make(session: Session, plan: _Plan, conf: Mapping[str, str]) -> int:
    """Make the cluster, wait until it is ready, and restore into it."""
    screen, name, archive = session.screen, name_of(plan.manifest), plan.contents.archive
    database = session.options.database
    values = new_cluster.values_for(database, name, session.cluster.namespace, conf, plan.contents.dbname)
    document = {
        "cluster": name,
        "archive": archive,
        "host": f"{name}-rw.{session.cluster.namespace}.svc",
        "secret": f"{name}-app",
        "values": {"databases": [values]},
    }
    try:
        session.cluster.create_custom(new_cluster.GROUP, new_cluster.VERSION, new_cluster.PLURAL, plan.manifest)
        screen.note(f"made cluster/{name}")
        with screen.waiting(f"cluster {name} is starting"):
            _await_cluster(session, name)
        code = carry_out(session, [plan.job], reaches=name, more=document)
    except (PluginError, KeyboardInterrupt):
        for line in _how_to_go_on(session, archive):
            screen.note(line)
        raise
    for line in _next_steps(session, values) if code == ExitCode.DONE else _how_to_go_on(session, archive):
        (screen.line if screen.is_table else screen.note)(line)
    return code


def _await_cluster(session: Session, name: str) -> None:
    """Wait until a new cluster is ready, and print its state whenever it changes."""
    cluster, limit = session.cluster, session.options.timeout
    deadline, printed = time.monotonic() + limit, ""
    while True:
        found = find_cluster(session, name)
        if found is None:
            raise NotFoundError(f"cluster {name} is gone: someone deleted it")
        if new_cluster.is_ready(found):
            return
        waiting = [
            f"{name_of(pod)}: {waits_for(pod)}" for pod in cluster.pods(f"cnpg.io/cluster={name}") if waits_for(pod)
        ]
        state = "; ".join([new_cluster.describe(found), *waiting])
        if state != printed:
            printed = state
            session.screen.note(f"cluster/{name}: {state}")
        if time.monotonic() > deadline:
            why = "; ".join(filter(None, [state, new_cluster.reason_of(found)]))
            raise PluginError(
                f"cluster {name} is not ready after {limit:g} s: {why}",
                f"see kubectl describe cluster {name} -n {cluster.namespace}; --timeout allows more time",
            )
        time.sleep(1)


def _next_steps(session: Session, values: Mapping[str, Any]) -> list[str]:
    """Return what to do with a new cluster once the restore has succeeded."""
    name, namespace = session.options.name, session.cluster.namespace
    entry = ", ".join(f"{key}: {value}" for key, value in values.items())
    return [
        f"cluster {name} holds the backup; its host is {name}-rw.{namespace}.svc, the application's password is in "
        f"Secret {name}-app",
        f"to back it up from now on, set in values: databases: [{{{entry}}}]",
        f"to disable the superuser's password again: kubectl patch cluster {name} -n {namespace} --type=merge "
        """-p '{"spec":{"enableSuperuserAccess":false}}'""",
    ]


def _how_to_go_on(session: Session, archive: str) -> list[str]:
    """Return what to do when the restore into a new cluster did not succeed."""
    options, namespace = session.options, session.cluster.namespace
    restore = _command(session, "restore", options.database, "--cluster", options.name, "--backup", archive)
    return [
        f"cluster {options.name} is kept if it was made; the old cluster was not touched",
        f"to go on, once it is ready: {restore}",
        f"to delete it: kubectl delete cluster {options.name} -n {namespace}",
    ]


def _command(session: Session, *words: str) -> str:
    """Return a command of this plugin for the same release, to be pasted into a shell."""
    options = session.options
    where = ["-n", session.cluster.namespace]
    for option in ("release", "context", "kubeconfig"):
        if getattr(options, option):
            where += [f"--{option}", getattr(options, option)]
    return shlex.join(["kubectl", "cnpg-backup", *words, *where])
