"""The table and the figure of studies at the papers' largest sizes, from made-up records."""

from __future__ import annotations

import dataclasses
from typing import Any

import synthetic_records as made

from bench.methods.card import SCALE
from bench.report.plots import scale as figures
from bench.report.plots.lines import LinePlot
from bench.report.render import render_latex, render_markdown, render_text
from bench.report.sections import Section
from bench.report.style import draw_files
from bench.report.tables.scale import build_scale_table, compared, rows_of
from bench.settings import Trial
from bench.studies.published import Published
from bench.studies.study import load_study
from bench.studies.twins import TWINS

STUDY = made.study(
    primary_metrics=("R@1", "R@10", "R@100"),
    kind=SCALE,
    published=(
        Published(label="theirs", metrics={"hours": 31.8, "R@100": 0.6419}, source="slides [A]"),
    ),
)
SECONDS = {"train": (0.05, 10), "world": (1e-4, 256), "decode": (0.01, 64)}
SECONDS["decode-alone"] = (0.2, 1)
ROUNDS = (1.0, 1.0, 1.0)


def _record(of: Trial, *, status: str = "done", memory: dict[str, Any], **more: Any) -> Any:
    data = {
        "fingerprint": "f" * 16,
        "task": "multiclass",
        "num_labels": 49_460_000,
        "num_train_points": 2_000_000,
        "num_test_points": 2000,
        **({"num_labels_seen": 500_000} if status == "done" else {}),
    }
    return made.bare(of, status=status, data=data, memory=memory, **more)


def _amazon() -> dict[str, Trial]:
    found = {}
    for trial in load_study("amazon").build_trials("cpu"):
        kind = "sample" if "trained_worlds" in trial.model.options else None
        kind = kind or str(trial.model.options.get("decode") or trial.model.hidden_dims[0])
        found[kind] = trial
    return found


def _worlds(num_worlds: int) -> list[dict[str, Any]]:
    return [
        {
            "num_worlds": r,
            "worlds": list(range(r)),
            "num_points": 1380,
            "metrics": {"R@1": 0.05 * r, "R@10": 0.06 * r, "R@100": 0.08 * r}
            | {"seen in training": 0.69},
        }
        for r in range(1, num_worlds + 1)
    ]


def _sections() -> tuple[Section, ...]:
    trials = _amazon()
    memory = {
        "predicted_bytes": 4.0e9,
        "all_at_once_bytes": 0.7e9,
        "parameter_bytes": 184e6,
        "world_bytes": 23e6,
        "decode_bytes": 0.79e9,
        "host_train_peak_bytes": 2.5e9,
        "host_decode_peak_bytes": 3.5e9,
    }
    done = {
        "memory": memory,
        "test": _worlds(8)[-1]["metrics"],
        "worlds": _worlds(8),
        "clock": {"world_seconds": [120.0 + r for r in range(8)]},
    }
    sample = {"memory": memory | {"predicted_bytes": 3.9e9, "all_at_once_bytes": 80e9}}
    sample["clock"] = {"world_seconds": [9.0]}
    records = [
        _record(trials["dense"], **done),
        _record(trials["auto"], **done),
        _record(trials["sample"], **sample),
        _record(trials["64"], status="oom", memory={"predicted_bytes": 51e9}),
        _record(trials["2000"], status="oom", memory={"predicted_bytes": 1.58e12}),
    ]
    costs = [
        made.cost_line(
            [made.cost_row(trials[kind], SECONDS, ROUNDS) for kind in ("dense", "sample")]
        )
    ]
    return made.sections(records, costs, STUDY)


def _line(section: Section, words: str, without: str = "nothing") -> dict[str, str]:
    lines = made.texts(build_scale_table(section))
    (line,) = (one for one in lines if words in one["setting"] and without not in one["setting"])
    return line


def test_needs_times_and_recall_stand_in_a_row() -> None:
    (section,) = _sections()
    dense = _line(section, "scan of the table", without="alone")
    assert dense["needs GB"] == "4.00"
    assert dense["step ms"].startswith("50.0")
    assert dense["s a world and epoch"].startswith("200")  # 4,000 steps of 50 ms
    assert dense["h in all"].startswith("0.444")  # 8 worlds
    assert dense["trained s"] == "124"  # as it went: the mean of 120 … 127
    assert dense["query ms"].startswith("10.8")  # 8 × 0.1 + 10
    assert dense["R@100 %"] == "64.0"
    auto = _line(section, "index")
    assert (auto["step ms"], auto["R@100 %"]) == ("–", "64.0")
    # A sample has the hours of the complete training, and no seconds of its own.
    sample = _line(section, "costs of 1 alone")
    assert sample["h in all"].startswith("1.78")  # 4,000 steps × 32 worlds × 50 ms
    assert sample["trained s"] == "–"
    assert sample["at once GB"] == "80.0"
    assert sample["R@1 %"] == "–"


def test_what_does_not_fit_says_by_how_much_and_what_was_published_is_no_measurement() -> None:
    (section,) = _sections()
    lines = made.texts(build_scale_table(section))
    full = [
        (line["setting"], line["needs GB"]) for line in lines if line["method"] == "Full softmax"
    ]
    assert full == [("H=64", "OOM: 51.0"), ("H=2000", "OOM: 1,580")]
    (theirs,) = (line for line in lines if line["method"] == "elsewhere: theirs")
    assert (theirs["h in all"], theirs["R@100 %"], theirs["needs GB"]) == ("31.8", "64.2", "–")


def test_notes_name_what_was_learnt_and_the_complete_length() -> None:
    (section,) = _sections()
    notes = " ".join(build_scale_table(section).notes)
    assert "500,000 labels have training points, 1.0 % of all" in notes
    assert "69.0 % of 2,000 test queries" in notes
    assert "1 × 4,000 steps" in notes
    assert "flat random scores" in notes


def test_the_figure_is_recall_over_worlds_and_draws() -> None:
    sections = _sections()
    ((name, plot),) = figures.plots(sections)
    assert name == "recall-worlds"
    assert isinstance(plot, LinePlot)
    (panel,) = plot.panels
    assert [series.text for series in panel.series] == ["R@1", "R@10", "R@100"]
    assert panel.series[0].x == tuple(map(float, range(1, 9)))
    assert panel.series[2].y[-1] == 64.0
    assert draw_files(plot)


def test_a_twins_table_has_no_accuracy_and_the_papers_length() -> None:
    twin = TWINS["Amazon-670K, twin"]
    mach, full = twin.mach(), twin.full()
    memory = {"predicted_bytes": 1.2e9, "parameter_bytes": 9.4e9, "world_bytes": 0.29e9}
    records = [
        _record(mach, memory=memory, clock={"world_seconds": [8.0]}),
        _record(full, memory=memory, test={"P@1": 0.4}),
    ]
    costs = [made.cost_line([made.cost_row(mach, SECONDS, ROUNDS)])]
    study = dataclasses.replace(STUDY, primary_metrics=("R@1",), published=())
    (section,) = made.sections(records, costs, study)
    table = build_scale_table(section)
    assert not any("R@" in column or "P@" in column for column in table.columns)
    notes = " ".join(table.notes)
    assert "40 × 490 steps of NeurIPS 2019" in notes
    assert "of 490,449 points, 76 features a point" in notes
    own = next(line for line in made.texts(table) if "MACH" in line["method"])
    assert own["s a world and epoch"].startswith("24.5")
    assert own["h in all"].startswith("8.71")  # 40 epochs × 32 worlds


def test_tables_render_in_every_syntax_and_compare() -> None:
    (section,) = _sections()
    for compact in (False, True):
        table = build_scale_table(section, is_compact=compact)
        for text in (render_markdown(table), render_latex(table, "x"), render_text(table, 200)):
            assert "1,580" in text
    assert [column.name for column in compared(section)][:2] == ["needs", "training_peak"]
    assert len(rows_of(section)) == len(section.rows)
