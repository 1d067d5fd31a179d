"""`inspect`: a shell in a pod that mounts the volume."""

import subprocess

from kubectl_cnpg_backup.cluster.inspector import ROOT, container_with
from kubectl_cnpg_backup.commands.common import Commands, add_command, add_wait
from kubectl_cnpg_backup.commands.kubectl import kubectl, terminal
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
    kubectl(session, "exec")
    with session.inspecting() as pod:
        template = session.release.template(INSPECTOR)
        container = container_with(template.pod_spec, python=options.write)
        interactive = not options.words
        at_terminal = terminal(interactive=interactive and session.screen.output.is_terminal)
        words = options.words or ["sh"]
        command = kubectl(session, "exec", *at_terminal, pod.pod, "--container", container, "--", *words)
        if interactive:
            session.screen.note(f"the backups are below {ROOT}; pod {pod.pod} ends with this shell")
        return subprocess.run(command, check=False).returncode
