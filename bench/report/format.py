"""Numbers as text, and text as Markdown or LaTeX."""

from __future__ import annotations

import re

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
