"""`discover`: a database that nobody backs up is named, and what it prints for the values backs it up."""

from __future__ import annotations

import functools
import json
import os
import random
import shlex
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from kubectl_cnpg_backup.cli import build_parser
from kubectl_cnpg_backup.cluster.api import Cluster, Executed
from kubectl_cnpg_backup.errors import ForbiddenError, NotFoundError, UsageError
from kubectl_cnpg_backup.model import discover
from kubectl_cnpg_backup.output.screen import Screen
from kubectl_cnpg_backup.parser import parse
from kubectl_cnpg_backup.session import Session
from tests.lab import chart
from tests.lab.postgres import Server
from tests.plugin.common import ago

EVERY = Path(__file__).resolve().parents[2] / "scripts" / "every.sh"


def made(name: str, namespace: str = "default", image: str = "postgresql:16.10", **spec: Any) -> dict[str, Any]:
    """A Cluster as CloudNativePG has it."""
    status = {"currentPrimary": f"{name}-1", "image": f"ghcr.io/cloudnative-pg/{image}"}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec, "status": status}


def declared(name: str, cluster: str, database: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    """A Database object."""
    own = {"cluster": {"name": cluster}, "name": database, **spec}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": own}


@functools.cache
def rendered(values: str, namespace: str) -> list[dict[str, Any]]:
    return chart.render(json.loads(values), namespace=namespace)


class World:
    """An API server with clusters, releases and servers, of which some may be forbidden."""

    def __init__(self) -> None:
        self.namespace = "default"
        self.clusters: list[dict[str, Any]] = []
        self.databases: list[dict[str, Any]] = []
        self.values: dict[str, dict[str, Any]] = {}
        self.servers: dict[str, list[dict[str, Any]]] = {}
        self.forbidden: set[str] = set()
        self.asked: list[str] = []

    def refuse(self, what: str) -> None:
        if what in self.forbidden:
            raise ForbiddenError(f"user ci may not {what}")

    def objects(self, namespace: str, kind: str) -> list[dict[str, Any]]:
        return [
            {**one, "metadata": {"uid": "1", **one["metadata"]}, "status": {"lastSuccessfulTime": ago(hours=1)}}
            for one in rendered(json.dumps(self.values[namespace]), namespace)
            if one["kind"] == kind
        ]

    def in_namespace(self, namespace: str) -> World:
        other = World()
        vars(other).update({**vars(self), "namespace": namespace})
        return other

    def customs(self, group: str, version: str, plural: str, *, everywhere: bool) -> list[dict[str, Any]]:
        assert (group, version) == ("postgresql.cnpg.io", "v1")
        self.refuse(f"list {plural}{' everywhere' if everywhere else ''}")
        items = {"clusters": self.clusters, "databases": self.databases}[plural]
        return [one for one in items if everywhere or one["metadata"]["namespace"] == self.namespace]

    def cronjobs_everywhere(self, selector: str) -> list[dict[str, Any]]:  # noqa: ARG002
        self.refuse("list cronjobs everywhere")
        return [one for namespace in self.values for one in self.objects(namespace, "CronJob")]

    def cronjobs(self, selector: str) -> list[dict[str, Any]]:  # noqa: ARG002
        return self.objects(self.namespace, "CronJob") if self.namespace in self.values else []

    def config_map(self, name: str) -> dict[str, Any]:
        self.refuse(f"get configmaps in {self.namespace}")
        return next(one for one in self.objects(self.namespace, "ConfigMap") if one["metadata"]["name"] == name)

    def own_namespace(self) -> dict[str, Any]:
        if self.namespace not in {one["metadata"]["namespace"] for one in self.clusters}:
            raise NotFoundError(f"there is no namespace {self.namespace}")
        return {}

    def execute(self, pod: str, container: str, command: list[str]) -> Executed:
        self.asked.append(f"{self.namespace}/{pod}")
        self.refuse(f"exec in {self.namespace}")
        assert container == "postgres"
        assert command[-1] == discover.QUERY
        rows = self.servers.get(f"{self.namespace}/{pod.removesuffix('-1')}")
        if rows is None:
            return Executed(2, b"", "psql: error: the database system is starting up\n")
        complete = [{"bytes": 1, "owner": "app", "empty": False, **row} for row in rows]
        return Executed(0, (json.dumps(complete) + "\n").encode(), "")

    def discover(self, *words: str) -> int:
        options = parse(build_parser(), ["discover", *words])
        self.namespace = options.namespace or "default"
        return int(options.run(Session(options, cast(Cluster, self), Screen(options.output))))


@pytest.fixture
def world() -> World:
    found = World()
    found.clusters = [made("authelia"), made("shop"), made("wiki", "team")]
    found.values = {"default": {"databases": [{"name": "authelia", "cluster": "authelia", "database": "app"}]}}
    return found


def states(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    document = json.loads(capsys.readouterr().out)
    return {f"{one['namespace']}/{one['cluster']}/{one['database']}": one["state"] for one in document}


def test_a_database_that_nobody_backs_up_is_named_and_fails_the_check(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.databases = [declared("kutt", "authelia", "kutt"), declared("old", "authelia", "old", ensure="absent")]
    world.servers = {"default/authelia": [{"name": "app"}, {"name": "kutt"}, {"name": "by hand"}]}
    assert world.discover("-o", "json") == 0
    assert states(capsys) == {
        "default/authelia/app": "backed-up",
        "default/authelia/by hand": "unprotected",
        "default/authelia/kutt": "unprotected",
        "default/shop/app": "unprotected",
    }
    assert world.discover("--check") == 1
    text = capsys.readouterr().out
    assert "4 databases in 2 clusters; 3 not backed up" in text
    assert world.discover("--check", "-o", "name") == 1
    assert capsys.readouterr().out.splitlines() == [
        "default/authelia/by hand", "default/authelia/kutt", "default/shop/app",
    ]  # fmt: skip


def test_a_database_that_was_dropped_since_is_not_looked_for(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.servers = {"default/shop": [{"name": "renamed"}]}
    world.databases = [declared("late", "shop", "late")]
    world.discover("-o", "json")
    document = {one["database"]: one for one in json.loads(capsys.readouterr().out) if one["cluster"] == "shop"}
    assert document.keys() == {"late", "renamed"}
    assert document["late"]["why"] == "the server does not have it", "an object says that it is wanted"


def test_all_namespaces_are_looked_at_on_demand(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.discover("-A", "-o", "name", "--no-server")
    assert capsys.readouterr().out.splitlines() == ["default/shop/app", "team/wiki/app"]
    assert not world.asked
    world.forbidden = {"list clusters everywhere"}
    with pytest.raises(ForbiddenError):
        world.discover("-A")


def test_a_release_of_another_namespace_protects_a_database_too(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.values["ops"] = {
        "databases": [{"name": "shop", "cluster": "shop", "database": "app", "namespace": "default"}]
    }
    world.discover("-o", "json")
    assert states(capsys)["default/shop/app"] == "backed-up"
    world.forbidden = {"get configmaps in ops"}
    assert world.discover("--check", "-o", "json") == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)[1]["state"] == "unknown", "it is not known who backs it up"
    assert "release cnpg-backup in namespace ops" in printed.err


def test_all_databases_of_a_cluster_are_backed_up_but_for_those_that_are_excluded(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.values["default"]["databases"] += [
        {"name": "all", "cluster": "shop", "databases": "*", "exclude": ["tmp_*", "[xy]?"]}
    ]
    names = ("app", "My Shop", "tmp_1", "xa", "za", "app_before_20261129_101500")
    world.servers = {"default/shop": [{"name": name} for name in names]}
    assert world.discover("--check", "-o", "json") == 0, "what its operator leaves out is meant to be left out"
    found = {one["database"]: one for one in json.loads(capsys.readouterr().out) if one["cluster"] == "shop"}
    assert {name: one["state"] for name, one in found.items()} == {
        "app": "backed-up", "My Shop": "backed-up", "za": "backed-up",
        "tmp_1": "excluded", "xa": "excluded", "app_before_20261129_101500": "excluded",
    }  # fmt: skip
    assert found["My Shop"]["backed_up_by"][0]["name"].startswith("all.my-shop.")
    assert "a restore has left it" in found["app_before_20261129_101500"]["why"]


def test_suspended_backups_are_none(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.values["default"]["databases"] += [{"name": "shop", "cluster": "shop", "database": "app", "suspended": True}]
    assert world.discover("--check", "-o", "json") == 1
    assert states(capsys) == {"default/authelia/app": "backed-up", "default/shop/app": "suspended"}
    world.values["default"]["suspend"] = True
    world.discover("-o", "json")
    assert set(states(capsys).values()) == {"suspended"}


def test_what_is_left_out_on_purpose_does_not_fail_the_check(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.clusters[1]["spec"]["replica"] = {"enabled": True, "source": "origin"}
    assert world.discover("--check", "-o", "json") == 0
    assert states(capsys)["default/shop/app"] == "copy"
    world.clusters[1]["spec"]["replica"] = {"primary": "shop", "source": "origin"}
    assert world.discover("--check") == 1, "it is the primary of a distributed topology"
    for pattern in ("default/shop", "default/sh*/app", "default/*"):
        assert world.discover("--check", "--exclude", pattern) == 0
    assert world.discover("--check", "--exclude", "default/shop/other") == 1


def test_a_database_that_the_values_name_and_that_is_not_there_is_named(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.values["default"]["databases"] += [
        {"name": "kutt", "cluster": "kutt", "database": "app"},
        {"name": "typo", "cluster": "shop", "database": "ap"},
    ]
    world.servers = {"default/shop": [{"name": "app"}]}
    world.discover("-o", "json")
    found = states(capsys)
    assert found["default/kutt/app"] == found["default/shop/ap"] == "gone"
    assert found["default/shop/app"] == "unprotected"
    world.servers = {}
    world.discover("-o", "json")
    assert states(capsys)["default/shop/ap"] == "backed-up", "without the server nobody knows"


def test_a_copy_that_a_release_makes_needs_no_backup(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.servers = {"default/shop": [{"name": "app", "copy": True}, {"name": "other", "copy": False}]}
    world.discover("-o", "json")
    found = states(capsys)
    assert (found["default/shop/app"], found["default/shop/other"]) == ("copy", "unprotected")


def test_a_server_outside_of_the_cluster_protects_no_cluster_of_its_name(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    outside: dict[str, Any] = {"name": "shop", "host": "10.0.0.7", "database": "app"}
    outside |= {key: {"name": "a-secret"} for key in ("secret", "ownerSecret", "superuserSecret", "caSecret")}
    world.values["default"]["databases"] += [outside]
    world.discover("-o", "json")
    assert states(capsys)["default/shop/app"] == "unprotected"


def test_a_server_that_cannot_be_asked_is_named_and_stops_nothing(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.servers = {"default/shop": [{"name": "app"}, {"name": "other"}]}
    world.discover("-o", "name")
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ["default/shop/app", "default/shop/other"]
    assert "not asked: default/authelia: psql: error: the database system is starting up" in printed.err
    world.asked, world.forbidden = [], {"exec in default"}
    world.discover("-o", "name")
    assert capsys.readouterr().out.splitlines() == ["default/shop/app"]
    assert world.asked == ["default/authelia-1"], "a right that is missing is asked for once in a namespace"


def test_a_user_of_one_namespace_sees_its_own(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.forbidden = {"list cronjobs everywhere", "list databases"}
    world.discover("-o", "json")
    printed = capsys.readouterr()
    assert json.loads(printed.out)[0]["state"] == "backed-up"
    assert "releases in other namespaces are not known" in printed.err
    assert "Database objects are not known" in printed.err


def test_a_namespace_that_is_not_there_does_not_pass_the_check(world: World) -> None:
    with pytest.raises(NotFoundError):
        world.discover("--check", "-n", "shpo")


def test_a_command_without_values_refuses_to_print_them() -> None:
    options = parse(build_parser(), ["list", "-o", "values"])
    with pytest.raises(UsageError, match="`list` has no values to print"):
        Session.open(options)


def test_the_values_that_it_prints_back_up_all_that_was_missing(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.clusters += [
        made("shop-17", image="postgresql:17.2", enableSuperuserAccess=True),
        made(
            "mixed",
            bootstrap={"initdb": {"database": "first", "owner": "first", "secret": {"name": "first-login"}}},
            managed={"roles": [{"name": "second", "passwordSecret": {"name": "second-login"}}]},
            certificates={"serverCASecret": "own-ca"},
        ),
        made("imported", bootstrap={"initdb": {"import": {"type": "monolith", "databases": ["one", "two*"]}}}),
    ]
    odd = 'Odd: "name" #1'
    world.databases = [
        declared("second", "mixed", "second", owner="second"),
        declared("odd", "shop-17", odd, owner="somebody"),
        declared("on", "shop-17", "on", owner="somebody"),
        declared("authelia", "mixed", "authelia", owner="nobody"),
    ]
    assert world.discover("-A", "--no-server", "-o", "values") == 0
    text = capsys.readouterr().out
    entries = {one["name"]: one for one in yaml.safe_load(text)["databases"]}
    assert entries["shop"] == {"name": "shop", "cluster": "shop", "database": "app"}
    assert entries["first"]["secret"] == {"name": "first-login"}
    assert entries["second"]["secret"] == entries["second"]["ownerSecret"] == {"name": "second-login"}
    assert entries["second"]["caSecret"] == {"name": "own-ca"}
    assert entries["on"]["secret"] == {"name": "shop-17-superuser"}
    assert entries["on"]["image"] == {"tag": "17-alpine"}
    assert entries["mixed-authelia"]["database"] == "authelia", "the release has that name already"
    assert entries["wiki"]["namespace"] == "team"
    assert "# copy the Secret wiki-app from namespace team to default, and of wiki-ca only the key ca.crt" in text
    assert "password of its owner nobody" in text
    assert [one["database"] for one in entries.values() if "dd" in one["name"]] == [odd]

    world.values["default"]["databases"] += list(entries.values())
    assert world.discover("-A", "--no-server", "--check", "-o", "json") == 0
    assert set(states(capsys).values()) == {"backed-up"}
    world.discover("-A", "--no-server", "-o", "values")
    assert yaml.safe_load(capsys.readouterr().out) == {"databases": []}


def test_a_pattern_means_what_it_means_in_a_run(tmp_path: Path) -> None:
    chosen = random.Random(7)
    fixed = [
        "tmp_*",
        r"\*",
        "[!a]b",
        "[a-c]*",
        "[[:digit:]]?",
        "a]b",
        "[",
        "[]x]y",
        "*.*",
        r"[\]]",
        "M?ller",
        "a.b",
    ]
    patterns = fixed + ["".join(chosen.choices("ab*?[]!-\\", k=chosen.randint(1, 6))) for _ in range(300)]
    names = [
        "a",
        "b",
        "ab",
        "-b",
        "]y",
        "]",
        "*",
        "tmp_1",
        "3x",
        "a]b",
        "[",
        "a.b",
        "Müller",
        "M\\ller",
        "",
        "!",
        "^",
        "\\",
    ]
    names += ["".join(chosen.choices("ab]-[!^\\", k=chosen.randint(1, 4))) for _ in range(40)]
    lines = "\n".join(
        f"conf={index}; is_excluded {shlex.quote(name)} && echo y || echo n"
        for index in range(len(patterns))
        for name in names
    )
    # The shell's own `case`, in the locale of the runs.
    function = next(part for part in EVERY.read_text().split("\n\n") if "is_excluded() {" in part)
    body = function[function.index("is_excluded() {") :].replace('<"$conf"', '<"$folder/$conf"')
    for index, pattern in enumerate(patterns):
        (tmp_path / str(index)).write_text(f"exclude={pattern}\n")
    script = f"LC_ALL=C; export LC_ALL; folder={shlex.quote(str(tmp_path))}\n{body}\n{lines}\n"
    done = subprocess.run(["dash"], input=script.encode(), capture_output=True, check=True, env=os.environ)
    answers = done.stdout.decode().split()
    pairs = [(pattern, name) for pattern in patterns for name in names]
    assert len(answers) == len(pairs)
    wrong = [
        (pattern, name, answer)
        for (pattern, name), answer in zip(pairs, answers, strict=True)
        if discover.matches(pattern, name) != (answer == "y")
    ]
    assert not wrong, wrong[:10]


def test_a_database_of_an_entry_has_the_name_that_its_runs_give_it() -> None:
    names = ["plain", "a-b", "a.b", "Müller", "x" * 63, "-dash", "$HOME `id`", "a--b", "_a", "MIXED case", "日本"]
    calls = "\n".join(f'directory_of shared {shlex.quote(name)}; echo "$directory"' for name in names)
    script = f"LC_ALL=C; export LC_ALL\n. {EVERY}\n{calls}\n"
    done = subprocess.run(["dash"], input=script.encode(), capture_output=True, check=True)
    assert [discover.directory_of("shared", name) for name in names] == done.stdout.decode().splitlines()


@pytest.mark.parametrize("major", [17, 18])
def test_a_real_server_names_its_databases(major: Any) -> None:
    with Server(major=major) as server:
        server.create_database("app")
        server.create_database('Odd "name"')
        server.psql("CREATE DATABASE closed ALLOW_CONNECTIONS false", "postgres")

        def names() -> dict[str, Any]:
            done = subprocess.run(
                [str(server.bin / "psql"), "-XAtq", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-c", discover.QUERY],
                env=server.superuser_env, capture_output=True, check=True, text=True,
            )  # fmt: skip
            return {row["name"]: row for row in discover.read_server(done.stdout).databases}

        assert names().keys() == {"app", 'Odd "name"'}
        assert names()["app"]["bytes"] > 1_000_000
        server.psql("COMMENT ON DATABASE app IS 'cnpg-backup: copy of shop, shop-20260101-000000.dump'", "postgres")
        assert [name for name, row in names().items() if row["copy"]] == ["app"]
        server.psql("CREATE EXTENSION pg_stat_statements", "postgres")
        assert "postgres" not in names(), "an extension's tables and views are nobody's data"
        server.psql(
            "CREATE TABLE forgotten (id int); CREATE FUNCTION public.pg_database_size(oid) RETURNS bigint "
            "LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$called$$; END'; "
            "ALTER ROLE ALL SET search_path = public, pg_catalog",
            "postgres",
        )
        assert "postgres" in names(), "somebody keeps a table there"
