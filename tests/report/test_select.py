from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import synthetic_records as made
from synthetic_records import MACHINE, changed, full_grid, record, sections, trial

from bench.report.load import asked_for, find_study, trials_of
from bench.report.summary import clean, dig, summarize
from bench.report.tables.tables import notes_of
from bench.settings import TrainSpec, Trial
from bench.store.budgets import Budget, budgets_path, write_budgets
from bench.studies.study import Study


def test_replicates_of_a_configuration_share_a_row() -> None:
    (section,) = sections([record(t) for t in full_grid(replicates=3)])
    assert {len(row.records) for row in section.trained} == {3}
    assert {len(row.records) for row in section.trivial} == {1}


def test_summary_over_a_gap_does_not_exist() -> None:
    assert summarize([1.0, None, 3.0]) is summarize([]) is None


def test_a_row_that_kept_its_best_weights_is_chosen_by_them() -> None:
    ended = record(trial("full_softmax", chunk_size=None))
    first = ended["training"]["curve"][0]
    best = {**first, "metrics": {**first["metrics"], "P@1": 0.93}}
    curve = [best, *ended["training"]["curve"][1:]]
    bent = changed(ended, curve, "training", "curve")
    kept = changed(bent, first["step"], "training", "kept_step")
    values = []
    for entry in (bent, kept):
        (section,) = sections([entry])
        summary = section.trained[0].validation("P@1")
        assert summary is not None
        values.append(summary.median)
    assert values == [curve[-1]["metrics"]["P@1"], 0.93]


def test_row_with_a_failed_replicate_summarizes_the_others() -> None:
    good = trial("mach", num_buckets=64, num_worlds=2)
    bad = trial("mach", num_buckets=64, num_worlds=2, replicate=1)
    (section,) = sections([record(good, accuracy=0.3), record(bad, status="timeout")])
    summary = section.trained[0].at("test", "P@1")
    assert summary is not None
    assert (summary.low, summary.median, summary.high) == (0.3, 0.3, 0.3)


PLAIN = record(trial("full_softmax", chunk_size=None))
SECOND = record(trial("full_softmax", chunk_size=None, replicate=1))


def _moved(**machine: Any) -> dict[str, Any]:
    return changed(SECOND, {**MACHINE, **machine}, "provenance", "machine")


@pytest.mark.parametrize(
    ("others", "sizes"),
    [
        ([_moved(num_cores=64)], [1, 1]),
        # Pages that a system keeps for itself make no other machine.
        ([_moved(memory_bytes=MACHINE["memory_bytes"] - 8192)], [2]),
        # Another corpus, and one that a trial which failed has not read.
        (
            [
                changed(SECOND, "beef", "data", "fingerprint"),
                changed(record(trial("full_softmax", chunk_size=64), status="error"), None, "data"),
            ],
            [1, 2],
        ),
    ],
)
def test_records_of_two_machines_or_corpora_never_share_a_section(
    others: list[dict[str, Any]], sizes: list[int]
) -> None:
    found = sections([PLAIN, *others])
    assert sorted(len(section.records) for section in found) == sizes


def test_data_sets_are_sections_by_number_of_labels() -> None:
    trials = [trial("full_softmax", data=name, chunk_size=None) for name in ("all", "small")]
    found = sections([record(t) for t in trials])
    assert [section.data_name for section in found] == ["small", "all"]
    assert not any(section.is_only for section in found)


def test_record_of_a_trial_that_the_study_dropped_is_left_out() -> None:
    kept, dropped = trial("frequency"), trial("centroid")
    study = made.study(trials=lambda profile: [kept], profiles=("cpu",))
    found, _ = asked_for([record(kept), record(dropped)], study, trials_of(study))
    assert [each["trial_id"] for each in found] == [kept.trial_id]


@pytest.mark.parametrize("order", [1, -1])
def test_rows_are_sorted_by_method_and_numbers_as_numbers(order: int) -> None:
    trials = [trial("mach", num_buckets=b, num_worlds=4) for b in (1024, 256, 4096)]
    trials += [trial("frequency"), trial("full_softmax", chunk_size=None)]
    (section,) = sections([record(t) for t in trials[::order]])
    names = [row.card.name for row in section.rows]
    assert names == ["full_softmax", "mach", "mach", "mach", "frequency"]
    assert [row.flat["num_buckets"] for row in section.rows[1:4]] == [256, 1024, 4096]


def test_setting_names_what_always_matters_and_what_tells_rows_apart() -> None:
    trials = [
        trial("mach", num_buckets=256, num_worlds=4, hash_family="universal"),
        trial("mach", num_buckets=256, num_worlds=4, share_encoder=True, learning_rate=0.1),
        trial("mach", num_buckets=256, num_worlds=4, encoder="linear"),
        trial("sampled_softmax", sampler="in_batch", num_samples=7),
        trial("full_softmax", chunk_size=None),
        trial("frequency", encoder="linear"),
    ]
    (section,) = sections([record(t) for t in trials])
    assert {row.name for row in section.rows} == {
        "Full softmax, H=128, plain, lr=0.001",
        "Sampled softmax, H=128, in-batch, lr=0.001",
        "MACH, H=128, B=256, R=4, independent encoders, hash=universal, lr=0.001",
        "MACH, H=128, B=256, R=4, shared encoder, lr=0.1",
        "MACH, linear, B=256, R=4, lr=0.001",
        "Class frequency",
    }


def test_length_is_told_only_where_nothing_else_tells_rows_apart() -> None:
    trials = [trial("full_softmax", num_steps=n) for n in (10, 20)]
    trials.append(trial("sampled_softmax", sampler="uniform", num_steps=30))
    (section,) = sections([record(t) for t in trials])
    told = ["H=128, plain, steps=10", "H=128, plain, steps=20", "H=128, uniform, S=1024"]
    assert [row.setting for row in section.rows] == told


def _timed(rows: Sequence[dict], *trials: Trial) -> list[tuple[float | None, float | None]]:
    """Seconds of a step and of a query of the trials' rows, in the order of their rates."""
    (section,) = sections([record(of) for of in trials], [made.cost_line(rows)])
    found = sorted(section.rows, key=lambda row: dig(row.settings, "train", "learning_rate"))
    summaries = [(row.seconds("train"), row.seconds("latency")) for row in found]
    return [
        (train and round(train.median, 3), latency and round(latency.median, 3))
        for train, latency in summaries
    ]


def _cost(of: Trial, train: float, latency: float, **more: Any) -> dict[str, Any]:
    return made.cost_row(of, {"train": (train, 10), "latency": (latency, 1)}, (1.0,), **more)


SLOW, FAST = (trial("full_softmax", learning_rate=lr, num_steps=9) for lr in (0.1, 0.2))


def test_inference_is_shown_at_the_row_whose_weights_it_was_timed_on() -> None:
    of_slow = _cost(SLOW, 0.5, 0.01, weights_of=SLOW.trial_id)
    of_fast = _cost(FAST, 0.6, 0.02, weights_of=FAST.trial_id)
    assert _timed([of_slow, of_fast], SLOW, FAST) == [(0.5, 0.01), (0.6, 0.02)]
    assert _timed([of_fast], SLOW, FAST) == [(0.6, None), (0.6, 0.02)]


def test_inference_that_may_be_of_another_rows_weights_is_not_shown() -> None:
    unnamed = _cost(SLOW, 0.5, 0.01)
    assert _timed([unnamed], SLOW, FAST) == [(0.5, None), (0.5, None)]
    assert _timed([unnamed], FAST) == [(0.5, 0.01)]
    # A trivial baseline learns inside its repetition.
    assert _timed([unnamed | {"weights": None}], SLOW, FAST) == [(0.5, 0.01)] * 2
    (section,) = sections([record(SLOW), record(FAST)], [made.cost_line([unnamed])])
    notes = " ".join(notes_of(section))
    assert "Inference of 2 rows was not timed on weights of their own" in notes


def test_replicates_share_the_row_of_the_first_ones_weights() -> None:
    second = dataclasses.replace(SLOW, replicate=1)
    rows = [_cost(SLOW, 0.5, 0.01, weights_of=SLOW.trial_id)]
    assert _timed(rows, SLOW, second) == _timed(rows, second) == [(0.5, 0.01)]


def test_an_unfinished_trial_has_left_no_weights_to_be_taken_for_anothers() -> None:
    lost = record(FAST, status="oom")
    (section,) = sections([record(SLOW), lost], [made.cost_line([_cost(SLOW, 0.5, 0.01)])])
    assert all(row.seconds("latency") for row in section.rows)


def test_costs_of_another_part_or_of_other_data_are_not_joined() -> None:
    of = trial("full_softmax")
    row = made.cost_row(of, made.phases_of(of))
    here = made.study(part=lambda trial: "here")
    elsewhere = made.cost_line([row], part="elsewhere")
    other = made.cost_line([{**row, "fingerprint": "beef"}], part="here")
    for line in (elsewhere, other):
        (section,) = sections([record(of)], [line], here)
        assert section.rows[0].timing is None
    # Without its file at hand, a study's parts have no names.
    (section,) = sections([record(of)], [elsewhere])
    assert section.rows[0].timing is not None


def test_newest_session_counts() -> None:
    of = trial("full_softmax")
    lines = [
        made.cost_line([made.cost_row(of, {"train": (seconds, 10)})], started_at=day)
        for seconds, day in ((0.5, "2030-01-06"), (0.25, "2030-01-05"))
    ]
    (section,) = sections([record(of)], lines)
    found = section.rows[0].seconds("train")
    assert found is not None
    assert found.high == pytest.approx(0.51)


def test_control_characters_never_reach_a_reader() -> None:
    raw = changed(record(trial("full_softmax")), "evil\r\x1b[2Jname", "settings", "data", "name")
    study = made.study(part=lambda trial: "a\tb")
    (section,) = sections([raw], of=study)
    assert section.data_name == "evil  [2Jname"
    assert section.part == "a b"
    assert clean({"a\n": ["\u202e", 1]}) == {"a ": [" ", 1]}


def _study(seconds: float) -> Study:
    of = trial("full_softmax")
    timed = dataclasses.replace(of, train=TrainSpec(budget_seconds=seconds))
    part = lambda each: f"at {each.train.num_steps} steps"  # noqa: E731
    return made.study("mine", trials=lambda profile: [timed], profiles=("cpu",), part=part)


def test_own_budgets_go_before_the_references(tmp_path: Path) -> None:
    (asked,) = _study(9.0).build_trials("cpu")
    for folder, steps in (("reference", 10), ("own", 20)):
        lengths = {"budget_seconds": 9.0, "num_steps": steps, "seconds_per_step": 0.1}
        budget = Budget(cost_id=asked.cost_id, measured={}, **lengths)
        write_budgets(budgets_path(tmp_path / folder, "mine"), "mine", [budget])
    (tmp_path / "mine.py").write_text(
        "from test_select import _study\n\ndef study():\n    return _study(9.0)\n"
    )
    folders = [tmp_path / "reference", tmp_path / "own"]
    study = find_study(str(tmp_path / "mine.py"))
    for chosen, steps in ((folders, 20), (folders[:1], 10), (folders[::-1], 10)):
        assert trials_of(study, *chosen) == [[_steps(asked, steps)], []]
    assert trials_of(_study(8.0), *folders) == [[], []]
    (section,) = sections([record(_steps(asked, 20))], of=study)
    assert section.part == "at 20 steps"


def _steps(asked: Trial, num_steps: int) -> Trial:
    return dataclasses.replace(asked, train=asked.train.with_steps(num_steps))
