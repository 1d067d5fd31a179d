"""docs/seed.md says what the tests show; this runs without a cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.e2e.statements import STATEMENTS
from tests.e2e.table import PAGE

REPO = Path(__file__).resolve().parents[2]


def collect(*arguments: str, table: Path) -> subprocess.CompletedProcess[str]:
    """Collect tests without running them, and have the table written."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "--write-table"]
    return subprocess.run(
        [*command, str(table), *arguments], cwd=REPO, capture_output=True, text=True, check=False, timeout=120
    )


def test_page_agrees_with_the_markers(tmp_path: Path) -> None:
    done = collect("-m", "e2e", "tests/e2e", table=tmp_path / "seed.md")
    assert done.returncode == 0, done.stdout + done.stderr
    assert PAGE.read_text() == (tmp_path / "seed.md").read_text(), (
        "docs/seed.md is out of date: pytest -m e2e tests/e2e --write-table"
    )


def test_statement_that_no_test_shows_is_named(tmp_path: Path) -> None:
    done = collect("-m", "e2e", "tests/e2e/test_node.py", table=tmp_path / "seed.md")
    assert done.returncode != 0
    assert "no test shows" in done.stdout + done.stderr
    assert not (tmp_path / "seed.md").exists()


def test_what_cannot_be_shown_says_why() -> None:
    assert [key for key, statement in STATEMENTS.items() if not statement.shown and not statement.note] == []
