"""`key=value` lines: the one format in which the chart, the shell scripts, Python and the plugin hand facts on.

A database's configuration (`<database>.conf`), the results of dump.sh, drill.sh and adopt.sh, and the request for a
restore all have it: one `key=value` a line, everything after the first `=` is the value, without quotes or comments.
The keys of each file are in docs/architecture.md. A reader asks for the keys that it needs and ignores all others.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from retention.errors import ConfigError
from retention.text import shown

REPEATABLE = frozenset({"exclude", "extra_arg", "warning"})
"""Keys that may occur any number of times; any other key that occurs twice makes a file ambiguous."""


@dataclass(frozen=True, slots=True)
class KeyValues:
    """The values of one file.

    Attributes:
        source: What errors call the file, usually its path.
        values: The value of each key that occurs once.
        repeated: All values of each key that may occur repeatedly, in their order.
    """

    source: str
    values: dict[str, str]
    repeated: dict[str, tuple[str, ...]]

    def text(self, key: str) -> str:
        """Return a value, empty when it is missing."""
        return self.values.get(key, "")

    def number(self, key: str) -> int | None:
        """Return a value as a whole number, or None when it is missing or is not one."""
        text = self.text(key)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    def require(self, key: str, remedy: str) -> str:
        """Return a value, which may be empty.

        Raises:
            ConfigError: When it is missing; with the remedy that the caller gives.
        """
        if key not in self.values:
            raise ConfigError(f"{self.source}: {key} is missing", remedy)
        return self.values[key]

    @property
    def warnings(self) -> tuple[str, ...]:
        """The texts of all `warning` lines."""
        return self.repeated.get("warning", ())


def parse(text: str, source: str) -> KeyValues:
    """Return what the text of a file says.

    Args:
        text: The file's content; empty lines are skipped.
        source: What errors call the file, usually its path.

    Raises:
        ConfigError: When a line is not `key=value`, or a key that is not repeatable occurs twice.
    """
    values: dict[str, str] = {}
    repeated: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line:
            continue
        key, equals, value = line.partition("=")
        if not equals or not key:
            raise ConfigError(f"{source}: line {number} is not key=value", "check which program wrote this file")
        if key in REPEATABLE:
            repeated[key] = (*repeated.get(key, ()), value)
        elif key in values:
            raise ConfigError(f"{source}: {key} occurs twice", "keep one of the two lines")
        else:
            values[key] = value
    return KeyValues(source, values, repeated)


def format_lines(values: Mapping[str, str]) -> str:
    """Return the text of a file; what would not print is escaped, so that each value stays on its line."""
    return "".join(f"{key}={shown(value)}\n" for key, value in values.items())
