"""The access policy's own expressions, judged without a cluster by the API server's compiler (tools/policy-check)."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chart.common import KYVERNO, of_kind
from tests.lab import access, chart
from tests.lab.access import Case, Manifest, Place, Request, runs
from tests.lab.pods import mounting, without

POLICIES = ("ValidatingAdmissionPolicy", "ValidatingPolicy")
GRANTED = (access.OPERATOR, access.ADMIN, access.APPLIER, access.WILD)


class World:
    """A rendered release, as it lies on a cluster, with a run under way."""

    def __init__(self, layer: str, values: Mapping[str, Any] | None = None) -> None:
        self.layer = layer
        self.manifests = chart.render(values or access.VALUES[layer], api_versions=KYVERNO)
        self.policies = [manifest for manifest in self.manifests if manifest["kind"] in POLICIES]
        cronjob = next(m for m in of_kind(self.manifests, "CronJob") if m["metadata"]["name"] == "cnpg-pg-dump-backup")
        (claim,) = of_kind(self.manifests, "PersistentVolumeClaim")
        maps = {m["metadata"]["name"]: m for m in of_kind(self.manifests, "ConfigMap")}
        self.place = Place(
            namespace="default",
            elsewhere="elsewhere",
            release="cnpg-backup",
            claim=claim["metadata"]["name"],
            volume="pvc-1",
            cronjob=cronjob,
            job="running",
            pod="running-abcde",
            inspector="looking",
            scripts=next(name for name in maps if "-scripts-" in name),
            config=next(name for name in maps if name.startswith("cnpg-pg-dump-backup-config-")),
        )
        place = self.place
        claim["spec"]["volumeName"] = place.volume
        volume = access.new(
            "persistentvolumes", place.volume, spec={"claimRef": {"namespace": place.namespace, "name": place.claim}}
        )
        inspector = access.workload("pods", place.inspector, access.pod_spec(place.claim))
        claim["metadata"].setdefault("annotations", {})[access.BOUND] = "yes"
        record = access.helm_record(place, "secrets", place.record, "1")
        stands = [claim, cronjob, *maps.values(), access.by_hand(place, place.job), inspector, record]
        stands += [
            access.new("secrets", place.secret, data={"username": "dQ=="}),
            access.new("configmaps", "kube-root-ca.crt"),
        ]
        stands += [*of_kind(self.manifests, "NetworkPolicy"), *of_kind(self.manifests, "ServiceAccount")]
        for resource in ("roles", "rolebindings"):
            made = of_kind(self.manifests, access.RESOURCES[resource][1])
            stands += made or [access.new(resource, "cnpg-backup-operator", rules=[{}], subjects=[{}])]
        stands += [access.job_pod(place, place.pod, place.job)]
        stands += [runs.bare(resource, runs.NEIGHBOUR) for resource in ("jobs", "pods")]
        for manifest in stands:
            manifest["metadata"].setdefault("namespace", place.namespace)
        self.objects = {(m["kind"], m["metadata"]["name"]): m for m in [*stands, volume]}

    def questions(self, who: str, request: Request) -> Iterator[dict[str, Any]]:
        """What each policy that a request concerns is asked."""
        version, kind = access.RESOURCES[request.resource]
        group, _, version = version.rpartition("/")
        old = self.objects.get((kind, request.name))
        if request.operation == "UPDATE" or (request.operation == "DELETE" and request.name):
            assert old, f"there is no {kind} {request.name}"
        if request.operation == "DELETE" and not request.name:
            old = next(m for (k, _), m in self.objects.items() if k == kind)
        asked: Manifest | None = None
        if request.operation == "CREATE":
            assert request.body
            asked = copy.deepcopy(request.body)
            asked["metadata"] |= {"namespace": request.namespace} if request.namespace else {}
            # As the API server does before it asks the policies.
            asked["metadata"]["name"] = asked["metadata"]["name"] or f"{asked['metadata']['generateName']}x5k2p"
        elif request.operation == "UPDATE":
            assert request.change
            asked = copy.deepcopy(old)
            request.change(asked)  # type: ignore[arg-type]
        elif request.operation == "CONNECT":
            asked = {"apiVersion": "v1", "kind": "PodExecOptions"}
        name = access.username(who, self.place)
        pods = [m for (k, _), m in self.objects.items() if k == "Pod"]
        question = {
            "operation": request.operation,
            "resource": {"group": group, "version": version, "resource": request.resource},
            "subresource": request.subresource,
            "namespace": request.namespace,
            "name": request.name or (asked or {}).get("metadata", {}).get("name", ""),
            "user": name,
            "object": asked,
            "oldObject": old if request.operation in ("UPDATE", "DELETE") else None,
            "grants": [f"{name} mount persistentvolumeclaims default/{self.place.claim}"] if who in GRANTED else [],
            "objects": {
                "pods": pods,
                "persistentvolumeclaims": [m for (k, _), m in self.objects.items() if k == "PersistentVolumeClaim"],
            },
        }
        for policy in self.policies:
            if concerns(policy, group, request):
                for params in self.params(policy, pods):
                    yield question | {"policy": f"{policy['kind']} {policy['metadata']['name']}", "params": params}

    def params(self, policy: Manifest, pods: list[Manifest]) -> list[Manifest | None]:
        """What the binding of a policy hands in."""
        kind = policy["spec"].get("paramKind", {}).get("kind")
        if kind == "Pod":
            return list(pods)
        return [self.objects[kind, self.place.claim]] if kind else [None]

    def answers(self, requests: list[tuple[str, Request]]) -> list[list[str]]:
        """For each request what those policies say that refuse it."""
        questions, owners = [], []
        for index, (who, request) in enumerate(requests):
            for question in self.questions(who, request):
                questions.append(question)
                owners.append(index)
        said: list[list[str]] = [[] for _ in requests]
        for owner, verdict in zip(owners, check(self.policies, questions), strict=True):
            assert not verdict["error"], f"{requests[owner]}: {verdict['message']}"
            if not verdict["allowed"]:
                said[owner].append(verdict["message"])
        return said


def concerns(policy: Manifest, group: str, request: Request) -> bool:
    """Whether a policy's rules name what a request is about."""
    constraints = policy["spec"]["matchConstraints"]
    wanted = constraints.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name")
    if wanted not in (None, request.namespace):
        return False
    resource = "/".join(filter(None, (request.resource, request.subresource)))
    if policy["kind"] == "ValidatingPolicy" and resource == "replicasets":
        return False  # Kyverno's own default
    return any(
        group in rule["apiGroups"] and request.operation in rule["operations"] and resource in rule["resources"]
        for rule in constraints["resourceRules"]
    )


def check(policies: list[Manifest], questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The verdicts of tools/policy-check."""
    done = subprocess.run(
        [chart.pinned("policy-check")],
        input=json.dumps({"policies": policies, "cases": questions}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        # It ends before the memory that it leaves behind matters: as for Helm, in tests.lab.chart.
        env=os.environ | {"GOGC": "400"},
    )
    assert done.returncode == 0, done.stderr
    verdicts: list[dict[str, Any]] = json.loads(done.stdout)
    return verdicts


@pytest.fixture(scope="module", params=access.LAYERS)
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


@pytest.mark.parametrize("part", ["attempt", "open", "legitimate"])
def test_every_case_of_the_table_is_judged_as_it_says(world: World, part: str) -> None:
    layer = world.layer
    asked: list[Case] = [case for case in access.cases()[part] if not case.rbac]
    said = world.answers([(case.who, case.ask(world.place)) for case in asked])
    wrong = []
    for case, messages in zip(asked, said, strict=True):
        if bool(messages) != access.refuses(case, layer):
            wrong.append(f"{access.title(case)}: {messages or 'admitted'}")
    assert not wrong, "\n".join(wrong)


def test_refusals_say_who_asked_for_what_and_what_would_allow_it(world: World) -> None:
    layer = world.layer
    asked = [case for case in access.attempts() if access.refuses(case, layer)]
    said = world.answers([(case.who, case.ask(world.place)) for case in asked])
    for case, messages in zip(asked, said, strict=True):
        for message in messages:
            assert "claim cnpg-backups-pvc in namespace default" in message, f"{access.title(case)}: {message}"
            if layer != "label":
                request = case.ask(world.place)
                who = access.username(case.who, world.place)
                assert message.startswith(f"{who} asks to {request.operation.lower()} {request.resource}"), message
                assert case.reason in message, f"{access.title(case)}: {message}"
                if who.startswith("system:serviceaccount:kube-system:"):
                    assert "--role" not in message, f"Kubernetes itself must not get the grant: {message}"
                    assert "accessPolicy." in message or "docs/security.md" in message, message
                else:
                    assert f"--role=cnpg-backup-operator --user={who}" in message, message


def test_the_weak_mode_is_the_same_in_the_built_in_engine() -> None:
    world = World("label", {"accessPolicy": {"mode": "weak-label", "kyverno": {"enabled": False}}})
    assert [policy["kind"] for policy in world.policies] == ["ValidatingAdmissionPolicy"]
    asked = [case for part in access.cases().values() for case in part if not case.rbac]
    said = world.answers([(case.who, case.ask(world.place)) for case in asked])
    # Kyverno leaves ReplicaSets out; what it then refuses is the pod.
    refused = [access.refuses(case, "label") or "label" in case.later for case in asked]
    assert [bool(messages) for messages in said] == refused


GRANTING = ["builtin", "kyverno"]


@pytest.fixture(scope="module", params=GRANTING)
def strong(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def on(world: World, thing: tuple[str, Manifest]) -> tuple[str, Request]:
    """The creation of a generated object by the dev."""
    return access.DEV, access.create(world.place, thing[1])


@settings(max_examples=3, deadline=None)
@given(data=st.data())
def test_no_generated_pod_mounts_the_claim_and_every_other_is_admitted(strong: World, data: st.DataObject) -> None:
    into = data.draw(st.lists(mounting(strong.place.claim), min_size=20, max_size=20))
    beside = data.draw(st.lists(without(), min_size=10, max_size=10))
    skipped = "replicasets" if strong.layer == "kyverno" else ""
    into = [thing for thing in into if thing[0] != skipped]
    said = strong.answers([on(strong, thing) for thing in (*into, *beside)])
    for thing, messages in zip((*into, *beside), said, strict=True):
        assert bool(messages) == (thing in into), f"{messages or 'admitted'}: {json.dumps(thing)}"


# Each name that the expressions read, and what a slip of the finger would make of it.
SLIPS = (
    *("spec", "template", "jobTemplate", "volumes", "persistentVolumeClaim", "claimName", "ephemeral"),
    *("volumeClaimTemplate", "volumeClaimTemplates", "dataSource", "dataSourceRef", "kind", "name", "metadata"),
    *("ownerReferences", "controller", "serviceAccountName", "labels", "containers", "initContainers", "image"),
    *("username", "operation", "resource", "subResource", "allowed", "data", "source", "persistentVolumeClaimName"),
    *("volumeName", "claimRef", "csi", "volumeHandle", "volumeSnapshotRef", "namespace"),
    *("annotations", "rules", "subjects", "binaryData", "immutable"),
    *("command", "args", "env", "envFrom", "lifecycle", "livenessProbe", "volumeMounts", "mountPath"),
    *("value", "hostPID", "hostNetwork", "shareProcessNamespace", "configMap", "emptyDir"),
)


@pytest.mark.long
def test_a_misspelt_name_in_an_expression_is_found() -> None:
    """The table is complete enough that no name in an expression can change unnoticed."""
    worlds = [World(layer) for layer in GRANTING]
    asked = [case for part in access.cases().values() for case in part if not case.rbac]
    unnoticed = []
    for name in SLIPS:
        read = 0
        for world in worlds:
            whole = world.policies
            slipped = [_misspell(policy, name) for policy in copy.deepcopy(whole)]
            if slipped == whole:
                continue
            read += 1
            world.policies = slipped
            try:
                said = world.answers([(case.who, case.ask(world.place)) for case in asked])
            except AssertionError:
                continue  # it does not compile, or fails when it is evaluated
            finally:
                world.policies = whole
            if all(bool(m) == access.refuses(c, world.layer) for c, m in zip(asked, said, strict=True)):
                unnoticed.append(f"{name} ({world.layer})")
        assert read, f"no expression reads {name}"
    assert not unnoticed, f"no case of the table notices another name for {', '.join(unnoticed)}"


def _misspell(policy: Manifest, name: str) -> Manifest:
    pattern = re.compile(rf"(?<=[.?]){name}\b|\b{name}(?=[.(])")
    for part in ("matchConditions", "variables", "validations"):
        for entry in policy["spec"].get(part, []):
            entry["expression"] = pattern.sub(f"{name}s", entry["expression"])
    return policy


def test_runs_of_every_cronjob_of_the_release_go_on_and_no_others(strong: World) -> None:
    values = {
        "databases": [
            {"name": "a", "cluster": "a"},
            {"name": "b", "cluster": "b", "image": {"tag": "17-alpine"}},
            {"name": "c", "cluster": "c", "image": {"tag": "17.6-alpine3.22"}},
        ]
    }
    manifests = chart.render(access.VALUES[strong.layer] | values, api_versions=KYVERNO)
    policies = [manifest for manifest in manifests if manifest["kind"] in POLICIES]
    cronjobs = of_kind(manifests, "CronJob")
    assert len(cronjobs) >= 3
    strong = copy.copy(strong)
    strong.policies = policies
    asked: list[tuple[str, Request]] = []
    for cronjob in [*cronjobs, {**cronjobs[0], "metadata": {"name": "stranger"}}]:
        place = dataclasses.replace(strong.place, cronjob=cronjob)
        job = access.by_hand(place, "scheduled")
        job["metadata"]["ownerReferences"][0]["controller"] = True
        asked.append((access.CRONJOBS, access.create(place, job)))
    *runs, stranger = strong.answers(asked)
    for cronjob, said in zip(cronjobs, runs, strict=True):
        assert not said, f"add {cronjob['metadata']['name']} to cnpg-backup.runNames of _databases.tpl: {said}"
    assert stranger, "the runs of any CronJob mount the claim"
    guarded = [m["metadata"]["name"] for m in of_kind(manifests, "ConfigMap")]
    replacing = [(access.DEV, access.create(strong.place, access.new("configmaps", name))) for name in guarded]
    for name, said in zip(guarded, strong.answers(replacing), strict=True):
        assert said, f"ConfigMap {name} may be replaced: celStorage of _access-cel.tpl does not know it"


CONTROLLERS = {"accessPolicy": {"controllers": {"job": ["all-in-one"], "cronJob": ["all-in-one"]}}}


@pytest.mark.parametrize("layer", GRANTING)
def test_controllers_of_other_names_and_exceptions_are_named_by_values(layer: str) -> None:
    values = chart.merge(access.VALUES[layer], CONTROLLERS, {"accessPolicy": {"exceptions": []}})
    world = World(layer, values)
    run = next(case for case in access.legitimate() if case.who == access.CRONJOBS).ask(world.place)
    pod = next(case for case in access.legitimate() if case.who == access.JOBS).ask(world.place)
    enter = access.connect(world.place, world.place.pod, "exec")
    asked = [
        (access.CRONJOBS, run),
        (access.JOBS, pod),
        ("all-in-one", run),
        ("all-in-one", pod),
        (access.MOVER, enter),
    ]
    assert [bool(said) for said in world.answers(asked)] == [True, True, False, False, True]


@pytest.mark.parametrize("layer", GRANTING)
def test_another_release_in_another_namespace_guards_its_own_claim(layer: str) -> None:
    manifests = chart.render(access.VALUES[layer], "nightly", "other", KYVERNO)
    policies = [manifest for manifest in manifests if manifest["kind"] in POLICIES]
    text = json.dumps(policies)
    assert "cnpg-backups-pvc" not in text
    assert "nightly-backups" in text
    ours = {p["metadata"]["name"] for p in World(layer).policies}
    assert not ours & {p["metadata"]["name"] for p in policies}, "two releases would fight over one policy"


def test_what_mounts_the_claim_is_said_once_for_both_engines() -> None:
    """One expression, word for word, so that no engine knows a way that the other does not."""
    said = []
    for layer in GRANTING:
        for policy in World(layer).policies:
            entries = [*policy["spec"].get("matchConditions", []), *policy["spec"]["variables"]]
            said += [" ".join(entry["expression"].split()) for entry in entries if entry["name"].startswith("mounts")]
    assert len(said) == 4
    short = min(said, key=len).split(".exists(o,", 1)[1].strip().removesuffix(")")
    assert "ephemeral" in short
    assert all(short in text for text in said)


def test_record_says_what_was_made_and_why_not() -> None:
    def record(values: Mapping[str, Any], seen: Sequence[str] = ()) -> dict[str, str]:
        maps = of_kind(chart.render(values, api_versions=seen), "ConfigMap")
        found: dict[str, str] = next(m["data"] for m in maps if m["metadata"]["name"] == "cnpg-backup-access")
        return found

    plain = record({})
    assert plain["mode"] == "grant"
    assert plain["claim"] == "default/cnpg-backups-pvc"
    assert "restrict-cnpg-backup-pvc-access" in plain["builtin"]
    assert (
        plain["kyverno"]
        == "not made: the cluster, as Helm saw it, does not serve policies.kyverno.io/v1 ValidatingPolicy"
    )
    assert "ValidatingPolicy restrict-cnpg-backup-pvc-access" in record({}, KYVERNO)["kyverno"]
    off = record({"accessPolicy": {"enabled": False}}, KYVERNO)
    assert off["mode"] == "none"
    assert off["builtin"] == off["kyverno"] == "not made: accessPolicy.enabled is false"
    weak = record(access.VALUES["label"], KYVERNO)
    assert weak["mode"] == "weak-label"
    assert weak["builtin"] == "not made: accessPolicy.builtin.enabled is false"
    assert "label app=cnpg-backup is enough" in weak["grant"]


def test_helm_test_mounts_what_its_check_reads_and_the_claim_to_try_a_file() -> None:
    """Its pod is made with an administrator's rights, so it has neither a token nor more than a dump has."""
    (pod,) = of_kind(chart.render({}), "Pod")
    spec = pod["spec"]
    (container,) = spec["containers"]
    assert "initContainers" not in spec
    mounts = {m["name"]: m.get("readOnly", False) for m in container["volumeMounts"]}
    readable = dict.fromkeys(("scripts", "config", "credentials"), True)
    assert mounts == {"backups": False, "run": False, "results": False, **readable}
    assert {volume["name"] for volume in spec["volumes"]} == set(mounts)
    assert spec["automountServiceAccountToken"] is False
    (credentials,) = [v["projected"]["sources"] for v in spec["volumes"] if v["name"] == "credentials"]
    secrets = {source["secret"]["name"] for source in credentials}
    assert all(name.endswith(("-app", "-ca")) for name in secrets), "a check needs neither owners nor superusers"
