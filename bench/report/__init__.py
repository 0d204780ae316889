"""Tables and figures from records alone; never imports torch."""

from bench.report.freshness import check
from bench.report.publish import build

__all__ = ["build", "check"]
