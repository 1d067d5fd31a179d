"""Drills of the copies, as the plugin sees them: whose they are, how they ended, and a Job for one database."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import kubernetes_validate
import pytest

from kubectl_cnpg_backup.model.jobs import job_from, only_databases
from kubectl_cnpg_backup.model.offsite import copies_outside
from kubectl_cnpg_backup.model.release import (
    COMPONENT_LABEL,
    OFFSITE_DRILL,
    CronJob,
    Release,
    Run,
    read_runs,
    releases,
)
from kubectl_cnpg_backup.model.status import describe
from kubectl_cnpg_backup.output import tables
from retention import message
from retention.message import Drill
from tests.chart.common import LONGEST_RELEASE
from tests.chart.test_offsite_drill import ON
from tests.lab import chart
from tests.plugin.common import NOW, ago, job, pod
from tests.plugin.test_offsite import BACKED_UP, CRONJOB, HALF_AN_HOUR, copied, line

NAME = "cnpg-backup-offsite-drill"


def of_release(name: str = "cnpg-backup") -> list[dict[str, Any]]:
    """The CronJobs of a release that drills its copies, as the API server returns them."""
    found = [one for one in chart.render(ON, release=name) if one["kind"] == "CronJob"]
    for number, one in enumerate(found):
        one["metadata"] |= {"uid": f"uid-{number}", "creationTimestamp": ago(days=30)}
        one["status"] = {"lastScheduleTime": ago(minutes=30)}
    return found


def release_of(cronjobs: list[dict[str, Any]]) -> Release:
    (found,) = releases(cronjobs, "default")
    return found


@pytest.fixture
def its() -> Release:
    return release_of(of_release())


def drill_of(its: Release) -> CronJob:
    (found,) = its.of(OFFSITE_DRILL)
    return found


def owner(name: str, uid: str) -> dict[str, Any]:
    return {"kind": "CronJob", "name": name, "uid": uid, "controller": True}


def drilled(its: Release, result: str, text: str = "") -> list[Run]:
    """A drill of the copies, by the Job that its CronJob has made."""
    made = job(
        "drill-1",
        NAME,
        state="Failed" if result == "failed" else "Complete",
        started=ago(hours=2),
        finished=ago(hours=1),
    )
    made["metadata"]["labels"][COMPONENT_LABEL] = OFFSITE_DRILL
    made["metadata"]["ownerReferences"] = [
        {"kind": "CronJob", "name": NAME, "uid": drill_of(its).source["metadata"]["uid"], "controller": True}
    ]
    said = message.write_drills([Drill("kutt", result, text, 3 if result == "proved" else None)]).decode()
    return read_runs([made], [pod("drill-1", int(result == "failed"), said)], its)


@pytest.mark.parametrize("name", ["cnpg-backup", "a", LONGEST_RELEASE])
def test_the_cronjob_that_does_not_mount_the_claim_is_still_the_releases(name: str) -> None:
    found = release_of(of_release(name))
    assert [one.name.endswith("-offsite-drill") for one in found.of(OFFSITE_DRILL)] == [True]
    assert not found.strangers


@pytest.mark.parametrize("name", ["mine", "mine-offsite-drill", "cnpg-backup-offsite", "x-cnpg-backup-offsite-drill"])
def test_another_cronjob_with_its_labels_is_a_stranger(name: str) -> None:
    made = of_release()
    other = copy.deepcopy(next(one for one in made if one["metadata"]["name"] == NAME))
    other["metadata"]["name"] = name
    made = [one for one in made if one["metadata"]["name"] != name]
    assert name in release_of([*made, other]).strangers


def test_a_drill_that_failed_is_shown_with_its_reason_and_one_that_did_not_is_no_problem(its: Release) -> None:
    made = job("run", CRONJOB, started=ago(minutes=30), finished=ago(minutes=28))
    backed_up = read_runs([made], [pod("run", 0, f"1 databases done\n{BACKED_UP}")])
    for result, number in (("proved", 0), ("none", 0), ("failed", 1)):
        runs = [*backed_up, *drilled(its, result, "kutt-20261122-140002.dump failed: assertion 1 is not true")]
        found = describe(its, {CRONJOB: ("kutt",)}, runs, None, NOW)
        own = [one for one in found.problems if one.subject == f"cronjob/{NAME}"]
        assert len(own) == number, found.problems
        for one in own:
            assert "kutt: kutt-20261122-140002.dump failed: assertion 1 is not true" in one.problem
            assert "\n" not in one.problem


def test_a_job_that_claims_to_be_a_drill_of_the_copies_counts_for_nothing(its: Release) -> None:
    for owners in (
        [],
        [{"kind": "CronJob", "name": "mine", "uid": "1", "controller": True}],
        [{"kind": "CronJob", "name": NAME, "uid": "another", "controller": True}],
    ):
        made = job("forged", NAME, started=ago(hours=2), finished=ago(hours=1))
        made["metadata"]["labels"][COMPONENT_LABEL] = OFFSITE_DRILL
        made["metadata"]["ownerReferences"] = owners
        (run,) = read_runs([made], [], its)
        assert run.foreign, owners


def test_status_says_that_a_copy_was_restored_and_since_when(its: Release) -> None:
    made = job("run", CRONJOB, started=ago(minutes=30), finished=ago(minutes=28))
    backed_up = read_runs([made], [pod("run", 0, f"1 databases done\n{BACKED_UP}")])
    at = int(NOW.timestamp()) - 12 * 86400
    for numbers, cell, verified in (
        ({"read": at, "restored": at, "proved": at}, "30m restored, restored 12.0d ago", "restored"),
        ({"proved": at}, "30m etag, restored 12.0d ago", "etag"),
        ({"read": at}, "30m readback", "readback"),
    ):
        runs = [
            *backed_up,
            *copied(dataclasses.replace(line(HALF_AN_HOUR), numbers={**line(HALF_AN_HOUR).numbers, **numbers})),
        ]
        found = describe(its, {CRONJOB: ("kutt",)}, runs, None, NOW)
        table = tables.status(found, NOW)
        assert table.rows[0][[one.header for one in table.columns].index("OFFSITE")] == cell
        outside = copies_outside(runs)["kutt"].document(NOW)
        assert outside["verified"] == verified
        assert (outside["restored"] is None) == ("proved" not in numbers)


def test_a_drill_of_one_database_has_the_containers_of_that_one(its: Release) -> None:
    cronjob = drill_of(its)
    (config,) = (
        one for one in chart.render(ON) if one["kind"] == "ConfigMap" and one["metadata"]["name"] == cronjob.config_map
    )
    made = only_databases(job_from(cronjob, "manual-1"), ["kutt"], config)
    kubernetes_validate.validate(made, "1.34", strict=True)
    spec = made["spec"]["template"]["spec"]
    names = [container["name"] for container in spec["initContainers"]]
    assert names[0] == "rclone"
    assert len(names) == 3
    assert "--database=kutt" in spec["initContainers"][1]["args"]
    (volume,) = (one for one in spec["volumes"] if one["name"] == "config")
    assert "kutt.conf" in {item["path"] for item in volume["configMap"]["items"]}
    assert "authelia.conf" not in {item["path"] for item in volume["configMap"]["items"]}
