"""What the plugin reads from the API server's objects; the messages are those that the package itself writes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kubectl_cnpg_backup.cluster.inspector import config_option, container_with
from kubectl_cnpg_backup.errors import NotFoundError, UsageError
from kubectl_cnpg_backup.model.release import (
    BACKUP,
    INSPECTOR,
    databases_in,
    exit_code_of,
    parse_verdicts,
    read_runs,
    releases,
    select_release,
    worst,
)
from retention.errors import RetentionError
from retention.pod.report import RunOutcome, termination_message
from tests.lab.chart import CHART
from tests.plugin.common import NOW, THREE, ago, config_of, job, objects, pod, release


def test_the_only_release_of_a_namespace_is_taken_and_several_are_named() -> None:
    found = releases([*objects("CronJob"), *objects("CronJob", name="nightly")], "default")
    assert [one.name for one in found] == ["cnpg-backup", "nightly"]
    assert select_release(found[:1], "", "default") == found[0]
    assert select_release(found, "nightly", "default") == found[1]
    with pytest.raises(UsageError, match="several releases: cnpg-backup, nightly; choose one with --release"):
        select_release(found, "", "default")
    with pytest.raises(UsageError, match="namespace default has no release 'weekly'; available: cnpg-backup, nightly"):
        select_release(found, "weekly", "default")
    with pytest.raises(UsageError, match="namespace elsewhere has no release of cnpg-backup"):
        select_release([], "", "elsewhere")


def test_other_peoples_cronjobs_are_no_release() -> None:
    assert releases([{"metadata": {"name": "other", "labels": {}}, "spec": {}}], "default") == []


def test_the_charts_cronjobs_are_read_as_what_they_are() -> None:
    found = release("two-images")
    assert found.claim == "cnpg-backups-pvc"
    assert found.version == yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    assert [cronjob.name for cronjob in found.of(BACKUP)] == ["cnpg-pg-dump-backup", "cnpg-pg-dump-backup-17"]
    assert databases_in(config_of("cnpg-pg-dump-backup-17", "two-images")) == ("shop",)
    assert databases_in(config_of("cnpg-pg-dump-backup")) == THREE
    with pytest.raises(NotFoundError, match="has no CronJob for 'weather'"):
        found.template("weather")


def test_the_termination_message_of_a_run_is_read_back_as_the_package_wrote_them() -> None:
    good, bad = RunOutcome("authelia", notes=["published it"]), RunOutcome("kutt (odd): name")
    bad.problems.append(RetentionError("the server does not answer", "start it"))
    outcomes = [good, RunOutcome("plausible", problems=[RetentionError("no Secret", "make it")])]
    read = parse_verdicts(termination_message(outcomes, ["a warning"], NOW).decode())
    assert [(one.database, one.result, one.newest, one.why) for one in read] == [
        ("plausible", "failed", None, "no Secret"),
        ("authelia", "ok", None, "published it"),
    ]


def test_runs_are_newest_first_with_exit_code_and_verdicts() -> None:
    jobs = [
        job("old", "cnpg-pg-dump-backup", started=ago(hours=3), finished=ago(hours=2.9)),
        job("new", "cnpg-pg-dump-backup", state="Failed", started=ago(hours=1), finished=ago(minutes=50)),
        job("now", "cnpg-pg-dump-backup", state="", started=ago(minutes=1)),
        job("late", "x", state="Failed", started=ago(hours=9), finished=ago(hours=8), reason="DeadlineExceeded"),
    ]
    pods = [
        pod("new", 3, "1 databases done\nkutt refused (newest 2026-11-22 12:00Z): 9 of 10 would go"),
        pod("old", 0, ""),
    ]
    runs = read_runs(jobs, pods)
    assert [(run.job, run.state, run.exit_code) for run in runs] == [
        ("now", "running", None),
        ("new", "failed", 3),
        ("old", "succeeded", 0),
        ("late", "failed", None),
    ]
    assert runs[1].verdicts[0].result == "refused"
    assert [exit_code_of(run) for run in runs[1:]] == [3, 0, 1]
    assert runs[3].reason == "DeadlineExceeded"


def ended(name: str, code: int, reason: str, message: str = "") -> dict[str, Any]:
    return {"name": name, "state": {"terminated": {"exitCode": code, "reason": reason, "message": message}}}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"reason": "Evicted", "message": "low on disk"}, "Evicted: low on disk"),
        (
            {"containerStatuses": [ended("drill", 137, "OOMKilled", "its log")]},
            "container drill ended with OOMKilled",
        ),
        (
            {"containerStatuses": [ended("drill", 128, "StartError", "not a directory")]},
            "container drill ended with StartError: not a directory",
        ),
        ({"containerStatuses": [ended("drill", 137, "Error")]}, "container drill was killed by signal 9"),
        ({"containerStatuses": [ended("drill", 1, "Error", "no room")]}, ""),
        ({"containerStatuses": [ended("drill", 143, "Error", "stopped")]}, ""),
    ],
)
def test_a_pod_that_was_ended_from_outside_has_a_reason_in_words(status: dict[str, Any], reason: str) -> None:
    jobs = [job("drill", "x", state="Failed", started=ago(hours=1), finished=ago(minutes=50), reason="Backoff")]
    (run,) = read_runs(jobs, [{**pod("drill", 1, ""), "status": {"phase": "Failed", **status}}])
    assert (run.killed, run.reason) == (bool(reason), reason or "Backoff")


def test_a_sidecar_hides_no_verdict() -> None:
    """Linkerd's proxy ends with 143 after the programs; Kubernetes knows it as an init container that goes on."""
    message = "1 databases done\nkutt ok (newest 2026-11-22 14:00Z): published"
    found = pod("run", 0, message)
    native = {**found, "spec": {"initContainers": [{"name": "proxy", "restartPolicy": "Always"}]}}
    native["status"] = {**found["status"], "initContainerStatuses": [ended("proxy", 143, "Error", "closed")]}
    made = job("run", "x", started=ago(hours=1), finished=ago(minutes=50))
    injected = {**found, "status": {"containerStatuses": [ended("proxy", 143, "Error"), ended("retention", 0, "")]}}
    injected["status"]["containerStatuses"][1]["state"]["terminated"]["message"] = message
    template = {"template": {"spec": {"containers": [{"name": "retention"}]}}}
    for one, of_it in ((made, native), ({**made, "spec": template}, injected)):
        (run,) = read_runs([one], [of_it])
        assert [verdict.result for verdict in run.verdicts] == ["ok"]
        assert run.exit_code == 0


@pytest.mark.parametrize(
    ("codes", "together"), [((), 0), ((0, 0), 0), ((0, 3), 3), ((3, 1), 1), ((2, 3), 2), ((0, 137), 137)]
)
def test_a_failed_database_beats_a_refusal(codes: tuple[int, ...], together: int) -> None:
    assert worst(codes) == together


def test_an_inspector_knows_the_configuration_of_every_image() -> None:
    found = release("two-images")
    for cronjob in found.of(INSPECTOR):
        (volume,) = [one for one in cronjob.pod_spec["volumes"] if one["name"] == "config"]
        paths = [item["path"] for source in volume["projected"]["sources"] for item in source["configMap"]["items"]]
        assert sorted(paths) == ["authelia.conf", "policy.json", "shop.conf"], cronjob.name
        python, postgres = (container_with(cronjob.pod_spec, python=which) for which in (True, False))
        assert (python, postgres) == ("retention", "inspect")
        assert config_option(cronjob.pod_spec, python) == ["--config", "/etc/cnpg-backup"]
        (shell,) = [one for one in cronjob.pod_spec["containers"] if one["name"] == postgres]
        (mount,) = [one for one in shell["volumeMounts"] if one["mountPath"] == "/backups"]
        assert mount["readOnly"] is True, "a shell for looking could change backups"
