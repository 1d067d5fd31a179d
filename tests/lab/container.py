"""Run a rendered container in namespaces of its own, with the mounts that it names and no other data of this machine.

The root is empty but for programs (`/usr`, `/etc` and the folders that stand for the image); each mount is where the
container has it, of a volume that is a folder here, with its `subPath` and read-only where it says so. It has its own
processes, no capabilities and no way to get more. It needs root, as a container runtime does.
"""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.lab.postgres import User

_TERMINATION_LOG = "/dev/termination-log"
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc")
_EMPTY = ("/proc", "/dev/shm", "/tmp")  # noqa: S108 # of the container, not of this machine
_DEVICES = ("null", "zero", "random", "urandom")


@functools.cache
def possible() -> bool:
    """Whether this user may make such a container here."""
    command = ["unshare", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0


def start(
    container: Mapping[str, Any], volumes: Mapping[str, Path], image: Sequence[Path | str], user: User, folder: Path
) -> subprocess.Popen[str]:
    """Start a container; its log is the standard output of what is returned.

    Args:
        container: As rendered.
        volumes: The folder behind each volume.
        image: Folders of programs, which become its PATH; the folders next to them are its files.
        user: Whom it runs as.
        folder: An empty folder for its root and its termination message, `termination-message`.
    """
    root, message = folder / "root", folder / "termination-message"
    root.mkdir(parents=True)
    message.touch()
    message.chmod(0o666)
    steps = [f"mount -t tmpfs -o mode=755 tmpfs {root}", "cd /"]
    for path in _SYSTEM:
        if Path(path).is_symlink():
            steps.append(f"ln -s {Path(path).readlink()} {root}{path}")
        elif Path(path).exists():
            steps.append(_bind(path, f"{root}{path}"))
    steps += [
        f"mkdir -p {' '.join(root.as_posix() + path for path in _EMPTY)}",
        f"mount -t proc proc {root}{_EMPTY[0]}",
    ]
    steps += [f"mkdir -m 700 {root}/root", f"mount -t tmpfs -o mode=1777 tmpfs {root}{_EMPTY[1]}"]
    # They may be in one of these folders here.
    for path in sorted({str(Path(part).parent) if Path(part).name == "bin" else str(part) for part in image}):
        if not path.startswith(_SYSTEM):
            steps.append(_bind(path, f"{root}{path}"))
    steps += [_bind(f"/dev/{name}", f"{root}/dev/{name}", file=True) for name in _DEVICES]
    steps.append(_bind(message, f"{root}{container.get('terminationMessagePath', _TERMINATION_LOG)}", file=True))
    for mount in container["volumeMounts"]:
        source = volumes[mount["name"]] / mount.get("subPath", "")
        target = f"{root}{mount['mountPath']}"
        steps.append(_bind(source, target, file=source.is_file(), read_only=mount.get("readOnly", False)))
    path = ":".join([*map(str, image), "/usr/bin", "/bin"])
    environment = {"PATH": path} | {entry["name"]: entry.get("value", "") for entry in container["env"]}
    words = [*container["command"], *container.get("args", ())]
    drop = f"--reuid={user.uid} --regid={user.gid} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all"
    variables = " ".join(shlex.quote(f"{key}={value}") for key, value in environment.items())
    steps.append(f"exec chroot {root} setpriv {drop} env -i {variables} {shlex.join(words)}")
    process = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "sh", "-ec", "\n".join(steps)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    # As runtimes do: the user of the container may open its log again by the name of the descriptor.
    os.fchown(process.stdout.fileno(), user.uid, user.gid)
    return process


def _bind(source: Path | str, target: str, *, file: bool = False, read_only: bool = False) -> str:
    make = f"mkdir -p {Path(target).parent} && : >>{target}" if file else f"mkdir -p {target}"
    bind = f"{make} && mount --bind {shlex.quote(str(source))} {target}"
    return f"{bind} && mount -o remount,bind,ro {target}" if read_only else bind
