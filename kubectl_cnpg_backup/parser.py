"""The parser: options before or after the command, help that fits a terminal, and errors that name what was meant."""

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from kubectl_cnpg_backup.errors import UsageError
from kubectl_cnpg_backup.model.words import meant

_CHOICE = re.compile(r"(?P<what>.*): invalid choice: '(?P<wrong>.*)' \(choose from (?P<choices>.*)\)")


class Formatter(argparse.HelpFormatter):
    """Wraps each line of a text on its own, so that a list stays a list."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = [super(Formatter, self)._fill_text(line, width, indent) for line in text.splitlines()]
        return "\n".join(
            "  " + line if raw.startswith("  ") else line for raw, line in zip(text.splitlines(), lines, strict=True)
        )


class Parser(argparse.ArgumentParser):
    """A parser whose errors are exceptions of one line."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", Formatter)
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise the error, with the help that describes what was meant.

        Raises:
            UsageError: Always.
        """
        found = _CHOICE.fullmatch(message)
        guess = meant(found["wrong"], re.findall(r"[\w-]+", found["choices"])) if found else ""
        raise UsageError(message, f"{guess}see `{self.prog} --help`")

    def format_help(self) -> str:
        """Return the help; its first line names what must be given, and leaves the options to the list below."""
        if self.usage is None and not _subparsers(self):
            required = [
                f"{one.option_strings[-1]} {one.metavar}"
                for one in self._actions
                if one.required and one.option_strings
            ]
            names = [_positional(one) for one in self._actions if not one.option_strings]
            self.usage = " ".join([self.prog, *names, *required, "[options]"]).replace("%", "%%")
        return super().format_help()


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line, in which the options that every command has may also precede the command.

    Raises:
        UsageError: When a command, an option or an argument does not exist.
    """
    words = command_first(parser, arguments)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        command = commands_of(parser)[words[0]]
        option = next((word for word in unknown if word.startswith("-")), "")
        if option:
            word = option.split("=")[0]
            guess = meant(word, (name for one in command._actions for name in one.option_strings))
            raise UsageError(f"there is no option {word}", f"{guess}see `{command.prog} --help`")
        raise UsageError(f"unexpected argument {unknown[0]!r}", f"see `{command.prog} --help`")
    return options


def command_first(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> list[str]:
    """Return the words with the command in front of the options that precede it.

    Raises:
        UsageError: When the command, or an option before it, does not exist.
    """
    commands, before, rest = commands_of(parser), list[str](), list(arguments)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        option, value = _option(parser, word)
        if option is None:
            raise UsageError(
                f"option {word} precedes the command, and is not one of all commands",
                f"write it after the command; see `{parser.prog} --help`",
            )
        if option.nargs == 0 and option.dest in ("help", "version"):
            return [word]
        before.append(word)
        if option.nargs != 0 and not value and rest:
            before.append(rest.pop(0))
    if not rest:
        if before:
            raise UsageError("no command is given", f"see `{parser.prog} --help`")
        return ["--help"]
    if rest[0] == "help":
        return [*(word for word in rest[1:2] if word in commands), "--help"]
    if rest[0] not in commands:
        raise UsageError(f"there is no command {rest[0]!r}", f"{meant(rest[0], commands)}see `{parser.prog} --help`")
    return [rest[0], *before, *rest[1:]]


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the commands, by name."""
    found = _subparsers(parser)
    return dict(found.choices) if found else {}


def descriptions_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Return one line about each command, by name."""
    found = _subparsers(parser)
    return {choice.dest: choice.help or "" for choice in found._choices_actions} if found else {}


def option_named(parser: argparse.ArgumentParser, word: str) -> "argparse.Action | None":
    """Return the option of this name."""
    return next((action for action in parser._actions if word in action.option_strings), None)


def _option(parser: argparse.ArgumentParser, word: str) -> "tuple[argparse.Action | None, bool]":
    """Return the option that a word names, and whether the word has its value as well."""
    name, equals, _ = word.partition("=")
    if word.startswith("--"):
        return option_named(parser, name), bool(equals)
    return option_named(parser, word[:2]), len(word) > 2


def _subparsers(parser: argparse.ArgumentParser) -> "argparse._SubParsersAction[argparse.ArgumentParser] | None":
    return next((one for one in parser._actions if isinstance(one, argparse._SubParsersAction)), None)


def _positional(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest)
    several = {"*": f"[{name} ...]", "+": f"{name} ...", "?": f"[{name}]"}
    return several.get(str(action.nargs), name)
