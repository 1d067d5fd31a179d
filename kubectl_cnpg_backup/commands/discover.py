"""`discover`: all databases of CloudNativePG, which of them a release backs up, and which nobody does."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from kubectl_cnpg_backup.commands.common import Commands, add_command, add_table_options, sorted_by
from kubectl_cnpg_backup.errors import ForbiddenError, NotFoundError, PluginError
from kubectl_cnpg_backup.model import discover, discover_values, new_cluster
from kubectl_cnpg_backup.model.discover import Configured, Found, Server
from kubectl_cnpg_backup.model.objects import Object, dig, name_of
from kubectl_cnpg_backup.model.release import BACKUP, RESTORE, SELECTOR, CronJob, Release, releases
from kubectl_cnpg_backup.output import discovered
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode, RetentionError

_CONTAINER = "postgres"
_COMMAND = ("timeout", "30", "psql", "-XAtq", "-U", "postgres", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-c")


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands, "discover", "Find the databases of CloudNativePG, and show which of them no release backs up.", run
    )
    command.description = (
        "Find the databases of CloudNativePG, and show which of them no release backs up. "
        "`-o values` prints entries for the values of a release that back these up."
    )
    command.add_argument("-A", "--all-namespaces", dest="everywhere", action="store_true", help="in all namespaces")
    command.add_argument(
        "--check", action="store_true", help="exit 1 if no release backs up a database, or its backups are suspended"
    )
    command.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out databases on purpose: NAMESPACE, NAMESPACE/CLUSTER or NAMESPACE/CLUSTER/DATABASE, "
        "with * and ?; may be repeated",
    )
    command.add_argument(
        "--no-server",
        action="store_true",
        help="do not ask the servers (by psql in their pods): only databases that objects name are found",
    )
    add_table_options(command)
    command.set_defaults(has_values=True)


@dataclass
class _Seen:
    """What the API server and the servers have said."""

    clusters: Sequence[Object] = ()
    databases: Sequence[Object] = ()
    servers: dict[tuple[str, str], Server] = field(default_factory=dict)
    releases: list[Release] = field(default_factory=list)
    said: list[Configured] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def run(session: Session) -> int:
    """Show all databases."""
    options, screen = session.options, session.screen
    order = sorted_by(session, discovered.COLUMNS)
    seen = _Seen()
    with screen.waiting("discover: asking the API server"):
        _look_at_clusters(session, seen)
        _look_at_releases(session, seen)
        if not options.no_server:
            _ask_servers(session, seen)
    found = discover.assess(
        [one for cluster in seen.clusters for one in _databases(cluster, seen)],
        seen.said,
        replicas=[_key(cluster) for cluster in seen.clusters if discover.is_replica(cluster)],
        unread=seen.unread,
        excluded=options.exclude,
    )
    if not options.everywhere:
        found = [one for one in found if one.namespace == session.cluster.namespace or one.state != discover.GONE]
    bad = [one for one in found if one.state in discover.BAD]
    _show(session, seen, sorted(found, key=lambda one: order(discover.document(one))), bad)
    return int(ExitCode.FAILED if options.check and bad else ExitCode.DONE)


def _show(session: Session, seen: _Seen, found: Sequence[Found], bad: Sequence[Found]) -> None:
    screen, namespace = session.screen, session.cluster.namespace
    if screen.form == "values":
        missing = [one for one in found if one.state == discover.UNPROTECTED]
        own = [one for one in seen.releases if one.namespace == namespace]
        chosen = [one for one in own if session.options.release in (one.name, one.instance)] or own
        release = chosen[0].name if len(chosen) == 1 else ""
        images = [
            str(container.get("image"))
            for one in chosen
            for cronjob in one.of(BACKUP)
            for container in cronjob.pod_spec.get("initContainers") or ()
        ]
        made = discover_values.entries(
            missing,
            {_key(cluster): cluster for cluster in seen.clusters},
            namespace,
            discover_values.taken_names(seen.said, namespace, release),
            discover_values.majors_of(images),
        )
        print(discover_values.text_of(made, namespace, release), end="")
        return
    if not screen.is_table:
        screen.document([discover.document(one) for one in found], [one.name for one in bad])
        return
    screen.table(discovered.table(found, session.now))
    if screen.rows_alone:
        return
    if not seen.clusters:
        where = "the cluster" if session.options.everywhere else f"namespace {namespace}"
        screen.line(f"{where} has no CloudNativePG cluster{'' if session.options.everywhere else '; try -A'}")
        return
    screen.line(discover.summary(found))
    if any(one.state == discover.UNPROTECTED for one in bad):
        screen.line("`kubectl cnpg-backup discover -o values` prints entries for the values that back them up")


def _databases(cluster: Object, seen: _Seen) -> list[Found]:
    namespace, _ = key = _key(cluster)
    objects = [one for one in seen.databases if dig(one, "metadata").get("namespace") == namespace]
    return discover.databases_of(cluster, objects, seen.servers.get(key))


def _key(cluster: Object) -> tuple[str, str]:
    return str(dig(cluster, "metadata").get("namespace") or ""), name_of(cluster)


def _look_at_clusters(session: Session, seen: _Seen) -> None:
    """List the clusters, and the `Database` objects.

    Raises:
        PluginError: When the clusters cannot be listed.
    """
    api, everywhere = session.cluster, session.options.everywhere
    try:
        seen.clusters = api.customs(new_cluster.GROUP, new_cluster.VERSION, discover.CLUSTERS, everywhere=everywhere)
    except NotFoundError:
        raise NotFoundError(
            "the API server does not know the clusters of CloudNativePG", "check that its operator is installed"
        ) from None
    if not seen.clusters and not everywhere:
        with contextlib.suppress(ForbiddenError):
            api.own_namespace()
    try:
        seen.databases = api.customs(new_cluster.GROUP, new_cluster.VERSION, discover.DATABASES, everywhere=everywhere)
    except (NotFoundError, ForbiddenError) as error:
        if isinstance(error, ForbiddenError):
            session.screen.note(f"Database objects are not known: {error}")


def _look_at_releases(session: Session, seen: _Seen) -> None:
    """Read what each release backs up; one that cannot be read stops no other."""
    api, screen = session.cluster, session.screen
    try:
        items = api.cronjobs_everywhere(SELECTOR)
    except ForbiddenError as error:
        screen.note(f"releases in other namespaces are not known: {error}")
        items = [{**one, "metadata": {**dig(one, "metadata"), "namespace": api.namespace}}
                 for one in api.cronjobs(SELECTOR)]  # fmt: skip
    per_namespace: dict[str, list[Object]] = {}
    for item in items:
        per_namespace.setdefault(str(dig(item, "metadata").get("namespace")), []).append(item)
    for namespace, own in sorted(per_namespace.items()):
        for release in releases(own, namespace):
            seen.releases.append(release)
            try:
                seen.said += discover.configured(release, _configs(session, release))
            except RetentionError as error:
                seen.unread.append(f"release {release.name} in namespace {namespace}")
                screen.note(f"what release {release.name} in namespace {namespace} backs up is not known: {error}")


def _configs(session: Session, release: Release) -> list[tuple[CronJob, Object]]:
    api, read = session.cluster.in_namespace(release.namespace), dict[str, Object]()
    found = []
    for cronjob in (*release.of(BACKUP), *release.of(RESTORE)):
        if cronjob.config_map not in read:
            read[cronjob.config_map] = api.config_map(cronjob.config_map)
        found.append((cronjob, read[cronjob.config_map]))
    return found


def _ask_servers(session: Session, seen: _Seen) -> None:
    """Ask each cluster's primary for its databases; note why one could not be asked."""
    refused: dict[str, str] = {}
    problems: dict[str, list[str]] = {}
    for cluster in seen.clusters:
        namespace, name = key = _key(cluster)
        pod = str(dig(cluster, "status").get("currentPrimary") or "")
        if namespace in refused:
            server = Server(problem=refused[namespace])
        elif not pod:
            server = Server(problem="it has no primary")
        else:
            session.screen.progress(f"discover: asking the server of {namespace}/{name}")
            server = _ask(session, namespace, pod)
            if server.problem.startswith("user "):
                refused[namespace] = server.problem
        seen.servers[key] = server
        if server.problem:
            problems.setdefault(server.problem, []).append(f"{namespace}/{name}")
    for problem, names in problems.items():
        session.screen.note(
            f"not asked: {', '.join(names)}: {problem}; databases that no object names are not known there"
        )


def _ask(session: Session, namespace: str, pod: str) -> Server:
    try:
        done = session.cluster.in_namespace(namespace).execute(pod, _CONTAINER, [*_COMMAND, discover.QUERY])
    except (PluginError, ConnectionError) as error:
        return Server(problem=(error.problem if isinstance(error, PluginError) else str(error)) or "no answer")
    if done.code:
        lines = [line for line in done.errors.splitlines() if line.strip()] or [
            f"psql ended with exit code {done.code}"
        ]
        return Server(problem=lines[0])
    return discover.read_server(done.output.decode(errors="replace"))
