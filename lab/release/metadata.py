"""Write what other files say of the project's addresses, or check it.

The source is `home` in chart/Chart.yaml. From it and from chart/values.yaml follow the annotations of Artifact Hub in
the same file, the addresses in pyproject.toml, and those in pages and workflows. The annotations that change with each
commit (`changes`) or with a key (`signKey`) are written into the package alone, by lab/release/package.py.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lab.release.project import ROOT, Project, read

LICENSE = "Apache-2.0"
PAGES = {
    "Documentation": "README.md#more",
    "The first hour": "docs/start.md",
    "How to restore": "docs/restore.md",
    "Security": "docs/security.md",
    "Upgrades": "docs/upgrading.md",
    "Changes": "CHANGELOG.md",
}
"""The links that Artifact Hub shows, by their names."""

SCREENSHOTS = {
    "kubectl cnpg-backup status": "docs/pictures/status.svg",
    "kubectl cnpg-backup list": "docs/pictures/list.svg",
    "A run": "docs/pictures/run.svg",
}

RECOMMENDED = ("https://artifacthub.io/packages/helm/cloudnative-pg/cloudnative-pg",)
"""What one uses this chart with."""


def images(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield a name and a reference for each image of the values: what is a mapping with a repository and a tag."""
    if not isinstance(values, dict):
        return
    repository, tag = values.get("repository"), values.get("tag")
    if repository and tag:
        registry = f"{values['registry']}/" if values.get("registry") else ""
        digest = f"@{values['digest']}" if values.get("digest") else ""
        owner = [part for part in path if part != "image"]
        yield "-".join(owner) or repository.split("/")[-1], f"{registry}{repository}:{tag}{digest}"
    for key, value in values.items():
        yield from images(value, (*path, key))


def block(value: Any) -> str:
    """Return a value of Artifact Hub's: YAML within a string."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)


def annotations_of(project: Project, values: Any) -> dict[str, str]:
    """Return the annotations of Chart.yaml, in the order in which they are written."""
    links = [{"name": name, "url": project.page(path)} for name, path in PAGES.items()]
    links.append({"name": "support", "url": f"{project.home}/issues"})
    screenshots = [{"title": title, "url": project.raw(path)} for title, path in SCREENSHOTS.items()]
    return {
        "artifacthub.io/category": "storage",
        "artifacthub.io/license": LICENSE,
        "artifacthub.io/operator": "false",
        "artifacthub.io/prerelease": str("-" in project.version).lower(),
        "artifacthub.io/images": block([{"name": name, "image": image} for name, image in images(values)]),
        "artifacthub.io/links": block(links),
        "artifacthub.io/recommendations": block([{"url": url} for url in RECOMMENDED]),
        "artifacthub.io/screenshots": block(screenshots),
    }


def written(found: dict[str, str]) -> str:
    """Return annotations as the last part of Chart.yaml."""
    lines = ["annotations:"]
    for key, value in found.items():
        if "\n" in value:
            lines += [f"  {key}: |", *(f"    {line}" for line in value.rstrip("\n").split("\n"))]
        else:
            lines.append(f"  {key}: {value}" if value not in ("true", "false") else f'  {key}: "{value}"')
    return "\n".join(lines) + "\n"


def chart_yaml(text: str, project: Project, values: Any) -> str:
    """Return Chart.yaml with the annotations and sources that it has to have."""
    head = re.split(r"^annotations:\n", text, maxsplit=1, flags=re.MULTILINE)[0]
    head = re.sub(r"^sources:\n(?:  - .*\n)*", "", head, flags=re.MULTILINE)
    head = re.sub(r"^(home: .*\n)", rf"\1sources:\n  - {project.home}\n", head, count=1, flags=re.MULTILINE)
    return head + written(annotations_of(project, values))


def project_toml(text: str, project: Project) -> str:
    """Return pyproject.toml with the addresses that the package's page shows."""
    addresses = {
        "Homepage": project.home,
        "Documentation": project.page("docs/plugin.md"),
        "Changelog": project.page("CHANGELOG.md"),
        "Issues": f"{project.home}/issues",
    }
    table = "".join(f'{name} = "{address}"\n' for name, address in addresses.items())
    text = re.sub(r"^\[project[.]urls\]\n.*?\n(?=\[)", "", text, flags=re.MULTILINE | re.DOTALL)
    return text.replace("[project.scripts]\n", f"[project.urls]\n{table}\n[project.scripts]\n", 1)


def with_addresses(text: str, project: Project) -> str:
    """Return a text in which the repository, the registry and the chart's version there are those of today."""
    name = re.escape(project.home.split("/")[-1])
    text = re.sub(rf"https://github[.]com/[\w.-]+/{name}(?![\w-])", project.home, text)
    text = re.sub(r"ghcr[.]io/[\w.-]+/charts(?=/cnpg-backup)", project.registry.removeprefix("oci://"), text)
    # Without a version, Helm finds no release candidate.
    return re.sub(r"(oci://\S+/charts/cnpg-backup --version )\d\S*", rf"\g<1>{project.version}", text)


def pages(root: Path) -> list[Path]:
    """Return the files that may name addresses of the project in sentences and commands."""
    found = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob(".github/**/*.*"), root / "tools" / "try-chart"]
    return sorted(path for path in found if path.is_file())


def wanted(root: Path = ROOT) -> dict[str, str]:
    """Return the texts of the files that hold addresses, by their paths."""
    project = read(root)
    values = yaml.safe_load((root / "chart" / "values.yaml").read_text())
    texts = {str(path.relative_to(root)): with_addresses(path.read_text(), project) for path in pages(root)}
    return texts | {
        "chart/Chart.yaml": chart_yaml((root / "chart" / "Chart.yaml").read_text(), project, values),
        "pyproject.toml": project_toml((root / "pyproject.toml").read_text(), project),
        "chart/LICENSE": (root / "LICENSE").read_text(),
    }


def main() -> int:
    """Run the command; 1 when `--check` found a difference."""
    parser = argparse.ArgumentParser(description="Write the project's addresses and license where they are copied to.")
    parser.add_argument("--check", action="store_true", help="change nothing; print the difference and exit 1")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args()
    different = False
    for name, text in wanted(options.root).items():
        path = options.root / name
        before = path.read_text() if path.is_file() else ""
        if before == text:
            continue
        different = True
        if options.check:
            lines = difflib.unified_diff(
                before.splitlines(), text.splitlines(), name, "what make sync writes", lineterm=""
            )
            print("\n".join(lines))
        else:
            path.write_text(text)
    if different and options.check:
        print("addresses or copies are out of date: run make sync", file=sys.stderr)
    return int(different and options.check)
