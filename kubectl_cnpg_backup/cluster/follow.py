"""Follows Jobs until they end: what their pods wait for, what they print, how they ended."""

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kubectl_cnpg_backup.errors import NotFoundError, PluginError
from kubectl_cnpg_backup.model.objects import (
    Object,
    condition,
    container_statuses,
    containers_of,
    dig,
    job_state,
    killed_by,
    name_of,
    pods_of,
    running_first,
    termination_of,
    waits_for,
)
from kubectl_cnpg_backup.model.release import Run, run_that_vanished

if TYPE_CHECKING:
    from kubectl_cnpg_backup.cluster.api import Cluster

_EVERY = 1.0
"""Seconds between two requests about a pod or Job."""
_LOOKS = 5
"""Requests in that time while the end of a container is due."""


def job_selector(job: str) -> str:
    """Return the selector of a Job's pods."""
    return f"batch.kubernetes.io/job-name={job}"


@dataclass(slots=True)
class Follower:
    """Follows one Job in a thread of its own.

    Attributes:
        cluster: Where it runs.
        job: Its name.
        log: Receives each line of the log.
        note: Receives what the pod waits for, once for each change.
        now: Receives which container runs.
    """

    cluster: "Cluster"
    job: str
    log: Callable[[str], None]
    note: Callable[[str], None]
    now: Callable[[str], None] = lambda _: None
    problem: PluginError | None = None
    _job: Object = field(default_factory=dict)
    _pod: Object = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _noted: str = ""

    def run(self) -> None:
        """Follow the Job until it ends, or until `stop`."""
        try:
            self._follow()
        except PluginError as error:
            self.problem = error

    def stop(self) -> None:
        """Make `run` return soon."""
        self._stop.set()

    def vanished(self) -> Run | None:
        """Return how the Job ended if it is gone, by what was last seen of it; None when it had not ended."""
        return run_that_vanished(self._job, [self._pod] if self._pod else [])

    def _pods(self) -> list[Object]:
        found = pods_of(self.job, self.cluster.pods(job_selector(self.job)))
        self._pod = found[-1] if found else self._pod
        return found

    def _follow(self) -> None:
        seen: set[str] = set()
        while not self._stop.is_set():
            # Requested before the pods: once the Job has ended, everything that its last pod printed is there.
            try:
                self._job = self.cluster.job(self.job)
            except NotFoundError:
                # Whoever deleted it: how it ended is known by what was last seen of it.
                return
            ended = job_state(self._job) != "running"
            pods = self._pods()
            if not pods and not ended:
                self._note_once(_why(self.cluster, self.job, None, ""))
            for pod in pods:
                if name_of(pod) not in seen and self._follow_pod(name_of(pod)):
                    seen.add(name_of(pod))
            if ended:
                return
            self._stop.wait(_EVERY)

    def _follow_pod(self, name: str) -> bool:
        """Print the log of a pod, container by container; return False when there is nothing to print yet."""
        done: set[str] = set()
        while not self._stop.is_set():
            pod = next((one for one in self._pods() if name_of(one) == name), None)
            if pod is None:
                return True
            statuses = container_statuses(pod, containers_of(self._job))
            started = [
                state
                for state in statuses
                if not (state.get("state") or {}).get("waiting") and state["name"] not in done
            ]
            if started and started[0].get("state"):
                self._print(name, str(started[0]["name"]))
                done.add(str(started[0]["name"]))
                continue
            if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
                return True
            self._note_once(waits_for(pod))
            self._stop.wait(_EVERY)
        return True

    def _note_once(self, waiting: str) -> None:
        if waiting and waiting != self._noted:
            self._noted = waiting
            self.note(waiting)

    def _print(self, pod: str, container: str) -> None:
        printed = 0
        self.now(f"container {container} is running")
        for _ in range(60):
            try:
                for line in self.cluster.log_lines(pod, container, follow=True, skip=printed):
                    printed += 1
                    self.log(line)
                    if self._stop.is_set():
                        return
            except ConnectionError:
                # The stream broke, but the container goes on: continue after the last line that came.
                self._stop.wait(_EVERY)
                continue
            except NotFoundError:
                return
            # At first in short steps: the controller of the CronJob may delete Job and pod as soon as they have ended.
            for _ in range(_LOOKS):
                if self._has_ended(pod, container):
                    return
                self._stop.wait(_EVERY / _LOOKS)

    def _has_ended(self, pod: str, container: str) -> bool:
        for one in self._pods():
            if name_of(one) == pod:
                return any(
                    state["name"] == container and (state.get("state") or {}).get("terminated")
                    for state in container_statuses(one)
                )
        return True


def follow_all(followers: Iterable[Follower]) -> None:
    """Follow Jobs side by side until all have ended.

    Raises:
        PluginError: The first error of a follower, once all have stopped.
    """
    group = list(followers)
    threads = [threading.Thread(target=follower.run, daemon=True) for follower in group]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)
    finally:
        for follower in group:
            follower.stop()
    for follower in group:
        if follower.problem is not None:
            raise follower.problem


def wait_ready(cluster: "Cluster", job: str, seconds: float, note: Callable[[str], None]) -> Object:
    """Wait until a Job's pod is ready, and return it.

    Raises:
        PluginError: When it ended, or is not ready in time; the message says what it waits for.
    """
    deadline = time.monotonic() + seconds
    noted = waiting = "it has no pod yet"
    asked = time.monotonic()
    while True:
        own = pods_of(job, cluster.pods(job_selector(job)))
        pod = own[-1] if own else None
        if pod is not None:
            if condition(pod, "Ready") is not None:
                return pod
            if dig(pod, "status").get("phase") in ("Succeeded", "Failed"):
                why = killed_by(pod) or " ".join(termination_of(pod)[1].splitlines())
                raise PluginError(
                    f"the pod of job/{job} exited before it became ready{': ' if why else ''}{why}",
                    f"see `kubectl logs job/{job}`",
                )
            waiting = waits_for(pod) or (f"container {first} is running" if (first := running_first(pod)) else "")
        if (pod is None or not waiting) and time.monotonic() >= asked:
            # The controller's and the node's own words, such as a quota, a webhook, or a volume that is attached
            # elsewhere: without a pod there is nothing else that says them.
            asked = time.monotonic() + _EVERY
            waiting = _why(cluster, job, pod, waiting)
        if waiting and waiting != noted:
            noted = waiting
            note(waiting)
        if time.monotonic() > deadline:
            raise PluginError(
                f"the pod of job/{job} is not ready after {seconds:g} s: "
                f"{_why(cluster, job, pod, waiting) or 'its containers have not started'}",
                "if a run on another node has the volume mounted, wait until it ends; --timeout allows more time",
            )
        time.sleep(_EVERY / 4)


def _why(cluster: "Cluster", job: str, pod: Object | None, waiting: str) -> str:
    """Return the newest warning about a Job or its pod, or else what the pod waits for."""
    with suppress(PluginError):
        kind, name = ("Job", job) if pod is None else ("Pod", name_of(pod))
        warnings = [event for event in cluster.events_of(kind, name) if event.get("type") == "Warning"]
        if warnings:
            return str(warnings[-1].get("message") or waiting)
    return waiting
