"""`restore`: restores a database from a backup."""

import argparse
import secrets
from collections.abc import Mapping

from kubectl_cnpg_backup.commands.common import Commands, add_command, add_dry_run, add_source, add_yes, ask
from kubectl_cnpg_backup.commands.following import carry_out
from kubectl_cnpg_backup.errors import NotFoundError, UsageError
from kubectl_cnpg_backup.model import new_cluster
from kubectl_cnpg_backup.model.jobs import databases_per_cronjob, job_from, with_environment
from kubectl_cnpg_backup.model.objects import Object
from kubectl_cnpg_backup.model.release import RESTORE, CronJob, read_conf
from kubectl_cnpg_backup.session import Session
from retention.names import database_of_archive


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
            help=f"restore only the rows of this {what}, named as in SQL; needs --into; may be given several times",
        )
    command.add_argument(
        "--search-path",
        default="",
        metavar="SCHEMAS",
        help="schemas in which functions without a search_path look while the archive is restored (default: only if"
        " it is needed, each function's own schema and public)",
    )
    command.add_argument(
        "--on-error",
        choices=("stop", "keep"),
        default="stop",
        help="keep: restore all that can be restored, and list the rest; needs --into with a new database, and ends"
        " with exit code 1 if anything failed (default: stop)",
    )
    command.add_argument("--owner", default="", metavar="ROLE", help="role that will own everything")
    add_dry_run(command, "check everything in the cluster, change nothing")
    add_yes(command)


def run(session: Session) -> int:
    """Restore a database."""
    options = session.options
    check_keep(options)
    check_options(options)
    cronjob, conf = restore_template(session)
    configured = conf.get("database", options.database)
    cluster, namespace = conf.get("cluster", ""), conf.get("namespace", "")
    if options.cluster:
        cluster, namespace = options.cluster, session.cluster.namespace
        if find_cluster(session, options.cluster) is None:
            raise NotFoundError(
                f"namespace {namespace} has no cluster {options.cluster!r}",
                "make one from a backup: kubectl cnpg-backup new-cluster",
            )
    where = f"{target_of(options, conf)} of cluster {cluster} in namespace {namespace}"
    session.screen.note(f"restoring {options.database} ({options.backup}) into {where}")
    if options.replace and not options.dry_run:
        ask(session, f"Replace {where} with that backup?")
    job = with_environment(job_from(cronjob, secrets.token_hex(3)), environment(options))
    if not options.cluster:
        return carry_out(session, [job])
    job = new_cluster.pointed_at_cluster(job, configured, options.cluster, namespace)
    return carry_out(session, [job], reaches=options.cluster)


def target_of(options: argparse.Namespace, conf: Mapping[str, str]) -> str:
    """Return what a restore would write into, for messages. Only the archive names a database that a run has found."""
    if not options.into and conf.get("database", options.database) != options.database:
        return f"the database that was backed up as {options.database},"
    return f"database {options.into or conf.get('dbname', options.database)!r}"


def check_keep(options: argparse.Namespace) -> None:
    """Check that what may be a part of a backup goes into a new database.

    Raises:
        UsageError: When it would replace a database.
    """
    if options.on_error == "keep" and (not options.into or options.replace or options.way == "in-place"):
        raise UsageError(
            "--on-error keep may restore only a part of the backup, and so never replaces a database",
            "name a new one with --into, without --replace and --way in-place",
        )


def check_options(options: argparse.Namespace) -> None:
    """Check what a Job would refuse some seconds later.

    Raises:
        UsageError: When the backup is not one of this database, or the options contradict each other.
    """
    check_backup(options)
    if options.jobs != "auto" and not (options.jobs.isdecimal() and int(options.jobs)):
        raise UsageError(f"--jobs {options.jobs!r} is neither a whole number above 0 nor 'auto'", "leave it out")
    if (options.table or options.schema) and not options.into:
        raise UsageError(
            "rows of some tables are restored only into a new database", "name it with --into, and copy them from there"
        )


def check_backup(options: argparse.Namespace) -> None:
    """Check that `--backup` may name a backup of the database.

    Raises:
        UsageError: When it cannot.
    """
    wanted, database = options.backup, options.database
    archive = database_of_archive(wanted)
    if archive is None and wanted not in ("newest", "pinned", "proved") and not wanted.startswith("newest before "):
        raise UsageError(
            f"--backup {wanted!r} names no backup",
            "give 'newest', 'newest before TIME', 'pinned', 'proved', or the name of an archive, as "
            "`kubectl cnpg-backup list` shows it",
        )
    if archive is not None and archive != database:
        raise UsageError(
            f"archive {wanted} is a backup of database {archive!r}, not of {database!r}",
            f"restore {archive!r}, with --into for another target",
        )


def environment(options: argparse.Namespace) -> dict[str, str]:
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
        "RESTORE_SEARCH_PATH": options.search_path,
        "RESTORE_ON_ERROR": options.on_error,
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
    (name,) = databases_per_cronjob([database], cronjobs.values(), configs)
    return cronjobs[name], read_conf(configs[name], database)


def find_cluster(session: Session, name: str, namespace: str = "") -> Object | None:
    """Return a CloudNativePG cluster of this or another namespace, None where there is none of this name."""
    namespace = namespace or session.cluster.namespace
    try:
        return session.cluster.custom(new_cluster.GROUP, new_cluster.VERSION, new_cluster.PLURAL, name, namespace)
    except NotFoundError:
        return None
