"""A whole decode trial, and its times, in this process."""

import pytest
import torch

from bench.experiments.decoding import trial as trial_module
from bench.experiments.decoding.decoders import Decoder
from bench.mach.decode import auto
from bench.measure.experiment import Context
from bench.measure.phases import Repetition
from bench.methods.cards import cards
from bench.settings import DataSpec, ModelSpec, SettingsError, TrainSpec, Trial
from tests.mach.costs import TYPICAL

METHODS = [card.name for card in cards("decoding") if card.name != "faiss_pq"]


def build_trial(method, num_queries=70, **options):
    sizes = {"num_labels": 3000, "num_worlds": 4, "num_buckets": 256, "num_queries": num_queries}
    data = DataSpec(source="planted_scores", name="peak 0.9", options=sizes | {"peak": 0.9})
    model = ModelSpec(method=method, encoder="linear", options={"k": 5} | options)
    return Trial(data=data, model=model, train=TrainSpec())


def run(trial, tmp_path, events=None):
    emit = ([] if events is None else events).append
    return trial_module.run(trial, Context(data_dir=tmp_path, cache_dir=tmp_path, emit=emit))


def run_rounds(trial, tmp_path, num_rounds=2):
    repetitions = [Repetition(number) for number in range(num_rounds)]
    context = Context(data_dir=tmp_path, cache_dir=tmp_path)
    row = trial_module.time(trial, context, iter(repetitions))
    return row, [repetition.to_record() for repetition in repetitions]


@pytest.mark.parametrize("method", METHODS)
def test_trial_records_bytes_labels_and_agreement_and_no_times_of_batches(method, tmp_path):
    events: list = []
    payload = run(build_trial(method), tmp_path, events)
    assert set(payload["inference"]) == {"k", "num_scored"}
    assert payload["inference"]["k"] == 5
    assert len(payload["inference"]["num_scored"]) == trial_module.CHECKED_QUERIES
    assert payload["memory"]["decode_bytes"] > 0
    assert payload["memory"]["host_peak_bytes"] > 0
    assert payload["data"]["num_labels"] == 3000
    assert len(payload["data"]["fingerprint"]) == 16
    phases = [event["phase"] for event in events if event["event"] == "phase"]
    assert phases == ["problem", "build", "decode", "check"]
    if method == "softmax_matmul":
        assert payload["test"] is None
    elif method != "buckets":
        assert payload["test"] == {"recall": 1.0, "exact_share": 1.0}
    if method in ("pruned", "buckets"):
        assert 0 < max(payload["inference"]["num_scored"]) < 3000
    assert_costs_are_told(method, payload["resolved"])


def assert_costs_are_told(method, facts):
    if method == "auto":
        assert auto.Costs(**facts["decode_costs"]) == TYPICAL
    else:
        assert facts == {}


def test_decoder_that_claims_to_be_exact_and_is_not_fails_its_trial(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "bench.experiments.decoding.decoders.Dense.top_k",
        lambda self, queries: torch.zeros(queries.shape[0], 5, dtype=torch.int64),
    )
    with pytest.raises(RuntimeError, match="Dense differs from the exact labels in 64 of 64"):
        run(build_trial("dense"), tmp_path)


@pytest.mark.parametrize("function", [run, run_rounds])
def test_unknown_decoder_is_refused_before_a_problem_is_built(function, tmp_path, monkeypatch):
    monkeypatch.setattr(trial_module, "build_problem", pytest.fail)
    with pytest.raises(SettingsError, match="decoder is 'guess'"):
        function(build_trial("guess"), tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_every_repetition_has_the_same_phases_with_seconds_and_units(method, tmp_path):
    row, repetitions = run_rounds(build_trial(method), tmp_path)
    for phases in repetitions:
        # 70 queries fill no larger batch
        assert list(phases) == ["batch-1", "batch-64", "hidden-1", "hidden-64"]
        for name, phase in phases.items():
            assert phase["units"] == int(name.partition("-")[2])
            assert phase["seconds"]
            assert all(seconds > 0 for seconds in phase["seconds"])
    assert len(row["fingerprint"]) == 16
    assert row["weights"] is None
    assert row["decode_bytes"] > 0
    assert row["output_bytes"] == (0 if method == "softmax_matmul" else 4 * 128 * 4 * 256)
    assert_costs_are_told(method, row["inference"])


def test_large_batches_are_asked_where_small_ones_are_quick(tmp_path, monkeypatch):
    trial = build_trial("dense", num_queries=1024)
    assert "batch-1024" in run_rounds(trial, tmp_path, 1)[1][0]
    monkeypatch.setattr(trial_module, "_TOO_LONG_SECONDS", 0.0)
    assert "batch-1024" not in run_rounds(trial, tmp_path, 1)[1][0]


def test_phase_ends_with_the_sample_that_takes_too_long_and_begins_untimed(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_module, "_PHASE_SECONDS", 0.0)
    asked = []
    top_k = trial_module.build_decoder("dense", _problem(tmp_path), {"k": 5}).top_k
    monkeypatch.setattr(
        "bench.experiments.decoding.decoders.Dense.top_k",
        lambda self, queries: asked.append(queries.shape[0]) or top_k(queries),
    )
    _, (phases,) = run_rounds(build_trial("dense"), tmp_path, 1)
    assert [len(phase["seconds"]) for phase in phases.values()] == [1, 1, 1, 1]
    assert asked == [1, 64] + [1, 1, 64, 64] * 2  # warmed up, then each phase twice


def test_long_calls_are_not_preceded_by_another_in_later_repetitions(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_module, "_PHASE_SECONDS", 0.0)
    monkeypatch.setattr(trial_module, "_WARMTH_SECONDS", 0.0)
    problem = _problem(tmp_path)
    timed = trial_module.Timed(trial_module.build_decoder("dense", problem, {"k": 5}), problem)
    asked = []
    monkeypatch.setattr(timed, "_from_scores", lambda start, stop: asked.append(stop - start))
    monkeypatch.setattr(timed, "_from_hidden", lambda start, stop: asked.append(stop - start))
    for number in range(2):
        timed.measure(Repetition(number))
    assert asked == [1, 1, 64, 64, 1, 1, 64, 64, 1, 64, 1, 64]


def _problem(tmp_path):
    return trial_module.build_problem(
        build_trial("dense").data, Context(data_dir=tmp_path, cache_dir=tmp_path)
    )


def test_rounds_go_on_to_other_queries(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_module, "BATCHES", {1: 3})
    monkeypatch.setattr(trial_module, "HIDDEN_BATCHES", {})
    monkeypatch.setattr(trial_module, "_PHASE_SECONDS", 10.0)
    problem = _problem(tmp_path)
    asked = []

    class Recorder(Decoder):
        def top_k(self, queries):
            (index,) = (problem.scores == queries).flatten(1).all(dim=1).nonzero()
            asked.append(int(index))
            return torch.zeros(1, 5)

        def decode_bytes(self):
            return 1

    timed = trial_module.Timed(Recorder(problem, k=5), problem)
    for number in range(2):
        timed.measure(Repetition(number))
    assert asked == [69, 0, 1, 2, 2, 3, 4, 5]
