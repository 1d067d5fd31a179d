"""Who reaches the claim: every case of tests/lab/access/, asked of a real API server by impersonated people.

Five releases stand side by side: with no policy, with the label rule alone, with each engine alone, and with both.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e import access_table
from tests.e2e.node import Cluster, Node, NodeError, wait_until
from tests.e2e.node.addons import (
    CNPG_DEPLOYMENT,
    CNPG_NAMESPACE,
)
from tests.e2e.outages import kyverno_out, kyverno_switched_off
from tests.e2e.release import Release, cnpg_cluster
from tests.lab import access, chart
from tests.lab.access import Case, Manifest, Place, Request
from tests.lab.pods import mounting, without

pytestmark = pytest.mark.e2e

LAYERS = tuple(access.VALUES)
STRONG = ("builtin", "kyverno", "both")
ROLES: Mapping[str, tuple[str, ...]] = {
    access.DEV: ("edit", "snapshots"),
    access.PODS: ("pods",),
    access.OWN: ("edit", "snapshots"),
    access.CHIEF: ("admin",),
    access.OPERATOR: ("edit",),
    access.MOVER: ("edit",),
    access.WILD: ("everything",),
    access.PARTS: ("parts",),
    access.VIEW: ("view",),
    access.EXECUTOR: ("edit",),
}
BELOW_PODS = (
    *("attach", "binding", "ephemeralcontainers", "eviction", "exec", "log", "portforward", "proxy", "resize"),
    "status",
)
RULES: Mapping[str, list[dict[str, Any]]] = {
    "everything": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}],
    "snapshots": [
        {"apiGroups": ["snapshot.storage.k8s.io", "groupsnapshot.storage.k8s.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods/ephemeralcontainers", "podtemplates"], "verbs": ["*"]},
    ],
    "pods": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}],
    "parts": [
        {"apiGroups": [""], "resources": ["pods", *(f"pods/{part}" for part in BELOW_PODS)], "verbs": ["*"]},
        {"apiGroups": ["batch"], "resources": ["*"], "verbs": ["*"]},
    ],
    "storage": [
        {"apiGroups": [""], "resources": ["persistentvolumes"], "verbs": ["*"]},
        {"apiGroups": ["snapshot.storage.k8s.io"], "resources": ["*"], "verbs": ["*"]},
    ],
}
NOTHING: Mapping[str, str] = {}
UPGRADE: Mapping[str, str] = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "c2l4dGVlbiBieXRlcyAhIQ==",
    "Sec-WebSocket-Protocol": "v5.channel.k8s.io",
}
SWITCHED = 101
EVERY_MINUTE = "* * * * *"
# It waits for a server that there is not: a run that lasts.
DATABASES = [{"name": "ghost", "cluster": "ghost", "waitTimeout": 3000}]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said to a request.

    Attributes:
        by: `policy` or `rbac` refused it, it was `admitted`, or it was `invalid` for any other reason.
        message: What was said, in one line.
    """

    by: str
    message: str = ""


@dataclass
class Site:
    """A release, with a run under way and an operator's inspector pod."""

    cluster: Cluster
    layer: str
    release: Release
    place: Place
    policies: tuple[str, ...]
    answers: dict[str, Answer] = field(default_factory=dict)

    def ask(self, who: str, request: Request, *, dry: bool = True) -> Answer:
        """Ask the API server for something in somebody's name; without `dry` it is done."""
        if request.operation == "IMPERSONATE":
            return self._impersonates(who, request)
        version, _ = access.RESOURCES[request.resource]
        base = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        path = base + (f"/namespaces/{request.namespace}" if request.namespace else "") + f"/{request.resource}"
        path += f"/{quote(request.name, safe=':')}" if request.name else ""
        path += f"/{request.subresource}" if request.subresource else ""
        options = {"dryRun": "All"} if dry else {}
        method, body = (
            {"CREATE": "POST", "UPDATE": "PUT", "DELETE": "DELETE", "CONNECT": "POST"}[request.operation],
            None,
        )
        if request.operation == "CONNECT":
            options = {
                "exec": {"command": "true", "stdout": "true"},
                "attach": {"stdout": "true"},
                "portforward": {"ports": "8080"},
                "proxy": {},
            }[request.subresource]
            method = "GET" if request.subresource == "proxy" or request.upgrade else method
        elif request.operation == "UPDATE":
            assert request.change
            status, text = self._call("GET", path.removesuffix("/ephemeralcontainers").removesuffix("/resize"))
            assert status == 200, f"{path}: {text}"
            body = json.loads(text)
            for key in ("resourceVersion", "managedFields"):
                body["metadata"].pop(key, None)
            request.change(body)
        elif request.operation == "CREATE":
            body = request.body
        more = UPGRADE if request.upgrade else {}
        if request.manager:
            assert body
            path += "" if request.name else f"/{body['metadata']['name']}"
            method, more, body = "PATCH", {"Content-Type": "application/apply-patch+yaml"}, json.dumps(body)
            options |= {"fieldManager": request.manager, "force": "true"}
        user = access.username(who, self.place)
        status, message = self._call(method, f"{path}?{urlencode(options)}", body, user, more)
        return self._judged(request, status, message)

    def _impersonates(self, who: str, request: Request) -> Answer:
        """Whether somebody may act as someone else, which the API server decides before it looks at the request."""
        of = {"resource": request.resource, "namespace": request.namespace, "name": request.name}
        user = {"user": access.username(who, self.place), "groups": ["system:authenticated"]}
        spec = {**user, "resourceAttributes": {"verb": "impersonate", **of}}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        status, text = self._call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        assert status == 201, text
        return Answer("admitted" if json.loads(text)["status"]["allowed"] else "rbac")

    def _call(
        self, method: str, path: str, body: Any = None, user: str = "", more: Mapping[str, str] = NOTHING
    ) -> tuple[int, str]:
        """Status and body of an answer."""
        api = self.cluster.client
        headers = {"Accept": "application/json", "Content-Type": "application/json", **more}
        headers |= {"Impersonate-User": user} if user else {}
        api.update_params_for_auth(headers, [], ["BearerToken"])
        response = api.rest_client.pool_manager.request(
            method, api.configuration.host + path, headers=headers, timeout=30, preload_content=False,
            body=body if body is None or isinstance(body, str) else json.dumps(body),
        )  # fmt: skip
        if response.status == SWITCHED:
            response.close()  # what follows is no answer to another request
            return SWITCHED, ""
        return int(response.status), (response.read() or b"").decode(errors="replace")

    def _judged(self, request: Request, status: int, body: str) -> Answer:
        if status < 300:
            return Answer("admitted")
        try:
            message = " ".join(str(json.loads(body)["message"]).split())
        except (ValueError, KeyError, TypeError):
            message = body
        if any(policy in message for policy in self.policies) or "failed calling webhook" in message:
            return Answer("policy", message)
        if status == 403:
            return Answer("rbac", message)
        # It is there already, or it takes more than a plain request to get on: admission has let it pass.
        if status == 409 or request.operation == "CONNECT":
            return Answer("admitted", message)
        return Answer("invalid", f"{status}: {message}")

    def kubectl(self, who: str, *arguments: str) -> str:
        """Run kubectl in somebody's name."""
        return self.cluster.kubectl("--as", access.username(who, self.place), "-n", self.release.namespace, *arguments)

    def schedule(self, schedule: str) -> None:
        """Give the CronJob another schedule."""
        patch = json.dumps({"spec": {"schedule": schedule}})
        where = ("-n", self.release.namespace, "--type=merge", "-p", patch)
        self.cluster.kubectl("patch", "cronjob", self.place.cronjob_name, *where)

    def wait_for_run(self, before: set[str]) -> None:
        """Wait until the schedule has started another run, and take its Job and pod for those of the cases."""
        wait_until(f"{self.layer}: the CronJob has made a Job", lambda: bool(self.jobs() - before), 100)
        (job,) = self.jobs() - before
        self.place = dataclasses.replace(self.place, job=job)
        wait_until(f"{self.layer}: the Job's pod runs", lambda: bool(self.running(job)), 120)
        self.place = dataclasses.replace(self.place, pod=self.running(job))

    def jobs(self) -> set[str]:
        """Names of the Jobs that the CronJob's controller has made."""
        jobs = self.cluster.get("jobs", "-n", self.release.namespace)["items"]
        mark = "batch.kubernetes.io/cronjob-scheduled-timestamp"
        return {job["metadata"]["name"] for job in jobs if mark in job["metadata"].get("annotations", {})}

    def running(self, job: str) -> str:
        """Name of the pod of a Job that runs, or nothing."""
        for pod in self.cluster.get("pods", "-n", self.release.namespace, "-l", f"job-name={job}")["items"]:
            states = pod["status"].get("initContainerStatuses", [])
            if "deletionTimestamp" not in pod["metadata"] and any("running" in s["state"] for s in states):
                return str(pod["metadata"]["name"])
        return ""

    def stranger(self) -> Answer:
        """What is said to a pod of the dev's with the claim and no label."""
        return self.ask(
            access.DEV,
            access.create(self.place, access.workload("pods", "stranger", access.pod_spec(self.place.claim))),
        )

    def wait_for_guard(self) -> None:
        """Wait until a stranger is refused by a policy, and not for want of an engine."""
        if self.layer != "none":
            wait_until(
                f"{self.layer}: a stranger is refused",
                lambda: self.stranger().by == "policy" and "failed calling" not in self.stranger().message,
                60,
            )
        if self.layer in STRONG:
            enter = access.connect(self.place, self.place.inspector, "exec")
            wait_until(
                f"{self.layer}: a stranger is kept out of pods", lambda: self.ask(access.DEV, enter).by == "policy", 60
            )


@pytest.fixture(scope="module")
def sites(node: Cluster) -> Iterator[dict[str, Site]]:
    """The five releases by their layer, each with a run that its own schedule has started."""
    with ExitStack() as stack:
        elsewhere = stack.enter_context(node.namespace("elsewhere"))
        spaces = {layer: stack.enter_context(node.namespace(f"access-{layer}")) for layer in LAYERS}
        stack.enter_context(rights(node, spaces, elsewhere))
        snapshot_kinds(node)
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda layer: stand(node, layer, spaces[layer], elsewhere), LAYERS))
        with ThreadPoolExecutor(len(found)) as pool:
            list(pool.map(begin, found))
        yield {site.layer: site for site in found}
        for site in found:
            node.try_kubectl("delete", "-n", site.release.namespace, "cronjobs,jobs,pods", "--all", "--grace-period=1")
            try:
                site.release.uninstall()
            except NodeError as error:
                if "not found" not in str(error):
                    raise


@contextmanager
def rights(cluster: Cluster, spaces: Mapping[str, str], elsewhere: str) -> Iterator[None]:
    """Give everybody their rights, and take those on the whole cluster away afterwards."""
    group = "rbac.authorization.k8s.io"

    def binding(kind: str, name: str, role: tuple[str, str], user: str) -> Manifest:
        subject = {"kind": "User", "apiGroup": group, "name": user}
        return {
            "apiVersion": f"{group}/v1",
            "kind": kind,
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": role[0], "name": role[1]},
            "subjects": [subject],
        }

    mark = elsewhere
    cluster_wide: list[Manifest] = [
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": f"{mark}-{name}"}, "rules": rules}
        for name, rules in RULES.items()
    ]
    admin = ("ClusterRole", "cluster-admin")
    applier = "system:serviceaccount:argocd:argocd-application-controller"
    cluster_wide += [
        binding("ClusterRoleBinding", f"{mark}-admin", admin, access.ADMIN),
        binding("ClusterRoleBinding", f"{mark}-applier", admin, applier),
        binding("ClusterRoleBinding", f"{mark}-storage", ("ClusterRole", f"{mark}-storage"), access.STORAGE),
    ]
    cluster.apply(*cluster_wide)
    for namespace in (*spaces.values(), elsewhere):
        made = []
        for who, roles in ROLES.items():
            account = {access.OWN: "cnpg-backup", access.EXECUTOR: access.ACCOUNT}.get(who)
            user = f"system:serviceaccount:{namespace}:{account}" if account else who
            for role in roles:
                name = f"{mark}-{role}" if role in RULES else role
                made.append(binding("RoleBinding", f"{who}-{role}", ("ClusterRole", name), user))
        cluster.apply(*made, namespace=namespace)
    try:
        yield
    finally:
        for manifest in cluster_wide:
            cluster.try_kubectl("delete", manifest["kind"], manifest["metadata"]["name"], "--wait=false")


def snapshot_kinds(cluster: Cluster) -> None:
    """Serve the kinds of the snapshot add-on where it is missing: no snapshot is made, but the request is judged."""
    for resource in access.SNAPSHOTS:
        group, _, version = access.RESOURCES[resource][0].partition("/")
        kind = access.RESOURCES[resource][1]
        name = f"{resource}.{group}"
        if not cluster.owned or cluster.try_kubectl("get", "crd", name).returncode == 0:
            continue
        anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        crd = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": name,
                "annotations": {
                    "api-approved.kubernetes.io": "https://github.com/kubernetes-csi/external-snapshotter/pull/139"
                },
            },
            "spec": {
                "group": group,
                "scope": "Cluster" if resource.endswith("contents") else "Namespaced",
                "names": {"plural": resource, "singular": kind.lower(), "kind": kind},
                "versions": [
                    {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}
                ],
            },
        }
        cluster.apply(crd)
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")


def stand(cluster: Cluster, layer: str, namespace: str, elsewhere: str) -> Site:
    """Install a release of a layer."""
    secrets = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "ghost-app"},
            "stringData": {"username": "u", "password": "p"},
        },
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ghost-ca"}, "stringData": {"ca.crt": "none"}},
    ]
    accounts = [access.new("serviceaccounts", name) for name in ("another", access.ACCOUNT)]
    cluster.apply(*secrets, *accounts, namespace=namespace)
    if layer not in STRONG:
        # What the other layers have of the chart, so that everybody asks for the same everywhere.
        grant = {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["mount"]}
        group = "rbac.authorization.k8s.io"
        role = {"apiGroup": group, "kind": "Role", "name": "cnpg-backup-operator"}
        binding = access.new(
            "rolebindings",
            role["name"],
            roleRef=role,
            subjects=[{"kind": "User", "apiGroup": group, "name": access.OPERATOR}],
        )
        cluster.apply(access.new("roles", role["name"], rules=[grant]), binding, namespace=namespace)
    release = Release(cluster, namespace)
    operators = {"accessPolicy": {"operators": [{"kind": "User", "name": access.OPERATOR}]}}
    # Longer than the tests take: what ends the run is its deadline.
    values = {"databases": DATABASES, "persistence": {"size": "32Mi"}, "monitoring": {"enabled": True, "events": True}}
    release.install(chart.merge(values, access.VALUES[layer], operators if layer in STRONG else {}))
    maps = [m["metadata"]["name"] for m in cluster.get("configmaps", "-n", namespace, "-l", "app=cnpg-backup")["items"]]
    record = cluster.get("configmap", "cnpg-backup-access", "-n", namespace)["data"]
    place = Place(
        namespace=namespace,
        elsewhere=elsewhere,
        release="cnpg-backup",
        claim=release.claim,
        volume="",
        cronjob=cluster.get("cronjob", release.cronjob, "-n", namespace),
        job="",
        pod="",
        inspector="looking-around",
        scripts=next(name for name in maps if "-scripts-" in name),
        config=next(name for name in maps if name.startswith(f"{release.cronjob}-config-")),
    )
    words = f"{record['builtin']} {record['kyverno']}".replace(",", " ").split()
    return Site(cluster, layer, release, place, tuple(word for word in words if word.startswith("restrict-")))


def begin(site: Site) -> None:
    """The schedule fires, an operator looks around on the volume, and the policies are at work."""
    # What Helm has set: with another value, the next upgrade would meet a conflict.
    before = site.place.cronjob["spec"]["schedule"]
    site.schedule(EVERY_MINUTE)
    site.wait_for_run(set())
    site.schedule(before)
    labels = {"app": site.place.release} if site.layer == "label" else {}
    pod = access.workload("pods", site.place.inspector, access.pod_spec(site.place.claim), labels)
    answer = site.ask(access.OPERATOR, access.create(site.place, pod), dry=False)
    assert answer.by == "admitted", f"{site.layer}: {answer}"
    where = ("-n", site.release.namespace)
    site.cluster.kubectl(
        "wait", "--for=condition=Ready", f"pod/{site.place.inspector}", *where, "--timeout=90s", seconds=100
    )
    claim = site.cluster.get("pvc", site.place.claim, *where)
    site.place = dataclasses.replace(site.place, volume=claim["spec"]["volumeName"])
    site.place = dataclasses.replace(site.place, cronjob=site.cluster.get("cronjob", site.place.cronjob_name, *where))
    site.wait_for_guard()


@pytest.fixture(params=LAYERS)
def site(request: pytest.FixtureRequest, sites: dict[str, Site]) -> Site:
    return sites[request.param]


@pytest.fixture(params=STRONG)
def strong(request: pytest.FixtureRequest, sites: dict[str, Site]) -> Site:
    return sites[request.param]


def expected(case: Case, layer: str) -> str:
    """Who refuses a case, or that it is admitted."""
    return "rbac" if case.rbac else "policy" if access.refuses(case, layer) else "admitted"


@pytest.mark.parametrize("part", ["attempt", "open", "legitimate"])
def test_every_case_of_the_table_is_answered_as_it_says(site: Site, part: str, request: pytest.FixtureRequest) -> None:
    asked = [case for case in access.cases()[part] if case.made]
    if not site.cluster.owned:
        served = site.cluster.kubectl("api-resources", "-o", "name")
        asked = [c for c in asked if c.ask(site.place).resource in served]
    answers = {access.title(case): site.ask(case.who, case.ask(site.place)) for case in asked}
    wrong = []
    for case in asked:
        answer = answers[access.title(case)]
        if answer.by != expected(case, site.layer):
            wrong.append(f"{access.title(case)}: {answer.by}, not {expected(case, site.layer)}: {answer.message}")
        if answer.by == "policy":
            wrong += [f"{access.title(case)}: {flaw}" for flaw in flaws(site, case, answer.message)]
    assert not wrong, "\n".join(wrong)
    counts = Counter(answers[access.title(case)].by for case in asked)
    access_table.answered(request.node, site.layer, part, counts)
    print(f"{site.layer}: {len(asked)} {part}s: {dict(counts)}")
    if site.layer in STRONG and part == "attempt":
        people = [case for case in asked if case.who not in (access.STORAGE, access.JOBS)]
        got_in = [c for c in people if answers[access.title(c)].by == "admitted" and site.layer not in c.later]
        assert [access.title(case) for case in got_in] == []


def flaws(site: Site, case: Case, message: str) -> Iterator[str]:
    """What a refusal fails to say: the claim, what was asked, and what would allow it."""
    request, user = case.ask(site.place), access.username(case.who, site.place)
    wanted = [f"claim {site.place.claim} in namespace {site.place.namespace}"]
    if site.layer in STRONG:
        wanted += [f"{user} asks to {request.operation.lower()} {request.resource}", case.reason]
        if case.who == access.JOBS:
            wanted += ["Kubernetes itself must never get", "accessPolicy."]
        else:
            wanted += [f"--namespace={site.place.namespace} --role=cnpg-backup-operator --user={user}"]
    yield from (f"{message!r} lacks {words!r}" for words in wanted if words not in message)


@pytest.mark.shows("allow")
def test_label_alone_lets_a_stranger_read_the_dumps(sites: dict[str, Site]) -> None:
    """Why the document's own rule is not enough."""
    site = sites["label"]
    site.kubectl(
        access.OPERATOR, "exec", site.place.inspector, "--", "sh", "-c", "echo all of it >/backups/secret.dump"
    )
    pod = access.workload("pods", "thief", access.pod_spec(site.place.claim), {"app": site.place.release})
    assert site.ask(access.DEV, access.create(site.place, pod), dry=False).by == "admitted"
    where = ("-n", site.release.namespace)
    site.cluster.kubectl("wait", "--for=condition=Ready", "pod/thief", *where, "--timeout=60s")
    assert site.kubectl(access.DEV, "exec", "thief", "--", "cat", "/backups/secret.dump") == "all of it\n"


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_generated_pod_mounts_the_claim(strong: Site, data: st.DataObject) -> None:
    _, manifest = data.draw(mounting(strong.place.claim))
    if strong.layer == "kyverno" and manifest["kind"] == "ReplicaSet":
        return  # left out by Kyverno itself; what it makes is a pod
    answer = strong.ask(access.DEV, access.create(strong.place, manifest))
    assert answer.by == "policy", f"{answer}: {json.dumps(manifest)}"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_generated_pod_without_the_claim_is_admitted(strong: Site, data: st.DataObject) -> None:
    _, manifest = data.draw(without())
    answer = strong.ask(access.DEV, access.create(strong.place, manifest))
    assert answer.by == "admitted", f"{answer}: {json.dumps(manifest)}"


def test_replicaset_that_kyverno_leaves_out_gets_no_pod(sites: dict[str, Site]) -> None:
    site = sites["kyverno"]
    manifest = access.workload("replicasets", "sneaky", access.pod_spec(site.place.claim), {"app": site.place.release})
    assert site.ask(access.DEV, access.create(site.place, manifest), dry=False).by == "admitted"

    def refused() -> bool:
        events = site.cluster.get("events", "-n", site.release.namespace, "--field-selector", "reason=FailedCreate")
        return any("mounts the claim" in event["message"] for event in events["items"])

    wait_until("the ReplicaSet's controller is refused", refused, 30)
    site.cluster.kubectl("delete", "replicaset", "sneaky", "-n", site.release.namespace)


def test_watcher_runs_beside_the_backups_and_gets_no_pod_with_the_claim(strong: Site) -> None:
    """All attempts are made with it there; it is one more Deployment that people of the namespace may change."""
    name, where = "cnpg-backup-status", ("-n", strong.release.namespace)
    strong.cluster.kubectl("rollout", "status", f"deployment/{name}", *where, "--timeout=120s", seconds=130)

    def mount(deployment: Manifest) -> None:
        spec = deployment["spec"]["template"]["spec"]
        spec["volumes"].append({"name": "backups", "persistentVolumeClaim": {"claimName": strong.place.claim}})
        spec["containers"][0]["volumeMounts"].append({"name": "backups", "mountPath": "/backups"})

    request = Request("UPDATE", "deployments", strong.place.namespace, name, change=mount)
    assert strong.ask(access.DEV, request).by == "policy"
    (pod,) = strong.cluster.get("pods", *where, "-l", "app.kubernetes.io/component=status")["items"]
    assert "persistentVolumeClaim" not in json.dumps(pod["spec"])
    watcher = f"system:serviceaccount:{strong.place.namespace}:{name}"
    for verb, resource in (("create", "pods"), ("mount", "persistentvolumeclaims"), ("get", "secrets")):
        allowed = strong.cluster.try_kubectl("auth", "can-i", verb, resource, f"--as={watcher}", *where)
        assert allowed.stdout.strip() == "no", f"the watcher may {verb} {resource}"


def test_cluster_that_would_recover_from_the_claim_gets_no_copy_of_it(sites: dict[str, Site]) -> None:
    """A kind that the policy does not name is judged by what its operator makes."""
    site = sites["both"]
    source = {"name": site.place.claim, "kind": "PersistentVolumeClaim", "apiGroup": ""}
    cluster = cnpg_cluster("thief", "thief", bootstrap={"recovery": {"volumeSnapshots": {"storage": source}}})
    site.cluster.apply(cluster, namespace=site.release.namespace)
    log = ("logs", f"deployment/{CNPG_DEPLOYMENT}", "-n", CNPG_NAMESPACE, "--since=2m")
    refused = f"which is, copies or controls the claim {site.place.claim} in namespace {site.release.namespace}"
    wait_until("the operator is refused", lambda: refused in site.cluster.kubectl(*log), 60)
    claims = site.cluster.get("pvc", "-n", site.release.namespace)["items"]
    assert [claim["metadata"]["name"] for claim in claims] == [site.place.claim]
    site.cluster.kubectl("delete", "cluster", "thief", "-n", site.release.namespace)


def test_what_has_to_go_on_goes_on(sites: dict[str, Site]) -> None:
    """By the real controllers and kubelet: an evicted pod's successor, a run by hand, collection, a look inside."""
    with ThreadPoolExecutor(len(sites)) as pool:
        list(pool.map(go_on, sites.values()))


def go_on(site: Site) -> None:
    """Evict the backup pod, run a backup by hand, delete it, and look at the volume."""
    where = ("-n", site.release.namespace)
    evicted = site.place.pod
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": evicted, "namespace": where[1]}}
    path = f"/api/v1/namespaces/{where[1]}/pods/{evicted}/eviction"
    site.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    wait_until("the evicted pod has a successor", lambda: site.running(site.place.job) not in ("", evicted), 90)
    site.place = dataclasses.replace(site.place, pod=site.running(site.place.job))

    site.kubectl(access.OPERATOR, "create", "job", f"--from=cronjob/{site.place.cronjob_name}", "cnpg-backup-manual")
    wait_until("the run by hand has a pod", lambda: bool(site.running("cnpg-backup-manual")), 60)
    manual = site.running("cnpg-backup-manual")
    site.kubectl(access.OPERATOR, "delete", "job", "cnpg-backup-manual", "--wait=false")
    wait_until(
        "its pod is collected", lambda: site.cluster.try_kubectl("get", "pod", manual, *where).returncode != 0, 90
    )
    assert "backups" in site.kubectl(access.OPERATOR, "exec", site.place.inspector, "--", "ls", "-d", "/backups")


ADDING: Manifest = {
    "apiVersion": "kyverno.io/v1",
    "kind": "Policy",
    "metadata": {"name": "adds-a-container"},
    "spec": {
        "rules": [
            {
                "name": "adds-a-container",
                "match": {
                    "any": [{"resources": {"kinds": ["Pod"], "selector": {"matchLabels": {"app": "cnpg-backup"}}}}]
                },
                "mutate": {
                    "patchStrategicMerge": {
                        "spec": {
                            "containers": [
                                {
                                    "name": "extra",
                                    "image": "localhost/busybox:test",
                                    "command": ["sh", "-c", "ls /backups"],
                                    "volumeMounts": [{"name": "backups", "mountPath": "/backups"}],
                                }
                            ]
                        }
                    }
                },
            }
        ]
    },
}
"""What an administrator of a namespace may write: Kyverno gives the role `admin` this kind."""


def test_policy_of_a_namespace_administrator_adds_nothing_to_a_run(sites: dict[str, Site]) -> None:
    """The Job's controller asks for the pod, and Kyverno has changed it: by the real ones."""
    with ThreadPoolExecutor(len(sites)) as pool:
        list(pool.map(add_to_run, (site for site in sites.values() if site.layer != "label")))


def add_to_run(site: Site) -> None:
    """Let a policy of the namespace add a container to each pod, and make a run by hand."""
    where = ("-n", site.release.namespace)
    pod = access.workload("pods", "probe", access.pod_spec("mine"), {"app": site.place.release})

    def added() -> bool:
        found = site.cluster.kubectl(
            "create", *where, "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(pod)
        )
        return len(json.loads(found)["spec"]["containers"]) == 2

    pod["spec"]["volumes"].append({"name": "backups", "emptyDir": {}})
    site.cluster.kubectl("--as", access.CHIEF, "apply", *where, "-f", "-", stdin=json.dumps(ADDING))
    try:
        wait_until(f"{site.layer}: the policy is at work", added, 60)
        site.kubectl(access.OPERATOR, "create", "job", f"--from=cronjob/{site.place.cronjob_name}", "changed")
        said = ("events", *where, "--field-selector", "reason=FailedCreate,involvedObject.name=changed")

        def answered() -> bool:
            if site.layer == "none":
                return bool(site.cluster.get("pods", *where, "-l", "job-name=changed")["items"])
            return any("the container extra (localhost" in e["message"] for e in site.cluster.get(*said)["items"])

        wait_until(f"{site.layer}: the Job's controller is answered", answered, 60)
        pods = site.cluster.get("pods", *where, "-l", "job-name=changed")["items"]
        names = [[one["name"] for one in pod["spec"]["containers"]] for pod in pods]
        assert [sorted(some) for some in names] == ([] if site.layer in STRONG else [["extra", "retention"]])
    finally:
        site.cluster.kubectl("delete", "job", "changed", *where, "--ignore-not-found")
        site.cluster.kubectl("delete", "policy.kyverno.io", ADDING["metadata"]["name"], *where)


def test_administrator_who_is_no_root_upgrades(strong: Site) -> None:
    strong.release.upgrade({"successfulJobsHistoryLimit": 2}, "--kube-as-user", access.ADMIN)
    site = strong
    found = site.cluster.get("cronjob", site.place.cronjob_name, "-n", site.release.namespace)
    assert found["spec"]["successfulJobsHistoryLimit"] == 2
    site.place = dataclasses.replace(site.place, cronjob=found)


def test_helm_test_needs_the_grant(sites: dict[str, Site]) -> None:
    release = sites["both"].release
    pod = "cnpg-pg-dump-backup-test"
    with pytest.raises(NodeError, match=f"{access.DEV} asks to create pods {pod}"):
        release.run_helm("test", release.name, "--kube-as-user", access.DEV)
    # It ends without success, since there is no database.
    with pytest.raises(NodeError):
        release.run_helm("test", release.name, "--timeout=5s", "--kube-as-user", access.OPERATOR)
    assert release.cluster.get("pod", pod, "-n", release.namespace)


def test_helm_without_the_grant_leaves_everything_as_it_was_but_the_watcher(strong: Site) -> None:
    """The watcher's objects are not guarded: it only tells, and its end is noticed."""
    release = strong.release

    def there() -> list[str]:
        """All that Helm has made in the namespace and what it keeps of it, without the watcher."""
        where = ("-n", release.namespace, "-o", "name")
        kinds = "cronjobs,configmaps,pvc,networkpolicies,serviceaccounts,roles,rolebindings"
        own = release.cluster.kubectl("get", kinds, "-l", f"app={release.name}", *where)
        found = own + release.cluster.kubectl("get", "secrets", "-l", "owner=helm", *where)
        return sorted(name for name in found.split() if not re.search(r"/cnpg-backup-status(-[0-9a-f]{10})?$", name))

    before = there()
    assert len(before) > 10, before
    said = f"{access.CHIEF} asks to create secrets sh.helm.release.v1.{release.name}.v"
    with pytest.raises(NodeError, match=said):
        release.run_helm("rollback", release.name, "1", "--kube-as-user", access.CHIEF)
    with pytest.raises(NodeError):
        release.run_helm("uninstall", release.name, "--timeout=20s", "--kube-as-user", access.CHIEF)
    assert there() == before


def test_installer_without_a_cluster_is_told_in_one_line_what_to_turn_off(node: Cluster, namespace: str) -> None:
    role = ("create", "rolebinding", "chief", "--clusterrole=admin", f"--user={access.CHIEF}", "-n", namespace)
    node.kubectl(*role)
    release = Release(node, namespace, "modest")
    values: dict[str, Any] = {"databases": DATABASES}
    with pytest.raises(NodeError) as refused:
        release.install(values, "--kube-as-user", access.CHIEF)
    said = str(refused.value).split("failed: ", 1)[1].strip()
    assert len(said.splitlines()) == 1, said
    assert "set accessPolicy.enabled=false" in said, said
    assert "is forbidden" in said, said
    assert node.get("cronjobs", "-n", namespace)["items"] == []
    notes = release.install({**values, "accessPolicy": {"enabled": False}}, "--kube-as-user", access.CHIEF)
    assert "There is no access policy" in notes
    assert node.get("cronjobs", "-n", namespace)["items"]
    release.uninstall()


# While Kyverno is out.


@contextmanager
def runs_every_minute(guarded: list[Site]) -> Iterator[None]:
    """The CronJobs are due again and again, but for the run that is under way."""
    before = {site.layer: site.place.cronjob["spec"]["schedule"] for site in guarded}
    for site in guarded:
        site.schedule(EVERY_MINUTE)
    yield
    for site in guarded:
        site.wait_for_guard()
        site.schedule(before[site.layer])


def new_runs(guarded: list[Site]) -> None:
    """Let the CronJobs make other Jobs, for which those under way have to go."""
    before = {site.layer: site.jobs() for site in guarded}
    for site in guarded:
        site.cluster.kubectl("delete", "job", site.place.job, "-n", site.release.namespace, "--wait=false")
    with ThreadPoolExecutor(len(guarded)) as pool:
        list(pool.map(lambda site: site.wait_for_run(before[site.layer]), guarded))


def unrelated(site: Site) -> Answer:
    """What is said to a pod of the dev's that has nothing to do with the claim."""
    return site.ask(access.DEV, access.create(site.place, access.workload("pods", "other", access.pod_spec("other"))))


def inspector(site: Site) -> Answer:
    """What is said to an inspector pod of an operator's."""
    return site.ask(
        access.OPERATOR, access.create(site.place, access.workload("pods", "second", access.pod_spec(site.place.claim)))
    )


def test_without_kyverno_strangers_stay_out_and_backups_run(own_node: Node, sites: dict[str, Site]) -> None:
    guarded = [sites[layer] for layer in STRONG]
    with runs_every_minute(guarded), kyverno_out(own_node):
        for site in guarded:
            refused = site.stranger()
            assert refused.by == "policy", f"{site.layer}: {refused}"
            assert ("failed calling webhook" in refused.message) == (site.layer == "kyverno"), (
                f"{site.layer}: {refused}"
            )
            assert unrelated(site).by == "admitted", f"{site.layer}: pods without the claim are refused, too"
            answer = inspector(site)
            assert (answer.by == "admitted") == (site.layer == "builtin"), f"{site.layer}: {answer}"
        # Kyverno alone is asked about every way into any pod of the namespace; with the built-in engine nobody is.
        enter = {
            site.layer: site.ask(access.OPERATOR, access.connect(site.place, site.place.inspector, "exec"))
            for site in guarded
        }
        assert {layer: answer.by for layer, answer in enter.items()} == {
            "builtin": "admitted", "kyverno": "policy", "both": "admitted",
        }, enter  # fmt: skip
        new_runs(guarded)


def test_kyverno_that_is_switched_off_takes_its_own_guard_along_and_no_other(
    own_node: Node, sites: dict[str, Site]
) -> None:
    guarded = [sites[layer] for layer in STRONG]
    with runs_every_minute(guarded), kyverno_switched_off(own_node):
        # Kyverno removes its own webhooks when it is told to go for good: docs/security.md warns of it.
        wait_until("Kyverno alone admits a stranger", lambda: sites["kyverno"].stranger().by == "admitted", 90)
        for layer in ("builtin", "both"):
            site = sites[layer]
            refused = site.stranger()
            assert refused.by == "policy", f"{layer}: {refused}"
            assert "asks to create pods" in refused.message, f"{layer}: {refused}"
            assert inspector(site).by == "admitted", layer
        new_runs(guarded)


# The end: what stands last, since it takes the releases away.


def test_cronjob_and_namespace_can_be_deleted_with_all_that_is_in_them(sites: dict[str, Site]) -> None:
    with ThreadPoolExecutor(len(sites)) as pool:
        list(pool.map(end, sites.values()))


def end(site: Site) -> None:
    """Delete the CronJob in the foreground, as Argo CD does, then the namespace with claim and pods in it."""
    where = ("-n", site.release.namespace)
    foreground = ("delete", "cronjob", site.place.cronjob_name, *where, "--cascade=foreground", "--timeout=90s")
    site.cluster.kubectl("--as", access.ADMIN, *foreground)
    assert site.jobs() == set(), "the CronJob's Jobs outlive its foreground deletion"
    pod = access.workload("pods", "last", access.pod_spec(site.place.claim), {"app": site.place.release})
    assert site.ask(access.ADMIN, access.create(site.place, pod), dry=False).by == "admitted"
    site.cluster.kubectl("--as", access.ADMIN, "delete", "namespace", where[1], "--timeout=120s", seconds=130)
