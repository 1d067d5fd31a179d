"""The node is a whole Kubernetes, real in every part that a test relies on, and leaves no trace."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from tests.e2e.node import Cluster, Node, NodeError, guard, images, wait_until
from tests.e2e.node.paths import REPOSITORY, cache
from tests.e2e.node.sandbox import Sandbox
from tests.e2e.node.traces import Machine, Traces

pytestmark = pytest.mark.e2e

# Stands for a test run: owns a node with a pod and a volume on it, says so, and waits to be ended.
# Children of a shell's background job begin with Ctrl-C ignored, and Python then leaves it so.
_OWNER = """
import json, signal, sys, time
from tests.e2e.node import Node
signal.signal(signal.SIGINT, signal.default_int_handler)
with Node(with_kyverno=False) as node:
    node.apply(*json.loads(sys.argv[1]))
    node.kubectl("wait", "--for=condition=Ready", "pod/user", "--timeout=60s")
    print(json.dumps({"pid": node.pid, "state": str(node.state)}), flush=True)
    sys.stdin.read(1)
"""


def _pod(name: str, *command: str, image: str = images.BUSYBOX.name, **spec: Any) -> dict[str, Any]:
    """A pod of one container that never starts again."""
    container = {"name": "main", "image": image, "imagePullPolicy": "Never", "command": list(command)}
    container |= spec.pop("container", {})
    metadata = {"name": name, "labels": spec.pop("labels", {})}
    body = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body}


def _claim(name: str, size: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "longhorn",
            "resources": {"requests": {"storage": size}},
        },
    }


def _outcome(cluster: Cluster, namespace: str, pod: str, seconds: float = 60) -> str:
    """Wait until a pod has ended and return its log."""

    def ended() -> bool:
        return cluster.get("pod", pod, "-n", namespace)["status"]["phase"] in ("Succeeded", "Failed")

    wait_until(f"pod {namespace}/{pod} has ended", ended, seconds)
    return cluster.kubectl("logs", pod, "-n", namespace)


def _run(cluster: Cluster, namespace: str, name: str, script: str, **spec: Any) -> str:
    cluster.apply(_pod(name, "sh", "-c", script, **spec), namespace=namespace)
    return _outcome(cluster, namespace, name)


def test_every_part_of_the_node_runs(own_node: Node) -> None:
    ended = [name for name, part in own_node.components.items() if not part.running]
    assert not ended, f"these parts have ended: {ended}"
    conditions = own_node.get("node", "node")["status"]["conditions"]
    wrong = {c["type"]: c["status"] for c in conditions if c["status"] != ("True" if c["type"] == "Ready" else "False")}
    assert not wrong, f"conditions of the node: {wrong}"


def test_python_client_outside_the_namespaces_reaches_the_api_server(own_node: Node) -> None:
    versions = client.VersionApi(own_node.client).get_code()
    assert versions.git_version.startswith("v1."), versions.git_version


def test_pod_resolves_services_by_name_and_gets_a_clear_no_for_others(own_node: Node, namespace: str) -> None:
    script = "nslookup kubernetes.default.svc.cluster.local; nslookup nothing.invalid"
    log = _run(own_node, namespace, "dns", script)
    address = own_node.get("service", "kubernetes", "-n", "default")["spec"]["clusterIP"]
    assert address in log, f"pod {namespace}/dns did not resolve the API server's service:\n{log}"
    assert "NXDOMAIN" in log, f"pod {namespace}/dns got something else than NXDOMAIN for nothing.invalid:\n{log}"


def test_nothing_leads_out_of_the_node(own_node: Node) -> None:
    links = json.loads(own_node.run("/usr/sbin/ip", "-json", "link"))
    ours = {link["ifname"] for link in links if not link["ifname"].startswith("veth")}
    assert ours == {"lo", "node0", "nowhere0", "cni0"}, f"interfaces on the node: {ours}"
    # A cable whose other end lies in another namespace names it; the ends of pods' cables do, those of the node do not.
    foreign = {link["ifname"] for link in links if "link_netnsid" in link} - {
        link["ifname"] for link in links if link.get("master") == "cni0"
    }
    assert not foreign, f"interfaces of the node that end in another namespace than a pod's: {foreign}"


def test_images_are_as_users_have_them(own_node: Node, namespace: str) -> None:
    has = "for program in pg_dump pg_restore psql postgres flock python3; do command -v $program || true; done"
    for major, image in images.POSTGRES.items():
        log = _run(own_node, namespace, f"postgres-{major}", f"{has}; pg_dump --version", image=image.name)
        assert "python" not in log, f"{image.name} has Python:\n{log}"
        assert f"(PostgreSQL) {major}." in log, f"{image.name} has another pg_dump:\n{log}"
        assert log.count("/usr/lib/postgresql/") == 4, f"{image.name} lacks programs:\n{log}"
        assert "/flock" in log, f"{image.name} lacks flock:\n{log}"
    log = _run(
        own_node, namespace, "python", f"{has}; python3 -c 'import hashlib, json, fcntl'", image=images.PYTHON.name
    )
    assert log.split() == ["/usr/bin/flock", "/usr/local/bin/python3"], f"{images.PYTHON.name} has:\n{log}"


def test_volume_honours_fsgroup_and_runs_full(own_node: Node, namespace: str) -> None:
    own_node.apply(_claim("small", "32Mi"), namespace=namespace)
    script = "id -u; touch /data/mine && ls -ln /data/mine; dd if=/dev/zero of=/data/big bs=1M count=64; df -k /data"
    log = _run(
        own_node,
        namespace,
        "writer",
        f"exec 2>&1; {script}",
        securityContext={"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000},
        container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "small"}}],
    )
    assert "1000     2000" in " ".join(log.split("\n")), (
        f"the file of pod {namespace}/writer is not of its fsGroup:\n{log}"
    )
    assert "No space left on device" in log, f"the volume of pod {namespace}/writer took more than its 32 MiB:\n{log}"

    volume = own_node.get("pvc", "small", "-n", namespace)["spec"]["volumeName"]
    own_node.kubectl("delete", "pod/writer", "pvc/small", "-n", namespace)
    wait_until(
        f"volume {volume} goes with its claim",
        lambda: own_node.try_kubectl("get", "pv", volume).returncode == 1,
        60,
    )


def test_claim_without_a_consumer_waits(own_node: Node, namespace: str) -> None:
    own_node.apply(_claim("unused", "32Mi"), namespace=namespace)

    def told() -> bool:
        events = own_node.get("events", "-n", namespace, "--field-selector=involvedObject.name=unused")["items"]
        return any(event["reason"] == "WaitForFirstConsumer" for event in events)

    wait_until(f"claim {namespace}/unused waits for a consumer", told, 30)
    assert own_node.get("pvc", "unused", "-n", namespace)["status"]["phase"] == "Pending"


def test_cnpg_clusters_of_two_majors_become_healthy(own_node: Node, namespace: str) -> None:
    wanted = {"one": 17, "two": 17, "three": 15}
    for name, major in wanted.items():
        spec = {
            "instances": 1,
            "imageName": images.OPERANDS[major].name,
            "storage": {"size": "1Gi", "storageClass": "longhorn"},
            "bootstrap": {"initdb": {"database": "app", "owner": "app"}},
        }
        body = {"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "metadata": {"name": name}, "spec": spec}
        own_node.apply(body, namespace=namespace)
    for name, major in wanted.items():
        own_node.kubectl(
            "wait", "--for=condition=Ready", f"cluster.postgresql.cnpg.io/{name}", "-n", namespace, "--timeout=170s",
            seconds=180,
        )  # fmt: skip
        query = ("psql", "-Atc", "SHOW server_version_num")
        version = own_node.kubectl("exec", f"{name}-1", "-n", namespace, "-c", "postgres", "--", *query).strip()
        assert version.startswith(str(major)), f"cluster {namespace}/{name} runs {version}, not {major}"


def test_network_policy_is_enforced(own_node: Node, namespace: str) -> None:
    own_node.apply(
        _pod("target", "httpd", "-f", "-p", "8080", labels={"app": "target"}),
        _pod("friend", "sleep", "3600", labels={"app": "friend"}),
        _pod("stranger", "sleep", "3600", labels={"app": "stranger"}),
        namespace=namespace,
    )
    own_node.kubectl("wait", "--for=condition=Ready", "pod", "--all", "-n", namespace, "--timeout=60s")
    address = own_node.get("pod", "target", "-n", namespace)["status"]["podIP"]

    def reaches(pod: str) -> bool:
        command = ("sh", "-c", f"nc -w 2 {address} 8080 </dev/null")
        return own_node.try_kubectl("exec", pod, "-n", namespace, "--", *command).returncode == 0

    wait_until(
        "the target answers both before there is a policy", lambda: reaches("friend") and reaches("stranger"), 30
    )
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "friends-only"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "target"}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
        },
    }
    own_node.apply(policy, namespace=namespace)
    wait_until(f"policy {namespace}/friends-only keeps the stranger out", lambda: not reaches("stranger"), 60)
    assert reaches("friend"), f"policy {namespace}/friends-only keeps the friend out as well"
    own_node.kubectl("delete", "networkpolicy", "friends-only", "-n", namespace)
    wait_until("the stranger is let in again without the policy", lambda: reaches("stranger"), 60)


def test_kyverno_denies_what_its_policy_forbids(own_node: Node, namespace: str) -> None:
    name = f"no-forbidden-pods-{namespace}"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    policy = {
        "apiVersion": "policies.kyverno.io/v1",
        "kind": "ValidatingPolicy",
        "metadata": {"name": name},
        "spec": {
            "validationActions": ["Deny"],
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "resourceRules": [rule],
            },
            "validations": [{"expression": "object.metadata.name != 'forbidden'", "message": "not this one"}],
        },
    }

    def answer(pod: str) -> str:
        text = json.dumps(_pod(pod, "true"))
        done = own_node.try_kubectl("create", "-n", namespace, "--dry-run=server", "-f", "-", stdin=text)
        return done.stderr if done.returncode else "admitted"

    assert answer("forbidden") == "admitted", "the pod was refused before there was a policy"
    own_node.apply(policy)
    try:
        wait_until(
            f"policy {name} refuses pod {namespace}/forbidden", lambda: "not this one" in answer("forbidden"), 60
        )
        assert answer("allowed") == "admitted", f"policy {name} refuses what it allows: {answer('allowed')}"
    finally:
        own_node.kubectl("delete", "validatingpolicies.policies.kyverno.io", name)


@pytest.mark.parametrize("part", ["kubelet", "containerd", "kube-apiserver", "etcd"])
def test_killed_part_starts_again_and_pods_live_on(own_node: Node, namespace: str, part: str) -> None:
    own_node.apply(_pod("survivor", "sleep", "3600"), namespace=namespace)
    own_node.kubectl("wait", "--for=condition=Ready", "pod/survivor", "-n", namespace, "--timeout=60s")
    before = own_node.get("pod", "survivor", "-n", namespace)["status"]["containerStatuses"][0]["containerID"]
    own_node.components[part].kill()
    assert not own_node.components[part].running
    own_node.components[part].start()
    own_node.wait_ready()
    # A new pod shows that the part works again, the old one that nothing was lost.
    wait_until("a pod runs to its end", lambda: _run(own_node, namespace, "next", "echo done") == "done\n", 120)
    after = own_node.get("pod", "survivor", "-n", namespace)["status"]["containerStatuses"][0]
    assert (after["containerID"], after["restartCount"]) == (before, 0), f"pod {namespace}/survivor was started again"
    ended = [name for name, component in own_node.components.items() if not component.running]
    assert not ended, f"the death of {part} has ended {ended}"


def test_failure_leaves_what_explains_it(own_node: Node, namespace: str, tmp_path: Path) -> None:
    script = "[ ! -e /data/ran ] || exec sleep 3600; touch /data/ran; echo last words; exit 3"
    pod = _pod(
        "crasher",
        "sh",
        "-c",
        script,
        restartPolicy="OnFailure",
        container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        volumes=[{"name": "data", "emptyDir": {}}],
    )
    own_node.apply(pod, namespace=namespace)

    def restarted() -> bool:
        statuses = own_node.get("pod", "crasher", "-n", namespace)["status"].get("containerStatuses", ())
        return any(status["restartCount"] for status in statuses)

    wait_until(f"pod {namespace}/crasher was started again", restarted, 60)
    folder = own_node.collect(tmp_path / "failure")
    previous = folder / "pods" / f"{namespace}_crasher_main.previous.log"
    assert "last words" in previous.read_text(), f"{previous} lacks the container's log"
    for name in ("events.txt", "pods.txt"):
        assert "crasher" in (folder / name).read_text(), f"{folder / name} does not mention the pod"
    missing = [name for name in own_node.components if not (folder / "node" / f"{name}.log").is_file()]
    assert not missing, f"{folder}/node lacks the logs of {missing}"


def _gone(traces: Traces) -> bool:
    if left := traces.left():
        raise NodeError("; ".join(left[:10]))
    return True


def _interrupt(owner: subprocess.Popen[str]) -> None:
    """Ctrl-C reaches every process of the terminal's group."""
    os.killpg(owner.pid, signal.SIGINT)


def _finish(owner: subprocess.Popen[str]) -> None:
    assert owner.stdin is not None
    owner.stdin.close()


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(_finish, id="stop"),
        pytest.param(_interrupt, id="ctrl-c"),
        pytest.param(subprocess.Popen.terminate, id="sigterm"),
        pytest.param(subprocess.Popen.kill, id="sigkill"),
    ],
)
@pytest.mark.usefixtures("own_node")
def test_node_leaves_nothing_behind_however_its_owner_ends(end: Callable[[subprocess.Popen[str]], None]) -> None:
    user = _pod(
        "user",
        "sleep",
        "3600",
        container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    )
    before = Machine.look()
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, json.dumps([_claim("data", "64Mi"), user])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, start_new_session=True,
    )  # fmt: skip
    try:
        assert owner.stdout is not None
        line = owner.stdout.readline()
        assert line, f"the owner ended with {owner.wait()} before its node was up"
        answer = json.loads(line)
        traces = Traces.of(Path(answer["state"]), answer["pid"])
        seen = {line.split()[0] for line in traces.left()}
        assert seen == {"process", "control", "loop", "file"}, f"a running node shows only {seen}: this test is blind"
        end(owner)
        owner.wait(120)
        wait_until("no trace is left of the node", lambda: _gone(traces), 60)
    finally:
        owner.kill()
        owner.wait()
        for pipe in (owner.stdin, owner.stdout):
            if pipe is not None:
                pipe.close()
    assert Machine.look() == before


@pytest.mark.usefixtures("own_node")
def test_what_a_killed_guard_left_goes_with_the_next_start() -> None:
    killed = Sandbox()
    killed.start()
    traces = Traces.of(killed.state, killed.pid)
    assert killed.guard_pid is not None
    os.kill(killed.guard_pid, signal.SIGKILL)
    wait_until("the namespaces end with their guard", lambda: not [t for t in traces.left() if "process" in t], 30)
    with pytest.raises(NodeError, match="left behind"):
        killed.stop()
    assert traces.left(), "the guard was killed and yet nothing is left: this test is blind"
    following = Sandbox()
    following.start()
    try:
        # The numbers of the old namespaces may be those of the new ones by now.
        left = Traces(traces.state, frozenset()).left()
        assert not left, "\n".join(left)
    finally:
        following.stop()


def test_sweeping_spares_running_nodes(own_node: Node) -> None:
    guard.sweep(cache("nodes"))
    assert own_node.state.is_dir(), f"sweeping has removed {own_node.state}, whose node runs"
    assert own_node.get("node", "node")["metadata"]["name"] == "node"
