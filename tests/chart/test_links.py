"""What leaves the repository names pages by addresses: a path helps nobody who has only the package."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.chart.common import of_kind
from tests.lab import chart
from tests.lab.chart import CHART, ROOT

BARE = re.compile(r"(?<![\w/])docs/[\w/-]+(?:\.md)?")
"""A page by its path, without an address before it."""

WARNED = {"persistence": {"longhorn": {"recurringJobs": ["daily"]}}}
ALERTS = {"monitoring": {"enabled": True, "rules": {"enabled": True}}}
HOME = yaml.safe_load((CHART / "Chart.yaml").read_text())["home"]
PAGES = re.compile(rf"{re.escape(HOME)}/blob/v[^/]+/([\w/.-]+\.md)")


def notes(tools: dict[str, Path], tmp_path: Path, values: Mapping[str, object]) -> str:
    """What `helm install` prints, without a cluster."""
    (tmp_path / "values.json").write_text(json.dumps(values))
    command = [str(tools["helm"]), "install", "cnpg-backup", str(CHART), "--namespace", "default", "--dry-run=client"]
    return chart.run_helm([*command, "--values", str(tmp_path / "values.json")]).split("\nNOTES:\n")[1]


def test_the_notes_name_pages_by_addresses_that_lead_to_pages(tools: dict[str, Path], tmp_path: Path) -> None:
    text = notes(tools, tmp_path, WARNED)
    assert BARE.findall(text) == []
    named = PAGES.findall(text)
    pages = ("security", "restore", "longhorn", "monitoring", "namespaces", "plugin")
    assert set(named) == {f"docs/{page}.md" for page in pages}
    assert [page for page in named if not (ROOT / page).is_file()] == []


def test_pages_of_a_mirror_are_named_where_they_are(tools: dict[str, Path], tmp_path: Path) -> None:
    text = notes(tools, tmp_path, {**WARNED, "documentationUrl": "https://git.example.org/mirror/docs/"})
    assert HOME not in text
    assert "https://git.example.org/mirror/docs/restore.md" in text


@pytest.mark.parametrize("values", [{}, ALERTS, CHART / "ci" / "everything-on-values.yaml"], ids=str)
def test_no_object_names_a_page_without_its_address(values: object) -> None:
    manifests = chart.render(values)  # type: ignore[arg-type]
    # Comments of the programs are not shown to anyone.
    shown = [one for one in manifests if one["kind"] != "ConfigMap"]
    assert BARE.findall(json.dumps(shown)) == []


def test_a_refusal_and_an_error_name_their_page() -> None:
    policies = json.dumps(of_kind(chart.render(), "ValidatingAdmissionPolicy"))
    assert f"{HOME}/blob/v" in policies
    wrong = {"persistence": {"existingClaim": "old", "longhorn": {"recurringJobs": ["daily"]}}}
    with pytest.raises(chart.ChartError, match=re.escape(f"label old yourself, see {HOME}/blob/v")):
        chart.render(wrong)


def test_runbooks_have_addresses_and_follow_the_mirror_of_the_pages() -> None:
    for values, start in (
        (ALERTS, f"{HOME}/blob/v"),
        ({**ALERTS, "documentationUrl": "https://git.example.org/docs"}, "https://git.example.org/docs/runbooks/"),
    ):
        (rules,) = of_kind(chart.render(values), "PrometheusRule")
        found = [rule["annotations"]["runbook_url"] for group in rules["spec"]["groups"] for rule in group["rules"]]
        assert found
        for address in found:
            assert address.startswith(start), address
            assert (ROOT / "docs" / "runbooks" / address.rsplit("/", 1)[1]).is_file(), address


def test_the_readme_of_the_package_has_no_link_into_the_repository() -> None:
    text = (CHART / "README.md").read_text()
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(targets) > 10
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    assert [page for page in PAGES.findall(text) if not (ROOT / page).is_file()] == []
    without_links = re.sub(r"\[[^\]]*\]\([^)]*\)", "", text)
    assert BARE.findall(without_links) == []


def test_a_page_without_its_address_is_found() -> None:
    assert BARE.findall("see docs/security.md and https://x/docs/y.md") == ["docs/security.md"]


def test_no_template_prints_a_page_without_its_address() -> None:
    """Also what only some errors print: outside of comments, pages are named by `cnpg-backup.page`."""
    found = []
    for path in sorted(CHART.glob("templates/**/*.*")):
        text = re.sub(r"\{\{-?\s*/\*.*?\*/\s*-?\}\}", "", path.read_text(), flags=re.DOTALL)
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        found += [f"{path.name}: {line.strip()}" for line in lines if BARE.search(line)]
    assert found == []
