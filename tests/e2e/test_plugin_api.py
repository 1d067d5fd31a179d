"""The plugin against an API server alone: what it asks, what it leaves, and what it says when it may not."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from kubectl_cnpg_backup.model import suspension
from kubectl_cnpg_backup.model.doctor_network import digest
from kubectl_cnpg_backup.model.rights import RIGHTS
from kubectl_cnpg_backup.output import jsonpath
from tests.e2e import apiserver
from tests.e2e.apiserver import ApiServer
from tests.e2e.node import wait_until
from tests.e2e.release import tool
from tests.lab import chart

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
CRONJOB = "cnpg-pg-dump-backup"
TEMPLATE = {"metadata": {"labels": {"app": "cnpg-backup"}}}

MOUNTING = {
    "restartPolicy": "Never",
    "containers": [{"name": "retention", "image": "none"}],
    "volumes": [{"name": "backups", "persistentVolumeClaim": {"claimName": "cnpg-backups-pvc"}}],
}


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with apiserver.running() as running:
        install(running)
        yield running


def install(server: ApiServer, release: str = "cnpg-backup") -> None:
    """Create what the chart renders for the namespace itself: no controller will make anything of it."""
    wanted = ("CronJob", "ConfigMap", "PersistentVolumeClaim", "NetworkPolicy", "ServiceAccount")
    server.apply(*(one for one in chart.render(release=release) if one["kind"] in wanted))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "kubectl_cnpg_backup", *arguments]


def environment(server: ApiServer, kubeconfig: Path | None = None) -> Mapping[str, str]:
    return {**os.environ, "KUBECONFIG": str(kubeconfig or server.kubeconfig)}


def plugin(server: ApiServer, *arguments: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=environment(server, kubeconfig), cwd=ROOT, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def jobs(server: ApiServer) -> list[str]:
    return [one["metadata"]["name"] for one in server.get("jobs")["items"]]


@pytest.fixture(autouse=True)
def no_jobs(server: ApiServer) -> Iterator[None]:
    yield
    server.kubectl("delete", "jobs,pods", "--all", "--cascade=background", "--force")


def ended(server: ApiServer, name: str, message: str, code: int) -> None:
    """Make a Job and its pod look as if they had run."""
    owner = server.get("cronjob", CRONJOB)
    labels = {"app": "cnpg-backup", "app.kubernetes.io/name": "cnpg-backup", "app.kubernetes.io/component": "backup"}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": "CronJob",
                    "name": CRONJOB,
                    "uid": owner["metadata"]["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": {
            "suspend": True,
            "template": {
                **TEMPLATE,
                "spec": MOUNTING,
            },
        },
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{name}-x", "labels": {**labels, "batch.kubernetes.io/job-name": name}},
        "spec": MOUNTING,
    }
    server.apply(job, pod)
    terminated = {"exitCode": code, "message": message}
    status = {"containerStatuses": [{"name": "retention", "state": {"terminated": terminated}, **STATIC}]}
    patch = json.dumps({"status": {"phase": "Failed" if code else "Succeeded", **status}})
    server.kubectl("patch", "pod", f"{name}-x", "--subresource=status", "--type=merge", "-p", patch)


STATIC = {"image": "none", "imageID": "", "ready": False, "restartCount": 0}


def test_status_needs_no_pod_for_what_the_api_server_knows(server: ApiServer) -> None:
    ended(server, "run", "1 of 3 databases failed\nkutt failed (no backup): no Secret", 1)
    done = plugin(server, "status", "--no-volume", "-o", "json")
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    kutt = next(one for one in document["databases"] if one["database"] == "kutt")
    assert (kutt["state"], kutt["why"]) == ("failed", "no Secret")
    assert [one["database"] for one in document["databases"]] == ["authelia", "kutt", "plausible"]
    assert jobs(server) == ["run"], "it started something"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_takes_back_its_own_job_and_no_other(server: ApiServer, number: signal.Signals) -> None:
    ended(server, "somebody-elses", "", 0)
    with subprocess.Popen(
        command("run"), env=environment(server), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            wait_until("the run has begun", lambda: len(jobs(server)) == 2, 60)
            (own,) = [name for name in jobs(server) if name != "somebody-elses"]
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert f"deleted job/{own}" in errors
    assert "Traceback" not in errors
    assert jobs(server) == ["somebody-elses"]


KILLED = {
    "open": ("open", "kutt"),
    "restore": ("restore", "kutt", "--replace", "--yes"),
    "restore elsewhere": ("restore", "kutt", "--into", "look"),
    "undelete": ("undelete", "kutt", "--table", "items", "--yes"),
    "list": ("list",),
}


@pytest.mark.parametrize("words", KILLED.values(), ids=list(KILLED))
def test_what_a_killed_plugin_leaves_has_a_deadline_and_doctor_names_it(
    server: ApiServer, words: tuple[str, ...]
) -> None:
    with subprocess.Popen(
        command(*words), env=environment(server), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            wait_until("its Job is there", lambda: bool(jobs(server)), 60)
        finally:
            process.kill()
    (name,) = jobs(server)
    job = server.get("job", name)
    assert 0 < job["spec"]["activeDeadlineSeconds"] <= 6 * 3600 + 60
    assert job["metadata"]["ownerReferences"][0]["kind"] == "CronJob", "its history limits do not count"
    findings = json.loads(plugin(server, "doctor", "-o", "json").stdout)
    (found,) = [one for one in findings if one["subject"] == f"job/{name}"]
    assert f"kubectl delete job {name} --namespace default" in found["remedy"]


def test_a_run_whose_job_somebody_deletes_ends_with_an_error(server: ApiServer) -> None:
    with subprocess.Popen(
        command("run"), env=environment(server), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            wait_until("the run has begun", lambda: bool(jobs(server)), 60)
            server.kubectl("delete", "jobs", "--all", "--cascade=background")
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1, output + errors
    assert "is gone: someone deleted it before it ended" in output, output + errors
    assert "Traceback" not in errors


def test_a_dry_run_asks_the_api_server_and_leaves_nothing(server: ApiServer) -> None:
    done = plugin(server, "run", "--database", "kutt", "--dry-run", "-o", "json")
    assert done.returncode == 0, done.stderr
    (job,) = json.loads(done.stdout)
    assert job["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "kubectl-cnpg_backup"
    assert jobs(server) == []


def test_what_only_has_the_releases_labels_is_reported_and_neither_a_template_nor_a_run(server: ApiServer) -> None:
    labels = {"app": "cnpg-backup", "app.kubernetes.io/name": "cnpg-backup"}
    bare = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]}
    template = {"spec": {"suspend": True, "template": {"spec": bare}}}
    cronjob = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "aaa", "labels": {**labels, "app.kubernetes.io/component": "inspect"}},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": template},
    }
    forged = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "forged", "labels": labels}, **template}
    server.apply(cronjob, forged)
    try:
        done = plugin(server, "status", "--no-volume", "-o", "json")
        assert done.returncode == 1, done.stderr
        found = {one["subject"]: one["problem"] for one in json.loads(done.stdout)["problems"]}
        assert "does not mount claim cnpg-backups-pvc" in found["cronjob/aaa"]
        assert "does not mount claim cnpg-backups-pvc" in found["job/forged"]
        findings = json.loads(plugin(server, "doctor", "-o", "json").stdout)
        assert {"cronjob/aaa", "job/forged"} <= {one["subject"] for one in findings if one["result"] == "wrong"}
    finally:
        server.kubectl("delete", "cronjob", "aaa")


ODD_RULES = [
    {"to": [], "ports": [{"port": 443}, {"port": "https", "endPort": None}]},
    {"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": []}}, {"podSelector": {}, "namespaceSelector": {}}]},
    {
        "to": [{"podSelector": {"matchLabels": {"a": "b"}, "matchExpressions": []}}],
        "ports": [{"port": 1, "endPort": 9}],
    },
]


@pytest.mark.parametrize("rules", [[], ODD_RULES], ids=["default", "rules of one's own"])
def test_the_api_server_stores_the_network_policies_that_the_chart_recorded(
    server: ApiServer, rules: list[dict[str, Any]]
) -> None:
    manifests = chart.render({"networkPolicy": {"extraEgress": rules}}, release="odd")
    (record,) = (m["data"] for m in manifests if m["metadata"]["name"] == "odd-access" and "data" in m)
    policies = [m for m in manifests if m["kind"] == "NetworkPolicy"]
    create = ("create", "--dry-run=server", "-o", "json", "-f", "-")
    stored = [json.loads(server.kubectl(*create, stdin=json.dumps(one))) for one in policies]
    named = (f"{one['metadata']['name']} {digest(one)}" for one in stored)
    assert ", ".join(sorted(named)) == record["networkPolicies"]


def test_doctor_reports_changed_rules_and_finalizers_of_the_releases_objects(server: ApiServer) -> None:
    def found() -> str:
        rows = json.loads(plugin(server, "doctor", "-o", "json").stdout)
        return "\n".join(f"{row['subject']}: {row['found']}" for row in rows)

    assert "not those that the chart rendered" not in found()
    assert "finalizer" not in found()
    free = json.dumps({"spec": {"egress": [{}]}})
    manager = "--field-manager=kubectl"  # that which made it: the managers of fields show nothing
    server.kubectl("patch", "networkpolicy", "cnpg-backup-isolated", "--type=merge", "-p", free, manager)
    hanging = json.dumps({"metadata": {"finalizers": ["example.org/mine"]}})
    objects = ("pvc/cnpg-backups-pvc", "serviceaccount/cnpg-backup", f"cronjob/{CRONJOB}", "networkpolicy/cnpg-backup")
    for name in objects:
        server.kubectl("patch", name, "--type=merge", "-p", hanging)
    try:
        said = found()
        assert "the rules of cnpg-backup-isolated are not those that the chart rendered" in said
        assert [name for name in objects if f"{name}: it has the finalizer example.org/mine" not in said] == []
    finally:
        for name in objects:
            server.kubectl("patch", name, "--type=merge", "-p", json.dumps({"metadata": {"finalizers": None}}))
        install(server)
    assert "not those that the chart rendered" not in found()


def test_versions_of_everything_that_can_be_asked_are_shown(server: ApiServer) -> None:
    done = plugin(server, "version", "-o", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kubernetes"].startswith("v1.")
    assert found["release"]["name"] == "cnpg-backup"
    assert [one["postgresql"] for one in found["clusters"]] == [None] * 3, "there are no clusters"
    assert any("retention" in use for one in found["images"] for use in one["used_by"])


def test_several_releases_are_named(server: ApiServer) -> None:
    install(server, "nightly")
    try:
        done = plugin(server, "status", "--no-volume")
        assert done.returncode == 2
        assert "several releases: cnpg-backup, nightly; choose one with --release" in done.stderr
        assert plugin(server, "status", "--no-volume", "--release", "nightly", "-o", "json").returncode == 0
    finally:
        server.kubectl("delete", "cronjobs", "-l", "app=nightly")


def grant(server: ApiServer, user: str, *left_out: tuple[str, str]) -> Path:
    """A user with all rights that the plugin needs, but for some."""
    rules = [
        {"apiGroups": [right.group], "resources": [right.resource], "verbs": [right.verb]}
        for right in RIGHTS
        if (right.verb, right.resource) not in left_out
    ]
    role: dict[str, Any] = {"kind": "Role", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    server.apply(
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": user}, "rules": rules},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": user},
            "roleRef": role,
            "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
        },
        namespace="default",
    )
    return server.user(user)


MISSING = {
    ("list", "cronjobs"): ("status", "--no-volume"),
    ("list", "jobs"): ("logs",),
    ("list", "pods"): ("logs",),
    ("create", "jobs"): ("run",),
}


@pytest.mark.parametrize("right", MISSING, ids=" ".join)
def test_a_missing_right_is_one_line_that_names_the_rule(server: ApiServer, right: tuple[str, str]) -> None:
    verb, resource = right
    user = f"lacks-{verb}-{resource}"
    done = plugin(server, *MISSING[right], kubeconfig=grant(server, user, right))
    assert done.returncode == 1
    error = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(error) == 1, done.stderr
    assert f"user {user} may not {verb} {resource} in namespace default" in error[0]
    assert f"resources: [{resource}], verbs: [{verb}]" in error[0]


def test_all_rights_that_the_plugin_names_are_enough_to_look_around(server: ApiServer) -> None:
    kubeconfig = grant(server, "operator")
    assert plugin(server, "status", "--no-volume", kubeconfig=kubeconfig).returncode == 0
    done = plugin(server, "doctor", "-o", "json", kubeconfig=kubeconfig)
    findings = {one["subject"]: one for one in json.loads(done.stdout)}
    assert findings["your rights"]["result"] == "ok"
    assert findings["secrets"]["result"] == "unknown", "it would read Secrets"
    assert "Traceback" not in done.stderr


def test_doctor_names_each_right_that_is_missing(server: ApiServer) -> None:
    left_out = ("create", "pods/exec")
    done = plugin(server, "doctor", "-o", "json", kubeconfig=grant(server, "half", left_out))
    missing = [one["found"] for one in json.loads(done.stdout) if one["subject"] == "your rights"]
    assert missing == ["you may not create pods/exec, needed for: every command that reads the volume"]


HELM = [pytest.param(engine, id=engine) for engine in ("helm", "helm3")]


@pytest.fixture(params=HELM)
def helm_release(request: pytest.FixtureRequest, server: ApiServer) -> Helm:
    """A release that Helm has installed, in a namespace of its own."""
    found = Helm(server, str(tool(request.param)), own_namespace(server, "suspended"))
    found("install", "cnpg-backup", str(chart.CHART), *found.quiet)
    return found


def own_namespace(server: ApiServer, prefix: str) -> str:
    """Make a namespace. Nothing would empty it when it is deleted, and so it stays."""
    name = f"{prefix}-{uuid4().hex[:8]}"
    server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


class Helm:
    """Calls Helm and the plugin for one namespace; nothing but CronJobs, of which no controller makes anything."""

    quiet = ("--set", "accessPolicy.enabled=false")

    def __init__(self, server: ApiServer, program: str, namespace: str) -> None:
        self.server = server
        self._program = program
        self._namespace = namespace

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [self._program, *arguments, "--namespace", self._namespace], env=environment(self.server),
            capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def upgrade(self, *values: str) -> None:
        sets = [word for value in values for word in ("--set", value)]
        self("upgrade", "cnpg-backup", str(chart.CHART), *self.quiet, *sets)

    def plugin(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return plugin(self.server, "-n", self._namespace, *arguments)

    def cronjob(self) -> dict[str, Any]:
        return dict(self.server.get("cronjob", CRONJOB, "-n", self._namespace, "--show-managed-fields"))

    @property
    def suspended(self) -> bool:
        return bool(self.cronjob()["spec"]["suspend"])

    def patch(self, **spec: object) -> None:
        text = json.dumps({"spec": spec})
        self.server.kubectl("patch", "cronjob", CRONJOB, "-n", self._namespace, "-p", text)


def test_a_suspended_schedule_survives_upgrades_and_rollbacks_and_is_resumed(helm_release: Helm) -> None:
    done = helm_release.plugin("suspend", "--reason", "the volume is moved")
    assert done.returncode == 0, done.stdout + done.stderr
    assert helm_release.suspended
    helm_release.upgrade()
    helm_release.upgrade("commonLabels.team=databases", "schedule=7 */2 * * *")
    helm_release("rollback", "cnpg-backup", "1")
    assert helm_release.suspended, "an upgrade has started the runs again"
    status = json.loads(helm_release.plugin("status", "--no-volume", "-o", "json").stdout)
    (problem,) = status["problems"]
    assert "suspended since" in problem["problem"]
    assert "(the volume is moved)" in problem["problem"]
    assert problem["remedy"].endswith("kubectl cnpg-backup resume")
    done = helm_release.plugin("resume")
    assert (done.returncode, helm_release.suspended) == (0, False), done.stdout + done.stderr
    owners = suspension.managers(helm_release.cronjob())
    assert owners == [], "later values would be in conflict with this owner"
    assert suspension.ANNOTATION not in (helm_release.cronjob()["metadata"].get("annotations") or {})


def test_values_and_the_plugin_do_not_fight_about_the_schedule(helm_release: Helm) -> None:
    helm_release.plugin("suspend")
    helm_release.upgrade("suspend=true")
    done = helm_release.plugin("resume")
    assert (done.returncode, helm_release.suspended) == (3, True), "the next upgrade would suspend it again"
    assert "the values of the release suspend it" in done.stdout
    helm_release.upgrade("suspend=false")
    assert not helm_release.suspended
    helm_release.patch(suspend=True)
    helm_release.upgrade()
    assert helm_release.suspended
    assert helm_release.plugin("resume").returncode == 0
    assert not helm_release.suspended
    helm_release.upgrade("suspend=true")
    assert helm_release.suspended


def test_a_missed_run_of_a_schedule_that_was_suspended_then_is_not_reported(helm_release: Helm) -> None:
    """What was due while it was suspended was not meant to start: the spec has changed since."""
    helm_release.plugin("suspend")
    helm_release.plugin("resume")
    times = [
        entry["time"] for entry in helm_release.cronjob()["metadata"]["managedFields"]
        if entry["manager"] == suspension.MANAGER and "f:spec" in entry["fieldsV1"]
    ]  # fmt: skip
    assert times, "nothing shows when the schedule was resumed"


def test_a_bundle_for_support_has_what_helps_and_no_secret_of_the_namespace(server: ApiServer, tmp_path: Path) -> None:
    canary = "CanaryOfTheNamespace"
    secrets = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"password": canary}}
        for name in ("authelia-postgresql-cnpg-app", "sh.helm.release.v1.cnpg-backup.v1")
    ]
    server.apply(*secrets, namespace="default")
    server.kubectl("annotate", "cronjob", CRONJOB, f"vault.example.org/x={canary}", "--overwrite")
    ended(server, "run", f"1 of 1 databases failed\nkutt failed (no backup): password={canary}", 1)
    server.kubectl("annotate", "pod", "run-x", f"x={canary}")
    event = {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "run-x.1"}, "reason": "Failed", "type": "Warning",
        "involvedObject": {"kind": "Pod", "name": "run-x", "namespace": "default"},
        "message": f"Error: PGPASSWORD={canary}",
    }  # fmt: skip
    server.apply(event, namespace="default")
    target = tmp_path / "bundle.tar.gz"
    done = plugin(server, "support-bundle", "--no-volume", "--to", str(target), "-o", "json")
    assert done.returncode == 0, done.stderr
    assert canary not in done.stdout + done.stderr
    with tarfile.open(target) as tar:
        files = {one.name.partition("/")[2]: one for one in tar.getmembers()}
        texts = {name: (tar.extractfile(one) or io.BytesIO()).read().decode() for name, one in files.items()}
    assert [name for name, text in texts.items() if canary in text] == []
    assert set(json.loads(done.stdout)["files"]) == set(texts)
    assert "PGPASSWORD=(left out)" in texts["events.json"]
    assert '"run-x"' in texts["objects/pods.json"]
    assert {"doctor.json", "status.json", "version.json"} <= set(texts)
    assert json.loads(texts["status.json"])["databases"]
    for name in ("authelia-postgresql-cnpg-app", "sh.helm.release.v1.cnpg-backup.v1"):
        server.kubectl("delete", "secret", name)
    server.kubectl("annotate", "cronjob", CRONJOB, "vault.example.org/x-")


def test_jsonpath_prints_what_kubectl_prints(server: ApiServer) -> None:
    document = server.get("cronjobs")
    for template in (
        "{.items[*].metadata.name}",
        "{range .items[*]}{.metadata.name}{'\\t'}{.spec.suspend}{'\\n'}{end}",
        "{.items[?(@.spec.suspend==true)].metadata.name}",
        "{.items[0:2].spec.schedule}/{.items[-1:].metadata.name}",
        "{.items[0].metadata.labels['app','app\\.kubernetes\\.io/name']}",
        "{.items[0].metadata.labels.app\\.kubernetes\\.io/name}",
        "{..claimName}",
        "{.items[0].spec.jobTemplate.spec.template.spec.volumes[?(@.name=='backups')]}",
        "{.items[0].nothing}",
        "{.items[0].spec.jobTemplate.spec.backoffLimit}",
        "{.items[?(@.metadata.name=='x')].metadata}",
    ):
        expected = server.kubectl("get", "cronjobs", "-o", f"jsonpath={template}")
        assert jsonpath.render(jsonpath.parse(template), document).strip() == expected.strip(), template


def test_the_releases_of_all_namespaces_are_asked_by_who_may_list_them(server: ApiServer) -> None:
    namespace = own_namespace(server, "elsewhere")
    server.apply(*(one for one in chart.render(namespace=namespace) if one["kind"] in ("CronJob", "ConfigMap")))
    done = plugin(server, "status", "-A", "--no-volume", "-o", "json")
    found = {one["namespace"]: one for one in json.loads(done.stdout)}
    assert {"default", namespace} <= set(found)
    assert found[namespace]["result"]["namespace"] == namespace
    done = plugin(server, "status", "-A", "--no-volume", kubeconfig=grant(server, "operator"))
    assert done.returncode == 1
    assert "may not list cronjobs in all namespaces; ask for the rule" in done.stderr


def test_completion_asks_kubectl_for_what_the_cluster_has(server: ApiServer) -> None:
    def completed(*words: str) -> list[str]:
        program = [sys.executable, "-c", "from kubectl_cnpg_backup.complete import main; main()", *words]
        done = subprocess.run(
            program, env=server.environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout.splitlines()

    assert completed("run", "") == ["authelia", "kutt", "plausible", ":4"]
    assert completed("list", "--release", "") == ["cnpg-backup", ":4"]
    assert "kube-system" in completed("status", "-n", "kube")
    ended(server, "first", "", 0)
    assert completed("logs", "") == ["first", ":4"]
    assert completed("-n", "kube-system", "run", "") == [":4"]


def test_json_goes_through_a_pipe_untouched(server: ApiServer) -> None:
    script = f"{' '.join(command('status', '--no-volume', '-o', 'json'))} | python3 -m json.tool"
    done = subprocess.run(
        ["sh", "-euc", script], env=environment(server), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["release"] == "cnpg-backup"
