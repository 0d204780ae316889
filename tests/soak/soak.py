"""Tiny trials while runners, trials and files come to harm; ends with counts.

Campaigns of one to three runners on one folder of results, with random kills, signals, a full disk,
damaged caches and records in between, each followed by an undisturbed run. After that every trial
has exactly one settled record, with the numbers that it always gives; no process is left and
no file of a lock; and no command has shown a traceback.

Command: `make soak MINUTES=20`, or `python tests/soak/soak.py --minutes 20 [--seed N]`. Exit status
1 if anything was lost, doubled, invented or left.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT)]

from harms import HARMS, Scene  # noqa: E402
from soak_command import STUDIES  # noqa: E402

from bench.runner.plan import SETTLED  # noqa: E402
from bench.store import record  # noqa: E402
from bench.store.record import Record, quality  # noqa: E402

#: What must not be.
BAD = ("lost", "doubled", "invented", "left running", "left behind", "tracebacks")
BAD += ("did not end", "unfinished")
_TRACES = ("Traceback (most recent call last)", "Fatal Python error")
_END_SECONDS = 300.0
_LEFT_SECONDS = 20.0
_STUBS_PER_TRAINED = 7

Expected = Mapping[str, Mapping[str, Any]]


@dataclass
class Tally:
    """Counts of a soak, and a line about each thing that must not be."""

    counts: Counter[str] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing bad was counted."""
        return not any(self.counts[name] for name in BAD)

    def blame(self, name: str, detail: str) -> None:
        """Count one of the bad."""
        self.counts[name] += 1
        self.details.append(f"{name}: {detail}")

    def text(self) -> str:
        """Counts, a line each; what must not be comes last."""
        names = [*sorted(set(self.counts) - set(BAD)), *BAD]
        lines = [f"{name:<24} {self.counts[name]:>7,}" for name in names]
        return "\n".join([*lines, *self.details[:40]])


class Campaign:
    """One folder of results, from its first runner to its last record.

    Args:
        study: `stubs` or `trained`.
        expected: trial id → what its record holds whenever it is done; empty to learn it.
        folder: empty; for results, cache and outputs.
        seed: of all that happens.
        tally: takes the counts.
    """

    def __init__(
        self, study: str, expected: Expected, folder: Path, seed: str, tally: Tally
    ) -> None:
        self._study, self._expected, self._tally = study, expected, tally
        self._name = f"campaign {seed}"
        self._scene = Scene(folder, f"SOAK_MARK={seed}-{os.getpid()}", random.Random(seed))
        self._outputs: list[Path] = []

    def run(self, num_harms: int) -> None:
        """Harm runners at work, then let one finish, and judge."""
        runners = [self._start() for _ in range(self._scene.draw.choice((1, 1, 2, 3)))]
        for _ in range(num_harms):
            time.sleep(self._scene.draw.expovariate(2.0))
            name = self._scene.draw.choice(list(HARMS))
            HARMS[name](self._scene)
            self._tally.counts[f"harm: {name}"] += 1
            if all(runner.poll() is not None for runner in runners):
                runners.append(self._start())
        self._end(runners)
        self._expect_nobody()
        self.finish()

    def finish(self) -> list[Record]:
        """Run what is left without any harm; the records at the end."""
        last = self._start()
        self._end([last])
        if last.returncode != 0:
            self._tally.blame("unfinished", f"{self._name}: exit status {last.returncode}")
        self._expect_nobody()
        self._judge_outputs()
        return self._judge_records()

    def _start(self) -> subprocess.Popen[bytes]:
        folder = self._scene.folder
        output = folder / f"output-{len(self._outputs)}"
        self._outputs.append(output)
        folders = ("--results", "results", "--cache-dir", "cache", "--data-dir", ".")
        name, _, value = self._scene.mark.partition("=")
        path = os.pathsep.join(map(str, (HERE.parent, ROOT)))
        environment = {"PYTHONPATH": path, "TMPDIR": str(folder), name: value}
        with output.open("wb") as stream:
            return subprocess.Popen(
                [sys.executable, str(HERE / "soak_command.py"), "run", self._study, *folders],
                cwd=folder,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _end(self, runners: Sequence[subprocess.Popen[bytes]]) -> None:
        deadline = time.monotonic() + _END_SECONDS
        for runner in runners:
            try:
                runner.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._tally.blame("did not end", f"{self._name}: process {runner.pid}")
                runner.kill()
                runner.wait()
        self._tally.counts["runners"] += len(runners)

    def _expect_nobody(self, seconds: float = _LEFT_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while (left := self._scene.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in left:
            self._tally.blame("left running", f"{self._name}: {process.role} {process.pid}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, 9)

    def _records(self) -> list[Record]:
        return [each for path in self._scene.records for each in record.read(path)[0]]

    def _judge_records(self) -> list[Record]:
        records = self._records()
        settled = [each for each in records if each.status in SETTLED]
        counts = Counter(each.trial_id for each in settled)
        self._tally.counts["records"] += len(records)
        self._tally.counts["errors recorded"] += len(records) - len(settled)
        self._tally.counts["settled"] += len(counts)
        wanted = {trial.trial_id for trial in STUDIES[self._study]().build_trials("cpu")}
        for trial_id in wanted - set(counts):
            self._tally.blame("lost", f"{self._name}: {trial_id}")
        for trial_id, count in counts.items():
            if count > 1:
                self._tally.blame("doubled", f"{self._name}: {trial_id} {count} times")
        for each in settled:
            known = self._expected.get(each.trial_id)
            if each.trial_id not in wanted or known not in (None, judged(each)):
                self._tally.blame("invented", f"{self._name}: {each.trial_id}")
        folder = self._scene.folder
        for pattern in ("results/**/*.claim", "cache/**/*.lock", "cache/**/*.partial"):
            for path in folder.glob(pattern):
                self._tally.blame("left behind", f"{self._name}: {path.relative_to(folder)}")
        return settled

    def _judge_outputs(self) -> None:
        for output in self._outputs:
            text = output.read_text(errors="replace")
            self._tally.counts["started"] += text.count(" · starts")
            if any(trace in text for trace in _TRACES):
                tail = text.strip().splitlines()[-1]
                self._tally.blame("tracebacks", f"{self._name}, {output.name}: {tail[:200]}")


def judged(each: Record) -> Mapping[str, Any]:
    """What a trial's record always holds."""
    return {"status": each.status, "reason": each.reason, **quality(each)}


def soak(seconds: float, seed: str, studies: Sequence[str], scratch: Path) -> Tally:
    """Campaigns until the time is over, at least one.

    Args:
        seconds: how long; the last campaign is finished.
        seed: of all that happens.
        studies: in turns.
        scratch: takes the campaigns' folders; those of good ones are removed.
    """
    tally, deadline = Tally(), time.monotonic() + seconds
    expected: dict[str, Expected] = {}
    for study in dict.fromkeys(studies):
        folder = scratch / f"undisturbed-{study}"
        folder.mkdir()
        records = Campaign(study, {}, folder, f"{seed}-{study}", tally).finish()
        expected[study] = {each.trial_id: judged(each) for each in records}
    draw, number = random.Random(seed), 0
    while not number or time.monotonic() < deadline:
        study = studies[number % len(studies)]
        folder = scratch / f"campaign-{number}"
        folder.mkdir()
        num_bad = len(tally.details)
        Campaign(study, expected[study], folder, f"{seed}-{number}", tally).run(draw.randint(2, 7))
        tally.counts["campaigns"] += 1
        if len(tally.details) == num_bad:
            shutil.rmtree(folder)
        number += 1
    return tally


def main() -> int:
    """Soak and print the counts; 1 if anything is bad."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", default=str(time.time_ns()))
    parser.add_argument("--stubs-only", action="store_true", help="without torch, in a short soak")
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="bench-soak-"))
    studies = ["stubs"] * _STUBS_PER_TRAINED + ["trained"] * (not options.stubs_only)
    tally = soak(60 * options.minutes, options.seed, studies, scratch)
    sys.stdout.write(f"{tally.text()}\nseed {options.seed}\n")
    if tally.is_good:
        shutil.rmtree(scratch)
        return 0
    sys.stdout.write(f"folders of what is bad: {scratch}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
