"""docs/restore.md without a cluster: what a restore prints at its end, and how a copy is restored by hand."""

from __future__ import annotations

import subprocess

import pytest

from tests.lab.data import authelia, fingerprint
from tests.lab.guide import block, output, same_but_for_numbers
from tests.lab.postgres import Server
from tests.scripts.conftest import PASSWORD, Pod, drop_owner


@pytest.fixture
def shell(shell_paths: dict[str, str]) -> str:
    """The pod's own shell."""
    return shell_paths["busybox"]


def test_a_good_restore_ends_as_the_guide_shows(pod: Pod, server: Server) -> None:
    """All but the last line, which is the plugin's own."""
    server.create_role("authelia", PASSWORD)
    try:
        server.create_database("authelia", owner="authelia")
        server.psql("ALTER ROLE authelia CREATEDB")
        authelia(server)
        pod.add("authelia", user="authelia")
        for key, value in (("owner-username", "authelia"), ("owner-password", PASSWORD)):
            (pod.folder / "credentials" / "authelia" / key).write_text(value)
        pod.run()
        printed = pod.restore("authelia", RESTORE_REPLACE="yes").splitlines()
        shown = output("whole-plugin")
        assert shown[-1] == "exit code 0"
        assert same_but_for_numbers(shown[:-1], printed[-len(shown) + 1 :]), "\n".join(printed)
    finally:
        drop_owner(server, "authelia")


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
