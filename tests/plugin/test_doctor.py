"""`doctor`: each thing that is not as it should be is found, and its remedy named."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kubectl_cnpg_backup.model import doctor, doctor_namespace
from kubectl_cnpg_backup.model.doctor import examine
from kubectl_cnpg_backup.model.findings import Facts, Level, Unreadable
from kubectl_cnpg_backup.model.objects import major_of, refusal, selects
from kubectl_cnpg_backup.model.release import Run, read_runs
from kubectl_cnpg_backup.model.rights import NEW_CLUSTER_RIGHTS, RIGHTS, Right
from tests.lab import chart
from tests.plugin.common import MOUNTING, NOW, ago, evicted, job, objects, pod, release

CRONJOB = "cnpg-pg-dump-backup"
MESSAGE = "3 databases done\nkutt ok (newest 2026-11-22 14:00Z): published"


def claim(**labels: str) -> dict[str, Any]:
    (found,) = objects("PersistentVolumeClaim")
    metadata = {**found["metadata"], "labels": {**found["metadata"]["labels"], **labels}}
    return {**found, "metadata": metadata, "status": {"phase": "Bound", "capacity": {"storage": "15Gi"}}}


def enforcing(level: str | None) -> dict[str, Any]:
    """The namespace; None for one without a level of Pod Security."""
    return {"metadata": {"name": "default", "labels": {doctor_namespace.ENFORCE: level} if level else {}}}


def healthy() -> Facts:
    found = release(lastScheduleTime=ago(minutes=30))
    wanted = doctor.wanted_secrets(found)
    jobs = [job("run", CRONJOB, started=ago(minutes=30), finished=ago(minutes=28))]
    return Facts(
        release=found,
        now=NOW,
        kubernetes="v1.34.2",
        plugin=".".join([*found.version.split(".")[:2], "9"]),  # another patch of the same version
        runs=read_runs(jobs, [pod("run", 0, MESSAGE)]),
        claim=claim(
            **{
                "recurring-job.longhorn.io/source": "enabled",
                "recurring-job-group.longhorn.io/default": "enabled",
            }
        ),
        policies=objects("NetworkPolicy"),
        access={"mode": "grant", "grant": "verb mount on the claim"},
        access_policies={"restrict": True},
        secrets=dict(wanted),
        wanted_secrets=wanted,
        servers={"default/kutt-postgresql-cnpg": "ghcr.io/cloudnative-pg/postgresql:16.4-bookworm"},
        clusters={"default/kutt-postgresql-cnpg": "docker.io/postgres:16-alpine"},
        missing_rights=(),
        namespace=enforcing("restricted"),
        service_account=True,
    )


def first_run(state: str, code: int | None) -> list[Run]:
    """The Job that checks the volume, which has ended like this; without a code its pod is gone."""
    name = "cnpg-backup-first-0123456789"
    one = job(
        name, "", state=state, started=ago(days=3), finished=ago(days=3), reason="" if code else "DeadlineExceeded"
    )
    one["metadata"] = {"name": name, "labels": {"app": "cnpg-backup", "app.kubernetes.io/component": "first-run"}}
    message = (
        "volume: attempt 3 of 4: the volume cannot lock files: No locks available\n"
        "volume: FAILED: the volume cannot lock files: No locks available\n"
        "volume: remedy: use storage that supports flock\n"
        f"volume: then delete the Job {name} and install or upgrade again: while it is there, it counts as failed"
    )
    ended = {"metadata": {"name": f"{name}-x", "labels": {"batch.kubernetes.io/job-name": name}}, "spec": MOUNTING}
    terminated = {"state": {"terminated": {"exitCode": code, "message": message if code else ""}}}
    ended["status"] = {"containerStatuses": [{"name": "check", **terminated}]}
    return read_runs([one], [] if code is None else [ended])


def test_a_volume_that_was_checked_is_said_to_be() -> None:
    findings = examine(replace(healthy(), runs=[*healthy().runs, *first_run("Complete", 0)]))
    assert {finding.level for finding in findings} == {Level.GOOD}, findings
    assert any("it can be written, synced and locked" in finding.found for finding in findings)


def test_a_healthy_release_has_nothing_to_say() -> None:
    findings = examine(healthy())
    assert {finding.level for finding in findings} == {Level.GOOD}, findings
    assert len(findings) >= 9


def test_the_secrets_that_runs_read_are_found_in_the_template() -> None:
    wanted = doctor.wanted_secrets(release())
    assert wanted["kutt-postgresql-cnpg-app"] == {"username", "password"}
    assert wanted["kutt-postgresql-cnpg-ca"] == {"ca.crt"}
    assert doctor.wanted_secrets(release("uris"))["kutt-postgresql-cnpg-app"] == {"URL"}


STRANGER = {"metadata": {"name": "allow-all", "labels": {}}, "spec": {"podSelector": {}, "egress": [{}]}}
BROKEN: dict[str, tuple[dict[str, Any], Level, str, str]] = {
    "old Kubernetes": ({"kubernetes": "v1.29.9"}, Level.WRONG, "older than 1.30", "upgrade"),
    "another version": ({"plugin": "0.2.0"}, Level.CAREFUL, "plugin 0.2.0", "pipx install --force cnpg-backup=="),
    "missing right": (
        {"missing_rights": [RIGHTS[3]]},
        Level.CAREFUL,
        "may not create jobs",
        "resources [jobs], verbs [create]",
    ),
    "suspended": ({"release": release("suspended")}, Level.CAREFUL, "suspended", "suspend: false"),
    "another claim of the same name": (
        {"release": release(lastScheduleTime=ago(minutes=30), lastSuccessfulTime=ago(days=40))},
        Level.CAREFUL,
        "another, empty volume",
        "kubectl get pv",
    ),
    "missed run": (
        {"release": release(lastScheduleTime=ago(days=2))},
        Level.WRONG,
        "did not start",
        "describe cronjob",
    ),
    "volume without locks": (
        {"runs": [*healthy().runs, *first_run("Failed", 1)]},
        Level.WRONG,
        "the volume cannot be used: the volume cannot lock files: No locks available",
        "use storage that supports flock; then run `kubectl delete job cnpg-backup-first-0123456789 --namespace ",
    ),
    "check of the volume that was killed": (
        {"runs": [*healthy().runs, *first_run("Failed", None)]},
        Level.WRONG,
        "the volume cannot be used: DeadlineExceeded",
        "logs cnpg-backup-first-0123456789",
    ),
    "failed run": (
        {
            "runs": read_runs(
                [job("run", CRONJOB, state="Failed", started=ago(hours=1), finished=ago(minutes=50))],
                [pod("run", 1, "1 of 1 databases failed\nkutt failed (no backup): no Secret")],
            )
        },
        Level.WRONG,
        "no Secret",
        "logs run",
    ),
    "evicted drill": (
        {
            "runs": read_runs(
                [job("drill-1", "cnpg-backup-drill", state="Failed", started=ago(hours=1), finished=ago(minutes=50))],
                [evicted("drill-1")],
            )
        },
        Level.WRONG,
        "job/drill-1, failed: Evicted",
        "logs drill-1",
    ),
    "refused pod": (
        {"refusals": {"job/run-2": "pods is forbidden: system:serviceaccount:kube-system:job-controller may not"}},
        Level.WRONG,
        "its pod could not be made: pods is forbidden",
        "accessPolicy.controllers",
    ),
    "no claim": ({"claim": None}, Level.WRONG, "does not exist", "helm upgrade"),
    "pending claim": ({"claim": {**claim(), "status": {"phase": "Pending"}}}, Level.WRONG, "Pending", "describe pvc"),
    "claim that is growing": (
        {"claim": {**claim(), "status": {"phase": "Bound", "capacity": {"storage": "10Gi"}}}},
        Level.CAREFUL,
        "15Gi requested, 10Gi provided",
        "describe pvc",
    ),
    "Longhorn without source": (
        {"claim": claim(**{"recurring-job.longhorn.io/nightly": "enabled"})},
        Level.WRONG,
        "ignores label",
        "name the jobs in persistence.longhorn",
    ),
    "Longhorn without source on a claim of one's own": (
        {"claim": claim(**{"recurring-job.longhorn.io/nightly": "enabled", "app.kubernetes.io/managed-by": "someone"})},
        Level.WRONG,
        "ignores label",
        "kubectl label pvc",
    ),
    "Longhorn without jobs": ({"claim": claim()}, Level.CAREFUL, "no recurring job", "persistence.longhorn"),
    "no network policy": ({"policies": []}, Level.WRONG, "none", "networkPolicy.enabled"),
    "a stranger's policy": (
        {"policies": [*objects("NetworkPolicy"), STRANGER]},
        Level.CAREFUL,
        "allow-all selects the backup, restore, drill, inspect, open pods as well",
        "selector",
    ),
    "a stranger's policy that calls itself the release's": (
        {
            "policies": [
                *objects("NetworkPolicy"),
                {**STRANGER, "metadata": {"name": "cnpg-backup-2", "labels": {"app": "cnpg-backup"}}},
            ]
        },
        Level.CAREFUL,
        "cnpg-backup-2 selects the",
        "kubectl describe networkpolicy cnpg-backup-2",
    ),
    "no network policy for drills": (
        {"policies": [one for one in objects("NetworkPolicy") if not one["metadata"]["name"].endswith("-isolated")]},
        Level.WRONG,
        "selects the drill, inspect, open pods",
        "networkPolicy.enabled",
    ),
    "a stranger's policy for drills": (
        {
            "policies": [
                *objects("NetworkPolicy"),
                {
                    "metadata": {"name": "open", "labels": {}},
                    "spec": {
                        "podSelector": {"matchLabels": {"app.kubernetes.io/component": "drill"}},
                        "ingress": [{}],
                    },
                },
            ]
        },
        Level.CAREFUL,
        "open selects the drill pods as well",
        "delete it",
    ),
    "no pod security": ({"namespace": enforcing(None)}, Level.CAREFUL, "default enforces none", "enforce=restricted"),
    "pod security that allows all": (
        {"namespace": enforcing("privileged")},
        Level.CAREFUL,
        "enforces only privileged",
        "--dry-run=server",
    ),
    "namespace that may not be read": (
        {"namespace": Unreadable("you may not get namespaces")},
        Level.UNKNOWN,
        "you may not get namespaces",
        "",
    ),
    "other workloads": (
        {"neighbours": ["web-2", "shop-1", "web-1"]},
        Level.CAREFUL,
        "(shop-1 and 2 more)",
        "a namespace of its own",
    ),
    "no account": ({"service_account": False}, Level.WRONG, "no pod of the release can be made", "helm upgrade"),
    "no record of the access policy": (
        {"access": None},
        Level.CAREFUL,
        "cnpg-backup-access",
        "find out who deleted it",
    ),
    "no access policy": (
        {"access": {"mode": "none"}},
        Level.WRONG,
        "every pod of the namespace",
        "accessPolicy.enabled",
    ),
    "weak access policy": (
        {"access": {"mode": "weak-label"}},
        Level.CAREFUL,
        "write a label",
        "accessPolicy.mode: grant",
    ),
    "access policy gone": ({"access_policies": {"restrict": False}}, Level.WRONG, "restrict is gone", "helm upgrade"),
    "no Secret": ({"secrets": {}}, Level.WRONG, "does not exist", "CloudNativePG makes it"),
    "Secret without key": (
        {"secrets": dict.fromkeys(doctor.wanted_secrets(release()), frozenset({"username", "ca.crt"}))},
        Level.WRONG,
        "it lacks password",
        "uriKey or caSecret.key",
    ),
    "Secrets that may not be read": (
        {"secrets": dict.fromkeys(doctor.wanted_secrets(release()), Unreadable("you may not"))},
        Level.UNKNOWN,
        "you may not",
        "helm test",
    ),
    "another major": (
        {"servers": {"default/kutt-postgresql-cnpg": "ghcr.io/cloudnative-pg/postgresql:17"}},
        Level.WRONG,
        "PostgreSQL 17, dumped with 16",
        "17-alpine",
    ),
    "no cluster": ({"servers": {}}, Level.WRONG, "does not exist", "correct `cluster`"),
}


WAITING: dict[str, Any] = {
    "claim": {**claim(), "status": {"phase": "Pending"}},
    "claim_events": [{"reason": "WaitForFirstConsumer"}],
}


def test_a_claim_that_the_first_run_binds_is_not_wrong() -> None:
    (finding,) = [one for one in examine(replace(healthy(), **WAITING)) if one.subject.startswith("claim ")]
    assert (finding.level, "WaitForFirstConsumer" in finding.found) == (Level.GOOD, True)


def policy(name: str, selector: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {}}, "spec": {"podSelector": selector, **spec}}


DENY = policy("default-deny-all", {}, policyTypes=["Ingress", "Egress"])
KUTT = {"matchLabels": {"cnpg.io/cluster": "kutt-postgresql-cnpg"}}


def guards(*policies: dict[str, Any]) -> list[str]:
    findings = examine(replace(healthy(), policies=[*objects("NetworkPolicy"), *policies]))
    return [f"{one.subject}: {one.found} | {one.remedy}" for one in findings if one.level is not Level.GOOD]


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"from": [{"podSelector": {"matchLabels": {"app": "cnpg-backup"}}}]},
        {"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}]},
        {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
    ],
)
def test_databases_that_let_the_backups_in_are_in_order_also_behind_a_denial_of_all(rule: dict[str, Any]) -> None:
    assert guards(DENY, policy("kutt", KUTT, ingress=[rule])) == []


def test_databases_that_let_no_backup_in_are_found_and_nothing_harmful_is_advised() -> None:
    (said,) = guards(DENY)
    assert "cluster default/kutt-postgresql-cnpg: default-deny-all selects its pods and lets no backup pod in" in said
    assert "allow ingress from pods with the label app=cnpg-backup" in said
    other = {"from": [{"podSelector": {"matchLabels": {"app": "kutt"}}}]}
    assert len(guards(policy("kutt", KUTT, ingress=[other]))) == 1
    assert guards(policy("other", {"matchLabels": {"cnpg.io/cluster": "other"}}, ingress=[])) == []


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_is_found_with_its_remedy(what: str) -> None:
    changes, level, found, remedy = BROKEN[what]
    findings = examine(replace(healthy(), **changes))
    matching = [one for one in findings if found in one.found and remedy in one.remedy]
    assert matching, f"{what}: {findings}"
    assert {one.level for one in matching} == {level}
    assert all(one.remedy for one in findings if one.level in (Level.WRONG, Level.CAREFUL)), findings


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ({"key": "component", "operator": "NotIn", "values": ["drill"]}, True),
        ({"key": "component", "operator": "NotIn", "values": ["backup"]}, False),
        ({"key": "component", "operator": "In", "values": ["drill"]}, False),
        ({"key": "component", "operator": "Exists"}, True),
        ({"key": "component", "operator": "DoesNotExist"}, False),
    ],
)
def test_selectors_are_read_as_kubernetes_reads_them(expression: dict[str, Any], selected: bool) -> None:
    policy = {"spec": {"podSelector": {"matchLabels": {"app": "a"}, "matchExpressions": [expression]}}}
    assert selects(policy, {"app": "a", "component": "backup"}) is selected
    assert selects(policy, {"app": "b", "component": "backup"}) is False


@pytest.mark.parametrize(
    ("image", "major"),
    [
        ("docker.io/postgres:16-alpine", 16),
        ("registry:5000/postgres:17.6@sha256:1234", 17),
        ("registry:5000/postgres", None),
        ("postgres:latest", None),
    ],
)
def test_majors_are_read_from_tags(image: str, major: int | None) -> None:
    assert major_of(image) == major


def test_the_charts_role_grants_what_the_plugin_needs_and_nothing_else_but_the_claim() -> None:
    def granted(**rights: bool) -> set[tuple[str, str, str]]:
        values = {"accessPolicy": {**rights, "operators": [{"kind": "User", "name": "ann"}]}}
        manifests = {one["kind"]: one for one in chart.render(values)}
        assert manifests["RoleBinding"]["subjects"][0]["name"] == "ann"
        return {
            (verb, group, resource)
            for rule in manifests["Role"]["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }

    def needed(rights: Sequence[Right]) -> set[tuple[str, str, str]]:
        return {(right.verb, right.group, right.resource) for right in rights}

    mount = {("mount", "", "persistentvolumeclaims")}
    assert granted() == mount, "exec is granted without being asked for"
    assert granted(operatorRights=True) == mount | needed(RIGHTS)
    assert granted(newClusterRights=True) == mount | needed(NEW_CLUSTER_RIGHTS)


def test_a_refusal_is_the_newest_one_and_none_that_a_later_start_has_overcome() -> None:
    event = {"reason": "FailedCreate", "message": "no", "lastTimestamp": ago(hours=2)}
    newer = {**event, "message": "not allowed", "lastTimestamp": ago(hours=1)}
    other = {**newer, "reason": "SawCompletedJob", "message": "done"}
    assert refusal([event, newer, other], None) == "not allowed"
    assert refusal([event, newer], NOW - timedelta(minutes=90)) == "not allowed"
    assert refusal([event, newer], NOW - timedelta(minutes=30)) == ""
    assert refusal([other], None) == ""


def bound(rules: list[dict[str, Any]], kind: str = "Role", **subject: str) -> dict[str, Any]:
    """A namespace in which a role with these rules is bound."""
    reference = {"kind": kind, "name": "developer"}
    binding = {
        "metadata": {"name": "developers"},
        "roleRef": reference,
        "subjects": [{"kind": "Group", "name": "devs"} | subject],
    }
    return {"bindings": [binding], "roles": {f"{kind}/developer": {"rules": rules}}}


EVERYTHING = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
CLAIMS = {"apiGroups": [""], "resources": ["pods", "persistentvolumeclaims"], "verbs": ["get", "*"]}


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        (EVERYTHING, True),
        (CLAIMS, True),
        ({**CLAIMS, "resourceNames": ["cnpg-backups-pvc"]}, True),
        ({**CLAIMS, "resourceNames": ["another"]}, False),
        ({**CLAIMS, "verbs": ["get", "list", "create"]}, False),
        ({**CLAIMS, "verbs": ["mount"]}, False),
        ({**EVERYTHING, "apiGroups": ["apps"]}, False),
        ({**CLAIMS, "resources": ["pods/*"]}, False),
    ],
)
@pytest.mark.parametrize("kind", ["Role", "ClusterRole"])
def test_a_role_with_every_verb_is_named_with_whom_it_is_bound_to(rule: Any, holds: bool, kind: str) -> None:
    findings = examine(replace(healthy(), **bound([{"verbs": ["get"]}, rule], kind)))
    found = [one for one in findings if one.subject == "every verb"]
    assert [one.level for one in found] == [Level.CAREFUL] * holds
    for one in found:
        assert "group devs may mount the claim by rolebinding/developers" in one.found
        assert f"{kind}/developer" in one.remedy


def test_who_may_not_read_roles_is_told_so_in_one_line() -> None:
    (found,) = [
        one
        for one in examine(replace(healthy(), roles=Unreadable("user x may not list")))
        if one.subject == "every verb"
    ]
    assert (found.level, found.found) == (Level.UNKNOWN, "user x may not list")


def test_an_account_with_every_verb_is_named_with_its_namespace() -> None:
    facts = replace(healthy(), **bound([EVERYTHING], kind="Role", name="ci"))
    (binding,) = facts.bindings
    account = {**binding, "subjects": [{"kind": "ServiceAccount", "name": "ci", "namespace": "tools"}]}
    (found,) = [one for one in examine(replace(facts, bindings=[account])) if one.subject == "every verb"]
    assert "serviceaccount tools/ci may mount" in found.found


def stored(policy: Any) -> Any:
    """A NetworkPolicy as the API server stores it: without empty lists, and with every protocol."""
    spec = copy.deepcopy(policy["spec"])
    for rule in spec.get("egress") or ():
        for port in rule.get("ports") or ():
            port.setdefault("protocol", "TCP")
    for rule in [spec, *(spec.get("egress") or ())]:
        for key in [key for key, value in rule.items() if value in ([], None)]:
            del rule[key]
    return {**policy, "spec": spec}


def recorded(values: str = "default") -> dict[str, str]:
    """What the chart records about its access policies."""
    found: dict[str, str] = next(
        one["data"] for one in objects("ConfigMap", values) if one["metadata"]["name"].endswith("-access")
    )
    return found


def altered(policies: Sequence[Any], access: Any) -> list[str]:
    found = examine(replace(healthy(), policies=policies, access=access))
    return [one.found for one in found if "not those that the chart rendered" in one.found]


@pytest.mark.parametrize("values", ["default", "two-images"])
def test_the_network_policies_that_the_chart_renders_are_as_recorded(values: str) -> None:
    policies = [stored(one) for one in objects("NetworkPolicy", values)]
    names = [one["metadata"]["name"] for one in policies]
    assert [name for name in names if name in recorded(values)["networkPolicies"]] == names
    assert altered(policies, recorded(values)) == []


def test_rules_of_ones_own_may_be_written_as_the_api_lets_one_write_them() -> None:
    """Empty lists go, a protocol comes: neither is a change."""
    rules = [
        {"to": [], "ports": [{"port": 443}, {"port": "https", "endPort": None}]},
        {"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": []}}, {"podSelector": {}}], "ports": []},
    ]
    manifests = chart.render({"networkPolicy": {"extraEgress": rules}})
    policies = [one for one in manifests if one["kind"] == "NetworkPolicy"]
    (access,) = (one["data"] for one in manifests if one["metadata"]["name"] == "cnpg-backup-access" and "data" in one)
    found = [stored(one) for one in policies]
    (egress,) = (one["spec"]["egress"] for one in found if one["metadata"]["name"] == "cnpg-backup")
    del egress[-1]["to"][0]["ipBlock"]["except"]
    del egress[-2]["ports"][1]["endPort"]
    assert altered(found, access) == []


CHANGES: dict[str, Any] = {
    "everything may go out": lambda s: s.update(egress=[{}]),
    "everything may come in": lambda s: s.update(ingress=[{}]),
    "egress no longer decided": lambda s: s.update(policyTypes=["Ingress"]),
    "it no longer leaves a kind of pod out": lambda s: s["podSelector"].pop("matchExpressions"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("which", [0, 1])
def test_a_network_policy_whose_rules_were_changed_is_named(change: str, which: int) -> None:
    """Whoever wrote it, also as the field manager of Helm."""
    policies = [stored(one) for one in objects("NetworkPolicy")]
    CHANGES[change](policies[which]["spec"])
    policies[which]["metadata"]["managedFields"] = [{"manager": "helm", "fieldsV1": {"f:spec": {"f:egress": {}}}}]
    (found,) = altered(policies, recorded())
    assert found.startswith(f"the rules of {policies[which]['metadata']['name']} are not those")
    assert found.endswith("they were written by helm")


@pytest.mark.parametrize("access", [{"mode": "grant"}, None, Unreadable("user x may not get configmaps")])
def test_without_a_record_no_network_policy_is_called_changed(access: Any) -> None:
    policies = [stored(one) for one in objects("NetworkPolicy")]
    policies[0]["spec"]["egress"] = [{}]
    assert altered(policies, access) == []


@pytest.mark.parametrize(
    ("finalizers", "named"),
    [
        (["kubernetes.io/pvc-protection"], False),
        (["snapshot.storage.kubernetes.io/pvc-as-source-protection", "foregroundDeletion"], False),
        (["example.org/mine"], True),
        (["kubernetes.io/pvc-protection", "notkubernetes.io/x"], True),
        (["kubernetes.io.example.org/x"], True),
    ],
)
@pytest.mark.parametrize("subject", ["pvc/cnpg-backups-pvc", "networkpolicy/cnpg-backup"])
def test_a_finalizer_of_others_is_named(finalizers: list[str], named: bool, subject: str) -> None:
    found = [one for one in examine(replace(healthy(), finalizers={subject: finalizers})) if one.subject == subject]
    assert [(one.level, finalizers[-1] in one.found) for one in found] == [(Level.CAREFUL, True)] * named


COPIES = "cnpg-backup-offsite"


def copied(message: str, code: int = 0, **more: Any) -> Facts:
    """A release that copies, whose last run ended like this."""
    its = release("offsite", lastScheduleTime=ago(minutes=45))
    jobs = [job("copy", COPIES, started=ago(minutes=45), finished=ago(minutes=40), **more)]
    jobs[0]["metadata"]["labels"]["app.kubernetes.io/component"] = "offsite"
    runs = read_runs(jobs, [pod("copy", code, message)])
    return replace(healthy(), release=its, runs=[*healthy().runs, *runs], policies=objects("NetworkPolicy", "offsite"))


def about_copies(facts: Facts) -> Any:
    (found,) = (one for one in examine(facts) if one.subject == f"cronjob/{COPIES}")
    return found


def test_how_old_the_copies_outside_are_is_said() -> None:
    lines = (
        "app ok (newest 2026-11-22 14:00Z): copied [kept=3]\nkutt ok (newest 2026-11-22 12:00Z): copied [kept=3 read=1]"
    )
    found = about_copies(copied(f"2 databases copied\n{lines}"))
    assert found.level == Level.GOOD
    assert found.found.endswith("2 databases copied; the oldest newest copy is 2h old (kutt, verified by readback)")


def test_a_warning_about_copies_outside_is_not_lost() -> None:
    message = "2 databases copied\nkutt warning (newest 2026-11-19 14:00Z): the volume has lost backups [kept=3]"
    found = about_copies(copied(message))
    assert found.level == Level.CAREFUL
    assert "the volume has lost backups" in found.found


def test_a_failed_copy_is_wrong_and_a_list_after_it_hides_nothing() -> None:
    facts = copied("listing bucket: the store does not know the access key", 1, state="Failed")
    listing = replace(facts.runs[-1], job="list", component="offsite-list", state="succeeded", exit_code=0, message="")
    found = about_copies(replace(facts, runs=[listing, *facts.runs]))
    assert found.level == Level.WRONG
    assert "the store does not know the access key" in found.found


def test_copies_that_never_ran_are_named_with_the_command_that_makes_them() -> None:
    facts = copied("")
    found = about_copies(replace(facts, release=release("offsite"), runs=healthy().runs))
    assert found.level == Level.CAREFUL
    assert found.remedy == "try one: kubectl cnpg-backup offsite run"
