"""Command line: `python -m bench data list | fetch | verify | import`. Imports no numba."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.data.download.catalogue import ROLES, SETS, PublishedSet
from bench.store.files import folder_named

_OK, _FAILED = 0, 1
_HEADINGS = ("name", "task", "N train", "N test", "D", "L", "labels a point", "here")


def add_commands(commands: Any, *, default_data_dir: Callable[[], Path]) -> None:
    """Add `data` and its commands to the parser of `python -m bench`.

    Args:
        commands: what `add_subparsers` returned.
        default_data_dir: the data folder where `--data-dir` does not name one.
    """
    parser = commands.add_parser("data", help="the papers' data sets: list, fetch, verify, import")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(verb: str, function: Callable[[argparse.Namespace, Path], int], what: str) -> Any:
        command = verbs.add_parser(verb, help=what, description=f"{what[0].upper()}{what[1:]}.")
        command.add_argument("--data-dir", type=folder_named, help="default: as for `run`")
        command.set_defaults(
            command=lambda options: function(options, options.data_dir or default_data_dir())
        )
        return command

    command = add("list", _list, "what is known, and what is at hand; a name: all about it")
    command.add_argument("name", nargs="*")
    command = add("fetch", _fetch, "download a set, resuming what broke off, and check it")
    command.add_argument("name", nargs="+")
    _add_permissions(command)
    command = add("verify", _verify, "read sets again: are they complete, and what was pinned?")
    command.add_argument("name", nargs="*", help="default: all that are at hand")
    command = add("import", _import, "check and install files that you have already")
    command.add_argument("file", nargs="+", type=Path)
    command.add_argument("--as", dest="name", metavar="NAME", help="which set they are")
    _add_permissions(command)


def _add_permissions(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--accept-sizes", action="store_true", help="even if N, D, L are not the expected ones"
    )
    command.add_argument(
        "--replace", action="store_true", help="what is at hand, and what was pinned"
    )


def _list(options: argparse.Namespace, data_dir: Path) -> int:
    sets = _named(options.name) or list(SETS.values())
    states = _states(sets, data_dir)
    if options.name:
        for each in sets:
            _print_all(each, states[each.name], data_dir)
        return _OK
    rows = [_HEADINGS, *(_row(each, states[each.name]) for each in sets)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if i in (0, 1, len(row) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    print(f"\nin {data_dir}; ? a number from memory, – not known or not here")
    return _OK


def _row(known: PublishedSet, state: str) -> tuple[str, ...]:
    return (
        known.name,
        known.task,
        _number(known, "num_train_points"),
        _number(known, "num_test_points"),
        _number(known, "num_features"),
        _number(known, "num_labels"),
        "–" if known.labels_per_point is None else f"{known.labels_per_point:g}",
        "–" if state == "absent" else state,
    )


def _number(known: PublishedSet, name: str) -> str:
    value = getattr(known, name)
    if value is None:
        return "–"
    return f"{value:,}{'?' if name in known.unverified else ''}"


def _print_all(known: PublishedSet, state: str, data_dir: Path) -> None:
    names = dict(zip(_HEADINGS, _row(known, state), strict=True))
    facts = [
        *(names.items()),
        ("title", known.title),
        *(("file", str(data_dir / known.name / known.file_name(role))) for role in ROLES),
        ("options", repr({"source": known.source, **known.spec().options})),
        ("propensity", known.propensity),
        *(("address", address) for item in known.downloads for address in item.addresses),
        ("terms", known.terms),
        *(("origin", text) for text in known.origins),
        *(("note", text) for text in known.notes),
    ]
    for name, value in facts:
        print(f"{name:<15} {value}")
    print()


def _fetch(options: argparse.Namespace, data_dir: Path) -> int:
    for known in _named(options.name):
        _install().fetch(known, data_dir, allowed=_allowed(options), notify=_notify)
    return _OK


def _import(options: argparse.Namespace, data_dir: Path) -> int:
    _install().import_files(
        options.file, data_dir, name=options.name, allowed=_allowed(options), notify=_notify
    )
    return _OK


def _verify(options: argparse.Namespace, data_dir: Path) -> int:
    states = _states(list(SETS.values()), data_dir)
    chosen = _named(options.name) or [
        each for each in SETS.values() if states[each.name] not in ("absent", "incomplete")
    ]
    problems = []
    for each in chosen:
        problems += _install().verify(each, data_dir, notify=_notify)
    for problem in problems:
        print(f"bench: {problem}", file=sys.stderr)
    print(f"{len(chosen)} sets read, {len(problems)} problems")
    return _FAILED if problems else _OK


def _named(names: list[str]) -> list[PublishedSet]:
    """All typing mistakes before anything is done."""
    return [_install().named(name) for name in names]


def _states(sets: list[PublishedSet], data_dir: Path) -> dict[str, str]:
    pins = _install().read_pins(data_dir)
    return {each.name: _install().state(each, data_dir, pins) for each in sets}


def _allowed(options: argparse.Namespace) -> Any:
    return _install().Permissions(accept_sizes=options.accept_sizes, replace=options.replace)


def _notify(text: str) -> None:
    print(text, flush=True)


def _install() -> Any:
    # Not at import: it imports numba, which the other commands' start need not wait for.
    return importlib.import_module("bench.data.download.install")
