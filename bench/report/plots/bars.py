"""Labels of figures that have one line of text for each configuration."""

from __future__ import annotations

from bench.report.select import Section
from bench.report.style import Palette


def row_texts(section: Section, palette: Palette) -> list[str]:
    """Method and setting of each trained row."""
    return [
        ", ".join(text for text in (row.name(section.task), row.setting) if text)
        for row in section.trained
    ]
