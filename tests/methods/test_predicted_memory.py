"""Predicted peaks against those of the committed records.

What is compared is the peak of the training phase above what the process held before the model was
built, of each row the median of its records: peaks of equal trials differ by up to a fifth (those
of a full softmax at the quickstart by 273 to 324 MB), for what the heap keeps is its own affair.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.experiments.scale.batches import read_stream
from bench.methods.arithmetic import DataSizes, Memory, Parts, parts_of, predict_memory, problem_of
from bench.methods.card import TRAINING_ENTRY
from bench.methods.cards import cards
from bench.settings import Trial

RESULTS = Path(__file__).parents[2] / "results"
MOST = 0.1
#: Of peaks of which a tenth is less: arrays of 2 MB and more begin at multiples of 2 MB, and a
#: training has a dozen of them.
FLOOR_BYTES = 12_000_000

# What the code of then did otherwise, by the hour at which it was mended.
_FINITE = "2026-11-26T10:54:38Z"  # daca6a5
_SPARSE_ADAM = "2026-11-30T19:35:50Z"  # 25cf4a5
_ONE_ARRAY = "2026-11-30T20:24:52Z"  # 306b9aa
_SETTLED = "2026-12-01T00:15:56Z"  # fd9af58

_VALIDATED = "until daca6a5 each validation made copies of weights, and the heap kept more of them"
_DENSE = "until 25cf4a5 Adam had dense gradients of sparse layers, and here two of each"
_DREW = "the process drew its data, and what that left in its heap (80, 250 MB) took the model in"
_COMPILED = "a process compiled its kernels, which takes LLVM 100 to 160 MB"
_REPEATS = (
    "of 8,192 log-uniform draws many are the same label; arithmetic tells the most they can be"
)
_FREED = "encoders of its own: the heap kept 15 to 50 MB of what was freed, of wide ones up to 250"
#: Rows that are further off, by study and `cost_id`, and why.
UNTOLD = {
    ("bible", "267463557bed9798"): _VALIDATED,
    ("bible", "6166eb4117c829e2"): _VALIDATED,
    ("bible", "53787cdbeeba1cd5"): _VALIDATED,
    ("bible", "2da8fb8a477a85e2"): _VALIDATED,
    ("bible", "5381b1ea66a3d3dd"): _VALIDATED,
    ("citeulike", "36ae5c7b9d9b4e00"): _VALIDATED,
    ("citeulike", "a9da13840edb7ec0"): _VALIDATED,
    ("citeulike", "b677e74548ad62c0"): _VALIDATED,
    ("simplewiki", "3fd7c9423ec54b18"): _VALIDATED,
    ("simplewiki", "5289487d08c606f5"): _VALIDATED,
    ("simplewiki", "bb35c04827a52e51"): _COMPILED,
    ("quickstart tuning", "9be63436a8fa3c2a"): _COMPILED,
    ("quickstart tuning", "23db375e38c2fbe6"): _COMPILED,
    ("quickstart tuning", "240369c924083943"): _REPEATS,
    ("delicious", "cc833214104ec4d9"): _FREED,
    ("bibtex tuning", "f426c8a366ba3f5a"): _FREED,
    ("delicious tuning", "d91608a9ff2ee95e"): _FREED,
    ("delicious tuning", "28527fdae4ffaf05"): _FREED,
    ("delicious tuning", "7b9737e12973e6d6"): _FREED,
    ("delicious tuning", "168c52f54e5b88a0"): _FREED,
    ("delicious tuning", "8f5708924641ca50"): _FREED,
    ("table-twins", "28b1002bb85990a6"): _DENSE,
    ("table-twins", "c63d874f0bdee374"): _DENSE,
    ("table-twins", "9b37c685993a6632"): _DREW,
    ("table-twins", "df13ea574f15995d"): _DREW,
}


def trained() -> Iterator[tuple[str, Trial, dict[str, Any]]]:
    """Study, trial and record of everything of ours that was trained by steps, each once."""
    ours = {card.name for card in cards() if card.entry == TRAINING_ENTRY} | {"mach_in_turn"}
    seen = set()
    for path in sorted(RESULTS.glob("**/records/**/*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            key = (record["trial_id"], record["started_at"])
            is_ours = record["settings"]["model"].get("method") in ours and key not in seen
            seen.add(key)
            if not is_ours or not (record["memory"] or {}).get("host_train_peak_bytes"):
                continue
            if record["training"]["num_steps"]:
                study = path.parent.name + (" tuning" if "tuning" in path.parts else "")
                yield study, Trial.from_dict(record["settings"]), record


def sizes_of(trial: Trial, data: dict[str, Any]) -> DataSizes:
    """Of a record's data; a stream's said nothing of its entries."""
    if trial.data.source != "query_stream":
        return DataSizes.of_facts(data)
    entries = {"features_per_point": float(read_stream(trial.data).tokens_per_query)}
    sizes = DataSizes.of_facts(data | entries | {"labels_per_point": 1.0})
    return dataclasses.replace(sizes, is_streamed=True)


def as_then(memory: Memory, parts: Parts, trial: Trial, started_at: str) -> Memory:
    """What it would have been with the code of then."""
    step, evaluation, process = memory.activations, memory.evaluation, memory.process
    if started_at < _FINITE:  # |w|, w = w and |w| ≠ ∞, and both
        evaluation = max(evaluation, 7 * max(each.num_bytes for each in parts.weights) // 4)
    if started_at < _SPARSE_ADAM and trial.train.optimizer != "row_adam":
        # A dense gradient of the first layer, when the arrays of the loss are gone.
        step = max(step, parts.weights[0].num_bytes)
    if started_at < _ONE_ARRAY and trial.model.method in ("sampled_softmax", "two_tower"):
        # Autograd's copies: of the corrected logits and of two gradients.
        (rows,) = {each.rows for each in parts.weights[1:] if each.rows is not None}
        step += 4 * 2 * trial.train.batch_size * rows
    if started_at < _SETTLED and process:  # threads and libraries came after the model was built
        process += 41_500_000
    return dataclasses.replace(memory, activations=step, evaluation=evaluation, process=process)


def rows() -> dict[tuple[str, str], tuple[list[int], int]]:
    """Study and row → measured peaks, and the predicted one."""
    found: dict[tuple[str, str, int], list[int]] = {}
    for study, trial, record in trained():
        sizes = sizes_of(trial, record["data"])
        memory = predict_memory(trial, sizes)
        then = as_then(memory, parts_of(problem_of(trial, sizes)), trial, record["started_at"])
        predicted = getattr(then, "training", then.total)  # of worlds in turn, not of their merge
        seen = record["memory"]
        measured = seen["host_train_peak_bytes"] - seen["host_baseline_bytes"]
        found.setdefault((study, trial.cost_id, predicted), []).append(measured)
    return {(study, row): (peaks, told) for (study, row, told), peaks in found.items()}


def is_told(peaks: list[int], predicted: int) -> bool:
    measured = statistics.median(peaks)
    return abs(predicted - measured) <= max(MOST * measured, FLOOR_BYTES)


@pytest.fixture(scope="module")
def all_rows():
    return rows()


def test_peaks_of_all_rows_are_predicted_within_a_tenth(all_rows):
    off = {
        row: f"{predicted / statistics.median(peaks):.2f} of {sorted(peaks)}"
        for row, (peaks, predicted) in all_rows.items()
        if row not in UNTOLD and not is_told(peaks, predicted)
    }
    assert off == {}
    assert len(all_rows) > 90


def test_rows_that_are_not_told_are_few_and_still_not_told(all_rows):
    assert len(UNTOLD) <= len(all_rows) / 7
    assert [row for row in UNTOLD if row not in all_rows or is_told(*all_rows[row])] == []


def test_parameters_and_moments_of_all_records_are_counted_alike():
    for study, trial, record in trained():
        memory, then = predict_memory(trial, sizes_of(trial, record["data"])), record["memory"]
        now = memory.to_record()
        names = ("parameter_bytes", "optimizer_bytes")
        assert {n: now[n] for n in names} == {n: then[n] for n in names}, (study, trial.cost_id)
