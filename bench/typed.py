"""Values of settings as their annotations say: what is plainly meant is taken, the rest is named.

A NumPy integer is an integer, a `Path` is its text, a width alone is a tuple of one; `2.24` is no
integer, `"1e-3"` no number and NaN no setting.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import os
import types
import typing
from collections.abc import Hashable, Mapping
from types import MappingProxyType
from typing import Any, Literal, Union, cast, get_args, get_origin


class NotOfType(ValueError):  # noqa: N818 - says what a value is not
    """A value is not what an annotation expects; the message says what was expected."""


def coerced(value: Any, hint: Any) -> Any:
    """A value as its annotation says.

    Raises:
        NotOfType: it is plainly something else; the message is what was expected.

    >>> coerced(4.0, int), coerced(3, float), coerced([8, 4], tuple[int, ...])
    (4, 3.0, (8, 4))
    """
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _one_of(value, get_args(hint))
    if origin is Literal:
        allowed = get_args(hint)
        if not isinstance(value, str) or value not in allowed:
            raise NotOfType(" or ".join(map(repr, allowed)))
        return str(value)
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else (value,)
        return tuple(coerced(item, get_args(hint)[0]) for item in items)
    if origin is Mapping:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise NotOfType("values by name")
        inner = get_args(hint)[1]
        return MappingProxyType({str(name): coerced(item, inner) for name, item in value.items()})
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, cast(type, hint)):
            raise NotOfType(f"a {cast(type, hint).__name__}")
        return value
    return _PLAIN[hint](value)


def _one_of(value: Any, hints: tuple[Any, ...]) -> Any:
    """The first of a union's members that takes the value as it is, else the first that can."""
    if type(None) in hints and value is None:
        return None
    members = [hint for hint in hints if hint is not type(None)]
    exact = [hint for hint in members if isinstance(hint, type) and _is_plainly(value, hint)]
    expected = []
    for hint in (*exact, *members):
        try:
            return coerced(value, hint)
        except NotOfType as error:
            expected.append(str(error))
    names = [*dict.fromkeys(expected), *(["None"] if type(None) in hints else [])]
    raise NotOfType(" or ".join(names))


def _is_plainly(value: Any, hint: type) -> bool:
    """Whether a value is of a type without any conversion, or NumPy's form of it."""
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    kinds: dict[type, type] = {int: numbers.Integral, float: numbers.Real}
    if hint is float and isinstance(value, numbers.Integral):
        return False
    return isinstance(value, kinds.get(hint, hint))


def _to_int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or value % 1 != 0:
        raise NotOfType("a whole number")  # of an infinity the rest is NaN
    return int(float(value)) if not isinstance(value, numbers.Integral) else int(value)


def _to_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise NotOfType("a finite number")
    return float(value)


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):  # NumPy's own
        return bool(value)
    raise NotOfType("True or False")


def _to_str(value: Any) -> str:
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        if isinstance(text, str):
            return str(text)
    raise NotOfType("a text")


_PLAIN = {int: _to_int, float: _to_float, bool: _to_bool, str: _to_str}


def coerce_fields(spec: Any, error: type[Exception]) -> None:
    """Bring every field of a frozen dataclass into its annotation's form, in place.

    Args:
        spec: the instance, in its `__post_init__`.
        error: raised for a value that is something else, with class, field, value and expectation.
    """
    hints = _hints(cast(Hashable, type(spec)))
    for entry in dataclasses.fields(spec):
        value = getattr(spec, entry.name)
        try:
            object.__setattr__(spec, entry.name, coerced(value, hints[entry.name]))
        except NotOfType as problem:
            where = f"{type(spec).__name__}.{entry.name}"
            raise error(f"{where} is {value!r}; expected {problem}") from None


@functools.cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(kind)
