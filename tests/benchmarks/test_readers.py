import os

import pytest

from tests.benchmarks import readers


def test_both_sides_read_the_same_files_and_find_the_same_words(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is absent; `make readers` installs it")
    for folder in (tmp_path, tmp_path / "small"):
        folder.mkdir(exist_ok=True)
        readers.write_rows(folder, 200)
        readers.write_texts(folder / "texts.csv", 300, 6)
    ours, theirs = (side("texts", tmp_path) for side in (readers.read_ours, readers.read_theirs))
    # Ours hold a tenth of the texts back for testing, whose own words are no features.
    assert 0.8 * theirs["num_words"] < ours["num_words"] < theirs["num_words"]
    assert readers.read_ours("rows", tmp_path)["num_points"] == 200
    assert readers.read_theirs("rows", tmp_path)["seconds"] > 0


def test_a_row_tells_rates_ratio_and_peaks():
    found = {
        "ours": [{"seconds": 2.0, "peak_bytes": 5e6}, {"seconds": 1.0, "peak_bytes": 7e6}],
        "scikit-learn": [{"seconds": 4.0, "peak_bytes": 1e6}, {"seconds": 3.0, "peak_bytes": 9e6}],
    }
    assert readers.row("f", 30_000_000, found) == "| f | 30 | 20.0 | 8.6 | 2.50 | 7 | 9 |"


def test_peaks_are_of_this_system():

    assert readers._anonymous_bytes(os.getpid()) > 1 << 20
    assert readers._anonymous_bytes(1 << 30) == 0
