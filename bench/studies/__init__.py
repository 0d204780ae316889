"""The studies: tables and figures as named grids of trials; the only home of outside numbers.

A new study is one function and one line in the `STUDIES` of the file of its question, see `MODULES`
in `bench.studies.study`. Nothing here imports torch or models: listing, planning
and reporting must not need them.
"""

from bench.studies.grids import grid, linear, mlp, shrink

__all__ = ["grid", "linear", "mlp", "shrink"]
