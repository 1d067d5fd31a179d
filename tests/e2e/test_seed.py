"""The infrastructure document, section by section: three clusters, default values but for images, a release's life."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.node import Cluster, NodeError, wait_until
from tests.e2e.release import (
    CONTAINER_RESTRICTED,
    RESTRICTED,
    STRANGER,
    Release,
    Run,
    cnpg_cluster,
    databases,
    drop_previous,
    far_off,
    fill,
    fingerprint,
    let_in,
    refusal,
    sql,
    table_lock,
    wait_for_dump_behind_lock,
    wait_healthy,
)
from tests.e2e.statements import STATEMENTS
from tests.lab import chart
from tests.lab.guide import block

pytestmark = pytest.mark.e2e
shows = pytest.mark.shows

NAMES = ("authelia", "kutt", "plausible")
MAJORS: Mapping[str, int] = {"authelia": 17, "kutt": 17, "plausible": 15}
# The default list, with the image of another major version where the server is one.
DATABASES = [*databases("authelia", "kutt"), *databases("plausible", image={"tag": "15-test"})]
OTHER_CRONJOB = "cnpg-pg-dump-backup-15"
INSPECTOR = "job/cnpg-backup-inspect-1 --container retention"
EVERY = timedelta(hours=2)
DOCUMENT_INSPECTOR = (
    "kubectl run backup-inspector --rm -it --restart=Never --image=alpine "
    '--overrides=\'{"spec":{"containers":[{"name":"alpine","image":"alpine","command":["sh"],"stdin":true,"tty":true,'
    '"volumeMounts":[{"name":"backups","mountPath":"/backups"}]}],'
    '"volumes":[{"name":"backups","persistentVolumeClaim":{"claimName":"cnpg-backups-pvc"}}]}}\' -n default'
)


def instance(database: str) -> str:
    """The only instance of a database's cluster."""
    return f"{database}-postgresql-cnpg-1"


@dataclass
class Site:
    """The document's system: its namespace, its release, and a pod that sees the volume."""

    cluster: Cluster
    namespace: str
    release: Release
    notes: str = ""
    inspector: str = ""
    prints: dict[str, str] = field(default_factory=dict)
    due: datetime = datetime(9999, 12, 31, tzinfo=UTC)

    def literal(self, command: str) -> str:
        """A command of the documentation for this namespace, which is `default` but on a cluster of somebody else."""
        return re.sub(r"-n default\b", f"-n {self.namespace}", command)

    def by_plugin(self, key: str) -> str:
        """Do what a statement says by its command of the plugin; what it prints.

        Raises:
            NodeError: It failed.
        """
        return self.release.shell(self.literal(STATEMENTS[key].plugin), 300)

    def get(self, *arguments: str) -> dict[str, Any]:
        return self.cluster.get(*arguments, "-n", self.namespace)

    def exec(self, *command: str, stdin: str | None = None) -> str:
        """Run a command in the pod that sees the volume."""
        return self.cluster.kubectl(
            "exec", "-i", "-n", self.namespace, *self.inspector.split(), "--", *command, stdin=stdin
        )

    def retention(self, *arguments: str) -> Any:
        """What `python3 -m retention … --format json` says in the pod that sees the volume."""
        return json.loads(self.exec("python3", "-m", "retention", *arguments, "--format", "json", "/backups"))

    def archives(self, database: str) -> list[str]:
        """Names of the published archives, oldest first."""
        return sorted(
            name.rsplit("/", 1)[1]
            for name in self.exec("find", f"/backups/{database}", "-name", "*.dump").split()
            if name.startswith("/backups/")
        )

    def newest(self, database: str) -> str:
        return self.archives(database)[-1]

    def metadata(self, archive: str) -> dict[str, Any]:
        database = archive.rsplit("-", 2)[0]
        data: dict[str, Any] = json.loads(self.exec("cat", f"/backups/{database}/{archive.removesuffix('.dump')}.json"))
        return data

    def fingerprint(self, database: str) -> str:
        return fingerprint(self.cluster, self.namespace, instance(database), database)

    def drop_previous(self, database: str, log: str) -> None:
        drop_previous(self.cluster, self.namespace, instance(database), database, log)

    def sql(self, pod: str, database: str, query: str) -> str:
        return sql(self.cluster, self.namespace, pod, database, query)

    def run_all(self) -> list[Run]:
        """Run both CronJobs at the same time, and wait for both."""
        jobs = [self.release.start(), f"other-{time.monotonic_ns()}"]
        self.cluster.kubectl("create", "job", f"--from=cronjob/{OTHER_CRONJOB}", jobs[1], "-n", self.namespace)
        return [self.release.wait(job) for job in jobs]


@pytest.fixture(scope="module")
def namespace(node: Cluster) -> Iterator[str]:
    """`default`, as the document says; on a cluster of somebody else a new one."""
    if node.owned:
        yield "default"
    else:
        with node.namespace("seed") as name:
            yield name


@pytest.fixture(scope="module")
def site(node: Cluster, namespace: str) -> Iterator[Site]:
    """The clusters, not yet ready, and the release, installed beside them as one would."""
    made = [cnpg_cluster(f"{name}-postgresql-cnpg", name, major=MAJORS[name]) for name in NAMES]
    node.apply(*made, namespace=namespace)
    let_in(node, namespace)
    site = Site(node, namespace, Release(node, namespace, own_schedule=True))
    try:
        site.notes = site.release.install({"databases": DATABASES})
        yield site
    finally:
        ours = ("-n", namespace, "-l", "app in (cnpg-backup, second)")
        node.try_kubectl("delete", "cronjobs,jobs,pods", *ours, "--grace-period=1")
        node.try_kubectl("delete", "clusters.postgresql.cnpg.io", "--all", "-n", namespace, "--wait=false")
        node.try_kubectl("delete", "rolebinding", STRANGER, "-n", namespace)
        for release in (site.release, Release(node, namespace, "second")):
            try:
                release.uninstall()
            except NodeError as error:
                if "not found" not in str(error):
                    raise
            node.try_kubectl("delete", "pvc", release.claim, "-n", namespace, "--wait=false")


@pytest.fixture(scope="module")
def data(site: Site) -> Site:
    """Healthy clusters with data, and a further empty cluster for the day when one is lost."""
    wait_healthy(site.cluster, site.namespace, *(f"{name}-postgresql-cnpg" for name in NAMES))
    for number, name in enumerate(NAMES, 1):
        fill(site.cluster, site.namespace, instance(name), name, 1000 * number)
        site.prints[name] = site.fingerprint(name)
    site.cluster.apply(cnpg_cluster("new-cluster", "authelia", major=MAJORS["authelia"]), namespace=site.namespace)
    return site


@pytest.fixture(scope="module")
def armed(data: Site) -> Site:
    """The schedule is one that fires within the next minute or so."""
    soon = datetime.now(UTC) + timedelta(seconds=70)
    data.release.upgrade({"schedule": f"{soon.minute} * * * *"})
    data.due = soon.replace(second=0, microsecond=0)
    return data


@pytest.fixture(scope="module")
def manual(armed: Site) -> Run:
    """The document's manual backup, by its own command."""
    armed.release.shell(
        armed.literal("kubectl create job --from=cronjob/cnpg-pg-dump-backup cnpg-backup-manual -n default")
    )
    return armed.release.wait("cnpg-backup-manual")


@pytest.fixture(scope="module")
def fired(armed: Site, manual: Run) -> Site:  # noqa: ARG001 # one after the other
    """The CronJobs have run by themselves, and will not do so again while the tests last."""
    jobs: dict[str, str] = {}

    def started() -> bool:
        for job in armed.get("jobs")["items"]:
            # Only the CronJob's own controller writes this; `kubectl create job --from` names an owner, too.
            at = job["metadata"].get("annotations", {}).get("batch.kubernetes.io/cronjob-scheduled-timestamp")
            if at and datetime.fromisoformat(at) >= armed.due:
                jobs[job["metadata"]["ownerReferences"][0]["name"]] = job["metadata"]["name"]
        return jobs.keys() >= {"cnpg-pg-dump-backup", OTHER_CRONJOB}

    wait_until("both CronJobs have started a Job by their schedule", started, 150)
    for cronjob, job in jobs.items():
        run = armed.release.wait(job)
        assert run.succeeded, f"{cronjob}: {run}"
    armed.release.upgrade({"schedule": far_off()})
    return armed


@pytest.fixture(scope="module")
def looking(site: Site) -> Site:
    """The pod that sees the volume, made by the commands that `helm install` has printed."""
    if not site.inspector:
        lines = site.notes.split("List the backups", 1)[1].split("\n", 1)[1].split("\n\n", 1)[0]
        make, wait, _ = re.split(r"\n(?=  kubectl)", lines)
        site.release.shell(f"{make}\n{wait}")
        site.inspector = INSPECTOR
    return site


def archive_time(name: str) -> datetime:
    """When the dump of an archive began, by its name."""
    return datetime.strptime(name[-len("20260101-000000.dump") :], "%Y%m%d-%H%M%S.dump").replace(tzinfo=UTC)


def pod_with_claim(name: str, labels: Mapping[str, str], claim: str = "cnpg-backups-pvc") -> dict[str, Any]:
    """A pod that mounts a claim and does nothing."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {
            "securityContext": dict(RESTRICTED),
            "containers": [
                {
                    "name": "sleep",
                    "image": "localhost/busybox:test",
                    "command": ["sleep", "600"],
                    "securityContext": dict(CONTAINER_RESTRICTED),
                    "volumeMounts": [{"name": "backups", "mountPath": "/backups"}],
                }
            ],
            "volumes": [{"name": "backups", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }


def to_stranger(site: Site, manifest: Mapping[str, Any]) -> str:
    """What is said to a stranger's object; empty if it is admitted."""
    return refusal(site.cluster, site.namespace, manifest)


# Architecture, storage, network, access: what is installed.


@shows("cronjob", "schedule", "clusters", "port")
def test_cronjob_of_the_documents_name_asks_three_clusters_every_two_hours(site: Site) -> None:
    cronjob = site.get("cronjob", "cnpg-pg-dump-backup")["spec"]
    assert cronjob["schedule"] == "0 */2 * * *"
    assert cronjob["timeZone"] == "Etc/UTC"
    assert not cronjob["suspend"]
    asked = {}
    for item in site.get("configmaps", "-l", "app=cnpg-backup")["items"]:
        for name, text in item["data"].items():
            if name.endswith(".conf"):
                conf = dict(line.split("=", 1) for line in text.splitlines())
                asked[conf["cluster"]] = (conf["host"], conf["port"])
    assert asked == {
        f"{name}-postgresql-cnpg": (f"{name}-postgresql-cnpg-rw.{site.namespace}.svc", "5432") for name in NAMES
    }


@shows("image")
def test_default_image_is_the_documents_and_another_major_has_its_own_cronjob(site: Site) -> None:
    (plain,) = [
        manifest
        for manifest in chart.render()
        if manifest["kind"] == "CronJob" and manifest["metadata"]["name"] == "cnpg-pg-dump-backup"
    ]
    (dump,) = plain["spec"]["jobTemplate"]["spec"]["template"]["spec"]["initContainers"]
    assert dump["image"] == "docker.io/postgres:16-alpine"
    images = {
        item["metadata"]["name"]: item["spec"]["jobTemplate"]["spec"]["template"]["spec"]["initContainers"][0]["image"]
        for item in site.get("cronjobs", "-l", "app=cnpg-backup")["items"]
        if item["metadata"]["name"].startswith("cnpg-pg-dump-backup")
    }
    assert images == {"cnpg-pg-dump-backup": "localhost/postgres:17-test", OTHER_CRONJOB: "localhost/postgres:15-test"}


@shows("claim", "class")
def test_claim_has_the_documents_name_size_and_class(site: Site) -> None:
    claim = site.get("pvc", "cnpg-backups-pvc")
    assert claim["spec"]["resources"]["requests"] == {"storage": "15Gi"}
    assert claim["spec"]["storageClassName"] == "longhorn"
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


@shows("selector", "ingress", "dns", "egress", "no-egress")
def test_network_policy_has_the_documents_rules_and_no_other(site: Site) -> None:
    spec = site.get("networkpolicy", "cnpg-backup")["spec"]
    # All pods of the release but those that need no database at all.
    without = ["drill", "inspect", "open", "copy", "first-run"]
    apart = {"key": "app.kubernetes.io/component", "operator": "NotIn", "values": without}
    assert spec["podSelector"] == {"matchLabels": {"app": "cnpg-backup"}, "matchExpressions": [apart]}
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    assert not spec.get("ingress"), "something may connect to the backup pods"
    dns, clusters = spec["egress"]
    assert {(p["protocol"], p["port"]) for p in dns["ports"]} >= {("UDP", 53), ("TCP", 53)}
    assert dns["to"], "port 53 is open to everywhere"
    assert clusters["ports"] == [{"protocol": "TCP", "port": 5432}]
    peers = [peer["podSelector"]["matchLabels"] for peer in clusters["to"]]
    assert peers == [{"cnpg.io/cluster": f"{name}-postgresql-cnpg", "cnpg.io/podRole": "instance"} for name in NAMES]


@shows("policy", "guarded", "enforce")
def test_access_policy_of_the_documents_name_is_enforced(site: Site) -> None:
    if site.namespace == "default":
        name = "restrict-cnpg-backup-pvc-access"
    else:
        (name,) = re.findall(r"ValidatingPolicy (restrict-\S+-pvc-access)", site.notes)
    policy = site.cluster.get("validatingpolicies.policies.kyverno.io", name)
    assert policy["spec"]["validationActions"] == ["Deny"]
    assert policy["spec"]["failurePolicy"] == "Fail"
    binding = site.cluster.get("validatingadmissionpolicybindings", name)
    assert "Deny" in binding["spec"]["validationActions"]
    stranger = pod_with_claim("stranger", {"app": "something-else"})
    wait_until("the policy denies a stranger", lambda: name in to_stranger(site, stranger), 60)


@shows("deny")
def test_strangers_pod_is_denied_and_told_what_would_allow_it(site: Site) -> None:
    for labels in ({}, {"app": "cnpg-backup2"}, {"app.kubernetes.io/name": "cnpg-backup"}, {"app": "cnpg-backup"}):
        said = to_stranger(site, pod_with_claim("visitor", labels))
        assert f"{STRANGER} asks to create pods visitor" in said, f"labels {labels}: {said or 'admitted'}"
        assert f"mounts the claim cnpg-backups-pvc in namespace {site.namespace}" in said, said
        assert f"kubectl create rolebinding NAME --namespace={site.namespace} --role=cnpg-backup-operator" in said, said
    other = pod_with_claim("visitor", {}, claim="another-claim")
    assert to_stranger(site, other) == "", "other claims are guarded, too"


@shows("allow")
def test_pod_with_the_label_is_allowed_and_reads_the_volume(site: Site) -> None:
    name = "labelled"
    site.cluster.apply(pod_with_claim(name, {"app": "cnpg-backup"}), namespace=site.namespace)
    try:
        site.cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "-n", site.namespace, "--timeout=60s")
        assert site.cluster.kubectl("exec", "-n", site.namespace, name, "--", "ls", "-d", "/backups").strip()
    finally:
        site.cluster.try_kubectl("delete", "pod", name, "-n", site.namespace, "--grace-period=0", "--force")


@shows("file-cronjob", "file-pvc", "file-network", "file-policy")
def test_each_file_of_the_reference_makes_its_object(site: Site) -> None:
    source, made = "", []
    for line in site.release.run_helm("get", "manifest", "cnpg-backup").splitlines():
        if line.startswith("# Source: "):
            source = line.rsplit("/", 1)[1]
        elif line.startswith("kind: "):
            made.append((source, line.removeprefix("kind: ")))
    assert set(made) >= {
        ("cronjob-backup.yaml", "CronJob"),
        ("pvc.yaml", "PersistentVolumeClaim"),
        ("networkpolicy.yaml", "NetworkPolicy"),
        ("access-kyverno.yaml", "ValidatingPolicy"),
    }


# Operations.


@shows("helm-test")
def test_helm_test_finds_every_database_ready(data: Site) -> None:
    told = data.release.run_helm("test", "cnpg-backup", "--logs")
    for name in NAMES:
        (line,) = [line.split() for line in told.splitlines() if line.startswith(f"{name} ")]
        assert line[1:7] == ["ready", line[2], "primary", line[4], "1", line[6]], told
        assert line[2].startswith(f"{MAJORS[name]}."), told
        assert line[4].startswith("TLSv1"), told


@shows("manual", "logs", "pg-dump")
def test_documents_own_commands_back_up_and_show_the_log(armed: Site, manual: Run) -> None:
    assert manual.succeeded, manual
    log = armed.release.shell(armed.literal("kubectl logs -f job/cnpg-backup-manual -n default"))
    for name in ("authelia", "kutt"):
        assert re.search(rf"^{name}: published {name}-\d{{8}}-\d{{6}}\.dump", log, re.MULTILINE), log
        assert re.search(rf"^{name} +(ok|warning) ", log, re.MULTILINE), log
    assert "databases done" in manual.message


@shows("layout")
def test_archives_lie_where_the_document_says(manual: Run, looking: Site) -> None:
    assert manual.succeeded, manual
    found = looking.exec("find", "/backups", "-mindepth", "1", "-name", "*.dump").split()
    for path in found:
        assert re.fullmatch(r"/backups/([a-z]+)/\1-\d{8}-\d{6}\.dump", path), path
    assert {path.split("/")[2] for path in found} >= {"authelia", "kutt"}
    for line in looking.exec("find", "/backups", "-type", "f", "-printf", "%m %u %p\n").splitlines():
        assert line.startswith("600 "), f"others may read it: {line}"


@shows("list", "deny")
def test_documents_inspector_lists_the_backups_for_who_holds_the_grant_and_nobody_else(
    manual: Run, looking: Site
) -> None:
    assert manual.succeeded, manual
    # No registry here, and no terminal: the image is another, and what one would type is piped in.
    command = DOCUMENT_INSPECTOR.replace('"image":"alpine"', '"image":"localhost/busybox:test"').replace("-it", "-i")
    command = command.replace('"stdin":true,"tty":true,', '"stdin":true,"stdinOnce":true,')
    typed = "echo 'find /backups -name \"*.dump\" -exec ls -lh {} \\;'"
    refused = looking.release.try_shell(looking.literal(f"{typed} | {command} --as={STRANGER}"))
    assert refused.returncode != 0, "a stranger has mounted the claim"
    assert "mounts the claim cnpg-backups-pvc" in " ".join(refused.stderr.split()), refused.stderr
    listed = looking.release.shell(looking.literal(f"{typed} | {command}"))
    assert re.search(r"/backups/authelia/authelia-\d{8}-\d{6}\.dump", listed), listed


@shows("list")
def test_inspector_of_the_notes_lists_the_backups(manual: Run, looking: Site) -> None:
    assert manual.succeeded, manual
    listed = looking.release.shell(
        f"kubectl exec --namespace {looking.namespace} {INSPECTOR} -- "
        'find /backups -name "*.dump" -exec ls -lh {} \\;'
    )
    assert re.search(r"-rw------- .* /backups/authelia/authelia-\d{8}-\d{6}\.dump", listed), listed
    (command,) = [line for line in looking.notes.splitlines() if line.endswith("retention list /backups")]
    told = looking.release.shell(command)
    assert re.search(r"authelia-\d{8}-\d{6}\.dump", told), told
    assert "Hourly" in told, told


@shows("schedule", "clusters", "pg-dump")
@pytest.mark.usefixtures("fired")
def test_cronjobs_fire_by_their_own_schedule(looking: Site) -> None:
    for name in NAMES:
        newest = looking.metadata(looking.newest(name))
        assert newest["cluster"] == f"{name}-postgresql-cnpg"
        assert newest["server_version"].startswith(f"{MAJORS[name]}.")
        assert newest["client_version"].startswith(f"{MAJORS[name]}.")
    looking.release.check_volume()


@shows("unencrypted", "portable")
def test_archive_is_read_without_any_key(fired: Site, looking: Site) -> None:
    archive = f"/backups/kutt/{looking.newest('kutt')}"
    assert fired.exec("head", "-c", "5", archive) == "PGDMP"
    with fired.release.inspector(name="reader") as reader:
        text = fired.cluster.kubectl(
            "exec", "-n", fired.namespace, reader, "--", "pg_restore", "-f", "-", "-t", "items", archive
        )
    assert "c4ca4238a0b923820dcc509a6f75849b" in text, "the first row, md5 of 1, is not in the archive"


def week_of(names: Sequence[str], now: datetime) -> dict[str, list[str]]:
    """Names that runs on every even hour of eight days before now would have given."""
    last = now.replace(minute=0, second=0, microsecond=0, hour=now.hour // 2 * 2) - EVERY
    times = [last - EVERY * number for number in range(8 * 12)]
    return {name: [f"{name}-{moment:%Y%m%d-%H%M%S}" for moment in times] for name in names}


# Copies the oldest archive of each database with its sidecars under other names, as past runs would have left them.
COPY = """
import json, os, pathlib, sys
os.umask(0o077)
for database, bases in json.load(sys.stdin).items():
    folder = pathlib.Path("/backups", database)
    source = min(path.name for path in folder.glob(f"{database}-*.dump")).removesuffix(".dump")
    for base in bases:
        for suffix in (".json", ".dump.sha256", ".dump"):
            content = (folder / (source + suffix)).read_bytes()
            (folder / (base + suffix)).write_bytes(
                content if suffix == ".dump" else content.replace(source.encode(), base.encode())
            )
"""


@shows("hourly", "twelve-hourly", "daily", "reach", "most")
def test_a_week_of_runs_leaves_six_four_and_five(fired: Site, looking: Site) -> None:
    week = week_of(NAMES, archive_time(looking.newest("authelia")))
    fired.exec("python3", "-c", COPY, stdin=json.dumps(week))
    before = {name: looking.archives(name) for name in NAMES}
    assert all(len(archives) > 90 for archives in before.values())

    refused = fired.release.run()
    assert not refused.succeeded, "more than half of all backups went at once, and nobody was asked"
    assert "allowLargePrune" in refused.retention or "allow-large-prune" in refused.retention, refused
    assert set(looking.archives("authelia")) > set(before["authelia"]), "the refused run has deleted backups"

    fired.release.upgrade({"defaults": {"allowLargePrune": True}})
    for run in fired.run_all():
        assert run.succeeded, run
    fired.release.upgrade({"defaults": {"allowLargePrune": False}})

    for plan, listed in zip(looking.retention("plan"), looking.retention("list"), strict=True):
        name = plan["database"]
        assert plan["delete"] == [], f"{name}: a second prune would go on"
        assert Counter(kept["tier"] for kept in plan["keep"]) == {"Hourly": 6, "12-Hourly": 4, "Daily": 5}, plan
        assert [b["name"] for b in listed["backups"]] == [kept["name"] for kept in plan["keep"]]
        assert sorted(kept["name"] for kept in plan["keep"]) == looking.archives(name)
        now = archive_time(looking.newest(name))
        ages: dict[str, list[timedelta]] = {"Hourly": [], "12-Hourly": [], "Daily": []}
        for kept in plan["keep"]:
            ages[kept["tier"]].append(now - archive_time(kept["name"]))
        check_ages(name, ages)
    assert sum(len(looking.archives(name)) for name in NAMES) == 45
    fired.release.check_volume()


def check_ages(name: str, ages: Mapping[str, list[timedelta]]) -> None:
    """The ages are those of the document, the newest backup being a quarter of an hour early for its slot at most."""
    hour, early = timedelta(hours=1), timedelta(minutes=15)
    assert max(ages["Hourly"]) <= 12 * hour, f"{name}: {ages}"
    assert 12 * hour - early <= min(ages["12-Hourly"]), f"{name}: {ages}"
    assert 36 * hour - early <= max(ages["12-Hourly"]) <= 48 * hour, f"{name}: {ages}"
    assert 48 * hour - early <= min(ages["Daily"]), f"{name}: {ages}"
    assert 6 * 24 * hour - early <= max(ages["Daily"]) <= 7 * 24 * hour, f"{name}: {ages}"


@shows("manual", "logs", "list", by="plugin")
def test_plugin_backs_up_shows_the_log_and_lists_the_backups(fired: Site, looking: Site) -> None:
    before = {name: looking.archives(name) for name in NAMES}
    told = fired.by_plugin("manual")
    assert told.splitlines()[-1] == "exit code 0", told
    newest = {name: looking.newest(name) for name in NAMES}
    for name in NAMES:
        assert newest[name] not in before[name], told
        assert f"{name}: published {newest[name]}" in told
    log = fired.by_plugin("logs")
    assert any(f"published {newest[name]}" in log for name in NAMES), log
    listed = fired.by_plugin("list")
    assert re.findall(r"\b[a-z]+-\d{8}-\d{6}\.dump\b", listed) == [
        archive for name in NAMES for archive in reversed(looking.archives(name))
    ]


# Restore.


@shows("restore")
def test_newest_archive_restores_into_the_same_cluster(fired: Site, looking: Site) -> None:
    before, archive = fired.fingerprint("authelia"), looking.newest("authelia")
    fired.sql(instance("authelia"), "authelia", "TRUNCATE items; SET ROLE authelia; CREATE TABLE wrong (id int)")
    assert fired.fingerprint("authelia") != before

    source = f"kubectl exec -n default {INSPECTOR} -- cat /backups/authelia/{archive}"
    target = "kubectl exec -i authelia-postgresql-cnpg-1 -n default -c postgres -- pg_restore"
    literal = fired.release.try_shell(fired.literal(f"{source} | {target} -U authelia -d authelia -c"))
    assert literal.returncode != 0
    assert "Peer authentication failed" in literal.stderr, literal.stderr

    log = fired.release.shell(f"N={fired.namespace} D=authelia\n" + block("whole"))
    fired.drop_previous("authelia", log)
    assert fired.fingerprint("authelia") == before
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'items'"
    assert fired.sql(instance("authelia"), "authelia", owner) == "authelia"


@shows("restore", by="plugin")
def test_plugin_restores_into_the_same_cluster(fired: Site, looking: Site) -> None:
    before = fired.fingerprint("authelia")
    fired.sql(instance("authelia"), "authelia", "DELETE FROM items WHERE id % 2 = 0")
    assert fired.fingerprint("authelia") != before
    told = fired.by_plugin("restore")
    assert f"restored {looking.newest('authelia')} into 'authelia'" in told, told
    fired.drop_previous("authelia", told)
    assert fired.fingerprint("authelia") == before


@shows("restore")
def test_owner_restores_over_the_network_from_a_pod_that_sees_the_volume(fired: Site, looking: Site) -> None:
    before, archive = fired.fingerprint("kutt"), looking.newest("kutt")
    fired.sql(instance("kutt"), "kutt", "DROP TABLE items")
    secret = {"secretKeyRef": {"name": "kutt-postgresql-cnpg-app", "key": "password"}}
    pod = pod_with_claim("restore-kutt", {"app": "cnpg-backup"})
    pod["spec"]["restartPolicy"] = "Never"
    pod["spec"]["containers"][0] |= {
        "image": "localhost/postgres:17-test",
        "command": ["pg_restore", "--clean", "--if-exists", "--no-owner", "--exit-on-error"],
        "args": [
            "-h",
            f"kutt-postgresql-cnpg-rw.{fired.namespace}.svc",
            "-U",
            "kutt",
            "-d",
            "kutt",
            f"/backups/kutt/{archive}",
        ],
        "env": [{"name": "PGPASSWORD", "valueFrom": secret}, {"name": "PGSSLMODE", "value": "require"}],
    }
    fired.cluster.apply(pod, namespace=fired.namespace)
    phase = "--for=jsonpath={.status.phase}=Succeeded"
    fired.cluster.kubectl("wait", phase, "pod/restore-kutt", "-n", fired.namespace, "--timeout=90s")
    assert fired.fingerprint("kutt") == before


@shows("new-cluster", "portable")
def test_new_cluster_is_made_from_a_backup(
    fired: Site, looking: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("out") / "authelia.dump"
    archive = looking.newest("authelia")
    (pod,) = fired.get("pods", "-l", "job-name=cnpg-backup-inspect-1")["items"]
    source = f"{pod['metadata']['name']}:/backups/authelia/{archive}"
    fired.release.shell(fired.literal(f"kubectl cp -n default -c inspect {source} {copy}"))
    wait_healthy(fired.cluster, fired.namespace, "new-cluster")
    assert fired.sql("new-cluster-1", "authelia", "SELECT to_regclass('items') IS NULL") == "t"
    fired.release.shell(
        fired.literal(
            f"kubectl exec -i new-cluster-1 -n default -c postgres -- pg_restore -d authelia --exit-on-error < {copy}"
        )
    )
    assert fingerprint(fired.cluster, fired.namespace, "new-cluster-1", "authelia") == fired.fingerprint("authelia")
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'items'"
    assert fired.sql("new-cluster-1", "authelia", owner) == "authelia"


@shows("new-cluster", by="plugin")
def test_plugin_makes_a_new_cluster_from_a_backup(fired: Site, looking: Site) -> None:
    before = fired.fingerprint("authelia")
    told = fired.by_plugin("new-cluster")
    assert looking.newest("authelia") in told, told
    assert fingerprint(fired.cluster, fired.namespace, "authelia-2-1", "authelia") == before


# A release's life.


@shows("upgrade")
def test_upgrade_leaves_a_run_under_way_alone(fired: Site, looking: Site) -> None:
    place = (fired.cluster, fired.namespace, instance("authelia"), "authelia")
    with table_lock(*place) as release_lock:
        job = fired.release.start()
        wait_for_dump_behind_lock(fired.cluster, fired.namespace, [instance("authelia")], "authelia")
        fired.release.upgrade({"defaults": {"compression": "gzip:3"}})
        release_lock()
        run = fired.release.wait(job)
    assert run.succeeded, run
    assert looking.metadata(looking.newest("authelia"))["compression"] == "zstd:1"
    following = fired.release.run()
    assert following.succeeded, following
    assert looking.metadata(looking.newest("authelia"))["compression"] == "gzip:3"


@shows("two", "encrypted", "longhorn", "helm-test")
def test_two_releases_in_one_namespace_share_nothing(fired: Site, looking: Site) -> None:
    encrypted = {
        key: value
        for key, value in fired.cluster.get("storageclass", "longhorn").items()
        if key in ("apiVersion", "kind", "provisioner", "reclaimPolicy", "volumeBindingMode", "parameters")
    }
    fired.cluster.apply({**encrypted, "metadata": {"name": "longhorn-encrypted"}})
    labels = {"recurring-job.longhorn.io/source": "enabled", "recurring-job-group.longhorn.io/default": "enabled"}
    second = Release(fired.cluster, fired.namespace, "second", helm="helm3")
    second.install(
        {
            "databases": databases("kutt", "ghost"),
            "persistence": {"storageClassName": "longhorn-encrypted", "size": "1Gi", "labels": labels},
        }
    )
    before = {name: looking.archives(name) for name in NAMES}
    run = second.run()
    assert not run.succeeded, run
    assert "published kutt-" in run.retention, run
    assert "does the Secret exist" in run.retention, run
    assert {name: len(found) for name, found in second.check_volume().items()} == {"kutt": 1}
    assert {name: looking.archives(name) for name in NAMES} == before

    claim = fired.get("pvc", "second-backups")
    assert claim["spec"]["storageClassName"] == "longhorn-encrypted"
    assert labels.items() <= claim["metadata"]["labels"].items()
    for app, other in (("second", "cnpg-backups-pvc"), ("cnpg-backup", "second-backups")):
        assert f"mounts the claim {other}" in to_stranger(fired, pod_with_claim("visitor", {"app": app}, claim=other))

    with pytest.raises(NodeError):
        second.run_helm("test", "second")
    log = fired.cluster.kubectl("logs", "-n", fired.namespace, "second-pg-dump-test")
    assert re.search(r"^kutt +ready ", log, re.MULTILINE), log
    assert re.search(r"^ghost +FAILED .*does the Secret exist", log, re.MULTILINE), log
    second.uninstall()
    assert fired.release.run().succeeded, "the end of one release has hurt the other"


@shows("uninstall")
def test_uninstall_keeps_the_backups_and_a_reinstall_adopts_them(fired: Site, looking: Site) -> None:
    before = {name: looking.archives(name) for name in NAMES}
    claim = fired.get("pvc", "cnpg-backups-pvc")["metadata"]["uid"]
    fired.release.uninstall()
    assert fired.get("cronjobs,networkpolicies", "-l", "app=cnpg-backup")["items"] == []
    kept = fired.get("pvc", "cnpg-backups-pvc")["metadata"]
    assert kept["uid"] == claim
    # A claim in use outlives its deletion for a while.
    assert "deletionTimestamp" not in kept, "helm uninstall has deleted the claim"
    # The pod that looked on was of the release, and went with it.
    assert {name: fired.release.listing().get(name, []) for name in NAMES} == before
    fired.release.install({"databases": DATABASES})
    assert fired.get("pvc", "cnpg-backups-pvc")["metadata"]["uid"] == claim
    run = fired.release.run()
    assert run.succeeded, run
    after = fired.release.listing()
    for name in ("authelia", "kutt"):
        assert len(set(after[name]) & set(before[name])) >= len(before[name]) - 1, "backups are gone"
        assert after[name][-1] not in before[name]
    assert "empty volume" not in run.retention, run
