"""The promises of the rule, searched for a counterexample by Hypothesis."""

import pytest

from retention import plan
from tests.retention.properties import PROPERTIES, search

QUICK = 150
LONG = 10_000
_SIMULATED = {"the_steady_state_is_6_4_5": 20, "the_steady_state_of_four_tiers_is_full": 60}
"""Promises of which one example is weeks of runs: by how much fewer of them are tried in the quick profile."""


@pytest.mark.parametrize("name", PROPERTIES)
def test_promise(name: str) -> None:
    search(PROPERTIES[name], plan, QUICK // _SIMULATED.get(name, 1))


@pytest.mark.long
@pytest.mark.parametrize("name", PROPERTIES)
def test_promise_on_ten_thousand_examples(name: str) -> None:
    search(PROPERTIES[name], plan, LONG)
