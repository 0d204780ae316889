"""Command line: `python -m bench COMMAND`; `--help` names the commands.

`run` takes a study (`bench.studies.study`), plans what it lacks (`bench.runner.plan`) and runs it
(`bench.runner.run`); `report` makes tables of what was recorded (`bench.report.write`).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.cli import cache as cache_cli
from bench.cli import data as data_cli
from bench.cli import export as export_cli
from bench.cli import progress, timing_view
from bench.data.download.catalogue import SETS
from bench.data.kept import num_bytes
from bench.errors import UserError
from bench.methods.card import HOW_TO_INSTALL
from bench.methods.cards import card
from bench.methods.labels import RowNames
from bench.report.render import render_text
from bench.report.tables.tuning import curves_table, tuning_table
from bench.runner import audit, costing, run
from bench.runner.deciding import decided
from bench.runner.merging import merge_results
from bench.runner.plan import (
    OWN,
    REFERENCE,
    Plan,
    RunError,
    RunOptions,
    absent_data,
    chosen_trials,
    installed,
    machine_of,
    names_of_rows,
    plan_run,
    trials_by_steps,
    uninstalled_libraries,
)
from bench.runner.tuning import NUM_ROUNDS, Tuner, Watcher
from bench.settings import Trial
from bench.store import files, locks, provenance
from bench.store.budgets import budgets_path
from bench.store.costs import CostLine
from bench.store.files import folder_named
from bench.store.hosts import own_path
from bench.store.record import Record
from bench.studies import study
from bench.studies.study import PROFILES, Study, located
from bench.studies.tuned import tuned_path
from bench.studies.tuning import store_in_optuna

_OK, _FAILED, _USAGE, _INTERRUPTED = 0, 1, 2, 130
_CACHE = Path(".cache/bench")
_DATA_DIRS = (Path("data"), Path("../shared/data"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 if a trial or check failed, 2 for bad usage."""
    options = _build_parser().parse_args(arguments)
    try:
        try:
            status = int(options.command(options))
            sys.stdout.flush()
            return status
        except BaseException:
            if getattr(options, "traceback", False):
                traceback.print_exc()
            raise
    except UserError as error:
        return _say(str(error), _USAGE)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        _write_no_more()
        return _FAILED
    except OSError as error:
        if (known := files.of_storage(error)) is None:
            raise
        _write_no_more()
        return _say(str(known), _USAGE)
    except KeyboardInterrupt as error:
        reason = getattr(error, "reason", "interrupted")
        status = getattr(error, "status", _INTERRUPTED)
        return _say(f"{reason}; a second run goes on from here", status)


def _say(sentence: str, status: int) -> int:
    """Say why a command ends, if anybody is there to read it; the status."""
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(f"bench: {progress.printable(sentence)}", file=sys.stderr, flush=True)
    return status


def _write_no_more() -> None:
    """Where standard output takes nothing, what is left of it must not fail at exit once more."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _list(options: argparse.Namespace) -> int:
    for name in study.study_names():
        known = study.load_study(name)
        counts = [f"{len(known.build_trials(p))} trials ({p})" for p in known.profiles]
        print(f"{name:<16} {known.headline}")
        print(" " * 17 + ", ".join([*counts, *([known.duration] if known.duration else [])]))
    return _OK


def _run(options: argparse.Namespace) -> int:
    studies = _studies(options)
    if options.engine == "ray":
        try:
            from bench.runner import ray_engine  # Ray takes seconds
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise RunError("engine is 'ray', which needs the extra [cluster]") from None

        def on_cluster(chosen: Study, run_options: RunOptions) -> Place:
            cluster = ray_engine.Cluster(
                run_options.context,
                node_cache_dir=options.node_cache_dir,
                num_threads=options.threads,
                study_file=chosen.file,
            )
            build = functools.partial(
                ray_engine.RayEngine, cluster, worlds_per_task=options.worlds_per_task or 1
            )
            return cluster.machine, build

        with ray_engine.connected(options.address):
            return _run_on(studies, options, on_cluster)
    for name in ("address", "node_cache_dir", "worlds_per_task"):
        if (value := getattr(options, name)) is not None:
            raise RunError(f"{name} is {value!r}; expected none but of --engine ray")
    return _run_on(studies, options, lambda chosen, run_options: (None, None))


#: The `machine` block of where trials run, and what runs them; None: here, by the local engine.
Place = tuple[Mapping[str, Any] | None, run.BuildEngine | None]


def _run_on(
    studies: Sequence[Study],
    options: argparse.Namespace,
    place: Callable[[Study, RunOptions], Place],
) -> int:
    failures = []
    for chosen in studies:
        run_options = _run_options(options, chosen)
        machine, build_engine = place(chosen, run_options)
        chosen = decided(chosen, run_options, machine, _note)
        plan = plan_run(chosen, run_options, machine)
        _check_sources(chosen, [*(planned.trial for planned in plan.trials), *plan.unbudgeted])
        _warn(plan.warnings)
        if options.dry_run:
            _print_plan(chosen, plan)
            continue
        _print_absent(chosen, plan.absent, plan.uninstalled)
        _try_folders(run_options, "records", chosen.name)
        if plan.unbudgeted and build_engine is None:
            count = len(plan.unbudgeted)
            print(f"{chosen.name}: {count} trials have a budget in seconds, which is turned into")
            print("  steps by the measured seconds a step, and written down")
            _set_budgets(chosen, plan.unbudgeted, run_options)
            plan = plan_run(chosen, run_options)
        records = run.run_plan(plan, run_options, progress.Progress(), build_engine)
        _print_summary(plan, records)
        size = cache_cli.size_text(num_bytes(run_options.cache_dir))
        print(f"  {run_options.cache_dir} keeps {size} of data and weights; see `bench cache`")
        failed = [entry for entry in records if entry.status == "error"]
        failures += [(entry, run_options, plan.names) for entry in failed]
    if failures:
        print(f"{len(failures)} trials failed:", file=sys.stderr)
        for entry, run_options, names in failures:
            print(f"  {_label(entry, names)}: {entry.reason}", file=sys.stderr)
            log = run_options.cache_dir / "logs" / f"{entry.study}-{entry.trial_id}.log"
            print(f"    log: {log}", file=sys.stderr)
        # Records name no one's folders.
        print(f"data was looked for in {failures[0][1].data_dir.resolve()}", file=sys.stderr)
    return _FAILED if failures else _OK


def _cost(options: argparse.Namespace) -> int:
    failed = 0
    for chosen in _studies(options):
        run_options = _run_options(options, chosen)
        chosen = decided(chosen, run_options, note=_note)
        trials = trials_by_steps(chosen, run_options)
        _check_sources(chosen, trials)
        absent = absent_data(chosen, trials, run_options)
        uninstalled = uninstalled_libraries(chosen, trials)
        trials = [t for t in installed(chosen, trials) if t.data.name not in absent]
        _print_absent(chosen, absent, uninstalled)
        if not any(card(trial.model.method, chosen.kind.name).is_timed for trial in trials):
            print(f"{chosen.name}: nothing of it is timed")
            continue
        recorded = _read_costs(chosen, run_options) if options.unless_recorded else []
        if recorded and costing.are_timed(recorded, chosen, trials):
            print(f"{chosen.name}: costs were timed before; `bench cost` times them anew")
            continue
        _try_folders(run_options, "costs", chosen.name)
        num_rounds = options.rounds or chosen.kind.num_rounds
        outcomes = set()
        with timing_view.shown(num_rounds, names_of_rows(chosen, run_options)) as on_repetition:
            for group, line, is_recorded in costing.time_and_record(
                chosen, trials, run_options, num_rounds, on_repetition
            ):
                for text in timing_view.summary(line, names_of_rows(chosen, run_options)):
                    print(text, flush=True)
                failed += sum(row["status"] == "error" for row in line.rows)
                if line.has_failed and is_recorded:
                    print(f"{group.title}: a row failed, so no older complete session is replaced")
                outcomes.add(is_recorded)
        if True in outcomes:
            print(f"{chosen.name}: costs in {costing.costs_path(chosen, run_options)}")
        if False in outcomes:
            print(f"{chosen.name}: a part of a table's rows, which is shown and not recorded")
    return _FAILED if failed else _OK


def _check_sources(chosen: Study, trials: Iterable[Trial]) -> None:
    """Refuse what a data source does not take as an option, before the first trial."""
    if not chosen.kind.prepares_data:  # what is drawn while it is read says so in its trial
        return
    from bench.data.sources import build_source  # brings Numba, which `list` does not wait for

    for spec in {repr(trial.data): trial.data for trial in trials}.values():
        with located(chosen.file):
            build_source(spec)


def _read_costs(chosen: Study, run_options: RunOptions) -> list[CostLine]:
    """Costs on record; with a warning for what is no line of them."""
    lines, warnings = costing.recorded_costs(chosen, run_options)
    _warn(warnings)
    return lines


def _note(text: str) -> None:
    print(progress.printable(text), flush=True)


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print(f"warning: {progress.printable(warning)}", file=sys.stderr)


def _budget(options: argparse.Namespace) -> int:
    for chosen in _studies(options):
        run_options = _run_options(options, chosen)
        chosen = decided(chosen, run_options, note=_note)
        trials = [t for t in chosen.build_trials("cpu") if t.train.budget_seconds is not None]
        if not trials:
            print(f"{chosen.name}: no trial has a budget in seconds")
            continue
        _try_folders(run_options, "budgets")
        _set_budgets(chosen, trials, run_options)
    return _OK


def _set_budgets(chosen: Study, trials: Sequence[Trial], run_options: RunOptions) -> None:
    names = names_of_rows(chosen, run_options)
    recorded = _read_costs(chosen, run_options)
    with timing_view.shown(chosen.kind.num_rounds, names) as on_repetition:
        found = costing.set_budgets(chosen, trials, run_options, names, recorded, on_repetition)
    for budget in found:
        label = progress.printable(budget.label)
        print(f"  {label}: {budget.budget_seconds:g} s are {budget.num_steps:,} steps")
    print(f"{chosen.name}: budgets in {budgets_path(run_options.results_dir, chosen.name)}")


def _tune(options: argparse.Namespace) -> int:
    for chosen in _studies(options):
        run_options = _run_options(options, chosen)
        chosen = decided(chosen, run_options, note=_note)
        rule = replace(
            chosen.tuning,
            methods=tuple(options.only) or chosen.tuning.methods,
            **{
                name: value
                for name in ("tries", "reserve", "seconds", "first_share", "seed")
                if (value := getattr(options, name)) is not None
            },
        )
        run_options = replace(run_options, only=())
        _check_sources(chosen, chosen_trials(chosen, run_options))
        _try_folders(run_options, "tuning", "tuned")
        watcher = Watcher(
            view=progress.Progress,
            timing=functools.partial(timing_view.shown, NUM_ROUNDS),
            note=_note,
        )
        tuner = Tuner(chosen, rule, run_options, watcher)
        outcome = tuner.tune()
        width = shutil.get_terminal_size((120, 40)).columns
        for table in (tuning_table(outcome), curves_table(outcome)):
            print(render_text(table, width))
        for space in tuner.spaces if options.storage else ():
            name = f"{chosen.name} {space.card.name}"
            store_in_optuna(options.storage, name, space, tuner.tries[space.card.name])
        print(f"{chosen.name}: settings in {tuned_path(run_options.results_dir, chosen.name)}")
    return _OK


def _audit(options: argparse.Namespace) -> int:
    machine = machine_of("cpu")
    studies = [study.load_study(name) for name in options.study or study.study_names()]
    # The reference is made again by whoever likes; who may write to it says so.
    outcomes = _results_dir(options)
    results = _existing(options.results or REFERENCE, options.results)
    found = audit.candidates(studies, results, machine, lambda warning: _warn([warning]))
    if not found:
        raise RunError(
            f"{results} holds no finished record of this machine that today's code should give"
        )
    seed = options.seed or str(time.time_ns())
    chosen = audit.draw(found, seed=seed, count=options.count, minutes=options.minutes)
    print(f"{len(chosen)} of {len(found)} records are made again (--seed {seed})")
    run_options = RunOptions(
        data_dir=options.data_dir or _default_data_dir(),
        results_dir=results,
        cache_dir=options.cache_dir,
    )
    files.require_writable(outcomes, "audits")
    files.require_writable(options.cache_dir, "logs")
    path = own_path(outcomes / "audits", provenance.machine_slug(machine))
    counts: Counter[str] = Counter()
    view = progress.Progress()
    view.open("audit", {each.trial.trial_id: each.old.wall_seconds for each in chosen}, num_kept=0)
    engine = run.LocalEngine(run_options.context, view.on_event)
    try:
        for finding in audit.audit(chosen, engine, machine=machine, path=path):
            counts[finding.outcome] += 1
            view.end_trial(_finding_text(finding, found))
    finally:
        view.close()
    text = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    print(f"audit: {text}; written to {path}")
    return _OK if set(counts) <= {"found"} else _FAILED


def _finding_text(finding: audit.Finding, found: Iterable[audit.Candidate]) -> str:
    chosen = finding.candidate.study
    trials = (each.trial for each in found if each.study.name == chosen.name)
    names = RowNames(trials, chosen.kind.name, chosen.part)
    detail = "" if finding.outcome == "found" else f" ({finding.largest_difference})"
    row = f"{chosen.name} {names.full(finding.candidate.trial)}"
    return f"{finding.outcome.upper()}{detail} {row} {finding.reason or ''}".rstrip()


def _report(options: argparse.Namespace) -> int:
    from bench.report.tables.comparison import terminal_summary  # brings Matplotlib
    from bench.report.write import build

    results = _existing(_results_dir(options), options.results)
    files.require_writable(options.out or results, "tables")
    if not _reported(options.study, results):
        print(f"{results} holds no records; `bench run STUDY` makes some")
        return _OK
    is_own = results != REFERENCE
    paths = build(
        results,
        out_dir=options.out,
        studies=options.study or None,
        reference_dir=REFERENCE if is_own else None,
        warn=lambda warning: _warn([warning]),
    )
    if not is_own or options.out:
        for path in paths:
            print(path)
        return _OK
    width = shutil.get_terminal_size((120, 40)).columns
    for name in _reported(options.study, results):
        print(terminal_summary(results, REFERENCE, name, width))
    if paths:
        print("written: " + ", ".join(map(str, sorted({path.parent for path in paths}))))
    return _OK


def _existing(results: Path, asked: Path | None) -> Path:
    """A results folder; one that was asked for must be there."""
    if asked is not None and not asked.is_dir():
        raise RunError(f"{asked}: no such folder; expected one with records of `bench run`")
    return results


def _reported(asked: Sequence[str], results: Path) -> list[str]:
    """Names of the studies that were asked for, or of all with records."""
    if asked:
        return [study.load_study(name).name for name in asked]
    return sorted(path.name for path in (results / "records").glob("*"))


def _merge_results(options: argparse.Namespace) -> int:
    into = _results_dir(options)
    folders = [_existing(folder, folder) for folder in options.folder]
    files.require_writable(into, "records")
    given, notes = merge_results(folders, into)
    for path, count in given.items():
        print(f"{path}: {count} more")
    _warn(notes)
    print(f"{sum(given.values())} lines and budgets joined into {into}")
    return _OK


def _check(options: argparse.Namespace) -> int:
    from bench.report.check import check  # brings Matplotlib

    results = _existing(options.results or REFERENCE, options.results or REFERENCE)
    found = check(results, reference_dir=None if results == REFERENCE else REFERENCE)
    for note in found.notes:
        print(f"note: {note}")
    for problem in found.problems:
        print(problem, file=sys.stderr)
    return _FAILED if found.problems else _OK


def _studies(options: argparse.Namespace) -> list[Study]:
    """The studies that were named: all typing mistakes first."""
    names = study.study_names() if options.study == ["all"] else options.study
    studies = [study.load_study(name) for name in names]
    if getattr(options, "smoke", False):
        small = [chosen for chosen in studies if chosen.build_smoke()]
        if options.study != ["all"] and len(small) < len(studies):
            [chosen, *_] = (each for each in studies if each not in small)
            raise RunError(f"study {chosen.name} has no trials for --smoke")
        studies = small
    if getattr(options, "publish", False):
        for chosen in studies:
            if chosen.file is not None:
                raise RunError(
                    f"{chosen.file} is a study of your own; --publish is for the suite's"
                )
    return studies


def _run_options(options: argparse.Namespace, chosen: Study) -> RunOptions:
    worlds = getattr(options, "worlds", None)
    if worlds is not None and options.publish:
        raise RunError("--worlds trains a part of a row; --publish is for whole ones")
    return RunOptions(
        data_dir=options.data_dir or _default_data_dir(),
        results_dir=_smoke_dir(options) if options.smoke else _results_dir(options),
        cache_dir=options.cache_dir,
        profile=options.profile,
        is_smoke=options.smoke,
        only=tuple(getattr(options, "only", ())),
        where=tuple(getattr(options, "where", ())),
        replicates=getattr(options, "replicates", None),
        shard=getattr(options, "shard", (1, 1)),
        rerun=getattr(options, "rerun", False),
        keep_models=getattr(options, "keep_models", False),
        worlds=worlds,
        num_threads=getattr(options, "threads", None),
    )


def _results_dir(options: argparse.Namespace) -> Path:
    if options.results is not None and options.publish:
        raise RunError("--results and --publish both name a folder; expected one of them")
    given: Path | None = options.results
    results = given or (REFERENCE if options.publish else OWN)
    if results.exists() and not results.is_dir():
        raise RunError(f"{results} is a file; expected a folder for results")
    return results


@functools.cache
def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="bench-smoke-"))


def _smoke_dir(options: argparse.Namespace) -> Path:
    given: Path | None = options.results
    if given is None:
        return _scratch()
    if given.resolve() in (REFERENCE.resolve(), OWN.resolve()):
        raise RunError(f"--smoke does not write to {given}/: it holds real measurements")
    return given


def _try_folders(run_options: RunOptions, *below: str) -> None:
    """Refuse folders that would not take what is about to be made."""
    files.require_writable(run_options.results_dir, *below)
    files.require_writable(run_options.cache_dir, "logs")
    locks.require_locks(run_options.results_dir, "--results")
    locks.require_locks(run_options.cache_dir, "--cache-dir")


def _default_data_dir() -> Path:
    return next((folder for folder in _DATA_DIRS if folder.is_dir()), _DATA_DIRS[0])


def _print_absent(chosen: Study, absent: Iterable[str], uninstalled: Iterable[str]) -> None:
    """What brings the optional data sets, and the peers, that are not there."""
    for name in absent:
        text = f"{chosen.name}: {name} is not at hand, its rows are left out"
        if name in SETS:
            text += f"; `bench data fetch {name}` downloads it, `bench data import FILE … --as "
            text += f"{name}` takes files that you have"
        print(text)
    for name in uninstalled:
        print(f"{chosen.name}: {name} is not installed, its rows are left out; {HOW_TO_INSTALL}")


def _print_plan(chosen: Study, plan: Plan) -> None:
    order = {planned.trial.trial_id: i for i, planned in enumerate(plan.to_run, start=1)}
    total = len(plan.trials) + len(plan.unbudgeted)
    print(f"{chosen.name}: {len(order) + len(plan.unbudgeted)} of {total} trials would run")
    print(f"  records go to {plan.records_path}")
    for planned in plan.trials:
        trial = planned.trial
        was = f" ({planned.previous.status})" if planned.previous is not None else ""
        number = f"#{order[trial.trial_id]}" if planned.will_run else "–"
        state = planned.state + was
        what = progress.printable(plan.names.full(trial))
        print(f"  {trial.trial_id} {number:>4} {state:<18} {what}")
    for trial in plan.unbudgeted:
        text = f"{trial.train.budget_seconds:g} s, in steps once a step has been timed"
        print(f"  {'':16} {'':>4} {'new':<18} {plan.names.full(trial)} ({text})")


def _print_summary(plan: Plan, records: list[Record]) -> None:
    counts = Counter(entry.status for entry in records)
    text = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    print(f"{plan.study.name}: {text or 'nothing to run'}; records in {plan.records_path}")


def _label(entry: Record, names: RowNames) -> str:
    name = progress.printable(names.full(Trial.from_dict(entry.settings)))
    return f"{entry.study} {entry.trial_id} {name}"


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
    """What trials read, and where results go."""
    command.add_argument("--data-dir", type=folder_named, help="default: data, else ../shared/data")
    command.add_argument(
        "--cache-dir", type=folder_named, default=_CACHE, help="default: %(default)s"
    )
    _add_results(command)


def _add_results(command: argparse.ArgumentParser) -> None:
    command.add_argument("--results", type=folder_named, help=f"default: {OWN}")
    command.add_argument(
        "--publish", action="store_true", help=f"maintainers: into the reference, {REFERENCE}"
    )


def _add_running(command: argparse.ArgumentParser, nargs: str | None = "+") -> None:
    names = "name, path of a Python file" + (", or `all`" if nargs else "")
    command.add_argument("study", nargs=nargs, help=names)
    _add_folders(command)
    command.add_argument("--only", action="append", default=[], metavar="METHOD", help="repeatable")
    command.add_argument(
        "--where",
        action="append",
        default=[],
        type=_setting,
        metavar="NAME=VALUE",
        help="only rows with this setting of data, model or training; repeatable",
    )
    command.add_argument("--smoke", action="store_true", help="tiny, with results elsewhere")
    command.add_argument("--profile", choices=PROFILES, default="cpu")


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="studies, what they claim and how long they take")
    command.set_defaults(command=_list)

    command = commands.add_parser("run", help="quality: run what a study lacks, and record it")
    _add_running(command)
    command.add_argument("--replicates", type=int, metavar="N", help="only the first N")
    command.add_argument("--shard", type=_shard, default=(1, 1), metavar="i/n", help="from 1/n on")
    export_cli.add_worlds(command)
    command.add_argument("--rerun", action="store_true", help="also what is recorded already")
    command.add_argument("--dry-run", action="store_true", help="say what would run")
    command.add_argument(
        "--keep-models", action="store_true", help="the weights of every replicate, for `export`"
    )
    command.add_argument(
        "--threads", type=int, metavar="N", help="of a trial; default: all that its machine has"
    )
    command.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="ray: nodes of a cluster"
    )
    command.add_argument(
        "--address", metavar="HOST:PORT", help="of a Ray cluster; default: this machine's own"
    )
    command.add_argument(
        "--worlds-per-task",
        type=int,
        metavar="N",
        help="of a MACH with worlds_in_turn, whose worlds are tasks; default: 1",
    )
    command.add_argument(
        "--node-cache-dir",
        metavar="FOLDER",
        help="on each node, $VARIABLES as there; default: --cache-dir",
    )
    command.set_defaults(command=_run)

    command = commands.add_parser("cost", help="seconds: time a study's rows in rounds")
    _add_running(command)
    command.add_argument(
        "--unless-recorded", action="store_true", help="nothing where all rows have been timed"
    )
    command.add_argument("--rounds", type=int, metavar="N", help="default: the kind's own")
    command.set_defaults(command=_cost)

    command = commands.add_parser("budget", help="turn a study's budgets in seconds into steps")
    command.add_argument("study", nargs="+", help="name, or path of a Python file")
    _add_folders(command)
    command.set_defaults(command=_budget, smoke=False, profile="cpu")

    command = commands.add_parser("tune", help="find each method's best settings, by one rule")
    _add_running(command)
    command.add_argument("--tries", type=int, metavar="N", help="of each method, at first")
    command.add_argument(
        "--reserve", type=int, metavar="N", help="more of each where one is best at an edge"
    )
    command.add_argument("--seconds", type=float, metavar="S", help="default: the study's budget")
    command.add_argument(
        "--first-share", type=float, metavar="P", help="of the seconds, in the first tries"
    )
    command.add_argument("--seed", type=int, metavar="N", help="of the points")
    command.add_argument("--storage", metavar="URL", help="of Optuna, which takes all tries")
    command.set_defaults(command=_tune)

    command = commands.add_parser("audit", help="make records drawn at random again, and compare")
    command.add_argument("study", nargs="*", help="default: all")
    _add_folders(command)
    command.add_argument("--minutes", type=float, metavar="M", help="as many as took so long")
    command.add_argument("--count", type=int, metavar="N", help="at most so many")
    command.add_argument("--seed", help="of the draw; default: the clock")
    command.set_defaults(command=_audit)

    command = commands.add_parser("report", help="render tables and figures from records")
    command.add_argument("study", nargs="*", help="default: all that have records")
    _add_results(command)
    command.add_argument("--out", type=folder_named, help="default: the results folder")
    command.set_defaults(command=_report)

    command = commands.add_parser("merge-results", help="join results that machines made apart")
    command.add_argument("folder", nargs="+", type=folder_named, help="with records/ in it")
    _add_results(command)
    command.set_defaults(command=_merge_results)

    command = commands.add_parser("check", help="are tables and figures those of the records?")
    command.add_argument("--results", type=folder_named, help=f"default: {REFERENCE}")
    command.set_defaults(command=_check)

    export_cli.add_commands(commands, add_running=_add_running, run_options=_run_options)
    data_cli.add_commands(commands, default_data_dir=_default_data_dir)
    cache_cli.add_command(commands, default_cache_dir=_CACHE)
    _add_traceback(parser)
    return parser


def _add_traceback(parser: argparse.ArgumentParser) -> None:
    """`--traceback` for a parser and all of its commands."""
    parser.add_argument(
        "--traceback",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show where an error comes from",
    )
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _add_traceback(command)
