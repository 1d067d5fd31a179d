"""How a restore of a database would go today: what its last dump has found out, and whether it has a superuser."""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubectl_cnpg_backup.model.objects import Object
from kubectl_cnpg_backup.model.release import BACKUP, RESTORE, Release, Run, entry_of

BESIDE, IN_PLACE, REFUSED = "beside", "in place", "refused"
_METHODS = {"beside": BESIDE, "in-place": IN_PLACE, "none": REFUSED}
_LINE = re.compile(
    r"(?P<database>\S+): a restore as '(?P<role>.*?)' would be (?P<method>beside|in place|refused)(: (?P<why>.*))?"
)
_LOST = "not on the server"
_SUPERUSER_FILE = re.compile(r"(.+)/superuser-(?:password|uri)")


@dataclass(frozen=True, slots=True)
class Outlook:
    """The outlook for a restore of one database.

    Attributes:
        database: Its name.
        method: beside, in place or refused.
        role: As whom the restore would connect; empty for the superuser.
        why: What would be in the way.
        remedies: What would make it better, as the dump has found out; empty where only its short message is known.
    """

    database: str
    method: str
    role: str
    why: str = ""
    remedies: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The outlook as a sentence."""
        who = f"as '{self.role}'" if self.role else "as the superuser"
        return f"a restore {who} would be {self.method}{f': {self.why}' if self.why else ''}"

    def improvement(self, cluster: str = "", managed_roles: Sequence[Object] = ()) -> str:
        """Return what would make it better, with the lines of YAML; nothing where nothing has to be.

        Args:
            cluster: The cluster, for the text.
            managed_roles: The roles that the cluster declares. To one of them, a line is added; for any other role the
                remedies have an entry in full, since CloudNativePG takes from a role what its entry lacks.
        """
        if self.method == BESIDE or (not self.remedies and _LOST in self.why):
            return ""
        more = list(self.remedies)
        if not more:
            lines = f"spec: {{enableSuperuserAccess: true}} in Cluster {cluster}".rstrip()
            more = [lines, "what `kubectl cnpg-backup status` lists"]
        if any(role.get("name") == self.role for role in managed_roles):
            add = f"createdb: true in the entry of '{self.role}' in spec.managed.roles of Cluster {cluster}"
            more = [add if "managed: " in one else one for one in more]
        return f"{'for beside: ' if self.method == IN_PLACE else ''}{'; or '.join(more)}"

    def document(self) -> dict[str, Any]:
        """Return the outlook, for programs."""
        return {
            "method": self.method.replace(" ", "-"),
            "role": self.role or None,
            "why": self.why or None,
            "remedies": list(self.remedies),
        }


def from_entry(database: str, entry: object) -> Outlook | None:
    """Return what `retention status` says about a restore of a database, or None when it says nothing."""
    method = _METHODS.get(str(entry.get("method"))) if isinstance(entry, Mapping) else None
    if method is None or not isinstance(entry, Mapping):
        return None
    obstacles, remedies = (
        [str(one) for one in found] if isinstance(found := entry.get(key), list) else []
        for key in ("obstacles", "remedies")
    )
    return Outlook(database, method, str(entry.get("role")), "; ".join(obstacles), tuple(remedies))


def with_superuser(found: Outlook, superuser: bool | None) -> Outlook:
    """Return the outlook for a restore that uses the superuser's Secret, if there is one."""
    return Outlook(found.database, BESIDE, "") if superuser and _LOST not in found.why else found


def known(
    runs: Iterable[Run], superusers: Mapping[str, bool | None], entries: Container[str] = ()
) -> dict[str, Outlook]:
    """Return the outlook of each database that the API server's objects allow, by its name.

    Args:
        runs: The release's Jobs, newest first.
        superusers: Whether the superuser's Secret of each database, or entry, is there.
        entries: Those of `superusers` that mean all databases of a cluster.
    """
    found: dict[str, Outlook] = {}
    for run in runs:
        for line in run.message.splitlines() if run.component == BACKUP else ():
            match = _LINE.fullmatch(line)
            if match is not None and match["database"] not in found:
                method = match["method"]
                found[match["database"]] = Outlook(match["database"], method, match["role"], match["why"] or "")
    for database in {*found, *superusers}:
        superuser = superusers.get(entry_of(database, entries) or database)
        if database in found or (superuser and database not in entries):
            found[database] = with_superuser(found.get(database, Outlook(database, BESIDE, "")), superuser)
    return dict(sorted(found.items()))


def superuser_secrets(release: Release) -> dict[str, str]:
    """Return the name of the superuser's Secret that a restore of each database would mount, by database."""
    found = {}
    for cronjob in release.of(RESTORE):
        for volume in cronjob.pod_spec.get("volumes") or ():
            for source in (volume.get("projected") or {}).get("sources") or ():
                secret = source.get("secret") or {}
                for item in secret.get("items") or ():
                    if match := _SUPERUSER_FILE.fullmatch(str(item.get("path") or "")):
                        found[match[1]] = str(secret["name"])
    return found
