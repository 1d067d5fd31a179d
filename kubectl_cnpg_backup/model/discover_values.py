"""Entries of `databases` in the values of a release, for databases that nobody backs up yet: values in, values out."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubectl_cnpg_backup.model.discover import Found, bootstrap_database
from kubectl_cnpg_backup.model.objects import Object, dig, major_of
from retention.names import is_database

_LONGEST_NAME = 63
_COMMON_NAMES = ("app", "postgres")
"""Names of databases that many clusters have: the cluster's name says more."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of `databases`, and what has to be done before it works."""

    values: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def entries(
    missing: Iterable[Found],
    clusters: Mapping[tuple[str, str], Object],
    namespace: str,
    taken: Iterable[str],
    majors: Iterable[int] = (),
) -> list[Entry]:
    """Return an entry for each database.

    Args:
        missing: The databases.
        clusters: Their Clusters, by namespace and name.
        namespace: That of the release.
        taken: The names that the release has already.
        majors: PostgreSQL's major versions of the release's images: with a single one, a cluster of that version needs
            no image of its own.
    """
    names, default = set(taken), set(majors)
    made = []
    for one in missing:
        cluster = clusters.get((one.namespace, one.cluster), {})
        name = _free_name(one, names)
        names.add(name)
        values: dict[str, Any] = {"name": name, "cluster": one.cluster}
        notes = []
        if one.database != name:
            values["database"] = one.database
        if one.namespace != namespace:
            values["namespace"] = one.namespace
        major = major_of(str(dig(cluster, "status").get("image") or dig(cluster, "spec").get("imageName") or ""))
        if major and default != {major}:
            values["image"] = {"tag": f"{major}-alpine"}
        elif not major:
            notes.append("set image.tag to the major version of its cluster, if that is not the release's")
        secret, note = _secret_of(one, cluster)
        values.update(secret)
        notes += [note] if note else []
        authority = dig(cluster, "spec", "certificates").get("serverCASecret")
        if authority:
            values["caSecret"] = {"name": str(authority)}
        if one.namespace != namespace:
            login = dig(values, "secret").get("name") or f"{one.cluster}-app"
            ca = authority or f"{one.cluster}-ca"
            notes.append(
                f"copy the Secret {login} from namespace {one.namespace} to {namespace}, "
                f"and of {ca} only the key ca.crt: next to it is the private key"
            )
        made.append(Entry(values, tuple(notes)))
    return made


def _secret_of(one: Found, cluster: Object) -> tuple[dict[str, Any], str]:
    """Return the Secrets of a database that differ from the chart's defaults, and what else has to be done."""
    spec = dig(cluster, "spec")
    bootstrap = next((dig(spec, "bootstrap", key) for key in ("initdb", "recovery", "pg_basebackup")
                      if key in dig(spec, "bootstrap")), {})  # fmt: skip
    first = bootstrap_database(cluster)
    first_owner = str(bootstrap.get("owner") or first)
    own = str(dig(bootstrap, "secret").get("name") or "")
    if one.database == first or (one.owner and one.owner == first_owner):
        return ({"secret": {"name": own}, "ownerSecret": {"name": own}} if own else {}), ""
    for role in dig(spec, "managed").get("roles") or ():
        password = str(dig(role, "passwordSecret").get("name") or "")
        if role.get("name") == one.owner and password:
            return {"secret": {"name": password}, "ownerSecret": {"name": password}}, ""
    if spec.get("enableSuperuserAccess"):
        return {"secret": {"name": f"{one.cluster}-superuser"}}, ""
    owner = f" {one.owner}" if one.owner else ""
    return {}, f"set secret.name and ownerSecret.name to a Secret with the password of its owner{owner}"


def _free_name(one: Found, taken: set[str]) -> str:
    """Return a name that no other database of the release has, and that begins with no entry's name and a dot."""
    candidates = [
        *([one.database] if one.database not in _COMMON_NAMES else []),
        *([one.cluster] if one.database in (*_COMMON_NAMES, one.cluster) else []),
        f"{one.cluster}-{one.database}",
        f"{one.namespace}-{one.cluster}-{one.database}",
    ]
    for number in range(1, len(taken) + 2):
        for text in candidates:
            name = _slug(text if number == 1 else f"{text[: _LONGEST_NAME - 5]}-{number}")
            if is_database(name) and name != "lost+found" and name not in taken and "." not in name:
                return name
    raise AssertionError("a number is always free")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower())[:_LONGEST_NAME].strip("-_")


def text_of(made: Sequence[Entry], namespace: str, release: str) -> str:
    """Return the entries as YAML; JSON of a value is YAML too, and quotes every name as it must be."""
    if not made:
        return "# nothing is missing\ndatabases: []\n"
    where = f"release {release} in namespace {namespace}" if release else f"a release in namespace {namespace}"
    then = ", and upgrade it" if release else ""
    lines = [f"# Add these entries to `databases` in the values of {where}{then}.", "databases:"]
    for entry in made:
        dash = "- "
        for note in entry.notes:
            lines.append(f"  # {note}")
        for key, value in entry.values.items():
            lines.append(f"  {dash}{key}: {_yaml(value)}")
            dash = "  "
    return "\n".join(lines) + "\n"


def _yaml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_yaml(one)}" for key, one in value.items()) + "}"
    text = str(value)
    plain = re.fullmatch(r"[a-z][a-z0-9_-]*[a-z0-9]", text) and text not in (
        "yes",
        "no",
        "on",
        "off",
        "true",
        "false",
        "null",
    )
    return text if plain else json.dumps(text, ensure_ascii=False)


def taken_names(said: Iterable[Any], namespace: str, release: str) -> list[str]:
    """Return the names that a release has; without one, those of all releases of a namespace."""
    return [
        one.name for one in said if one.release.namespace == namespace and (not release or one.release.name == release)
    ]


def majors_of(images: Iterable[str]) -> set[int]:
    """Return PostgreSQL's major versions of images, as far as their tags say."""
    return {major for image in images if (major := major_of(image))}
