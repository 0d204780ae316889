"""Small Python packages, installed as pip would, and a slow reading of their identifiers."""

from __future__ import annotations

import base64
import hashlib
import io
import keyword
import tokenize
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def install(
    site: Path, name: str, files: Mapping[str, bytes], *, version: str = "1.0", python: str = "311"
) -> None:
    """Write the files and the `dist-info` of a distribution below `site`."""
    lines = []
    for path, content in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines += [f"{path},sha256={digest},{len(content)}", f"{path}.cpython-{python}.pyc,,"]
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "RECORD").write_text("\n".join([*lines, f"{folder.name}/RECORD,,", ""]))


def random_files(num_files: int = 40) -> dict[str, bytes]:
    """Files of a package `many` of 300 identifiers each, drawn from a heavy-tailed law."""
    generator = np.random.default_rng(0)
    files = {}
    for i in range(num_files):
        names = [f"v{int(j)}" for j in generator.zipf(1.5, 300) if j < 500]
        files[f"many/part{i % 3}/module{i}.py"] = f"# comment\n{' + '.join(names)}\n".encode()
    return files


def slow_identifiers(source: bytes) -> list[str]:
    """Names by the standard tokenizer, without those that it has found in f-strings since 3.12."""
    found = []
    depth = 0
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        kind = tokenize.tok_name[token.type]
        depth += {"FSTRING_START": 1, "FSTRING_END": -1}.get(kind, 0)
        if kind == "NAME" and depth == 0 and not keyword.iskeyword(token.string):
            found.append(token.string)
    return found
