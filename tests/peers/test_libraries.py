"""The peers' libraries on small planted sets; each is left out where it is not installed."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from baselines.peers import process
from baselines.peers.peer import read_options
from bench.data.csr import Csr, Dataset
from bench.data.prepared import load_dataset
from bench.measure.experiment import Context
from bench.measure.phases import Repetition
from bench.methods.cards import method_class
from bench.runner.worker import describe_failure
from bench.settings import DataSpec, ModelSpec, SettingsError, TrainSpec, Trial

ROOT = Path(__file__).parents[2]
VARIANTS = {
    "omikuji": [{}, {"preset": "wide"}, {"preset": "bonsai", "binary_loss": "log"}],
    "one_vs_rest": [{}, {"binary_loss": "log", "linear_c": 10.0}],
    "napkinxc": [{}, {"num_trees": 2}, {"model": "hsm"}, {"model": "ovr", "binary_loss": "l2"}],
    "vowpal_wabbit": [
        {},
        {"passes": 2, "initial_rate": 0.5},
        {"passes": 5, "initial_rate": 10.0, "steps": "plain"},
        {"reduction": "oaa"},
        {"reduction": "recall_tree", "max_candidates": 30, "max_depth": 4},
        {"reduction": "log_multi"},
    ],
}
ONE_LABEL_ONLY = ("oaa", "recall_tree", "log_multi")
CASES = [
    pytest.param(
        method, options, task, id=f"{method} {' '.join(map(str, options.values()))} {task}"
    )
    for method, variants in VARIANTS.items()
    for options in variants
    for task in ("multiclass", "multilabel")
    if task == "multiclass" or options.get("reduction") not in ONE_LABEL_ONLY
]


@pytest.fixture(autouse=True)
def _installed(request):
    method = request.getfixturevalue("method")
    package = method_class(method).package
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed; pip install -e '.[peers]' installs it")


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def make_trial(method, options, task, replicate=0):
    data = DataSpec(
        source="planted",
        name=task,
        options={
            "num_train_points": 1500,
            "num_test_points": 300,
            "num_features": 300,
            "num_labels": 120,
            "labels_per_point": 1 if task == "multiclass" else 3,
        },
        num_validation_points=100,
    )
    if method == "vowpal_wabbit":
        options = {"bits": 20, **options}
    model = ModelSpec(method=method, encoder="linear", options=options)
    return Trial(data=data, model=model, train=TrainSpec(), replicate=replicate)


def run(trial, cache_dir):
    return process.run(trial, Context(data_dir=cache_dir, cache_dir=cache_dir))


def trained(trial, dataset, folder):
    kind = method_class(trial.model.method)
    folder.mkdir(exist_ok=True)
    peer = kind(read_options(kind, trial.model), folder=folder, seed=1)
    peer.read(dataset)
    peer.train()
    return peer


def answers(peer, features, k):
    peer.prepare_inference(k)
    best = process.ranked(peer, features, k)
    peer.finish_inference()
    return best


@pytest.mark.parametrize(("method", "options", "task"), CASES)
def test_a_peer_learns_and_ranks_best_first(method, options, task, cache_dir, tmp_path):
    data = load_dataset(make_trial(method, options, task).data, cache_dir, cache_dir)
    peer = trained(make_trial(method, options, task), data, tmp_path)
    k = peer.max_ranked or 6
    best = answers(peer, data.test_features, k)
    assert best.shape == (300, k)
    assert best.min() >= 0
    assert best.max() < 120
    assert all(len(set(row)) == k for row in best.tolist())
    is_relevant = relevant(data)
    hits = np.take_along_axis(is_relevant, best, axis=1).mean(axis=0)
    most_frequent = int(np.argmax(data.train_labels.column_counts()))
    assert hits[0] > is_relevant[:, most_frequent].mean() + 0.15
    assert k == 1 or hits[0] > hits[1] > hits[-1]
    assert peer.model_bytes() > 120 * 8


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("omikuji", {}),
        ("one_vs_rest", {}),
        ("napkinxc", {}),
        ("napkinxc", {"model": "ovr"}),
        ("vowpal_wabbit", {}),
        ("vowpal_wabbit", {"reduction": "oaa"}),
    ],
)
def test_a_shorter_list_is_the_start_of_a_longer_one(method, options, cache_dir, tmp_path):
    trial = make_trial(method, options, "multiclass")
    data = load_dataset(trial.data, cache_dir, cache_dir)
    peer = trained(trial, data, tmp_path)
    best = answers(peer, data.test_features, 6)
    for k in (1, 3):
        some = data.test_features.slice(100, 180)
        assert (answers(peer, some, k) == best[100:180, :k]).mean() > 0.99


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("omikuji", {}),
        ("one_vs_rest", {}),
        ("napkinxc", {"num_trees": 2}),
        ("napkinxc", {"model": "ovr"}),
        ("vowpal_wabbit", {}),
        ("vowpal_wabbit", {"reduction": "oaa"}),
        ("vowpal_wabbit", {"reduction": "recall_tree"}),
    ],
)
def test_a_restored_model_answers_as_the_trained_one(method, options, cache_dir, tmp_path):
    trial = make_trial(method, options, "multiclass")
    data = load_dataset(trial.data, cache_dir, cache_dir)
    peer = trained(trial, data, tmp_path)
    shutil.copytree(peer.saved(), tmp_path / "kept")
    (tmp_path / "other").mkdir()
    again = type(peer)(peer.options, folder=tmp_path / "other", seed=2)
    again.read(data)
    k = peer.max_ranked or 6
    again.restore(tmp_path / "kept")
    assert (answers(again, data.test_features, k) == answers(peer, data.test_features, k)).all()
    assert again.model_bytes() == peer.model_bytes()


@pytest.mark.parametrize("method", VARIANTS)
def test_a_trial_scores_both_splits(method, cache_dir):
    outcome = run(make_trial(method, {}, "multilabel"), cache_dir)
    assert {"P@1", "P@5", "PSP@3", "nDCG@10"} <= set(outcome["test"])
    (point,) = outcome["training"]["curve"]
    assert abs(point["metrics"]["P@1"] - outcome["test"]["P@1"]) < 0.15
    assert outcome["resolved"]["library"].startswith(method_class(method).package)
    assert list((cache_dir / "peers").iterdir()) == []


def relevant(data: Dataset):
    """`(N, L)` bool: which labels test points have."""
    is_relevant = np.zeros((data.test_labels.num_rows, data.num_labels), dtype=bool)
    of = np.repeat(np.arange(len(is_relevant)), data.test_labels.row_lengths)
    is_relevant[of, data.test_labels.ids] = True
    return is_relevant


def with_gaps(data: Dataset) -> Dataset:
    """Every third point without features, every fourth without labels, and no values."""

    def cut(rows: Csr, step: int) -> Csr:
        is_kept = np.arange(rows.num_rows) % step != 0
        lengths = np.where(is_kept, rows.row_lengths, 0)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return Csr(offsets, rows.ids[np.repeat(is_kept, rows.row_lengths)], None, rows.num_columns)

    return Dataset(
        train_features=cut(data.train_features, 3),
        train_labels=cut(data.train_labels, 4),
        validation_features=data.validation_features,
        validation_labels=data.validation_labels,
        test_features=cut(data.test_features, 3),
        test_labels=data.test_labels,
        num_features=data.num_features,
        num_labels=data.num_labels,
        task=data.task,
        facts=data.facts,
    )


@pytest.mark.parametrize("method", VARIANTS)
def test_points_may_lack_features_or_labels(method, cache_dir, tmp_path):
    trial = make_trial(method, {}, "multilabel")
    data = load_dataset(trial.data, cache_dir, cache_dir)
    best = answers(trained(trial, with_gaps(data), tmp_path), with_gaps(data).test_features, 5)
    hits = relevant(data)[np.arange(300), best[:, 0]]
    has_features = np.arange(300) % 3 != 0
    assert hits[has_features].mean() > hits[~has_features].mean() + 0.1
    assert len({tuple(row) for row in best[~has_features].tolist()}) == 1


@pytest.mark.parametrize("method", ["vowpal_wabbit"])
@pytest.mark.parametrize("reduction", ["oaa", "recall_tree", "log_multi", "plt"])
def test_vowpal_wabbit_repeats_and_a_replicate_is_another_draw(method, reduction, cache_dir):
    runs = [
        run(make_trial(method, {"reduction": reduction}, "multiclass", replicate), cache_dir)
        for replicate in (0, 0, 1)
    ]
    assert runs[0]["test"] == runs[1]["test"]
    assert runs[0]["training"] == runs[1]["training"]
    assert runs[0]["test"] != runs[2]["test"]
    assert runs[0]["memory"]["parameter_bytes"] == runs[1]["memory"]["parameter_bytes"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["napkinxc"])
def test_napkinxc_repeats_in_one_thread(method, cache_dir, tmp_path):
    trial = make_trial(method, {"num_threads": 1}, "multilabel")
    load_dataset(trial.data, cache_dir, cache_dir)
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
from pathlib import Path
from test_libraries import Trial, answers, load_dataset, trained
trial = Trial.from_dict({trial.to_dict()!r})
data = load_dataset(trial.data, Path({str(cache_dir)!r}), Path({str(cache_dir)!r}))
peer = trained(trial, data, Path(sys.argv[1]))
print(answers(peer, data.test_features, 10).tolist())
"""
    told = [
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in ("first", "second")
    ]
    assert len(told[0]) > 400
    assert told[0] == told[1]


@pytest.mark.parametrize("method", VARIANTS)
def test_a_library_is_timed_in_rounds(method, cache_dir):
    repetitions = [Repetition(number) for number in range(2)]
    context = Context(data_dir=cache_dir, cache_dir=cache_dir)
    row = process.time(make_trial(method, {}, "multilabel"), context, iter(repetitions))
    assert row["inference"] == {"k": 5}
    for repetition in repetitions:
        phases = repetition.to_record()
        assert list(phases) == ["fit", "latency", "throughput"]
        assert all(min(phase["seconds"]) > 0 for phase in phases.values())
        assert phases["throughput"]["units"] == 256
    assert list((cache_dir / "peers").iterdir()) == []


@pytest.mark.parametrize("method", ["vowpal_wabbit"])
@pytest.mark.parametrize("reduction", ONE_LABEL_ONLY)
def test_a_reduction_to_one_label_refuses_several(method, reduction, cache_dir):
    with pytest.raises(SettingsError, match="points have several labels; expected 'plt'"):
        run(make_trial(method, {"reduction": reduction}, "multilabel"), cache_dir)


@pytest.mark.parametrize(
    ("method", "options"), [("napkinxc", {"model": "ovr"}), ("one_vs_rest", {})]
)
def test_one_versus_rest_is_capped(method, options, cache_dir, monkeypatch):
    monkeypatch.setattr("baselines.peers.peer.MAX_OVR_LABELS", 100)
    with pytest.raises(SettingsError, match="of 120 labels; expected at most 100"):
        run(make_trial(method, options, "multilabel"), cache_dir)


@pytest.mark.parametrize("method", ["one_vs_rest"])
@pytest.mark.parametrize(("loss", "theirs"), [("hinge", "l2"), ("log", "log")])
def test_one_leaf_is_another_librarys_one_versus_rest(method, loss, theirs, cache_dir, tmp_path):
    pytest.importorskip("napkinxc")
    # With a large C, the steps that omikuji takes at most end before the optimum of the hinge.
    linear = {"linear_c": 0.3, "linear_eps": 0.001, "weight_threshold": 0.0}
    best = []
    for name, options in (
        (method, {"binary_loss": loss}),
        ("napkinxc", {"binary_loss": theirs, "model": "ovr"}),
    ):
        trial = make_trial(name, linear | options, "multilabel")
        data = load_dataset(trial.data, cache_dir, cache_dir)
        best.append(answers(trained(trial, data, tmp_path / name), data.test_features, 3))
    assert (best[0][:, 0] == best[1][:, 0]).mean() > 0.98
    assert (best[0] == best[1]).mean() > 0.96


@pytest.mark.parametrize("method", ["omikuji"])
@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({}, {"cluster_k": 2, "max_depth": 20, "min_branch_size": 100, "cluster_balanced": True}),
        (
            {"preset": "bonsai", "max_depth": 2, "max_leaves": 7},
            {"cluster_k": 100, "max_depth": 2, "min_branch_size": 7, "cluster_balanced": False},
        ),
        (
            {"branching": 4, "num_trees": 2, "linear_c": 0.5, "linear_eps": 0.25},
            {"cluster_k": 4, "n_trees": 2, "linear_c": 0.5, "linear_eps": 0.25},
        ),
        ({"weight_threshold": 0.5, "binary_loss": "log"}, {"linear_weight_threshold": 0.5}),
    ],
)
def test_options_reach_omikuji(method, options, theirs, cache_dir, tmp_path, monkeypatch):
    trial = make_trial(method, options, "multilabel")
    data = load_dataset(trial.data, cache_dir, cache_dir)
    library, told = importlib.import_module("omikuji"), []
    train = library.Model.train_on_data

    def watched(path, settings, num_threads):
        told.append(settings)
        return train(path, settings, num_threads)

    monkeypatch.setattr(library.Model, "train_on_data", watched)
    trained(trial, data, tmp_path)
    assert {name: getattr(told[0], name) for name in theirs} == theirs


@pytest.mark.parametrize("method", ["napkinxc"])
def test_options_reach_napkinxc(method, tmp_path, monkeypatch):
    models, told = importlib.import_module("napkinxc.models"), []
    monkeypatch.setattr(models, "PLT", lambda folder, **arguments: told.append(arguments))
    options = {"arity": 4, "max_leaves": 9, "num_trees": 2, "linear_c": 3.0, "linear_eps": 0.5}
    kind = method_class(method)
    spec = make_trial(method, options | {"weight_threshold": 0.0}, "multilabel").model
    kind(read_options(kind, spec), folder=tmp_path, seed=7).restore(tmp_path)
    wanted = {"arity": 4, "max_leaves": 9, "ensemble": 2, "liblinear_c": 3.0, "seed": 7}
    wanted |= {"liblinear_eps": 0.5, "weights_threshold": 0.0, "loss": "log"}
    assert {name: told[0][name] for name in wanted} == wanted


@pytest.mark.parametrize("method", ["vowpal_wabbit"])
def test_a_table_that_cannot_fit_is_predicted(method, cache_dir):
    with pytest.raises(Exception, match="exceed the available") as refused:
        run(make_trial(method, {"bits": 40}, "multilabel"), cache_dir)
    told = describe_failure(refused.value)
    assert told["status"] == "oom"
    assert told["payload"]["memory"]["predicted_bytes"] == 16 * 2**40
