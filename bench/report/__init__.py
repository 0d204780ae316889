"""Tables and figures from records and costs alone; never imports torch nor the runner."""

from bench.report.check import Findings, check
from bench.report.comparison import Comparison, compare, terminal_summary
from bench.report.publish import build

__all__ = ["Comparison", "Findings", "build", "check", "compare", "terminal_summary"]
