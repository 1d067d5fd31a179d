"""`restore`: restores a database from a backup."""

import argparse
import secrets

from kubectl_cnpg_backup.commands.common import Commands, add_command, add_dry_run, add_source, add_yes, ask
from kubectl_cnpg_backup.commands.following import carry_out
from kubectl_cnpg_backup.errors import NotFoundError
from kubectl_cnpg_backup.model import new_cluster
from kubectl_cnpg_backup.model.jobs import databases_per_cronjob, job_from, with_environment
from kubectl_cnpg_backup.model.objects import Object
from kubectl_cnpg_backup.model.release import RESTORE, CronJob, databases_in, read_conf
from kubectl_cnpg_backup.session import Session


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(commands, "restore", "Restore a database from a backup: all of it, or nothing.", run)
    add_source(command)
    command.add_argument(
        "--into", default="", metavar="NAME", help="restore into this database of the cluster (default: the original)"
    )
    command.add_argument(
        "--cluster", default="", metavar="NAME", help="restore into this cluster of the release's namespace"
    )
    command.add_argument("--replace", action="store_true", help="replace the target database even if it has tables")
    command.add_argument(
        "--way",
        choices=("auto", "beside", "in-place"),
        default="auto",
        help="beside: fill a new database, then swap the names; in-place: in one transaction (default: auto)",
    )
    command.add_argument(
        "--drop-old",
        action="store_true",
        help="in-place: drop what was in the database before (default: keep it in schemas of its own)",
    )
    for what in ("table", "schema"):
        command.add_argument(
            f"--{what}",
            action="append",
            default=[],
            help=f"restore only the rows of this {what}; needs --into; may be given several times",
        )
    command.add_argument("--owner", default="", metavar="ROLE", help="role that will own everything")
    add_dry_run(command, "check everything in the cluster, change nothing")
    add_yes(command)


def run(session: Session) -> int:
    """Restore a database."""
    options = session.options
    cronjob, conf = restore_template(session)
    target = options.into or conf.get("dbname", options.database)
    cluster, namespace = conf.get("cluster", ""), conf.get("namespace", "")
    if options.cluster:
        cluster, namespace = options.cluster, session.cluster.namespace
        if find_cluster(session, options.cluster) is None:
            raise NotFoundError(
                f"namespace {namespace} has no cluster {options.cluster!r}",
                "make one from a backup: kubectl cnpg-backup new-cluster",
            )
    where = f"database {target!r} of cluster {cluster} in namespace {namespace}"
    session.screen.note(f"restoring {options.database} ({options.backup}) into {where}")
    if options.replace and not options.dry_run:
        ask(session, f"Replace {where} with that backup?")
    job = with_environment(job_from(cronjob, secrets.token_hex(3)), _environment(options))
    if not options.cluster:
        return carry_out(session, [job])
    job = new_cluster.pointed_at_cluster(job, options.database, options.cluster, namespace)
    return carry_out(session, [job], reaches=options.cluster)


def _environment(options: argparse.Namespace) -> dict[str, str]:
    """Return the options of a restore as its pod reads them; docs/restore.md describes them."""
    return {
        "RESTORE_DATABASE": options.database,
        "RESTORE_BACKUP": options.backup,
        "RESTORE_INTO": options.into,
        "RESTORE_REPLACE": "yes" if options.replace else "no",
        "RESTORE_WAY": options.way,
        "RESTORE_KEEP": "no" if options.drop_old else "yes",
        "RESTORE_TABLES": " ".join(options.table),
        "RESTORE_SCHEMAS": " ".join(options.schema),
        "RESTORE_OWNER": options.owner,
        "RESTORE_JOBS": options.jobs,
        "RESTORE_DRY_RUN": "yes" if options.dry_run else "no",
    }


def restore_template(session: Session) -> tuple[CronJob, dict[str, str]]:
    """Return the CronJob that restores the database that the options name, and that database's settings.

    Raises:
        NotFoundError: When the release has no CronJob for restores.
        UsageError: When the database is not configured.
    """
    release, database = session.release, session.options.database
    release.template(RESTORE)
    cronjobs = {cronjob.name: cronjob for cronjob in release.of(RESTORE)}
    configs = session.configs(RESTORE)
    configured = {name: databases_in(config) for name, config in configs.items()}
    (name,) = databases_per_cronjob([database], cronjobs.values(), configured)
    return cronjobs[name], read_conf(configs[name], database)


def find_cluster(session: Session, name: str, namespace: str = "") -> Object | None:
    """Return a CloudNativePG cluster of this or another namespace, None where there is none of this name."""
    namespace = namespace or session.cluster.namespace
    try:
        return session.cluster.custom(new_cluster.GROUP, new_cluster.VERSION, new_cluster.PLURAL, name, namespace)
    except NotFoundError:
        return None
