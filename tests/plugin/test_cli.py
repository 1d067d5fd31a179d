"""The command line without a cluster: usage, completion, refusals as one line, and nothing heavy loaded too early."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kubectl_cnpg_backup import commands
from kubectl_cnpg_backup.cli import build_parser, main
from kubectl_cnpg_backup.cluster.refusals import forbidden
from kubectl_cnpg_backup.commands.restore import check_keep, environment
from kubectl_cnpg_backup.complete import _subcommands, candidates
from kubectl_cnpg_backup.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


def test_every_command_of_the_parser_is_there_and_no_other() -> None:
    modules = [
        importlib.import_module(f"{commands.__name__}.{one.name}") for one in pkgutil.iter_modules(commands.__path__)
    ]
    defined = {
        work
        for module in modules
        for name, work in vars(module).items()
        if name.split("_")[0] == "run" and getattr(work, "__module__", "") == module.__name__
    }
    called = [parser.get_default("run") for parser in _subcommands(build_parser()).values()]
    assert len(called) == len(set(called))
    assert set(called) == defined


def test_every_command_is_run_on_a_cluster_by_a_test() -> None:
    text = "".join(path.read_text() for path in sorted((ROOT / "tests" / "e2e").glob("test_*.py")))
    names = list(_subcommands(build_parser()))
    assert {"drill", "plan", "unpin"} <= set(names)
    called = r'(cnpg-backup |(run|document|plugin)\("){}[ "]'
    assert [name for name in names if not re.search(called.format(name), text)] == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["lst"], "invalid choice: 'lst'"),
        (["list", "-o", "xml"], "invalid choice: 'xml'"),
        (["pin", "a.dump", "--for", "30"], "'30' is not a duration"),
        (["new-cluster", "a"], "the following arguments are required: --name"),
        (["new-cluster", "a", "--name", "b", "--storage", "10 GB"], "'10 GB' is not a size"),
        (["new-cluster", "a", "--name", "b", "--instances", "0"], "'0' is not a whole number above 0"),
        (["list", "--kubeconfig", "/nowhere/kubeconfig"], "give one with --kubeconfig or KUBECONFIG"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("more", [[], ["--into", "x", "--replace"], ["--into", "x", "--way", "in-place"]])
def test_what_may_be_a_part_of_a_backup_never_replaces_a_database(more: list[str]) -> None:
    options = build_parser().parse_args(["restore", "a", "--on-error", "keep", *more])
    with pytest.raises(UsageError, match="never replaces a database"):
        check_keep(options)


def test_options_of_a_restore_reach_its_pod_as_they_were_typed() -> None:
    typed = ["--into", "x", "--on-error", "keep", "--search-path", 'app,"My S"', "--table", '"My Table"']
    options = build_parser().parse_args(["restore", "a", *typed, "--table", "b"])
    check_keep(options)
    found = environment(options)
    assert found["RESTORE_ON_ERROR"] == "keep"
    assert found["RESTORE_SEARCH_PATH"] == 'app,"My S"'
    assert found["RESTORE_TABLES"] == '"My Table" b'
    chart = (ROOT / "chart" / "templates" / "cronjob-restore.yaml").read_text()
    assert [name for name in found if f"- name: {name}\n" not in chart] == [], "the chart does not name these"


def test_a_cluster_that_does_not_answer_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        "{apiVersion: v1, kind: Config, current-context: a, users: [{name: a, user: {token: x}}],"
        " contexts: [{name: a, context: {cluster: a, user: a}}],"
        " clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]}"
    )
    assert main(["status", "--kubeconfig", str(kubeconfig)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert "does not answer" in error
    assert "Traceback" not in error


HEAVY = ("kubernetes", "rich", "yaml", "urllib3", "websocket")


@pytest.mark.parametrize(
    "statement",
    [
        "import kubectl_cnpg_backup.cli as c; c.build_parser().parse_args(['list'])",
        "import kubectl_cnpg_backup.complete as c; c.candidates(['run', ''])",
    ],
)
def test_completion_and_help_do_not_load_the_client(statement: str) -> None:
    script = f"import sys; {statement}; print([one for one in {HEAVY!r} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "some", "files"),
    [
        (["li"], "list", False),
        (["list", "-o", ""], "json", False),
        (["list", "--rel"], "--release", False),
        (["run", "--dat"], "--database", False),
        (["new"], "new-cluster", False),
        (["new-cluster", "--sto"], "--storage-class", False),
    ],
)
def test_completion(words: list[str], some: str, files: bool) -> None:
    found, with_files = candidates(words)
    assert some in [candidate for candidate, _ in found]
    assert with_files is files


def test_completion_leaves_values_to_the_shell() -> None:
    assert candidates(["download", "--to", ""]) == ([], True)


def test_a_missing_rule_is_named() -> None:
    error = forbidden(
        'pods "a" is forbidden: User "eve" cannot create resource "pods/exec" in API group "" '
        'in the namespace "default"'
    )
    assert error.problem == "user eve may not create pods/exec in namespace default"
    assert '{apiGroups: [""], resources: [pods/exec], verbs: [create]} in a Role' in error.remedy
    whole = forbidden('x is forbidden: User "eve" cannot get resource "nodes" in API group "" at the cluster scope')
    assert "in all namespaces" in whole.problem
    assert "ClusterRole" in whole.remedy


def test_a_policys_refusal_is_told_as_it_stands() -> None:
    said = "jobs \"x\" is forbidden: ValidatingAdmissionPolicy 'restrict' denied request: eve asks to create jobs x"
    assert forbidden(said).problem == said
