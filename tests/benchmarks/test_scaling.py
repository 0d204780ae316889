from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench.report.plots.scaling import (
    Article,
    Network,
    Run,
    Step,
    article_plot,
    makespan,
    scaling_table,
    simulated,
    softmax_speedup,
    speedup_plot,
)
from bench.report.render import render_markdown

FREE = Network(bytes_per_second=1e30, latency_seconds=0.0)
SLOW = Network(bytes_per_second=1e9, latency_seconds=0.001)


def run(seconds=(2.0,) * 8, startup=1.0, workers=1, wall=30.0):
    return Run(
        name="n",
        workers=workers,
        wall_seconds=wall,
        world_seconds=tuple(seconds),
        task_seconds=tuple(each + startup for each in seconds),
    )


def test_a_ring_moves_twice_the_bytes_less_a_worker_s_share():
    assert SLOW.ring_seconds(4e9, 1) == 0.0
    assert SLOW.ring_seconds(4e9, 4) == pytest.approx(2 * 3 / 4 * 4 + 6 * 0.001)
    assert SLOW.spread_seconds(1e9, 1) == 0.0
    assert SLOW.spread_seconds(1e9, 1000) == pytest.approx(10 * 1.001)


def test_worlds_scale_to_as_many_workers_as_there_are_worlds_and_a_straggler_holds_them():
    one, eight, many = (simulated(run(), 8, n, FREE, 0.0)[0] for n in (1, 8, 1000))
    assert (one, eight, many) == pytest.approx((24.0, 3.0, 3.0))
    slow = run((2.0,) * 7 + (20.0,))
    median, low, high = simulated(slow, 32, 32, FREE, 0.0)
    assert low <= median <= high
    assert median == pytest.approx(21.0)  # among 32 draws one is the slow one
    assert makespan([1.0] * 5, 2, 0.0) == 3.0
    assert simulated(run(), 8, 8, SLOW, 1e9)[0] == pytest.approx(3.0 + 3 * 1.001)


def test_a_softmax_gains_until_its_traffic_is_what_it_computes():
    step = Step(num_labels=10, seconds=1.0, gradient_bytes=1_000_000_000, machine="m")
    assert softmax_speedup(step, 1, SLOW) == 1.0
    assert softmax_speedup(step, 16, FREE) == pytest.approx(16.0)
    assert softmax_speedup(step, 2, SLOW) == pytest.approx(1 / (0.5 + 1.0 + 0.002))
    assert softmax_speedup(step, 1000, SLOW) < 0.5


ARTICLE = Article(
    hours=32.0, workers=8, num_worlds=32, num_steps=3600, gradient_bytes=10**9, source="s"
)


def test_the_article_is_one_point_of_its_line():
    assert [ARTICLE.mach_hours(n) for n in (1, 8, 16, 32, 1000)] == [256.0, 32.0, 16.0, 8.0, 8.0]
    assert ARTICLE.traffic_hours(2, SLOW) == pytest.approx(1.0 + 0.002)
    [panel] = article_plot(ARTICLE, SLOW).panels
    computed, traffic, published = panel.series
    assert (published.x, published.y, published.kind) == ((8.0,), (32.0,), "points")
    assert published.text.startswith("published")
    assert all(each.text.startswith("computed") for each in (computed, traffic))
    assert computed.y[computed.x.index(8.0)] == published.y[0]


def test_measured_and_simulated_differ_in_words_and_marks():
    runs = [run(), run(workers=2, wall=16.0)]
    plot = speedup_plot(
        runs, [Step(num_labels=9, seconds=1, gradient_bytes=9, machine="other")], SLOW, 1e6, "m"
    )
    [panel] = plot.panels
    _, *others = panel.series
    for series in others:
        is_measured = series.kind == "points"
        assert series.text.startswith("measured" if is_measured else "simulated")
        assert bool(series.style.marker) == is_measured
        assert (series.style.linestyle == "none") == is_measured
    assert others[-1].y == (1.0, 30 / 16)
    assert "8 Gbit/s" in plot.note
    assert "measured on other;" in plot.note
    assert "1.00 s of start" in plot.note
    text = render_markdown(scaling_table(runs, SLOW, 1e6))
    assert "| measured: n | 1 | 2 | 8 | 16.0 | 2.00 | 16.0 | 1.88 | – |" in text
    assert text.count("| simulated |") == 8


def test_what_was_measured_is_drawn_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    sys.modules.pop("scaling", None)
    import scaling

    rows = [
        {
            "name": f"{n} processes",
            "workers": n,
            "nodes": 1,
            "wall_seconds": 30.0 / n,
            "world_seconds": [2.0] * 4,
            "task_seconds": [3.0] * 4,
            "nodes_of_parts": [0] * 4,
            "load_by_others": [0.1, None],
        }
        for n in (1, 2)
    ]
    machine = {"cpu": "Some CPU", "num_cores": 2, "memory_bytes": 2**30, "accelerator": None}
    content = {"machine": machine, "data_bytes": 1000, "results": rows}
    (tmp_path / "scaling.json").write_text(json.dumps(content))
    steps = {"row": "full softmax, Adam", "num_labels": 9, "seconds": [0.5, 0.4]}
    layers = {
        "machine": machine,
        "results": [steps | {"expected": {"weights": 1000}}, steps | {"seconds": None}],
    }
    (tmp_path / "output_layers.json").write_text(json.dumps(layers))
    scaling.main(["--out", str(tmp_path), "--draw"])
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"scaling.md", "scaling.png", "scaling.svg", "scaling-article.png"}
    assert "| measured: 2 processes | 1 | 2 | 4 |" in (tmp_path / "scaling.md").read_text()
    assert scaling.ARTICLE.mach_hours(8) == pytest.approx(31.8)
