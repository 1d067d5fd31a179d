"""A new CloudNativePG cluster for a backup, and a restore that goes there. Values in, values out.

The manifest asks for what the archive needs. Of a cluster that is still there it takes how it runs (image, storage,
parameters), never what ties it to its own past: a WAL archive belongs to one cluster, a second one would damage it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from kubectl_cnpg_backup.doctor import major_of, selects
from kubectl_cnpg_backup.errors import PluginError, UsageError
from kubectl_cnpg_backup.jobs import with_environment
from kubectl_cnpg_backup.release import Object, labels, name_of

GROUP, VERSION, PLURAL = "postgresql.cnpg.io", "v1", "clusters"
_IMAGE = "ghcr.io/cloudnative-pg/postgresql:{major}-standard-trixie"
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?")
"""What CloudNativePG takes: services and pods are named after it."""
_CREDENTIALS = "credentials"
_SECRETS = {"owner-": "app", "superuser-": "superuser", "ca.crt": "ca"}
"""How the files of a restore's credentials begin, and how CloudNativePG's Secrets end."""
_HOW_IT_RUNS = (
    "imagePullPolicy",
    "imagePullSecrets",
    "instances",
    "resources",
    "affinity",
    "topologySpreadConstraints",
    "priorityClassName",
    "schedulerName",
    "postgresUID",
    "postgresGID",
    "minSyncReplicas",
    "maxSyncReplicas",
    "walStorage",
    "tablespaces",
    "postgresql",
    "ephemeralVolumesSizeLimit",
    "primaryUpdateStrategy",
    "primaryUpdateMethod",
    "inheritedMetadata",
)
_HOW_IT_BEGAN = (
    "encoding",
    "locale",
    "localeCollate",
    "localeCType",
    "localeProvider",
    "icuLocale",
    "icuRules",
    "builtinLocale",
    "dataChecksums",
    "walSegmentSize",
)
_GIBIBYTE = 1 << 30
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15} | {
    f"{letter}i": 1 << 10 * power for power, letter in enumerate("KMGTP", 1)
}


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive holds.

    Attributes:
        archive: Its name.
        dbname: The database's name in PostgreSQL.
        owner: The role that owned the database; empty where the archive does not tell.
        server_version: Of the server that it was dumped from.
        database_bytes: The database's size then; 0 where that is not known.
        tables: How many there are; None where that is not known.
        extensions: What it needs, sorted.
    """

    archive: str
    dbname: str
    owner: str
    server_version: str
    database_bytes: int
    tables: int | None
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person wants of the new cluster; empty is no wish.

    Attributes:
        name: Its name.
        namespace: The release's, whose pods mount the Secrets that CloudNativePG makes there.
        image: Of PostgreSQL.
        instances: How many; 0 is no wish.
        storage: Size of each instance's volume, as 10Gi.
        storage_class: Its storage class.
    """

    name: str
    namespace: str
    image: str = ""
    instances: int = 0
    storage: str = ""
    storage_class: str = ""


def check_name(name: str) -> str:
    """Return a name that a cluster may have.

    Raises:
        UsageError: When it may not.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} is no name for a cluster",
            "it takes at most 50 small letters, digits and dashes, a letter first, as authelia-2",
        )
    return name


def bytes_of(quantity: str) -> int:
    """Return a quantity such as 1.5Gi in bytes, rounded up.

    Raises:
        UsageError: When it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]{0,2})", quantity)
    if match is None or match[2] not in _UNITS:
        raise UsageError(f"{quantity!r} is no size", "give one such as 10Gi")
    return -int(-float(match[1]) * _UNITS[match[2]] // 1)


def storage_for(database_bytes: int) -> str:
    """Return the size of a volume for a database: twice its size then, and 2 GiB for WAL while it is restored."""
    needed = 2 * database_bytes + 2 * _GIBIBYTE
    return f"{-(-needed // _GIBIBYTE)}Gi"


def read_contents(request: str, listing: str) -> Contents:
    """Return what a request of `retention choose` and the archive's table of contents say.

    Args:
        request: `key=value` lines, see docs/architecture.md.
        listing: What `pg_restore -C -l` prints.

    Raises:
        PluginError: When the request lacks what every archive has.
    """
    facts = dict(line.split("=", 1) for line in request.splitlines() if "=" in line)
    missing = [key for key in ("base", "dbname", "server_version") if not facts.get(key)]
    if missing:
        raise PluginError(f"the archive's metadata do not tell its {missing[0]}", "take another one with --backup")
    owner, extensions = "", set()
    for line in listing.splitlines():
        entry = re.fullmatch(r"\d+; \d+ \d+ (DATABASE|EXTENSION) - (.*)", line)
        if entry is None:
            continue
        if entry[1] == "DATABASE" and entry[2].startswith(f"{facts['dbname']} "):
            owner = owner or entry[2].removeprefix(f"{facts['dbname']} ")
        elif entry[1] == "EXTENSION":
            extensions.add(entry[2].split(" ")[0])
    size, tables = facts.get("database_bytes", ""), facts.get("tables", "")
    return Contents(
        f"{facts['base']}.dump",
        facts["dbname"],
        owner,
        facts["server_version"],
        int(size) if size.isdigit() else 0,
        int(tables) if tables.isdigit() else None,
        tuple(sorted(extensions)),
    )


def target_major(contents: Contents, client: str) -> int:
    """Return the major that the new cluster must have: that of the programs which restore into it.

    Args:
        contents: Of the archive.
        client: What `pg_restore --version` prints.

    Raises:
        PluginError: When these are older than the archive.
    """
    found = re.search(r"\(PostgreSQL\) (\d+)", client)
    archive = int(re.match(r"\d*", contents.server_version)[0] or 0)  # type: ignore[index]
    if found is None:
        raise PluginError(f"pg_restore calls itself {client.strip()!r}", "see the image of this database in values")
    if int(found[1]) < archive:
        raise PluginError(
            f"{contents.archive} is of PostgreSQL {contents.server_version}, the image of this database in values of "
            f"{found[1]}: never into an older major",
            f"set its image.tag to {archive}-alpine",
        )
    return int(found[1])


def manifest(contents: Contents, wishes: Wishes, major: int, old: Object | None) -> tuple[dict[str, Any], list[str]]:
    """Return the `Cluster` for an archive, and what a person should know about it.

    Args:
        contents: Of the archive.
        wishes: What is wanted; it beats all else.
        major: Of PostgreSQL.
        old: The cluster that the archive came from, where it is still there.
    """
    notes: list[str] = []
    had: Mapping[str, Any] = (old or {}).get("spec") or {}
    spec: dict[str, Any] = {"instances": 1}
    spec.update(_image(wishes, major, old or {}, notes))
    spec.update({key: deepcopy(had[key]) for key in _HOW_IT_RUNS if key in had})
    if wishes.instances:
        spec["instances"] = wishes.instances
        for key in ("minSyncReplicas", "maxSyncReplicas"):
            spec.pop(key, None)
        spec.get("postgresql", {}).pop("synchronous", None)
    roles = (had.get("managed") or {}).get("roles")
    if roles:
        spec["managed"] = {"roles": deepcopy(roles)}
    # As the superuser a restore makes missing roles and every extension, and brings back owners and grants.
    spec["enableSuperuserAccess"] = True
    spec["storage"] = _storage(contents, wishes, had.get("storage") or {})
    began: Mapping[str, Any] = (had.get("bootstrap") or {}).get("initdb") or {}
    owner = contents.owner if contents.owner not in ("", "postgres") else str(began.get("owner") or contents.dbname)
    spec["bootstrap"] = {
        "initdb": {
            "database": contents.dbname,
            "owner": owner,
            **{key: began[key] for key in _HOW_IT_BEGAN if key in began},
        }
    }
    if had.get("backup") or had.get("plugins"):
        notes.append(
            f"WAL archive and base backups of {name_of(old or {})} are left out: give the new cluster its own "
            "(spec.backup, spec.plugins), under another server name"
        )
    metadata = {"name": wishes.name, "namespace": wishes.namespace}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Cluster", "metadata": metadata, "spec": spec}, notes


def _image(wishes: Wishes, major: int, old: Object, notes: list[str]) -> dict[str, Any]:
    if wishes.image:
        told = major_of(wishes.image)
        if told is not None and told != major:
            raise UsageError(
                f"--image {wishes.image} is of PostgreSQL {told}, what restores into it of {major}",
                f"give an image of {major}, or set image.tag of this database in values to {told}-alpine",
            )
        return {"imageName": wishes.image}
    had = old.get("spec") or {}
    if had.get("imageCatalogRef"):
        return {"imageCatalogRef": {**had["imageCatalogRef"], "major": major}}
    image = str(had.get("imageName") or (old.get("status") or {}).get("image") or "")
    if image and major_of(image) == major:
        return {"imageName": image}
    chosen = _IMAGE.format(major=major)
    if image:
        notes.append(
            f"image {image} of {name_of(old)} is not of PostgreSQL {major}; --image chooses another than {chosen}"
        )
    return {"imageName": chosen}


def _storage(contents: Contents, wishes: Wishes, had: Mapping[str, Any]) -> dict[str, Any]:
    size = wishes.storage
    if not size:
        size, before = storage_for(contents.database_bytes), str(had.get("size") or "")
        if before and bytes_of(before) > bytes_of(size):
            size = before
    name = wishes.storage_class or had.get("storageClass")
    return {"size": size, **({"storageClass": name} if name else {})}


def image_of(cluster: Object) -> str:
    """Return the image that a manifest asks for, as a person reads it."""
    spec = cluster["spec"]
    catalog = spec.get("imageCatalogRef") or {}
    return str(spec.get("imageName") or f"PostgreSQL {catalog.get('major')} of catalog {catalog.get('name')}")


def aimed(job: dict[str, Any], database: str, cluster: str, namespace: str) -> dict[str, Any]:
    """Return a restore's Job that goes to another cluster: its Secrets alone are mounted, and its name is told.

    Args:
        job: Made from the chart's template.
        database: Whose backup is restored.
        cluster: The other cluster's name.
        namespace: Its namespace, which is the Job's own: a pod mounts no Secret of another one.
    """
    changed = with_environment(job, {"RESTORE_CLUSTER": f"{namespace}/{cluster}"})
    (credentials,) = [one for one in changed["spec"]["template"]["spec"]["volumes"] if one["name"] == _CREDENTIALS]
    sources = []
    for source in credentials["projected"]["sources"]:
        paths = [str(item["path"]) for item in source["secret"]["items"]]
        if not all(path.startswith(f"{database}/") for path in paths):
            continue
        files = [path.removeprefix(f"{database}/") for path in paths]
        (ending,) = {end for begin, end in _SECRETS.items() if files[0].startswith(begin)}
        items = [{"key": file.rpartition("-")[2], "path": path} for file, path in zip(files, paths, strict=True)]
        sources.append({"secret": {**source["secret"], "name": f"{cluster}-{ending}", "items": items}})
    credentials["projected"]["sources"] = sources
    # Whoever ends this program by force leaves the Job, and with it the way to the database, for no longer than this.
    changed["spec"]["ttlSecondsAfterFinished"] = 3600
    return changed


def needs_way(job: Object, policies: Iterable[Object]) -> bool:
    """Tell whether a NetworkPolicy narrows where a Job's pod may go; where none does, ours would be the first to."""
    template = labels(job["spec"]["template"])
    return any(
        selects(policy, template) and "Egress" in ((policy.get("spec") or {}).get("policyTypes") or ())
        for policy in policies
    )


def way(job: Object, cluster: str) -> dict[str, Any]:
    """Return the NetworkPolicy that lets a Job's pod reach a cluster's databases; it goes with the Job, which owns it.

    Name servers are the business of the policy that is there already.

    Args:
        job: As the API server has it, or, to be shown, without a uid.
        cluster: A cluster of the Job's namespace.
    """
    metadata = job["metadata"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata.get("uid")}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": dict(metadata["labels"]),
            **({"ownerReferences": [owner]} if owner["uid"] else {}),
        },
        "spec": {
            "podSelector": {"matchLabels": {"batch.kubernetes.io/job-name": metadata["name"]}},
            "policyTypes": ["Egress"],
            "egress": [
                {
                    "ports": [{"protocol": "TCP", "port": 5432}],
                    "to": [
                        {"podSelector": {"matchLabels": {"cnpg.io/cluster": cluster, "cnpg.io/podRole": "instance"}}}
                    ],
                }
            ],
        },
    }


def is_ready(cluster: Object) -> bool:
    """Tell whether CloudNativePG calls a cluster ready."""
    conditions: Sequence[Object] = (cluster.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def stands(cluster: Object) -> str:
    """Return how a cluster stands, as a few words."""
    status = cluster.get("status") or {}
    ready, wanted = status.get("readyInstances") or 0, (cluster.get("spec") or {}).get("instances") or 1
    return f"{status.get('phase') or 'not begun'}, {ready} of {counted(wanted)} ready"


def counted(instances: int) -> str:
    """Return a number of instances, as a person reads it."""
    return f"{instances} instance{'' if instances == 1 else 's'}"


def reason_of(cluster: Object) -> str:
    """Return why CloudNativePG says that a cluster stands as it does; empty where it does not say."""
    return str((cluster.get("status") or {}).get("phaseReason") or "").rstrip(". ")


def values_for(database: str, cluster: str, namespace: str, conf: Mapping[str, str]) -> dict[str, Any]:
    """Return what to change of a database in values, so that its new cluster is backed up from now on."""
    entry = {"name": database, "cluster": cluster}
    if conf.get("namespace") != namespace:
        entry["namespace"] = namespace
    return entry
