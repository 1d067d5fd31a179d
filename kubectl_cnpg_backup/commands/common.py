"""What several commands share: their options, the paths of databases and archives, questions and answers."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kubectl_cnpg_backup.cluster.inspector import ROOT
from kubectl_cnpg_backup.errors import ForbiddenError, NotFoundError, RefusedError, UsageError
from kubectl_cnpg_backup.model import new_cluster, outlook
from kubectl_cnpg_backup.model.objects import Object, dig
from kubectl_cnpg_backup.output import jsonpath, tables
from kubectl_cnpg_backup.session import Session
from retention.errors import RetentionError
from retention.names import database_of_archive, is_database
from retention.text import parse_duration, parse_size

if TYPE_CHECKING:
    from kubectl_cnpg_backup.output.screen import Screen

Commands = Any
"""What argparse calls `_SubParsersAction`."""

EPILOG = """\
exit codes:
  0 done, 1 a database failed or something is wrong, 2 usage, 3 refused,
  130 stopped by Ctrl-C"""

NAMESPACE_VARIABLE, RELEASE_VARIABLE = "CNPG_BACKUP_NAMESPACE", "CNPG_BACKUP_RELEASE"
"""Environment variables that replace the defaults of `--namespace` and `--release`."""

FORMS = ("table", "wide", "name", "json", "yaml")
"""What `-o` accepts, in addition to a template of JSONPath."""
JSONPATH = "jsonpath="
VALUES = "values"
"""What `-o` accepts in addition, for a command that prints values of the chart."""

NOTHING_CHANGED = "nothing was changed"


def add_command(commands: Commands, name: str, text: str, run: Callable[[Session], int]) -> argparse.ArgumentParser:
    """Add a command with the options that every command has.

    Args:
        commands: The parser's commands.
        name: Its name.
        text: One line of help.
        run: Does the work and returns the exit code.
    """
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text, epilog=EPILOG)
    command.set_defaults(run=run)
    add_common(command, "options of every command")
    return command


def add_common(parser: argparse.ArgumentParser, title: str) -> None:
    """Add the options that every command has, which may also precede it."""
    where = parser.add_argument_group(title)
    where.add_argument(
        "-n",
        "--namespace",
        default=os.environ.get(NAMESPACE_VARIABLE) or None,
        help=f"namespace of the release (default: {NAMESPACE_VARIABLE}, or that of the context)",
    )
    where.add_argument(
        "--release",
        default=os.environ.get(RELEASE_VARIABLE) or "",
        metavar="NAME",
        help=f"the release, if the namespace has several (default: {RELEASE_VARIABLE})",
    )
    where.add_argument(
        "-o",
        "--output",
        type=output_form,
        default="table",
        metavar="FORMAT",
        help="table (the default), wide, name, json, yaml, or jsonpath=TEMPLATE as for kubectl",
    )
    where.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        metavar="WHEN",
        help="auto (the default: in a terminal, unless NO_COLOR is set), always, or never",
    )
    where.add_argument("--context", metavar="NAME", help="context of the kubeconfig (default: the current one)")
    where.add_argument("--kubeconfig", metavar="FILE", help="kubeconfig (default: KUBECONFIG, or ~/.kube/config)")
    where.add_argument(
        "--as", dest="as_user", metavar="USER", help="act as this user (default: `as` of the kubeconfig)"
    )
    where.add_argument("--as-group", action="append", metavar="GROUP", help="and as of this group; may be repeated")
    where.add_argument("--as-uid", metavar="UID", help="and with this uid")


def add_table_options(command: argparse.ArgumentParser) -> None:
    """Add `--no-headers` and `--sort-by`, and make `-o name` possible."""
    command.add_argument("--no-headers", action="store_true", help="print the rows of tables alone")
    command.add_argument(
        "--sort-by",
        default="",
        metavar="COLUMN",
        help="sort by a column, such as size, or by a JSONPath of an entry, such as .bytes",
    )
    command.set_defaults(has_names=True)


def output_form(text: str) -> str:
    """Return a form of output after checking it, as an argument's type."""
    if text.startswith(JSONPATH):
        try:
            jsonpath.parse(text.removeprefix(JSONPATH))
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    elif text not in (*FORMS, VALUES):
        raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from {', '.join(FORMS)}, {JSONPATH}…)")
    return text


def sorted_by(session: Session, columns: Sequence[tables.Column]) -> Callable[[Any], Any]:
    """Return the key by which `--sort-by` sorts documents; without that option it leaves their order.

    Raises:
        UsageError: When it is neither a column nor a JSONPath.
    """
    if not session.options.sort_by:
        return lambda _: 0
    path = tables.sort_path(columns, session.options.sort_by)
    return lambda document: jsonpath.order(jsonpath.first(path, document))


def add_wait(command: argparse.ArgumentParser) -> None:
    """Add `--timeout`, which every command with an inspector pod has, and its former name."""
    text = "how long to wait until a pod that mounts the volume is ready (default: 3m)"
    command.add_argument("--timeout", dest="wait", type=seconds, default=180.0, metavar="3m", help=text)
    add_former_wait(command)


def add_former_wait(command: argparse.ArgumentParser, default: Any = argparse.SUPPRESS) -> None:
    """Accept `--wait`, as `--timeout` was called, without listing it in the help."""
    command.add_argument("--wait", type=seconds, default=default, metavar="3m", help=argparse.SUPPRESS)


def add_dry_run(command: argparse.ArgumentParser, text: str = "only print what would be done") -> None:
    """Add `--dry-run`."""
    command.add_argument("--dry-run", action="store_true", help=text)


def add_yes(command: argparse.ArgumentParser) -> None:
    """Add `--yes`."""
    command.add_argument("-y", "--yes", action="store_true", help="do not ask for confirmation")


def add_databases(command: argparse.ArgumentParser) -> None:
    """Add the names of databases on the volume."""
    command.add_argument(
        "database", nargs="*", metavar="DATABASE", help="only these databases (default: all on the volume)"
    )


def add_archives(command: argparse.ArgumentParser) -> None:
    """Add the names of archives."""
    command.add_argument(
        "archive", nargs="+", metavar="ARCHIVE", help="name of an archive: <database>-YYYYMMDD-HHMMSS.dump"
    )


def add_backup(command: argparse.ArgumentParser) -> None:
    """Add the option that says which backup; `check_backup` reads it."""
    command.add_argument(
        "--backup",
        default="newest",
        help="'newest' (default), 'newest before TIME', 'pinned', 'proved' (by a drill), or the name of an archive",
    )


def add_source(command: argparse.ArgumentParser) -> None:
    """Add the database to restore, and which of its backups."""
    command.add_argument("database", metavar="DATABASE", help="database to restore, by its `name` in values.yaml")
    add_backup(command)
    command.add_argument(
        "--jobs", default="auto", metavar="N", help="number of parallel connections of the restore (default: auto)"
    )


def duration(text: str) -> str:
    """Return a duration after checking it, as an argument's type."""
    seconds(text)
    return text


def seconds(text: str) -> float:
    """Return the seconds of a duration such as 15m, as an argument's type."""
    try:
        return parse_duration(text).total_seconds()
    except RetentionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def size(text: str) -> str:
    """Return a size such as 10Gi after checking it, as an argument's type."""
    try:
        parse_size(text)
    except RetentionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def count(text: str) -> int:
    """Return a whole number above 0, as an argument's type."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def directories(databases: Sequence[str]) -> list[str]:
    """Return the directories of databases, or the root of all when none is named.

    Raises:
        UsageError: When a name cannot be that of a database.
    """
    for name in databases:
        if not is_database(name):
            raise UsageError(
                f"{name!r} is not the name of a database", "see `kubectl cnpg-backup list` for those on the volume"
            )
    return [f"{ROOT}/{name}" for name in databases] or [ROOT]


def archive_path(name: str) -> str:
    """Return the path of an archive on the volume.

    Raises:
        UsageError: When it is not an archive's name.
    """
    database = database_of_archive(name)
    if database is None:
        raise UsageError(
            f"{name!r} is not an archive's name (<database>-YYYYMMDD-HHMMSS.dump)",
            "see `kubectl cnpg-backup list` for the archives on the volume",
        )
    return f"{ROOT}/{database}/{name}"


def ask(session: Session, question: str) -> None:
    """Ask the user before something is changed, unless `--yes` was given.

    Raises:
        RefusedError: When the answer is no, or there is no terminal to ask at.
    """
    if session.options.yes:
        return
    if not session.screen.can_ask:
        raise RefusedError(f"there is no terminal to ask at; {NOTHING_CHANGED}", "give --yes")
    if not session.screen.confirm(question):
        raise RefusedError(f"you did not answer y; {NOTHING_CHANGED}")


def show(screen: "Screen", document: object, text: str) -> None:
    """Print a result: a line for people, a document for programs."""
    if screen.is_table:
        screen.line(text)
    else:
        screen.document(document)


def superusers(session: Session, clusters: Mapping[str, str]) -> dict[str, bool | None]:
    """Tell for each database whether a restore of it would find the superuser's Secret; None where nothing tells.

    Where this user may not look at Secrets, the cluster's `spec.enableSuperuserAccess` answers for the Secret that
    CloudNativePG makes.

    Args:
        session: The call.
        clusters: The cluster of each database, as `namespace/name`.
    """
    found: dict[str, bool | None] = {}
    for database, secret in outlook.superuser_secrets(session.release).items():
        where = clusters.get(database, "")
        try:
            found[database] = session.cluster.has_secret(secret)
        except ForbiddenError:
            enabled = None if (made := cluster_object(session, where)) is None else dig(made, "spec")
            own = f"{session.release.namespace}/{secret.removesuffix('-superuser')}" == where
            found[database] = None if enabled is None or not own else bool(enabled.get("enableSuperuserAccess"))
    return found


def plugin_version() -> str:
    """Return the plugin's own version; empty where it is not installed."""
    # Loaded here, since it takes as long as all commands together and --help does without it.
    import importlib.metadata

    try:
        return importlib.metadata.version("cnpg-backup")
    except importlib.metadata.PackageNotFoundError:
        return ""


def documentation() -> str:
    """Return the address of the folder of pages at the plugin's own version; `docs` in a checkout, which has them."""
    import importlib.metadata

    try:
        addresses = importlib.metadata.metadata("cnpg-backup").get_all("Project-URL") or []
    except importlib.metadata.PackageNotFoundError:
        addresses = []
    named = dict(one.split(", ", 1) for one in addresses)
    return str(named.get("Documentation", "docs/plugin.md")).rsplit("/", 1)[0]


def cluster_object(session: Session, where: str) -> Object | None:
    """Return the Cluster `namespace/name`, or None where there is none or this user may not read it."""
    namespace, _, name = where.partition("/")
    try:
        return session.cluster.custom(new_cluster.GROUP, new_cluster.VERSION, new_cluster.PLURAL, name, namespace)
    except (ForbiddenError, NotFoundError):
        return None
