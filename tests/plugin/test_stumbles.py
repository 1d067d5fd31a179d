"""What a newcomer stumbles over: a name that is not there is said with those that are."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from kubectl_cnpg_backup.cluster.api import Cluster, Executed
from kubectl_cnpg_backup.cluster.inspector import ROOT, Inspector
from kubectl_cnpg_backup.errors import ForbiddenError, NotFoundError, UsageError
from kubectl_cnpg_backup.model.doctor import examine
from kubectl_cnpg_backup.model.findings import Level
from kubectl_cnpg_backup.model.release import INSPECTOR, OPEN, RESTORE, Run, read_runs
from kubectl_cnpg_backup.output.screen import Screen
from kubectl_cnpg_backup.session import Session
from tests.plugin.common import ago, job, objects
from tests.plugin.test_doctor import healthy

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Here:
    """Runs the inspector's commands on a volume of this machine, and shows paths as in the pod."""

    volume: Path

    def execute(
        self,
        pod: str,  # noqa: ARG002
        container: str,  # noqa: ARG002
        command: Sequence[str],
        sink: Callable[[bytes], None] | None = None,  # noqa: ARG002
    ) -> Executed:
        real = [sys.executable, *(word.replace(ROOT, str(self.volume), 1) for word in command[1:])]
        done = subprocess.run(
            real, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False
        )
        return Executed(done.returncode, done.stdout.encode(), done.stderr.replace(str(self.volume), ROOT))


@pytest.fixture
def inspector(tmp_path: Path) -> Inspector:
    for name in ("authelia", "kutt"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}-20261122-140002.dump").write_text("x")
    return Inspector(cast(Cluster, Here(tmp_path)), "pod", "retention", "inspect", ())


@pytest.mark.parametrize(
    "command",
    [
        ("list", f"{ROOT}/autelia"),
        ("verify", f"{ROOT}/autelia"),
        ("describe", f"{ROOT}/autelia/autelia-20261122-140002.dump"),
        ("tables", f"{ROOT}/autelia/autelia-20261122-140002.dump"),
    ],
)
def test_a_database_that_the_volume_does_not_have_is_said_with_those_that_it_has(
    inspector: Inspector, command: tuple[str, ...]
) -> None:
    with pytest.raises(NotFoundError) as caught:
        inspector.retention_json(*command)
    assert caught.value.problem == "the volume has no database 'autelia'"
    assert caught.value.remedy == "did you mean 'authelia'? it has authelia, kutt"


def test_another_error_of_the_volume_is_said_as_it_is(inspector: Inspector) -> None:
    assert inspector.retention_json("list", f"{ROOT}/kutt")[1].code == 0
    with pytest.raises(Exception, match="its table of contents cannot be read"):
        inspector.retention_json("tables", f"{ROOT}/kutt/kutt-20261122-140002.dump")


class Empty:
    """A cluster whose releases are elsewhere."""

    namespace = "defualt"

    def __init__(self, *, exists: bool, may_look: bool = True) -> None:
        self._exists, self._may_look = exists, may_look

    def cronjobs(self, selector: str) -> list[Any]:  # noqa: ARG002
        return []

    def cronjobs_everywhere(self, selector: str) -> list[Any]:  # noqa: ARG002
        if not self._may_look:
            raise ForbiddenError("no")
        return objects("CronJob")

    def own_namespace(self) -> dict[str, Any]:
        if not self._may_look:
            raise ForbiddenError("no")
        if not self._exists:
            raise NotFoundError("no")
        return {}


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        (
            Empty(exists=False),
            "there is no namespace 'defualt'; did you mean 'default'? there are releases in default: ",
        ),
        (Empty(exists=True), "namespace defualt has no release of cnpg-backup; did you mean 'default'? there are"),
        (Empty(exists=True, may_look=False), "namespace defualt has no release of cnpg-backup; give the release's"),
    ],
)
def test_a_namespace_without_a_release_is_said_with_those_that_have_one(cluster: Empty, said: str) -> None:
    session = Session(argparse.Namespace(release=""), cast(Cluster, cluster), Screen("table"))
    with pytest.raises(UsageError) as caught:
        _ = session.release
    assert str(caught.value).startswith(said), caught.value


def looking(component: str, **length: float) -> Run:
    started = job("look", f"cnpg-backup-{component}", state="", started=ago(**length))
    started["metadata"]["labels"]["app.kubernetes.io/component"] = component
    started["spec"]["activeDeadlineSeconds"] = 3 * 3600
    return read_runs([started], [])[0]


@pytest.mark.parametrize("component", [INSPECTOR, OPEN])
def test_a_pod_that_a_killed_plugin_has_left_is_found(component: str) -> None:
    facts = healthy()
    short, long = (replace(facts, runs=[*facts.runs, looking(component, minutes=minutes)]) for minutes in (30, 125))
    assert all(finding.level is Level.GOOD for finding in examine(short))
    (named,) = [finding for finding in examine(short) if finding.subject == "job/look"]
    assert "has been there for 30m; Kubernetes ends it in 2h at the latest" in named.found
    (found,) = [finding for finding in examine(long) if finding.level is not Level.GOOD]
    assert (found.subject, found.level) == ("job/look", Level.CAREFUL)
    assert "has been there for 2h; Kubernetes ends it in 55m at the latest" in found.found
    assert found.remedy.endswith("kubectl delete job look --namespace default")


def test_a_restore_that_goes_on_without_the_plugin_is_found_at_once() -> None:
    facts = healthy()
    (found,) = [
        finding
        for finding in examine(replace(facts, runs=[*facts.runs, looking(RESTORE, minutes=2)]))
        if finding.level is not Level.GOOD
    ]
    assert (found.subject, found.level) == ("job/look", Level.CAREFUL)
    assert "has been there for 2m; Kubernetes ends it in 2h at the latest" in found.found
    assert "kubectl cnpg-backup logs look --follow --namespace default" in found.remedy
    assert found.remedy.endswith("kubectl delete job look --namespace default")


def test_what_has_not_started_or_has_no_deadline_gets_no_moment() -> None:
    facts, run = healthy(), looking(RESTORE, minutes=2)
    for odd in (replace(run, limit=None), replace(run, started=None, limit=None), replace(run, limit=facts.now)):
        (found,) = [one for one in examine(replace(facts, runs=[*facts.runs, odd])) if one.subject == "job/look"]
        assert "at the latest" not in found.found
        assert "kubectl delete job look" in found.remedy
