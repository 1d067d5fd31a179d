"""Every command that README.md and docs/plugin.md show is typed into a terminal of 80 columns, as somebody would do."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kubectl_cnpg_backup.cli import build_parser
from kubectl_cnpg_backup.parser import commands_of
from lab import terminal_picture
from tests.e2e.node import Cluster
from tests.e2e.release import PLUGIN, Release, cnpg_cluster, databases, fill, sql, wait_healthy
from tests.lab.guide import blocks

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("authelia", "shop")
SECONDS = 240
ANSWERS = ((r"\[y/N\] $", "y\n"), (r"COPY \S+[=#>]+ ?$", "\\q\n"), (r"Ctrl-C ends it\s*$", "\x03"))
"""What somebody does at a question, at psql's prompt, and at an open port."""
LIVE = {
    "authelia": "CREATE TABLE users AS SELECT id, 'u' || id AS name FROM generate_series(1, 9) id;"
    "ALTER TABLE users ADD PRIMARY KEY (id)",
    "shop": "CREATE TABLE orders AS SELECT id, 4700 + id % 20 AS customer FROM generate_series(1, 99) id;"
    "ALTER TABLE orders ADD PRIMARY KEY (id);"
    "CREATE TABLE stock AS SELECT 1 AS warehouse, id AS item, 5 AS pieces FROM generate_series(1, 9) id",
}
ELSEWHERE = {
    "make demo": "tests/lab_tests/test_demo.py",
    "make test": "the tests themselves",
    "helm install cnpg-backup oci://": "the fixture of this file, and `make release-check` from a registry",
    "pipx install cnpg-backup": "tests/plugin/test_entries.py and test_single_file.py use an installed plugin",
}
"""Commands that are not for a cluster, and what runs them."""
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def commands(page: str) -> list[str]:
    """The commands of a page's blocks, those that span lines as one."""
    found: list[str] = []
    for _, language, text in blocks((ROOT / page).read_text()):
        if language == "sh":
            joined = re.sub(r"\|\n\s+", "| ", text.replace("\\\n", " "))
            found += [re.sub(r"\s{2,}# .*$", "", line).strip() for line in joined.splitlines() if line.strip()]
    return found


@dataclass
class Site:
    """Two databases with backups, and the environment of an administrator."""

    cluster: Cluster
    namespace: str
    release: Release
    kubeconfig: Path
    folder: Path

    def environment(self, **more: str) -> dict[str, str]:
        given = self.cluster.environment
        path = f"{PLUGIN}:{Path(sys.executable).parent}:{given.get('PATH', os.defpath)}"
        own = {"PATH": path, "KUBECONFIG": str(self.kubeconfig), "COLUMNS": "80", "TERM": "xterm-256color"}
        return {**given, **own, "KUBECACHEDIR": str(self.folder / "cache"), **more}

    def type(self, line: str, **more: str) -> tuple[int, str]:
        """Type a command into a terminal, answer what it asks, and return its exit code and what was on the screen."""
        main, side = pty.openpty()
        with subprocess.Popen(
            ["bash", "-euc", line], env=self.environment(**more), cwd=self.folder, stdin=side, stdout=side, stderr=side,
            start_new_session=True, preexec_fn=lambda: None,
        ) as process:  # fmt: skip
            os.close(side)
            written, answered, end = "", 0, time.monotonic() + SECONDS
            try:
                while time.monotonic() < end:
                    if not select.select([main], [], [], 0.5)[0]:
                        tail = _COLOURS.sub("", written[answered:]).replace("\r", "")
                        for pattern, answer in ANSWERS:
                            if re.search(pattern, tail):
                                answered = len(written)
                                if answer == "\x03":
                                    os.killpg(process.pid, 2)
                                else:
                                    os.write(main, answer.encode())
                        continue
                    try:
                        chunk = os.read(main, 65536)
                    except OSError:  # nobody has the other side any more
                        break
                    if not chunk:
                        break
                    written += chunk.decode(errors="replace")
                code = process.wait(max(1, end - time.monotonic()))
            finally:
                process.kill()
                os.close(main)
        return code, _COLOURS.sub("", written).replace("\r\n", "\n")

    def plain(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Call the plugin into pipes."""
        return subprocess.run(
            [sys.executable, "-m", "kubectl_cnpg_backup", *words], env=self.environment(**more), cwd=ROOT,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def site(node: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("terminal")
    with node.namespace("pages") as namespace:
        node.apply(*(cnpg_cluster(f"{name}-postgresql-cnpg", name) for name in NAMES), namespace=namespace)
        release = Release(node, namespace)
        release.install({"databases": databases(*NAMES), "persistence": {"size": "1Gi", "keep": False}})
        wait_healthy(node, namespace, *(f"{name}-postgresql-cnpg" for name in NAMES))
        for name in NAMES:
            fill(node, namespace, f"{name}-postgresql-cnpg-1", name)
        for name, query in LIVE.items():
            _live(node, namespace, name, query)
        view = json.loads(node.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
        view["contexts"][0]["context"]["namespace"] = namespace
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(view))
        kubeconfig.chmod(0o600)
        found = Site(node, namespace, release, kubeconfig, folder)
        try:
            done = found.plain("run")
            assert done.returncode == 0, done.stdout + done.stderr
            done = found.plain("drill")
            assert done.returncode == 0, done.stdout + done.stderr
            yield found
        finally:
            release.uninstall()


def _live(node: Cluster, namespace: str, name: str, query: str) -> str:
    return sql(node, namespace, f"{name}-postgresql-cnpg-1", name, f'SET ROLE "{name}"; {query}')


def here(site: Site, command: str) -> str:
    """A command of a page, with the names, times and archives of this test."""
    newest = json.loads(site.plain("list", "authelia", "-o", "json").stdout)[0]["backups"][0]["name"]
    soon = f"{datetime.now(UTC) + timedelta(minutes=5):%Y-%m-%d %H:%M}"
    command = command.replace("authelia-20261122-140000.dump", newest).replace("2026-11-28 12:00", soon)
    return command.replace("-n default", f"-n {site.namespace}")


SHOWN: Mapping[str, str] = {
    "run --database authelia": r"authelia +ok +",
    "cnpg-backup run": r"authelia +ok +",
    "status": r"authelia +ok +",
    "list": r"authelia: \d+ backups",
    "pin": r"pinned",
    "describe authelia": r"deleted +about",
    "download authelia": r"authelia-\d{8}-\d{6}\.dump",
    "restore authelia --replace": r"exit code 0",
    "open authelia": r"read-only COPY authelia_copy_\d{8}_\d{6}",
    "undelete authelia --table users": r"0 rows copied back",
    "discover -A": r"backed-up",
    "kubectl create job --from=cronjob/cnpg-pg-dump-backup": r"job\.batch/cnpg-backup-manual created",
    "kubectl logs -f": r"published",
    "kubectl get jobs": r"cnpg-backup-manual",
    "--help": r"usage: kubectl cnpg-backup COMMAND",
    "discover -o values": "",
    "open shop --backup": r"customer",
    "open shop --port 6543": r"postgresql://cnpg_backup_reader:",
    "open shop": r"read-only COPY shop_copy_",
    "undelete shop --table orders": r"5 rows copied back",
    "diff shop --table orders": r"99 rows are the same, none differ",
    "diff shop --table stock": r'"same": 9',
}
"""What each command shows, by what it contains; the first that fits counts."""


@pytest.mark.parametrize("page", [pytest.param("README.md", marks=pytest.mark.long), "docs/plugin.md"])
def test_every_command_of_a_page_does_what_the_page_says(site: Site, page: str) -> None:
    typed = 0
    for command in commands(page):
        if any(command.startswith(other) for other in ELSEWHERE):
            continue
        if "job/look" in command or " look " in f"{command} " or "job-name=look" in command:
            continue  # as one block, below
        if "undelete shop" in command:
            _live(site.cluster, site.namespace, "shop", "DELETE FROM orders WHERE customer = 4711")
        code, text = site.type(here(site, command))
        assert code == 0, f"{command}\n{text}"
        pattern = next((shown for part, shown in SHOWN.items() if part in command), None)
        assert pattern is not None, f"nothing says what this shows: {command}"
        assert re.search(pattern, text, re.MULTILINE), f"{command}\n{text}"
        assert "Traceback" not in text
        typed += 1
    assert typed >= 8, page
    assert (
        site.cluster.get("jobs", "-n", site.namespace, "-l", "app.kubernetes.io/component in (inspect, open)")["items"]
        == []
    )


def test_a_backup_is_opened_without_the_plugin(site: Site) -> None:
    (block,) = [
        text
        for _, language, text in blocks((ROOT / "docs/plugin.md").read_text())
        if language == "sh" and "look" in text
    ]
    code, text = site.type(block)
    assert code == 0, text
    assert re.search(r"read-only COPY shop_copy_\d{8}_\d{6}=", text), text
    assert "job.batch" in text.splitlines()[-1]


def test_every_command_of_the_plugin_is_in_its_page_and_in_a_test_on_a_cluster() -> None:
    page = (ROOT / "docs" / "plugin.md").read_text()
    own = "".join(path.read_text() for path in Path(__file__).parent.glob("*.py"))
    named = commands_of(build_parser())
    assert [name for name in named if f"`{name}" not in page] == []
    assert [name for name in named if not re.search(rf'"{name}"|cnpg-backup {name}\b', own + page)] == []


def test_help_of_each_command_fits_80_columns_and_reads_alone(site: Site) -> None:
    for name in commands_of(build_parser()):
        code, text = site.type(f"kubectl cnpg-backup {name} -h")
        assert code == 0
        assert max(map(len, text.splitlines())) <= 80, f"{name}\n{text}"
        assert "exit codes:" in text


@pytest.mark.parametrize(
    ("environment", "options"),
    [
        ({"NO_COLOR": "1"}, ()),
        ({"TERM": "dumb"}, ()),
        ({}, ("--color", "never")),
    ],
)
def test_a_terminal_without_colour_has_the_same_words(
    site: Site, environment: dict[str, str], options: tuple[str, ...]
) -> None:
    for words in (("status",), ("list", "authelia"), ("doctor",)):
        line = shlex.join(["kubectl", "cnpg-backup", *words, *options])
        main = site.type(line, **environment)[1]
        lines = [one for one in main.splitlines() if one.strip()]
        assert any("authelia" in one for one in lines), main
        if words[0] == "list":
            assert max(map(len, lines)) <= 80, main


def test_a_pipe_gets_plain_lines_one_for_each_row(site: Site) -> None:
    for words in (("status",), ("list", "authelia"), ("doctor",), ("describe", "authelia"), ("discover",)):
        done = site.plain(*words)
        assert "\x1b" not in done.stdout + done.stderr, words
        assert not re.search(r"[\u2500-\u257f\u2800-\u28ff]", done.stdout + done.stderr), (
            "a screen reader reads them out"
        )
        assert done.stdout.strip()
    text = site.plain("status").stdout
    assert re.findall(r"^(authelia|shop) +\w+ +", text, re.MULTILINE) == list(NAMES), text


PICTURES = {
    "status": (100, "status"), "list": (120, "list authelia"), "run": (120, "run"),
    # For a phone, on which the others cannot be read.
    "status-narrow": (52, "status"), "list-narrow": (52, "list authelia"), "run-narrow": (52, "run"),
}  # fmt: skip


OF_THE_README = {"list", "list-narrow"}
"""Pictures of the backups and the pin that the README's commands have made: they are typed by make e2e-long."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name in OF_THE_README else ()) for name in PICTURES]
)
def test_pictures_show_what_the_plugin_prints(site: Site, name: str) -> None:
    """With PICTURES=write in the environment they are drawn again."""
    columns, words = PICTURES[name]
    environment = os.environ.copy()
    os.environ.update(site.environment())
    try:
        written = terminal_picture.run_in_terminal(["bash", "-c", f"kubectl cnpg-backup {words}"], columns)
    finally:
        os.environ.clear()
        os.environ.update(environment)
    written = written.replace(site.namespace, "default")
    drawn = terminal_picture.draw(f"kubectl cnpg-backup {words}", written, columns, "kubectl cnpg-backup")
    path = ROOT / "docs" / "pictures" / f"{name}.svg"
    if os.environ.get("PICTURES") == "write":
        path.write_text(drawn)
    headers = terminal_picture.headers(drawn)
    assert headers, drawn
    assert terminal_picture.headers(path.read_text()) == headers, f"draw {path.name} again: PICTURES=write"
