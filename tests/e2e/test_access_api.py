"""The cases of tests/lab/access/ against an API server alone, for the built-in engine: no node, and so no Kyverno.

It answers in a minute what test_access.py answers with the real controllers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e import apiserver
from tests.e2e.release import Release
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
