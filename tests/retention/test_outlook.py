"""The outlook for a restore: what a dump has found out reaches `status.json`, `status` and the drill's report."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from retention.pod.outlook import sentence, word
from tests.retention.world import DAY, HOUR, T0, World, retention_here

CREATEDB = '{"name": "app", "login": true, "createdb": true, "inRoles": ["a \\"b\\""]}'
REFUSED = {
    "restore_method": "none",
    "restore_role": "app",
    "restore_obstacle_1": "table public.t; \\o/ belongs to role postgres",
    "restore_obstacle_2": "(and 3 more)",
    "restore_remedy_1": "spec: {enableSuperuserAccess: true} in the Cluster",
    "restore_remedy_2": f"spec: {{managed: {{roles: [{CREATEDB}]}}}} in the Cluster",
    "restore_createdb": CREATEDB,
    "restore_max_locks": "256",
}
IN_PLACE = {"restore_method": "in-place", "restore_role": "app", "restore_remedy_1": "spec: {a: b}"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.configure("app")
    return world


def run(world: World, time: datetime, facts: dict[str, str]) -> None:
    world.stage("app", time, facts=facts)
    assert world.finish(time).code == 0


def recorded(world: World) -> Any:
    return json.loads((world.root / "status.json").read_text())["databases"]["app"]["restore"]


def test_what_a_dump_found_out_is_kept_and_shown(world: World) -> None:
    run(world, T0, REFUSED)
    found = recorded(world)
    assert found["method"] == "none"
    assert found["obstacles"] == [REFUSED["restore_obstacle_1"], "(and 3 more)"]
    assert found["remedies"] == [REFUSED["restore_remedy_1"], REFUSED["restore_remedy_2"]]
    assert found["managed_role"] == json.loads(CREATEDB)
    assert found["max_locks_per_transaction"] == 256
    assert "app: a restore as 'app' would be refused: table public.t" in world.termination_log.read_text()
    ran = retention_here("status", "--now", T0 + HOUR, world.root)
    assert ran.code == 0, "the backup is good"
    assert " refused " in ran.out
    assert "(and 3 more); spec: {enableSuperuserAccess: true} in the Cluster; or spec: {managed: " in ran.out
    ran = retention_here("status", "--format", "json", "--now", T0 + HOUR, world.root)
    assert json.loads(ran.out)[0]["restore"] == found


@pytest.mark.parametrize("facts", [{"restore_method": "unknown"}, {}], ids=["unknown", "of an older version"])
def test_run_that_found_out_nothing_leaves_the_earlier_outlook_with_its_moment(
    world: World, facts: dict[str, str]
) -> None:
    run(world, T0, IN_PLACE)
    run(world, T0 + 2 * HOUR, facts)
    assert recorded(world)["at"] == T0.isoformat(timespec="seconds")
    run(world, T0 + 4 * HOUR, {"restore_method": "beside", "restore_role": "app"})
    assert recorded(world)["method"] == "beside"


def test_first_run_that_found_out_nothing_is_shown_as_unknown(world: World) -> None:
    run(world, T0, {})
    assert recorded(world) is None
    assert "  ?  " in retention_here("status", "--now", T0, world.root).out


def test_drill_reports_how_a_restore_would_go(world: World) -> None:
    run(world, T0, IN_PLACE)
    arguments = ("--config", world.config, "--results", world.results, "--now", T0 + DAY)
    ran = retention_here("drill", *arguments, "--termination-log", world.termination_log, world.root)
    assert "app: a restore as 'app' would be in place; for beside: spec: {a: b}" in ran.out
    assert "a restore as 'app' would be in place" in world.termination_log.read_text()
    assert recorded(world)["method"] == "in-place", "a drill leaves it as it was"


@pytest.mark.parametrize(
    "hostile",
    [None, 3, [], "none", {}, {"method": 7}, {"method": ["beside"]}, {"method": "none", "obstacles": {"a": 1}}],
)
def test_status_that_another_version_wrote_is_shown_as_far_as_it_goes(world: World, hostile: object) -> None:
    run(world, T0, IN_PLACE)
    path = world.root / "status.json"
    document = json.loads(path.read_text())
    document["databases"]["app"]["restore"] = hostile
    path.write_text(json.dumps(document))
    ran = retention_here("status", "--now", T0, world.root)
    assert ran.code == 0
    assert word(hostile) in ("?", "refused")
    assert (sentence(hostile) == "") == (word(hostile) == "?")
