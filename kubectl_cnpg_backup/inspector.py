"""A pod of the chart's inspector, in which `python3 -m retention` reads the volume."""

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kubectl_cnpg_backup import jobs
from kubectl_cnpg_backup.cluster import Cluster, Executed
from kubectl_cnpg_backup.doctor import major_of
from kubectl_cnpg_backup.errors import ExitCode, NotFoundError, PluginError
from kubectl_cnpg_backup.follow import wait_ready
from kubectl_cnpg_backup.interrupt import uninterrupted
from kubectl_cnpg_backup.release import INSPECTOR, CronJob, Object, Release, name_of

ROOT = "/backups"
RESULTS = "/run/cnpg-backup-results"
"""A scratch folder that both containers of an inspector see."""
_CONFIG = "/etc/cnpg-backup"


def container_with(spec: Object, *, python: bool) -> str:
    """Return the name of the inspector's container with the retention package, or of that with PostgreSQL's programs.

    Raises:
        NotFoundError: When there is none.
    """
    for container in _containers(spec, python=python):
        return str(container["name"])
    what = "the retention package" if python else "PostgreSQL's programs"
    raise NotFoundError(f"the inspector has no container with {what}", "upgrade the release")


def _containers(spec: Object, *, python: bool) -> list[Object]:
    return [
        container
        for container in spec.get("containers") or ()
        if any(variable.get("name") == "PYTHONPATH" for variable in container.get("env") or ()) == python
    ]


def config_option(spec: Object, container: str) -> list[str]:
    """Return the option by which retention decides as a run would, where the container has the configuration."""
    for one in spec.get("containers") or ():
        if one.get("name") == container:
            paths = [mount.get("mountPath") for mount in one.get("volumeMounts") or ()]
            return ["--config", _CONFIG] if _CONFIG in paths else []
    return []


@dataclass(frozen=True, slots=True)
class Inspector:
    """A running inspector pod.

    Attributes:
        cluster: Where it runs.
        pod: Its name.
        container: The container with the retention package.
        programs: The container with PostgreSQL's programs.
        config: The option that names the release's policies, or nothing.
    """

    cluster: Cluster
    pod: str
    container: str
    programs: str
    config: Sequence[str]

    def execute(self, command: Sequence[str], sink: Callable[[bytes], None] | None = None) -> Executed:
        """Run a command in the container with the retention package.

        Raises:
            ConnectionError: When the connection was lost.
        """
        return self.cluster.execute(self.pod, self.container, command, sink)

    def postgres(self, *command: str) -> str:
        """Run a program of PostgreSQL's, and return what it prints.

        Raises:
            PluginError: When it failed, or the connection was lost.
        """
        try:
            done = self.cluster.execute(self.pod, self.programs, command)
        except ConnectionError as error:
            raise PluginError(f"the connection to pod {self.pod} was lost: {error}", "try again") from None
        if done.code:
            raise PluginError(_last_line(done.errors) or f"{command[0]} ended with {done.code}")
        return done.output.decode(errors="replace")

    def retention(self, *arguments: str) -> Executed:
        """Run `python3 -m retention`; what it says about a usage or a fault is an error here.

        Raises:
            PluginError: When it does not know what is asked, or the connection was lost.
        """
        try:
            done = self.execute(["python3", "-m", "retention", *arguments])
        except ConnectionError as error:
            raise PluginError(f"the connection to pod {self.pod} was lost: {error}", "try again") from None
        if done.code == ExitCode.USAGE:
            raise PluginError(_last_line(done.errors), "chart and plugin may be of different versions")
        return done

    def retention_json(self, *arguments: str, config: bool = False) -> tuple[Any, Executed]:
        """Run `python3 -m retention … --format json`; return its document, and how it ended.

        Raises:
            PluginError: When it printed none.
        """
        done = self.retention(*arguments[:1], *(self.config if config else ()), "--format", "json", *arguments[1:])
        try:
            return json.loads(done.output), done
        except ValueError:
            raise PluginError(_last_line(done.errors) or f"retention {arguments[0]} printed nothing") from None


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].removeprefix("retention: ") if lines else ""


def beside(release: Release, restore: CronJob) -> CronJob:
    """Return the inspector whose programs of PostgreSQL are those of a restore: older ones read no newer archive.

    Raises:
        NotFoundError: When the release has no inspector.
    """
    images = [container.get("image") for container in restore.pod_spec.get("containers") or ()]
    for cronjob in release.of(INSPECTOR):
        if any(container.get("image") in images for container in cronjob.pod_spec.get("containers") or ()):
            return cronjob
    return release.template(INSPECTOR)


def newest_template(release: Release) -> CronJob:
    """Return the inspector whose image names the newest PostgreSQL: it reads the archives of all others.

    Raises:
        NotFoundError: When the release has none.
    """

    def major(cronjob: CronJob) -> int:
        images = [str(container.get("image") or "") for container in _containers(cronjob.pod_spec, python=False)]
        return (major_of(images[0]) if images else None) or 0

    return max(release.of(INSPECTOR), key=major, default=None) or release.template(INSPECTOR)


@contextmanager
def started(cluster: Cluster, template: CronJob, seconds: float, note: Callable[[str], None]) -> Iterator[Object]:
    """Give a ready inspector pod of our own, which ends with the block; nobody else's, who may end it meanwhile."""
    job = jobs.job_from(template, secrets.token_hex(3))
    note("starting a pod that sees the volume")
    try:
        cluster.create_job(job)
        yield wait_ready(cluster, name_of(job), seconds, note)
    finally:
        with uninterrupted():
            cluster.delete_job(name_of(job))


@contextmanager
def inspecting(cluster: Cluster, template: CronJob, seconds: float, note: Callable[[str], None]) -> Iterator[Inspector]:
    """Give an inspector of the release's volume; see `started`."""
    with started(cluster, template, seconds, note) as pod:
        container, programs = (container_with(pod["spec"], python=python) for python in (True, False))
        yield Inspector(cluster, name_of(pod), container, programs, config_option(pod["spec"], container))
