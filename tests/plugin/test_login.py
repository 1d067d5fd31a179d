"""Who the plugin is to the API server: as kubectl with the same kubeconfig, or with the account of its pod."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import websocket
from kubernetes.config import incluster_config
from kubernetes.stream import ws_client

from kubectl_cnpg_backup import interrupt
from kubectl_cnpg_backup.cluster import login
from kubectl_cnpg_backup.cluster.api import Cluster
from kubectl_cnpg_backup.cluster.login import impersonation
from kubectl_cnpg_backup.cluster.refusals import forbidden
from kubectl_cnpg_backup.errors import PluginError, UsageError

ALICE = {
    "as": "alice",
    "as-groups": ["devs", "on call"],
    "as-uid": "u-1",
    "as-user-extra": {"example.org/team": ["db", "ops"]},
}
HEADERS = [
    ("Impersonate-User", "alice"),
    ("Impersonate-Group", "devs"),
    ("Impersonate-Group", "on call"),
    ("Impersonate-Uid", "u-1"),
    ("Impersonate-Extra-example.org%2Fteam", "db"),
    ("Impersonate-Extra-example.org%2Fteam", "ops"),
]


class Server(HTTPServer):
    """An API server, or a proxy before one, that notes the path and headers of each request."""

    seen: list[tuple[str, str]]
    path: str


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert isinstance(self.server, Server)
            self.server.path = self.path
            self.server.seen = [(name, value) for name, value in self.headers.items() if "mpersonate" in name]
            body = json.dumps({"kind": "CronJobList", "apiVersion": "batch/v1", "items": []}).encode()
            self.send_response(403 if self.headers.get("Upgrade") else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_CONNECT(self) -> None:
            assert isinstance(self.server, Server)
            self.server.path = f"CONNECT {self.path}"
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    # What `connect` replaces is put back.
    monkeypatch.setattr(ws_client, "WebSocket", websocket.WebSocket)
    found = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def kubeconfig(folder: Path, server: HTTPServer, user: dict[str, Any], address: str = "", **cluster: str) -> str:
    address = address or f"http://127.0.0.1:{server.server_port}"
    document = {
        "clusters": [{"name": "c", "cluster": {"server": address, **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
        "current-context": "c",
    }
    path = folder / "config"
    path.write_text(json.dumps(document))
    return str(path)


def test_requests_and_exec_are_those_of_the_user_that_the_kubeconfig_acts_as(server: Server, tmp_path: Path) -> None:
    cluster = Cluster.connect(kubeconfig(tmp_path, server, ALICE), None, None)
    cluster.cronjobs("a=b")
    assert server.seen == HEADERS
    server.seen = []
    with pytest.raises(PluginError):
        cluster.execute("pod", "container", ["true"])
    assert server.seen == HEADERS


def test_the_options_of_the_call_beat_the_kubeconfig_as_in_kubectl(server: Server, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, server, {"as": "alice"})
    Cluster.connect(path, None, None, {"as": "bob", "as-groups": ["ops"], "as-uid": None}).cronjobs("a=b")
    assert server.seen == [("Impersonate-User", "bob"), ("Impersonate-Group", "ops")]


def test_nobody_is_impersonated_unasked(server: Server, tmp_path: Path) -> None:
    Cluster.connect(kubeconfig(tmp_path, server, {}), None, None).cronjobs("a=b")
    assert server.seen == []


def test_proxy_of_the_kubeconfig_is_asked_for_requests_and_exec(server: Server, tmp_path: Path) -> None:
    """No server has that name here, so only the proxy can have seen the request."""
    proxy = f"http://127.0.0.1:{server.server_port}"
    path = kubeconfig(tmp_path, server, {}, "http://kubernetes.invalid:6443", **{"proxy-url": proxy})
    cluster = Cluster.connect(path, None, None)
    assert cluster.cronjobs("a=b") == []
    assert server.path.startswith("http://kubernetes.invalid:6443/apis/batch/v1/namespaces/shop/cronjobs?")
    with pytest.raises((PluginError, ConnectionError)):
        cluster.execute("pod", "container", ["true"])
    assert server.path == "CONNECT kubernetes.invalid:6443"


@pytest.mark.parametrize("user", [{"as-groups": ["devs"]}, {"as-uid": "1"}, {"as": "a\r\nX: y"}])
def test_what_cannot_be_sent_is_refused(user: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        impersonation(user)


def test_inside_of_a_cluster_the_plugin_is_the_account_of_its_pod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("token", "t"), ("ca.crt", "c"), ("namespace", "shop")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(login, "_ACCOUNT_NAMESPACE", tmp_path / "namespace")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    found = Cluster.connect(None, None, None)
    assert (found._api.configuration.host, found.namespace) == ("https://10.0.0.1:443", "shop")
    assert found._api.configuration.get_api_key_with_prefix("BearerToken") == "bearer t"
    assert Cluster.connect(None, None, "other").namespace == "other"
    (tmp_path / "absent").write_text("")
    assert login.inside_of_a_cluster() is None, "a kubeconfig comes first"


def test_a_login_that_expired_says_so_and_asks_for_no_rule() -> None:
    error = forbidden(
        'cronjobs.batch is forbidden: User "system:anonymous" cannot list resource "cronjobs" in API group "batch" '
        'in the namespace "default"'
    )
    assert "login has expired; log in again" in str(error)
    assert "apiGroups" not in str(error)


def test_a_platform_without_sighup_has_the_other_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows."""
    monkeypatch.delattr(signal, "SIGHUP")
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        interrupt.install()
        with interrupt.uninterrupted():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
