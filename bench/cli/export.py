"""Command line: `python -m bench export | predict`. Imports torch when it is known what for."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from bench.export import FORMATS
from bench.methods.card import TRAINING_ENTRY
from bench.methods.cards import card, cards
from bench.runner.deciding import decided
from bench.runner.plan import OWN, REFERENCE, Plan, RunError, RunOptions, plan_run, require_training
from bench.settings import Trial
from bench.store.files import folder_named
from bench.store.locks import own_name
from bench.store.record import Record
from bench.studies import study
from bench.studies.study import Study

_OK = 0


def add_commands(
    commands: Any,
    *,
    add_running: Callable[[argparse.ArgumentParser, str | None], None],
    run_options: Callable[[argparse.Namespace, Study], RunOptions],
) -> None:
    """Add `export` and `predict` to the parser of `python -m bench`.

    Args:
        commands: what `add_subparsers` returned.
        add_running: adds the options by which a study's rows are chosen.
        run_options: of those options.
    """
    command = commands.add_parser("export", help="a row's trained model: one folder that predicts")
    add_running(command, None)
    command.add_argument("folder", type=folder_named, help="to be made")
    command.add_argument("--replicate", type=int, default=0, metavar="R", help="default: 0")
    add_worlds(command)
    command.add_argument("--replace", action="store_true", help="an exported model that is there")
    command.set_defaults(command=lambda options: _export(options, run_options))

    command = commands.add_parser("merge", help="one model of worlds that were trained apart")
    command.add_argument("part", nargs="+", type=folder_named, help="of `export --worlds`")
    command.add_argument("folder", type=folder_named, help="to be made")
    command.add_argument("--replace", action="store_true", help="an exported model that is there")
    command.set_defaults(command=_merge)

    command = commands.add_parser("predict", help="the best labels of a file's points")
    command.add_argument("folder", type=folder_named, help="of `export`")
    command.add_argument("file", type=Path, help="texts or rows, labelled or not; - reads stdin")
    command.add_argument("-k", type=int, default=5, help="labels a point; default: 5")
    command.add_argument("--format", choices=FORMATS, help="default: by the file's name")
    command.add_argument("--out", type=Path, metavar="FILE", help="default: standard output")
    command.add_argument("--to", choices=("jsonl", "tsv"), help="default: by --out, else jsonl")
    command.add_argument("--probabilities", action="store_true", help="in place of scores")
    command.add_argument("--batch-size", type=int, default=256, metavar="N", help="default: 256")
    command.add_argument("--threads", type=int, metavar="N", help="default: as many as cores")
    command.set_defaults(command=_predict)


def add_worlds(command: argparse.ArgumentParser) -> None:
    """Add `--worlds` to a command that takes rows of a study."""
    command.add_argument(
        "--worlds",
        type=_worlds,
        metavar="a:b",
        help="of MACH with encoders of their own, those from a to b - 1 alone",
    )


def _worlds(text: str) -> tuple[int, int]:
    first, colon, stop = text.partition(":")
    if not (colon and first.isdecimal() and stop.isdecimal() and int(first) < int(stop)):
        raise argparse.ArgumentTypeError(f"{text!r} are no worlds; expected a:b with a < b")
    return int(first), int(stop)


def _merge(options: argparse.Namespace) -> int:
    from bench.export.merge import merge_models

    worlds = merge_models(options.part, options.folder, replace=options.replace)
    print(f"{worlds} worlds of {len(options.part)} parts: merged to {options.folder}")
    return _OK


def _export(
    options: argparse.Namespace, run_options: Callable[[argparse.Namespace, Study], RunOptions]
) -> int:
    chosen = study.load_study(options.study)
    require_training(chosen)
    wanted = run_options(options, chosen)
    chosen = decided(chosen, wanted)
    plan = plan_run(chosen, wanted)
    trial = _one(plan, options.replicate)
    whole = None
    if wanted.worlds is not None:
        whole = _one(plan_run(chosen, replace(wanted, worlds=None)), options.replicate)
    own = card(trial.model.method)
    if own.entry != TRAINING_ENTRY:
        ours = ", ".join(each.name for each in cards() if each.entry == TRAINING_ENTRY)
        raise RunError(
            f"{own.label} ({own.name}) is trained by a library of its own, which alone can predict "
            f"with its model; expected one of {ours}"
        )
    record, how = _record_of(trial, plan), _command(options)
    if record is None and wanted.results_dir == OWN:
        record = _record_of(trial, plan_run(chosen, replace(wanted, results_dir=REFERENCE)))
    if record is None:
        raise RunError(
            f"{plan.names.full(trial)}: there is no finished record of it, by today's code and "
            f"data, in {wanted.records_dir}; `{how}` makes one"
        )
    from bench.export.write import export_trial

    export_trial(
        trial,
        wanted.context,
        options.folder,
        record=record.raw,
        how=f"{how} --rerun",
        part_of=whole,
        replace=options.replace,
    )
    print(f"{plan.names.full(trial)}: exported to {options.folder}")
    return _OK


def _one(plan: Plan, replicate: int) -> Trial:
    """The only trial of a plan and a replicate."""
    found = [*(planned.trial for planned in plan.trials), *plan.unbudgeted]
    trials = [trial for trial in found if trial.replicate == replicate]
    if not trials:
        most = max((trial.replicate for trial in found), default=0)
        raise RunError(f"replicate is {replicate}; expected 0 to {most}")
    if len(trials) > 1:
        rows = "; ".join(plan.names.full(trial) for trial in trials)
        raise RunError(f"expected one row, by --only and --where; these are {len(trials)}: {rows}")
    return trials[0]


def _record_of(trial: Trial, plan: Plan) -> Record | None:
    """The finished record of a trial that today's code and data would not make anew."""
    for planned in plan.trials:
        if planned.trial.trial_id == trial.trial_id and planned.state in ("kept", "shared"):
            old = planned.previous
            return old if old is not None and old.status == "done" else None
    return None


def _command(options: argparse.Namespace) -> str:
    """The `bench run` that brings what an `export` with these options wants."""
    words = ["bench", "run", options.study]
    words += [word for method in options.only for word in ("--only", method)]
    words += [word for name, value in options.where for word in ("--where", f"{name}={value}")]
    if options.worlds is not None:
        words += ["--worlds", "{}:{}".format(*options.worlds)]
    words += ["--replicates", str(options.replicate + 1), "--keep-models"]
    for name in ("data_dir", "results"):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--profile", options.profile] if options.profile != "cpu" else []
    words += [f"--{name}" for name in ("smoke", "publish") if getattr(options, name)]
    return shlex.join([*words, "--cache-dir", str(options.cache_dir)])


def _predict(options: argparse.Namespace) -> int:
    from bench.export.predictor import Predictor

    predictor = Predictor.load(options.folder, threads=options.threads)
    found = predictor.predict(
        options.file,
        options.k,
        format=options.format,
        probabilities=options.probabilities,
        batch_size=options.batch_size,
    )
    out: Path | None = options.out
    is_tsv = (options.to or (out and out.suffix == ".tsv" and "tsv")) == "tsv"
    with _output(out) as stream:
        stream.writelines(_as_tsv(found) if is_tsv else _as_json_lines(found))
    return _OK


def _as_json_lines(found: Iterable[tuple[int, list[Any], Any]]) -> Iterator[bytes]:
    for line, labels, scores in found:
        point = {"line": line, "labels": labels, "scores": [float(f"{s:.9g}") for s in scores]}
        yield json.dumps(point, ensure_ascii=False).encode() + b"\n"


def _as_tsv(found: Iterable[tuple[int, list[Any], Any]]) -> Iterator[bytes]:
    yield b"line\trank\tlabel\tscore\n"
    for line, labels, scores in found:
        for rank, (label, score) in enumerate(zip(labels, scores, strict=True), start=1):
            yield f"{line}\t{rank}\t{label}\t{score:.9g}\n".encode()


@contextlib.contextmanager
def _output(path: Path | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that is complete or not there."""
    if path is None:
        yield sys.stdout.buffer
    elif path.exists() and not path.is_file():  # a pipe or a device
        with path.open("wb") as stream:
            yield stream
    else:
        partial = path.with_name(f".{path.name}.{own_name()}.partial")
        try:
            with partial.open("wb") as stream:
                yield stream
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
