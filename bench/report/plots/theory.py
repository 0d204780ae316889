"""Figures of studies without data: what was drawn, the formulas, and the papers' own points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
                "Rings: numbers read off the 2020 draft's figure, ±1.",
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


def _family_styles(sections: Iterable[Section], curve: str) -> dict[str, SeriesStyle]:
    rows = [row for section in sections for row in _with_curve(section, curve)]
    names = dict.fromkeys(str(options_of(row)["hash_family"]) for row in rows)
    looks = (_FAMILIES[i % len(_FAMILIES)] for i in range(len(names)))
    return {
        n: SeriesStyle(color, mark, "none") for n, (color, mark) in zip(names, looks, strict=True)
    }


def unbiasedness(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """Mean estimate against the probability, a panel for each B."""
    styles = _family_styles(sections, "means")
    panels: dict[int, list[Series]] = {}
    for section in sections:
        for row in _with_curve(section, "means"):
            family = str(options_of(row)["hash_family"])
            for B, curve in _curve(row, "means").items():
                points = [
                    point
                    for point in zip(
                        curve["prob"], curve["mean"], curve["standard_error"], strict=True
                    )
                    if point[1] - 2 * point[2] > 0  # what a logarithm shows
                ]
                if points:
                    x, y, error = zip(*sorted(points), strict=True)
                    low = tuple(a - 2 * b for a, b in zip(y, error, strict=True))
                    high = tuple(a + 2 * b for a, b in zip(y, error, strict=True))
                    series = Series(family, styles[family], x, y, low, high, kind="points")
                    panels.setdefault(int(B), []).append(series)
    for shown in panels.values():
        ends = sorted({x for series in shown for x in series.x})
        line = (ends[0], ends[-1])
        shown.insert(0, Series("p̂ = p", _DERIVED, line, line))
    yield (
        "",
        LinePlot(
            "The mean is unbiased",
            _subject(sections, sections[0].part, "one world"),
            Axis("probability p of a label (log scale)", "log"),
            Axis("mean estimate (log scale)", "log"),
            tuple(Panel(tuple(shown), title=f"B = {B}") for B, shown in sorted(panels.items())),
            "Bars: two standard errors; points whose bar reaches zero are left out.",
        ),
    )


def variances(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """Variance of one world's estimate against B, with what is derived and what is printed."""
    styles = _family_styles(sections, "variances")
    panels = []
    for section in sections:
        rows = _with_curve(section, "variances")
        shown = []
        for row in rows:
            curve = _curve(row, "variances")
            family = str(options_of(row)["hash_family"])
            pairs = zip(curve["num_buckets"], curve["variance"], strict=True)
            x, y = zip(*[(float(b), v) for b, v in pairs if v > 0], strict=True)
            shown.append(Series(family, styles[family], x, y))
        facts = rows[0].done[0]["data"]
        xs = tuple(float(B) for B in _curve(rows[0], "variances", "num_buckets"))
        squares, prob = facts["sum_of_squares_of_others"], facts["prob"]
        derived = tuple(variance(squares, int(B), 1) for B in xs)
        printed = tuple(printed_variance_bound(prob, int(B), 1) for B in xs)
        lines = (
            Series("derived: Σp_k²/(R(B−1))", _DERIVED, xs, derived),
            Series("bound as printed in 2020", _PRINTED, xs, printed),
        )
        panels.append(Panel((*lines, *shown), title=section.part))
    yield (
        "",
        LinePlot(
            "Variance of the estimate",
            _subject(sections, "one world"),
            Axis("buckets B (log scale)", "steps"),
            Axis("variance (log scale)", "log"),
            tuple(panels),
            "Above the printed bound: it does not hold.",
        ),
    )


def pairs(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """Indistinguishable pairs against R, measured and expected."""
    styles = _family_styles(sections, "pairs")
    panels, chances = [], []
    for section in sections:
        rows = _with_curve(section, "pairs")
        options = options_of(rows[0])
        L, B = int(options["num_labels"]), int(options["num_buckets"])
        counted, shares = [], []
        for row in rows:
            curve = _curve(row, "pairs")
            family = str(options_of(row)["hash_family"])
            found = zip(curve["num_worlds"], curve["pairs"], strict=True)
            x, y = zip(*[(float(r), n) for r, n in found if n > 0], strict=True)
            counted.append(Series(family, styles[family], x, y))
            worlds = tuple(float(r) for r in curve["num_worlds"])
            shares.append(Series(family, styles[family], worlds, tuple(curve["share"])))
        worlds = tuple(float(r) for r in _curve(rows[0], "pairs", "num_worlds"))
        expected = tuple(expected_pairs(L, B, int(r)) for r in worlds)
        line = Series("L(L−1)/2 · B^−R (2020)", _DERIVED, worlds, expected)
        panels.append(Panel((line, *counted), title=section.part))
        bounds = (
            Series(line.text, _DERIVED, worlds, tuple(min(1.0, n) for n in expected)),
            Series(
                "L² B^−R (2018)",
                _OTHER_BOUND,
                worlds,
                tuple(min(1.0, pair_bound(L, B, int(r))) for r in worlds),
            ),
        )
        chances.append(Panel((*bounds, *shares), title=section.part))
    axis = Axis("worlds R", "linear")
    number, chance = Axis("pairs (log scale)", "log"), Axis("share of draws with a pair", "linear")
    subject = _subject(sections)
    yield "number", LinePlot("Indistinguishable pairs", subject, axis, number, tuple(panels))
    yield "chance", LinePlot("Is there a pair?", subject, axis, chance, tuple(chances))


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
