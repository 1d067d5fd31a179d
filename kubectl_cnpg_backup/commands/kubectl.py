"""kubectl itself, for what needs a terminal or a port of this machine."""

import shutil
from collections.abc import Sequence

from kubectl_cnpg_backup.errors import PluginError
from kubectl_cnpg_backup.session import Session


def kubectl(session: Session, verb: str, *arguments: str) -> list[str]:
    """Return a command line of kubectl, with the cluster, the namespace and the user of this call.

    Raises:
        PluginError: When kubectl is not on PATH.
    """
    program, options = shutil.which("kubectl"), session.options
    if program is None:
        raise PluginError("kubectl is not on PATH, and the shell is opened with it", "install kubectl")
    return [
        *(program, verb, "--namespace", session.cluster.namespace),
        *(["--kubeconfig", options.kubeconfig] if options.kubeconfig else []),
        *(["--context", session.cluster.context] if session.cluster.context else []),
        *(["--as", options.as_user] if options.as_user else []),
        *(word for group in options.as_group or () for word in ("--as-group", group)),
        *(["--as-uid", options.as_uid] if options.as_uid else []),
        *arguments,
    ]


def terminal(*, interactive: bool) -> Sequence[str]:
    """Return the options of `kubectl exec` for a terminal, or for standard input alone."""
    return ("--stdin", "--tty") if interactive else ("--stdin",)
