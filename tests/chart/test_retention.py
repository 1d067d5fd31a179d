"""Schedules and what is kept: words are the tiers of the pod, and each database has those of its schedule."""

from __future__ import annotations

import random
from typing import Any

import pytest

from retention import Policy
from tests.chart.common import backups, of_kind
from tests.chart.test_shards import cronjobs, entries
from tests.lab import chart
from tests.lab.chart import Manifest

DEFAULT = Policy.default()
WORDS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


def policies(manifests: list[Manifest]) -> dict[str, tuple[Policy, int]]:
    """For each database its policy, by the configuration of all, and how many backups its configuration expects."""
    data: dict[str, str] = {}
    for manifest in of_kind(manifests, "ConfigMap"):
        if "-restore" in manifest["metadata"]["name"]:
            data |= manifest["data"]
    found = {}
    for key, text in data.items():
        if key.endswith(".conf"):
            name = key.removesuffix(".conf")
            most = next(line for line in text.splitlines() if line.startswith("most_backups="))
            policy = Policy.from_json(data.get(f"{name}.policy.json", data["policy.json"]))
            found[name] = policy, int(most.partition("=")[2])
    return found


def entry(number: int, **settings: Any) -> dict[str, Any]:
    return {"name": f"app-{number}", "cluster": "app", **settings}


def test_words_mean_to_the_chart_what_they_mean_to_the_pod() -> None:
    chance = random.Random(7)
    kept = [{word: chance.choice([0, 1, 2, 7, 1000]) for word in WORDS if chance.random() < 0.6} for _ in range(200)]
    kept = [keep for keep in kept if any(keep.values())]
    settings = [entry(number, retention={"keep": keep}) for number, keep in enumerate(kept)]
    found = policies(chart.render({"schedule": "@hourly", "databases": settings}))
    assert len(found) > 100
    for number, keep in enumerate(kept):
        policy, most = found[f"app-{number}"]
        assert policy == Policy.from_words(keep)
        assert most == policy.most == sum(keep.values())


AUTOMATIC: dict[str, dict[str, int]] = {
    "*/10 * * * *": {},
    "@hourly": {},
    "30 */2 * * *": {},
    "0 */3 * * *": {"last": 8, "daily": 7, "weekly": 4, "monthly": 6},
    "0 1,7,13,19 * * *": {"last": 4, "daily": 7, "weekly": 4, "monthly": 6},
    "@daily": {"daily": 7, "weekly": 4, "monthly": 6},
    "@midnight": {"daily": 7, "weekly": 4, "monthly": 6},
    "0 3 * * MON-FRI": {"daily": 7, "weekly": 4, "monthly": 6},
    "0 3 * * mon,thu": {"daily": 7, "weekly": 4, "monthly": 6},
    "0 3 ? * 0": {"weekly": 4, "monthly": 6},
    "@weekly": {"weekly": 4, "monthly": 6},
    "0 3 1,15 * *": {"weekly": 4, "monthly": 6},
    "0 3 */2 * *": {"daily": 7, "weekly": 4, "monthly": 6},
    "0 3 1,15 * SUN": {"daily": 7, "weekly": 4, "monthly": 6},
    "@monthly": {"monthly": 6},
    "0 0 1 JAN ?": {"monthly": 6},
}
"""What `auto` keeps for a schedule; nothing stands for the default tiers."""


def test_a_schedule_alone_gets_tiers_that_fit_it() -> None:
    settings = [entry(number, schedule=schedule) for number, schedule in enumerate(AUTOMATIC)]
    found = policies(chart.render({"activeDeadlineSeconds": 240, "databases": settings}))
    for number, (schedule, keep) in enumerate(AUTOMATIC.items()):
        policy, most = found[f"app-{number}"]
        wanted = Policy.from_words(keep) if keep else DEFAULT
        assert policy.tiers == wanted.tiers, schedule
        assert most == wanted.most, schedule


def test_the_default_is_as_it_was() -> None:
    manifests = chart.render()
    assert {policy for policy, _ in policies(manifests).values()} == {DEFAULT}
    assert [one["metadata"]["name"] for one in backups(manifests)] == ["cnpg-pg-dump-backup"]


def _deadline(cronjob: Manifest) -> int:
    return int(cronjob["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"])


@pytest.mark.parametrize("order", [1, -1])
def test_each_schedule_has_a_cronjob_and_none_renames_another(order: int) -> None:
    databases = [
        *entries("plain", "same", schedule="0  3 * * *"),
        *entries("hourly", "again", schedule="@hourly"),
        *entries("written-out", schedule="0 * * * *"),
        *entries("other-image", schedule="@hourly", image={"tag": "17-alpine"}),
        *entries("large", shard="large"),
        *entries("large-hourly", shard="large", schedule="@hourly"),
        *entries("weekly", schedule="@weekly"),
    ][::order]
    databases.append({"name": "unset", "cluster": "app"})

    def found(some: list[dict[str, Any]]) -> dict[str, tuple[str, str, int]]:
        return {
            database: (name, " ".join(one["spec"]["schedule"].split()), _deadline(one))
            for database, (name, one) in cronjobs(some, schedule="0 3 * * *").items()
        }

    every = found(databases)
    assert every["plain"] == every["same"] == every["unset"] == ("cnpg-pg-dump-backup", "0 3 * * *", 86100)
    assert every["large"][0] == "cnpg-pg-dump-backup-large"
    assert every["hourly"] == every["again"]
    assert every["hourly"][0] == every["written-out"][0]
    assert every["hourly"][2] == 3300
    assert every["weekly"][1] == "@weekly"
    assert len({name for name, *_ in every.values()}) == 6
    some = {database: name for database, (name, *_) in found(databases[::2]).items()}
    assert some.items() <= {database: name for database, (name, *_) in every.items()}.items()


def test_slots_of_given_tiers_stay_where_they_are_and_those_of_words_bear_hours_of_delay() -> None:
    """Edges that move under existing backups could cost one of them."""
    tiers = [{"name": "Daily", "every": "24h", "keep": 7}]
    settings = [
        entry(1, retention={"tiers": tiers}),
        entry(2, retention={"keep": {"daily": 7}}),
        entry(3, retention={"keep": {"daily": 7}, "phase": 0}),
        entry(4),
        entry(5, schedule="40 */6 * * *", retention={"tiers": tiers}),
    ]
    found = policies(chart.render({"schedule": "30 3 * * *", "databases": settings}))
    phases = {name: int(policy.phase.total_seconds()) for name, (policy, _) in found.items()}
    half = (3 * 60 + 30 - 15 + 12 * 60) * 60
    assert phases == {"app-1": 15 * 60, "app-2": half, "app-3": 0, "app-4": half, "app-5": 25 * 60}
