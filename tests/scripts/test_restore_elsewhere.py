"""A restore into a cluster that is not configured: which host it connects to, and a password that is set late."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.lab.postgres import Server
from tests.scripts.conftest import PASSWORD, REPO, RESTORE, Pod, wait_for, wait_until


@pytest.fixture
def shell(shell_paths: dict[str, str]) -> str:
    """The pod's own shell."""
    return shell_paths["busybox"]


@pytest.fixture
def asked(pod: Pod) -> Pod:
    """A pod with a request, and the credentials of a cluster's owner."""
    pod.add("app", wait_timeout="1", sslmode="prefer")
    credentials = pod.folder / "credentials" / "app"
    (credentials / "owner-username").write_text("backup")
    (credentials / "owner-password").write_text(PASSWORD)
    facts = {"database": "app", "base": "app-20260101-000000", "bytes": "1", "sha256": "0", "dbname": "app"}
    lines = [f"{key}={value}" for key, value in {**facts, "server_version": "17.1"}.items()]
    (pod.folder / "results" / "a.request").write_text("\n".join(lines) + "\n")
    return pod


def restored(pod: Pod, cluster: str, expect: int) -> str:
    process = pod.start(RESTORE, RESTORE_CLUSTER=cluster)
    log = wait_for(process, 60)
    assert process.returncode == expect, log
    return log


@pytest.mark.parametrize(("cluster", "host"), [("app-2", "app-2-rw.default.svc"), ("apps/app-2", "app-2-rw.apps.svc")])
def test_the_other_clusters_primary_is_asked_and_not_the_configured_one(asked: Pod, cluster: str, host: str) -> None:
    log = restored(asked, cluster, 1)
    assert f'could not translate host name "{host}"' in log
    assert "nothing was changed" in log


@pytest.mark.parametrize(
    ("configured", "host"),
    [
        ("app-rw.default.svc.cluster.local", "app-2-rw.apps.svc.cluster.local"),
        ("app-rw.default.svc.a.svc.b", "app-2-rw.apps.svc.a.svc.b"),
        ("db.example.org", "app-2-rw.apps.svc"),
    ],
)
def test_full_name_of_the_configured_service_makes_the_other_clusters_host_a_full_name(
    asked: Pod, configured: str, host: str
) -> None:
    """Where a pod's ndots is below 3, musl does not complete a name with two dots."""
    asked.add("app", wait_timeout="1", sslmode="prefer", host=configured)
    log = restored(asked, "apps/app-2", 1)
    assert f'could not translate host name "{host}"' in log
    assert "ndots is below 3, set 'host' to the full name" in log


@pytest.mark.parametrize("cluster", ["a/b/c", "/a", "a/", "host=evil", "A", "a b"])
def test_what_is_no_clusters_name_is_refused(asked: Pod, cluster: str) -> None:
    assert f"RESTORE_CLUSTER='{cluster}' is neither" in restored(asked, cluster, 2)


@pytest.mark.parametrize("key", ["base", "sha256", "server_version"])
def test_request_without_a_key_is_refused_naming_it(asked: Pod, key: str) -> None:
    request = asked.folder / "results" / "a.request"
    lines = request.read_text().splitlines(keepends=True)
    request.write_text("".join(line for line in lines if not line.startswith(f"{key}=")))
    assert f"a.request: {key} is missing" in restored(asked, "app-2", 2)


def test_key_of_a_request_that_nobody_asks_for_is_ignored(asked: Pod) -> None:
    with (asked.folder / "results" / "a.request").open("a") as request:
        request.write("surprise=$(touch /nonexistent/x)\n")
    assert "could not translate host name" in restored(asked, "app-2", 1)


def waiting(pod: Pod, role: str, tmp: Path, patient: str) -> subprocess.Popen[str]:
    """`wait_for_server` as a role whose password is wrong at first."""
    script = f"""
      . {REPO}/scripts/lib.sh
      fail() {{ log x "FAILED $1"; exit 1; }}
      remedy_for() {{ :; }}
      database=x patient={patient} conf_wait_timeout=60 facts={tmp}/facts stderr={tmp}/stderr
      wait_for_server && log x up
    """
    (tmp / "pgpass").write_text("*:*:*:*:right")
    (tmp / "pgpass").chmod(0o600)
    return subprocess.Popen(
        ["sh", "-euc", script], executable=f"{pod.shell_path}/sh", stdout=subprocess.PIPE, text=True,
        env={
            **pod.environment(), "PGHOST": "127.0.0.1", "PGPORT": str(pod.server.port), "PGUSER": role,
            "PGDATABASE": "postgres", "PGPASSFILE": str(tmp / "pgpass"),
            # One attempt a connection: `prefer` tries a second one, which may meet the new password already.
            "PGSSLMODE": "disable",
        },
    )  # fmt: skip


@pytest.mark.parametrize("patient", ["yes", "no"])
def test_a_password_that_is_set_a_moment_later_is_waited_for_where_that_may_be(
    pod: Pod, server: Server, tmp_path: Path, patient: str
) -> None:
    role = f"late_{patient}"
    server.create_role(role, "wrong")
    try:
        with waiting(pod, role, tmp_path, patient) as process:
            refused = f'password authentication failed for user "{role}"'
            wait_until(lambda: refused in server.log or process.poll() is not None, "a refusal", 30)
            server.psql(f"ALTER ROLE {role} PASSWORD 'right'")
            output = wait_for(process, 90)
        assert output.splitlines()[-1].startswith("x: up" if patient == "yes" else "x: FAILED"), output
    finally:
        server.psql(f"DROP ROLE {role}")
