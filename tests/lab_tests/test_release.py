"""What a release is made of: the same bytes for the same commit, and addresses that follow from one place."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import time
import uuid
from pathlib import Path

import pytest
import yaml

from lab.release import changelog, krew, metadata, package, project, publish
from lab.release.project import ROOT, Project, ReleaseError
from tests.lab import chart as charts

HERE = Project("https://github.com/some-owner/cnpg-backup", "1.2.3")
LOG = """# Changelog

## [Unreleased]

### Added

- A thing that `does` more. It also has
  a second sentence.

## [1.2.3] - 2026-01-02

### Fixed

- **One** [link](docs/x.md) fewer: and a reason.
* Another

### Security

- A hole.

## [1.2.2] - 2026-01-01

### Removed

- Old.
"""


def test_the_changes_of_a_version_are_its_own_and_no_others() -> None:
    assert [(entry.kind, entry.short) for entry in changelog.entries(LOG, "1.2.3")] == [
        ("fixed", "One link fewer: and a reason"),
        ("fixed", "Another"),
        ("security", "A hole"),
    ]


def test_a_version_without_a_section_has_the_changes_that_are_not_released() -> None:
    (entry,) = changelog.entries(LOG, "2.0.0")
    assert entry.text == "A thing that `does` more. It also has a second sentence."
    assert entry.short == "A thing that does more"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("## [1.0.0]\n### Improved\n- x\n", "'Improved' is not a kind of change"),
        ("## [1.0.0]\n### Added\n", "lists no change of 1.0.0"),
        ("## [0.9.0]\n### Added\n- x\n", "no section for 1.0.0"),
    ],
)
def test_a_changelog_that_says_nothing_of_a_version_stops_its_release(text: str, words: str) -> None:
    with pytest.raises(ReleaseError, match=re.escape(words)):
        changelog.entries(text, "1.0.0")


def test_every_entry_of_the_changelog_is_one_that_artifact_hub_can_show() -> None:
    entries = changelog.entries((ROOT / "CHANGELOG.md").read_text(), project.read().version)
    assert len(entries) > 50
    for entry in entries:
        assert 8 < len(entry.short) < 400, entry.short
        assert "](" not in entry.short, entry.short


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files from which the chart's package is made, in a clone elsewhere."""
    root = tmp_path / "elsewhere"
    parts = ("chart", "*.md", "LICENSE", "pyproject.toml", "docs", ".github")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *parts],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    return root


def test_two_packages_of_the_chart_are_the_same_bytes(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.setattr(package, "epoch", lambda _: 1767225600)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = package.make_chart(ROOT, tmp_path / "one")
    for path in (copy / "chart").rglob("*"):
        os.utime(path, (0, 86400 * 400))
        path.chmod(0o700)
    (copy / "chart" / "values.yaml.orig").write_text("")
    compiled = copy / "chart" / "charts" / "programs" / "files" / "retention" / "__pycache__"
    compiled.mkdir()
    (compiled / "rule.cpython-399.pyc").write_bytes(b"\0")
    two = package.make_chart(copy, tmp_path / "two")
    assert hashlib.sha256(one.read_bytes()).hexdigest() == hashlib.sha256(two.read_bytes()).hexdigest()
    with tarfile.open(one) as archive:
        assert {member.mtime for member in archive.getmembers()} == {1767225600}


def test_the_package_of_the_chart_has_license_and_changes_and_renders_as_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.setattr(package, "epoch", lambda _: 1767225600)
    made = package.make_chart(ROOT, tmp_path)
    with tarfile.open(made) as archive:
        opened = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        texts = {name: content.read() for name, content in opened.items() if content}
    assert texts["cnpg-backup/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    annotations = yaml.safe_load(texts["cnpg-backup/Chart.yaml"])["annotations"]
    entries = changelog.entries((ROOT / "CHANGELOG.md").read_text(), project.read().version)
    changes = yaml.safe_load(annotations["artifacthub.io/changes"])
    assert changes == [{"kind": entry.kind, "description": entry.short} for entry in entries]
    own = yaml.safe_load((ROOT / "chart" / "Chart.yaml").read_text())["annotations"]
    assert own.items() <= annotations.items()
    assert charts.render(chart=made) == charts.render()
    assert made.stat().st_size < 400_000


def test_archives_do_not_depend_on_order_owner_or_time(tmp_path: Path) -> None:
    made = []
    for name, order, moment in (("a", 1, 1), ("b", -1, time.time())):
        archive = tmp_path / f"{name}.tar.gz"
        with tarfile.open(archive, "w:gz") as out:
            for path in ("x/1", "x/2")[::order]:
                (tmp_path / "member").write_text(path)
                member = out.gettarinfo(tmp_path / "member", path)
                member.mtime, member.uid, member.uname = moment, int(moment) % 999, name
                with (tmp_path / "member").open("rb") as content:
                    out.addfile(member, content)
        package.repacked(archive, 86400)
        made.append(archive.read_bytes())
    assert made[0] == made[1]
    with tarfile.open(tmp_path / "a.tar.gz") as archive_again:
        assert [(m.name, m.mtime, m.uid, m.mode) for m in archive_again] == [
            (f"x/{n}", 86400, 0, 0o644) for n in (1, 2)
        ]


def test_the_readme_that_leaves_the_repository_has_no_link_into_it() -> None:
    text = package.absolute_links((ROOT / "README.md").read_text(), ROOT, HERE)
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert len(targets) > 30
    pictures = re.findall(r'(?:src|srcset)="([^"]*)"', text)
    assert len(pictures) >= 2
    assert [target for target in [*targets, *pictures] if not target.startswith(("https://", "#"))] == []
    assert f"![x]({HERE.home}/raw/v1.2.3/docs/pictures/status.svg)" == package.absolute_links(
        "![x](docs/pictures/status.svg)", ROOT, HERE
    )
    assert package.absolute_links("[x](chart/ci/)", ROOT, HERE) == f"[x]({HERE.home}/tree/v1.2.3/chart/ci/)"
    with pytest.raises(ReleaseError, match=r"docs/nothing\.md, which is not in the repository"):
        package.absolute_links("[x](docs/nothing.md#part)", ROOT, HERE)


def test_addresses_follow_from_one_place(copy: Path) -> None:
    """Whoever publishes it elsewhere changes `home`, and `make sync` all the rest."""
    check: list[str | Path] = [ROOT / "tools" / "release-metadata", "--root", copy]
    assert subprocess.run([*check, "--check"], check=False).returncode == 0
    before = project.read(copy).home
    path = copy / "chart" / "Chart.yaml"
    path.write_text(path.read_text().replace(f"home: {before}\n", "home: https://github.com/else-where/cnpg-backup\n"))
    said = subprocess.run([*check, "--check"], capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert "run make sync" in said.stderr
    subprocess.run(check, check=True)
    assert subprocess.run([*check, "--check"], check=False).returncode == 0
    owner = before.split("/")[-2]
    generated = {"README.md"}  # of the chart, by helm-docs
    texts = {path: path.read_text() for path in copy.rglob("*.*") if path.suffix in {".md", ".toml", ".yaml", ".yml"}}
    left = [
        str(path.relative_to(copy))
        for path, text in texts.items()
        if re.search(rf"github[.]com/{owner}/|ghcr[.]io/{owner}/", text)
        and not (path.parent.name == "chart" and path.name in generated)
    ]
    assert left == []


def test_no_program_names_the_repository() -> None:
    """What is not generated takes the address from the chart, or from `lab.release.project`."""
    home = project.read().home
    found = subprocess.run(
        ["git", "grep", "--untracked", "-lF", home, "--", "*.py", "*.tpl", "*.txt", "*.sh", "*.gotmpl", "tools"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    assert found == []


def test_a_changed_value_of_an_image_is_drift(copy: Path) -> None:
    path = copy / "chart" / "values.yaml"
    path.write_text(path.read_text().replace("tag: 16-alpine\n", "tag: 19-alpine\n", 1))
    check: list[str | Path] = [ROOT / "tools" / "release-metadata", "--root", copy, "--check"]
    said = subprocess.run(check, capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert "+      image: docker.io/postgres:19-alpine" in said.stdout


def test_every_image_of_the_values_is_listed() -> None:
    values = {
        "image": {"registry": "docker.io", "repository": "postgres", "tag": "17", "digest": "sha256:aa"},
        "retention": {"image": {"repository": "lib/python", "tag": "3"}},
        "other": {"image": {"tag": "no repository"}},
    }
    assert list(metadata.images(values)) == [
        ("postgres", "docker.io/postgres:17@sha256:aa"),
        ("retention", "lib/python:3"),
    ]


def test_the_manifest_for_krew_names_the_archive_and_its_sum(tmp_path: Path) -> None:
    archive = tmp_path / "kubectl-cnpg_backup-1.2.3.tar.gz"
    archive.write_bytes(b"content")
    manifest = yaml.safe_load(krew.manifest(HERE, archive, HERE.downloads))
    (platform,) = manifest["spec"]["platforms"]
    assert platform["uri"] == f"{HERE.home}/releases/download/v1.2.3/{archive.name}"
    assert platform["sha256"] == hashlib.sha256(b"content").hexdigest()
    assert manifest["spec"]["version"] == "v1.2.3"
    assert len(manifest["spec"]["shortDescription"]) <= 50


def test_a_tag_that_does_not_fit_the_commit_is_not_published(copy: Path) -> None:
    version = project.read(copy).version
    found = publish.problems(copy, "v9.9.9")
    assert found[0] == f"the tag is v9.9.9, but chart/Chart.yaml has version {version}"
    assert any("not committed" in problem for problem in found)
    log = copy / "CHANGELOG.md"
    log.write_text(log.read_text().replace("## [Unreleased]", f"## [{version}] - 2026-12-01"))
    for command in (["add", "."], ["-c", "user.name=x", "-c", "user.email=x@x.invalid", "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=copy, check=True)
    assert publish.problems(copy, f"v{version}") == []
    (copy / "pyproject.toml").write_text((copy / "pyproject.toml").read_text().replace(f'"{version}"', '"0.0.7"', 1))
    found = publish.problems(copy, f"v{version}")
    assert found[0] == f"pyproject.toml has version 0.0.7, but chart/Chart.yaml has {version}"


def test_a_candidate_has_the_version_that_python_and_the_plugin_show() -> None:
    versions = {"1.2.3": "1.2.3", "1.0.0-rc.1": "1.0.0rc1", "2.0.0-beta.12": "2.0.0b12", "2.0.0-alpha.3": "2.0.0a3"}
    assert {one: Project(HERE.home, one).python_version for one in versions} == versions


def test_the_owner_of_the_repository_is_named_as_artifact_hub_reads_it() -> None:
    found = yaml.safe_load((ROOT / publish.OWNERSHIP).read_text())
    assert found.keys() <= {"repositoryID", "owners", "ignore"}
    assert uuid.UUID(found["repositoryID"]) is not None
    assert [owner for owner in found["owners"] if owner.keys() != {"name", "email"}] == []


def test_a_command_with_the_chart_in_its_registry_names_the_version_of_today() -> None:
    """Without one Helm finds no release candidate; a placeholder of the reader's stays."""
    address = "oci://ghcr.io/some-owner/charts/cnpg-backup"
    for before, after in (("0.9.0", "1.2.3"), ("1.0.0-rc.1", "1.2.3"), ("X.Y.Z", "X.Y.Z")):
        text = metadata.with_addresses(f"helm install x {address} --version {before} -n y", HERE)
        assert text == f"helm install x {address} --version {after} -n y"
    shown = "\n".join(path.read_text() for path in metadata.pages(ROOT))
    commands = re.findall(r"^.*oci://\S+/charts/cnpg-backup\b.*$", shown, re.MULTILINE)
    assert len(commands) > 5
    assert [line for line in commands if "--version" not in line] == []


STUB = """#!/bin/sh
set -eu
{
  printf '%s' "${0##*/}"
  printf ' %s' "$@"
  echo
} >>"$CALLS"
case " $* " in
*" --password-stdin "*) [ "$(cat)" = "secret of the registry" ] || exit 3 ;;
*" push "*) echo "Digest: sha256:$(printf %064d 7)" ;;
*" sign-blob "*) for word; do case ${before-} in --bundle) echo '{}' >"$word" ;; esac; before=$word; done ;;
esac
"""
"""A program that writes down how it is called, and answers as far as publishing needs it."""


def test_a_tag_is_published_signed_and_no_password_is_an_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of all calls; what ghcr.io, GitHub and the Python registry say to them can only a real tag show."""
    programs, calls, out = tmp_path / "bin", tmp_path / "calls", tmp_path / "out"
    python = ("cnpg_backup-1.0.0-py3-none-any.whl", "cnpg_backup-1.0.0.tar.gz")
    programs.mkdir()
    for name in ("helm", "cosign", "python", "gh"):
        (programs / name).write_text(STUB)
        (programs / name).chmod(0o755)

    def made(_root: Path, folder: Path, *_signer: object) -> None:
        folder.mkdir()
        for name in (
            "cnpg-backup-1.0.0.tgz",
            "cnpg_backup-1.0.0-py3-none-any.whl",
            "cnpg_backup-1.0.0.tar.gz",
            "SHA256SUMS",
        ):
            (folder / name).write_text(name)

    monkeypatch.setattr(publish, "tool", lambda name, program="": programs / (program or name))
    monkeypatch.setattr(publish, "make_all", made)
    monkeypatch.setattr(publish, "signer", lambda *_: None)
    monkeypatch.setattr(publish, "public_key", lambda _: "")
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("SIGNING_KEY", "secret of the key")
    monkeypatch.setenv("REGISTRY_USER", "someone")
    monkeypatch.setenv("REGISTRY_PASSWORD", "secret of the registry")
    publish.publish(ROOT, out)
    called = calls.read_text()
    assert "secret" not in called
    here = project.read()
    registry = here.registry.removeprefix("oci://")
    wanted = (
        "helm registry login ghcr.io --username someone --password-stdin",
        "cosign login ghcr.io --username someone --password-stdin",
        f"helm push {out}/cnpg-backup-{here.version}.tgz {here.registry}",
        f"cosign sign --yes {registry}/cnpg-backup@sha256:{7:064d}",
        f"cosign upload blob --files {ROOT}/artifacthub-repo.yml --ct {publish.OWNERSHIP_TYPE} "
        f"{registry}/cnpg-backup:artifacthub.io",
        f"cosign sign-blob --yes --bundle {out}/SHA256SUMS.sigstore.json {out}/SHA256SUMS",
        f"gh release create {here.tag} --verify-tag --title {here.tag} --notes-file ",
        f"python -m twine upload --non-interactive {out}/{python[0]} {out}/{python[1]}",
    )
    for line, start in zip(called.splitlines(), wanted, strict=True):
        assert line.startswith(start)
    (released,) = (line for line in called.splitlines() if line.startswith("gh "))
    assert ("--prerelease" in released) == ("-" in here.version)
    assert "SHA256SUMS.sigstore.json" in released


def test_a_copy_of_the_license_that_differs_is_drift(copy: Path) -> None:
    shutil.copy(copy / "README.md", copy / "chart" / "LICENSE")
    check: list[str | Path] = [ROOT / "tools" / "release-metadata", "--root", copy, "--check"]
    assert subprocess.run(check, capture_output=True, check=False).returncode == 1
