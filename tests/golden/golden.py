"""Golden runs: what every method gives on a small fixed problem, pinned beside its version.

    .venv/bin/python tests/golden/golden.py     # writes what has changed, if versions were raised

A change that moves a number must raise a version: on the method's card (`version`, or
`option_versions` where the change is in what one value of an option does), or in
`bench/methods/cards.py` where it lies in what all methods share (`PROTOCOL`) or in how answers
are scored (`METRIC_VERSIONS`). Records made before are then stale, or their metrics marked; only
what a raised version is of may be pinned anew. A change that moves none needs nothing.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bench.experiments.training import fit, prepare, score
from bench.measure.experiment import Accelerator, Context
from bench.methods.card import TRAINING
from bench.methods.cards import current_versions, is_metric_older, of_behaviour
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial

FOLDER = Path(__file__).parent
# Between machines, sums in another order differ in the last digits of float32.
RELATIVE, ABSOLUTE = 2e-4, 2e-5
NUM_QUERIES = 20


def _mlp(method: str, **options: Any) -> ModelSpec:
    return ModelSpec(method=method, encoder="mlp", hidden_dims=(16,), options=options)


def _linear(method: str, **options: Any) -> ModelSpec:
    return ModelSpec(method=method, encoder="linear", options=options)


_SAMPLED = {"num_samples": 24}
_WORLDS = {"num_buckets": 16, "num_worlds": 3}
#: Method → its configurations, by a name each; all are run on one-label and on multi-label data.
CASES: dict[str, dict[str, ModelSpec]] = {
    "full_softmax": {
        "plain": _mlp("full_softmax"),
        "chunked": _mlp("full_softmax", chunk_size=8, feature_dropout=0.2),
        "linear": _linear("full_softmax"),
        "softmax": _mlp("full_softmax", loss="softmax"),
        "lean": _mlp("full_softmax", update="sgd", output_rate=0.5),
        "lean bfloat16": _mlp("full_softmax", update="row_adagrad", weight_type="bfloat16"),
    },
    "sampled_softmax": {
        name: _mlp("sampled_softmax", sampler=name, **_SAMPLED)
        for name in ("uniform", "log_uniform", "unigram", "in_batch", "mixed")
    },
    "adaptive_softmax": {
        "": _mlp("adaptive_softmax"),
        "wide head": _mlp("adaptive_softmax", num_tails=3, head_share=0.3, div_value=2.0),
    },
    "sampled_bce": {"unigram": _mlp("sampled_bce", sampler="unigram", **_SAMPLED)},
    "two_tower": {
        "in_batch": _mlp("two_tower"),
        "dot unigram": _mlp(
            "two_tower", similarity="dot", temperature=1.0, sampler="unigram", **_SAMPLED
        ),
    },
    "mach": {
        "independent": _mlp("mach", **_WORLDS),
        "shared": _mlp("mach", share_encoder=True, **_WORLDS),
        "linear": _linear("mach", **_WORLDS),
        "softmax": _mlp("mach", loss="softmax", estimator="mean", **_WORLDS),
        "hashed features": _mlp("mach", num_hashed_features=64, hash_family="murmur3", **_WORLDS),
        "min": _mlp("mach", estimator="min", hash_family="universal", **_WORLDS),
        "median": _mlp("mach", estimator="median", worlds_per_step=2, **_WORLDS),
    },
    "neighbours": {"": _linear("neighbours", num_neighbours=20)},
    "centroid": {"": _linear("centroid")},
    "frequency": {"": _linear("frequency")},
}


def trials(method: str) -> Iterator[tuple[str, Trial]]:
    """The method's configurations on both tasks."""
    for task, labels_per_point in (("multiclass", 1), ("multilabel", 3)):
        data = DataSpec(
            source="planted",
            name="planted",
            options={
                "num_train_points": 600,
                "num_test_points": 150,
                "num_features": 200,
                "num_labels": 50,
                "labels_per_point": labels_per_point,
            },
            feature_weighting="tfidf",
            num_validation_points=50,
        )
        train = TrainSpec(batch_size=64, learning_rate=0.05, num_steps=32, num_validations=8)
        for name, model in CASES[method].items():
            yield f"{task} {name}".strip(), Trial(data=data, model=model, train=train)


def run(trial: Trial, accelerator: Accelerator = "cpu") -> dict[str, Any]:
    """Losses and validation at every step, test metrics, and the best labels of some points."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        context = Context(data_dir=folder, cache_dir=folder, accelerator=accelerator)
        ready = prepare(trial, context)
        training = fit(ready)
        test, _ = score(ready)
        batch = next(ready.test_batches(NUM_QUERIES))
        with torch.inference_mode():
            scores, labels = ready.model.top_k(batch, 5)
    return {
        "losses": [point["loss"] for point in training["curve"] if point["loss"] is not None],
        "validation": [point["metrics"]["P@1"] for point in training["curve"]],
        "test": test,
        "labels": labels.tolist(),
        "scores": scores.tolist(),
    }


def golden_path(method: str) -> Path:
    """File of a method's pinned numbers."""
    return FOLDER / f"{method}.json"


def versions(method: str) -> dict[str, int]:
    """What decides whether pinned numbers may change: of the method, and of any of its cases."""
    found: dict[str, int] = {}
    for _, trial in trials(method):
        found |= current_versions(trial, TRAINING)
    return {name: version for name, version in found.items() if name != "source"}


def may_change(text: str, trial: Trial, pinned: dict[str, int]) -> bool:
    """Whether a difference of a case is of something whose version was raised since."""
    own = of_behaviour(current_versions(trial, TRAINING))
    is_raised = any(pinned.get(name, 1) != own[name] for name in own if name != "source")
    facts = {"num_validation_points": trial.data.num_validation_points}
    return is_raised or is_metric_older(text, {"versions": pinned, "data": facts})


def differences(pinned: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Where two runs differ by more than rounding; labels count where their scores stand apart."""
    told = []
    for name in ("losses", "validation", "scores"):
        for place, (old, new) in enumerate(
            zip(_flat(pinned[name]), _flat(found[name]), strict=True)
        ):
            if not math.isclose(old, new, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
                told.append(f"{name}[{place}] was {old:.7g}, is {new:.7g}")
    for metric, old in pinned["test"].items():
        new = found["test"].get(metric, math.nan)
        if not math.isclose(old, new, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
            told.append(f"{metric} was {old:.7g}, is {new:.7g}")
    rows = zip(pinned["labels"], found["labels"], pinned["scores"], strict=True)
    for place, (old_labels, new_labels, scores) in enumerate(rows):
        for rank, (old, new) in enumerate(zip(old_labels, new_labels, strict=True)):
            if old != new and _stands_apart(scores, rank):
                told.append(f"label {rank} of point {place} was {old}, is {new}")
    return told


def _stands_apart(scores: list[float], rank: int) -> bool:
    neighbours = scores[max(rank - 1, 0) : rank] + scores[rank + 1 : rank + 2]
    wide = RELATIVE * abs(scores[rank]) + ABSOLUTE
    # The last one's next best is not known.
    return rank + 1 < len(scores) and all(abs(scores[rank] - s) > wide for s in neighbours)


def _flat(values: list[Any]) -> Iterator[float]:
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


def main() -> int:
    """Pin anew the numbers of methods whose version, or the protocol's, was raised."""
    status = 0
    for method in CASES:
        found = {name: run(trial) for name, trial in trials(method)}
        path = golden_path(method)
        now = versions(method)
        if path.is_file():
            pinned = json.loads(path.read_text())
            told = [
                (name, text)
                for name, case in found.items()
                for text in (
                    differences(pinned["cases"][name], case) if name in pinned["cases"] else ()
                )
            ]
            own = dict(trials(method))
            refused = [
                f"{name}: {text}"
                for name, text in told
                if not may_change(text, own[name], pinned["versions"])
            ]
            if refused:
                sys.stderr.write(
                    f"{method}: {refused[0]} and {len(refused) - 1} more; raise a version\n"
                )
                status = 1
                continue
            if not told and pinned["versions"] == now and set(pinned["cases"]) == set(found):
                continue
        path.write_text(json.dumps({"versions": now, "cases": found}, indent=None) + "\n")
        sys.stdout.write(f"{path.name} written\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
