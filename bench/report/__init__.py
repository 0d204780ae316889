"""Tables and figures from records and costs alone; never imports torch nor the runner."""

from bench.report.check import Findings, check
from bench.report.tables.comparison import Comparison, compare, terminal_summary
from bench.report.write import build

__all__ = ["Comparison", "Findings", "build", "check", "compare", "terminal_summary"]
