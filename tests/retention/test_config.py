"""A database's configuration: one file that two halves of a pod read, each its own keys."""

import re
from pathlib import Path

import pytest

from retention.errors import ConfigError
from retention.keyvalue import format_lines, parse
from retention.pod.config import DatabaseConfig, read_database
from retention.rule.policy import Limits
from tests.lab.conf import conf, conf_text


def _read(folder: Path, text: str) -> DatabaseConfig:
    (folder / "app.conf").write_text(text)
    return read_database(folder, "app")


def test_what_the_chart_writes_is_read(tmp_path: Path) -> None:
    assert _read(tmp_path, conf_text("app")) == DatabaseConfig(
        "app", "app-postgresql-cnpg", "default", 600, False, False, False, Limits(50, None, 3)
    )


def test_every_key_that_is_read_is_one_that_the_chart_writes(tmp_path: Path) -> None:
    written = conf("app")
    read: dict[str, str] = {}
    # Each error names one key that is read and missing; one that the chart does not write fails the look-up.
    for _ in written:
        try:
            found = _read(tmp_path, format_lines(read))
        except ConfigError as error:
            missing = re.fullmatch(r".*/app\.conf: (\w+) is missing", error.problem)
            if missing is None:
                raise
            read[missing[1]] = written[missing[1]]
        else:
            break
    assert found == _read(tmp_path, conf_text("app")), "a key is read that may be missing"
    assert len(read) < len(written), "dump.sh has keys of its own"


def test_a_key_of_the_other_half_is_ignored(tmp_path: Path) -> None:
    text = conf_text("app") + "colour=blue\nextra_arg=--exclude-table=log\nextra_arg=--exclude-table=trace\n"
    assert _read(tmp_path, text) == _read(tmp_path, conf_text("app"))


@pytest.mark.parametrize("key", ["database", "lock_timeout", "compression"])
def test_a_key_that_occurs_twice_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f"app.conf: {key} occurs twice; keep one"):
        _read(tmp_path, conf_text("app") + f"{key}=5\n")


def test_a_line_without_a_key_is_refused() -> None:
    for line in ("no sign of equality", "=value"):
        with pytest.raises(ConfigError, match=r"x.conf: line 2 is not key=value"):
            parse(f"a=1\n{line}\n", "x.conf")


def test_values_are_taken_as_they_are() -> None:
    found = parse("a= b = c \nwarning=one\nnumber=007\nwarning=two\nempty=\n\n", "x")
    assert found.text("a") == " b = c "
    assert found.warnings == ("one", "two")
    assert (found.number("number"), found.number("empty"), found.number("absent")) == (7, None, None)
    assert found.require("empty", "") == ""


def test_lines_that_are_written_are_read_back() -> None:
    values = {"a": "x=y", "b": "", "c": "ümlaut"}
    assert parse(format_lines(values), "x").values == values
    assert format_lines({"a": "two\nlines\x1b[31m"}) == "a=two\\nlines\\x1b[31m\n"
