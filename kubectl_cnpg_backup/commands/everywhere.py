"""`-A`: a command for each release of every namespace that this user may see, one after the other."""

import argparse
from collections.abc import Callable

from kubectl_cnpg_backup.errors import UsageError
from kubectl_cnpg_backup.model.objects import dig
from kubectl_cnpg_backup.model.release import SELECTOR, Release, releases, worst
from kubectl_cnpg_backup.output import tables
from kubectl_cnpg_backup.session import Session
from retention.errors import RetentionError


def add_all_namespaces(command: argparse._ActionsContainer) -> None:
    """Add `-A`."""
    command.add_argument(
        "-A", "--all-namespaces", action="store_true", help="for the releases of all namespaces, one after the other"
    )


def carry_out_everywhere(session: Session, run: Callable[[Session], int]) -> int:
    """Run a command for each release; an error of one does not stop the others. Return the worst exit code."""
    screen, options = session.screen, session.options
    found = _releases(session)
    codes: list[int] = []
    documents: list[object] = []
    for number, release in enumerate(found):
        where = {"namespace": release.namespace, "release": release.name}
        if screen.is_table and not screen.rows_alone:
            if number:
                screen.line()
            screen.line(f"--- release {release.name} in namespace {release.namespace}", style="bold")
        cluster = session.cluster.in_namespace(release.namespace)
        own = Session(argparse.Namespace(**{**vars(options), **where}), cluster, screen)
        own.release = release
        screen.collected = []
        try:
            code = int(run(own))
            results = {"result": screen.collected[0] if screen.collected else None}
        except RetentionError as error:
            code, results = int(error.exit_code), {"error": str(error)}
            if screen.is_table:
                screen.line(f"error: {error}", style=tables.WRONG)
            else:
                screen.note(f"{release.namespace}/{release.name}: {error}")
        codes.append(code)
        documents.append({**where, "exit_code": code, **results})
    screen.collected = None
    if not screen.is_table:
        screen.document(documents)
    return worst(codes)


def _releases(session: Session) -> list[Release]:
    """Return the releases of all namespaces.

    Raises:
        UsageError: When there is none, or none of the name that the options give.
    """
    per_namespace: dict[str, list[object]] = {}
    for item in session.cluster.cronjobs_everywhere(SELECTOR):
        per_namespace.setdefault(str(dig(item, "metadata").get("namespace")), []).append(item)
    found = [
        release
        for namespace, items in sorted(per_namespace.items())
        for release in releases(items, namespace)  # type: ignore[arg-type]
    ]
    wanted = session.options.release
    matching = [release for release in found if not wanted or wanted in (release.name, release.instance)]
    if not matching:
        named = f" named {wanted!r}" if wanted else ""
        raise UsageError(f"no namespace has a release of cnpg-backup{named}", "install one with Helm first")
    return matching
