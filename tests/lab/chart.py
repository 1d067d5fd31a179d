"""Render the chart as Helm does, for tests, demo and bench.

The engine is, in this order: the pinned Helm that `tools/build` has built, `helm` on PATH, or the Helm library in the
wheel `helm-python-sdk`. So a demo on a fresh machine needs no Go build, while tests name the engine that they mean.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "chart"

Manifest = dict[str, Any]
Values = Mapping[str, Any] | Path | None
Engine = Literal["helm", "helm3"]

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def merge(*trees: Mapping[str, Any]) -> dict[str, Any]:
    """Merge values as Helm does: maps deeply, everything else replaced by the later one."""
    merged: dict[str, Any] = {}
    for tree in trees:
        for key, value in tree.items():
            old = merged.get(key)
            merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged


class ChartError(Exception):
    """The chart could not be rendered; the message is what Helm said."""


_folder: list[Path] = []


def share_renders(folder: Path) -> None:
    """Keep in a folder what `once` makes: no worker of a test session then makes it again."""
    folder.mkdir(exist_ok=True)
    _folder[:] = [folder]


def render(
    values: Values = None,
    release: str = "cnpg-backup",
    namespace: str = "default",
    api_versions: Sequence[str] = (),
    kube_version: str | None = None,
    helm: Engine = "helm",
    chart: Path = CHART,
) -> list[Manifest]:
    """The objects that the chart renders, in Helm's order.

    Args:
        values: What overrides the chart's own values: a mapping, or the path of a values file.
        release: Name of the release.
        namespace: Namespace of the release.
        api_versions: What the cluster serves besides Helm's own list: `policies.kyverno.io/v1/ValidatingPolicy`.
        kube_version: The cluster's version, such as `1.30.0`; the engine's own if None.
        helm: `helm` is Helm 4 where it is the pinned one; `helm3` is always the pinned Helm 3.
        chart: The chart's folder or package.

    Raises:
        ChartError: Helm refused values or templates, or there is no such engine.
    """
    return parse(render_text(values, release, namespace, api_versions, kube_version, helm, chart))


def parse(text: str) -> list[Manifest]:
    """The objects of what `render_text` gives."""
    return [document for document in yaml.load_all(text, Loader=_LOADER) if document]


def render_text(
    values: Values = None,
    release: str = "cnpg-backup",
    namespace: str = "default",
    api_versions: Sequence[str] = (),
    kube_version: str | None = None,
    helm: Engine = "helm",
    chart: Path = CHART,
    fresh: bool = False,
) -> str:
    """What `helm template` prints; arguments and errors as for `render`. With `fresh` Helm is asked in any case."""
    binary = find(helm)
    overrides = yaml.load(values.read_text(), Loader=_LOADER) if isinstance(values, Path) else values  # noqa: S506
    if binary is None:
        if api_versions or kube_version or helm != "helm":
            raise ChartError("the Helm library cannot pretend versions; build the pinned Helm: tools/build helm")
        return _render_with_library(dict(overrides or {}), release, namespace, chart)
    command = [str(binary), "template", release, str(chart), "--namespace", namespace, "--values", "-"]
    command += [f"--api-versions={version}" for version in api_versions]
    command += [f"--kube-version={kube_version}"] if kube_version else []
    # JSON of plain ASCII, but for characters that JSON writes as two surrogates, which YAML refuses.
    text = json.dumps(overrides or {}, ensure_ascii=False)
    text = re.sub(r"[\x7f-\uffff]", lambda match: f"\\u{ord(match[0]):04x}", text)
    if fresh or chart != CHART:
        return run_helm(command, text)
    return once([_digest(), *command, text], lambda: run_helm(command, text))


def once(identity: Sequence[str], make: Callable[[], str]) -> str:
    """What `make` gives, made once in a test session for one `identity`, where there is a folder to keep it."""
    if not _folder:
        return make()
    kept = _folder[0] / hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    with contextlib.suppress(FileNotFoundError):
        return kept.read_text()
    made = make()
    with tempfile.NamedTemporaryFile("w", dir=_folder[0], delete=False) as file:
        file.write(made)
    # Whole or not at all: another worker may look at this moment.
    Path(file.name).replace(kept)
    return made


@functools.cache
def _digest() -> str:
    """What is in the chart's folder."""
    files = sorted(path for path in CHART.rglob("*") if path.is_file())
    return hashlib.sha256(
        b"".join(str(path).encode() + hashlib.sha256(path.read_bytes()).digest() for path in files)
    ).hexdigest()


def run_helm(command: Sequence[str], standard_input: str = "") -> str:
    """Run Helm apart from the user's own configuration and plugins, and give what it prints.

    Raises:
        ChartError: Helm failed; the message is its standard error.
    """
    nowhere = "/nonexistent"
    # Helm ends before the memory that it leaves behind matters; to collect it less often saves a sixth of its time.
    apart = {
        "GOGC": "400",
        "HELM_PLUGINS": nowhere,
        "HELM_CONFIG_HOME": nowhere,
        "HELM_DATA_HOME": nowhere,
        "KUBECONFIG": nowhere,
    }
    done = subprocess.run(
        command, input=standard_input, capture_output=True, text=True, check=False, timeout=120, env=os.environ | apart
    )
    if done.returncode:
        raise ChartError(done.stderr.strip())
    return done.stdout


@functools.cache
def find(helm: Engine) -> Path | None:
    """The engine's binary, or None where only the Helm library is left.

    Raises:
        ChartError: there is no such engine.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnpg-backup" / "tools"
    built = sorted(cache.glob(f"{helm}-{'[0-9a-f]' * 16}/{helm}"), key=lambda path: path.stat().st_mtime)
    if built:
        return built[-1]
    if helm == "helm3":
        raise ChartError("Helm 3 is not built yet: tools/build helm3")
    on_path = shutil.which(helm)
    return Path(on_path) if on_path else None


def pinned(tool: str) -> Path:
    """The binary of a pinned tool, built if need be.

    Raises:
        CalledProcessError: it could not be built; its standard error was shown.
    """
    built = subprocess.run([str(ROOT / "tools" / "build"), tool], stdout=subprocess.PIPE, text=True, check=True)
    return Path(built.stdout.strip()) / tool


def _render_with_library(values: dict[str, Any], release: str, namespace: str, chart: Path) -> str:
    try:
        from helm_python import Chart, HelmError
    except ImportError as error:
        raise ChartError(
            "there is no Helm: install it, or run `make venv` for the library, or tools/build helm"
        ) from error
    try:
        with Chart.load(chart) as loaded:
            loaded.validate_schema(values)
            rendered = loaded.render(values, name=release, namespace=namespace)
    except HelmError as error:
        raise ChartError(str(error)) from error
    return "\n".join(f"---\n{text}" for path, text in sorted(rendered.items()) if path.endswith(".yaml"))
