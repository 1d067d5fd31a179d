"""docs/restore.md where Kubernetes is gone: a folder of the copy, PostgreSQL, and what is pasted."""

from __future__ import annotations

import subprocess

import pytest

from tests.lab.data import authelia, fingerprint
from tests.lab.guide import block
from tests.lab.postgres import Server
from tests.scripts.conftest import PASSWORD, Pod


@pytest.fixture
def shell(shell_paths: dict[str, str]) -> str:
    """The pod's own shell."""
    return shell_paths["busybox"]


def test_a_copy_of_the_volume_is_restored_without_kubernetes(pod: Pod, server: Server) -> None:
    server.create_role("authelia", PASSWORD)
    try:
        server.create_database("authelia", owner="authelia")
        authelia(server)
        good = fingerprint(server, "authelia")
        pod.add("authelia")
        pod.run()
        server.drop_database("authelia")
        (archive,) = pod.archives("authelia")
        done = subprocess.run(
            ["sh", "-euc", block("alone").replace("authelia-20261122-140000.dump", archive.name)],
            cwd=archive.parent, env={"PATH": f"{server.bin}:/usr/bin:/bin", **server.superuser_env},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"{archive.name}: OK" in done.stdout
        found = fingerprint(server, "authelia")
        assert (found.tables, found.sequences) == (good.tables, good.sequences)
        assert int(server.value("SELECT count(*) FROM pg_stats WHERE schemaname = 'public'", "authelia")) > 0
    finally:
        server.drop_database("authelia")
        server.psql("DROP ROLE authelia")
