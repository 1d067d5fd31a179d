"""Hooks that make docs/seed.md: each statement of the infrastructure document, and the test that shows it.

`pytest -m e2e tests/e2e --write-table` writes it after a run in which every test that shows something has passed. With
`--collect-only` nothing runs and the markers alone are written: so a quick test finds that the page is out of date.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.e2e.statements import STATEMENTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "seed.md"

_HEAD = """\
# What the infrastructure document promises, and the test that shows it

cnpg-backup puts into practice one page of infrastructure documentation: three CloudNativePG clusters, dumped every two
hours to a Longhorn volume, kept in tiers, isolated by a NetworkPolicy and guarded by Kyverno. The tables below list
each statement of that page, with the tests that show it on a real Kubernetes (`make e2e`) with the chart's default
values except for the images. Where the page contradicts itself, or what it says cannot work, the last column says what
the chart does instead. Tests show what people do in two ways: with plain kubectl, and with the plugin.

`pytest -m e2e tests/e2e --write-table` writes this page, after a run in which all these tests have passed.
"""

BY_PLUGIN = " by the plugin"
"""Ends a statement's key where the tests that show it use the plugin: `shows("logs", by="plugin")`."""

_SHOWS = pytest.StashKey[dict[str, list[str]]]()
_PASSED = pytest.StashKey[set[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-table", nargs="?", type=Path, const=PAGE, metavar="FILE", help="write which test shows which statement"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse at once what could not be written at the end: the markers are read by the process that collects."""
    if config.getoption("--write-table", None) and config.getoption("numprocesses", None):
        raise pytest.UsageError("--write-table works in one process alone: leave -n away, or give -n 0")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Read the markers, before any test is deselected."""
    shows: dict[str, list[str]] = {}
    for item in items:
        for marker in item.iter_markers("shows"):
            by_plugin = marker.kwargs.get("by") == "plugin"
            for key in marker.args:
                if key not in STATEMENTS or (by_plugin and not STATEMENTS[key].plugin):
                    raise pytest.UsageError(
                        f"{item.nodeid} shows {key!r}{BY_PLUGIN if by_plugin else ''}, "
                        "which is no statement of tests/e2e/statements.py"
                    )
                key += BY_PLUGIN if by_plugin else ""
                name = item.nodeid.split("[")[0]
                if name not in shows.setdefault(key, []):
                    shows[key].append(name)
    config.stash[_SHOWS] = shows
    config.stash[_PASSED] = set[str]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Remember which tests have passed."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.when == "call" and report.passed:
        item.config.stash[_PASSED].add(item.nodeid.split("[")[0])
    return report  # type: ignore[return-value]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the page, if that was asked for and there is nothing to hide."""
    page: Path | None = session.config.getoption("--write-table", None)
    if page is None or exitstatus != 0:
        return
    shows = session.config.stash[_SHOWS]
    if not session.config.option.collectonly:
        passed: set[str] = session.config.stash[_PASSED]
        unproved = sorted({name for names in shows.values() for name in names} - passed)
        if unproved:
            raise pytest.UsageError(f"the table was not written, these did not pass in this run: {', '.join(unproved)}")
    page.write_text(render(shows))


def render(shows: Mapping[str, list[str]]) -> str:
    """The page.

    Args:
        shows: For each statement's key the tests that show it, as pytest names them; those that do it by the plugin
            stand under the key and BY_PLUGIN.

    Raises:
        pytest.UsageError: A statement that a test must show is shown by none.
    """
    bare = [key for key, statement in STATEMENTS.items() if statement.shown and not shows.get(key)]
    bare += [
        key + BY_PLUGIN for key, statement in STATEMENTS.items() if statement.plugin and not shows.get(key + BY_PLUGIN)
    ]
    if bare:
        raise pytest.UsageError(f"no test shows {', '.join(bare)}")
    lines = [_HEAD]
    section = ""
    with_plugin = {statement.section for statement in STATEMENTS.values() if statement.plugin}
    for key, statement in STATEMENTS.items():
        if statement.section != section:
            section = statement.section
            columns = ["statement", "shown by", *(["by the plugin"] if section in with_plugin else []), "here"]
            lines.append(f"## {section}\n\n{_row(columns)}\n{_row(['---'] * len(columns))}")
        cells = [_cell(statement.text), _links(shows.get(key, []))]
        if section in with_plugin:
            own = _links(shows.get(key + BY_PLUGIN, []))
            cells.append(f"`{_cell(statement.plugin)}`<br>{own}" if statement.plugin else own)
        lines.append(_row([*cells, _cell(statement.note)]))
    text = "\n".join(lines) + "\n"
    return text.replace("\n## ", "\n\n## ").replace("\n\n\n## ", "\n\n## ")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _links(names: Sequence[str]) -> str:
    return "<br>".join(_link(name) for name in names) or "–"


def _link(name: str) -> str:
    path, _, test = name.partition("::")
    return f"[{test}](../{path})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
