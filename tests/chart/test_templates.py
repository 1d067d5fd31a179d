"""How the templates are written: lines that fit a screen, one builder of containers, one name for each define."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lab.chart import CHART

TEMPLATES = sorted(path for path in (CHART / "templates").rglob("*") if path.is_file())
LONGEST_LINE = 140
BUILDER = "_containers.tpl"


def each(path: Path) -> str:
    """The name of a template in a test's name."""
    return str(path.relative_to(CHART / "templates"))


@pytest.mark.parametrize("path", TEMPLATES, ids=each)
def test_no_line_of_a_template_is_longer_than_140_characters(path: Path) -> None:
    lines = enumerate(path.read_text().splitlines(), 1)
    long = [f"{each(path)}:{number}: {len(line)}" for number, line in lines if len(line) > LONGEST_LINE]
    assert not long, "\n".join(long)


@pytest.mark.parametrize("path", TEMPLATES, ids=each)
def test_exactly_one_template_makes_containers(path: Path) -> None:
    """Each container has an image, mounts and a security context; nothing but the builder writes them."""
    keys = re.findall(
        r"^ *(?:- )?(image|imagePullPolicy|volumeMounts|terminationMessagePolicy):", path.read_text(), re.MULTILINE
    )
    made = re.findall(r'include "cnpg-backup\.containerSecurityContext"', path.read_text())
    if path.name == BUILDER:
        assert (keys.count("image"), keys.count("volumeMounts"), len(made)) == (3, 3, 3), (
            "one for Python, one for PostgreSQL, one for rclone"
        )
    else:
        assert not keys, f"{each(path)} writes {keys} itself; {BUILDER} does that"
        assert not made, f"{each(path)} makes a container itself; {BUILDER} does that"


def test_every_define_is_used_and_defined_once_and_named_like_the_others() -> None:
    text = "".join(path.read_text() for path in TEMPLATES)
    defined = re.findall(r'define "([^"]+)"', text)
    assert len(defined) == len(set(defined)), "a define is there twice: the later one would win"
    assert all(re.fullmatch(r"cnpg-backup\.[a-zA-Z.]+", name) for name in defined)
    included = set(re.findall(r'include "([^"]+)"', text))
    # One kind of rule for each access policy, chosen by its name.
    included |= {name for name in defined if name.startswith("cnpg-backup.accessRules.")}
    assert included == set(defined)
