"""Tables and figures from records and costs alone; never imports torch nor the runner."""

from bench.report.check import Findings, check
from bench.report.publish import build
from bench.report.tables.comparison import Comparison, compare, terminal_summary

__all__ = ["Comparison", "Findings", "build", "check", "compare", "terminal_summary"]
