"""Make a release, publish it to a registry on this machine, install it from there, and see that forgeries are refused.

`python -m lab.release.check` prints a line for each promise. Nothing leaves the machine; keys are made for the check
and thrown away.
"""

from __future__ import annotations

import argparse
import base64
import functools
import gzip
import hashlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.release import krew
from lab.release.package import PLUGIN, SUMS, Signer, make_all, run, tool
from lab.release.project import ROOT, Project, ReleaseError, epoch, read
from lab.release.publish import (
    BUNDLE,
    NO_PASSWORD,
    OWNERSHIP,
    OWNERSHIP_TAG,
    OWNERSHIP_TYPE,
    log_in,
    public_key,
    push_chart,
    push_ownership,
    sign_chart,
    sign_sums,
    signer,
)

PATIENCE = 30.0
"""The most seconds for a program on this machine to listen."""


@dataclass(frozen=True)
class Release:
    """A release as it was made, and what signs it.

    Attributes:
        project: Its names.
        folder: Its files.
        work: A folder for what the check writes.
        signer: Who signed the chart.
        ring: The file with the public key of the signer, as `helm verify` reads it.
        key: The secret key for cosign; the public one lies next to it.
    """

    project: Project
    folder: Path
    work: Path
    signer: Signer
    ring: Path
    key: Path

    @property
    def chart(self) -> Path:
        """The package of the chart."""
        return self.folder / f"cnpg-backup-{self.project.version}.tgz"

    @property
    def wheel(self) -> Path:
        """The Python package that is installed."""
        return next(self.folder.glob("*.whl"))

    @property
    def public(self) -> Path:
        """The public key for cosign."""
        return self.key.with_suffix(".pub")


def shown(promise: str) -> None:
    """Print that a promise holds."""
    print(f"ok  {promise}", flush=True)


def refused(
    what: str, by: str, command: Sequence[object], *words: str, environment: Mapping[str, str] | None = None
) -> None:
    """Run a command that must fail, and say why with these words.

    Raises:
        ReleaseError: it succeeded, or failed for another reason.
    """
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    if done.returncode == 0:
        raise ReleaseError(f"{what} was accepted by {by}:\n{said}")
    if not any(word.lower() in said.lower() for word in words):
        raise ReleaseError(f"{what} was refused by {by} for another reason than {' or '.join(words)}:\n{said}")
    shown(f"{what} is refused by {by}")


NOWHERE = """\
{apiVersion: v1, kind: Config, current-context: a, users: [{name: a, user: {token: none}}],
contexts: [{name: a, context: {cluster: a, user: a}}], clusters: [{name: a, cluster: {server: "https://127.0.0.1:1"}}]}
"""
"""A kubeconfig of a port at which nothing listens."""


def asks(release: Release, plugin: Sequence[object], environment: Mapping[str, str]) -> None:
    """The plugin asks the API server of a kubeconfig: all of its libraries are there and load, unlike for --version.

    Raises:
        ReleaseError: it failed for another reason than that nothing answers.
    """
    kubeconfig = release.work / "kubeconfig"
    kubeconfig.touch(0o600)
    kubeconfig.write_text(NOWHERE)
    command = [*plugin, "status", "--kubeconfig", kubeconfig]
    done = subprocess.run(
        [str(word) for word in command], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode == 0 or "the API server does not answer" not in done.stderr:
        raise ReleaseError(f"{command[0]} does not ask the API server:\n{done.stdout}{done.stderr}")


def copied(root: Path, target: Path) -> Path:
    """Copy what git knows of the working tree into a clone at another place, with other rights and times of files."""
    listed = run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=root)
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((root / name).read_bytes())
            (target / name).chmod(0o700 if os.access(root / name, os.X_OK) else 0o600)
    run(["git", "init", "--quiet"], cwd=target)
    return target


def make_twice(root: Path, work: Path, who: Signer, ring: Path) -> Path:
    """Make all files here and in a copy elsewhere, and compare them byte for byte."""
    os.environ["SOURCE_DATE_EPOCH"] = str(epoch(root))
    key = public_key(ring.parent)
    first = work / "first"
    make_all(root, first, who, key)
    elsewhere = copied(root, work / "a copy of the repository" / "cnpg-backup")
    (work / "public.asc").write_text(key)
    command = [sys.executable, "-m", "lab.release.package", work / "second", "--sign-key", who.fingerprint]
    command += ["--sign-name", who.name]
    command += ["--keyring", who.keyring, "--passphrase-file", who.passphrase, "--public-key", work / "public.asc"]
    other = {"TZ": "Pacific/Auckland", "LC_ALL": "C", "PYTHONHASHSEED": "7", "PYTHONPATH": str(elsewhere)}
    masked = ["sh", "-c", 'umask 077; exec "$@"', "sh", *command]
    run(masked, cwd=elsewhere, environment=other)
    lists = [(work / name / SUMS).read_text().splitlines() for name in ("first", "second")]
    # A signature holds the time at which it was made.
    plain = [[line for line in lines if not line.endswith(".prov")] for lines in lists]
    different = sorted(set(plain[0]) ^ set(plain[1]))
    if different:
        raise ReleaseError("two builds differ:\n" + "\n".join(different))
    for line in plain[0]:
        shown(f"two builds give the same bytes: {line}")
    return first


def tampered_chart(chart: Path, target: Path) -> Path:
    """Return a package of the same size of tar, in which one word of a program is another one."""
    raw = gzip.decompress(chart.read_bytes())
    changed = raw.replace(b"pg_dump", b"pg_dupe", 1)
    if changed == raw:
        raise ReleaseError(f"{chart.name} does not name pg_dump")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(changed, mtime=0))
    return target


def provenance(release: Release) -> None:
    """The provenance file proves the package, and no other one."""
    helm = tool("helm")
    run([helm, "verify", release.chart, "--keyring", release.ring])
    shown("helm verify accepts the package")
    forged = tampered_chart(release.chart, release.work / "forged" / release.chart.name)
    shutil.copy(f"{release.chart}.prov", f"{forged}.prov")
    refused(
        "a changed package",
        "helm verify",
        [helm, "verify", forged, "--keyring", release.ring],
        "sha256 sum does not match",
    )
    stranger = signer(release.work / "stranger", new_key(release.work / "stranger-made"), "")
    ring = public_ring(stranger.keyring.parent)
    refused(
        "a package by another key",
        "helm verify",
        [helm, "verify", release.chart, "--keyring", ring],
        "signature made by unknown",
    )


def new_key(home: Path) -> str:
    """Make a key for this check and return it, secret, as text."""
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", home, "--batch", "--pinentry-mode", "loopback", "--passphrase", ""]
    run([*gpg, "--quick-generate-key", "check <check@example.invalid>", "rsa3072", "sign", "1d"])
    return run([*gpg, "--armor", "--export-secret-keys"])


def public_ring(home: Path) -> Path:
    """Return a file with the public key of a folder of GnuPG's."""
    ring = home / "public.gpg"
    run(["gpg", "--homedir", home, "--batch", "--yes", "--output", ring, "--export"])
    return ring


def free_port() -> int:
    """Return a port of the loopback interface on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


USER, PASSWORD = "check", "of this machine"
HASHED = "$2b$04$QYn5Lcy0a0YWcFKcKSvOrOqnfqiOBQslItu2Y7rvvetEQio3GODo."
"""A user of the registry on this machine, which lives as long as a check, and the hash of its password (bcrypt)."""


@contextmanager
def registry(work: Path, *, closed: bool = False) -> Iterator[str]:
    """An OCI registry on the loopback interface, as long as the block runs; `closed` to all but one user."""
    port = free_port()
    config = work / "registry.yaml"
    text = (
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {work / 'images'}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    if closed:
        (work / "htpasswd").write_text(f"{USER}:{HASHED}\n")
        text += f"auth: {{htpasswd: {{realm: check, path: {work / 'htpasswd'}}}}}\n"
    config.write_text(text)
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
    with (
        (work / "registry.log").open("wb") as log,
        subprocess.Popen([tool("registry"), "serve", config], stdout=log, stderr=log, env=environment) as server,
    ):
        try:
            wait_for(port, server, work / "registry.log")
            yield f"oci://127.0.0.1:{port}/charts"
        finally:
            server.terminate()
            server.wait(PATIENCE)


def wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server listens."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise ReleaseError(f"the registry does not listen on port {port}:\n{log.read_text()[-2000:]}")


def ownership(host: str) -> bytes:
    """Return what Artifact Hub reads of a chart's repository: the layer of its type at its tag."""
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    def read(path: str, accepted: str) -> bytes:
        headers = {"Accept": accepted, "Authorization": f"Basic {login}"}
        request = urllib.request.Request(f"http://{host}/v2/charts/cnpg-backup/{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
            content: bytes = answer.read()
            return content

    manifest = json.loads(read(f"manifests/{OWNERSHIP_TAG}", "application/vnd.oci.image.manifest.v1+json"))
    digests = [layer["digest"] for layer in manifest["layers"] if layer["mediaType"] == OWNERSHIP_TYPE]
    return b"".join(read(f"blobs/{digest}", "*/*") for digest in digests)


def from_registry(release: Release) -> None:
    """What was pushed can be pulled, verified and rendered; a package that replaces it is refused."""
    helm, cosign = tool("helm"), tool("cosign")
    verify = [cosign, "verify", "--allow-http-registry", "--insecure-ignore-tlog=true", "--key", release.public]
    # What the logins write is part of what is thrown away.
    os.environ["DOCKER_CONFIG"] = str(release.work / "docker")
    os.environ["HELM_REGISTRY_CONFIG"] = str(release.work / "helm-registry.json")
    with registry(release.work, closed=True) as address:
        host = address.removeprefix("oci://").split("/")[0]
        try:
            push_chart(release.folder, release.project, address, plain_http=True)
        except ReleaseError:
            shown("the registry takes nothing without a login")
        else:
            raise ReleaseError("the registry of the check is open: the login shows nothing")
        log_in(host, USER, PASSWORD, plain_http=True)
        reference = push_chart(release.folder, release.project, address, plain_http=True)
        sign_chart(reference, release.key, plain_http=True)
        shown("one login lets Helm push the chart and cosign its signature")
        push_ownership(ROOT, address, plain_http=True)
        if ownership(host) != (ROOT / OWNERSHIP).read_bytes():
            raise ReleaseError(f"the registry does not have {OWNERSHIP} as Artifact Hub looks for it")
        shown(f"Artifact Hub finds {OWNERSHIP} at the tag {OWNERSHIP_TAG}")
        chart = [f"{address}/cnpg-backup", "--version", release.project.version, "--plain-http"]
        by_tag = f"{address.removeprefix('oci://')}/cnpg-backup:{release.project.version}"
        pulled = release.work / "pulled"
        pull = [helm, "pull", *chart, "--verify", "--keyring", release.ring, "--destination"]
        pulled.mkdir()
        run([*pull, pulled])
        if (pulled / release.chart.name).read_bytes() != release.chart.read_bytes():
            raise ReleaseError("the chart that was pulled is not the one that was pushed")
        shown("helm pull --verify gives the bytes that were pushed")
        for each in ("helm", "helm3"):
            rendered = run([tool(each), "template", "cnpg-backup", *chart, "--namespace", "default"])
            if "kind: CronJob" not in rendered:
                raise ReleaseError(f"{each} template of the chart in the registry gives no CronJob")
            shown(f"{each} renders the chart from oci://")
        run([*verify, by_tag])
        shown("cosign verify accepts the chart in the registry")

        stolen = release.work / "stolen"
        stolen.mkdir()
        tampered_chart(release.chart, stolen / release.chart.name)
        shutil.copy(f"{release.chart}.prov", stolen)
        push_chart(stolen, release.project, address, plain_http=True)
        refused(
            "a chart that replaced it in the registry",
            "cosign verify",
            [*verify, by_tag],
            "no signatures found",
            "no matching",
        )
        elsewhere = release.work / "pulled-again"
        elsewhere.mkdir()
        refused("the same chart", "helm pull --verify", [*pull, elsewhere], "sha256 sum does not match")


def checksums(release: Release) -> None:
    """The signed list of checksums proves each file."""
    sign_sums(release.folder, release.key)
    verify = [tool("cosign"), "verify-blob", "--insecure-ignore-tlog=true", "--key", release.public]
    verify += ["--bundle", release.folder / BUNDLE]
    run([*verify, release.folder / SUMS])
    run(["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=release.folder)
    shown(f"{SUMS} is signed, and names all files")
    folder = release.work / "changed"
    shutil.copytree(release.folder, folder)
    with (folder / PLUGIN).open("ab") as plugin:
        plugin.write(b"\0")
    refused(
        "a changed plugin",
        "sha256sum --check",
        ["sh", "-c", f"cd {str(folder)!r} && sha256sum --check --strict {SUMS}"],
        f"{PLUGIN}: FAILED",
    )
    digest = hashlib.sha256((folder / PLUGIN).read_bytes()).hexdigest()
    lines = (folder / SUMS).read_text().splitlines(keepends=True)
    (folder / SUMS).write_text(
        "".join(f"{digest}  {PLUGIN}\n" if line.endswith(f" {PLUGIN}\n") else line for line in lines)
    )
    run(["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=folder)
    refused(
        "a list that fits the changed plugin",
        "cosign verify-blob",
        [*verify, folder / SUMS],
        "invalid signature",
        "failed to verify",
    )


def python_package(release: Release) -> None:
    """The wheel installs by pipx into an environment of its own, and the command works."""
    home = release.work / "pipx"
    environment = {"PIPX_HOME": str(home), "PIPX_BIN_DIR": str(home / "bin"), "PIPX_MAN_DIR": str(home / "man")}
    pipx = [tool("python-build", "python"), "-m", "pipx"]
    constraint = f"--pip-args=--constraint={ROOT / 'constraints.txt'}"
    run(
        [*pipx, "install", "--quiet", "--python", sys.executable, constraint, release.wheel],
        environment=environment,
    )
    version = run([home / "bin" / PLUGIN, "--version"]).strip()
    if version != f"kubectl cnpg-backup {release.project.python_version}":
        raise ReleaseError(f"the installed plugin says {version!r}")
    asks(release, [home / "bin" / PLUGIN], dict(os.environ))
    shown("pipx installs the wheel, and the plugin asks the API server")
    if kubectl := kubectl_path():
        path = os.pathsep.join([str(home / "bin"), str(kubectl.parent), os.environ["PATH"]])
        found = run([kubectl, "cnpg-backup", "--version"], environment={"PATH": path}).strip()
        if found != version:
            raise ReleaseError(f"kubectl cnpg-backup says {found!r}")
        shown("kubectl finds the plugin")
    digest = hashlib.sha256(release.wheel.read_bytes()).hexdigest()
    forged = release.work / "forged" / release.wheel.name
    forged.parent.mkdir(exist_ok=True)
    forged.write_bytes(release.wheel.read_bytes() + b"\0")
    wanted = release.work / "forged" / "requirements.txt"
    wanted.write_text(f"cnpg-backup @ {forged.as_uri()} --hash=sha256:{digest}\n")
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--require-hashes",
        "--target",
        release.work / "none",
    ]
    refused("a changed wheel", "pip --require-hashes", [*install, "--requirement", wanted], "do not match the hashes")


def kubectl_path() -> Path | None:
    """Return kubectl, if there is one: on PATH, or as the tests on a cluster have built it."""
    found = shutil.which("kubectl")
    if found:
        return Path(found)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnpg-backup" / "tools"
    return next(iter(sorted(cache.glob("kubernetes-*/kubectl"))), None)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The files of a folder by HTTP on the loopback interface, as long as the block runs."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def krew_index(release: Release) -> None:
    """Krew's own validator accepts the manifest, and krew installs the plugin from an index of ours."""
    krew_program = tool("krew", "kubectl-krew")
    archive = release.folder / f"{PLUGIN}-{release.project.version}.tar.gz"
    # kubectl needs no cluster for this; where there is none, krew is called by the name that kubectl would give it.
    programs = release.work / "bin"
    programs.mkdir()
    (programs / "kubectl").write_text('#!/bin/sh\n[ "$1" = krew ] || exit 2\nshift\nexec kubectl-krew "$@"\n')
    (programs / "kubectl").chmod(0o755)
    path = os.pathsep.join([str(programs), str(krew_program.parent), os.environ["PATH"]])
    with served(release.folder) as address:
        index = release.work / "index"
        manifest = index / "plugins" / "cnpg-backup.yaml"
        manifest.parent.mkdir(parents=True)
        manifest.write_text(krew.manifest(release.project, archive, address))
        validator = [tool("krew", "validate-krew-manifest"), "-manifest", manifest]
        run(validator, environment={"PATH": path, "KREW_ROOT": str(release.work / "krew-0")})
        shown("krew's validator accepts the manifest, and installs from it for each system")
        git = ["git", "-c", "user.name=check", "-c", "user.email=check@example.invalid"]
        for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "index"]):
            run([*git, *command], cwd=index)
        environment = {"PATH": path, "KREW_ROOT": str(release.work / "krew"), "KREW_NO_UPGRADE_CHECK": "1"}
        run([krew_program, "index", "add", "ours", index.as_uri()], environment=environment)
        run([krew_program, "install", "ours/cnpg-backup"], environment=environment)
        installed = release.work / "krew" / "bin" / PLUGIN
        said = run([installed, "--version"], environment={"SHIV_ROOT": str(release.work / "shiv")}).strip()
        if said != f"kubectl cnpg-backup {release.project.python_version}":
            raise ReleaseError(f"the plugin that krew installed says {said!r}")
        asks(release, [installed], {**os.environ, "SHIV_ROOT": str(release.work / "shiv")})
        shown("krew installs the plugin from an index of ours, and it asks the API server")
        bare = {"PATH": "/usr/bin:/bin", "HOME": str(release.work), "SHIV_ROOT": str(release.work / "shiv-bare")}
        other = other_python()
        if other:
            asks(release, [other, release.folder / PLUGIN], bare)
            made_with = run([other, "--version"]).strip()
            shown(f"the single file asks the API server with another Python than it was made with: {made_with}")
        content = archive.read_bytes()
        archive.write_bytes(content + b"\0")
        run([krew_program, "uninstall", "cnpg-backup"], environment=environment)
        refused(
            "a changed archive",
            "krew install",
            [krew_program, "install", "ours/cnpg-backup"],
            "checksum does not match",
            environment=environment,
        )
        archive.write_bytes(content)


def other_python() -> Path | None:
    """Return a newer Python than this one, if the machine has one."""
    minors = range(sys.version_info.minor + 1, sys.version_info.minor + 5)
    candidates = [Path(found) for minor in minors if (found := shutil.which(f"python3.{minor}"))]
    candidates += [one for minor in minors for one in Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3")]
    for candidate in candidates:
        # What pyenv puts on PATH may be a name without a program.
        if subprocess.run([candidate, "--version"], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


CHECKS: tuple[Callable[[Release], None], ...] = (provenance, from_registry, checksums, python_package, krew_index)


def main() -> int:
    """Run the check."""
    parser = argparse.ArgumentParser(description="Check that a release can be made, published, verified and installed.")
    parser.add_argument("--keep", action="store_true", help="keep the files, and say where they are")
    options = parser.parse_args()
    began = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="release-check-"))
    try:
        home = work / "gnupg"
        who = signer(home, new_key(work / "gnupg-made"), "")
        ring = public_ring(home)
        run([tool("cosign"), "generate-key-pair", "--output-key-prefix", work / "cosign"], environment=NO_PASSWORD)
        folder = make_twice(ROOT, work, who, ring)
        release = Release(read(), folder, work, who, ring, work / "cosign.key")
        for check in CHECKS:
            check(release)
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        for folder in work.glob("*/pubring.kbx"):
            subprocess.run(["gpgconf", "--homedir", folder.parent, "--kill", "all"], check=False)
        if options.keep:
            print(f"kept: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    print(f"release-check: all of it holds, after {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
