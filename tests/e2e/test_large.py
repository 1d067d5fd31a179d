"""A database of one gigabyte is lost, and comes back with one command."""

from __future__ import annotations

import re
import time

import pytest

from tests.e2e import large
from tests.e2e.node import Cluster
from tests.e2e.release import Release, wait_healthy
from tests.lab import data

pytestmark = pytest.mark.e2e


def test_database_of_one_gigabyte_that_was_dropped_is_back_after_one_command(node: Cluster) -> None:
    with node.namespace("large") as namespace:
        node.apply(large.cluster(), namespace=namespace)
        release, server = Release(node, namespace), large.Instance(node, namespace)
        release.install(large.values())
        try:
            wait_healthy(node, namespace, large.CLUSTER)
            server.wait_for_superuser()
            server.fill()
            size, before = server.bytes(), data.fingerprint(server, large.DATABASE)
            assert size >= large.BYTES, f"it has {size} bytes"
            run = release.run(600)
            assert run.succeeded, run
            server.psql(f"DROP DATABASE {large.DATABASE} WITH (FORCE)")
            assert server.names() == []

            began = time.monotonic()
            done = release.try_shell(f"kubectl cnpg-backup restore {large.DATABASE} -n {namespace}", seconds=600)
            took = time.monotonic() - began
            assert done.returncode == 0, done.stdout + done.stderr
            assert server.names() == [large.DATABASE]
            assert data.fingerprint(server, large.DATABASE).differences(before) == []
            archive = re.search(r"staged .*: (\d+ MiB)", run.dump)
            assert archive
            print(
                f"\n{before.rows} rows in {len(before.tables)} tables, {size / 1e6:.0f} MB with indexes, "
                f"an archive of {archive[1]}: restored in {took:.0f} s, {server.bytes() / 1e6:.0f} MB\n{done.stdout}"
            )
        finally:
            release.uninstall()
