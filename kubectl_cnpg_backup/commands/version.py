"""`version`: the plugin's own, and that of everything it works with, as far as that is known."""

import platform
from collections.abc import Callable
from typing import TypeVar

from kubectl_cnpg_backup.commands.common import Commands, add_command, cluster_object, plugin_version
from kubectl_cnpg_backup.errors import PluginError
from kubectl_cnpg_backup.model.objects import dig
from kubectl_cnpg_backup.model.release import BACKUP, Release, clusters_of
from kubectl_cnpg_backup.model.versions import Versions, document, read_images
from kubectl_cnpg_backup.output import tables
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode

_T = TypeVar("_T")


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands, "version", "Show the versions of plugin, chart, images, API server and PostgreSQL.", run
    )
    command.set_defaults(without_cluster=True)


def run(session: Session) -> int:
    """Show versions. What cannot be known is left out, with a note why."""
    found = versions(session)
    if session.screen.is_table:
        session.screen.table(tables.versions(found))
    else:
        session.screen.document(document(found))
    return ExitCode.DONE


def versions(session: Session) -> Versions:
    """Return all versions that can be known."""
    own = plugin_version() or "unknown, because it is not installed"
    if session.missing:
        session.screen.note(f"only the plugin's own version: {session.missing}")
        return Versions(own, platform.python_version())
    server = _known(session, session.cluster.version)
    if server is None:
        return Versions(own, platform.python_version())
    release = _known(session, lambda: session.release)
    if release is None:
        return Versions(own, platform.python_version(), server)
    clusters = _known(session, lambda: _servers(session, release)) or {}
    return Versions(own, platform.python_version(), server, release, read_images(release), clusters)


def _servers(session: Session, release: Release) -> dict[str, str]:
    """Return the image of each cluster that is backed up, by `namespace/name`; empty where it cannot be read."""
    configs = session.configs(BACKUP)
    return {name: _image(session, name) for name in sorted(set(clusters_of(release, configs).values()))}


def _image(session: Session, name: str) -> str:
    found = cluster_object(session, name)
    return str(dig(found, "status").get("image") or dig(found, "spec").get("imageName") or "")


def _known(session: Session, ask: Callable[[], _T]) -> _T | None:
    try:
        return ask()
    except PluginError as error:
        session.screen.note(f"not known: {error}")
        return None
