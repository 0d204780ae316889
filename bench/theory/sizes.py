"""Parameters and bytes of published models, counted on models of the suite."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bench.classifier import DataFacts, Task
from bench.methods import check_options
from bench.settings import ModelSpec, SettingsError, TrainSpec, Trial
from bench.theory.outcome import Outcome
from bench.trial import build_model, predicted_memory


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Sizes of a data set.

    Attributes:
        num_features: D.
        num_labels: L.
        task: `multiclass` or `multilabel`.
    """

    num_features: int
    num_labels: int
    task: Task = "multiclass"


def count(trial: Trial, seed: int) -> Outcome:
    """Parameters and bytes of a method's model at some sizes; nothing is allocated.

    The method is the option `of`, the others are its own. Bytes of training are those of plain
    Adam: parameters, gradients and two moments.

    Args:
        trial: the data's options are those of :class:`Shapes`.
        seed: unused; nothing is drawn.

    Raises:
        SettingsError: unknown sizes, method or options.
    """
    options = dict(trial.model.options)
    method = str(options.pop("of", ""))
    try:
        sizes = Shapes(**trial.data.options)  # type: ignore[arg-type]
    except TypeError as error:
        raise SettingsError(f"sizes of {trial.data.name!r}: {error}") from error
    shown = trial.model
    model = ModelSpec(
        method=method, encoder=shown.encoder, hidden_dims=shown.hidden_dims, options=options
    )
    check_options(model)
    trained = Trial(data=trial.data, model=model, train=TrainSpec(batch_size=1, optimizer="adam"))
    facts = DataFacts(
        num_features=sizes.num_features,
        num_labels=sizes.num_labels,
        task=sizes.task,
        label_counts=torch.empty(sizes.num_labels, dtype=torch.int64, device="meta"),
        num_train_points=1,
    )
    memory = predicted_memory(trained, facts, 1.0)
    with torch.device("meta"):
        built = build_model(trained, facts)
    counts = {name: p.numel() for name, p in built.named_parameters()}
    is_linear = shown.encoder == "linear"
    output = sum(n for name, n in counts.items() if is_linear or not name.startswith("encoder."))
    kept = [int(memory[f"{part}_bytes"] or 0) for part in ("parameter", "gradient", "optimizer")]
    return Outcome(
        test={
            "parameters": float(sum(counts.values())),
            "parameter bytes": float(kept[0]),
            "bytes with momentum": float(kept[0] + kept[2]),
            "training bytes": float(sum(kept)),
            "output parameters": float(output),
            "output training bytes": sum(kept) * output / sum(counts.values()),
            "input training bytes": sum(kept) * (1 - output / sum(counts.values())),
        },
        facts={"num_labels": sizes.num_labels, "num_features": sizes.num_features},
    )
