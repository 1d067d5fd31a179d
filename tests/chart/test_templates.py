"""How the templates are written: lines that fit a screen, one builder of containers, one name for each define."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.lab import chart
from tests.lab.chart import CHART

TEMPLATES = sorted(path for path in (CHART / "templates").rglob("*") if path.is_file())
LONGEST_LINE = 140
BUILDER = "_containers.tpl"


def each(path: Path) -> str:
    """The name of a template in a test's name."""
    return str(path.relative_to(CHART / "templates"))


@pytest.mark.parametrize("path", TEMPLATES, ids=each)
def test_no_line_of_a_template_is_longer_than_140_characters(path: Path) -> None:
    lines = enumerate(path.read_text().splitlines(), 1)
    long = [f"{each(path)}:{number}: {len(line)}" for number, line in lines if len(line) > LONGEST_LINE]
    assert not long, "\n".join(long)


@pytest.mark.parametrize("path", TEMPLATES, ids=each)
def test_exactly_one_template_makes_containers(path: Path) -> None:
    """Each container has an image, mounts and a security context; nothing but the builder writes them."""
    keys = re.findall(
        r"^ *(?:- )?(image|imagePullPolicy|volumeMounts|terminationMessagePolicy):", path.read_text(), re.MULTILINE
    )
    made = re.findall(r'include "cnpg-backup\.containerSecurityContext"', path.read_text())
    if path.name == BUILDER:
        assert (keys.count("image"), keys.count("volumeMounts"), len(made)) == (3, 3, 3), (
            "one for Python, one for PostgreSQL, one for rclone"
        )
    else:
        assert not keys, f"{each(path)} writes {keys} itself; {BUILDER} does that"
        assert not made, f"{each(path)} makes a container itself; {BUILDER} does that"


def test_every_define_is_used_and_defined_once_and_named_like_the_others() -> None:
    text = "".join(path.read_text() for path in TEMPLATES)
    defined = re.findall(r'define "([^"]+)"', text)
    assert len(defined) == len(set(defined)), "a define is there twice: the later one would win"
    assert all(re.fullmatch(r"cnpg-backup\.[a-zA-Z.]+", name) for name in defined)
    included = set(re.findall(r'include "([^"]+)"', text))
    # What is worked out once is named where it is kept.
    included |= set(re.findall(r'include "cnpg-backup\.once" \(dict "root" \S+ "make" "([^"]+)"', text))
    # One kind of rule for each access policy, chosen by its name.
    included |= {name for name in defined if name.startswith("cnpg-backup.accessRules.")}
    assert included == set(defined)


def test_what_a_rendering_needs_often_is_worked_out_once(tmp_path: Path) -> None:
    """The list of databases alone has some forty readers: for hundreds of databases that would take many seconds."""
    shutil.copytree(CHART, tmp_path / "chart")
    begin = re.compile(r'(\{\{- define "(cnpg-backup\.make\w+)" -\}\})\n')
    again = r'\1{{ if hasKey .Values "\2" }}{{ fail "\2 again" }}{{ end }}{{ $_ := set .Values "\2" "" }}' + "\n"
    counted = []
    for path in (tmp_path / "chart" / "templates").rglob("*.tpl"):
        text = path.read_text()
        # Those two are worked out once for each schedule and each CronJob.
        if path.name not in ("_schedule.tpl", "_config.tpl"):
            counted += [name for _, name in begin.findall(text)]
            path.write_text(begin.sub(again, text))
    assert "cnpg-backup.makeDatabases" in counted
    assert len(counted) >= 10, counted
    values = {"monitoring": {"enabled": True, "rules": {"enabled": True}}, "firstRun": "backup"}
    assert chart.render_text(values, chart=tmp_path / "chart") == chart.render_text(values)


def test_what_is_worked_out_once_is_worked_out_for_each_schedule_and_each_instance(tmp_path: Path) -> None:
    """Two instances of the chart below one parent share no list, and two schedules in one of them no deadline."""
    copies = tmp_path / "parent" / "charts"
    shutil.copytree(CHART, copies / "cnpg-backup")
    version = re.findall(r"^version: (\S+)$", (CHART / "Chart.yaml").read_text(), re.MULTILINE)[0]
    described = "apiVersion: v2\nname: parent\nversion: 1.0.0\ndependencies:\n"
    values = ""
    for alias in ("one", "two"):
        described += f"  - {{name: cnpg-backup, version: {version}, alias: {alias}}}\n"
        databases = f"[{{name: a-{alias}, cluster: a}}, {{name: b-{alias}, cluster: b, schedule: '@daily'}}]"
        values += f"{alias}: {{fullnameOverride: {alias}, databases: {databases}}}\n"
    (tmp_path / "parent" / "Chart.yaml").write_text(described)
    (tmp_path / "parent" / "values.yaml").write_text(values)
    found = chart.render(chart=tmp_path / "parent")
    runs = [one for one in found if one["kind"] == "CronJob" and "-pg-dump" in one["metadata"]["name"]]
    deadlines = {
        (one["metadata"]["labels"]["app"], one["spec"]["schedule"]): one["spec"]["jobTemplate"]["spec"][
            "activeDeadlineSeconds"
        ]
        for one in runs
    }
    assert deadlines == {
        (alias, cron): seconds
        for alias in ("one", "two")
        for cron, seconds in (("0 */2 * * *", 6900), ("@daily", 86100))
    }
    names = {name for one in found if one["kind"] == "ConfigMap" for name in one["data"] if name.endswith(".conf")}
    assert names == {"a-one.conf", "b-one.conf", "a-two.conf", "b-two.conf"}
