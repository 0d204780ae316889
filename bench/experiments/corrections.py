"""Arithmetic in records put right without training.

Command: `python -m bench.experiments.corrections results`.

What was measured is never touched. A corrected record is appended as one more line, which is the
old one but for the fields that its `correction` names; being the newest, it is the one that counts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench.settings import SettingsError, Trial
from bench.store import provenance, record
from bench.store.folders import folder_named
from bench.store.record import Record

_REASON = (
    "with hashed features each world has rows of its own in the first layer; the bound on the rows "
    "that a batch touches had counted those of one world"
)
# With these, sparse layers give dense gradients, which were counted in full.
_DENSE = ("adam", "tf_adam")


def first_layer_bytes(old: Record) -> Record | None:
    """A record of MACH on hashed features with the gradient bytes of all its worlds.

    Its gradients are those of every parameter but the first layer in full, and of the first layer
    the rows that one batch can touch: R · batch · features of a point, at most R · D'.

    Returns:
        None where it is right already, or the matter does not concern it.
    """
    try:
        trial = Trial.from_dict(old.settings)
    except SettingsError:
        return None
    options, memory, facts = trial.model.options, old.block("memory"), old.block("data")
    hashed, num_worlds = options.get("num_hashed_features"), options.get("num_worlds")
    width = trial.model.hidden_dims[0] if trial.model.hidden_dims else options.get("num_buckets")
    entries = facts.get("features_per_point")
    if trial.model.method != "mach" or trial.train.optimizer in _DENSE:
        return None
    needed = [memory.get(f"{part}_bytes") for part in ("parameter", "gradient", "predicted")]
    if not (hashed and num_worlds and width and entries) or None in needed:
        return None
    parameters, gradients, predicted = (int(value or 0) for value in needed)
    num_rows = int(num_worlds) * int(hashed)
    touched = min(int(int(num_worlds) * trial.train.batch_size * entries), num_rows)
    right = parameters - 4 * int(width) * (num_rows - touched)
    if right == gradients:
        return None
    commit, _ = provenance.git_state()
    return record.corrected(
        old,
        {"memory": {"gradient_bytes": right, "predicted_bytes": predicted + right - gradients}},
        reason=_REASON,
        commit=commit,
        at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )


def correct(results_dir: Path) -> Iterator[tuple[Path, Record]]:
    """Append what is wrong in the records of a results folder once more, corrected.

    Raises:
        SchemaError: records of another schema.
        StorageError: a line cannot be written.
    """
    for path in sorted(results_dir.glob("records/*/*.jsonl")):
        records, _ = record.read(path)
        for old in record.latest(records):
            new = first_layer_bytes(old)
            if new is not None:
                record.append(path, new)
                yield path, new


def main(arguments: list[str] | None = None) -> int:
    """Correct a results folder and say what was."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.experiments.corrections", description=__doc__
    )
    parser.add_argument("results", type=folder_named)
    for path, new in correct(parser.parse_args(arguments).results):
        fields = ", ".join(new.block("correction")["fields"])
        sys.stdout.write(f"{path}: {new.trial_id}: {fields}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
