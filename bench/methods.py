"""Registry of methods: a new method is one file and one line here."""

from __future__ import annotations

import importlib
import inspect
from typing import Any, cast

from bench.settings import ModelSpec, SettingsError

METHODS: dict[str, str] = {
    "full_softmax": "baselines.full_softmax:FullSoftmax",
    "sampled_softmax": "baselines.sampled_softmax:SampledSoftmax",
    "mach": "bench.mach.module:Mach",
    "frequency": "baselines.floors:ClassFrequency",
    "centroid": "baselines.floors:NearestCentroid",
}


def method_class(name: str) -> type[Any]:
    """The `ExtremeClassifier` subclass behind a method's name.

    Raises:
        SettingsError: unknown name.
    """
    if name not in METHODS:
        raise SettingsError(f"method is {name!r}; expected one of {', '.join(METHODS)}")
    module_name, _, class_name = METHODS[name].partition(":")
    return cast(type[Any], getattr(importlib.import_module(module_name), class_name))


def check_options(spec: ModelSpec) -> None:
    """Refuse options that the method's class does not take, before any data is read.

    Raises:
        SettingsError: an unknown option, or a required one is missing.
    """
    known: dict[str, bool] = {}
    for kind in method_class(spec.method).__mro__:
        if "__init__" not in vars(kind) or not kind.__module__.startswith(("bench.", "baselines.")):
            continue
        for name, parameter in inspect.signature(vars(kind)["__init__"]).parameters.items():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                known.setdefault(name, parameter.default is inspect.Parameter.empty)
    unknown = sorted(set(spec.options) - set(known))
    missing = sorted(name for name, needed in known.items() if needed and name not in spec.options)
    if unknown or missing:
        raise SettingsError(
            f"options of method {spec.method!r}: unknown {unknown}, missing {missing}; "
            f"it takes {sorted(known)}"
        )
