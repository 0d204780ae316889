import dataclasses

from bench.data.prepared import load_dataset
from bench.measure.experiment import Context
from bench.runner.run import prepare_apart
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial
from tests.data.rows import planted


def _trial(seed: int) -> Trial:
    options = planted(50, 10, 80, 5, seed=seed)
    data = DataSpec(source="planted", name="planted", options=options, num_validation_points=5)
    model = ModelSpec(method="frequency", encoder="linear")
    return Trial(data=data, model=model, train=TrainSpec())


def test_prepared_data_is_found_in_the_cache_and_not_built_again(tmp_path, monkeypatch):
    trials = [_trial(0), dataclasses.replace(_trial(0), replicate=1), _trial(1)]
    prepare_apart(trials, Context(data_dir=tmp_path, cache_dir=tmp_path / "cache"), print)

    def refuse(*args):
        raise AssertionError("built again")

    monkeypatch.setattr("bench.data.prepared.load_raw", refuse)
    for trial in trials:
        assert load_dataset(trial.data, tmp_path, tmp_path / "cache").num_labels == 5


def test_bad_data_is_left_to_the_trials_to_report(tmp_path):
    options = {"train": "missing.txt", "test": "missing.txt"}
    data = DataSpec(source="xmlrepo", name="bad", options=options)
    context = Context(data_dir=tmp_path, cache_dir=tmp_path / "cache")
    prepare_apart([dataclasses.replace(_trial(0), data=data)], context, print)


def test_a_damaged_entry_is_built_again_and_the_person_is_told(tmp_path):
    trials, cache = [_trial(0)], tmp_path / "cache"
    context = Context(data_dir=tmp_path, cache_dir=cache)
    prepare_apart(trials, context, print)
    [path] = cache.glob("*/validation_features.values.npy")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    notes: list[str] = []
    prepare_apart(trials, context, notes.append)
    [note] = notes
    assert note.endswith("is built again: validation_features.values.npy is not as it was written")
    assert path.read_bytes() == content
