"""Worlds trained apart, by `bench run --worlds`, and merged to the model of them all."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from bench.cli.commands import main
from bench.data.cache import file_digest, sealed
from bench.export.folder import ModelError, read_tensors
from bench.export.merge import merge_models
from bench.export.predictor import Predictor
from bench.mach.card import worlds_of
from bench.settings import ModelSpec, SettingsError

STUDY = """
from bench import DataSpec, ModelSpec, Study, TrainSpec, Trial


def trials(profile):
    '''Lines of JSON.'''
    data = DataSpec(source="texts", name="mine", feature_weighting="tfidf",
                    options={"train": "train.jsonl", "test": "test.jsonl"},
                    num_validation_points=40)
    train = TrainSpec(batch_size=16, learning_rate=0.02, num_epochs=2)
    common = {"num_buckets": 8, "num_worlds": 4}
    models = [{}, {"share_encoder": True}, MORE]
    specs = [ModelSpec(method="full_softmax", hidden_dims=(8,))]
    specs += [ModelSpec(method="mach", hidden_dims=(8,), options=common | each) for each in models]
    return [Trial(data=data, model=model, train=train) for model in specs]


def study():
    return Study(name="mine", claim=trials.__doc__, trials=trials, smoke=lambda: [])
"""


def write_lines(folder: Path, *, seed: int = 0) -> None:
    folder.mkdir(parents=True)
    rng = random.Random(seed)
    words = [f"w{number}" for number in range(60)]
    for name, count in (("train.jsonl", 300), ("test.jsonl", 60)):
        lines = []
        for _ in range(count):
            label = rng.randrange(20)
            text = " ".join([words[3 * label + rng.randrange(3)], *rng.choices(words, k=3)])
            lines.append(json.dumps({"text": text, "label": f"l{label}"}))
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


class Home:
    """Folders of a person, and commands in them."""

    def __init__(self, folder: Path, more: str = '{"loss": "bce"}') -> None:
        self.folder = folder
        write_lines(folder / "data")
        (folder / "mine.py").write_text(STUDY.replace("MORE", more))

    def command(self, name: str, *options: str, out: str = "") -> int:
        places = [f"--{n}={self.folder / n}" for n in ("results", "cache-dir")]
        places.append(f"--data-dir={self.folder / 'data'}")
        target = [str(self.folder / out)] if out else []
        return main([name, str(self.folder / "mine.py"), *options, *target, *places])

    def part(self, name: str, worlds: str, *options: str) -> Path:
        """A part that is trained and exported."""
        chosen = ["--only=mach", *(options or ("--where=loss=bce",)), "--worlds", worlds]
        assert self.command("run", *chosen) == 0
        assert self.command("export", *chosen, out=name) == 0
        return self.folder / name


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    """With the parts 0:1, 1:4 and 2:4, and the whole row."""
    made = Home(tmp_path_factory.mktemp("home"))
    for name, worlds in (("a", "0:1"), ("b", "1:4"), ("c", "2:4")):
        made.part(name, worlds)
    whole = ["--only=mach", "--where=loss=bce"]
    assert made.command("run", *whole) == 0
    assert made.command("export", *whole, out="whole") == 0
    return made


def answers(model: Path, home: Home):
    found = Predictor.load(model).predict(home.folder / "data" / "test.jsonl", 5)
    return [(labels, scores) for _, labels, scores in found]


def test_merged_parts_predict_as_the_model_that_is_trained_at_once(home):
    merged = home.folder / "merged"
    assert main(["merge", *(str(home.folder / name) for name in "ba"), str(merged)]) == 0
    one, other = answers(merged, home), answers(home.folder / "whole", home)
    assert len(one) == 60
    for (labels, scores), (names, wanted) in zip(one, other, strict=True):
        assert scores == pytest.approx(wanted, abs=1e-6, rel=1e-6)
        assert labels == names
    weights = [read_tensors(home.folder / n / "weights.safetensors") for n in ("merged", "whole")]
    assert weights[0].keys() == weights[1].keys()
    about, whole = (json.loads((home.folder / n / "model.json").read_text())
                    for n in ("merged", "whole"))  # fmt: skip
    assert about["identity"] == whole["identity"]
    assert about["settings"] == whole["settings"]
    assert [part["record"]["status"] for part in about["parts"]] == ["done", "done"]


def test_records_of_parts_lie_apart_from_the_studys_rows(home):
    lines = {
        folder: [json.loads(line) for path in (home.folder / folder / "records" / "mine").iterdir()
                 for line in path.read_text().splitlines()]
        for folder in ("results", "results/worlds")
    }  # fmt: skip
    worlds = [line["settings"]["model"]["options"] for line in lines["results/worlds"]]
    assert [(each.get("first_world"), each["num_worlds"]) for each in worlds] == [
        (None, 1), (1, 3), (2, 2),
    ]  # fmt: skip
    assert len(lines["results"]) == 1


def _wrong(home: Home, *parts: Path) -> str:
    with pytest.raises(ModelError) as refused:
        merge_models(parts, home.folder / "never")
    assert not (home.folder / "never").exists()
    return str(refused.value)


def test_doubled_and_missing_worlds_are_listed(home):
    a, b, c = (home.folder / name for name in "abc")
    said = _wrong(home, b, c)
    assert f"world 2 is in {b} and in {c}; expected each once" in said
    assert f"world 3 is in {b} and in {c}" in said
    assert "worlds 0 of 0:4 are in none" in said
    assert "worlds 1 of 0:4 are in none" in _wrong(home, a, c)
    assert f"world 0 is in {a} and in {a}; expected each once" in _wrong(home, a, b, a)


def _told_otherwise(home: Home, name: str, **changes: object) -> Path:
    """A copy of a part that says otherwise of itself, with a vocabulary of its own."""
    copy = home.folder / "otherwise"
    shutil.copytree(home.folder / name, copy)
    with (copy / "vocabulary.txt").open("a") as words:
        words.write("new\n")
    about = json.loads((copy / "model.json").read_text())
    del about["seal"]
    about["sha256"]["vocabulary.txt"] = file_digest(copy / "vocabulary.txt")
    about["part_of"]["train"]["learning_rate"] = 0.5
    about["identity"]["hash seed"] = 7
    (copy / "model.json").write_text(sealed(about | {"fingerprint": "f"}))
    return copy


def test_all_that_another_trial_hash_data_and_vocabulary_differ_in_is_listed(home):
    a = home.folder / "a"
    other = _told_otherwise(home, "b")
    said = _wrong(home, a, other).removeprefix("the parts make no model: ").split("; ")
    assert f"{other}: trial train learning_rate is 0.5, in {a} 0.02" in said
    assert any(f"{other}: data fingerprint is 'f', in {a} " in line for line in said)
    assert any(f"{other}: identity hash seed is 7, in {a} " in line for line in said)
    assert any(f"{other}: SHA-256 of vocabulary.txt is " in line for line in said)
    assert len(said) == 4


def test_a_model_without_worlds_is_refused(home):
    assert home.command("run", "--only=full_softmax") == 0
    assert home.command("export", "--only=full_softmax", out="softmax") == 0
    assert "is of full_softmax; expected MACH" in _wrong(home, home.folder / "softmax")


def test_worlds_of_a_shared_encoder_are_refused_by_the_rows_name(home, capsys):
    assert home.command("run", "--only=mach", "--worlds", "0:2", "--dry-run") == 2
    said = capsys.readouterr().err
    assert "MACH, H=8, B=8, R=4, shared encoder" in said
    assert "share_encoder is True, and worlds of one encoder are trained together" in said
    assert "expected share_encoder=False, or all worlds on one machine" in said


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (["--only=mach", "--where=loss=bce", "--worlds", "2:5"], "expected a:b with 0 ≤ a < b ≤ 4"),
        (["--only=full_softmax", "--worlds", "0:1"], "has worlds; expected one of mach"),
    ],
)
def test_worlds_that_a_row_has_not_are_refused(chosen, said, home, capsys):
    assert home.command("run", *chosen, "--dry-run") == 2
    assert said in capsys.readouterr().err


def test_a_part_of_a_part_keeps_its_numbers():
    spec = ModelSpec(method="mach", options={"num_buckets": 4, "num_worlds": 6, "first_world": 2})
    assert worlds_of(spec, 4, 7).options["first_world"] == 4
    assert "first_world" not in worlds_of(ModelSpec(method="mach", options={
        "num_buckets": 4, "num_worlds": 6}), 0, 2).options  # fmt: skip
    with pytest.raises(SettingsError, match="expected a:b with 2 ≤ a < b ≤ 8"):
        worlds_of(spec, 0, 3)
