"""Models to folders: of a study's trial, by its kept weights, or of a training of one's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bench.data.module import ExtremeDataModule
from bench.data.prepared import load_labels
from bench.experiments.training import build_model, data_facts, load_data, settle
from bench.experiments.weights import restore_weights, weights_key
from bench.export.features import FeatureMap
from bench.export.folder import (
    FEATURES,
    LABELS,
    VOCABULARY,
    WEIGHTS,
    ModelError,
    refuse_existing,
    write_folder,
)
from bench.export.state import (
    built,
    class_named,
    identity_of,
    method_of,
    settings_of,
    state_of,
    versions_today,
)
from bench.measure.experiment import Context
from bench.methods.card import TRAINING
from bench.methods.cards import current_versions
from bench.nn.checkpoint import own_part
from bench.nn.classifier import DataFacts, ExtremeClassifier
from bench.settings import ModelSpec, TrainSpec, Trial
from bench.store import provenance

_FACTS = ("num_features", "num_labels", "task", "num_train_points", "label_fingerprint")


def export_model(
    model: ExtremeClassifier | str | Path,
    data: ExtremeDataModule,
    folder: str | Path,
    *,
    replace: bool = False,
) -> Path:
    """Write a model that was trained by hand, for :class:`bench.Predictor` and `bench predict`.

    Args:
        model: a trained one, or the checkpoint that a Lightning trainer wrote of it.
        data: the data module that it was trained with; its files are read once more where they are
            texts.
        folder: to be made.
        replace: put it in the place of an exported model that is there.

    Returns:
        The folder.

    Raises:
        ModelError: the model has an encoder of one's own or no card, its checkpoint is of other
            data, or the folder exists.
        SettingsError: the model's labels or features are not those of the data.
    """
    refuse_existing(Path(folder), replace=replace)
    data.setup()
    if not isinstance(model, ExtremeClassifier):
        model = _of_checkpoint(Path(model), data)
    return _write(model, data, Path(folder), record=None, replace=replace)


def export_trial(
    trial: Trial,
    context: Context,
    folder: Path,
    *,
    record: Mapping[str, Any],
    how: str,
    part_of: Trial | None = None,
    replace: bool = False,
) -> Path:
    """Write the model of a study's finished trial; a closed form is computed once more.

    Args:
        trial: by steps.
        context: where its data and its kept weights are.
        folder: to be made.
        record: the trial's.
        how: the command that brings its weights where they were not kept.
        part_of: the trial of all worlds, where this one has some of them.
        replace: put it in the place of an exported model that is there.

    Raises:
        ModelError: the weights are not there, or the folder exists.
    """
    refuse_existing(folder, replace=replace)
    settle(trial, context)
    data = load_data(trial, context)
    model = build_model(trial, data_facts(data))
    fingerprint = str(data.facts["fingerprint"])
    key = weights_key(trial.trial_id, current_versions(trial, TRAINING), fingerprint)
    if model.is_closed_form:
        model.fit_closed_form(data.train_dataloader())
    elif not restore_weights(model, context.cache_dir, key):
        raise ModelError(
            f"{context.cache_dir} holds no weights of trial {trial.trial_id}; `{how}` brings them"
        )
    return _write(model, data, folder, record=record, part_of=part_of, replace=replace)


def _of_checkpoint(path: Path, data: ExtremeDataModule) -> ExtremeClassifier:
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    theirs = checkpoint.get(type(data).__qualname__, {}).get("fingerprint")
    mine = data.facts["fingerprint"]
    if theirs not in (None, mine):
        raise ModelError(
            f"{path} was trained on data of fingerprint {theirs}; expected {mine}, the module's"
        )
    kind = class_named(own_part(checkpoint)["method"])
    model: ExtremeClassifier = kind.load_from_checkpoint(path, map_location="cpu")
    return model


def _write(
    model: ExtremeClassifier,
    data: ExtremeDataModule,
    folder: Path,
    *,
    record: Mapping[str, Any] | None,
    part_of: Trial | None = None,
    replace: bool,
) -> Path:
    model.refuse_other_data(data)
    method = method_of(type(model))
    settings, identity = settings_of(model), identity_of(model)
    facts = {name: getattr(model.facts, name) for name in _FACTS}
    again = built(method, settings, DataFacts(**facts, label_counts=model.facts.label_counts))
    if identity_of(again) != identity:
        raise ModelError(
            f"settings give {json.dumps(identity_of(again))}, and the model is "
            f"{json.dumps(identity)}; expected a model that its settings name (merged worlds "
            "without gaps)"
        )
    features = FeatureMap.of_data(data)
    names, kept = load_labels(data.spec, data.data_dir, data.cache_dir)
    first = features.label_base if names is None else None
    lines = {LABELS: names, VOCABULARY: features.lines()}
    if names is None and kept is not None:
        lines[LABELS] = [str(label + features.label_base) for label in kept.tolist()]
    tensors = {WEIGHTS: state_of(model), FEATURES: features.tensors()}
    trial = Trial(data=data.spec, model=ModelSpec(method=method), train=TrainSpec())
    write_folder(
        folder,
        {
            "method": method,
            "settings": settings,
            "identity": identity,
            "facts": facts,
            "data": trial.to_dict()["data"],
            "fingerprint": data.facts["fingerprint"],
            "labels": {"first": first},
            "versions": versions_today(data.spec, method, settings),
            "record": record,
            "part_of": None if part_of is None else part_of.to_dict(),
            "provenance": provenance.collect(accelerator=None)
            | {"exported_at": provenance.utc_now()},
        },
        tensors={name: parts for name, parts in tensors.items() if parts},
        lines={name: some for name, some in lines.items() if some is not None},
        replace=replace,
    )
    return folder
