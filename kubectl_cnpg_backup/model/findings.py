"""What `doctor` looks at, and what it reports."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kubectl_cnpg_backup.model.objects import Object
from kubectl_cnpg_backup.model.release import Release, Run
from kubectl_cnpg_backup.model.rights import Right


class Level(enum.Enum):
    """How bad a finding is."""

    GOOD = "ok"
    UNKNOWN = "unknown"
    CAREFUL = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked, its state, and what to do about it."""

    level: Level
    subject: str
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that could not be read, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found in the cluster; `Unreadable` where this user may not read it.

    Attributes:
        release: The release.
        now: The moment, UTC.
        kubernetes: The API server's version.
        plugin: The plugin's own version.
        documentation: The address of the folder of pages.
        runs: The release's Jobs, newest first.
        claim: The claim, None when it does not exist.
        policies: The namespace's NetworkPolicies.
        access: What the chart recorded about its access policies; None when it recorded nothing.
        access_policies: Whether each admission policy of the record exists, by name.
        secrets: The keys of each Secret that a run reads, by name; None for one that is missing.
        wanted_secrets: The keys that a run reads, by the Secret's name.
        servers: The image of each CNPG cluster, by `namespace/name`.
        clusters: The clusters that are backed up, with the image that dumps them, by `namespace/name`.
        missing_rights: What this user may not do.
        claim_events: The events of the claim, oldest first.
        superusers: Whether a restore of each database finds the superuser's Secret, by database; None for unknown.
        databases: The cluster of each database, as `namespace/name`.
        entries: Those of `databases` and `superusers` that mean all databases of a cluster.
        managed_roles: `spec.managed.roles` of each cluster, by `namespace/name`.
        namespace: The namespace itself; None when it was not asked for.
        neighbours: Names of the namespace's pods that belong neither to a release of the chart nor to a CNPG cluster.
        service_account: Whether the account of the release's pods exists; None when it was not asked for.
        refusals: Why a Job or a pod could not be made, by `cronjob/NAME` or `job/NAME`.
        others: Jobs that have the release's labels and are not its runs.
        roles: The Roles of the namespace and the ClusterRoles that are bound there, by `kind/name`; None when they were
            not asked for.
        bindings: The namespace's RoleBindings.
        finalizers: The finalizers of the release's objects, by `RESOURCE/NAME`.
    """

    release: Release
    now: datetime
    kubernetes: str
    plugin: str
    runs: Sequence[Run]
    claim: Object | Unreadable | None
    policies: Sequence[Object] | Unreadable
    access: Mapping[str, str] | Unreadable | None
    access_policies: Mapping[str, bool | Unreadable]
    secrets: Mapping[str, frozenset[str] | Unreadable | None]
    wanted_secrets: Mapping[str, frozenset[str]]
    servers: Mapping[str, str | Unreadable | None]
    clusters: Mapping[str, str]
    missing_rights: Sequence[Right]
    claim_events: Sequence[Object] = ()
    documentation: str = "docs"
    superusers: Mapping[str, bool | None] = field(default_factory=dict)
    databases: Mapping[str, str] = field(default_factory=dict)
    entries: frozenset[str] = frozenset()
    managed_roles: Mapping[str, Sequence[Object]] = field(default_factory=dict)
    namespace: Object | Unreadable | None = None
    neighbours: Sequence[str] | Unreadable = ()
    service_account: bool | Unreadable | None = None
    refusals: Mapping[str, str] = field(default_factory=dict)
    others: Sequence[Run] = ()
    roles: Mapping[str, Object] | Unreadable | None = None
    bindings: Sequence[Object] = ()
    finalizers: Mapping[str, Sequence[str]] = field(default_factory=dict)
