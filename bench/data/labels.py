"""What a label is called, as people write labels.

* A cell may hold a list in JSON: `["a", "b"]`. One that begins like a list and is none is refused.
* Names are trimmed, have one space for a run of white space, and are in composed form (NFC).
  Characters that show nothing (zero-width spaces, byte-order marks, soft hyphens, marks of writing
  direction) are left out, so that what looks the same is the same. Joiners are kept where they do
  show: between letters of scripts that join, and between emoji.
* A whole number is one label however it is written: `1`, and `1.0` as programs write it that keep
  columns with gaps in floating point.
* An empty name is no label, nor is `null` of JSON. Words that programs write for a missing value
  (`nan`, `None`, `null`, …) are refused: they are hardly ever a label, and never known to be none.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

_MISSING = frozenset({"nan", "NaN", "NAN", "None", "null", "NULL", "<NA>", "NaT"})
_WHOLE = re.compile(r"([+-]?[0-9]+)\.0+")
_LIST_LIKE = re.compile(r"\[\s*(?:[\"']|.*\]$)", re.DOTALL)
# Between letters of scripts that join, and between emoji, zero-width non-joiner and joiner show; so
# do the tags that make another flag of a black one.
_JOINING = "\u0590-\u1fff\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
_JOINED = re.compile(
    f"(?<=[{_JOINING}])[\u200c\u200d]+(?=[{_JOINING}])|(?<=\U0001f3f4)[\U000e0020-\U000e007f]+"
)
_LARGEST_EXACT = 2.0**53
# Variation selectors choose between two forms of one character.
_SELECTORS = frozenset(map(chr, range(0xFE00, 0xFE10)))


class CellError(ValueError):
    """A cell is not what it should be; the message says what, its reader says where."""


def listed_labels(value: Any) -> list[Any] | None:
    """The items of a text that is a list in JSON; None for any other value.

    >>> listed_labels('["a", 7]'), listed_labels("[a"), listed_labels("a")
    (['a', 7], None, None)
    """
    if not isinstance(value, str):
        return None
    text = value.strip()
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list):
        return found
    if not _LIST_LIKE.match(text):
        return None
    raise CellError(
        f'{text!r:.60}; expected a label, or a list in JSON such as ["a", "b"] (a name in '
        'brackets is written ["[name]"])'
    )


def label_name(value: Any) -> str:
    """The name of a label, see this module; empty where there is none.

    >>> label_name("  new   york "), label_name("1.0"), label_name(1.0)
    ('new york', '1', '1')
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_EXACT:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise CellError(f"{value!r:.60}; expected labels as text or whole numbers")
    if not value.isascii():
        value = unicodedata.normalize("NFC", _visible(value))
    name = " ".join(value.split())
    # Names are lines of a UTF-8 file, and stand in tables.
    if not name.isprintable():
        wrong = next((c for c in name if unicodedata.category(c) in ("Cc", "Cs")), None)
        if wrong is not None:
            raise CellError(f"label {name!r:.60} holds {wrong!r}; expected no control character")
    if name in _MISSING:
        raise CellError(
            f"label {name!r}, which programs write for a missing value; expected a label, an empty "
            "cell where a point has none, or another name if this is one"
        )
    whole = _WHOLE.fullmatch(name)
    return whole[1] if whole else name


def _visible(text: str) -> str:
    """Text without characters that show nothing."""
    kept = {index for match in _JOINED.finditer(text) for index in range(*match.span())}
    shown = (
        character
        for index, character in enumerate(text)
        if index in kept
        or (unicodedata.category(character) != "Cf" and character not in _SELECTORS)
    )
    return "".join(shown)
