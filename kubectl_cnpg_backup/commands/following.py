"""Starts Jobs, follows them until they end, and shows how they ended; when stopped, deletes them again."""

from collections.abc import Mapping, Sequence
from typing import Any

from kubectl_cnpg_backup.cluster.follow import Follower, follow_all
from kubectl_cnpg_backup.commands.common import show
from kubectl_cnpg_backup.interrupt import uninterrupted
from kubectl_cnpg_backup.model.jobs import describe
from kubectl_cnpg_backup.model.new_cluster import needs_network_policy, network_policy_for
from kubectl_cnpg_backup.model.objects import labels, name_of
from kubectl_cnpg_backup.model.offsite import CHECK, LIST, LOOKS, VERIFY
from kubectl_cnpg_backup.model.release import (
    BACKUP,
    COMPONENT_LABEL,
    COPY,
    DRILL,
    FETCH,
    OFFSITE,
    OFFSITE_DRILL,
    RESTORE,
    exit_code_of,
    worst,
)
from kubectl_cnpg_backup.model.status import run_document
from kubectl_cnpg_backup.model.words import in_options
from kubectl_cnpg_backup.output import tables
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode

_STOPPED = {
    BACKUP: "what it completed is kept, the next run cleans up the rest",
    RESTORE: "the database is as it was before, unless the log above says that it was replaced",
    COPY: "the copy before is as it was, unless the log above says that it was replaced",
    DRILL: "no backup was changed, and this drill is not recorded",
    OFFSITE_DRILL: "no copy was changed, and this drill is not recorded",
    OFFSITE: "what was copied in full counts, the next run cleans up the rest",
    LOOKS[LIST]: "nothing was changed",
    LOOKS[CHECK]: "it may have left a small object, which the next check deletes",
    LOOKS[VERIFY]: "what it has said until then is true",
    FETCH: "nothing was published, and the next run of the database cleans up",
}
"""What is true after a Job of a component was deleted while it ran."""


def dry_run(session: Session, made: Sequence[dict[str, Any]]) -> int:
    """Let the API server check Jobs, and print them."""
    for job in made:
        session.cluster.create_job(job, dry_run=True)
    names = ", ".join(describe(job) for job in made)
    show(session.screen, made, f"would start {names}; the API server accepts it")
    return ExitCode.DONE


def carry_out(
    session: Session, made: Sequence[dict[str, Any]], *, reaches: str = "", more: Mapping[str, Any] | None = None
) -> int:
    """Start Jobs, follow them until they end, and return their exit code; when stopped, delete them.

    Args:
        session: The call.
        made: The Jobs.
        reaches: A cluster to which their pods may connect; the Jobs are deleted at the end, and with them the
            NetworkPolicies that allow this.
        more: What a document for programs says in addition.
    """
    screen, cluster = session.screen, session.cluster
    begun: dict[str, str] = {}
    opened: set[str] = set()
    finished = False
    try:
        for job in made:
            begun[name_of(job)] = labels(job).get(COMPONENT_LABEL, "")
            created = cluster.create_job(job)
            screen.note(f"started {describe(job)}")
            if reaches and needs_network_policy(job, cluster.network_policies()):
                cluster.create_network_policy(network_policy_for(created, reaches))
                opened.add(name_of(job))
                screen.note(f"created networkpolicy/{name_of(job)}, which lets it connect to cluster {reaches}")
        with screen.waiting("waiting for the pod"):
            followers = [
                _follower(session, name, several=len(made) > 1, restores=component == RESTORE)
                for name, component in begun.items()
            ]
            follow_all(followers)
        code = _conclude(session, followers, more or {})
        finished = True
    finally:
        if not finished or reaches:
            with uninterrupted():
                for name, component in begun.items():
                    policy = " and its NetworkPolicy" if name in opened else ""
                    rest = "" if finished else f"; {_STOPPED[component or BACKUP]}"
                    if cluster.delete_job(name):
                        screen.note(f"deleted job/{name}{policy}{rest}")
    return code


def _follower(session: Session, job: str, *, several: bool, restores: bool) -> Follower:
    prefix, screen = f"{job}: " if several else "", session.screen
    return Follower(
        session.cluster,
        job,
        lambda line: screen.log(f"{prefix}{in_options(line) if restores else line}"),
        lambda text: screen.note(f"{prefix}{text}"),
        lambda text: screen.progress(f"{prefix}{text}"),
    )


def _conclude(session: Session, followers: Sequence[Follower], more: Mapping[str, Any]) -> int:
    """Show how runs have ended, and return their exit code. The log of each ends with its table already."""
    screen = session.screen
    by_name = {run.job: run for run in session.runs()}
    found = {one.job: by_name.get(one.job) or one.vanished() for one in followers}
    ended = [run for run in found.values() if run is not None]
    missing = [name for name, run in found.items() if run is None]
    code = worst([*(exit_code_of(run) for run in ended), *(ExitCode.FAILED for _ in missing)])
    if not screen.is_table:
        documents = [
            {
                **run_document(run),
                "databases": [{"database": v.database, "result": v.result, "why": v.why} for v in run.verdicts],
            }
            for run in ended
        ]
        screen.document({"exit_code": code, "jobs": documents, **more})
        return code
    for run in ended:
        if run.state == "failed" and (run.killed or run.exit_code is None):
            screen.line(f"job/{run.job} failed: {run.reason or run.message}", style=tables.WRONG)
    for name in missing:
        screen.line(f"job/{name} is gone: someone deleted it before it ended", style=tables.WRONG)
    screen.line(f"exit code {code}", style=tables.WRONG if code else tables.GOOD)
    return code
