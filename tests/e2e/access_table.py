"""The tables of docs/security.md: what was tried against the claim, and what each engine did about it.

`pytest -m e2e tests/e2e/test_access.py --write-access` writes them, after a run in which a real API server answered
every case as the table says. They hold nothing but the cases, so that a quick test finds them out of date.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from tests.lab import access
from tests.lab.access import PEOPLE, Case

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- written by a test: begin -->", "<!-- written by a test: end -->"

_ASKED: dict[tuple[str, str], Mapping[str, int]] = {}
_PROPERTY = "access"


def answered(item: pytest.Item, layer: str, part: str, counts: Mapping[str, int]) -> None:
    """Note how the cases of a part were answered under a layer's policies; it goes with the test's report."""
    item.user_properties.append((_PROPERTY, [layer, part, dict(counts)]))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-access", action="store_true", help="write the tables of docs/security.md")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Gather the counts of this process and of its workers."""
    if report.when == "call":
        for name, value in report.user_properties:
            if name == _PROPERTY:
                layer, part, counts = cast("tuple[str, str, Mapping[str, int]]", value)
                _ASKED[layer, part] = counts


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts."""
    for (layer, part), counts in _ASKED.items():
        told = ", ".join(f"{number} {by}" for by, number in sorted(counts.items()))
        terminalreporter.write_line(f"access, {layer:8} {part:10} {told}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the tables, if that was asked for and all of them were seen."""
    if not session.config.getoption("--write-access", False) or exitstatus or hasattr(session.config, "workerinput"):
        return
    missing = [f"{layer}: {part}" for layer in access.VALUES for part in access.cases() if (layer, part) not in _ASKED]
    if missing:
        raise pytest.UsageError(f"the tables were not written, these were not asked in this run: {', '.join(missing)}")
    PAGE.write_text(with_tables(PAGE.read_text()))


def with_tables(page: str) -> str:
    """The page with the tables as they are now."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{render()}{END}{after}"


def render() -> str:
    """The tables."""
    parts = {part: [case for case in found if case.made] for part, found in access.cases().items()}
    ours = [case for case in parts["attempt"] if not case.rbac]
    runs = [case for case in ours if case.who == access.JOBS]
    people = [case for case in ours if case.who not in (access.STORAGE, access.JOBS)]
    through = {layer: [case for case in ours if _gets_in(case, layer)] for layer in access.LAYERS}
    lines = [
        f"RBAC lets {len(ours)} attempts pass: {len(people)} by people of the namespace, {len(runs)} pods "
        "that Kubernetes makes for a Job",
        "after a webhook changed them, the others by a storage administrator. How many of them get in:",
        "",
        f"* without a policy {len(ours)}, with the label alone {len(through['label'])};",
        f"* with the built-in engine {len(through['builtin'])}, also together with Kyverno;",
        f"* with Kyverno alone {sum(case in people + runs for case in through['kyverno'])} by people of the namespace "
        f"or for a Job, and {sum(case.who == access.STORAGE for case in through['kyverno'])} by a storage "
        "administrator.",
        "",
        "| attempt | by | label alone | built-in | Kyverno |",
        "| --- | --- | --- | --- | --- |",
        *(_row(case, "refused", "**gets in**") for case in parts["attempt"]),
        "",
        "What admission leaves open, whatever the policy ([what to do about it](#what-admission-cannot-close)):",
        "",
        "| attempt | by | label alone | built-in | Kyverno |",
        "| --- | --- | --- | --- | --- |",
        *(_row(case, "refused", "gets in") for case in parts["open"]),
        "",
        "What must keep working, and does:",
        "",
        "| request | by | label alone | built-in | Kyverno |",
        "| --- | --- | --- | --- | --- |",
        *(_row(case, "**refused**", "works") for case in parts["legitimate"]),
        "",
    ]
    return "\n".join(lines)


def _gets_in(case: Case, layer: str) -> bool:
    return not access.refuses(case, layer) and layer not in case.later


def _row(case: Case, refused: str, admitted: str) -> str:
    cells = [
        "RBAC refuses"
        if case.rbac
        else "its pods are refused"
        if layer in case.later
        else admitted
        if _gets_in(case, layer)
        else refused
        for layer in access.LAYERS
    ]
    return f"| {' | '.join([case.text, PEOPLE[case.who], *cells])} |"
