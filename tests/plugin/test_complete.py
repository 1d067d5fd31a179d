"""Completion of names: what the cluster has, asked of kubectl as the line says; nothing where it is silent."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from kubectl_cnpg_backup import names
from kubectl_cnpg_backup.complete import candidates
from tests.plugin.common import objects, release

ARCHIVES = ["authelia-20261122-140002.dump", "authelia-20261122-120002.dump", "kutt-20261122-140002.dump"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CNPG_BACKUP_NAMESPACE", "CNPG_BACKUP_RELEASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KUBECACHEDIR", str(tmp_path))
    return tmp_path


class Kubectl:
    """Answers as kubectl does where the chart is installed, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, arguments: Sequence[str]) -> str:
        self.asked.append(list(arguments))
        words = [word for word in arguments if not word.startswith("--request-timeout")]
        rest = words[words.index("get") + 1 :] if "get" in words else words
        if rest[0] == "cronjobs":
            return json.dumps({"items": objects("CronJob")})
        if rest[0] == "configmaps":
            wanted = [one for one in objects("ConfigMap") if one["metadata"]["name"] in rest]
            return json.dumps({"items": wanted} if len(wanted) > 1 else wanted[0])
        if rest[0] == "namespaces":
            return "namespace/default\nnamespace/shop\n"
        if rest[0] == "jobs":
            return "job.batch/old\njob.batch/new\n"
        if rest[0] == "clusters.postgresql.cnpg.io":
            return "cluster.postgresql.cnpg.io/authelia-postgresql-cnpg\n"
        return "kind-local\nproduction\n" if rest[0] == "config" else ""


def completed(*words: str) -> list[str]:
    return [candidate for candidate, _ in candidates(words, Kubectl())[0]]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["run", ""], ["authelia", "kutt", "plausible"]),
        (["run", "authelia", ""], ["kutt", "plausible"]),
        (["run", "--database", "k"], ["kutt"]),
        (["run", "--database=k"], ["--database=kutt"]),
        (["restore", "p"], ["plausible"]),
        (["restore", "plausible", ""], []),
        (["restore", "--into", "run", "k"], ["kutt"]),
        (["-n", "shop", "restore", "k"], ["kutt"]),
        (["-n", "list", "li"], ["list"]),
        (["list", "--release", ""], ["cnpg-backup"]),
        (["-n", "s"], ["shop"]),
        (["list", "--context", "p"], ["production"]),
        (["restore", "kutt", "--cluster", ""], ["authelia-postgresql-cnpg"]),
        (["logs", ""], ["new", "old"]),
        (["list", "-o", "w"], ["wide"]),
        (["restore", "kutt", "--way", "in"], ["in-place"]),
    ],
)
def test_names_of_the_cluster_are_offered_where_they_fit(words: list[str], found: list[str]) -> None:
    assert completed(*words) == found


def test_archives_are_those_that_the_last_list_has_seen() -> None:
    assert completed("pin", "") == []
    names.remember(release(), ARCHIVES)
    assert completed("pin", "") == ARCHIVES
    assert completed("pin", ARCHIVES[0], "") == ARCHIVES[1:]
    assert completed("download", "k") == ["kutt-20261122-140002.dump", "kutt"]
    assert completed("restore", "kutt", "--backup", "k") == ARCHIVES[2:]
    assert completed("restore", "kutt", "--backup", "n") == ["newest", "newest before "]
    names.remember(release(), ["authelia-20261122-160002.dump"], of=["authelia"])
    assert completed("verify", "") == ["authelia", "kutt", "plausible", "authelia-20261122-160002.dump", ARCHIVES[2]]


def test_another_cluster_with_a_release_of_the_same_name_has_other_archives() -> None:
    other = release(name="nightly")
    names.remember(other, ARCHIVES)
    assert completed("pin", "") == []


def test_a_cache_that_cannot_be_written_or_read_is_no_error(cache: Path) -> None:
    (cache / "cnpg-backup").write_text("a file where the folder should be")
    names.remember(release(), ARCHIVES)
    assert completed("pin", "") == []


def test_the_cluster_that_the_line_names_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Kubectl()
    candidates(["-nshop", "run", "--context=far", "--as", "eve", "--as-group", "a", "--as-group", "b", ""], asked)
    for words in asked.asked:
        line = " ".join(words)
        for part in ("--namespace shop", "--context far", "--as eve", "--as-group a --as-group b", "--request-timeout"):
            assert part in line
    monkeypatch.setenv("CNPG_BACKUP_NAMESPACE", "here")
    candidates(["run", ""], asked)
    assert "--namespace here" in " ".join(asked.asked[-1])


@pytest.mark.parametrize("words", [["run", ""], ["list", "--release", ""], ["-n", ""], ["pin", ""], ["logs", ""]])
def test_without_an_answer_nothing_is_offered(words: list[str]) -> None:
    assert candidates(words, lambda _: "") == ([], False)
    assert candidates(words, lambda _: "[not json")[1] is False


def test_kubectl_that_is_missing_fails_or_hangs_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert names.kubectl(["get", "jobs"]) == ""
    program = tmp_path / "kubectl"
    program.write_text(
        f"#!{sys.executable}\nimport sys, time\nprint('x', flush=True)\n"
        "sys.exit(1) if sys.argv[1:] == ['fail'] else time.sleep(60)\n"
    )
    program.chmod(0o755)
    assert names.kubectl(["fail"]) == ""
    monkeypatch.setattr(names, "_SECONDS", 0.2)
    assert names.kubectl(["hang"]) == ""
