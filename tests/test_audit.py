from __future__ import annotations

import json
from pathlib import Path

import pytest
import stub_trials
from stub_trials import build_study, build_trial, stub_card

from bench.measure.experiment import Context
from bench.methods import cards
from bench.runner import audit
from bench.runner.audit import Candidate, candidates, compared, draw
from bench.runner.plan import RunOptions
from bench.runner.run import LocalEngine, run_study
from bench.store import provenance, record

MACHINE = provenance.machine(accelerator=None)


@pytest.fixture(autouse=True)
def _stubs_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def recorded(tmp_path):
    """A study of steady trials that has been run, and its file of records."""
    trials = [build_trial(replicate=i) for i in range(4)]
    study = build_study([*trials, build_trial("fail"), build_trial(method="other")])
    options = RunOptions(data_dir=tmp_path, results_dir=tmp_path, cache_dir=tmp_path / "cache")
    run_study(study, options)
    [path] = tmp_path.glob("records/stub/*.jsonl")
    return study, path


def audited(tmp_path, chosen):
    engine = LocalEngine(Context(data_dir=tmp_path, cache_dir=tmp_path / "cache"))
    return list(audit.audit(chosen, engine, machine=MACHINE, path=tmp_path / "audits.jsonl"))


def tamper(path, change):
    """Rewrite every finished record, as nobody may."""
    lines = []
    for line in path.read_text().splitlines():
        raw = json.loads(line)
        if raw["status"] == "done":
            change(raw)
        lines.append(json.dumps(raw))
    path.write_text("\n".join(lines) + "\n")


def test_what_was_recorded_is_found_again(recorded, tmp_path):
    study, _ = recorded
    found = candidates([study], tmp_path, MACHINE)
    assert [(c.trial.model.method, c.old.status) for c in found].count(("stub", "done")) == 4
    assert len(found) == 5
    findings = audited(tmp_path, found[:2])
    assert [f.outcome for f in findings] == ["found", "found"]
    lines = (tmp_path / "audits.jsonl").read_text().splitlines()
    assert [json.loads(line)["largest_difference"] for line in lines] == [0.0, 0.0]


def test_a_record_that_was_changed_differs_by_its_largest_difference(recorded, tmp_path):
    study, path = recorded
    tamper(path, lambda raw: raw["test"].update({"P@1": raw["test"]["P@1"] + 0.125}))
    [finding] = audited(tmp_path, candidates([study], tmp_path, MACHINE)[:1])
    assert (finding.outcome, finding.largest_difference) == ("differs", 0.125)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda raw: raw["test"].update({"P@7": 0.5}), "other metrics"),
        (lambda raw: raw["training"].update({"curve": [{"loss": 0.5}]}), "other metrics"),
        (lambda raw: raw["test"].update({"P@1": None}), "a number is missing"),
    ],
)
def test_numbers_on_one_side_alone_differ(recorded, tmp_path, change, reason):
    study, path = recorded
    tamper(path, change)
    [finding] = audited(tmp_path, candidates([study], tmp_path, MACHINE)[:1])
    assert (finding.outcome, finding.reason) == ("differs", reason)


def with_psp(raw, value, **versions):
    raw["test"].update({"PSP@1": value})
    raw["data"].update(num_validation_points=100)
    raw["versions"].update(versions)
    return raw


@pytest.mark.parametrize(
    ("versions", "difference", "outcome"),
    [({}, 0.0, "found"), ({}, 0.125, "differs"), ({"psp": 2}, 0.0, "differs")],
)
def test_only_metrics_that_are_computed_as_then_are_compared(
    recorded, tmp_path, versions, difference, outcome
):
    study, path = recorded
    [newest, *_] = candidates([study], tmp_path, MACHINE)
    new = record.parse(with_psp(json.loads(newest.old.to_json()), 0.25, psp=2))

    def change(raw):
        raw["versions"].pop("psp", None)
        with_psp(raw, 0.5, **versions)
        raw["test"]["P@1"] += difference

    tamper(path, change)
    [old, *_] = candidates([study], tmp_path, MACHINE)
    assert compared(old, new).outcome == outcome


def test_a_trial_that_fails_or_meets_other_data_has_failed(recorded, tmp_path):
    study, path = recorded
    [first, *_] = candidates([study], tmp_path, MACHINE)
    failed = next(r for r in record.read(path)[0] if r.status == "error")
    assert compared(first, failed).outcome == "failed"
    tamper(path, lambda raw: raw["data"].update(fingerprint="g"))
    [finding] = audited(tmp_path, candidates([study], tmp_path, MACHINE)[:1])
    assert (finding.outcome, finding.reason) == (
        "failed",
        "the data is not what the record was made on",
    )


def test_records_of_other_machines_are_no_candidates(recorded, tmp_path):
    study, path = recorded
    tamper(path, lambda raw: raw["provenance"]["machine"].update(num_cores=999))
    assert candidates([study], tmp_path, MACHINE) == []


def test_records_of_other_versions_or_without_a_method_are_no_candidates(
    recorded, tmp_path, monkeypatch
):
    study, _ = recorded
    with monkeypatch.context() as patch:
        patch.setattr(cards, "_registered", [stub_card("stub", version=2), stub_card("other")])
        [found] = candidates([study], tmp_path, MACHINE)
        assert found.trial.model.method == "other"
        patch.setattr(cards, "_registered", [stub_card("stub")])
        assert {c.trial.model.method for c in candidates([study], tmp_path, MACHINE)} == {"stub"}
    monkeypatch.setitem(stub_trials.SOURCE, "version", 2)
    assert candidates([study], tmp_path, MACHINE) == []


def test_a_line_that_is_no_record_is_told(recorded, tmp_path):
    study, path = recorded
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([first[:40], *others]) + "\n")
    told = []
    candidates([study], tmp_path, MACHINE, told.append)
    [warning] = told
    assert warning.startswith(f"{path}:1: ")


def test_only_the_newest_record_of_a_trial_is_a_candidate(recorded, tmp_path):
    study, path = recorded
    kept = record.read(path)[0]
    for old in kept:
        record.append(path, record.parse(dict(old.raw) | {"status": "error"}))
    assert candidates([study], tmp_path, MACHINE) == []


def old_candidates(count):
    """Candidates that took 30 seconds each."""
    found = []
    for i in range(count):
        trial = build_trial(replicate=i)
        old = record.build(
            study="stub",
            trial_id=trial.trial_id,
            settings=trial.to_dict(),
            status="done",
            reason=None,
            started_at="2026-01-01T00:00:00Z",
            versions={},
            payload={"clock": {"wall_seconds": 30.0}},
            provenance={"machine": MACHINE},
        )
        found.append(Candidate(build_study([trial]), old, trial))
    return found


def test_a_seed_repeats_the_draw_and_another_one_draws_others():
    found = old_candidates(20)
    first = draw(found, seed="a", count=5, minutes=None)
    assert first == draw(found, seed="a", count=5, minutes=None)
    assert len(first) == 5
    assert first != draw(found, seed="b", count=5, minutes=None)


@pytest.mark.parametrize(("minutes", "number"), [(2.0, 4), (0.1, 1), (None, 20)])
def test_a_draw_takes_as_many_as_took_so_long_and_at_least_one(minutes, number):
    assert len(draw(old_candidates(20), seed="a", count=None, minutes=minutes)) == number
