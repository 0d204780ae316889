"""The table of a tuning: what each method came to by the same rule, and from how many tries."""

from __future__ import annotations

from pathlib import Path

from bench.methods.labels import card_of
from bench.report.render import GAP, Cell, Table, escape_markdown, number, percent, render_markdown
from bench.store.files import replace_file
from bench.studies.tuned import Tuned, TunedMethod, read_tuned
from bench.studies.tuning import standard_error

_HEADS = ("method", "settings", "± s.e.", "first try", "tries", "seconds", "took", "edges")


def tuning_table(tuned: Tuned) -> Table:
    """A line for each method, best on validation first; those without any value last."""
    best_first = sorted(tuned.methods, key=lambda method: -method.value)
    lines = [_line(method, tuned, is_best=method is best_first[0]) for method in best_first]
    failed = [
        (Cell(card_of(name, "training").label), Cell(reason), *[Cell(GAP)] * (len(_HEADS) - 1))
        for name, reason in tuned.failed.items()
    ]
    heads = (*_HEADS[:2], f"validation {tuned.metric}", *_HEADS[2:])
    return Table(
        title=f"{tuned.study}: tuned on {tuned.data}",
        columns=heads,
        groups=tuple(tuple(group) for group in (lines, failed) if group),
        notes=_notes(tuned),
        spare=("took", "seconds", "edges", "first try"),
    )


def _line(method: TunedMethod, tuned: Tuned, *, is_best: bool) -> tuple[Cell, ...]:
    card = card_of(method.method, "training")
    label = card.name_for(str(method.settings["model"].get("options", {}).get("loss")))
    tries = str(method.num_tries)
    if method.num_failed:
        tries += f" ({method.num_failed} failed)"
    error = standard_error(method.value, tuned.num_validation_points)
    return (
        Cell(label),
        Cell(method.text or GAP),
        Cell(percent(method.value), is_bold=is_best),
        Cell(percent(error)),
        Cell(percent(method.default) if method.default is not None else GAP),
        Cell(tries),
        Cell(number(method.seconds) if method.seconds is not None else GAP),
        Cell(number(method.wall_seconds)),
        Cell(_edges(method)),
    )


def _edges(method: TunedMethod) -> str:
    """At which edges of what was tried the best lies; those that count are named."""
    sides = {-1: "lowest", 1: "highest"}
    return ", ".join(f"{_in_words(n)}: {sides[side]}" for n, side in method.edges.items()) or "none"


def _in_words(name: str) -> str:
    return {"learning_rate": "rate", "adam_epsilon": "ε", "hidden_dims": "width"}.get(
        name, name.replace("_", " ")
    )


def curves_table(tuned: Tuned) -> Table:
    """Best validation value after each try, and how far the best settings are from the edges."""
    most = max((method.num_tries for method in tuned.methods), default=0)
    lines = []
    for method in tuned.methods:
        values = [GAP if value is None else percent(value) for value in method.best_so_far]
        far = ", ".join(f"{_in_words(name)} {count}" for name, count in method.distances.items())
        card = card_of(method.method, "training")
        cells = (*map(Cell, values), *[Cell(GAP)] * (most - len(values)))
        lines.append((Cell(card.label), Cell(far or GAP), *cells))
    return Table(
        title="Best so far, by try",
        columns=("method", "levels to the nearest edge", *map(str, range(1, most + 1))),
        groups=(tuple(lines),) if lines else (),
        spare=tuple(str(index) for index in range(1, most)),
    )


def rule_text(tuned: Tuned) -> str:
    """How many tries each method had, and how long.

    A method without steps had as many seconds in all.
    """
    rule = tuned.rule
    count = rule["tries"] + (rule["reserve"] if rule["is_reserve_used"] else 0)
    length = f" of {rule['seconds']:.3g} s" if rule.get("seconds") else ""
    text = f"{count} tries{length} a method"
    if rule["first_share"] < 1:
        text += (
            f", its best {rule['num_finalists']} once more at full length, "
            f"mean of {rule['num_replicates']} replicates"
        )
    return text


def _notes(tuned: Tuned) -> tuple[str, ...]:
    rule, points = tuned.rule, tuned.num_validation_points
    reserve = f", {rule['reserve']} of them in reserve" if rule["is_reserve_used"] else ""
    return (
        f"{rule_text(tuned)}{reserve}. Points: {rule['points']}, seed {rule['seed']}; the first "
        "try is the study's own.",
        f"Best checkpoint on {points:,} validation points; no test point was scored. An edge "
        "counts where the best is better than all tries off it by more than the standard error. "
        "Seconds: of training, by budget; a method without steps may train as long as all tries "
        "of another. Took: wall seconds with set-up and validation.",
    )


def write_tuning(results_dir: Path, out_dir: Path) -> list[Path]:
    """Write the tables of all tunings of a results folder; returns the files."""
    written = []
    for path in sorted((results_dir / "tuned").glob("*.json")):
        tuned = read_tuned(path)
        text = f"# {escape_markdown(tuned.study)}: tuning\n\n"
        text += "<!-- generated from `tuned/` by `python -m bench report`; do not edit -->\n\n"
        text += "\n".join(map(render_markdown, (tuning_table(tuned), curves_table(tuned))))
        written.append(replace_file(out_dir / "tables" / tuned.study / "tuning.md", text.encode()))
    return written
