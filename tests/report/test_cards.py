"""A method is one file and its card: here a peer-like toy, of which no other file knows."""

from __future__ import annotations

from pathlib import Path

import pytest
import synthetic_records as made
from synthetic_records import record, trial, write

from bench.methods import cards
from bench.methods.card import Card, OptionFormat
from bench.report.check import check
from bench.report.plots import training
from bench.report.plots.lines import LinePlot
from bench.report.plots.rows import PartsPlot, TimesPlot
from bench.report.tables.comparison import terminal_summary
from bench.report.write import build

TOY = Card(
    name="toy",
    version=2,
    label="Toy tree",
    group="trees",
    entry="toy_peer",
    options=(OptionFormat(name="depth", text="depth={}"), OptionFormat(name="is_linear")),
    along="depth",
    color="#123456",
    marker="h",
)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Card:
    monkeypatch.setattr(cards, "_registered", [])
    cards.register(TOY)
    return TOY


def test_method_with_a_card_stands_in_tables_and_all_figures(tmp_path: Path, toy: Card) -> None:
    trials = [
        trial("toy", depth=4),
        trial("toy", depth=8),
        trial("toy", depth=8, is_linear=True),
        trial("mach", num_buckets=64, num_worlds=4),
        trial("centroid", encoder="linear"),
    ]
    results = tmp_path / "results"
    write(results, [record(of, version=2) for of in trials], made.costs_of(trials))
    (tmp_path / "README.md").write_text("<!-- overview: imaginary -->\n<!-- end -->\n")
    build(results)
    assert check(results).problems == ()
    table = (results / "tables/imaginary/imaginary-2c.md").read_text()
    assert "| Toy tree | H=128, depth=8, is linear=True |" in table
    assert table.index("| MACH |") < table.index("| Toy tree |") < table.index("| *Nearest")
    assert "| MACH | trees | nearest centroid |" in (tmp_path / "README.md").read_text()
    assert "Toy tree" in terminal_summary(results, results, "imaginary", 120)

    (section,) = made.sections([record(of) for of in trials], made.costs_of(trials))
    plots = dict(training.plots([section]))
    for name in ("accuracy-memory", "accuracy-time", "accuracy-worlds"):
        plot = plots[name]
        assert isinstance(plot, LinePlot)
        shown = [each for panel in plot.panels for each in (*panel.series, *panel.levels)]
        looks = {each.style.color for each in shown if each.text.startswith("Toy tree")}
        assert looks == {TOY.color}
        assert any(each.text.startswith("Toy tree, is linear=True") for each in shown)
    parts, times = plots["memory-parts"], plots["times"]
    assert isinstance(parts, PartsPlot)
    assert isinstance(times, TimesPlot)
    for texts in ([bar.text for bar in parts.bars], [row.text for row in times.rows]):
        assert sum(text.startswith("Toy tree") for text in texts) == 3


def test_record_of_a_lower_version_than_the_card_is_stale(tmp_path: Path, toy: Card) -> None:
    write(tmp_path / "results", [record(trial("toy", depth=4), version=1)])
    build(tmp_path / "results")
    assert check(tmp_path / "results").notes == (
        "imaginary on imaginary-2c: 1 configuration of toy made by older versions (†)",
    )


def test_method_whose_card_is_not_at_hand_keeps_its_name(tmp_path: Path) -> None:
    trials = [trial("nobody_knows", depth=4), trial("full_softmax")]
    write(tmp_path / "results", [record(of) for of in trials], made.costs_of(trials))
    build(tmp_path / "results")
    table = (tmp_path / "results/tables/imaginary/imaginary-2c.md").read_text()
    assert r"| nobody\_knows | H=128 |" in table
    assert check(tmp_path / "results").problems == ()
    assert check(tmp_path / "results").notes == ()
