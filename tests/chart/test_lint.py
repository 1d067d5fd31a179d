"""The linters that a chart's maintainers run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.chart.common import CI_FILES, rendered_text
from tests.lab import chart
from tests.lab.chart import CHART, ROOT


@pytest.mark.parametrize("helm", ["helm", "helm3"])
@pytest.mark.sample(1)
def test_helm_lint_is_clean(tools: dict[str, Path], helm: str) -> None:
    """One run for each values file: Helm would lay several of one run over each other."""
    for path in CI_FILES:
        told = chart.run_helm([str(tools[helm]), "lint", "--strict", str(CHART), "--values", str(path)])
        assert "[WARNING]" not in told, f"{path.name}: {told}"
        assert "[INFO]" not in told, f"{path.name}: {told}"


def test_chart_testing_and_its_unit_tests_are_clean(tool_path: str, tools: dict[str, Path], tmp_path: Path) -> None:
    """`ct` runs yamale, yamllint, helm lint and helm-unittest; it lints once with each values file.

    It may lose what the last command prints (it does not wait for the reader of that pipe), so what the unit tests
    print goes into a file of our own.
    """
    recorded = tmp_path / "unittest.log"
    recorder = tmp_path / "bin" / "helm-unittest"
    recorder.parent.mkdir()
    recorder.write_text(f'#!/bin/sh\nexec {tools["helm-unittest"]} "$@" >>{recorded} 2>&1\n')
    recorder.chmod(0o755)
    done = subprocess.run(
        ["ct", "lint", "--config", "ct.yaml"],
        cwd=ROOT,
        env=os.environ
        | {"PATH": f"{recorder.parent}:{tool_path}", "HELM_CACHE_HOME": str(tmp_path), "KUBECONFIG": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    printed = recorded.read_text() if recorded.exists() else "ct did not run the unit tests"
    assert done.returncode == 0, done.stdout + done.stderr + printed
    for path in CI_FILES:
        assert path.name in done.stdout, f"ct did not lint with {path.name}"
    assert "Test Suites:" in printed, printed


def test_a_broken_unit_test_fails_chart_testing(tools: dict[str, Path], tmp_path: Path) -> None:
    """With --strict a misspelt key of a test is an error, not a test that says nothing."""
    suite = "suite: broken\ntemplates: [pvc.yaml]\ntests:\n  - it: is misspelt\n    assert: [{notExists: {path: x}}]\n"
    (tmp_path / "broken_test.yaml").write_text(suite)
    done = subprocess.run(
        [tools["helm-unittest"], "--strict", "--file", tmp_path / "broken_test.yaml", CHART],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0, done.stdout


@pytest.mark.sample(6)
def test_the_rendered_objects_are_well_formed_yaml(ci_file: Path) -> None:
    text = rendered_text(ci_file)
    rules = "{line-length: disable, empty-lines: disable, indentation: {indent-sequences: whatever}}"
    config = f"{{extends: relaxed, rules: {rules}}}"
    done = subprocess.run(
        ["yamllint", "--strict", "-d", config, "-"], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.fail(done.stdout)
