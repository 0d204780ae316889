"""The log and the plan call a row what its table calls it, and show what distinguishes rows."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.cli.progress import Progress, longest_fitting
from bench.methods.labels import Named, RowNames, describe_rows
from bench.report.load import load_results
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial
from bench.store.record import parse

RESULTS = Path(__file__).parent.parent / "results"


def trial(method: str, encoder: str = "mlp", train: Any = None, **options: Any) -> Trial:
    return Trial(
        data=DataSpec(source="planted", name="tags"),
        model=ModelSpec(method=method, encoder=encoder, hidden_dims=(256,), options=options),  # type: ignore[arg-type]
        train=TrainSpec(**{"learning_rate": 0.01, **(train or {})}),
    )


def names_of(trials: list[Trial], task: str | None = None) -> RowNames:
    names = RowNames(trials)
    if task:
        names.tasks["tags"] = task
    return names


@pytest.mark.parametrize(
    ("asked", "task", "words"),
    [
        (trial("full_softmax"), "multilabel", "One-vs-all, H=256, plain on tags"),
        (trial("full_softmax", loss="softmax"), "multilabel", "Full softmax, H=256, plain on tags"),
        (trial("full_softmax"), "multiclass", "Full softmax, H=256, plain on tags"),
        (trial("full_softmax"), None, "Full softmax, H=256, plain on tags"),
        (trial("full_softmax", "linear"), None, "Full softmax, linear, plain on tags"),
    ],
)
def test_a_row_has_the_name_of_its_table_its_encoder_and_its_width(
    asked: Trial, task: str | None, words: str
) -> None:
    assert names_of([asked], task).full(asked) == words


@pytest.mark.parametrize("study", ["delicious", "citeulike", "quickstart", "bible", "simplewiki"])
def test_rows_of_committed_studies_are_called_as_in_their_tables(study: str) -> None:
    (results,) = load_results(RESULTS, [study])
    for section in results.sections:
        trials = [
            Trial.from_dict({**record["settings"], "replicate": 0})
            for row in section.rows
            for record in row.records[:1]
        ]
        names = RowNames(trials, "training")
        names.tasks[section.data_name] = section.task
        shown = [names.full(of) for of in trials]
        assert shown == [f"{row.name} on {section.data_name}" for row in section.rows]
        assert len(set(shown)) == len(shown)
        short = [names.apart(of) for of in trials]
        assert len(set(short)) == len(short)


_WAYS = {
    "learning_rate": (0.01, 0.02),
    "adam_epsilon": (1e-8, 1e-5),
    "optimizer": ("adam", "row_adam"),
    "weight_decay": (0.0, 0.01),
    "batch_size": (256, 512),
    "schedule": ("constant", "linear_decay"),
    "precision": ("32-true", "bf16-mixed"),
    "keep_best": (False, True),
    "order": ("points", "file"),
    "drop_last": (False, True),
    "num_steps": (100, 200),
    "num_epochs": (1.0, 2.0),
    "num_validations": (8, 4),
}


@pytest.mark.parametrize("setting", _WAYS)
def test_rows_that_differ_in_their_training_never_look_alike(setting: str) -> None:
    trials = [trial("full_softmax", train={setting: value}) for value in _WAYS[setting]]
    names = RowNames(trials)
    assert len({names.full(of) for of in trials}) == 2
    assert len({names.apart(of) for of in trials}) == 2


def test_rows_that_differ_in_their_data_never_look_alike() -> None:
    first = trial("full_softmax")
    other = dataclasses.replace(
        first, data=dataclasses.replace(first.data, feature_weighting="tfidf")
    )
    rows = [Named.of(of.to_dict(), "training", "multiclass") for of in (first, other)]
    texts = [f"H=256, plain, feature weighting={each}" for each in ("raw", "tfidf")]
    assert describe_rows(rows) == texts


def test_a_training_setting_is_told_though_methods_and_not_rows_of_one_differ_in_it() -> None:
    rows = [
        Named.of(of.to_dict(), "training", "multiclass")
        for of in (trial("full_softmax", train={"keep_best": True}), trial("centroid", "linear"))
    ]
    other = Named.of(trial("sampled_softmax").to_dict(), "training", "multiclass")
    assert "best checkpoint" in describe_rows([*rows, other])[0]


def test_what_is_not_trained_by_steps_has_no_settings_of_training_and_sets_none_apart() -> None:
    of_all = [
        trial("full_softmax", train={"batch_size": 512, "learning_rate": 0.02}),
        trial("neighbours", "linear", num_neighbours=50),
    ]
    rows = [Named.of(of.to_dict(), "training", "multiclass") for of in of_all]
    assert describe_rows(rows) == ["H=256, plain", "k=50"]


def test_another_epsilon_of_adam_is_told_where_all_rows_have_it() -> None:
    trials = [trial(m, train={"adam_epsilon": 1e-5}) for m in ("full_softmax", "sampled_softmax")]
    assert RowNames(trials).full(trials[0]) == "Full softmax, H=256, plain, ε=1e-05 on tags"
    plain = [trial("full_softmax"), trial("sampled_softmax")]
    assert "ε" not in RowNames(plain).full(plain[0])


def test_a_budget_in_seconds_and_its_steps_are_one_row() -> None:
    asked = [
        trial("full_softmax", train={"budget_seconds": 40.0, "learning_rate": r}) for r in (1, 2)
    ]
    run = dataclasses.replace(asked[0], train=asked[0].train.with_steps(572))
    assert RowNames(asked).full(run) == "Full softmax, H=256, plain, lr=1 on tags"


def test_names_move_no_cursor() -> None:
    screen = io.StringIO()
    asked = trial("full_softmax", note="a\x1b[2Jb\nc")
    progress = Progress(screen, is_live=False)
    other = trial("full_softmax", note="b")
    progress.open("s", {asked.trial_id: None}, num_kept=0, names=RowNames([asked, other]))
    progress.on_event(SimpleNamespace(trial=asked), {"event": "start"})  # type: ignore[arg-type]
    assert "note=a [2Jb c" in screen.getvalue()
    assert "\x1b" not in screen.getvalue()


def test_a_record_is_told_by_the_task_of_its_data() -> None:
    path = min((RESULTS / "records" / "delicious").glob("*.jsonl"))
    records = [parse(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    shown = []
    for record in records:
        model = record.settings["model"]
        if model["method"] == "full_softmax" and "loss" not in model["options"]:
            screen = io.StringIO()
            Progress(screen, is_live=False).finish(record)
            shown.append(screen.getvalue())
    assert shown
    assert all("DONE One-vs-all, " in text for text in shown)


def _narrow_rows() -> list[Trial]:
    return [
        trial(
            "mach",
            train={"learning_rate": rate, "adam_epsilon": 1e-5, "optimizer": "adam"},
            num_buckets=1024,
            num_worlds=16,
            share_encoder=False,
        )
        for rate in (0.00123, 0.00456)
    ]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_narrow_terminal_keeps_what_tells_rows_apart(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((columns, 24)))
    screen, trials = io.StringIO(), _narrow_rows()
    progress = Progress(screen, is_live=True, now=iter(range(99)).__next__)
    expected = {of.trial_id: 60.0 for of in trials}
    progress.open("narrow", expected, num_kept=0, names=RowNames(trials))
    job: Any = SimpleNamespace(trial=trials[0])
    progress.on_event(job, {"event": "start"})
    step = {"event": "step", "fraction": 0.5, "quality": 0.25, "quality_name": "P@1"}
    step |= {"epoch": 1.5, "loss": 0.75, "seconds_left": 30.0}
    progress.on_event(job, step)
    line = screen.getvalue().rpartition("\x1b[2K")[2]
    assert len(line) < columns
    assert "lr=0.00123" in line
    assert "50%" in line
    if columns == 120:
        assert "val P@1 0.2500" in line
    assert "every row: H=256, batch=256, Adam, decaying rate, 32-true, ε=1e-05" in screen.getvalue()


def test_heads_are_shortened_before_tails() -> None:
    heads, tails = ["a long head", "head"], ["a long tail", "tail"]
    forms = [longest_fitting(heads, tails, width) for width in (25, 24, 18, 17, 11, 9)]
    assert forms == [
        "a long head · a long tail",
        "head · a long tail",
        "head · a long tail",
        "head · tail",
        "head · tail",
        "head · t…",
    ]


def test_the_split_of_a_quality_is_named() -> None:
    screen, of = io.StringIO(), trial("full_softmax")
    progress = Progress(screen, is_live=True, now=iter(range(99)).__next__)
    progress.open("s", {of.trial_id: None}, num_kept=0, names=RowNames([of]))
    job: Any = SimpleNamespace(trial=of)
    progress.on_event(job, {"event": "start"})
    step = {"event": "step", "fraction": 0.5, "quality": 0.25, "quality_name": "P@1"}
    progress.on_event(job, step)
    assert "val P@1 0.2500" in screen.getvalue()
    path = min((RESULTS / "records" / "delicious").glob("*.jsonl"))
    record = parse(json.loads(path.read_text(encoding="utf-8").splitlines()[-1]))
    progress.finish(record)
    validation = record.block("training")["curve"][-1]["metrics"]["P@1"]
    test = record.block("test")["P@1"]
    assert f", val P@1 {validation:.4f}, test P@1 {test:.4f}\n" in screen.getvalue()
