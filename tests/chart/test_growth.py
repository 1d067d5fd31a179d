"""Hundreds of databases: time grows with their number, and all of it fits where Kubernetes and Helm keep it."""

from __future__ import annotations

import copy
import json
import resource
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.chart.common import KYVERNO, kept_release, maps_of, title
from tests.lab import chart
from tests.lab.chart import CHART

EVERYTHING: dict[str, Any] = yaml.safe_load((CHART / "ci" / "everything-on-values.yaml").read_text())
LARGEST = 1024 * 1024
"""What Kubernetes stores in one ConfigMap or Secret."""


def in_shards(count: int) -> dict[str, Any]:
    """The values of everything-on with so many databases, each like one of its own."""
    values = copy.deepcopy(EVERYTHING)
    models = values["databases"]
    values["databases"] = [
        models[number % len(models)] | {"name": f"database-{number}-of-many", "cluster": f"cluster-{number}"}
        for number in range(count)
    ]
    for one in values["copies"]:
        one["database"] = values["databases"][0]["name"]
    # A budget for each of them would not fit on the claim.
    values["persistence"]["size"] = "100Ti"
    return values


def one_by_one(count: int) -> dict[str, Any]:
    """The same with a CronJob for each database."""
    values = in_shards(count)
    values["cronJob"]["perDatabase"] = True
    values["defaults"]["shard"] = ""
    for entry in values["databases"]:
        entry.pop("shard", None)
    return values


def in_one(count: int) -> dict[str, Any]:
    """The same in a single CronJob, and so in a single configuration."""
    values = one_by_one(count)
    values["cronJob"]["perDatabase"] = False
    for entry in values["databases"]:
        entry.pop("image", None)
    return values


def rendered_in(values: dict[str, Any]) -> tuple[float, str]:
    """The processor time that Helm needs to render, in seconds, and what it renders; other load does not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    text = chart.render_text(values, api_versions=KYVERNO, fresh=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before, text


@pytest.mark.parametrize("mode", [pytest.param(in_shards, marks=pytest.mark.long), one_by_one, in_one])
def test_ten_times_the_databases_take_at_most_twelve_times_the_time_and_fit_where_they_are_kept(
    mode: Callable[[int], dict[str, Any]],
) -> None:
    few, _ = min(rendered_in(mode(30)) for _ in range(2))
    values = mode(300)
    many, text = rendered_in(values)
    assert many <= 12 * few, f"30 databases: {few:.2f} s, 300: {many:.2f} s"
    manifests = chart.parse(text)
    maps = [manifest["data"] for manifest in maps_of(manifests)]
    # Restores have another configuration, of all databases, and copies one of none.
    runs = [data for data in maps if "policy.json" in data and not {"passwd", "offsite.conf"} & data.keys()]
    databases = [name for data in runs for name in data if name.endswith(".conf")]
    suspended = sum("suspended" not in entry for entry in values["databases"])
    assert len(databases) == 300 - (0 if mode is one_by_one else suspended)
    for manifest in manifests:
        size = len(json.dumps(manifest).encode())
        assert size < LARGEST, f"{title(manifest)} has {size} bytes"
    # The rest is for what the chart and its values may still grow by.
    assert len(kept_release(text, values)) < LARGEST * 3 / 4
