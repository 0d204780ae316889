"""What is measured of a peer, and what is refused, with a peer that needs no library."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import votes

from baselines.peers import process
from baselines.peers.peer import PeerMissing
from bench.data.prepared import load_dataset
from bench.measure.experiment import Context
from bench.measure.memory import PredictedOutOfMemory
from bench.measure.phases import Repetition
from bench.methods import cards
from bench.settings import DataSpec, ModelSpec, SettingsError, TrainSpec, Trial
from bench.store.record import build


@pytest.fixture(autouse=True)
def _votes(monkeypatch):
    monkeypatch.setattr(cards, "_registered", [votes.CARD])
    monkeypatch.setattr(votes.Votes, "trained", [])


def make_trial(method="votes", *, labels_per_point=1, encoder="linear", **options):
    sizes = {"num_train_points": 900, "num_test_points": 250, "num_features": 200, "num_labels": 30}
    return Trial(
        data=DataSpec(
            source="planted",
            name="planted",
            options=sizes | {"labels_per_point": labels_per_point},
            num_validation_points=100,
        ),
        model=ModelSpec(method=method, encoder=encoder, options=options),
        train=TrainSpec(),
    )


def no_data_trial(method="votes", **options):
    data = DataSpec(source="xmlrepo", name="absent", options={"train": "no", "test": "no"})
    return Trial(
        data=data,
        model=ModelSpec(method=method, encoder="linear", options=options),
        train=TrainSpec(),
    )


def run(trial, tmp_path, emit=lambda event: None, **fields):
    context = Context(data_dir=tmp_path, cache_dir=tmp_path / "cache", emit=emit, **fields)
    return process.run(trial, context)


def time(trial, tmp_path, num_rounds=2, first=0):
    repetitions = [Repetition(number) for number in range(first, first + num_rounds)]
    context = Context(data_dir=tmp_path, cache_dir=tmp_path / "cache")
    row = process.time(trial, context, iter(repetitions))
    return row, [repetition.to_record() for repetition in repetitions]


def relevant(labels, point):
    return set(labels.ids[labels.offsets[point] : labels.offsets[point + 1]].tolist())


@pytest.mark.parametrize(("labels_per_point", "name"), [(1, "top-{}"), (3, "R@{}")])
def test_metrics_are_those_counted_by_hand(tmp_path, labels_per_point, name):
    trial = make_trial(labels_per_point=labels_per_point)
    outcome = run(trial, tmp_path)
    data = load_dataset(trial.data, tmp_path, tmp_path / "cache")
    peer = votes.Votes(votes.VotesOptions(), folder=tmp_path, seed=0)
    peer.read(data)
    peer.train()
    peer.prepare_inference(10)
    for features, labels, told in (
        (data.test_features, data.test_labels, outcome["test"]),
        (
            data.validation_features,
            data.validation_labels,
            outcome["training"]["curve"][0]["metrics"],
        ),
    ):
        best = process.ranked(peer, features, 10).tolist()
        for k in (1, 3, 5, 10):
            shares = [
                len(relevant(labels, point) & set(row[:k])) / len(relevant(labels, point))
                for point, row in enumerate(best)
            ]
            assert told[name.format(k)] == pytest.approx(sum(shares) / len(shares))
        hits = [row[0] in relevant(labels, point) for point, row in enumerate(best)]
        assert told["P@1"] == pytest.approx(sum(hits) / len(hits))


def test_record_holds_what_a_reader_needs_and_no_file_is_left(tmp_path):
    events = []
    trial = make_trial(smoothing=1.0)
    outcome = run(trial, tmp_path, events.append)
    build(
        study="s",
        trial_id=trial.trial_id,
        settings=trial.to_dict(),
        status="done",
        reason=None,
        started_at="2026-01-02T03:04:05Z",
        versions={},
        payload=outcome,
        provenance={"machine": {}},
    )
    assert outcome["memory"]["parameter_bytes"] == 200 * 30 * 8 + 128  # of NumPy's file
    assert outcome["memory"]["decode_bytes"] == 0
    assert outcome["memory"]["predicted_bytes"] is None
    assert outcome["memory"]["host_peak_bytes"] >= outcome["memory"]["host_baseline_bytes"] > 0
    assert outcome["training"]["num_steps"] == 0
    assert outcome["training"]["points_seen"] == outcome["data"]["num_train_points"] == 800
    assert outcome["resolved"]["model_bytes_are"] == "file on disk"
    assert outcome["resolved"]["smoothing"] == 1.0
    assert outcome["clock"]["train_seconds"] > 0
    assert [e["phase"] for e in events if e["event"] == "phase"] == [
        "data",
        "build",
        "train",
        "evaluate",
    ]
    assert list((tmp_path / "cache" / "peers").iterdir()) == []


def test_validation_alone_is_scored_where_the_context_says_so(tmp_path, monkeypatch):
    whole = run(make_trial(), tmp_path)
    ranked, sizes = process.ranked, []

    def watched(peer, features, k):
        sizes.append(features.num_rows)
        return ranked(peer, features, k)

    monkeypatch.setattr(process, "ranked", watched)
    part = run(make_trial(), tmp_path, validation_only=True)
    assert sizes == [100]
    assert part["test"] is None
    assert part["training"] == whole["training"]
    assert part["data"]["num_validation_points"] == 100


def test_a_trial_without_validation_has_no_curve_and_is_refused_where_nothing_else_counts(tmp_path):
    with_none = dataclasses.replace(make_trial(), train=TrainSpec(num_validations=0))
    outcome = run(with_none, tmp_path)
    assert outcome["training"]["curve"] == []
    assert outcome["test"] == run(make_trial(), tmp_path)["test"]
    words = "num_validation_points is 100 and num_validations 0; expected both above 0"
    with pytest.raises(SettingsError, match=words):
        run(with_none, tmp_path, validation_only=True)


def test_a_peer_that_names_one_label_has_no_other_metric(tmp_path):
    ranking, one = (run(make_trial(ranks=ranks), tmp_path)["test"] for ranks in (True, False))
    assert {"P@1", "top-1", "top-5", "R@5 tail"} <= set(ranking)
    assert {"P@1", "top-1"} <= set(one)
    assert not [name for name in one if "3" in name or "5" in name or "10" in name]
    assert one["P@1"] == ranking["P@1"]


def test_torch_is_imported_after_everything_is_measured(tmp_path):
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import votes
from baselines.peers import process
from bench.measure.experiment import Context
from bench.methods import cards
from bench.settings import Trial
cards.register(votes.CARD)
total_bytes = process.HostPeak.total_bytes
def at_the_end(self):
    print("torch" in sys.modules)
    return total_bytes(self)
process.HostPeak.total_bytes = at_the_end
trial = Trial.from_dict({make_trial().to_dict()!r})
here = Path({str(tmp_path)!r})
process.run(trial, Context(data_dir=here, cache_dir=here))
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_options_are_refused_before_data_is_read(tmp_path):
    for options, words in (
        ({"depth": 3}, r"unknown \['depth'\]; it takes \['bytes_needed', 'num_threads'"),
        ({"smoothing": "much"}, "option smoothing of method 'votes' is 'much'; expected a number"),
        ({"smoothing": True}, "expected a number"),
        ({"num_threads": 1.5}, "is 1.5; expected a whole number or None"),
        ({"num_threads": 0}, "num_threads is 0; expected at least 1"),
    ):
        with pytest.raises(SettingsError, match=words):
            run(no_data_trial(**options), tmp_path)
    with pytest.raises(SettingsError, match="expected 'linear': numpy has no hidden layers"):
        run(make_trial(encoder="mlp"), tmp_path)


@pytest.mark.parametrize("method", ["omikuji", "one_vs_rest", "napkinxc", "vowpal_wabbit"])
def test_an_absent_library_names_its_extra_before_data_is_read(tmp_path, monkeypatch, method):
    monkeypatch.setitem(sys.modules, cards.method_class(method).package, None)
    with pytest.raises(PeerMissing, match=r"`pip install 'mach-bench\[peers\]'` brings it, in"):
        run(no_data_trial(method), tmp_path)


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("omikuji", {"preset": "fast"}, "is 'fast'; expected 'parabel', 'wide' or 'bonsai'"),
        ("omikuji", {"num_trees": 0}, "num_trees is 0"),
        ("omikuji", {"branching": 1}, "branching is 1; expected at least 2"),
        ("one_vs_rest", {"num_trees": 3}, r"unknown \['num_trees'\]"),
        ("one_vs_rest", {"linear_eps": 0.0}, "linear_eps is 0.0; expected above 0"),
        ("napkinxc", {"model": "ovr", "num_trees": 3}, "'ovr' has no trees"),
        ("napkinxc", {"arity": 1}, "arity is 1; expected at least 2"),
        ("vowpal_wabbit", {"bits": 41}, "bits is 41"),
        ("vowpal_wabbit", {"initial_rate": 0.0}, "initial_rate is 0.0; expected above 0"),
        ("vowpal_wabbit", {"steps": "small"}, "is 'small'; expected 'adaptive' or 'plain'"),
        ("vowpal_wabbit", {"max_depth": 5}, "belongs to reduction 'recall_tree', not 'plt'"),
        ("vowpal_wabbit", {"binary_loss": "hinge"}, "reduction 'plt' is 'logistic'"),
    ],
)
def test_options_of_libraries_are_refused_without_them(tmp_path, method, options, words):
    with pytest.raises(SettingsError, match=words):
        run(no_data_trial(method, **options), tmp_path)


def test_what_cannot_fit_is_not_started(tmp_path):
    trial = make_trial(bytes_needed=1 << 60)
    with pytest.raises(PredictedOutOfMemory) as refused:
        run(trial, tmp_path)
    assert refused.value.parts["predicted_bytes"] == 1 << 60
    with pytest.raises(PredictedOutOfMemory):
        time(trial, tmp_path)
    assert votes.Votes.trained == []


def test_repetitions_time_a_training_and_queries(tmp_path):
    row, repetitions = time(make_trial(), tmp_path)
    assert row["weights"] == "trained"
    assert row["inference"] == {"k": 5}
    for phases in repetitions:
        units = {name: phase["units"] for name, phase in phases.items()}
        assert units == {"fit": 1, "latency": 1, "throughput": 250}
        assert all(phase["seconds"] and min(phase["seconds"]) > 0 for phase in phases.values())
    assert votes.Votes.trained == [30, 30]
    assert list((tmp_path / "cache" / "peers").iterdir()) == []


def test_a_long_training_is_timed_once(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_LONG_FIT_SECONDS", 1e-9)
    _, repetitions = time(make_trial(), tmp_path, num_rounds=3)
    assert ["fit" in phases for phases in repetitions] == [True, False, False]
    assert all("latency" in phases for phases in repetitions)


def test_a_long_training_outlives_its_process_but_not_its_session(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_LONG_FIT_SECONDS", 1e-9)
    trial = make_trial()
    for first, is_fitted in ((0, True), (1, False), (0, True)):
        _, (phases,) = time(trial, tmp_path, num_rounds=1, first=first)
        assert ("fit" in phases, "latency" in phases) == (is_fitted, True)
    _, (phases,) = time(make_trial(smoothing=2.0), tmp_path, num_rounds=1, first=1)
    assert "fit" in phases


def test_a_model_that_cannot_be_kept_is_trained_again(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_LONG_FIT_SECONDS", 1e-9)

    def fail(*paths, copy_function):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(process.shutil, "copytree", fail)
    for first in (0, 1):
        _, repetitions = time(make_trial(), tmp_path, first=first)
        assert ["fit" in phases for phases in repetitions] == [True, False]
    assert list((tmp_path / "cache" / "peers").iterdir()) == []
