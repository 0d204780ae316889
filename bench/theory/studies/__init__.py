"""The papers' data-free figures and claims as studies, with every published number of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.settings import Trial
from bench.study import THEORY, Study
from bench.theory.studies.claims import claims_smoke, size_claims, table_claims
from bench.theory.studies.quadratic import figure_quadratic, quadratic_smoke, read_offs
from bench.theory.studies.theorems import figure_theory, theorems, theory_smoke


def _part(trial: Trial) -> str:
    return trial.data.name


STUDIES: Mapping[str, Callable[[], Study]] = {
    "figure-quadratic": lambda: Study(
        name="figure-quadratic",
        claim=figure_quadratic.__doc__ or "",
        trials=figure_quadratic,
        smoke=quadratic_smoke,
        duration="about 4 minutes on 2 cores",
        primary_metrics=(
            "mean, R = 50",
            "quadratic, R = 50",
            "mean less V/B, R = 50",
            "mean, R = 1",
            "quadratic, R = 1",
        ),
        profiles=("cpu",),
        part=_part,
        published=read_offs(),
        kind=THEORY,
    ),
    "figure-theory": lambda: Study(
        name="figure-theory",
        claim=figure_theory.__doc__ or "",
        trials=figure_theory,
        smoke=theory_smoke,
        duration="about 2 minutes on 2 cores",
        primary_metrics=(
            "variance, B = 8, R = 1",
            "mean of estimates, B = 8",
            "pairs, R = 3",
            "worlds needed, draft of 2020",
            "outcomes told apart",
        ),
        profiles=("cpu",),
        part=_part,
        published=theorems(),
        kind=THEORY,
    ),
    "table-claims": lambda: Study(
        name="table-claims",
        claim=table_claims.__doc__ or "",
        trials=table_claims,
        smoke=claims_smoke,
        duration="about 2 minutes on 2 cores",
        primary_metrics=("parameters", "bytes"),
        profiles=("cpu",),
        part=_part,
        published=size_claims(),
        kind=THEORY,
    ),
}
