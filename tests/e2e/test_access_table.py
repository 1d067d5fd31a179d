"""docs/security.md has the tables of the cases that are tested; this runs without a cluster."""

from __future__ import annotations

from collections import Counter

from tests.e2e.access_table import BEGIN, END, PAGE, render, with_tables
from tests.lab import access


def test_page_has_the_tables_of_the_tested_cases() -> None:
    page = PAGE.read_text()
    assert page.count(BEGIN) == page.count(END) == 1
    again = with_tables(page)
    assert page == again, "docs/security.md is out of date: pytest -m e2e tests/e2e/test_access.py --write-access"
    assert render() in page


def test_no_two_cases_have_the_same_title() -> None:
    titles = Counter(access.title(case) for part in access.cases().values() for case in part)
    assert {title for title, number in titles.items() if number > 1} == set()


def test_no_attempt_of_the_namespaces_people_gets_past_both_engines() -> None:
    inside = [case for case in access.attempts() if case.who != access.STORAGE and not case.rbac]
    assert [access.title(case) for case in inside if not access.refuses(case, "both")] == []
    assert [access.title(case) for case in inside if not access.refuses(case, "builtin")] == []
    assert all(
        not access.refuses(case, layer) for case in access.legitimate() for layer in ("builtin", "kyverno", "both")
    )
