"""The cases of tests/lab/access/ against an API server alone, for the built-in engine: no node, and so no Kyverno.

It answers in a minute what test_access.py answers with the real controllers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.e2e import apiserver
from tests.e2e.apiserver import ApiServer
from tests.e2e.node import NodeError, wait_until
from tests.e2e.release import Release, refusal
from tests.e2e.test_access import DATABASES, Site, expected, flaws, rights
from tests.lab import access, chart
from tests.lab.access import Place

pytestmark = pytest.mark.e2e

LEFT_OUT = ("ValidatingPolicy", "Pod")
"""Kinds that the chart renders and that are not created here."""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A release with what its runs and people would have made."""
    with apiserver.running() as server:
        aggregate(server)
        for namespace in ("guarded", "elsewhere"):
            server.kubectl("create", "namespace", namespace)
        operators = {"accessPolicy": {"operators": [{"kind": "User", "name": access.OPERATOR}]}}
        values = chart.merge({"databases": DATABASES}, access.VALUES["builtin"], operators)
        manifests = [m for m in chart.render(values, namespace="guarded") if m["kind"] not in LEFT_OUT]
        place = place_of(manifests)
        for manifest in manifests:
            if manifest["kind"] == "PersistentVolumeClaim":
                manifest["spec"]["volumeName"] = place.volume
                manifest["metadata"].setdefault("annotations", {})[access.BOUND] = "yes"
        server.apply(*manifests, namespace="guarded")
        server.apply(*people(place), namespace="guarded")
        names = [m["metadata"]["name"] for m in manifests if m["kind"] == "ValidatingAdmissionPolicy"]
        with rights(server, {"builtin": "guarded"}, "elsewhere"):
            found = Site(server, "builtin", Release(server, "guarded"), place, tuple(names))
            found.wait_for_guard()
            yield found


def aggregate(server: ApiServer) -> None:
    """Fill the roles `view`, `edit` and `admin`, as a controller of Kubernetes does."""
    roles = {role["metadata"]["name"]: role for role in server.get("clusterroles")["items"]}
    for name in ("view", "edit", "admin"):
        marks = [one["matchLabels"].items() for one in roles[name]["aggregationRule"]["clusterRoleSelectors"]]
        parts = [r for r in roles.values() if any(m <= r["metadata"].get("labels", {}).items() for m in marks)]
        roles[name]["rules"] = [rule for part in parts for rule in part["rules"] or ()]
        assert roles[name]["rules"]
        patch = json.dumps({"rules": roles[name]["rules"]})
        server.kubectl("patch", "clusterrole", name, "--type=merge", "-p", patch)


def place_of(manifests: list[dict[str, Any]]) -> Place:
    """The names of a rendered release."""
    maps = [m["metadata"]["name"] for m in manifests if m["kind"] == "ConfigMap"]
    name = "cnpg-pg-dump-backup"
    (claim,) = (m["metadata"]["name"] for m in manifests if m["kind"] == "PersistentVolumeClaim")
    (cronjob,) = (m for m in manifests if m["kind"] == "CronJob" and m["metadata"]["name"] == name)
    return Place(
        namespace="guarded",
        elsewhere="elsewhere",
        release="cnpg-backup",
        claim=claim,
        volume="pvc-1",
        cronjob=cronjob,
        job="running",
        pod="running-abcde",
        inspector="looking",
        scripts=next(one for one in maps if "-scripts-" in one),
        config=next(one for one in maps if one.startswith(f"{name}-config-")),
    )


def people(place: Place) -> Iterator[dict[str, Any]]:
    """What controllers and entitled people would have made, and what the cases change."""
    yield access.new(
        "persistentvolumes",
        place.volume,
        spec={
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "15Gi"},
            "claimRef": {"namespace": place.namespace, "name": place.claim},
            "csi": {"driver": "driver.longhorn.io", "volumeHandle": place.volume},
        },
    )
    yield access.new("secrets", place.secret, data={"username": "dQ=="})
    yield access.new("configmaps", "kube-root-ca.crt")
    yield access.helm_record(place, "secrets", place.record, "1")
    for name in ("another", access.ACCOUNT):
        yield access.new("serviceaccounts", name)
    job = access.by_hand(place, place.job)
    del job["metadata"]["ownerReferences"]
    yield job
    pod = access.job_pod(place, place.pod, place.job)
    del pod["metadata"]["ownerReferences"]
    yield pod
    yield access.workload("pods", place.inspector, access.pod_spec(place.claim))


@pytest.mark.parametrize("part", ["attempt", "open", "legitimate"])
def test_every_case_is_answered_as_the_table_says(site: Site, part: str) -> None:
    served = site.cluster.kubectl("api-resources", "-o", "name").split()
    wrong, asked = [], 0
    for case in (case for case in access.cases()[part] if case.made):
        request = case.ask(site.place)
        group = access.RESOURCES.get(request.resource, ("", ""))[0].rpartition("/")[0]
        if request.operation != "IMPERSONATE" and f"{request.resource}.{group}".strip(".") not in served:
            continue
        asked += 1
        answer = site.ask(case.who, request)
        if answer.by != expected(case, "builtin"):
            wrong.append(f"{access.title(case)}: {answer.by}, not {expected(case, 'builtin')}: {answer.message}")
        elif answer.by == "policy":
            wrong += [f"{access.title(case)}: {flaw}" for flaw in flaws(site, case, answer.message)]
    assert not wrong, "\n".join(wrong)
    assert asked > len([case for case in access.cases()[part] if case.made]) * 0.8


LISTED = "listed-admin"
"""Who may do everything in the cluster, by a list of verbs that does not contain `mount`."""
VERBS = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "escalate", "bind"]


@pytest.fixture(scope="module")
def installed(site: Site) -> Release:
    """A release by Helm, of an administrator who has every verb."""
    server = site.cluster
    server.kubectl("create", "namespace", "helm")
    server.kubectl("create", "clusterrole", LISTED, f"--verb={','.join(VERBS)}", "--resource=*.*")
    server.kubectl("create", "clusterrolebinding", LISTED, f"--clusterrole={LISTED}", f"--user={LISTED}")
    server.kubectl("create", "rolebinding", "chief", "--clusterrole=admin", f"--user={access.CHIEF}", "-n", "helm")
    release = Release(server, "helm", "backups")
    release.install(chart.merge({"databases": DATABASES}, access.VALUES["builtin"]))
    release.upgrade({"successfulJobsHistoryLimit": 2})
    stranger = access.workload("pods", "stranger", access.pod_spec(release.claim))
    wait_until("the release is guarded", lambda: "mount" in refusal(server, "helm", stranger, access.CHIEF), 60)
    return release


def kept(release: Release) -> list[str]:
    """All that Helm has made in the namespace, and what it keeps of it."""
    where = ("-n", release.namespace, "-o", "name")
    kinds = "cronjobs,configmaps,pvc,networkpolicies,serviceaccounts,roles,rolebindings"
    own = release.cluster.kubectl("get", kinds, "-l", f"app={release.name}", *where)
    return sorted((own + release.cluster.kubectl("get", "secrets", "-l", "owner=helm", *where)).split())


COMMANDS: Mapping[str, Callable[[Release, str], object]] = {
    "upgrade": lambda r, who: r.upgrade({"successfulJobsHistoryLimit": 3}, "--kube-as-user", who),
    "rollback": lambda r, who: r.run_helm("rollback", r.name, "1", "--kube-as-user", who),
    "test": lambda r, who: r.run_helm("test", r.name, "--timeout=20s", "--kube-as-user", who),
    "uninstall": lambda r, who: r.run_helm("uninstall", r.name, "--debug", "--timeout=20s", "--kube-as-user", who),
}


# Who may delete the policies themselves can also uninstall what they guard.
ASKED = [(command, who) for command in COMMANDS for who in (LISTED, access.CHIEF) if command != "uninstall"]


@pytest.mark.parametrize(("command", "who"), [*ASKED, ("uninstall", access.CHIEF)])
def test_helm_without_the_grant_fails_with_the_line_that_helps(installed: Release, command: str, who: str) -> None:
    before = kept(installed)
    assert len(before) > 10, before
    with pytest.raises(NodeError) as refused:
        COMMANDS[command](installed, who)
    said = " ".join(str(refused.value).split())
    if (command, who) == ("upgrade", access.CHIEF):
        # An upgrade renders the policies, which only administrators of the cluster may read.
        assert "let a cluster administrator upgrade it" in said
    else:
        assert f"kubectl create rolebinding NAME --namespace=helm --role=backups-operator --user={who}" in said
    assert kept(installed) == before
