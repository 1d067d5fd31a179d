"""Each alert on a real cluster: its fault is made, Prometheus finds it, it arrives; it is cured, and that arrives, too.

All faults are made at once, in three releases, and cured at once: the waiting is the same for one of them and for all.
What each runbook says to look at is run while its alert fires.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.alerting import Alerting, alerting
from tests.e2e.node import Node
from tests.e2e.release import Release, cnpg_cluster, plant, sql, tool, wait_healthy
from tests.e2e.sinks import Key
from tests.lab.chart import ROOT
from tests.lab.guide import blocks

pytestmark = [pytest.mark.e2e, pytest.mark.long]

CLUSTER = "pg"
ALPHA, BETA, GAMMA = "alpha", "beta", "gamma"
KEPT = {"retention": {"tiers": [{"name": "All", "every": "1s", "keep": 200}]}}
ONE = {"retention": {"tiers": [{"name": "One", "every": "1s", "keep": 1}]}}
ENOUGH_ROWS = 3000
"""What the drill of `late` wants to find; there are fewer."""
GONE = "alpha-pg-dump-15"

SUBJECTS: dict[str, Key] = {
    name: (name, release, subject)
    for name, release, subject in (
        ("CnpgBackupFailing", ALPHA, "wrong-login"),
        ("CnpgBackupBadArchive", ALPHA, "rotten"),
        ("CnpgBackupPruneRefused", ALPHA, "thinned"),
        ("CnpgBackupNone", ALPHA, "fresh"),
        ("CnpgBackupVolumeFull", ALPHA, ""),
        ("CnpgBackupCronJobMissing", ALPHA, GONE),
        ("CnpgBackupStale", BETA, "late"),
        ("CnpgBackupDrillFailed", BETA, "late"),
        ("CnpgBackupDrillStale", BETA, "late"),
        ("CnpgBackupStatusDown", GAMMA, ""),
        ("CnpgBackupRunsStale", GAMMA, "gamma-pg-dump"),
        ("CnpgBackupSuspended", GAMMA, "unwatched"),
    )
}
FAULTS = {
    "CnpgBackupFailing": "the password in the Secret is wrong",
    "CnpgBackupBadArchive": "one bit of an archive is turned",
    "CnpgBackupPruneRefused": "the tiers are reduced from 200 backups to 1",
    "CnpgBackupNone": "a new database, whose Secret is missing",
    "CnpgBackupVolumeFull": "another file fills the volume",
    "CnpgBackupCronJobMissing": "the CronJob is deleted",
    "CnpgBackupStale": "the password is wrong, for longer than a backup may be old",
    "CnpgBackupDrillFailed": "the data do not hold what `drillAssertions` ask for",
    "CnpgBackupDrillStale": "no drill succeeds, for longer than that may be",
    "CnpgBackupStatusDown": "the watcher is scaled to 0",
    "CnpgBackupRunsStale": "the watcher is gone, and no run succeeds",
    "CnpgBackupSuspended": "`kubectl cnpg-backup suspend`",
}
OF_STORES = {"CnpgBackupOffsiteStale"}
"""Alerts that need a store outside the cluster; promtool tests them."""
ALSO = {
    ("CnpgBackupNone", ALPHA, "gone"),
    ("CnpgBackupNone", GAMMA, "unwatched"),
    ("CnpgBackupStale", BETA, "late"),
    ("CnpgBackupStale", GAMMA, "unwatched"),
    ("CnpgBackupFailing", BETA, "late"),
    ("CnpgBackupFailing", ALPHA, "fresh"),
    ("CnpgBackupStatusDown", ALPHA, ""),
    ("CnpgBackupStatusDown", BETA, ""),
    ("CnpgBackupDrillStale", BETA, "late"),
    ("CnpgBackupDrillStale", GAMMA, "unwatched"),
}
"""What else may fire: a database whose CronJob is gone, or that has never had a backup; what a minute without a backup
makes too old; and a watcher that an upgrade replaces, which here may not be away for the 15 minutes that users have."""


@dataclass
class Story:
    """What happened.

    Attributes:
        made: When the command began that made each fault, or let a run meet it, by alert and `time.monotonic`.
        cured: When the command began that cured it, or let a run see that. An alert may be over before it ends.
        looked: What each command of a page printed, by alert.
    """

    alerting: Alerting
    made: dict[str, float] = field(default_factory=dict)
    cured: dict[str, float] = field(default_factory=dict)
    looked: dict[str, list[tuple[str, subprocess.CompletedProcess[str]]]] = field(default_factory=dict)


class Site:
    """Three releases that back up databases of one cluster."""

    def __init__(self, node: Node, namespace: str) -> None:
        self.node, self.namespace = node, namespace
        self.alpha, self.beta, self.gamma = (Release(node, namespace, name) for name in (ALPHA, BETA, GAMMA))
        self.releases = (self.alpha, self.beta, self.gamma)

    def shell(self, script: str) -> str:
        return self.releases[0].shell(self._here(script), seconds=300)

    def try_shell(self, script: str) -> subprocess.CompletedProcess[str]:
        return self.releases[0].try_shell(self._here(script), seconds=300)

    def _here(self, script: str) -> str:
        return f"PATH={tool('helm').parent}:$PATH\nN={self.namespace}\n{script}"

    def login(self, name: str, password: str | None = None) -> None:
        """Make a Secret with the login of the databases' owner, or with another password."""
        data = dict(self.node.get("secret", f"{CLUSTER}-app", "-n", self.namespace)["data"])
        login = {key: data[key] for key in ("username", "password")}
        if password is not None:
            login["password"] = base64.b64encode(password.encode()).decode()
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": login}
        self.node.apply(secret, namespace=self.namespace)

    def entry(self, name: str, login: str = "", **more: Any) -> dict[str, Any]:
        secret = {"secret": {"name": login}} if login else {}
        return {"name": name, "cluster": CLUSTER, **secret, **more}

    def of_alpha(self, *more: dict[str, Any], **thinned: Any) -> dict[str, Any]:
        entries = [
            self.entry("steady"),
            self.entry("wrong-login", "login-1"),
            self.entry("rotten"),
            self.entry("thinned", **thinned),
            self.entry("gone", image={"tag": "15-test"}),
            *more,
        ]
        return {"databases": entries}

    def install(self) -> None:
        common: dict[str, Any] = {
            "monitoring": {"enabled": True},
            "persistence": {"size": "256Mi", "keep": False},
            "defaults": {"waitTimeout": 1, "retries": 0},
            **KEPT,
        }
        soon = {"monitoring": {"enabled": True, "staleAfter": 60, "drillStaleAfter": 60}}
        enough = f"SELECT count(*) >= {ENOUGH_ROWS} FROM items"
        values: list[dict[str, Any]] = [
            self.of_alpha(),
            {"databases": [self.entry("late", "login-2", drillAssertions=[enough])], **soon},
            {"databases": [self.entry("unwatched", "login-3")], **soon},
        ]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda pair: pair[0].install({**common, **pair[1]}), zip(self.releases, values, strict=True)))

    def at_once(self, *work: Callable[[], object]) -> list[object]:
        with ThreadPoolExecutor() as pool:
            return [done.result() for done in [pool.submit(one) for one in work]]

    def flip(self, database: str) -> None:
        """Turn one bit in the middle of the newest archive of a database, as a bad disk does."""
        script = (
            "cd /backups/$1 && f=$(ls *.dump | tail -n 1) && n=$(($(stat -c %s $f) / 2)) && "
            'b=$(od -An -tu1 -j $n -N 1 $f) && printf "\\\\$(printf %03o $((b ^ 1)))" | '
            "dd of=$f bs=1 seek=$n conv=notrunc 2>/dev/null"
        )
        self.alpha.on_volume("sh", "-euc", script, "flip", database)

    def fill_volume(self) -> None:
        """Leave 8 MB of room on the volume."""
        script = (
            "room=$(df -Pk /backups | awk 'NR == 2 {print $4}') && "
            "head -c $(((room - 8192) * 1024)) /dev/zero >/backups/other"
        )
        self.alpha.on_volume("sh", "-euc", script)


@pytest.fixture(scope="module")
def site(own_node: Node) -> Iterator[Site]:
    with own_node.namespace("alerts") as namespace:
        site = Site(own_node, namespace)
        own_node.apply(cnpg_cluster(CLUSTER, "app"), namespace=namespace)
        try:
            site.install()
            wait_healthy(own_node, namespace, CLUSTER)
            for database in ("steady", "wrong-login", "rotten", "thinned", "gone", "fresh", "late", "unwatched"):
                sql(own_node, namespace, f"{CLUSTER}-1", "app", f'CREATE DATABASE "{database}" OWNER app;')
                rows = "SELECT g AS id, md5(g::text) AS name FROM generate_series(1, 2000) g"
                table = f"SET ROLE app; CREATE TABLE items AS {rows};"
                sql(own_node, namespace, f"{CLUSTER}-1", database, table)
            for number in (1, 2):
                site.login(f"login-{number}")
            yield site
        finally:
            for release in site.releases:
                release.uninstall()


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


@pytest.fixture(scope="module")
def story(site: Site) -> Iterator[Story]:
    """Everything that happens, once."""
    with ExitStack() as stack:
        stack.enter_context(site.alpha.kept_inspector())
        for run in site.at_once(site.alpha.run, site.beta.run):
            assert run.succeeded, run  # type: ignore[attr-defined]
        story = Story(stack.enter_context(alerting(site.node, *site.releases, backed_up=5)))
        make_faults(site, story)
        waiting = [key for name, key in SUBJECTS.items() if name != "CnpgBackupSuspended"]
        story.alerting.wait_delivered(waiting, 180)
        say("all but one have arrived")
        look(site, story, [name for name in SUBJECTS if name != "CnpgBackupSuspended"])
        say("looked")
        cure(site, story)
        yield story


def make_faults(site: Site, story: Story) -> None:
    def now(*alerts: str) -> None:
        story.made |= dict.fromkeys(alerts, time.monotonic())
        say(f"made: {', '.join(alerts)}")

    def of_alpha() -> None:
        plant(site.alpha, "thinned", *range(1, 9))
        site.flip("rotten")
        site.shell("kubectl cnpg-backup verify rotten -n $N --release alpha || [ $? = 1 ]")
        site.login("login-1", "wrong")
        site.fill_volume()
        site.alpha.upgrade(site.of_alpha(site.entry("fresh", "login-4"), **ONE))
        now("CnpgBackupCronJobMissing")
        site.node.kubectl("delete", "cronjob", GONE, "-n", site.namespace)
        now(
            "CnpgBackupFailing",
            "CnpgBackupBadArchive",
            "CnpgBackupPruneRefused",
            "CnpgBackupVolumeFull",
            "CnpgBackupNone",
        )
        run = site.alpha.run()
        assert not run.succeeded, run

    def of_beta() -> None:
        site.login("login-2", "wrong")
        now("CnpgBackupStale")
        run = site.beta.run()
        assert not run.succeeded, run
        now("CnpgBackupDrillFailed", "CnpgBackupDrillStale")
        site.shell("kubectl cnpg-backup drill late -n $N --release beta || [ $? = 1 ]")

    def of_gamma() -> None:
        now("CnpgBackupStatusDown", "CnpgBackupRunsStale")
        site.shell("kubectl scale deployment gamma-status --replicas=0 -n $N")
        run = site.gamma.run()
        assert not run.succeeded, run

    site.at_once(of_alpha, of_beta, of_gamma)


def page(alert: str) -> str:
    return (ROOT / "docs" / "runbooks" / f"{alert}.md").read_text()


def commands(alert: str, site: Site) -> list[str]:
    """What the page of an alert says to look at, with the labels of the alert."""
    look = page(alert).split("\n## Look\n")[1].split("\n## ")[0]
    _, release, subject = SUBJECTS[alert]
    database = subject if subject != GONE else ""
    found = [line for _, language, text in blocks(look) if language == "sh" for line in text.splitlines()]
    for name, value in (
        ("NAMESPACE", site.namespace),
        ("RELEASE", release),
        ("DATABASE", database),
        ("CRONJOB", subject),
    ):
        found = [line.replace(name, value) for line in found]
    return found


def look(site: Site, story: Story, alerts: list[str]) -> None:
    """Run what the pages of these alerts say to look at; what several of them say, once."""
    wanted = {alert: commands(alert, site) for alert in alerts}
    once = sorted({line for lines in wanted.values() for line in lines})
    with ThreadPoolExecutor(3) as pool:
        printed = dict(zip(once, pool.map(site.try_shell, once), strict=True))
    story.looked |= {alert: [(line, printed[line]) for line in lines] for alert, lines in wanted.items()}


def cure(site: Site, story: Story) -> None:
    """Do what the pages say."""

    def now(*alerts: str) -> None:
        story.cured |= dict.fromkeys(alerts, time.monotonic())
        say(f"cured: {', '.join(alerts)}")

    def of_alpha() -> None:
        site.login("login-1")
        site.login("login-4")
        site.alpha.on_volume("rm", "/backups/other")
        site.alpha.on_volume("find", "/backups/rotten", "-name", "*.bad", "-exec", "rm", "{}", "+")
        now("CnpgBackupCronJobMissing")
        site.alpha.upgrade(site.of_alpha(site.entry("fresh", "login-4"), **ONE, allowLargePrune=True))
        now(
            "CnpgBackupFailing",
            "CnpgBackupBadArchive",
            "CnpgBackupPruneRefused",
            "CnpgBackupVolumeFull",
            "CnpgBackupNone",
        )
        run = site.alpha.run()
        assert run.succeeded, run

    def of_beta() -> None:
        site.login("login-2")
        now("CnpgBackupStale")
        run = site.beta.run()
        assert run.succeeded, run
        # A drill restores an older backup, too: the assertion is what was wrong.
        right = "SELECT count(*) >= 1000 FROM items"
        site.beta.upgrade({"databases": [site.entry("late", "login-2", drillAssertions=[right])]})
        now("CnpgBackupDrillFailed", "CnpgBackupDrillStale")
        site.shell("kubectl cnpg-backup drill late -n $N --release beta")

    def of_gamma() -> None:
        site.login("login-3")
        now("CnpgBackupRunsStale")
        run = site.gamma.run()
        assert run.succeeded, run
        story.alerting.wait_over([SUBJECTS["CnpgBackupRunsStale"]], 60, story.cured["CnpgBackupRunsStale"])
        now("CnpgBackupStatusDown")
        site.shell("kubectl scale deployment gamma-status --replicas=1 -n $N")
        story.alerting.wait_over([SUBJECTS["CnpgBackupStatusDown"]], 120, story.cured["CnpgBackupStatusDown"])
        suspend()

    def suspend() -> None:
        story.made["CnpgBackupSuspended"] = time.monotonic()
        site.shell("kubectl cnpg-backup suspend -n $N --release gamma --reason 'a test'")
        story.alerting.wait_delivered([SUBJECTS["CnpgBackupSuspended"]], 90)
        look(site, story, ["CnpgBackupSuspended"])
        now("CnpgBackupSuspended")
        site.shell("kubectl cnpg-backup resume -n $N --release gamma")
        story.alerting.wait_over([SUBJECTS["CnpgBackupSuspended"]], 120, story.cured["CnpgBackupSuspended"])

    site.at_once(of_alpha, of_beta, of_gamma)
    for name, key in SUBJECTS.items():
        story.alerting.wait_over([key], 120, story.cured[name])
    say("all are over")


def times(story: Story, alert: str) -> tuple[float, float, float, float]:
    """Seconds from the fault until it fired, and arrived; from the cure until it was over, and that arrived."""
    key, made, cured = SUBJECTS[alert], story.made[alert], story.cured[alert]
    spans = [span for span in story.alerting.intervals(key) if span[1] is not None and span[1] >= cured]
    assert spans, f"{alert} never ended after its cure: {story.alerting.intervals(key)}"
    began, ended = spans[0]
    assert ended is not None
    assert began < cured, f"{alert} did not fire all the time from its fault to its cure"
    received = story.alerting.received
    arrived = received.of(key, resolved=False)[0].at
    return began - made, arrived - made, ended - cured, received.of(key, resolved=True, since=cured)[0].at - cured


def test_every_alert_is_here() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert set(SUBJECTS) == set(FAULTS) == pages - OF_STORES


@pytest.mark.parametrize("alert", SUBJECTS)
def test_alert_fires_arrives_and_is_over_after_the_cure(story: Story, alert: str) -> None:
    fired, arrived, ended, told = times(story, alert)
    print(f"\n| {alert} | {FAULTS[alert]} | {fired:.0f} s | {arrived:.0f} s | {ended:.0f} s | {told:.0f} s |")
    (first, *_) = story.alerting.received.of(SUBJECTS[alert], resolved=False)
    annotations = first.alert["annotations"]
    assert annotations["runbook_url"].endswith(f"/runbooks/{alert}.md")
    assert "{{" not in json.dumps(annotations), "a template was not filled in"
    _, release, subject = SUBJECTS[alert]
    named = subject or release
    assert named in annotations["summary"] + annotations["description"], annotations


def test_nothing_else_has_fired(story: Story) -> None:
    print(f"made: {story.made}\ncured: {story.cured}")
    others = story.alerting.fired - set(SUBJECTS.values()) - ALSO
    assert not others, {key: story.alerting.intervals(key) for key in others}
    assert not [key for key in story.alerting.fired if key[2] == "steady"]


@pytest.mark.parametrize("alert", SUBJECTS)
def test_what_the_page_says_to_look_at_can_be_looked_at(story: Story, alert: str) -> None:
    for line, done in story.looked[alert]:
        said = f"{line}\n{done.stdout}{done.stderr}"
        # The plugin ends with 1 where it has found something wrong.
        assert done.returncode in ((0, 1) if "cnpg-backup" in line.split() else (0,)), said
        assert "Traceback" not in said, said
        assert done.stdout or done.stderr, said


@pytest.mark.parametrize("alert", SUBJECTS)
def test_the_first_cause_of_the_page_is_what_is_printed(story: Story, alert: str) -> None:
    first = re.split(r"\n\* ", page(alert).split("\n## Causes, likeliest first\n")[1])[1]
    sign = re.search(r"says\s+`([^`]+)`", first)
    assert sign, f"the first cause has no sign: {first}"
    printed = "\n".join(done.stdout for _, done in story.looked[alert])
    assert " ".join(sign[1].split()) in " ".join(printed.split()), f"nothing prints '{sign[1]}':\n{printed}"
