"""An API server alone: etcd and kube-apiserver on loopback. No node, no controller: for what the API itself answers."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.node import Cluster, wait_until
from tests.e2e.node.errors import NodeError
from tests.e2e.node.pins import build
from tests.e2e.node.pki import Authority, make_key, write_private


class ApiServer(Cluster):
    """A running API server; `kubeconfig` is its administrator's."""

    def __init__(self, folder: Path, authority: Authority, port: int, kubectl: str) -> None:
        self._folder = folder
        self._authority = authority
        self._url = f"https://127.0.0.1:{port}"
        super().__init__(self.user("admin", "system:masters"), kubectl)

    def user(self, name: str, group: str = "people", namespace: str = "default") -> Path:
        """Make a kubeconfig for a user of that name."""
        self._authority.sign(name, f"/O={group}/CN={name}")
        document = json.loads(self._authority.kubeconfig(name, self._url))
        for context in document["contexts"]:
            context["context"]["namespace"] = namespace
        path = self._folder / f"{name}.kubeconfig"
        write_private(path, json.dumps(document))
        return path


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextmanager
def running() -> Iterator[ApiServer]:
    """Start etcd and an API server, and end both afterwards."""
    etcd, kubernetes = build("etcd"), build("kubernetes")
    with tempfile.TemporaryDirectory(prefix="apiserver-") as name:
        folder = Path(name)
        authority = Authority.make(folder, "ca")
        authority.sign("server", "/CN=server", "IP:127.0.0.1,DNS:localhost")
        make_key(folder / "service-accounts.key")
        client, peer, port = _free_port(), _free_port(), _free_port()
        commands = [
            [
                str(etcd / "etcd"), f"--data-dir={folder}/etcd", "--unsafe-no-fsync", "--log-level=error",
                f"--listen-client-urls=http://127.0.0.1:{client}", f"--advertise-client-urls=http://127.0.0.1:{client}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}", f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-cluster=default=http://127.0.0.1:{peer}",
            ],
            [
                str(kubernetes / "kube-apiserver"), f"--etcd-servers=http://127.0.0.1:{client}",
                f"--secure-port={port}", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
                "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/24",
                "--authorization-mode=RBAC", f"--client-ca-file={folder}/ca.crt",
                f"--tls-cert-file={folder}/server.crt", f"--tls-private-key-file={folder}/server.key",
                f"--service-account-key-file={folder}/service-accounts.key",
                f"--service-account-signing-key-file={folder}/service-accounts.key",
                "--service-account-issuer=https://kubernetes.default.svc", "--profiling=false",
                "--disable-admission-plugins=ServiceAccount",
            ],
        ]  # fmt: skip
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for command in commands:
                with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
                    processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
            server = ApiServer(folder, authority, port, str(kubernetes / "kubectl"))
            try:
                wait_until("the API server is ready", lambda: server.kubectl("get", "--raw", "/readyz") == "ok", 120)
                wait_until("there is a default namespace", lambda: bool(server.get("namespace", "default")), 60)
            except NodeError as error:
                tail = (folder / "kube-apiserver.log").read_text(errors="replace")[-2000:]
                raise NodeError(f"{error}\n{tail}") from None
            yield server
        finally:
            for process in reversed(processes):
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
