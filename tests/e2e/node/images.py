"""Container images without a registry: Debian root file systems and Go binaries, put together by buildah.

Each image becomes one archive in the cache, named after the hash of all that pins it: its Containerfile, the Debian
suite and packages, the build of its binary, and its base. Debian packages are pinned by their suite alone.
"""

import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.e2e.node import machine, pins
from tests.e2e.node.errors import NodeError
from tests.e2e.node.paths import CONTAINERFILES, cache, made_once

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RootFileSystem:
    """What mmdebstrap unpacks.

    Attributes:
        suite: Debian's suite, such as `trixie`.
        packages: the packages wanted; what they depend on comes along.
        variant: mmdebstrap's: `essential` is a system without apt, `extract` unpacks nothing but the packages.
    """

    suite: str
    packages: tuple[str, ...]
    variant: str = "essential"


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        name: its name and tag, such as `localhost/postgres:17-test`.
        containerfile: stem of its file in `tests/e2e/images`.
        root: `rootfs.tar` in its build context.
        tool: the Go tool whose binaries are in its build context.
        base: the image it is built from, as the argument `BASE`.
        arguments: further build arguments.
    """

    name: str
    containerfile: str
    root: RootFileSystem | None = None
    tool: str | None = None
    base: "Image | None" = None
    arguments: tuple[str, ...] = ()

    @cached_property
    def key(self) -> str:
        """Hash of all that pins the image; builds its tool where that was not done before."""
        return pins.digest(
            self.name,
            machine.architecture(),
            (CONTAINERFILES / f"{self.containerfile}.Containerfile").read_bytes(),
            repr((self.root, _OMITTED, _HOOK)) if self.root else "",
            pins.build(self.tool).name if self.tool else "",
            self.base.key if self.base else "",
            *self.arguments,
        )

    @property
    def archive(self) -> Path:
        """Where its archive lies once it is built."""
        stem = self.name.removeprefix("localhost/").replace("/", "-").replace(":", "-")
        return cache("images") / f"{stem}-{self.key}.tar"


# Nobody reads manuals in a container. JIT needs a compiler of 100 MB and PostgreSQL does without where it is not there.
_OMITTED = (
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/usr/lib/*/libLLVM*",
    "/usr/lib/llvm*",
    "/usr/lib/postgresql/*/lib/bitcode/*",
    "/usr/lib/postgresql/*/lib/llvmjit*",
)
# The package would create a server of its own.
_SETTINGS = "/etc/postgresql-common"
_HOOK = f'mkdir -p "$1{_SETTINGS}" && echo "create_main_cluster = false" >"$1{_SETTINGS}/createcluster.conf"'

BUSYBOX = Image("localhost/busybox:test", "busybox", RootFileSystem("trixie", ("busybox-static",), "extract"))
PAUSE = Image("localhost/pause:test", "pause", base=BUSYBOX)
PYTHON = Image("localhost/python:3-test", "python", RootFileSystem("trixie", ("python3-minimal", "libpython3-stdlib")))
COREDNS = Image("localhost/coredns:test", "coredns", tool="coredns", base=BUSYBOX)
# The operator's newest minor version, and the one before it: names of their modules in `tools`.
CNPG = {"newest": "cnpg-operator", "previous": "cnpg-operator-previous"}
CNPG_OPERATORS = {
    tool: Image(f"localhost/{tool}:test", "cnpg-operator", tool=tool, base=BUSYBOX) for tool in CNPG.values()
}
RCLONE = Image("localhost/rclone:1-test", "rclone", tool="rclone", base=BUSYBOX)
VERSITYGW = Image("localhost/versitygw:test", "versitygw", tool="versitygw", base=BUSYBOX)
"""A store for copies and what carries them there, which the tests that need them load."""
KYVERNO = Image("localhost/kyverno:test", "kyverno", tool="kyverno", base=BUSYBOX)


def _postgres(major: int, suite: str) -> Image:
    """PostgreSQL with the tools of a small container: server, client, busybox, flock (util-linux), no Python."""
    packages = (f"postgresql-{major}", "busybox", "util-linux")
    return Image(
        f"localhost/postgres:{major}-test", "postgres", RootFileSystem(suite, packages), arguments=(f"MAJOR={major}",)
    )


POSTGRES = {17: _postgres(17, "trixie"), 15: _postgres(15, "bookworm")}
OPERANDS = {
    major: Image(f"localhost/postgresql:{major}", "postgresql", base=image) for major, image in POSTGRES.items()
}


def wanted_cnpg() -> str:
    """Return the operator that E2E_CNPG asks for: that of the newest minor version, or of the one before it.

    Raises:
        NodeError: it asks for another one.
    """
    wanted = os.environ.get("E2E_CNPG") or "newest"
    if wanted not in CNPG:
        raise NodeError(f"E2E_CNPG={wanted} is none of {', '.join(CNPG)}")
    return CNPG[wanted]


def of_node(cnpg: str, *, with_kyverno: bool) -> list[Image]:
    """Return all images that a node with this version of the operator needs."""
    operators = [CNPG_OPERATORS[cnpg], *([KYVERNO] if with_kyverno else [])]
    return [BUSYBOX, PAUSE, PYTHON, COREDNS, *operators, *POSTGRES.values(), *OPERANDS.values()]


def build(images: Iterable[Image]) -> dict[str, Path]:
    """Build those images that the cache does not hold, and return the archive of each by the image's name.

    Raises:
        NodeError: a build failed; the message holds the end of its output.
    """
    wanted = tuple(images)
    with (cache("images") / ".lock").open("w") as building:
        # Two nodes that start at a time: the second one waits, and finds what the first one has built.
        fcntl.flock(building, fcntl.LOCK_EX)
        _build_missing(wanted)
    return {image.name: image.archive for image in wanted}


def _build_missing(wanted: tuple[Image, ...]) -> None:
    todo = [image for image in _with_bases(wanted) if not image.archive.exists()]
    if todo:
        with ThreadPoolExecutor(max_workers=2) as pool:
            roots = {image.root for image in todo if image.root}
            list(pool.map(_root_archive, roots))
        with tempfile.TemporaryDirectory(prefix=".storage-", dir=cache("images")) as storage:
            built: set[Image] = set()
            for image in todo:
                _build(image, Path(storage), built)


def _with_bases(images: tuple[Image, ...]) -> list[Image]:
    ordered: dict[Image, None] = {}
    for image in images:
        if image.base:
            ordered.setdefault(image.base)
        ordered.setdefault(image)
    return list(ordered)


def _root_archive(root: RootFileSystem) -> Path:
    archive = cache("rootfs") / f"{root.suite}-{root.packages[0]}-{pins.digest(repr((root, _OMITTED, _HOOK)))}.tar"

    def make(partial: Path) -> None:
        _log.info("unpacking Debian %s with %s", root.suite, ", ".join(root.packages))
        command = ["mmdebstrap", "--mode=root", f"--variant={root.variant}", "--format=tar", "--quiet"]
        command += [f"--include={','.join(root.packages)}", f"--essential-hook={_HOOK}"]
        command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _OMITTED]
        command += [root.suite, str(partial), f"deb {machine.debian_mirror()} {root.suite} main"]
        _run(command)

    return made_once(archive, make)


def _build(image: Image, storage: Path, built: set[Image]) -> None:
    if image in built:
        return
    if image.base:
        _build(image.base, storage, built)
    _log.info("building image %s", image.name)
    context = storage / f"context-{image.key}"
    context.mkdir()
    if image.root:
        os.link(_root_archive(image.root), context / "rootfs.tar")
    if image.tool:
        for binary in pins.build(image.tool).iterdir():
            shutil.copy2(binary, context)
    env = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}
    buildah = ["buildah", "--root", str(storage / "root"), "--runroot", str(storage / "run")]
    arguments = [f"--build-arg={argument}" for argument in (f"ARCH={machine.architecture()}", *image.arguments)]
    if image.base:
        arguments.append(f"--build-arg=BASE={image.base.name}")
    containerfile = CONTAINERFILES / f"{image.containerfile}.Containerfile"
    # Pods get their files' times from here: nothing about an image depends on when it was built.
    _run([*buildah, "build", "--pull-never", "--timestamp=0", *arguments, "-q", "-t", image.name, "-f",
          str(containerfile), str(context)], env)  # fmt: skip

    def push(partial: Path) -> None:
        _run([*buildah, "push", "-q", image.name, f"docker-archive:{partial}:{image.name}"], env)

    made_once(image.archive, push)
    shutil.rmtree(context)
    built.add(image)


def _run(command: list[str], env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise NodeError(f"{' '.join(command)} failed ({done.returncode}):\n{(done.stdout + done.stderr)[-3000:]}")
