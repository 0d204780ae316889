"""Next-identifier prediction over the Python source of packages that this suite depends on.

Real text with a real Zipfian tail that needs no download. A point is a position in a file whose
identifier is one of the L most frequent; its features are the identifiers just before it, each with
its distance. Files are split between training, validation and test as a whole, and near-duplicate
files are removed first, so that a test point is not a copy of a training point's surroundings.

Two limits keep the task from being that of one author: `sympy` has two thirds of all identifiers,
and some of its files are generated systems of equations of 30,000 identifiers each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench.data import corpus
from bench.data.csr import Csr, Int32s, Int64s, offsets_of
from bench.data.identifiers import EMPTY_BIN, SIGNATURE_BINS, IdentifierTable, UInt64s, signature
from bench.data.source import MAX_ID, DataError, RawData, require_range
from bench.settings import derive_seed
from bench.store.kernels import njit

_SIMILARITY = 0.8
_BAND_BINS = 4


@dataclass(frozen=True)
class LexedFile:
    """A file of the corpus: of which distribution, where in it, and its identifiers in order."""

    distribution: str
    path: str
    tokens: Int32s

    @property
    def corpus_name(self) -> str:
        """Name that does not depend on where or in which version the distribution is installed."""
        return f"{self.distribution}/{self.path}"


@dataclass(frozen=True)
class _Stream:
    """Identifiers of all files of a split, end to end."""

    tokens: Int32s
    starts: Int64s


@dataclass(frozen=True, kw_only=True)
class PySource:
    """The corpus and what is made of it.

    Attributes:
        num_labels: L, the most frequent identifiers of the training files, by falling frequency.
        num_features_vocabulary: identifiers known as context; None takes L. D is this × context.
        context: how many preceding identifiers are features.
        max_train_points: a seeded uniform draw of this many positions, if there are more.
        max_test_points: likewise for the test files.
        test_fraction: share of the files, chosen by a hash of their names.
        max_file_identifiers: of a longer file only this many identifiers are used, the first ones.
        max_distribution_identifiers: of a larger distribution, files in a seeded order are used up
            to this many identifiers.
        distributions: names of installed distributions, joined by commas; None takes those of
            `bench.data.corpus`, by which everyone has the same data.
        seed: of the draws.
    """

    version: ClassVar[int] = 3

    num_labels: int
    num_features_vocabulary: int | None = None
    context: int = 8
    max_train_points: int = 400_000
    max_test_points: int = 20_000
    test_fraction: float = 0.1
    max_file_identifiers: int = 4096
    max_distribution_identifiers: int = 700_000
    distributions: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_range(self, ("num_labels",), 2, MAX_ID)
        sizes = ("context", "max_train_points", "max_test_points")
        limits = ("max_file_identifiers", "max_distribution_identifiers")
        require_range(self, (*sizes, *limits), 1, None)
        if not 0 < self.test_fraction < 1:
            raise DataError(f"option test_fraction is {self.test_fraction}; expected 0 to 1, open")
        if not 1 <= self.vocabulary_size * self.context <= MAX_ID:
            raise DataError(
                f"{self.vocabulary_size} context identifiers × context {self.context} is no number "
                f"of features; expected 1 to {MAX_ID}"
            )

    @property
    def vocabulary_size(self) -> int:
        """Identifiers known as context."""
        known = self.num_features_vocabulary
        return self.num_labels if known is None else known

    def identity(self, data_dir: Path, cache_dir: Path) -> Mapping[str, Any]:
        """Versions and checksums of the corpus; see `bench.data.source.Source`."""
        found = self.installed()
        return {
            "corpus": corpus.corpus_fingerprint(found),
            # A fact of the data, which must not be that of an older table of versions.
            "corpus_matches_constraints": _matches_constraints(found),
        }

    def installed(self) -> list[corpus.Distribution]:
        """The distributions of the corpus that are installed, by ascending name.

        Raises:
            DataError: there is none.
        """
        names: list[str] = list(corpus.DISTRIBUTIONS)
        if self.distributions is not None:
            names = [name.strip() for name in self.distributions.split(",")]
        found = corpus.installed(names)
        if not found:
            raise DataError(
                f"none of {names} is installed with Python files; expected at least one"
            )
        return found

    def build(self, data_dir: Path, scratch: Path | None = None) -> RawData:
        """Lex the corpus and draw the points; see `bench.data.source.Source`."""
        found = self.installed()
        table = IdentifierTable()
        files = list(self._lex(found, table))
        kept = self._within_limits(_without_near_duplicates(files, table.name_hashes))
        limit = int(self.test_fraction * 2**64)
        is_test = [_name_hash(file.corpus_name) < limit for file in kept]
        train = _join([file.tokens for file, test in zip(kept, is_test, strict=True) if not test])
        test = _join([file.tokens for file, test in zip(kept, is_test, strict=True) if test])
        ranks, names = self._rank(table, train.tokens)
        train_x, train_y, train_files = self._points(train, ranks, self.max_train_points, "train")
        test_x, test_y, _ = self._points(test, ranks, self.max_test_points, "test")
        return RawData(
            train_features=train_x,
            train_labels=train_y,
            test_features=test_x,
            test_labels=test_y,
            task="multiclass",
            facts={
                "corpus_matches_constraints": _matches_constraints(found),
                "num_files": len(files),
                "num_files_kept": len(kept),
                "num_identifiers": int(train.tokens.size + test.tokens.size),
                "num_distinct_identifiers": table.num_names,
            },
            label_names=tuple(names),
            train_groups=train_files,
        )

    def _lex(
        self, distributions: Sequence[corpus.Distribution], table: IdentifierTable
    ) -> Iterator[LexedFile]:
        """The files that are UTF-8, by distribution and path."""
        for distribution in distributions:
            for path, checksum in distribution.files:
                content = distribution.read(path, checksum)
                try:
                    content.decode()
                except UnicodeDecodeError:
                    continue
                tokens = table.lex(content)[: self.max_file_identifiers]
                yield LexedFile(distribution.name, path, tokens)

    def _within_limits(self, files: Sequence[LexedFile]) -> list[LexedFile]:
        """Of each distribution, the files that its limit has room for; the order is kept."""
        kept: list[LexedFile] = []
        for name in dict.fromkeys(file.distribution for file in files):
            own = [file for file in files if file.distribution == name]
            generator = np.random.default_rng(derive_seed("pysource", "files", name, self.seed))
            order = generator.permutation(len(own))
            ends = np.cumsum([own[i].tokens.size for i in order])
            chosen = order[ends <= self.max_distribution_identifiers]
            kept += [own[i] for i in np.sort(chosen)]
        return kept

    def _rank(self, table: IdentifierTable, tokens: Int32s) -> tuple[Int32s, list[str]]:
        """Rank of each identifier by falling training frequency (-1: too rare), and class names."""
        counts = np.bincount(tokens, minlength=table.num_names)
        num_ranked = max(self.num_labels, self.vocabulary_size)
        num_seen = int(np.count_nonzero(counts))
        if num_ranked > num_seen:
            raise DataError(
                f"the training files have {num_seen} distinct identifiers; expected {num_ranked} "
                "or more (options num_labels, num_features_vocabulary)"
            )
        least = np.partition(counts, counts.size - num_ranked)[counts.size - num_ranked]
        candidates = np.flatnonzero(counts >= least).tolist()
        candidates.sort(key=lambda entry: (-counts[entry], table.name(entry)))
        ranks = np.full(table.num_names, -1, dtype=np.int32)
        ranks[candidates[:num_ranked]] = np.arange(num_ranked, dtype=np.int32)
        names = candidates[: self.num_labels]
        return ranks, [table.name(entry).decode(errors="backslashreplace") for entry in names]

    def _points(
        self, stream: _Stream, ranks: Int32s, max_points: int, split: str
    ) -> tuple[Csr, Csr, Int32s]:
        """Features, labels and number of the file of each drawn point."""
        ranked = ranks[stream.tokens]
        positions = np.empty(ranked.size, dtype=np.int64)
        reach = np.empty(ranked.size, dtype=np.int32)
        num_found = _find_points(
            ranked, stream.starts, self.context, self.num_labels, self.vocabulary_size,
            positions, reach,
        )  # fmt: skip
        if num_found == 0:
            raise DataError(f"the {split} files have no point; expected more or larger files")
        index = np.arange(num_found)
        if num_found > max_points:
            generator = np.random.default_rng(derive_seed("pysource", split, self.seed))
            index = np.sort(generator.choice(num_found, max_points, replace=False))
        positions, reach = positions[index], reach[index]
        ids = np.empty(index.size * self.context, dtype=np.int32)
        offsets = np.zeros(index.size + 1, dtype=np.int64)
        num_ids = _write_points(ranked, positions, reach, self.vocabulary_size, offsets, ids)
        features = Csr(offsets, ids[:num_ids].copy(), None, self.vocabulary_size * self.context)
        labels = Csr(np.arange(index.size + 1), ranked[positions], None, self.num_labels)
        files = np.searchsorted(stream.starts, positions, side="right") - 1
        return features, labels, files.astype(np.int32)


def _matches_constraints(found: Sequence[corpus.Distribution]) -> bool:
    return corpus.corpus_fingerprint(found) == corpus.FINGERPRINT


def _name_hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _join(streams: Sequence[Int32s]) -> _Stream:
    starts = offsets_of(np.array([stream.size for stream in streams], dtype=np.int64))
    empty: Int32s = np.empty(0, dtype=np.int32)
    return _Stream(np.concatenate([empty, *streams]), starts)


def _without_near_duplicates(files: Sequence[LexedFile], name_hashes: UInt64s) -> list[LexedFile]:
    """Files that are neither empty nor nearly equal to an earlier kept one.

    Nearly equal: the same identifiers throughout, or an estimated Jaccard similarity of shingles of
    0.8 or more. Bands of 4 bins find such a pair with probability 0.9997.
    """
    seen: set[bytes] = set()
    bands: dict[tuple[int, bytes], list[int]] = {}
    signatures: dict[int, npt.NDArray[np.uint64]] = {}
    kept: list[LexedFile] = []
    for index, file in enumerate(files):
        stream = name_hashes[file.tokens]
        content = hashlib.sha256(stream.tobytes()).digest()
        if file.tokens.size == 0 or content in seen:
            continue
        seen.add(content)
        bins = signature(stream)
        keys = [
            (band, bins[band : band + _BAND_BINS].tobytes())
            for band in range(0, SIGNATURE_BINS, _BAND_BINS)
            if np.any(bins[band : band + _BAND_BINS] != EMPTY_BIN)
        ]
        rivals = sorted({rival for key in keys for rival in bands.get(key, ())})
        if any(_similarity(bins, signatures[rival]) >= _SIMILARITY for rival in rivals):
            continue
        for key in keys:
            bands.setdefault(key, []).append(index)
        signatures[index] = bins
        kept.append(file)
    return kept


def _similarity(one: UInt64s, other: UInt64s) -> float:
    is_used = (one != EMPTY_BIN) | (other != EMPTY_BIN)
    return float(np.count_nonzero((one == other) & is_used) / np.count_nonzero(is_used))


@njit(cache=True)
def _find_points(ranked, starts, context, num_labels, vocabulary_size, positions, reach):  # type: ignore[no-untyped-def]
    """Positions of a class with a known identifier in reach, and how far back the file goes."""
    found = 0
    for file in range(starts.size - 1):
        last_known = -1
        for position in range(starts[file], starts[file + 1]):
            rank = ranked[position]
            if 0 <= rank < num_labels and last_known >= 0 and position - last_known <= context:
                positions[found] = position
                reach[found] = min(context, position - starts[file])
                found += 1
            if 0 <= rank < vocabulary_size:
                last_known = position
    return found


@njit(cache=True)
def _write_points(ranked, positions, reach, vocabulary_size, offsets, ids):  # type: ignore[no-untyped-def]
    written = 0
    for point in range(positions.size):
        for distance in range(1, reach[point] + 1):
            rank = ranked[positions[point] - distance]
            if 0 <= rank < vocabulary_size:
                ids[written] = (distance - 1) * vocabulary_size + rank
                written += 1
        offsets[point + 1] = written
    return written
