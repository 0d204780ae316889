"""What tables and figures call a method and a setting."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

METHOD_ORDER = (
    "full_softmax",
    "sampled_softmax",
    "sampled_bce",
    "mach",
    "centroid",
    "frequency",
)

_NAMES = {
    "full_softmax": {"": "Full softmax", "multilabel": "One-vs-all"},
    "sampled_softmax": {"": "Sampled softmax"},  # a softmax on multi-label data too
    "sampled_bce": {"": "Sampled BCE"},
    "mach": {"": "MACH"},
    "frequency": {"": "Class frequency", "multilabel": "Label frequency"},
    "centroid": {"": "Nearest centroid"},
}

#: Decode methods in the order of their tables: rivals, ours, approximate ones.
DECODE_NAMES = {
    "authors": "Authors' gather",
    "softmax_matmul": "Softmax matmul + top-k",
    "faiss_pq": "FAISS IndexPQ",
    "dense": "Dense",
    "pruned": "Pruned",
    "auto": "Auto",
    "buckets": "Top buckets (approximate)",
}

# Shown in every row of the method, whether or not they differ: they are what a reader looks for.
_ALWAYS = {
    "full_softmax": ("chunk_size",),
    "sampled_softmax": ("sampler", "num_samples"),
    "sampled_bce": ("sampler", "num_samples"),
    "mach": ("num_buckets", "num_worlds", "estimator", "share_encoder"),
}
# What a method does where its options say nothing, if a reader must be told.
_UNTOLD: dict[str, dict[str, Any]] = {
    "full_softmax": {"chunk_size": None},
    "mach": {"share_encoder": False, "estimator": None},
}
_ORDER = (
    "num_buckets",
    "num_worlds",
    "sampler",
    "num_samples",
    "chunk_size",
    "encoder",
    "hidden_dims",
    "share_encoder",
    "num_hashed_features",
    "hash_family",
    "estimator",
    "batch_size",
    "learning_rate",
    "optimizer",
    "schedule",
    "max_epochs",
    "max_train_seconds",
)
_SHORT = {
    "num_buckets": "B",
    "num_worlds": "R",
    "num_samples": "S",
    "chunk_size": "chunk",
    "batch_size": "batch",
    "learning_rate": "lr",
    "hash_family": "hash",
    "max_epochs": "epochs",
    "num_hashed_features": "hashed features",
    "num_best_buckets": "best buckets",
    "worlds_per_step": "worlds a step",
}
_WORDS: dict[str, dict[Any, str]] = {
    "share_encoder": {True: "shared encoder", False: "independent encoders"},
    "sampler": {
        "in_batch": "in-batch",
        "log_uniform": "log-uniform",
        "uniform": "uniform",
        "unigram": "unigram",
        "all": "all labels",
    },
    "chunk_size": {None: "plain"},
    "max_train_seconds": {None: "no time limit"},
    "optimizer": {"adam": "Adam", "row_adam": "row Adam"},
    "schedule": {"constant": "constant rate", "linear_decay": "decaying rate"},
    "recompute": {True: "hash recomputed", False: "table"},
    "falls_back": {True: "falls back to a scan", False: "walk alone"},
    "estimator": {None: "default estimator", "log_mean": "log-mean", "logit_sum": "logit sum"},
}
# Values that speak for themselves, without "key=".
_BARE = frozenset(
    {"encoder", "sampler", "estimator", "optimizer", "schedule", "precision", "score_type"}
)
# Part of a table's subject, not of a row's setting.
_NOT_A_SETTING = frozenset({"num_validations", "trial_timeout_seconds"})


def method_name(method: str, task: str = "", loss: str | None = None) -> str:
    """Name for readers; a method unknown here keeps its registered name.

    The loss (by default the task's) tells a softmax from one-vs-all.

    >>> method_name("full_softmax"), method_name("full_softmax", "multilabel")
    ('Full softmax', 'One-vs-all')
    >>> method_name("full_softmax", "multilabel", "softmax")
    'Full softmax'
    """
    names = _NAMES.get(method, {})
    if loss is not None:
        task = "multilabel" if loss == "bce" else ""
    return names.get(task) or names.get("") or method


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of a model and its training under its own name."""
    model = dict(settings.get("model") or {})
    options = dict(model.pop("options", None) or {})
    told = _UNTOLD.get(str(model.pop("method", None)), {})
    return {**told, **model, **dict(settings.get("train") or {}), **options}


def describe_settings(all_settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Short text for each configuration: what always matters, and what tells it from the others.

    The encoder, training and data settings are compared over all trained methods; a method's own
    options only among its own rows.
    """
    flat = [flatten(settings) for settings in all_settings]
    methods = [str((settings.get("model") or {}).get("method")) for settings in all_settings]
    trained = [place for place, method in enumerate(methods) if method in _ALWAYS]
    texts = []
    for place, (own, method) in enumerate(zip(flat, methods, strict=True)):
        keys = []
        options = {*_UNTOLD.get(method, {}), *_options(all_settings[place])}
        for key in sorted(own, key=_key_order):
            peers = trained if place in trained else []
            if key in options:
                peers = [peer for peer in peers if methods[peer] == method]
            values = {json.dumps(flat[p].get(key, "unsaid"), sort_keys=True) for p in peers}
            if key == "num_samples" and own.get("sampler") in ("in_batch", "all"):
                continue  # the batch, or the labels, are the sample
            is_always = key in _ALWAYS.get(method, ()) or (key == "hidden_dims" and bool(peers))
            is_shown = is_always or len(values) > 1
            if key == "share_encoder" and own.get("encoder") == "linear":
                continue  # there is nothing to share
            if is_shown and key not in _NOT_A_SETTING:
                keys.append(key)
        texts.append(", ".join(text for key in keys if (text := describe(key, own[key]))))
    return texts


def _options(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    return (settings.get("model") or {}).get("options") or {}


def describe(key: str, value: Any) -> str:
    """One setting in short.

    >>> describe("num_buckets", 512), describe("hidden_dims", [128]), describe("chunk_size", None)
    ('B=512', 'H=128', 'plain')
    """
    if key == "hidden_dims":
        return "H=" + "-".join(str(width) for width in value) if value else ""
    if key == "encoder":
        return "linear" if value == "linear" else ""
    words = _WORDS.get(key, {})
    if isinstance(value, bool | str | None) and value in words:
        return words[value]
    if key == "max_train_seconds":
        return f"at most {value:g} s"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if value is None:
        return ""
    if key in _BARE:
        return text
    return f"{_SHORT.get(key, key.replace('_', ' '))}={text}"


def _key_order(key: str) -> tuple[int, str]:
    return (_ORDER.index(key) if key in _ORDER else len(_ORDER), key)


def sort_key(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """Orders the rows of a method: encoder first, then B, R and the rest, numbers as numbers."""
    flat = flatten(settings)
    first = ("encoder", "hidden_dims", "share_encoder")
    keys = [*first, *(key for key in sorted(flat, key=_key_order) if key not in first)]
    return tuple((key, *_comparable(flat.get(key))) for key in keys)


def _comparable(value: Any) -> tuple[int, float, str]:
    if value is None:
        return (0, 0.0, "")
    if isinstance(value, int | float):
        return (1, float(value), "")
    if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
        return (1, float(sum(value)), str(value))
    return (2, 0.0, str(value))


def variant(settings: Mapping[str, Any]) -> str:
    """Which encoder a model has: `linear`, `shared` or `independent` (one a world)."""
    flat = flatten(settings)
    if flat.get("encoder") == "linear":
        return "linear"
    return "shared" if flat.get("share_encoder") else "independent"


def series_name(
    settings: Mapping[str, Any], task: str, *, with_variant: bool, with_loss: bool = False
) -> str:
    """Name of the line or colour that a configuration belongs to in figures.

    A series is a method's sampler, its B, whether it is chunked, and, where that differs, its
    encoder and loss; R, S and the rest move along the series.
    """
    method = str((settings.get("model") or {}).get("method"))
    flat = flatten(settings)
    parts = [method_name(method, task, flat.get("loss"))]
    if method == "sampled_softmax":
        parts = ["Sampled"]
    if method == "mach":
        parts[0] += f" B={flat.get('num_buckets')}"
        if with_loss:
            loss = flat.get("loss") or ("bce" if task == "multilabel" else "softmax")
            parts.append("BCE" if loss == "bce" else str(loss))
    elif method in ("sampled_softmax", "sampled_bce") and "sampler" in flat:
        parts.append(describe("sampler", flat["sampler"]))
    elif method == "full_softmax" and flat.get("chunk_size"):
        parts.append("chunked")
    kind = variant(settings)
    if with_variant and (kind != "independent" or method == "mach"):
        parts.append(kind)
    return ", ".join(parts)
