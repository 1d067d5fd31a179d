"""The dashboard: Prometheus understands every query and, with a watcher's metrics, has an answer: no panel is dead."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.common import of_kind
from tests.chart.test_alerts import promtool
from tests.lab import chart
from tests.watch.test_page import VOLUME, full
from watch import metrics
from watch.objects import BACKUP
from watch.standing import Standing, Work

DASHBOARD: dict[str, Any] = json.loads((chart.CHART / "dashboard.json").read_text())
FILLED = {"$namespace": "apps", "$release": "cnpg-backup", "$database": ".*"}


def queries() -> list[tuple[str, str]]:
    found = []
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            text = target["expr"]
            for name, value in FILLED.items():
                text = text.replace(name, value)
            found.append((panel["title"], text))
    return found


def exported() -> str:
    """The metrics of a watcher that knows everything, at the beginning of 1970, when promtool's tests begin."""
    began = datetime(1970, 1, 1, 3, tzinfo=UTC)
    databases = tuple(full(name, number) for number, name in enumerate(("kutt", "shop")))
    standing = Standing(databases, (Work("c", BACKUP, "succeeded", 0),), VOLUME, "claim")
    text = metrics.render(standing, namespace="apps", release="cnpg-backup", version="1", read=began)
    sent = {("slack", "ok"): 3}
    # Durations are in the termination message alone.
    more = "".join(
        f'cnpg_backup_{name}_duration_seconds{{namespace="apps",release="cnpg-backup",database="kutt"}} 60\n'
        for name in ("dump", "verify")
    )
    return text + more + metrics.notifications(sent, namespace="apps", release="cnpg-backup")


def test_every_query_parses_and_has_an_answer(tmp_path: Path) -> None:
    lines = [line.rpartition(" ") for line in exported().splitlines() if not line.startswith("#")]
    tests = {
        "interval": "1m",
        "input_series": [{"series": name, "values": f"{value}x200"} for name, _, value in lines],
        "promql_expr_test": [
            {"expr": f"count({text}) > bool 0", "eval_time": "3h", "exp_samples": [{"labels": "{}", "value": 1}]}
            for _, text in queries()
        ],
    }
    (tmp_path / "tests.json").write_text(json.dumps({"evaluation_interval": "1m", "tests": [tests]}))
    done = promtool("test", "rules", "tests.json", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(tests["promql_expr_test"]) > 20


def test_no_query_names_a_metric_that_is_not_exported() -> None:
    names = set(re.findall(r"cnpg_backup_\w+", json.dumps(DASHBOARD)))
    source = (Path(metrics.__file__)).read_text()
    known = {f"cnpg_backup_{name}" for name in re.findall(r'"([a-z_]+)"', source)} | {"cnpg_backup_notifications_total"}
    assert names <= known, names - known
    assert len(names) > 15


@pytest.mark.parametrize("enabled", [True, False])
def test_config_map_holds_the_file_as_it_is_and_only_by_value(enabled: bool) -> None:
    values = {"monitoring": {"enabled": True, "dashboard": {"enabled": enabled, "labels": {"grafana": "yes"}}}}
    found = [
        one for one in of_kind(chart.render(values), "ConfigMap") if one["metadata"]["name"].endswith("-dashboard")
    ]
    assert len(found) == enabled
    for one in found:
        assert json.loads(one["data"]["cnpg-backup.json"]) == DASHBOARD
        assert one["metadata"]["labels"]["grafana"] == "yes"


def test_dashboard_works_with_any_data_source_and_needs_no_import_form() -> None:
    assert "__inputs" not in DASHBOARD, "the sidecar does not fill them in"
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {"${datasource}"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    boxes = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y)
        for box in boxes
        for x in range(box["x"], box["x"] + box["w"])
        for y in range(box["y"], box["y"] + box["h"])
    ]
    assert len(cells) == len(set(cells)), "two panels lie on each other"
    assert all(box["x"] + box["w"] <= 24 for box in boxes)
    assert yaml.safe_load((chart.CHART / "values.yaml").read_text())["monitoring"]["dashboard"]["enabled"] is False
