"""Run a command in a terminal of its own and draw what the terminal shows: an SVG for the documentation.

    python -m lab.terminal_picture OUT.svg [--columns 110] [--title TEXT] -- COMMAND…

What was drawn over (spinners, progress) is not in the picture: it shows what stays.
"""

from __future__ import annotations

import argparse
import html
import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

_MOST_BYTES = 1 << 20
_DRAWN_OVER = re.compile(r"\x1b\[\?25[lh]|\r\x1b\[2K|\x1b\[1A\x1b\[2K|\x1b\[2K")


def run_in_terminal(command: list[str], columns: int) -> str:
    """Return what a command writes to a terminal."""
    main, side = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=side, stderr=subprocess.DEVNULL, env=environment):
        os.close(side)
        written = b""
        while len(written) < _MOST_BYTES:
            try:
                chunk = os.read(main, 65536)
            except OSError:  # the other side is closed
                break
            if not chunk:
                break
            written += chunk
    os.close(main)
    return _DRAWN_OVER.sub("", written.decode(errors="replace")).replace("\r\n", "\n")


def draw(command: str, written: str, columns: int, title: str) -> str:
    """Return the SVG of a terminal in which a command was typed."""
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text(f"$ {command}", style="bold"), soft_wrap=True)
    console.print(Text.from_ansi(written.rstrip("\n")), overflow="fold")
    # A name of its own, so that the same output gives the same bytes.
    return console.export_svg(title=title, theme=MONOKAI, unique_id="terminal")


def headers(picture: str) -> list[str]:
    """Return the titles of the columns in a picture's tables: what has to be there again when it is drawn anew."""
    lines: dict[str, list[str]] = {}
    for y, text in re.findall(r'<text[^>]* y="([\d.]+)"[^>]*>(.*?)</text>', picture):
        lines.setdefault(y, []).append(html.unescape(text).replace("\xa0", " "))
    rows = [" ".join(parts).strip() for parts in lines.values()]
    found = [row for row in rows if re.fullmatch(r"[A-Z][A-Z ]+", row)]
    return [" ".join(row.split()) for row in found]


def main() -> int:
    """Draw one picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--columns", type=int, default=110)
    parser.add_argument("--title", default="")
    parser.add_argument("--typed", default="", help="the command as one would type it, where it differs")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    written = run_in_terminal(options.command, options.columns)
    typed = options.typed or " ".join(options.command)
    options.out.write_text(draw(typed, written, options.columns, options.title or typed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
