"""What every test relies on, whatever started the run."""

import signal

import pytest

# A run in the background, as some CI systems start it, ignores Ctrl-C, and so would all that the tests start and then
# interrupt: a shell cannot even trap a signal that was ignored when it began.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many rendered objects the tests have checked against the schemas of Kubernetes."""
    passed: list[pytest.TestReport] = terminalreporter.getreports("passed")
    checked = sum(int(str(n)) for report in passed for key, n in report.user_properties if key == "objects")
    if checked:
        terminalreporter.write_line(f"{checked} rendered objects checked against the schemas of Kubernetes and Kyverno")
