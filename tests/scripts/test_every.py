"""All databases of a cluster, on a real PostgreSQL: each is backed up, listed and restored under a name of its own."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import chart
from tests.lab.postgres import Server, identifier
from tests.scripts.conftest import OURS, REPO, Pod, in_both_shells, wait_for
from tests.scripts.test_first_run import first_run

ENTRY = "shared"
GONE = "the cluster no longer has this database"
READABLE = ("plain", "a-b", "a_b", "z9")
ODD = ("a.b", "Capital name", "Müller", "quo\"te's", "back\\slash", "-dash=*", "x" * 63, "$HOME `id`")


def directory_of(entry: str, database: str) -> str:
    """The rule, written a second time."""
    plain = f"{entry}.{database}"
    if re.fullmatch(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?", database, re.ASCII) and len(plain) <= 63:
        return plain
    raw = database.encode()
    lower = bytes(byte + 32 if 65 <= byte <= 90 else byte for byte in raw).decode("latin-1")
    fits = re.sub(r"([^a-z0-9]+)", "-", lower)[:21].strip("-")
    return f"{entry}.{fits or 'db'}.{hashlib.sha256(raw).hexdigest()[:16]}"


def add_entry(pod: Pod, *exclude: str, port: int | None = None) -> None:
    """Configure the entry as the chart does."""
    pod.parallel = 2
    pod.add(ENTRY)
    (pod.folder / "config" / f"{ENTRY}.conf").unlink()
    values = {"databases": [{"name": ENTRY, "cluster": "app", "databases": "*", "exclude": list(exclude)}]}
    text = next(
        manifest["data"][f"{ENTRY}.all"]
        for manifest in chart.render(values)
        if manifest["kind"] == "ConfigMap" and f"{ENTRY}.all" in manifest["data"]
    )
    changes = {**OURS, "port": str(port or pod.server.port)}
    for key, value in changes.items():
        text, count = re.subn(rf"(?m)^{key}=.*$", f"{key}={value}", text)
        assert count == 1, f"the chart writes no {key}"
    (pod.folder / "config" / f"{ENTRY}.all").write_text(text)


def run(pod: Pod, expect: int = 0, **environment: str) -> str:
    """A run with both containers, as the chart starts them for such an entry."""
    log = pod.dump(**environment)
    config, results = str(pod.folder / "results" / "config"), str(pod.folder / "results")
    done = pod.retention("finish", "--config", config, "--results", results, expect=expect)
    return log + done.stdout + done.stderr


@pytest.fixture
def only(server: Server) -> Iterator[Server]:
    """A server with no databases but those of one test."""
    before = {name for (name,) in server.sql("SELECT datname FROM pg_database")}
    yield server
    for (name,) in server.sql("SELECT encode(textsend(datname), 'hex') FROM pg_database"):
        raw = bytes.fromhex(name).decode()
        if raw not in before:
            server.drop_database(raw)


def make(server: Server, *names: str) -> None:
    for name in names:
        server.create_database(name)
        server.psql("CREATE TABLE t AS SELECT current_database()::text AS it", name)


def others(server: Server) -> tuple[str, ...]:
    """What is on the shared server already, as patterns of `exclude`."""
    return tuple(name.replace("*", "\\*") for (name,) in server.sql("SELECT datname FROM pg_database"))


def test_an_image_of_another_major_is_said_once_for_the_entry(pod: Pod, newer_server: Server) -> None:
    newer_server.create_database("one")
    try:
        add_entry(pod, port=newer_server.port)
        config = pod.folder / "config" / f"{ENTRY}.all"
        config.write_text(config.read_text().replace("sslmode=verify-full", "sslmode=disable"))
        log = run(pod, 1)
    finally:
        newer_server.drop_database("one")
    assert log.count(": FAILED: ") == 1, log
    assert f"{ENTRY}: FAILED: the server is PostgreSQL 18." in log
    assert f"add to the entry '{ENTRY}' of databases" in log
    assert "image: {tag: 18-alpine}" in log


def test_every_name_has_a_directory_of_its_own(shell: str, tmp_path: Path) -> None:
    chance = random.Random(18)
    letters = "abzAZ09_-. *'\"\\äß€ \t\n$`/"
    names = {"".join(chance.choice(letters) for _ in range(chance.randint(1, 12))) for _ in range(300)}
    names |= {*READABLE, *ODD, "deadbeefdeadbeef", "db", "y" * 56, "y" * 57, "0", "-", "a-", "_a", "Ä", "ä"}
    names |= {"a\n", "\na", "a\n\n", "a" * 20 + "-" * 9 + "a", "A" * 25}
    names = {name for name in names if len(name.encode()) <= 63}
    script = tmp_path / "names.sh"
    lines = [f". {REPO}/scripts/every.sh"]
    quoted = {name: "'" + name.replace("'", "'\\''") + "'" for name in sorted(names)}
    lines += [f"directory_of {ENTRY} {word}; printf '%s\\n' \"$directory\"" for word in quoted.values()]
    script.write_text("LC_ALL=C\nas_utf8() { :; }\n" + "\n".join(lines) + "\n")
    done = subprocess.run(
        ["sh", str(script)],
        executable=f"{shell}/sh",
        env={"PATH": f"{shell}:/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    found = done.stdout.decode().splitlines()
    assert found == [directory_of(ENTRY, name) for name in quoted]
    assert len(set(found)) == len(names), "two databases have one directory"
    for directory in found:
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,61}[a-z0-9]", directory), directory


@in_both_shells
def test_each_database_is_backed_up_and_restored_by_its_listed_name(pod: Pod, only: Server) -> None:
    only.psql("ALTER ROLE postgres PASSWORD 'secret'")
    hidden = others(only)
    make(only, *READABLE, *ODD, "tmp_scratch")
    add_entry(pod, *hidden, "tmp_*")
    log = run(pod)
    assert f"{ENTRY}: 12 databases in cluster app" in log
    wanted = {directory_of(ENTRY, name): name for name in (*READABLE, *ODD)}
    assert folders(pod) == set(wanted)
    for directory, name in wanted.items():
        (archive,) = pod.archives(directory)
        pod.check(archive)
        assert pod.metadata(archive)["dbname"] == name
    secret = pod.folder / "credentials" / ENTRY
    (secret / "superuser-username").write_text("postgres")
    (secret / "superuser-password").write_text("secret")
    for name in ("Müller", "a.b", "plain"):
        only.psql("DELETE FROM t", name)
        pod.restore(directory_of(ENTRY, name), RESTORE_REPLACE="yes")
        assert only.value("SELECT it FROM t", name) == name


def test_what_a_restore_makes_next_to_its_target_is_no_database_of_the_entry(pod: Pod, only: Server) -> None:
    only.psql("ALTER ROLE postgres PASSWORD 'secret'")
    hidden = others(only)
    ours = ("b_restoring_20261129_101500", "c_restored_20261129_101500")
    theirs = ("all_before_2026", "before_20261129_10150", "a_before_2026112x_101500", "b_restoring_20261129_101500_")
    make(only, "a", *ours, *theirs)
    add_entry(pod, *hidden)
    run(pod)
    secret = pod.folder / "credentials" / ENTRY
    (secret / "superuser-username").write_text("postgres")
    (secret / "superuser-password").write_text("secret")
    pod.restore(f"{ENTRY}.a", RESTORE_REPLACE="yes")
    ((kept,),) = only.sql("SELECT datname FROM pg_database WHERE datname ~ '^a_before_[0-9]{8}_[0-9]{6}$'")
    log = run(pod)
    assert folders(pod) == {directory_of(ENTRY, name) for name in ("a", *theirs)}
    for name in (*ours, kept):
        assert log.count(f"{directory_of(ENTRY, name)} is left out: a restore has made that database") == 1, log


def test_an_archive_in_the_folder_of_another_database_is_not_restored(pod: Pod, only: Server) -> None:
    hidden = others(only)
    make(only, "mine", "yours")
    add_entry(pod, *hidden)
    run(pod)
    (archive,) = pod.archives(f"{ENTRY}.mine")
    metadata = archive.with_suffix(".json")
    metadata.write_text(metadata.read_text().replace('"dbname": "mine"', '"dbname": "yours"'))
    log = pod.restore(f"{ENTRY}.mine", 2)
    assert "is of database 'yours', which belongs into folder 'shared.yours'" in log


def test_databases_come_go_and_change_their_names_between_runs(pod: Pod, only: Server) -> None:
    hidden = others(only)
    make(only, "stays", "dropped", "Old name", "tmp_x")
    add_entry(pod, *hidden)
    run(pod)
    kept = {path.name: path.read_bytes() for path in pod.archives(f"{ENTRY}.dropped")}
    assert folders(pod) == {directory_of(ENTRY, name) for name in ("stays", "dropped", "Old name", "tmp_x")}
    only.drop_database("dropped")
    only.psql(f"ALTER DATABASE {identifier('Old name')} RENAME TO {identifier('New name')}")
    make(only, "created")
    add_entry(pod, *hidden, "tmp_*")
    newest = ""
    for _ in range(2):
        log = run(pod)
        for name in ("dropped", "Old name"):
            directory = directory_of(ENTRY, name)
            assert log.count(f"{directory}: warning: {GONE}") == 1, log
            assert len(pod.archives(directory)) == 1
        assert "tmp_x" not in log, "what is excluded is no loss"
        before, newest = newest, pod.archives(f"{ENTRY}.stays")[-1].name
        assert newest > before
        assert pod.archives(f"{ENTRY}.created")[-1].name[-19:] > before[-19:]
        assert pod.archives(directory_of(ENTRY, "New name"))[-1].name[-19:] > before[-19:]
    assert {path.name: path.read_bytes() for path in pod.archives(f"{ENTRY}.dropped")} == kept


def test_what_a_dead_run_staged_of_a_database_that_is_gone_is_published(pod: Pod, only: Server) -> None:
    hidden = others(only)
    make(only, "stays", "dropped")
    add_entry(pod, *hidden)
    pod.dump()
    only.drop_database("dropped")
    log = run(pod)
    (archive,) = pod.archives(f"{ENTRY}.dropped")
    pod.check(archive)
    assert "recovered from an earlier run" in log


def test_a_database_that_cannot_be_read_fails_alone(pod: Pod, only: Server) -> None:
    hidden = others(only)
    make(only, "good", "closed", "line\nend", "\u2028")
    only.psql("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
    add_entry(pod, *hidden)
    log = run(pod, 1)
    assert len(pod.archives(f"{ENTRY}.good")) == 1
    assert re.search(rf"{ENTRY}.closed +failed .*permission denied for database", log)
    for name in ("line\nend", "\u2028"):
        assert re.search(rf"{re.escape(directory_of(ENTRY, name))} +failed .* its name holds a control character", log)
    assert "ALTER DATABASE … RENAME, or exclude it" in log


def test_a_cluster_that_cannot_be_listed_fails_all_that_is_known_of_it_and_no_other(pod: Pod, only: Server) -> None:
    hidden = others(only)
    make(only, "one", "two", "listed")
    add_entry(pod, *hidden, "listed")
    pod.add("listed")
    run(pod)
    add_entry(pod, *hidden, "listed", port=1)
    log = run(pod, 1)
    assert len(pod.archives("listed")) == 2
    for name in ("one", "two"):
        assert re.search(rf"{ENTRY}.{name} +failed .* could not be listed: no answer within 5 s", log), log
        assert len(pod.archives(f"{ENTRY}.{name}")) == 1
    entries = json.loads((pod.root / "status.json").read_text())["databases"]
    assert entries[ENTRY]["result"] == "failed"
    add_entry(pod, *hidden, "listed")
    run(pod)
    entries = json.loads((pod.root / "status.json").read_text())["databases"]
    assert sorted(entries) == ["listed", f"{ENTRY}.one", f"{ENTRY}.two"]


def test_a_run_of_named_databases_leaves_the_others_of_their_entry_alone(pod: Pod, only: Server) -> None:
    hidden = others(only)
    make(only, "one", "Two", "two", "gone")
    add_entry(pod, *hidden)
    pod.add("other", dbname="one")
    run(pod)
    only.drop_database("gone")
    before = json.loads((pod.root / "status.json").read_text())["databases"]
    two = directory_of(ENTRY, "Two")
    log = run(pod, BACKUP_ONLY=f"{ENTRY}.one {two}")
    counts = {directory: len(pod.archives(directory)) for directory in folders(pod)}
    assert counts == {f"{ENTRY}.one": 2, two: 2, f"{ENTRY}.two": 1, f"{ENTRY}.gone": 1, "other": 2}
    for name in (f"{ENTRY}.two", f"{ENTRY}.gone"):
        assert f"{name}:" not in log, "this run is not for it"
    after = json.loads((pod.root / "status.json").read_text())["databases"]
    assert set(after) == set(before)
    assert {name for name in after if after[name] != before[name]} == {f"{ENTRY}.one", two, "other"}


@pytest.mark.parametrize("missing", ["typo", "gone", "left_out"])
def test_a_run_of_a_name_that_the_cluster_does_not_have_dumps_nothing_and_reports_nothing(
    pod: Pod, only: Server, missing: str
) -> None:
    hidden = others(only)
    make(only, "one", "gone", "left_out")
    add_entry(pod, *hidden)
    run(pod)
    only.drop_database("gone")
    add_entry(pod, *hidden, "left_*")
    before = (pod.root / "status.json").read_bytes()
    process = pod.start_dump(BACKUP_ONLY=f"{ENTRY}.one {ENTRY}.{missing}")
    log = wait_for(process, 60)
    assert process.returncode == 2, log
    assert f"entry {ENTRY} finds no database '{ENTRY}.{missing}'" in log
    assert len(pod.archives(f"{ENTRY}.one")) == 1
    assert (pod.root / "status.json").read_bytes() == before


def test_a_run_of_one_database_of_a_cluster_that_cannot_be_listed_fails_this_one(pod: Pod, only: Server) -> None:
    hidden = others(only)
    make(only, "one", "two")
    add_entry(pod, *hidden)
    run(pod)
    add_entry(pod, *hidden, port=1)
    log = run(pod, 1, BACKUP_ONLY=f"{ENTRY}.one")
    assert re.search(rf"{ENTRY}.one +failed .* could not be listed", log), log
    assert f"{ENTRY}.two" not in log


def test_the_first_backup_finds_all_databases_and_a_second_job_dumps_none(pod: Pod, only: Server) -> None:
    hidden = others(only)
    make(only, "one", "Two")
    add_entry(pod, *hidden)
    done = first_run(pod, "--backup")
    assert done.returncode == 0, done.stdout + done.stderr
    first = str(pod.folder / "results" / "first")
    pod.retention("finish", "--config", first, "--results", str(pod.folder / "results"), expect=0)
    assert {name: len(pod.archives(name)) for name in folders(pod)} == {
        f"{ENTRY}.one": 1,
        directory_of(ENTRY, "Two"): 1,
    }
    done = first_run(pod, "--backup")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{ENTRY}: its databases have backups, such as " in done.stdout
    assert list((pod.folder / "results").glob("*.result")) == []


def test_an_entry_without_any_database_is_a_failure(pod: Pod) -> None:
    add_entry(pod, "*")
    assert "cluster app has no database to back up" in run(pod, 1)


def test_the_check_lists_each_database_and_leaves_nothing(pod: Pod, only: Server) -> None:
    hidden = others(only)
    make(only, "one", "Two")
    add_entry(pod, *hidden)
    pod.renew()
    done = subprocess.run(
        ["sh", str(REPO / "scripts" / "dump.sh"), "--check"],
        executable=f"{pod.shell_path}/sh",
        env=pod.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("one", "Two"):
        assert re.search(rf"(?m)^{re.escape(directory_of(ENTRY, name))} +ready", done.stdout)
    assert folders(pod) == set()


def counted(pod: Pod, folder: Path) -> dict[str, int]:
    """Run the dump container; return how many processes of each program it started. A psql or pg_dump is a session."""
    folder.mkdir()
    log = folder.with_suffix(".log")
    path = f"{pod.shell_path}:{pod.server.bin}:/usr/bin:/bin"
    for name in (
        "psql",
        "pg_dump",
        "pg_restore",
        "awk",
        "cat",
        "cut",
        "grep",
        "mkdir",
        "mv",
        "rm",
        "sed",
        "sha256sum",
        "tr",
    ):
        program = shutil.which(name, path=path)
        assert program
        shim = folder / name
        shim.write_text(f'#!/bin/sh\necho {name} >>{log}\nexec {program} "$@"\n')
        shim.chmod(0o755)
    process = pod.start_dump(PATH=f"{folder}:{path}")
    text, _ = process.communicate(timeout=pod.timeout)
    assert process.returncode == 0, text
    return dict(Counter(log.read_text().split()))


@pytest.mark.parametrize("step", [2, pytest.param(100, marks=pytest.mark.long)])
def test_each_further_database_costs_the_same_sessions_and_processes(
    pod: Pod, only: Server, tmp_path: Path, step: int
) -> None:
    """One session connects and one lists them all; the rest is the same for each, and nothing grows faster."""
    pod.timeout = 3600
    hidden = others(only)
    add_entry(pod, *hidden)
    counts = []
    for number in range(1, 4):
        # Every other name needs a hash.
        make(only, *(f"{'Db' if n % 2 else 'db'}{number}_{n}" for n in range(step)))
        counts.append(counted(pod, tmp_path / f"bin{number}"))
    one, two, three = counts
    for name in ("psql", "pg_dump", "pg_restore"):
        assert three[name] - two[name] == two[name] - one[name], counts
        each = (two[name] - one[name]) / step
        assert one[name] - each * step == {"psql": 2, "pg_dump": 1}.get(name, 0), f"{name}: {counts}"
    for name, count in three.items():
        assert count - two[name] <= 1.1 * (two[name] - one[name]) + 3, f"{name}: {counts}"


def folders(pod: Pod) -> set[str]:
    return {path.name for path in pod.root.iterdir() if path.is_dir()}


def test_the_page_names_the_folders_that_databases_have() -> None:
    page = (REPO / "docs" / "all-databases.md").read_text()
    rows = re.findall(r"(?m)^\| `(.+)` \| `(shared\..+)` \|$", page)
    assert len(rows) == 4
    for database, directory in rows:
        assert directory == directory_of(ENTRY, database)
