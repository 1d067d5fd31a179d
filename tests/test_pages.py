"""The pages that people read: every path that they name is in the tree, and no line of prose is too long to be read."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
COLUMNS = 140


def prose(text: str) -> list[str]:
    """The lines of a page outside of tables and blocks of code."""
    found, code = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            code = not code
        elif not code and not line.startswith("|"):
            found.append(line)
    return found


def absent(text: str, *folders: str) -> list[str]:
    """The paths between backquotes that are neither in the tree nor in one of these folders of it."""
    named = {span.split()[0] for span in re.findall(r"`([^`\n]+)`", text)}
    paths = {name for name in named if re.fullmatch(r"[\w.*/-]+", name) and ("/" in name or _is_file(name))}
    return sorted(
        path
        for path in paths
        if not path.startswith(("/", "-")) and not any(any(ROOT.glob(f"{folder}{path}")) for folder in ("", *folders))
    )


def _is_file(name: str) -> bool:
    return name.endswith((".py", ".sh", ".tpl", ".yaml", ".toml", ".txt"))


def bare_pages(path: Path) -> list[str]:
    """The lines of a program that show a page by its path alone; comments and docstrings are not shown."""
    text = path.read_text()
    if path.suffix == ".sh":
        shown = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    else:
        tree = ast.parse(text)
        silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in silent]
        shown = [node.value for node in constants if isinstance(node.value, str)]
    return [line for line in shown if re.search(r"(?<![\w/}])docs/[\w-]+[.]md", line) and line != OWN_PAGE]


OWN_PAGE = "docs/plugin.md"
"""What the plugin takes for its page while it is not installed."""


@pytest.mark.parametrize("folder", ["kubectl_cnpg_backup", "retention", "offsite", "watch", "scripts"])
def test_no_message_names_a_page_by_a_path_that_the_reader_does_not_have(folder: str) -> None:
    programs = sorted([*(ROOT / folder).rglob("*.py"), *(ROOT / folder).rglob("*.sh")])
    assert programs
    assert {str(path.relative_to(ROOT)): bare for path in programs if (bare := bare_pages(path))} == {}


def test_a_message_that_names_a_page_by_its_path_is_found(tmp_path: Path) -> None:
    program, script = tmp_path / "x.py", tmp_path / "x.sh"
    program.write_text('"""docs/a.md"""\n# docs/b.md\nprint(f"{base}/docs/c.md", "see docs/d.md", f"x (docs/e.md)")\n')
    script.write_text("# docs/a.md\n  # docs/b.md\nusage 'see docs/c.md'\n")
    assert bare_pages(program) == ["see docs/d.md", "x (docs/e.md)"]
    assert bare_pages(script) == ["usage 'see docs/c.md'"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_line_of_prose_is_longer_than_140_columns(page: Path) -> None:
    assert [line for line in prose(page.read_text()) if len(line) > COLUMNS] == []


def test_every_path_of_contributing_is_in_the_tree() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert text.count("`retention/") > 10, "the paths are not seen"
    assert absent(text) == []


def test_every_path_of_the_rooms_is_in_the_tree() -> None:
    """A name without a folder is in the folder of its row."""
    rooms = (ROOT / "docs" / "architecture.md").read_text().split("## Rooms\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w/]+/)` \| (.*) \|$", rooms, re.MULTILINE)
    assert len(rows) > 10
    assert [(folder, wrong) for folder, text in rows if (wrong := absent(f"`{folder}` {text}", folder))] == []
    assert absent(rooms.split("| `docs/`")[1].split("\n\n", 1)[1]) == []


def test_every_folder_of_the_tree_has_a_room() -> None:
    rooms = (ROOT / "docs" / "architecture.md").read_text().split("## Rooms\n")[1].split("\n## ")[0]
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    folders = {file.split("/")[0] for file in files if "/" in file and not file.startswith(".")}
    assert [folder for folder in sorted(folders) if f"| `{folder}/` |" not in rooms] == []


def test_a_path_that_is_not_there_and_a_long_line_are_found() -> None:
    assert absent("`chart/no.yaml` `make test` `tools/lint` `a > b` `nothing.py`") == ["chart/no.yaml", "nothing.py"]
    assert prose("| a |\n```\ncode\n```\nprose\n  ```yaml\n  code\n  ```\n") == ["prose"]
