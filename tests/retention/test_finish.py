"""The second half of a run: what is published, what is not, and what is said about it."""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from retention import Policy, plan
from retention.names import Kind, base_of, file_name
from tests.retention.world import DAY, HOUR, REPOSITORY, T0, World, content_of, retention_here

NOW = T0 + 30 * DAY
MINUTE = HOUR / 60


def test_staged_archive_is_published_with_sidecars_that_sha256sum_reads(world: World) -> None:
    base = world.stage("app", NOW - 5 * MINUTE)
    ran = world.finish(NOW)
    assert ran.code == 0, ran
    assert world.names("app") == {f"{base}{suffix}" for suffix in (".dump", ".dump.sha256", ".json", ".globals.sql")}
    world.assert_sound("app")
    checked = subprocess.run(["sha256sum", "-c", f"{base}.dump.sha256"], cwd=world.folder("app"), capture_output=True)
    assert checked.returncode == 0, checked.stdout
    metadata = json.loads((world.folder("app") / f"{base}.json").read_text())
    assert metadata["schema"] == 1
    assert metadata["tables"] == 34
    assert metadata["started"] == "2026-01-30T23:55:00+00:00"
    assert metadata["server_version"] == "16.10"
    assert metadata["verification"]["method"]
    assert metadata["recovered"] is False
    for name in world.names("app"):
        mode = (world.folder("app") / name).stat().st_mode & 0o777
        # The archive and its roles come from the dump, whose umask is its own affair.
        assert name.endswith(".dump") or mode == 0o600, f"{name} has mode {mode:o}"


def test_first_run_on_an_empty_volume_says_so_once(world: World) -> None:
    world.stage("app", NOW - 5 * MINUTE)
    assert "empty volume" in world.finish(NOW).out
    world.stage("app", NOW + 2 * HOUR - 5 * MINUTE)
    assert "empty volume" not in world.finish(NOW + 2 * HOUR).out


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "1999 bytes"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "2001 bytes"),
        (lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]), "reads back as sha256"),
        (lambda path: path.write_bytes(b""), "0 bytes"),
    ],
    ids=["truncated", "longer", "byte flipped", "empty"],
)
def test_spoiled_archive_is_never_published_and_counts_as_bad(world: World, spoil: object, said: str) -> None:
    base = world.stage("app", NOW - 5 * MINUTE)
    assert callable(spoil)
    spoil(world.folder("app") / file_name(base, Kind.STAGED))
    ran = world.finish(NOW)
    assert ran.code == 1, ran
    assert said in ran.out
    assert world.names("app") == {f"{base}.dump.bad"}
    again = world.finish(NOW + MINUTE)
    assert again.code == 1, "a bad archive on the volume has to be told until a person removes it"
    assert f"{base}.dump.bad" in again.out


@pytest.mark.parametrize("kind", [Kind.STAGED_SHA256, Kind.STAGED_RESULT])
def test_staged_archive_without_a_sidecar_is_never_published(world: World, kind: Kind) -> None:
    base = world.stage("app", NOW - 5 * MINUTE)
    (world.folder("app") / file_name(base, kind)).unlink()
    ran = world.finish(NOW)
    assert ran.code == 1, ran
    assert f"{file_name(base, kind)} is missing" in ran.out
    assert world.names("app") == {f"{base}.dump.bad"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("database", "other"),
        ("base", "app-20200101-000000"),
        ("sha256", "0" * 64),
        ("bytes", "1"),
        ("bytes", "x"),
        ("state", "failed"),
    ],
)
def test_staged_archive_in_discord_with_its_result_is_never_published(world: World, key: str, value: str) -> None:
    base = world.stage("app", NOW - 5 * MINUTE, report=False, facts={key: value})
    base = base_of("app", NOW - 5 * MINUTE)
    assert world.finish(NOW).code == 1
    assert world.names("app") == {f"{base}.dump.bad"}


def test_archive_that_is_not_the_one_the_dump_container_reported_is_bad(world: World) -> None:
    base = world.stage("app", NOW - 5 * MINUTE)
    result = world.results / "app.result"
    sha256 = hashlib.sha256(content_of(base)).hexdigest()
    result.write_text(result.read_text().replace(sha256, "0" * 64))
    ran = world.finish(NOW)
    assert ran.code == 1
    assert "not the one that the dump container reported" in ran.out
    assert world.archives("app") == set()


def test_name_that_is_taken_is_never_overwritten(world: World) -> None:
    time = NOW - 5 * MINUTE
    old = world.publish("app", time, content=b"the older backup of the same second")
    world.stage("app", time, content=b"made after the clock was set back")
    ran = world.finish(NOW)
    assert ran.code == 0, ran
    later = base_of("app", time + MINUTE / 60)
    assert world.archives("app") == {f"{old}.dump", f"{later}.dump"}
    assert (world.folder("app") / f"{old}.dump").read_bytes() == b"the older backup of the same second"
    world.assert_sound("app")
    assert f"staged as {old}, whose name was taken" in ran.out


def test_bad_archive_never_gives_its_name_to_another(world: World) -> None:
    time = NOW - 5 * MINUTE
    base = world.stage("app", time)
    (world.folder("app") / f"{base}.dump.bad").write_bytes(b"bad")
    assert world.finish(NOW).code == 1
    assert world.archives("app") == {f"{base_of('app', time + MINUTE / 60)}.dump"}
    spoiled = world.stage("app", time)
    (world.folder("app") / file_name(spoiled, Kind.STAGED)).write_bytes(b"bad as well")
    assert world.finish(NOW).code == 1
    bad = {name for name in world.names("app") if name.endswith(".bad")}
    assert len(bad) == 2, "one bad archive has overwritten the other"


def test_leftover_of_a_dead_run_is_judged_published_and_reported(world: World) -> None:
    dead = world.stage("app", NOW - 125 * MINUTE, report=False)
    alive = world.stage("app", NOW - 5 * MINUTE)
    ran = world.finish(NOW)
    assert ran.code == 0, ran
    assert world.archives("app") == {f"{dead}.dump", f"{alive}.dump"}
    assert f"recovered from an earlier run and published {dead}.dump" in ran.out
    assert world.status()["app"]["recovered"] == [f"{dead}.dump"]
    assert json.loads((world.folder("app") / f"{dead}.json").read_text())["recovered"] is True


def test_database_without_a_result_has_failed(world: World) -> None:
    ran = world.finish(NOW)
    assert ran.code == 1
    assert "the dump container reported nothing" in ran.out
    assert "remedy" in ran.out


def test_archive_that_another_run_has_published_is_a_success(world: World) -> None:
    base = world.stage("app", NOW - 5 * MINUTE)
    assert world.finish(NOW).code == 0
    ran = world.finish(NOW)
    assert ran.code == 0, ran
    assert f"another run has published {base}.dump" in ran.out


def test_run_that_publishes_nothing_deletes_nothing(world: World) -> None:
    """Another run has published the archive, and prunes after its own."""
    base = world.stage("app", NOW - 5 * MINUTE)
    assert world.finish(NOW).code == 0
    for index in range(1, 12):
        world.publish("app", NOW - 2 * index * HOUR - MINUTE)
    before = world.archives("app")
    ran = world.finish(NOW)
    assert ran.code == 0, ran
    assert world.archives("app") == before
    assert f"{base}.dump" in before


def test_pin_of_an_archive_long_gone_never_holds_the_new_one_of_its_name(world: World) -> None:
    base = world.stage("app", NOW - 5 * MINUTE, roles=False)
    world.pin(base)
    (world.folder("app") / f"{base}.drill.json").write_text("{}")
    (world.folder("app") / f"{base}.globals.sql").write_text("CREATE ROLE old;")
    assert world.finish(NOW).code == 0
    assert world.names("app") == {f"{base}.dump", f"{base}.dump.sha256", f"{base}.json"}


def test_staged_archive_that_vanished_is_a_failure(world: World) -> None:
    base = world.stage("app", NOW - 5 * MINUTE)
    (world.folder("app") / file_name(base, Kind.STAGED)).unlink()
    ran = world.finish(NOW)
    assert ran.code == 1
    assert "neither staged nor published" in ran.out
    world.assert_sound("app")


@pytest.mark.parametrize("state", ["failed", "not-reached"])
def test_failed_dump_deletes_nothing_and_says_why(world: World, state: str) -> None:
    """Though there is something to delete, and so little that no guard would refuse it."""
    for index in range(12):
        world.publish("app", NOW - 2 * index * HOUR - MINUTE)
    before = world.names("app")
    would_go = retention_here("plan", "--now", NOW.isoformat(), "--format", "names", world.root / "app").out.split()
    assert 1 <= len(would_go) <= 3
    world.fail("app", {"state": state})
    ran = world.finish(NOW)
    assert ran.code == 1
    assert "no password" in ran.out
    assert "make the Secret" in ran.out
    assert world.names("app") == before
    assert "no password" in world.termination_log.read_text()


def test_one_failing_database_never_stops_another(world: World) -> None:
    for database in ("bad-conf", "failed", "locked", "zzz"):
        world.configure(database)
    (world.config / "bad-conf.conf").write_text("nonsense")
    world.fail("failed")
    for database in ("app", "locked", "zzz"):
        world.stage(database, NOW - 5 * MINUTE)
    with (world.folder("locked") / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("pod-7 dump since noon")
        lock.flush()
        ran = world.finish(NOW)
    assert ran.code == 1
    assert len(world.archives("app")) == len(world.archives("zzz")) == 1
    assert world.archives("locked") == set()
    assert "pod-7 dump since noon" in ran.out, "the message has to name who holds the lock"
    results = {name: entry["result"] for name, entry in world.status().items()}
    assert results == {"app": "ok", "bad-conf": "failed", "failed": "failed", "locked": "failed", "zzz": "ok"}


def test_databases_with_similar_names_never_touch_each_other(world: World) -> None:
    names = ("app", "app-prod", "app_prod", "app.prod")
    for database in names:
        world.configure(database)
        for index in range(18):
            world.publish(database, NOW - (2 * index + 2) * HOUR - MINUTE)
        world.stage(database, NOW - 5 * MINUTE)
    foreign = world.folder("app") / "app-prod-20260101-000000.dump"
    foreign.write_bytes(b"a copy of the other's archive")
    ran = world.finish(NOW)
    assert ran.code == 0, ran
    assert foreign.exists()
    assert "ignored app-prod-20260101-000000.dump" in ran.out
    foreign.unlink()
    for database in names:
        world.assert_sound(database)
        assert len(world.archives(database)) == len(world.archives("app")) < 19
        assert all(name.startswith(f"{database}-2026") for name in world.archives(database))


def test_strays_links_and_directories_are_reported_and_never_touched(world: World, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    folder = world.folder("app")
    base = base_of("app", NOW - 3 * DAY)
    (folder / f"{base}.dump").symlink_to(outside / "precious")
    (folder / f"{base}.json").write_text("{}")
    (folder / "app-20260102-000000.dump").mkdir()
    (folder / "app-20260102-000000.dump" / "inside").write_text("x")
    (folder / ".app-20260103-000000.dump.deleting").symlink_to(outside)
    (folder / ".app-20260104-000000.dump.staged").symlink_to(outside / "precious")
    (folder / "app-20260105-000000.dump.sha256").symlink_to(outside / "precious")
    strays = ["notes.txt", "app-20260101.dump", "app-20261399-000000.dump", "app-20260101-000000.dump.old", "x\ny"]
    strays += ["APP-20260101-000000.dump", "xapp-20260101-000000.dump", "app-20260101-000000.dump\n", ".nfs0001"]
    for stray in strays:
        (folder / stray).write_text("stray")
    os.mkfifo(folder / "app-20260106-000000.dump")
    before = world.names("app")
    world.stage("app", NOW - 5 * MINUTE)
    ran = world.finish(NOW)
    assert ran.code == 0, ran
    assert before <= world.names("app")
    assert (outside / "precious").read_text() == "precious"
    assert (folder / "app-20260102-000000.dump" / "inside").exists()
    for stray in ("notes.txt", "app-20260101.dump", "x\\ny", f"{base}.dump", "app-20260106-000000.dump"):
        assert f"ignored {stray}: " in ran.out, stray


def test_link_in_the_place_of_a_database_directory_is_refused(world: World, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (world.root / "app").symlink_to(outside)
    world.fail("app")
    ran = world.finish(NOW)
    assert ran.code == 1
    assert "backups/app" in ran.out
    assert list(outside.iterdir()) == []


def test_archive_damaged_after_it_was_published_does_not_count_any_more(world: World) -> None:
    base = world.publish("app", NOW - 4 * HOUR)
    (world.folder("app") / f"{base}.dump").write_bytes(b"short")
    world.stage("app", NOW - 5 * MINUTE)
    ran = world.finish(NOW)
    assert ran.code == 1
    assert f"{base}.dump no longer counts" in ran.out
    assert f"{base}.dump" in world.names("app"), "what is damaged is for people to look at"


def test_archive_without_sidecars_is_a_warning_and_stays(world: World) -> None:
    base = world.publish("app", NOW - 4 * HOUR)
    (world.folder("app") / f"{base}.dump.sha256").unlink()
    world.stage("app", NOW - 5 * MINUTE)
    ran = world.finish(NOW)
    assert ran.code == 0
    assert f"{base}.dump.sha256 is missing" in ran.out
    assert f"{base}.dump" in world.names("app")


def _week(world: World, count: int = 84) -> None:
    """A week of two-hourly backups that nobody has pruned."""
    for index in range(count):
        world.publish("app", NOW - 2 * (index + 1) * HOUR - 5 * MINUTE)


def test_large_prune_is_refused_until_somebody_says_yes(world: World) -> None:
    _week(world)
    before = world.archives("app")
    base = world.stage("app", NOW - 5 * MINUTE)
    ran = world.finish(NOW)
    assert ran.code == 3, ran
    assert world.archives("app") == before | {f"{base}.dump"}
    assert "--allow-large-prune" in ran.out
    assert "allowLargePrune" in ran.out
    assert "70 of 85" in ran.out
    assert world.status()["app"]["result"] == "refused"
    assert "70 of 85" in str(world.status()["app"]["refused"])
    world.stage("app", NOW + 115 * MINUTE)
    ran = world.finish(NOW + 2 * HOUR, "--allow-large-prune")
    assert ran.code == 0, ran
    assert len(world.archives("app")) == 15
    world.assert_sound("app")


def test_refusal_is_told_at_every_run_and_in_status_for_as_long_as_it_stands(world: World) -> None:
    _week(world)
    world.stage("app", NOW - 5 * MINUTE)
    assert world.finish(NOW).code == 3

    world.fail("app")
    ran = world.finish(NOW + 2 * HOUR)
    assert ran.code == 1
    assert "refused: app: 70 of 85" in ran.out
    assert "70 of 85" in str(world.status()["app"]["refused"]), "a failed dump has hidden the refusal"
    status = retention_here("status", "--now", (NOW + 2 * HOUR).isoformat(), world.root)
    assert "no password" in status.out
    assert "70 of 85" in status.out

    with (world.root / "app" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert world.finish(NOW + 4 * HOUR).code == 1
    assert "70 of 85" in str(world.status()["app"]["refused"]), "a locked directory has hidden the refusal"

    assert retention_here("prune", "--allow-large-prune", "--now", NOW.isoformat(), world.root / "app").code == 0
    world.stage("app", NOW + 6 * HOUR - 5 * MINUTE)
    assert world.finish(NOW + 6 * HOUR).code == 0
    assert world.status()["app"]["refused"] is None
    assert "would be deleted" not in retention_here("status", world.root).out


def test_guard_takes_its_share_from_the_configuration(world: World) -> None:
    _week(world, 25)
    world.configure("app", large_prune_percent="90")
    world.stage("app", NOW - 5 * MINUTE)
    ran = world.finish(NOW)
    assert ran.code == 0, ran
    for index in range(5):
        world.publish("app", NOW - (2 * index + 1) * HOUR)
    world.configure("app", large_prune_percent="20")
    world.stage("app", NOW + 115 * MINUTE)
    ran = world.finish(NOW + 2 * HOUR)
    assert ran.code == 3, ran
    assert "more than 20 %" in ran.out


def test_budget_deletes_the_oldest_and_says_so(world: World) -> None:
    """Ten of 2000 bytes each may stay of the fifteen that the tiers keep."""
    world.configure("app", max_bytes="20000", allow_large_prune="true")
    _week(world)
    base = world.stage("app", NOW - 5 * MINUTE)
    ran = world.finish(NOW)
    assert ran.code == 0, ran
    kept = sorted(world.archives("app"))
    assert len(kept) == 10
    assert f"{base}.dump" in kept
    budget = [entry for entry in world.deletions("app") if entry["rule"] == "budget"]
    assert len(budget) == 5
    assert max(entry["name"] for entry in budget) < kept[0]
    assert "may take 19.5 KiB together" in ran.out
    world.assert_sound("app")


def test_budget_that_cannot_be_met_leaves_its_floor_and_warns(world: World) -> None:
    world.configure("app", max_bytes="1", min_backups="4", allow_large_prune="true")
    _week(world)
    world.stage("app", NOW - 5 * MINUTE)
    ran = world.finish(NOW)
    assert ran.code == 0, ran
    assert len(world.archives("app")) == 4
    assert "the newest 4" in ran.out
    assert world.status()["app"]["result"] == "warning"


def test_budget_asks_before_it_takes_many_at_once(world: World) -> None:
    world.configure("app", max_bytes="6000")
    for one in plan([NOW - 2 * n * HOUR - 5 * MINUTE for n in range(1, 200)], Policy.default()).keep:
        world.publish("app", one.time)
    world.stage("app", NOW - 5 * MINUTE)
    ran = world.finish(NOW)
    assert ran.code == 3, ran
    assert len(world.archives("app")) == 16


def test_large_prune_goes_ahead_where_the_configuration_says_so(world: World) -> None:
    world.configure("app", allow_large_prune="true")
    _week(world)
    world.stage("app", NOW - 5 * MINUTE)
    assert world.finish(NOW).code == 0
    assert len(world.archives("app")) == 15


def test_failure_beats_a_refusal_in_the_exit_code(world: World) -> None:
    _week(world)
    world.stage("app", NOW - 5 * MINUTE)
    world.configure("other")
    world.fail("other")
    assert world.finish(NOW).code == 1


def test_each_deletion_is_told_with_its_rule_and_logged_on_the_volume(world: World) -> None:
    world.configure("app", allow_large_prune="true")
    _week(world)
    before = world.archives("app")
    base = world.stage("app", NOW - 5 * MINUTE)
    ran = world.finish(NOW)
    gone = (before | {f"{base}.dump"}) - world.archives("app")
    log = world.deletions("app")
    assert {entry["name"] for entry in log} == gone
    for entry in log:
        assert entry["event"] == "deleted"
        assert entry["rule"] in ("same-slot", "not-a-mark", "tiers-full")
        assert entry["time"] == "2026-01-31T00:00:00+00:00"
        assert f"app: deleted {entry['name']}: {entry['reason']}" in ran.out


def test_pinned_backup_outlives_the_tiers_and_its_pin_goes_with_it_later(world: World) -> None:
    world.configure("app", allow_large_prune="true")
    _week(world)
    held, expired = base_of("app", NOW - 40 * HOUR - 5 * MINUTE), base_of("app", NOW - 16 * HOUR - 5 * MINUTE)
    world.pin(held)
    world.pin(expired, json.dumps({"reason": "before the upgrade", "expires": (NOW - DAY).isoformat()}))
    world.stage("app", NOW - 5 * MINUTE)
    assert world.finish(NOW).code == 0
    assert f"{held}.dump" in world.archives("app")
    assert len(world.archives("app")) == 16
    assert not any(name.startswith(expired) for name in world.names("app")), "an expired pin still held"
    world.assert_sound("app")


@pytest.mark.parametrize("runs", [1, 2])
def test_clock_that_is_ahead_in_one_run_ends_no_pin(world: World, runs: int) -> None:
    """Only a backup of another run shows that the end of a pin has come: two runs with one wrong clock are too many."""
    world.configure("app", allow_large_prune="true")
    _week(world)
    held = base_of("app", NOW - 16 * HOUR - 5 * MINUTE)
    world.pin(held, json.dumps({"reason": "before the upgrade", "expires": (NOW + DAY).isoformat()}))
    for run in range(runs):
        now = NOW + 365 * DAY + 2 * run * HOUR
        world.stage("app", now - 5 * MINUTE)
        assert world.finish(now).code == 0
    assert (f"{held}.dump" in world.archives("app")) is (runs == 1)


@pytest.mark.parametrize(
    "content", ["", "plain words", "{", "[1]", '{"expires": 7}', '{"expires": "soon"}', "\x00\xff"]
)
def test_pin_that_cannot_be_understood_holds(world: World, content: str) -> None:
    world.configure("app", allow_large_prune="true")
    _week(world)
    held = base_of("app", NOW - 40 * HOUR - 5 * MINUTE)
    world.pin(held, content)
    world.stage("app", NOW - 5 * MINUTE)
    world.finish(NOW)
    if content == '{"expires": 7}':
        assert f"{held}.dump" in world.archives("app")
    assert f"{held}.dump" in world.archives("app")


def test_shrunken_archive_is_published_with_a_warning(world: World) -> None:
    world.publish("app", NOW - 2 * HOUR, content=content_of("x", 9000), tables=40)
    base = world.stage("app", NOW - 5 * MINUTE, facts={"tables": "19"})
    ran = world.finish(NOW)
    assert ran.code == 0, ran
    assert "tables fell from 40" in ran.out
    assert "the archive fell from 8.8 KiB" in ran.out
    assert world.status()["app"]["result"] == "warning"
    assert len(json.loads((world.folder("app") / f"{base}.json").read_text())["warnings"]) == 2


def test_half_is_no_shrinkage(world: World) -> None:
    world.publish("app", NOW - 2 * HOUR, content=content_of("x", 4000), tables=68)
    world.stage("app", NOW - 5 * MINUTE)
    assert world.finish(NOW).code == 0
    assert world.status()["app"]["result"] == "ok"


def test_shrinkage_that_shall_fail_fails_and_prunes_nothing(world: World) -> None:
    world.configure("app", on_shrink="fail")
    for index in range(20):
        world.publish("app", NOW - 2 * (index + 1) * HOUR - 5 * MINUTE)
    before = world.archives("app")
    base = world.stage("app", NOW - 5 * MINUTE, facts={"tables": "3"})
    ran = world.finish(NOW)
    assert ran.code == 1
    assert world.archives("app") == before | {f"{base}.dump"}


def test_backup_dated_in_the_future_is_set_aside_and_told(world: World) -> None:
    world.publish("app", NOW + 365 * DAY)
    world.stage("app", NOW - 5 * MINUTE)
    ran = world.finish(NOW)
    assert ran.code == 0
    assert "dated after now" in ran.out
    assert len(world.archives("app")) == 2


@pytest.mark.parametrize("wrong_now", [False, True], ids=["only names a year ahead", "the clock a year ahead"])
def test_a_week_a_year_ahead_never_costs_a_right_backup(world: World, wrong_now: bool) -> None:
    """84 runs a year ahead, then ten right days: what is right is kept as if the wrong ones had never been."""
    right: list[object] = []
    year = 365 * DAY
    world.configure("app", allow_large_prune="false")
    on_disk: set[str] = set()
    moments = [(T0 + 2 * index * HOUR, index < 84) for index in range(84 + 120)]
    import itertools

    from retention.rule.decide import Candidate, decide

    candidates: dict[str, Candidate] = {}
    for (moment, wrong), number in zip(moments, itertools.count(), strict=False):
        time = moment + year if wrong else moment
        now = time if wrong and wrong_now else moment
        base = base_of("app", time)
        candidates[base] = Candidate(f"{base}.dump", base, time, None)
        decision = decide("app", list(candidates.values()), [], Policy.default(), now=now, own=frozenset({base}))
        assert not decision.refusal, f"run {number} would have been refused"
        for gone in decision.delete:
            del candidates[gone.base]
        if not wrong:
            right.append(time)
    on_disk = {candidate.name for candidate in candidates.values() if candidate.time <= moments[-1][0]}
    expected = {f"{base_of('app', kept.time)}.dump" for kept in plan(right, Policy.default()).keep}  # type: ignore[arg-type]
    assert on_disk == expected


def let_another_fail(world: World, folder: Path) -> None:
    """Run another CronJob of the same volume, whose one database fails."""
    folder.mkdir()
    other = World(folder)
    other.configure("other")
    other.root = world.root
    other.fail("other")
    other.finish(NOW)


def test_status_of_several_cronjobs_is_merged(world: World, tmp_path: Path) -> None:
    world.stage("app", NOW - 5 * MINUTE)
    world.finish(NOW)
    let_another_fail(world, tmp_path / "two")
    assert set(world.status()) == {"app", "other"}
    (world.root / "status.json").write_text("{broken")
    world.stage("app", NOW + 10 * MINUTE)
    ran = world.finish(NOW + HOUR)
    assert "status.json could not be understood" in ran.out
    assert set(world.status()) == {"app"}


def test_status_tells_of_another_cronjobs_database_that_has_only_failed_until_it_runs_no_more(
    world: World, tmp_path: Path
) -> None:
    let_another_fail(world, tmp_path / "two")
    shutil.rmtree(world.root / "other", ignore_errors=True)
    for later in (HOUR, 6 * DAY):
        world.stage("app", NOW + later - 5 * MINUTE)
        world.finish(NOW + later)
        assert world.status()["other"]["result"] == "failed"
    world.stage("app", NOW + 7 * DAY)
    world.finish(NOW + 7 * DAY + 5 * MINUTE)
    assert set(world.status()) == {"app"}


def test_last_success_survives_a_failure_in_the_status(world: World) -> None:
    world.stage("app", NOW - 5 * MINUTE)
    world.finish(NOW)
    world.fail("app")
    world.finish(NOW + 2 * HOUR)
    assert world.status()["app"]["last_success"] == "2026-01-31T00:00:00+00:00"
    assert world.status()["app"]["result"] == "failed"


def test_termination_message_never_exceeds_what_kubernetes_keeps(world: World) -> None:
    for index in range(60):
        world.configure(f"db{index}")
        world.fail(f"db{index}", {"error": "ü" * 300})
    world.finish(NOW)
    content = world.termination_log.read_bytes()
    assert 3000 < len(content) <= 4096
    assert content.decode().startswith("61 of 61 databases failed\n")


def test_sigterm_stops_between_databases_and_says_so(world: World) -> None:
    """Stopped while it waits for a lock: the one place where a run may spend minutes."""
    world.configure("app", lock_timeout="60")
    world.stage("app", NOW - 5 * MINUTE)
    with (world.folder("app") / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "retention", *world.finish_arguments(NOW)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        while not _hears(process.pid, signal.SIGTERM):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 143, out
    assert b"stopped by SIGTERM" in out
    assert b"stopped by SIGTERM" in world.termination_log.read_bytes()
    assert world.finish(NOW).code == 0
    world.assert_sound("app")


def _hears(pid: int, number: int) -> bool:
    """Tell whether a process has a handler for a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda world: (world.config / "app.conf").unlink(), "there is no <database>.conf"),
        (lambda world: setattr(world, "config", world.top / "nowhere"), "No such file"),
        (lambda world: setattr(world, "root", world.top / "nowhere"), "No such file"),
    ],
    ids=["no database", "no configuration", "no volume"],
)
def test_nothing_to_work_on_is_one_clear_line(world: World, change: object, said: str) -> None:
    assert callable(change)
    change(world)
    ran = world.finish(NOW)
    assert ran.code in (1, 2)
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1, ran.err
    assert said in world.termination_log.read_text()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lock_timeout": "soon"}, "lock_timeout is 'soon'"),
        ({"on_shrink": "cry"}, "on_shrink is 'cry'"),
        ({"allow_large_prune": "yes"}, "allow_large_prune is 'yes'"),
        ({"large_prune_percent": "100"}, "a large prune of 100 percent"),
        ({"large_prune_percent": "half"}, "large_prune_percent is 'half'"),
        ({"max_bytes": "4Gi"}, "max_bytes is '4Gi'"),
        ({"min_backups": "0"}, "a budget that leaves 0 backups"),
        ({"database": "other"}, "database is 'other'"),
    ],
)
def test_wrong_configuration_fails_its_database_with_one_clear_message(
    world: World, changes: dict[str, str], said: str
) -> None:
    world.configure("app", **changes)
    world.stage("app", NOW - 5 * MINUTE)
    ran = world.finish(NOW)
    assert ran.code == 1
    assert said in ran.out
    assert "app.conf" in ran.out


def test_broken_policy_publishes_and_prunes_nothing(world: World) -> None:
    _week(world)
    (world.config / "app.policy.json").write_text("{")
    base = world.stage("app", NOW - 5 * MINUTE)
    ran = world.finish(NOW)
    assert ran.code == 1
    assert "app.policy.json" in ran.out
    assert len(world.archives("app")) == 85
    assert f"{base}.dump" in world.archives("app")


def test_policy_of_one_database_beats_the_one_of_all(world: World) -> None:
    (world.config / "app.policy.json").write_text('{"tiers": [{"name": "Few", "every": "1h", "keep": 2}]}')
    world.publish("app", NOW - 4 * HOUR)
    world.publish("app", NOW - 2 * HOUR)
    world.stage("app", NOW - 5 * MINUTE)
    assert world.finish(NOW).code == 0
    assert len(world.archives("app")) == 2


def test_answer_as_json(world: World) -> None:
    base = world.stage("app", NOW - 5 * MINUTE)
    ran = world.finish(NOW, "--format", "json")
    document = ran.json()
    assert isinstance(document, dict)
    assert document["exit_code"] == 0
    assert document["databases"][0]["published"] == [f"{base}.dump"]
