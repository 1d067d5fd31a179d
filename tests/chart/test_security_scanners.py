"""What the scanners find in the rendered chart is waived with its reason, and no waiver is there for nothing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.common import CI_FILES, LONGEST_RELEASE, rendered_text
from tests.lab.chart import ROOT


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the objects of each values file."""
    folder = tmp_path_factory.mktemp("objects")
    for path in CI_FILES:
        (folder / path.name).write_text(rendered_text(path, LONGEST_RELEASE, "elsewhere"))
    return folder


def output(command: list[str | Path], folder: Path) -> Any:
    """What a scanner prints as JSON; its exit code only says whether it found something."""
    # Not in the repository, whose .checkov.yaml checkov would read besides the one that it is given.
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.startswith("{"), done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(done.stdout)


def test_checkov_finds_what_is_waived_and_nothing_else(objects: Path) -> None:
    venv = subprocess.run([ROOT / "tools" / "venv", "checkov"], stdout=subprocess.PIPE, text=True, check=True)
    checkov = Path(venv.stdout.strip()) / "checkov"
    configuration = yaml.safe_load((ROOT / ".checkov.yaml").read_text())
    waived = configuration.pop("skip-check")
    bare = objects.parent / f"{objects.name}-checkov.yaml"
    bare.write_text(yaml.safe_dump(configuration))
    found = output([checkov, "--config-file", bare, "--directory", objects, "--output", "json"], objects)
    assert not found["summary"]["parsing_errors"], found["summary"]
    assert found["summary"]["resource_count"] >= 100, found["summary"]
    failed = {check["check_id"]: check for check in found["results"]["failed_checks"]}
    for name in failed.keys() - set(waived):
        check = failed[name]
        pytest.fail(f"{check['file_path']}: {check['resource']}: {name}: {check['check_name']}")
    assert set(waived) == set(failed), f".checkov.yaml waives what is not found: {set(waived) - set(failed)}"
