from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from bench.experiments.recipe import planned_steps
from bench.measure import cgroups, memory, processors
from bench.measure.clock import Stopwatch
from bench.measure.load import LoadMeter, busy_seconds
from bench.measure.phases import Repetition
from bench.settings import TrainSpec


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
    with watch.running():
        now.seconds += 2
        with watch.paused():
            now.seconds += 5
        now.seconds += 1
        assert watch.seconds == 3
    now.seconds += 7
    assert watch.seconds == 3
    with watch.running():
        now.seconds += 1
    assert watch.seconds == 4


def test_work_queued_on_the_device_is_counted_where_it_was_queued(now):
    def drain():
        now.seconds += queued.pop() if queued else 0

    queued = [100]
    watch = Stopwatch(drain, now=now)
    with watch.running():
        queued.append(4)
        with watch.paused():
            queued.append(10)
        queued.append(1)
    assert watch.seconds == 5


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


def test_prediction_names_both_sizes():
    error = memory.PredictedOutOfMemory(20, 10, {"parameter_bytes": 5})
    assert "20 bytes exceed the available 10 bytes" in str(error)
    assert error.parts == {"parameter_bytes": 5}


@pytest.fixture
def confine(tmp_path, monkeypatch):
    """Control groups of files: (`/proc/self/cgroup`, {path: content})."""

    def confined(own, files):
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "groups" / name).write_text(content)
        monkeypatch.setattr(cgroups, "_ROOT", tmp_path / "groups")
        monkeypatch.setattr(cgroups, "_OWN", tmp_path / "own")

    return confined


def test_cgroup_limit_counts_without_reclaimable_cache(confine):
    files = {
        "a/memory.max": "1000\n",
        "a/memory.current": "700\n",
        "a/memory.stat": "anon 5\ninactive_file 300\n",
        "a/b/memory.max": "max\n",
    }
    confine("0::/a/b\n", files)
    assert memory._cgroup_limits() == [(1000, 400)]
    confine("0::/a/b\n", {"a/memory.max": "max\n"})
    assert memory._cgroup_limits() == []


def test_cores_are_counted_where_no_process_is_bound_to_some(confine, monkeypatch):
    confine("", {})
    monkeypatch.delattr("os.sched_getaffinity")  # as on a Mac
    assert processors.num_cores() == os.cpu_count()


V1 = "3:cpu,cpuacct:/a/b\n2:memory:/a\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n"}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "100000 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "350000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000\n"}, 1),
        ("0::/a/b\n", {"a/b/cpu.max": "6400000 100000\n"}, 8),
        (V1, {"cpu/a/b/cpu.cfs_quota_us": "-1", "cpu/a/b/cpu.cfs_period_us": "100000"}, 8),
        (V1, {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"}, 2),
        # As in a container that sees its own group as the root.
        (V1, {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
    ],
)
def test_a_quota_counts_as_so_many_cores_in_whatever_group_it_stands(
    confine, monkeypatch, own, files, expected
):
    monkeypatch.setattr(processors, "_num_usable", lambda: 8)
    confine(own, files)
    assert processors.num_cores() == expected
    limits = processors.thread_limits({"NUMBA_NUM_THREADS": "5"})
    assert limits == ({} if expected == 8 else {"OMP_NUM_THREADS": str(expected)})


STAT = (
    "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 1 10 500 50 2 3 4 0 0\ncpu1 7 0 0 0 0 0 0 0 0 0\nintr 5\n"
)


def test_busy_seconds_count_own_cores_and_neither_idle_nor_disk():
    assert busy_seconds(STAT, {0}, 100) == pytest.approx(1.20)
    assert busy_seconds(STAT, {0, 1}, 100) == pytest.approx(1.27)
    assert busy_seconds(STAT, {0, 5}, 100) is None


def build_meter(now, busy, own):
    busy, own = iter(busy), iter(own)
    return LoadMeter(busy=lambda: next(busy), own=lambda: next(own), now=now)


def test_load_is_what_others_computed_in_the_interval(now):
    meter = build_meter(now, [10, 18], [1, 7])
    meter.start()
    now.seconds += 5
    meter.stop()
    assert meter.wall_seconds == 5
    assert meter.other_cpu_seconds == 8 - 6
    assert meter.other_share == (8 - 6) / (5 * len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(
    ("busy", "own", "expected"),
    [
        ([10, 10], [1, 1.004], 0),  # ticks are coarse
        ([None, 5], [1, 2], None),  # the kernel is silent
        ([5, None], [1, 2], None),
    ],
)
def test_load_is_never_below_nothing_and_unknown_where_the_kernel_is_silent(
    now, busy, own, expected
):
    meter = build_meter(now, busy, own)
    meter.start()
    now.seconds += 1
    meter.stop()
    assert meter.other_cpu_seconds == expected
    assert (meter.other_share is None) == (expected is None)


def test_load_of_this_machine_counts_another_process():
    spin = "import time; end = time.monotonic() + 30\nwhile time.monotonic() < end: pass"
    with subprocess.Popen([sys.executable, "-c", spin]) as other:
        try:
            meter = LoadMeter()
            meter.start()
            time.sleep(1.0)  # this process does nothing
            meter.stop()
        finally:
            other.kill()
    if meter.other_cpu_seconds is None:
        pytest.skip("the kernel is silent")
    assert meter.other_cpu_seconds > 0.3


def test_a_repetition_keeps_the_samples_of_each_phase_and_its_load():
    repetition = Repetition(2)
    for phase, units in (("train", 4), ("batch-64", 64)):
        with repetition.timed(phase, units=units) as seconds:
            seconds += [0.25, 0.5]
    kept = repetition.to_record()
    assert repetition.round_number == 2
    assert [(n, p["seconds"], p["units"]) for n, p in kept.items()] == [
        ("train", [0.25, 0.5], 4),
        ("batch-64", [0.25, 0.5], 64),
    ]
    assert all(p["wall_seconds"] > 0 and "other_cpu_seconds" in p for p in kept.values())


def test_a_phase_that_broke_off_is_not_kept_and_none_is_measured_twice():
    repetition = Repetition(0)
    with pytest.raises(ZeroDivisionError), repetition.timed("train", units=1) as seconds:
        seconds.append(1 / 0)
    assert repetition.to_record() == {}
    with repetition.timed("train", units=1):
        pass
    with (
        pytest.raises(ValueError, match="'train' was measured in this repetition already"),
        repetition.timed("train", units=1),
    ):
        pass


def test_kills_for_want_of_memory_are_counted_by_the_kernel(confine, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_VMSTAT", tmp_path / "vmstat")
    confine("", {})
    assert memory.num_oom_kills() is None
    (tmp_path / "vmstat").write_text("pgpgin 5\noom_kill 3\nzone_x 1\n")
    assert memory.num_oom_kills() == 3
    (tmp_path / "vmstat").write_text("pgpgin 5\n")
    assert memory.num_oom_kills() is None


@pytest.mark.parametrize(
    ("own", "name", "content"),
    [
        ("0::/a/b\n", "a/b/memory.events", "low 0\noom 4\noom_kill 2\n"),
        ("0::/a/b\n", "a/memory.events", "oom_kill 2\n"),
        (V1, "memory/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
    ],
)
def test_kills_of_other_groups_are_no_evidence(confine, tmp_path, monkeypatch, own, name, content):
    monkeypatch.setattr(memory, "_VMSTAT", tmp_path / "vmstat")
    (tmp_path / "vmstat").write_text("oom_kill 99\n")
    confine(own, {name: content})
    assert memory.num_oom_kills() == 2


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        ({"num_steps": 7}, 7),
        ({"num_epochs": 2.0}, 20),
        ({"num_epochs": 0.25}, 3),
        ({"num_epochs": 1e-9}, 1),
    ],
)
def test_a_training_is_as_long_as_its_spec_says_in_steps(length, expected):
    assert planned_steps(TrainSpec(**length), steps_per_epoch=10) == expected


def test_a_training_with_a_budget_left_in_it_is_refused():
    with pytest.raises(ValueError, match=r"budget_seconds is 5.0; expected num_steps"):
        planned_steps(TrainSpec(budget_seconds=5.0), steps_per_epoch=10)
