"""The kernel's control groups that confine this process: their memory, processors and kills."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Group:
    """A control group.

    Attributes:
        folder: its files.
        is_unified: whether they are those of version 2.
    """

    folder: Path
    is_unified: bool

    def number(self, name: str, position: int = 0) -> int | None:
        """A number in one of its files; None where there is no file or no number (`max`)."""
        try:
            return int((self.folder / name).read_text().split()[position])
        except (OSError, ValueError, IndexError):
            return None

    def entry(self, name: str, key: str) -> int | None:
        """The number behind a key in a file of such lines; None where it is not there."""
        try:
            lines = (self.folder / name).read_text().splitlines()
            return next((int(v) for k, v in map(str.split, lines) if k == key), None)
        except (OSError, ValueError):
            return None


def groups_of(controller: str) -> list[Group]:
    """The groups that confine this process by `memory` or `cpu`, the innermost first.

    A container may see its own group as the root, and its path from outside.
    """
    try:
        lines = _OWN.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            hybrid = _ROOT / "unified"
            root = hybrid if hybrid.is_dir() else _ROOT
        elif controller in controllers.split(","):
            root = _ROOT / controller
        else:
            continue
        leaf = root / path.lstrip("/")
        for folder in (leaf, *leaf.parents):
            found.append(Group(folder, is_unified=controllers == ""))
            if folder == root:
                break
    return found
