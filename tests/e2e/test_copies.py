"""A copy to staging on a real cluster: made with its SQL files, and left alone when one of them fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.node import Cluster, wait_until
from tests.e2e.release import Release, cnpg_cluster, databases, fill, sql, wait_healthy
from tests.e2e.test_plugin import Site, account
from tests.lab.guide import blocks

pytestmark = pytest.mark.e2e

SHOP, STAGING = "shop-postgresql-cnpg", "staging-postgresql"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "copies.md"


def page() -> tuple[dict[str, Any], dict[str, Any]]:
    """The example of the page: values, and the ConfigMap."""
    values, config = (yaml.safe_load(text) for _, language, text in blocks(PAGE.read_text()) if language == "yaml")
    return values, config


def logs_of_the_page() -> list[str]:
    """What the page shows: of a good copy, and of one whose file fails."""
    return [text for _, language, text in blocks(PAGE.read_text()) if language == "text"]


def files(site: Site, **contents: str) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "anonymise-shop"}, "data": contents}
    site.cluster.apply(config, namespace=site.namespace)


@pytest.fixture(scope="module")
def site(node: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Production with people, staging without, and the values of the page."""
    folder = tmp_path_factory.mktemp("kubeconfigs")
    with node.namespace("copies") as namespace, node.namespace("people") as people:
        node.apply(
            cnpg_cluster(SHOP, "shop"), cnpg_cluster(STAGING, "shop", enableSuperuserAccess=True), namespace=namespace
        )
        release = Release(node, namespace)
        operators = [{"kind": "ServiceAccount", "name": "operator", "namespace": people}]
        release.install(
            {
                **page()[0],
                "databases": databases("shop"),
                "accessPolicy": {"operatorRights": True, "operators": operators},
                "persistence": {"size": "1Gi", "keep": False},
            }
        )
        wait_healthy(node, namespace, SHOP, STAGING)
        fill(node, namespace, f"{SHOP}-1", "shop")
        sql(
            node, namespace, f"{SHOP}-1", "shop",
            "SET ROLE shop; CREATE TABLE people AS SELECT id, 'N' || id AS name, 'n' || id || '@real.example' AS mail "
            "FROM generate_series(1, 50) id; CREATE TABLE events AS SELECT id, now() - id * interval '1 day' AS at "
            "FROM generate_series(1, 90) id",
        )  # fmt: skip
        secret = ("get", "secret", f"{STAGING}-superuser", "-n", namespace)
        wait_until("the superuser's Secret is there", lambda: node.try_kubectl(*secret).returncode == 0, 60)
        operator = account(node, folder, "operator", people, namespace)
        found = Site(node, namespace, release, operator, account(node, folder, "stranger", people, namespace))
        try:
            done = found.run("run")
            assert done.returncode == 0, done.stdout + done.stderr
            yield found
        finally:
            release.uninstall()


def staging(site: Site, query: str, dbname: str = "shop") -> str:
    return sql(site.cluster, site.namespace, f"{STAGING}-1", dbname, query)


def names(site: Site) -> list[str]:
    return staging(site, "SELECT datname FROM pg_database WHERE datname ~ 'shop' ORDER BY 1", "postgres").split()


def test_without_a_proved_backup_there_is_no_copy(site: Site) -> None:
    done = site.run("copies", "staging", "--run")
    assert done.returncode == 1, done.stdout
    assert "no drill has proved any of its 1 backups" in done.stdout
    assert names(site) == ["shop"]


def test_a_copy_is_made_of_the_proved_backup_with_the_files_of_the_page(site: Site) -> None:
    done = site.run("drill", "shop")
    assert done.returncode == 0, done.stdout + done.stderr
    proved = site.backups("shop")[0]["name"]
    sql(site.cluster, site.namespace, f"{SHOP}-1", "shop", "UPDATE people SET name = 'since then'")
    assert site.run("run").returncode == 0
    missing = site.run("copies", "staging", "--run")
    assert missing.returncode == 1
    assert "FAILED: there is no SQL file for this copy" in missing.stdout
    site.cluster.apply(page()[1], namespace=site.namespace)
    done = site.run("copies", "staging", "--run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert proved in done.stdout
    assert logs_of_the_page()[0] in done.stdout
    right = "count(*) FILTER (WHERE mail = 'person-' || id || '@example.org')"
    query = f"SELECT count(*), {right}, max(length(name)) FROM people"
    assert staging(site, query) == "50|50|9"
    assert 28 <= int(staging(site, "SELECT count(*) FROM events")) <= 30
    assert staging(site, "SELECT tableowner FROM pg_tables WHERE tablename = 'people'") == "shop"
    (copy,) = site.document("copies")
    assert (copy["state"], copy["cluster"]) == ("ok", f"{site.namespace}/{STAGING}")
    again = site.run("copies", "staging", "--run")
    assert again.returncode == 0, again.stdout + again.stderr
    assert [name for name in names(site) if "restoring" in name or name.count("before") > 1] == []
    assert len(names(site)) <= 2, "the empty database with which the cluster was made, and the copy"


def test_a_file_that_fails_leaves_staging_untouched_and_the_job_failed_with_that_line(site: Site) -> None:
    before = names(site)
    staging(site, "SET ROLE shop; UPDATE people SET name = 'of staging'")
    oid = staging(site, "SELECT oid FROM pg_database WHERE datname = 'shop'")
    wrong = page()[1]["data"]["10-people.sql"].replace("people SET", "peple SET")
    files(site, **{"10-people.sql": wrong, "20-shrink.sql": "SELECT 1"})
    done = site.run("copies", "staging", "--run")
    assert done.returncode == 1, done.stdout
    assert logs_of_the_page()[1] in done.stdout
    assert (names(site), staging(site, "SELECT oid FROM pg_database WHERE datname = 'shop'")) == (before, oid)
    assert staging(site, "SELECT DISTINCT name FROM people") == "of staging"
    newest = site.cluster.get("jobs", "-n", site.namespace, "-l", "app.kubernetes.io/component=copy")["items"]
    failed = {one["metadata"]["name"] for one in newest if one["status"].get("failed")}
    (copy,) = site.document("copies", code=1)
    assert copy["job"] in failed
    assert copy["why"] == '10-people.sql, line 1: relation "public.peple" does not exist'
    text = site.run("copies").stdout
    assert '10-people.sql, line 1: relation "public.peple" does not exist' in text
    findings = site.document("doctor", code=1)
    (found,) = [one for one in findings if one["subject"] == "cronjob/cnpg-backup-copy-staging"]
    assert (found["result"], found["found"]) == ("wrong", copy["why"])


def test_who_writes_the_files_cannot_run_programs_where_the_backups_are(site: Site) -> None:
    files(site, **{"a.sql": "\\! ls /backups\n"})
    done = site.run("copies", "staging", "--run")
    assert done.returncode == 1
    assert "a.sql, line 1: backslash commands are restricted" in done.stdout
    assert not re.search(r"^status\.json$", done.stdout, re.MULTILINE)


def test_a_copy_runs_by_its_schedule(site: Site) -> None:
    site.cluster.apply(page()[1], namespace=site.namespace)
    jobs = site.jobs("copy")
    copies = [{**page()[0]["copies"][0], "schedule": "* * * * *"}]
    site.release.upgrade({"copies": copies})
    try:
        wait_until("the schedule has made a Job", lambda: len(site.jobs("copy") - jobs) > 0, 150)
        (job,) = sorted(site.jobs("copy") - jobs)[:1]
        site.cluster.kubectl("wait", "--for=condition=Complete", f"job/{job}", "-n", site.namespace, "--timeout=120s")
    finally:
        site.release.upgrade({"copies": [{**copies[0], "suspended": True}]})
