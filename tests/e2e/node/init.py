"""The first process inside the node's namespaces: sets them up, then reaps whatever is left to it.

All that the node writes is private to it: its disk is a file that is unlinked as soon as it is mounted, and the
machine's folders that Kubernetes, CNI and container runtimes write to are covered. When this process ends, the kernel
ends all others in the namespaces, unmounts, and gives the disk back.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

NODE_ADDRESS = "10.88.0.2"
GATEWAY = "10.88.0.1"
DISK_BYTES = 64 << 30  # sparse

# Settings of the whole machine that a kubelet insists on. It sees them fulfilled, the machine keeps its own.
_KUBELET_TUNABLES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
_NETWORK_TUNABLES = {
    "net/ipv4/ip_forward": "1",
    "net/bridge/bridge-nf-call-iptables": "1",
}


def run(*command: str) -> None:
    """Run a command that must succeed; its error output goes to the log of this process."""
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def mount_disk(state: Path) -> None:
    """Mount the node's disk at `<state>/disk`: an unlinked sparse file, so that nothing has to be removed later."""
    image, disk = state / "disk.img", state / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    run("mke2fs", "-q", "-t", "ext4", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", str(image))
    # Nothing here has to survive a crash of the machine.
    run("mount", "-o", "loop,nobarrier,noatime", str(image), str(disk))
    image.unlink()
    (disk / "tmp").mkdir(mode=0o1777)


def cover_machine(state: Path) -> None:
    """Cover the folders of the machine that the node's parts write to, whatever they are told."""
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    kept = Path("/run/.state")
    kept.mkdir()
    run("mount", "--rbind", str(state), str(kept))
    for name in ("etc", "var", "opt"):
        upper, work = Path(f"/run/.cover/{name}/upper"), Path(f"/run/.cover/{name}/work")
        upper.mkdir(parents=True)
        work.mkdir()
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/{name},upperdir={upper},workdir={work}", f"/{name}")
    # The state may itself lie in a folder that is covered by now.
    run("mount", "--rbind", str(kept), str(state))
    for tunable, value in _KUBELET_TUNABLES.items():
        stand_in = Path("/run/.cover", tunable.replace("/", "."))
        stand_in.write_text(value + "\n")
        run("mount", "--bind", str(stand_in), f"/proc/sys/{tunable}")


def set_up_network() -> None:
    """Give the node an address, and a default route that leads nowhere: both ends of the cable are in here."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "node0", "type", "veth", "peer", "name", "nowhere0")
    run("ip", "address", "add", f"{NODE_ADDRESS}/24", "dev", "node0")
    run("ip", "link", "set", "nowhere0", "up")
    run("ip", "link", "set", "node0", "up")
    run("ip", "route", "add", "default", "via", GATEWAY, "dev", "node0")
    for tunable, value in _NETWORK_TUNABLES.items():
        Path("/proc/sys", tunable).write_text(value)


def main() -> None:
    """Set up, report the process id that the machine knows this process by, and reap for ever."""
    state, ready = Path(sys.argv[1]), int(sys.argv[2])
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    # Still the machine's own /proc, which knows this process by another id than 1.
    pid = Path("/proc/self").readlink().name
    run("mount", "-t", "proc", "proc", "/proc")
    mount_disk(state)
    cover_machine(state)
    set_up_network()
    run("mount", "--make-rshared", "/")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    os.write(ready, pid.encode())
    os.close(ready)
    while True:
        signal.sigwait({signal.SIGCHLD})
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            continue


if __name__ == "__main__":
    main()
