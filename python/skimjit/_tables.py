"""Results that print as tables: in a terminal, and in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Union, overload

Row = dict[str, Any]

# Characters of a column of text in a terminal.
_WIDEST = 48


class Column(NamedTuple):
    """A column: the key of its values in the rows, and how they are written."""

    key: str
    title: str
    format: str = ""

    def text(self, row: Row) -> str:
        """The value as it is printed."""
        value = row.get(self.key)
        if value is None:
            return ""
        if isinstance(value, (list, tuple)):
            return "×".join(str(one) for one in value)
        return format(value, self.format)

    def is_number(self) -> bool:
        return self.format != ""


@dataclass(frozen=True)
class Table(Sequence[Row]):
    """Rows with names, which print as a table; `title` stands above it, `notes` stand below."""

    title: str
    columns: tuple[Column, ...]
    rows: list[Row]
    notes: tuple[str, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: Union[int, slice]) -> Union[Row, list[Row]]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def _texts(self) -> list[list[str]]:
        return [[column.text(row) for column in self.columns] for row in self.rows]

    def __str__(self) -> str:
        titles = [column.title for column in self.columns]
        texts = [[_cut(text) for text in row] for row in self._texts()]
        widths = [max(map(len, column)) for column in zip(titles, *texts)]

        def line(row: list[str]) -> str:
            cells = (
                text.rjust(width) if column.is_number() else text.ljust(width)
                for text, width, column in zip(row, widths, self.columns)
            )
            return "  ".join(cells).rstrip()

        return "\n".join([self.title, line(titles), *map(line, texts), *self.notes])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        def cell(tag: str, column: Column, text: str) -> str:
            align = "right" if column.is_number() else "left"
            return f'<{tag} style="text-align: {align}">{html.escape(text)}</{tag}>'

        def line(tag: str, row: list[str]) -> str:
            cells = (cell(tag, column, text) for column, text in zip(self.columns, row))
            return f"<tr>{''.join(cells)}</tr>"

        head = line("th", [column.title for column in self.columns])
        body = "".join(line("td", row) for row in self._texts())
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        title = html.escape(self.title)
        return f"<table><caption>{title}</caption><thead>{head}</thead><tbody>{body}</tbody></table>{notes}"


@dataclass(frozen=True, repr=False)
class Verification(Table):
    """What verify() found: a row for each layer, then one for each output.

    Attributes:
        passed: all differences are within the tolerance.
        tolerance: largest difference over the largest value.
    """

    passed: bool = True
    tolerance: float = 0.0


@dataclass(frozen=True, repr=False)
class Benchmark(Table):
    """What benchmark() measured: a row for each step of a run.

    Attributes:
        times_ms: of each run.
        images: of a run.
    """

    times_ms: list[float] = field(default_factory=list)
    images: int = 1

    @property
    def median_ms(self) -> float:
        """Half of the runs took no longer."""
        times = sorted(self.times_ms)
        return (times[(len(times) - 1) // 2] + times[len(times) // 2]) / 2

    @property
    def least_ms(self) -> float:
        """Time of the fastest run."""
        return min(self.times_ms)

    @property
    def images_per_second(self) -> float:
        """By the median."""
        return self.images / self.median_ms * 1e3


@dataclass(frozen=True, repr=False)
class Report:
    """Several tables about an engine. It prints, and it is a page: save() writes that."""

    title: str
    tables: tuple[Table, ...]

    def __str__(self) -> str:
        return "\n\n".join([self.title, *map(str, self.tables)])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        tables = "".join(table._repr_html_() for table in self.tables)
        return f"<h1>{html.escape(self.title)}</h1>{tables}"

    def save(self, path: Any) -> None:
        """Writes it as a page of HTML that needs no other file."""
        style = "body { font-family: sans-serif } td, th { padding: 0 0.6em }"
        head = f"<meta charset='utf-8'><title>{html.escape(self.title)}</title><style>{style}</style>"
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"<!doctype html><html><head>{head}</head><body>{self._repr_html_()}</body></html>\n")


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
