from __future__ import annotations

import io
import keyword
import os
import tokenize
from pathlib import Path

import numpy as np
import pytest

from bench.data.identifiers import KEYWORDS, IdentifierTable
from tests.data.python_packages import slow_identifiers

HARD = '''
"""Docstring with names."""
import os as system  # a comment with 'quotes"
x1 = rb"bytes \\" inside" + f'{ignored}' + u"" ; rb = Rb = 1e-5j + 0xFFab + 1_000.5
text = \'\'\'three 'single' quotes
\\\'\'\' still inside\'\'\'
def größe(self, *args: int) -> None: return self.x1.größe(match, _)
"unclosed is a line long
'''


def identifiers(source: str) -> list[str]:
    table = IdentifierTable()
    return [table.name(token).decode() for token in table.lex(source.encode()).tolist()]


def test_keywords_are_those_of_this_python():
    assert KEYWORDS.decode().split() == keyword.kwlist


def test_lexer_keeps_identifiers_alone():
    assert identifiers(HARD) == [
        *("os", "system", "x1", "rb", "Rb", "text", "größe", "self", "args", "int"),
        *("self", "x1", "größe", "match", "_"),
    ]


@pytest.mark.parametrize("module", [tokenize, io, os, keyword, np, pytest])
def test_lexer_agrees_with_the_standard_tokenizer(module):
    source = Path(module.__file__).read_bytes()  # type: ignore[attr-defined]
    table = IdentifierTable()
    tokens = [table.name(token).decode() for token in table.lex(source).tolist()]
    assert tokens == slow_identifiers(source)


@pytest.mark.parametrize("source", ["", "#", "'", '"""', "'\\", "a", "0", "r'", "\\", "f", "é"])
def test_lexer_survives_any_end(source):
    expected = [source] if source in ("a", "f", "é") else []
    assert identifiers(source) == expected


def test_table_grows_without_losing_names():
    table = IdentifierTable()
    names = [f"name_{i}" for i in range(200_000)]
    for start in range(0, 200_000, 10_000):
        tokens = table.lex(" ".join(names[start : start + 10_000]).encode())
        assert tokens.tolist() == list(range(start, start + 10_000))
    assert table.num_names == 200_000
    assert table.lex(b"name_7 name_199999").tolist() == [7, 199_999]
    assert table.name(123_456) == b"name_123456"


def test_nested_quotes_end_an_f_string_early_on_every_python():
    assert identifiers("""f"{a["key"]}" + c""") == ["key", "c"]
    assert identifiers("""f"{a['key']}" + c""") == ["c"]
