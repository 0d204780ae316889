"""Files of lines by host: machines of one kind append to one each, so that none meets another's.

`intel-xeon-2c-24g-3f9a1c.jsonl` is of host 3f9a1c among those of the kind `intel-xeon-2c-24g`.
Files from before hosts had ids bear the kind alone.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
from contextlib import suppress
from pathlib import Path

from bench.store.files import replace_file
from bench.store.locks import locked

_ID = re.compile(r"[0-9a-f]{6}")
_NAMED = re.compile(rf"(.+)-{_ID.pattern}")


@functools.cache
def host_id() -> str:
    """Six hexadecimal digits, drawn once for this host and user: no serial, nor made from a name.

    They are kept in the user's state folder, by host, since hosts may share that. Where it cannot
    be written they are those of the host's name.
    """
    node = hashlib.sha256(platform.node().encode()).hexdigest()
    with suppress(OSError, RuntimeError):  # without rights, locks or a home
        state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
        path = state / "mach-bench" / f"host-{node[:16]}"
        if (known := _read(path)) is not None:
            return known
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            if _read(path) is None:
                replace_file(path, f"{os.urandom(3).hex()}\n".encode())
            if (known := _read(path)) is not None:
                return known
    return node[:6]


def own_path(folder: Path, slug: str) -> Path:
    """The file of a folder that this host appends to, as a machine of a kind."""
    return folder / f"{slug}-{host_id()}.jsonl"


def has_host(path: Path) -> bool:
    """Whether a file's name tells which host it is of."""
    return _NAMED.fullmatch(path.stem) is not None


def kind_of(path: Path) -> str:
    """The kind of machine in a file's name.

    >>> kind_of(Path("amd-epyc-2c-24g-3f9a1c.jsonl")), kind_of(Path("amd-epyc-2c-24g.jsonl"))
    ('amd-epyc-2c-24g', 'amd-epyc-2c-24g')
    """
    match = _NAMED.fullmatch(path.stem)
    return match[1] if match else path.stem


def path_of_kind(path: Path) -> Path:
    """What a file was called before hosts had ids; what its kind's runners share goes by it."""
    return path.with_name(f"{kind_of(path)}{path.suffix}")


def files_of_kind(path: Path) -> list[Path]:
    """All files of a file's kind in its folder, that without a host first."""
    kind = kind_of(path)
    found = (each for each in path.parent.glob(f"*{path.suffix}") if kind_of(each) == kind)
    return sorted(found, key=lambda each: each.stem)


def _read(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (FileNotFoundError, ValueError):
        return None
    return text if _ID.fullmatch(text) else None
