from __future__ import annotations

import pytest
import torch

from bench.measure import memory
from bench.measure.clock import Clocks, Stopwatch, WindowSampler
from bench.measure.load import LoadMeter, busy_seconds


class Time:
    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def now():
    return Time()


def test_stopwatch_counts_only_while_it_runs(now):
    watch = Stopwatch(now=now)
    watch.start()
    now.seconds += 2
    with watch.paused():
        now.seconds += 5
    now.seconds += 1
    assert watch.seconds == 3
    assert watch.stop() == 3
    now.seconds += 7
    with watch.paused():
        pass
    assert not watch.is_running
    assert watch.seconds == 3


def test_stopwatch_drains_the_device_at_edges_only(now):
    edges = []
    watch = Stopwatch(lambda: edges.append(now.seconds), now=now)
    with watch.running():
        now.seconds += 1
        assert watch.seconds == 1
    assert edges == [100, 101]


def test_stopwatch_refuses_a_second_start_and_an_early_stop(now):
    watch = Stopwatch(now=now)
    with pytest.raises(RuntimeError, match="not running"):
        watch.stop()
    watch.start()
    with pytest.raises(RuntimeError, match="running already"):
        watch.start()


def test_work_queued_on_the_device_is_counted_where_it_was_queued(now):
    def drain():
        now.seconds += queued.pop() if queued else 0

    queued = []
    clocks = Clocks(drain, now=now)
    with clocks.measure("train"):
        queued.append(4)
    with clocks.measure("evaluation"):
        now.seconds += 1
    assert clocks["train"].seconds == 4
    assert clocks["evaluation"].seconds == 1


def test_evaluation_inside_of_training_is_not_training(now):
    clocks = Clocks(now=now)
    with clocks.measure("train"):
        now.seconds += 3
        with clocks.measure("evaluation"):
            now.seconds += 10
        now.seconds += 1
    now.seconds += 6
    assert clocks.to_record() == {
        "setup_seconds": None,
        "train_seconds": 4,
        "evaluation_seconds": 10,
        "decode_seconds": None,
        "wall_seconds": 20,
    }


def test_a_clock_inside_of_itself_is_refused(now):
    clocks = Clocks(now=now)
    with (
        clocks.measure("train"),
        pytest.raises(RuntimeError, match="train clock is running"),
        clocks.measure("train"),
    ):
        pass


def test_windows_leave_out_warmup_and_pauses(now):
    watch = Stopwatch(now=now)
    edges = []
    sampler = WindowSampler(
        watch, warmup_steps=2, window_steps=3, synchronize=lambda: edges.append(1)
    )
    watch.start()
    for step in range(1, 13):
        now.seconds += 50 if step <= 2 else step
        if step == 4:
            with watch.paused():
                now.seconds += 1000
        sampler.step()
    assert sampler.window_seconds == [3 + 4 + 5, 6 + 7 + 8, 9 + 10 + 11]
    assert len(edges) == 4


def test_windows_without_warmup_begin_with_the_first_step(now):
    watch = Stopwatch(now=now)
    sampler = WindowSampler(watch, warmup_steps=0, window_steps=1)
    watch.start()
    for seconds in (1, 2):
        now.seconds += seconds
        sampler.step()
    assert sampler.window_seconds == [1, 2]


def test_windows_refuse_impossible_sizes(now):
    with pytest.raises(ValueError, match="window_steps is 0"):
        WindowSampler(Stopwatch(now=now), warmup_steps=0, window_steps=0)


def test_host_peak_tells_phases_apart_and_keeps_the_total():
    if not memory.reset_host_peak():
        pytest.skip("the kernel does not permit a reset of VmHWM")
    peak = memory.HostPeak()
    big = bytearray(b"\x01") * (64 << 20)
    before = memory.host_peak_bytes()
    del big
    peak.begin_phase()
    assert peak.phase_bytes() < before - (32 << 20)
    # The kernel sums its per-core counters only now and then: they wobble by some pages.
    assert peak.total_bytes() > before - (4 << 20)


def test_host_sizes_are_in_bytes():
    assert 1 << 20 < memory.host_current_bytes() <= memory.total_memory_bytes()
    assert 0 < memory.available_memory_bytes() <= memory.total_memory_bytes()
    assert memory.host_data_bytes() > 1 << 20


def test_tensors_that_share_storage_are_counted_once():
    base = torch.zeros(10, 10)
    other = torch.zeros(3, dtype=torch.int64)
    assert memory.bytes_of([base, base[2:], base.T, other]) == 400 + 24
    meta = torch.zeros(10, device="meta")
    assert memory.bytes_of([meta, meta[1:], torch.zeros(10, device="meta")]) == 80


def test_prediction_names_both_sizes():
    error = memory.PredictedOutOfMemory(20, 10, {"parameter_bytes": 5})
    assert "20 bytes exceed the available 10 bytes" in str(error)
    assert error.parts == {"parameter_bytes": 5}


def test_cgroup_limit_counts_without_reclaimable_cache(tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 300\n")
    names = ("memory.max", "memory.current", "inactive_file")
    assert memory._limit_of(tmp_path, *names) == [(1000, 400)]
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._limit_of(tmp_path, *names) == []


STAT = (
    "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 1 10 500 50 2 3 4 0 0\ncpu1 7 0 0 0 0 0 0 0 0 0\nintr 5\n"
)


def test_busy_seconds_count_own_cores_and_neither_idle_nor_disk():
    assert busy_seconds(STAT, {0}, 100) == pytest.approx(1.20)
    assert busy_seconds(STAT, {0, 1}, 100) == pytest.approx(1.27)
    assert busy_seconds(STAT, {0, 5}, 100) is None


def build_meter(now, busy, own):
    busy, own = iter(busy), iter(own)
    return LoadMeter(num_cores=2, busy=lambda: next(busy), own=lambda: next(own), now=now)


def test_load_is_the_others_share_over_all_intervals(now):
    meter = build_meter(now, [10, 18, 30, 32], [1, 7, 8, 10])
    for seconds in (5, 5):
        meter.start()
        meter.start()
        now.seconds += seconds
        meter.stop()
        meter.stop()
        now.seconds += 100
    assert meter.other_cpu_share() == pytest.approx(((8 - 6) + (2 - 2)) / (10 * 2))


def test_load_is_unknown_without_interval_or_counters(now):
    assert build_meter(now, [], []).other_cpu_share() is None
    meter = build_meter(now, [None, 5], [1, 2])
    meter.start()
    now.seconds += 1
    meter.stop()
    assert meter.other_cpu_share() is None


def test_load_of_this_machine_is_a_share():
    meter = LoadMeter()
    meter.start()
    sum(range(300_000))
    meter.stop()
    assert 0 <= meter.other_cpu_share() <= 1
