"""Next-identifier prediction over the Python source installed with this environment.

Real text with a real Zipfian tail that needs no download. A point is a position in a file whose
identifier is one of the L most frequent; its features are the identifiers just before it, each with
its distance. Files are split between training and test as a whole, and near-duplicate files are
removed first, so that a test point is not a copy of a training point's surroundings.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numba
import numpy as np
import numpy.typing as npt

from bench.data.csr import Csr, Int32s, Int64s
from bench.data.identifiers import EMPTY_BIN, SIGNATURE_BINS, IdentifierTable, UInt64s, signature
from bench.data.raw import DataError, RawData
from bench.data.text import MAX_ID
from bench.settings import derive_seed

_PACKAGES = ("bench", "baselines")
_SIMILARITY = 0.8
_BAND_BINS = 4


@dataclass(frozen=True)
class SourceFile:
    """A file of the corpus: which root, where below it, and where on disk."""

    kind: str
    name: str
    path: Path
    size: int
    mtime_ns: int

    @property
    def corpus_name(self) -> str:
        """Name that does not depend on where the environment lies."""
        return f"{self.kind}/{self.name}"


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
        roots: folders, joined by the system's path separator; None takes the standard library and
            the installed packages, without this project itself.
        seed: of the draws.
    """

    version: ClassVar[int] = 1

    num_labels: int
    num_features_vocabulary: int | None = None
    context: int = 8
    max_train_points: int = 400_000
    max_test_points: int = 20_000
    test_fraction: float = 0.1
    roots: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("num_labels", 2),
            ("context", 1),
            ("max_train_points", 1),
            ("max_test_points", 1),
        ):
            if getattr(self, name) < least:
                raise DataError(f"option {name} is {getattr(self, name)}; expected {least} or more")
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
        return (
            self.num_labels
            if self.num_features_vocabulary is None
            else (self.num_features_vocabulary)
        )

    def identity(self, data_dir: Path, cache_dir: Path) -> Mapping[str, Any]:
        """Names, sizes and times of the files; see `bench.data.raw.Source`."""
        digest = hashlib.sha256()
        for file in self.files():
            digest.update(f"{file.corpus_name}\n{file.size} {file.mtime_ns}\n".encode())
        return {"files": digest.hexdigest()}

    def files(self) -> list[SourceFile]:
        """All files of the corpus, sorted by root and name.

        Raises:
            DataError: there is none.
        """
        if self.roots is None:
            found = {kind: Path(sysconfig.get_path(kind)) for kind in ("stdlib", "purelib")}
            platlib = Path(sysconfig.get_path("platlib"))
            if platlib.resolve() != found["purelib"].resolve():
                found["platlib"] = platlib
        else:
            found = {f"root{i}": Path(root) for i, root in enumerate(self.roots.split(os.pathsep))}
        files = [file for kind, root in found.items() for file in _walk(kind, root)]
        if not files:
            raise DataError(f"no .py files under {[str(root) for root in found.values()]}")
        return sorted(files, key=lambda file: (file.kind, file.name))

    def build(self, data_dir: Path) -> RawData:
        """Lex the corpus and draw the points; see `bench.data.raw.Source`."""
        table = IdentifierTable()
        files = self.files()
        streams = [table.lex(file.path.read_bytes()) for file in files]
        kept, fingerprint = _without_near_duplicates(files, streams, table.name_hashes)
        limit = int(self.test_fraction * 2**64)
        is_test = [_name_hash(files[i].corpus_name) < limit for i in kept]
        train = _join([streams[i] for i, test in zip(kept, is_test, strict=True) if not test])
        test = _join([streams[i] for i, test in zip(kept, is_test, strict=True) if test])
        ranks, names = self._rank(table, train.tokens)
        train_x, train_y = self._points(train, ranks, self.max_train_points, "train")
        test_x, test_y = self._points(test, ranks, self.max_test_points, "test")
        return RawData(
            train_features=train_x,
            train_labels=train_y,
            test_features=test_x,
            test_labels=test_y,
            task="multiclass",
            fingerprint=fingerprint,
            facts={
                "num_files": len(files),
                "num_files_kept": len(kept),
                "num_identifiers": int(train.tokens.size + test.tokens.size),
                "num_distinct_identifiers": table.num_names,
            },
            label_names=tuple(names),
        )

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
    ) -> tuple[Csr, Csr]:
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
        return features, labels


def _walk(kind: str, root: Path) -> Iterator[SourceFile]:
    own = {Path(__file__).resolve().parents[2] / package for package in _PACKAGES}
    for folder, folders, names in os.walk(root):
        folders[:] = [
            name
            for name in folders
            if not (kind == "stdlib" and name in ("site-packages", "dist-packages"))
            and name != "__pycache__"
            and not (name in _PACKAGES and (Path(folder) / name).resolve() in own)
        ]
        for name in names:
            # An editable installation leaves a finder that names the checkout's place.
            if not name.endswith(".py") or name.startswith("__editable__"):
                continue
            path = Path(folder) / name
            if path.is_symlink():
                continue
            status = path.stat()
            relative = path.relative_to(root).as_posix()
            yield SourceFile(kind, relative, path, status.st_size, status.st_mtime_ns)


def _name_hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8], "big")


def _join(streams: Sequence[Int32s]) -> _Stream:
    starts = np.zeros(len(streams) + 1, dtype=np.int64)
    np.cumsum([stream.size for stream in streams], out=starts[1:])
    empty: Int32s = np.empty(0, dtype=np.int32)
    return _Stream(np.concatenate([empty, *streams]), starts)


def _without_near_duplicates(
    files: Sequence[SourceFile], streams: Sequence[Int32s], name_hashes: UInt64s
) -> tuple[list[int], str]:
    """Files that are not nearly equal to an earlier kept one, and the corpus's fingerprint.

    Nearly equal: the same identifiers throughout, or an estimated Jaccard similarity of shingles of
    0.8 or more. Bands of 4 bins find such a pair with probability 0.9997.
    """
    corpus = hashlib.sha256()
    seen: set[bytes] = set()
    bands: dict[tuple[int, bytes], list[int]] = {}
    signatures: dict[int, npt.NDArray[np.uint64]] = {}
    kept: list[int] = []
    for place, (file, tokens) in enumerate(zip(files, streams, strict=True)):
        stream = name_hashes[tokens]
        content = hashlib.sha256(stream.tobytes()).digest()
        corpus.update(f"{file.corpus_name}\n{content.hex()}\n".encode(errors="surrogateescape"))
        if tokens.size == 0 or content in seen:
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
            bands.setdefault(key, []).append(place)
        signatures[place] = bins
        kept.append(place)
    return kept, corpus.hexdigest()


def _similarity(one: UInt64s, other: UInt64s) -> float:
    is_used = (one != EMPTY_BIN) | (other != EMPTY_BIN)
    return float(np.count_nonzero((one == other) & is_used) / np.count_nonzero(is_used))


@numba.njit(cache=True)
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


@numba.njit(cache=True)
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
