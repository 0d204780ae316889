"""Machines of one kind keep their lines apart, and count as one in what settings alone decide."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stub_trials import build_study, build_trial

from bench.runner.plan import RunOptions, plan_run
from bench.runner.run import run_study
from bench.store import hosts, record
from bench.store.hosts import files_of_kind, has_host, host_id, kind_of, own_path, path_of_kind

HERE = Path(__file__).parent


@pytest.fixture
def be_host(tmp_path, monkeypatch):
    """Makes this process one on another host of the same kind; the name is the host's."""

    def become(name):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / f"state of {name}"))
        host_id.cache_clear()
        return host_id()

    yield become
    host_id.cache_clear()


def test_an_id_is_drawn_once_for_a_host_and_kept(be_host, monkeypatch):
    first, second = be_host("a"), be_host("b")
    assert first != second
    assert be_host("a") == first
    command = [sys.executable, "-c", "from bench.store.hosts import host_id; print(host_id())"]
    found = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == first
    monkeypatch.setattr("platform.node", lambda: "another host with the same home")
    assert be_host("a") != first


def test_a_damaged_id_is_drawn_anew_and_one_that_cannot_be_kept_is_by_the_hosts_name(
    be_host, tmp_path, monkeypatch
):
    first = be_host("a")
    [path] = (tmp_path / "state of a" / "mach-bench").glob("host-*")
    path.write_text("../x")
    second = be_host("a")
    assert (second != first, be_host("a"), path.read_text()) == (True, second, f"{second}\n")
    (tmp_path / "state of c").write_text("a file")
    by_name = be_host("c")
    assert be_host("c") == by_name
    monkeypatch.setattr("platform.node", lambda: "other")
    assert be_host("c") != by_name


def test_names_tell_kind_and_host(tmp_path, be_host):
    own = own_path(tmp_path, "cpu-2c-24g")
    assert own.name == f"cpu-2c-24g-{be_host('a')}.jsonl" or has_host(own)
    assert (has_host(own), has_host(path_of_kind(own))) == (True, False)
    assert path_of_kind(own).name == "cpu-2c-24g.jsonl"
    for name in ("cpu-2c-24g.jsonl", "cpu-2c-24g-0abcde.jsonl", "cpu-2c-24g-gpu-0abcde.jsonl"):
        (tmp_path / name).touch()
    names = ["cpu-2c-24g.jsonl", "cpu-2c-24g-0abcde.jsonl"]
    assert [each.name for each in files_of_kind(own)] == names
    assert kind_of(Path("cpu-2c-24g-gpu.jsonl")) == "cpu-2c-24g-gpu"


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{HERE.parent}")
    return RunOptions(
        data_dir=tmp_path, results_dir=tmp_path / "results", cache_dir=tmp_path / "cache"
    )


def states(study, options):
    return [planned.state for planned in plan_run(study, options).trials]


def test_what_a_host_of_the_kind_recorded_is_not_run_again_and_stays_as_it_is(options, be_host):
    study = build_study([build_trial(replicate=i) for i in range(2)])
    be_host("a")
    first = plan_run(study, options)
    run_study(study, options)
    old = path_of_kind(first.records_path)
    first.records_path.rename(old)  # as it was called before hosts had ids
    before = old.read_bytes()
    be_host("b")
    plan = plan_run(study, options)
    assert plan.records_path != first.records_path
    assert plan.claims_path == first.claims_path
    assert states(study, options) == ["kept", "kept"]
    more = build_study([build_trial(replicate=i) for i in range(3)])
    assert states(more, options) == ["kept", "kept", "new"]
    [made] = run_study(more, options)
    assert [each.trial_id for each in record.read(plan.records_path)[0]] == [made.trial_id]
    assert old.read_bytes() == before
    records, _ = record.read_kind(plan.records_path)
    assert len({each.trial_id for each in records}) == len(records) == 3


def test_the_last_word_on_a_trial_is_the_newest_of_any_host(options, be_host, monkeypatch):
    study = build_study([build_trial("fail"), build_trial(replicate=1)])
    be_host("b")  # whose file comes after the other's or before it, by its id
    run_study(study, options)
    assert states(study, options) == ["retry", "kept"]
    be_host("a")
    monkeypatch.setattr("bench.store.provenance.utc_now", lambda: "2999-01-01T00:00:00Z")
    again = RunOptions(**{**vars(options), "rerun": True})
    run_study(build_study([build_trial(replicate=1)]), again)
    for host in "ab":
        be_host(host)
        newest = {each.trial.replicate: each.previous for each in plan_run(study, options).trials}
        assert newest[1].raw["started_at"].startswith("2999")
        assert newest[0].status == "error"


def test_a_kind_whose_hosts_contradict_each_other_is_found(tmp_path):
    from test_merging import made

    results = {}
    for host, score in (("aaaaaa", 0.5), ("bbbbbb", 0.5), ("cccccc", 0.5000001)):
        path = tmp_path / "records" / "stub" / f"cpu-2c-{host}.jsonl"
        record.append(path, made(score=score))
        results[path], _ = record.read(path)
    [found] = record.contradictions(results, lambda study, method: True)
    assert "cpu-2c-cccccc.jsonl: trial" in found
    assert "differs from that in" in found
    assert list(record.contradictions(results, lambda study, method: False)) == []
    assert hosts.kind_of(path) == "cpu-2c"
