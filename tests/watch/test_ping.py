"""The sign of life: it says that all is well only where that is known, and its silence is an alarm too."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from retention.message import FAILED, OK, REFUSED, WARNING
from tests.watch.histories import HOUR, MINUTE
from tests.watch.sink import Sink, sink  # noqa: F401 - a fixture
from tests.watch.test_metrics import of, parse
from tests.watch.test_serve import NOW, Cluster, cluster, served, settings_text  # noqa: F401 - a fixture
from watch.api import ApiError
from watch.couriers import HEALTHCHECKS
from watch.memory import UNKNOWN
from watch.ping import ping_for, url_of
from watch.sender import SendError, send
from watch.serve import Watcher
from watch.settings import read
from watch.standing import LATE, Database
from watch.targets import Post


def database(state: str, *, suspended: bool = False, name: str = "app") -> Database:
    return Database(name, "c", "c", "n", "d", suspended, state, f"it is {state}", None, None, None, None)


@pytest.mark.parametrize(
    ("states", "failed"),
    [
        ([OK], False),
        ([OK, WARNING], False),
        ([OK, FAILED], True),
        ([LATE], True),
        ([REFUSED, UNKNOWN], True),
        ([OK, UNKNOWN], None),
        ([UNKNOWN], None),
        ([], False),
    ],
)
def test_all_is_well_only_where_that_is_known(states: list[str], failed: bool | None) -> None:
    found = ping_for([database(state) for state in states], out_of_date=None, title="t")
    assert (None if found is None else found.failed) == failed


def test_out_of_date_is_silence_and_so_an_alarm() -> None:
    assert ping_for([database(OK)], out_of_date="last read 7h ago", title="t") is None
    assert ping_for([database(FAILED)], out_of_date="last read 7h ago", title="t") is None


def test_suspended_databases_are_not_asked_about() -> None:
    found = ping_for([database(OK), database(LATE, suspended=True, name="off")], out_of_date=None, title="t")
    assert found is not None
    assert not found.failed
    assert b"off" not in found.body


def test_body_names_the_worst_first_and_is_bounded() -> None:
    many = [database(OK, name=f"database-{number}") for number in range(900)]
    found = ping_for([*many, database(FAILED, name="shop")], out_of_date=None, title="cnpg-backup default/cnpg-backup")
    assert found is not None
    assert found.body.startswith(b"cnpg-backup default/cnpg-backup\nshop: failed: it is failed\n")
    assert len(found.body) <= 10_000


def test_url_keeps_its_query() -> None:
    assert url_of("https://hc.example/k/slug?create=1", failed=True) == "https://hc.example/k/slug/fail?create=1"
    assert url_of("https://hc.example/uuid/\n", failed=False) == "https://hc.example/uuid"


@pytest.fixture
def watcher(cluster: Cluster, tmp_path: Path, sink: Sink) -> Watcher:  # noqa: F811 - the fixtures
    (tmp_path / "healthchecks").write_text(f"{sink.url}\n")
    return Watcher(read(settings_text(pingEvery=300)), cluster.api, clock=lambda: NOW, secrets=tmp_path)


def ping(watcher: Watcher, now: datetime) -> None:
    watcher.couriers.notify(HEALTHCHECKS, watcher.look(now))


def counted(watcher: Watcher) -> dict[str, list[Any]]:
    found = parse(served(watcher, "/metrics"))
    return {outcome: of(found, "notifications_total", outcome=outcome) for outcome in ("ok", "failed")}


def test_sign_of_life_comes_once_a_period_and_at_once_when_something_turns(
    watcher: Watcher,
    sink: Sink,  # noqa: F811 - the fixture
) -> None:
    watcher.step(NOW)
    for minutes in (0, 1, 4, 5, 6):
        watcher.step(NOW + minutes * MINUTE)
        ping(watcher, NOW + minutes * MINUTE)
    assert sink.paths == ["/secret-uuid", "/secret-uuid"]
    late = NOW + 7 * HOUR
    watcher.step(late)
    ping(watcher, late)
    assert sink.paths[2:] == ["/secret-uuid/fail"]
    assert b"late" in sink.bodies[-1]
    assert counted(watcher) == {"ok": [3], "failed": []}


def test_sign_of_life_stays_away_when_the_api_server_cannot_be_read(
    watcher: Watcher,
    sink: Sink,  # noqa: F811 - the fixture
    cluster: Cluster,  # noqa: F811 - the fixture
) -> None:
    ping(watcher, NOW)
    assert sink.paths == [], "nothing is known yet"
    watcher.step(NOW)
    ping(watcher, NOW)
    cluster.status = 500
    with pytest.raises(ApiError):
        watcher.step(NOW + 10 * MINUTE)
    ping(watcher, NOW + 10 * MINUTE)
    assert sink.paths == ["/secret-uuid"]


def test_a_sign_of_life_that_did_not_arrive_is_sent_again_and_its_url_never_logged(
    watcher: Watcher,
    sink: Sink,  # noqa: F811 - the fixture
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    watcher.step(NOW)
    sink.status = 503
    ping(watcher, NOW)
    (tmp_path / "healthchecks").rename(tmp_path / "elsewhere")
    ping(watcher, NOW + timedelta(seconds=30))
    (tmp_path / "healthchecks").write_text("secret-but-no-url")
    ping(watcher, NOW + timedelta(seconds=40))
    (tmp_path / "elsewhere").rename(tmp_path / "healthchecks")
    sink.status = 200
    ping(watcher, NOW + timedelta(seconds=50))
    assert counted(watcher) == {"ok": [1], "failed": [3]}
    logged = capsys.readouterr().err
    assert "healthchecks was not notified: it answered 503" in logged
    assert "create the Secret" in logged
    assert "secret-" not in logged
    assert "secret-" not in served(watcher, "/metrics")


def test_nothing_is_sent_to_another_host(sink: Sink) -> None:  # noqa: F811 - the fixture
    other = Sink()
    sink.status, sink.location = 302, other.url
    with pytest.raises(SendError, match="another host"):
        send(Post(sink.url, b"x"))
    assert other.paths == []
    other.close()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/secret", "http://no-such-host.invalid/secret", "http://[bad/secret"]
)
def test_a_target_that_cannot_be_reached_is_one_clear_error(url: str) -> None:
    with pytest.raises(SendError) as caught:
        send(Post(url, b"x"))
    assert "secret" not in str(caught.value)
