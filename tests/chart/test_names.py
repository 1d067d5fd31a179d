"""Names: the seed's for the release `cnpg-backup`, its own for any other, none too long, and no two alike."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
import yaml

from tests.chart.common import LONGEST_RELEASE, backups, pod_specs, rendered, title
from tests.chart.test_objects import CLUSTER_SCOPED
from tests.lab import chart

LIMITS = {"CronJob": 52, "ValidatingPolicy": 63, "ClusterPolicy": 63, "ValidatingAdmissionPolicy": 63}
CI = chart.CHART / "ci"


def names(values: Path | None, release: str, namespace: str) -> set[tuple[str, str, str]]:
    """What identifies the objects in a cluster: kind, namespace (empty where it has none) and name."""
    return {
        (manifest["kind"], "" if manifest["kind"] in CLUSTER_SCOPED else namespace, manifest["metadata"]["name"])
        for manifest in rendered(values, release, namespace)
    }


def test_the_default_release_has_the_names_of_the_description() -> None:
    found = {(kind, name) for kind, _, name in names(None, "cnpg-backup", "default")}
    assert found >= {
        ("CronJob", "cnpg-pg-dump-backup"),
        ("PersistentVolumeClaim", "cnpg-backups-pvc"),
        ("ValidatingPolicy", "restrict-cnpg-backup-pvc-access"),
        ("ValidatingAdmissionPolicy", "restrict-cnpg-backup-pvc-access"),
        ("NetworkPolicy", "cnpg-backup"),
        ("ServiceAccount", "cnpg-backup"),
    }
    for owner, metadata, _ in pod_specs(rendered()):
        assert metadata["labels"]["app"] == "cnpg-backup", owner


RELEASES = [
    ("cnpg-backup", "default"),
    ("cnpg-backup", "other"),
    ("cnpg", "default"),
    ("cnpg-backups", "default"),
    ("cnpg-backup-cnpg-backup", "default"),
    ("default-cnpg-backup", "default"),
    ("backup", "default-cnpg"),
    ("cnpg-backup", "default-default"),
    ("default-cnpg-backup", "default-default"),
    ("cnpg-pg-dump", "default"),
    ("cnpg-pg-dump-17", "default"),
    ("cnpg.backup", "default"),
    ("a-release-with-a-name-of-fifty-three-characters-in-it", "default"),
    ("a-release-with-a-name-of-fifty-three-characters-in-at", "default"),
    ("a-release-with-a-name-of-fifty-three-characters-in", "default"),
    ("a-release-with-a-name-of-fifty-three-characters-in-it", "other"),
]


NEAR = [pair for pair in RELEASES if pair[1] == "default" and pair[0].startswith(("cnpg", "a-release"))]
"""Those whose CronJobs would meet first, were a shard's name put to the release's without care."""


@pytest.mark.parametrize(
    ("file", "releases"),
    [("three-majors", RELEASES), ("sharded", NEAR), ("per-database", NEAR)],
    ids=["images", "shards", "databases"],
)
@pytest.mark.sample(1)
def test_no_two_releases_share_an_object(file: str, releases: list[tuple[str, str]]) -> None:
    path = CI / f"{file}-values.yaml"
    every = {(release, namespace): names(path, release, namespace) for release, namespace in releases}
    for (one, first), (other, second) in itertools.combinations(every.items(), 2):
        assert not first & second, f"the releases {one} and {other} share {first & second}"


def test_releases_of_one_name_in_two_namespaces_share_nothing_of_the_cluster() -> None:
    teams = {team: names(CI / f"{team}-values.yaml", "backup", team) for team in ("team-a", "team-b")}
    assert len(teams["team-a"]) >= 6
    assert not teams["team-a"] & teams["team-b"]


def test_no_two_releases_of_a_namespace_select_each_others_pods() -> None:
    labels = [rendered(None, release)[0]["metadata"]["labels"]["app"] for release in dict(RELEASES)]
    assert len(labels) == len(set(labels)), labels


def test_no_name_is_too_long(ci_file: Path) -> None:
    for manifest in rendered(ci_file, LONGEST_RELEASE, "elsewhere"):
        name = manifest["metadata"]["name"]
        assert len(name) <= LIMITS.get(manifest["kind"], 253), f"{title(manifest)}: {len(name)} characters"
        for label, value in manifest["metadata"]["labels"].items():
            assert len(value) <= 63, f"{title(manifest)}: label {label} has {len(value)} characters"


def test_names_that_look_like_numbers_stay_names() -> None:
    for manifest in rendered(None, "123", "456"):
        name, namespace = manifest["metadata"]["name"], manifest["metadata"].get("namespace", "456")
        labels = manifest["metadata"]["labels"]
        strings = [name, namespace, *labels.values()]
        assert all(isinstance(text, str) for text in strings), f"{manifest['kind']}: {strings}"


def test_another_image_renames_no_cronjob() -> None:
    """Each CronJob keeps its name, and so its Jobs and logs, when a database with a new image is added."""
    images = ["16-alpine", "17-alpine", "17.6-alpine3.22", "17.7-alpine3.22", "bookworm", "trixie"]
    databases = [{"name": f"db{n}", "cluster": "app", "image": {"tag": tag}} for n, tag in enumerate(images)]
    before: dict[str, str] = {}
    for count in range(1, len(images) + 1):
        jobs = backups(chart.render({"databases": databases[:count]}))
        now = {m["spec"]["jobTemplate"]["spec"]["template"]["spec"]["initContainers"][0]["image"]: m for m in jobs}
        found = {image: manifest["metadata"]["name"] for image, manifest in now.items()}
        assert before.items() <= found.items(), f"{count} images: {found} instead of {before}"
        assert len(set(found.values())) == count, found
        before = found


@pytest.mark.parametrize("values", [{"nameOverride": "nightly"}, {"fullnameOverride": "nightly"}])
def test_an_override_renames_everything(values: dict[str, str]) -> None:
    plain = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in chart.render()}
    other = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in chart.render(values)}
    assert not plain & other, plain & other


def test_a_changed_configuration_makes_a_new_configmap_and_an_unchanged_one_none() -> None:
    def configs(values: dict[str, object] | None) -> set[str]:
        return {m["metadata"]["name"] for m in chart.render(values) if m["kind"] == "ConfigMap"}

    assert configs(None) == configs({"suspend": True})
    changed = configs(None) - configs({"defaults": {"retries": 2}})
    assert {name.rsplit("-", 1)[0] for name in changed} == {"cnpg-pg-dump-backup-config", "cnpg-backup-restore-config"}


def test_a_parent_chart_may_have_it_twice(tmp_path: Path) -> None:
    shutil.copytree(chart.CHART, tmp_path / "charts" / "cnpg-backup")
    version = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())["version"]
    twice = [
        {"name": "cnpg-backup", "version": version},
        {"name": "cnpg-backup", "version": version, "alias": "nightly"},
    ]
    parent = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": twice}
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(parent))
    found = [
        title(manifest) for manifest in chart.render({"global": {"imageRegistry": "x.io"}}, "apps", chart=tmp_path)
    ]
    assert len(found) == 2 * len(rendered(kyverno=False)), found
    assert len(set(found)) == len(found), found
