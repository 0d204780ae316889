"""Figures of studies without data: what was drawn, the formulas, and the papers' own points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.report.files import file_safe
from bench.report.plots.lines import Axis, LinePlot, Panel, Series
from bench.report.select import Row, Section
from bench.report.style import GREY, Plot, SeriesStyle
from bench.report.theory import lines_of, options_of, ordered
from bench.report.values import dig
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
_ESTIMATORS: Mapping[str, tuple[str, Any]] = {"mean": ("", (0, (4, 2))), "quadratic": ("", "-")}


def plots(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """Each of `FIGURES`, from the sections whose records hold what it shows."""
    for name, (curve, collect) in FIGURES.items():
        shown = [section for section in sections if _with_curve(section, curve)]
        for figure in collect(shown) if shown else ():
            yield "-".join(filter(None, [name, file_safe(figure[0])])), figure[1]


def _curve(row: Row, *path: str) -> Any:
    return dig(row.done[0], "estimators", "curves", *path) if row.done else None


def _with_curve(section: Section, name: str) -> list[Row]:
    return [row for row in ordered(section) if _curve(row, name)]


def _subject(sections: Sequence[Section], *words: str) -> str:
    first = sections[0]
    return "; ".join([", ".join(filter(None, [first.study, *words])), f"{first.machine}."])


def reconstruction(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """Error over R for each B, a panel for each V and base_prob; a figure for each K."""
    for section in sections:
        rows = [r for r in _with_curve(section, "reconstruction") if not _is_other_reading(r)]
        sizes = sorted({options_of(row)["num_buckets"] for row in rows})
        panels: dict[tuple[Any, Any], list[Series]] = {}
        published: dict[tuple[Any, Any], list[Series]] = {}
        for row in rows:
            options = options_of(row)
            place = (options["base_prob"], options["labels_per_point"])
            color = _BUCKETS[sizes.index(options["num_buckets"]) % len(_BUCKETS)]
            for name, (marker, line) in _ESTIMATORS.items():
                curve = _curve(row, "reconstruction", name)
                if curve:
                    text = f"{name}, B = {options['num_buckets']}"
                    style = SeriesStyle(color, marker, line)
                    x, y = map(float, curve["num_worlds"]), map(float, curve["error"])
                    panels.setdefault(place, []).append(Series(text, style, tuple(x), tuple(y)))
            published.setdefault(place, []).extend(_read_off(section, row))
        titles = {place: f"V = {place[1]}, base_prob = {place[0]}" for place in panels}
        yield (
            section.part,
            LinePlot(
                "Probabilities from bucket means",
                _subject([section], section.part),
                Axis("worlds R", "linear"),
                Axis("L2 error (log scale)", "log"),
                tuple(
                    Panel((*published[place], *panels[place]), title=titles[place])
                    for place in sorted(panels)
                ),
                "Rings: read off the 2020 draft's figure, ±1. No quadratic line where B ≤ V + 1.",
            ),
        )


def _is_other_reading(row: Row) -> bool:
    return options_of(row).get("rounding") == "nearest"


def _read_off(section: Section, row: Row) -> Iterator[Series]:
    """The published points of a row, faintly."""
    for line in lines_of(section):
        if line.row is row and line.claim and line.quantity.split(", ")[0] in _ESTIMATORS:
            worlds = float(line.quantity.rpartition("= ")[2])
            style = SeriesStyle(_PUBLISHED, "o", "none", is_open=True)
            yield Series("read off the draft's figure", style, (worlds,), (line.claim.value,))


@dataclass(frozen=True)
class _Families:
    """The hash families of some sections: each has a look, and a place beside the others."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, sections: Iterable[Section], curve: str) -> _Families:
        rows = [row for section in sections for row in _with_curve(section, curve)]
        return cls(tuple(sorted({_family(row) for row in rows})))

    def style(self, name: str) -> SeriesStyle:
        color, marker = _FAMILIES[self.names.index(name) % len(_FAMILIES)]
        return SeriesStyle(color, marker, "none")

    def shift(self, name: str) -> float:
        """From −1 to 1, so that equal values do not cover each other."""
        middle = (len(self.names) - 1) / 2
        return (self.names.index(name) - middle) / middle if middle else 0.0


def _family(row: Row) -> str:
    return str(options_of(row)["hash_family"])


def _beside(x: Sequence[float], y: Sequence[float], shift: float) -> dict[str, Any]:
    """Points at named places, those that a logarithm shows, moved a little."""
    kept = [(place, value) for place, value in zip(x, y, strict=True) if value > 0]
    return {
        "x": tuple(place + 0.14 * shift for place, _ in kept),
        "y": tuple(value for _, value in kept),
    }


def unbiasedness(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """Mean estimate against the probability, a panel for each B."""
    families = _Families.of(sections, "means")
    panels: dict[int, list[Series]] = {}
    ends: dict[int, set[float]] = {}
    for row in (row for section in sections for row in _with_curve(section, "means")):
        family = _family(row)
        for B, curve in _curve(row, "means").items():
            found = zip(curve["prob"], curve["mean"], curve["standard_error"], strict=True)
            points = sorted(p for p in found if p[1] - 2 * p[2] > 0)  # what a logarithm shows
            if points:
                ends.setdefault(int(B), set()).update(p for p, _, _ in points)
                series = Series(
                    family,
                    families.style(family),
                    tuple(p * 1.05 ** families.shift(family) for p, _, _ in points),
                    tuple(mean for _, mean, _ in points),
                    tuple(mean - 2 * error for _, mean, error in points),
                    tuple(mean + 2 * error for _, mean, error in points),
                    kind="points",
                )
                panels.setdefault(int(B), []).append(series)
    for B, shown in panels.items():
        line = (min(ends[B]), max(ends[B]))
        shown.insert(0, Series("p̂ = p", _DERIVED, line, line))
    yield (
        "",
        LinePlot(
            "Is the mean unbiased?",
            _subject(sections, sections[0].part, "one world"),
            Axis("probability p of a label (log scale)", "log"),
            Axis("mean estimate (log scale)", "log"),
            tuple(Panel(tuple(shown), title=f"B = {B}") for B, shown in sorted(panels.items())),
            "Bars: two standard errors; points whose bar reaches zero are left out. Families stand "
            "side by side; buckets of equal sizes, or never empty ones, lower the mean.",
        ),
    )


def variances(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """Variance of one world's estimate against B, with what is derived and what is printed."""
    families = _Families.of(sections, "variances")
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
        ]
        for row in rows:
            family = _family(row)
            points = _beside(places, _curve(row, "variances", "variance"), families.shift(family))
            shown.append(Series(family, families.style(family), **points))
        panels.append(Panel(tuple(shown), title=section.part))
    names = tuple(f"{B}" for B in nums_buckets)
    yield (
        "",
        LinePlot(
            "Variance of the estimate",
            _subject(sections, "one world"),
            Axis("buckets B", "names", names),
            Axis("variance (log scale)", "log"),
            tuple(panels),
            "Above the printed bound: it does not hold. Families stand side by side.",
        ),
    )


def pairs(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """Indistinguishable pairs against R: their number, and whether there is any."""
    families = _Families.of(sections, "pairs")
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
        counted, shares = [line], [bound, Series("L² B^−R (2018)", _OTHER_BOUND, places, older)]
        for row in rows:
            family = _family(row)
            style, shift = families.style(family), families.shift(family)
            found, share = (_curve(row, "pairs", name) for name in ("pairs", "share"))
            counted.append(Series(family, style, **_beside(places, found, shift)))
            shares.append(Series(family, style, **_beside(places, share, shift)))
        panels.append(Panel(tuple(counted), title=section.part))
        chances.append(Panel(tuple(shares), title=section.part))
    axis = Axis("worlds R", "names", tuple(f"{r}" for r in range(1, most + 1)))
    number, chance = Axis("pairs (log scale)", "counts"), Axis("draws with a pair", "linear")
    subject, note = _subject(sections), "Families stand side by side; zeros are left out."
    yield "number", LinePlot("Indistinguishable pairs", subject, axis, number, tuple(panels), note)
    yield "chance", LinePlot("Is there a pair?", subject, axis, chance, tuple(chances), note)


def outcomes(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """Outputs and the outcomes that they tell apart, against R."""
    section = sections[0]
    rows = _with_curve(section, "outcomes")
    worlds = tuple(f"{options_of(row)['num_worlds']:g}" for row in rows)
    places = tuple(float(place) for place in range(len(rows)))
    looks = {
        "outcomes": ("outcomes told apart", SeriesStyle("#0072B2", "o", "-")),
        "outputs": ("outputs, the cost", SeriesStyle("#D55E00", "s", "-")),
    }
    series = [
        Series(text, look, places, tuple(float(_curve(row, "outcomes", name)) for row in rows))
        for name, (text, look) in looks.items()
    ]
    yield (
        "",
        LinePlot(
            "Linear cost, exponential gain",
            _subject([section], section.part),
            Axis("worlds R", "names", worlds),
            Axis("number", "linear"),
            (Panel(tuple(series)),),
        ),
    )


Collect = Callable[[Sequence[Section]], Iterator[tuple[str, Plot | str]]]
#: Figure → the curve that its records hold, and what collects it.
FIGURES: Mapping[str, tuple[str, Collect]] = {
    "reconstruction": ("reconstruction", reconstruction),
    "unbiasedness": ("means", unbiasedness),
    "variance": ("variances", variances),
    "pairs": ("pairs", pairs),
    "outcomes": ("outcomes", outcomes),
}
