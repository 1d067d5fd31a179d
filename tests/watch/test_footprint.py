"""The watcher is small: measured on the program as it runs in its pod, and not in the tests' own process."""

from __future__ import annotations

import pytest

from lab.bench.watch import main


@pytest.mark.long
def test_three_hundred_databases_need_at_most_40_mib_and_10_millicores() -> None:
    found = main(65)
    assert found["errors"] == []
    assert found["posts"] > 3, "it has notified somebody"
    assert found["events"] > 1, "it has made Events"
    assert found["memory_kb"] > 150, "it remembers a year"
    assert found["page_kb"] > 100, "the page was asked for too"
    assert found["peak_mib"] <= 40
    assert found["millicores"] <= 10
