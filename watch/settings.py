"""What the chart tells the watcher: the CronJobs with their schedules, and the configuration of their pods."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from retention import keyvalue
from retention.errors import ConfigError
from watch import thresholds
from watch.memory import Configured
from watch.schedule import ScheduleError

_CONF, _ALL = ".conf", ".all"
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
        zones: The names of the time zones.
    """

    namespace: str
    release: str
    version: str
    memory: str
    configured: Mapping[str, Configured]
    drilled: Mapping[str, frozenset[str]]
    stale_after: Mapping[str, timedelta]
    zones: frozenset[str]


def read(text: str, files: Mapping[str, Mapping[str, str]]) -> Settings:
    """Return the settings.

    Args:
        text: `watch.json`: `namespace`, `release`, `version`, `memory`, and `cronjobs`, by name with `component`,
            `schedule`, `timeZone`, `startingDeadlineSeconds` and `staleAfter` (seconds, or null: by the schedule).
        files: By CronJob the files of its pods' configuration.

    Raises:
        ConfigError: When one of them is not valid.
    """
    try:
        document = json.loads(text)
        cronjobs = dict(document["cronjobs"])
        configured, drilled, stale_after = {}, {}, {}
        for name, cronjob in cronjobs.items():
            found = _configured(files.get(name, {}))
            if cronjob["component"] == "drill":
                drilled[name] = frozenset({*found.databases, *found.entries})
            else:
                configured[name] = found
                stale_after[name] = _stale_after(name, cronjob)
        return Settings(
            str(document["namespace"]),
            str(document["release"]),
            str(document["version"]),
            str(document["memory"]),
            configured,
            drilled,
            stale_after,
            frozenset(str(cronjob["timeZone"]) for cronjob in cronjobs.values()),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"watch.json is not valid: {type(error).__name__}: {error}", _REMEDY) from None


def _configured(files: Mapping[str, str]) -> Configured:
    def parsed(suffix: str) -> dict[str, Mapping[str, str]]:
        names = (name for name in sorted(files) if name.endswith(suffix))
        return {name.removesuffix(suffix): keyvalue.parse(files[name], name).values for name in names}

    return Configured(parsed(_CONF), parsed(_ALL))


def _stale_after(name: str, cronjob: Mapping[str, Any]) -> timedelta:
    given = cronjob["staleAfter"]
    if given is not None:
        return timedelta(seconds=int(given))
    deadline = int(cronjob["startingDeadlineSeconds"] or 0)
    utc = cronjob["timeZone"] in ("UTC", "Etc/UTC")
    try:
        its = thresholds.of(str(cronjob["schedule"]), utc=utc, starting_deadline=deadline)
    except ScheduleError as error:
        raise ConfigError(f"schedule {cronjob['schedule']!r} of CronJob {name}: {error}", "correct it") from None
    return timedelta(seconds=its.stale_after)
