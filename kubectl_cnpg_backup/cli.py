"""The command line: `kubectl cnpg-backup COMMAND`."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from kubectl_cnpg_backup import interrupt
from kubectl_cnpg_backup.commands import (
    adopt,
    copies,
    describe,
    diff,
    discover,
    doctor,
    download,
    inspect,
    listing,
    logs,
    new_cluster,
    notify,
    offsite,
    opening,
    page,
    pin,
    restore,
    run,
    status,
    support_bundle,
    suspend,
    undelete,
    verify,
    version,
)
from kubectl_cnpg_backup.commands.common import EPILOG, add_common, plugin_version
from kubectl_cnpg_backup.commands.everywhere import carry_out_everywhere
from kubectl_cnpg_backup.parser import Formatter, Parser, parse
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode, RetentionError, unexpected
from retention.text import shown


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; each command adds its own part, in the order of `--help`."""
    parser = Parser(
        prog="kubectl cnpg-backup",
        usage="kubectl cnpg-backup COMMAND [options]",
        description="Make, check, restore and download the backups of CloudNativePG databases.",
        epilog=f"`kubectl cnpg-backup COMMAND --help` describes a command.\n\n{EPILOG}",
        # In a column of their own: the longest name of a command has room.
        formatter_class=lambda prog: Formatter(prog, max_help_position=16),
    )
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND", prog=parser.prog
    )
    parser.add_argument("--version", action=Version, help="print the plugin's own version, and exit")
    add_common(parser, "options of every command, before or after its name")
    for add in (
        run.add,
        restore.add,
        undelete.add,
        new_cluster.add,
        run.add_drill,
        copies.add,
        status.add,
        page.add,
        discover.add,
        suspend.add,
        logs.add,
        listing.add,
        describe.add,
        diff.add,
        opening.add,
        verify.add,
        adopt.add,
        offsite.add,
        pin.add,
        download.add,
        inspect.add,
        doctor.add,
        notify.add,
        support_bundle.add,
        version.add,
    ):
        add(commands)
    return parser


class Version(argparse.Action):
    """Prints the plugin's version; it is looked up only then, since that takes longer than the rest of `--help`."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it."""
        print(f"kubectl cnpg-backup {plugin_version() or 'of a checkout that is not installed'}")
        parser.exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code. Every error is printed as one line, without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        interrupt.install()
        options = parse(build_parser(), sys.argv[1:] if arguments is None else arguments)
        session = Session.open(options)
        everywhere = getattr(options, "all_namespaces", False)
        code = int(carry_out_everywhere(session, options.run) if everywhere else options.run(session))
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = _complain("stopped", ExitCode.INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.FAILED
    except RetentionError as error:
        code = _complain(str(error), error.exit_code)
    except Exception as error:
        code = _complain(str(unexpected(error)), ExitCode.FAILED)
    return code


def _complain(text: str, code: int) -> int:
    print(f"error: {shown(text)}", file=sys.stderr, flush=True)
    return code
