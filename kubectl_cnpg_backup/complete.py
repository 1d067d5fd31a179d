"""Completion: kubectl calls this program with the words so far and shows what it prints.

It prints one candidate a line, with its description after a tab; the last line is a colon and a number: 4 for "no file
names", 0 for "file names as well".
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kubectl_cnpg_backup.cli import build_parser
from kubectl_cnpg_backup.commands.common import FORMS
from kubectl_cnpg_backup.names import Ask, Names, kubectl
from kubectl_cnpg_backup.parser import commands_of, descriptions_of, option_named

_BACKUPS = ("newest", "pinned", "proved", "newest before ")
"""What `--backup` accepts in addition to the name of an archive."""
_OF_OPTION: Mapping[str, Callable[[Names], Sequence[str]]] = {
    "namespace": Names.namespaces,
    "release": Names.releases,
    "context": Names.contexts,
    "cluster": Names.clusters,
    "named": Names.databases,
    "backup": lambda names: [*_BACKUPS, *names.archives()],
    "output": lambda _: FORMS,
    "exclude": Names.namespaces,
}
"""What the value of an option may be, by its destination."""
_OF_ARGUMENT: Mapping[str, Callable[[Names], Sequence[str]]] = {
    "DATABASE": Names.databases,
    "ARCHIVE": Names.archives,
    "JOB": Names.jobs,
}
"""What an argument may be, by the words of its metavar."""


def candidates(words: Sequence[str], ask: Ask = kubectl) -> tuple[list[tuple[str, str]], bool]:
    """Return what may follow: candidates with their descriptions, and whether a file name may follow as well.

    Args:
        words: The words after `kubectl cnpg-backup`; the last one is being typed and may be empty.
        ask: Runs kubectl.
    """
    parser, last = build_parser(), words[-1] if words else ""
    before = list(words[:-1])
    commands = commands_of(parser)
    name = _command_in(parser, before, commands)
    command = commands.get(name, parser)
    names = Names(_options_in(command, before), ask)
    previous = option_named(command, before[-1]) if before else None
    if previous is not None and previous.nargs != 0:
        return _matching(_values(previous, names), last), previous.dest not in _OF_OPTION and not previous.choices
    option, equals, value = last.partition("=")
    if equals and (given := option_named(command, option)) is not None:
        return [(f"{option}={one}", "") for one, _ in _matching(_values(given, names), value)], False
    if not last.startswith("-"):
        if not name:
            described = descriptions_of(parser)
            return [(one, described.get(one, "")) for one in commands if one.startswith(last)], False
        return _matching(_arguments(command, before[before.index(name) + 1 :], names), last), False
    found = [
        (option, action.help or "")
        for action in command._actions
        for option in action.option_strings
        if option.startswith(last) and (option.startswith("--") or last != "--") and action.help != argparse.SUPPRESS
    ]
    return found, False


def _command_in(parser: argparse.ArgumentParser, before: Sequence[str], commands: Mapping[str, Any]) -> str:
    """Return the command among the words, empty where there is none yet; the value of an option is none."""
    skip = False
    for word in before:
        action = option_named(parser, word)
        if not skip and word in commands:
            return word
        skip = not skip and action is not None and action.nargs != 0
    return ""


def _options_in(command: argparse.ArgumentParser, before: Sequence[str]) -> dict[str, Any]:
    """Return the values of the options among the words, and the environment's for those that have such a default."""
    found: dict[str, Any] = {
        action.dest: action.default for action in command._actions if action.option_strings and action.default
    }
    for place, word in enumerate(before):
        option, equals, value = word.partition("=")
        action = option_named(command, option)
        if action is None and len(word) > 2 and not word.startswith("--"):
            action, equals, value = option_named(command, word[:2]), "=", word[2:]
        if action is None or action.nargs == 0:
            continue
        given = value if equals else next(iter(before[place + 1 : place + 2]), "")
        repeated = isinstance(action, argparse._AppendAction)
        found[action.dest] = [*(found.get(action.dest) or ()), given] if repeated else given
    return found


def _values(action: argparse.Action, names: Names) -> Sequence[str]:
    if action.dest in _OF_OPTION:
        return _OF_OPTION[action.dest](names)
    return [str(choice) for choice in action.choices or ()]


def _arguments(command: argparse.ArgumentParser, after: Sequence[str], names: Names) -> list[str]:
    """Return what the argument at the end may be; what was given already is left out."""
    given, skip = [], False
    for word in after:
        action = option_named(command, word)
        if not skip and not word.startswith("-"):
            given.append(word)
        skip = action is not None and action.nargs != 0
    arguments = [one for one in command._actions if not one.option_strings]
    repeated = [one for one in arguments if one.nargs in ("*", "+")]
    if not repeated and len(given) >= len(arguments):
        return []
    action = arguments[len(given)] if len(given) < len(arguments) else repeated[-1]
    found: list[str] = []
    for kind in str(action.metavar or "").split("|"):
        if kind in _OF_ARGUMENT:
            found += _OF_ARGUMENT[kind](names)
    return [name for name in found if name not in given]


def _matching(found: Sequence[str], last: str) -> list[tuple[str, str]]:
    return [(one, "") for one in found if one.startswith(last)]


def main() -> int:
    """Print candidates for the words on the command line."""
    found, files = candidates(sys.argv[1:])
    for candidate, description in found:
        print(f"{candidate}\t{description}" if description else candidate)
    print(":0" if files else ":4")
    return 0
