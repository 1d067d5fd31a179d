"""`key=value` lines: what configures a database, and what the shell and Python halves of a pod tell each other."""

from dataclasses import dataclass

from retention.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Result:
    """What the dump container said about a database; keys as in `docs/architecture.md`."""

    values: dict[str, str]
    warnings: tuple[str, ...]

    def text(self, key: str) -> str:
        """Return a value, empty when it is missing."""
        return self.values.get(key, "")

    def number(self, key: str) -> int | None:
        """Return a value that is a whole number, or None."""
        text = self.text(key)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def parse_result(text: str, source: str) -> Result:
    """Return a result from its text.

    Raises:
        ConfigError: When a line is not `key=value`, or a key occurs twice.
    """
    values: dict[str, str] = {}
    warnings = []
    for key, value in _pairs(text, source):
        if key == "warning":
            warnings.append(value)
        elif key in values:
            raise ConfigError(f"{source}: {key} occurs twice", "this file was not written by dump.sh")
        else:
            values[key] = value
    return Result(values, tuple(warnings))


def _pairs(text: str, source: str) -> list[tuple[str, str]]:
    pairs = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line:
            continue
        key, equals, value = line.partition("=")
        if not equals or not key:
            raise ConfigError(f"{source}: line {number} is not key=value", "this file was not written for us")
        pairs.append((key, value))
    return pairs
