"""What the scanners find in the rendered chart is waived with its reason, and no waiver is there for nothing."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.common import CI_FILES, LONGEST_RELEASE, rendered_text
from tests.lab.chart import ROOT, pinned


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the objects of each values file."""
    folder = tmp_path_factory.mktemp("objects")
    for path in CI_FILES:
        name = path.name.removesuffix("-values.yaml")
        text = rendered_text(path, LONGEST_RELEASE, "elsewhere")
        # A namespace for each, so that no object stands in for one that another values file lacks.
        (folder / f"{name}.yaml").write_text(re.sub(r"\belsewhere\b", f"ns-{name}", text))
    return folder


def output(command: list[str | Path], folder: Path) -> Any:
    """What a scanner prints as JSON; its exit code only says whether it found something."""
    # Not in the repository, whose .checkov.yaml checkov would read besides the one that it is given.
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
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


def _copies_outside(path: Path) -> bool:
    offsite = (yaml.safe_load(path.read_text()) or {}).get("offsite", {})
    return bool(offsite.get("enabled") and offsite.get("secretName"))


SWITCHED_OFF = {
    *((name, "non-isolated-pod") for name in ("least", "no-network-policy", "azure-cilium")),
    *(
        (path.name.removesuffix("-values.yaml"), "read-secret-from-env-var")
        for path in CI_FILES
        if _copies_outside(path)
    ),
}
"""Left out on purpose: a NetworkPolicy of the chart's; files with rclone's keys, which it would not read."""


def kube_linter(objects: Path) -> set[tuple[str, str]]:
    """What kube-linter finds: the values file and the check."""
    command: list[str | Path] = [
        pinned("kube-linter"),
        "lint",
        objects,
        "--config",
        ROOT / ".kube-linter.yaml",
        "--format",
        "json",
    ]
    found = output(command, objects)
    assert len(found["Checks"]) >= 40, "hardly anything was checked"
    return {(Path(report["Object"]["Metadata"]["FilePath"]).stem, report["Check"]) for report in found["Reports"] or []}


def test_kube_linter_finds_nothing_but_what_values_switch_off(objects: Path) -> None:
    assert kube_linter(objects) == SWITCHED_OFF


def test_kube_linter_looks_into_cronjobs(objects: Path, tmp_path: Path) -> None:
    text = (objects / "default.yaml").read_text()
    (tmp_path / "default.yaml").write_text(
        text.replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false")
    )
    assert ("default", "no-read-only-root-fs") in kube_linter(tmp_path)
