"""Refusals and errors of the API server, each as one line with its remedy."""

import json
import re

from kubernetes.client.exceptions import ApiException

from kubectl_cnpg_backup.errors import ConflictError, ForbiddenError, NotFoundError, PluginError

_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]*)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?'
)
_ANONYMOUS = "system:anonymous"
_HANDSHAKE = re.compile(r"Handshake status (?P<status>\d+)")


def explained(error: ApiException | AttributeError) -> PluginError:
    """Return an error of the API server as one line.

    Raises:
        AttributeError: When it is none; the library raises one itself where a connection failed before an answer, since
            it decodes the body that there is not.
    """
    if isinstance(error, AttributeError):
        if not isinstance(error.__context__, ApiException):
            raise error
        error = error.__context__
    status, text = error.status, str(error.body or error.reason or "")
    handshake = _HANDSHAKE.search(text)
    if handshake is not None:
        status, text = int(handshake["status"]), text.replace('\\\\"', '"').replace('\\"', '"')
    message = _message(text)
    if status == 401:
        return PluginError("the API server does not know this user", "log in again; check with `kubectl auth whoami`")
    if status == 403:
        return forbidden(message)
    if status == 404:
        return NotFoundError(message or "not found")
    if status == 409 and "conflict" in message:
        return ConflictError(message)
    return PluginError(f"the API server answered {status}: {message or error.reason}")


def _message(text: str) -> str:
    try:
        document = json.loads(text)
    except ValueError:
        found = re.search(r'"message":"(.*?)","', text)
        return (found[1] if found else text).strip()
    return str(document.get("message", text)) if isinstance(document, dict) else text


def forbidden(message: str) -> ForbiddenError:
    """Return a refusal with the RBAC rule that is missing; the refusal of an admission policy stays as it is."""
    match = _FORBIDDEN.search(message)
    if match is None:
        return ForbiddenError(message)
    if match["user"] == _ANONYMOUS:
        return ForbiddenError(
            "the API server does not know who you are: the kubeconfig gave no credentials, or its login has expired",
            "log in again; check with `kubectl auth whoami`",
        )
    group, namespace = match["group"], match["namespace"]
    where = f"in namespace {namespace}" if namespace else "in all namespaces"
    kind = "Role" if namespace else "ClusterRole"
    return ForbiddenError(
        f"user {match['user']} may not {match['verb']} {match['resource']} {where}",
        f"ask for the rule {{apiGroups: [{json.dumps(group)}], resources: [{match['resource']}], "
        f"verbs: [{match['verb']}]}} in a {kind}; the chart's own Role is <release>-operator",
    )


def unreachable(error: Exception) -> PluginError:
    """Return that the API server does not answer, and why."""
    reason = getattr(error, "reason", None)
    cause = str(reason or error).rsplit("> ", 1)[-1].splitlines()[0]
    return PluginError(f"the API server does not answer: {cause}", "check it with `kubectl cluster-info`")
