"""Figures of studies without data: what was drawn, the formulas, and the papers' own points."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.report.plots.lines import Axis, LinePlot, Panel, Series
from bench.report.sections import Row, Section
from bench.report.style import GREY, HUES, Dashes, Plot, SeriesStyle, shade
from bench.report.summary import dig, group_by
from bench.report.tables.theory import lines_of
from bench.store.files import file_safe
from bench.studies import theory as stated

_BUCKETS = "#3182bd"
_DERIVED, _PRINTED = SeriesStyle(GREY, ""), SeriesStyle("#b22222", "", (0, (4, 2)))
_OTHER_BOUND = SeriesStyle("#b22222", "", (0, (1, 1)))
_READ_OFF = SeriesStyle("#a6a6a6", "o", "none", "none")
_ESTIMATORS: Mapping[str, Dashes] = {
    "mean": (0, (4, 2)),
    "quadratic": "-",
    "mean less V/B": (0, (1, 1)),
}
_SIDE_BY_SIDE = "Families stand side by side; zeros are left out."


def plots(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """Each of `FIGURES`, from the sections that have rows of its measurement."""
    for name, (method, collect) in FIGURES.items():
        known = ((section, _rows(section, method)) for section in sections)
        shown = [(section, rows) for section, rows in known if rows]
        for part, plot in collect(shown).items() if shown else ():
            yield "-".join(filter(None, [name, file_safe(part)])), plot


Measured = Sequence[tuple[Section, list[Row]]]


def _rows(section: Section, method: str) -> list[Row]:
    return [r for r in section.rows if r.card.name == method and r.done and _test(r)]


def _curve(row: Row, *path: str) -> Any:
    return dig(row.done[0], "estimators", "curves", *path) or {}


def _test(row: Row) -> Mapping[str, Any]:
    return dig(row.done[0], "test") or {}


def _along(row: Row, quantity: str) -> list[tuple[int, float]]:
    """Values of a quantity in whose name a number stands for *, by that number."""
    head, tail = quantity.split("*")
    found = []
    for name, value in _test(row).items():
        number = name.removeprefix(head).removesuffix(tail)
        if name == f"{head}{number}{tail}" and number.isdigit() and value is not None:
            found.append((int(number), float(value)))
    return sorted(found)


def reconstruction(shown: Measured) -> dict[str, LinePlot]:
    """Error over R for each B, a panel for each V and base_prob; a figure for each K."""
    figures = {}
    for section, every in shown:
        rows = [row for row in every if row.flat.get("rounding") != "nearest"]  # another reading
        sizes = sorted({row.flat["num_buckets"] for row in rows})
        panels = []
        for (prob, size), same in sorted(group_by(rows, _simulated).items()):
            series = [series for row in same for series in _read_off(section, row)]
            series += [series for row in same for series in _errors(row, sizes)]
            panels.append(Panel(tuple(series), title=f"V = {size}, base_prob = {prob}"))
        figures[section.part] = LinePlot(
            "How far from the truth are probabilities that come from bucket means?",
            section.about(section.study.name, section.part),
            Axis("worlds R", "linear"),
            Axis("L2 error (log scale)", "log"),
            tuple(panels),
            "Mean less V/B: a constant subtracted, so that the order of labels stays. Rings: read "
            "off the 2020 draft's figure, ±1. No quadratic line where B ≤ V + 1.",
        )
    return figures


def _simulated(row: Row) -> tuple[Any, Any]:
    return row.flat["base_prob"], row.flat["labels_per_point"]


def _errors(row: Row, sizes: Sequence[int]) -> Iterator[Series]:
    """A line for each estimator, darker the more buckets there are."""
    num_buckets = row.flat["num_buckets"]
    color = shade(_BUCKETS, sizes.index(num_buckets), len(sizes))
    for name, line in _ESTIMATORS.items():
        curve = _curve(row, "reconstruction", name)
        if curve:
            x, y = (tuple(map(float, curve[axis])) for axis in ("num_worlds", "error"))
            yield Series(f"{name}, B = {num_buckets}", SeriesStyle(color, "", line), x, y)


def _read_off(section: Section, row: Row) -> Iterator[Series]:
    """The published points of a row, faintly."""
    for line in lines_of(section):
        if line.row is row and line.published is not None:
            worlds = float(line.quantity.rpartition("= ")[2])
            yield Series("read off the draft's figure", _READ_OFF, (worlds,), (line.published,))


class _Families:
    """Hash families, each with its style and its shift beside the others: equals do not overlap."""

    def __init__(self, shown: Measured) -> None:
        names = sorted({str(row.flat["hash_family"]) for _, rows in shown for row in rows})
        middle = (len(names) - 1) / 2
        self._looks = {
            name: (SeriesStyle(*look, "none"), (index - middle) / middle if middle else 0.0)
            for index, (name, look) in enumerate(zip(names, itertools.cycle(HUES)))
        }

    def points(
        self, row: Row, found: Sequence[tuple[int, float]], positions: Sequence[int]
    ) -> Series:
        """Points at named ticks, those that a logarithm shows."""
        name = str(row.flat["hash_family"])
        style, shift = self._looks[name]
        kept = [(positions.index(x) + 0.14 * shift, y) for x, y in found if y > 0]
        return Series.of(name, style, kept)

    def means(self, row: Row, points: Sequence[tuple[float, float, float]]) -> Series:
        """Mean estimates with two standard errors, at their probabilities."""
        name = str(row.flat["hash_family"])
        style, shift = self._looks[name]
        ranges = [(p * 1.05**shift, mean, mean - 2 * e, mean + 2 * e) for p, mean, e in points]
        return Series.of(name, style, ranges, kind="points")


def unbiasedness(shown: Measured) -> dict[str, LinePlot]:
    """Mean estimate against the probability, a panel for each B."""
    families = _Families(shown)
    rows = [row for _, rows in shown for row in rows]
    panels = []
    for B in sorted({int(B) for row in rows for B in _curve(row, "means")}):
        found = [(row, points) for row in rows if (points := _clear_of_zero(row, B))]
        if found:
            probs = {prob for _, points in found for prob, _, _ in points}
            truth = Series("p̂ = p", _DERIVED, *((min(probs), max(probs)),) * 2)
            series = [families.means(row, points) for row, points in found]
            panels.append(Panel((truth, *series), title=f"B = {B}"))
    section = next((s for s, rows in shown if _curve(rows[0], "means")), None)
    if section is None or not panels:
        return {}
    plot = LinePlot(
        "Is the mean unbiased?",
        section.about(section.study.name, section.part, "one world"),
        Axis("probability p of a label (log scale)", "log"),
        Axis("mean estimate (log scale)", "log"),
        tuple(panels),
        "Bars: two standard errors; points whose bar reaches zero are left out. Families stand "
        "side by side; buckets of equal sizes, or never empty ones, lower the mean.",
    )
    return {"": plot}


def _clear_of_zero(row: Row, num_buckets: int) -> list[tuple[float, float, float]]:
    """Probability, mean and standard error of the points whose bars a logarithm shows."""
    curve = _curve(row, "means", str(num_buckets))
    columns = [curve.get(name, ()) for name in ("prob", "mean", "standard_error")]
    return sorted(point for point in zip(*columns, strict=True) if point[1] - 2 * point[2] > 0)


def variances(shown: Measured) -> dict[str, LinePlot]:
    """Variance of one world's estimate against B, with what is derived and what is printed."""
    families = _Families(shown)
    measured = {id(row): _along(row, "variance, B = *, R = 1") for _, rows in shown for row in rows}
    nums_buckets = sorted({B for points in measured.values() for B, _ in points})
    positions = tuple(map(float, range(len(nums_buckets))))
    panels = []
    for section, rows in shown:
        prob, squares = stated.prob_and_squares(str(rows[0].flat["distribution"]))
        derived = tuple(stated.variance(squares, B, 1) for B in nums_buckets)
        printed = tuple(stated.printed_variance_bound(prob, B, 1) for B in nums_buckets)
        series = (
            Series("derived: Σp_k²/(R(B−1))", _DERIVED, positions, derived),
            Series("bound as printed in 2020", _PRINTED, positions, printed),
            *(families.points(row, measured[id(row)], nums_buckets) for row in rows),
        )
        panels.append(Panel(series, title=section.part))
    plot = LinePlot(
        "Variance of one world's estimate: drawn, derived and printed",
        section.about(section.study.name, "one world"),
        Axis("buckets B", "names", tuple(map(str, nums_buckets))),
        Axis("variance (log scale)", "log"),
        tuple(panels),
        "Above the printed bound: it does not hold. Families stand side by side.",
    )
    return {"": plot}


def pairs(shown: Measured) -> dict[str, LinePlot]:
    """Indistinguishable pairs against R: their number, and whether there is any."""
    families = _Families(shown)
    panels, chances = [], []
    most = 1
    for section, rows in shown:
        L, B = int(rows[0].flat["num_labels"]), int(rows[0].flat["num_buckets"])
        worlds = range(
            1, 1 + max((r for row in rows for r, _ in _along(row, "pairs, R = *")), default=0)
        )
        most = max(most, len(worlds))
        positions = tuple(r - 1.0 for r in worlds)
        expected = tuple(stated.expected_pairs(L, B, r) for r in worlds)
        older = tuple(min(1.0, stated.pair_bound(L, B, r)) for r in worlds)
        line = Series("L(L−1)/2 · B^−R (2020)", _DERIVED, positions, expected)
        bound = replace(line, y=tuple(min(1.0, n) for n in expected))
        other = Series("L² B^−R (2018)", _OTHER_BOUND, positions, older)
        counted, shares = (
            [families.points(row, _along(row, name), worlds) for row in rows]
            for name in ("pairs, R = *", "share with a pair, R = *")
        )
        panels.append(Panel((line, *counted), title=section.part))
        chances.append(Panel((bound, other, *shares), title=section.part))
    axis = Axis("worlds R", "names", tuple(f"{r}" for r in range(1, most + 1)))
    subject = section.about(section.study.name)
    number = LinePlot(
        "How many pairs of labels share all their buckets?",
        subject,
        axis,
        Axis("pairs (log scale)", "counts"),
        tuple(panels),
        _SIDE_BY_SIDE,
    )
    chance = replace(
        number,
        title="How often do any two labels share all their buckets?",
        y=Axis("draws with a pair", "linear"),
        panels=tuple(chances),
    )
    return {"number": number, "chance": chance}


def outcomes(shown: Measured) -> dict[str, LinePlot]:
    """Outputs and the outcomes that they distinguish, against R."""
    section, rows = shown[0]
    looks = dict(zip(("outcomes told apart", "outputs"), HUES[1:], strict=False))
    series = [
        Series.of(
            "outputs, the cost" if name == "outputs" else name,
            SeriesStyle(*look),
            [(x, y) for x, row in enumerate(rows) if (y := _test(row).get(name))],
        )
        for name, look in looks.items()
    ]
    plot = LinePlot(
        "How many outcomes do R worlds tell apart, and at how many outputs?",
        section.about(section.study.name, section.part),
        Axis("worlds R", "names", tuple(f"{row.flat['num_worlds']:g}" for row in rows)),
        Axis("number", "linear"),
        (Panel(tuple(series)),),
    )
    return {"": plot}


Collect = Callable[[Measured], Mapping[str, LinePlot]]
#: Figure → the measurement that it shows, and what collects its plots, by their suffix.
FIGURES: Mapping[str, tuple[str, Collect]] = {
    "reconstruction": ("reconstruction", reconstruction),
    "unbiasedness": ("moments", unbiasedness),
    "variance": ("moments", variances),
    "pairs": ("pairs", pairs),
    "outcomes": ("outcomes", outcomes),
}
