"""Whose folder it is: two releases that copy to the same one refuse each other."""

import contextlib
import json
from datetime import datetime

from offsite.remote.errors import MissingError, TakenError, UnknownError
from offsite.remote.rclone import Rclone
from offsite.rule import names
from offsite.rule.parts import parts_for
from retention.errors import ExitCode, RetentionError
from retention.text import shown

_MOST = 64 * 1024


class OtherOwnerError(RetentionError):
    """The folder belongs to another release."""

    exit_code = ExitCode.REFUSED


def claim(remote: Rclone, cluster_id: str, owner: str, *, now: datetime) -> None:
    """Return if the folder is ours, or was nobody's and is ours now.

    Raises:
        OtherOwnerError: When it belongs to another release.
        RemoteError: When the destination refuses.
    """
    path = f"{cluster_id}/{names.OWNER}"
    found = owner_of(remote, cluster_id)
    if found is None:
        document = {"schema": 1, "owner": owner, "since": now.isoformat(timespec="seconds")}
        content = (json.dumps(document, indent=2) + "\n").encode()
        parts = parts_for(len(content))
        try:
            remote.upload(path, [content], len(content), parts, once=True)
        except TakenError:
            # Another release was faster: what counts is what is there now.
            pass
        except UnknownError:
            remote.upload(path, [content], len(content), parts)
        found = owner_of(remote, cluster_id)
    if found != owner:
        place = f"{remote.destination.path}/{cluster_id}"
        raise OtherOwnerError(
            f"{place} belongs to another release ({shown(found or 'unknown')[:100]}, not {shown(owner)[:100]})",
            "set offsite.clusterId to a name of its own; if that release is gone for good, delete "
            f"{place}/{names.OWNER}",
        )


def owner_of(remote: Rclone, cluster_id: str) -> str | None:
    """Return which release copies to a folder; None if none does, and nothing for a file that cannot be understood.

    Raises:
        RemoteError: When the destination refuses.
    """
    try:
        content = remote.read(f"{cluster_id}/{names.OWNER}", _MOST)
    except MissingError:
        return None
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(content)
        if isinstance(document, dict) and isinstance(document.get("owner"), str):
            return str(document["owner"])
    return ""
