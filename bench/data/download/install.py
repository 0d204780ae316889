"""Published sets as they lie in the data folder: placed whole, pinned, verified.

A set lies in a folder of its name, as `train` and `test` files in the form that its source reads.
Files are put together in `<set>/.new` and renamed into place when checksum and sizes are right, so
that what has its name is whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from bench.data.download.catalogue import ROLES, PublishedSet, Role
from bench.data.download.checksums import (
    FilePin,
    Pins,
    add_pins,
    locked,
    read_pins,
    refuse_read_only,
)
from bench.data.download.download import KeptError
from bench.data.download.file_stats import count_file
from bench.data.source import DataError

State = Literal["absent", "incomplete", "changed", "not verified", "verified"]
Tell = Callable[[str], None]
Put = Callable[[Path], None]
"""Creates a file of a set at a path."""

_STAGING = ".new"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Permissions:
    """What a person has allowed.

    Attributes:
        accept_sizes: place a set even where N, D or L are not the expected ones.
        replace: put new files in the place of those at hand, and pin them anew.
    """

    accept_sizes: bool = False
    replace: bool = False


def state(known: PublishedSet, data_dir: Path, pins: Pins) -> State:
    """How a set stands in the data folder, judged without reading its files."""
    states = [file_state(known, role, data_dir, pins) for role in ROLES]
    if "absent" in states:
        return "absent" if set(states) == {"absent"} else "incomplete"
    return next(each for each in ("changed", "not verified", "verified") if each in states)


def file_state(known: PublishedSet, role: Role, data_dir: Path, pins: Pins) -> State:
    """How one of the set's files stands; never `incomplete`."""
    path = data_dir / relative_path(known, role)
    if not path.is_file():
        return "absent"
    pin = pins.files.get(relative_path(known, role))
    status = path.stat()
    if pin is None:
        return "not verified"
    if status.st_size != pin.num_bytes:
        return "changed"
    return "verified" if status.st_mtime_ns == pin.mtime_ns else "not verified"


def relative_path(known: PublishedSet, role: Role) -> str:
    """Path of one of the set's files within the data folder."""
    return f"{known.name}/{known.file_name(role)}"


@contextlib.contextmanager
def set_folder(known: PublishedSet, data_dir: Path) -> Iterator[Path]:
    """The set's folder, made if need be, with nobody else at work in it.

    Raises:
        DataError: the folder cannot be written to.
    """
    folder = data_dir / known.name
    try:
        refuse_read_only(data_dir)
        with locked(folder / ".lock"):
            yield folder
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: {error.strerror or error}; --data-dir names a folder "
            "that can be written to"
        ) from error
    finally:
        shutil.rmtree(folder / _STAGING, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # if nothing came of it


def place(
    known: PublishedSet,
    files: Mapping[Role, Put],
    data_dir: Path,
    *,
    allowed: Permissions,
    tell: Tell,
) -> None:
    """Put files beside their places, check them, rename all of them into place, and pin them.

    Raises:
        KeptError: their sizes are not the expected ones.
        DataError: they are cut off, of another format or not what was pinned, or others that were
            never pinned have their places.
    """
    folder = data_dir / known.name
    staging = folder / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    pins = read_pins(data_dir)
    found: dict[Role, FilePin] = {}
    for role, put in files.items():
        path = folder / known.file_name(role)
        pin = pins.files.get(relative_path(known, role))
        if not allowed.replace and pin is None and path.exists():
            raise DataError(f"{path}: a file that was never verified is there (see --replace)")
        put(staging / path.name)
        found[role] = count_file(staging / path.name, known, place=path)
        if not allowed.replace and pin is not None and pin.sha256 != found[role].sha256:
            raise DataError(
                f"{path}: sha256 of the new file is {found[role].sha256}; expected {pin.sha256}, "
                "as pinned before (see --replace)"
            )
    problems = _size_problems(known, {**_placed(known, pins), **found})
    if problems and not allowed.accept_sizes:
        raise KeptError("\n".join([*problems, "nothing was placed (see --accept-sizes)"]))
    for problem in problems:
        tell(f"accepted: {problem}")
    for role in files:
        (staging / known.file_name(role)).replace(folder / known.file_name(role))
    add_pins(data_dir, files={relative_path(known, role): pin for role, pin in found.items()})
    for role, pin in found.items():
        tell(f"{folder / known.file_name(role)}: {_described(pin)}; sha256 {pin.sha256}")


def verify(known: PublishedSet, data_dir: Path, *, tell: Tell) -> list[str]:
    """Read the files of a set that is at hand; what is wrong with them, empty if nothing is.

    What was never pinned is pinned now, if its sizes are right and the folder can be written to.

    Raises:
        DataError: the set is not at hand.
    """
    pins = read_pins(data_dir)
    problems = []
    found: dict[Role, FilePin] = {}
    for role in ROLES:
        path = data_dir / relative_path(known, role)
        pin = pins.files.get(relative_path(known, role))
        if not path.is_file():
            raise DataError(f"{path}: no such file; `data fetch {known.name}` may bring it")
        try:
            found[role] = count_file(path, known)
        except DataError as error:
            problems.append(str(error))
            continue
        if pin is not None and pin.sha256 != found[role].sha256:
            problems.append(f"{path}: sha256 is {found[role].sha256}; expected {pin.sha256}")
        else:
            verb = "not pinned before" if pin is None else "as pinned"
            tell(f"{path}: {_described(found[role])}; sha256 {found[role].sha256}, {verb}")
    # Other sizes than the expected ones were accepted when they were pinned.
    if len(_placed(known, pins)) < len(ROLES):
        problems += _size_problems(known, found)
    if not problems:
        pinned = {relative_path(known, role): pin for role, pin in found.items()}
        try:
            add_pins(data_dir, files=pinned)
        except OSError as error:
            tell(f"{data_dir}: {error.strerror}; the checksums could not be pinned")
    return problems


def _placed(known: PublishedSet, pins: Pins) -> dict[Role, FilePin]:
    pinned = {role: pins.files.get(relative_path(known, role)) for role in ROLES}
    return {role: pin for role, pin in pinned.items() if pin is not None}


def _size_problems(known: PublishedSet, found: Mapping[Role, FilePin]) -> list[str]:
    """Sizes that are not the expected ones.

    The repository's files have D and L in their headers; in VW's it takes both files to see them.
    """
    wanted: list[tuple[str, str, int, int | None]] = [
        (known.file_name(role), f"num_{role}_points", pin.num_points, known.num_points(role))
        for role, pin in found.items()
    ]
    for name in ("num_features", "num_labels"):
        numbers = {known.file_name(role): getattr(pin, name) for role, pin in found.items()}
        if known.source == "vw":
            is_whole = len(numbers) == len(ROLES)
            numbers = {"both files": max(numbers.values())} if is_whole else {}
        wanted += [(where, name, number, getattr(known, name)) for where, number in numbers.items()]
    return [
        f"{known.name}, {where}: {name} is {number:,}; expected {expected:,}"
        + (" (a number from memory)" if name in known.unverified else "")
        for where, name, number, expected in wanted
        if expected is not None and number != expected
    ]


def _described(pin: FilePin) -> str:
    return f"N {pin.num_points:,}, D {pin.num_features:,}, L {pin.num_labels:,}"
