"""tools/try-chart, which CI runs on kind and a maintainer before a release, from its first line to its last."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.node import Node
from tests.e2e.release import REPO, tool

pytestmark = [pytest.mark.e2e, pytest.mark.long]

PUBLIC = {
    "localhost/postgresql:17": "ghcr.io/cloudnative-pg/postgresql:17",
    "localhost/postgres:17-test": "docker.io/library/postgres:17-alpine",
    "localhost/python:3-test": "docker.io/library/python:3.14-alpine",
}
"""The node has no way out: its own images, and what the chart and the cluster call them."""


@pytest.mark.parametrize("helm", ["helm", "helm3"])
def test_a_chart_is_tried_from_an_empty_namespace_to_a_drill(own_node: Node, tmp_path: Path, helm: str) -> None:
    for own, public in PUBLIC.items():
        own_node.tag_image(own, public)
    given = own_node.environment
    environment = {
        **given,
        "HELM": tool(helm).as_posix(),
        "PATH": f"{Path(sys.executable).parent}:{given.get('PATH', os.defpath)}",
        "TRY_CLUSTER": f"imageName: {PUBLIC['localhost/postgresql:17']}",
    }
    done = subprocess.run(
        ["sh", REPO / "tools" / "try-chart", REPO / "chart"], env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=1200,
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    assert "try-chart: all of it works" in done.stdout
