"""The suite's own studies by name; read by `bench.studies.study` when one is asked for."""

from __future__ import annotations

from collections.abc import Callable

from bench.studies import decode, papers, rivals, scale, theory
from bench.studies.study import Study

STUDIES: dict[str, Callable[[], Study]] = {
    **rivals.STUDIES,
    **decode.STUDIES,
    **theory.STUDIES,
    **papers.STUDIES,
    **scale.STUDIES,
}
