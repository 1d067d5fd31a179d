"""A run that is followed: its log as it comes, how it ended, and nothing left of what only it needed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from kubectl_cnpg_backup.cluster.api import Cluster
from kubectl_cnpg_backup.cluster.follow import wait_ready
from kubectl_cnpg_backup.commands import following
from kubectl_cnpg_backup.commands.following import carry_out
from kubectl_cnpg_backup.errors import ForbiddenError, NotFoundError
from kubectl_cnpg_backup.model.jobs import job_from
from kubectl_cnpg_backup.model.objects import name_of
from kubectl_cnpg_backup.model.release import BACKUP, COMPONENT_LABEL, DRILL, RESTORE
from kubectl_cnpg_backup.output.screen import Screen
from kubectl_cnpg_backup.session import Session
from retention.errors import RetentionError
from retention.pod.report import RunOutcome, finish_table, termination_message
from tests.plugin.common import NOW, ago, objects, pod, release


@dataclass
class Here:
    """A namespace in which every Job has ended as soon as it is created."""

    code: int = 0
    message: str = ""
    log: Sequence[str] = ()
    may_open: bool = True
    vanishes: bool = False
    """Whether the CronJob's controller deletes the Job once its end was seen, as with a history limit of 0."""
    looks: int = 0
    statuses: dict[str, Any] = field(default_factory=dict)
    admitted: bool = True
    refused: str = ""
    """Why no pod can be made, for the first few looks."""
    made: list[dict[str, Any]] = field(default_factory=list)
    opened: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    namespace: str = "default"

    def cronjobs(self, _selector: str) -> list[dict[str, Any]]:
        return objects("CronJob")

    def create_job(self, job: dict[str, Any]) -> dict[str, Any]:
        if not self.admitted:
            raise ForbiddenError("a policy refuses it")
        self.made.append({**job, "metadata": {**job["metadata"], "uid": "the-uid"}})
        return self.made[-1]

    def job(self, name: str) -> dict[str, Any]:
        if self.vanishes and self.looks > 2:
            raise NotFoundError("it is gone")
        if self.vanishes or (self.refused and self.looks < 2):
            return next({**one, "status": {}} for one in self.made if name_of(one) == name)
        return next(one for one in self.jobs("") if name_of(one) == name)

    def jobs(self, _selector: str) -> list[dict[str, Any]]:
        if self.vanishes:
            return []
        condition = {"type": "Failed" if self.code else "Complete", "status": "True"}
        return [{**job, "status": {"startTime": ago(minutes=1), "conditions": [condition]}} for job in self.made]

    def pods(self, _selector: str) -> list[dict[str, Any]]:
        self.looks += 1
        if (self.vanishes and self.looks > 2) or (self.refused and self.looks <= 2):
            return []
        found = [pod(name_of(job), self.code, self.message) for job in self.made]
        return [{**one, "status": {**one["status"], **self.statuses}} for one in found]

    def log_lines(self, _name: str, container: str, *, follow: bool, skip: int = 0) -> Iterator[str]:
        assert follow
        self.read.append(container)
        return iter(self.log[skip:] if container == "retention" else ())

    def events_of(self, kind: str, _name: str) -> list[dict[str, Any]]:
        assert kind in ("Job", "Pod")
        return [{"type": "Warning", "message": self.refused}] if self.refused else []

    def network_policies(self) -> list[dict[str, Any]]:
        return objects("NetworkPolicy")

    def create_network_policy(self, policy: dict[str, Any]) -> None:
        if not self.may_open:
            raise ForbiddenError("you may not")
        self.opened.append(policy)

    def delete_job(self, name: str) -> bool:
        self.deleted.append(name)
        return any(name_of(one) == name for one in self.made)


def session(here: Here, form: str = "table") -> Session:
    return Session(argparse.Namespace(release=""), cast(Cluster, here), Screen(form))


def job(component: str = BACKUP) -> dict[str, Any]:
    return job_from(release().of(component)[0], "abc")


def ended() -> Here:
    """A run of two databases, one of which failed, as the package prints and reports it."""
    failed = RunOutcome("kutt", seconds=12.34)
    failed.problems.append(RetentionError("no Secret: it does not exist", "make it"))
    outcomes = [RunOutcome("authelia", notes=["nothing new"]), failed]
    log = ["kutt: dumping", *finish_table(outcomes, NOW).splitlines()]
    return Here(1, termination_message(outcomes, [], NOW).decode(), log)


def test_a_run_ends_with_the_table_that_its_log_ends_with(capsys: pytest.CaptureFixture[str]) -> None:
    here = ended()
    assert carry_out(session(here), [job()]) == 1
    assert capsys.readouterr().out.splitlines() == [*here.log, "exit code 1"]
    assert here.deleted == [], "its pod is gone, and its log with it"


def test_programs_get_what_the_termination_message_says_of_each_database(capsys: pytest.CaptureFixture[str]) -> None:
    here = ended()
    assert carry_out(session(here, "json"), [job()], more={"cluster": "a"}) == 1
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert list(document) == ["exit_code", "jobs", "cluster"]
    (run,) = document["jobs"]
    assert run["exit_code"] == 1
    assert run["databases"] == [
        {"database": "kutt", "result": "failed", "why": "no Secret: it does not exist"},
        {"database": "authelia", "result": "ok", "why": "nothing new"},
    ]
    assert "kutt: dumping" in err


@pytest.mark.parametrize(("code", "said"), [(0, "exit code 0"), (1, "exit code 1")])
def test_a_job_that_its_cronjob_takes_away_at_its_end_has_ended(
    code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert carry_out(session(Here(code, vanishes=True)), [job()]) == code
    assert capsys.readouterr().out.splitlines()[-1] == said


def test_a_job_that_someone_deletes_before_its_end_has_failed(capsys: pytest.CaptureFixture[str]) -> None:
    running = {"phase": "Running", "initContainerStatuses": [], "containerStatuses": []}
    assert carry_out(session(Here(vanishes=True, statuses=running)), [job()]) == 1
    assert "someone deleted it before it ended" in capsys.readouterr().out


def test_a_pod_that_was_evicted_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    reason = {"reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."}
    assert carry_out(session(Here(137, statuses=reason)), [job()]) == 1
    assert "failed: Evicted: The node was low on resource: ephemeral-storage." in capsys.readouterr().out


def test_a_run_of_which_no_pod_can_be_made_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    here = Here(refused='Error creating: pods "x" is forbidden: serviceaccount "cnpg-backup" not found')
    assert carry_out(session(here), [job()]) == 0
    assert capsys.readouterr().err.count('serviceaccount "cnpg-backup" not found') == 1


def test_the_log_of_a_sidecar_is_not_the_log_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    proxy = {"name": "linkerd-proxy", "state": {"running": {}}}
    statuses = {"containerStatuses": [proxy, *pod("x", 0, "")["status"]["containerStatuses"]]}
    here = Here(log=["done"], statuses=statuses)
    assert carry_out(session(here), [job()]) == 0
    assert capsys.readouterr().out.splitlines() == ["done", "exit code 0"]
    assert "linkerd-proxy" not in here.read


def test_a_restore_into_another_cluster_leaves_neither_its_job_nor_its_policy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    here, made = Here(), job(RESTORE)
    assert carry_out(session(here), [made], reaches="kutt-2") == 0
    (policy,) = here.opened
    assert policy["metadata"]["ownerReferences"][0]["uid"] == "the-uid"
    assert here.deleted == [name_of(made)]
    assert f"deleted job/{name_of(made)} and its NetworkPolicy\n" in capsys.readouterr().err


def test_a_job_that_cannot_be_followed_is_taken_back(capsys: pytest.CaptureFixture[str]) -> None:
    here, made = Here(may_open=False), job(RESTORE)
    with pytest.raises(ForbiddenError):
        carry_out(session(here), [made], reaches="kutt-2")
    assert here.deleted == [name_of(made)]
    assert f"deleted job/{name_of(made)}; the database is as it was before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("component", "said"),
    [
        (BACKUP, "what it completed is kept, the next run cleans up the rest"),
        (RESTORE, "the database is as it was before, unless the log above says that it was replaced"),
        (DRILL, "no backup was changed, and this drill is not recorded"),
    ],
)
def test_what_is_stopped_says_what_is_true_of_it(
    component: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_followers: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(following, "follow_all", stop)
    here, made = Here(), job(component)
    with pytest.raises(KeyboardInterrupt):
        carry_out(session(here), [made])
    assert here.deleted == [name_of(made)]
    assert capsys.readouterr().err.splitlines()[-1] == f"deleted job/{name_of(made)}; {said}"


def test_a_job_that_was_never_made_is_not_reported_as_deleted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ForbiddenError, match="a policy refuses it"):
        carry_out(session(Here(admitted=False)), [job()])
    assert "deleted" not in capsys.readouterr().err


def test_remedies_of_a_restore_speak_of_the_plugins_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    here = Here(
        1, log=["remedy: set RESTORE_REPLACE=yes to replace it, or restore under another name with RESTORE_INTO"]
    )
    made = job()
    made["metadata"]["labels"][COMPONENT_LABEL] = RESTORE
    carry_out(session(here), [made])
    assert "give --replace to replace it, or restore under another name with --into" in capsys.readouterr().out


@pytest.mark.parametrize(
    "why",
    [
        'Error creating: pods "x" is forbidden: exceeded quota: small, requested: pods=1',
        'Error creating: pods "x" is forbidden: serviceaccount "cnpg-backup" not found',
        'Error creating: admission webhook "no.example.org" denied the request: not today',
    ],
)
def test_an_inspector_of_which_no_pod_can_be_made_says_why_long_before_it_gives_up(why: str) -> None:
    here, notes = Here(refused=why), list[str]()

    def note(text: str) -> None:
        # Enough was said: the wait of a minute is not waited for.
        notes.append(text)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wait_ready(cast(Cluster, here), "the-job", 60, note)
    assert notes == [why]


def test_a_volume_that_is_attached_elsewhere_is_named_while_the_containers_are_created() -> None:
    why = 'Multi-Attach error for volume "pvc-1": volume is already used by pod(s) run-1'
    creating = {"phase": "Pending", "initContainerStatuses": [], "containerStatuses": []}
    here, notes = Here(statuses=creating, refused=why, looks=5), list[str]()
    here.create_job(job())

    def note(text: str) -> None:
        notes.append(text)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wait_ready(cast(Cluster, here), name_of(job()), 60, note)
    assert notes == [why]
