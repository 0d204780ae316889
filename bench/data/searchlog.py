"""A planted product-search log: queries of words, and which products were bought how often.

The papers' search log is private. This one has its form at any size, and nothing of its content:

* A product has a title of distinct words, drawn from a Zipfian vocabulary, and a Zipfian
  popularity. Products are numbered by falling popularity.
* A query wants one product, drawn by popularity, and consists of some words of its title, in their
  order there; each may be misspelt by one letter. What matches is every product whose title has the
  words that were meant; the searcher is shown the most popular of them.
* The product wanted is bought once. Each further purchase is, with probability `noise`, of any
  product, and otherwise of one that was shown; both by popularity. A query's labels are the
  products bought, and their values how often.
* Features are counts of words, pairs of neighbouring words and three neighbouring letters. Frequent
  words have a feature of their own; rare and misspelt ones, and pairs, are hashed to slots.

So a query says more about some products than about others, several products answer it, and no
title is ever seen: what a word means for 50 million products is to be learnt from purchases alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench.data.csr import Csr, Int32s
from bench.data.sampling import (
    Counted,
    count_rows,
    distinct_rows,
    inverse_cdf,
    inverted,
    stack_rows,
    zipf,
)
from bench.data.source import MAX_ID, DataError, RawData, require_range
from bench.settings import derive_seed
from bench.store.kernels import njit

_Letters = npt.NDArray[np.int64]

_BLOCK_QUERIES = 1 << 16
_NUM_LETTERS = 26
_LEAST_LETTERS, _MOST_LETTERS = 3, 8
# A letter is 1 to 26, the end of a word 0.
_BASE = _NUM_LETTERS + 1
NUM_TRIGRAMS = _BASE**3
# A position of the title beyond all others, for words that a shorter query leaves out.
_BEYOND = np.int64(1 << 30)


@dataclass(frozen=True, kw_only=True)
class SearchLogSource:
    """Sizes and difficulty of the log.

    Attributes:
        num_train_points: N, queries to train on.
        num_test_points: queries to test on; as in a log parted by time, one may be among those
            trained on: a record's `repeated_test_share` is how often.
        num_labels: L, products. One may have no query, see a record's `ceiling`.
        num_words: vocabulary that titles are drawn from, by falling frequency (Zipf's law,
            exponent 1).
        num_known_words: the most frequent ones, with a feature each.
        num_unknown_slots: features that all other words are hashed to.
        num_pair_slots: features that pairs of neighbouring words are hashed to.
        title_words: words of a title, all different.
        max_query_words: a query has 1 to so many words, each number as often as the others.
        purchases_per_query: their mean; their number is geometric from 1 on.
        num_shown: most products that are shown for a query.
        noise: probability that a purchase other than the first is of any product.
        misspelt: probability that a word is.
        zipf_exponent: of the products' popularity; 0 is uniform.
        seed: of everything.
    """

    version: ClassVar[int] = 1

    num_train_points: int
    num_test_points: int
    num_labels: int
    num_words: int
    num_known_words: int
    num_unknown_slots: int
    num_pair_slots: int
    title_words: int = 5
    max_query_words: int = 3
    purchases_per_query: float = 4.0
    num_shown: int = 100
    noise: float = 0.1
    misspelt: float = 0.05
    zipf_exponent: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = ("num_train_points", "num_test_points", "num_labels", "num_words", "num_shown")
        slots = ("num_known_words", "num_unknown_slots", "num_pair_slots")
        words = ("title_words", "max_query_words")
        require_range(self, (*sizes, *slots, *words), 1, MAX_ID)
        require_range(self, ("noise", "misspelt"), 0, 1)
        require_range(self, ("purchases_per_query",), 1, None)
        require_range(self, ("zipf_exponent",), 0, None)
        for name, bound, most in (
            ("num_known_words", "num_words", self.num_words),
            ("max_query_words", "title_words", self.title_words),
            # Fewer words than this, and titles of different ones are hard to draw.
            ("title_words", "num_words / 4", self.num_words // 4),
        ):
            if getattr(self, name) > most:
                raise DataError(
                    f"option {name} is {getattr(self, name)}; expected at most {bound}, {most}"
                )

    @property
    def num_features(self) -> int:
        """D: known words, slots of unknown ones, slots of pairs, and all triples of letters."""
        return self.num_known_words + self.num_unknown_slots + self.num_pair_slots + NUM_TRIGRAMS

    def identity(self, data_dir: Path, cache_dir: Path) -> Mapping[str, Any]:
        """Nothing: the options are all there is; see `bench.data.source.Source`."""
        return {}

    def build(self, data_dir: Path, scratch: Path | None = None) -> RawData:
        """Draw catalogue and queries; see `bench.data.source`."""
        shop = _Shop(self)
        train_x, train_y, train_keys = shop.queries("train", self.num_train_points)
        test_x, test_y, test_keys = shop.queries("test", self.num_test_points)
        return RawData(
            train_features=train_x,
            train_labels=train_y,
            test_features=test_x,
            test_labels=test_y,
            task="multilabel",
            facts={"repeated_test_share": float(np.isin(test_keys, train_keys).mean())},
        )

    def popularity(self) -> npt.NDArray[np.float64]:
        """`(L,)` float64: probability that a query wants each product."""
        return zipf(self.num_labels, self.zipf_exponent)

    def spelling(self) -> _Letters:
        """`(num_words, 8)` int64: letters 1 to 26 of each word, 0 behind its end."""
        generator = self.generator("spelling")
        letters = generator.integers(1, _BASE, size=(self.num_words, _MOST_LETTERS))
        lengths = generator.integers(_LEAST_LETTERS, _MOST_LETTERS + 1, size=(self.num_words, 1))
        return np.where(np.arange(_MOST_LETTERS) < lengths, letters, 0)

    def titles(self) -> Int32s:
        """`(L, title_words)` int32: the words of each product's title, all different."""
        generator = self.generator("titles")
        frequency = np.cumsum(zipf(self.num_words, 1.0))

        def draw(num_rows: int) -> Int32s:
            return inverse_cdf(frequency, generator.random((num_rows, self.title_words)))

        return distinct_rows(draw, self.num_labels)

    def generator(self, purpose: str, *parts: int) -> np.random.Generator:
        """Random numbers for one purpose."""
        return np.random.default_rng(derive_seed("search log", purpose, self.seed, *parts))


class _Shop:
    """The catalogue of a source, and how it is searched."""

    def __init__(self, source: SearchLogSource) -> None:
        self.source = source
        self.titles = source.titles()
        self.spelling = source.spelling()
        self.popularity = source.popularity()
        self.cumulative = np.cumsum(self.popularity)
        # Word w stands in the titles of `owners[starts[w] : starts[w + 1]]`, ascending, and so by
        # falling popularity.
        self.starts, self.owners = inverted(self.titles, source.num_words)

    def queries(self, split: str, num_points: int) -> tuple[Csr, Csr, npt.NDArray[np.uint64]]:
        """Features `(N, D)`, purchases `(N, L)` and a key of each query's letters."""
        features: list[Counted] = []
        labels: list[Counted] = []
        keys = []
        for start in range(0, num_points, _BLOCK_QUERIES):
            num = min(_BLOCK_QUERIES, num_points - start)
            generator = self.source.generator(split, start)
            wanted = inverse_cdf(self.cumulative, generator.random(num))
            words = self._words(wanted, generator)
            letters, is_misspelt = self._typed(words, generator)
            codes = _codes(letters)
            features.append(count_rows(self._features(words, letters, codes, is_misspelt)))
            labels.append(self._purchases(wanted, words, generator))
            keys.append(_mixed_along(codes))
        return (
            stack_rows(features, self.source.num_features),
            stack_rows(labels, self.source.num_labels),
            np.concatenate(keys),
        )

    def _words(self, wanted: Int32s, generator: np.random.Generator) -> Int32s:
        """`(n, max_query_words)`: words of the products' titles, in order; −1 behind the last."""
        most, width = self.source.max_query_words, self.source.title_words
        lengths = generator.integers(1, most + 1, size=(wanted.size, 1))
        positions = np.argsort(generator.random((wanted.size, width)), axis=1)[:, :most]
        positions = np.sort(np.where(np.arange(most) < lengths, positions, _BEYOND), axis=1)
        is_word = positions < _BEYOND
        title = self.titles[wanted]
        words = np.take_along_axis(title, np.where(is_word, positions, 0), axis=1)
        return np.where(is_word, words, np.int32(-1))

    def _typed(
        self, words: Int32s, generator: np.random.Generator
    ) -> tuple[_Letters, npt.NDArray[np.bool_]]:
        """`(n, w, 8)` letters as typed, and `(n, w)` whether a word is misspelt."""
        letters = np.where((words >= 0)[:, :, None], self.spelling[words], 0)
        is_misspelt = (generator.random(words.shape) < self.source.misspelt) & (words >= 0)
        lengths = np.maximum((letters > 0).sum(axis=2), 1)
        position = (generator.random(words.shape) * lengths).astype(np.int64)
        shift = generator.integers(1, _NUM_LETTERS, size=words.shape)  # to another letter
        old = np.take_along_axis(letters, position[:, :, None], axis=2)[:, :, 0]
        new = np.where(is_misspelt, (old - 1 + shift) % _NUM_LETTERS + 1, old)
        np.put_along_axis(letters, position[:, :, None], new[:, :, None], axis=2)
        return letters, is_misspelt

    def _features(
        self,
        words: Int32s,
        letters: _Letters,
        codes: npt.NDArray[np.uint64],
        is_misspelt: npt.NDArray[np.bool_],
    ) -> Int32s:
        """`(n, columns)` int32 feature ids, −1 where there is none."""
        source = self.source
        num_known, num_unknown = source.num_known_words, source.num_unknown_slots
        unknown = num_known + _mixed(codes) % np.uint64(num_unknown)
        is_known = (words < num_known) & ~is_misspelt
        unigrams = np.where(is_known, words, unknown.astype(np.int64))
        unigrams = np.where(words >= 0, unigrams, -1)

        pairs = _mixed(_mixed(codes[:, :-1]) ^ codes[:, 1:]) % np.uint64(source.num_pair_slots)
        pair_ids = np.where(words[:, 1:] >= 0, pairs.astype(np.int64) + num_known + num_unknown, -1)

        ended = np.pad(letters, ((0, 0), (0, 0), (1, 1)))
        first, middle, last = ended[:, :, :-2], ended[:, :, 1:-1], ended[:, :, 2:]
        triples = (first * _BASE + middle) * _BASE + last
        triples += num_known + num_unknown + source.num_pair_slots
        triples = np.where(middle > 0, triples, -1).reshape(words.shape[0], -1)
        return np.concatenate([unigrams, pair_ids, triples], axis=1).astype(np.int32)

    def _purchases(self, wanted: Int32s, words: Int32s, generator: np.random.Generator) -> Counted:
        """Products bought in each query, and how often."""
        source = self.source
        numbers = generator.geometric(1.0 / source.purchases_per_query, size=wanted.size)
        ends = np.cumsum(numbers)
        bought = np.empty(int(ends[-1]), dtype=np.int64)
        _buy(
            wanted,
            words,
            self.titles,
            self.starts,
            self.owners,
            self.popularity,
            self.cumulative,
            ends,
            generator.random(bought.size),
            generator.random(bought.size) < source.noise,
            source.num_shown,
            bought,
        )
        queries = np.repeat(np.arange(wanted.size), numbers)
        keys, counts = np.unique(queries * source.num_labels + bought, return_counts=True)
        lengths = np.bincount(keys // source.num_labels, minlength=wanted.size)
        ids = (keys % source.num_labels).astype(np.int32)
        return lengths, ids, counts.astype(np.float32)


def _codes(letters: _Letters) -> npt.NDArray[np.uint64]:
    """A number for each word's letters, its own: `(n, w, 8)` to `(n, w)`."""
    code = np.zeros(letters.shape[:2], dtype=np.uint64)
    for index in range(letters.shape[2]):
        code = code * np.uint64(_BASE) + letters[:, :, index].astype(np.uint64)
    return code


def _mixed(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Keys scattered over 64 bits.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
    """
    keys = keys + np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def _mixed_along(codes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """One key for all words of a query, in order: `(n, w)` to `(n,)`."""
    key = np.zeros(codes.shape[0], dtype=np.uint64)
    for index in range(codes.shape[1]):
        key = _mixed(key ^ codes[:, index])
    return key


@njit(cache=True)
def _buy(  # type: ignore[no-untyped-def]
    wanted,
    words,
    titles,
    starts,
    owners,
    popularity,
    cumulative,
    ends,
    uniform,
    is_noise,
    num_shown,
    bought,
):
    """Fill in what each query buys; its purchases end at `ends`."""
    shown = np.empty(num_shown, dtype=np.int64)
    reached = np.empty(num_shown)
    num_products = cumulative.size
    purchase = 0
    for query in range(wanted.size):
        bought[purchase] = wanted[query]
        purchase += 1
        if purchase == ends[query]:
            continue
        size = _show(words[query], titles, starts, owners, shown)
        total = 0.0
        for rank in range(size):
            total += popularity[shown[rank]]
            reached[rank] = total
        while purchase < ends[query]:
            if is_noise[purchase]:
                found = np.searchsorted(cumulative, uniform[purchase], side="right")
                bought[purchase] = min(found, num_products - 1)
            else:
                found = np.searchsorted(reached[:size], uniform[purchase] * total, side="right")
                bought[purchase] = shown[min(found, size - 1)]
            purchase += 1


@njit(cache=True)
def _show(words, titles, starts, owners, shown):  # type: ignore[no-untyped-def]
    """The most popular products with all the words; gives their number."""
    rarest = words[0]
    for word in words:
        if word >= 0 and starts[word + 1] - starts[word] < starts[rarest + 1] - starts[rarest]:
            rarest = word
    size = 0
    for position in range(starts[rarest], starts[rarest + 1]):
        product = owners[position]
        has_all = True
        for word in words:
            has_word = word < 0
            for own in titles[product]:
                has_word |= own == word
            has_all &= has_word
        if has_all:
            shown[size] = product
            size += 1
            if size == shown.size:
                break
    return size
