"""Names for completion: what kubectl says about the release, and the archives that the last `list` has seen.

kubectl is there, since it called the completion, and answers within a tenth of a second; the client of Kubernetes
takes two seconds to load. The archives are on the volume, which only a pod can read: so `list` leaves their names in
kubectl's cache. A name that is no longer true does no harm: the command that gets it says so.
"""

import contextlib
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kubectl_cnpg_backup.model.objects import dig
from kubectl_cnpg_backup.model.release import SELECTOR, Release, databases_in, releases
from retention.names import database_of_archive

Ask = Callable[[Sequence[str]], str]
"""Runs kubectl with some arguments, and returns what it prints; nothing if it fails."""

_SECONDS = 3.0
"""How long a completion waits for an answer of kubectl."""
_WHERE = {
    "kubeconfig": "--kubeconfig",
    "context": "--context",
    "namespace": "--namespace",
    "as_user": "--as",
    "as_uid": "--as-uid",
}


def kubectl(arguments: Sequence[str]) -> str:
    """Run kubectl; return what it prints, or nothing."""
    try:
        done = subprocess.run(
            ["kubectl", *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


class Names:
    """The names that may follow on a command line.

    Attributes:
        options: What the line says already about cluster, namespace and release, by the options' destinations.
        ask: Runs kubectl.
    """

    def __init__(self, options: Mapping[str, Any], ask: Ask = kubectl) -> None:
        self.options = options
        self._ask = ask

    def namespaces(self) -> list[str]:
        """Return the namespaces of the cluster."""
        return self._lines("get", "namespaces", "-o", "name")

    def contexts(self) -> list[str]:
        """Return the contexts of the kubeconfig."""
        kubeconfig = self.options.get("kubeconfig")
        return self._ask(
            ["config", "get-contexts", "-o", "name", *(["--kubeconfig", kubeconfig] if kubeconfig else [])]
        ).split()

    def clusters(self) -> list[str]:
        """Return the CloudNativePG clusters of the namespace."""
        return self._lines("get", "clusters.postgresql.cnpg.io", "-o", "name")

    def releases(self) -> list[str]:
        """Return the releases of the namespace."""
        return [release.name for release in self._releases()]

    def jobs(self) -> list[str]:
        """Return the Jobs of the releases, the newest first."""
        found = self._lines("get", "jobs", "-l", SELECTOR, "--sort-by=.metadata.creationTimestamp", "-o", "name")
        return found[::-1]

    def databases(self) -> list[str]:
        """Return the databases that the release backs up."""
        wanted = sorted({one.config_map for release in self._chosen() for one in release.cronjobs if one.config_map})
        if not wanted:
            return []
        # One ConfigMap alone is not in a list.
        text = self._ask([*self._where(), "get", "configmaps", *wanted, "-o", "json", "--ignore-not-found"])
        document = _json(text)
        items = document.get("items", [document])
        return sorted({database for item in items for database in databases_in(item)})

    def archives(self) -> list[str]:
        """Return the archives that the last `list` of a release has seen, the newest first."""
        found: list[str] = []
        for release in self._chosen():
            with contextlib.suppress(OSError, ValueError, TypeError):
                found += [str(name) for name in json.loads(_cache(release).read_text())]
        return [name for name in found if database_of_archive(name)]

    def _chosen(self) -> list[Release]:
        wanted = self.options.get("release")
        return [one for one in self._releases() if not wanted or wanted in (one.name, one.instance)]

    def _releases(self) -> list[Release]:
        items = _json(self._ask([*self._where(), "get", "cronjobs", "-l", SELECTOR, "-o", "json"])).get("items") or []
        namespace = next((str(dig(item, "metadata").get("namespace")) for item in items), "")
        return releases(items, namespace)

    def _where(self) -> list[str]:
        words = [f"--request-timeout={_SECONDS:.0f}s"]
        for name, option in _WHERE.items():
            if self.options.get(name):
                words += [option, str(self.options[name])]
        for group in self.options.get("as_group") or ():
            words += ["--as-group", str(group)]
        return words

    def _lines(self, *arguments: str) -> list[str]:
        return [line.partition("/")[2] or line for line in self._ask([*self._where(), *arguments]).split()]


def _json(text: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _cache(release: Release) -> Path:
    """Return the file with the names of a release's archives; kubectl has its own cache in the same folder."""
    folder = os.environ.get("KUBECACHEDIR") or "~/.kube/cache"
    # The uid, since namespaces and releases of several clusters have the same names.
    uid = next((str(dig(one.source, "metadata").get("uid")) for one in release.cronjobs), "")
    key = hashlib.sha256(f"{release.namespace}/{release.name}/{uid}".encode()).hexdigest()[:16]
    return Path(folder).expanduser() / "cnpg-backup" / f"{key}.json"


def remember(release: Release, archives: Iterable[str], *, of: Iterable[str] = ()) -> None:
    """Keep the names of archives for completion; what goes wrong does not matter.

    Args:
        release: Whose archives they are.
        archives: Their names, the newest first.
        of: The databases that were looked at; all when empty. The names of others stay.
    """
    only, path = set(of), _cache(release)
    with contextlib.suppress(OSError, ValueError, TypeError):
        kept = list(archives)
        if only and path.exists():
            kept += [name for name in json.loads(path.read_text()) if database_of_archive(name) not in only]
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(kept))
        temporary.replace(path)
