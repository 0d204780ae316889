"""The studies of search and of worlds: published numbers find their rows, in tables and figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import synthetic_records as made

from bench.report.plots.lines import LinePlot
from bench.report.plots.papers import FIGURES
from bench.report.sections import Section
from bench.report.style import Legend, draw_files
from bench.report.tables.papers import build_papers_table, rows_beside
from bench.settings import Trial
from bench.studies.papers import search
from bench.studies.published import PaperRow
from bench.studies.study import Profile, load_study

STUDIES = ("table-search", "figure-recall-worlds", "table-wiki10-worlds")
EPOCH_SHARE = {1: 0.6, 5: 0.9, 10: 1.0}


def recall_of(of: Trial, num_worlds: int) -> float:
    """A made-up recall that rises with worlds and epochs."""
    rise = 1 - math.exp(-num_worlds / 4)
    return 0.6 * EPOCH_SHARE.get(int(of.train.num_epochs or 10), 1.0) * rise


def record(of: Trial) -> dict[str, Any]:
    total = int(of.model.options.get("num_worlds") or of.model.options.get("num_trees") or 8)
    recall = recall_of(of, total)
    metrics = dict.fromkeys((*search.METRICS, "P@3", "P@5", "R@50"), recall)
    sizes = [size for size in (1, 2, 4, 8, 16, 32) if size <= total]
    subsets = [
        {"num_worlds": size, "num_points": 2048, "metrics": {"wR@100": recall_of(of, size)}}
        for size in sizes
    ]
    return made.bare(
        of,
        data={"fingerprint": of.data.name, "num_labels": 1000, "task": "multilabel"},
        test=metrics,
        training={
            "num_steps": 100,
            "num_epochs": of.train.num_epochs,
            "curve": [{"step": 100, "metrics": metrics}],
        },
        memory={
            "parameter_bytes": 4_000_000,
            "host_train_peak_bytes": 2_000_000_000,
            "host_evaluation_peak_bytes": 1_000_000_000,
        },
        worlds=subsets if of.model.method == "mach" else None,
    )


def sections_of(
    name: str, profile: Profile = "cpu", costs: Sequence[dict[str, Any]] = ()
) -> tuple[Section, ...]:
    study = load_study(name)
    records = [record(of) for of in study.build_trials(profile)]
    return made.sections(records, costs, study)


def cells(section: Section, *, with_words: tuple[str, ...]) -> dict[str, str]:
    """The one line of the table that holds some words."""
    rows = made.texts(build_papers_table(section))
    found = [row for row in rows if all(word in " ".join(row.values()) for word in with_words)]
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize("profile", ["cpu", "gpu", "paper"])
@pytest.mark.parametrize("name", STUDIES)
def test_every_published_number_stands_beside_one_row_of_every_scale(
    name: str, profile: Profile
) -> None:
    for section in sections_of(name, profile):
        if not section.rows:  # published, and not run
            continue
        assert section.published
        for entry in section.published:
            assert isinstance(entry, PaperRow)
            assert len(rows_beside(entry, section.rows)) == 1, entry.label


def test_search_table_shows_published_beside_measured() -> None:
    study = load_study("table-search")
    mach = next(
        of for of in study.build_trials("cpu") if of.model.options.get("num_buckets") == 250
    )
    costs = [made.cost_line([made.cost_row(mach, {"train": (3.6, 1)}, rounds=(1.0, 1.0, 1.0))])]
    (section,) = sections_of("table-search", costs=costs)
    line = cells(section, with_words=("B = 10,000",))
    assert "Amazon's log" in line["published as"]
    assert line["wR@100 %"] == "64.19 [A] | 60.0"
    assert line["million parameters"] == "5770 [A] | 1.00"
    assert line["train h"] == "31.8 [A] | 0.100"
    assert line["host peak in training GB"] == "150 [A] | 2.00"
    assert line["host peak in evaluation GB"] == "80 [A] | 1.00"
    # Bytes of a peer's files are no number of parameters.
    assert cells(section, with_words=("Parabel, 16 trees",))["million parameters"] == "–"
    notes = " ".join(build_papers_table(section).notes)
    assert "wR@k: share" in notes
    assert "within 1.5 points" not in notes  # of other data


def test_worlds_table_sets_decode_times_beside_and_names_the_stand_in() -> None:
    study = load_study("table-wiki10-worlds")
    six = next(of for of in study.build_trials("cpu") if of.model.options["num_worlds"] == 6)
    row = made.cost_row(six, {"decode": (0.00155, 256)}, rounds=(1.0, 1.0, 1.0))
    sections = sections_of("table-wiki10-worlds", costs=[made.cost_line([row], part="citeulike-t")])
    assert [section.part for section in sections] == ["citeulike-t", "wiki10-31k"]
    line = cells(sections[0], with_words=("R = 6,",))
    assert "Wiki10-31K" in line["published as"]
    assert line["decode ms a query"] == "3.099 [T] | 1.55"
    assert line["P@1 %"].startswith("82.50 [T] | ")
    filtered = cells(sections[0], with_words=("11 buckets of one world filter",))
    assert filtered["R@50 %"].startswith("23.30 [T] | ")


def test_recall_figure_has_a_line_for_each_length_and_the_published_ones_beside() -> None:
    (section,) = sections_of("figure-recall-worlds")
    plot = FIGURES["recall-worlds"](section, Legend([section]))
    assert isinstance(plot, LinePlot)
    ours, others, published = plot.panels
    machs = list(ours.series)
    assert [series.text for series in machs] == [
        f"MACH, B={B}, {epochs}"
        for B in (250, 500)
        for epochs in ("1 epoch", "5 epochs", "10 epochs")
    ]
    assert all(series.x == (1, 2, 4, 8, 16, 32) for series in machs)
    assert machs[0].y[-1] == pytest.approx(100 * 0.6 * 0.6 * (1 - math.exp(-8)))
    assert len({(series.style.color, str(series.style.linestyle)) for series in machs}) == 6
    assert not ours.levels
    *complete, trees = others.series
    assert [series.x for series in complete] == [(32,)] * 6
    assert (trees.text, trees.x) == ("Omikuji, by trees", (2, 4, 8, 16))
    assert [level.text for level in others.levels] == ["Two towers"]
    assert [len(series.x) for series in published.series] == [5] * 6 + [4] * 2
    assert published.series[3].text == "published: MACH B=20,000, 1 epoch"
    looks = [(s.style.color, str(s.style.linestyle)) for s in published.series]
    assert len(set(looks)) == 8
    # The same line for the same length, there as here.
    assert [s.style.linestyle for s in published.series[:6]] == [s.style.linestyle for s in machs]
    assert [level.y for level in published.levels] == [44.1]
    assert draw_files(plot)[".png"]


def test_recall_table_sets_fewer_worlds_of_one_training_beside() -> None:
    (section,) = sections_of("figure-recall-worlds")
    line = cells(section, with_words=("B = 20,000, 5 epochs",))
    assert line["wR@100, R = 2 %"].startswith("23.00 [F] | ")
    assert line["wR@100, R = 32 %"].startswith("63.50 [F] | ")


def test_published_recall_has_the_papers_shape() -> None:
    for values in (*search.RECALL.values(), *search.RECALL_OF_TREES.values()):
        assert list(values) == sorted(values)
    # More buckets help few worlds and long training, and hurt after one epoch.
    assert search.RECALL[20_000, 1][-1] < search.RECALL[10_000, 1][-1]
    assert search.RECALL[20_000, 10][0] > search.RECALL[10_000, 10][0]
    # What is read off the figure is what the table prints, but for Parabel's.
    table = {entry.label: entry.metrics["wR@100"] for entry in search.TABLE_ROWS}
    for (num_buckets, epochs), values in search.RECALL.items():
        if epochs == 10:
            printed = table[f"MACH, B = {num_buckets:,}, R = 32, 10 epochs"]
            assert values[-1] == pytest.approx(printed, abs=0.001)
    assert table["Parabel, 16 trees, 5 epochs"] == 0.5810 != search.RECALL_OF_TREES[5][-1]
