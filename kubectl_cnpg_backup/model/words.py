"""Names that a user may have meant, and the options of a restore in the words of the plugin."""

import difflib
import re
from collections.abc import Iterable

_FLAGS = {
    "RESTORE_REPLACE=yes": "--replace",
    "RESTORE_KEEP=no": "--drop-old",
    "RESTORE_DRY_RUN=yes": "--dry-run",
}
_OPTIONS = {
    "RESTORE_BACKUP": "--backup",
    "RESTORE_INTO": "--into",
    "RESTORE_REPLACE": "--replace",
    "RESTORE_WAY": "--way",
    "RESTORE_TABLES": "--table",
    "RESTORE_SCHEMAS": "--schema",
    "RESTORE_SEARCH_PATH": "--search-path",
    "RESTORE_ON_ERROR": "--on-error",
    "RESTORE_OWNER": "--owner",
    "RESTORE_JOBS": "--jobs",
    "RESTORE_UNDELETE": "--table",
    "RESTORE_WHERE": "--where",
    "RESTORE_KEY": "--key",
    "RESTORE_SHOW": "--show",
}
_FLAG = re.compile("|".join(rf"\b{flag}\b" for flag in _FLAGS))
_OPTION = re.compile(r"\b(?P<name>RESTORE_[A-Z_]+)\b(?P<equals>=(?=\S))?")


def meant(wrong: str, names: Iterable[str]) -> str:
    """Return a question that names what is most like a wrong word, ending with a blank; empty where nothing is."""
    found = difflib.get_close_matches(wrong, list(names), n=1)
    return f"did you mean {found[0]!r}? " if found else ""


def in_options(line: str) -> str:
    """Return a line of a restore's log with the plugin's options instead of the variables of its pod."""
    line = re.sub(r"\bset (?=RESTORE_)", "give ", line)
    line = _FLAG.sub(lambda match: _FLAGS[match[0]], line)

    def option(match: re.Match[str]) -> str:
        name = _OPTIONS.get(match["name"])
        return match[0] if name is None else name + (" " if match["equals"] else "")

    return _OPTION.sub(option, line)
