"""Make all files of a release, byte for byte the same for one commit: `python -m lab.release.package FOLDER`.

Every file within a package has the time of the commit, and nothing but what git knows gets in. The same pinned tools
give the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from lab.release import changelog, krew
from lab.release.metadata import written
from lab.release.project import ROOT, Project, ReleaseError, epoch, read

SUMS = "SHA256SUMS"
PLUGIN = "kubectl-cnpg_backup"


@dataclass(frozen=True)
class Signer:
    """Who signs the chart: a key of GnuPG by its user's name, which Helm asks for, in a ring with the secret key."""

    name: str
    fingerprint: str
    keyring: Path
    passphrase: Path


def run(command: Sequence[object], *, cwd: Path = ROOT, environment: Mapping[str, str] | None = None) -> str:
    """Run a program, with further variables in its environment, and return what it prints.

    Raises:
        ReleaseError: it failed.
    """
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        umask=0o022,  # a wheel holds the rights of its files
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr + done.stdout).strip()[-3000:]
        raise ReleaseError(
            f"{Path(str(command[0])).name} {command[1]} failed with exit code {done.returncode}:\n{said}"
        )
    return done.stdout


def tool(name: str, program: str = "") -> Path:
    """Return the path of a pinned tool, built or installed if it is not there yet."""
    maker = "build" if (ROOT / "tools" / name / "go.mod").is_file() else "venv"
    return Path(run([ROOT / "tools" / maker, name]).strip()) / (program or name)


def stage(root: Path, target: Path, paths: Sequence[str]) -> None:
    """Copy the files that git knows below some paths."""
    listed = run(["git", "ls-files", "-co", "--exclude-standard", "-z", "--", *paths], cwd=root)
    for name in sorted(filter(None, listed.split("\0"))):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((root / name).read_bytes())


def packed(files: Mapping[str, tuple[bytes, int]], time: int) -> bytes:
    """Return a .tar.gz of files: by path, their bytes and rights."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(files):
            content, mode = files[name]
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), mode, time
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), compresslevel=9, mtime=0)


def repacked(archive: Path, time: int) -> None:
    """Pack a .tar.gz again without the times, owners and order that its maker found."""
    with tarfile.open(archive) as given:
        members = [(member, given.extractfile(member)) for member in given.getmembers() if member.isfile()]
        files = {member.name: (content.read(), 0o644) for member, content in members if content}
    archive.write_bytes(packed(files, time))


def chart_yaml(root: Path, project: Project, signer: Signer | None) -> str:
    """Return Chart.yaml as the package has it: with the changes of this version, and with the key that signs it."""
    entries = changelog.entries((root / "CHANGELOG.md").read_text(), project.version)
    text = (root / "chart" / "Chart.yaml").read_text()
    found: dict[str, str] = yaml.safe_load(text)["annotations"]
    changes = [{"kind": entry.kind, "description": entry.short} for entry in entries]
    found["artifacthub.io/changes"] = yaml.safe_dump(changes, sort_keys=False, allow_unicode=True, width=10_000)
    if any(entry.kind == "security" for entry in entries):
        found["artifacthub.io/containsSecurityUpdates"] = "true"
    if signer:
        key = {"fingerprint": signer.fingerprint, "url": f"{project.downloads}/signing-key.asc"}
        found["artifacthub.io/signKey"] = yaml.safe_dump(key, sort_keys=False)
    return re.split(r"^annotations:\n", text, maxsplit=1, flags=re.MULTILINE)[0] + written(found)


def make_chart(root: Path, out: Path, signer: Signer | None = None) -> Path:
    """Make the package of the chart, and next to it the provenance file if there is a signer."""
    project, time = read(root), epoch(root)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stage(root, folder, ["chart"])
        (folder / "chart" / "Chart.yaml").write_text(chart_yaml(root, project, signer))
        signing: list[object] = []
        if signer:
            signing = ["--sign", "--key", signer.name, "--keyring", signer.keyring]
            signing += ["--passphrase-file", signer.passphrase]
        command = [tool("helm"), "package", folder / "chart", "--destination", out, *signing]
        run(command, environment={"SOURCE_DATE_EPOCH": str(time)})
    return out / f"cnpg-backup-{project.version}.tgz"


def absolute_links(text: str, root: Path, project: Project) -> str:
    """Return a page whose links to other files of the repository work everywhere."""

    def address(target: str, *, picture: bool) -> str:
        path, _, anchor = target.partition("#")
        if "://" in target or not path:
            return target
        if not (root / path).exists():
            raise ReleaseError(f"README.md links to {path}, which is not in the repository")
        found = project.raw(path) if picture else project.folder(path) if (root / path).is_dir() else project.page(path)
        return f"{found}{'#' + anchor if anchor else ''}"

    text = re.sub(r'\b(src|srcset)="([^"]+)"', lambda one: f'{one[1]}="{address(one[2], picture=True)}"', text)
    return re.sub(
        r"(!?)\[([^\]]*)\]\(([^)\s]+)\)",
        lambda one: f"{one[1]}[{one[2]}]({address(one[3], picture=bool(one[1]))})",
        text,
    )


def make_python(root: Path, out: Path) -> list[Path]:
    """Make the source package and, from it, the wheel."""
    project, time = read(root), epoch(root)
    packages = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = sorted({name.split(".")[0] for name in packages})
    python = tool("python-build", "python")
    version = project.python_version
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stage(root, folder / "source", ["pyproject.toml", "README.md", "LICENSE", *folders])
        readme = folder / "source" / "README.md"
        readme.write_text(absolute_links(readme.read_text(), root, project))
        build = [python, "-m", "build", "--no-isolation", "--outdir", folder / "dist"]
        run([*build, "--sdist", folder / "source"], environment={"SOURCE_DATE_EPOCH": str(time)})
        sdist = folder / "dist" / f"cnpg_backup-{version}.tar.gz"
        if not sdist.is_file():
            made = ", ".join(path.name for path in (folder / "dist").iterdir())
            raise ReleaseError(f"the source package is called {made}: version {project.version} is not one of Python's")
        repacked(sdist, time)
        with tarfile.open(sdist) as archive:
            archive.extractall(folder / "unpacked", filter="data")
        (unpacked,) = (folder / "unpacked").iterdir()
        run([*build, "--wheel", unpacked], environment={"SOURCE_DATE_EPOCH": str(time)})
        made_now = sorted((folder / "dist").iterdir())
        run([python, "-m", "twine", "check", "--strict", *made_now])
        return [Path(shutil.copy(path, out)) for path in made_now]


def make_plugin(root: Path, out: Path) -> list[Path]:
    """Make the plugin as one file, and the archive that krew installs."""
    project, time = read(root), epoch(root)
    file = out / PLUGIN
    run([root / "tools" / "single-file", file], cwd=root, environment={"SOURCE_DATE_EPOCH": str(time)})
    archive = out / f"{PLUGIN}-{project.version}.tar.gz"
    contents = {PLUGIN: (file.read_bytes(), 0o755), "LICENSE": ((root / "LICENSE").read_bytes(), 0o644)}
    archive.write_bytes(packed(contents, time))
    manifest = out / "cnpg-backup.yaml"
    manifest.write_text(krew.manifest(project, archive, project.downloads))
    return [file, archive, manifest]


def sums(folder: Path) -> str:
    """Return the checksums of all files of a folder, as `sha256sum --check` reads them."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(SUMS))
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)


def make_bill(root: Path, wheel: Path) -> Path:
    """Write the list of all parts of the plugin (SBOM, CycloneDX): what is installed with its wheel."""
    bill = wheel.parent / f"cnpg-backup-{read(root).version}.cdx.json"
    with tempfile.TemporaryDirectory() as name:
        venv = Path(name) / "venv"
        run([sys.executable, "-m", "venv", "--without-pip", venv])
        pip = [sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "--disable-pip-version-check"]
        run([*pip, "install", "--quiet", "--constraint", root / "constraints.txt", wheel])
        command = [
            tool("sbom", "cyclonedx-py"),
            "environment",
            "--output-reproducible",
            "--pyproject",
            root / "pyproject.toml",
        ]
        run([*command, "--of", "JSON", "--output-file", bill, venv / "bin" / "python"])
    return bill


def make_all(root: Path, out: Path, signer: Signer | None = None, public_key: str = "") -> None:
    """Make every file of a release; the public key is one of them."""
    out.mkdir(parents=True, exist_ok=True)
    make_chart(root, out, signer)
    python = make_python(root, out)
    make_bill(root, next(path for path in python if path.suffix == ".whl"))
    make_plugin(root, out)
    if public_key:
        (out / "signing-key.asc").write_text(public_key)
    (out / SUMS).write_text(sums(out))


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Make all files of a release.")
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "build" / "release")
    parser.add_argument("--sign-key", metavar="FINGERPRINT", help="sign the chart with this key of GnuPG")
    parser.add_argument("--sign-name", metavar="NAME", help="the name of that key's user")
    parser.add_argument("--keyring", type=Path, help="file with the secret key, of `gpg --export-secret-keys`")
    parser.add_argument("--passphrase-file", type=Path, default=Path("/dev/null"))
    parser.add_argument("--public-key", type=Path, help="file with the public key, which becomes part of the release")
    options = parser.parse_args()
    signing = (options.sign_name, options.sign_key, options.keyring)
    if any(signing) and not all(signing):
        parser.error("--sign-key, --sign-name and --keyring belong together")
    signer = Signer(*signing, options.passphrase_file) if all(signing) else None
    try:
        shutil.rmtree(options.folder, ignore_errors=True)
        make_all(ROOT, options.folder.resolve(), signer, options.public_key.read_text() if options.public_key else "")
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print((options.folder / SUMS).read_text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
