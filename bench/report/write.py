"""Writes all that a reader sees: tables, figures, and the README's tables.

Results come from `bench.report.load`; `bench.report.renderers` names what makes their tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bench.report.load import MachineResults, load_results, reference_of
from bench.report.readme import refresh
from bench.report.render import escape_markdown, render_latex, render_markdown
from bench.report.renderers import rendering_of
from bench.report.style import draw_files
from bench.report.tables.comparison import Comparison, compare_results, render_comparison
from bench.report.tables.tuning import write_tuning
from bench.store.files import replace_file


def build(
    results_dir: Path,
    out_dir: Path | None = None,
    studies: Sequence[str] | None = None,
    reference_dir: Path | None = None,
    warn: Callable[[str], object] = lambda warning: None,
) -> list[Path]:
    """Render tables and figures from the records and costs of a results folder.

    Args:
        results_dir: folder with `records/<study>/<machine>-<host>.jsonl`.
        out_dir: `tables/` and `figures/` go below it; None: the results folder itself, and the
            marked blocks of the README beside the results folder are refreshed too.
        studies: names, or paths of Python files that define one; None: all that have records.
        reference_dir: the results are somebody's own, beside those of this folder.
        warn: takes a warning for each line that could not be read; its row is not shown.

    Returns:
        The files written, sorted.

    Raises:
        StudyError: a study that was asked for is unknown or has no records.
        SchemaError: lines of another schema.
        BudgetError: a file of budgets holds something else.
    """
    paths: list[Path] = []
    for results in load_results(results_dir, studies, reference_dir):
        comparison = beside(results, reference_dir)
        others = comparison.reference if comparison else None
        for warning in (*results.warnings, *(others.warnings if others else ())):
            warn(warning)
        paths += write_results(results, out_dir or results_dir, comparison)
    if studies is None:
        paths += write_tuning(results_dir, out_dir or results_dir)
    if out_dir is None:
        paths += refresh(results_dir.parent / "README.md", results_dir)
    return sorted(set(paths))


def beside(results: MachineResults, reference_dir: Path | None) -> Comparison | None:
    """Somebody's own results beside the reference's; None where they are the reference."""
    if reference_dir is None:
        return None
    return compare_results(results, reference_of(reference_dir, results.study.name))


def write_results(
    results: MachineResults, out_dir: Path, comparison: Comparison | None = None
) -> list[Path]:
    """Write the tables and figures of one study on one machine; returns the files."""
    if not results.sections:
        return []
    name, rendering = results.study.name, rendering_of(results.study)
    head = "generated from records and costs by `python -m bench report`; do not edit"
    tables = [rendering.build_table(section) for section in results.sections]
    details = (rendering.build_details(section) for section in results.sections)
    tables += [table for table in details if table is not None]
    plots = list(rendering.plots(results.sections))
    reasons = [f"{stem}: {plot}" for stem, plot in plots if isinstance(plot, str)]
    skipped = [f"Figures not drawn: {'; '.join(reasons)}."] if reasons else []
    tables[-1] = replace(tables[-1], notes=(*tables[-1].notes, *results.notes, *skipped))
    markdown = f"# {escape_markdown(name)}\n\n<!-- {head} -->\n\n"
    markdown += render_comparison(comparison) if comparison else ""
    latex = f"% {head}\n% needs booktabs and graphicx\n"
    for index, table in enumerate(tables, start=1):
        latex += render_latex(table, f"{name}-{results.machine}-{index}")
    markdown += "\n".join(map(render_markdown, tables))
    folder = out_dir / "tables" / name
    paths = [
        replace_file(folder / f"{results.machine}{kind}", text.encode())
        for kind, text in ((".md", markdown), (".tex", latex))
    ]
    figures = out_dir / "figures" / name / results.machine
    stems: Counter[str] = Counter()
    for stem, plot in plots:
        stems[stem] += 1
        # The same part again, of other data or another machine.
        suffix = f"-{stems[stem]}" if stems[stem] > 1 else ""
        if not isinstance(plot, str):
            for kind, content in draw_files(plot).items():
                paths.append(replace_file(figures / f"{stem}{suffix}{kind}", content))
    return paths
