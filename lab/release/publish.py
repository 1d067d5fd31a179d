"""Publish a release: `python -m lab.release.publish`, called by the workflow of a tag.

The check of a release uses the same functions.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from lab.release import changelog
from lab.release.package import SUMS, Signer, make_all, run, tool
from lab.release.project import ROOT, Project, ReleaseError, read

NO_PASSWORD = {"COSIGN_PASSWORD": ""}
"""For cosign, whose keys are made for a check alone."""

BUNDLE = f"{SUMS}.sigstore.json"


def problems(root: Path, tag: str) -> list[str]:
    """Return what is in the way of publishing a commit as this tag."""
    project = read(root)
    found = []
    if tag != project.tag:
        found.append(f"the tag is {tag}, but chart/Chart.yaml has version {project.version}")
    for name, pattern in (("chart/Chart.yaml", r"^appVersion: (.+)$"), ("pyproject.toml", r'^version = "(.+)"$')):
        other = re.search(pattern, (root / name).read_text(), re.MULTILINE)
        if not other or other[1].strip('"') != project.version:
            found.append(
                f"{name} has version {other[1] if other else 'none'}, but chart/Chart.yaml has {project.version}"
            )
    heading = rf"^## \[{re.escape(project.version)}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(heading, (root / "CHANGELOG.md").read_text(), re.MULTILINE):
        found.append(f"CHANGELOG.md has no heading `## [{project.version}] - YYYY-MM-DD`")
    changed = run(["git", "status", "--porcelain"], cwd=root).strip()
    if changed:
        found.append(f"the checkout has changes that are not committed:\n{changed}")
    return found


OWNERSHIP = "artifacthub-repo.yml"
OWNERSHIP_TAG = "artifacthub.io"
OWNERSHIP_TYPE = "application/vnd.cncf.artifacthub.repository-metadata.layer.v1.yaml"
"""Where Artifact Hub looks for the owner of a chart in an OCI registry, and the type of layer by which it knows it."""


def log_in(host: str, user: str, password: str, *, plain_http: bool = False) -> None:
    """Log in to a registry: Helm and cosign each read credentials of their own.

    Raises:
        ReleaseError: the registry refuses the credentials.
    """
    options = ["--plain-http"] if plain_http else []
    for name, command in (("helm", ["registry", "login", host, *options]), ("cosign", ["login", host])):
        login = [str(tool(name)), *command, "--username", user, "--password-stdin"]
        done = subprocess.run(login, input=password, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ReleaseError(f"{name} cannot log in to {host} as {user}: {done.stderr.strip()}")


def push_ownership(root: Path, registry: str, *, plain_http: bool = False) -> None:
    """Push the file that says who owns the chart's repository on Artifact Hub."""
    options = ["--allow-http-registry"] if plain_http else []
    reference = f"{registry.removeprefix('oci://')}/cnpg-backup:{OWNERSHIP_TAG}"
    run([tool("cosign"), "upload", "blob", *options, "--files", root / OWNERSHIP, "--ct", OWNERSHIP_TYPE, reference])


def push_chart(folder: Path, project: Project, registry: str, *, plain_http: bool = False) -> str:
    """Push the chart, with its provenance file if there is one, and return its reference with the digest."""
    options = ["--plain-http"] if plain_http else []
    command = [tool("helm"), "push", folder / f"cnpg-backup-{project.version}.tgz", registry, *options]
    # It says where and what it has pushed on either output.
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    found = re.search(r"^Digest: (sha256:[0-9a-f]{64})$", done.stdout + done.stderr, re.MULTILINE)
    if done.returncode or not found:
        raise ReleaseError(
            f"helm push to {registry} failed with exit code {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return f"{registry.removeprefix('oci://')}/cnpg-backup@{found[1]}"


def _by_key(key: Path | None) -> list[object]:
    # Without a key the workflow's identity signs, which a public log records. A check on one machine has neither.
    return ["--key", key, "--use-signing-config=false", "--tlog-upload=false"] if key else []


def sign_chart(reference: str, key: Path | None = None, *, plain_http: bool = False) -> None:
    """Sign a chart in its registry."""
    options = ["--allow-http-registry"] if plain_http else []
    run([tool("cosign"), "sign", "--yes", *options, *_by_key(key), reference], environment=NO_PASSWORD)


def sign_sums(folder: Path, key: Path | None = None) -> Path:
    """Sign the checksums of a release, and return the file of the signature."""
    bundle = folder / BUNDLE
    command = [tool("cosign"), "sign-blob", "--yes", *_by_key(key), "--bundle", bundle, folder / SUMS]
    run(command, environment=NO_PASSWORD)
    return bundle


def signer(home: Path, key: str, passphrase: str) -> Signer:
    """Import a secret key into a folder of GnuPG's, and return it as Helm signs with it."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = home / "passphrase"
    secret.touch(mode=0o600)
    # Helm takes an empty file for one that has ended too soon.
    secret.write_text(f"{passphrase}\n")
    gpg = ["gpg", "--homedir", str(home), "--batch", "--pinentry-mode", "loopback", "--passphrase-file", str(secret)]
    done = subprocess.run([*gpg, "--import"], input=key.encode(), capture_output=True, check=False)
    if done.returncode:
        raise ReleaseError(f"gpg cannot import the signing key: {done.stderr.decode(errors='replace').strip()}")
    listed = run([*gpg, "--list-secret-keys", "--with-colons"])
    fingerprint = re.search(r"^fpr:+([0-9A-F]{40}):", listed, re.MULTILINE)
    name = re.search(r"^uid:(?:[^:]*:){8}([^:]+):", listed, re.MULTILINE)
    if not fingerprint or not name:
        raise ReleaseError("the signing key holds no secret key; give what `gpg --armor --export-secret-keys` prints")
    ring = home / "secret.gpg"
    run([*gpg, "--output", str(ring), "--export-secret-keys", fingerprint[1]])
    return Signer(name[1], fingerprint[1], ring, secret)


def public_key(home: Path) -> str:
    """Return the public key of a folder of GnuPG's, as text."""
    return run(["gpg", "--homedir", home, "--batch", "--armor", "--export"])


def publish(root: Path, folder: Path) -> None:
    """Make all files and publish them: chart, release page, Python package."""
    project = read(root)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "gnupg"
        who = signer(home, os.environ["SIGNING_KEY"], os.environ.get("SIGNING_PASSPHRASE", ""))
        make_all(root, folder, who, public_key(home))
        host = project.registry.removeprefix("oci://").split("/")[0]
        log_in(host, os.environ["REGISTRY_USER"], os.environ["REGISTRY_PASSWORD"])
        sign_chart(push_chart(folder, project, project.registry))
        push_ownership(root, project.registry)
        sign_sums(folder)
        notes = Path(name) / "notes.md"
        notes.write_text(changelog.section((root / "CHANGELOG.md").read_text(), project.version) + "\n")
        files = sorted(path for path in folder.iterdir() if path.is_file())
        options = ["--verify-tag", "--title", project.tag, "--notes-file", notes]
        options += ["--prerelease"] if "-" in project.version else []
        run(["gh", "release", "create", project.tag, *options, *files], cwd=root)
        python = [path for path in files if path.suffix == ".whl" or path.name.startswith("cnpg_backup-")]
        run([tool("python-build", "python"), "-m", "twine", "upload", "--non-interactive", *python])


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Publish the commit that a tag names.")
    parser.add_argument("--tag", default=os.environ.get("GITHUB_REF_NAME", ""), help="the tag, such as v1.0.0")
    parser.add_argument("--check", action="store_true", help="only say whether this commit can be published as the tag")
    options = parser.parse_args()
    found = problems(ROOT, options.tag)
    if found:
        print("\n".join(f"error: {problem}" for problem in found), file=sys.stderr)
        return 1
    if options.check:
        return 0
    try:
        publish(ROOT, ROOT / "build" / "release")
    except KeyError as missing:
        print(
            f"error: the environment has no {missing}; .github/workflows/release.yml lists what it needs",
            file=sys.stderr,
        )
        return 1
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
