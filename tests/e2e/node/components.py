"""How each part of the control plane and of the node is started, and what it is told."""

import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.node import init, pins
from tests.e2e.node.errors import NodeError
from tests.e2e.node.images import PAUSE
from tests.e2e.node.machine import CNI_PLUGINS
from tests.e2e.node.pki import Authority, make_key, write_private
from tests.e2e.node.sandbox import Sandbox

NODE_NAME = "node"
POD_RANGE = "10.89.0.0/24"
SERVICE_RANGE = "10.90.0.0/24"
API_SERVICE = "10.90.0.1"
DNS_SERVICE = "10.90.0.10"
API_PORT = 6443
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
TOOLS = ("kubernetes", "etcd", "containerd", "runc", "kube-router")

_API = f"https://127.0.0.1:{API_PORT}"


@dataclass
class Component:
    """A long-running program inside the sandbox, whose output goes to `logs/<name>.log`.

    Attributes:
        name: what it is called.
        command: its command line, with an absolute path.
    """

    name: str
    command: list[str]
    sandbox: Sandbox
    environment: dict[str, str]
    _process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.sandbox.state / "logs" / f"{self.name}.log"

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, *descriptors: int) -> None:
        """Start it; `descriptors` are inherited.

        Raises:
            NodeError: it runs already.
        """
        if self.running:
            raise NodeError(f"{self.name} runs already")
        # nsenter stays outside, as the parent; the program inside dies with it.
        inside = ["/usr/bin/setpriv", "--pdeathsig", "KILL", *self.command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.sandbox.enter(*inside), env=self.environment, cwd="/", stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True, pass_fds=descriptors,
            )  # fmt: skip

    def kill(self) -> None:
        """Kill it at once, as a crash would (SIGKILL), and wait until it is gone; its children live on."""
        if self._process is None:
            return
        parent = self._process.pid
        # The program itself, not nsenter alone: its ports are free when it is gone, a moment after its parent.
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            descriptor = os.pidfd_open(int(child))
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [])
            os.close(descriptor)
        self._process.kill()
        self._process.wait()

    def reap(self) -> None:
        """Forget it once the sandbox, and with it the program, has ended."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def tail(self, size: int = 1500) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""


class Layout:
    """Certificates, kubeconfigs and configuration files of one node, below its state folder."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.state = sandbox.state
        self.disk = sandbox.state / "disk"
        self.folders = {tool: pins.build(tool) for tool in TOOLS}
        for name in ("pki", "config", "cni"):
            (self.state / name).mkdir(mode=0o700)
        self.authority = Authority.make(self.state / "pki", "ca")
        self._issue()

    def path(self, name: str) -> str:
        """Return the path of a configuration file."""
        return str(self.state / "config" / name)

    def binary(self, tool: str, name: str) -> str:
        """Return the path of a binary."""
        return str(self.folders[tool] / name)

    def component(self, name: str, *command: str, **environment: str) -> Component:
        """Return a component that finds the node's own binaries first."""
        path = ":".join(map(str, (*self.folders.values(), CNI_PLUGINS, "/usr/sbin", "/usr/bin", "/sbin", "/bin")))
        env = {"PATH": path, "TMPDIR": str(self.disk / "tmp"), "HOME": str(self.disk / "tmp"), "LANG": "C.UTF-8"}
        return Component(name, list(command), self.sandbox, {**env, **environment})

    def _issue(self) -> None:
        sign = self.authority.sign
        sign(
            "kube-apiserver",
            "/CN=kube-apiserver",
            "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,"
            f"DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:{API_SERVICE},IP:{init.NODE_ADDRESS}",
        )
        sign("admin", "/O=system:masters/CN=admin")
        sign("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client")
        for name, subject in {
            "kubelet": f"/O=system:nodes/CN=system:node:{NODE_NAME}",
            "kube-controller-manager": "/CN=system:kube-controller-manager",
            "kube-scheduler": "/CN=system:kube-scheduler",
            "kube-proxy": "/CN=system:kube-proxy",
            "kube-router": "/O=system:masters/CN=kube-router",
            "provisioner": "/O=system:masters/CN=provisioner",
        }.items():
            sign(name, subject)
            write_private(self.state / "config" / f"{name}.kubeconfig", self.authority.kubeconfig(name, _API))
        front = Authority.make(self.state / "pki", "front-proxy-ca")
        front.sign("front-proxy-client", "/CN=front-proxy-client")
        make_key(self.state / "pki" / "service-accounts.key")


def etcd(layout: Layout) -> Component:
    """The API server's store; nothing in it has to survive a crash."""
    return layout.component(
        "etcd", layout.binary("etcd", "etcd"), f"--data-dir={layout.disk}/etcd", "--unsafe-no-fsync",
        "--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=default=http://127.0.0.1:2380", "--log-level=warn",
    )  # fmt: skip


def apiserver(layout: Layout) -> Component:
    """The API server, with authentication, node authorization and RBAC, and the aggregation layer for webhooks."""
    pki = layout.state / "pki"
    return layout.component(
        "kube-apiserver", layout.binary("kubernetes", "kube-apiserver"),
        "--etcd-servers=http://127.0.0.1:2379", f"--advertise-address={init.NODE_ADDRESS}", f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICE_RANGE}", "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true", f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/kube-apiserver.crt", f"--tls-private-key-file={pki}/kube-apiserver.key",
        f"--kubelet-client-certificate={pki}/kubelet-client.crt", f"--kubelet-client-key={pki}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP", f"--service-account-key-file={pki}/service-accounts.key",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt", "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User", f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy-client.key", "--profiling=false",
    )  # fmt: skip


def controller_manager(layout: Layout) -> Component:
    """All controllers, each under a user name of its own, as admission policies see them in a real cluster."""
    pki = layout.state / "pki"
    return layout.component(
        "kube-controller-manager", layout.binary("kubernetes", "kube-controller-manager"),
        f"--kubeconfig={layout.path('kube-controller-manager.kubeconfig')}", "--use-service-account-credentials=true",
        "--leader-elect=false", f"--root-ca-file={pki}/ca.crt",
        f"--service-account-private-key-file={pki}/service-accounts.key", "--allocate-node-cidrs=true",
        f"--cluster-cidr={POD_RANGE}", f"--node-cidr-mask-size={POD_RANGE.rpartition('/')[2]}",
        f"--cluster-signing-cert-file={pki}/ca.crt", f"--cluster-signing-key-file={pki}/ca.key",
        "--kube-api-qps=200", "--kube-api-burst=400", "--profiling=false",
        f"--flex-volume-plugin-dir={layout.disk}/flexvolumes",
    )  # fmt: skip


def scheduler(layout: Layout) -> Component:
    """The scheduler."""
    config = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": layout.path("kube-scheduler.kubeconfig"), "qps": 200, "burst": 400},
        "leaderElection": {"leaderElect": False},
        # One node, and tests that wait for pods.
        "podInitialBackoffSeconds": 1,
        "podMaxBackoffSeconds": 2,
    }
    Path(layout.path("scheduler.json")).write_text(json.dumps(config))
    return layout.component(
        "kube-scheduler", layout.binary("kubernetes", "kube-scheduler"), f"--config={layout.path('scheduler.json')}"
    )


def containerd(layout: Layout) -> Component:
    """The container runtime, with runc, a bridge for pods, and no way to pull anything."""
    network = {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": POD_RANGE}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": "/run/cni-addresses",
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
    (layout.state / "cni" / "10-pods.conflist").write_text(json.dumps(network))
    runtime = 'plugins."io.containerd.cri.v1.runtime"'
    config = f"""version = 3
root = "{layout.disk}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
path = "{layout.disk}/containerd-opt"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE.name}"
[{runtime}]
# Without CAP_SYS_RESOURCE no process may be given a better score than its parent has.
restrict_oom_score_adj = true
[{runtime}.cni]
bin_dirs = ["{CNI_PLUGINS}"]
conf_dir = "{layout.state}/cni"
[{runtime}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[{runtime}.containerd.runtimes.runc.options]
BinaryName = "{layout.binary("runc", "runc")}"
SystemdCgroup = false
"""
    Path(layout.path("containerd.toml")).write_text(config)
    return layout.component(
        "containerd", layout.binary("containerd", "containerd"), "--config", layout.path("containerd.toml")
    )


def kubelet(layout: Layout) -> Component:
    """The node's agent. Nothing is evicted or collected for want of space: that is the machine's, not the test's."""
    # Pods without a cluster's DNS get a server that does not exist.
    Path(layout.path("resolv.conf")).write_text("nameserver 127.0.0.1\n")
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.state / "pki" / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.sandbox.name}",
        "failCgroupV1": False,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "enforceNodeAllocatable": ["pods"],
        "evictionHard": {"imagefs.available": "0%", "memory.available": "0%", "nodefs.available": "0%"},
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "kubeAPIBurst": 400,
        "kubeAPIQPS": 200,
        "oomScoreAdj": 0,
        "podLogsDir": str(layout.disk / "pod-logs"),
        "resolvConf": layout.path("resolv.conf"),
        "serializeImagePulls": False,
        "syncFrequency": "10s",
        "volumePluginDir": str(layout.disk / "flexvolumes"),
    }
    Path(layout.path("kubelet.json")).write_text(json.dumps(config))
    return layout.component(
        "kubelet", layout.binary("kubernetes", "kubelet"), f"--config={layout.path('kubelet.json')}",
        f"--kubeconfig={layout.path('kubelet.kubeconfig')}", f"--root-dir={layout.disk}/kubelet",
        f"--cert-dir={layout.disk}/kubelet-certificates", f"--hostname-override={NODE_NAME}",
        f"--node-ip={init.NODE_ADDRESS}",
    )  # fmt: skip


def kube_proxy(layout: Layout) -> Component:
    """Services. Connection tracking is the machine's and stays as it is."""
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": layout.path("kube-proxy.kubeconfig")},
        "clusterCIDR": POD_RANGE,
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpCloseWaitTimeout": "0s",
            "tcpEstablishedTimeout": "0s",
            "udpStreamTimeout": "0s",
            "udpTimeout": "0s",
        },
        "hostnameOverride": NODE_NAME,
        "mode": "iptables",
        "iptables": {"minSyncPeriod": "100ms"},
        "oomScoreAdj": 0,
    }
    Path(layout.path("kube-proxy.json")).write_text(json.dumps(config))
    return layout.component(
        "kube-proxy", layout.binary("kubernetes", "kube-proxy"), f"--config={layout.path('kube-proxy.json')}"
    )


def kube_router(layout: Layout) -> Component:
    """NetworkPolicy, and nothing else of what kube-router can do."""
    return layout.component(
        "kube-router", layout.binary("kube-router", "kube-router"),
        f"--kubeconfig={layout.path('kube-router.kubeconfig')}", f"--hostname-override={NODE_NAME}",
        "--run-router=false", "--run-firewall=true", "--run-service-proxy=false", "--run-loadbalancer=false",
        f"--service-cluster-ip-range={SERVICE_RANGE}", "--iptables-sync-period=1m",
    )  # fmt: skip


def provisioner(layout: Layout) -> Component:
    """Volumes on demand."""
    script = Path(__file__).with_name("provisioner.py")
    return layout.component(
        "provisioner", sys.executable, str(script), layout.path("provisioner.kubeconfig"), NODE_NAME,
        str(layout.disk / "volumes"), PYTHONDONTWRITEBYTECODE="1",
    )  # fmt: skip


def proxy(layout: Layout, listening: int) -> Component:
    """The way from outside to the API server: `listening` is the descriptor of a socket that was made outside."""
    script = Path(__file__).with_name("proxy.py")
    return layout.component("proxy", sys.executable, "-I", str(script), str(listening), "127.0.0.1", str(API_PORT))
