from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data import words
from bench.data.countedrows import CountedRows, renumbered
from bench.data.csr import Csr
from bench.data.rowwriter import RowWriter
from bench.data.tokens import hashed_token, tokenizer
from bench.data.words import TextBlock, WordTable
from tests.data.rows import row_dicts

TEXT = st.one_of(
    st.text(alphabet="aAbZ_09 -\n.", max_size=30),
    st.text(max_size=12),
    st.text(alphabet=st.characters(categories=["Cs", "Ll"]), max_size=6),  # lone surrogates, too
)


def counted(texts: list[str], table: WordTable, pattern: str | None, lowercase: bool) -> Csr:
    rows = CountedRows(RowWriter(None))
    tokens = tokenizer(pattern, lowercase=lowercase)
    block = TextBlock(table, tokens, rows.add_block, is_plain=pattern is None, lowercase=lowercase)
    for text in texts:
        block.add(text)
    block.flush()
    return rows.finish(table.size)


@pytest.mark.parametrize("pattern", [None, r"(?:^|-)(a*)[bZ]"])  # of which tokens may be empty
@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("block_bytes", [8, 1 << 20])
@settings(max_examples=150, deadline=None)
@given(texts=st.lists(TEXT, max_size=12))
def test_words_and_counts_are_those_of_the_tokenizer(texts, block_bytes, lowercase, pattern):
    table = WordTable()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "_BLOCK_BYTES", block_bytes)
        rows = row_dicts(counted(texts, table, pattern, lowercase))
    names = table.names()
    assert len(set(names)) == len(names) == table.size
    tokens = tokenizer(pattern, lowercase=lowercase)
    assert len(rows) == len(texts)
    for row, text in zip(rows, texts, strict=True):
        assert {names[number]: count for number, count in row.items()} == Counter(tokens(text))


def test_a_table_grows_without_losing_words():
    table = WordTable()
    texts = [
        " ".join(f"w{i}" for i in range(start, start + 500)) for start in range(0, 90_000, 400)
    ]
    rows = counted(texts * 2, table, None, True)
    assert table.names() == [f"w{i}" for i in range(89_600 + 500)]
    assert (
        rows.slice(0, len(texts)).ids.tolist()
        == rows.slice(len(texts), 2 * len(texts)).ids.tolist()
    )


def test_words_whose_hashes_are_equal_are_told_apart(monkeypatch):
    table = WordTable()
    counted(["one two"], table, None, True)
    table._hashes[:2] = table._hashes[0]
    table._slots[:] = -1
    words._rehash(table._slots, table._hashes, 2)
    rows = row_dicts(counted(["one"], table, None, True))
    assert (rows, table.names()) == ([{0: 1}], ["one", "two"])


def test_hashed_words_are_forgotten_and_have_the_same_features(monkeypatch):
    monkeypatch.setattr(words, "_REMEMBERED", 4)
    monkeypatch.setattr(words, "_BLOCK_BYTES", 20)
    table = WordTable(lambda token: hashed_token(token, 50))
    texts = [f"w{i} zwölf w{i + 1} w{i}" for i in range(40)]
    rows = row_dicts(counted(texts, table, None, True))
    assert table.size < 20
    for row, text in zip(rows, texts, strict=True):
        assert row == Counter(hashed_token(token, 50) for token in text.split())


def test_renumbered_rows_are_in_order_and_lose_what_has_no_number():
    rows = Csr(
        np.array([0, 3, 3, 5]),
        np.array([0, 1, 2, 1, 3], np.int32),
        np.array([5, 6, 7, 8, 9], np.float32),
        4,
    )
    found = renumbered(rows, np.array([2, -1, 0, 1], np.int32))
    assert row_dicts(found) == [{0: 7, 2: 5}, {}, {1: 9}]
    assert found.ids.tolist() == [0, 2, 1]
    assert rows.ids.tolist() == [0, 1, 2, 1, 3]
