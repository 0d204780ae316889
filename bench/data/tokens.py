"""From text to tokens.

The default makes tokens of runs of letters, digits, underscores and the marks that belong to
them, so that vowel signs of Indic scripts and combining accents do not part words. Text is put
into Unicode's composed form (NFC) first: an umlaut is the same written with one character or two.
Scripts that part no words (Chinese characters, kana) give a token for each character, since a run
of them would be a sentence; Korean and Thai give runs. What is a letter is what the Python
that runs knows to be one.
"""

from __future__ import annotations

import functools
import hashlib
import re
import sys
import unicodedata
from collections.abc import Callable

from bench.data.source import DataError

# Kana without the middle dot; CJK ideographs with extensions; half-width kana.
_UNPARTED = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_UNPARTED += "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
_ASCII = re.compile(r"\w+", re.ASCII)
_UNICODE = re.compile(r"\w+")
_BEYOND_LATIN = re.compile("[\u0300-\U0010ffff]")


def tokenizer(pattern: str | None, *, lowercase: bool) -> Callable[[str], list[str]]:
    """A function from text to its tokens, in order.

    `pattern` is of a token, or of what surrounds its one group; None is the default of this module.

    >>> tokenizer(None, lowercase=True)("Die Größe 1.5x: 東京 한국어")
    ['die', 'größe', '1', '5x', '東', '京', '한국어']
    """
    own = None if pattern is None else _compiled(pattern)

    def tokens(text: str) -> list[str]:
        if text.isascii():
            text = text.lower() if lowercase else text
            return (own or _ASCII).findall(text)
        text = unicodedata.normalize("NFC", text)
        if lowercase:
            text = unicodedata.normalize("NFC", text.lower())
        # Marks and unparted characters begin at U+0300: below, the short pattern does the same.
        return (own or (_words() if _BEYOND_LATIN.search(text) else _UNICODE)).findall(text)

    return tokens


def hashed_token(token: str, num_hashed_features: int) -> int:
    """Feature of a token in [0, num_hashed_features), the same on every machine."""
    digest = hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % num_hashed_features


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"option token_pattern is {pattern!r}: {error}") from error
    if compiled.groups > 1:
        raise DataError(f"option token_pattern is {pattern!r}; expected at most one group")
    if compiled.fullmatch(""):
        raise DataError(f"option token_pattern is {pattern!r}; expected one that needs a character")
    return compiled


@functools.cache
def _words() -> re.Pattern[str]:
    characters = map(chr, range(sys.maxunicode + 1))
    marks = _ranges([each for each in characters if unicodedata.category(each).startswith("M")])
    return re.compile(rf"[{_UNPARTED}]|(?:[^\W{_UNPARTED}]+|[{marks}]+)+")


def _ranges(characters: list[str]) -> str:
    """Inside of a character class, from ascending characters."""
    ranges: list[list[int]] = []
    for character in characters:
        if ranges and ranges[-1][1] == ord(character) - 1:
            ranges[-1][1] += 1
        else:
            ranges.append([ord(character), ord(character)])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
