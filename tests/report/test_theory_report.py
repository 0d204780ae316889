"""Tables and figures of studies without data, from made-up records."""

from __future__ import annotations

from typing import Any

import synthetic_records as made

from bench.methods.card import THEORY
from bench.report.plots import theory as figures
from bench.report.plots.lines import LinePlot
from bench.report.render import render_latex, render_markdown, render_text
from bench.report.sections import Section
from bench.report.style import draw_files
from bench.report.tables.theory import build_theory_table, compared
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial
from bench.studies.published import Claim

PART = "K = 100"


def _trial(method: str, **options: Any) -> Trial:
    return Trial(
        data=DataSpec(source="none", name=PART),
        model=ModelSpec(method=method, encoder="linear", options=options),
        train=TrainSpec(),
    )


def _record(
    of: Trial, test: dict[str, Any], *, errors: Any = None, curves: Any = None, **more: Any
):
    estimators = {"standard_errors": errors or {}, "curves": curves or {}}
    return made.bare(of, data={"num_labels": 100}, test=test, estimators=estimators, **more)


def _claim(quantity: str, value: float, beside: dict[str, Any], **more: Any) -> Claim:
    common: dict[str, Any] = {"label": "", "source": "a draft", "tag": "F"} | more
    return Claim(metrics={quantity: value}, beside=beside, **common)


def _section(records: list[Any], *claims: Claim, metrics: tuple[str, ...] = ("error",)) -> Section:
    study = made.study(primary_metrics=metrics, kind=THEORY, part=lambda _: PART, published=claims)
    (section,) = made.sections(records, of=study)
    return section


PAIRS = _trial("pairs", num_labels=100, hash_family="murmur3", num_buckets=4, num_worlds=2)


def test_each_number_stands_beside_the_published_one_with_tag_and_source() -> None:
    beside = {"hash_family": "murmur3"}
    section = _section(
        [_record(PAIRS, {"error": 18.85}, errors={"error": 0.0431})],
        _claim("error", 19.0, beside, tolerance=1.0),
    )
    (line,) = made.texts(build_theory_table(section))
    assert line == {
        "setting": "murmur3 hash",
        "quantity": "error",
        "published in": "a draft [F]",
        "verdict": "agrees",
        "published": "19",
        "measured": "18.850 ± 0.043",
        "difference": "−0.1500",
        "ratio": "0.992",
    }


def test_what_was_not_published_or_not_run_is_a_dash() -> None:
    section = _section(
        [_record(PAIRS, {"error": 2.0})], _claim("error", 3.0, {"hash_family": "odp"})
    )
    measured, published = made.texts(build_theory_table(section))
    assert (measured["published"], measured["measured"], measured["verdict"]) == ("–", "2", "–")
    assert (published["published"], published["measured"], published["verdict"]) == ("3", "–", "–")
    assert published["setting"] == "hash_family=odp"
    assert len(made.texts(build_theory_table(section, is_compact=True))) == 1


def test_a_number_that_does_not_agree_says_why_and_our_own_reckoning_is_counted_apart() -> None:
    beside = {"num_buckets": 4}
    claim = _claim("error", 10.0, beside, relation="≤", why="the factor is inverted")
    records = [_record(PAIRS, {"error": 12.5, "bytes": 3.0})]
    alone = build_theory_table(_section(records, claim))
    line = made.texts(alone)[0]
    assert line["verdict"] == "differs: the factor is inverted"
    assert (line["published"], line["ratio"]) == ("≤ 10", "1.25")
    assert any("0 of 1 published numbers agree" in note for note in alone.notes)
    both = build_theory_table(_section(records, claim, _claim("bytes", 3.0, beside, tag="I")))
    told = "0 of 1 published numbers and 1 of 1 numbers of our own reckoning agree."
    assert told in both.notes


def test_a_reduction_is_the_ratio_of_two_rows() -> None:
    full = _trial("counted", num_labels=100, of="full_softmax")
    small = _trial("counted", num_labels=100, of="mach", num_buckets=4000, num_worlds=5)
    records = [
        _record(full, {"parameters": 44.4e9, "parameter bytes": 177.6e9}),
        _record(small, {"parameters": 84.5e6, "parameter bytes": 338e6}),
    ]
    section = _section(
        records,
        _claim("parameters", 480.0, {"of": "mach"}, over={"of": "full_softmax"}, label="480×"),
        _claim("parameter bytes", 0.3e9, {"of": "mach"}, tolerance=0.05e9),
        metrics=("parameters",),
    )
    lines = {line["quantity"]: line for line in made.texts(build_theory_table(section))[1:]}
    reduction = lines["480×: parameters"]
    assert reduction["setting"] == "full layer ÷ MACH, B=4,000, R=5"
    assert (reduction["published"], reduction["measured"]) == ("480×", "525.4×")
    assert lines["parameter bytes"]["published"] == "300 MB"
    assert lines["parameter bytes"]["measured"] == "338 MB"
    assert lines["parameter bytes"]["verdict"] == "agrees"
    assert lines["parameters"]["measured"] == "84.50 million"


def test_a_trial_that_failed_shows_its_status() -> None:
    lost = _record(PAIRS, {}, status="timeout")
    (line,) = made.texts(build_theory_table(_section([lost | {"test": None}])))
    assert line["measured"] == "timeout"


def _reconstruction(
    rounding: str, mean: float, quadratic: float, clipped: float, less: float
) -> Any:
    simulated = {"labels_per_point": 5, "base_prob": 0.9, "rounding": rounding}
    names = {"mean": mean, "quadratic": quadratic, "quadratic clipped to [0, 1]": clipped}
    names["mean less V/B"] = less
    curves = {
        name: {"num_worlds": [1, 2], "error": [2 * end, end], "standard_error": [0.1, 0.1]}
        for name, end in names.items()
    }
    return _record(
        _trial("reconstruction", num_labels=100, num_buckets=20, num_worlds=2, **simulated),
        {f"{name}, R = 2": end for name, end in names.items()},
        curves={"reconstruction": curves},
    )


def _simulation() -> Section:
    beside = {"labels_per_point": 5, "num_buckets": 20, "rounding": "down"}
    return _section(
        [
            _reconstruction("down", 10.2, 4.5, 1.5, 3.5),
            _reconstruction("nearest", 11.5, 2.0, 1.0, 1.75),
        ],
        _claim("mean, R = 2", 10.0, beside, tolerance=1.0),
        _claim("quadratic, R = 2", 4.0, beside, tolerance=1.0),
        metrics=("mean, R = 2",),
    )


def test_note_tells_which_reading_meets_the_published_numbers() -> None:
    note = next(n for n in build_theory_table(_simulation()).notes if "by reading" in n)
    assert "mean 0.20;" in note
    assert "quadratic 0.50;" in note
    assert "quadratic clipped to [0, 1] 2.5" in note
    assert "mean, V/base_prob rounded to nearest 1.5" in note
    assert "quadratic, V/base_prob rounded to nearest 2.0" in note


def test_figure_of_the_simulation_draws_each_estimator_and_the_published_points() -> None:
    ((stem, plot),) = figures.plots([_simulation()])
    assert stem == "reconstruction-k-100"
    assert isinstance(plot, LinePlot)
    (panel,) = plot.panels
    found = {series.text: series for series in panel.series}
    assert found["mean, B = 20"].y == (20.4, 10.2)
    assert found["quadratic, B = 20"].y == (9.0, 4.5)
    assert found["mean less V/B, B = 20"].y == (7.0, 3.5)
    rings = [s for s in panel.series if s.style.linestyle == "none"]
    assert sorted((s.x[0], s.y[0]) for s in rings) == [(2.0, 4.0), (2.0, 10.0)]
    assert len(panel.series) == 5  # the other rounding is a reading, not a line
    assert set(draw_files(plot)) == {".svg", ".png"}


def _theory_sections() -> list[Section]:
    families = ("murmur3", "balanced")
    sizes = {"num_labels": 50, "num_buckets": 4, "num_worlds": 3}
    counted = {"pairs, R = 1": 300, "pairs, R = 2": 70, "pairs, R = 3": 0}
    shares = {"share with a pair, R = 1": 1, "share with a pair, R = 3": 0.5}
    pairs = [
        _record(_trial("pairs", hash_family=family, **sizes), counted | shares)
        for family in families
    ]
    means = {"prob": [0.5, 0.1], "mean": [0.49, 0.001], "standard_error": [0.01, 0.01]}
    moments = [
        _record(
            _trial("moments", distribution=law, hash_family=family),
            {"variance, B = 2, R = 1": 0.3, "variance, B = 8, R = 1": 0.05},
            curves={"means": {"2": means, "8": means}} if law == "zipf" else {},
        )
        for law in ("zipf", "one_rival")
        for family in families
    ]
    outcomes = [
        _record(
            _trial("outcomes", num_buckets=3, num_worlds=r),
            {"outputs": 3.0 * r, "outcomes told apart": 3.0**r},
        )
        for r in (2, 3)
    ]
    return [_section(records) for records in (moments[:2], moments[2:], pairs, outcomes)]


def test_figures_of_theorems_show_measured_points_and_formulas() -> None:
    plots = dict(figures.plots(_theory_sections()))
    assert list(plots) == ["unbiasedness", "variance", "pairs-number", "pairs-chance", "outcomes"]
    shown = {stem: plot for stem, plot in plots.items() if isinstance(plot, LinePlot)}
    assert len(shown) == 5
    variance = {s.text: s for s in shown["variance"].panels[1].series}
    assert variance["derived: Σp_k²/(R(B−1))"].y == (1.0, 1 / 7)
    assert variance["bound as printed in 2020"].y[0] == 0.25 / 2
    assert variance["murmur3"].y == (0.3, 0.05)
    assert variance["balanced"].x[0] < variance["murmur3"].x[0]  # side by side
    counted = {s.text: s for s in shown["pairs-number"].panels[0].series}
    assert counted["balanced"].y == (300, 70)  # a logarithm shows no zero
    chance = {s.text: s for s in shown["pairs-chance"].panels[0].series}
    assert chance["L² B^−R (2018)"].y[0] == 1.0
    unbiased = {s.text: s for s in shown["unbiasedness"].panels[0].series}
    assert unbiased["murmur3"].y == (0.49,)  # the other point's bar reaches zero
    outcomes = {s.text: s for s in shown["outcomes"].panels[0].series}
    assert outcomes["outcomes told apart"].y == (9.0, 27.0)
    for plot in shown.values():
        assert draw_files(plot)[".png"]


def test_tables_render_in_every_syntax_and_compare_by_quantity() -> None:
    section = _simulation()
    table = build_theory_table(section)
    assert "| V=5, base\\_prob=0.9 |" in render_markdown(table)
    assert "Times" not in render_markdown(table)  # nothing of it is ever timed
    assert r"\begin{tabular}{llllrrrr}" in render_latex(table, "x")
    assert "agrees" in render_text(table, 120)
    assert [column.name for column in compared(section)] == ["mean, R = 2"]
    assert [row.setting for row in section.rows] == [
        "V=5, base_prob=0.9",
        "V=5, base_prob=0.9, V/base_prob rounded to nearest",
    ]
