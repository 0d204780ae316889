"""The studies: tables and figures as named grids of trials; the only home of outside numbers.

A new study is one function and one line in the `STUDIES` of the file of its question: `rivals`,
`decode`, `papers`, `theory` or `bench.studies.scale`. Nothing here imports torch or models:
listing, planning and reporting must not need them.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.studies import decode, papers, rivals, theory
from bench.studies.grids import grid, linear, mlp, shrink, study
from bench.studies.scale import STUDIES as SCALE_STUDIES
from bench.studies.study import Study

__all__ = ["STUDIES", "grid", "linear", "mlp", "shrink", "study"]

STUDIES: dict[str, Callable[[], Study]] = {
    **rivals.STUDIES,
    **decode.STUDIES,
    **theory.STUDIES,
    **papers.STUDIES,
    **SCALE_STUDIES,
}
