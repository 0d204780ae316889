"""Figures of studies without data: what was drawn, the formulas, and the papers' own points."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.card import Dashes
from bench.files import file_safe
from bench.report.plots.lines import Axis, LinePlot, Panel, Series
from bench.report.select import Row, Section
from bench.report.style import GREY, Plot, SeriesStyle, shade
from bench.report.theory import lines_of, options_of, ordered
from bench.report.values import dig, group_by
from bench.theory.bounds import expected_pairs, pair_bound, printed_variance_bound, variance

# Hash families are not methods: hues of their own, in the order in which they are met.
_FAMILIES = (
    ("#000000", "o"),
    ("#D55E00", "^"),
    ("#009E73", "D"),
    ("#0072B2", "s"),
    ("#CC79A7", "v"),
)
_BUCKETS = ("#9ecae1", "#3182bd", "#08306b")
_DERIVED, _PRINTED = SeriesStyle(GREY, "", "-"), SeriesStyle("#b22222", "", (0, (4, 2)))
_OTHER_BOUND = SeriesStyle("#b22222", "", (0, (1, 1)))
_PUBLISHED = "#a6a6a6"
_ESTIMATORS: Mapping[str, Dashes] = {
    "mean": (0, (4, 2)),
    "quadratic": "-",
    "mean less V/B": (0, (1, 1)),
}


def plots(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """Each of `FIGURES`, from the sections whose records hold what it shows."""
    for name, (curve, collect) in FIGURES.items():
        shown = [section for section in sections if _with_curve(section, curve)]
        for part, plot in collect(shown).items() if shown else ():
            yield "-".join(filter(None, [name, file_safe(part)])), plot


def _curve(row: Row, *path: str) -> Any:
    return dig(row.done[0], "estimators", "curves", *path) if row.done else None


def _with_curve(section: Section, name: str) -> list[Row]:
    return [row for row in ordered(section) if _curve(row, name)]


def reconstruction(sections: Sequence[Section]) -> dict[str, LinePlot]:
    """Error over R for each B, a panel for each V and base_prob; a figure for each K."""
    figures = {}
    for section in sections:
        rows = [r for r in _with_curve(section, "reconstruction") if not _is_other_reading(r)]
        sizes = sorted({options_of(row)["num_buckets"] for row in rows})
        panels = []
        for (prob, size), same in sorted(group_by(rows, _simulated).items()):
            series = [series for row in same for series in _read_off(section, row)]
            series += [series for row in same for series in _errors(row, sizes)]
            panels.append(Panel(tuple(series), title=f"V = {size}, base_prob = {prob}"))
        figures[section.part] = LinePlot(
            "How far from the truth are probabilities that come from bucket means?",
            section.about(section.study, section.part),
            Axis("worlds R", "linear"),
            Axis("L2 error (log scale)", "log"),
            tuple(panels),
            "Mean less V/B: a constant subtracted, so that the order of labels stays. Rings: read "
            "off the 2020 draft's figure, ±1. No quadratic line where B ≤ V + 1.",
        )
    return figures


def _is_other_reading(row: Row) -> bool:
    return options_of(row).get("rounding") == "nearest"


def _simulated(row: Row) -> tuple[Any, Any]:
    options = options_of(row)
    return options["base_prob"], options["labels_per_point"]


def _errors(row: Row, sizes: Sequence[int]) -> Iterator[Series]:
    """A line for each estimator, darker the more buckets there are."""
    num_buckets = options_of(row)["num_buckets"]
    color = shade(sizes.index(num_buckets), len(sizes), _BUCKETS)
    for name, line in _ESTIMATORS.items():
        curve = _curve(row, "reconstruction", name)
        if curve:
            x, y = (tuple(map(float, curve[axis])) for axis in ("num_worlds", "error"))
            yield Series(f"{name}, B = {num_buckets}", SeriesStyle(color, "", line), x, y)


def _read_off(section: Section, row: Row) -> Iterator[Series]:
    """The published points of a row, faintly."""
    for line in lines_of(section):
        if line.row is row and line.claim and line.quantity.split(", ")[0] in _ESTIMATORS:
            worlds = float(line.quantity.rpartition("= ")[2])
            style = SeriesStyle(_PUBLISHED, "o", "none", is_open=True)
            yield Series("read off the draft's figure", style, (worlds,), (line.claim.value,))


Families = Mapping[str, tuple[SeriesStyle, float]]


def _families(sections: Sequence[Section], curve: str) -> Families:
    """Hash family → its look, and its place beside the others from −1 to 1: equals overlap not."""
    names = sorted({_family(row) for section in sections for row in _with_curve(section, curve)})
    middle = (len(names) - 1) / 2
    looks = zip(names, itertools.cycle(_FAMILIES))
    return {
        name: (SeriesStyle(*look, "none"), (place - middle) / middle if middle else 0.0)
        for place, (name, look) in enumerate(looks)
    }


def _family(row: Row) -> str:
    return str(options_of(row)["hash_family"])


def _points(row: Row, families: Families, x: Sequence[float], y: Sequence[float]) -> Series:
    """Points of a hash family at named places, those that a logarithm shows."""
    style, shift = families[_family(row)]
    points = zip(x, y, strict=True)
    kept = [(place + 0.14 * shift, value) for place, value in points if value > 0]
    return Series.of(_family(row), style, kept)


def unbiasedness(sections: Sequence[Section]) -> dict[str, LinePlot]:
    """Mean estimate against the probability, a panel for each B."""
    families = _families(sections, "means")
    rows = [row for section in sections for row in _with_curve(section, "means")]
    panels = []
    for B in sorted({int(B) for row in rows for B in _curve(row, "means")}):
        shown = [series for row in rows if (series := _means(row, B, families)).x]
        probs = {p for row in rows for p, _, _ in _clear_of_zero(row, B)}
        if shown:
            line = (min(probs), max(probs))
            truth = Series("p̂ = p", _DERIVED, line, line)
            panels.append(Panel((truth, *shown), title=f"B = {B}"))
    plot = LinePlot(
        "Is the mean unbiased?",
        sections[0].about(sections[0].study, sections[0].part, "one world"),
        Axis("probability p of a label (log scale)", "log"),
        Axis("mean estimate (log scale)", "log"),
        tuple(panels),
        "Bars: two standard errors; points whose bar reaches zero are left out. Families stand "
        "side by side; buckets of equal sizes, or never empty ones, lower the mean.",
    )
    return {"": plot}


def _clear_of_zero(row: Row, num_buckets: int) -> list[tuple[float, float, float]]:
    """Probability, mean and standard error of the points whose bars a logarithm shows."""
    curve = _curve(row, "means", str(num_buckets)) or {}
    columns = [curve.get(name, ()) for name in ("prob", "mean", "standard_error")]
    return sorted(point for point in zip(*columns, strict=True) if point[1] - 2 * point[2] > 0)


def _means(row: Row, num_buckets: int, families: Families) -> Series:
    style, shift = families[_family(row)]
    points = [
        (prob * 1.05**shift, mean, mean - 2 * error, mean + 2 * error)
        for prob, mean, error in _clear_of_zero(row, num_buckets)
    ]
    return Series.of(_family(row), style, points, kind="points")


def variances(sections: Sequence[Section]) -> dict[str, LinePlot]:
    """Variance of one world's estimate against B, with what is derived and what is printed."""
    families = _families(sections, "variances")
    panels = []
    for section in sections:
        rows = _with_curve(section, "variances")
        facts = rows[0].done[0]["data"]
        nums_buckets = [int(B) for B in _curve(rows[0], "variances", "num_buckets")]
        places = tuple(map(float, range(len(nums_buckets))))
        squares, prob = facts["sum_of_squares_of_others"], facts["prob"]
        derived = tuple(variance(squares, B, 1) for B in nums_buckets)
        printed = tuple(printed_variance_bound(prob, B, 1) for B in nums_buckets)
        shown = [
            Series("derived: Σp_k²/(R(B−1))", _DERIVED, places, derived),
            Series("bound as printed in 2020", _PRINTED, places, printed),
            *(_points(r, families, places, _curve(r, "variances", "variance")) for r in rows),
        ]
        panels.append(Panel(tuple(shown), title=section.part))
    plot = LinePlot(
        "Variance of one world's estimate: drawn, derived and printed",
        section.about(section.study, "one world"),
        Axis("buckets B", "names", tuple(map(str, nums_buckets))),
        Axis("variance (log scale)", "log"),
        tuple(panels),
        "Above the printed bound: it does not hold. Families stand side by side.",
    )
    return {"": plot}


def pairs(sections: Sequence[Section]) -> dict[str, LinePlot]:
    """Indistinguishable pairs against R: their number, and whether there is any."""
    families = _families(sections, "pairs")
    panels, chances = [], []
    most = 0
    for section in sections:
        rows = _with_curve(section, "pairs")
        options = options_of(rows[0])
        L, B = int(options["num_labels"]), int(options["num_buckets"])
        worlds = [int(r) for r in _curve(rows[0], "pairs", "num_worlds")]
        most = max(most, *worlds)
        places = tuple(r - 1.0 for r in worlds)
        expected = tuple(expected_pairs(L, B, r) for r in worlds)
        older = tuple(min(1.0, pair_bound(L, B, r)) for r in worlds)
        line = Series("L(L−1)/2 · B^−R (2020)", _DERIVED, places, expected)
        bound = replace(line, y=tuple(min(1.0, n) for n in expected))
        other = Series("L² B^−R (2018)", _OTHER_BOUND, places, older)
        counted, shares = (
            [_points(row, families, places, _curve(row, "pairs", name)) for row in rows]
            for name in ("pairs", "share")
        )
        panels.append(Panel((line, *counted), title=section.part))
        chances.append(Panel((bound, other, *shares), title=section.part))
    axis = Axis("worlds R", "names", tuple(f"{r}" for r in range(1, most + 1)))
    number, chance = Axis("pairs (log scale)", "counts"), Axis("draws with a pair", "linear")
    subject, note = section.about(section.study), "Families stand side by side; zeros are left out."
    return {
        "number": LinePlot(
            "How many pairs of labels share all their buckets?",
            subject,
            axis,
            number,
            tuple(panels),
            note,
        ),
        "chance": LinePlot(
            "How often do any two labels share all their buckets?",
            subject,
            axis,
            chance,
            tuple(chances),
            note,
        ),
    }


def outcomes(sections: Sequence[Section]) -> dict[str, LinePlot]:
    """Outputs and the outcomes that they tell apart, against R."""
    section = sections[0]
    rows = _with_curve(section, "outcomes")
    places = tuple(map(float, range(len(rows))))
    looks = {
        "outcomes": ("outcomes told apart", SeriesStyle("#0072B2", "o", "-")),
        "outputs": ("outputs, the cost", SeriesStyle("#D55E00", "s", "-")),
    }
    series = [
        Series(text, look, places, tuple(float(_curve(row, "outcomes", name)) for row in rows))
        for name, (text, look) in looks.items()
    ]
    worlds = tuple(f"{options_of(row)['num_worlds']:g}" for row in rows)
    plot = LinePlot(
        "How many outcomes do R worlds tell apart, and at how many outputs?",
        section.about(section.study, section.part),
        Axis("worlds R", "names", worlds),
        Axis("number", "linear"),
        (Panel(tuple(series)),),
    )
    return {"": plot}


Collect = Callable[[Sequence[Section]], Mapping[str, LinePlot]]
#: Figure → the curve that its records hold, and what collects its plots, by what tells them apart.
FIGURES: Mapping[str, tuple[str, Collect]] = {
    "reconstruction": ("reconstruction", reconstruction),
    "unbiasedness": ("means", unbiasedness),
    "variance": ("variances", variances),
    "pairs": ("pairs", pairs),
    "outcomes": ("outcomes", outcomes),
}
