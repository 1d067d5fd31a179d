"""`suspend` and `resume`: who has suspended a schedule, and what ends that; tests/e2e has the upgrades."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_cnpg_backup.cli import build_parser
from kubectl_cnpg_backup.commands import suspend
from kubectl_cnpg_backup.errors import ConflictError
from kubectl_cnpg_backup.model import suspension
from kubectl_cnpg_backup.model.release import read_cronjob, releases
from kubectl_cnpg_backup.model.schedule import assess
from kubectl_cnpg_backup.output.screen import Screen
from kubectl_cnpg_backup.parser import parse
from kubectl_cnpg_backup.session import Session
from tests.plugin.common import NOW, objects


def cronjob(*managers: str, note: str = "", suspended: bool = True, **more: str) -> dict[str, Any]:
    """The CronJob that backs up, as these have set its field `suspend`."""
    (found,) = [one for one in objects("CronJob") if one["metadata"]["name"] == "cnpg-pg-dump-backup"]
    fields: dict[str, Any] = {"f:spec": {"f:suspend": {}}}
    entries: list[dict[str, Any]] = []
    for name in managers:
        manager, _, operation = name.partition(":")
        entries.append({"manager": manager, "operation": operation or "Apply", "fieldsV1": fields})
    entries.append({"manager": "helm", "fieldsV1": {"f:spec": {"f:schedule": {}}}})
    entries.append({"manager": "controller", "subresource": "status", "fieldsV1": fields})
    metadata = {**found["metadata"], "managedFields": entries, "annotations": {suspension.ANNOTATION: note, **more}}
    return {**found, "metadata": metadata, "spec": {**found["spec"], "suspend": suspended}}


@pytest.mark.parametrize(
    ("managers", "resumes", "in_values"),
    [
        ([suspension.MANAGER], True, False),
        (["kubectl-patch"], True, False),
        (["kubectl-edit", suspension.MANAGER], True, False),
        (["helm"], False, True),
        (["argocd-controller"], False, True),
        (["helm", suspension.MANAGER], True, True),
        ([], False, True),
    ],
)
def test_the_remedy_is_the_one_that_ends_it(managers: list[str], resumes: bool, in_values: bool) -> None:
    found = assess(read_cronjob(cronjob(*managers)), [], NOW).suspension()
    assert found is not None
    assert (suspension.RESUME in found.remedy) is resumes
    assert ("set suspend: false" in found.remedy) is in_values


def test_status_says_since_when_and_why() -> None:
    made = suspension.suspended(cronjob(), NOW, "the volume is moved")
    note = made["metadata"]["annotations"][suspension.ANNOTATION]
    found = suspension.explained(cronjob(suspension.MANAGER, note=note))
    assert found.problem == "its schedule is suspended since 2026-11-22 14:30Z (the volume is moved)"
    forged = suspension.explained(cronjob(suspension.MANAGER, note="yesterday \x1b[31mred"))
    assert forged.problem == "its schedule is suspended"


class Server:
    """Answers applies as the API server does for one CronJob and one field; the real one is in the e2e tests."""

    def __init__(self, suspended: bool, *managers: str) -> None:
        self.owners = dict.fromkeys(managers, suspended)
        self.value = suspended
        self.annotations: dict[str, str] = {}
        self.applies: list[tuple[dict[str, Any], bool]] = []

    def cronjobs(self, selector: str) -> list[dict[str, Any]]:  # noqa: ARG002
        others = [one for one in objects("CronJob") if one["metadata"]["name"] != "cnpg-pg-dump-backup"]
        return [cronjob(*self.owners, suspended=self.value, **self.annotations), *others]

    def apply_cronjob(self, intent: dict[str, Any], *, force: bool, dry_run: bool) -> dict[str, Any]:
        wanted = intent["spec"].get("suspend")
        self.applies.append((intent, force))
        if wanted is None:
            owners = {name: value for name, value in self.owners.items() if name != suspension.MANAGER}
            value = next(iter(owners.values()), False)
        else:
            if any(value != wanted for value in self.owners.values()) and not force:
                raise ConflictError('Apply failed with 1 conflict: conflict with "helm": .spec.suspend')
            owners = {name: value for name, value in self.owners.items() if value == wanted}
            owners[suspension.MANAGER] = value = wanted
        if not dry_run:
            self.owners, self.value = owners, value
        return cronjob(*owners, suspended=value)


def called(server: Server, *words: str) -> int:
    options = parse(build_parser(), list(words))
    session = Session(options, server, Screen("table"))  # type: ignore[arg-type]
    (session.release,) = releases(server.cronjobs(""), "default")
    return suspend.run_suspend(session) if words[0] == "suspend" else suspend.run_resume(session)


def test_what_was_suspended_is_resumed_and_leaves_no_owner(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(False)
    assert called(server, "suspend", "--reason", "moving") == 0
    assert server.value
    assert "upgrades leave it so" in capsys.readouterr().out
    assert called(server, "suspend") == 0
    assert "as before: schedule is suspended" in capsys.readouterr().out
    assert called(server, "resume") == 0
    assert (server.value, server.owners) == (False, {})


def test_what_a_chart_or_gitops_sets_is_refused_and_force_says_what_to_do_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = Server(False, "helm")
    assert called(server, "suspend") == 3
    assert not server.value
    assert "belongs to 'helm'" in capsys.readouterr().out
    assert called(server, "suspend", "--force") == 0
    assert server.value
    assert "set suspend: true in the values and upgrade before" in capsys.readouterr().out


def test_a_default_that_helm_3_or_argo_cd_own_is_in_nobodys_way(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(False, "helm:Update")
    assert called(server, "suspend") == 0
    assert (server.value, server.owners) == (True, {suspension.MANAGER: True})
    assert "by force" not in capsys.readouterr().out


def test_what_the_values_suspend_is_not_resumed_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(True, "helm", suspension.MANAGER)
    assert called(server, "resume") == 3
    assert server.value
    assert "the values of the release suspend it" in capsys.readouterr().out


def test_what_the_chart_says_of_its_values_counts_where_helm_3_owns_nothing() -> None:
    server = Server(True, suspension.MANAGER)
    suspended = next(one for one in objects("CronJob", "suspended") if one["metadata"]["name"] == "cnpg-pg-dump-backup")
    server.annotations = suspended["metadata"]["annotations"]
    assert called(server, "resume") == 3
    assert server.value


def test_what_someone_has_patched_is_resumed_without_a_trace() -> None:
    server = Server(True, "kubectl-patch")
    assert called(server, "resume") == 0
    assert (server.value, server.owners) == (False, {})


@pytest.mark.parametrize(("words", "owners"), [(["suspend"], []), (["resume"], ["cnpg-backup"])])
def test_a_dry_run_changes_nothing(words: list[str], owners: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(words == ["resume"], *owners)
    before = (server.value, dict(server.owners))
    assert called(server, *words, "--dry-run") == 0
    assert (server.value, server.owners) == before
    assert "would be" in capsys.readouterr().out
