"""Numbers as text; a table of text, and what renders it: Markdown, LaTeX, and for a terminal."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

GAP = "–"

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "—": "---",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "÷": r"$\div$",
    "⁶": "$^6$",
    "α": r"$\alpha$",
    "^α": r"$^\alpha$",
    "…": r"\ldots{}",
    "\u00a0": "~",
}
_LATEX_PATTERN = re.compile("|".join(re.escape(key) for key in sorted(_LATEX, key=len)[::-1]))
# A dollar opens a formula where MathJax is at work.
_MARKDOWN_PATTERN = re.compile(r"([\\`*_\[\]<>|#~$])")


def escape_latex(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    >>> escape_latex("P@1 & 50 % of x_1")
    'P@1 \\& 50 \\% of x\\_1'
    """
    return _LATEX_PATTERN.sub(lambda match: _LATEX[match.group()], " ".join(text.split()))


def escape_markdown(text: str) -> str:
    r"""Text that Markdown prints as it is, in a table's cell too.

    >>> escape_markdown("a|b_c for $5")
    'a\\|b\\_c for \\$5'
    >>> escape_markdown("a|b_c for $1")
    'a\\|b\\_c for \\$1'
    """
    return _MARKDOWN_PATTERN.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;")


def number(value: float, digits: int = 3) -> str:
    """So many significant digits, thousands separated.

    >>> [number(x) for x in (0, 0.01234, 1.234, 99.96, 12345)], number(0.567, 2)
    (['0', '0.0123', '1.23', '100', '12,300'], '0.57')
    """
    rounded = float(f"{value:.{digits}g}")
    if abs(rounded) >= 10 ** (digits - 1) or rounded == 0:
        return f"{rounded:,.0f}"
    return f"{rounded:#.{digits}g}"


def percent(share: float) -> str:
    """A share in percent, one decimal: what some thousand test points can resolve.

    >>> percent(0.12345)
    '12.3'
    """
    return f"{100 * share:.1f}"


def megabytes(num_bytes: float) -> str:
    """Bytes in MB of 10^6 bytes.

    >>> megabytes(12_345_678)
    '12.3'
    """
    return number(num_bytes / 1e6)


def gibibytes(num_bytes: float) -> str:
    """Bytes in GiB, with the unit.

    >>> gibibytes(3 * 2**30)
    '3.00 GiB'
    """
    return f"{number(num_bytes / 2**30)} GiB"


def counted(count: int, noun: str) -> str:
    """A number of things in words.

    >>> counted(1, "line"), counted(2, "line")
    ('1 line', '2 lines')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


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
        groups: rows by group: competitors, trivial baselines and ceilings, published.
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
    return _set(cell, escape_markdown, "**{}**", "*{}*")


def _set(cell: Cell, escape: Callable[[str], str], bold: str, italic: str) -> str:
    """A cell in a syntax; its range stays light: the median is what is compared."""
    median, opening, rest = escape(cell.text).partition(" (")
    text = f"{bold.format(median) if cell.is_bold else median}{opening}{rest}"
    return italic.format(text) if cell.is_italic and text else text


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
    return _set(cell, escape_latex, r"\textbf{{{}}}", r"\emph{{{}}}")


_LEAST_WORDS = 16  # characters of a column of words before it is wrapped no further


def render_text(table: Table, width: int) -> str:
    """The table for a terminal, no wider than its width in characters if that can be.

    A narrow terminal loses ranges first, then lines of words are wrapped, then the spare
    columns go. An asterisk stands for bold.
    """
    for shown, has_ranges in _narrower(table):
        heads = [table.columns[i] for i in shown]
        num_words = sum(i < table.num_words for i in shown)
        # Words keep their brackets: only numbers have ranges.
        groups = [
            [
                [_text(row[i], has_range=has_ranges or i < table.num_words) for i in shown]
                for row in group
            ]
            for group in table.groups
        ]
        widths = _widths(heads, [row for group in groups for row in group], num_words)
        least = [min(width, _LEAST_WORDS) for width in widths[:num_words]] + widths[num_words:]
        if _line_width(least) <= width:
            break
    while _line_width(widths) > width:
        widest = max(range(num_words), key=widths.__getitem__)
        if widths[widest] <= _LEAST_WORDS:
            break
        widths[widest] -= 1
    lines = [table.title, "", *_text_row(heads, widths, num_words)]
    for group in groups:
        lines.append("  ".join("─" * w for w in widths))
        for row in group:
            lines += _text_row(row, widths, num_words)
    left_out = [head for head in table.columns if head not in heads]
    more = [f"No room for: {', '.join(left_out)}."] if left_out else []
    notes = [line for note in [*table.notes, *more] for line in textwrap.wrap(note, max(width, 20))]
    return "\n".join([*(line.rstrip() for line in lines), "", *notes]) + "\n"


def _narrower(table: Table) -> Iterator[tuple[list[int], bool]]:
    """Indices of the columns to show and whether with ranges, from the widest form on."""
    shown = list(range(len(table.columns)))
    yield shown, True
    yield shown, False
    for head in table.spare:
        shown = [index for index in shown if table.columns[index] != head]
        yield shown, False


def _text(cell: Cell, *, has_range: bool) -> str:
    text = _set(cell, str, "{}*", "{}")
    return text if has_range else text.partition(" (")[0]


def _widths(heads: Sequence[str], rows: Sequence[Sequence[str]], num_words: int) -> list[int]:
    """Characters of each column; heads of numbers may be wrapped at blanks."""
    words = [[head] if index < num_words else head.split() for index, head in enumerate(heads)]
    return [
        max((len(text) for text in (*parts, *(row[index] for row in rows))), default=0)
        for index, parts in enumerate(words)
    ]


def _line_width(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _text_row(texts: Sequence[str], widths: Sequence[int], num_words: int) -> list[str]:
    wrapped = [textwrap.wrap(text, w) or [""] for text, w in zip(texts, widths, strict=True)]
    lines = []
    for parts in itertools.zip_longest(*wrapped, fillvalue=""):
        padded = zip(parts, widths, strict=True)
        words = [part.ljust(w) for part, w in itertools.islice(padded, num_words)]
        lines.append("  ".join([*words, *(part.rjust(w) for part, w in padded)]))
    return lines
