"""How long a Job stays: never less than until the next one of its kind, and never that of the first run."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from cronsim import CronSim

from tests.lab import chart

DAY = 86400


def needed(cron: str) -> int:
    """What the chart says that a schedule needs."""
    values = {"schedule": "@daily", "drill": {"schedule": cron}, "ttlSecondsAfterFinished": 0}
    with pytest.raises(chart.ChartError) as caught:
        chart.render(values)
    found = re.search(r"needs at least (\d+)", str(caught.value))
    assert found, str(caught.value)
    return int(found[1])


@pytest.mark.parametrize(
    ("cron", "tolerance"),
    [("0 22 * * 1-5", 0), ("0 3 1,15 * *", 0), ("0 8,9 * * *", 1), ("0 0 13 * 5", 0), ("0 0 31 * *", 1)]
    + [("59 23 1 */3 *", 1), ("0 0 30 6,12 *", 40)],
)
def test_a_failed_job_outlives_the_longest_time_to_the_next_run(cron: str, tolerance: int) -> None:
    """Against a calendar of six years."""
    moments = CronSim(cron, datetime(2027, 1, 1, tzinfo=UTC))
    before, longest = next(moments), timedelta(0)
    while before.year < 2033:
        moment = next(moments)
        longest, before = max(longest, moment - before), moment
    seconds = int(longest.total_seconds())
    assert seconds <= needed(cron) <= seconds + tolerance * DAY


def test_every_cronjobs_jobs_have_it_and_the_first_runs_does_not() -> None:
    manifests = chart.render({"ttlSecondsAfterFinished": 7 * DAY})
    cronjobs = [one for one in manifests if one["kind"] == "CronJob"]
    assert len(cronjobs) == 5
    for one in cronjobs:
        assert one["spec"]["jobTemplate"]["spec"]["ttlSecondsAfterFinished"] == 7 * DAY, one["metadata"]["name"]
    (job,) = [one for one in manifests if one["kind"] == "Job"]
    assert "ttlSecondsAfterFinished" not in job["spec"]
    assert "ttlSecondsAfterFinished" not in str(chart.render())
