"""What studies are built of: models, grids of trials, and the same in small."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from bench.methods.labels import card_of
from bench.settings import DataSpec, ModelSpec, Scalar, TrainSpec, Trial
from bench.studies.study import Profile, Study
from bench.studies.tuned import tuned_or_none
from bench.studies.tuning import PLAIN

#: A model, and how it is trained.
Setup = tuple[ModelSpec, TrainSpec]

TRIVIAL = (
    ModelSpec(method="frequency", encoder="linear"),
    ModelSpec(method="centroid", encoder="linear"),
)


def mlp(method: str, hidden_dim: int, **options: Scalar) -> ModelSpec:
    """A method over one hidden layer."""
    return ModelSpec(method=method, encoder="mlp", hidden_dims=(hidden_dim,), options=options)


def linear(method: str, **options: Scalar) -> ModelSpec:
    """A method straight on the features."""
    return ModelSpec(method=method, encoder="linear", options=options)


def grid(
    data: DataSpec,
    rows: Iterable[Setup],
    *,
    replicates: int = 1,
    trivial: bool = True,
) -> list[Trial]:
    """Trials of every row, replicates outermost; trivial baselines, which have no seed, once."""
    trials = [Trial(data=data, model=each, train=PLAIN) for each in TRIVIAL] if trivial else []
    kept = list(rows)
    for replicate in range(replicates):
        trials += [
            Trial(data=data, model=model, train=train, replicate=replicate) for model, train in kept
        ]
    return trials


def tuned_grid(
    study: str,
    data: DataSpec,
    start: Sequence[Setup],
    profile: Profile,
    *,
    gpu_epochs: float,
    replicates: int,
    shapes: Iterable[Mapping[str, Scalar]] = (),
) -> list[Trial]:
    """A row for each method of a study that was tuned, with the settings that this found.

    Args:
        study: its name.
        data: its data.
        start: what tuning starts with: the rows until there is an outcome.
        profile: on a GPU, training is by epochs.
        gpu_epochs: how many.
        replicates: of what trains by steps; the others have one.
        shapes: options of MACH of further rows, beside the chosen one; see :func:`is_tuned`.
    """
    found = tuned_or_none(study)
    rows = list(start) if found is None else list(found.values())
    if found is not None and "mach" in found:
        model, train = found["mach"]
        others = (
            dataclasses.replace(model, options={**model.options, **shape}) for shape in shapes
        )
        rows += [(other, train) for other in others if other != model]
    by_steps = [
        (model, _on_gpu(train, gpu_epochs) if profile == "gpu" else train)
        for model, train in rows
        if train.budget_seconds is not None
    ]
    whole = [
        (model, train)
        for model, train in rows
        if train.budget_seconds is None and model not in TRIVIAL
    ]
    return grid(data, by_steps, replicates=replicates) + grid(data, whole, trivial=False)


def is_tuned(study: str) -> Callable[[Trial], bool]:
    """Tells a study's tuned rows from MACH's others, which only B and R set apart."""
    found = tuned_or_none(study)
    chosen = found["mach"][0] if found and "mach" in found else None
    return lambda trial: trial.model.method != "mach" or chosen in (None, trial.model)


def rivals_of(num_labels: int) -> list[Setup]:
    """Rows without gradients that any data may have beside the trivial baselines of :func:`grid`.

    kNN, Parabel, Bonsai-like trees, PLT and, of few labels, linear one-versus-rest, with settings
    as published. All but kNN come with the extra `peers`.
    """
    models = [
        linear("neighbours", num_neighbours=50),
        linear("omikuji", preset="parabel"),
        linear("omikuji", preset="bonsai"),
        linear("napkinxc", model="plt", num_trees=3),
    ]
    models.append(linear("one_vs_rest"))
    limits = [card_of(model.method, "training").most_labels or num_labels for model in models]
    return [
        (model, PLAIN) for model, most in zip(models, limits, strict=True) if num_labels <= most
    ]


def _on_gpu(train: TrainSpec, num_epochs: float) -> TrainSpec:
    """A tuned training by epochs, in batches that fill a GPU."""
    batch_size = max(1024, train.batch_size)
    return dataclasses.replace(
        train, budget_seconds=None, num_epochs=num_epochs, batch_size=batch_size
    )


def shrink(trials: Iterable[Trial], task: Literal["multiclass", "multilabel"]) -> list[Trial]:
    """The same grid in seconds: small planted data, every size of the model cut down.

    Rows that become equal are kept once, replicates left out. Each method and each kind of setting
    is still run.
    """
    data = DataSpec(
        source="planted",
        name="planted",
        options={
            "num_train_points": 1500,
            "num_test_points": 200,
            "num_features": 300,
            "num_labels": 60,
            "labels_per_point": 1 if task == "multiclass" else 3,
        },
        feature_weighting="tfidf",
        num_validation_points=100,
    )
    small: dict[str, Trial] = {}
    for trial in trials:
        if trial.replicate > 0:
            continue
        model = shrunk(trial.model, "training", 8)
        if "feature_dropout" in model.options:  # rows that differ only in how much are one
            options = {**model.options, "feature_dropout": 0.2}
            model = dataclasses.replace(model, options=options)
        train = dataclasses.replace(
            trial.train,
            batch_size=min(trial.train.batch_size, 64),
            num_steps=None,
            num_epochs=1.0,
            budget_seconds=None,
            num_validations=2,
            learning_rate=0.01,
            trial_timeout_seconds=300.0,
        )
        of = Trial(data=data, model=model, train=train, replicate=trial.replicate)
        small.setdefault(of.trial_id, of)
    return list(small.values())


def shrunk(model: ModelSpec, kind: str, max_width: int) -> ModelSpec:
    """A model in small, by the limits on its method's card."""
    return dataclasses.replace(
        model,
        options=capped(model.options, card_of(model.method, kind).smoke),
        hidden_dims=tuple(min(width, max_width) for width in model.hidden_dims),
    )


def capped(options: Mapping[str, Scalar], limits: Mapping[str, int]) -> dict[str, Scalar]:
    """Options whose numbers are at most those of their limits."""
    return {
        name: min(value, limits[name]) if name in limits and isinstance(value, int) else value
        for name, value in options.items()
    }


def study(
    function: Callable[[Profile], list[Trial]],
    *,
    task: Literal["multiclass", "multilabel"] = "multiclass",
    smoke: Callable[[], list[Trial]] | None = None,
    **fields: Any,
) -> Study:
    """A study named after the function that gives its trials and whose docstring is its claim.

    Without smoke trials of its own it has those of its first profile, shrunk, on data of the task.
    """
    profiles: tuple[Profile, ...] = fields.get("profiles", ("cpu", "gpu"))
    return Study(
        name=function.__name__.replace("_", "-"),
        claim=function.__doc__ or "",
        trials=function,
        smoke=smoke or (lambda: shrink(function(profiles[0]), task)),
        **fields,
    )


def fastest_chunk(profile: Profile) -> int | None:
    """Points whose logits a full softmax holds together where it is fastest; None: all of a batch.

    On a CPU, 128 (`results/benchmarks/losses.md`); on a GPU that took 1.3 to 1.6 times as long as
    all at once.
    """
    return None if profile == "gpu" else 128


def budget(seconds: float, profile: Profile, *, gpu_epochs: float, **settings: Any) -> TrainSpec:
    """Equal seconds for every method on a CPU; on a GPU, epochs enough to converge."""
    if profile == "gpu":
        settings["batch_size"] = max(1024, settings.get("batch_size", 256))
        return TrainSpec(num_epochs=gpu_epochs, **settings)
    return TrainSpec(budget_seconds=seconds, **settings)
