"""Run the pod of a rendered CronJob on this machine, without a cluster.

Volumes become folders, laid out as the kubelet lays them out; each container's own command, arguments and environment
run as rendered. Only what a cluster would bring is mapped: mount paths to folders, images to folders of programs, the
servers' host names and ports. What the pod says that is not understood here is refused, so that nothing rendered is
silently left out of a demo or a test.

Of the limits, those of disk space are enforced, as the kubelet does by evicting the pod. Not enforced, for want of a
container: the security context, read-only mounts, limits of memory and CPU, the network policy.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Manifest = Mapping[str, Any]
OnLine = Callable[[str, str], None]
"""Called with a container's name and each line of its log."""

_TERMINATION_LOG = "/dev/termination-log"
_GRACE_SECONDS = 30.0
# The kubelet's own bounds on a termination message and on the log that stands in for it.
_MESSAGE_BYTES = 4096
_FALLBACK_BYTES, _FALLBACK_LINES = 2048, 80
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_DISK = "ephemeral-storage"

# Fields without a meaning on one machine that has no scheduler, no registry and no API server; None: any value.
_POD_IGNORED: Mapping[str, tuple[Any, ...] | None] = {
    "affinity": None,
    "automountServiceAccountToken": (False,),
    "enableServiceLinks": (False,),
    "imagePullSecrets": None,
    "nodeSelector": None,
    "priorityClassName": None,
    "restartPolicy": ("Never",),
    "securityContext": None,
    "serviceAccountName": None,
    "tolerations": None,
}
_CONTAINER_IGNORED: Mapping[str, tuple[Any, ...] | None] = {
    "imagePullPolicy": None,
    "resources": None,
    "securityContext": None,
}


class PodError(Exception):
    """The pod says something that is not understood here, or would not start in a cluster either."""


class _Fields:
    """A part of a manifest of which every field must be taken."""

    def __init__(self, fields: Manifest, where: str) -> None:
        self._left = dict(fields)
        self.where = where

    def __enter__(self) -> _Fields:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._left:
            raise PodError(f"{self.where}: not understood here: {', '.join(sorted(self._left))}")

    def take(self, name: str, *default: Any) -> Any:
        """Take a field; the default stands for an absent one.

        Raises:
            PodError: it is absent and there is no default.
        """
        if name not in self._left and not default:
            raise PodError(f"{self.where}: {name} is missing")
        return self._left.pop(name, *default)

    def ignore(self, known: Mapping[str, tuple[Any, ...] | None]) -> None:
        """Take fields that change nothing here.

        Raises:
            PodError: such a field has a value that would change something.
        """
        for name, allowed in known.items():
            value = self._left.pop(name, allowed[0] if allowed else None)
            if allowed is not None and value not in allowed:
                raise PodError(f"{self.where}: {name}: {value!r} is not understood here")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a database server of the configuration really listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How a container ended.

    Attributes:
        exit_code: as Kubernetes shows it, 128 + the signal's number for a killed one.
        log: its standard output and error, as they came.
        message: the termination message.
        seconds: how long it ran.
    """

    exit_code: int
    log: str
    message: str
    seconds: float


@dataclass(frozen=True, slots=True)
class PodEnded:
    """How a pod ended: its containers by name, in the order in which they ran, as far as they ran."""

    name: str
    containers: Mapping[str, Ended]

    @property
    def exit_code(self) -> int:
        """Of the container that ran last, which decides about the Job."""
        return list(self.containers.values())[-1].exit_code

    @property
    def message(self) -> str:
        """The termination message of the container that ran last."""
        return list(self.containers.values())[-1].message

    @property
    def log(self) -> str:
        """All logs, one container after the other."""
        return "".join(ended.log for ended in self.containers.values())

    @property
    def seconds(self) -> float:
        """How long the containers ran."""
        return sum(ended.seconds for ended in self.containers.values())


def python_image(folder: Path) -> Path:
    """A folder for PATH that stands for the image of Python: `python3` without any installed package.

    Args:
        folder: where to make it; it may exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # An environment without packages. As in the image, Python imports the sitecustomize that PYTHONPATH has.
    home = Path(sys.executable).resolve().parent
    (folder / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    program = folder / "python3"
    program.unlink(missing_ok=True)
    program.symlink_to(Path(sys.executable).resolve())
    return folder


@dataclass(frozen=True, slots=True)
class LocalPod:
    """What stands in for the cluster when the pod of a CronJob runs here.

    Attributes:
        manifests: all that the chart rendered.
        cronjob: the CronJob's name.
        folder: where each run makes its volumes; removed again after the run.
        claims: the folder behind each PersistentVolumeClaim.
        secrets: the Secrets that exist, with their keys' values.
        images: for each image the folders that become its PATH.
        hosts: where each `host` and `standby_host` of the databases' configuration really is.
        keep: leave the volumes of runs where they are.
    """

    manifests: Sequence[Manifest]
    cronjob: str
    folder: Path
    claims: Mapping[str, Path]
    secrets: Mapping[str, Mapping[str, str | bytes]]
    images: Mapping[str, Sequence[Path | str]]
    hosts: Mapping[str, Endpoint]
    keep: bool = False
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), repr=False, compare=False)

    def run(self, on_line: OnLine | None = None) -> PodEnded:
        """Run the pod to its end: init containers one after the other, then the container.

        Args:
            on_line: gets the log while it is written.

        Raises:
            PodError: something in the pod is not understood, or does not exist.
        """
        job = self._object("CronJob", self.cronjob)["spec"]["jobTemplate"]["spec"]
        name = f"{self.cronjob}-{next(self._numbers)}"
        folder = self.folder / name
        folder.mkdir(parents=True)
        try:
            return self._run_in(folder, name, job["template"]["spec"], job.get("activeDeadlineSeconds"), on_line)
        finally:
            if not self.keep:
                shutil.rmtree(folder, ignore_errors=True)

    def _run_in(
        self, folder: Path, name: str, spec: Manifest, job_deadline: int | None, on_line: OnLine | None
    ) -> PodEnded:
        disk = disk_limit(spec)
        wanted = sum(disk_sizes(spec).values())
        if disk is not None and wanted > disk:
            raise PodError(
                f"its volumes may take {wanted} bytes of disk, the pod's limit is {disk}: it would be evicted"
            )
        on_disk = _on_disk(spec)
        with _Fields(spec, f"pod of {self.cronjob}") as pod:
            pod.ignore(_POD_IGNORED)
            limits = [limit for limit in (pod.take("activeDeadlineSeconds", None), job_deadline) if limit]
            grace = pod.take("terminationGracePeriodSeconds", _GRACE_SECONDS)
            volumes, bounds = {}, {}
            for volume in pod.take("volumes", []):
                path = folder / "volumes" / volume["name"]
                volumes[volume["name"]], bounds[volume["name"]] = self._volume(volume, path)
            first, last = pod.take("initContainers", []), pod.take("containers")
        if len(last) != 1:
            raise PodError(f"pod of {self.cronjob}: {len(last)} containers beside each other are not understood here")
        deadline = time.monotonic() + min(limits) if limits else None
        ended: dict[str, Ended] = {}
        with contextlib.ExitStack() as sidecars:
            for container in (*first, *last):
                always = container.get("restartPolicy") == "Always"
                plain = {key: value for key, value in container.items() if key != "restartPolicy" or not always}
                process = self._container(plain, volumes, folder, name)
                if always:
                    sidecars.enter_context(process.beside(folder / f"{container['name']}.log", grace))
                    continue
                ended[container["name"]] = process.run(deadline, grace, on_line)
                _check_bounds(volumes, bounds)
                _check_disk([volumes[name] for name in on_disk], ended.values(), disk)
                if ended[container["name"]].exit_code != 0:
                    break
        return PodEnded(name, ended)

    def _object(self, kind: str, name: str) -> Manifest:
        for manifest in self.manifests:
            if manifest["kind"] == kind and manifest["metadata"]["name"] == name:
                return manifest
        raise PodError(f"the chart rendered no {kind} {name}")

    def _volume(self, volume: Manifest, path: Path) -> tuple[Path, int | None]:
        """Make a volume's folder; besides, how many bytes it may hold."""
        with _Fields(volume, f"volume {volume['name']}") as fields:
            fields.take("name")
            if claim := fields.take("persistentVolumeClaim", None):
                return self._claim(claim), None
            if (empty := fields.take("emptyDir", None)) is not None:
                path.mkdir(parents=True)
                return path, _empty_dir_limit(empty, f"volume {volume['name']}")
            if config := fields.take("configMap", None):
                _project(path, *self._config_map(config))
            elif projected := fields.take("projected", None):
                _project(path, *self._projected(projected))
            else:
                raise PodError(f"volume {volume['name']}: its kind is not understood here")
        return path, None

    def _claim(self, source: Manifest) -> Path:
        with _Fields(source, "persistentVolumeClaim") as fields:
            name = fields.take("claimName")
        if name not in self.claims:
            raise PodError(f"claim {name} does not exist; there are {sorted(self.claims)}")
        return self.claims[name]

    def _config_map(self, source: Manifest) -> tuple[dict[str, bytes], int]:
        with _Fields(source, f"configMap {source.get('name')}") as fields:
            data = self._object("ConfigMap", fields.take("name")).get("data", {})
            mode = fields.take("defaultMode", 0o644)
            items = fields.take("items", [{"key": key, "path": key} for key in data])
            where = fields.where
        files = {path: self._mapped(path, data[key]) for key, path in _items(items, data, where, optional=False)}
        return {path: text.encode() for path, text in files.items()}, mode

    def _mapped(self, path: str, text: str) -> str:
        """A configuration file, with the servers' addresses replaced by where they really are."""
        lines = text.splitlines()
        if not path.endswith(".conf") or not any(line.startswith("host=") for line in lines):
            return text
        ports = set()
        for number, line in enumerate(lines):
            key, _, host = line.partition("=")
            if key in {"host", "standby_host"} and host:
                if host not in self.hosts:
                    raise PodError(f"{path}: nobody said where host {host} really is")
                lines[number] = f"{key}={self.hosts[host].host}"
                ports.add(self.hosts[host].port)
        if len(ports) != 1:
            raise PodError(f"{path}: its hosts need one common port, here they have {sorted(ports)}")
        lines = [f"port={min(ports)}" if line.startswith("port=") else line for line in lines]
        return "".join(f"{line}\n" for line in lines)

    def _projected(self, source: Manifest) -> tuple[dict[str, bytes], int]:
        files: dict[str, bytes] = {}
        with _Fields(source, "projected volume") as fields:
            mode = fields.take("defaultMode", 0o644)
            for entry in fields.take("sources"):
                with _Fields(entry, "projected source") as one:
                    files |= self._secret(one.take("secret"))
        return files, mode

    def _secret(self, source: Manifest) -> dict[str, bytes]:
        with _Fields(source, f"secret {source.get('name')}") as fields:
            name, optional = fields.take("name"), fields.take("optional", False)
            items = fields.take("items")
        if name not in self.secrets:
            if optional:
                return {}
            raise PodError(f"secret {name} does not exist, and is not optional: the pod would not start")
        data = self.secrets[name]
        return {path: _bytes(data[key]) for key, path in _items(items, data, f"secret {name}", optional=optional)}

    def _container(self, container: Manifest, volumes: Mapping[str, Path], folder: Path, pod: str) -> _Process:
        where = f"container {container.get('name')}"
        with _Fields(container, where) as fields:
            fields.ignore(_CONTAINER_IGNORED)
            name, image = fields.take("name"), fields.take("image")
            mounts = dict(_mount(mount, volumes, where) for mount in fields.take("volumeMounts", []))
            message = folder / f"{name}.termination-log"
            mounts[fields.take("terminationMessagePath", _TERMINATION_LOG)] = message
            command = [*fields.take("command"), *fields.take("args", [])]
            variables = [self._variable(entry, where, pod) for entry in fields.take("env", [])]
            environment = {key: value for key, value in variables if value is not None}
            policy = fields.take("terminationMessagePolicy", "File")
        if image not in self.images:
            raise PodError(f"{where}: nobody said which programs stand for the image {image}")
        message.touch()
        path = ":".join(map(str, self.images[image]))
        translate = _Translation(mounts)
        return _Process(
            name,
            [translate(_expanded(word, environment), where) for word in command],
            {"PATH": path, "HOSTNAME": pod} | {key: translate(value, where) for key, value in environment.items()},
            message,
            fallback=policy == "FallbackToLogsOnError",
        )

    def _variable(self, entry: Manifest, where: str, pod: str) -> tuple[str, str | None]:
        with _Fields(entry, f"{where}: env") as fields:
            name, source = fields.take("name"), fields.take("valueFrom", None)
            if source is None:
                return name, fields.take("value", "")
        if "secretKeyRef" in source:
            return name, self._of_secret(source["secretKeyRef"], f"{where}: env {name}")
        known = {"metadata.name": pod, "metadata.namespace": self._namespace}
        with _Fields(source, f"{where}: env {name}") as fields, _Fields(fields.take("fieldRef"), fields.where) as ref:
            path = ref.take("fieldPath")
        if path not in known:
            raise PodError(f"{where}: env {name}: the field {path} is not understood here")
        return name, known[path]

    def _of_secret(self, source: Manifest, where: str) -> str | None:
        """Return the value of a variable; None if it is optional and there is none."""
        with _Fields(source, where) as fields:
            name, key, optional = fields.take("name"), fields.take("key"), fields.take("optional", False)
        value = self.secrets.get(name, {}).get(key)
        if value is None and not optional:
            raise PodError(f"{where}: there is no key {key} of a secret {name}: the container would not start")
        return None if value is None else _bytes(value).decode()

    @property
    def _namespace(self) -> str:
        return str(self._object("CronJob", self.cronjob)["metadata"].get("namespace", "default"))


def _expanded(word: str, environment: Mapping[str, str]) -> str:
    """A word of a command with the container's own variables in it, as `$(NAME)`."""
    return re.sub(r"\$\(([\w.-]+)\)", lambda match: environment.get(match[1], match[0]), word)


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _empty_dir_limit(source: Manifest, where: str) -> int | None:
    with _Fields(source, where) as fields:
        fields.ignore({"medium": ("", "Memory")})
        quantity = fields.take("sizeLimit", None)
    return None if quantity is None else _bytes_of(quantity, where)


def _bytes_of(quantity: object, where: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]*)", str(quantity))
    if not match or match[2] not in _UNITS:
        raise PodError(f"{where}: the size {quantity} is not understood here")
    return math.ceil(float(match[1]) * _UNITS[match[2]])


def disk_limit(spec: Manifest) -> int | None:
    """How many bytes of the node's disk a pod may take before the kubelet evicts it; None without a limit.

    The kubelet adds the limits of the containers that run side by side, or takes that of an init container if it is
    greater. A container without a limit adds nothing.
    """

    def limits(containers: Iterable[Manifest]) -> list[int]:
        found = (((one.get("resources") or {}).get("limits") or {}).get(_DISK) for one in containers)
        return [_bytes_of(limit, f"limit of {_DISK}") for limit in found if limit is not None]

    beside, before = limits(spec["containers"]), limits(spec.get("initContainers", []))
    return max([sum(beside), *before]) if beside or before else None


def disk_sizes(spec: Manifest) -> dict[str, int]:
    """How many bytes of the node's disk each volume of a pod may take, by its name, as far as it has a limit."""
    empty = {
        volume["name"]: volume["emptyDir"] for volume in spec.get("volumes", []) if volume["name"] in _on_disk(spec)
    }
    return {
        name: _bytes_of(source["sizeLimit"], f"volume {name}")
        for name, source in empty.items()
        if "sizeLimit" in source
    }


def _on_disk(spec: Manifest) -> list[str]:
    """The names of the volumes that the kubelet counts as disk space of the pod, less the small ones of ConfigMaps."""
    return [
        volume["name"]
        for volume in spec.get("volumes", [])
        if volume.get("emptyDir") is not None and volume["emptyDir"].get("medium", "") != "Memory"
    ]


def _check_disk(folders: Iterable[Path], ended: Iterable[Ended], limit: int | None) -> None:
    used = sum(_size(folder) for folder in folders) + sum(len(one.log) for one in ended)
    if limit is not None and used > limit:
        raise PodError(f"the pod holds {used} bytes on disk, its limit is {limit}: it would be evicted")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _check_bounds(volumes: Mapping[str, Path], bounds: Mapping[str, int | None]) -> None:
    for name, bound in bounds.items():
        if bound is None:
            continue
        size = _size(volumes[name])
        if size > bound:
            raise PodError(f"volume {name} holds {size} bytes, its limit is {bound}: the pod would be evicted")


def _items(
    items: Iterable[Manifest], data: Mapping[str, Any], where: str, *, optional: bool
) -> Iterator[tuple[str, str]]:
    for item in items:
        with _Fields(item, f"{where}: items") as fields:
            key, path = fields.take("key"), fields.take("path")
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise PodError(f"{where}: the path {path} leaves the volume")
        if key in data:
            yield key, path
        elif not optional:
            raise PodError(f"{where}: there is no key {key}: the pod would not start")


def _project(volume: Path, files: Mapping[str, bytes], mode: int) -> None:
    """Lay files out as the kubelet does: in a folder of that moment, seen through `..data` and links at the top."""
    moment = volume / "..2026_01_01_00_00_00.000000000"
    moment.mkdir(parents=True)
    (volume / "..data").symlink_to(moment.name)
    for path, content in files.items():
        target = moment / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)
        top = volume / Path(path).parts[0]
        if not top.is_symlink():
            top.symlink_to(f"..data/{top.name}")


def _mount(mount: Manifest, volumes: Mapping[str, Path], where: str) -> tuple[str, Path]:
    with _Fields(mount, f"{where}: mount {mount.get('mountPath')}") as fields:
        fields.ignore({"readOnly": None})
        name, path = fields.take("name"), fields.take("mountPath")
    if name not in volumes:
        raise PodError(f"{where}: there is no volume {name}")
    return path, volumes[name]


class _Translation:
    """Paths of a container into those of this machine, wherever they stand in a word."""

    def __init__(self, mounts: Mapping[str, Path]) -> None:
        self._mounts = mounts
        longest_first = "|".join(re.escape(path) for path in sorted(mounts, key=len, reverse=True))
        self._pattern = re.compile(rf"(?:(?<=[=:,])|(?<=://)|^)({longest_first})(?=$|[/:,])")

    def __call__(self, word: str, where: str) -> str:
        # What Kubernetes would unescape, or leave as it is; `$(date +%s)` with a blank is no reference.
        if re.search(r"\$\$|\$\([\w.-]+\)", word):
            raise PodError(f"{where}: references to variables as in {word!r} are not understood here")
        return self._pattern.sub(lambda match: str(self._mounts[match[1]]), word)


@dataclass(frozen=True, slots=True)
class _Process:
    """A container about to run."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    message: Path
    fallback: bool

    def _program(self) -> str:
        program = shutil.which(self.command[0], path=self.environment["PATH"])
        if program is None:
            raise PodError(f"container {self.name}: its image has no program {self.command[0]}")
        return program

    @contextlib.contextmanager
    def beside(self, log: Path, grace: float) -> Iterator[None]:
        """Run as long as the block does, as a sidecar does while its pod's containers run; none is started again."""
        with (
            log.open("wb") as output,
            subprocess.Popen(
                self.command,
                executable=self._program(),
                env=self.environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            ) as process,
        ):
            try:
                yield
                if process.poll() is not None:
                    raise PodError(f"sidecar {self.name} ended with {process.returncode}: {log.read_text()}")
            finally:
                _end(process, grace)

    def run(self, deadline: float | None, grace: float, on_line: OnLine | None) -> Ended:
        began = time.monotonic()
        with subprocess.Popen(
            self.command,
            executable=self._program(),
            env=self.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            log = self._follow(process, deadline - began if deadline else None, grace, on_line)
        seconds = time.monotonic() - began
        code = process.returncode
        return Ended(code if code >= 0 else 128 - code, log, self._message(code, log), seconds)

    def _follow(self, process: subprocess.Popen[str], limit: float | None, grace: float, on_line: OnLine | None) -> str:
        """Read a container's log to its end, which comes with the container's."""
        timer = threading.Timer(max(limit, 0), _end, (process, grace)) if limit is not None else None
        sweeper = threading.Thread(target=_sweep_after, args=(process,), daemon=True)
        log = []
        try:
            for thread in filter(None, (timer, sweeper)):
                thread.start()
            for line in process.stdout or ():
                log.append(line)
                if on_line:
                    on_line(self.name, line.rstrip("\n"))
            sweeper.join()
        finally:
            if timer:
                timer.cancel()
            if process.returncode is None:
                _kill(process)
        return "".join(log)

    def _message(self, code: int, log: str) -> str:
        message = self.message.read_bytes()[:_MESSAGE_BYTES].decode(errors="replace")
        if message or not self.fallback or code == 0:
            return message
        return "".join(log.splitlines(keepends=True)[-_FALLBACK_LINES:])[-_FALLBACK_BYTES:]


def _end(process: subprocess.Popen[Any], grace: float) -> None:
    """End a container as the kubelet does: ask its first process, then kill."""
    process.terminate()
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        _kill(process)


def _sweep_after(process: subprocess.Popen[str]) -> None:
    """With the end of a container's first process all others end."""
    with contextlib.suppress(ChildProcessError):
        # Not reaped yet, so that nobody else can have its number when the group is killed.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        _kill(process)


def _kill(process: subprocess.Popen[Any]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
