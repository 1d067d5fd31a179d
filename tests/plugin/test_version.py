"""`version`, `--version`, `help` and the man pages: there without a cluster, and complete."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kubectl_cnpg_backup.cli import build_parser, main
from kubectl_cnpg_backup.commands.common import documentation, plugin_version
from kubectl_cnpg_backup.model.versions import Versions, document, lines, read_images
from kubectl_cnpg_backup.parser import commands_of
from tests.plugin.common import release

ROOT = Path(__file__).resolve().parents[2]


def test_the_plugins_own_version_needs_no_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--kubeconfig", "/nowhere/kubeconfig", "-o", "json"]) == 0
    text = capsys.readouterr()
    found = json.loads(text.out)
    assert found["plugin"] == plugin_version() or "not installed" in found["plugin"]
    assert found["kubernetes"] is None
    assert "only the plugin's own version: the kubeconfig cannot be used" in text.err


def test_pages_are_named_at_the_version_that_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert documentation() == "docs" or documentation().startswith("https://")
    installed = tmp_path / "cnpg_backup-7.0.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: cnpg-backup\nVersion: 7.0.0\nProject-URL: Homepage, https://example.org/x\n"
        "Project-URL: Documentation, https://example.org/x/blob/v7.0.0/docs/plugin.md\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert plugin_version() == "7.0.0"
    assert documentation() == "https://example.org/x/blob/v7.0.0/docs"


def test_an_api_server_that_does_not_answer_hides_no_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        "{apiVersion: v1, kind: Config, current-context: a, users: [{name: a, user: {token: x}}],"
        " contexts: [{name: a, context: {cluster: a, user: a}}],"
        " clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]}"
    )
    assert main(["version", "--kubeconfig", str(kubeconfig)]) == 0
    text = capsys.readouterr()
    assert text.out.splitlines()[1].startswith("plugin")
    assert "does not answer" in text.err


def test_version_as_an_option_and_help_as_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words, shown in (
        (["--version"], "kubectl cnpg-backup "),
        (["help"], "new-cluster"),
        (["help", "restore"], "usage: kubectl cnpg-backup restore"),
        (["-n", "x", "help", "pin"], "usage: kubectl cnpg-backup pin"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
        assert shown in capsys.readouterr().out


def test_every_image_of_the_release_is_named_once_with_what_runs_it() -> None:
    images = read_images(release("two-images"))
    assert len([image for image in images if "postgres" in image]) == 2
    assert all(uses for uses in images.values())
    assert any("backup/dump" in uses for uses in images.values())
    assert {"drill/drill"} <= {use for uses in images.values() for use in uses}


def test_a_server_whose_image_is_not_known_is_shown_as_such() -> None:
    clusters = {"default/a": "ghcr.io/cloudnative-pg/postgresql:17.5", "default/b": "", "default/c": "own:latest"}
    found = Versions("1", "3.12", "v1.34.1", release(), {}, clusters)
    assert [row[1] for row in lines(found) if row[0].startswith("cluster")] == [
        "PostgreSQL 17",
        "not known",
        "not known",
    ]
    assert [one["postgresql"] for one in document(found)["clusters"]] == [17, None, None]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, str(ROOT / "tools" / "man-pages"), str(folder)], check=True, capture_output=True)
    return folder


def test_every_command_and_every_option_is_in_a_man_page(pages: Path) -> None:
    commands = commands_of(build_parser())
    first = (pages / "kubectl-cnpg_backup.1").read_text()
    assert {path.name for path in pages.iterdir()} == {
        "kubectl-cnpg_backup.1",
        *(f"kubectl-cnpg_backup-{name}.1" for name in commands),
    }
    for name, command in commands.items():
        text = (pages / f"kubectl-cnpg_backup-{name}.1").read_text().replace("\\-", "-")
        assert f"cnpg_backup\\-{name}".replace("-", "\\-").replace("\\\\", "\\") in first
        for action in command._actions:
            if action.help != argparse.SUPPRESS:
                for option in action.option_strings or [str(action.metavar)]:
                    assert option in text, f"{name}: {option}"


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_a_man_page_reads_as_the_help_does_and_without_a_warning(pages: Path) -> None:
    texts = {}
    for path in pages.iterdir():
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww", "-rLL=78n", str(path)], capture_output=True, text=True, check=True
        )
        assert done.stderr == "", path.name
        texts[path.name] = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
    assert "exit codes:\n" in texts["kubectl-cnpg_backup.1"]
    assert "kubectl cnpg-backup restore DATABASE [options]" in texts["kubectl-cnpg_backup-restore.1"]
