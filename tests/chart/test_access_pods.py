"""Pods of the release's own Jobs, which need no grant: exactly those that the chart makes."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubectl_cnpg_backup.model.jobs import job_from, only_databases
from kubectl_cnpg_backup.model.release import BACKUP, DRILL, releases
from tests.chart.common import KYVERNO, OFFSITE, of_kind
from tests.chart.test_access import GRANTING, POLICIES, World
from tests.lab import access, chart
from tests.lab.access import Request


def run_pods(values: Mapping[str, Any], layer: str) -> tuple[World, list[tuple[str, Request]]]:
    """A rendered release, and what the Job's controller asks for each of its CronJobs and Jobs."""
    manifests = chart.render(chart.merge(values, access.VALUES[layer]), api_versions=KYVERNO)
    world = World(layer)
    world.policies = [manifest for manifest in manifests if manifest["kind"] in POLICIES]
    asked = []
    jobs = [{**job, "spec": {"jobTemplate": job}} for job in of_kind(manifests, "Job")]
    for cronjob in (*of_kind(manifests, "CronJob"), *jobs):
        place = dataclasses.replace(world.place, cronjob=cronjob)
        asked.append((access.JOBS, access.create(place, access.job_pod(place, "run-x", "run"))))
    return world, asked


KINDS: Mapping[str, Mapping[str, Any]] = {
    "registry": {"global": {"imageRegistry": "registry.example.org:5000/mirror", "imagePullSecrets": ["login"]}},
    "digest": {"retention": {"image": {"tag": "", "digest": "sha256:" + "0" * 64}}},
    "images": {
        "databases": [
            {"name": "a", "cluster": "a", "image": {"repository": "postgis/postgis", "tag": "17-3.5"}},
            {"name": "b", "cluster": "b", "image": {"registry": "quay.io", "tag": "16.10"}, "suspended": True},
        ]
    },
    "extra": {
        "extraVolumes": [{"name": "spare", "emptyDir": {}}],
        "dump": {
            "extraEnv": [{"name": "PGOPTIONS", "value": "-c statement_timeout=0"}],
            "extraVolumeMounts": [{"name": "spare", "mountPath": "/spare.d"}],
        },
        "retention": {"extraEnv": [{"name": "PYTHONDEVMODE", "value": "1"}]},
    },
    "many": {
        "databases": [{"name": f"database-{number}-of-many", "cluster": f"c{number}"} for number in range(60)],
        "cronJob": {"perDatabase": True},
    },
    "user of the cluster": {"podSecurityContext": {"runAsUser": "auto", "runAsGroup": "auto", "fsGroup": "auto"}},
    "all databases of a cluster": {
        "databases": [
            {"name": "a", "cluster": "a"},
            {"name": "b_2", "cluster": "b", "databases": "*", "exclude": ["x y", "[a-c]*"]},
        ],
        "drill": {"perEntry": 25},
    },
    "copies outside": OFFSITE,
    "account of the namespace": {"serviceAccount": {"create": False}},
    "copies": {
        "copies": [
            {"name": "a", "database": "kutt", "schedule": "@daily", "sqlConfigMap": "anonymise", "cluster": "staging"},
            {"name": "b", "database": "kutt", "schedule": "@daily", "sqlConfigMap": "", "into": "look"},
        ]
    },
    "first backup": {"firstRun": "backup", "persistence": {"subPath": "postgresql"}},
}


@pytest.mark.parametrize("layer", GRANTING)
@pytest.mark.parametrize("kind", KINDS)
def test_every_pod_that_the_chart_makes_is_admitted(kind: str, layer: str) -> None:
    """Every container, program, variable, mount and volume of a pod is one that _access-pods.tpl knows."""
    world, asked = run_pods(KINDS[kind], layer)
    for (_, request), said in zip(asked, world.answers(asked), strict=True):
        assert not said, f"{request.body['metadata']}: {said}"  # type: ignore[index]


@pytest.mark.parametrize("layer", GRANTING)
@pytest.mark.parametrize("path", sorted((chart.CHART / "ci").glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.sample(16)
def test_every_pod_of_the_installations_in_ci_is_admitted(path: Path, layer: str) -> None:
    world, asked = run_pods(yaml.safe_load(path.read_text()) or {}, layer)
    for said in world.answers(asked):
        assert not said


@pytest.mark.parametrize("layer", GRANTING)
def test_pods_of_jobs_for_some_databases_of_an_entry_are_admitted(layer: str) -> None:
    """What the plugin adds to a Job for `run` and `drill` of a database that a run has found."""
    entry = {"databases": [{"name": "shared", "cluster": "postgres", "databases": "*"}]}
    manifests = chart.render(chart.merge(entry, access.VALUES[layer]), api_versions=KYVERNO)
    world = World(layer)
    world.policies = [manifest for manifest in manifests if manifest["kind"] in POLICIES]
    configs = {one["metadata"]["name"]: one for one in of_kind(manifests, "ConfigMap")}
    (release,) = releases(
        [chart.merge(one, {"metadata": {"uid": "1"}}) for one in of_kind(manifests, "CronJob")], "default"
    )
    asked = []
    for cronjob in (*release.of(BACKUP), *release.of(DRILL)):
        names = ["shared.app", "shared.my-app.96c6f41782b14e46"]
        job = only_databases(job_from(cronjob, "manual-1"), names, configs[cronjob.config_map])
        assert "BACKUP_ONLY" in str(job)
        place = dataclasses.replace(world.place, cronjob=chart.merge(cronjob.source, {"spec": {"jobTemplate": job}}))
        asked.append((access.JOBS, access.create(place, access.job_pod(place, "run-x", "run"))))
    assert len(asked) == 2
    assert world.answers(asked) == [[], []]


@pytest.mark.parametrize("layer", GRANTING)
def test_code_of_a_databases_owner_gets_no_other_folder_of_a_drill(layer: str) -> None:
    """A webhook gives the container in which it runs the claim, the configuration, or the results of all databases."""
    world, asked = run_pods({}, layer)
    drill = next(request.body for _, request in asked if "-drill" in str(request.body))
    assert drill

    def changed(change: Mapping[str, Any]) -> tuple[str, Request]:
        pod = copy.deepcopy(drill)
        container = next(c for c in pod["spec"]["initContainers"] if c["name"] == "drill-1")
        container["volumeMounts"] = [m for m in container["volumeMounts"] if m["name"] != change["name"]] + [change]
        return access.JOBS, access.create(world.place, pod)

    mounts: list[dict[str, Any]] = [
        {"name": "backups", "mountPath": "/backups", "readOnly": True},
        {"name": "config", "mountPath": "/etc/cnpg-backup"},
        {"name": "results", "mountPath": "/run/cnpg-backup-results"},
        {"name": "run", "mountPath": "/run/cnpg-backup"},
        {"name": "scratch", "mountPath": "/var/lib/cnpg-backup-drill"},
    ]
    for mount, said in zip(mounts, world.answers([changed(mount) for mount in mounts]), strict=True):
        assert said, mount


@pytest.mark.parametrize("layer", GRANTING)
def test_an_opened_backup_is_admitted_with_its_options_and_nothing_else(layer: str) -> None:
    """What the plugin sets for `open`; and what a webhook might add to the container in which the owner's code runs."""
    world, asked = run_pods({}, layer)
    (opened,) = [request.body for _, request in asked if "/opt/cnpg-backup/scripts/open.sh" in str(request.body)]
    assert opened
    variables = {"RESTORE_DATABASE": "kutt", "RESTORE_BACKUP": "newest before 2026-11-29 12:00", "OPEN_WRITE": "yes"}

    def changed(change: Callable[[dict[str, Any]], object], name: str = "open") -> tuple[str, Request]:
        pod = copy.deepcopy(opened)
        for container in containers(pod):
            kept = [one for one in container.get("env", []) if one["name"] not in variables]
            container["env"] = [*kept, *({"name": key, "value": value} for key, value in variables.items())]
        change(next(one for one in containers(pod) if one["name"] == name))
        return access.JOBS, access.create(world.place, pod)

    assert world.answers([changed(lambda _: None)]) == [[]]
    wrong: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
        "the claim": ("open", lambda c: c["volumeMounts"].append({"name": "backups", "mountPath": "/backups"})),
        "the results of all": ("open", lambda c: [m.pop("subPath", None) for m in c["volumeMounts"]]),
        "the configuration": (
            "open",
            lambda c: c["volumeMounts"].append({"name": "config", "mountPath": "/etc/cnpg-backup"}),
        ),
        "another command": ("open", lambda c: c.update(command=["sh", "-c", "id"])),
        "arguments": ("open", lambda c: c.update(args=["--psql"])),
        "another port": ("open", lambda c: c["env"].append({"name": "OPEN_PORT", "value": "1"})),
        "another shell's start": ("open", lambda c: c["env"].append({"name": "ENV", "value": "/run/secrets/mine"})),
        "a slot": ("hand-over", lambda c: c["args"].insert(3, "--slot=kutt")),
        "another folder": ("hand-over", lambda c: c["args"].append("--slot=kutt")),
    }
    answers = world.answers([changed(change, name) for name, change in wrong.values()])
    assert [text for text, said in zip(wrong, answers, strict=True) if not said] == []


LATER: Mapping[str, tuple[str, Any]] = {
    "another image": ("drill", lambda c: c.update(image="localhost/busybox:test")),
    "another command": ("drill", lambda c: c.update(command=["sh", "-c", "cat /var/lib/cnpg-backup-drill/*"])),
    "another shell's start": ("drill", lambda c: c["env"].append({"name": "ENV", "value": "/run/secrets/mine"})),
    "a preloaded library": ("hand-over", lambda c: c["env"].append({"name": "LD_PRELOAD", "value": "/run/mine.so"})),
    "a changed variable": ("hand-over", lambda c: c["env"][0].update(value="/run/secrets/mine")),
    "arguments where there are none": ("drill", lambda c: c.update(args=["-c", "true"])),
    "other arguments": ("hand-over", lambda c: c["args"].append("--seconds=1")),
    "another kind of database": ("hand-over", lambda c: c["args"].__setitem__(1, "--database=../x")),
    "no arguments": ("hand-over", lambda c: c.pop("args")),
    "another verb": ("hand-over", lambda c: c["args"].__setitem__(0, "finish")),
    "the claim": ("drill", lambda c: c["volumeMounts"].append({"name": "backups", "mountPath": "/backups"})),
    "the results of all databases": ("drill", lambda c: c["volumeMounts"][1].pop("subPath")),
    "the folders of all databases": ("drill", lambda c: [m.pop("subPath", None) for m in c["volumeMounts"]]),
    "a folder of no database": ("drill", lambda c: c["volumeMounts"][2].update(subPath="config")),
    "another folder, everywhere": (
        "drill",
        lambda c: [m.update(subPath="config") for m in c["volumeMounts"][:3]],
    ),
    "mounts of another kind": ("drill", lambda c: c["volumeMounts"][0].update(mountPath="/usr/local/bin")),
    "a writable mount of one's own": (
        "hand-over",
        lambda c: c["volumeMounts"].append({"name": "mine", "mountPath": "/opt/cnpg-backup/retention"}),
    ),
    "a hook": ("drill", lambda c: c.update(lifecycle={"postStart": {"exec": {"command": ["true"]}}})),
    "a probe": ("hand-over", lambda c: c.update(startupProbe={"exec": {"command": ["true"]}})),
    "variables from elsewhere": ("drill", lambda c: c.update(envFrom=[{"configMapRef": {"name": "mine"}}])),
    "a block device": ("drill", lambda c: c.update(volumeDevices=[{"name": "mine", "devicePath": "/dev/x"}])),
    "another name": ("drill", lambda c: c.update(name="extra")),
}
"""What a webhook gives a container of a drill, and which."""


@pytest.mark.parametrize("layer", GRANTING)
@pytest.mark.parametrize("number", [1, 2, 30])
def test_no_container_of_a_drill_of_many_databases_differs_from_the_first(layer: str, number: int) -> None:
    """The first two are judged by themselves, all others by what they have in common with them."""
    databases = [{"name": f"database-{one}", "cluster": f"cluster-{one}"} for one in range(1, 31)]
    world, asked = run_pods({"databases": databases, "persistence": {"size": "10Ti"}}, layer)
    pods: list[dict[str, Any]] = [request.body for _, request in asked if request.body]
    (drill,) = (pod for pod in pods if any(one["name"] == "drill-1" for one in containers(pod)))
    requests = []
    for kind, change in LATER.values():
        pod = copy.deepcopy(drill)
        change(next(c for c in containers(pod) if c["name"] == f"{kind}-{number}"))
        requests.append((access.JOBS, access.create(world.place, pod)))
    everywhere = copy.deepcopy(drill)
    for container in containers(everywhere):
        container["env"].append({"name": "TZ", "value": "Asia/Tokyo"})
        container["volumeMounts"].append({"name": "ca", "mountPath": "/etc/ssl/certs/house"})
    requests.append((access.JOBS, access.create(world.place, everywhere)))
    *said, harmless = world.answers(requests)
    assert [text for text, refused in zip(LATER, said, strict=True) if not refused] == []
    assert not harmless


def containers(pod: Any) -> list[dict[str, Any]]:
    """All containers of a pod."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


@pytest.mark.parametrize("layer", GRANTING)
def test_pods_may_be_anything_where_values_say_so(layer: str) -> None:
    """For clusters whose own webhooks change every pod; another account is refused all the same."""
    world = World(layer, chart.merge(access.VALUES[layer], {"accessPolicy": {"ownContainers": False}}))
    asked = [case for case in access.attempts() if case.who == access.JOBS]
    said = world.answers([(case.who, case.ask(world.place)) for case in asked])
    refused = {case.text for case, messages in zip(asked, said, strict=True) if messages}
    assert refused == {case.text for case in asked if "account" in case.text or "that only owns it" in case.text}


def test_refusal_of_a_changed_pod_names_the_container_and_the_value() -> None:
    world = World("builtin")

    def said(text: str) -> str:
        case = next(case for case in access.attempts() if case.text.startswith(text))
        (message,) = world.answers([(case.who, case.ask(world.place))])[0]
        return message

    added = said("pod of a run, given another container that mounts")
    assert "has the container extra (localhost/busybox:test). Find the webhook or policy that changes it" in added
    assert "accessPolicy.sidecars" in added
    assert "has another command, variable, mount, volume or label" in said("pod of a run, given LD_PRELOAD")
    assert "Name the service account another of its Job in accessPolicy.jobAccounts" in said(
        "pod of a Job with the account `another`"
    )
    deployment = access.workload("replicasets", "web", access.pod_spec(world.place.claim))
    controller = "system:serviceaccount:kube-system:deployment-controller"
    (message,) = world.answers([(controller, access.create(world.place, deployment))])[0]
    assert message.endswith("Only pods and Jobs may mount it: use a Job instead.")


@pytest.mark.parametrize("layer", GRANTING)
def test_a_run_shares_no_memory_with_the_node(layer: str) -> None:
    world, asked = run_pods({}, layer)
    for _, request in asked:
        assert request.body
        request.body["spec"]["hostIPC"] = True
    assert all(world.answers(asked))


@pytest.mark.parametrize("change", ["--probe", "-c id"])
@pytest.mark.parametrize("layer", GRANTING)
def test_the_first_run_runs_nothing_but_what_the_chart_made_it_for(layer: str, change: str) -> None:
    world, asked = run_pods({}, layer)
    (first,) = [request for _, request in asked if "/opt/cnpg-backup/scripts/first-run.sh" in str(request.body)]
    assert first.body
    first.body["spec"]["containers"][0]["command"] += change.split()
    assert all(world.answers([(access.JOBS, first)]))
