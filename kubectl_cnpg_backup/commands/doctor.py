"""`doctor`: checks the installation, and prints a fix for every problem."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from kubectl_cnpg_backup.commands.common import (
    Commands,
    add_command,
    cluster_object,
    documentation,
    plugin_version,
    superusers,
)
from kubectl_cnpg_backup.commands.everywhere import add_all_namespaces
from kubectl_cnpg_backup.errors import ForbiddenError, NotFoundError
from kubectl_cnpg_backup.model import doctor, doctor_namespace, doctor_network, new_cluster
from kubectl_cnpg_backup.model.findings import Facts, Level, Unreadable
from kubectl_cnpg_backup.model.objects import Object, dig, name_of, pods_of, refusal
from kubectl_cnpg_backup.model.release import BACKUP, CronJob, Release, clusters_of, databases_in, entries_in, read_conf
from kubectl_cnpg_backup.model.rights import RIGHTS
from kubectl_cnpg_backup.output import tables
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode

if TYPE_CHECKING:
    from kubectl_cnpg_backup.cluster.api import Cluster

_T = TypeVar("_T")


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "doctor",
        "Check the installation and print a fix for every problem; exit 1 when something is wrong.",
        run,
    )
    add_all_namespaces(command)


def run(session: Session) -> int:
    """Check the installation."""
    screen = session.screen
    with screen.waiting("doctor: checking the installation"):
        findings = doctor.examine(facts(session))
    wrong = any(finding.level is Level.WRONG for finding in findings)
    if screen.is_table:
        if "REMEDY" not in screen.table(tables.doctor(findings)):
            for line in tables.remedies(findings):
                screen.line(line)
    else:
        screen.document(doctor.document(findings))
    return ExitCode.FAILED if wrong else ExitCode.DONE


_NOT_ASKED = Unreadable("Secrets were not asked for")


def facts(session: Session, *, secrets: bool = True) -> Facts:
    """Return what `doctor` looks at; without `secrets` it asks for no Secret."""
    cluster, release = session.cluster, session.release
    record = _read(lambda: cluster.config_map(f"{release.name}-access"))
    access = dig(record, "data") if isinstance(record, dict) else record
    wanted = doctor.wanted_secrets(release)
    configs = _read(session.configs)
    clusters = _clusters(release, configs) if isinstance(configs, dict) else {}
    databases = clusters_of(release, configs) if isinstance(configs, dict) else {}
    entries = (
        {name for config in configs.values() for name in entries_in(config)} if isinstance(configs, dict) else set()
    )
    policies = _read(cluster.network_policies)
    neighbours = _read(lambda: [name_of(pod) for pod in cluster.pods(doctor_namespace.NEIGHBOURS)])
    every = session.runs_and_others()
    bindings = _read(cluster.role_bindings)
    account = _read(lambda: cluster.service_account(doctor_namespace.account_of(release)))
    claim = _read(lambda: cluster.claim(release.claim)) if release.claim else None
    own = [one for one in policies or () if doctor_network.is_own(one, release)] if isinstance(policies, list) else []
    return Facts(
        release=release,
        now=session.now,
        kubernetes=cluster.version(),
        plugin=plugin_version(),
        documentation=documentation(),
        runs=[run for run in every if not run.foreign],
        others=[run for run in every if run.foreign],
        roles=bindings if isinstance(bindings, Unreadable) else _read(lambda: _roles(cluster, bindings or ())),
        bindings=() if bindings is None or isinstance(bindings, Unreadable) else bindings,
        claim=claim,
        policies=() if policies is None else policies,
        access=access,
        access_policies=_access_policies(cluster, access) if isinstance(access, Mapping) else {},
        secrets={name: _secret_keys(cluster, name) if secrets else _NOT_ASKED for name in wanted},
        wanted_secrets=wanted,
        servers={name: _server_image(cluster, name) for name in clusters},
        clusters=clusters,
        superusers=superusers(session, databases),
        databases=databases,
        entries=frozenset(entries),
        managed_roles={name: _managed_roles(session, name) for name in clusters},
        claim_events=cluster.events_of("PersistentVolumeClaim", release.claim) if release.claim else (),
        namespace=_read(cluster.own_namespace),
        neighbours=() if neighbours is None else neighbours,
        service_account=account if isinstance(account, Unreadable) else account is not None,
        finalizers=_finalizers(
            {
                "pvc": [claim],
                "networkpolicy": own,
                "serviceaccount": [account],
                "cronjob": [one.source for one in release.cronjobs],
                "configmap": [record],
            }
        ),
        refusals=_refusals(session),
        missing_rights=[right for right in RIGHTS if not cluster.may(right.verb, right.group, right.resource)],
    )


def _finalizers(objects: Mapping[str, Sequence[object]]) -> dict[str, list[str]]:
    """Return the finalizers of objects that could be read, by `RESOURCE/NAME`."""
    return {
        f"{resource}/{name_of(one)}": list(map(str, dig(one, "metadata").get("finalizers") or ()))
        for resource, some in objects.items()
        for one in some
        if isinstance(one, Mapping)
    }


def _refusals(session: Session) -> dict[str, str]:
    """Return why Jobs and pods of the release could not be made, which otherwise shows only when a run is missed."""
    cluster, release = session.cluster, session.release
    found = {
        f"cronjob/{one.name}": refusal(cluster.events_of("CronJob", one.name), one.last_schedule)
        for one in release.cronjobs
    }
    pods = cluster.pods(release.selector)
    for run in session.runs():
        if run.state == "running" and not pods_of(run.job, pods):
            found[f"job/{run.job}"] = refusal(cluster.events_of("Job", run.job), None)
    return {subject: message for subject, message in found.items() if message}


def _roles(cluster: "Cluster", bindings: Sequence[Object]) -> dict[str, Object]:
    """Return what each binding refers to, by `kind/name`; a role that is gone is left out."""
    wanted = {(str(one["roleRef"]["kind"]), str(one["roleRef"]["name"])) for one in bindings}
    found: dict[str, Object] = {}
    for kind, name in sorted(wanted):
        role = _read(lambda kind=kind, name=name: cluster.role(kind, name))  # type: ignore[misc]
        if isinstance(role, Unreadable):
            raise ForbiddenError(role.reason)
        if role is not None:
            found[f"{kind}/{name}"] = role
    return found


def _read(read: Callable[[], _T]) -> _T | Unreadable | None:
    """Return what was read, None where it does not exist, or why this user may not read it."""
    try:
        return read()
    except NotFoundError:
        return None
    except ForbiddenError as error:
        return Unreadable(error.problem)


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


def _managed_roles(session: Session, name: str) -> Sequence[Object]:
    found = cluster_object(session, name)
    return () if found is None else dig(found, "spec", "managed").get("roles") or ()


def _dump_image(cronjob: CronJob) -> str:
    containers = cronjob.pod_spec.get("initContainers") or ()
    return str(containers[0].get("image")) if containers else ""


def _server_image(cluster: "Cluster", name: str) -> str | Unreadable | None:
    namespace, _, own = name.partition("/")
    found = _read(lambda: cluster.custom(new_cluster.GROUP, new_cluster.VERSION, new_cluster.PLURAL, own, namespace))
    if found is None or isinstance(found, Unreadable):
        return found
    return str(dig(found, "status").get("image") or found["spec"].get("imageName") or "")


def _secret_keys(cluster: "Cluster", name: str) -> frozenset[str] | Unreadable | None:
    found = _read(lambda: cluster.secret(name))
    return found if found is None or isinstance(found, Unreadable) else frozenset(dig(found, "data"))


def _access_policies(cluster: "Cluster", record: Mapping[str, str]) -> dict[str, bool | Unreadable]:
    """Return whether each built-in policy that the chart recorded still exists."""
    kind, _, names = record.get("builtin", "").partition(" ")
    found: dict[str, bool | Unreadable] = {}
    for name in names.split(", ") if kind == "ValidatingAdmissionPolicy" else ():
        policy = _read(lambda name=name: cluster.admission_policy(name))  # type: ignore[misc]
        found[name] = policy if isinstance(policy, Unreadable) else policy is not None
    return found
