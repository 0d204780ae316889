"""What values an option may have, as its annotation declares it: checked before anything is built.

`Literal` names the allowed words, `Annotated[int, AtLeast(1)]` a range. A constructor and a dry run
ask the same declaration, so that no word goes unread and no sentence is written twice.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol, Union, cast, get_args, get_origin

from bench.settings import SettingsError


class Bound(Protocol):
    """What an annotation may add to a type; its text completes an error's sentence."""

    def holds(self, value: Any) -> bool:
        """Whether a value is inside."""
        ...


@dataclass(frozen=True)
class _Edge:
    edge: float
    text: ClassVar[str]

    def __str__(self) -> str:
        return f"{self.text} {self.edge:g}"


class AtLeast(_Edge):
    """No number below an edge, as in "a number of at least 1"."""

    text = "of at least"

    def holds(self, value: Any) -> bool:
        """Whether a number is inside."""
        return bool(value >= self.edge)


class Above(_Edge):
    """No number at or below an edge."""

    text = "above"

    def holds(self, value: Any) -> bool:
        """Whether a number is inside."""
        return bool(value > self.edge)


class Below(_Edge):
    """No number at or above an edge."""

    text = "below"

    def holds(self, value: Any) -> bool:
        """Whether a number is inside."""
        return bool(value < self.edge)


@dataclass(frozen=True, eq=False)
class OneOf:
    """A name of a registry."""

    names: Collection[str]

    def holds(self, value: Any) -> bool:
        """Whether a name is registered."""
        return value in self.names


#: A number of things of which there is one or more.
Count = Annotated[int, AtLeast(1)]
#: A standard deviation, or another size that may be 0.
Size = Annotated[float, AtLeast(0)]
Positive = Annotated[float, Above(0)]
#: Of what is left out: 0 or more, below all.
Share = Annotated[float, AtLeast(0), Below(1)]

_WORDS: Mapping[Any, str] = types.MappingProxyType(
    {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}
)


def is_of(value: Any, hint: Any) -> bool:
    """Whether a value is what an annotation declares; NumPy's scalars count as Python's.

    >>> is_of("softmax", Literal["softmax", "bce"]), is_of("Softmax", Literal["softmax", "bce"])
    (True, False)
    >>> is_of(8, Count), is_of(0, Count), is_of(8.0, Count), is_of(True, Count)
    (True, False, False, False)
    """
    origin = get_origin(hint)
    if origin is Annotated:
        bounds = cast(tuple[Bound, ...], hint.__metadata__)
        return is_of(value, hint.__origin__) and all(bound.holds(value) for bound in bounds)
    if origin is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if origin in (Union, types.UnionType):
        return any(is_of(value, choice) for choice in get_args(hint))
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else (value,)
        return all(is_of(item, get_args(hint)[0]) for item in items)
    if hint is bool:
        return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")  # NumPy's own
    if hint in (int, float):
        if isinstance(value, bool):  # which Python counts among the whole numbers
            return False
        kind = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, kind) and math.isfinite(value)
    if hint is None:
        return value is None
    return isinstance(value, hint) if isinstance(hint, type) else True


def words(hint: Any) -> str:
    """What an annotation declares, for the end of a sentence.

    >>> words(Literal["softmax", "bce"] | None), words(Share)
    ("'softmax', 'bce' or None", 'a number of at least 0 and below 1')
    """
    return _listed(list(dict.fromkeys(_alternatives(hint))))


def _listed(texts: list[str]) -> str:
    *some, last = texts
    return f"{', '.join(some)} or {last}" if some else last


def _alternatives(hint: Any) -> list[str]:
    origin = get_origin(hint)
    if origin is Annotated:
        bounds = hint.__metadata__
        if isinstance(bounds[0], OneOf):
            return [repr(name) for name in bounds[0].names]
        return [f"{words(hint.__origin__)} {' and '.join(map(str, bounds))}"]
    if origin is Literal:
        return [repr(choice) for choice in get_args(hint)]
    if origin in (Union, types.UnionType):
        return [text for choice in get_args(hint) for text in _alternatives(choice)]
    if origin is tuple:
        return [f"{words(get_args(hint)[0])}, or a list of such"]
    if hint in (None, type(None)):
        return ["None"]
    if hint in _WORDS:
        return [_WORDS[hint]]
    return [f"a {hint.__name__}" if isinstance(hint, type) else str(hint)]


def check_options(
    method: str, given: Mapping[str, Any], taken: Mapping[str, tuple[Any, Any]]
) -> None:
    """Refuse options that a method does not take.

    Args:
        method: its name.
        given: options by name.
        taken: default and annotation of those that there are, see :func:`keywords`.

    Raises:
        SettingsError: an unknown option, a missing one, or an impossible value.
    """
    unknown = sorted(set(given) - set(taken))
    missing = [
        name
        for name, (default, _) in taken.items()
        if default is inspect.Parameter.empty and name not in given
    ]
    if unknown or missing:
        raise SettingsError(
            f"options of method {method!r}: unknown {unknown}, missing {missing}; "
            f"it takes {list(taken)}"
        )
    for name, value in given.items():
        hint = taken[name][1]
        if not is_of(value, hint):
            raise SettingsError(
                f"option {name} of method {method!r} is {value!r}; expected {words(hint)}"
            )


def check_values(constructor: Callable[..., None], values: Mapping[str, Any]) -> None:
    """Refuse a keyword's value that its annotation does not declare.

    Args:
        constructor: whose keyword-only parameters are looked at.
        values: of its parameters by name, such as its own `locals()`; others are passed over.

    Raises:
        SettingsError: name, value and what was expected.
    """
    for name, hint in _declared(constructor).items():
        if name in values and not is_of(values[name], hint):
            raise SettingsError(f"{name} is {values[name]!r}; expected {words(hint)}")


@functools.cache
def _declared(constructor: Callable[..., None]) -> Mapping[str, Any]:
    """Annotations of the keyword-only parameters; none if one cannot be looked up."""
    try:
        signature = inspect.signature(constructor, eval_str=True)
    except NameError:  # a user's own, imported for a type checker alone
        return {}
    return {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.annotation is not parameter.empty
    }


def keywords(kind: type[Any], base: type[Any]) -> dict[str, tuple[Any, Any]]:
    """Keyword-only parameters of a class's constructor and of its bases' up to `base`.

    Returns:
        Default and annotation of each; `inspect.Parameter.empty` and `Any` where there is none.
    """
    known: dict[str, tuple[Any, Any]] = {}
    for each in kind.__mro__:
        if "__init__" not in vars(each) or not issubclass(each, base):
            continue
        hints = _declared(vars(each)["__init__"])
        for name, parameter in inspect.signature(vars(each)["__init__"]).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY:
                known.setdefault(name, (parameter.default, hints.get(name, Any)))
    return known
