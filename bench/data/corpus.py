"""The Python packages that the quickstart's corpus is made of, the same for everyone.

All are hard dependencies of this suite, each a wheel that is one file for every Python and every
kind of torch (`py3-none-any`), and pinned by `constraints.txt`. So who installs by that file has
these sources to the byte. `pytorch-lightning` is left out because `lightning` contains it, and what
has less than 5,000 identifiers because it would add nothing but another way to differ.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.data.source import DataError

# Name → version, as in constraints.txt.
DISTRIBUTIONS = {
    "filelock": "4.2.11",
    "fsspec": "2026.9.0",
    "jinja2": "3.1.6",
    "lightning": "2.6.6",
    "mpmath": "1.3.0",
    "networkx": "3.6.1",
    "packaging": "26.3",
    "pyparsing": "3.3.3",
    "python-dateutil": "4.0.0",
    "sympy": "1.14.0",
    "torchmetrics": "1.9.0",
    "tqdm": "4.70.1",
    "typing-extensions": "4.16.0",
}

# `corpus_fingerprint` of these versions.
FINGERPRINT = "f1e1953db5ab9bc35e3a1ebd7bf76484c2d382e896e590792927b8c0cce0b576"


@dataclass(frozen=True)
class Distribution:
    """An installed distribution and its Python files, as its `RECORD` states them.

    Attributes:
        name: normalised name, `python-dateutil`.
        version: installed version.
        root: folder that the files' paths are relative to.
        files: path and SHA-256 (as in the `RECORD`: URL-safe base64 without padding) of each file,
            by ascending path.
    """

    name: str
    version: str
    root: Path
    files: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the files' paths and checksums, hence of their content."""
        return hashlib.sha256(json.dumps(self.files).encode()).hexdigest()

    def read(self, path: str, checksum: str) -> bytes:
        """Content of one of the files.

        Raises:
            DataError: the file is gone, or is not the one that was installed.
        """
        try:
            content = (self.root / path).read_bytes()
        except OSError as error:
            raise DataError(
                f"{self.root / path}: {error.strerror or error}; expected the file of "
                f"{self.name} {self.version} (install it again)"
            ) from error
        found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        if found != checksum:
            raise DataError(
                f"{self.root / path}: its sha256 is {found}; expected {checksum} by the RECORD of "
                f"{self.name} {self.version} (the file was edited; install it again)"
            )
        return content


def installed(names: Iterable[str]) -> list[Distribution]:
    """The named distributions that are installed with Python files, by ascending name.

    Takes a few milliseconds: the `RECORD` of each is read, none of its files.
    """
    found = []
    for name in sorted(set(names)):
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        files = _python_files(distribution.read_text("RECORD") or "")
        if files:
            root = Path(str(distribution.locate_file("")))
            found.append(Distribution(name, distribution.version, root, files))
    return found


def corpus_fingerprint(distributions: Iterable[Distribution]) -> str:
    """SHA-256 (hex) that changes with the names, the versions and the content of the files."""
    parts = [[each.name, each.version, each.digest] for each in distributions]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _python_files(record: str) -> tuple[tuple[str, str], ...]:
    # Lines of compiled files (`x.pyc,,`) have no checksum and differ between Pythons.
    lines = (line for line in record.splitlines() if ",sha256=" in line)
    return tuple(
        sorted(
            (path, checksum.removeprefix("sha256="))
            for path, checksum, *_ in csv.reader(lines)
            # Scripts lie outside of the packages, where each system has them.
            if path.endswith(".py") and not path.startswith(("/", "../"))
        )
    )
