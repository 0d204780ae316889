"""What a data source hands over, and the error that bad data raises."""

from __future__ import annotations

import contextlib
import glob
import gzip
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol, cast

import numpy as np
import numpy.typing as npt

from bench.data.csr import Csr, Int32s, JsonScalar, Task
from bench.errors import UserError

MAX_ID = 2**31 - 2
#: What is read where points are predicted; no training file is called so.
STANDARD_INPUT = Path("-")


class DataError(UserError):
    """The data, or the options that describe it, cannot be used; the message has where and why."""


@dataclass(frozen=True)
class RawData:
    """A data set as its source has it: no label chosen, no point carved, no value weighted.

    Attributes:
        train_features: `(N, D)`; D and L are those of the training file, or of the header or option
            that declares them, whatever is tested on.
        train_labels: `(N, L)`; values, where there are any, are what each label weighs in weighted
            metrics (how often a product was bought), and are not learnt from.
        test_features: `(N_test, D)`.
        test_labels: `(N_test, L)`, or more columns: ids of L or more are labels that the training
            file has not. No model knows them; they count as misses.
        task: `multiclass` has exactly one label a point.
        facts: further facts of the source that belong into a record.
        bayes_hits: `(N_test,)` bool, whether the true posterior's best label is the point's label;
            only where the posterior is known.
        label_names: a name for each label, those of testing alone included, for people who read
            predictions.
        train_groups: `(N,)` int32, which training points lie so close to each other (positions of
            one file) that they must not be parted between training and validation; None where
            points are independent.
    """

    train_features: Csr
    train_labels: Csr
    test_features: Csr
    test_labels: Csr
    task: Task
    facts: Mapping[str, JsonScalar] = field(default_factory=dict)
    bayes_hits: npt.NDArray[np.bool_] | None = None
    label_names: tuple[str, ...] | None = None
    train_groups: Int32s | None = None


class Source(Protocol):
    """A frozen dataclass whose fields are the options that a `DataSpec` may give.

    `identity` is cheap and names everything outside of the options that `build` depends on; with
    them it is part of the data's fingerprint and keys the cache. `version` rises whenever `build`
    gives other arrays for the same options and identity.
    """

    version: ClassVar[int]

    def identity(self, data_dir: Path, cache_dir: Path) -> Mapping[str, Any]:
        """JSON value that changes whenever what the data is read from does; empty if nothing is."""
        ...

    def build(self, data_dir: Path, scratch: Path | None = None) -> RawData:
        """Read or generate the data; a `DataError` where it is not what the options promise.

        Arrays may be memory-mapped files of `scratch`, a folder that holds nothing else
        (`bench.data.rowwriter`); None: all are in memory.
        """
        ...


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, of one that ends in `.gz` the decompressed ones; `-`: standard input."""
    try:
        with _open(path) as stream:
            yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: broken compression ({error}); expected a whole .gz") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; expected a readable file") from error


def _open(path: Path) -> BinaryIO:
    if path == STANDARD_INPUT:
        return os.fdopen(os.dup(0), "rb")
    return cast(BinaryIO, (gzip.open if path.suffix == ".gz" else open)(path, "rb"))


def data_files(data_dir: Path, name: str, role: str) -> list[Path]:
    """The files that an option names, in the order in which they are one.

    A file; or a folder, which is all of its files but those that begin with `.` or `_` (as programs
    mark what is no data); or a pattern like `part-*.csv`. The order is that of the names, character
    by character: `part-10` comes before `part-2`.

    Args:
        data_dir: that the name is relative to.
        name: of a file, a folder, or a pattern; what exists is no pattern.
        role: the option.

    Raises:
        DataError: there is no such file, or a folder in the folder.
    """
    path = data_dir / name
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(each for each in path.iterdir() if not each.name.startswith((".", "_")))
        for each in found:
            if each.is_dir():
                raise DataError(f"{each}: a folder; expected files alone in {path} (option {role})")
    else:
        # Not `Path.glob`, which refuses absolute patterns.
        matches = map(Path, sorted(glob.glob(str(path))))  # noqa: PTH207
        found = [each for each in matches if each.is_file()]
    if not found:
        raise DataError(
            f"{path}: no such file; expected the {role} data (option {role}) in {data_dir}"
        )
    return found


def require_task(task: str | None) -> None:
    """Refuse an option `task` that is none."""
    if task not in (None, "multiclass", "multilabel"):
        raise DataError(f"option task is {task!r}; expected 'multiclass' or 'multilabel'")


def require_range(source: object, names: Iterable[str], least: float, most: float | None) -> None:
    """Refuse options outside of a range; those that are None are not given."""
    for name in names:
        value = getattr(source, name)
        if value is not None and not (least <= value and (most is None or value <= most)):
            limit = "or more" if most is None else f"to {most}"
            raise DataError(f"option {name} is {value!r}; expected {least} {limit}")
