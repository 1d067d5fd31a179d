"""The schemas that a cluster would check objects against, without a cluster."""

from __future__ import annotations

import functools
from typing import Any

import jsonschema
import kubernetes_validate
import kubernetes_validate.utils
import yaml

from tests.e2e.node.pins import module_folder
from tests.lab.chart import Manifest

_KYVERNO = "github.com/kyverno/kyverno"
_DEFINITIONS = {
    "ValidatingPolicy": "policies.kyverno.io/policies.kyverno.io_validatingpolicies.yaml",
    "ClusterPolicy": "kyverno/kyverno.io_clusterpolicies.yaml",
}

# It reads a megabyte of JSON for each object that it is given, and changes nothing of what it has read.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)


def problem_in(manifest: Manifest, version: str) -> str:
    """What makes an object invalid in a minor version of Kubernetes such as `1.36`; empty if nothing does."""
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error.message)
    return ""


def of_kyverno(manifest: Manifest) -> bool:
    """Whether an object is one of Kyverno's."""
    return str(manifest["apiVersion"].split("/")[0]).endswith("kyverno.io")


def of_prometheus(manifest: Manifest) -> bool:
    """Whether an object is one of Prometheus' operator."""
    return str(manifest["apiVersion"]).startswith("monitoring.coreos.com/")


def kyverno_problem_in(manifest: Manifest) -> str:
    """What makes an object invalid in the pinned Kyverno; empty if nothing does."""
    schema = _schema(manifest["kind"], manifest["apiVersion"].split("/")[1])
    error = jsonschema.exceptions.best_match(jsonschema.Draft7Validator(schema).iter_errors(manifest))
    return "" if error is None else f"{error.json_path}: {error.message}"


@functools.cache
def _schema(kind: str, version: str) -> dict[str, Any]:
    """The schema of a kind from the definitions in the sources of the Kyverno that the cluster tests run."""
    path = module_folder("kyverno", _KYVERNO) / "config" / "crds" / _DEFINITIONS[kind]
    versions = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]["versions"]  # noqa: S506
    (schema,) = [entry["schema"]["openAPIV3Schema"] for entry in versions if entry["name"] == version]
    schema["properties"]["metadata"] = {"type": "object"}
    strict: dict[str, Any] = _strict(schema)
    return strict


def _strict(schema: Any) -> Any:
    """A structural schema that refuses unknown fields, as the API server does with strict validation."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    # The parts of anyOf and the like each know only some of the fields.
    strict = {key: part if key in {"anyOf", "oneOf", "allOf", "not"} else _strict(part) for key, part in schema.items()}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and not open_ended:
        strict["additionalProperties"] = False
    return strict
