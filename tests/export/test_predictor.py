"""An exported model predicts as the trained one, from texts and rows, in any thread."""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
import torch

from bench import Predictor
from bench.data.csr import Csr
from bench.data.loader import to_batch
from bench.data.prepared import load_dataset, load_labels, load_raw
from bench.data.source import DataError
from bench.experiments import training
from bench.experiments.weights import keep_weights
from bench.export.folder import ModelError
from bench.methods.card import TRAINING_ENTRY
from bench.methods.cards import cards
from bench.settings import DataSpec, ModelSpec, SettingsError
from tests.export.models import (
    MODELS,
    context_of,
    export,
    exported,
    planted,
    trial_of,
    write_texts,
)

ROOT = Path(__file__).resolve().parents[2]
K, SIZE = 10, 32  # labels a point, points a batch


@dataclasses.dataclass(frozen=True)
class _Trained:
    """A model's folder, and what the trial's process found for the test split."""

    folder: Path
    rows: Csr
    scores: np.ndarray
    labels: np.ndarray


def _train(model: ModelSpec, data: DataSpec, folder: Path) -> _Trained:
    trial = trial_of(data, model, keep_best=True)
    ready = training.prepare(trial, context_of(folder))
    training.fit(ready)
    if not ready.model.is_closed_form:
        assert keep_weights(ready.model, folder / "cache", training._weights_key(ready))
    ready.model.eval()
    ready.model.prepare_inference(K)
    with torch.inference_mode():
        found = [ready.model.top_k(batch, K) for batch in ready.test_batches(SIZE)]
    scores, labels = (torch.cat(part).numpy() for part in zip(*found, strict=True))
    raw = load_raw(data, folder, folder / "cache").test_features
    return _Trained(export(trial, folder), raw.rows(ready.data.dataset.test_rows), scores, labels)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Callable[[str], _Trained]:
    """Models over planted rows by name, each trained once."""
    return functools.cache(
        lambda name: _train(MODELS[name], planted(), tmp_path_factory.mktemp(name))
    )


def test_every_method_of_ours_is_exported_here():
    ours = {card.name for card in cards() if card.entry == TRAINING_ENTRY}
    assert {model.method for model in MODELS.values()} == ours


@pytest.mark.parametrize("name", MODELS)
def test_rows_get_the_trained_models_labels_and_scores_to_the_bit(name, trained):
    known = trained(name)
    labels, scores = Predictor.load(known.folder).top_k(known.rows, K, batch_size=SIZE)
    np.testing.assert_array_equal(scores, known.scores)
    assert labels == known.labels.tolist()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mach", {}),
        ("full_softmax", {"max_features": 20, "lowercase": False}),
        ("neighbours", {"num_hashed_features": 16}),
    ],
)
def test_texts_get_the_trained_models_names_and_scores_to_the_bit(name, options, tmp_path):
    data = write_texts(tmp_path)
    data = dataclasses.replace(data, options={**data.options, **options})
    known = _train(MODELS[name], data, tmp_path)
    names, _ = load_labels(data, tmp_path, tmp_path / "cache")
    order = load_dataset(data, tmp_path, tmp_path / "cache").test_rows
    lines = (tmp_path / "test.csv").read_text(encoding="utf-8").splitlines()[1:]
    cells = [line.replace('"', "").split(",") for line in lines]
    texts = [f"{cells[row][0]}\n{cells[row][2]}" for row in order]
    (tmp_path / "train.csv").unlink()  # nothing is read again
    predictor = Predictor.load(known.folder)
    labels, scores = predictor.top_k(texts, K, batch_size=SIZE)
    np.testing.assert_array_equal(scores, known.scores)
    assert labels == [[names[label] for label in row] for row in known.labels]
    np.testing.assert_array_equal(predictor.top_k(known.rows, K, batch_size=SIZE)[1], known.scores)


def test_labels_that_were_chosen_keep_the_numbers_of_the_source(tmp_path):
    data = planted(num_top_labels=7)
    folder = exported(MODELS["centroid"], tmp_path, data)
    _, kept = load_labels(data, tmp_path, tmp_path / "cache")
    assert kept.tolist() != list(range(7))
    raw = load_raw(data, tmp_path, tmp_path / "cache").test_features
    found, _ = Predictor.load(folder).top_k(raw, 7)
    assert {label for row in found for label in row} == set(kept.tolist())


@pytest.fixture(scope="module")
def folder(trained) -> Path:
    """Of a MACH over planted rows."""
    return Path(trained("mach").folder)


@pytest.fixture(scope="module")
def rows() -> list[dict[int, float]]:
    generator = np.random.default_rng(0)
    return [
        dict.fromkeys(generator.choice(120, size=9, replace=False).tolist(), 1.0) for _ in range(40)
    ]


def test_rows_may_be_mappings_or_scipys(folder, rows):
    predictor = Predictor.load(folder)
    dense = np.zeros((len(rows), 120), dtype=np.float32)
    for number, row in enumerate(rows):
        dense[number, list(row)] = 1.0
    expected = predictor.top_k(rows, 3)
    for points in (scipy.sparse.csr_matrix(dense), scipy.sparse.csr_array(dense)):
        labels, scores = predictor.top_k(points, 3)
        assert labels == expected[0]
        np.testing.assert_array_equal(scores, expected[1])
    assert scores.shape == (40, 3)
    assert predictor.top_k([], 3)[1].shape == (0, 3)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ("a text", "points are 'a text'; expected a list"),
        (["a text"], "trained on rows of source 'planted'; expected rows of features 0 to 119"),
        ([{1: 1.0}, "a"], "row 1: 'a'; expected a text, or values by feature"),
        ([{1: 1.0}, {120: 1.0}], "row 1: feature 120 with value 1; expected 0 to 119"),
        ([{-1: 1.0}], "row 0: feature -1 with value 1; expected 0 to 119"),
        ([{3: float("nan")}], "row 0: feature 3 with value nan; expected a finite value"),
        (scipy.sparse.csr_matrix((2, 7)), "rows have 7 columns; expected 120"),
        (
            Csr(np.array([0, 2]), np.array([5, 5], np.int32), None, 120),
            "row 0: feature 5 with value 1; expected each feature once, ascending",
        ),
    ],
)
def test_points_that_a_model_does_not_take_are_named(folder, points, message):
    with pytest.raises((DataError, ModelError), match=message):
        Predictor.load(folder).top_k(points)


@pytest.mark.parametrize("k", [0, 41])
def test_a_number_of_labels_that_cannot_be_had_is_refused(folder, rows, k):
    with pytest.raises(ModelError, match=f"k is {k}; expected 1 to L = 40"):
        Predictor.load(folder).top_k(rows, k)


def test_counts_are_expected_where_training_had_them(tmp_path):
    model = exported(MODELS["frequency"], tmp_path, planted(feature_weighting="tfidf"))
    with pytest.raises(DataError, match=r"row 1: value 0.5 of feature 3 .*expected counts from 1"):
        Predictor.load(model).top_k([{3: 1.0}, {3: 0.5}])


def test_many_threads_ask_one_predictor_and_get_what_one_gets(folder, rows):
    predictor = Predictor.load(folder)
    expected = [predictor.top_k([row], 4) for row in rows]
    threads = 6
    at_once = threading.Barrier(threads)

    def ask(first: int) -> list:
        at_once.wait(timeout=30)
        return [predictor.top_k([row], 4) for row in rows[first:]]

    with ThreadPoolExecutor(threads) as pool:
        for first, found in enumerate(pool.map(ask, range(threads))):
            for (labels, scores), (own, known) in zip(found, expected[first:], strict=True):
                assert labels == own
                np.testing.assert_array_equal(scores, known)


def test_threads_are_the_predictors_own_and_settings_of_the_process_stay(folder, rows):
    before = torch.get_num_threads()
    seen = []
    predictor = Predictor.load(folder, threads=1)
    model = predictor._model
    rank = model.rank
    model.rank = lambda hidden, k: seen.append(torch.get_num_threads()) or rank(hidden, k)
    predictor.top_k(rows)
    assert seen == [1]
    assert torch.get_num_threads() == before
    tiny = torch.tensor([1e-39]) * torch.tensor([1.0])
    assert float(tiny) != 0.0  # denormals are flushed in the predictor's thread alone
    with pytest.raises(ModelError, match="threads is 0; expected None or a number from 1"):
        Predictor.load(folder, threads=0)


def test_a_forked_process_is_told_to_load_its_own(folder, rows, monkeypatch):
    predictor = Predictor.load(folder)
    monkeypatch.setattr("os.getpid", lambda: -1)  # or it would wait for a thread that it has not
    with pytest.raises(ModelError, match=r"forked .*; expected Predictor.load in each process"):
        predictor.top_k(rows)


@pytest.mark.parametrize("name", ["full_softmax", "linear", "adaptive_softmax", "two_tower"])
def test_softmax_probabilities_of_all_labels_sum_to_one(name, rows, trained):
    predictor = Predictor.load(trained(name).folder)
    _, scores = predictor.top_k(rows, 40)
    _, found = predictor.top_k(rows, 40, probabilities=True)
    exact = torch.from_numpy(scores).double().softmax(1).numpy()
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-7)


def test_one_vs_all_has_each_labels_own_probability(rows, trained):
    predictor = Predictor.load(trained("one_vs_all").folder)
    _, scores = predictor.top_k(rows, 5)
    _, found = predictor.top_k(rows, 5, probabilities=True)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-scores.astype(float))), rtol=1e-5)


def test_mach_gives_the_unbiased_estimate_of_its_softmax_worlds(folder, rows):
    predictor = Predictor.load(folder)
    labels, found = predictor.top_k(rows, 3, probabilities=True)
    model = predictor._model
    raw = predictor._features.weighted(predictor._features.raw(rows), str)
    nothing = Csr(np.zeros(len(rows) + 1, np.int64), np.zeros(0, np.int32), None, 40)
    chances = model.bucket_logits(to_batch(raw, nothing)).softmax(-1).numpy()
    table = model.head.table.numpy()
    for point, row in enumerate(labels):
        for rank, label in enumerate(row):
            mean = np.mean([chances[point, world, table[world, label]] for world in range(3)])
            expected = np.clip(16 / 15 * (mean - 1 / 16), 0, 1)
            np.testing.assert_allclose(found[point, rank], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["centroid", "mach_pruned"])
def test_scores_that_are_no_probabilities_are_not_called_so(name, rows, trained):
    predictor = Predictor.load(trained(name).folder)
    with pytest.raises(SettingsError, match="gives scores alone; expected probabilities=False"):
        predictor.top_k(rows, probabilities=True)


def test_a_model_of_100_mb_loads_within_a_second_and_maps_its_weights(tmp_path):
    # Of so many features that the weights are 100 MB; a step of training is not needed for that.
    wide = planted()
    wide = DataSpec(
        source="planted",
        name="wide",
        options={**wide.options, "num_features": 200_000},
        num_validation_points=50,
    )
    trial = trial_of(wide, ModelSpec(method="full_softmax", hidden_dims=(128,)))
    ready = training.prepare(trial, context_of(tmp_path))
    assert keep_weights(ready.model, tmp_path / "cache", training._weights_key(ready))
    target = export(trial, tmp_path)
    assert (target / "weights.safetensors").stat().st_size > 100e6
    took = []
    for _ in range(3):  # other load on the machine only adds to it
        start = time.perf_counter()
        predictor = Predictor.load(target)
        took.append(time.perf_counter() - start)
    assert min(took) < 1.0
    (weight,) = (p for n, p in predictor._model.named_parameters() if n == "encoder.first.weight")
    mapped = [
        tuple(int(end, 16) for end in line.split()[0].split("-"))
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith("model/weights.safetensors")
    ]
    assert any(start <= weight.data_ptr() < end for start, end in mapped)


def test_the_service_of_the_documentation_answers(tmp_path, monkeypatch):
    text = (ROOT / "bench" / "export" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    routes = {}

    class FastAPI:
        """Of the framework, which is not installed, as much as the example uses."""

        def post(self, path: str) -> Callable:
            return lambda function: routes.setdefault(path, function)

    monkeypatch.setitem(sys.modules, "fastapi", SimpleNamespace(FastAPI=FastAPI))
    data = write_texts(tmp_path)
    exported(MODELS["centroid"], tmp_path, data).rename(tmp_path / "my_model")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "example", "exec"), {})
    first, second = routes["/labels"](["bako mi", "tübü"], 3)
    assert (len(first), len(second)) == (3, 3)
    assert all(name.startswith("Straße ") for name in first)
    assert list(first.values()) == sorted(first.values(), reverse=True)
