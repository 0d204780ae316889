"""The papers' tables and figures as studies: every published number beside ours.

A study names the published numbers (`bench.studies.published.PaperRow`, `Curve`), each bound to
rows of ours by their settings, and is shown by `bench.report.tables.papers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.studies.papers import multiclass, multilabel, search, worlds
from bench.studies.study import Study

STUDIES: Mapping[str, Callable[[], Study]] = {
    **multilabel.STUDIES,
    **multiclass.STUDIES,
    **search.STUDIES,
    **worlds.STUDIES,
}
