"""MACH against full and sampled softmax: memory, time and accuracy at a given number of labels.

The names below are the public ones: what studies, methods and data sources of one's own are made
of. They are imported when they are first used, so that listing studies imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baselines.full_softmax import FullSoftmax as FullSoftmax
    from baselines.heads import SampledSoftmaxHead as SampledSoftmaxHead
    from baselines.heads import SoftmaxHead as SoftmaxHead
    from baselines.sampled_softmax import SampledSoftmax as SampledSoftmax
    from bench.data.module import ExtremeDataModule as ExtremeDataModule
    from bench.data.source import Source as Source
    from bench.experiments.recipe import recipe as recipe
    from bench.experiments.training import data_facts as data_facts
    from bench.export.predictor import Predictor as Predictor
    from bench.export.write import export_model as export_model
    from bench.mach.devices import WorldsStrategy as WorldsStrategy
    from bench.mach.head import MachHead as MachHead
    from bench.mach.module import Mach as Mach
    from bench.measure.environment import set_environment as set_environment
    from bench.methods.arithmetic import DataSizes as DataSizes
    from bench.methods.arithmetic import predict_memory as predict_memory
    from bench.methods.arithmetic import predict_step as predict_step
    from bench.methods.card import Card as Card
    from bench.nn.classifier import DataFacts as DataFacts
    from bench.nn.classifier import ExtremeClassifier as ExtremeClassifier
    from bench.settings import DataSpec as DataSpec
    from bench.settings import ModelSpec as ModelSpec
    from bench.settings import TrainSpec as TrainSpec
    from bench.settings import Trial as Trial
    from bench.studies.grids import grid as grid
    from bench.studies.grids import linear as linear
    from bench.studies.grids import mlp as mlp
    from bench.studies.grids import shrink as shrink
    from bench.studies.study import Study as Study
    from bench.studies.tuned import tuned as tuned
    from bench.studies.tuning import Tuning as Tuning

__version__ = "0.1.0"

_HOMES = {
    "Card": "bench.methods.card",
    "DataFacts": "bench.nn.classifier",
    "DataSizes": "bench.methods.arithmetic",
    "DataSpec": "bench.settings",
    "ExtremeClassifier": "bench.nn.classifier",
    "ExtremeDataModule": "bench.data.module",
    "FullSoftmax": "baselines.full_softmax",
    "Mach": "bench.mach.module",
    "MachHead": "bench.mach.head",
    "ModelSpec": "bench.settings",
    "Predictor": "bench.export.predictor",
    "SampledSoftmax": "baselines.sampled_softmax",
    "SampledSoftmaxHead": "baselines.heads",
    "SoftmaxHead": "baselines.heads",
    "Source": "bench.data.source",
    "Study": "bench.studies.study",
    "TrainSpec": "bench.settings",
    "Trial": "bench.settings",
    "Tuning": "bench.studies.tuning",
    "WorldsStrategy": "bench.mach.devices",
    "data_facts": "bench.experiments.training",
    "export_model": "bench.export.write",
    "grid": "bench.studies.grids",
    "linear": "bench.studies.grids",
    "mlp": "bench.studies.grids",
    "recipe": "bench.experiments.recipe",
    "set_environment": "bench.measure.environment",
    "predict_memory": "bench.methods.arithmetic",
    "predict_step": "bench.methods.arithmetic",
    "shrink": "bench.studies.grids",
    "tuned": "bench.studies.tuned",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
