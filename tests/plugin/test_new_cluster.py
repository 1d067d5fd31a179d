"""A new cluster for a backup: what is asked of CloudNativePG, and a restore that reaches that cluster and no other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import kubernetes_validate
import pytest

from kubectl_cnpg_backup.errors import PluginError, UsageError
from kubectl_cnpg_backup.model import new_cluster
from kubectl_cnpg_backup.model.jobs import job_from
from kubectl_cnpg_backup.model.new_cluster import Contents, Options
from kubectl_cnpg_backup.model.release import RESTORE
from retention import keyvalue
from retention.errors import ExitCode, RetentionError
from retention.text import parse_size
from tests.plugin.common import objects, release

REQUEST = (
    "database=authelia\nbase=authelia-20261122-140000\nbytes=10\nsha256=ab\ndbname=Auth 2\nserver_version=16.10\n"
    "tables=7\ndatabase_bytes=3000000000\n"
)
LISTING = """\
;
; Archive created at 2026-11-22 14:00:00 UTC
;     dbname: Auth 2
;
2; 3079 16390 EXTENSION - pg_trgm 
4; 3079 16400 EXTENSION - citext 
3401; 0 0 COMMENT - EXTENSION pg_trgm 
3390; 1262 16385 DATABASE - Auth 2 the owner
215; 1259 16402 TABLE public DATABASE authelia
"""  # noqa: W291 - as pg_restore prints it
CONTENTS = Contents("a-20261122-140000.dump", "authelia", "authelia", "16.10", 3 * 10**9, 7, ())
OPTIONS = Options("authelia-2", "default")


def old(**spec: Any) -> dict[str, Any]:
    """A cluster as the API server has it."""
    common = {"instances": 3, "imageName": "registry/pg:16.4", "storage": {"size": "20Gi", "storageClass": "fast"}}
    return {"metadata": {"name": "authelia-postgresql-cnpg"}, "spec": {**common, **spec}}


def made(
    found: Any = None, options: Options = OPTIONS, contents: Contents = CONTENTS, major: int = 16
) -> dict[str, Any]:
    """The spec of the new cluster."""
    spec: dict[str, Any] = new_cluster.manifest(contents, options, major, found)[0]["spec"]
    return spec


def read(request: str, listing: str) -> Contents:
    return new_cluster.read_contents(keyvalue.parse(request, "request").values, listing)


def test_an_archive_tells_its_database_owner_size_and_extensions() -> None:
    assert read(REQUEST, LISTING) == Contents(
        "authelia-20261122-140000.dump", "Auth 2", "the owner", "16.10", 3000000000, 7, ("citext", "pg_trgm")
    )
    bare = read("base=a-20261122-140000\ndbname=a\nserver_version=16.10", "")
    assert (bare.owner, bare.database_bytes, bare.tables) == ("", 0, None)
    with pytest.raises(PluginError, match="metadata lack server_version"):
        read("base=a\ndbname=a", "")


@pytest.mark.parametrize("name", ["", "2a", "A", "a_b", "a.b", "a-", "a" * 51, "a\n"])
def test_a_name_that_cloudnativepg_would_refuse_is_refused_first(name: str) -> None:
    with pytest.raises(UsageError, match="is not a valid cluster name"):
        new_cluster.check_name(name)
    assert new_cluster.check_name("a" * 50) == "a" * 50


def test_the_volume_has_room_for_the_database_twice() -> None:
    assert new_cluster.storage_for(0) == "2Gi"
    assert parse_size(new_cluster.storage_for(3 * 10**9)) >= 6 * 10**9


@pytest.mark.parametrize("name", ["My App", "o'clock", "back\\slash", "tab\there"])
def test_a_database_that_cloudnativepg_cannot_bootstrap_is_refused_at_once(name: str) -> None:
    contents = replace(CONTENTS, archive="shared.my-app.96c6f41782b14e46-20261122-140000.dump", dbname=name)
    with pytest.raises(UsageError, match="CloudNativePG cannot create a cluster for database") as caught:
        made(contents=contents)
    assert "restore shared.my-app.96c6f41782b14e46 --cluster authelia-2" in caught.value.remedy
    for good in ("Müller", "a.b", "CAPITALS", "a=b", '"'):
        assert made(contents=replace(CONTENTS, dbname=good))["bootstrap"]["initdb"]["database"] == good


def test_a_cluster_that_is_gone_is_made_from_what_the_archive_tells() -> None:
    spec = made()
    assert spec == {
        "instances": 1,
        "imageName": "ghcr.io/cloudnative-pg/postgresql:16-standard-trixie",
        "enableSuperuserAccess": True,
        "storage": {"size": "8Gi"},
        "bootstrap": {"initdb": {"database": "authelia", "owner": "authelia"}},
    }
    assert made(contents=replace(CONTENTS, owner="postgres"))["bootstrap"]["initdb"]["owner"] == "authelia"


def test_a_cluster_that_is_still_there_lends_how_it_runs_and_nothing_of_its_past() -> None:
    began = {"database": "x", "owner": "y", "localeCollate": "de_DE.UTF-8", "secret": {"name": "s"}, "import": {}}
    roles = [{"name": "reader", "passwordSecret": {"name": "reader"}}]
    found = old(
        postgresql={"parameters": {"work_mem": "8MB"}},
        managed={"roles": roles, "services": {"additional": [{"name": "taken"}]}},
        backup={"barmanObjectStore": {}},
        plugins=[{"name": "barman-cloud"}],
        replica={"source": "other"},
        externalClusters=[{"name": "other"}],
        certificates={"serverTLSSecret": "of-the-old-name"},
        bootstrap={"initdb": began},
        walStorage={"size": "5Gi"},
    )
    spec = made(found)
    assert (spec["instances"], spec["imageName"]) == (3, "registry/pg:16.4")
    assert spec["storage"] == {"size": "20Gi", "storageClass": "fast"}
    assert spec["walStorage"] == {"size": "5Gi"}
    assert spec["managed"] == {"roles": roles}
    assert spec["bootstrap"] == {
        "initdb": {"database": "authelia", "owner": "authelia", "localeCollate": "de_DE.UTF-8"}
    }
    assert not {"backup", "plugins", "replica", "externalClusters", "certificates"} & set(spec)
    _, notes = new_cluster.manifest(CONTENTS, OPTIONS, 16, found)
    assert any("WAL archive" in note for note in notes)
    assert "synchronous" not in str(new_cluster.manifest(CONTENTS, OPTIONS, 16, old())[1])


def test_a_volume_that_was_too_small_for_the_restore_grows() -> None:
    assert made(old(storage={"size": "4Gi"}))["storage"] == {"size": "8Gi"}


def test_options_beat_the_old_cluster() -> None:
    found = old(minSyncReplicas=1, postgresql={"synchronous": {"number": 1}, "parameters": {}})
    options = replace(OPTIONS, image="mine:16", instances=1, storage="1Gi", storage_class="slow")
    spec = made(found, options)
    assert (spec["imageName"], spec["instances"]) == ("mine:16", 1)
    assert spec["storage"] == {"size": "1Gi", "storageClass": "slow"}
    assert "minSyncReplicas" not in spec, "one instance waits for no other"
    assert spec["postgresql"] == {"parameters": {}}
    assert found["spec"]["postgresql"]["synchronous"], "the old cluster's own settings were changed"


def test_the_image_is_of_the_major_that_restores_into_it() -> None:
    newer = old(imageName="registry/pg:17.2")
    assert made(newer)["imageName"] == "ghcr.io/cloudnative-pg/postgresql:16-standard-trixie"
    assert any("registry/pg:17.2" in note for note in new_cluster.manifest(CONTENTS, OPTIONS, 16, newer)[1])
    catalog = {"kind": "ImageCatalog", "name": "ours", "major": 17}
    assert made(old(imageName=None, imageCatalogRef=catalog))["imageCatalogRef"] == {**catalog, "major": 16}
    with pytest.raises(UsageError, match="is PostgreSQL 17, but the programs that restore into it are 16"):
        made(None, replace(OPTIONS, image="mine:17.2"))
    assert new_cluster.target_major(CONTENTS, "pg_restore (PostgreSQL) 17.2 (Debian)") == 17
    with pytest.raises(
        PluginError, match=r"cannot be restored into an older major version; set its image\.tag to 16-alpine"
    ):
        new_cluster.target_major(CONTENTS, "pg_restore (PostgreSQL) 15.9")


def restore_job(values: str = "default") -> dict[str, Any]:
    return job_from(release(values).of(RESTORE)[0], "abc")


def secrets_of(job: dict[str, Any]) -> list[dict[str, Any]]:
    volumes = job["spec"]["template"]["spec"]["volumes"]
    (found,) = [one for one in volumes if one["name"] == "credentials"]
    return [source["secret"] for source in found["projected"]["sources"]]


@pytest.mark.parametrize("values", ["default", "uris"])
def test_a_restore_elsewhere_mounts_the_new_clusters_secrets_and_no_others(values: str) -> None:
    template = restore_job(values)
    job = new_cluster.pointed_at_cluster(template, "kutt", "kutt-2", "default")
    kubernetes_validate.validate(job, "1.34", strict=True)
    paths = {item["path"]: (one["name"], item["key"]) for one in secrets_of(job) for item in one["items"]}
    assert paths == {
        "kutt/owner-username": ("kutt-2-app", "username"),
        "kutt/owner-password": ("kutt-2-app", "password"),
        "kutt/superuser-username": ("kutt-2-superuser", "username"),
        "kutt/superuser-password": ("kutt-2-superuser", "password"),
        "kutt/ca.crt": ("kutt-2-ca", "ca.crt"),
    }
    assert all(one["optional"] for one in secrets_of(job))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert {"name": "RESTORE_CLUSTER", "value": "default/kutt-2"} in container["env"]
    assert next(one["name"] for one in secrets_of(template)).startswith("authelia"), "the template was changed"
    assert job["spec"]["ttlSecondsAfterFinished"] > 0


def test_a_restore_elsewhere_runs_as_the_template_does() -> None:
    """All that the access policies and the restricted profile judge: it may differ in Secrets and environment alone."""
    template, job = restore_job(), new_cluster.pointed_at_cluster(restore_job(), "kutt", "kutt-2", "default")
    for one in (template, job):
        spec = one["spec"]["template"]["spec"]
        spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] != "credentials"]
        for container in [*spec["initContainers"], *spec["containers"]]:
            container["env"] = [entry for entry in container["env"] if entry["name"] != "RESTORE_CLUSTER"]
    job["spec"].pop("ttlSecondsAfterFinished")
    assert job == template


def test_the_network_policy_for_the_new_cluster_is_the_jobs_own_and_goes_with_it() -> None:
    job = new_cluster.pointed_at_cluster(restore_job(), "kutt", "kutt-2", "default")
    job["metadata"]["uid"] = "the-uid"
    policy = new_cluster.network_policy_for(job, "kutt-2")
    kubernetes_validate.validate(policy, "1.34", strict=True)
    (owner,) = policy["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Job", job["metadata"]["name"], "the-uid")
    assert policy["spec"]["podSelector"] == {
        "matchLabels": {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    }, "it lets other pods out"
    (rule,) = policy["spec"]["egress"]
    (peer,) = rule["to"]
    assert peer == {"podSelector": {"matchLabels": {"cnpg.io/cluster": "kutt-2", "cnpg.io/podRole": "instance"}}}
    assert rule["ports"] == [{"protocol": "TCP", "port": 5432}]
    assert policy["spec"]["policyTypes"] == ["Egress"]


def test_no_network_policy_is_made_where_none_restricts_the_pod() -> None:
    """The first policy that selects a pod forbids everything that it does not name, also name servers."""
    job, policies = restore_job(), objects("NetworkPolicy")
    assert new_cluster.needs_network_policy(job, policies)
    assert not new_cluster.needs_network_policy(job, [])
    inward = [{**one, "spec": {**one["spec"], "policyTypes": ["Ingress"]}} for one in policies]
    assert not new_cluster.needs_network_policy(job, inward)


def test_a_cluster_is_ready_when_cloudnativepg_says_so() -> None:
    assert not new_cluster.is_ready({"metadata": {"name": "a"}})
    status = {"phase": "Setting up primary", "conditions": [{"type": "Ready", "status": "False"}]}
    assert not new_cluster.is_ready({"status": status})
    assert (
        new_cluster.describe({"spec": {"instances": 3}, "status": status})
        == "Setting up primary, 0 of 3 instances ready"
    )
    assert new_cluster.is_ready({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})


def test_values_name_the_new_cluster_and_its_namespace_where_it_is_another_one() -> None:
    entry = {"name": "kutt", "cluster": "kutt-2"}
    assert new_cluster.values_for("kutt", "kutt-2", "backups", {"namespace": "backups"}, "kutt") == entry
    other = new_cluster.values_for("kutt", "kutt-2", "backups", {"namespace": "apps"}, "kutt")
    assert other == {**entry, "namespace": "backups"}


@pytest.mark.parametrize(
    ("text", "size"),
    [("10", 10), ("1.5Gi", 3 << 29), ("2G", 2 * 10**9), ("512Mi", 1 << 29), ("1Pi", 1 << 50), ("7k", 7000), ("0.5", 1)],
)
def test_a_size_is_a_quantity_of_kubernetes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["10 GB", "10GB", "ten", "-1Gi", "1e9", "10Ki5", "0", "Gi", "1.Gi", "10m", "1Ei"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RetentionError, match=r"is not (a size|between)") as raised:
        parse_size(text)
    assert raised.value.exit_code == ExitCode.USAGE


def test_an_old_size_that_means_nothing_here_is_named() -> None:
    with pytest.raises(PluginError, match=r"storage\.size of the old cluster: '1e9' is not a size; give --storage"):
        made(old(storage={"size": "1e9"}))
    assert made(old(storage={"size": "1e9"}), replace(OPTIONS, storage="5Gi"))["storage"] == {"size": "5Gi"}
