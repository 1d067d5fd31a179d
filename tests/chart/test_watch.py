"""The watcher in the chart: it never stands in the way of a backup, reaches no dump, and has few rights."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.common import KYVERNO, containers, maps_of, of_kind, pod_specs, selects, title
from tests.chart.test_access import GRANTING, POLICIES, World
from tests.chart.test_alerts import rules_of
from tests.lab import access, chart
from tests.lab.chart import ROOT, Manifest
from tests.lab.pod import python_image
from watch.settings import read

PROMETHEUS = ("monitoring.coreos.com/v1",)
ON = {"monitoring": {"enabled": True}}
TARGETS = ("healthchecks", "webhook", "ntfy", "slack", "alertmanager")
NOBODY = {target: {"secret": {"name": ""}} for target in TARGETS}
"""Values by which nobody is notified."""


def watched(path: Path | None = None, **values: Any) -> list[Manifest]:
    given = yaml.safe_load(path.read_text()) if path else {}
    return chart.render(chart.merge(given or {}, ON, values), api_versions=(*KYVERNO, *PROMETHEUS))


def watcher_of(manifests: list[Manifest]) -> Manifest:
    (found,) = of_kind(manifests, "Deployment")
    return found


@pytest.mark.sample(19)
def test_watcher_shares_no_label_selector_with_the_pods_that_back_up(ci_file: Path) -> None:
    """With their label `app`, it would have their egress, and their affinity would pull them to its node."""
    manifests = watched(ci_file, podLabels={"app": "cnpg-backup"}, commonLabels={"app": "nightly"})
    labels = watcher_of(manifests)["spec"]["template"]["metadata"]["labels"]
    assert "app" not in labels
    policies = of_kind(manifests, "NetworkPolicy")
    for policy in policies:
        own = policy["metadata"]["name"].endswith("-status")
        assert selects(policy["spec"]["podSelector"], labels) == own, title(policy)
    for owner, metadata, spec in pod_specs(manifests):
        if owner.startswith("Deployment "):
            continue
        for policy in policies:
            if selects(policy["spec"]["podSelector"], metadata["labels"]):
                assert not policy["metadata"]["name"].endswith("-status"), f"{owner} gets the watcher's network"
        for selector in label_selectors(spec.get("affinity", {})):
            assert not selects(selector, labels), f"the affinity of {owner} is to the watcher"
    selector = watcher_of(manifests)["spec"]["selector"]
    assert selects(selector, labels)
    assert not any(
        selects(selector, metadata["labels"]) for owner, metadata, _ in pod_specs(manifests) if "Dep" not in owner
    )


def label_selectors(tree: Any) -> list[dict[str, Any]]:
    if isinstance(tree, list):
        return [found for one in tree for found in label_selectors(one)]
    if not isinstance(tree, dict):
        return []
    own = [tree["labelSelector"]] if "labelSelector" in tree else []
    return own + [found for one in tree.values() for found in label_selectors(one)]


@pytest.mark.sample(19)
def test_watcher_mounts_its_programs_and_its_token_and_nothing_else(ci_file: Path) -> None:
    manifests = watched(ci_file, notify=NOBODY)
    spec = watcher_of(manifests)["spec"]["template"]["spec"]
    assert {volume["name"]: set(volume) - {"name"} for volume in spec["volumes"]} == {
        "watch": {"projected"},
        "account": {"projected"},
    }
    assert not re.search(r"secretKeyRef|secretName|persistentVolumeClaim|hostPath", json.dumps(spec))
    (container,) = containers(spec)
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    accounts = {spec["serviceAccountName"] for owner, _, spec in pod_specs(manifests) if "Deployment" not in owner}
    assert spec["serviceAccountName"] not in accounts, "its rights would be those of the pods with the dumps"


def test_only_the_watcher_has_a_token_and_it_lasts_an_hour(ci_file: Path) -> None:
    for owner, _, spec in pod_specs(watched(ci_file)):
        tokens = re.findall(r'"serviceAccountToken": \{[^}]*\}', json.dumps(spec))
        expected = ['"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}']
        assert tokens == (expected if owner.startswith("Deployment ") else []), owner


RIGHTS = [
    {"apiGroups": ["batch"], "resources": ["cronjobs", "jobs"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": ["cnpg-backup-status"],
        "verbs": ["get", "patch"],
    },
]


EVENTS = {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]}
"""Where `monitoring.events` is on."""


def test_watcher_may_list_what_the_release_runs_and_keep_its_memory_and_no_more() -> None:
    manifests = watched()
    (role,) = (one for one in of_kind(manifests, "Role") if one["metadata"]["name"].endswith("-status"))
    assert role["rules"] == RIGHTS
    (binding,) = (one for one in of_kind(manifests, "RoleBinding") if one["roleRef"]["name"] == "cnpg-backup-status")
    account = watcher_of(manifests)["spec"]["template"]["spec"]["serviceAccountName"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "default"}]
    assert not of_kind(manifests, "ClusterRole")


def test_watcher_may_make_events_only_where_values_say_so() -> None:
    for events in (True, False):
        manifests = watched(monitoring={"enabled": True, "events": events})
        (role,) = (one for one in of_kind(manifests, "Role") if one["metadata"]["name"].endswith("-status"))
        assert role["rules"] == [*RIGHTS, *([EVENTS] if events else [])]
        assert settings_of(manifests).events == events


def test_memory_has_no_data_in_the_chart_and_is_not_one_of_its_hashed_maps() -> None:
    """What the template holds, an upgrade resets; a right to make ConfigMaps cannot be limited to a name."""
    manifests = watched()
    (memory,) = (one for one in of_kind(manifests, "ConfigMap") if one["metadata"]["name"] == "cnpg-backup-status")
    assert set(memory) == {"apiVersion", "kind", "metadata"}
    assert settings_of(manifests).memory == "cnpg-backup-status"


def programs_of(manifests: list[Manifest]) -> dict[str, str]:
    """The files that the watcher mounts, by their names."""
    maps = {one["metadata"]["name"]: one["data"] for one in maps_of(manifests)}
    volumes = watcher_of(manifests)["spec"]["template"]["spec"]["volumes"]
    (volume,) = (one for one in volumes if one["name"] == "watch")
    own, common = (maps[source["configMap"]["name"]] for source in volume["projected"]["sources"])
    assert not own.keys() & common.keys(), "one of them would hide the other"
    return {**own, **common}


def settings_of(manifests: list[Manifest]) -> Any:
    return read(programs_of(manifests)["watch.json"])


def test_watcher_starts_from_what_it_mounts(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in programs_of(watched()).items():
        (programs / name).write_text(text)
    modules = [path.stem for path in programs.glob("watch.*.py") if not path.stem.endswith("__")]
    ended = subprocess.run(
        [
            python_image(tmp_path / "python") / "python3",
            *("-W", "error", "-c", f"import {', '.join(sorted(modules))}, watch.__main__"),
        ],
        env={"PYTHONPATH": str(programs), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert ended.returncode == 0, ended.stderr
    assert {path.name for path in programs.glob("watch.*.py")} == {
        path.relative_to(ROOT).as_posix().replace("/", ".") for path in (ROOT / "watch").rglob("*.py")
    }


def test_watcher_knows_every_cronjob_that_backs_up_with_its_databases(ci_file: Path) -> None:
    manifests = watched(ci_file)
    found = settings_of(manifests)
    configs = {one["metadata"]["name"]: one.get("data", {}) for one in of_kind(manifests, "ConfigMap")}
    by_component: dict[str, dict[str, set[str]]] = {"backup": {}, "drill": {}}
    mounted = {}
    for cronjob in of_kind(manifests, "CronJob"):
        template = cronjob["spec"]["jobTemplate"]
        component = template["metadata"]["labels"]["app.kubernetes.io/component"]
        if component not in by_component or (component == "drill" and "suspend" in cronjob["spec"]):
            continue
        volumes = template["spec"]["template"]["spec"]["volumes"]
        (config,) = (one["configMap"]["name"] for one in volumes if one["name"] == "config")
        names = {name.rpartition(".")[0] for name in configs[config] if name.endswith((".conf", ".all"))}
        by_component[component][cronjob["metadata"]["name"]] = names
        mounted[cronjob["metadata"]["name"]] = config
    assert {name: {*its.databases, *its.entries} for name, its in found.configured.items()} == by_component["backup"]
    for name, names in found.drilled.items():
        assert names == by_component["drill"].get(name, names)
    assert set(found.stale_after) == set(found.configured)
    assert {name: its.config for name, its in found.configured.items()} == {
        name: mounted[name] for name in found.configured
    }, "by it the watcher knows which runs had these databases"


def test_databases_with_schedules_of_their_own_have_thresholds_of_their_own() -> None:
    databases = [{"name": "often", "cluster": "a"}, {"name": "rarely", "cluster": "a", "schedule": "@weekly"}]
    stale = settings_of(watched(databases=databases)).stale_after
    assert sorted(int(one.total_seconds()) for one in stale.values()) == [18600, 420 * 3600 + 600]


@pytest.mark.sample(19)
def test_drill_is_too_old_for_the_watcher_from_the_same_age_on_as_for_the_alert(ci_file: Path) -> None:
    for drills in ({}, {"drill": {"enabled": True, "schedule": "0 5 * * SUN"}}, {"drill": {"enabled": False}}):
        manifests = watched(ci_file, **drills)
        rules = {rule["alert"]: rule["expr"] for rule in rules_of(manifests)}
        found = re.findall(r" > ([0-9]+)", rules.get("CnpgBackupDrillStale", ""))
        stale = settings_of(manifests).drill_stale_after
        assert set(found) == ({str(int(stale.total_seconds()))} if stale else set())
    assert (
        settings_of(watched(drill={"enabled": True}, monitoring={"drillStaleAfter": 77})).drill_stale_after is not None
    )


def test_pod_that_is_ready_says_nothing_about_the_backups() -> None:
    (container,) = containers(watcher_of(watched())["spec"]["template"]["spec"])
    assert container["readinessProbe"]["httpGet"]["path"] == "/healthz"
    assert "livenessProbe" not in container
    assert watcher_of(watched())["spec"]["strategy"] == {"type": "Recreate"}


def test_watcher_reaches_the_api_server_and_name_servers_alone() -> None:
    (policy,) = (one for one in of_kind(watched(), "NetworkPolicy") if one["metadata"]["name"] == "cnpg-backup-status")
    names, server = policy["spec"]["egress"]
    assert {port["port"] for port in names["ports"]} == {53, 5353, 8053, 1053}
    assert server == {"ports": [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 6443}]}
    (ingress,) = policy["spec"]["ingress"]
    assert ingress == {"from": [{"namespaceSelector": {}}], "ports": [{"protocol": "TCP", "port": 8080}]}


@pytest.mark.parametrize("kind", ["PodMonitor", "ServiceMonitor"])
def test_prometheus_finds_the_watcher_and_keeps_its_labels(kind: str) -> None:
    manifests = watched(monitoring={"enabled": True, "monitor": {"kind": kind}})
    (monitor,) = of_kind(manifests, kind)
    template = watcher_of(manifests)["spec"]["template"]
    (service,) = of_kind(manifests, "Service")
    labelled = template["metadata"]["labels"] if kind == "PodMonitor" else service["metadata"]["labels"]
    assert selects(monitor["spec"]["selector"], labelled)
    assert selects({"matchLabels": service["spec"]["selector"]}, template["metadata"]["labels"])
    (endpoint,) = monitor["spec"]["podMetricsEndpoints" if kind == "PodMonitor" else "endpoints"]
    assert endpoint["honorLabels"] is True, "namespace would become exported_namespace, and no alert would find it"
    (container,) = containers(template["spec"])
    assert endpoint["port"] in {port["name"] for port in container["ports"]}


def test_there_is_a_watcher_where_prometheus_operator_is_and_not_elsewhere() -> None:
    assert not of_kind(chart.render(), "Deployment")
    assert of_kind(chart.render(api_versions=PROMETHEUS), "Deployment")
    off = {"monitoring": {"enabled": False}}
    assert not of_kind(chart.render(off, api_versions=PROMETHEUS), "Deployment")
    plain = chart.render(ON)
    assert of_kind(plain, "Deployment")
    assert not of_kind(plain, "PodMonitor"), "the API server would not know this kind"


def test_sign_of_life_mounts_one_key_of_one_secret_and_opens_nothing_but_what_values_say() -> None:
    rule = {"to": [{"ipBlock": {"cidr": "192.0.2.8/32"}}], "ports": [{"port": 8443}]}
    notify = {"healthchecks": {"secret": {"name": "check", "key": "ping"}, "every": 600}, "egress": [rule]}
    manifests = chart.render({"notify": notify})
    (volume,) = (one for one in watcher_of(manifests)["spec"]["template"]["spec"]["volumes"] if one["name"] == "notify")
    items = [{"key": "ping", "path": "healthchecks"}]
    assert volume["projected"]["sources"] == [{"secret": {"name": "check", "optional": True, "items": items}}]
    assert settings_of(manifests).ping_every.total_seconds() == 600
    for policy in of_kind(manifests, "NetworkPolicy"):
        assert (rule in policy["spec"]["egress"]) == policy["metadata"]["name"].endswith("-status"), title(policy)
    for owner, _, spec in pod_specs(manifests):
        assert ("notify" in str(spec["volumes"])) == owner.startswith("Deployment "), owner
    assert settings_of(watched()).ping_every is None


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_is_one_key_of_a_secret_in_the_watcher_alone(target: str) -> None:
    notify = {target: {"secret": {"name": "s", "key": "k"}}, "caSecret": {"name": "ca", "key": "tls.crt"}}
    manifests = chart.render({"notify": notify})
    (volume,) = (one for one in watcher_of(manifests)["spec"]["template"]["spec"]["volumes"] if one["name"] == "notify")
    assert volume["projected"]["sources"] == [
        {"secret": {"name": "s", "optional": True, "items": [{"key": "k", "path": target}]}},
        {"secret": {"name": "ca", "optional": True, "items": [{"key": "tls.crt", "path": "ca.crt"}]}},
    ]
    found = settings_of(manifests)
    assert found.targets == (() if target == "healthchecks" else (target,))
    assert (found.ping_every is None) == (target != "healthchecks")
    assert found.remind_after.total_seconds() == 86400
    for owner, _, spec in pod_specs(manifests):
        assert ("notify" in str(spec["volumes"])) == owner.startswith("Deployment "), owner


def test_messages_name_the_release_as_values_do() -> None:
    values = {"url": "https://b.example", "clusterName": "prod", "rules": {"runbookUrl": "https://wiki.example"}}
    place = settings_of(watched(monitoring={"enabled": True, **values})).place
    assert (place.namespace, place.release, place.cluster) == ("default", "cnpg-backup", "prod")
    assert (place.url, place.runbooks) == ("https://b.example", "https://wiki.example")


def test_every_object_of_the_watcher_is_gone_without_it() -> None:
    assert not [title(one) for one in chart.render() if one["metadata"]["name"].startswith("cnpg-backup-status")]


@pytest.mark.parametrize("layer", GRANTING)
@pytest.mark.parametrize("claim", [False, True])
def test_access_policies_admit_the_watchers_pod_and_refuse_it_the_claim(layer: str, claim: bool) -> None:
    manifests = chart.render(chart.merge(ON, access.VALUES[layer]), api_versions=KYVERNO)
    world = World(layer)
    world.policies = [manifest for manifest in manifests if manifest["kind"] in POLICIES]
    template = watcher_of(manifests)["spec"]["template"]
    controller = "system:serviceaccount:kube-system:replicaset-controller"
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": "cnpg-backup-status-1",
        "uid": "1",
        "controller": True,
    }
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "w", "namespace": "default", "ownerReferences": [owner]},
        "spec": json.loads(json.dumps(template["spec"])),
    }
    if claim:
        name = of_kind(manifests, "PersistentVolumeClaim")[0]["metadata"]["name"]
        pod["spec"]["volumes"].append({"name": "backups", "persistentVolumeClaim": {"claimName": name}})
    (said,) = world.answers([(controller, access.create(world.place, pod))])
    assert bool(said) == claim, said


def test_rights_on_the_security_page_are_those_of_the_role() -> None:
    text = (ROOT / "docs" / "security.md").read_text().split("\n## The watcher\n")[1].split("\n## ")[0]
    listed = {
        (verb, resource.split(".")[0])
        for verbs, resource in re.findall(r"^\| (`[^|]*`) \| `([^`]+)`", text, re.MULTILINE)
        for verb in re.findall(r"`(\w+)`", verbs)
    }
    held = {(verb, resource) for rule in (*RIGHTS, EVENTS) for verb in rule["verbs"] for resource in rule["resources"]}
    assert listed == held


def test_metrics_and_alerts_on_the_monitoring_page_are_all_that_there_are() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text()
    table = text.split("\n## Metrics\n")[1]
    listed = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    source = (ROOT / "watch" / "metrics.py").read_text()
    named = set(re.findall(r'(?:_family\(\s*|_Metric\(\s*)"(\w+)"', source))
    named |= set(re.findall(r'^    \("(volume_\w+)"', source, re.MULTILINE))
    assert listed == named | {"notifications_total"}
    alerts = set(re.findall(r"\]\(runbooks/(\w+)\.md\)", text))
    assert alerts == {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")}
