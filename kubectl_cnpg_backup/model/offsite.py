"""Jobs about copies outside the cluster, made from the release's templates."""

from copy import deepcopy
from typing import Any

from kubectl_cnpg_backup.model.jobs import with_environment
from kubectl_cnpg_backup.model.release import COMPONENT_LABEL, OFFSITE

LISTING = f"{OFFSITE}-list"
"""The component of a Job that lists the copies: none of the runs that copy."""
_COPY, _LIST = "copy", "list"
_ROOT = "/backups"
_IDENTITY = "identity"


def listing(job: dict[str, Any]) -> dict[str, Any]:
    """Return a Job that lists the copies, from one that would copy."""
    changed = deepcopy(job)
    # Its pod keeps the label by which the NetworkPolicy lets it reach the store.
    changed["metadata"]["labels"][COMPONENT_LABEL] = LISTING
    (container,) = changed["spec"]["template"]["spec"]["containers"]
    container["args"] = [_LIST if word == _COPY else word for word in container["args"] if word != _ROOT]
    return changed


def fetching(job: dict[str, Any], database: str, backup: str, secret: str) -> dict[str, Any]:
    """Return a Job that brings a copy to the volume.

    Args:
        job: A Job of the template.
        database: Whose copy.
        backup: `newest`, `newest before TIME`, or an archive's name.
        secret: The Secret with the key; empty for the one that the values name.
    """
    changed = with_environment(job, {"FETCH_DATABASE": database, "FETCH_BACKUP": backup})
    for source in _identities(changed) if secret else ():
        source["name"] = secret
    return changed


def identity_secret(job: dict[str, Any]) -> str:
    """Return the Secret from which a Job reads the key; empty if the copies are not encrypted."""
    return next((str(source["name"]) for source in _identities(job)), "")


def _identities(job: dict[str, Any]) -> list[dict[str, Any]]:
    volumes = [one for one in job["spec"]["template"]["spec"]["volumes"] if one["name"] == _IDENTITY]
    return [source["secret"] for volume in volumes for source in volume["projected"]["sources"]]
