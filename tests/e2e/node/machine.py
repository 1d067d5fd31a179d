"""What the machine must bring along: root on Linux, Go, and a handful of Debian packages."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

from tests.e2e.node.errors import NodeError

CNI_PLUGINS = Path("/usr/lib/cni")

# A command or file that shows that the package is there, and the package.
_NEEDED = {
    "buildah": "buildah",  # images from Containerfiles, without an engine
    "conntrack": "conntrack",  # kube-proxy
    "gcc": "gcc",  # runc, cgo
    "ip": "iproute2",
    "ipset": "ipset",  # kube-router
    "iptables": "iptables",  # kubelet, kube-proxy, kube-router, CNI
    "mke2fs": "e2fsprogs",  # the node's disk and its volumes
    "mmdebstrap": "mmdebstrap",  # root file systems of images
    "mount": "mount",
    "openssl": "openssl",  # certificates
    "pkg-config": "pkg-config",  # runc, cgo
    "setpriv": "util-linux",
    "/usr/include/seccomp.h": "libseccomp-dev",  # runc, cgo
    str(CNI_PLUGINS / "bridge"): "containernetworking-plugins",
}
# A module of the kernel, and what is there once it is loaded or built in.
_KERNEL = {
    "br_netfilter": "/proc/sys/net/bridge/bridge-nf-call-iptables",  # policies between pods of one bridge
    "loop": "/dev/loop-control",  # the node's disk and its volumes
    "overlay": "/sys/module/overlay",  # the layers of images
}
_SYSTEM_PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def missing_packages() -> list[str]:
    """Return the Debian packages that are not installed, sorted."""
    return sorted(
        {
            package
            for thing, package in _NEEDED.items()
            if not (Path(thing).exists() if thing.startswith("/") else shutil.which(thing, path=_SYSTEM_PATH))
        }
    )


def require() -> None:
    """Check that a node can run here, and as root on Debian install the packages that are missing.

    Raises:
        NodeError: something is missing and cannot be installed; one line names it and the remedy.
    """
    if platform.system() != "Linux":
        raise NodeError(f"a node needs Linux, this is {platform.system()}: set E2E_KUBECONFIG to use a cluster instead")
    if os.geteuid() != 0:
        raise NodeError("a node needs root (namespaces, mounts): run as root, or set E2E_KUBECONFIG to use a cluster")
    if shutil.which("go") is None:
        raise NodeError("a node is built by Go, and 'go' is not on PATH: install Go 1.26 or newer")
    _load_modules()
    packages = missing_packages()
    if packages and shutil.which("apt-get"):
        _install(packages)
        packages = missing_packages()
    if packages:
        raise NodeError(f"Debian packages are missing: apt-get install {' '.join(packages)}")


def _load_modules() -> None:
    for module, sign in _KERNEL.items():
        if not Path(sign).exists() and shutil.which("modprobe", path=_SYSTEM_PATH):
            subprocess.run(["modprobe", module], capture_output=True, check=False, env={"PATH": _SYSTEM_PATH})
        if not Path(sign).exists():
            raise NodeError(f"a node needs the kernel's module {module}, and {sign} is not there: modprobe {module}")


def _install(packages: list[str]) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
    ):
        done = subprocess.run(command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise NodeError(f"{' '.join(command)} failed: {done.stderr[-1000:].strip()}")


def debian_mirror() -> str:
    """Return the address from which this machine's own apt takes Debian's main archive.

    Raises:
        NodeError: apt has no source of Debian's main component.
    """
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)", "Identifier: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    for line in done.stdout.splitlines():
        origin, label, component, address = line.split("|", 3)
        if (origin, label, component) == ("Debian", "Debian", "main"):
            return address
    raise NodeError("apt has no source of Debian's component 'main': add one to /etc/apt/sources.list, apt-get update")


def architecture() -> str:
    """Return this machine's architecture by its Go name, `amd64` or `arm64`."""
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    machine = platform.machine()
    if machine not in names:
        raise NodeError(f"no node was ever tried on the architecture {machine}, only on {', '.join(names)}")
    return names[machine]
