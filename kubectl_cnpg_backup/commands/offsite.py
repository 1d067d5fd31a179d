"""`offsite`: copies outside the cluster."""

import secrets

from kubectl_cnpg_backup.commands.common import Commands, add_command, add_dry_run, documentation
from kubectl_cnpg_backup.commands.following import carry_out, dry_run
from kubectl_cnpg_backup.commands.restore import check_backup
from kubectl_cnpg_backup.commands.run import jobs_of
from kubectl_cnpg_backup.errors import NotFoundError, UsageError
from kubectl_cnpg_backup.model.jobs import job_from
from kubectl_cnpg_backup.model.offsite import LOOKS, VERIFY, fetching, identity_secret, looking
from kubectl_cnpg_backup.model.release import FETCH, OFFSITE, OFFSITE_DRILL
from kubectl_cnpg_backup.session import Session
from retention.names import is_database


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "offsite",
        "Copy backups out of the cluster now, list, verify or drill copies, bring one back, or try the store.",
        run,
    )
    command.add_argument(
        "action",
        choices=("run", "list", "verify", "drill", "fetch", "check"),
        metavar="ACTION",
        help="run: copy what is due; list: list the copies; verify: read the newest copy of each database, or one, in "
        "full; drill: restore the newest copies from the store in a throwaway server; fetch: bring one to the volume; "
        "check: try the store, its rights, lock and clock",
    )
    command.add_argument("database", nargs="?", default="", metavar="DATABASE", help="fetch, verify, drill: whose copy")
    command.add_argument(
        "--backup",
        default="newest",
        metavar="WHICH",
        help="fetch, verify: newest (the default), 'newest before TIME', or an archive's name",
    )
    command.add_argument(
        "--identity-secret",
        default="",
        metavar="NAME",
        help="fetch: the Secret with the secret key, under key.txt (default: the one that the values name)",
    )
    add_dry_run(command)


def run(session: Session) -> int:
    """Do what is asked."""
    options, release = session.options, session.release
    component = FETCH if options.action == "fetch" else OFFSITE
    cronjobs = release.of(component)
    if not cronjobs:
        raise NotFoundError(
            f"release {release.name} in namespace {release.namespace} makes no copies outside the cluster",
            f"set offsite.enabled and the other values of {documentation()}/object-store.md",
        )
    if options.action == "drill":
        return _drill(session)
    job = job_from(cronjobs[0], f"{options.action}-{secrets.token_hex(3)}")
    if component == FETCH:
        if not is_database(options.database):
            raise UsageError(
                f"fetch needs the name of a database, not {options.database!r}",
                "see: kubectl cnpg-backup offsite list",
            )
        check_backup(options)
        job = fetching(job, options.database, options.backup, options.identity_secret)
        if key := identity_secret(job):
            session.screen.note(f"the key is read from the Secret {key}")
    elif options.identity_secret:
        raise UsageError(f"{options.action} needs no key", "leave --identity-secret out")
    elif options.action == VERIFY and options.database:
        check_backup(options)
        job = looking(job, VERIFY, f"--database={options.database}", f"--backup={options.backup}")
    elif options.database:
        raise UsageError(f"{options.action} is for all databases", "leave the database out")
    elif options.action in LOOKS:
        job = looking(job, options.action)
    return dry_run(session, [job]) if options.dry_run else carry_out(session, [job])


def _drill(session: Session) -> int:
    """Restore the newest copies from the store."""
    options, release = session.options, session.release
    if not release.of(OFFSITE_DRILL):
        raise NotFoundError(
            f"release {release.name} in namespace {release.namespace} does not drill its copies outside the cluster",
            f"set offsite.drill.enabled, after a look at {documentation()}/object-store.md",
        )
    if options.backup != "newest" or options.identity_secret:
        raise UsageError(
            "a drill restores the newest copies, with the key that the values name",
            "leave --backup and --identity-secret out",
        )
    made = jobs_of(session, OFFSITE_DRILL, [options.database] if options.database else [])
    return dry_run(session, made) if options.dry_run else carry_out(session, made)
