"""Trained models that last: a folder that predicts raw points, from the shell and from Python."""

from __future__ import annotations

from typing import Literal, get_args

#: Of files to predict; `texts` goes by the file's name.
Format = Literal["texts", "csv", "tsv", "jsonl", "lines", "xmc", "vw"]
FORMATS: tuple[Format, ...] = get_args(Format)
