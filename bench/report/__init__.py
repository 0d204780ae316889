"""Tables and figures from records alone; never imports torch."""

from bench.report.freshness import check
from bench.report.render import build

__all__ = ["build", "check"]
