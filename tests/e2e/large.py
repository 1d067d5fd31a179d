"""A database of one gigabyte in a cluster, for what can only be seen at some size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.e2e.node import Cluster, wait_until
from tests.e2e.release import cnpg_cluster, databases
from tests.lab import data

DATABASE = "plausible"
CLUSTER = f"{DATABASE}-postgresql-cnpg"
INSTANCE = f"{CLUSTER}-1"
BYTES = 1_000_000_000
"""What pg_database_size says at least, indexes included."""

# What `data.plausible` is asked for; it keeps to it within some percent.
_MEGABYTES = 1000


def cluster() -> dict[str, Any]:
    """A cluster with room for the database, its copy beside it, and the log of changes that both make.

    Its superuser has a password, since nobody else makes a database anew that was dropped.
    """
    return cnpg_cluster(
        CLUSTER,
        DATABASE,
        storage={"size": "6Gi", "storageClass": "longhorn"},
        enableSuperuserAccess=True,
        postgresql={"parameters": {"shared_buffers": "256MB", "max_wal_size": "1GB"}},
    )


def values() -> Mapping[str, Any]:
    """Values of a release that backs it up, on a volume of bounded size."""
    return {"databases": databases(DATABASE), "persistence": {"size": "2Gi", "keep": False}}


@dataclass(frozen=True, slots=True)
class Instance:
    """The cluster's one instance, as the superuser inside its pod."""

    cluster: Cluster
    namespace: str

    def psql(self, sql: str, dbname: str = "postgres", **variables: str) -> str:
        """Run statements, the first failure ends them; what psql prints, unaligned.

        Raises:
            NodeError: A statement failed.
        """
        given = [argument for name, value in variables.items() for argument in ("-v", f"{name}={value}")]
        return self.cluster.kubectl(
            "exec", "-i", "-n", self.namespace, INSTANCE, "-c", "postgres", "--",
            "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", *given, "-d", dbname, "-f", "-", stdin=sql, seconds=600,
        )  # fmt: skip

    def value(self, sql: str, dbname: str = "postgres") -> str:
        """The one value that a query returns, as text."""
        return self.psql(sql, dbname).rstrip("\n")

    def bytes(self, dbname: str = DATABASE) -> int:
        """pg_database_size."""
        return int(self.value("SELECT pg_database_size(current_database())", dbname))

    def names(self) -> list[str]:
        """All databases but those of the system."""
        return self.value("SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'").split()

    def fill(self) -> None:
        """Give the empty database its content: the server makes it from hashes of row numbers."""
        data.plausible(self, DATABASE, DATABASE, megabytes=_MEGABYTES)

    def wait_for_superuser(self) -> None:
        """Wait until the operator has made the superuser's Secret, and set its password."""
        secret = ("get", "secret", f"{CLUSTER}-superuser", "-n", self.namespace)
        wait_until("the superuser's Secret is there", lambda: self.cluster.try_kubectl(*secret).returncode == 0, 60)
        has = "SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = 'postgres'"
        wait_until("the superuser has its password", lambda: self.value(has) == "t", 60)
