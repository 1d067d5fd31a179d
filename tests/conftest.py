"""What every test relies on, whatever started the run."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.lab import chart, postgres

postgres.work_in_memory()

# What pytest makes of each test file is kept outside the checkout, even where the environment wants no bytecode in it:
# to make it anew takes each worker some twelve seconds. What the tests start does not know of this.
sys.dont_write_bytecode = False
sys.pycache_prefix = str(Path(sys.prefix) / "compiled")

# A run in the background, as some CI systems start it, ignores Ctrl-C, and so would all that the tests start and then
# interrupt: a shell cannot even trap a signal that was ignored when it began.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _renders(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.getbasetemp()
    # Under xdist each worker has a folder of its own below that of the session.
    chart.share_renders((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "renders")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many rendered objects the tests have checked against the schemas of Kubernetes."""
    passed: list[pytest.TestReport] = terminalreporter.getreports("passed")
    checked = sum(int(str(n)) for report in passed for key, n in report.user_properties if key == "objects")
    if checked:
        terminalreporter.write_line(f"{checked} rendered objects checked against the schemas of Kubernetes and Kyverno")


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test that is marked `sample(n)`, leave n of its cases to `make test`, evenly spread; the others are long."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sample") and not item.get_closest_marker("long"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for found in cases.values():
        marker = found[0].get_closest_marker("sample")
        count = int(marker.args[0]) if marker else 0
        kept = {i * len(found) // count for i in range(count)}
        for i, item in enumerate(found):
            if i not in kept:
                item.add_marker(pytest.mark.long)
