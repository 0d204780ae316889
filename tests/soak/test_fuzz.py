"""A few seconds of `make fuzz`, and proof that it would notice."""

from __future__ import annotations

import dataclasses
from functools import partial

import fuzz
import pytest

from bench.data.text import parse_file
from bench.store import record

READERS = fuzz.readers()


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize("name", READERS)
def test_mutated_files_are_refused_in_a_sentence_or_taken_as_they_stand(tmp_path, name):
    counts, wrong = fuzz.fuzz({name: READERS[name]}, 150, "short", tmp_path)
    assert wrong == []
    assert counts[name]["taken"] > 0
    assert counts[name]["refused"] > 0


def test_an_input_depends_on_its_number_alone(tmp_path):
    alone = fuzz.fuzz({"records": READERS["records"]}, 30, "s", tmp_path)
    assert alone == fuzz.fuzz({"records": READERS["records"]}, 30, "s", tmp_path)


def test_other_data_than_the_slow_parsers_is_noticed(tmp_path, monkeypatch):
    def careless(path, grammar):
        features, labels = parse_file(path, grammar)
        return dataclasses.replace(features, ids=features.ids[::-1]), labels

    monkeypatch.setattr(fuzz, "parse_file", careless)
    counts, wrong = fuzz.fuzz({"vw": READERS["vw"]}, 100, "s", tmp_path)
    assert counts["vw"]["wrong"] > 0
    assert "by the slow parser as" in "".join(wrong)


def test_a_lost_line_and_another_error_are_noticed(tmp_path):
    def loses_the_last(path):
        found, notes = record.read(path)
        return found[:-1], notes

    def raises(path):
        raise KeyError("a fault of ours")

    for read, name in ((loses_the_last, "a good line"), (raises, "KeyError")):
        broken = partial(fuzz.try_lines, READERS["records"].args[0], read)
        counts, wrong = fuzz.fuzz({"records": broken}, 20, "s", tmp_path)
        assert counts["records"]["wrong"] > 0
        assert name in "".join(wrong)
