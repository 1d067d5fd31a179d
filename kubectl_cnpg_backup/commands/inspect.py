"""`inspect`: a shell in a pod that mounts the volume."""

import shutil
import subprocess

from kubectl_cnpg_backup.cluster.inspector import ROOT, container_with
from kubectl_cnpg_backup.commands.common import Commands, add_command, add_wait
from kubectl_cnpg_backup.errors import PluginError
from kubectl_cnpg_backup.model.release import INSPECTOR
from kubectl_cnpg_backup.session import Session


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands, "inspect", "Open a shell in a pod that mounts the volume read-only; the pod ends with the shell.", run
    )
    command.add_argument("words", nargs="*", metavar="COMMAND", help="run this command instead of a shell, after --")
    command.add_argument(
        "--write", action="store_true", help="use the container that may change the volume and has python3 -m retention"
    )
    add_wait(command)


def run(session: Session) -> int:
    """Open a shell in a pod that mounts the volume."""
    options = session.options
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise PluginError("kubectl is not on PATH, and the shell is opened with it", "install kubectl")
    with session.inspecting() as pod:
        template = session.release.template(INSPECTOR)
        container = container_with(template.pod_spec, python=options.write)
        interactive = not options.words
        command = [
            *(kubectl, "exec", "--namespace", session.cluster.namespace),
            *(["--kubeconfig", options.kubeconfig] if options.kubeconfig else []),
            *(["--context", session.cluster.context] if session.cluster.context else []),
            *(["--stdin", "--tty"] if interactive and session.screen.output.is_terminal else ["--stdin"]),
            *(pod.pod, "--container", container, "--"),
            *(options.words or ["sh"]),
        ]
        if interactive:
            session.screen.note(f"the backups are below {ROOT}; pod {pod.pod} ends with this shell")
        return subprocess.run(command, check=False).returncode
