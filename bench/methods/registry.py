"""What a registry names, `module:attribute`, is imported only when it is asked for."""

from __future__ import annotations

import importlib
from typing import Any


def resolve(target: str) -> Any:
    """Object that a `module:attribute` target names.

    Raises:
        ModuleNotFoundError: there is no such module.
        AttributeError: the module has no such attribute.

    >>> resolve("math:floor")(2.5)
    2
    """
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
