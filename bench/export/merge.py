"""One model of folders that hold worlds of one MACH, trained apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from bench.export.folder import (
    FEATURES,
    LABELS,
    VOCABULARY,
    WEIGHTS,
    ModelError,
    read_lines,
    read_meta,
    read_tensors,
    refuse_existing,
    write_folder,
)
from bench.export.predictor import model_of
from bench.export.state import identity_of, settings_of, state_of
from bench.mach.merge import merge_worlds
from bench.mach.module import Mach
from bench.methods.cards import method_class
from bench.store import provenance

Meta = Mapping[str, Any]
# What parts of one model may have each for itself.
_OF_EACH = ("first_world", "num_worlds", "worlds_per_step", "hash worlds")


def merge_models(parts: Sequence[Path], folder: Path, *, replace: bool = False) -> int:
    """Write the model of all worlds, which answers as if they had been trained together.

    Args:
        parts: folders of `bench export --worlds`, or of models made with `first_world`; any order.
        folder: to be made.
        replace: put it in the place of an exported model that is there.

    Returns:
        R.

    Raises:
        ModelError: a folder is torn, or there is no such model: with all that is wrong.
    """
    refuse_existing(folder, replace=replace)
    metas = [read_meta(part, verify=True) for part in parts]
    wrong = list(_wrong(list(zip(map(str, parts), metas, strict=True))))
    if wrong:
        raise ModelError(f"the parts make no model: {'; '.join(wrong)}")
    models = [model_of(part, meta) for part, meta in zip(parts, metas, strict=True)]
    merged = merge_worlds(cast(list[Mach], models))
    first, meta = parts[0], metas[0]
    texts = (name for name in (LABELS, VOCABULARY) if name in meta["sha256"])
    features = {FEATURES: read_tensors(first / FEATURES)} if FEATURES in meta["sha256"] else {}
    told = ("format", "sha256", "seal")
    write_folder(
        folder,
        {name: value for name, value in meta.items() if name not in told}
        | {
            "settings": settings_of(merged),
            "identity": identity_of(merged),
            "record": None,
            "part_of": None,
            "parts": [{"record": each["record"], "of": each.get("part_of")} for each in metas],
            "provenance": provenance.collect(accelerator=None)
            | {"exported_at": provenance.utc_now()},
        },
        tensors={WEIGHTS: state_of(merged), **features},
        lines={name: read_lines(first / name) for name in texts},
        replace=replace,
    )
    return merged.head.num_worlds


def _wrong(parts: Sequence[tuple[str, Meta]]) -> Iterator[str]:
    """What keeps folders from being the parts of one model."""
    first, told = parts[0]
    for name, meta in parts:
        if method_class(meta["method"]) is not Mach:
            yield f"{name} is of {meta['method']}; expected MACH, which has worlds"
        elif _settings(meta).get("share_encoder"):
            yield f"{name}: its worlds share an encoder; expected share_encoder=False"
        for what, mine, theirs in _differences(meta, told):
            yield f"{name}: {what} is {mine!r}, in {first} {theirs!r}"
    owners: dict[int, list[str]] = {}
    for name, meta in parts:
        for world in _worlds(meta):
            owners.setdefault(world, []).append(name)
    for world, names in sorted(owners.items()):
        if len(names) > 1:
            yield f"world {world} is in {' and in '.join(names)}; expected each once"
    whole = told.get("part_of")
    options = whole["model"]["options"] if whole else {}
    start = options.get("first_world", 0) if whole else min(owners, default=0)
    stop = start + options["num_worlds"] if whole else max(owners, default=-1) + 1
    missing = sorted(set(range(start, stop)) - set(owners))
    if missing:
        yield f"worlds {', '.join(map(str, missing))} of {start}:{stop} are in none"


def _differences(mine: Meta, theirs: Meta) -> Iterator[tuple[str, object, object]]:
    """What must be the same and is not: its name and both values."""
    one, other = _told(mine), _told(theirs)
    for name in sorted(one.keys() | other.keys()):
        if one.get(name) != other.get(name):
            yield name, one.get(name), other.get(name)


def _told(meta: Meta) -> dict[str, object]:
    """All that parts of one model have in common, by a name that says where it is from."""
    trial: dict[str, Any] = meta.get("part_of") or {}
    groups: dict[str, Mapping[str, Any]] = {
        "method": {"": meta["method"]},
        "data fingerprint": {"": meta["fingerprint"]},
        "data": meta["facts"],
        "first label": {"": meta["labels"]["first"]},
        "SHA-256 of": {name: meta["sha256"].get(name) for name in (LABELS, VOCABULARY, FEATURES)},
        "version of": meta["versions"],
        "identity": meta["identity"],
        "settings": {} if trial else _settings(meta),
        "trial": {"replicate": trial.get("replicate")},
    }
    for name in ("data", "model", "train"):
        spec: dict[str, Any] = trial.get(name, {})
        groups[f"trial {name}"] = spec | spec.get("options", {}) | {"options": None}
    return {
        f"{group} {name}".strip(): value
        for group, values in groups.items()
        for name, value in values.items()
        if name not in _OF_EACH
    }


def _worlds(meta: Meta) -> range:
    settings = meta["settings"]
    first = settings.get("first_world", 0)
    return range(first, first + settings.get("num_worlds", 0))


def _settings(meta: Meta) -> dict[str, Any]:
    return {name: v for name, v in meta["settings"].items() if name not in _OF_EACH}
