"""Command line: `python -m bench list | run STUDY … | report [STUDY …] | check`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import progress, runner, study
from bench.record import Record, RecordError
from bench.runner import RunError, RunOptions
from bench.settings import SettingsError
from bench.study import PROFILES, Study, StudyError

_OK, _FAILED, _USAGE, _INTERRUPTED = 0, 1, 2, 130
_DATA_DIRS = (Path("data"), Path("../shared/data"))
_RESULTS = Path("results")
_CACHE = Path(".cache/bench")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 if a trial or check failed, 2 for bad usage."""
    options = _build_parser().parse_args(arguments)
    try:
        status = int(options.command(options))
        sys.stdout.flush()
        return status
    except (StudyError, RunError, SettingsError, RecordError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return _USAGE
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except KeyboardInterrupt:
        print("bench: interrupted; a second run goes on from here", file=sys.stderr)
        return _INTERRUPTED


def _list(options: argparse.Namespace) -> int:
    for name in study.study_names():
        known = study.load_study(name)
        counts = [f"{len(known.build_trials(p))} trials ({p})" for p in known.profiles]
        print(f"{name:<14} {known.headline}")
        print(" " * 15 + ", ".join([*counts, *([known.duration] if known.duration else [])]))
    return _OK


def _run(options: argparse.Namespace) -> int:
    results = _results_dir(options)
    run_options = RunOptions(
        data_dir=options.data_dir or _default_data_dir(),
        results_dir=results,
        cache_dir=options.cache_dir,
        profile=options.profile,
        is_smoke=options.smoke,
        only=tuple(options.only),
        shard=options.shard,
        rerun=options.rerun,
        max_load=options.max_load,
    )
    names = study.study_names() if options.study == ["all"] else options.study
    studies = [study.load_study(name) for name in names]  # all typing mistakes first
    failures = []
    for chosen in studies:
        plan = runner.plan_run(chosen, run_options)
        for warning in plan.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        if options.dry_run:
            _print_plan(chosen, plan)
            continue
        records = runner.run_plan(plan, run_options, progress=progress.Progress())
        _print_summary(plan, records)
        failures += [record for record in records if record.status == "error"]
    if failures:
        print(f"{len(failures)} trials failed:", file=sys.stderr)
        for record in failures:
            print(f"  {_label(record)}: {record.reason}", file=sys.stderr)
            log = run_options.cache_dir / "logs" / f"{record.study}-{record.trial_id}.log"
            print(f"    log: {log}", file=sys.stderr)
    return _FAILED if failures else _OK


def _report(options: argparse.Namespace) -> int:
    paths = importlib.import_module("bench.report").build(
        options.results or _RESULTS, out_dir=options.out, studies=options.study or None
    )
    for path in paths:
        print(path)
    return _OK


def _check(options: argparse.Namespace) -> int:
    problems = importlib.import_module("bench.report").check(options.results or _RESULTS)
    for problem in problems:
        print(problem, file=sys.stderr)
    return _FAILED if problems else _OK


def _results_dir(options: argparse.Namespace) -> Path:
    if not options.smoke:
        return options.results or _RESULTS
    if options.results is None:
        return Path(tempfile.mkdtemp(prefix="bench-smoke-"))
    given: Path = options.results
    if given.resolve() == _RESULTS.resolve():
        raise RunError(f"--smoke does not write to {_RESULTS}/: it holds real measurements")
    return given


def _default_data_dir() -> Path:
    return next((folder for folder in _DATA_DIRS if folder.is_dir()), _DATA_DIRS[0])


def _print_plan(chosen: Study, plan: runner.Plan) -> None:
    order = {planned.trial.trial_id: i for i, planned in enumerate(plan.to_run, start=1)}
    print(f"{chosen.name}: {len(order)} of {len(plan.trials)} trials would run")
    for planned in plan.trials:
        trial = planned.trial
        state = planned.state
        was = f" ({planned.previous.status})" if planned.previous is not None else ""
        turn = f"#{order[trial.trial_id]}" if planned.will_run else "–"
        print(f"  {trial.trial_id} {turn:>4} {state + was:<18} {progress.describe(trial)}")


def _print_summary(plan: runner.Plan, records: list[Record]) -> None:
    counts: dict[str, int] = {}
    for record in records:
        counts[record.status] = counts.get(record.status, 0) + 1
    text = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    print(f"{plan.study.name}: {text or 'nothing to run'}; records in {plan.records_path}")


def _label(record: Record) -> str:
    return f"{record.study} {record.trial_id} {record.method}"


def _shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is no shard; expected i/n with 1 ≤ i ≤ n")
    return int(index), int(count)


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is no setting; expected NAME=VALUE")
    return name, value


def _add_folders(command: argparse.ArgumentParser) -> None:
    """What trials read: data sets, and what was made of them before."""
    command.add_argument("--data-dir", type=Path, help="default: data, else ../shared/data")
    command.add_argument("--cache-dir", type=Path, default=_CACHE, help="default: %(default)s")


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="studies, what they claim and how long they take")
    command.set_defaults(command=_list)

    command = commands.add_parser("run", help="run what a study lacks, and record it")
    command.add_argument("study", nargs="+", help="name, path of a Python file, or `all`")
    _add_folders(command)
    command.add_argument("--results", type=Path, help=f"default: {_RESULTS}")
    command.add_argument("--only", action="append", default=[], metavar="METHOD", help="repeatable")
    command.add_argument("--smoke", action="store_true", help="tiny trials, records elsewhere")
    command.add_argument("--shard", type=_shard, default=(1, 1), metavar="i/n", help="from 1/n on")
    command.add_argument("--profile", choices=PROFILES, default="cpu")
    command.add_argument("--rerun", action="store_true", help="also what is recorded already")
    command.add_argument(
        "--max-load",
        type=float,
        metavar="SHARE",
        help="also what was recorded while other processes took more of the processor time",
    )
    command.add_argument("--dry-run", action="store_true", help="say what would run")
    command.set_defaults(command=_run)

    command = commands.add_parser("report", help="render tables and figures from records")
    command.add_argument("study", nargs="*", help="default: all that have records")
    command.add_argument("--results", type=Path, help=f"default: {_RESULTS}")
    command.add_argument("--out", type=Path, help="default: the results folder")
    command.set_defaults(command=_report)

    command = commands.add_parser("check", help="are tables and figures those of the records?")
    command.add_argument("--results", type=Path, help=f"default: {_RESULTS}")
    command.set_defaults(command=_check)
    return parser


if __name__ == "__main__":
    sys.exit(main())
