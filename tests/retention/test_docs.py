"""What `docs/retention.md` and `docs/architecture.md` say is what happens."""

import json
import re
from datetime import timedelta

import pytest

from retention import Place, Policy, plan
from retention.cli.main import main
from retention.pod.report import ALLOW_FLAG, ALLOW_VALUE
from retention.rule.decide import FREE_DELETIONS
from tests.retention.test_mutations import BREAKAGES, FLAWS
from tests.retention.world import DAY, HOUR, REPOSITORY, T0, World, retention_here

TEXT = (REPOSITORY / "docs" / "retention.md").read_text()
ARCHITECTURE = (REPOSITORY / "docs" / "architecture.md").read_text()


def test_worked_calendar_is_what_the_rule_keeps() -> None:
    calendar = TEXT.split("<!-- calendar -->")[1].split("```")[1].strip().splitlines()
    assert len(calendar) == 12
    for line in calendar:
        hour = int(line[:2])
        now = T0 + 20 * DAY + hour * HOUR
        kept = plan([now - 2 * index * HOUR for index in range(200)], Policy.default()).keep
        parts: dict[str, list[str]] = {tier.name: [] for tier in Policy.default().tiers}
        for one in kept:
            mark = "t" if one.place is Place.TRANSIT else ""
            parts[one.tier].append(f"{(now - one.time) // HOUR}{mark}")
        said = " | ".join(" ".join(ages) for ages in parts.values())
        assert line == f"{hour:02}:00   {said}", f"docs/retention.md, {line!r}"


def test_table_of_tiers_is_the_default_policy() -> None:
    rows = re.findall(r"^\| (\S+) \| (\S+) \| (\d+) \| (\S+)", TEXT, re.MULTILINE)
    told = [(name, every, int(keep), until) for name, every, keep, until in rows]
    expected = [
        (tier.name, f"{tier.every // HOUR}h", tier.keep, "no" if tier.until is None else f"{tier.until // HOUR}h")
        for tier in Policy.default().tiers
    ]
    assert told == expected


def test_life_of_a_backup_is_as_told() -> None:
    """Made at 22:00: Hourly until 12 hours old, 12-Hourly until 48, Daily until 168. Made at 20:00: gone at 16."""
    history = [T0 + 2 * index * HOUR for index in range(600)]
    for hour, expected in (
        (22, {"Hourly": (0, 10), "12-Hourly": (12, 46), "Daily": (48, 166)}),
        (20, {"Hourly": (0, 10), "12-Hourly": (12, 14)}),
    ):
        made = T0 + 20 * DAY + hour * HOUR
        ages: dict[str, list[int]] = {}
        for now in (time for time in history if time >= made):
            for one in plan([time for time in history if time <= now], Policy.default()).keep:
                if one.time == made:
                    ages.setdefault(one.tier, []).append((now - made) // HOUR)
        assert {tier: (min(found), max(found)) for tier, found in ages.items()} == expected


@pytest.mark.parametrize("hour", range(0, 24, 2))
def test_last_backup_before_ten_days_without_a_run_stays_six_days_more(hour: int) -> None:
    disk = [T0 + 2 * index * HOUR for index in range(120)]
    last = disk[-1]
    begin = last + 10 * DAY + hour * HOUR
    survived = timedelta(0)
    for index in range(200):
        disk = [one.time for one in plan([*disk, begin + 2 * index * HOUR], Policy.default()).keep]
        if last not in disk:
            break
        survived = 2 * index * HOUR
    assert 142 * HOUR <= survived <= 166 * HOUR, survived


def test_every_command_is_told_and_every_told_command_exists() -> None:
    commands = {"plan", "diff", "prune", "list", "status", "pin", "unpin", "verify", "clean", "simulate", "finish"}
    rows = TEXT.split("## Commands")[1]
    told = set(re.findall(r"`([a-z]+)(?: [A-Z]+)?`", rows.split("Exit codes")[0])) & commands
    assert told == commands
    for command in commands:
        ran = retention_here(command, "--nonsense")
        assert ran.code == 2
        assert "invalid choice" not in ran.err, command
    assert main(["nonsense"]) == 2


def test_guard_is_told_as_it_is() -> None:
    assert f"more than {FREE_DELETIONS} and more than half" in TEXT
    assert ALLOW_FLAG in TEXT
    assert f"{ALLOW_VALUE}: true" in TEXT


def test_every_cell_of_the_comparison_names_its_test_or_its_source() -> None:
    rows = TEXT.split("<!-- comparison -->")[1].split("\n\n")[0].strip().splitlines()[2:]
    assert len(rows) >= 6
    tests = "".join(path.read_text() for path in (REPOSITORY / "tests" / "retention").glob("*.py"))
    for row in rows:
        _, question, ours, *others, _ = (cell.strip() for cell in row.split("|"))
        for name in re.findall(r"`(\w+_\w+)`", ours):
            assert f"def {name}(" in tests, f"{question}: there is no test {name}"
        assert re.search(r"\(`\w+_\w+`\)$", ours), f"{question}: our cell names no test"
        assert len(others) == 4
        for source, cell in zip("rbpc", others, strict=True):
            assert cell.endswith(f"[{source}]"), f"{question}: {cell!r} names no source"
            assert f"\n[{source}]: https://" in TEXT


def test_every_breakage_that_is_caught_is_listed() -> None:
    told = re.findall(r"^\* (.+)$", TEXT.split("<!-- breakages -->")[1], re.MULTILINE)
    assert told == [*BREAKAGES, *(f"another rule: {flaw.__name__.replace('_', ' ')}" for flaw in FLAWS)]


def fields_of(heading: str) -> set[str]:
    """The names in the first column of the table below a heading of docs/architecture.md."""
    text = ARCHITECTURE.split(f"\n### {heading}\n")[1].split("\n#")[0]
    return {name for row in re.findall(r"^\| (`.*?) \| ", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}


def test_every_field_of_metadata_and_of_status_json_is_in_architecture(world: World) -> None:
    base = world.stage("app", T0)
    assert world.finish(T0 + HOUR).code == 0
    metadata = json.loads((world.folder("app") / f"{base}.json").read_text())
    assert fields_of("Metadata of an archive: `<base>.json`") - {"adopted", "fetched"} == set(metadata)
    status = json.loads((world.root / "status.json").read_text())
    assert fields_of("State of all databases: `status.json`") == set(status["databases"]["app"])
    assert set(status) == {"schema", "updated", "volume", "databases"}
    assert fields_of("The volume in `status.json`") == set(status["volume"])
    newest = status["databases"]["app"]["newest"]
    (row,) = re.findall(r"^\| `newest` \| (.*) \|$", ARCHITECTURE, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == set(newest)
