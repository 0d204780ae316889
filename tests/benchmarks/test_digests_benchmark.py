from stub_trials import build_trial

from bench.data import cache
from bench.settings import DataSpec
from bench.store import record
from tests.benchmarks.digests import open_seconds, trial_seconds


def test_first_openings_recompute_digests_and_later_ones_do_not(tmp_path, monkeypatch):
    options = {
        "num_train_points": 50,
        "num_test_points": 10,
        "num_features": 80,
        "num_labels": 5,
    }
    spec = DataSpec(source="planted", name="planted", options=options, num_validation_points=5)
    read = []
    digest = cache.file_digest

    def watched(path):
        read.append(path.name)
        return digest(path)

    open_seconds(spec, tmp_path, tmp_path / "cache", 1)
    monkeypatch.setattr(cache, "file_digest", watched)
    times = open_seconds(spec, tmp_path, tmp_path / "cache", 3)
    assert read.count("train_features.ids.npy") == 3  # of six openings
    assert min(times) > 0


def test_a_trials_time_is_the_median_of_the_finished_ones(tmp_path):
    assert trial_seconds(tmp_path, "stub") is None
    for seconds, status in ((1.0, "done"), (3.0, "done"), (8.0, "done"), (100.0, "error")):
        made = record.build(
            study="stub",
            trial_id=build_trial().trial_id,
            settings=build_trial().to_dict(),
            status=status,
            reason=None if status == "done" else "why",
            started_at="2026-01-01T00:00:00Z",
            versions={"method": 1, "source": 1, "protocol": 1},
            payload={"clock": {"wall_seconds": seconds}},
            provenance={"commit": None, "is_dirty": None, "machine": {"cpu": "c"}},
        )
        record.append(tmp_path / "records" / "stub" / "m.jsonl", made)
    assert trial_seconds(tmp_path, "stub") == 3.0
