from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import synthetic_records as made

from bench.report import load as report_results
from bench.report import style
from bench.report.plots import rows, training
from bench.studies.study import Study

Install = Callable[[Study], None]


@pytest.fixture(autouse=True)
def install_study(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Replaces the study registry by one study."""

    def install(study: Study = made.STUDY) -> None:
        monkeypatch.setattr(report_results, "find_study", lambda name: study)

    install()
    return install


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What figures show does not depend on how finely they are drawn."""
    monkeypatch.setitem(style.RC, "figure.dpi", 80)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results folder with the records of two data sets, drawn as one kind of figure."""
    monkeypatch.setattr(training, "FIGURES", {"memory-parts": rows.memory_parts})
    folder = tmp_path / "results"
    grid = made.full_grid(replicates=2)
    trials = [of for of in grid if of.model.method != "mach"]
    trials += [
        made.trial("mach", data="all", num_buckets=buckets, num_worlds=8) for buckets in (256, 1024)
    ]
    lost = made.record(made.trial("full_softmax", data="all", chunk_size=None), status="oom")
    made.write(folder, [*map(made.record, trials), lost], made.costs_of(trials))
    return folder
