"""A table and what renders it: Markdown, LaTeX, and text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bench.report.format import escape_latex, escape_markdown


@dataclass(frozen=True)
class Cell:
    """Text of a cell and how it is set."""

    text: str
    is_bold: bool = False
    is_italic: bool = False


@dataclass(frozen=True)
class Table:
    """A table: groups of rows are set apart, notes stand below.

    Attributes:
        title: one line.
        columns: heads; the first `num_words` hold words, the rest numbers.
        groups: rows by group: competitors, floors and ceilings, published.
        notes: sentences for the footer.
        spare: heads of the columns that a narrow terminal does without, the first one first.
    """

    title: str
    columns: tuple[str, ...]
    groups: tuple[tuple[tuple[Cell, ...], ...], ...]
    notes: tuple[str, ...] = ()
    num_words: int = 2
    spare: tuple[str, ...] = ()


def render_markdown(table: Table) -> str:
    """The table as Markdown, title as a second-level heading, notes as one small paragraph."""
    text = f"## {escape_markdown(table.title)}\n\n{markdown_body(table)}"
    return text + (f"\n{markdown_notes(table)}" if table.notes else "")


def markdown_notes(table: Table) -> str:
    """The notes as one small paragraph."""
    return f"<sub>{' '.join(escape_markdown(note) for note in table.notes)}</sub>\n"


def markdown_body(table: Table) -> str:
    """The table alone as Markdown."""
    lines = ["| " + " | ".join(map(escape_markdown, table.columns)) + " |"]
    num_numbers = len(table.columns) - table.num_words
    lines.append("|" + "|".join([":--"] * table.num_words + ["--:"] * num_numbers) + "|")
    for group in table.groups:
        lines += ["| " + " | ".join(map(_markdown_cell, row)) + " |" for row in group]
    return "\n".join(lines) + "\n"


def _markdown_cell(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    if cell.is_bold:
        # The range stays light: the median is what is compared.
        median, opening, rest = text.partition(" (")
        text = f"**{median}**{opening}{rest}"
    return f"*{text}*" if cell.is_italic and text else text


def render_latex(table: Table, label: str) -> str:
    """The table as a LaTeX float for booktabs and graphicx, with caption and notes."""
    groups = [
        "\n".join(" & ".join(map(_latex_cell, row)) + r" \\" for row in group)
        for group in table.groups
    ]
    letters = "l" * table.num_words + "r" * (len(table.columns) - table.num_words)
    notes = " ".join(escape_latex(note) for note in table.notes)
    return "\n".join(
        [
            r"\begin{table*}",
            r"\centering\footnotesize",
            rf"\caption{{{escape_latex(table.title)}}}",
            rf"\label{{tab:{label}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{letters}}}",
            r"\toprule",
            " & ".join(map(escape_latex, table.columns)) + r" \\",
            r"\midrule",
            "\n\\midrule\n".join(groups),
            r"\bottomrule",
            r"\end{tabular}}",
            rf"\par\smallskip\begin{{minipage}}{{\linewidth}}\scriptsize {notes}\end{{minipage}}",
            r"\end{table*}",
            "",
        ]
    )


def _latex_cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    if cell.is_bold:
        median, opening, rest = text.partition(" (")
        text = rf"\textbf{{{median}}}{opening}{rest}"
    return rf"\emph{{{text}}}" if cell.is_italic and text else text


_LEAST_WORDS = 16  # characters of a column of words before it is wrapped no further


def render_text(table: Table, width: int) -> str:
    """The table for a terminal, no wider than its width in characters if that can be.

    A narrow terminal loses ranges first, then whole lines of words are wrapped, then the spare
    columns go. An asterisk stands for bold.
    """
    chosen = next((t for t in _narrower(table) if _least_width(t) <= width), None)
    if chosen is None:
        *_, chosen = _narrower(table)
    widths = _fit(chosen, width)
    lines = [table.title, "", *_text_row(chosen.columns, widths, chosen.num_words)]
    for group in chosen.groups:
        lines.append("  ".join("─" * w for w in widths))
        for row in group:
            lines += _text_row([_text(cell) for cell in row], widths, chosen.num_words)
    left_out = [head for head in table.columns if head not in chosen.columns]
    more = [f"No room for: {', '.join(left_out)}."] if left_out else []
    notes = [line for note in [*table.notes, *more] for line in textwrap.wrap(note, max(width, 20))]
    return "\n".join([*(line.rstrip() for line in lines), "", *notes]) + "\n"


def _narrower(table: Table) -> Iterator[Table]:
    yield table
    # Words keep their brackets: only numbers have ranges.
    n = table.num_words
    groups = tuple(
        tuple((*row[:n], *(_median(cell) for cell in row[n:])) for row in group)
        for group in table.groups
    )
    table = replace(table, groups=groups)
    yield table
    for head in table.spare:
        if head in table.columns:
            table = _without(table, table.columns.index(head))
            yield table


def _median(cell: Cell) -> Cell:
    return replace(cell, text=cell.text.partition(" (")[0])


def _without(table: Table, place: int) -> Table:
    groups = tuple(tuple(row[:place] + row[place + 1 :] for row in group) for group in table.groups)
    columns = table.columns[:place] + table.columns[place + 1 :]
    return replace(
        table, columns=columns, groups=groups, num_words=table.num_words - (place < table.num_words)
    )


def _text(cell: Cell) -> str:
    median, opening, rest = cell.text.partition(" (")
    return f"{median}{'*' if cell.is_bold else ''}{opening}{rest}"


def _widths(table: Table) -> list[int]:
    rows = [row for group in table.groups for row in group]
    return [
        max([len(_text(row[i])) for row in rows] + [_head_width(head, i < table.num_words)])
        for i, head in enumerate(table.columns)
    ]


def _head_width(head: str, is_words: bool) -> int:
    return len(head) if is_words else max((len(word) for word in head.split()), default=0)


def _least_width(table: Table) -> int:
    widths = _widths(table)
    words = [min(width, _LEAST_WORDS) for width in widths[: table.num_words]]
    return sum(words) + sum(widths[table.num_words :]) + 2 * (len(widths) - 1)


def _fit(table: Table, width: int) -> list[int]:
    widths = _widths(table)
    while sum(widths) + 2 * (len(widths) - 1) > width:
        place = max(range(table.num_words), key=lambda i: widths[i])
        if widths[place] <= _LEAST_WORDS:
            break
        widths[place] -= 1
    return widths


def _text_row(texts: Sequence[str], widths: Sequence[int], num_words: int) -> list[str]:
    wrapped = [textwrap.wrap(text, w) or [""] for text, w in zip(texts, widths, strict=True)]
    height = max(map(len, wrapped))
    lines = []
    for i in range(height):
        parts = [part[i] if i < len(part) else "" for part in wrapped]
        lines.append(
            "  ".join(
                part.ljust(w) if place < num_words else part.rjust(w)
                for place, (part, w) in enumerate(zip(parts, widths, strict=True))
            )
        )
    return lines
