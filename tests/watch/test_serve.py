"""The watcher as it runs: against an API server over TLS, and its own port."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import trustme

from retention.errors import ConfigError
from retention.message import OK, Line
from tests.watch.histories import CRONJOB, HOUR, MINUTE, START, cronjob_object
from tests.watch.sink import PatientServer
from tests.watch.test_metrics import databases_of, of, parse
from tests.watch.test_standing import good, ran
from watch.api import Api, ApiError
from watch.serve import Watcher
from watch.server import Server
from watch.settings import read

NOW = START + 3 * HOUR


class Cluster:
    """An API server that keeps what it is asked, and can be broken."""

    def __init__(self, folder: Path) -> None:
        job, pod = ran("run-1", [good("app"), Line("blog", OK, START + MINUTE, "published", {"kept": 1})])
        self.lists: dict[str, Any] = {"cronjobs": [cronjob_object()], "jobs": [job], "pods": [pod]}
        self.memory: dict[str, str] | None = None
        self.requests: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()
        self.status = self.patches = 200
        self.events: dict[str, Any] = {}
        self.posts = 201
        self.body: bytes | None = None
        authority = trustme.CA()
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                cluster.requests.append(("GET", self.path))
                cluster.tokens.add(self.headers["Authorization"])
                kind = path.rpartition("/")[2]
                found: Any = {"data": cluster.memory} if "/configmaps/" in path else {"items": cluster.lists.get(kind)}
                self._answer(json.dumps(found).encode())

            def do_PATCH(self) -> None:
                cluster.requests.append(("PATCH", self.path))
                assert self.headers["Content-Type"] == "application/merge-patch+json"
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if cluster.patches == 200:
                    cluster.memory = {**(cluster.memory or {}), **body["data"]}
                self._answer(b"{}", cluster.patches)

            def do_POST(self) -> None:
                cluster.requests.append(("POST", self.path))
                assert self.headers["Content-Type"] == "application/json"
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name, status = body["metadata"]["name"], cluster.posts
                if status == 201 and name in cluster.events:
                    status = 409
                elif status == 201:
                    cluster.events[name] = body
                self._answer(b"{}", status)

            def _answer(self, content: bytes, status: int | None = None) -> None:
                self.send_response(status or cluster.status)
                self.send_header("Location", "https://elsewhere.example")
                self.end_headers()
                self.wfile.write(content if cluster.body is None else cluster.body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self.server = PatientServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        authority.cert_pem.write_to_path(str(folder / "ca.crt"))
        trustme.CA().cert_pem.write_to_path(str(folder / "other.crt"))
        (folder / "token").write_text("secret-1\n")
        url = f"https://127.0.0.1:{self.server.server_port}"
        self.api = Api(url, folder / "token", folder / "ca.crt", "default")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.server.shutdown()
    made.server.server_close()


def settings_text(**changes: Any) -> str:
    database = {"cluster": "c", "namespace": "default", "dbname": "d"}
    cronjob = {"component": "backup", "databases": {"app": database, "blog": database}, "entries": {}}
    document = {
        "namespace": "default",
        "release": "cnpg-backup",
        "version": "0.1.0",
        "memory": "cnpg-backup-status",
        "timeZone": "Etc/UTC",
        "cronjobs": {CRONJOB: {**cronjob, "staleAfter": 18600}},
    }
    return json.dumps({**document, **changes})


@pytest.fixture
def watcher(cluster: Cluster) -> Watcher:
    return Watcher(read(settings_text()), cluster.api, clock=lambda: NOW)


def served(watcher: Watcher, path: str) -> str:
    found = watcher.document(path)
    assert found is not None, path
    return found.content.decode()


def samples(watcher: Watcher) -> Any:
    return parse(served(watcher, "/metrics"))


def test_watcher_reads_three_lists_and_one_config_map_and_changes_nothing_else(
    watcher: Watcher, cluster: Cluster
) -> None:
    watcher.step(NOW)
    paths = [(method, path.partition("?")[0]) for method, path in cluster.requests]
    memory = "/api/v1/namespaces/default/configmaps/cnpg-backup-status"
    assert paths == [
        ("GET", memory),
        *(("GET", f"/apis/batch/v1/namespaces/default/{kind}") for kind in ("cronjobs", "jobs")),
        ("GET", "/api/v1/namespaces/default/pods"),
        ("PATCH", memory),
    ]
    assert all("labelSelector=" in path and "resourceVersion=0" in path for _, path in cluster.requests[1:4])
    assert cluster.tokens == {"Bearer secret-1"}
    found = samples(watcher)
    assert databases_of(found, "database_info") == {"app", "blog"}
    assert of(found, "stale_after_seconds", database="app") == [18600]
    assert of(found, "last_run_result", database="app", result="ok") == [1]
    cluster.requests.clear()
    watcher.step(NOW + MINUTE)
    assert not [one for one in cluster.requests if one[0] == "PATCH"], "nothing new was learned"


def test_restart_changes_nothing_though_pods_and_jobs_are_gone(watcher: Watcher, cluster: Cluster) -> None:
    watcher.step(NOW)
    before = samples(watcher)
    cluster.lists |= {"jobs": [], "pods": []}
    again = Watcher(read(settings_text()), cluster.api, clock=lambda: NOW)
    again.step(NOW)
    after = samples(again)
    assert {key for key in before if key[0] != "cronjob_last_job_result"} == set(after)
    assert all(before[key] == after[key] for key in after)


def test_run_that_ended_after_now_is_remembered_as_of_now(watcher: Watcher, cluster: Cluster) -> None:
    """Some clock is wrong; with its own moment it would hide every run until then."""
    job, pod = ran("run-2", [good("app", NOW), good("blog", NOW)], started=NOW + 9 * HOUR)
    cluster.lists |= {"jobs": [job], "pods": [pod]}
    watcher.step(NOW)
    (ended,) = of(samples(watcher), "last_run_timestamp_seconds", database="app")
    assert ended == (NOW + 5 * MINUTE).timestamp()


def test_before_the_first_look_nothing_is_said_of_any_database(watcher: Watcher, cluster: Cluster) -> None:
    cluster.status = 503
    with pytest.raises(ApiError, match="503"):
        watcher.step(NOW)
    assert {name for name, _ in samples(watcher)} == {"build_info"}
    assert json.loads(served(watcher, "/status.json"))["databases"] == []


@pytest.mark.parametrize("fault", ["status", "redirect", "body", "null", "items", "gone", "authority", "token"])
def test_api_server_that_cannot_be_read_is_not_an_empty_one(
    watcher: Watcher, cluster: Cluster, fault: str, tmp_path: Path
) -> None:
    watcher.step(NOW)
    before = samples(watcher)
    if fault in ("status", "redirect"):
        cluster.status = {"status": 500, "redirect": 302}[fault]
    elif fault == "gone":
        cluster.server.shutdown()
        cluster.server.server_close()
    elif fault == "authority":
        (tmp_path / "ca.crt").write_bytes((tmp_path / "other.crt").read_bytes())
    elif fault == "token":
        (tmp_path / "token").unlink()
    else:
        cluster.body = {"body": b"{", "null": b"null", "items": b'{"items": 3}'}[fault]
    with pytest.raises(ApiError):
        watcher.step(NOW + HOUR)
    assert samples(watcher) == before
    assert of(before, "status_read_timestamp_seconds") == [NOW.timestamp()], "it gets older"


def test_token_is_read_again_for_each_request(watcher: Watcher, cluster: Cluster, tmp_path: Path) -> None:
    watcher.step(NOW)
    (tmp_path / "token").write_text("secret-2")
    watcher.step(NOW + timedelta(minutes=1))
    assert cluster.tokens == {"Bearer secret-1", "Bearer secret-2"}


def test_what_could_not_be_saved_is_saved_with_the_next_look(watcher: Watcher, cluster: Cluster) -> None:
    cluster.patches = 403
    with pytest.raises(ApiError, match="403"):
        watcher.step(NOW)
    assert of(samples(watcher), "backups", database="app") == [1], "what was read is served all the same"
    assert cluster.memory is None
    cluster.patches = 200
    watcher.step(NOW + MINUTE)
    assert cluster.memory


@pytest.fixture
def port(watcher: Watcher) -> Iterator[int]:
    watcher.step(NOW)
    server = Server(("127.0.0.1", 0), watcher.document)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def ask(port: int, method: str, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path)
    answer = connection.getresponse()
    answer.content = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


@pytest.mark.parametrize("path", ["/", "/metrics", "/status.json", "/healthz", "/metrics?x=1"])
def test_documents_are_served_with_headers_that_let_nothing_run(port: int, path: str) -> None:
    answer, head = ask(port, "GET", path), ask(port, "HEAD", path)
    assert answer.status == head.status == 200
    assert answer.content  # type: ignore[attr-defined]
    assert not head.content  # type: ignore[attr-defined]
    assert head.headers["Content-Length"] == answer.headers["Content-Length"]
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if path == "/metrics":
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("path", ["/../../etc/passwd", "//etc/passwd", "/%2e%2e/etc/passwd", "/metrics/", "/<script>"])
def test_no_path_reaches_the_file_system(port: int, path: str) -> None:
    answer = ask(port, "GET", path)
    assert answer.status == 404
    assert b"<script>" not in answer.content  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(port: int, method: str) -> None:
    assert ask(port, method, "/status.json").status == 501


def test_clients_that_never_ask_do_not_keep_others_out_for_ever(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watch.server._Handler.timeout", 0.5)
    idle = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(20)]
    for one in idle:
        # Answered, turned away, or its time is over: each of them ends.
        assert one.recv(1) == b""
        one.close()
    assert ask(port, "GET", "/healthz").status == 200


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        settings_text().replace('"memory"', '"other"'),
        settings_text().replace("18600", '"soon"'),
        settings_text(cronjobs={"a": {"component": "backup", "databases": 3, "entries": {}, "staleAfter": 1}}),
        settings_text(cronjobs=None),
    ],
)
def test_settings_that_are_wrong_are_one_clear_error(text: str) -> None:
    with pytest.raises(ConfigError):
        read(text)


def test_what_is_seen_no_more_grows_old_and_the_document_says_so(watcher: Watcher, cluster: Cluster) -> None:
    """A checker that is stuck must not show green forever."""
    watcher.step(NOW)
    found = json.loads(served(watcher, "/status.json"))
    assert found["out_of_date"] is None
    assert {one["state"] for one in found["databases"]} == {"ok"}
    watcher.clock = lambda: NOW + MINUTE
    assert json.loads(served(watcher, "/status.json"))["out_of_date"] is None
    cluster.status = 500
    watcher.clock = lambda: NOW + 7 * HOUR
    with pytest.raises(ApiError):
        watcher.step(watcher.clock())
    found = json.loads(served(watcher, "/status.json"))
    assert found["out_of_date"] == "the API server was last read 7h ago: what has happened since is not known"
    assert {one["state"] for one in found["databases"]} == {"late"}
