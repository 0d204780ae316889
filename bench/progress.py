"""What a person sees while trials run: one live line a trial, and how far the study is."""

from __future__ import annotations

import io
import math
import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Mapping
from typing import TextIO, get_args

from bench.card import LOSS_OF_TASK, TRAINING_ENTRY, KindName, Shown
from bench.cards import cards
from bench.engine.base import Event, Job
from bench.record import Record
from bench.settings import Trial

_KINDS: tuple[KindName, ...] = get_args(KindName)
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


def describe(trial: Trial, task: str | None = None) -> str:
    """A trial in a few words: method, width, what its card shows, rate, data, replicate.

    Args:
        trial: the trial.
        task: of its data, which decides the loss where the trial leaves that open, and with it
            what tables call the method; None where the data has not been read.
    """
    model = trial.model
    known = {each.name: each for kind in reversed(_KINDS) for each in cards(kind)}
    card = known.get(model.method)
    loss = model.options.get("loss") or LOSS_OF_TASK.get(task or "")
    words = [card.name_for(None if loss is None else str(loss)) if card else model.method]
    shown = {option.name: option for option in card.options} if card else {}
    is_ours = card is None or (card.entry == TRAINING_ENTRY and not card.is_floor)
    if is_ours:
        widths = "-".join(map(str, model.hidden_dims))
        words.append(f"H={widths}" if model.encoder == "mlp" else model.encoder)
    for name, value in sorted(model.options.items()):
        words.append((shown.get(name) or Shown(name=name)).write(value))
    if is_ours:
        words.append(f"lr={trial.train.learning_rate:g}")
    words.append(f"on {trial.data.name}")
    if trial.replicate:
        words.append(f"replicate {trial.replicate}")
    return printable(" ".join(word for word in words if word))


def describe_record(record: Record) -> str:
    """The trial of a record, by the name that tables give it."""
    task = record.block("data").get("task")
    return describe(Trial.from_dict(record.settings), None if task is None else str(task))


def duration(seconds: float | None) -> str:
    """Short text of a time span; `?` for None.

    >>> duration(42), duration(200), duration(8100)
    ('42s', '3m20s', '2h15m')
    """
    if seconds is None:
        return "?"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def printable(text: str) -> str:
    """The text on one line, without characters that move a cursor."""
    return "".join(" " if unicodedata.category(c).startswith(("C", "Z")) else c for c in text)


def fitted(text: str, width: int) -> str:
    """The text cut to a terminal's columns, wide characters counted as two.

    >>> fitted("quickstart", 6)
    'quick…'
    """
    used = 0
    for position, character in enumerate(text):
        used += _columns(character)
        if used > width:
            return fitted_prefix(text[:position], width - 1) + "…" if width > 0 else ""
    return text


def fitted_prefix(text: str, width: int) -> str:
    """The longest start of the text that fits a width."""
    while sum(map(_columns, text)) > width:
        text = text[:-1]
    return text


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class LiveLine:
    """A stream with one line that is rewritten on a terminal, and sparse plain lines elsewhere.

    Args:
        stream: where to write.
        is_live: whether it is a terminal; asks the stream if None.
        now: the time in seconds, monotonic.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        is_live: bool | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self.is_live = _can_rewrite(stream) if is_live is None else is_live
        self._now = now
        self._shown_at = now()
        self._is_shown = False

    def show(self, head: str, tail: str, *, must: bool = False, plain: str | None = None) -> None:
        """Rewrite the line; the tail stays in sight however long the head is.

        Args:
            head: what is cut where the line is too long.
            tail: what is not.
            must: at once, not only when some time has gone by since the last time.
            plain: the line where there is no terminal; None: head and tail.
        """
        now = self._now()
        interval = _LIVE_INTERVAL_SECONDS if self.is_live else _PLAIN_INTERVAL_SECONDS
        if not must and now - self._shown_at < interval:
            return
        self._shown_at = now
        if not self.is_live:
            self.say(plain if plain is not None else f"{head} · {printable(tail)}")
            return
        self.clear()
        tail = f" · {printable(tail)}"
        columns = max(20, shutil.get_terminal_size().columns - 1)
        room = max(12, columns - len(tail))
        self._stream.write(fitted(fitted(head, room) + tail, columns))
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


def _can_rewrite(stream: TextIO) -> bool:
    """Whether it is a terminal that knows how to clear a line."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Progress:
    """Progress of one study on a stream: live on a terminal, sparse plain lines elsewhere.

    Args:
        stream: where to write; standard output if None.
        is_live: rewrite one line; asks the stream if None.
        now: the time in seconds, monotonic.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        is_live: bool | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._line = LiveLine(stream or sys.stdout, is_live=is_live, now=now)
        self._now = now
        self._name = ""
        self._waiting: dict[str, float | None] = {}
        self._num_trials = self._num_over = 0
        self._opened_at = self._trial_began_at = now()
        self._over_seconds: list[float] = []
        self._expected_of_trial: float | None = None
        self._left_of_trial: float | None = None
        self._is_running = False
        self._sizes_said: set[str] = set()

    @classmethod
    def silent(cls) -> Progress:
        """One that nobody sees."""
        return cls(io.StringIO(), is_live=False)

    def open(self, name: str, expected: Mapping[str, float | None], *, num_kept: int) -> None:
        """A study begins.

        Args:
            name: of the study.
            expected: trial ids to run → seconds that each may take, None if nothing tells.
            num_kept: trials that have a record already.
        """
        self._name = printable(name)
        self._waiting = dict(expected)
        self._num_trials = len(expected)
        self._opened_at = self._now()
        kept = f", {num_kept} kept from before" if num_kept else ""
        estimate = f", about {duration(left)}" if (left := self._seconds_left()) else ""
        self._line.say(f"{self._name}: {len(expected)} trials to run{kept}{estimate}")

    def on_event(self, job: Job, event: Event) -> None:
        """A trial has something to say."""
        kind = event.get("event")
        if kind == "start":
            self._trial_began_at = self._now()
            self._expected_of_trial = self._waiting.pop(job.trial.trial_id, None)
            self._left_of_trial = None
            self._is_running = True
            self._show(job, "starts", must=True)
        elif kind == "phase":
            self._show(job, str(event.get("phase")), must=self._line.is_live)
        elif kind == "step":
            self._left_of_trial = _number(event, "seconds_left")
            self._show(job, _step_text(event))
        elif kind == "note":
            self.note(str(event.get("text")))
        elif kind == "partial" and isinstance(data := event.get("data"), Mapping):
            self._say_sizes(job.trial.data.name, data)

    def finish(self, record: Record) -> None:
        """A trial is over."""
        self._waiting.pop(record.trial_id, None)
        self._num_over += 1
        self._is_running = False
        seconds = self._now() - self._trial_began_at  # with the start of the process
        self._over_seconds.append(seconds)
        what = describe_record(record)
        quality = _quality_text(record.block("test"))
        reason = f": {printable(record.reason)}" if record.reason else ""
        self._line.say(
            f"{self._total()} {record.status.upper()} {what} {duration(seconds)}{quality}{reason}"
        )

    def pass_over(self, record: Record, how: str = "by another runner") -> None:
        """A trial has been done elsewhere."""
        self._waiting.pop(record.trial_id, None)
        self._num_over += 1
        what = describe(Trial.from_dict(record.settings))
        self._line.say(f"{self._total()} {record.status.upper()} {printable(how)} {what}")

    def note(self, text: str) -> None:
        """A line that stays, about no trial's end."""
        self._line.say(printable(text))

    def tell(self, text: str) -> None:
        """A line that stays, at the end of a trial."""
        self._num_over += 1
        self._is_running = False
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

    def _show(self, job: Job, text: str, *, must: bool = False) -> None:
        name = describe(job.trial)
        self._line.show(
            f"[{self._num_over + 1}/{self._num_trials}] {name}",
            f"{printable(text)} · study {self._times()}",
            must=must,
            plain=f"{self._total()} {name} · {printable(text)}",
        )

    def _total(self) -> str:
        return f"[{self._num_over} of {self._num_trials} done, {self._times()}]"

    def _times(self) -> str:
        elapsed = duration(self._now() - self._opened_at)
        return f"{elapsed} elapsed, {duration(self._seconds_left())} left"

    def _seconds_left(self) -> float | None:
        """Estimate for the rest of the study; None as long as nothing tells."""
        mean = sum(self._over_seconds) / len(self._over_seconds) if self._over_seconds else None
        guesses = [mean if seconds is None else seconds for seconds in self._waiting.values()]
        if self._is_running:
            guesses.append(self._seconds_left_of_trial(mean))
        known = [guess for guess in guesses if guess is not None]
        return sum(known) if len(known) == len(guesses) else None

    def _seconds_left_of_trial(self, mean: float | None) -> float | None:
        if self._left_of_trial is not None:
            return self._left_of_trial
        whole = mean if self._expected_of_trial is None else self._expected_of_trial
        return None if whole is None else max(0.0, whole - (self._now() - self._trial_began_at))


def _step_text(event: Event) -> str:
    parts = []
    if (epoch := _number(event, "epoch")) is not None:
        parts.append(f"epoch {epoch:.2f}")
    if (loss := _number(event, "loss")) is not None:
        parts.append(f"loss {loss:.4g}")
    if (quality := _number(event, "quality")) is not None:
        parts.append(f"{event.get('quality_name', 'quality')} {quality:.4f}")
    if (fraction := _number(event, "fraction")) is not None:
        parts.append(f"{fraction:.0%}")
    if (left := _number(event, "seconds_left")) is not None:
        parts.append(f"{duration(left)} left")
    return " · ".join(parts)


def _quality_text(test: Mapping[str, object]) -> str:
    name = next(iter(test), None)
    value = test.get(name) if name else None
    return f", {name} {value:.4f}" if isinstance(value, float) else ""


def _number(event: Event, name: str) -> float | None:
    """A field that is a finite number; None for anything else, which a message may hold too."""
    value = event.get(name)
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # a whole number that no float can be
        return None
    return number if math.isfinite(number) else None
