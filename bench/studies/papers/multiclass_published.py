"""Published numbers of multi-class data, ODP and fine-grained ImageNet, with linear models."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

from bench.data.download.catalogue import SETS
from bench.settings import Scalar
from bench.studies.published import Curve, PaperRow

_FIGURE = "NeurIPS 2019, figure of accuracy over B and R"
_TABLE = "NeurIPS 2019, multi-class table"

#: Set → R → B → accuracy, read off the authors' poster to ±0.0004.
TRADEOFF: Mapping[str, Mapping[int, Mapping[int, float]]] = {
    "odp": {
        25: {4: 0.0696, 8: 0.1076, 16: 0.1347, 32: 0.1545, 64: 0.1678},
        50: {
            **{2: 0.0571, 4: 0.0999, 8: 0.1334, 16: 0.1524, 32: 0.1670},
            **{64: 0.1755, 128: 0.1835, 256: 0.1892, 512: 0.1928},
        },
        100: {2: 0.0842, 10: 0.1540},
        250: {2: 0.1271, 10: 0.1665},
    },
    "imagenet": {
        15: {1600: 0.1420},
        20: {
            **{16: 0.0072, 32: 0.0169, 64: 0.0210, 128: 0.0393, 256: 0.0662},
            **{512: 0.1069, 1024: 0.1323},
        },
        30: {800: 0.1287},
        50: {100: 0.0545, 200: 0.0804, 400: 0.1099},
        75: {200: 0.0891},
        100: {100: 0.0703, 200: 0.0946},
        200: {50: 0.0637},
    },
}
# Lines of the same figures, taken there from the literature: system → accuracy.
_RIVALS: Mapping[str, Mapping[str, float]] = {
    "odp": {"One-against-all": 0.094, "LOMTree": 0.0654, "Recall tree": 0.0621},
    "imagenet": {"One-against-all": 0.178, "Recall tree": 0.116, "LOMTree": 0.099},
}
_BESIDE: Mapping[str, Mapping[str, Scalar]] = {
    "One-against-all": {"method": "full_softmax", "encoder": "linear"},
    "LOMTree": {"method": "vowpal_wabbit", "reduction": "log_multi"},
    "Recall tree": {"method": "vowpal_wabbit", "reduction": "recall_tree"},
}
#: Set → B, R of the two runs of the table.
RUNS: Mapping[str, tuple[int, int]] = {"odp": (32, 25), "imagenet": (512, 20)}
# Reduction, hours, ms a query, accuracy by the unbiased mean.
_RUNS: Mapping[str, tuple[float, float, float, float]] = {
    "odp": (125, 7.2, 2.85, 0.15446),
    "imagenet": (2, 23, 8.5, 0.10675),
}
# Of the same runs: minimum and median.
_ESTIMATORS: Mapping[str, tuple[float, float]] = {
    "odp": (0.12212, 0.14434),
    "imagenet": (0.09743, 0.10713),
}


def _mach(num_buckets: int, num_worlds: int) -> Mapping[str, Scalar]:
    return {"method": "mach", "num_buckets": num_buckets, "num_worlds": num_worlds}


def _row(name: str, **fields: Any) -> PaperRow:
    return PaperRow(part=SETS[name].title, **fields)


def table_rows(stand_in: str) -> Iterator[PaperRow]:
    """The table of the two runs, their estimators, and the rivals' lines of the figure.

    ODP's numbers stand beside the rows of the stand-in too, and ImageNet's run.
    """
    for row in _set_rows():
        yield row
        is_odp = row.part == SETS["odp"].title
        if is_odp or row.beside["method"] == "mach":
            data = "ODP" if is_odp else "ImageNet"
            yield dataclasses.replace(row, part=stand_in, data=data)


def _set_rows() -> Iterator[PaperRow]:
    for name, (reduction, hours, query, accuracy) in _RUNS.items():
        num_buckets, num_worlds = RUNS[name]
        common = {
            "label": f"MACH B={num_buckets}, R={num_worlds}",
            "beside": _mach(num_buckets, num_worlds),
        }
        measured = {
            "reduction": reduction,
            "train hours": hours,
            "query ms": query,
            "P@1": accuracy,
            "P@1, mean": accuracy,
        }
        why = "on one Titan X"
        yield _row(name, metrics=measured, source=_TABLE, tag="A", why=why, **common)
        least, median = _ESTIMATORS[name]
        estimators = {"P@1, min": least, "P@1, median": median}
        source = "arXiv 1810.04254, table of estimators"
        yield _row(name, metrics=estimators, source=source, tag="M", **common)
    yield from rival_rows()


def _point(name: str, label: str, accuracy: float, beside: Mapping[str, Scalar]) -> PaperRow:
    metrics = {"P@1": accuracy}
    return _row(name, label=label, metrics=metrics, source=_FIGURE, tag="F", beside=beside)


def rival_rows() -> Iterator[PaperRow]:
    """The horizontal lines of the figures."""
    for name, rivals in _RIVALS.items():
        for system, accuracy in rivals.items():
            yield _point(name, system, accuracy, _BESIDE[system])


def tradeoff_rows() -> Iterator[PaperRow]:
    """Every point of the figures, and their lines."""
    for name, by_worlds in TRADEOFF.items():
        for num_worlds, by_buckets in by_worlds.items():
            for num_buckets, accuracy in by_buckets.items():
                label = f"MACH B={num_buckets}, R={num_worlds}"
                yield _point(name, label, accuracy, _mach(num_buckets, num_worlds))
    yield from rival_rows()


def tradeoff_curves() -> Iterator[Curve]:
    """The same as lines over B."""
    for name, by_worlds in TRADEOFF.items():
        panel = SETS[name].title.partition(" (")[0]
        curve = functools.partial(Curve, panel=panel, tag="F", source=_FIGURE)
        for num_worlds, by_buckets in by_worlds.items():
            points = tuple((float(B), accuracy) for B, accuracy in sorted(by_buckets.items()))
            yield curve(label=f"R={num_worlds}", points=points)
        for system, accuracy in _RIVALS[name].items():
            yield curve(label=system, points=((None, accuracy),))
