"""A new CloudNativePG cluster for a backup, and a restore into it.

The manifest asks for what the archive needs. If the old cluster still exists, the manifest takes over how it runs
(image, storage, parameters), never what ties it to its past: a WAL archive belongs to one cluster, and a second one
would damage it.
"""

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from kubectl_cnpg_backup.errors import PluginError, UsageError
from kubectl_cnpg_backup.model.jobs import with_environment
from kubectl_cnpg_backup.model.objects import Object, condition, dig, labels, major_of, name_of, selects
from retention.errors import RetentionError
from retention.names import database_of_archive
from retention.text import parse_size

GROUP, VERSION, PLURAL = "postgresql.cnpg.io", "v1", "clusters"
_IMAGE = "ghcr.io/cloudnative-pg/postgresql:{major}-standard-trixie"
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?")
"""What CloudNativePG accepts: services and pods are named after the cluster."""
_CREDENTIALS = "credentials"
_SECRETS = {"owner-": "app", "superuser-": "superuser", "ca.crt": "ca"}
"""How the file names of a restore's credentials begin, and how the names of CloudNativePG's Secrets end."""
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


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive holds.

    Attributes:
        archive: Its name.
        dbname: The database's name in PostgreSQL.
        owner: The role that owned the database; empty where the archive does not name it.
        server_version: Version of the server that was dumped.
        database_bytes: The database's size at that time; 0 where that is unknown.
        tables: How many it has; None where that is unknown.
        extensions: The extensions it needs, sorted.
    """

    archive: str
    dbname: str
    owner: str
    server_version: str
    database_bytes: int
    tables: int | None
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says about the new cluster; empty or 0 where it says nothing.

    Attributes:
        name: Its name.
        namespace: The release's, because its pods mount the Secrets that CloudNativePG makes there.
        image: The image of PostgreSQL.
        instances: How many instances it has.
        storage: Size of each instance's volume, such as 10Gi.
        storage_class: Storage class of these volumes.
    """

    name: str
    namespace: str
    image: str = ""
    instances: int = 0
    storage: str = ""
    storage_class: str = ""


def check_name(name: str) -> str:
    """Return a name after checking that a cluster may have it.

    Raises:
        UsageError: When CloudNativePG would refuse it.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} is not a valid cluster name",
            "use at most 50 lowercase letters, digits and dashes, beginning with a letter, such as authelia-2",
        )
    return name


def storage_for(database_bytes: int) -> str:
    """Return the size of a volume for a database: twice its size when dumped, and 2 GiB for WAL during the restore."""
    needed = 2 * database_bytes + 2 * _GIBIBYTE
    return f"{-(-needed // _GIBIBYTE)}Gi"


def read_contents(request: Mapping[str, str], listing: str) -> Contents:
    """Return what a request of `retention choose` and the archive's table of contents say.

    Args:
        request: The keys and values of the request, see docs/architecture.md.
        listing: What `pg_restore -C -l` prints.

    Raises:
        PluginError: When the request lacks what every archive has.
    """
    missing = [key for key in ("base", "dbname", "server_version") if not request.get(key)]
    if missing:
        raise PluginError(f"the archive's metadata lack {missing[0]}", "choose another archive with --backup")
    owner, extensions = "", set()
    for line in listing.splitlines():
        entry = re.fullmatch(r"\d+; \d+ \d+ (DATABASE|EXTENSION) - (.*)", line)
        if entry is None:
            continue
        if entry[1] == "DATABASE" and entry[2].startswith(f"{request['dbname']} "):
            owner = owner or entry[2].removeprefix(f"{request['dbname']} ")
        elif entry[1] == "EXTENSION":
            extensions.add(entry[2].split(" ")[0])
    size, tables = request.get("database_bytes", ""), request.get("tables", "")
    return Contents(
        f"{request['base']}.dump",
        request["dbname"],
        owner,
        request["server_version"],
        int(size) if size.isdigit() else 0,
        int(tables) if tables.isdigit() else None,
        tuple(sorted(extensions)),
    )


def target_major(contents: Contents, client: str) -> int:
    """Return the major version that the new cluster must have: that of the programs that restore into it.

    Args:
        contents: What the archive holds.
        client: What `pg_restore --version` prints.

    Raises:
        PluginError: When these programs are older than the archive.
    """
    found = re.search(r"\(PostgreSQL\) (\d+)", client)
    archive = int(re.match(r"\d*", contents.server_version)[0] or 0)  # type: ignore[index]
    if found is None:
        raise PluginError(
            f"pg_restore --version printed {client.strip()!r}, which names no PostgreSQL version",
            "correct the image of this database in values",
        )
    if int(found[1]) < archive:
        raise PluginError(
            f"{contents.archive} was dumped from PostgreSQL {contents.server_version}, but the image of this database "
            f"in values is PostgreSQL {found[1]}: an archive cannot be restored into an older major version",
            f"set its image.tag to {archive}-alpine",
        )
    return int(found[1])


def manifest(contents: Contents, options: Options, major: int, old: Object | None) -> tuple[dict[str, Any], list[str]]:
    """Return the `Cluster` for an archive, and notes for the user.

    Args:
        contents: What the archive holds.
        options: What the command line says; it overrides everything else.
        major: Major version of PostgreSQL.
        old: The cluster that the archive came from, where it still exists.

    Raises:
        UsageError: When CloudNativePG could not create the cluster.
    """
    # It puts the name into a connection string without quoting it, and then tries again forever.
    if re.search(r"[\s'\\]", contents.dbname):
        raise UsageError(
            f"CloudNativePG cannot create a cluster for database {contents.dbname!r}: its name has a blank, a quote "
            "or a backslash",
            "create a cluster of any other database with enableSuperuserAccess: true, then: "
            f"kubectl cnpg-backup restore {database_of_archive(contents.archive)} --cluster {options.name}",
        )
    notes: list[str] = []
    had: Mapping[str, Any] = (old or {}).get("spec") or {}
    spec: dict[str, Any] = {"instances": 1}
    spec.update(_image(options, major, old or {}, notes))
    spec.update({key: deepcopy(had[key]) for key in _HOW_IT_RUNS if key in had})
    if options.instances:
        spec["instances"] = options.instances
        for key in ("minSyncReplicas", "maxSyncReplicas"):
            spec.pop(key, None)
        spec.get("postgresql", {}).pop("synchronous", None)
    roles = (had.get("managed") or {}).get("roles")
    if roles:
        spec["managed"] = {"roles": deepcopy(roles)}
    # As the superuser a restore makes missing roles and every extension, and brings back owners and grants.
    spec["enableSuperuserAccess"] = True
    spec["storage"] = _storage(contents, options, had.get("storage") or {})
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
            f"the settings of {name_of(old or {})} for WAL archive and base backups are left out: configure the new "
            "cluster's own (spec.backup, spec.plugins) under another server name"
        )
    metadata = {"name": options.name, "namespace": options.namespace}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Cluster", "metadata": metadata, "spec": spec}, notes


def _image(options: Options, major: int, old: Object, notes: list[str]) -> dict[str, Any]:
    if options.image:
        asked = major_of(options.image)
        if asked is not None and asked != major:
            raise UsageError(
                f"--image {options.image} is PostgreSQL {asked}, but the programs that restore into it are {major}",
                f"give an image of {major}, or set image.tag of this database in values to {asked}-alpine",
            )
        return {"imageName": options.image}
    had = old.get("spec") or {}
    if had.get("imageCatalogRef"):
        return {"imageCatalogRef": {**had["imageCatalogRef"], "major": major}}
    image = str(had.get("imageName") or (old.get("status") or {}).get("image") or "")
    if image and major_of(image) == major:
        return {"imageName": image}
    chosen = _IMAGE.format(major=major)
    if image:
        notes.append(
            f"image {image} of {name_of(old)} is not PostgreSQL {major}; {chosen} is used unless --image names another"
        )
    return {"imageName": chosen}


def _storage(contents: Contents, options: Options, had: Mapping[str, Any]) -> dict[str, Any]:
    size = options.storage
    if not size:
        size, before = storage_for(contents.database_bytes), str(had.get("size") or "")
        try:
            if before and parse_size(before) > parse_size(size):
                size = before
        except RetentionError as error:
            raise PluginError(f"storage.size of the old cluster: {error.problem}", "give --storage") from None
    name = options.storage_class or had.get("storageClass")
    return {"size": size, **({"storageClass": name} if name else {})}


def image_of(cluster: Object) -> str:
    """Return the image that a manifest asks for, in words."""
    spec = cluster["spec"]
    catalog = spec.get("imageCatalogRef") or {}
    return str(spec.get("imageName") or f"PostgreSQL {catalog.get('major')} of catalog {catalog.get('name')}")


def pointed_at_cluster(job: dict[str, Any], database: str, cluster: str, namespace: str) -> dict[str, Any]:
    """Return a restore's Job that restores into another cluster: it mounts only that cluster's Secrets.

    Args:
        job: A Job made from the chart's template.
        database: The name under which the database whose backup is restored is configured: its own, or its entry's.
        cluster: The other cluster's name.
        namespace: Its namespace, which is the Job's own: a pod cannot mount Secrets of another namespace.
    """
    changed = with_environment(job, {"RESTORE_CLUSTER": f"{namespace}/{cluster}"})
    (credentials,) = [one for one in changed["spec"]["template"]["spec"]["volumes"] if one["name"] == _CREDENTIALS]
    sources = []
    for source in credentials["projected"]["sources"]:
        paths = [str(item["path"]) for item in source["secret"]["items"]]
        if not all(path.startswith(f"{database}/") for path in paths):
            continue
        files = [path.removeprefix(f"{database}/") for path in paths]
        if files[0].endswith("-uri"):
            # CloudNativePG's own Secrets have name and password in keys of their own, whatever the release's have.
            files = [files[0].removesuffix("uri") + key for key in ("username", "password")]
            paths = [f"{database}/{file}" for file in files]
        (ending,) = {end for begin, end in _SECRETS.items() if files[0].startswith(begin)}
        items = [{"key": file.rpartition("-")[2], "path": path} for file, path in zip(files, paths, strict=True)]
        sources.append({"secret": {**source["secret"], "name": f"{cluster}-{ending}", "items": items}})
    credentials["projected"]["sources"] = sources
    # When this program is killed, the Job and its NetworkPolicy stay no longer than this after the Job's end.
    changed["spec"]["ttlSecondsAfterFinished"] = 3600
    return changed


def needs_network_policy(job: Object, policies: Iterable[Object]) -> bool:
    """Tell whether a NetworkPolicy restricts where a Job's pod may connect; if none does, ours would be the first."""
    template = labels(job["spec"]["template"])
    return any(
        selects(policy, template) and "Egress" in (dig(policy, "spec").get("policyTypes") or ()) for policy in policies
    )


def network_policy_for(job: Object, cluster: str) -> dict[str, Any]:
    """Return the NetworkPolicy that lets a Job's pod reach a cluster's databases; the Job owns it and takes it along.

    Name servers are allowed by the policy that exists already.

    Args:
        job: The Job as the API server returned it; without a uid where the policy is only shown.
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
    """Tell whether CloudNativePG reports a cluster as ready."""
    return condition(cluster, "Ready") is not None


def describe(cluster: Object) -> str:
    """Return the state of a cluster in a few words."""
    status = dig(cluster, "status")
    ready, wanted = status.get("readyInstances") or 0, dig(cluster, "spec").get("instances") or 1
    return f"{status.get('phase') or 'not started'}, {ready} of {counted(wanted)} ready"


def counted(instances: int) -> str:
    """Return a number of instances in words."""
    return f"{instances} instance{'' if instances == 1 else 's'}"


def reason_of(cluster: Object) -> str:
    """Return the reason that CloudNativePG gives for a cluster's state; empty where it gives none."""
    return str(dig(cluster, "status").get("phaseReason") or "").rstrip(". ")


def values_for(database: str, cluster: str, namespace: str, conf: Mapping[str, str], dbname: str) -> dict[str, Any]:
    """Return the entry of a database in values with which its new cluster is backed up from now on."""
    entry = {"name": database, "cluster": cluster}
    if conf.get("database", database) != database:
        # Its name belongs to the entry with all databases of the old cluster.
        entry = {"name": cluster, "cluster": cluster, "database": dbname}
    if conf.get("namespace") != namespace:
        entry["namespace"] = namespace
    return entry
