"""The sign of life for a dead-man's switch outside the cluster, in the protocol of healthchecks.io.

While all is well a ping says so. When something is wrong it says that. When the watcher does not know, it says nothing:
then the switch itself raises the alarm, as it does when the watcher, the API server or the whole cluster is gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from retention.message import FAILED, REFUSED
from watch.memory import UNKNOWN
from watch.standing import LATE, Database, worst_first

_BAD = (FAILED, LATE, REFUSED)
_MOST_BYTES = 10_000


@dataclass(frozen=True, slots=True)
class Ping:
    """What is sent.

    Attributes:
        failed: Whether something is wrong.
        body: How each database is, worst first.
    """

    failed: bool
    body: bytes


def ping_for(databases: Sequence[Database], *, out_of_date: str | None, title: str) -> Ping | None:
    """Return the ping to send; None where the watcher does not know enough to say that all is well.

    Args:
        databases: How they are; those that are suspended are not asked about.
        out_of_date: That what is known is out of date, in words; None while it is not.
        title: Which release of which namespace it is.
    """
    asked = [one for one in databases if not one.suspended]
    bad = any(one.state in _BAD for one in asked)
    if out_of_date is not None or (not bad and any(one.state == UNKNOWN for one in asked)):
        return None
    lines = [title, *(f"{one.name}: {one.state}: {one.why}" for one in worst_first(asked))]
    return Ping(bad, "\n".join(lines).encode(errors="replace")[:_MOST_BYTES])


def url_of(url: str, *, failed: bool) -> str:
    """Return where a ping goes: the URL of the check, with `/fail` if something is wrong."""
    parts = urlsplit(url.strip())
    path = parts.path.rstrip("/") + ("/fail" if failed else "")
    return urlunsplit(parts._replace(path=path))
