"""The screen: results go to standard output, notes about the progress to standard error."""

import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TextIO

import yaml
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.spinner import Spinner
from rich.table import Table as RichTable
from rich.text import Text

from kubectl_cnpg_backup.output import jsonpath
from kubectl_cnpg_backup.output.tables import Table
from retention.text import table as plain_table

_ENDLESS = 10_000
"""Columns of a pipe."""
TABLE, WIDE, NAME, JSON, YAML, JSONPATH = "table", "wide", "name", "json", "yaml", "jsonpath="
VALUES = "values"


class Screen:
    """Where a command prints.

    Attributes:
        form: table, wide, name, json, yaml, or jsonpath= and a template.
        collected: Where documents go instead of the output, None while they are printed.
    """

    def __init__(self, form: str, color: str = "auto", *, headers: bool = True) -> None:
        self.form = form
        self.collected: list[object] | None = None
        self._headers = headers
        self.output = _console(sys.stdout, color)
        self.errors = _console(sys.stderr, color)
        self._colors = color == "always"
        self._status: _Spinner | None = None
        self._lock = threading.RLock()

    @property
    def is_table(self) -> bool:
        """Whether the result is for people rather than programs."""
        return self.form in (TABLE, WIDE)

    @property
    def rows_alone(self) -> bool:
        """Whether a table is shown without its headers, and nothing around it."""
        return not self._headers

    def document(self, document: object, names: Sequence[str] = ()) -> None:
        """Print a result for programs.

        Args:
            document: The result.
            names: What `-o name` prints instead, one a line.
        """
        if self.form == NAME:
            for name in names:
                print(name)
        elif self.collected is not None:
            self.collected.append(document)
        elif self.form.startswith(JSONPATH):
            text = jsonpath.render(jsonpath.parse(self.form.removeprefix(JSONPATH)), document)
            print(text, end="" if text.endswith("\n") else "\n")
        elif self.form == YAML:
            print(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), end="")
        else:
            print(json.dumps(document, indent=2, ensure_ascii=False))

    def manifests(self, manifests: Sequence[object]) -> None:
        """Print objects of Kubernetes in a form that `kubectl apply -f -` reads."""
        if self.form == JSON or self.form.startswith(JSONPATH):
            self.document({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        else:
            print(yaml.safe_dump_all(manifests, sort_keys=False, allow_unicode=True), end="")

    def table(self, table: Table, title: str = "") -> Sequence[str]:
        """Print a table that fits the terminal; into a pipe print all of it, one row a line.

        Returns:
            The headers that were shown.
        """
        if title and self._headers:
            self.line(title, style="bold")
        if self.form != WIDE:
            table = table.narrow()
        headers = [column.header for column in table.columns]
        if not table.rows:
            return headers
        if self.form == WIDE or (not self.output.is_terminal and not self._colors):
            text = plain_table(headers, [[_one_line(cell) for cell in row] for row in table.rows])
            lines = [line.rstrip() for line in text.splitlines()]
            with self._above_the_spinner():
                print("\n".join(lines if self._headers else lines[1:]))
            return headers
        fitted = table.fitted(self.output.width)
        with self._above_the_spinner():
            self.output.print(_rich(fitted, headers=self._headers))
        return [column.header for column in fitted.columns]

    @property
    def can_preview(self) -> bool:
        """Whether there is a terminal on which something can be shown that is replaced later."""
        return self.form == TABLE and self._headers and self.output.is_terminal and self.errors.is_terminal

    def preview(self, table: Table, title: str) -> None:
        """Show what is known so far above the spinner, until the result replaces it; without a terminal, nothing."""
        with self._lock:
            if self._status is not None and self.can_preview:
                fitted = table.narrow().fitted(self.errors.width)
                self._status.show(Text(title, style="dim"), _rich(fitted, headers=True))

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line of the result."""
        with self._above_the_spinner():
            if self.output.is_terminal or self._colors:
                self.output.print(Text(text, style=style), soft_wrap=True)
            else:
                print(text, flush=True)

    def log(self, text: str) -> None:
        """Print a line of a pod's log: part of the result for people, a note next to the document for programs."""
        if self.is_table:
            self.line(text)
        else:
            with self._above_the_spinner():
                print(text, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Print a note about the progress: in a terminal it replaces the one before, elsewhere it is a line."""
        with self._lock:
            if self._status is not None:
                self._status.update(Text(text))
            elif self.errors.is_terminal:
                self.errors.print(Text(text, style="dim"))
            else:
                print(text, file=sys.stderr, flush=True)

    def progress(self, text: str) -> None:
        """Show what runs now next to the spinner; where there is none, print nothing."""
        with self._lock:
            if self._status is not None:
                self._status.update(Text(text))

    @contextmanager
    def _above_the_spinner(self) -> Iterator[None]:
        """Take the spinner off its line while the block prints, so that no text follows it on that line."""
        with self._lock:
            if self._status is None:
                yield
                return
            self._status.stop()
            try:
                yield
            finally:
                self._status.start()

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show that the plugin is working while the block runs."""
        if not self.errors.is_terminal:
            yield
            return
        status = _Spinner(self.errors, text)
        status.start()
        self._status = status
        try:
            yield
        finally:
            self._status = None
            status.stop()

    @contextmanager
    def transfer(self, name: str, total: int, here: int) -> Iterator[Any]:
        """Show the progress of a download; yields what to call with the number of bytes of each part."""
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self.errors,
            disable=not self.errors.is_terminal,
        )
        with progress:
            task = progress.add_task(name, total=total, completed=here)
            yield lambda count: progress.update(task, advance=count)

    @property
    def can_ask(self) -> bool:
        """Whether there is a terminal at which a question can be answered."""
        return sys.stdin.isatty()

    def confirm(self, question: str) -> bool:
        """Ask the user; without a terminal the answer is no."""
        if not sys.stdin.isatty():
            return False
        self.errors.print(Text(f"{question} [y/N] ", style="bold"), end="")
        try:
            return sys.stdin.readline().strip().lower() in ("y", "yes")
        except EOFError:
            return False


def _rich(fitted: Table, *, headers: bool) -> RichTable:
    """Return a table as rich prints it."""
    shown = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=headers)
    for column in fitted.columns:
        shown.add_column(
            column.header, no_wrap=not column.wraps, overflow="fold", justify="right" if column.right else "left"
        )
    for number, row in enumerate(fitted.rows):
        shown.add_row(*(Text(cell, style=fitted.styles.get((number, index), "")) for index, cell in enumerate(row)))
    return shown


class _Spinner:
    """A spinner with a text, and above it what is known so far; all of it goes when it stops."""

    def __init__(self, console: Console, text: str) -> None:
        self._spinner = Spinner("dots", Text(text), style="status.spinner")
        self._above: list[RenderableType] = []
        self._live = Live(self._rendered(), console=console, refresh_per_second=12.5, transient=True)

    def _rendered(self) -> RenderableType:
        return Group(*self._above, self._spinner)

    def update(self, text: Text) -> None:
        """Show another text."""
        self._spinner.update(text=text)

    def show(self, *above: RenderableType) -> None:
        """Show something above the spinner."""
        self._above = list(above)
        self._live.update(self._rendered(), refresh=True)

    def start(self) -> None:
        """Begin to show it."""
        self._live.start()

    def stop(self) -> None:
        """Take it away."""
        self._live.stop()


def _console(file: TextIO, color: str) -> Console:
    always = color == "always"
    system: Literal["auto", "standard"] | None = None if color == "never" else "auto"
    # Width and colours are independent of each other: colours that are forced do not make a pipe a terminal.
    pipe = always and not file.isatty()
    return Console(
        file=file,
        highlight=False,
        emoji=False,
        markup=False,
        no_color=False if always else None,
        color_system="standard" if pipe else system,
        width=_ENDLESS if pipe else None,
    )


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())
