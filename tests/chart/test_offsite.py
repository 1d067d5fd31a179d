"""Copies outside, as the chart renders them: off unless wanted, apart from databases and volume, and complete."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from offsite.age import Identity
from offsite.rule.marker import parse_marker
from offsite.settings import read_policy, read_settings
from retention.errors import ConfigError
from tests.chart.common import KYVERNO, OFFSITE, containers, of_kind, pod_specs, selects
from tests.chart.test_access import GRANTING
from tests.chart.test_access_pods import run_pods
from tests.lab import access, chart
from tests.lab.access import Request
from tests.lab.chart import Manifest
from tests.lab.pod import LocalPod, PodEnded, python_image
from tests.lab.tools import program
from tests.offsite import stores
from tests.offsite.world import text_of
from tests.retention.world import T0
from tests.retention.world import World as Volume

ON = OFFSITE
(RECIPIENT,) = ON["offsite"]["encryption"]["recipients"]
NAME, FETCH = "cnpg-backup-offsite", "cnpg-backup-fetch"


def with_offsite(**values: Any) -> dict[str, Any]:
    return chart.merge(ON, {"offsite": values})


def spec_of(manifests: list[Manifest], name: str = NAME) -> dict[str, Any]:
    (cronjob,) = (one for one in of_kind(manifests, "CronJob") if one["metadata"]["name"] == name)
    found: dict[str, Any] = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def config_of(manifests: list[Manifest], folder: Path) -> Path:
    """The configuration as the pod mounts it."""
    (volume,) = (one for one in spec_of(manifests)["volumes"] if one["name"] == "config")
    maps = {one["metadata"]["name"]: one["data"] for one in of_kind(manifests, "ConfigMap") if "data" in one}
    for name, text in maps[volume["configMap"]["name"]].items():
        (folder / name).write_text(text)
    return folder


def test_nothing_of_it_is_there_unless_it_is_wanted() -> None:
    text = json.dumps(chart.render())
    assert "offsite" not in text
    assert "rclone" not in text


def test_the_program_reads_the_rendered_settings_and_policy(tmp_path: Path) -> None:
    settings = read_settings(config_of(chart.render(ON), tmp_path), "s")
    assert (settings.destination.type, settings.destination.path) == ("s3", "bucket/prefix")
    assert (settings.cluster_id, settings.owner, settings.seconds) == ("main", "default/cnpg-backup", 3000)
    assert [str(one) for one in settings.recipients] == [RECIPIENT]
    assert (settings.prune, settings.reads_back, settings.accept_loss_until) == (False, False, None)
    assert not settings.newest
    tiers = read_policy(tmp_path, "app").tiers
    assert [(tier.name, tier.keep) for tier in tiers] == [("Daily", 7), ("Weekly", 8)]


def test_the_program_reads_every_value(tmp_path: Path) -> None:
    everything = chart.render(chart.CHART / "ci" / "everything-on-values.yaml", api_versions=KYVERNO)
    folder = tmp_path / "config"
    folder.mkdir()
    for one in of_kind(everything, "ConfigMap"):
        if "-offsite-config-" in one["metadata"]["name"]:
            for name, text in one["data"].items():
                (folder / name).write_text(text)
    settings = read_settings(folder, "s")
    assert settings.destination.lock == {"object_lock_mode": "GOVERNANCE", "object_lock_retain_until_date": "168h"}
    assert (settings.prune, settings.allow_shrunk, settings.allow_large_prune, settings.reads_back) == (True,) * 4
    assert settings.newest
    assert (settings.most_parts, settings.limits.large_percent, settings.seconds) == (1000, 30, 7200)
    assert f"{settings.accept_loss_until:%Y-%m-%d}" == "2026-01-31"
    assert [tier.name for tier in read_policy(folder, "app").tiers] == ["Daily", "Weekly"]


@pytest.mark.parametrize(
    ("schedule", "kept"),
    [
        ("0 3 * * *", [("Daily", 7), ("Weekly", 8)]),
        ("0 3 * * 0", [("Weekly", 8)]),
        ("0 3 1 * *", [("Monthly", 6)]),
        ("*/30 * * * *", [("Daily", 7), ("Weekly", 8)]),
    ],
)
def test_what_is_kept_by_default_fits_the_schedule(tmp_path: Path, schedule: str, kept: list[tuple[str, int]]) -> None:
    config = config_of(chart.render(ON | {"schedule": schedule}), tmp_path)
    assert [(tier.name, tier.keep) for tier in read_policy(config, "app").tiers] == kept


def test_what_holds_the_keys_of_the_store_sees_no_backup_and_what_sees_backups_holds_no_key() -> None:
    spec = spec_of(chart.render(chart.merge(ON, {"offsite": {"caBundle": "-----BEGIN CERTIFICATE-----\nMII\n"}})))
    assert spec["automountServiceAccountToken"] is False
    by_name = {container["name"]: container for container in containers(spec)}
    assert {*by_name} == {"rclone", "copy"}
    mounts = {name: {m["name"]: m.get("readOnly") for m in c["volumeMounts"]} for name, c in by_name.items()}
    assert mounts["copy"] == {"backups": True, "scripts": True, "config": True, "run": None}
    assert mounts["rclone"] == {"config": True, "run": None}
    assert "secretKeyRef" not in json.dumps(by_name["copy"])
    assert "envFrom" not in json.dumps(spec)
    assert '"store"' in json.dumps(by_name["rclone"]["env"])
    assert not any("secret" in volume or "projected" in volume for volume in spec["volumes"]), "no database's password"
    assert spec["initContainers"][0]["restartPolicy"] == "Always"


def test_copies_reach_the_store_alone_and_runs_never_do() -> None:
    manifests = chart.render(ON)
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(manifests, "NetworkPolicy")}
    for owner, metadata, _ in pod_specs(manifests):
        selecting = {name for name, spec in policies.items() if selects(spec["podSelector"], metadata["labels"])}
        wanted = {NAME} if owner in (f"CronJob {NAME}", f"CronJob {FETCH}", f"Pod {NAME}-test") else selecting - {NAME}
        assert selecting == wanted, owner
    rules = policies[NAME]["egress"]
    assert rules[1:] == ON["offsite"]["egress"]
    assert "192.0.2.0/24" not in json.dumps([spec for name, spec in policies.items() if name != NAME])


def test_helm_test_tries_the_store_and_mounts_no_backup() -> None:
    (pod,) = (one for one in of_kind(chart.render(ON), "Pod") if one["metadata"]["name"] == f"{NAME}-test")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert "persistentVolumeClaim" not in json.dumps(pod)
    by_name = {container["name"]: container for container in containers(pod["spec"])}
    assert {*by_name} == {"rclone", "check"}
    assert by_name["check"]["args"][0] == "check"
    assert "RCLONE_" not in json.dumps(by_name["check"])
    assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["scripts", "config", "run"]


IDENTITIES: dict[str, tuple[dict[str, str], dict[str, str], dict[str, str]]] = {
    "AWS": (
        {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/dumps"},
        {},
        {"eks.amazonaws.com/skip-containers": "copy"},
    ),
    "GKE": ({"iam.gke.io/gcp-service-account": "dumps@example.iam.gserviceaccount.com"}, {}, {}),
    "Azure": (
        {"azure.workload.identity/client-id": "00000000-0000-0000-0000-000000000000"},
        {"azure.workload.identity/use": "true"},
        {"azure.workload.identity/skip-containers": "copy"},
    ),
}
"""By cloud: the annotations of the account, and the labels and annotations that the pods have for its webhook."""


@pytest.mark.parametrize("cloud", IDENTITIES)
def test_a_cloud_knows_the_pods_that_copy_by_an_account_that_no_other_pod_has(cloud: str) -> None:
    annotations, labels, of_pods = IDENTITIES[cloud]
    manifests = chart.render(with_offsite(serviceAccount={"create": True, "annotations": annotations}))
    (account,) = (one for one in of_kind(manifests, "ServiceAccount") if one["metadata"]["name"] == NAME)
    assert account["metadata"]["annotations"] == annotations
    assert account["automountServiceAccountToken"] is False
    copying = {f"CronJob {NAME}", f"CronJob {FETCH}", f"Pod {NAME}-test"}
    for owner, metadata, spec in pod_specs(manifests):
        assert (spec["serviceAccountName"] == NAME) == (owner in copying), owner
        assert spec["automountServiceAccountToken"] is False or owner not in copying, owner
        if owner == f"CronJob {NAME}":
            assert labels.items() <= metadata["labels"].items()
            assert metadata.get("annotations", {}) == of_pods, "what sees the volume gets the token of the cloud"
        elif owner not in copying:
            assert "workload.identity" not in json.dumps(metadata)


def test_without_a_cloud_they_have_the_account_of_the_other_pods() -> None:
    manifests = chart.render(ON)
    assert [one["metadata"]["name"] for one in of_kind(manifests, "ServiceAccount")] == ["cnpg-backup"]
    assert spec_of(manifests)["serviceAccountName"] == "cnpg-backup"
    named = chart.render(with_offsite(serviceAccount={"name": "mine"}))
    assert spec_of(named)["serviceAccountName"] == "mine"
    assert len(of_kind(named, "ServiceAccount")) == 1


def _identified(pod: dict[str, Any]) -> None:
    """What the webhook of AWS adds: a token for the container that carries, and the variables that name it."""
    token = {"serviceAccountToken": {"audience": "sts.amazonaws.com", "expirationSeconds": 86400, "path": "token"}}
    pod["spec"]["volumes"].append({"name": "aws-iam-token", "projected": {"sources": [token]}})
    folder = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
    rclone = _container(pod, "rclone")
    rclone["volumeMounts"].append({"name": "aws-iam-token", "mountPath": folder, "readOnly": True})
    rclone["env"] += [
        {"name": "AWS_ROLE_ARN", "value": "arn:aws:iam::123456789012:role/dumps"},
        {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": f"{folder}/token"},
    ]


@pytest.mark.parametrize("layer", GRANTING)
def test_the_pod_is_admitted_with_the_token_of_a_cloud_and_a_dump_never_with_its_account(layer: str) -> None:
    values = with_offsite(serviceAccount={"create": True, "annotations": IDENTITIES["AWS"][0]})
    world, asked = run_pods(values, layer)
    pods = [request.body for _, request in asked if request.body is not None]
    (copy,) = (pod for pod in pods if '"name": "copy"' in json.dumps(pod))
    dump = next(pod for pod in pods if '"name": "dump"' in json.dumps(pod))
    _identified(copy)
    swapped = json.loads(json.dumps(copy))
    swapped["spec"]["serviceAccountName"] = "cnpg-backup"
    stolen = json.loads(json.dumps(dump))
    stolen["spec"]["serviceAccountName"] = NAME
    said = world.answers([(access.JOBS, access.create(world.place, pod)) for pod in (copy, dump, swapped, stolen)])
    assert [bool(one) for one in said] == [False, False, True, True], said


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no type": ({"remote": {"type": ""}}, "offsite.remote.type: it is missing"),
    "a secret in values": (
        {"remote": {"secret_access_key": "x"}, "secretKeys": ["access_key_id"]},
        "offsite.remote.secret_access_key: a secret in values",
    ),
    "a password in values": ({"remote": {"pass": "x"}}, "offsite.remote.pass: a secret in values"),
    "an option twice": ({"remote": {"access_key_id": "x"}}, "access_key_id: it is in offsite.secretKeys as well"),
    "no path": ({"path": ""}, "offsite.path: it is empty"),
    "no folder of its own": ({"clusterId": ""}, "offsite.clusterId: it is empty"),
    "nobody who could decrypt": ({"encryption": {"recipients": []}}, "offsite.encryption.recipients: there is none"),
    "recipients without encryption": ({"encryption": {"type": "none"}}, "with type none the recipients have no effect"),
    "no way out": ({"egress": []}, "offsite.egress: it is empty"),
    "a lock without an end": ({"objectLock": {"mode": "COMPLIANCE"}}, "offsite.objectLock: set both"),
    "longer than the interval": ({"timeout": 3400}, "offsite.timeout: a run may take 3700 seconds"),
    "never": ({"schedule": "0 25 * * *"}, 'offsite.schedule: "0 25 * * *" can never fire'),
    "keep next to tiers": (
        {"retention": {"keep": {"daily": 1}, "tiers": [{"name": "A", "every": "24h", "keep": 1}]}},
        "offsite.retention: keep and tiers exclude each other",
    ),
    "a secret key as recipient": ({"encryption": {"recipients": ["AGE-SECRET-KEY-1QQ"]}}, "recipients"),
    "a quote in an option": ({"remote": {"region": "it's"}}, "offsite"),
    "a line break in an option": ({"remote": {"region": "a\nprune=true"}}, "offsite"),
    "an unknown store of sums": ({"verify": "size"}, "verify"),
    "an unknown word for what is copied": ({"copy": "everything"}, "copy"),
}


@pytest.mark.parametrize("case", WRONG)
def test_values_that_cannot_work_are_refused_and_named(case: str) -> None:
    values, message = WRONG[case]
    with pytest.raises(chart.ChartError) as caught:
        chart.render(with_offsite(**values))
    assert message in str(caught.value)


def test_without_a_network_policy_no_egress_is_needed() -> None:
    chart.render(with_offsite(egress=[]) | {"networkPolicy": {"enabled": False}})


def test_a_lock_that_no_store_of_files_has_is_refused_by_the_program(tmp_path: Path) -> None:
    values = with_offsite(remote={"type": "sftp"}, objectLock={"mode": "COMPLIANCE", "days": 1})
    with pytest.raises(ConfigError, match="has no object lock"):
        read_settings(config_of(chart.render(values), tmp_path), "s")


def _container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in containers(pod["spec"]) if one["name"] == name)
    return found


ALTERED: dict[str, Callable[[dict[str, Any]], object]] = {
    "another endpoint": lambda p: _variable(p, "RCLONE_CONFIG_OFFSITE_ENDPOINT", "https://mine.example.org"),
    "another bucket's type": lambda p: _variable(p, "RCLONE_CONFIG_OFFSITE_TYPE", "local"),
    "a variable more": lambda p: _container(p, "rclone")["env"].append({"name": "RCLONE_RC_ADDR", "value": ":5572"}),
    "a port": lambda p: _container(p, "rclone")["args"].extend(["--rc-addr", ":5572"]),
    "no checks": lambda p: _container(p, "copy")["args"].insert(1, "--config=/run/cnpg-backup"),
    "another command": lambda p: _container(p, "rclone").update(command=["sh"]),
    "another image": lambda p: _container(p, "rclone").update(image="mine/rclone:1"),
    "another configuration": lambda p: next(v for v in p["spec"]["volumes"] if v["name"] == "config")[
        "configMap"
    ].update(name="mine-config-0123456789"),
    "a socket elsewhere": lambda p: p["spec"].update(
        volumes=[v for v in p["spec"]["volumes"] if v["name"] != "run"]
        + [{"name": "run", "persistentVolumeClaim": {"claimName": "mine"}}]
    ),
}
"""What a webhook gives the pod."""


def _variable(pod: dict[str, Any], name: str, value: str) -> None:
    next(one for one in _container(pod, "rclone")["env"] if one["name"] == name)["value"] = value


@pytest.mark.parametrize("layer", GRANTING)
def test_the_pod_is_admitted_as_the_chart_made_it_and_in_no_other_way(layer: str) -> None:
    world, asked = run_pods(ON, layer)
    (pod,) = (request.body for _, request in asked if '"name": "copy"' in json.dumps(request.body))

    def changed(case: str) -> tuple[str, Request]:
        body = json.loads(json.dumps(pod))
        if case:
            ALTERED[case](body)
        return access.JOBS, access.create(world.place, body)

    cases = ["", *ALTERED]
    for case, said in zip(cases, world.answers([changed(case) for case in cases]), strict=True):
        assert bool(said) == bool(case), (case, said)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path, since that of a socket has at most 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="cnpg"))
    yield folder
    shutil.rmtree(folder)


def local_pod(
    manifests: list[Manifest],
    folder: Path,
    root: Path,
    secret: dict[str, str | bytes],
    name: str = NAME,
    **more: dict[str, str | bytes],
) -> LocalPod:
    """The rendered pod of a CronJob on this machine, with the real rclone."""
    carriers, python = folder / "rclone", python_image(folder / "python")
    images = {
        c["image"]: (carriers if c["name"] == "rclone" else python,) for c in containers(spec_of(manifests, name))
    }
    carriers.mkdir(exist_ok=True)
    (carriers / "rclone").unlink(missing_ok=True)
    (carriers / "rclone").symlink_to(program("rclone"))
    return LocalPod(manifests, name, folder / "p", {"cnpg-backups-pvc": root}, {"store": secret, **more}, images, {})


@pytest.mark.long
def test_a_copy_comes_back_to_an_empty_volume_by_the_rendered_pods(short: Path) -> None:
    """What is left is the bucket, the key and the chart; without the key, or with another one, nothing comes back."""
    store, identity, other = stores.s3(short / "s"), Identity(os.urandom(32)), Identity(os.urandom(32))
    volume = Volume(short)
    base = volume.publish("app", T0, content=b"rows" * 5000)
    remote = {key.lower(): value for key, value in store.environment.items() if "ACCESS_KEY" not in key}
    values = with_offsite(remote=remote, path=store.path, encryption={"recipients": [str(identity.recipient)]})
    manifests = chart.render(values)
    secret: dict[str, str | bytes] = {"access_key_id": stores.KEY, "secret_access_key": stores.SECRET}
    before = {path.name: path.read_bytes() for path in volume.folder("app").iterdir() if path.suffix != ".lock"}
    empty = short / "empty"
    empty.mkdir()
    with stores.running(store):
        assert local_pod(manifests, short, volume.root, secret).run().exit_code == 0
        (variable,) = (
            v for c in spec_of(manifests, FETCH)["containers"] for v in c["env"] if v["name"] == "FETCH_DATABASE"
        )
        variable["value"] = "app"

        def fetch(**more: dict[str, str | bytes]) -> PodEnded:
            return local_pod(manifests, short, empty, secret, FETCH, **more).run()

        for held in ({}, {"cnpg-backup-offsite-identity": {"key.txt": text_of(other)}}):
            refused = fetch(**held)  # type: ignore[arg-type]
            assert refused.exit_code in (1, 2), refused.log
            assert "Traceback" not in refused.log
            assert not list(empty.rglob("*.dump"))
        assert "key" in refused.message
        right: dict[str, dict[str, str | bytes]] = {"cnpg-backup-offsite-identity": {"key.txt": text_of(identity)}}
        done = fetch(**right)
        assert done.exit_code == 0, done.log
    for name in (f"{base}.dump", f"{base}.dump.sha256", f"{base}.globals.sql"):
        assert (empty / "app" / name).read_bytes() == before[name], name


@pytest.mark.long
def test_the_rendered_pod_copies_to_a_real_store_and_says_what_is_wrong(short: Path) -> None:
    """With the real rclone and a real S3 server: a wrong key, a missing Secret, success."""
    store = stores.s3(short / "s")
    volume = Volume(short)
    for database in ("app", "kutt", "plausible"):
        volume.publish(database, T0, content=database.encode() * 1000)
    remote = {key.lower(): value for key, value in store.environment.items() if "ACCESS_KEY" not in key}
    manifests = chart.render(with_offsite(remote=remote, path=store.path))
    right: dict[str, str | bytes] = {"access_key_id": stores.KEY, "secret_access_key": stores.SECRET}
    with stores.running(store):

        def run(secret: dict[str, str | bytes]) -> PodEnded:
            return local_pod(manifests, short, volume.root, secret).run()

        wrong = run(right | {"secret_access_key": "x"})
        assert wrong.exit_code == 1, wrong.log
        assert "check secret_access_key in the Secret of offsite.secretName" in wrong.message
        assert not store.files()
        missing = run({})
        assert missing.exit_code == 1, missing.log
        assert "Secret of offsite.secretName" in missing.message, missing.message
        done = run(right)
        assert done.exit_code == 0, done.log
        assert done.message.splitlines()[0] == "3 databases copied"
        markers = {name: path for name, path in store.files().items() if name.endswith(".offsite.json")}
        assert sorted(name.split("/")[1] for name in markers) == ["app", "kutt", "plausible"]
        for name, path in markers.items():
            marker = parse_marker(path.read_bytes(), name)
            assert (marker.verified, marker.encryption, marker.recipients) == ("etag", "age", (RECIPIENT,))
        before = store.files().keys()
        again = run(right)
        assert again.exit_code == 0, again.log
        assert store.files().keys() == before, "written once"
