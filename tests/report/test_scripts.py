from __future__ import annotations

import dataclasses

from bench.report.plots.lines import Axis, LinePlot, Panel, Series
from bench.report.style import SeriesStyle, _drawable, draw_files


def plot(name: str) -> LinePlot:
    series = Series(name, SeriesStyle("#000000", "o", "-"), (1.0, 2.0), (3.0, 4.0))
    x = Axis(name, "names", (name, f"{name} 2", f"{name} 3"))
    return LinePlot("Title", name, x, Axis("y", "linear"), (Panel((series,), title=name),))


def test_names_in_any_script_are_drawn_without_boxes_and_stay_apart() -> None:
    # Matplotlib warns of a glyph that it lacks, and a warning is an error here.
    first, second = (
        draw_files(plot(f"{name} \u0939\u093f \U0001f600")) for name in ("東京", "京都")
    )
    assert first[".svg"] != second[".svg"]
    assert _drawable("東 Größe Σ p̂") == "\\u6771 Größe Σ p̂"


def test_what_the_font_has_is_drawn_as_it_is() -> None:
    known = plot("Größe, Σp_k² − p̂ ≤ 1 …")
    assert _drawable(known) is known
    assert dataclasses.asdict(known) == dataclasses.asdict(plot("Größe, Σp_k² − p̂ ≤ 1 …"))
