"""The folder of an exported model, complete or absent.

* `model.json`: method, settings, hash functions, data, record, and digests of the other files.
* `weights.safetensors`: parameters by name. Hash tables are made anew from their functions.
* `labels.txt`: what label 0, 1, … is called, where labels have names or were chosen among others.
* `vocabulary.txt`: token 0, 1, …, where texts have a vocabulary; backslashes and LF are escaped.
* `features.safetensors`: `idf`, where features are weighted by it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from bench.data.cache import file_digest, sealed, unsealed
from bench.errors import UserError, os_message
from bench.store.locks import own_name

#: Raised by whoever changes what a file of the folder means; older folders are then refused.
FORMAT = 1
META, WEIGHTS, LABELS = "model.json", "weights.safetensors", "labels.txt"
VOCABULARY, FEATURES = "vocabulary.txt", "features.safetensors"

# Where torch puts tensors; kernels may sum in another order elsewhere.
_ALIGNMENT = 64
_DTYPES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
}


class ModelError(UserError):
    """A model cannot be exported, or a folder is none that can be loaded."""


def write_folder(
    folder: Path,
    meta: Mapping[str, Any],
    *,
    tensors: Mapping[str, Mapping[str, Tensor]],
    lines: Mapping[str, Sequence[str]],
    replace: bool,
) -> None:
    """Write an exported model, all of it or nothing.

    Args:
        folder: to be made.
        meta: of `model.json`, which format and digests are added to.
        tensors: of each `.safetensors` file, by name.
        lines: of each `.txt` file.
        replace: put it in the place of an exported model that is there.

    Raises:
        ModelError: something else is there, or a model and `replace` is False.
    """
    refuse_existing(folder, replace=replace)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (
        folder.with_name(f".{folder.name}.{own_name()}.{end}") for end in ("new", "old")
    )
    partial.mkdir()
    try:
        for name, parts in tensors.items():
            _write_tensors(partial / name, parts)
        for name, texts in lines.items():
            text = "".join(f"{line}\n" for line in texts)
            (partial / name).write_bytes(text.encode("utf-8", "surrogatepass"))
        digests = {path.name: file_digest(path) for path in sorted(partial.iterdir())}
        text = sealed({"format": FORMAT, **meta, "sha256": digests})
        (partial / META).write_text(text, encoding="utf-8")
        with suppress(FileNotFoundError):
            folder.rename(old)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def refuse_existing(folder: Path, *, replace: bool) -> None:
    """Refuse a folder that would not be written; see :func:`write_folder`."""
    if not folder.exists():
        return
    if not (folder / META).is_file():
        raise ModelError(f"{folder} exists and is no exported model; expected a new folder")
    if not replace:
        raise ModelError(f"{folder} exists; expected a new folder, or --replace (replace=True)")


def read_meta(folder: Path, *, verify: bool) -> dict[str, Any]:
    """What `model.json` says, of a folder whose files are as they were written.

    Args:
        folder: of an exported model.
        verify: compare the digests of all files; otherwise that they are there.

    Raises:
        ModelError: a file is missing or not as it was written, or the format is another.
    """
    path = folder / META
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text)
    except FileNotFoundError:
        raise ModelError(f"{folder} has no {META}; expected a folder of `bench export`") from None
    except OSError as error:
        raise ModelError(f"{path}: {os_message(error)}; expected a readable file") from error
    except ValueError:
        found = None
    form = found.get("format") if isinstance(found, dict) else None
    if form is not None and form != FORMAT:
        raise ModelError(f"{path}: format is {form!r}; expected {FORMAT}, which this version reads")
    meta = unsealed(text)
    if meta is None or form is None:
        raise ModelError(f"{path} is not as it was written; expected an untouched exported model")
    for name, digest in meta["sha256"].items():
        try:
            is_same = file_digest(folder / name) == digest if verify else (folder / name).is_file()
        except OSError as error:
            raise ModelError(f"{folder / name}: {os_message(error)}") from error
        if not is_same:
            raise ModelError(
                f"{folder / name} is not as it was written (its SHA-256 is another than {META} "
                "says); expected an untouched exported model"
            )
    return meta


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a file, memory-mapped; but for those that do not lie as torch lays them."""
    try:
        found = load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(f"{path}: {error}; expected an untouched exported model") from error
    return {
        name: tensor.clone() if tensor.data_ptr() % _ALIGNMENT else tensor
        for name, tensor in found.items()
    }


def read_lines(path: Path) -> list[str]:
    """Lines of a file that are ended by LF, and by nothing else that Python ends lines at."""
    return path.read_bytes().decode("utf-8", "surrogatepass").split("\n")[:-1]


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as `safetensors` has it, so that as many as can be are aligned in memory.

    It allows no gaps between tensors: those of whole multiples come first, and the header, which
    may end in spaces, fills one.

    Source: the format of the safetensors library: 8 bytes of length, JSON, then the tensors.
    """
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    order = sorted(flat, key=lambda name: (flat[name].nbytes % _ALIGNMENT > 0, -flat[name].nbytes))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        start, end = end, end + flat[name].nbytes
        kind, shape = _DTYPES[flat[name].dtype], list(flat[name].shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            stream.write(flat[name].reshape(-1).view(torch.uint8).numpy().data)
