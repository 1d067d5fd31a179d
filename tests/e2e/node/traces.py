"""What a node could leave behind on the machine, as its test looks for it."""

import contextlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.node.guard import cgroup_roots

_NAMESPACES = ("net", "mnt", "pid", "ipc", "uts")
# Where Kubernetes, CNI and container runtimes write by default, whatever they are told.
_FOLDERS = ("/run", "/run/netns", "/etc/cni", "/etc/kubernetes", "/opt", "/var/lib", "/var/lib/cni", "/var/log")
_TUNABLES = (
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/ip_forward",
    "net/netfilter/nf_conntrack_max",
    "vm/overcommit_memory",
)


@dataclass(frozen=True, slots=True)
class Machine:
    """The parts of the machine outside a node that a node could change, to be compared before and after."""

    interfaces: str
    firewall: str
    files: tuple[str, ...]
    tunables: tuple[str, ...]

    @classmethod
    def look(cls) -> "Machine":
        """Look at the machine as it is now."""
        folders = [Path(folder) for folder in _FOLDERS]
        paths = [Path("/proc/sys", name) for name in _TUNABLES]
        return cls(
            interfaces=_output("ip", "-brief", "link"),
            firewall=_output("iptables-save"),
            files=tuple(sorted(str(path) for folder in folders if folder.is_dir() for path in folder.iterdir())),
            tunables=tuple(f"{path}={path.read_text().strip()}" for path in paths if path.exists()),
        )


@dataclass(frozen=True, slots=True)
class Traces:
    """How to recognise what belongs to one node, noted while it runs.

    Attributes:
        state: the node's state folder; its name is that of the control groups.
        namespaces: the node's namespaces, such as `net:[4026532281]`.
    """

    state: Path
    namespaces: frozenset[str]

    @classmethod
    def of(cls, state: Path, pid: int) -> "Traces":
        """Note the traces of the node whose first process is `pid`."""
        return cls(state, frozenset(str(Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in _NAMESPACES))

    def left(self) -> list[str]:
        """Return whatever is there of the node, one line each; nothing is left when it is empty."""
        return [*self._processes(), *self._mounts(), *self._cgroups(), *self._loops(), *self._files()]

    def _processes(self) -> list[str]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                # Pods have namespaces of their own, yet their control groups are below the node's.
                ours = {str((process / "ns" / kind).readlink()) for kind in _NAMESPACES} & self.namespaces
                groups = (process / "cgroup").read_text()
                if ours or str(self.state) in command or self.state.name in groups:
                    found.append(f"process {process.name} {command[:120]} {' '.join(sorted(ours))}".rstrip())
        return found

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mounts").read_text().splitlines()
        return [f"mount {line}" for line in lines if str(self.state) in line or "cni-" in line]

    def _cgroups(self) -> list[str]:
        # Groups come and go while one looks: os.walk passes over what is gone, rglob raises.
        folders = (folder for root in cgroup_roots() for folder, _, _ in os.walk(root))
        return [f"control group {path}" for path in folders if Path(path).name.startswith(self.state.name)]

    def _loops(self) -> list[str]:
        found = []
        for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
            with contextlib.suppress(OSError):
                if str(self.state) in (name := backing.read_text().strip()):
                    found.append(f"loop device {backing.parts[3]} on {name}")
        return found

    def _files(self) -> list[str]:
        return [f"file {path}" for path in self.state.parent.glob(f"{self.state.name}*")]


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    # Counters and dates are no changes.
    return "\n".join(line.partition(" [")[0] for line in done.stdout.splitlines() if not line.startswith("#"))
