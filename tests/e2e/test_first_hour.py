"""docs/start.md from its first command to its last, with a chart from a registry, as somebody new would type it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.release.check import registry
from lab.release.package import make_chart
from lab.release.project import read
from lab.release.publish import push_chart
from tests.e2e.node import Cluster, Node, wait_until
from tests.e2e.release import PLUGIN, REPO, tool
from tests.lab.guide import blocks

pytestmark = [pytest.mark.e2e, pytest.mark.long]

STEPS = [(name, text) for name, language, text in blocks((REPO / "docs" / "start.md").read_text()) if language == "sh"]
PUBLIC = {
    "localhost/postgresql:17": "ghcr.io/cloudnative-pg/postgresql:17",
    "localhost/postgres:17-test": "docker.io/library/postgres:17-alpine",
    "localhost/python:3-test": "docker.io/library/python:3.14-alpine",
}
"""The node has no way out: its own images, and what the chart and the page call them."""
SHOWN = {
    "plugin": r"shop +unprotected",
    "install": r"cnpg-backup \S+ backs up 1 database to the claim cnpg-backups-pvc",
    "test": r"shop +ready",
    "run": r"shop +ok [\s\S]*shop-\d{8}-\d{6}\.dump",
    "drill": r"shop +proved",
    "restore": r"DELETE 1000[\s\S]*exit code 0[\s\S]*\n +1000\n",
    "look": r"shop +ok ",
}
"""What a step prints, where the page says so."""


@dataclass
class Newcomer:
    """Somebody with one shell, a folder, and the rights of an administrator."""

    cluster: Cluster
    namespace: str
    folder: Path
    chart: str

    def type(self, name: str, script: str) -> str:
        """Paste a block of the page, with the addresses and the namespace of this test."""
        script = re.sub(r"oci://\S+/charts/cnpg-backup", f"{self.chart}/cnpg-backup --plain-http", script)
        if name == "database":
            script = script.replace(
                "  instances: 1\n", f"  instances: 1\n  imageName: {PUBLIC['localhost/postgresql:17']}\n"
            )
        script = script.replace("pipx install cnpg-backup\n", "").replace("--replace", "--replace --yes")
        done = subprocess.run(
            ["sh", "-euc", f"N={self.namespace}\n{script}"],
            env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, f"{name} ended with {done.returncode}\n{script}\n{done.stdout}"
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """Its environment: kubectl, helm and the plugin of this checkout."""
        given = self.cluster.environment
        path = f"{PLUGIN}:{tool('helm').parent}:{Path(sys.executable).parent}:{given.get('PATH', os.defpath)}"
        return {**given, "PATH": path, "COLUMNS": "120"}


@pytest.fixture
def newcomer(own_node: Node, tmp_path: Path) -> Iterator[Newcomer]:
    """The chart in a registry on this machine, and a node that has the public images."""
    for own, public in PUBLIC.items():
        own_node.tag_image(own, public)
    (tmp_path / "packages").mkdir()
    make_chart(REPO, tmp_path / "packages")
    with own_node.namespace("hour") as namespace, registry(tmp_path) as address:
        push_chart(tmp_path / "packages", read(REPO), address, plain_http=True)
        yield Newcomer(own_node, namespace, tmp_path, address)


def test_the_first_hour_leads_from_nothing_to_a_proved_backup_and_away_again(newcomer: Newcomer) -> None:
    names = [name for name, _ in STEPS]
    assert "" not in names, "a block of the page has no name, so that nothing runs it"
    for name, script in STEPS:
        printed = newcomer.type(name, script)
        shown = SHOWN.get(name, "")
        assert re.search(shown, printed), f"{name} does not show {shown!r}:\n{printed}"
        assert "Traceback" not in printed
    gone = ("get", "pvc,cluster", "-n", newcomer.namespace, "-o", "name")
    wait_until("nothing is left", lambda: newcomer.cluster.kubectl(*gone).strip() == "", 120)
