"""What the chart tells the watcher: the CronJobs, the databases of each, and when a backup is too old."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from retention.errors import ConfigError
from watch.memory import Configured
from watch.notices import Place
from watch.targets import TARGETS

_REMEDY = "upgrade the release: the chart writes this file"


@dataclass(frozen=True, slots=True)
class Settings:
    """What is watched.

    Attributes:
        namespace: The release's namespace.
        release: Its name: the label `app` of its objects.
        version: Version of the chart.
        memory: Name of the ConfigMap that holds the memory.
        configured: What each CronJob backs up, by its name.
        drilled: The databases and entries that each CronJob of drills restores, by its name.
        stale_after: By CronJob, from which age a newest backup is too old.
        drill_stale_after: From which age the last drill that restored a database is too old; None without drills.
        zone: The name of the time zone of the schedules.
        place: Which release it is, for messages.
        targets: Who is notified of problems.
        remind_after: How long after a notice of a problem another one is sent.
        ping_every: How often a sign of life is sent; None for never.
        events: Whether Kubernetes Events are made.
        outside_stale_after: From which age a newest copy outside is too old; None where none are made.
    """

    namespace: str
    release: str
    version: str
    memory: str
    configured: Mapping[str, Configured]
    drilled: Mapping[str, frozenset[str]]
    stale_after: Mapping[str, timedelta]
    drill_stale_after: timedelta | None
    zone: str
    place: Place
    targets: tuple[str, ...]
    remind_after: timedelta
    ping_every: timedelta | None = None
    events: bool = False
    outside_stale_after: timedelta | None = None


def read(text: str) -> Settings:
    """Return the settings.

    Args:
        text: `watch.json`: `namespace`, `release`, `version`, `memory`, `timeZone`, and `cronjobs`, by name with
            `component`, `databases` and `entries`, and for those that back up `staleAfter` in seconds and `config`, the
            name of their ConfigMap. `databases` and `entries` are by name, each with `cluster`, `namespace` and
            `dbname`. If they are there: `pingEvery`, `drillStaleAfter`, `outsideStaleAfter` and `remindAfter` in
            seconds, `targets`, `events`, `clusterName`, `url`, `runbookUrl`.

    Raises:
        ConfigError: When it is not valid.
    """
    try:
        document = json.loads(text)
        configured, drilled, stale_after = {}, {}, {}
        for name, cronjob in dict(document["cronjobs"]).items():
            config = str(cronjob.get("config") or "")
            found = Configured(_databases(cronjob["databases"]), _databases(cronjob["entries"]), config)
            if cronjob["component"] == "drill":
                drilled[name] = frozenset({*found.databases, *found.entries})
            else:
                configured[name] = found
                stale_after[name] = timedelta(seconds=int(cronjob["staleAfter"]))
        place = Place(
            str(document["namespace"]),
            str(document["release"]),
            *(str(document.get(key) or "") for key in ("clusterName", "url", "runbookUrl")),
        )
        wanted = list(document.get("targets") or ())
        return Settings(
            str(document["namespace"]),
            str(document["release"]),
            str(document["version"]),
            str(document["memory"]),
            configured,
            drilled,
            stale_after,
            _seconds(document, "drillStaleAfter"),
            str(document["timeZone"]),
            place,
            tuple(target for target in TARGETS if target in wanted),
            timedelta(seconds=int(document.get("remindAfter") or 86400)),
            _seconds(document, "pingEvery"),
            bool(document.get("events")),
            _seconds(document, "outsideStaleAfter"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"watch.json is not valid: {type(error).__name__}: {error}", _REMEDY) from None


def _seconds(document: Mapping[str, Any], key: str) -> timedelta | None:
    return timedelta(seconds=int(document[key])) if document.get(key) else None


def _databases(found: Any) -> dict[str, Mapping[str, str]]:
    return {str(name): {str(key): str(value) for key, value in its.items()} for name, its in found.items()}
