"""Tables and figures of the papers' studies, from made-up records."""

from __future__ import annotations

from typing import Any

import pytest
import synthetic_records as made

from bench.methods.card import PAPERS
from bench.report.columns import quality_column
from bench.report.plots import papers as figures
from bench.report.plots.lines import LinePlot
from bench.report.render import render_latex, render_markdown, render_text
from bench.report.renderers import rendering_of
from bench.report.sections import Section
from bench.report.style import draw_files
from bench.report.tables.papers import build_measured_table, build_papers_table
from bench.studies.published import Curve, PaperRow

MACH = made.trial("mach", encoder="linear", num_buckets=256, num_worlds=16)
FULL = made.trial("full_softmax", encoder="linear", chunk_size=None)


def _published(label: str, metrics: dict[str, float], **more: Any) -> PaperRow:
    common: dict[str, Any] = {"source": "a paper", "tag": "A", "part": "P"} | more
    return PaperRow(label=label, metrics=metrics, **common)


def _sections(records: list[Any], *published: PaperRow, **more: Any) -> tuple[Section, ...]:
    costs = more.pop("costs", ())
    shown = {"primary_metrics": ("P@1", "P@3"), "part": lambda trial: "P", "shown_as": PAPERS}
    study = made.study(published=published, **shown, **more)
    return made.sections(records, costs, of=study)


def test_a_share_stands_as_published_measured_and_points_with_its_tag() -> None:
    records = [
        made.record(made.trial("mach", replicate=i, num_buckets=256, num_worlds=16), accuracy=a)
        for i, a in enumerate((0.60, 0.62, 0.61))
    ]
    beside = {"method": "mach", "num_buckets": 256}
    (section,) = _sections(records, _published("theirs", {"P@1": 0.629}, beside=beside, tag="T"))
    (line,) = made.texts(build_papers_table(section))
    assert line["P@1 %"] == "62.90 [T] | 61.0 | −1.9 (60.0–62.0)"
    assert line["P@3 %"] == "28.7 (28.2–29.1)"  # nothing of it is published
    assert (line["n"], line["published as"]) == ("3", "theirs, a paper")


def test_what_nobody_ran_is_a_dash_and_no_number_is_copied() -> None:
    unrun = _published("other system", {"P@1": 0.7, "train hours": 3.0})
    (section,) = _sections([made.record(MACH, accuracy=0.5)], unrun)
    ours, theirs = made.texts(build_papers_table(section))
    assert ours["P@1 %"] == "– | 50.0"
    assert theirs["system"] == "other system"
    assert theirs["P@1 %"] == "70.00 [A] | –"
    assert theirs["train h"] == "3 [A] | –"


def test_sizes_and_times_are_compared_by_their_ratio() -> None:
    published = _published(
        "run",
        {"reduction": 125, "query ms": 2.0, "train hours": 7.2},
        beside={"method": "mach", "num_worlds": 16},
    )
    costs = [
        made.cost_line([made.cost_row(of, made.phases_of(of)) for of in (MACH, FULL)], part="P")
    ]
    lost = made.record(FULL, status="oom")
    (section,) = _sections([made.record(MACH), lost], published, costs=costs)
    lines = {line["system"]: line for line in made.texts(build_papers_table(section))}
    assert lines["MACH"]["size reduction ×"] == "125 [A] | 4.88 | 0.0391×"
    assert lines["MACH"]["ms a query"].startswith("2 [A] | ")
    assert lines["MACH"]["ms a query"].partition(" | ")[2].count("×") == 1
    assert lines["Full softmax"]["P@1 %"].endswith("OOM (33.0 GiB)")


def test_fewer_worlds_and_other_estimators_come_from_the_same_training() -> None:
    record = made.record(MACH, accuracy=0.5)
    record["worlds"] = [
        {"num_worlds": 4, "num_points": 2000, "metrics": {"P@1": value}}
        for value in (0.2, 0.3, 0.4)
    ]
    record["estimators"] = {"min": {"P@1": 0.1}}
    published = _published("run", {"P@1, R = 4": 0.25, "P@1, min": 0.12}, beside={"method": "mach"})
    (section,) = _sections([record], published, quantities=("P@1, R = 16",))
    table = build_papers_table(section)
    (line,) = made.texts(table)
    assert line["P@1, R = 4 %"] == "25.00 [A] | 30.0 | +5.0"
    assert line["P@1, min %"] == "12.00 [A] | 10.0 | −2.0"
    assert line["P@1, R = 16 %"] == "50.0"
    assert any("on 2,000 points" in note for note in table.notes)


def test_all_worlds_are_shown_on_the_points_that_their_subsets_were_decoded_on() -> None:
    record = made.record(MACH, accuracy=0.5)
    record["worlds"] = [
        {"num_worlds": R, "num_points": 2000, "metrics": {"P@1": value}}
        for R, value in ((8, 0.45), (16, 0.52))
    ]
    (section,) = _sections([record], quantities=("P@1, R = 8", "P@1, R = 16"))
    (line,) = made.texts(build_papers_table(section))
    cells = [line[name] for name in ("P@1 %", "P@1, R = 8 %", "P@1, R = 16 %")]
    assert cells == ["50.0", "45.0", "52.0"]


def test_numbers_published_of_other_data_have_no_difference() -> None:
    published = _published(
        "DSSM",
        {"P@1": 0.441, "train hours": 316.6},
        beside={"method": "mach"},
        data="a private log",
    )
    costs = [made.cost_line([made.cost_row(MACH, made.phases_of(MACH))], part="P")]
    (section,) = _sections([made.record(MACH, accuracy=0.773)], published, costs=costs)
    table = build_papers_table(section)
    (line,) = made.texts(table)
    assert line["P@1 %"] == "44.10 [A] | 77.3"
    assert "×" not in line["train h"]
    assert any("published of other data" in note for note in table.notes)


def test_two_published_rows_of_one_system_take_a_line_each() -> None:
    beside = {"method": "mach"}
    (section,) = _sections(
        [made.record(MACH, accuracy=0.5)],
        _published("old", {"P@1": 0.4}, beside=beside),
        _published("sizes", {"query ms": 1.0}, beside=beside),
        _published("new", {"P@1": 0.45}, beside=beside),
    )
    first, second = made.texts(build_papers_table(section))
    assert first["published as"] == "old, a paper; sizes, a paper"
    assert second["P@1 %"] == "45.00 [A] | 50.0 | +5.0"


def test_rows_on_other_forms_of_the_data_share_a_table_but_changed_data_does_not() -> None:
    raw = made.record(FULL)
    raw["settings"]["data"] |= {"feature_weighting": "tfidf"}
    raw["data"] |= {"fingerprint": "beef" * 16, "num_train_points": 7}
    (section,) = _sections([made.record(MACH), raw])
    settings = [line["setting"] for line in made.texts(build_papers_table(section))]
    assert sorted(text.rpartition(", ")[2] for text in settings) == ["raw", "tfidf"]
    assert "N =" not in section.title  # the rows differ in it
    changed = made.record(made.trial("centroid", encoder="linear"))
    changed["data"] |= {"fingerprint": "dead" * 16}
    assert len(_sections([made.record(MACH), changed])) == 2


def test_a_published_part_that_nobody_ran_is_a_table_of_its_own() -> None:
    entry = _published("MACH", {"P@1": 0.8544}, part="Wiki10-31K", beside={"method": "mach"})
    section, unrun = _sections([made.record(MACH)], entry)
    assert not unrun.rows
    table = build_papers_table(unrun)
    assert [line["P@1 %"] for line in made.texts(table)] == ["85.44 [A] | –"]
    assert table.notes[0] == "Not run here."
    assert build_measured_table(unrun) is None
    assert build_measured_table(section) is not None
    for render in (render_markdown, lambda t: render_latex(t, "x"), lambda t: render_text(t, 80)):
        assert "85.44" in render(table)


def test_the_tradeoff_shows_a_line_for_each_number_of_worlds_and_rivals_as_levels() -> None:
    records = [
        made.record(made.trial("mach", encoder="linear", num_buckets=B, num_worlds=8))
        for B in (256, 1024)
    ]
    curves = (
        Curve(label="R=25", panel="ODP", points=((4, 0.07), (32, 0.15)), tag="F", source="s"),
        Curve(label="OAA", panel="ODP", points=((None, 0.09),), tag="F", source="s"),
    )
    (section,) = _sections(
        [*records, made.record(FULL, accuracy=0.3)], figures=("tradeoff",), curves=curves
    )
    ((stem, plot),) = rendering_of(section.study).plots([section])
    assert stem == "tradeoff"
    assert isinstance(plot, LinePlot)
    ours, complete, theirs = plot.panels
    assert [series.text for series in ours.series] == [f"MACH R={r}" for r in (1, 2, 4, 8)]
    assert all(series.x == (256.0, 1024.0) for series in ours.series)
    # Rivals are scored on all test points, subsets of worlds on the first of them.
    assert not ours.levels
    assert [level.y for level in complete.levels] == [30.0]
    assert [series.x for series in complete.series] == [(), (), (), (256.0, 1024.0)]
    (series,) = theirs.series
    assert (series.x, series.y) == ((4.0, 32.0), pytest.approx((7.0, 15.0)))
    assert [level.y for level in theirs.levels] == [9.0]
    assert draw_files(plot)[".png"].startswith(b"\x89PNG")


def test_every_figure_that_a_study_may_name_is_there() -> None:
    assert {"tradeoff", "accuracy-memory"} <= set(figures.FIGURES)


def test_a_metric_of_an_unknown_estimator_is_not_measured() -> None:
    (section,) = _sections([made.record(MACH)])
    assert quality_column("P@1, no such").value(section.rows[0]) is None
