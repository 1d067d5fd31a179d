"""The command line as people and programs use it: exit codes, shapes, one line an error."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from retention import Policy, plan
from retention.names import base_of
from tests.retention.test_policy import WRONG
from tests.retention.world import DAY, HOUR, REPOSITORY, T0, Ran, World, retention, retention_here

NOW = T0 + 30 * DAY
AT = ("--now", NOW.isoformat())


def names(database: str, count: int) -> list[str]:
    return [f"{base_of(database, NOW - 2 * index * HOUR - HOUR / 60)}.dump" for index in range(count)]


def planned(ran: Ran) -> dict[str, Any]:
    assert ran.code == 0, ran
    document = ran.json()
    assert isinstance(document, dict)
    return document


def test_plan_of_names_on_standard_input_is_6_4_5() -> None:
    given = names("app", 100)
    document = planned(retention("plan", "--format", "json", *AT, "-", stdin="\n".join(given[::-1]) + "\n"))
    assert set(document) == {"database", "keep", "delete", "ignored"}
    assert document["database"] == "app"
    assert all(set(kept) == {"name", "tier", "reason"} for kept in document["keep"])
    assert all(set(gone) == {"name", "reason"} for gone in document["delete"])
    tiers = [kept["tier"] for kept in document["keep"]]
    assert tiers == ["Hourly"] * 6 + ["12-Hourly"] * 4 + ["Daily"] * 5
    assert [kept["name"] for kept in document["keep"]] == [
        n for n in given if n in {k["name"] for k in document["keep"]}
    ]
    assert [gone["name"] for gone in document["delete"]] == [
        n for n in given if n in {k["name"] for k in document["delete"]}
    ]
    assert len(document["keep"]) + len(document["delete"]) == 100
    listed = retention("plan", "--format", "names", *AT, "-", stdin="\n".join(given))
    assert listed.out.splitlines() == [gone["name"] for gone in document["delete"]]


def test_plan_of_a_listing_ignores_what_is_no_archive_and_heeds_pins() -> None:
    given = names("app", 40)
    pinned = given[20]
    lines = [*given, f"{pinned}.sha256", f"{pinned}.pin", "", "notes", given[3], "app-20260230-000000.dump", "x/y"]
    document = planned(retention("plan", "--format", "json", *AT, "-", stdin="\r\n".join(lines)))
    assert {kept["name"]: kept["tier"] for kept in document["keep"]}[pinned] == "pinned"
    ignored = {finding["name"] for finding in document["ignored"]}
    assert ignored == {f"{pinned}.sha256", "notes", given[3], "app-20260230-000000.dump", "x/y"}


def test_future_names_are_set_aside() -> None:
    ahead = f"{base_of('app', NOW + DAY)}.dump"
    document = planned(retention("plan", "--format", "json", *AT, "-", stdin="\n".join([*names("app", 100), ahead])))
    assert document["keep"][0]["name"] == ahead
    assert document["keep"][0]["tier"] == "future"
    assert len(document["keep"]) == 16


def test_several_databases_on_standard_input_are_refused() -> None:
    ran = retention("plan", "-", stdin="\n".join(names("app", 2) + names("app-prod", 2)))
    assert ran.code == 2
    assert "app, app-prod" in ran.err
    assert ran.out == ""


def test_nothing_on_standard_input_is_an_empty_plan() -> None:
    document = planned(retention("plan", "--format", "json", "-"))
    assert document == {"database": "", "keep": [], "delete": [], "ignored": []}


def test_bytes_that_are_no_text_do_not_break_a_plan() -> None:
    ran = retention("plan", "--format", "json", "-", stdin="\udcff\udcfe.dump\n" + names("app", 1)[0])
    assert ran.code == 0, ran


def fill(world: World, database: str = "app", count: int = 40) -> None:
    for index in range(count):
        world.publish(database, NOW - 2 * index * HOUR - HOUR / 60)


def test_plan_of_a_directory_and_of_the_root(world: World) -> None:
    fill(world)
    fill(world, "app-prod", 3)
    (world.root / "stray").write_text("x")
    (world.root / "Not A Database").mkdir()
    (world.root / "lost+found").mkdir()
    one = planned(retention_here("plan", "--format", "json", *AT, world.root / "app"))
    assert one["database"] == "app"
    ran = retention_here("plan", "--format", "json", *AT, world.root)
    both = ran.json()
    assert isinstance(both, list)
    assert [document["database"] for document in both] == ["app", "app-prod"]
    assert both[0] == one
    assert "stray" in ran.err
    assert "lost+found" not in ran.err
    text = retention_here("plan", *AT, world.root / "app").out
    assert "prune will refuse" in text


def test_empty_directory_is_an_empty_plan(world: World) -> None:
    world.folder("app")
    document = planned(retention_here("plan", "--format", "json", *AT, world.root / "app"))
    assert document["keep"] == document["delete"] == []


def test_prune_does_what_plan_and_dry_run_say(world: World) -> None:
    fill(world, count=18)
    before = world.archives("app")
    expected = retention_here("plan", "--format", "names", *AT, world.root / "app").out.split()
    dry = retention_here("prune", "--dry-run", "--format", "names", *AT, world.root / "app")
    assert dry.code == 0
    assert dry.out.split() == expected != []
    assert world.archives("app") == before, "a dry run has deleted something"
    ran = retention_here("prune", "--format", "names", *AT, world.root / "app")
    assert ran.out.split() == expected
    assert world.archives("app") == before - set(expected)
    world.assert_sound("app")
    again = retention_here("prune", "--format", "names", *AT, world.root / "app")
    assert again.out == ""


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_large_prune_is_refused_with_3_and_deletes_nothing(world: World, dry: tuple[str, ...]) -> None:
    """The default policy's fifteen, then a policy that keeps one each."""
    times = [kept.time for kept in plan([NOW - 2 * n * HOUR for n in range(200)], Policy.default()).keep]
    for time in times:
        world.publish("app", time)
    policy = one_each(world)
    before = world.names("app")
    ran = retention_here("prune", *dry, "--policy", policy, *AT, world.root / "app")
    assert ran.code == 3, ran
    assert "--allow-large-prune" in ran.err
    assert "12 of 15" in ran.err
    assert world.names("app") == before
    if not dry:
        ran = retention_here("prune", "--allow-large-prune", "--policy", policy, *AT, world.root / "app")
        assert ran.code == 0, ran
        assert len(world.archives("app")) == 3


def one_each(world: World) -> Path:
    """The default policy, cut down to one backup a tier."""
    path = world.top / "one-each.json"
    document = json.loads(Policy.default().to_json())
    for tier in document["tiers"]:
        tier["keep"] = 1
    path.write_text(json.dumps(document))
    return path


def test_diff_tells_what_another_policy_would_do_today(world: World) -> None:
    """By name: what it shows is what a prune by the new policy deletes, less what goes anyway."""
    fill(world, count=40)
    world.pin(names("app", 40)[7].removesuffix(".dump"))
    before = world.names("app")
    old = set(retention_here("plan", "--format", "names", *AT, world.root / "app").out.split())
    new = retention_here("plan", "--format", "names", "--policy", one_each(world), *AT, world.root / "app").out.split()
    ran = retention_here("diff", "--to", one_each(world), "--format", "names", *AT, world.root / "app")
    assert ran.code == 0, ran
    assert ran.out.split() == [name for name in new if name not in old] != []
    document = planned(retention_here("diff", "--to", one_each(world), "--format", "json", *AT, world.root / "app"))
    deleted = {change["name"] for change in document["changes"] if change["change"] == "delete"}
    assert deleted == set(ran.out.split())
    assert all(change["before"] and not change["after"] for change in document["changes"] if change["name"] in deleted)
    assert "would be deleted at once" in document["refused"]
    text = retention_here("diff", "--to", one_each(world), *AT, world.root / "app").out
    assert f"deletes {len(deleted)} more backups (" in text
    assert "prune will refuse" in text
    assert world.names("app") == before, "a diff has changed something"


def test_diff_of_a_larger_policy_keeps_more_and_moves_some(world: World) -> None:
    fill(world, count=40)
    path = world.top / "larger.json"
    path.write_text(
        '{"tiers": [{"name": "Hourly", "every": "2h", "keep": 12, "until": "24h"}, '
        '{"name": "Daily", "every": "24h", "keep": 9}]}'
    )
    document = planned(retention_here("diff", "--to", path, "--format", "json", *AT, world.root / "app"))
    kinds = {change["change"] for change in document["changes"]}
    assert "keep" in kinds
    assert "move" in kinds
    same = planned(retention_here("diff", "--policy", path, "--to", path, "--format", "json", *AT, world.root / "app"))
    assert same["changes"] == []


def test_config_decides_for_each_database_as_its_run_would(world: World) -> None:
    """One with a policy of its own, one with a budget, one that no run knows."""
    for database in ("app", "other", "stranger"):
        for index in range(40):
            world.publish(database, NOW - 2 * index * HOUR)
    world.configure("app")
    world.configure("other", max_bytes="6000", min_backups="2", allow_large_prune="true")
    (world.config / "app.policy.json").write_text(one_each(world).read_text())
    ran = retention_here("plan", "--format", "json", "--config", world.config, *AT, world.root)
    assert ran.code == 0, ran
    documents = ran.json()
    assert isinstance(documents, list)
    kept = {document["database"]: len(document["keep"]) for document in documents}
    assert kept == {"app": 3, "other": 3, "stranger": 40}
    assert any("may take 5.9 KiB" in gone["reason"] for gone in documents[1]["delete"])
    pruned = retention_here("prune", "--config", world.config, *AT, world.root / "other")
    assert pruned.code == 0, pruned
    assert len(world.archives("other")) == 3
    refused = retention_here("prune", "--config", world.config, *AT, world.root / "app")
    assert refused.code == 3
    both = retention_here("plan", "--config", world.config, "--max-bytes", "1Gi", world.root)
    assert both.code == 2
    assert "leave out" in both.err


def test_limits_of_the_command_line_stand_around_the_policy(world: World) -> None:
    fill(world, count=40)
    path = world.root / "app"
    ran = retention_here("plan", "--max-bytes", "6000", "--min-backups", "2", *AT, path)
    assert "3 kept" in ran.out
    ran = retention_here("plan", "--max-bytes", "1", "--min-backups", "2", *AT, path)
    assert "2 kept" in ran.out
    assert "over the budget" in ran.out
    assert "prune will refuse" not in retention_here("plan", "--large-prune-percent", "70", *AT, path).out
    for wrong in (
        ["--max-bytes", "4Zi"],
        ["--max-bytes", "0"],
        ["--min-backups", "0"],
        ["--large-prune-percent", "100"],
    ):
        ran = retention_here("plan", *wrong, path)
        assert ran.code == 2, ran
        assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("days", [12, 30])
def test_simulation_with_failures_and_runs_by_hand_stays_within_the_tiers(days: int) -> None:
    arguments = [
        "--fail-percent",
        "20",
        "--manual",
        "3",
        "--jitter",
        "10m",
        "--size",
        "100Mi",
        "--growth-percent",
        "50",
    ]
    document = planned(retention_here("simulate", "--format", "json", "--days", str(days), *arguments))
    assert document == planned(retention_here("simulate", "--format", "json", "--days", str(days), *arguments))
    assert document["most_kept"] == 15
    made = [day["made"] for day in document["days"]]
    assert min(made) < 12
    assert 9 * days < sum(made) < 15 * days, "a fifth of twelve runs failed, three came by hand"
    last = document["days"][-1]
    assert last["ages"] == sorted(last["ages"])
    assert len(last["ages"]) == last["total"]
    assert 15 * 100 * 2**20 < document["most_bytes"] < 15 * 150 * 2**20
    assert document["steady"]["most_deleted"] <= 3
    assert "SIZE" in retention_here("simulate", *arguments).out


def test_simulation_of_late_starts_reaches_between_six_and_seven_days() -> None:
    steady = planned(retention_here("simulate", "--format", "json", "--days", "60", "--jitter", "10m"))["steady"]
    assert {name: set(kept.values()) for name, kept in steady["kept"].items()} == {
        "Hourly": {6},
        "12-Hourly": {4},
        "Daily": {5},
    }
    assert steady["most_deleted"] == 1
    assert 144 * 3600 - 600 <= steady["reach"]["least"] <= steady["reach"]["most"] <= 168 * 3600


def test_timeline_shows_each_backup_of_a_day() -> None:
    lines = retention_here("simulate", "--days", "8").out.splitlines()
    assert lines[8].count("1") >= 6
    assert lines[1].rstrip("·").endswith("o"), "the oldest of a young volume"
    assert "logarithmic: 1 Hourly, 2 12-Hourly, 3 Daily, o oldest" in lines[9]


def test_pin_keeps_and_unpin_hands_back(world: World) -> None:
    fill(world, count=18)
    gone = retention_here("plan", "--format", "names", *AT, world.root / "app").out.split()
    path = world.root / "app" / gone[0]
    ran = retention_here("pin", *AT, "--reason", "before the upgrade", "--for", "30d", path)
    assert ran.code == 0, ran
    document = json.loads((world.root / "app" / f"{gone[0]}.pin").read_text())
    assert document["reason"] == "before the upgrade"
    assert document["expires"] == (NOW + 30 * DAY).isoformat()
    listed = json.loads(retention_here("list", "--format", "json", *AT, world.root / "app").out)
    entry = next(backup for backup in listed["backups"] if backup["name"] == gone[0])
    assert entry["tier"] == "pinned"
    assert entry["pin"] == {"reason": "before the upgrade", "expires": document["expires"], "holds": True}
    assert gone[0] not in retention_here("plan", "--format", "names", *AT, world.root / "app").out.split()
    later = ("--now", (NOW + 31 * DAY).isoformat())
    listed = retention_here("list", *later, world.root / "app").out
    assert "(until 2026-03-02 00:00Z), and until another backup is dated after that" in listed
    extra = world.publish("app", NOW + 30 * DAY)
    assert gone[0] in retention_here("plan", "--format", "names", *later, world.root / "app").out.split()
    for one in world.folder("app").glob(f"{extra}.*"):
        one.unlink()
    assert retention_here("unpin", path).code == 0
    assert gone == retention_here("plan", "--format", "names", *AT, world.root / "app").out.split()
    assert "was not pinned" in retention_here("unpin", path).out


def test_verify_takes_a_flipped_byte_out_of_view(world: World) -> None:
    fill(world, count=3)
    name = names("app", 3)[1]
    path = world.root / "app" / name
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    ran = retention_here("verify", "--format", "names", world.root)
    assert ran.code == 1
    assert ran.out.split() == [name]
    assert f"{name}.bad" in world.names("app")
    assert name not in world.names("app")
    assert (world.root / "app" / f"{name}.bad").read_bytes() == content
    assert retention_here("verify", world.root / "app").code == 0
    assert retention_here("status", *AT, world.root).code == 1, "a bad archive lies on the volume"


def test_verify_of_one_archive_reads_that_alone(world: World) -> None:
    fill(world, count=3)
    first, second, _ = names("app", 3)
    (world.root / "app" / second).write_bytes(b"short")
    assert retention_here("verify", world.root / "app" / first).code == 0
    ran = retention_here("verify", "--format", "json", world.root / "app" / second)
    assert ran.code == 1
    document = ran.json()
    assert isinstance(document, dict)
    assert [archive["result"] for archive in document["archives"]] == ["bad"]
    assert retention_here("verify", world.root / "app" / "app-20200101-000000.dump").code == 1


def test_status_shows_how_the_last_run_ended(world: World) -> None:
    world.configure("gone")
    world.fail("gone")
    world.stage("app", NOW - HOUR / 60)
    world.finish(NOW)
    ran = retention_here("status", "--format", "json", *AT, world.root)
    assert ran.code == 1
    document = ran.json()
    assert isinstance(document, list)
    entries = {entry["database"]: entry for entry in document}
    assert entries["app"]["result"] == "ok"
    assert entries["app"]["newest_age_seconds"] == 60
    assert entries["gone"]["result"] == "failed"
    assert entries["gone"]["problems"][0]["problem"] == "no password"
    assert "no password" in retention_here("status", *AT, world.root).out
    assert retention_here("status", *AT, world.root / "app").code == 0


def test_status_says_that_backups_are_dated_after_now(world: World) -> None:
    """By a clock that is behind, the newest backup that it shows is not the newest."""
    world.publish("app", NOW - 3 * HOUR)
    latest = world.stage("app", NOW - HOUR)
    world.finish(NOW)
    behind = ("--now", NOW - 2 * HOUR)
    text = f"1 backup is dated after now ({NOW - 2 * HOUR:%Y-%m-%d %H:%M}Z), the latest {latest}.dump"
    assert text in retention_here("status", *behind, world.root).out
    assert '"result": "warning"' in retention_here("status", "--format", "json", *behind, world.root).out
    assert '"result": "ok"' in retention_here("status", "--format", "json", *AT, world.root).out


@pytest.mark.parametrize(("ahead", "code"), [(HOUR / 15, 0), (HOUR / 10, 1), (10000 * DAY, 1)])
def test_status_fails_while_a_backup_is_dated_in_the_future(world: World, ahead: Any, code: int) -> None:
    """Its age would hide that no other follows; the clocks of two nodes may differ by minutes."""
    world.stage("app", NOW - HOUR)
    assert world.finish(NOW).code == 0
    assert retention_here("status", *AT, world.root).code == 0
    latest = world.publish("app", NOW + ahead)
    ran = retention_here("status", *AT, world.root)
    assert ran.code == code
    assert "1 backup is dated after now" in ran.out
    assert str(latest) in ran.out
    (entry,) = json.loads(retention_here("status", "--format", "json", *AT, world.root).out)
    assert entry["ahead_seconds"] == (ahead.total_seconds() if code else 0)
    assert entry["newest"] != f"{latest}.dump", "the newest backup is the newest of the past"


def test_list_shows_every_backup_with_its_tier(world: World) -> None:
    fill(world, count=20)
    ran = retention_here("list", *AT, world.root / "app")
    assert ran.code == 0
    for name in names("app", 20):
        assert name in ran.out
    assert "12-Hourly" in ran.out
    assert "next prune deletes it" in ran.out
    assert retention_here("list", "--format", "names", world.root / "app").out.split() == names("app", 20)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_policy_file_is_one_line_and_2(name: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(WRONG[name][0])
    ran = retention_here("simulate", "--policy", path)
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1, ran.err
    assert str(path) in ran.err
    assert WRONG[name][1] in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["plan"],
        ["plan", "--format", "xml", "-"],
        ["plan", "--now", "tomorrow", "-"],
        ["plan", "--policy", "/nowhere/policy.json", "-"],
        ["plan", "--policy", "/", "-"],
        ["plan", "--policy", "a\0b", "-"],
        ["plan", "a\0b"],
        ["pin", "/nowhere/UPPER/x.dump"],
        ["pin", "--for", "soon", "x"],
        ["pin", "--until", "2020-01-01", "/nowhere/app/x.dump"],
        ["simulate", "--days", "0"],
        ["simulate", "--days", "99999999"],
        ["simulate", "--outage", "10d"],
        ["simulate", "--every", "1x"],
        ["simulate", "--fail-percent", "101"],
        ["simulate", "--manual", "-1"],
        ["simulate", "--growth-percent", "-5"],
        ["simulate", "--growth-percent", "nan"],
        ["simulate", "--size", "big"],
        ["diff", "/nowhere/app"],
        ["diff", "--to", "/nowhere/policy.json", "/nowhere/app"],
        ["finish", "/nowhere"],
        ["finish", "--config", "/nowhere", "--results", "/nowhere", "/nowhere"],
    ],
    ids=" ".join,
)
def test_bad_usage_is_one_line_and_2(arguments: list[str]) -> None:
    ran = retention_here(*arguments)
    assert ran.code == 2, ran
    assert len(ran.err.splitlines()) == 1, ran.err
    assert ran.err.startswith("retention: ")


@pytest.mark.parametrize("command", ["plan", "prune", "list", "status", "verify", "clean"])
@pytest.mark.parametrize("path", ["/nowhere/app", "/etc/passwd"])
def test_bad_path_is_one_line_and_1(command: str, path: str) -> None:
    ran = retention_here(command, path)
    assert ran.code == 1
    assert len(ran.err.splitlines()) == 1, ran.err
    assert path in ran.err


def test_closed_output_is_no_traceback() -> None:
    given = "\n".join(names("app", 20_000))
    process = subprocess.Popen(
        [sys.executable, "-m", "retention", "plan", *AT, "-"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(given.encode(), timeout=60)
    assert process.returncode == 1
    assert err.decode().splitlines() == ["retention: standard output was closed before everything was written"]


def test_full_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "retention", "simulate"],
            cwd=REPOSITORY,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert b"No space left" in ended.stderr


def test_finish_does_its_work_though_nobody_reads_its_log(world: World) -> None:
    world.stage("app", NOW - HOUR / 60)
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [sys.executable, "-m", "retention", *world.finish_arguments(NOW)], cwd=REPOSITORY, stdout=write, check=False
    )
    os.close(write)
    assert ended.returncode == 1
    assert len(world.archives("app")) == 1
    world.assert_sound("app")


def test_simulation_of_the_default_policy_is_6_4_5() -> None:
    document = planned(retention_here("simulate", "--format", "json", "--days", "30"))
    steady = document["steady"]
    assert steady["kept"] == {
        "Hourly": {"least": 6, "most": 6},
        "12-Hourly": {"least": 4, "most": 4},
        "Daily": {"least": 5, "most": 5},
    }
    assert steady["gaps"] == {"Hourly": 7200, "12-Hourly": 43200, "Daily": 86400}
    assert steady["most_deleted"] == 1
    assert 144 * 3600 <= steady["reach"]["least"] <= steady["reach"]["most"] <= 168 * 3600
    assert document["most_kept"] == 15
    assert len(document["days"]) == 30
    assert "6 kept, largest gap 2h" in retention_here("simulate").out


def test_simulated_outage_leaves_the_last_backups_before_it() -> None:
    document = planned(retention_here("simulate", "--format", "json", "--days", "24", "--outage", "12d+10d"))
    end = [entry["time"] for entry in document["end"]]
    assert any(time == "2026-01-12T22:00:00+00:00" for time in end), end
    assert document["days"][20]["total"] == 15


def test_help_names_every_exit_code() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "retention", "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    for word in ("0 done", "1 a database failed", "2 usage", "3 refused", "143"):
        assert word in ran.stdout


def test_locked_database_is_told_with_its_holder(world: World) -> None:
    fill(world, count=2)
    with (world.root / "app" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("pod-3 dump.sh")
        lock.flush()
        ran = retention_here("prune", "--lock-timeout", "1s", world.root / "app")
    assert ran.code == 1
    assert "pod-3 dump.sh" in ran.err


def test_list_tells_programs_when_a_backup_was_read_whole_and_how_its_drill_ended(world: World) -> None:
    world.stage("app", NOW - HOUR)
    world.finish(NOW)
    base = base_of("app", NOW - HOUR)
    (plain,) = json.loads(retention_here("list", "--format", "json", *AT, world.root / "app").out)["backups"]
    assert plain["verified"] == NOW.isoformat()
    assert plain["drill"] is None
    (world.folder("app") / f"{base}.drill.json").write_text('{"result": "proved"}')
    (drilled,) = json.loads(retention_here("list", "--format", "json", *AT, world.root / "app").out)["backups"]
    assert drilled["drill"] == {"result": "proved"}
    (world.folder("app") / f"{base}.drill.json").write_text("{")
    (torn,) = json.loads(retention_here("list", "--format", "json", *AT, world.root / "app").out)["backups"]
    assert torn["drill"] is None


def test_a_database_that_no_run_has_any_more_is_listed_and_nothing_of_it_planned_away(world: World) -> None:
    fill(world, count=30)
    fill(world, "old", count=30)
    world.configure("app")
    listed = retention_here("list", "--format", "json", "--config", world.config, *AT, world.root)
    assert listed.code == 0, listed
    document = listed.json()
    assert isinstance(document, list)
    app, unconfigured = document
    assert any(one["tier"] is None for one in app["backups"])
    assert {one["tier"] for one in unconfigured["backups"]} == {"unpruned"}
    assert retention_here("plan", "--format", "names", "--config", world.config, *AT, world.root / "old").out == ""
    assert retention_here("prune", "--dry-run", "--config", world.config, *AT, world.root / "old").code == 2, (
        "a prune asks for it"
    )


def test_status_tells_programs_how_much_room_the_volume_has(world: World) -> None:
    fill(world, count=1)
    (entry,) = json.loads(retention_here("status", "--format", "json", *AT, world.root).out)
    there = os.statvfs(world.root)
    assert 0 < entry["volume_bytes"] <= there.f_blocks * there.f_frsize
    assert 0 <= entry["volume_used_bytes"] <= entry["volume_bytes"]
    (listed,) = json.loads(retention_here("list", "--format", "json", *AT, world.root).out)
    assert listed["full_bytes"] == 16 * listed["backups"][0]["bytes"], "15 that are kept, and one that a run adds"
