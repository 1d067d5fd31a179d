"""A name counts by full match in its own database's directory, and in no other way."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retention.names import (
    Grammar,
    Kind,
    base_of,
    database_of_archive,
    file_name,
    is_database,
    next_second,
    parse_stamp,
)
from tests.retention.world import T0


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.PARTIAL, Kind.TEMPORARY)])
def test_every_name_is_read_back_as_what_it_was_written(kind: Kind) -> None:
    name = Grammar("app").parse(file_name("app-20260101-000000", kind))
    assert name is not None
    assert (name.base, name.time, name.kind) == ("app-20260101-000000", T0, kind)


@pytest.mark.parametrize(
    "name",
    [
        "app-prod-20260101-000000.dump",
        "app_prod-20260101-000000.dump",
        "app.prod-20260101-000000.dump",
        "xapp-20260101-000000.dump",
        "APP-20260101-000000.dump",
        "app-20260101-000000",
        "app-20260101-000000.dump.old",
        "app-20260101-000000.dump\n",
        " app-20260101-000000.dump",
        "app-20260101-0000001.dump",
        "app-2026010-000000.dump",
        "app-20260132-000000.dump",
        "app-20260230-000000.dump",
        "app-20260101-240000.dump",
        "app-20260101-246060.dump",
        "app-20261301-000000.dump",
        "app-00000101-000000.dump",
        "app-20260101T000000.dump",
        "app-2026W011-000000.dump",
        "app-20260101-000060.dump",
        "app-19690101-000000.dump",
        "app-२०२६०१०१-000000.dump",
        ".app-20260101-000000.dump",
        "app-20260101-000000.dump.staged",
        "app-20260101-000000.partial",
        ".app-20260101-000000.partial",
        "app20260101-000000.dump",
        "app--20260101-000000.dump",
        "../app-20260101-000000.dump",
        "",
    ],
)
def test_what_does_not_match_as_a_whole_is_nobodys(name: str) -> None:
    assert Grammar("app").parse(name) is None
    assert Grammar("app").objection(name)


@settings(deadline=None)
@given(
    st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,9}[a-z0-9])?", fullmatch=True),
    st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,9}[a-z0-9])?", fullmatch=True),
)
def test_no_two_databases_share_a_name(one: str, other: str) -> None:
    name = f"{base_of(one, T0)}.dump"
    assert database_of_archive(name) == one
    assert (Grammar(other).parse(name) is not None) == (one == other)


@pytest.mark.parametrize("name", ["app", "a", "a.b-c_d", "0", "a" * 63])
def test_safe_names_are_databases(name: str) -> None:
    assert is_database(name)


@pytest.mark.parametrize("name", ["", "lost+found", "-a", "a-", ".a", "A", "a/b", "a b", "ä", "a" * 64, "..", "a\n"])
def test_unsafe_names_are_no_databases(name: str) -> None:
    assert not is_database(name)


def test_next_second_crosses_midnight_and_years() -> None:
    assert next_second("app-20251231-235959") == "app-20260101-000000"


@settings(deadline=None)
@given(st.text(max_size=20))
def test_no_text_breaks_the_reading_of_names(text: str) -> None:
    parse_stamp(text)
    Grammar("app").parse(text)
    Grammar("app").objection(text)
    database_of_archive(text)
