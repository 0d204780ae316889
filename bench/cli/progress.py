"""What a person sees while trials run: one live line a trial, and how far the study is."""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TextIO

from bench.cli.forecast import Forecast, Running
from bench.methods.labels import RowNames
from bench.runner.child import Job
from bench.runner.run import Event, View
from bench.settings import SettingsError, Trial
from bench.store.record import Record

_LIVE_INTERVAL_SECONDS = 0.2
_PLAIN_INTERVAL_SECONDS = 15.0
# Fields of a record's `data` block, in words.
_SIZES = {
    "num_train_points": "training points",
    "num_test_points": "test points",
    "num_features": "features",
    "num_labels": "labels",
    "num_trained_labels": "of them with a training point",
}


def duration(seconds: float | None) -> str:
    """Short text of a time span; `?` for None.

    >>> duration(42), duration(200), duration(8100)
    ('42s', '3m20s', '2h15m')
    """
    if seconds is None:
        return "?"
    total = max(0, round(seconds))
    if total < 60:
        return f"{total}s"
    if total < 3600:
        return f"{total // 60}m{total % 60:02d}s"
    return f"{total // 3600}h{total % 3600 // 60:02d}m"


def printable(text: str) -> str:
    """The text on one line, without characters that move a cursor."""
    return "".join(" " if unicodedata.category(c).startswith(("C", "Z")) else c for c in text)


def fitted(text: str, width: int) -> str:
    """The text cut to a terminal's columns, wide characters counted as two.

    >>> fitted("quickstart", 6)
    'quick…'
    """
    if _columns(text) <= width:
        return text
    while text and _columns(text) > width - 1:
        text = text[:-1]
    return f"{text}…" if width > 0 else ""


def longest_fitting(heads: Sequence[str], tails: Sequence[str], width: int) -> str:
    """A head and a tail in the longest forms that fit a width; heads are shortened first.

    >>> longest_fitting(["MACH, H=64, lr=0.1", "MACH, lr=0.1"], ["50% · 3m left", "50%"], 24)
    'MACH, lr=0.1 · 50%'
    """
    forms = [(head, tails[0]) for head in heads] + [(heads[-1], tail) for tail in tails[1:]]
    texts = [f"{head} · {tail}" for head, tail in forms]
    fitting = (text for text in texts if _columns(text) <= width)
    return next(fitting, fitted(texts[-1], width))


def _columns(text: str) -> int:
    """Columns of a terminal that the text takes."""
    seen = (character for character in text if not unicodedata.combining(character))
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in seen)


class LiveLine:
    """A stream with one line that is rewritten on a terminal, and sparse plain lines elsewhere."""

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        is_live: bool | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream = stream or sys.stdout
        knows_how = os.environ.get("TERM", "dumb") != "dumb"  # to clear a line
        self.is_live = stream.isatty() and knows_how if is_live is None else is_live
        self._now = now
        self._shown_at = now()
        self._is_shown = False

    def show(
        self,
        heads: Sequence[str],
        tails: Sequence[str],
        *,
        must: bool = False,
        plain: str | None = None,
    ) -> None:
        """Rewrite the line, in the longest form that the terminal has room for.

        Args:
            heads: what the line is about, longest form first; the last form is never cut for the
                sake of a tail.
            tails: how far it is, longest form first; they are shortened after the heads.
            must: at once, not only when some time has gone by since the last time.
            plain: the line where there is no terminal; None: the longest forms.
        """
        now = self._now()
        interval = _LIVE_INTERVAL_SECONDS if self.is_live else _PLAIN_INTERVAL_SECONDS
        if not must and now - self._shown_at < interval:
            return
        self._shown_at = now
        if not self.is_live:
            self.say(plain if plain is not None else f"{heads[0]} · {printable(tails[0])}")
            return
        self.clear()
        columns = max(20, shutil.get_terminal_size().columns - 1)
        self._stream.write(longest_fitting(heads, [printable(tail) for tail in tails], columns))
        self._is_shown = True
        self._stream.flush()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        self._stream.write(text + "\n")
        self._stream.flush()

    def clear(self) -> None:
        """Take the live line away."""
        if self._is_shown:
            self._stream.write("\r\x1b[2K")
            self._is_shown = False
        self._stream.flush()


class Progress(View):
    """Progress of one study on a stream: live on a terminal, sparse plain lines elsewhere."""

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        is_live: bool | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._line = LiveLine(stream, is_live=is_live, now=now)
        self._now = now
        self._name = ""
        self._names = RowNames()
        self._waiting: dict[str, float | None] = {}
        self._trials: dict[str, Trial] = {}
        self._num_trials = self._num_over = 0
        self._opened_at = now()
        self._forecast = Forecast()
        self._running: dict[str, Running] = {}
        self._sizes_said: set[str] = set()
        self._notes_said: set[str] = set()

    def open(
        self,
        name: str,
        expected: Mapping[str, float | None],
        *,
        num_kept: int,
        names: RowNames | None = None,
        trials: Iterable[Trial] = (),
        before: Iterable[tuple[Trial, float]] = (),
    ) -> None:
        """A study begins; see `bench.runner.run.View`."""
        self._name = printable(name)
        self._names = names or self._names
        self._waiting = dict(expected)
        self._trials = {trial.trial_id: trial for trial in trials}
        for trial, seconds in before:
            self._forecast.add(trial, seconds)
        self._num_trials = len(expected)
        self._opened_at = self._now()
        kept = f", {num_kept} kept from before" if num_kept else ""
        estimate = f", about {duration(left)}" if (left := self._seconds_left()) else ""
        self._line.say(f"{self._name}: {len(expected)} trials to run{kept}{estimate}")
        if common := printable(self._names.common()):
            self._line.say(f"every row: {common}")

    def on_event(self, job: Job, event: Event) -> None:
        """A trial has something to say."""
        kind = event.get("event")
        if kind == "start":
            expected = self._waiting.pop(job.trial.trial_id, None)
            guess = self._forecast.guess(job.trial, expected)
            self._running[job.trial.trial_id] = Running(guess, self._now())
            self._show(job, ["starts"], must=True)
        elif kind == "phase":
            self._show(job, [str(event.get("phase"))], must=self._line.is_live)
        elif kind == "step":
            fraction = _number(event, "fraction")
            running = self._running.get(job.trial.trial_id)
            if running is not None and fraction is not None:
                running.reached(fraction, self._now())
            self._show(job, _step_texts(event))
        elif kind == "note":
            # Every trial has the notes of its data, and so had its preparation.
            if (text := str(event.get("text"))) not in self._notes_said:
                self.note(text)
        elif kind == "partial" and isinstance(data := event.get("data"), Mapping):
            self._learn_task(job.trial, data)
            self._say_sizes(job.trial.data.name, data)

    def _learn_task(self, trial: Trial, facts: Mapping[str, object]) -> None:
        if task := facts.get("task"):
            self._names.tasks[trial.data.name] = str(task)

    def finish(self, record: Record) -> None:
        """A trial is over."""
        self._waiting.pop(record.trial_id, None)
        self._num_over += 1
        running = self._running.pop(record.trial_id, None)
        began_at = self._opened_at if running is None else running.began_at
        seconds = self._now() - began_at  # with the start of the process
        trial = _trial_of(record)
        # What broke off is no measure of how long the others take.
        if trial is not None and record.status == "done":
            self._forecast.add(trial, seconds)
        quality = "".join(f", {text}" for text in _quality_texts(record))
        reason = f": {printable(record.reason)}" if record.reason else ""
        what = f"{record.status.upper()} {self._name_of(record)} {duration(seconds)}"
        self._line.say(f"{self._total()} {what}{quality}{reason}")

    def pass_over(self, record: Record, how: str = "by another runner") -> None:
        """A trial has been done elsewhere."""
        self._waiting.pop(record.trial_id, None)
        self._num_over += 1
        what = f"{record.status.upper()} {printable(how)} {self._name_of(record)}"
        self._line.say(f"{self._total()} {what}")

    def _name_of(self, record: Record) -> str:
        """What tables call a record's row."""
        trial = _trial_of(record)
        if trial is None:
            return record.trial_id
        self._learn_task(trial, record.block("data"))
        return printable(self._names.full(trial))

    def note(self, text: str) -> None:
        """A line that stays, about no trial's end."""
        self._notes_said.add(text)
        self._line.say(printable(text))

    def end_trial(self, text: str) -> None:
        """A line that stays, at the end of a trial."""
        self._num_over += 1
        self._running.clear()
        self._line.say(printable(text))

    def close(self) -> None:
        """The study is over, or was broken off."""
        self._line.clear()

    def _say_sizes(self, name: str, facts: Mapping[str, object]) -> None:
        """How large a data set is, once: a slip in its files or options shows here first."""
        counts = [facts.get(key) for key in _SIZES]
        if not all(isinstance(count, int) for count in counts):
            return  # no data set, but a decode problem or a draw
        sizes = [f"{count:,} {word}" for count, word in zip(counts, _SIZES.values(), strict=True)]
        line = f"{name}: {', '.join(sizes)}, {facts.get('task')}"
        if line not in self._sizes_said:
            self._sizes_said.add(line)
            self.note(line)

    def _show(self, job: Job, texts: Sequence[str], *, must: bool = False) -> None:
        """Show where a trial is."""
        full, apart = (printable(name(job.trial)) for name in (self._names.full, self._names.apart))
        count = f"[{self._num_over + 1}/{self._num_trials}]"
        left = f"{duration(self._seconds_left())} left"
        tails = [f"{texts[0]} · study {self._times()}", f"{texts[0]} · study {left}"]
        tails += [f"{text} · study {left}" for text in texts[1:]]
        self._line.show(
            [f"{count} {full}", f"{count} {apart}"],
            tails,
            must=must,
            plain=f"{self._total()} {full} · {printable(texts[0])}",
        )

    def _total(self) -> str:
        return f"[{self._num_over} of {self._num_trials} done, {self._times()}]"

    def _times(self) -> str:
        elapsed = duration(self._now() - self._opened_at)
        return f"{elapsed} elapsed, {duration(self._seconds_left())} left"

    def _seconds_left(self) -> float | None:
        """Estimate for the rest of the study, with as many trials at once as now; None: unknown."""
        guesses = [
            self._forecast.guess(self._trials.get(trial_id), seconds).seconds
            for trial_id, seconds in self._waiting.items()
        ]
        guesses += [running.seconds_left(self._now()) for running in self._running.values()]
        known = [guess for guess in guesses if guess is not None]
        return sum(known) / max(1, len(self._running)) if len(known) == len(guesses) else None


def _trial_of(record: Record) -> Trial | None:
    try:
        return Trial.from_dict(record.settings)
    except SettingsError:
        return None


def _step_texts(event: Event) -> list[str]:
    """How far a training is, in forms that grow shorter."""
    epoch, loss, quality, fraction, left = (
        _number(event, name) for name in ("epoch", "loss", "quality", "fraction", "seconds_left")
    )
    where = [] if epoch is None else [f"epoch {epoch:.2f}"]
    where += [] if loss is None else [f"loss {loss:.4g}"]
    # During training it is the validation split's; the test split is looked at once, at the end.
    name = event.get("quality_name", "quality")
    good = [] if quality is None else [f"val {name} {quality:.4f}"]
    share = [] if fraction is None else [f"{fraction:.0%}"]
    rest = [] if left is None else [f"{duration(left)} left"]
    forms = ([*where, *good, *share, *rest], [*good, *share, *rest], [*good, *share], share)
    return list(dict.fromkeys(" · ".join(form) for form in forms if form)) or [""]


def _quality_texts(record: Record) -> list[str]:
    """What a trial came to: on the validation split, if it has one, and on the test split."""
    name, value = next(iter(record.block("test").items()), ("", None))
    if not isinstance(value, float):
        return []
    training = record.block("training")
    kept = training.get("kept_step")
    curve = [point for point in training.get("curve") or () if kept in (None, point.get("step"))]
    found = curve[-1].get("metrics", {}).get(name) if curve else None
    texts = [f"val {name} {found:.4f}"] if isinstance(found, float) else []
    # Draws, decodes and the like have no splits.
    is_split = bool(texts) or "num_test_points" in record.block("data")
    return [*texts, f"test {name} {value:.4f}" if is_split else f"{name} {value:.4f}"]


def _number(event: Event, name: str) -> float | None:
    """A field that is a finite number; None for anything else, which a message may hold too."""
    value = event.get(name)
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # a whole number that no float can be
        return None
    return number if math.isfinite(number) else None
