from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import synthetic_records

from bench.report import figures, render
from bench.report.plots import memory_parts
from bench.report.select import StudyView

Install = Callable[..., None]


@pytest.fixture
def install_view(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Replaces the study registry by one view, and the code's digest by a choice of records."""

    def install(
        view: StudyView | None = None,
        is_stale: Callable[[Mapping[str, Any]], bool] = lambda record: False,
    ) -> None:
        chosen = view or StudyView(name="imaginary")
        monkeypatch.setattr(render, "find_view", lambda name: chosen)
        monkeypatch.setattr(render, "staleness", lambda: is_stale)

    install()
    return install


@pytest.fixture
def results(tmp_path: Path, install_view: Install, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results folder with the records of two parts of a study, drawn as one kind of figure."""
    monkeypatch.setattr(figures, "FIGURES", {"memory-parts": memory_parts.collect})
    folder = tmp_path / "results"
    grid = synthetic_records.full_grid(replicates=2)
    records = [synthetic_records.record(t) for t in grid if t.model.method != "mach"]
    plain = synthetic_records.trial("full_softmax", data="all", chunk_size=None)
    records.append(synthetic_records.record(plain, status="oom"))
    for buckets in (256, 1024):
        mach = synthetic_records.trial("mach", data="all", num_buckets=buckets, num_worlds=8)
        records.append(synthetic_records.record(mach))
    synthetic_records.write(folder, records)
    return folder
