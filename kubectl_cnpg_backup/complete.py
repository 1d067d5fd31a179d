"""Completion: kubectl calls this program with the words so far and shows what it prints.

It prints one candidate a line, with its description after a tab; the last line is a colon and a number: 4 for "no file
names", 0 for "file names as well".
"""

import sys
from collections.abc import Sequence
from typing import Any

from kubectl_cnpg_backup.cli import build_parser
from kubectl_cnpg_backup.commands.common import FORMS
from kubectl_cnpg_backup.parser import commands_of, descriptions_of, option_named


def candidates(words: Sequence[str]) -> tuple[list[tuple[str, str]], bool]:
    """Return what may follow: candidates with their descriptions, and whether a file name may follow as well.

    Args:
        words: The words after `kubectl cnpg-backup`; the last one is being typed and may be empty.
    """
    parser, last = build_parser(), words[-1] if words else ""
    before = list(words[:-1])
    commands = commands_of(parser)
    name = next((word for word in before if word in commands), "")
    if not name:
        described = descriptions_of(parser)
        return [(command, described.get(command, "")) for command in commands if command.startswith(last)], False
    command = commands[name]
    previous = option_named(command, before[-1])
    if previous is not None and previous.nargs != 0:
        choices: Any = FORMS if previous.dest == "output" else previous.choices or ()
        return [(str(choice), "") for choice in choices if str(choice).startswith(last)], not choices
    if not last.startswith("-"):
        return [], False
    found = [
        (option, action.help or "")
        for action in command._actions
        for option in action.option_strings
        if option.startswith(last) and (option.startswith("--") or last != "--")
    ]
    return found, False


def main() -> int:
    """Print candidates for the words on the command line."""
    found, files = candidates(sys.argv[1:])
    for candidate, description in found:
        print(f"{candidate}\t{description}" if description else candidate)
    print(":0" if files else ":4")
    return 0
