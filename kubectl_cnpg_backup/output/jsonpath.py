"""JSONPath as `kubectl get -o jsonpath=…` has it, for `-o jsonpath=…` and `--sort-by`.

Libraries of JSONPath know paths alone. kubectl's form is a template around them: text, braces, `range … end`, and
values that are printed without quotes. People bring their habits from kubectl, so this is its form and nothing more:
`.name`, `..name`, `['name']`, `[0]`, `[-1]`, `[0:3]`, `[*]`, `.*`, `[?(@.name == "value")]`, text in quotes, and
`{range …}{end}`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from kubectl_cnpg_backup.errors import UsageError

Step: TypeAlias = Callable[[Any], Iterator[Any]]
Path: TypeAlias = tuple[Step, ...]

_NAME = re.compile(r"(?:[^\s.\[\]{}()'\"\\,=!<>@$*?]|\\.)+")
_SLICE = re.compile(r"(-?\d*):(-?\d*)(?::(\d+))?")
_FILTER = re.compile(r"\?\(\s*(?P<left>@.*?)\s*(?:(?P<compare>==|!=|<=|>=|<|>)\s*(?P<right>.+?)\s*)?\)", re.DOTALL)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}


@dataclass(frozen=True, slots=True)
class _Range:
    """A part of a template that is repeated for each value of a path."""

    path: Path
    body: tuple[Any, ...]


Template: TypeAlias = tuple[Any, ...]
"""Texts, paths (as tuples of steps) and ranges."""


def parse(text: str) -> Template:
    """Return a template; a path alone may lack its braces and its first dot, as with kubectl.

    Raises:
        UsageError: When it is not a template.
    """
    if "{" not in text:
        text = "{" + (text if text[:1] in (".", "[", "$", "@") else f".{text}") + "}"
    pieces = list(_pieces(text))
    template, rest = _body(pieces, text)
    if rest:
        raise _wrong(text, "an {end} has no {range}")
    return template


def parse_path(text: str) -> Path:
    """Return a path alone, such as the key of `--sort-by`.

    Raises:
        UsageError: When it is not a path.
    """
    template = parse(text)
    if len(template) != 1 or not isinstance(template[0], tuple):
        raise _wrong(text, "it is not one path")
    path: Path = template[0]
    return path


def render(template: Template, document: object) -> str:
    """Return the text that a template makes of a document; what the document lacks is left out."""
    texts = []
    for part in template:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, _Range):
            texts += [render(part.body, value) for value in find(part.path, document)]
        else:
            texts.append(" ".join(map(_text, find(part, document))))
    return "".join(texts)


def find(path: Path, document: object) -> list[Any]:
    """Return the values that a path leads to."""
    values = [document]
    for step in path:
        values = [found for value in values for found in step(value)]
    return values


def first(path: Path, document: object) -> Any:
    """Return the first value that a path leads to, None where there is none."""
    return next(iter(find(path, document)), None)


def order(value: Any) -> tuple[int, Any]:
    """Return what sorts a value among others of any kind: numbers, texts, all others, and what is missing at last."""
    if value is None:
        return (3, "")
    if isinstance(value, (int, float)):
        return (0, value)
    return (1, value) if isinstance(value, str) else (2, json.dumps(value, sort_keys=True))


def _wrong(text: str, why: str) -> UsageError:
    return UsageError(f"{text!r} is not a JSONPath: {why}", "write it as for kubectl, such as '{.databases[*].state}'")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _pieces(text: str) -> Iterator[tuple[bool, str]]:
    """Yield the parts of a template: whether each was in braces, and its text."""
    place = 0
    while place < len(text):
        start = text.find("{", place)
        if start < 0:
            yield False, text[place:]
            return
        if start > place:
            yield False, text[place:start]
        end = _closing(text, start, "{", "}")
        yield True, text[start + 1 : end].strip()
        place = end + 1


def _closing(text: str, start: int, left: str, right: str) -> int:
    """Return where the bracket that opens at `start` closes, past quotes and brackets inside of it."""
    depth, quote, place = 0, "", start
    while place < len(text):
        char = text[place]
        if char == "\\":
            place += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == left:
            depth += 1
        elif char == right:
            depth -= 1
            if not depth:
                return place
        place += 1
    raise _wrong(text, f"a {left} is not closed")


def _body(pieces: list[tuple[bool, str]], text: str) -> tuple[Template, bool]:
    """Take parts off the list up to an `end`; return them, and whether there was one."""
    parts: list[Any] = []
    while pieces:
        braced, piece = pieces.pop(0)
        if not braced:
            parts.append(piece)
        elif piece == "end":
            return tuple(parts), True
        elif piece.split(" ")[0] == "range":
            path = _path(piece.removeprefix("range").strip(), text)
            body, ended = _body(pieces, text)
            if not ended:
                raise _wrong(text, "a {range} has no {end}")
            parts.append(_Range(path, body))
        elif piece[:1] in ("'", '"'):
            parts.append(_quoted(piece, text))
        else:
            parts.append(_path(piece, text))
    return tuple(parts), False


def _quoted(piece: str, text: str) -> str:
    if len(piece) < 2 or piece[-1] != piece[0]:
        raise _wrong(text, f"{piece} is not closed")
    escapes = {"n": "\n", "t": "\t", "r": "\r"}
    return re.sub(r"\\(.)", lambda match: escapes.get(match[1], match[1]), piece[1:-1])


def _path(piece: str, text: str) -> Path:
    """Return the steps of a path."""
    steps: list[Step] = []
    place = 1 if piece[:1] in ("$", "@") else 0
    if not piece:
        raise _wrong(text, "it is empty")
    while place < len(piece):
        if piece[place] == "[":
            end = _closing(piece, place, "[", "]")
            steps.append(_bracket(piece[place + 1 : end].strip(), text))
            place = end + 1
            continue
        if piece[place] != ".":
            raise _wrong(text, f"{piece[place:]!r} does not begin with a dot or a bracket")
        if piece.startswith("..", place):
            steps.append(_everything)
            place += 1
        place += 1
        if piece.startswith("*", place):
            steps.append(_children)
            place += 1
        elif (match := _NAME.match(piece, place)) is not None:
            steps.append(_named(re.sub(r"\\(.)", r"\1", match[0])))
            place = match.end()
        elif place < len(piece) and piece[place] != "[":
            raise _wrong(text, f"{piece[place:]!r} is not a name")
    return tuple(steps)


def _bracket(inside: str, text: str) -> Step:
    """Return the step that stands between square brackets."""
    if inside == "*":
        return _children
    if (match := _FILTER.fullmatch(inside)) is not None:
        return _filtered(match, text)
    if (match := _SLICE.fullmatch(inside)) is not None:
        start, stop, step = (int(part) if part else None for part in match.groups())
        return lambda value: iter(value[start:stop:step] if isinstance(value, list) else ())
    steps = []
    for part in re.findall(r"'[^']*'|\"[^\"]*\"|[^,]+", inside):
        if part[0] in "'\"":
            steps.append(_named(re.sub(r"\\(.)", r"\1", part[1:-1])))
        elif re.fullmatch(r"-?\d+", part.strip()):
            steps.append(_numbered(int(part)))
        else:
            raise _wrong(text, f"[{inside}] is not a name in quotes, a number or a filter")
    if not steps:
        raise _wrong(text, "[] is empty")
    return lambda value: (found for step in steps for found in step(value))


def _named(name: str) -> Step:
    return lambda value: iter([value[name]] if isinstance(value, Mapping) and name in value else ())


def _numbered(number: int) -> Step:
    return lambda value: iter([value[number]] if isinstance(value, list) and -len(value) <= number < len(value) else ())


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield from value


def _everything(value: Any) -> Iterator[Any]:
    yield value
    for child in _children(value):
        yield from _everything(child)


def _filtered(match: re.Match[str], text: str) -> Step:
    left, compare = _path(match["left"], text), match["compare"]
    if compare is None:
        return lambda value: (one for one in _children(value) if find(left, one))
    right = match["right"]
    try:
        wanted = right[1:-1] if right[0] in "'\"" and right[-1] == right[0] else json.loads(right)
    except ValueError:
        raise _wrong(text, f"{right} is neither a number nor a text in quotes") from None

    def holds(one: Any) -> bool:
        try:
            return any(_COMPARE[compare](found, wanted) for found in find(left, one))
        except TypeError:
            return False

    return lambda value: (one for one in _children(value) if holds(one))
