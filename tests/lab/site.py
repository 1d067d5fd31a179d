"""What a rendered CronJob expects around it, on this machine: database clusters, their Secrets, the claim.

The Secrets are those that CloudNativePG makes for a cluster: `<cluster>-app` and `<cluster>-ca`.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.pod import Endpoint, LocalPod, Manifest, python_image
from tests.lab.postgres import Server

# Where a minimal Debian keeps the programs that a PostgreSQL image brings too.
_SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")
# The programs that dump.sh calls and a minimal system may lack.
NEEDED_PROGRAMS = ("sh", "awk", "sed", "flock", "sha256sum", "df", "stat", "sync", "tr")


class SiteError(Exception):
    """The rendered configuration and this site do not fit."""


def missing_programs() -> list[str]:
    """The programs of a PostgreSQL image that this system lacks."""
    return [name for name in NEEDED_PROGRAMS if shutil.which(name, path=":".join(_SYSTEM_PATH)) is None]


@dataclass(frozen=True, slots=True)
class Site:
    """Servers in place of clusters, and folders in place of a claim and of pods.

    Attributes:
        folder: Everything lies below it: `backups`, `pods`, `images`.
        servers: A running server for each database of the configuration, by the database's name.
        passwords: Of each database's role, which has the database's name; made by `add_roles`.
    """

    folder: Path
    servers: Mapping[str, Server]
    passwords: dict[str, str] = field(default_factory=dict)

    @property
    def backups(self) -> Path:
        """The folder behind the claim."""
        return self.folder / "backups"

    def add_role(self, name: str) -> None:
        """Create a database's owner with a password of its own, and the database, empty."""
        self.passwords[name] = secrets.token_urlsafe(24)
        self.servers[name].create_role(name, self.passwords[name])
        self.servers[name].create_database(name, owner=name)

    def pod(
        self,
        manifests: Sequence[Manifest],
        cronjob: str = "cnpg-pg-dump-backup",
        passwords: Mapping[str, str] | None = None,
    ) -> LocalPod:
        """The pod of a rendered CronJob, on this site.

        Args:
            manifests: All that the chart rendered.
            cronjob: The CronJob's name.
            passwords: What the Secrets say instead of the right passwords.

        Raises:
            SiteError: The configuration names a database without a server here.
        """
        self.backups.mkdir(exist_ok=True)
        confs = configurations(manifests, cronjob)
        unknown = confs.keys() - self.servers.keys()
        if unknown:
            raise SiteError(f"no server here for {', '.join(sorted(unknown))}")
        spec = _pod_spec(manifests, cronjob)
        claims = {v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v}
        return LocalPod(
            manifests=manifests,
            cronjob=cronjob,
            folder=self.folder / "pods",
            claims=dict.fromkeys(claims, self.backups),
            secrets=self._secrets(confs, {**self.passwords, **(passwords or {})}),
            images=self._images(spec),
            hosts={conf["host"]: Endpoint("localhost", self.servers[name].port) for name, conf in confs.items()},
        )

    def _secrets(
        self, confs: Mapping[str, Mapping[str, str]], passwords: Mapping[str, str]
    ) -> dict[str, dict[str, str | bytes]]:
        found: dict[str, dict[str, str | bytes]] = {}
        for name, conf in confs.items():
            cluster, authority = conf["cluster"], self.servers[name].authority
            found[f"{cluster}-app"] = {"username": name, "password": passwords[name], "dbname": conf["dbname"]}
            if authority:
                found[f"{cluster}-ca"] = {"ca.crt": authority.pem, "ca.key": "none of the backup's business"}
        return found

    def _images(self, spec: Manifest) -> dict[str, Sequence[Path | str]]:
        programs = next(iter(self.servers.values())).bin
        images: dict[str, Sequence[Path | str]] = {}
        for container in (*spec["initContainers"], *spec["containers"]):
            image = container["image"]
            repository = image.rsplit("/", 1)[-1].partition(":")[0]
            if repository == "postgres":
                images[image] = (programs, *_SYSTEM_PATH)
            elif repository == "python":
                images[image] = (python_image(self.folder / "images" / "python"),)
        return images


def _pod_spec(manifests: Sequence[Manifest], cronjob: str) -> Manifest:
    for manifest in manifests:
        if manifest["kind"] == "CronJob" and manifest["metadata"]["name"] == cronjob:
            spec: Manifest = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]
            return spec
    raise SiteError(f"the chart rendered no CronJob {cronjob}")


def config_files(manifests: Sequence[Manifest], cronjob: str = "cnpg-pg-dump-backup") -> dict[str, str]:
    """The files of a CronJob's configuration, as the chart rendered them."""
    for manifest in manifests:
        if manifest["kind"] == "ConfigMap" and manifest["metadata"]["name"].startswith(f"{cronjob}-config-"):
            return dict(manifest["data"])
    raise SiteError(f"the chart rendered no ConfigMap {cronjob}-config-…")


def configurations(manifests: Sequence[Manifest], cronjob: str = "cnpg-pg-dump-backup") -> dict[str, dict[str, str]]:
    """Each database's `.conf` as keys and values, as the chart rendered it."""
    files = config_files(manifests, cronjob)
    return {
        path.removesuffix(".conf"): dict(line.split("=", 1) for line in text.splitlines())
        for path, text in files.items()
        if path.endswith(".conf")
    }
