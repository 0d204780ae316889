"""Numbers out of records: values at a path, medians with their range, text fit to be shown."""

from __future__ import annotations

import statistics
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

Record = Mapping[str, Any]
Number = int | float
Item = TypeVar("Item")
Key = TypeVar("Key")


@dataclass(frozen=True)
class Summary:
    """Median and range of a quantity over replicates; of times the best round instead."""

    median: float
    low: float
    high: float

    def scaled(self, factor: float) -> Summary:
        """The quantity in another unit."""
        return Summary(self.median * factor, self.low * factor, self.high * factor)

    def inverted(self) -> Summary:
        """Of 1 ÷ the quantity, which is above 0."""
        return Summary(1 / self.median, 1 / self.high, 1 / self.low)


def summarize(values: Iterable[Number | None]) -> Summary | None:
    """Median and range; None when there is no value or any is missing.

    >>> summarize([3, 1, 2])
    Summary(median=2, low=1, high=3)
    >>> summarize([3, None]) is None
    True
    """
    numbers = list(values)
    present = [number for number in numbers if number is not None]
    if not present or len(present) < len(numbers):
        return None
    return Summary(statistics.median(present), min(present), max(present))


def group_by(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Items by what they have in common; keys and items in the order of first occurrence.

    >>> group_by([3, 1, 4, 6], lambda number: number % 2)
    {1: [3, 1], 0: [4, 6]}
    """
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def dig(record: Mapping[str, Any], *path: str) -> Any:
    """Value at a path of keys; None where the path ends early.

    >>> dig({"memory": {"parameter_bytes": 8}}, "memory", "parameter_bytes")
    8
    >>> dig({"memory": None}, "memory", "parameter_bytes") is None
    True
    """
    value: Any = record
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def clean(value: Any) -> Any:
    r"""A JSON value whose texts hold no control characters; they become blanks.

    Names come from file names and users; no terminal, page or figure should obey one.

    >>> clean({"name": "a\rb\x1b[2J"})
    {'name': 'a b [2J'}
    """
    if isinstance(value, str):
        return "".join(" " if unicodedata.category(c) in _CONTROLS else c for c in value)
    if isinstance(value, Mapping):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return value


# Controls, formats (direction marks too), surrogates, line and paragraph separators.
_CONTROLS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
