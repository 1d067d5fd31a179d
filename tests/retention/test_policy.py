"""A policy that contradicts itself is one clear line, whatever field is wrong."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retention import Policy, Tier
from retention.errors import PolicyError
from retention.rule.policy import Quota
from retention.text import format_duration, parse_duration
from tests.retention.properties import policies

HOURLY = {"name": "Hourly", "every": "2h", "keep": 6, "until": "12h"}
DAILY = {"name": "Daily", "every": "24h", "keep": 5}


def tiers(**changes: Any) -> str:
    """A policy whose first tier differs from a right one."""
    first = {key: value for key, value in {**HOURLY, **changes}.items() if value is not ...}
    return json.dumps({"tiers": [first, DAILY]})


WRONG = {
    "not JSON": ("{", "not JSON"),
    "empty": ("", "not JSON"),
    "deep": ("[" * 60_000, "not JSON"),
    "no object": ("[]", "the document is []"),
    "no tiers": ("{}", "tiers is missing"),
    "empty tiers": ('{"tiers": []}', "tiers is empty"),
    "tiers no list": ('{"tiers": {}}', "tiers is {}"),
    "tier no object": ('{"tiers": [3]}', "tiers[0] is 3"),
    "unknown key": ('{"tiers": [], "tier": 1}', 'unknown key "tier"'),
    "key twice": ('{"tiers": [], "tiers": []}', '"tiers" occurs twice'),
    "phase text": ('{"phase": "-900", "tiers": []}', 'phase is "-900"'),
    "phase float": ('{"phase": 0.5, "tiers": []}', "phase is 0.5"),
    "phase true": ('{"phase": true, "tiers": []}', "phase is true"),
    "phase huge": (f'{{"phase": {10**30}, "tiers": []}}', "more than a century"),
    "name missing": (tiers(name=...), "tiers[0]: name is missing"),
    "name number": (tiers(name=7), "tiers[0]: name is 7"),
    "name empty": (tiers(name=" "), "this is not a valid name"),
    "name of two lines": (tiers(name="a\nb"), "this is not a valid name"),
    "name reserved": (tiers(name="pinned"), "reserved"),
    "name twice": (tiers(name="Daily"), "used twice"),
    "tier's unknown key": (tiers(evry="2h"), 'unknown key "evry"'),
    "every missing": (tiers(every=...), "every is missing"),
    "every number": (tiers(every=7200), "tiers[0]: every is 7200"),
    "every without unit": (tiers(every="2"), "'2' is not a duration"),
    "every of a strange unit": (tiers(every="2x"), "'2x' is not a duration"),
    "every negative": (tiers(every="-2h"), "'-2h' is not a duration"),
    "every nothing": (tiers(every="0h"), "'0h' is an empty duration"),
    "every endless": (tiers(every="9999999999w"), "longer than a century"),
    "every that does not nest": (tiers(every="5h", until="25h", keep=5), "not a multiple of 'Hourly'"),
    "every too coarse": (tiers(every="48h", until="96h", keep=2), "not a multiple of 'Hourly'"),
    "keep missing": (tiers(keep=...), "keep is missing"),
    "keep nothing": (tiers(keep=0), "keep is 0"),
    "keep negative": (tiers(keep=-1), "keep is -1"),
    "keep text": (tiers(keep="6"), 'keep is "6"'),
    "keep true": (tiers(keep=True), "keep is true"),
    "keep float": (tiers(keep=6.0), "keep is 6.0"),
    "keep huge": (tiers(keep=10**12), "keep is 1000000000000"),
    "keep more than fit": (tiers(keep=7), "only 6 slots"),
    "until missing": (tiers(until=...), "until is missing"),
    "until null": (tiers(until=None), "until is missing"),
    "until number": (tiers(until=12), "until is 12"),
    "until that does not fit": (tiers(until="11h"), "not a whole number of 2h"),
    "until of the last": (json.dumps({"tiers": [{**DAILY, "until": "5d"}]}), "the last tier has an until"),
    "until backwards": (
        json.dumps({"tiers": [HOURLY, {"name": "Next", "every": "12h", "keep": 1, "until": "12h"}, DAILY]}),
        "from 12h until 12h",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_policy_is_one_line_that_names_the_field_and_the_remedy(name: str) -> None:
    text, said = WRONG[name]
    with pytest.raises(PolicyError) as caught:
        Policy.from_json(text, "policy.json")
    assert said in str(caught.value)
    assert str(caught.value).startswith("policy.json: ")
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_default_policy_is_6_4_5() -> None:
    policy = Policy.default()
    assert policy.quotas() == (Quota(6, 0), Quota(3, 1), Quota(5, 0))
    assert policy.most == 15
    assert policy.phase == timedelta(minutes=-15)


@settings(deadline=None)
@given(policies())
def test_policy_survives_json(policy: Policy) -> None:
    assert Policy.from_json(policy.to_json()) == policy


@pytest.mark.parametrize("text", ["1s", "90s", "90m", "2h", "24h", "48h", "49h", "3d", "7d", "28d"])
def test_duration_survives_text(text: str) -> None:
    assert parse_duration(format_duration(parse_duration(text))) == parse_duration(text)


@settings(deadline=None)
@given(st.text(max_size=8))
def test_no_text_breaks_the_reading_of_durations(text: str) -> None:
    try:
        assert parse_duration(text) > timedelta(0)
    except PolicyError as error:
        assert error.remedy  # noqa: PT017 - either is right


def test_half_seconds_are_refused() -> None:
    with pytest.raises(PolicyError, match="whole number of seconds"):
        Policy((Tier("Odd", timedelta(seconds=1.5), 1),))
    with pytest.raises(PolicyError, match="whole number of seconds"):
        Policy(Policy.default().tiers, timedelta(seconds=0.5))
