"""The Job that Helm makes next to the CronJobs, and the volume that it mounts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.common import CI_FILES, backups, containers, of_kind, pod_specs, rendered, selects
from tests.lab import chart
from tests.lab.chart import Manifest


def jobs(values: dict[str, Any] | None = None) -> list[Manifest]:
    """The release's own Jobs."""
    return of_kind(chart.render(values), "Job")


def ci_file(name: str) -> list[Manifest]:
    (path,) = [path for path in CI_FILES if path.name == f"{name}-values.yaml"]
    return rendered(path)


@pytest.fixture(scope="module")
def job() -> Manifest:
    """That of the default values."""
    (found,) = of_kind(ci_file("default"), "Job")
    return found


def test_one_job_mounts_the_claim_at_once_however_many_cronjobs_there_are() -> None:
    manifests = ci_file("per-database")
    assert len(backups(manifests)) == 5
    (found,) = of_kind(manifests, "Job")
    spec = found["spec"]["template"]["spec"]
    (claim,) = [volume for volume in spec["volumes"] if "persistentVolumeClaim" in volume]
    runs = backups(manifests)[0]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert claim in runs["volumes"]


def test_it_is_no_hook_and_nothing_deletes_it_that_would_make_gitops_make_it_again(job: Manifest) -> None:
    assert not any("hook" in key for key in job["metadata"].get("annotations", {}))
    assert "ttlSecondsAfterFinished" not in job["spec"]


def test_an_upgrade_never_changes_a_job_under_its_name(job: Manifest) -> None:
    """Of a Job only metadata may be changed, so whatever changes its content has to change its name."""
    (other,) = jobs({"podLabels": {"team": "databases"}})
    (same,) = jobs({"schedule": "30 * * * *", "activeDeadlineSeconds": 3000})
    assert other["metadata"]["name"] != job["metadata"]["name"]
    assert other["spec"] != job["spec"]
    assert same["spec"] == job["spec"]
    assert same["metadata"]["name"] == job["metadata"]["name"]


def test_the_job_runs_as_what_the_access_policy_admits_and_needs_no_network_and_no_secret() -> None:
    manifests = ci_file("default")
    (job,) = of_kind(manifests, "Job")
    template = job["spec"]["template"]
    run = backups(manifests)[0]["spec"]["jobTemplate"]["spec"]["template"]
    for key in ("serviceAccountName", "securityContext", "affinity", "automountServiceAccountToken"):
        assert template["spec"][key] == run["spec"][key], key
    assert template["metadata"]["labels"]["app"] == run["metadata"]["labels"]["app"]
    assert not [volume for volume in template["spec"]["volumes"] if "projected" in volume or "secret" in volume]
    chosen = {
        policy["metadata"]["name"]
        for policy in of_kind(manifests, "NetworkPolicy")
        if selects(policy["spec"]["podSelector"], template["metadata"]["labels"])
    }
    assert chosen == {"cnpg-backup-isolated"}


def test_it_fails_at_once_where_another_attempt_cannot_help(job: Manifest) -> None:
    first, second = job["spec"]["podFailurePolicy"]["rules"]
    assert first["action"] == "FailJob"
    assert 1 in first["onExitCodes"]["values"]
    assert second["action"] == "Ignore"
    assert job["spec"]["backoffLimit"] > 0


def test_a_first_backup_reads_the_configuration_of_every_run_and_then_reports_as_a_run() -> None:
    manifests = ci_file("first-backup")
    found = {job["spec"]["template"]["spec"]["initContainers"][0]["image"]: job for job in of_kind(manifests, "Job")}
    runs = backups(manifests)
    assert len(found) == len(runs) == 2
    for run in runs:
        spec = run["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        (dump,) = spec["initContainers"]
        first = found[dump["image"]]["spec"]["template"]["spec"]
        (own,) = first["initContainers"]
        assert own["command"] == ["sh", "/opt/cnpg-backup/scripts/first-run.sh", "--backup"]
        for key in ("env", "volumeMounts", "resources", "securityContext"):
            assert own[key] == dump[key], key
        volumes = {volume["name"]: volume for volume in first["volumes"]}
        names = {volume["name"]: volume for volume in spec["volumes"]}
        (source,) = volumes["config"]["projected"]["sources"]
        assert source["configMap"]["name"] == names["config"]["configMap"]["name"]
        assert {"key": "policy.json", "path": "policy.json"} in source["configMap"]["items"]
        assert volumes["credentials"] == names["credentials"]
        component = found[dump["image"]]["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
        assert component == "backup"


def test_nothing_is_started_where_that_is_not_wanted_and_the_volume_is_checked_where_all_sleep() -> None:
    assert jobs({"firstRun": "none"}) == []
    asleep = {"firstRun": "backup", "databases": [{"name": "a", "cluster": "a", "suspended": True}]}
    (found,) = jobs(asleep)
    assert found["metadata"]["labels"]["app.kubernetes.io/component"] == "first-run"


def test_an_nfs_export_becomes_a_volume_that_only_this_claim_gets() -> None:
    manifests = ci_file("nfs")
    (volume,) = of_kind(manifests, "PersistentVolume")
    (claim,) = of_kind(manifests, "PersistentVolumeClaim")
    assert volume["spec"]["nfs"] == {"server": "nas.example.org", "path": "/volume1/dumps"}
    assert volume["spec"]["mountOptions"] == ["nfsvers=4.2", "hard", "noatime"]
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert volume["spec"]["claimRef"]["name"] == claim["metadata"]["name"]
    assert volume["spec"]["claimRef"]["namespace"] == claim["metadata"]["namespace"]
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    # A class would hand the claim to its provisioner.
    assert claim["spec"]["storageClassName"] == volume["spec"]["storageClassName"] == ""
    assert claim["spec"]["accessModes"] == volume["spec"]["accessModes"]
    for manifest in (volume, claim):
        assert manifest["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    for owner, _, spec in pod_specs(manifests):
        assert spec["securityContext"]["supplementalGroups"] == [65539], owner


def test_volumes_of_two_releases_have_two_names() -> None:
    nfs = {"persistence": {"nfs": {"server": "nas", "path": "/dumps"}}}

    def name(release: str, namespace: str) -> str:
        (volume,) = of_kind(chart.render(nfs, release, namespace), "PersistentVolume")
        found: str = volume["metadata"]["name"]
        assert len(found) <= 63
        return found

    assert name("b-c", "a") != name("c", "a-b")


def test_every_pod_sees_the_same_folder_of_the_volume() -> None:
    for owner, _, spec in pod_specs(ci_file("first-backup")):
        mounts = [mount for one in containers(spec) for mount in one["volumeMounts"] if mount["name"] == "backups"]
        assert mounts, owner
        assert {mount["subPath"] for mount in mounts} == {"postgresql"}, owner


def test_credentials_can_be_read_where_no_group_owns_the_volumes() -> None:
    for group, mode in ((70, 0o440), ("auto", 0o444)):
        manifests = chart.render({"podSecurityContext": {"fsGroup": group}})
        for run in backups(manifests):
            spec = run["spec"]["jobTemplate"]["spec"]["template"]["spec"]
            (found,) = [volume for volume in spec["volumes"] if volume["name"] == "credentials"]
            assert found["projected"]["defaultMode"] == mode, group
