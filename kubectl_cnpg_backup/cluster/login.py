"""Who the plugin is to the API server: kubeconfig, the account of a pod, and whom it acts as."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3
import websocket
import yaml
from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException
from kubernetes.stream import ws_client

from kubectl_cnpg_backup.errors import UsageError

_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def kubeconfigs() -> list[Path]:
    """Return the kubeconfigs that exist of those that kubectl reads without an option."""
    names = os.environ.get("KUBECONFIG") or "~/.kube/config"
    return [path for name in names.split(os.pathsep) if name and (path := Path(name).expanduser()).exists()]


def inside_of_a_cluster() -> client.ApiClient | None:
    """Return a client with the pod's service account, None where there is a kubeconfig or no such account."""
    if kubeconfigs():
        return None
    found = client.Configuration()
    try:
        config.load_incluster_config(found)
    except (ConfigException, OSError):
        return None
    return client.ApiClient(found)


def own_namespace() -> str:
    """Return the namespace of the pod's service account."""
    try:
        return _ACCOUNT_NAMESPACE.read_text().strip() or "default"
    except OSError:
        return "default"


def entries_of(kubeconfig: str | None, wanted: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return a `user`, a `cluster`, or both, by their names, as the kubeconfig has them.

    Of several files the first that has it counts; what none has is empty.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in [Path(kubeconfig).expanduser()] if kubeconfig else kubeconfigs():
        document = yaml.safe_load(path.read_text()) or {}
        for kind, name in wanted.items():
            for entry in document.get(f"{kind}s") or ():
                if entry.get("name") == name:
                    found.setdefault(kind, dict(entry.get(kind) or {}))
    return {kind: found.get(kind, {}) for kind in wanted}


def acting_as(api: client.ApiClient, user: Mapping[str, Any]) -> client.ApiClient:
    """Make all requests of a client, exec included, as another user; the client's library ignores these settings.

    Raises:
        UsageError: When groups, a uid or more are given without a user, or a value cannot be in a header.
    """
    headers = impersonation(user)
    if not headers:
        return api
    pool = api.rest_client.pool_manager
    plain = pool.request

    def request(method: str, url: str, **options: Any) -> Any:
        # One header for each group: a mapping cannot hold them.
        merged = urllib3.HTTPHeaderDict(options.pop("headers", None) or {})
        for name, value in headers:
            merged.add(name, value)
        return plain(method, url, headers=merged, **options)

    vars(pool)["request"] = request

    class Socket(websocket.WebSocket):
        def connect(self, url: str, **options: Any) -> None:
            more = [f"{name}: {value}" for name, value in headers]
            connect: Callable[..., None] = super().connect
            connect(url, **{**options, "header": [*(options.get("header") or ()), *more]})

    # The library passes on the headers that it knows and no other. One call of the plugin has one user.
    vars(ws_client)["WebSocket"] = Socket
    return api


def impersonation(user: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the headers by which the API server takes a request as that of another user, as kubectl sends them.

    Raises:
        UsageError: When groups, a uid or more are given without a user, or a value cannot be in a header.
    """
    extra = user.get("as-user-extra") or {}
    headers = [
        *([("Impersonate-User", str(user["as"]))] if user.get("as") else ()),
        *(("Impersonate-Group", str(group)) for group in user.get("as-groups") or ()),
        *([("Impersonate-Uid", str(user["as-uid"]))] if user.get("as-uid") else ()),
        *(
            (f"Impersonate-Extra-{quote(key, safe='')}", str(value))
            for key, values in extra.items()
            for value in values
        ),
    ]
    if headers and not user.get("as"):
        raise UsageError("a group, a uid or extra fields to act as need a user", "give one with --as")
    for name, value in headers:
        if not value.isprintable():
            raise UsageError(f"{name}: {value!r} cannot be sent to the API server")
    return headers
