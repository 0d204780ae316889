"""Published sets in the data folder: downloaded or imported, checked, installed and pinned.

A set lies in a folder of its name, as `train` and `test` files in the form that its source reads.
Files are put together in `<set>/.new` and renamed when checksum and sizes are right, so that what
has its name is complete.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Literal, cast

from bench.data.cache import file_digest, file_marks
from bench.data.download.catalogue import ROLES, SETS, Download, PublishedSet, Role
from bench.data.download.checksums import FilePin, add_pins, locked, read_pins
from bench.data.download.download import KeptError, download, has_begun, target_of
from bench.data.download.members import Member, chosen, files_at, is_gzip, open_archive, recognised
from bench.data.source import DataError
from bench.data.text import Grammar, Part, parse_header, parse_points
from bench.data.xmlrepo import read_part

State = Literal["absent", "incomplete", "changed", "not verified", "verified"]
Notify = Callable[[str], None]
Put = Callable[[Path], None]
"""Creates a file of a set at a path."""

_STAGING = ".new"
_GZIP_LEVEL = 6
_MAX_SPLIT_BYTES = 1 << 28


@dataclasses.dataclass(frozen=True, kw_only=True)
class Permissions:
    """What a person has allowed.

    Attributes:
        accept_sizes: install a set even where N, D or L are not the expected ones.
        replace: put new files instead of those at hand, and pin them anew.
    """

    accept_sizes: bool = False
    replace: bool = False


def named(name: str) -> PublishedSet:
    """The set of a name; a `DataError` where there is none."""
    if name not in SETS:
        told = f"no published set is called {name!r}; expected one of {list(SETS)}"
        if name.casefold().startswith("lf"):
            told += "; published numbers of LF data sets are filtered by a file which is not read"
        raise DataError(told)
    return SETS[name]


def state(known: PublishedSet, data_dir: Path, pins: Mapping[str, FilePin]) -> State:
    """How a set stands in the data folder, judged without reading its files."""
    states = [_file_state(known, role, data_dir, pins) for role in ROLES]
    if "absent" in states:
        return "absent" if set(states) == {"absent"} else "incomplete"
    return next(each for each in ("changed", "not verified", "verified") if each in states)


def _file_state(
    known: PublishedSet, role: Role, data_dir: Path, pins: Mapping[str, FilePin]
) -> State:
    path = data_dir / _relative_path(known, role)
    if not path.is_file():
        return "absent"
    pin = pins.get(_relative_path(known, role))
    status = path.stat()
    if pin is not None and status.st_size != pin.num_bytes:
        return "changed"
    return "verified" if pin is not None and file_marks(status) == pin.marks else "not verified"


def fetch(known: PublishedSet, data_dir: Path, *, allowed: Permissions, notify: Notify) -> None:
    """Download a set that is not at hand, and install it.

    Raises:
        DataError: it cannot be had, or is not what was expected, with what to do then.
    """
    with _set_folder(known, data_dir) as folder:
        pins = read_pins(data_dir)
        found = state(known, data_dir, pins)
        if not allowed.replace:
            if found in ("verified", "not verified"):
                notify(f"{known.name} is at hand in {folder} ({found}); nothing to fetch")
                return
            if found == "changed":
                raise DataError(f"{folder}: a file is not the pinned one (see --replace)")
        for item in known.downloads:
            is_there = item.role and _file_state(known, item.role, data_dir, pins) == "verified"
            if is_there and not allowed.replace:
                continue
            try:
                _fetch_item(known, item, data_dir, allowed=allowed, notify=notify)
            except DataError as error:
                addresses = "\n".join(f"  {address}" for address in item.addresses)
                raise DataError(
                    f"{error}\nby hand: open one of these in a browser and save the file,\n"
                    f"{addresses}\nthen: python -m bench data import FILE --as {known.name}"
                ) from error


def _fetch_item(
    known: PublishedSet, item: Download, data_dir: Path, *, allowed: Permissions, notify: Notify
) -> None:
    """Install a download from the first address that gives one of use."""
    targets = {
        address: target_of(data_dir / known.name, item.file_name, address)
        for address in item.addresses
    }
    # What has begun is completed first; an address whose file had changed meanwhile is asked again.
    begun = [address for address in item.addresses if has_begun(targets[address])]
    failures = []
    for address in (*begun, *item.addresses):
        target = targets[address]
        try:
            notify(f"{item.file_name}: asking {address}")
            download(address, target, notify)
            with contextlib.ExitStack() as stack:
                if item.role is None:
                    members = stack.enter_context(open_archive(target))
                    files = _files(known, chosen(known, members))
                else:
                    files = {item.role: partial(_link, target)}
                _install(known, files, data_dir, consumed=target, allowed=allowed, notify=notify)
            return
        except KeptError:
            raise
        except DataError as error:
            failures.append(f"{address}: {error}")
            notify(f"  {error}")
            target.unlink(missing_ok=True)  # not a part of it: that may go on tomorrow
    raise DataError(f"{item.file_name} could not be had:\n  " + "\n  ".join(failures))


def import_files(
    paths: Sequence[Path], data_dir: Path, *, name: str | None, allowed: Permissions, notify: Notify
) -> None:
    """Install files that a person has: an archive, a folder, or the training and test files.

    Which set they are of is given by `name`, or else by their own names or headers.

    Raises:
        DataError: the files belong to no set, or are not what is expected of it.
    """
    with contextlib.ExitStack() as stack:
        members = [
            member
            for path in paths
            for file in files_at(path)
            for member in stack.enter_context(open_archive(file))
        ]
        known = named(name) if name is not None else recognised(members)
        files = _files(known, chosen(known, members))
        with _set_folder(known, data_dir):
            _install(known, files, data_dir, allowed=allowed, notify=notify)
    for role in ROLES:
        if not (data_dir / _relative_path(known, role)).is_file():
            notify(f"{known.name} still lacks its {role} file; import it likewise")


def verify(known: PublishedSet, data_dir: Path, *, notify: Notify) -> list[str]:
    """Read the files of a set that is at hand; what is wrong with them, empty if nothing is.

    What was never pinned is pinned now, if its sizes are right and the folder can be written to.

    Raises:
        DataError: the set is not at hand.
    """
    pins = read_pins(data_dir)
    problems = []
    found: dict[Role, FilePin] = {}
    for role in ROLES:
        path = data_dir / _relative_path(known, role)
        pin = pins.get(_relative_path(known, role))
        if not path.is_file():
            raise DataError(f"{path}: no such file; `data fetch {known.name}` downloads it")
        try:
            found[role] = _count(path, known)
        except DataError as error:
            problems.append(str(error))
            continue
        if pin is not None and pin.sha256 != found[role].sha256:
            problems.append(f"{path}: sha256 is {found[role].sha256}; expected {pin.sha256}")
        else:
            verb = "not pinned before" if pin is None else "as pinned"
            notify(f"{path}: {_described(found[role])}, {verb}")
    # Other sizes than the expected ones were accepted when they were pinned.
    if len(_pinned(known, pins)) < len(ROLES):
        problems += _size_problems(known, found)
    if not problems:
        try:
            add_pins(data_dir, {_relative_path(known, role): pin for role, pin in found.items()})
        except OSError as error:
            notify(f"{data_dir}: {error.strerror}; the checksums could not be pinned")
    return problems


def _relative_path(known: PublishedSet, role: Role) -> str:
    return f"{known.name}/{known.file_name(role)}"


@contextlib.contextmanager
def _set_folder(known: PublishedSet, data_dir: Path) -> Iterator[Path]:
    """The set's folder, made if need be, with nobody else at work in it."""
    folder = data_dir / known.name
    try:
        with locked(data_dir / f".{known.name}.lock"):
            folder.mkdir(exist_ok=True)
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


def _install(
    known: PublishedSet,
    files: Mapping[Role, Put],
    data_dir: Path,
    *,
    consumed: Path | None = None,
    allowed: Permissions,
    notify: Notify,
) -> None:
    """Create files in the staging folder, check them, rename all of them, and pin them.

    `consumed` is a download that is removed when it is installed, being a second name of a file.

    Raises:
        KeptError: their sizes are not the expected ones.
        DataError: they are cut off, of another format or not what was pinned, or files that were
            never pinned have their names.
    """
    folder = data_dir / known.name
    staging = folder / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    pins = read_pins(data_dir)
    found: dict[Role, FilePin] = {}
    for role, put in files.items():
        path = folder / known.file_name(role)
        pin = pins.get(_relative_path(known, role))
        if not allowed.replace and pin is None and path.exists():
            raise DataError(f"{path}: a file that was never verified is there (see --replace)")
        put(staging / path.name)
        found[role] = _count(staging / path.name, known)
        if not allowed.replace and pin is not None and pin.sha256 != found[role].sha256:
            raise DataError(
                f"{path}: sha256 of the new file is {found[role].sha256}; expected {pin.sha256}, "
                "as pinned before (see --replace)"
            )
    problems = _size_problems(known, {**_pinned(known, pins), **found})
    if problems and not allowed.accept_sizes:
        raise KeptError("\n".join([*problems, "nothing was installed (see --accept-sizes)"]))
    for problem in problems:
        notify(f"accepted: {problem}")
    for role in files:
        (staging / known.file_name(role)).replace(folder / known.file_name(role))
    if consumed is not None:
        consumed.unlink()
    for role, pin in found.items():
        path = folder / known.file_name(role)
        found[role] = dataclasses.replace(pin, marks=file_marks(path.stat()))
        notify(f"{path}: {_described(pin)}")
    add_pins(data_dir, {_relative_path(known, role): pin for role, pin in found.items()})


def _count(path: Path, known: PublishedSet) -> FilePin:
    """Checksum and sizes of a file, read as the set's source reads it.

    In the repository's format D and L are the header's; in VW's they are what the largest ids come
    to, counted from the set's bases.
    """
    status = path.stat()
    if known.source == "xmlrepo":
        part = read_part(path)
    else:
        label_base, feature_base = (
            int(known.options.get(name) or 0) for name in ("label_base", "feature_base")
        )
        grammar = Grammar("vw", label_base, feature_base, None, None, base_option="the set")
        part = Part(path, grammar)
    num_points, last_label, last_feature = 0, -1, -1
    for points in parse_points(part):
        num_points += points.label_lengths.size
        last_label = max(last_label, int(points.labels.max(initial=-1)))
        last_feature = max(last_feature, int(points.features.max(initial=-1)))
    return FilePin(
        sha256=file_digest(path),
        num_bytes=status.st_size,
        num_points=num_points,
        num_features=part.grammar.num_features or last_feature + 1,
        num_labels=part.grammar.num_labels or last_label + 1,
        marks=file_marks(status),
    )


def _pinned(known: PublishedSet, pins: Mapping[str, FilePin]) -> dict[Role, FilePin]:
    pinned = {role: pins.get(_relative_path(known, role)) for role in ROLES}
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
            has_both = len(numbers) == len(ROLES)
            numbers = {"both files": max(numbers.values())} if has_both else {}
        wanted += [(where, name, number, getattr(known, name)) for where, number in numbers.items()]
    return [
        f"{known.name}, {where}: {name} is {number:,}; expected {expected:,}"
        + (" (a number from memory)" if name in known.unverified else "")
        for where, name, number, expected in wanted
        if expected is not None and number != expected
    ]


def _described(pin: FilePin) -> str:
    sizes = f"N {pin.num_points:,}, D {pin.num_features:,}, L {pin.num_labels:,}"
    return f"{sizes}; sha256 {pin.sha256}"


def _files(known: PublishedSet, members: Mapping[str, Member]) -> dict[Role, Put]:
    """What puts each of the set's files, out of the members that were chosen for it."""
    if "data" in members:
        splits: dict[Role, str] = {"train": "trSplit", "test": "tstSplit"}
        return {
            role: partial(_select, members["data"], members[part]) for role, part in splits.items()
        }
    return {role: partial(_copy, members[role]) for role in ROLES if role in members}


def _link(path: Path, target: Path) -> None:
    """The file itself by a second name: it may be too large to lie here twice."""
    try:
        target.hardlink_to(path)
    except OSError:  # a file system without links
        shutil.copyfile(path, target)


def _copy(member: Member, target: Path) -> None:
    if member.path is not None and target.suffix == ".gz" and is_gzip(member.path):
        shutil.copyfile(member.path, target)  # not packed anew: its checksum is known to others
    else:
        with _writing(target) as stream:
            member.copy_to(stream)


def _select(data: Member, split: Member, target: Path) -> None:
    """The points of `data` that the first column of `split` numbers, from 1 on.

    Other columns are other splits; a 0 fills a column that is shorter than others.
    """
    header = parse_header(data.first_line())
    with data.opened() as stream:
        lines = stream.read(_MAX_SPLIT_BYTES).splitlines()[1:]
    if header is None or len(lines) != header[0]:
        raise DataError(
            f"{data.where}: {len(lines):,} points; expected a header 'N D L' and its N points"
        )
    kept = []
    with split.opened() as stream:
        for number, line in enumerate(stream, start=1):
            word = (line.split() or [b"0"])[0]
            if not word.isdigit() or int(word) > len(lines):
                raise DataError(
                    f"{split.where}, line {number}: {word[:20]!r}; expected a point of "
                    f"{target.name}, 1 to {len(lines)}"
                )
            if int(word):
                kept.append(lines[int(word) - 1])
    with _writing(target) as output:
        output.write(b"%d %d %d\n" % (len(kept), header[1], header[2]))
        output.writelines(line + b"\n" for line in kept)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[IO[bytes]]:
    """A new file, packed if its name says so, on the disk when it is closed."""
    with path.open("wb") as raw:
        if path.suffix == ".gz":
            # Without name and time, so that equal content gives equal bytes.
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as stream:
                yield cast(IO[bytes], stream)
        else:
            yield raw
        raw.flush()
        os.fsync(raw.fileno())
