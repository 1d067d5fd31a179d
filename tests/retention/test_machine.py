"""The whole volume, in any order of what may happen to it, against a model that knows nothing but the written rule.

Dumps, failed dumps, runs cut off at any change of the disk, pins that expire, files deleted by hand, archives that go
bad, other policies, budgets, clocks that step: after each run there lies what the model says, whole, and nothing else.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from retention import Policy, Tier
from retention.names import Grammar, Kind, base_of, file_name
from retention.volume.folder import Folder
from tests.retention.literal_rule import literal_plan
from tests.retention.world import DAY, HOUR, T0, Ran, World, content_of, retention_here

MINUTE = HOUR / 60
POLICIES = {
    "default": Policy.default(),
    "one each": Policy(
        tuple(Tier(tier.name, tier.every, 1, tier.until) for tier in Policy.default().tiers), timedelta(0)
    ),
    "four tiers": Policy(
        (
            Tier("Hourly", HOUR, 3, 4 * HOUR),
            Tier("4-Hourly", 4 * HOUR, 3, 12 * HOUR),
            Tier("12-Hourly", 12 * HOUR, 3, 48 * HOUR),
            Tier("Daily", DAY, 3),
        )
    ),
    "daily": Policy((Tier("Daily", DAY, 4),)),
}


class CutError(BaseException):
    """The process is gone."""


@contextmanager
def cut_after(changes: int) -> Iterator[None]:
    """Let a run make so many changes to the disk, and not one more."""
    names, left = ("rename", "remove", "write", "append", "sync"), [changes]
    originals = {name: getattr(Folder, name) for name in names}

    def cutting(original: Callable[..., Any]) -> Callable[..., Any]:
        def method(*arguments: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise CutError
            return original(*arguments)

        return method

    for name, original in originals.items():
        setattr(Folder, name, cutting(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(Folder, name, original)


@dataclass(slots=True)
class Archive:
    """A backup as the model knows it."""

    time: datetime
    size: int
    pinned: bool = False
    until: datetime | None = None

    def is_held(self, now: datetime) -> bool:
        return self.pinned and (self.until is None or now < self.until)


class Volume(RuleBasedStateMachine):
    """A database's directory, and what has to lie there."""

    @initialize()
    def begin(self) -> None:
        place = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a folder of its own in there
        self.scratch = tempfile.TemporaryDirectory(prefix="retention-machine-", dir=place)
        self.world = World(Path(self.scratch.name))
        self.world.configure("app")
        self.now = T0
        self.model: dict[str, Archive] = {}
        self.policy = POLICIES["default"]
        self.allow, self.budget, self.floor = False, 0, 3

    def teardown(self) -> None:
        if hasattr(self, "scratch"):
            self.scratch.cleanup()

    # --- what may happen ---------------------------------------------------------------------------------------------

    @rule(hours=st.sampled_from([0, 1, 2, 2, 2, 2, 12, 240]), late=st.integers(0, 10), size=st.integers(1, 5))
    def dump(self, hours: int, late: int, size: int) -> None:
        self._stage(hours, late, size)
        self._finish()

    @rule(count=st.integers(3, 30))
    def run_for_a_while(self, count: int) -> None:
        for index in range(count):
            self._stage(2, index % 7, 1)
            self._finish()

    @rule(hours=st.integers(0, 30))
    def fail(self, hours: int) -> None:
        self.now += hours * HOUR
        staged = self._staged()
        before = self.world.archives("app")
        self.world.fail("app")
        ran = self.world.finish(self.now)
        assert ran.code == 1, ran
        if not staged:
            assert self.world.archives("app") == before, "a failed dump has cost a backup"
        else:
            self._settle(before)

    @rule(hours=st.sampled_from([1, 2, 12]), changes=st.integers(0, 60))
    def be_cut_off(self, hours: int, changes: int) -> None:
        """Nothing that the rule keeps is lost, whatever the moment; the next run goes on from there."""
        self._stage(hours, 0, 1)
        candidates = {**self.model, **{base: self._as_staged(base) for base in self._staged()}}
        try:
            with cut_after(changes):
                self.world.finish(self.now)
        except CutError:
            there = {name.removesuffix(".dump") for name in self.world.archives("app")}
            assert there <= candidates.keys()
            published = {base for base in candidates if base not in self.model and base in there}
            allowed = self._gone(candidates, published) if published else set()
            lost = self.model.keys() - there - allowed
            assert not lost, f"cut off after {changes} changes, {lost} was lost"
            self.model = {base: candidates[base] for base in there}
            (self.world.results / "app.result").unlink(missing_ok=True)
        else:
            self._settle(set())

    @precondition(lambda self: bool(getattr(self, "model", None)))
    @rule(data=st.data(), hours=st.sampled_from([None, 1, 40, 400]))
    def pin(self, data: st.DataObject, hours: int | None) -> None:
        base = data.draw(st.sampled_from(sorted(self.model)))
        until = [] if hours is None else ["--until", (self.now + hours * HOUR).isoformat()]
        ran = self._command("pin", *until, self.world.folder("app") / f"{base}.dump")
        assert ran.code == 0, ran
        self.model[base].pinned = True
        self.model[base].until = None if hours is None else self.now + hours * HOUR

    @precondition(lambda self: any(one.pinned for one in getattr(self, "model", {}).values()))
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        base = data.draw(st.sampled_from(sorted(base for base, one in self.model.items() if one.pinned)))
        assert retention_here("unpin", self.world.folder("app") / f"{base}.dump").code == 0
        self.model[base].pinned = False

    @precondition(lambda self: bool(getattr(self, "model", None)))
    @rule(data=st.data(), whole=st.booleans())
    def delete_by_hand(self, data: st.DataObject, whole: bool) -> None:
        base = data.draw(st.sampled_from(sorted(self.model)))
        for kind in (Kind.ARCHIVE, Kind.SHA256, Kind.METADATA, Kind.GLOBALS, Kind.PIN) if whole else (Kind.ARCHIVE,):
            (self.world.folder("app") / file_name(base, kind)).unlink(missing_ok=True)
        del self.model[base]

    @precondition(lambda self: bool(getattr(self, "model", None)))
    @rule(data=st.data())
    def go_bad(self, data: st.DataObject) -> None:
        """A flipped bit is found, counts no more, and is removed by a person."""
        base = data.draw(st.sampled_from(sorted(self.model)))
        path = self.world.folder("app") / f"{base}.dump"
        content = bytearray(path.read_bytes())
        content[0] ^= 1
        path.write_bytes(content)
        assert self._command("verify", self.world.folder("app")).code == 1
        assert not path.exists()
        for bad in self.world.folder("app").glob("*.dump.bad"):
            bad.unlink()
        del self.model[base]

    @rule(name=st.sampled_from(sorted(POLICIES)))
    def change_policy(self, name: str) -> None:
        self.policy = POLICIES[name]
        (self.world.config / "policy.json").write_text(self.policy.to_json())

    @rule(allow=st.booleans(), budget=st.sampled_from([0, 0, 1, 2_000, 9_000, 40_000]), floor=st.integers(1, 6))
    def change_limits(self, allow: bool, budget: int, floor: int) -> None:
        self.allow, self.budget, self.floor = allow, budget, floor
        changes = {"allow_large_prune": str(allow).lower(), "max_bytes": str(budget), "min_backups": str(floor)}
        self.world.configure("app", **changes)

    @rule(hours=st.sampled_from([-3, -50, -2000, 50, 2000]))
    def step_the_clock(self, hours: int) -> None:
        self.now = max(T0, self.now + hours * HOUR)

    @rule()
    def prune_by_hand(self) -> None:
        """Of what no run has just made; and the plan says before what will be done."""
        if self._staged():
            return
        told = self._command("plan", "--format", "names", "--config", self.world.config, self.world.folder("app"))
        gone = self._gone(self.model, set())
        refused = self._is_refused(self.model, gone, set())
        ran = self._command("prune", "--config", self.world.config, self.world.folder("app"))
        assert ran.code == (3 if refused else 0), ran
        assert set(told.out.split()) == {f"{base}.dump" for base in gone}
        for base in () if refused else gone:
            del self.model[base]

    # --- what has to be so -------------------------------------------------------------------------------------------

    @invariant()
    def there_lies_what_the_model_says(self) -> None:
        if hasattr(self, "world"):
            assert self.world.archives("app") == {f"{base}.dump" for base in self.model}

    # --- how ---------------------------------------------------------------------------------------------------------

    def _command(self, name: str, *arguments: object) -> Ran:
        return retention_here(name, "--now", self.now.isoformat(), *arguments)

    def _stage(self, hours: int, late: int, size: int) -> None:
        self.now += hours * HOUR + MINUTE
        started = (self.now - timedelta(minutes=20 - late)).replace(second=0)
        # A name that is taken is never used again by a dump.
        while (base := base_of("app", started)) in self.model or base in self._staged():
            started += timedelta(seconds=1)
        self.world.stage("app", started, content=content_of(f"{base}{self.now}", 1000 * size))

    def _staged(self) -> list[str]:
        names = (path.name for path in self.world.folder("app").glob(".*.dump.staged"))
        return sorted(name[1 : -len(".dump.staged")] for name in names)

    def _as_staged(self, base: str) -> Archive:
        parsed = Grammar("app").parse(f"{base}.dump")
        assert parsed is not None
        return Archive(parsed.time, (self.world.folder("app") / file_name(base, Kind.STAGED)).stat().st_size)

    def _finish(self) -> None:
        before = self.world.archives("app")
        ran = self.world.finish(self.now)
        assert ran.code in (0, 3), ran
        self._settle(before)

    def _settle(self, before: set[str]) -> None:
        """Take over what a whole run has published, and let go what the rule lets go."""
        status: dict[str, Any] = self.world.status()["app"]
        own = {name.removesuffix(".dump") for name in status["published"]}
        assert own, "the run has published nothing"
        for base in own:
            parsed = Grammar("app").parse(f"{base}.dump")
            assert parsed is not None
            metadata = self.world.folder("app") / f"{base}.json"
            size = json.loads(metadata.read_text())["bytes"] if metadata.exists() else 0
            self.model[base] = Archive(parsed.time, size)
        gone = self._gone(self.model, own)
        refused = self._is_refused(self.model, gone, own)
        assert (status["refused"] is not None) == refused
        for base in () if refused else gone:
            del self.model[base]
        assert self.world.archives("app") == {f"{base}.dump" for base in self.model}
        self.world.assert_sound("app")
        logged = {entry["name"] for entry in self.world.deletions("app")}
        assert refused or {f"{base}.dump" for base in gone} <= logged, "a deletion is not in the log"
        assert before - self.world.archives("app") <= logged

    def _gone(self, archives: dict[str, Archive], own: set[str]) -> set[str]:
        """Return what the written rule, and the budget around it, lets go."""
        came = self._came_for_certain(archives, own)
        planned = {base: one for base, one in archives.items() if one.time <= self.now and not one.is_held(came)}
        kept_times = literal_plan([one.time for one in planned.values()], self.policy)
        newest = max(planned, key=lambda base: planned[base].time, default=None)
        protected = {base for base in planned if base in own or base == newest}
        kept = {base for base, one in planned.items() if one.time in kept_times} | protected
        if self.budget:
            total = sum(one.size for base, one in archives.items() if base in kept or base not in planned)
            by_age = sorted(kept, key=lambda base: planned[base].time)
            for base in by_age[: max(0, len(by_age) - self.floor)]:
                if total > self.budget and base not in protected:
                    kept.discard(base)
                    total -= planned[base].size
        return planned.keys() - kept

    def _came_for_certain(self, archives: dict[str, Archive], own: set[str]) -> datetime:
        """Return the moment by which pins end: the clock alone ends none."""
        times = [one.time for base, one in archives.items() if base not in own and one.time <= self.now]
        return max(times, default=datetime.min.replace(tzinfo=UTC))

    def _is_refused(self, archives: dict[str, Archive], gone: set[str], own: set[str]) -> bool:
        came = self._came_for_certain(archives, own)
        planned = [one for one in archives.values() if one.time <= self.now and not one.is_held(came)]
        large = 2 * len(gone) > len(planned)
        large |= 2 * sum(archives[base].size for base in gone) > sum(one.size for one in planned)
        return len(gone) > 3 and large and not self.allow


def _run(examples: int, steps: int, *, shrink: bool = True) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        phases=[Phase.explicit, Phase.reuse, Phase.generate, *([Phase.shrink] if shrink else [])],
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    run_state_machine_as_test(Volume, settings=chosen)


def test_volume_is_what_the_rule_says_whatever_happens_to_it() -> None:
    _run(examples=15, steps=20)


@pytest.mark.long
def test_volume_is_what_the_rule_says_whatever_happens_to_it_for_long() -> None:
    _run(examples=400, steps=50)
