"""Writes all that a reader sees: tables, figures, and the README's tables."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from bench.report.readme import refresh
from bench.report.render import MachineResults, load_results, write_results


def build(
    results_dir: Path, out_dir: Path | None = None, studies: Sequence[str] | None = None
) -> list[Path]:
    """Render tables and figures from the records of a results folder.

    Args:
        results_dir: folder with `records/<study>/<machine>.jsonl`.
        out_dir: `tables/` and `figures/` go below it; None: the results folder itself, and the
            marked blocks of the README beside the results folder are refreshed too.
        studies: names, or paths of Python files that define one; None: all that have records.

    Returns:
        The files written, sorted.

    Raises:
        StudyError: a study that was asked for is unknown or has no records.
        SchemaError: records of another schema.
    """
    paths: list[Path] = []
    for results in load_results(results_dir, studies):
        paths += write_results(results, out_dir or results_dir)
    if out_dir is None:
        # A study may stand in several blocks; its records are read once.
        find = functools.cache(lambda name: _named(results_dir, name))
        paths += refresh(results_dir.parent / "README.md", find)
    return sorted(set(paths))


def _named(results_dir: Path, name: str) -> list[MachineResults]:
    if not (results_dir / "records" / name).is_dir():
        return []
    return load_results(results_dir, [name])
