"""One call of the plugin: its options, the cluster that it works on, and the screen that it prints to."""

import argparse
import contextlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from kubectl_cnpg_backup.cluster import inspector
from kubectl_cnpg_backup.errors import ForbiddenError, NotFoundError, UsageError
from kubectl_cnpg_backup.model.objects import Object, dig
from kubectl_cnpg_backup.model.release import (
    BACKUP,
    CHART,
    INSPECTOR,
    SELECTOR,
    CronJob,
    Release,
    Run,
    read_runs,
    releases,
    select_release,
    worst,
)
from kubectl_cnpg_backup.model.words import meant

if TYPE_CHECKING:
    from kubectl_cnpg_backup.cluster.api import Cluster
    from kubectl_cnpg_backup.cluster.inspector import Inspector
    from kubectl_cnpg_backup.output.screen import Screen


@dataclass
class Session:
    """One call of the plugin.

    Attributes:
        options: The command line.
        cluster: The cluster and the namespace.
        screen: Where it prints.
        missing: Why there is no cluster, for a command that works without one; empty where there is one.
    """

    options: argparse.Namespace
    cluster: "Cluster"
    screen: "Screen"
    missing: str = ""

    @classmethod
    def open(cls, options: argparse.Namespace) -> "Session":
        """Connect to the cluster that the options name.

        Raises:
            UsageError: When the kubeconfig cannot be used.
        """
        # The client of Kubernetes takes about two seconds to load: --help and completion do without it.
        from kubectl_cnpg_backup.cluster.api import Cluster
        from kubectl_cnpg_backup.output.screen import NAME, VALUES, Screen

        if options.output == NAME and not getattr(options, "has_names", False):
            raise UsageError(f"`{options.command}` has no names to print", "use another format than name with -o")
        if options.output == VALUES and not getattr(options, "has_values", False):
            raise UsageError(f"`{options.command}` has no values to print", "use another format than values with -o")
        impersonated = {"as": options.as_user, "as-groups": options.as_group, "as-uid": options.as_uid}
        screen = Screen(options.output, options.color, headers=not getattr(options, "no_headers", False))
        try:
            cluster = Cluster.connect(options.kubeconfig, options.context, options.namespace, impersonated)
        except UsageError as error:
            if not getattr(options, "without_cluster", False):
                raise
            return cls(options, cast("Cluster", None), screen, str(error))
        return cls(options, cluster, screen)

    def again(self) -> "Session":
        """Return the same call at this moment: what it knew of the cluster is asked for again."""
        return Session(self.options, self.cluster, self.screen)

    @cached_property
    def release(self) -> Release:
        """The release that the options name, or the only one of the namespace."""
        namespace = self.cluster.namespace
        found = releases(self.cluster.cronjobs(SELECTOR), namespace)
        if not found:
            raise UsageError(*self._elsewhere(namespace))
        return select_release(found, self.options.release, namespace)

    def _elsewhere(self, namespace: str) -> tuple[str, str]:
        """Return that a namespace has no release, and where there are some, as far as this user may look."""
        problem = f"namespace {namespace} has no release of {CHART}"
        others: list[str] = []
        with contextlib.suppress(ForbiddenError):
            items = self.cluster.cronjobs_everywhere(SELECTOR)
            others = sorted({str(dig(item, "metadata").get("namespace")) for item in items})
        try:
            self.cluster.own_namespace()
        except NotFoundError:
            problem = f"there is no namespace {namespace!r}"
        except ForbiddenError:
            pass
        where = f"there are releases in {', '.join(others)}: " if others else ""
        return problem, f"{meant(namespace, others)}{where}give the release's namespace with --namespace"

    @cached_property
    def now(self) -> datetime:
        """The moment of this call, UTC."""
        return datetime.now(UTC)

    def runs(self) -> list[Run]:
        """Return the release's Jobs, newest first."""
        return [run for run in self.runs_and_others() if not run.foreign]

    def runs_and_others(self) -> list[Run]:
        """Return the Jobs that have the release's labels, newest first: its own, and those that only look like it."""
        selector = self.release.selector
        return read_runs(self.cluster.jobs(selector), self.cluster.pods(selector), self.release)

    def configs(self, component: str = BACKUP) -> dict[str, Object]:
        """Return the ConfigMap of each CronJob of a component, by the CronJob's name; a missing one is empty."""
        found: dict[str, Object] = {}
        for cronjob in self.release.of(component):
            try:
                found[cronjob.name] = self.cluster.config_map(cronjob.config_map)
            except NotFoundError:
                found[cronjob.name] = {}
        return found

    def inspecting(
        self, template: CronJob | None = None, meanwhile: Callable[[], None] = lambda: None
    ) -> AbstractContextManager["Inspector"]:
        """Return a pod that mounts the volume, for the length of a block.

        Args:
            template: The inspector to make it from; any of the release's without it.
            meanwhile: What can be done while it starts.
        """
        template = template or self.release.template(INSPECTOR)
        return inspector.inspecting(self.cluster, template, self.options.wait, self.screen.note, meanwhile)

    def retention(
        self,
        command: str,
        paths: Iterable[str],
        *,
        config: bool = False,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> tuple[list[Any], int]:
        """Run a command of `python3 -m retention` for several paths in one pod.

        Returns:
            One document for each database, and the worst exit code.
        """
        waiting = f"{command}: waiting for a pod that mounts the volume"
        with self.screen.waiting(waiting), self.inspecting(meanwhile=meanwhile) as pod:
            self.screen.note(f"{command}: reading the volume")
            documents, codes, errors = pod.documents(paths, command, config=config)
        for line in errors:
            self.screen.note(line)
        return documents, worst(codes)
