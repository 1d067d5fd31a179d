"""Jobs about copies outside: those of the chart, and no more than was asked for."""

from __future__ import annotations

import dataclasses

import kubernetes_validate
import pytest

from kubectl_cnpg_backup.model.jobs import job_from
from kubectl_cnpg_backup.model.offsite import fetching, identity_secret, listing
from kubectl_cnpg_backup.model.release import COMPONENT_LABEL, FETCH, OFFSITE
from tests.chart import common
from tests.chart.common import KYVERNO
from tests.chart.test_access import GRANTING, POLICIES, World
from tests.lab import access, chart
from tests.plugin.common import release


def test_a_list_reads_the_store_and_not_the_volume() -> None:
    (cronjob,) = release("offsite").of(OFFSITE)
    job = listing(job_from(cronjob, "list-1"))
    kubernetes_validate.validate(job, "1.34", strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"][0] == "list"
    assert "/backups" not in container["args"]
    assert job["metadata"]["labels"][COMPONENT_LABEL] == "offsite-list", "it would count as a run that copies"
    pod = job["spec"]["template"]["metadata"]["labels"]
    assert pod[COMPONENT_LABEL] == "offsite", "the NetworkPolicy would not let it reach the store"
    (before,) = job_from(cronjob, "list-1")["spec"]["template"]["spec"]["containers"]
    assert before["args"][0] == "copy", "the template itself was changed"


def test_a_fetch_is_of_one_backup_and_by_one_key() -> None:
    (cronjob,) = release("offsite").of(FETCH)
    job = fetching(job_from(cronjob, "fetch-1"), "kutt", "newest before 2026-01-31", "my-key")
    kubernetes_validate.validate(job, "1.34", strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    values = {one["name"]: one.get("value") for one in container["env"]}
    assert (values["FETCH_DATABASE"], values["FETCH_BACKUP"]) == ("kutt", "newest before 2026-01-31")
    assert identity_secret(job) == "my-key"
    assert (
        identity_secret(fetching(job_from(cronjob, "fetch-1"), "kutt", "newest", "")) == "cnpg-backup-offsite-identity"
    )


def test_a_release_without_copies_has_no_template_for_them() -> None:
    assert release().of(OFFSITE) == release().of(FETCH) == ()


@pytest.mark.parametrize("layer", GRANTING)
def test_pods_of_these_jobs_are_admitted(layer: str) -> None:
    manifests = chart.render(chart.merge(common.OFFSITE, access.VALUES[layer]), api_versions=KYVERNO)
    world = World(layer)
    world.policies = [manifest for manifest in manifests if manifest["kind"] in POLICIES]
    found = release("offsite")
    (copies,), (fetches,) = found.of(OFFSITE), found.of(FETCH)
    asked = []
    for cronjob, job in (
        (copies, job_from(copies, "run-1")),
        (copies, listing(job_from(copies, "list-1"))),
        (fetches, fetching(job_from(fetches, "fetch-1"), "kutt", "newest", "my-key")),
    ):
        place = dataclasses.replace(world.place, cronjob=chart.merge(cronjob.source, {"spec": {"jobTemplate": job}}))
        asked.append((access.JOBS, access.create(place, access.job_pod(place, "run-x", "run"))))
    assert world.answers(asked) == [[], [], []]
