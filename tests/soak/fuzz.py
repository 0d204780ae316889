"""Mutated inputs to everything that reads what others wrote; ends with counts.

Each input is either taken or refused in a sentence: by the reader's own type of error, never by
another. What is taken is checked: text formats against a slow parser of lines, records and costs
against the JSON value they were read from, with the good lines around them still there.

Command: `make fuzz`, or `python tests/soak/fuzz.py --inputs 1000000 [--seed N] [--only TARGET]`.
Exit status 1 if an input gave another error, other data than the slow parser, or took long.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gzip
import io
import itertools
import json
import os
import random
import re
import resource
import sys
import tempfile
import time
import traceback
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast
from unittest import mock

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT)]

from stub_trials import build_trial  # noqa: E402

from bench.cli.progress import Progress  # noqa: E402
from bench.data.source import DataError, RawData  # noqa: E402
from bench.data.text import Grammar, LineError, parse_file, parse_line  # noqa: E402
from bench.data.texts import TextsSource  # noqa: E402
from bench.data.vw import VwSource  # noqa: E402
from bench.data.xmlrepo import XmlRepoSource  # noqa: E402
from bench.errors import StudyError  # noqa: E402
from bench.measure.experiment import Context  # noqa: E402
from bench.runner import child  # noqa: E402
from bench.runner.child import Job  # noqa: E402
from bench.runner.run import LocalEngine  # noqa: E402
from bench.store import costs, record  # noqa: E402
from bench.store.budgets import BudgetError, read_budgets  # noqa: E402
from bench.store.lines import RecordError  # noqa: E402
from bench.studies.study import Study, load_study  # noqa: E402

#: Errors that are sentences.
REFUSALS = (DataError, RecordError, BudgetError, StudyError)
_SLOW_SECONDS = 10.0
_MEMORY_BYTES = 8 << 30

_NUMBERS = (
    b"0 1 -1 +1 00 7 42 255 65536 2147483646 2147483647 2147483648 4294967297 9999999999 "
    b"10000000000 18446744073709551616 99999999999999999999 0.5 .5 5. 1e3 1e-3 1e39 1e400 1e-400 "
    b"nan inf -inf 0x10 1_000 -0 -0.0 1.17549435e-38 3.4028235e38 3.4028236e38 \xd9\xa3"
).split()
_PIECES = (
    *(b" ", b"  ", b",", b",,", b":", b"::", b"|", b"||", b"\n", b"\n\n", b"\r\n", b"\r", b"\t"),
    *(b'"', b'""', b"'", b"\\", b"{", b"}", b"[", b"]", b"#", b"null", b"true", b"\x00", b"\x1f"),
    *(b'["', b'"]', b"nan", b"1.0", b"\xe2\x80\x8b", b"\xc2\xad", b"text,label\n"),
    *(b"\xff", b"\xef\xbb\xbf", b"\xf0\x9f\x98\x80", b"\xed\xb3\xbf", b"A" * 300),
)
_DEEP = "nested deeply"
_VALUES: tuple[Any, ...] = (
    _DEEP,
    None, True, False, 0, 1, -1, 0.5, -0.5, 1e300, 10**30, 10**400, 2**63, "", "x", "nan", "1",
    "\x00", "\udcff", "\r\n", "é" * 50, [], {}, [[]], {"": {}}, [None], {"a": [1]}, "a/../b",
)  # fmt: skip


def mutated(content: bytes, draw: random.Random) -> bytes:
    """The content after a few small changes."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        start = draw.randrange(len(data) + 1)
        stop = min(len(data), start + draw.choice((0, 1, 1, 2, 5, 30)))
        kind = draw.randrange(7)
        if kind == 0 and data:
            data[start % len(data)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del data[start:stop]
        elif kind == 2:
            data[start:stop] = draw.choice(_PIECES)
        elif kind == 3:
            numbers = list(re.finditer(rb"[0-9.]+", data))
            if numbers:
                found = draw.choice(numbers)
                data[found.start() : found.end()] = draw.choice(_NUMBERS)
        elif kind == 4:
            other = draw.randrange(len(data) + 1)
            data[other:other] = data[start:stop]
        elif kind == 5:
            lines = data.split(b"\n")
            line = draw.choice(lines)
            lines.insert(draw.randrange(len(lines) + 1), line)
            data = bytearray(b"\n".join(lines))
        elif draw.random() < 0.2:
            del data[start:]
    return bytes(data)


def mutated_json(value: Any, draw: random.Random) -> Any:
    """A copy in which one value, at any depth, is another, gone, or under another name."""
    if draw.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return draw.choice(_VALUES)
    if isinstance(value, list):
        items = list(value)
        index = draw.randrange(len(items))
        if draw.random() < 0.1:
            del items[index]
        else:
            items[index] = mutated_json(items[index], draw)
        return items
    name = draw.choice(list(value))
    others = {key: item for key, item in value.items() if key != name}
    chance = draw.random()
    if chance < 0.05:
        return others
    if chance < 0.1:
        return others | {draw.choice(("", "x", name.upper(), "schema")): value[name]}
    return {**value, name: mutated_json(value[name], draw)}


def mutated_line(value: Any, draw: random.Random, depth: int = 50_000) -> bytes:
    """JSON text of a value, mutated as a value or as a text.

    One value may be nested deeper than Python itself would write it.
    """
    if draw.random() >= 0.7:
        return mutated(json.dumps(value, ensure_ascii=False).encode(), draw)
    text = json.dumps(mutated_json(value, draw))
    return text.replace(f'"{_DEEP}"', "[" * depth + "]" * depth).encode()


#: Makes an input in a folder, reads it, checks what was read; whether it was taken.
Try = Callable[[random.Random, Path], bool]


class WrongError(AssertionError):
    """What was read is not what stands there."""


def try_text_format(
    seeds: tuple[bytes, ...],
    source: type[VwSource] | type[XmlRepoSource],
    draw: random.Random,
    folder: Path,
) -> bool:
    """A file, plain or compressed, as a data source or as lines of a random grammar."""
    is_source = draw.random() < 0.5
    content = draw.choice(seeds)
    if not is_source and source is XmlRepoSource:
        content = content.partition(b"\n")[2]  # of a header only a source knows
    content = mutated(content, draw)
    is_zipped = draw.random() < 0.1
    path = folder / ("points.txt.gz" if is_zipped else "points.txt")
    zipped = gzip.compress(content, 1) if is_zipped else content
    is_broken = is_zipped and is_source and draw.random() < 0.5
    path.write_bytes(mutated(zipped, draw) if is_broken else zipped)
    if is_source:
        check_raw(source(train=path.name, test=path.name).build(folder))
        return True
    base = draw.choice((0, 0, 1))
    widths = (draw.choice((None, 3, 50)), draw.choice((None, 4, 500)))
    dialect: Literal["vw", "xmlrepo"] = "vw" if source is VwSource else "xmlrepo"
    grammar = Grammar(dialect, base, base, *widths, base_option="option")
    expected = slowly(content, grammar)
    try:
        features, labels = parse_file(path, grammar)
    except DataError:
        if expected is not None:
            raise WrongError("refused, but every line follows the grammar") from None
        raise
    if expected is None:
        raise WrongError("taken, but a line does not follow the grammar")
    values = np.ones(features.ids.size) if features.values is None else features.values
    found = [
        (labels.ids[a:b].tolist(), features.ids[c:d].tolist(), values[c:d].tolist())
        for (a, b), (c, d) in zip(
            itertools.pairwise(labels.offsets), itertools.pairwise(features.offsets), strict=True
        )
    ]
    if found != expected:
        raise WrongError(f"read as {found}, by the slow parser as {expected}")
    return True


def slowly(content: bytes, grammar: Grammar) -> list[Any] | None:
    """Points of a file by the slow parser; None where it refuses a line or finds none."""
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    try:
        points = [parse_line(line, grammar) for line in lines]
    except LineError:
        return None
    return [
        (labels, ids, np.array(values, np.float32).tolist()) for labels, ids, values in points
    ] or None


def check_raw(raw: RawData) -> None:
    """Ids within their widths, ascending in every row, and names for all labels or none."""
    parts = (raw.train_features, raw.train_labels, raw.test_features, raw.test_labels)
    for rows in parts:
        if rows.ids.size and not 0 <= rows.ids.min() <= rows.ids.max() < rows.num_columns:
            raise WrongError(f"ids {rows.ids.min()} to {rows.ids.max()} of {rows.num_columns}")
        starts = np.zeros(rows.ids.size, bool)
        starts[rows.offsets[:-1][rows.row_lengths > 0]] = True
        if np.any((np.diff(rows.ids) <= 0) & ~starts[1:]):
            raise WrongError("ids of a row do not ascend")
    num_known, num_all = raw.train_labels.num_columns, raw.test_labels.num_columns
    if num_known > num_all:
        raise WrongError(f"{num_all} labels in testing, fewer than the {num_known} of training")
    if raw.label_names is not None and len(raw.label_names) != num_all:
        raise WrongError(f"{len(raw.label_names)} names of {num_all} labels")


def try_texts(draw: random.Random, folder: Path) -> bool:
    """CSV, TSV or JSON Lines as a data source with random options."""
    ending, content = draw.choice(_TEXTS)
    path = folder / f"points{ending}"
    path.write_bytes(mutated(content, draw))
    source = TextsSource(
        train=path.name,
        test_share=0.3,
        label_separator=draw.choice((None, ";")),
        task=draw.choice((None, "multilabel")),
        num_hashed_features=draw.choice((None, 64)),
        has_header=draw.random() < 0.9,
    )
    raw = source.build(folder)
    check_raw(raw)
    expected = label_names_slowly(path, source)
    if set(raw.label_names or ()) != expected:
        raise WrongError(f"labels are {raw.label_names}, by the slow reader {expected}")
    if raw.train_labels.num_columns != np.unique(raw.train_labels.ids).size:
        raise WrongError("L is not the number of labels of training")
    return True


def label_names_slowly(path: Path, source: TextsSource) -> set[str]:
    """Names of all labels of a file that was taken, by the libraries alone."""
    text = path.read_bytes().decode().removeprefix("\ufeff")
    cells: list[Any] = []
    if path.suffix == ".jsonl":
        for line in text.split("\n"):
            if line.strip():
                pairs = json.loads(line, object_pairs_hook=list)
                if len(dict(pairs)) != len(pairs):
                    raise WrongError("taken, but a key stands twice")
                cells.append(_plain(dict(pairs)["label"]))
    else:
        tabs = path.suffix == ".tsv"
        options: Any = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {}
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), **options) if row]
        if rows.count(rows[0]) > 1:
            raise WrongError("taken, but the header stands twice")
        cells = [row[rows[0].index("label")] for row in rows[1:]]
    names: set[str] = set()
    for cell in cells:
        items = cell
        if isinstance(cell, str) and cell.strip().startswith("["):
            with contextlib.suppress(ValueError):
                items = json.loads(cell.strip())
        if isinstance(items, str):
            items = items.split(source.label_separator) if source.label_separator else [items]
        elif not isinstance(items, list):
            items = [items]
        names |= {_name_slowly(item) for item in items if item is not None}
    return names - {""}


def _plain(value: Any) -> Any:
    """A label's value; an object is none, and neither are its pairs."""
    if isinstance(value, list) and any(isinstance(item, tuple) for item in value):
        raise WrongError("taken, but a label is an object")
    return value


def _name_slowly(item: Any) -> str:
    if isinstance(item, float):
        item = f"{item + 0.0:.0f}"  # of -0.0, too
    text = unicodedata.normalize("NFC", str(item).translate(dict.fromkeys(_UNSEEN)))
    text = re.sub(r"\s+", " ", text).strip()
    head, dot, tail = text.partition(".")
    is_whole = bool(tail) and not tail.strip("0") and re.fullmatch("[+-]?[0-9]+", head)
    return head if dot and is_whole else text


def try_lines(
    seeds: tuple[str, ...],
    read: Callable[[Path], tuple[list[Any], list[str]]],
    draw: random.Random,
    folder: Path,
) -> bool:
    """Of JSON lines one between two good ones is mutated: read as it stands or not at all."""
    seed = draw.choice(seeds)
    line = mutated_line(json.loads(seed), draw)
    path = folder / "lines.jsonl"
    path.write_bytes(seed.encode() + b"\n" + line + b"\n" + seed.encode() + b"\n")
    found, notes = read(path)
    good = json.loads(seed)
    if len(found) < 2 or found[0].raw != good or found[-1].raw != good:
        raise WrongError("a good line beside a bad one was not read")
    taken = found[1:-1]
    if taken and not all(each.raw in list(_values(line)) for each in taken):
        raise WrongError("what was read is not what the line says")
    if not taken and line.strip() and not notes:
        raise WrongError("a line was passed over without a word")
    return bool(taken)


def _values(lines: bytes) -> Iterator[Any]:
    for line in lines.split(b"\n"):
        with contextlib.suppress(ValueError, RecursionError):
            yield json.loads(line)


class _Ended(child.Child):
    """A trial's process that has sent its messages, and has ended."""

    output = b""

    def _start(self, num_threads: int | None) -> None:
        self._events, end = os.pipe()
        os.write(end, self.output)
        os.close(end)
        self._num_oom_kills = None
        self._log.parent.mkdir(exist_ok=True)
        self._log.touch()
        self._process = cast(Any, SimpleNamespace(returncode=0, poll=lambda: 0))

    def send(self, message: Mapping[str, Any]) -> None:
        """It knows what to do."""

    def _wait(self) -> None:
        """It has ended."""

    _terminate = _wait

    def kill(self) -> None:
        """Close the pipe."""
        os.close(self._events)


def try_messages(draw: random.Random, folder: Path) -> bool:
    """Follow a trial, by what its process sends, to its record; whether its result was taken."""
    lines = [json.dumps(message).encode() for message in _MESSAGES]
    index = draw.randrange(len(lines))
    lines[index] = mutated_line(_MESSAGES[index], draw, depth=15_000)
    output = b"\n".join(lines)[:60_000] + b"\n"  # what a pipe holds
    progress = Progress(io.StringIO(), is_live=False)
    progress.open("fuzz", {_JOB.trial.trial_id: None}, num_kept=0)
    engine = LocalEngine(Context(data_dir=folder, cache_dir=folder), progress.on_event)
    with mock.patch.object(child, "Child", type("Child", (_Ended,), {"output": output})):
        [made] = engine.run([_JOB])
    if json.loads(made.to_json()) != made.raw:
        raise WrongError("the record reads back as another")
    progress.finish(made)
    return made.status == "done"


def try_budgets(seeds: tuple[str, ...], draw: random.Random, folder: Path) -> bool:
    """A file of budgets as a whole."""
    path = folder / "budgets.json"
    path.write_bytes(mutated_line(json.loads(draw.choice(seeds)), draw))
    for budget in read_budgets(path).values():
        if not (isinstance(budget.num_steps, int) and budget.num_steps >= 1):
            raise WrongError(f"a budget of {budget.num_steps!r} steps")
    return True


def try_studies(draw: random.Random, folder: Path) -> bool:
    """Load a Python file that defines a study, of mutations that start nothing; its trials."""
    words = re.split(r"(\W+)", _STUDY)
    for _ in range(draw.choice((1, 1, 2, 4))):
        index = draw.randrange(len(words))
        words[index] = draw.choice((*_STUDY_WORDS, words[draw.randrange(len(words))], ""))
    path = folder / "mine.py"
    path.write_text("".join(words), errors="surrogatepass")
    study = load_study(str(path))
    if not isinstance(study, Study):
        raise WrongError(f"a {type(study).__name__} for a study")
    study.build_trials("cpu")
    return True


_JOB = Job(
    study="fuzz",
    trial=build_trial(),
    entry="stub_trials",
    versions={"method": 1, "source": 1, "protocol": 1},
    provenance={"commit": None, "is_dirty": None, "python": "3", "packages": {}, "flags": {}}
    | {"machine": {"cpu": "c", "num_cores": 2, "memory_bytes": None, "accelerator": None}},
)
_MESSAGES: tuple[Mapping[str, Any], ...] = (
    {"event": "phase", "phase": "train"},
    {"event": "partial", "memory": {"parameter_bytes": 8}, "data": {"fingerprint": "f"}},
    {"event": "step", "epoch": 1.0, "loss": 0.5, "quality": 0.2}
    | {"fraction": 0.5, "seconds_left": 2},
    {"event": "note", "text": "a damaged entry is built again"},
    {
        "event": "result",
        "payload": {
            "test": {"P@1": 0.5},
            "training": {"num_steps": 3, "curve": [{"step": 1, "epoch": 0.5, "loss": 0.7}]},
            "clock": {"train_seconds": 0.25, "wall_seconds": 0.0},
            "resolved": {"loss": "softmax"},
            "worlds": None,
        },
        "flags": {"num_threads": 2},
    },
)
_XMLREPO = (
    b"3 8 6\n0,3 0:1 5:0.25\n2 1:3\n5 7:1e-3\n",
    b"4 500 50\n7,17,49 3:1 44:2.5 499:1\n 1:1 2:1\n0\n3 10:0.125 11:7\n",
    b"2 4 3\n0 0:1\n1 1:1 2:2 3:3",
)
_VW = (
    b"1 | 0:2 5 9\n2 | 1:0.5\n1 |f 2 3:1e-2\n",
    b"3 | 0 1 2 3\n1 |\n2 | 7:1\n",
    b"1 | 10 44:0.125 499:3",
)
_TEXTS = (
    (
        ".csv",
        b'text,label\n"a red, round ball",toys\nblue cube,toys\n"two\nlines",books\n'
        b'red cube,"books;toys"\n"say ""so""",books\nlast one,toys\n',
    ),
    (
        ".csv",
        'text,label\nred,"[""toys"", ""1""]"\nblue,1.0\ncube,toys\u200b\nball,2.50\n'
        'text,"label "\nround,toys;nan ny\n'.encode(),
    ),
    (".tsv", b"text\tlabel\na red ball\ttoys\nblue cube\tbooks\ngreen\ttoys;books\nx y\ttoys\n"),
    (
        ".jsonl",
        b'{"text": "a red ball", "label": "toys"}\n{"text": "cube", "label": ["a", "b"]}\n'
        b'{"label": 7, "text": "seven \\u00e9"}\n{"text": "x", "label": "toys"}\n',
    ),
)
_UNSEEN = (0xAD, 0x200B, 0x200D, 0x200E, 0x2060, 0xFEFF)
_STUDY = '''"""A study of my own."""
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial
from bench.studies.study import Study

def study():
    """Mine is faster."""
    data = DataSpec(source="planted", name="small", options={"num_labels": 30}, ks=(1, 3))
    models = [ModelSpec(method=name, encoder="linear", hidden_dims=(8,)) for name in ("mach", "b")]
    train = TrainSpec(num_steps=4, batch_size=32, learning_rate=0.1)
    trials = [Trial(data=data, model=model, train=train) for model in models]
    return Study(name="mine", claim="Faster.", trials=lambda profile: trials, smoke=lambda: trials)
'''
_STUDY_WORDS = (
    "None", "True", "0", "-1", "10**400", "1e400", "''", "'x'", "[]", "{}", "()", "lambda: 0",
    "1/0", "raise", "import", "import missing_module", "def", "return", "yield", ":", "(", ")", "'",
    '"', "\n", "    ", "=", "float('nan')", "object()", "set()", "b''", "\x00", "\ud800", "é",
)  # fmt: skip


def shortest(folder: Path) -> list[str]:
    """The shortest committed line of each file below a folder, shortest first."""
    files = sorted(folder.glob("*/*.jsonl"))
    return sorted((min(path.read_text().splitlines(), key=len) for path in files), key=len)


def abridged(texts: Iterable[str], name: str) -> tuple[str, ...]:
    """JSON texts with one item of a list: what is short is tried more often."""
    values = map(json.loads, texts)
    return tuple(json.dumps({**v, name: v[name][:1]}, ensure_ascii=False) for v in values)


def readers() -> dict[str, Try]:
    """All of them, by name."""
    results = ROOT / "results"
    budgets = [path.read_text() for path in sorted((results / "budgets").glob("*.json"))]
    records = tuple(shortest(results / "records")[:3])
    timed = abridged(shortest(results / "costs"), "rows")
    return {
        "xmlrepo": partial(try_text_format, _XMLREPO, XmlRepoSource),
        "vw": partial(try_text_format, _VW, VwSource),
        "texts": try_texts,
        "records": partial(try_lines, records, record.read),
        "costs": partial(try_lines, timed, costs.read_costs),
        "messages": try_messages,
        "budgets": partial(try_budgets, abridged(budgets, "budgets")),
        "studies": try_studies,
    }


def fuzz(
    chosen: Mapping[str, Try], num_inputs: int, seed: str, folder: Path
) -> tuple[dict[str, Counter[str]], list[str]]:
    """Give inputs, of which each depends on seed and number alone, to readers by turns.

    Returns:
        Counts of each reader, and a text for each input that went wrong, twenty at most.
    """
    counts = {name: Counter[str]() for name in chosen}
    wrong: list[str] = []
    for number, (name, try_one) in zip(range(num_inputs), itertools.cycle(chosen.items())):
        began = time.process_time()
        try:
            is_taken = try_one(random.Random(f"{seed}-{number}"), folder)
            outcome = "taken" if is_taken else "refused"
        except REFUSALS:
            outcome = "refused"
        except Exception:
            outcome = "wrong"
            if len(wrong) < 20:
                trace = "".join(traceback.format_exc(limit=-3).splitlines(keepends=True)[-8:])
                wrong.append(f"{name}, input {number}:\n{trace}")
        if time.process_time() - began > _SLOW_SECONDS:
            outcome = "wrong"
            wrong.append(f"{name}, input {number}: took long")
        counts[name][outcome] += 1
    return counts, wrong


def main() -> int:
    """Fuzz and print the counts; 1 if an input went wrong."""
    chosen = readers()
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", default=str(time.time_ns()))
    parser.add_argument("--only", choices=list(chosen))
    options = parser.parse_args()
    if options.only:
        chosen = {options.only: chosen[options.only]}
    # An input that asks for the whole machine's memory is refused, not served.
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, resource.RLIM_INFINITY))
    warnings.simplefilter("ignore")  # of the compiler, about the words of a mutated study
    with tempfile.TemporaryDirectory(prefix="bench-fuzz-") as folder:
        counts, wrong = fuzz(chosen, options.inputs, options.seed, Path(folder))
    for text in wrong:
        sys.stdout.write(f"{text}\n")
    sys.stdout.write(f"{'reader':<10} {'taken':>10} {'refused':>10} {'wrong':>10}\n")
    for name, count in counts.items():
        row = "".join(f" {count[outcome]:>10,}" for outcome in ("taken", "refused", "wrong"))
        sys.stdout.write(f"{name:<10}{row}\n")
    sys.stdout.write(f"seed {options.seed}\n")
    return int(any(count["wrong"] for count in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
