"""More workers: MACH's worlds measured on two and simulated on many, against shared gradients.

A simulation schedules worlds whose seconds are drawn from measured ones; a full softmax divides
each batch and adds gradients up by a ring. Both by the same stated network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.report.plots.lines import Axis, LinePlot, Panel, Series
from bench.report.render import Cell, Table, number
from bench.report.style import GREY, SeriesStyle

#: Workers of a simulation.
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
_NUM_DRAWS = 100
_MACH, _SOFTMAX = "#0072B2", "#000000"
_DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "--",
    (0, (1, 1.5)),
    (0, (5, 1, 1, 1)),
    (0, (10, 2, 1, 2, 1, 2)),
    (0, (12, 3)),
)


@dataclass(frozen=True, kw_only=True)
class Network:
    """What connects workers: stated, not measured.

    Attributes:
        bytes_per_second: of each worker's link, either way.
        latency_seconds: of a message.
    """

    bytes_per_second: float
    latency_seconds: float

    @property
    def text(self) -> str:
        """In words."""
        gigabits, micros = 8e-9 * self.bytes_per_second, 1e6 * self.latency_seconds
        return f"{gigabits:g} Gbit/s and {micros:g} µs"

    def ring_seconds(self, num_bytes: float, workers: int) -> float:
        """Of adding up arrays of so many bytes over a ring (all-reduce).

        Each worker sends (and receives) 2 (n − 1) pieces of an n-th.
        Source: Patarasuk & Yuan 2009, Bandwidth optimal all-reduce algorithms.

        >>> Network(bytes_per_second=100.0, latency_seconds=0.0).ring_seconds(1000, 2)
        10.0
        """
        rounds = 2 * (workers - 1)
        return rounds * (num_bytes / workers / self.bytes_per_second + self.latency_seconds)

    def spread_seconds(self, num_bytes: float, workers: int) -> float:
        """Of bringing data to all workers but the first, who pass it on as a tree."""
        rounds = math.ceil(math.log2(workers))
        return rounds * (num_bytes / self.bytes_per_second + self.latency_seconds)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training of MACH's worlds that was measured.

    Attributes:
        name: of the way it was run.
        workers: that trained worlds at the same time.
        wall_seconds: of the trial, with what joins and scores the worlds.
        world_seconds: of training each world.
        task_seconds: of each task of worlds, with the start of its process.
        nodes: that the workers were on.
        load: share of the processors that others took just before or after.
    """

    name: str
    workers: int
    wall_seconds: float
    world_seconds: tuple[float, ...]
    task_seconds: tuple[float, ...]
    nodes: int = 1
    load: float | None = None

    @property
    def startup_seconds(self) -> float:
        """What a task takes beside the training of its worlds, on average."""
        return (sum(self.task_seconds) - sum(self.world_seconds)) / len(self.task_seconds)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of a full softmax that was measured on one worker.

    Attributes:
        num_labels: L.
        seconds: of the best step.
        gradient_bytes: that workers add up in each.
        machine: where.
    """

    num_labels: int
    seconds: float
    gradient_bytes: int
    machine: str


def makespan(seconds: Sequence[float], workers: int, startup_seconds: float) -> float:
    """Until the last task ends, where each goes to the worker that is first free.

    >>> makespan([3.0, 1.0, 1.0, 1.0], 2, 0.0), makespan([3.0, 1.0, 1.0, 1.0], 8, 0.5)
    (3.0, 3.5)
    """
    free = np.zeros(min(workers, len(seconds)))
    for each in seconds:
        free[free.argmin()] += each + startup_seconds
    return float(free.max())


def simulated(
    run: Run, num_worlds: int, workers: int, network: Network, data_bytes: float
) -> tuple[float, float, float]:
    """Seconds of training so many worlds: median, 5th and 95th percentile over draws.

    A world's seconds are drawn from those that were measured, so that slow ones are as frequent.
    """
    draw = np.random.default_rng(num_worlds)
    spread = network.spread_seconds(data_bytes, workers)
    found = [
        makespan(list(draw.choice(run.world_seconds, num_worlds)), workers, run.startup_seconds)
        + spread
        for _ in range(_NUM_DRAWS)
    ]
    low, median, high = np.percentile(found, (5, 50, 95))
    return float(median), float(low), float(high)


def softmax_speedup(step: Step, workers: int, network: Network) -> float:
    """Of a full softmax whose batch is divided, with all gradients added up after each step."""
    shared = step.seconds / workers + network.ring_seconds(step.gradient_bytes, workers)
    return step.seconds / shared


def speedup_plot(
    runs: Sequence[Run], steps: Sequence[Step], network: Network, data_bytes: float, machine: str
) -> LinePlot:
    """Speed-up over one worker: measured, simulated, and published.

    Args:
        runs: the first one on one worker alone, whose worlds are drawn from.
        steps: of full softmax layers.
        network: stated.
        data_bytes: that each worker needs.
        machine: on which all was measured.
    """
    alone = runs[0]
    ideal = [(float(n), float(n)) for n in WORKERS]
    series = [Series.of("ideal", SeriesStyle(GREY, "", (0, (1, 3))), ideal)]
    for index, num_worlds in enumerate((32, 1024)):
        base = simulated(alone, num_worlds, 1, network, data_bytes)[0]
        found = [simulated(alone, num_worlds, n, network, data_bytes) for n in WORKERS]
        style = SeriesStyle(_MACH, "", _DASHES[index])
        points = [
            (float(n), base / median, base / high, base / low)
            for n, (median, low, high) in zip(WORKERS, found, strict=True)
        ]
        series.append(Series.of(f"simulated: MACH, {num_worlds:,} worlds", style, points))
    for index, step in enumerate(steps):
        gains = [(float(n), softmax_speedup(step, n, network)) for n in WORKERS]
        text = f"simulated: full softmax, L = {step.num_labels:,}"
        series.append(
            Series.of(text, SeriesStyle(_SOFTMAX, "", _DASHES[index % len(_DASHES)]), gains)
        )
    measured = [(float(run.workers), alone.wall_seconds / run.wall_seconds) for run in runs]
    look = SeriesStyle("#D55E00", "o", "none")
    text = f"measured: MACH, {len(alone.world_seconds)} worlds"
    series.append(Series.of(text, look, measured, "points"))
    return LinePlot(
        "How much faster with more workers?",
        f"Marks are measured on {machine}, dashed lines simulated from seconds measured there.",
        Axis("workers", "log"),
        Axis("speed-up over one worker", "log"),
        (Panel(tuple(series)),),
        f"Assumed: links of {network.text}. MACH: a world's seconds drawn from "
        f"{len(alone.world_seconds)} measured ones, and {number(alone.startup_seconds)} s of start "
        "a world, as measured; a worker takes whole worlds; "
        f"{number(data_bytes / 1e6)} MB of data passed on as a tree; band: 5 to 95 % of draws. "
        f"Softmax: a step's seconds measured on {', '.join({step.machine: 0 for step in steps})}; "
        "one copy a worker, the batch divided, all its gradients added up by a ring after each "
        "step, none of it hidden behind computing; a divided layer is not shown.",
    )


@dataclass(frozen=True, kw_only=True)
class Article:
    """A published training, and what is assumed to carry it to other numbers of workers.

    Attributes:
        hours: published, on so many `workers`.
        num_worlds: R.
        num_steps: of a full softmax of the same data, epochs and batch.
        gradient_bytes: of its step.
    """

    hours: float
    workers: int
    num_worlds: int
    num_steps: int
    gradient_bytes: int
    source: str

    def mach_hours(self, workers: int) -> float:
        """With a whole number of worlds a worker; a worker's worlds share it evenly."""
        per_world = self.hours * self.workers / self.num_worlds
        return per_world * math.ceil(self.num_worlds / workers)

    def traffic_hours(self, workers: int, network: Network) -> float:
        """Of a full softmax' gradients alone; its computing comes on top."""
        seconds = network.ring_seconds(self.gradient_bytes, workers)
        return self.num_steps * seconds / 3600


def article_plot(article: Article, network: Network) -> LinePlot:
    """Hours of the article's training over workers, and of a full softmax' traffic alone."""
    points = [(float(n), article.mach_hours(n)) for n in WORKERS]
    softmax = [(float(n), article.traffic_hours(n, network)) for n in WORKERS if n > 1]
    published = [(float(article.workers), article.hours)]
    return LinePlot(
        "What would the article's training take on more GPUs?",
        f"{article.source}.",
        Axis("GPUs", "log"),
        Axis("hours", "log"),
        (
            Panel(
                (
                    Series.of(
                        f"computed: MACH, {article.num_worlds} worlds",
                        SeriesStyle(_MACH, "", "--"),
                        points,
                    ),
                    Series.of(
                        "computed: full softmax, traffic alone",
                        SeriesStyle(_SOFTMAX, "", "--"),
                        softmax,
                    ),
                    Series.of(
                        "published: MACH", SeriesStyle("#D55E00", "s", "none"), published, "points"
                    ),
                )
            ),
        ),
        f"One mark is published; nothing here is measured by us. Assumed: a GPU's "
        f"{article.num_worlds // article.workers} worlds share it evenly, start-up and data left "
        f"out; for the softmax links of {network.text}, {article.num_steps:,} steps, each with "
        f"{number(article.gradient_bytes / 1e9)} GB of float32 gradients added up by a ring, as "
        "large as the copy that each GPU would hold.",
    )


def scaling_table(runs: Sequence[Run], network: Network, data_bytes: float) -> Table:
    """Measured runs, then simulated ones."""
    alone = runs[0]
    measured = [
        (
            f"measured: {run.name}",
            f"{run.nodes}",
            f"{run.workers}",
            f"{len(run.world_seconds)}",
            number(sum(run.world_seconds)),
            number(max(run.world_seconds)),
            number(run.wall_seconds),
            number(alone.wall_seconds / run.wall_seconds),
            "–" if run.load is None else f"{100 * run.load:.0f}",
        )
        for run in runs
    ]
    made = []
    for num_worlds in (32, 1024):
        base = simulated(alone, num_worlds, 1, network, data_bytes)[0]
        for workers in (1, 8, 32, 1000):
            median, _, _ = simulated(alone, num_worlds, workers, network, data_bytes)
            words = (f"{workers:,}", f"{workers:,}", f"{num_worlds:,}", "–", "–")
            made.append(("simulated", *words, number(median), number(base / median), "–"))
    return Table(
        "MACH's worlds on more workers",
        (
            "how",
            "nodes",
            "workers",
            "worlds",
            "device s, summed",
            "longest world s",
            "wall s",
            "speed-up",
            "load by others %",
        ),
        tuple(
            tuple(tuple(Cell(text) for text in row) for row in group) for group in (measured, made)
        ),
        (
            "Wall s: of the trial, measured from its start to its record, joining and scoring "
            "included; simulated ones end with the last world. Load: the larger of just before and "
            "just after.",
            f"Simulated: as the figure says, with links of {network.text}.",
        ),
        num_words=1,
    )
