"""A pod of the chart's inspector, in which `python3 -m retention` reads the volume."""

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kubectl_cnpg_backup.cluster.follow import wait_ready
from kubectl_cnpg_backup.errors import NotFoundError, PluginError
from kubectl_cnpg_backup.interrupt import uninterrupted
from kubectl_cnpg_backup.model.jobs import job_from
from kubectl_cnpg_backup.model.objects import Object, major_of, name_of
from kubectl_cnpg_backup.model.release import INSPECTOR, CronJob, Release
from kubectl_cnpg_backup.model.words import meant
from retention.errors import ExitCode
from retention.text import format_duration

if TYPE_CHECKING:
    from kubectl_cnpg_backup.cluster.api import Cluster, Executed

ROOT = "/backups"
RESULTS = "/run/cnpg-backup-results"
"""A scratch folder that both containers of an inspector mount."""
_CONFIG = "/etc/cnpg-backup"
_NO_FOLDER = "No such file or directory"


def container_with(spec: Object, *, python: bool) -> str:
    """Return the name of the inspector's container with the retention package, or with PostgreSQL's programs.

    Raises:
        NotFoundError: When it has no such container.
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
    """Return the option that makes retention use the policies of a run, if the container has the configuration."""
    for one in spec.get("containers") or ():
        if one.get("name") == container:
            paths = [mount.get("mountPath") for mount in one.get("volumeMounts") or ()]
            return ["--config", _CONFIG] if _CONFIG in paths else []
    return []


@dataclass(frozen=True, slots=True)
class Inspector:
    """A running inspector pod.

    Attributes:
        cluster: The cluster it runs in.
        pod: Its name.
        container: The container with the retention package.
        programs: The container with PostgreSQL's programs.
        config: The option that names the release's policies, or nothing.
    """

    cluster: "Cluster"
    pod: str
    container: str
    programs: str
    config: Sequence[str]

    def execute(self, command: Sequence[str], sink: Callable[[bytes], None] | None = None) -> "Executed":
        """Run a command in the container with the retention package.

        Raises:
            ConnectionError: When the connection was lost.
        """
        return self.cluster.execute(self.pod, self.container, command, sink)

    def postgres(self, *command: str, sink: Callable[[bytes], None] | None = None) -> str:
        """Run one of PostgreSQL's programs, and return what it prints, or hand it to the sink as it arrives.

        Raises:
            PluginError: When it failed, or the connection was lost.
        """
        try:
            done = self.cluster.execute(self.pod, self.programs, command, sink)
        except ConnectionError as error:
            raise PluginError(f"the connection to pod {self.pod} was lost: {error}", "try again") from None
        if done.code:
            raise PluginError(last_line(done.errors) or f"{command[0]} ended with exit code {done.code}")
        return done.output.decode(errors="replace")

    def retention(self, *arguments: str) -> "Executed":
        """Run `python3 -m retention`.

        Raises:
            PluginError: When it refuses its arguments, or the connection was lost.
        """
        try:
            done = self.execute(["python3", "-m", "retention", *arguments])
        except ConnectionError as error:
            raise PluginError(f"the connection to pod {self.pod} was lost: {error}", "try again") from None
        self._check_database(done, arguments)
        if done.code == ExitCode.USAGE:
            raise PluginError(
                last_line(done.errors), "check that chart and plugin have the same version: kubectl cnpg-backup doctor"
            )
        return done

    def _check_database(self, done: "Executed", arguments: Sequence[str]) -> None:
        """Check that a command did not fail because the volume has no folder of that database.

        Raises:
            NotFoundError: When it did; the remedy names the databases that there are.
        """
        name = arguments[-1].removeprefix(f"{ROOT}/").partition("/")[0]
        if not done.code or not last_line(done.errors).startswith(f"{ROOT}/{name}: {_NO_FOLDER}"):
            return
        listed = self.execute(["python3", "-m", "retention", "list", "--format", "json", ROOT])
        try:
            known = [str(entry["database"]) for entry in json.loads(listed.output)]
        except (ValueError, KeyError, TypeError):
            known = []
        raise NotFoundError(
            f"the volume has no database {name!r}",
            f"{meant(name, known)}it has {', '.join(known)}" if known else "see `kubectl cnpg-backup list`",
        )

    def retention_json(self, *arguments: str, config: bool = False) -> "tuple[Any, Executed]":
        """Run `python3 -m retention … --format json`; return its document, and how it ended.

        Raises:
            PluginError: When it printed no document.
        """
        done = self.retention(*arguments[:1], *(self.config if config else ()), "--format", "json", *arguments[1:])
        try:
            return json.loads(done.output), done
        except ValueError:
            raise PluginError(last_line(done.errors) or f"retention {arguments[0]} printed nothing") from None

    def documents(
        self, paths: Iterable[str], *command: str, config: bool = False
    ) -> tuple[list[Any], list[int], list[str]]:
        """Run a command of `python3 -m retention` for several paths.

        Args:
            paths: Directories or archives on the volume.
            *command: The command, and its options.
            config: Whether it uses the policies of a run.

        Returns:
            One document for each database, the exit codes, and what it printed to standard error.
        """
        documents: list[Any] = []
        codes: list[int] = []
        errors: list[str] = []
        for path in paths:
            document, done = self.retention_json(*command, path, config=config)
            documents += document if isinstance(document, list) else [document]
            codes.append(done.code)
            errors += error_lines(done.errors)
        return documents, codes, errors


def error_lines(text: str) -> list[str]:
    """Return the lines that `python3 -m retention` printed to standard error, without its name."""
    return [line.removeprefix("retention: ") for line in text.splitlines()]


def last_line(text: str) -> str:
    """Return the last of these lines, which is the error; empty where there is none."""
    return next(iter(reversed(error_lines(text.strip()))), "")


def template_like(release: Release, restore: CronJob) -> CronJob:
    """Return the inspector with the same PostgreSQL programs as a restore: older ones cannot read a newer archive.

    Raises:
        NotFoundError: When the release has no inspector.
    """
    images = [container.get("image") for container in restore.pod_spec.get("containers") or ()]
    for cronjob in release.of(INSPECTOR):
        if any(container.get("image") in images for container in cronjob.pod_spec.get("containers") or ()):
            return cronjob
    return release.template(INSPECTOR)


def newest_template(release: Release) -> CronJob:
    """Return the inspector with the newest PostgreSQL: its programs read the archives of all others.

    Raises:
        NotFoundError: When the release has no inspector.
    """

    def major(cronjob: CronJob) -> int:
        images = [str(container.get("image") or "") for container in _containers(cronjob.pod_spec, python=False)]
        return (major_of(images[0]) if images else None) or 0

    return max(release.of(INSPECTOR), key=major, default=None) or release.template(INSPECTOR)


@contextmanager
def started(
    cluster: "Cluster",
    template: CronJob,
    seconds: float,
    note: Callable[[str], None],
    meanwhile: Callable[[], None] = lambda: None,
) -> Iterator[Object]:
    """Yield a ready inspector pod of our own, deleted at the end of the block; someone else's might end at any time.

    Args:
        cluster: Where it runs.
        template: What it is made from.
        seconds: How long to wait until it is ready.
        note: Receives what it waits for.
        meanwhile: What can be done while it starts.
    """
    job = job_from(template, secrets.token_hex(3))
    most = format_duration(timedelta(seconds=seconds))
    note(f"starting a pod that mounts the volume; it is waited for at most {most} (--timeout)")
    try:
        cluster.create_job(job)
        meanwhile()
        yield wait_ready(cluster, name_of(job), seconds, note)
    finally:
        with uninterrupted():
            cluster.delete_job(name_of(job))


@contextmanager
def inspecting(
    cluster: "Cluster",
    template: CronJob,
    seconds: float,
    note: Callable[[str], None],
    meanwhile: Callable[[], None] = lambda: None,
) -> Iterator[Inspector]:
    """Yield an inspector of the release's volume; see `started`."""
    with started(cluster, template, seconds, note, meanwhile) as pod:
        container, programs = (container_with(pod["spec"], python=python) for python in (True, False))
        yield Inspector(cluster, name_of(pod), container, programs, config_option(pod["spec"], container))
