"""The rule costs less than sorting, and grows no faster than its input; in processor time, side by side."""

import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest

from retention import Policy, plan
from retention.volume.folder import Folder
from retention.volume.scan import scan
from tests.retention.world import DAY, HOUR, T0, World


def seconds(work: Callable[[], object]) -> float:
    """The least processor time of three tries: what else the machine does only adds."""
    tries = []
    for _ in range(3):
        began = time.process_time()
        work()
        tries.append(time.process_time() - began)
    return min(tries)


def two_hourly(count: int) -> list[datetime]:
    return [T0 - 2 * HOUR * index for index in range(count, 0, -1)]


def one_week(count: int) -> list[datetime]:
    return [T0 - 7 * DAY * index / count for index in range(count, 0, -1)]


@pytest.mark.parametrize("make", [two_hourly, one_week])
def test_sorted_times_are_planned_in_less_time_than_it_takes_to_sort_them(
    make: Callable[[int], Sequence[datetime]],
) -> None:
    times = make(200_000)
    shuffled = random.Random(1).sample(list(times), len(times))
    ours, sorting = seconds(lambda: plan(times, Policy.default())), seconds(lambda: sorted(shuffled))
    assert ours < sorting, f"{ours:.3f} s, sorted() takes {sorting:.3f} s"


@pytest.mark.parametrize("make", [two_hourly, one_week])
def test_ten_times_the_backups_take_about_ten_times_as_long(make: Callable[[int], Sequence[datetime]]) -> None:
    few, many = make(20_000), make(200_000)
    short, long = (seconds(lambda times=times: plan(times, Policy.default())) for times in (few, many))  # type: ignore[misc]
    assert long < 20 * short, f"{short:.4f} s and {long:.4f} s: a square would be a hundred times as long"


def test_scan_opens_each_needed_sidecar_once_and_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a scan costs is its calls to the system."""
    for index in range(50):
        world.publish("app", T0 + index * timedelta(minutes=7))
    opened: list[str] = []
    read = Folder.read

    def counting(folder: Folder, name: str, *arguments: object, **more: object) -> bytes | None:
        opened.append(name)
        return read(folder, name, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Folder, "read", counting)
    with Folder.open(world.folder("app")) as folder:
        found = scan(folder, "app")
    assert len(found.backups) == 50
    wanted = [f"{backup.base}{suffix}" for backup in found.backups for suffix in (".json", ".dump.sha256")]
    assert sorted(opened) == sorted(wanted)
