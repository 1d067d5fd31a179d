"""The versions of everything that works together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubectl_cnpg_backup.model.objects import major_of
from kubectl_cnpg_backup.model.release import Release


@dataclass(frozen=True, slots=True)
class Versions:
    """What is known; empty where it is not.

    Attributes:
        plugin: The plugin's own version.
        python: That of its Python.
        server: The API server's.
        release: The release, None where there is none, or several.
        images: What each image is for, by the image.
        clusters: The image of each cluster that is backed up, by `namespace/name`.
    """

    plugin: str
    python: str
    server: str = ""
    release: Release | None = None
    images: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    clusters: Mapping[str, str] = field(default_factory=dict)


def read_images(release: Release) -> dict[str, tuple[str, ...]]:
    """Return the images of a release, with the components and containers that run them."""
    found: dict[str, dict[str, None]] = {}
    for cronjob in release.cronjobs:
        spec = cronjob.pod_spec
        for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
            # The containers of a drill have numbers, one for each database.
            name = str(container.get("name")).rstrip("0123456789").rstrip("-")
            found.setdefault(str(container.get("image")), {})[f"{cronjob.component}/{name}"] = None
    return {image: tuple(uses) for image, uses in sorted(found.items())}


def lines(found: Versions) -> list[tuple[str, str, str]]:
    """Return what has a version, the version, and what more is to say, one a line."""
    rows = [("plugin", found.plugin, f"Python {found.python}")]
    if found.server:
        rows.append(("API server", found.server, ""))
    if found.release is not None:
        release = found.release
        rows.append(("chart", release.version, f"release {release.name} in namespace {release.namespace}"))
    for image, uses in found.images.items():
        rows.append(("image", image, ", ".join(uses)))
    for name, image in found.clusters.items():
        major = major_of(image) if image else None
        rows.append((f"cluster {name}", "not known" if major is None else f"PostgreSQL {major}", image))
    return rows


def document(found: Versions) -> dict[str, Any]:
    """Return the versions, for programs."""
    release = found.release
    return {
        "plugin": found.plugin,
        "python": found.python,
        "kubernetes": found.server or None,
        "release": release and {"name": release.name, "namespace": release.namespace, "chart": release.version},
        "images": [{"image": image, "used_by": list(uses)} for image, uses in found.images.items()],
        "clusters": [
            {"cluster": name, "image": image or None, "postgresql": major_of(image) if image else None}
            for name, image in found.clusters.items()
        ],
    }
