"""The documentation as people see it: in Chromium, on a phone and on a desk, in light and in dark."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lab import site
from lab.release.project import ROOT

pytestmark = pytest.mark.long

PAGES = (
    "", "docs/start/", "docs/restore/", "docs/plugin/", "docs/retention/", "docs/security/", "docs/upgrading/",
    "docs/runbooks/CnpgBackupStale/", "chart/", "CHANGELOG/",
)  # fmt: skip


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the browser finds on each page; with SITE_PICTURES in the environment, pictures go to that folder."""
    folder = tmp_path_factory.mktemp("site")
    assert site.build(ROOT, folder) == []
    programs = subprocess.run([ROOT / "tools" / "venv", "browser"], capture_output=True, text=True, check=True).stdout
    pictures = os.environ.get("SITE_PICTURES")
    command = [f"{programs.strip()}/python", str(Path(__file__).with_name("site_browser.py"))]
    command += [f"--pictures={pictures}"] if pictures else []
    done = subprocess.run([*command, folder, *PAGES], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_barrier_fits_the_screen_and_its_pictures_can_be_read(looks: dict[str, Any], page: str) -> None:
    found = looks[page]
    assert found["checked"] > 40, "axe has not looked"
    assert (found["violations"], found["overflow"], found["small"]) == ([], [], [])
