"""Properties that hold for every object of every installation."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from retention.errors import ConfigError
from retention.pod.config import read_database
from tests.chart import schemas
from tests.chart.common import (
    CI_FILES,
    KYVERNO,
    LONGEST_RELEASE,
    backups,
    containers,
    disk_problem,
    leaves,
    maps_of,
    of_kind,
    own,
    pod_specs,
    rendered,
    rendered_text,
    run_specs,
    selects,
    title,
)
from tests.lab import chart
from tests.lab.chart import CHART, Manifest
from tests.lab.conf import conf, conf_text

KUBERNETES = ("1.30", "1.34", "1.36")
"""The oldest minor that the chart installs on, the oldest that CloudNativePG supports, and the newest of both."""

RIGHT = Path(__file__).parent / "right"
KYVERNO_KINDS = {"ValidatingPolicy", "ClusterPolicy"}
CLUSTER_SCOPED = {*KYVERNO_KINDS, "PersistentVolume", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}


def test_no_object_depends_on_the_version_of_kubernetes() -> None:
    """So that the objects of one render may be checked against the schemas of all versions."""
    for template in (path for path in (CHART / "templates").rglob("*") if path.is_file()):
        assert "KubeVersion" not in template.read_text(), template.name


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.sample(20)
def test_every_object_is_valid_in_every_supported_kubernetes(
    ci_file: Path, version: str, record_property: Callable[[str, object], None]
) -> None:
    checked = 0
    for manifest in rendered(ci_file):
        if schemas.of_kyverno(manifest) or schemas.of_prometheus(manifest):
            continue
        problem = schemas.problem_in(manifest, version)
        assert not problem, f"{title(manifest)} is no valid object of Kubernetes {version}: {problem}"
        checked += 1
    assert checked >= 3, "hardly anything was checked"
    record_property("objects", checked)


def test_every_policy_is_valid_in_kyverno(record_property: Callable[[str, object], None]) -> None:
    """The schemas are those of Kyverno's own definitions, strict: an unknown field is an error."""
    kinds: dict[str, int] = {}
    for manifest in (manifest for file in CI_FILES for manifest in rendered(file) if schemas.of_kyverno(manifest)):
        problem = schemas.kyverno_problem_in(manifest)
        assert not problem, f"{title(manifest)} is no valid object of Kyverno: {problem}"
        kinds[manifest["kind"]] = kinds.get(manifest["kind"], 0) + 1
    assert set(kinds) == {"ValidatingPolicy", "ClusterPolicy"}
    record_property("objects", sum(kinds.values()))


def test_the_schemas_find_what_is_wrong() -> None:
    for kind, path in (("CronJob", ["spec", "jobTemplate", "spec", "template", "spec"]), ("ClusterPolicy", ["spec"])):
        (manifest,) = of_kind(_everything(), kind)[:1]
        inner = manifest
        for key in path:
            inner = inner[key]
        inner["bogus"] = 1
        found = (
            schemas.kyverno_problem_in(manifest) if kind == "ClusterPolicy" else schemas.problem_in(manifest, "1.36")
        )
        assert "bogus" in found, f"{kind}: {found!r}"


def test_older_kubernetes_is_refused() -> None:
    with pytest.raises(chart.ChartError, match=r"kubeVersion: >=1\.30\.0-0"):
        chart.render(kube_version="1.29.9")
    assert chart.render(kube_version="1.30.4-gke.1")


def test_kyverno_policies_have_the_form_of_their_kinds() -> None:
    files = [path for path in CI_FILES if "everything" in path.name or "default" in path.name]
    kinds = set()
    for manifest in [manifest for file in files for manifest in rendered(file) if manifest["kind"] in KYVERNO_KINDS]:
        kinds.add(manifest["kind"])
        spec = manifest["spec"]
        if manifest["kind"] == "ValidatingPolicy":
            assert set(spec) == {
                "validationActions",
                "failurePolicy",
                "autogen",
                "evaluation",
                "matchConstraints",
                "matchConditions",
                "variables",
                "validations",
            }, title(manifest)
            keys = {"expression", "message", "messageExpression"}
            assert all(set(rule) == keys for rule in spec["validations"]), title(manifest)
        else:
            (rule,) = spec["rules"]
            assert set(rule) == {"name", "match", "validate"}, title(manifest)
            assert set(rule["validate"]) == {"failureAction", "message", "cel"}, title(manifest)
        assert len(manifest["metadata"]["name"]) <= 63, title(manifest)
    assert kinds == KYVERNO_KINDS


def test_every_pod_satisfies_the_restricted_profile(ci_file: Path) -> None:
    for owner, _, spec in pod_specs(rendered(ci_file)):
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True, owner
        assert context.get("runAsUser") != 0, owner
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, owner
        assert context["fsGroupChangePolicy"] == "OnRootMismatch", owner
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), owner
        for container in containers(spec):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, f"{owner}: {container['name']}"
        allowed = {"persistentVolumeClaim", "configMap", "projected", "emptyDir", "ephemeral"}
        for volume in spec["volumes"]:
            assert set(volume) - {"name"} <= allowed, f"{owner}: volume {volume['name']}"


def test_no_pod_gets_a_token_or_the_services_of_the_namespace(ci_file: Path) -> None:
    manifests = rendered(ci_file)
    for owner, _, spec in pod_specs(manifests):
        assert spec["automountServiceAccountToken"] is False, owner
        assert spec["enableServiceLinks"] is False, owner
    for account in of_kind(manifests, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False, title(account)


def test_every_object_carries_the_labels_of_its_release(ci_file: Path) -> None:
    for manifest in own(rendered(ci_file, LONGEST_RELEASE, "elsewhere")):
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == LONGEST_RELEASE, title(manifest)
        assert labels["app.kubernetes.io/managed-by"] == "Helm", title(manifest)
        assert labels["helm.sh/chart"].startswith("cnpg-backup-"), title(manifest)
        assert labels["app"], title(manifest)


def test_every_namespaced_object_names_its_namespace(ci_file: Path) -> None:
    for manifest in rendered(ci_file, LONGEST_RELEASE, "elsewhere"):
        expected = None if manifest["kind"] in CLUSTER_SCOPED else "elsewhere"
        assert manifest["metadata"].get("namespace") == expected, title(manifest)


def test_selectors_find_the_pods_and_hold_no_version(ci_file: Path) -> None:
    manifests = rendered(ci_file)
    policies = of_kind(manifests, "NetworkPolicy")
    for owner, metadata, spec in pod_specs(manifests):
        selectors = [str(spec.get("affinity", ""))]
        found = [policy for policy in policies if selects(policy["spec"]["podSelector"], metadata["labels"])]
        assert len(found) == bool(policies), f"{owner} is selected by {[title(policy) for policy in found]}"
        selectors += [str(policy["spec"]["podSelector"]) for policy in found]
        if found and metadata["labels"]["app.kubernetes.io/component"] in {"drill", "inspect", "open"}:
            assert found[0]["spec"]["egress"] == [], f"{owner} needs no network and has one"
        for text in selectors:
            assert "helm.sh/chart" not in text, f"{owner}: a selector would break on upgrade"
            assert "app.kubernetes.io/version" not in text, f"{owner}: a selector would break on upgrade"


def test_pods_that_people_label_themselves_reach_no_more_than_a_backup() -> None:
    """A pod that has the release's label and no component is not left without any policy."""
    policies = of_kind(rendered(), "NetworkPolicy")
    found = [policy for policy in policies if selects(policy["spec"]["podSelector"], {"app": "cnpg-backup"})]
    assert [title(policy) for policy in found] == ["NetworkPolicy cnpg-backup"]


def test_no_network_policy_selects_or_admits_more_than_it_must(ci_file: Path) -> None:
    for policy in of_kind(rendered(ci_file), "NetworkPolicy"):
        spec = policy["spec"]
        if policy["metadata"]["name"].endswith("-status"):
            continue
        assert spec["podSelector"]["matchLabels"]["app"], f"{title(policy)} selects every pod"
        assert spec["ingress"] == [], title(policy)
        assert set(spec["policyTypes"]) == {"Ingress", "Egress"}, title(policy)
        for rule in spec["egress"]:
            assert rule.get("ports"), f"{title(policy)}: a rule without ports opens all"
            for peer in rule["to"]:
                labels = peer.get("podSelector", {}).get("matchLabels", {})
                if "cnpg.io/cluster" in labels:
                    assert labels["cnpg.io/podRole"] == "instance", f"{title(policy)}: poolers are reached too"


@pytest.mark.parametrize(
    ("address", "port"),
    [
        ("169.254.20.10", 53),  # NodeLocal DNSCache
        ("169.254.25.10", 53),  # kubespray
        ("169.254.10.10", 53),  # AKS LocalDNS
        ("169.254.169.254", 53),  # GKE with Cloud DNS
        ("fe80::1", 53),
        ("kube-system", 53),
        ("openshift-dns", 5353),
        ("kube-system", 8053),  # Gardener
        ("kube-system", 1053),  # vCluster
    ],
)
def test_name_servers_of_the_big_platforms_are_reached(address: str, port: int) -> None:
    (policy,) = [one for one in of_kind(rendered(), "NetworkPolicy") if one["metadata"]["name"] == "cnpg-backup"]
    rule = policy["spec"]["egress"][0]
    assert {(entry["protocol"], entry["port"]) for entry in rule["ports"]} >= {("UDP", port), ("TCP", port)}
    blocks = [ipaddress.ip_network(peer["ipBlock"]["cidr"]) for peer in rule["to"] if "ipBlock" in peer]
    names = [
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for peer in rule["to"]
        if "namespaceSelector" in peer
    ]
    assert address in names or any(ipaddress.ip_address(address) in block for block in blocks if address not in names)
    assert all(block.is_link_local for block in blocks), "an address elsewhere is open by default"


def test_every_mount_has_its_volume_and_every_volume_its_mount(ci_file: Path) -> None:
    for owner, _, spec in pod_specs(rendered(ci_file)):
        volumes = [volume["name"] for volume in spec["volumes"]]
        assert len(volumes) == len(set(volumes)), f"{owner}: a volume's name is there twice"
        mounted = set()
        for container in containers(spec):
            names = [mount["name"] for mount in container["volumeMounts"]]
            paths = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert len(paths) == len(set(paths)), f"{owner}: {container['name']} mounts two volumes at one path"
            mounted |= set(names)
        assert mounted == set(volumes), owner


def test_environment_names_are_unique(ci_file: Path) -> None:
    for owner, _, spec in pod_specs(rendered(ci_file)):
        for container in containers(spec):
            names = [variable["name"] for variable in container["env"]]
            assert len(names) == len(set(names)), f"{owner}: {container['name']}: {names}"
            for variable in container["env"]:
                assert isinstance(variable.get("value", ""), str), f"{owner}: {variable['name']} is no string"


def test_every_referenced_configmap_and_key_is_there_and_every_file_is_mounted(ci_file: Path) -> None:
    manifests = rendered(ci_file)
    maps = {manifest["metadata"]["name"]: manifest for manifest in maps_of(manifests)}
    # Not for the pods: how access is guarded, which an upgrade may change.
    del maps[next(name for name in maps if name.endswith("-access"))]
    # Grafana's sidecar reads it by its label, and an upgrade may change it.
    maps = {name: one for name, one in maps.items() if not name.endswith("-dashboard")}
    used: dict[str, set[str]] = {}
    for owner, _, spec in pod_specs(manifests):
        for source in _config_maps(spec):
            name = source["name"]
            # The files of a copy are not the chart's: without them it fails, and says so.
            if name == "kube-root-ca.crt" or source.get("optional"):
                continue
            assert name in maps, f"{owner}: there is no ConfigMap {name}"
            keys = set(maps[name]["data"])
            items = {item["key"] for item in source.get("items", [])} or keys
            assert items <= keys, f"{owner}: ConfigMap {name} lacks {items - keys}"
            used.setdefault(name, set()).update(items)
    assert used == {name: set(manifest["data"]) for name, manifest in maps.items()}
    for manifest in maps.values():
        assert manifest["immutable"] is True, title(manifest)


def _config_maps(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The ConfigMaps that a pod mounts, alone or projected."""
    sources = [volume for volume in spec["volumes"] if "configMap" in volume]
    sources += [source for volume in spec["volumes"] for source in volume.get("projected", {}).get("sources", [])]
    return [source["configMap"] for source in sources if "configMap" in source]


def test_a_claim_and_an_account_that_pods_name_exist_or_were_promised(ci_file: Path) -> None:
    manifests = rendered(ci_file)
    claims = {manifest["metadata"]["name"] for manifest in of_kind(manifests, "PersistentVolumeClaim")}
    claims = claims or {yaml.safe_load(ci_file.read_text())["persistence"]["existingClaim"]}
    accounts = {manifest["metadata"]["name"] for manifest in of_kind(manifests, "ServiceAccount")} or {"default"}
    for owner, metadata, spec in run_specs(manifests):
        named = {v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v}
        # Whether copies can be made, or restored, is seen without looking at a backup.
        component = metadata["labels"]["app.kubernetes.io/component"]
        without = owner.endswith("-offsite-test") or component == "offsite-drill"
        assert named == (set() if without else claims), owner
        assert spec["serviceAccountName"] in accounts, owner


def test_credentials_are_optional_files_and_hold_no_private_key(ci_file: Path) -> None:
    for owner, metadata, spec in run_specs(rendered(ci_file)):
        component = metadata["labels"]["app.kubernetes.io/component"]
        if component in {"fetch", "offsite-drill"}:
            held = [volume["name"] for volume in spec["volumes"] if "secret" in str(volume)]
            assert held == ["identity"], f"{owner} needs no password of a database"
            continue
        if component in {"drill", "inspect", "open", "first-run", "offsite"}:
            assert "secret" not in str(spec["volumes"]), f"{owner} needs no credentials"
            continue
        (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "credentials"]
        paths = []
        for source in volume["projected"]["sources"]:
            assert set(source) == {"secret"}, owner
            assert source["secret"]["optional"] is True, f"{owner}: a missing Secret would stop every backup"
            assert source["secret"]["items"], f"{owner}: a whole Secret would be mounted"
            for item in source["secret"]["items"]:
                assert not item["key"].endswith(".key"), f"{owner}: a private key is mounted"
                paths.append(item["path"])
        assert len(paths) == len(set(paths)), owner
        databases = {path.split("/")[0] for path in paths}
        for database in databases:
            found = {path.removeprefix(f"{database}/") for path in paths if path.startswith(f"{database}/")}
            assert "ca.crt" in found, owner
            for role in ("owner-", "superuser-") if component in {"restore", "copy"} else ("",):
                login = {path for path in found if path.startswith(role) and path != "ca.crt"}
                assert login in ({role + "username", role + "password"}, {role + "uri"}), owner
                found -= login
            assert found == {"ca.crt"}, owner
        holders = [c["name"] for c in containers(spec) if "credentials" in str(c["volumeMounts"])]
        expected = {"test": "check", "backup": "dump", "restore": "restore", "copy": "restore"}[component]
        assert holders == [expected], f"{owner}: {holders} see the credentials"


def test_nothing_secret_is_rendered(ci_file: Path) -> None:
    for manifest in rendered(ci_file):
        assert manifest["kind"] != "Secret", title(manifest)
    for owner, _, spec in pod_specs(rendered(ci_file)):
        for container in containers(spec):
            # rclone takes its options from there, and runs no other program.
            if container["name"] != "rclone":
                assert "secretKeyRef" not in str(container), (
                    f"{owner}: a credential in the environment is seen by others"
                )


def test_images_are_named_in_full_and_none_is_latest(ci_file: Path) -> None:
    for owner, _, spec in pod_specs(rendered(ci_file)):
        for container in containers(spec):
            image = container["image"]
            assert re.fullmatch(r"[a-z0-9.-]+\.[a-z]+(/[a-z0-9-]+)+:[0-9][a-z0-9.-]*(@sha256:[0-9a-f]{64})?", image), (
                f"{owner}: {image}"
            )


INTERVALS = {
    "0 0 * * *": 24,
    "0 1 * * *": 24,
    "15 3 * * *": 24,
    "0 3,15 * * *": 12,
    "@midnight": 24,
    "59 * * * *": 1,
    "45 3 * * *": 24,
    "0 */4 * * *": 4,
    "20 1 * * *": 24,
    "0 3 1,15 * *": 24,
    "10 2 * * *": 24,
    "0 2 * * *": 24,
    "0 */2 * * *": 2,
    "@hourly": 1,
    "0 */6 * * *": 6,
    "30 1,7,13,19 * * *": 6,
    "@daily": 24,
    "20 3 * * *": 24,
    "30 2 * * *": 24,
    "15 4 * * SUN": 168,
    "0 5 * * 1-5": 24,
}
"""Hours between two runs of each schedule in ci/."""


def test_deadlines_nest_and_end_before_the_next_run(ci_file: Path) -> None:
    for manifest in backups(rendered(ci_file)):
        job = manifest["spec"]["jobTemplate"]["spec"]
        pod = job["template"]["spec"]
        dump = {entry["name"]: entry.get("value") for entry in pod["initContainers"][0]["env"]}
        assert int(dump["BACKUP_TIMEOUT"]) < pod["activeDeadlineSeconds"] < job["activeDeadlineSeconds"], title(
            manifest
        )
        interval = INTERVALS[manifest["spec"]["schedule"]] * 3600
        assert job["activeDeadlineSeconds"] < interval, title(manifest)


def test_requests_stay_below_limits_and_cpu_has_no_limit(ci_file: Path) -> None:
    units = {"m": 0.001, "Mi": 2**20, "Gi": 2**30, "": 1}

    def number(quantity: object) -> float:
        match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(quantity))
        assert match, quantity
        return float(match[1]) * units[match[2]]

    for owner, _, spec in pod_specs(rendered(ci_file)):
        for container in containers(spec):
            resources = container["resources"]
            assert "cpu" not in resources.get("limits", {}), f"{owner}: {container['name']}"
            for name, limit in resources.get("limits", {}).items():
                request = resources.get("requests", {}).get(name, 0)
                assert number(request) <= number(limit), f"{owner}: {container['name']}: {name}"


@pytest.mark.parametrize("path", [*CI_FILES, *sorted(RIGHT.glob("*.yaml"))], ids=lambda path: path.stem)
@pytest.mark.sample(32)
def test_the_volumes_of_a_pod_fit_under_its_limit(path: Path) -> None:
    """The kubelet evicts a pod by the limit of all its containers, of which each may be silent."""
    for owner, _, spec in pod_specs(rendered(path)):
        assert not (problem := disk_problem(spec)), f"{owner}: {problem}"


def test_a_drill_may_take_what_its_scratch_may_hold_and_asks_for_no_more_than_before() -> None:
    def drill(**drill: object) -> dict[str, Any]:
        for owner, _, spec in pod_specs(chart.render({"drill": drill})):
            if owner == "CronJob cnpg-backup-drill":
                assert not disk_problem(spec)
                (found,) = [one["resources"] for one in containers(spec) if one["name"] == "drill-1"]
                return {key: value["ephemeral-storage"] for key, value in found.items()}
        raise AssertionError

    assert drill() == {"requests": "64Mi", "limits": "10560Mi"}
    assert drill(scratch={"sizeLimit": "1.5G"}) == {"requests": "64Mi", "limits": "1751Mi"}
    larger = {"limits": {"ephemeral-storage": "11Gi"}}
    assert drill(resources=larger) == {"requests": "64Mi", "limits": "11Gi"}
    # Kubernetes copies a limit into a request that is missing.
    assert drill(resources={"requests": {"ephemeral-storage": None}}) == {"requests": "64Mi", "limits": "10560Mi"}


def test_a_volume_of_the_values_raises_the_limit_of_the_pod_that_mounts_it() -> None:
    values = {
        "extraVolumes": [{"name": "spare", "emptyDir": {"sizeLimit": "1Gi"}}],
        "dump": {"extraVolumeMounts": [{"name": "spare", "mountPath": "/spare"}]},
    }
    for owner, _, spec in pod_specs(chart.render(values)):
        assert not (problem := disk_problem(spec)), f"{owner}: {problem}"


def test_scratch_volumes_are_bounded_and_passwords_stay_in_memory(ci_file: Path) -> None:
    for owner, _, spec in run_specs(rendered(ci_file)):
        empty = {volume["name"]: volume["emptyDir"] for volume in spec["volumes"] if "emptyDir" in volume}
        assert all("sizeLimit" in directory for directory in empty.values()), owner
        assert empty["run"]["medium"] == "Memory", owner


def _documented_keys() -> list[str]:
    """The keys of `<database>.conf`, in the order of their table in docs/architecture.md."""
    text = (CHART.parent / "docs" / "architecture.md").read_text()
    table = re.split(r"^### ", text.split("### Configuration of a database", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_the_configuration_has_every_documented_key_and_no_line_too_many(ci_file: Path) -> None:
    databases: list[str] = []
    *single, many = _documented_keys()
    assert many == "extra_arg"
    # A restore has the same files once more, and those of suspended databases.
    maps = maps_of(rendered(ci_file))
    for manifest in maps:
        for name, text in manifest["data"].items():
            stem, _, kind = name.rpartition(".")
            if kind not in ("conf", "all") or name == "offsite.conf":
                continue
            assert text.endswith("\n"), name
            pairs = [line.split("=", 1) for line in text.splitlines()]
            repeated = {many, "exclude"} if kind == "all" else {many}
            assert [key for key, *_ in pairs if key not in repeated] == single, f"{title(manifest)}: {name}"
            assert dict(pairs)["database"] == stem
            if "-restore" not in manifest["metadata"]["name"]:
                databases.append(name)
    assert len(databases) == len(set(databases)), "a database is dumped by two CronJobs"


def test_every_key_of_the_configuration_has_a_reader_and_every_reader_its_key(tmp_path: Path) -> None:
    """One half reads it in Python, the other in shell; each ignores what only the other needs."""
    rendered_keys = set(conf("app"))
    file = tmp_path / "app.conf"
    file.write_text(conf_text("app"))
    read_database(tmp_path, "app")
    in_python = set()
    for key in rendered_keys:
        file.write_text("".join(f"{other}={value}\n" for other, value in conf("app").items() if other != key))
        with contextlib.suppress(ConfigError):
            read_database(tmp_path, "app")
            continue
        in_python.add(key)
    scripts = "".join(path.read_text() for path in (CHART.parent / "scripts").glob("*.sh"))
    in_shell = set(re.findall(r"\bconf_([a-z_]+)", scripts))
    # That key, a script writes for another one.
    in_shell.remove("entry")
    assert in_shell <= rendered_keys, "a script reads what the chart does not write"
    assert in_python | in_shell == rendered_keys, "nothing reads what the chart writes"
    assert "extra_arg=" in scripts


def test_the_claim_is_kept_or_says_nothing(ci_file: Path) -> None:
    for claim in of_kind(rendered(ci_file), "PersistentVolumeClaim"):
        policy = claim["metadata"].get("annotations", {}).get("helm.sh/resource-policy", "absent")
        assert policy in {"keep", "absent"}, f"{title(claim)}: {policy!r} would orphan it without a word"


def test_nothing_is_a_hook_but_the_tests(ci_file: Path) -> None:
    for manifest in rendered(ci_file):
        annotations = manifest["metadata"].get("annotations", {})
        expected = "test" if manifest["kind"] == "Pod" else None
        assert annotations.get("helm.sh/hook") == expected, title(manifest)


def test_each_image_has_a_test_that_sees_what_its_runs_see(ci_file: Path) -> None:
    manifests = rendered(ci_file)
    tests = (pod for pod in of_kind(manifests, "Pod") if "test" in pod["metadata"]["labels"].values())
    pods = {pod["spec"]["containers"][0]["image"]: pod for pod in tests}
    tested: dict[str, list[str]] = {image: [] for image in pods}
    # A suspended database sleeps, and would not answer; a suspended schedule says nothing of the databases.
    asleep = (yaml.safe_load(ci_file.read_text()) or {}).get("suspend", False)
    runs = [run for run in backups(manifests) if asleep or not run["spec"].get("suspend")]
    for run in runs:
        template = run["spec"]["jobTemplate"]["spec"]["template"]
        (dump,) = template["spec"]["initContainers"]
        pod = pods[dump["image"]]
        (check,) = pod["spec"]["containers"]
        assert check["command"] == [*dump["command"], "--check"], title(pod)
        for key in ("image", "volumeMounts", "securityContext", "resources"):
            assert check[key] == dump[key], f"{title(pod)}: {key}"
        apart = {"volumes", "containers", "initContainers", "activeDeadlineSeconds"}
        for key in template["spec"].keys() - apart:
            assert pod["spec"][key] == template["spec"][key], f"{title(pod)}: {key}"
        label = template["metadata"]["labels"]["app"]
        assert pod["metadata"]["labels"]["app"] == label, title(pod)
        seen = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for volume in template["spec"]["volumes"]:
            if volume["name"] == "config":
                tested[dump["image"]].append(volume["configMap"]["name"])
            elif volume["name"] == "credentials":
                sources = seen["credentials"]["projected"]["sources"]
                assert all(source in sources for source in volume["projected"]["sources"]), title(pod)
            else:
                assert seen[volume["name"]] == volume, f"{title(pod)}: {volume['name']}"
    for image, pod in pods.items():
        (config,) = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "config"]
        assert [s["configMap"]["name"] for s in config["projected"]["sources"]] == tested[image], title(pod)


@pytest.mark.sample(8)
def test_rendering_twice_gives_the_same_bytes(ci_file: Path) -> None:
    assert chart.render_text(ci_file, api_versions=KYVERNO, fresh=True) == rendered_text(ci_file)


@pytest.mark.sample(8)
def test_helm_3_and_helm_4_render_the_same_objects(ci_file: Path) -> None:
    assert rendered(ci_file, helm="helm3") == rendered(ci_file)


@pytest.mark.sample(4)
def test_the_library_renders_what_helm_renders(ci_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_name = {title(manifest): manifest for manifest in rendered(ci_file, kyverno=False)}
    monkeypatch.setattr(chart, "find", lambda _: None)
    assert {title(manifest): manifest for manifest in chart.render(ci_file)} == by_name


def test_objects_read_as_if_written_by_hand(ci_file: Path) -> None:
    source = ""
    for line in _without_data(rendered_text(ci_file)):
        source = line if line.startswith("# Source") else source
        assert line == line.rstrip(), f"{source}: blanks at the end of {line!r}"
        assert line, f"{source}: an empty line within an object"
        if line != "    selector: {}":  # of a policy's binding: all pods of the namespace
            assert not line.endswith((": null", ": {}")), f"{source}: {line!r} says nothing"


def _without_data(text: str) -> list[str]:
    """The lines of all objects, less the files in ConfigMaps and the empty line that Helm ends each object with."""
    lines = []
    for document in text.split("\n---\n"):
        lines += document.strip("\n").split("\ndata:\n")[0].splitlines()
    return lines


def test_values_files_show_what_their_names_say() -> None:
    kinds: dict[str, list[Any]] = {path.name: [m["kind"] for m in rendered(path)] for path in CI_FILES}
    runs = {path.name: len(backups(rendered(path))) for path in CI_FILES}
    assert runs["three-majors-values.yaml"] == 4
    assert runs["sharded-values.yaml"] == 3
    assert runs["per-database-values.yaml"] == 5
    assert "NetworkPolicy" not in kinds["no-network-policy-values.yaml"]
    assert "PersistentVolumeClaim" not in kinds["existing-claim-values.yaml"]
    assert set(kinds["least-values.yaml"]) - {"Pod", "Job"} == {"ConfigMap", "CronJob", "PersistentVolumeClaim"}


def _everything() -> list[Manifest]:
    return rendered(next(path for path in CI_FILES if "everything" in path.name))


def test_common_labels_and_annotations_reach_every_object() -> None:
    for manifest in own(_everything()):
        assert manifest["metadata"]["labels"]["team"] == "databases", title(manifest)
        assert manifest["metadata"]["annotations"]["example.org/owner"] == "databases", title(manifest)


def test_further_objects_are_rendered_as_templates_and_else_left_alone() -> None:
    (quota,) = of_kind(_everything(), "ResourceQuota")
    (given,) = yaml.safe_load((CHART / "ci" / "everything-on-values.yaml").read_text())["extraObjects"]
    assert quota["metadata"] == {
        "name": "nightly-jobs",
        "namespace": "default",
        "labels": {"app.kubernetes.io/instance": "cnpg-backup"},
    }
    assert quota["spec"] == given["spec"]


@pytest.mark.parametrize(
    ("longhorn", "labels"),
    [
        ({}, set()),
        ({"recurringJobs": ["nightly"]}, {"recurring-job.longhorn.io/source", "recurring-job.longhorn.io/nightly"}),
        (
            {"recurringJobGroups": ["default", "offsite"]},
            {
                "recurring-job.longhorn.io/source",
                "recurring-job-group.longhorn.io/default",
                "recurring-job-group.longhorn.io/offsite",
            },
        ),
    ],
)
def test_longhorn_is_told_its_jobs_together_with_the_label_that_makes_it_listen(
    longhorn: dict[str, list[str]], labels: set[str]
) -> None:
    (claim,) = of_kind(chart.render({"persistence": {"longhorn": longhorn}}), "PersistentVolumeClaim")
    found = {key: value for key, value in claim["metadata"]["labels"].items() if "longhorn" in key}
    assert found == dict.fromkeys(labels, "enabled")


def test_leaves_are_found() -> None:
    assert dict(leaves({"a": {"b": 1, "c": {}}, "d": [1]})) == {("a", "b"): 1, ("a", "c"): {}, ("d",): [1]}
