"""Jobs about copies outside the cluster, made from the release's templates."""

from copy import deepcopy
from typing import Any

from kubectl_cnpg_backup.model.jobs import with_environment

_COPY, _LIST = "copy", "list"
_ROOT = "/backups"
_IDENTITY = "identity"


def listing(job: dict[str, Any]) -> dict[str, Any]:
    """Return a Job that lists the copies, from one that would copy."""
    changed = deepcopy(job)
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
    for volume in changed["spec"]["template"]["spec"]["volumes"]:
        if secret and volume["name"] == _IDENTITY:
            volume["secret"]["secretName"] = secret
    return changed


def identity_secret(job: dict[str, Any]) -> str:
    """Return the Secret from which a Job reads the key; empty if the copies are not encrypted."""
    volumes = job["spec"]["template"]["spec"]["volumes"]
    return next((str(one["secret"]["secretName"]) for one in volumes if one["name"] == _IDENTITY), "")
