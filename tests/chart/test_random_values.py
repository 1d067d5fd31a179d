"""Random values that the schema admits: each of them renders to valid objects, or is refused in so many words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.chart import schemas
from tests.chart.common import KYVERNO, containers, disk_problem, own, pod_specs, title
from tests.lab import chart
from tests.lab.chart import CHART, Manifest

KUBERNETES = ("1.30", "1.36")

TIERS = [
    [{"name": "Daily", "every": "24h", "keep": 1}],
    [{"name": "A", "every": "90m", "keep": 4, "until": "6h"}, {"name": "B", "every": "3h", "keep": 1000}],
    [
        {"name": "Daily", "every": "1d", "keep": 7, "until": "7d"},
        {"name": "Weekly", "every": "1w", "keep": 4, "until": "35d"},
        {"name": "4-Weekly", "every": "4w", "keep": 13},
    ],
]
SCHEDULES = ["0 */2 * * *", "15,45 8-18 * * MON-FRI", "@daily", "59 23 1 */3 *", "7 * * * *"]
ARGUMENTS = ["--no-owner", "--exclude-table=a b", "--role=reader", "--extension=x=y"]
OFFSITE: dict[str, Any] = {
    "enabled": True,
    "remote": {"type": "sftp", "host": "nas.example.org", "port": 2222, "shell_type": "none"},
    "path": "/volume1/dumps of all",
    "clusterId": "a.b-1",
    "secretName": "nas",
    "secretKeys": ["pass"],
    "encryption": {"type": "none", "recipients": []},
    "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}],
    "caBundle": "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----",
}
NARROWED: dict[str, Any] = {
    "schedule": {"enum": SCHEDULES},
    "tiers": {"enum": ["auto", *TIERS]},
    "words": {"enum": [{}, {"last": 9, "monthly": 1000}, {"daily": 7, "weekly": 0}, {"hourly": 0, "yearly": 1}]},
    "extraArgs": {"type": "array", "maxItems": 3, "items": {"enum": ARGUMENTS}},
    "autoSeconds": {"enum": ["auto", 120, 3000]},
    # Most often what is admitted with every schedule, or next to keys of a name and a password.
    "ttlSecondsAfterFinished": {"enum": ["auto", "auto", 34560000, 604800]},
    "roles": {"enum": ["without-passwords"] * 6 + ["with-password-hashes"]},
    "uriKey": {"enum": ["", "", "", "", "", "", "uri"]},
    "sizeLimit": {"enum": ["700Mi", "1.5Gi", "10G", "3Ti"]},
    "resourceList": {"enum": [
        {}, {"cpu": 1}, {"ephemeral-storage": "10Mi"}, {"ephemeral-storage": "4Ti"}, {"ephemeral-storage": 1048576}]},
    "labels": {"type": "object", "maxProperties": 2, "additionalProperties": {"enum": ["", "x", "1"]}},
    "annotations": {"type": "object", "maxProperties": 2, "additionalProperties": {"enum": ["", "x: y", "{{ x }}"]}},
    # What has a form of Kubernetes' own goes through as it is, so that any object there would be an invalid pod.
    "tolerations": {"enum": [[], [{"operator": "Exists"}]]},
    "affinity": {"enum": [{}, {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}}]},
    "selector": {"enum": [{}, {"matchLabels": {"purpose": "dumps"}}]},
    "peers": {"enum": [[], [{"ipBlock": {"cidr": "192.0.2.0/24"}}], [{"namespaceSelector": {}}]]},
    "extraEgress": {"enum": [[], [{"to": [{"podSelector": {}}], "ports": [{"port": 1}]}]]},
    "ingress": {"enum": [{"peers": [{"namespaceSelector": {}}]}, {"peers": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]},
    "severity": {"enum": [{}, {"CnpgBackupStale": "page", "CnpgBackupSuspended": "info"}]},
    "egress": {"enum": [[], [{"to": [{"podSelector": {}}], "ports": [{"port": 1}]}]]},
    # Parts of it hardly ever fit each other.
    "offsite": {"enum": [{}, {"bandwidth": "1M", "prune": True}, OFFSITE, OFFSITE | {"enabled": False}]},
    "url": {"enum": ["", "https://backups.example.org"]},
    "runbookUrl": {"enum": ["", "https://example.org/runbooks/"]},
    "extraEnv": {"enum": [[], [
        {"name": "A", "value": ""}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]]},
    "operators": {"enum": [[], [
        {"kind": "Group", "name": "a: b"}, {"kind": "ServiceAccount", "name": "x", "namespace": "y"}]]},
    "extraObjects": {"enum": [[], [{"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}}]]},
    "copies": {"enum": [[], [], [
        {"name": "staging", "database": "authelia", "schedule": "@daily", "sqlConfigMap": "sql", "cluster": "staging"},
        {"name": "2", "database": "authelia", "schedule": "0 5 * * 1-5", "sqlConfigMap": "", "into": "a: b"}]]},
    # Most often none: without a mount of its own a volume is refused.
    "extraVolumes": {"enum": [
        [], [], [], [], [{"name": "spare", "emptyDir": {}}], [{"name": "spare", "emptyDir": {"sizeLimit": "2Gi"}}]]},
    "drillParameters": {"enum": [{}, {"work_mem": "64MB", "my.own": "it's \\", "jit": False, "max_wal_size": 30}]},
    "extraVolumeMounts": {"enum": [[], [], [], [{"name": "spare", "mountPath": "/spare"}]]},
}  # fmt: skip
"""A few good values where the schema admits what only Kubernetes, or a rule over several values, would refuse."""


def strategy(node: dict[str, Any], definitions: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What a node of the chart's schema admits: whole entries of lists, parts of all else."""
    if "$ref" in node:
        return strategy(definitions[node["$ref"].removeprefix("#/definitions/")], definitions)
    if "allOf" in node:
        (part,) = node["allOf"]
        return strategy(part, definitions)
    if "oneOf" in node:
        return st.one_of([strategy(part, definitions) for part in node["oneOf"]])
    if "enum" in node or "const" in node:
        return st.sampled_from(node["enum"] if "enum" in node else [node["const"]])
    if node["type"] == "boolean":
        return st.booleans()
    if node["type"] in {"integer", "number"}:
        return st.integers(node.get("minimum"), node.get("maximum"))
    if node["type"] == "string":
        return _text(node)
    if node["type"] == "array":
        items = strategy(node["items"], definitions)
        unique = repr if node.get("uniqueItems") else None
        return st.lists(items, min_size=node.get("minItems", 0), max_size=3, unique_by=unique)
    assert node["type"] == "object", node
    return _mapping(node, definitions)


def _text(node: dict[str, Any]) -> st.SearchStrategy[str]:
    # The schema's patterns are in the words of Go, where \\x{80} is a character.
    pattern = re.sub(r"\\x\{([0-9a-f]+)\}", lambda match: f"\\u{match[1]:0>4}", node.get("pattern", ".*"))
    texts = st.from_regex(pattern, fullmatch=True, alphabet=st.characters(exclude_categories=["C"]))
    longest = node.get("maxLength", 63)
    return texts.filter(lambda text: node.get("minLength", 0) <= len(text) <= longest)


def _mapping(node: dict[str, Any], definitions: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    keys = {key: strategy(part, definitions) for key, part in node.get("properties", {}).items()}
    if not keys:
        return st.dictionaries(st.sampled_from(["cpu", "memory"]), strategy(node["additionalProperties"], definitions))
    # The defaults stand below a values file; only an entry of a list has nothing below it.
    entry = {"name", "cluster"} <= keys.keys() or keys.keys() == {"name", "image"}
    # Without a cluster an entry needs host and Secrets, which hardly ever come together.
    needed = {key: keys.pop(key) for key in {*node.get("required", []), *({"cluster"} & keys.keys())} if entry}
    return st.fixed_dictionaries(needed, optional=keys).filter(lambda value: len(value) >= node.get("minProperties", 0))


def values() -> st.SearchStrategy[dict[str, Any]]:
    """Values files that the schema admits."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    # Helm's own, of the chart in charts/.
    del schema["properties"]["programs"]
    for name, narrow in NARROWED.items():
        _replace(schema, name, narrow)
    return strategy(schema, schema["definitions"])


def _replace(node: Any, name: str, narrow: Any) -> None:
    """Put a narrower schema in the place of every property or definition of a name."""
    if isinstance(node, dict):
        for key in ("properties", "definitions"):
            if name in node.get(key, {}):
                node[key][name] = narrow
        for value in node.values():
            _replace(value, name, narrow)


def check(manifests: list[Manifest]) -> int:
    """Check what holds for all objects of any values; gives how many were checked.

    Raises:
        AssertionError: naming the object.
    """
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(names) == len(set(names)), f"one name twice: {names}"
    checked = 0
    for manifest in manifests:
        if schemas.of_kyverno(manifest):
            assert not (problem := schemas.kyverno_problem_in(manifest)), f"{title(manifest)}: {problem}"
        # What is not Kubernetes' own has no schema there.
        foreign = schemas.of_kyverno(manifest) or schemas.of_prometheus(manifest)
        for version in () if foreign else KUBERNETES:
            assert not (problem := schemas.problem_in(manifest, version)), f"{title(manifest)}: {version}: {problem}"
        limit = 52 if manifest["kind"] == "CronJob" else 253
        assert len(manifest["metadata"]["name"]) <= limit, title(manifest)
        checked += 1
    for manifest in own(manifests):
        assert all(len(value) <= 63 for value in manifest["metadata"]["labels"].values()), title(manifest)
    for owner, metadata, spec in pod_specs(manifests):
        label = own(manifests)[0]["metadata"]["labels"]["app"]
        # The watcher must be in nothing that selects the pods of backups.
        watcher = metadata["labels"]["app.kubernetes.io/component"] == "status"
        assert metadata["labels"].get("app") == (None if watcher else label), owner
        volumes = {volume["name"] for volume in spec["volumes"]}
        mounted = {mount["name"] for container in containers(spec) for mount in container["volumeMounts"]}
        assert mounted == volumes, owner
        assert not (problem := disk_problem(spec)), f"{owner}: {problem}"
        for container in containers(spec):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, owner
    return checked


def run(examples: int, record_property: Callable[[str, object], None]) -> None:
    """Render so many random values; fails also when hardly any of them can work, since that would prove nothing."""
    outcome = {"rendered": 0, "refused": 0, "objects": 0}

    # Not shrunk: each step would take Helm a second.
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(values())
    def every(given_values: dict[str, Any]) -> None:
        try:
            manifests = chart.render(given_values, api_versions=KYVERNO)
        except chart.ChartError as error:
            if "these values cannot work:\n  - " not in str(error):
                pytest.fail(f"{json.dumps(given_values)}\n{error}")
            outcome["refused"] += 1
            return
        outcome["objects"] += check(manifests)
        outcome["rendered"] += 1

    every()
    assert outcome["rendered"] >= examples / 4, outcome
    record_property("objects", outcome["objects"])


def test_values_that_the_schema_admits_give_valid_objects_or_one_clear_refusal(
    record_property: Callable[[str, object], None],
) -> None:
    run(25, record_property)


@pytest.mark.long
def test_many_values_that_the_schema_admits_give_valid_objects_or_one_clear_refusal(
    record_property: Callable[[str, object], None],
) -> None:
    run(600, record_property)
