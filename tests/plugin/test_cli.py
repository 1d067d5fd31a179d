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
from kubectl_cnpg_backup.commands.restore import check_keep, check_options, environment
from kubectl_cnpg_backup.complete import candidates
from kubectl_cnpg_backup.errors import UsageError
from kubectl_cnpg_backup.model.words import in_options
from kubectl_cnpg_backup.parser import commands_of, parse

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
    called = [parser.get_default("run") for parser in commands_of(build_parser()).values()]
    assert len(called) == len(set(called))
    assert set(called) == defined


def test_every_command_is_run_on_a_cluster_by_a_test() -> None:
    text = "".join(path.read_text() for path in sorted((ROOT / "tests" / "e2e").glob("test_*.py")))
    names = list(commands_of(build_parser()))
    assert {"drill", "plan", "unpin"} <= set(names)
    called = r'(cnpg-backup |kubectl_cnpg_backup", "|(run|document|plugin)\((server, )?"){}[ "]'
    assert [name for name in names if not re.search(called.format(name), text)] == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-n", "x"], "no command is given"),
        (["lst"], "there is no command 'lst'; did you mean 'list'?"),
        (["frobnicate"], "there is no command 'frobnicate'; see `kubectl cnpg-backup --help`"),
        (["-n", "x", "satus"], "did you mean 'status'?"),
        (["--databse", "x", "run"], "option --databse precedes the command"),
        (["run", "--databse", "x"], "there is no option --databse; did you mean '--database'? see"),
        (["run", "--databse=x"], "see `kubectl cnpg-backup run --help`"),
        (["logs", "a", "b"], "unexpected argument 'b'; see `kubectl cnpg-backup logs --help`"),
        (["restore", "a", "--way", "inplace"], "did you mean 'in-place'?"),
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


@pytest.mark.parametrize(
    "words",
    [
        ["-n", "foo", "list", "authelia"],
        ["--namespace", "foo", "list", "authelia"],
        ["--namespace=foo", "list", "authelia"],
        ["-nfoo", "list", "authelia"],
        ["list", "-n", "foo", "authelia"],
        ["list", "authelia", "-n", "foo"],
        ["-n", "bar", "list", "authelia", "-n", "foo"],
    ],
)
def test_options_of_every_command_stand_before_or_after_it(words: list[str]) -> None:
    options = parse(build_parser(), ["--as", "eve", "--as-group", "a", *words, "--as-group", "b"])
    assert (options.command, options.namespace, options.database) == ("list", "foo", ["authelia"])
    assert options.as_group == ["a", "b"], "a group before the command counts as well"


def test_what_follows_two_dashes_is_a_program_and_its_options() -> None:
    options = parse(build_parser(), ["-n", "foo", "inspect", "--", "ls", "-n"])
    assert (options.namespace, options.words) == ("foo", ["ls", "-n"])


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["-n", "foo", "--help"]])
def test_without_a_command_the_help_is_shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    assert "new-cluster" in capsys.readouterr().out


@pytest.mark.parametrize("name", [*commands_of(build_parser()), ""])
def test_the_help_of_each_command_reads_well_alone_in_80_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    parser = build_parser()
    text = (commands_of(parser)[name] if name else parser).format_help()
    assert max(map(len, text.splitlines())) < 80
    assert text.startswith(f"usage: kubectl cnpg-backup {name}".rstrip())
    assert "before or after" in text or not name or "options of every command" in text
    assert "130 stopped by Ctrl-C" in text
    assert "None" not in text


def test_namespace_and_release_come_from_the_environment_unless_an_option_names_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CNPG_BACKUP_NAMESPACE", "here")
    monkeypatch.setenv("CNPG_BACKUP_RELEASE", "nightly")
    options = parse(build_parser(), ["list"])
    assert (options.namespace, options.release) == ("here", "nightly")
    options = parse(build_parser(), ["-n", "there", "list", "--release", "weekly"])
    assert (options.namespace, options.release) == ("there", "weekly")


def test_wait_and_timeout_are_one_option() -> None:
    for option in ("--wait", "--timeout"):
        assert parse(build_parser(), ["list", option, "20s"]).wait == 20
    options = parse(build_parser(), ["new-cluster", "a", "--name", "b", "--timeout", "1s"])
    assert (options.timeout, options.wait) == (1, 180), "the cluster's; its inspector has the usual time"


def test_a_database_is_named_in_the_same_place_for_every_command() -> None:
    for command in ("run", "drill", "list", "plan", "adopt"):
        assert parse(build_parser(), [command, "authelia", "kutt"]).database == ["authelia", "kutt"]
    options = parse(build_parser(), ["run", "authelia", "--database", "kutt"])
    assert [*options.database, *options.named] == ["authelia", "kutt"]


@pytest.mark.parametrize("more", [[], ["--into", "x", "--replace"], ["--into", "x", "--way", "in-place"]])
def test_what_may_be_a_part_of_a_backup_never_replaces_a_database(more: list[str]) -> None:
    options = build_parser().parse_args(["restore", "a", "--on-error", "keep", *more])
    with pytest.raises(UsageError, match="never replaces a database"):
        check_keep(options)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--backup", "latest"], "names no backup"),
        (["--backup", "kutt-20261122-140002.dump"], "is a backup of database 'kutt'"),
        (["--jobs", "0"], "neither a whole number"),
        (["--jobs", "many"], "neither a whole number"),
        (["--table", "items"], "into a new database"),
        (["--schema", "app"], "into a new database"),
    ],
)
def test_a_restore_that_its_job_would_refuse_is_refused_before_it_is_made(more: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_options(build_parser().parse_args(["restore", "authelia", *more]))


@pytest.mark.parametrize(
    "backup", ["newest", "pinned", "newest before 2026-11-22T14:00:00Z", "authelia-20261122-140002.dump"]
)
def test_a_restore_of_an_existing_kind_of_backup_is_not_refused(backup: str) -> None:
    check_options(build_parser().parse_args(["restore", "authelia", "--backup", backup]))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("set RESTORE_REPLACE=yes to replace it", "give --replace to replace it"),
        ("or set RESTORE_WAY=in-place", "or give --way in-place"),
        ("RESTORE_INTO=<a new name> with RESTORE_ON_ERROR=keep", "--into <a new name> with --on-error keep"),
        ("restore it into another database (RESTORE_INTO) to", "restore it into another database (--into) to"),
        ("RESTORE_SOMETHING=else stays", "RESTORE_SOMETHING=else stays"),
        ("authelia: 12 tables restored", "authelia: 12 tables restored"),
    ],
)
def test_a_remedy_in_variables_of_the_pod_becomes_one_in_options(line: str, said: str) -> None:
    assert in_options(line) == said


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
