"""Checks of JSON values, put together from small ones, each of which names what it did not expect.

A check takes a value and the path that leads to it, and raises `Misfit` for what does not fit.
Nothing is converted: a text of digits is no number, `1.0` no whole one, `true` not 1.
"""

from __future__ import annotations

import re
import reprlib
import sys
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, Union, get_args, get_origin

Check = Callable[[Any, str], None]

#: Bounds of what other programs read as a whole number, and of what is a float.
MOST_WHOLE = 2**63 - 1
_MOST = sys.float_info.max
_DEEPEST = 12
_LONGEST_NAME = 200


class Misfit(ValueError):  # noqa: N818 - says what a value is not
    """A value does not fit; the message has its path, the value and what was expected."""

    def __init__(self, path: str, value: Any, expected: str) -> None:
        super().__init__(f"{_named(path)} is {_brief(value)}; expected {expected}")


def number(
    low: float = -_MOST, high: float = _MOST, *, whole: bool = False, above: bool = False
) -> Check:
    """A finite number in a closed range.

    Args:
        low: the smallest.
        high: the largest.
        whole: whether it is written without a fraction, and fits 64 bits.
        above: leave `low` itself out.
    """
    kinds: tuple[type, ...] = (int,) if whole else (int, float)
    if whole:
        low, high = max(low, -MOST_WHOLE), min(high, MOST_WHOLE)
    expected = "a whole number" if whole else "a finite number"
    if low > -MOST_WHOLE:
        expected += f" above {low:g}" if above else f" from {low:g}"
    if high < MOST_WHOLE:
        expected += f" and up to {high:g}" if above else f" to {high:g}"

    def check(value: Any, path: str) -> None:
        # Comparisons are exact between ints and floats of any size, and false of NaN.
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        if not is_number or not low <= value <= high or (above and value == low):
            raise Misfit(path, value, expected)

    return check


def text(pattern: str | None = None, expected: str = "text") -> Check:
    """Text that can be written as UTF-8, in the form of a regular expression if there is one."""
    form = None if pattern is None else re.compile(pattern)

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str) or (form is not None and not form.fullmatch(value)):
            raise Misfit(path, value, expected)
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Misfit(path, value, f"{expected} of whole characters") from None

    return check


def flag(value: Any, path: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise Misfit(path, value, "true or false")


def one_of(*allowed: str) -> Check:
    """One of some texts."""
    expected = " or ".join(map(repr, allowed))

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str) or value not in allowed:
            raise Misfit(path, value, expected)

    return check


def optional(inner: Check) -> Check:
    """Null, for what is missing, or what another check takes."""

    def check(value: Any, path: str) -> None:
        if value is not None:
            inner(value, path)

    return check


def either(*inner: Check) -> Check:
    """What one of several checks takes."""

    def check(value: Any, path: str) -> None:
        problems = []
        for each in inner:
            try:
                return each(value, path)
            except Misfit as problem:
                problems.append(problem)
        expected = dict.fromkeys(str(p).rpartition("; expected ")[2] for p in problems)
        raise Misfit(path, value, " or ".join(expected))

    return check


def listing(item: Check, *, least: int = 0) -> Check:
    """A list, each item of which another check takes."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, list | tuple) or len(value) < least:
            raise Misfit(path, value, "a list" + (f" of {least} or more" if least else ""))
        for place, each in enumerate(value):
            item(each, f"{path}[{place}]")

    return check


def columns(item: Check) -> Check:
    """Lists of equal length by name, or single values by name: the table behind a curve."""
    table = named(listing(item, least=1))
    single = named(item)

    def check(value: Any, path: str) -> None:
        has_lists = isinstance(value, Mapping) and any(isinstance(v, list) for v in value.values())
        (table if has_lists else single)(value, path)
        if has_lists and len({len(each) for each in value.values()}) > 1:
            raise Misfit(path, {k: len(v) for k, v in value.items()}, "lists of one length")

    return check


def named(item: Check) -> Check:
    """Values by any names, each of which another check takes."""
    return block({}, others=item)


def block(
    fields: Mapping[str, Check], *, needed: Collection[str] = (), others: Check | None = None
) -> Check:
    """Values by names of which some are known.

    Args:
        fields: name → check of its value.
        needed: names that must be there.
        others: check of the values under other names; None takes any plain value.
    """

    def check(value: Any, path: str) -> None:
        _check_names(value, path)
        for name in needed:
            if name not in value:
                raise Misfit(_under(path, name), None, "a value")
        for name, each in value.items():
            fields.get(name, others or plain)(each, _under(path, name))

    return check


def plain(value: Any, path: str) -> None:
    """Any JSON value that can be written again and is not nested beyond reason."""
    _plain(value, path, _DEEPEST)


def _plain(value: Any, path: str, deepest: int) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, int):
        _ANY_WHOLE(value, path)
    elif isinstance(value, float):
        _ANY_NUMBER(value, path)
    elif isinstance(value, str):
        _ANY_TEXT(value, path)
    elif deepest == 0:
        raise Misfit(path, value, f"values within {_DEEPEST} levels")
    elif isinstance(value, list | tuple):
        for place, each in enumerate(value):
            _plain(each, f"{path}[{place}]", deepest - 1)
    else:
        _check_names(value, path)
        for name, each in value.items():
            _plain(each, _under(path, name), deepest - 1)


def from_hint(hint: Any) -> Check:
    """The check of a setting, from its annotation.

    >>> from_hint(tuple[int, ...] | None)([1, 2.5], "ks")
    Traceback (most recent call last):
    bench.store.schema.Misfit: 'ks[1]' is 2.5; expected a whole number
    """
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        members = [from_hint(each) for each in get_args(hint) if each is not type(None)]
        inner = members[0] if len(members) == 1 else either(*members)
        return optional(inner) if type(None) in get_args(hint) else inner
    if origin is Literal:
        return one_of(*get_args(hint))
    if origin is tuple:
        return listing(from_hint(get_args(hint)[0]))
    if origin is Mapping:
        return named(from_hint(get_args(hint)[1]))
    return _OF_TYPE[hint]


_ANY_WHOLE, _ANY_NUMBER, _ANY_TEXT = number(whole=True), number(), text()
_OF_TYPE: Mapping[type, Check] = {
    int: _ANY_WHOLE,
    float: _ANY_NUMBER,
    str: _ANY_TEXT,
    bool: flag,
}


def _check_names(value: Any, path: str) -> None:
    if not isinstance(value, Mapping):
        raise Misfit(path, value, "values by name")
    for name in value:
        _ANY_TEXT(name, f"{path}, a name,")
        if len(name) > _LONGEST_NAME:
            raise Misfit(f"{path}, a name,", name, f"at most {_LONGEST_NAME} characters")


def _under(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _named(path: str) -> str:
    shown = path if len(path) <= _LONGEST_NAME else f"…{path[-_LONGEST_NAME:]}"
    return ascii(shown) if path else "the whole"


_SHORT = reprlib.Repr()
_SHORT.maxlong = _SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 2, 3, 3


def _brief(value: Any) -> str:
    """The value for a sentence: cut, and with what no terminal should obey escaped."""
    try:
        shown = _SHORT.repr(value)
    except ValueError:  # an int of more digits than Python writes
        shown = "a number of thousands of digits"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)
