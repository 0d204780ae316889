"""From a study's rows to predictions at the shell: `bench run`, `export` and `predict`."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.commands import main
from bench.store import record
from tests.export.models import write_texts

ROOT = Path(__file__).resolve().parents[2]
STUDY = """
from bench import DataSpec, ModelSpec, Study, TrainSpec, Trial


def trials(profile):
    '''Texts.'''
    data = DataSpec(**DATA)
    train = TrainSpec(batch_size=16, learning_rate=0.02, num_epochs=8, keep_best=True)
    models = [
        ModelSpec(method="full_softmax", hidden_dims=(16,)),
        ModelSpec(method="full_softmax", hidden_dims=(24,)),
        ModelSpec(method="centroid"),
        ModelSpec(method="omikuji", encoder="linear"),
    ]
    return [
        Trial(data=data, model=model, train=train, replicate=replicate)
        for model in models for replicate in range(2)
    ]


def study():
    return Study(name="texts", claim=trials.__doc__, trials=trials, smoke=lambda: [])
"""
WIDE = ["--only", "full_softmax", "--where", "hidden_dims=(16,)"]


class Home:
    """Folders of a person, and commands in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        data = write_texts(folder / "data")
        given = {"source": "texts", "name": "texts", "options": dict(data.options)}
        given |= {"feature_weighting": "tfidf", "num_validation_points": 40}
        (folder / "texts.py").write_text(STUDY.replace("**DATA", f"**{given!r}"))
        self.study = str(folder / "texts.py")
        self.options = [f"--{name}={folder / path}" for name, path in self.places.items()]

    places = {"data-dir": "data", "results": "results", "cache-dir": "cache"}  # noqa: RUF012

    def run(self, *options: str) -> int:
        return main(["run", self.study, *options, *self.options])

    def export(self, name: str, *options: str) -> int:
        target = str(self.folder / name)
        return main(["export", self.study, *options, target, *self.options])

    def predict(self, name: str, file: str, *options: str) -> list[dict]:
        out = self.folder / "out.jsonl"
        where = [str(self.folder / name), str(self.folder / "data" / file)]
        assert main(["predict", *where, "--out", str(out), *options]) == 0
        return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]

    def record(self) -> dict:
        (path,) = (self.folder / "results" / "records" / "texts").glob("*.jsonl")
        [found], warnings = record.read(path)
        assert warnings == []
        return dict(found.raw)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    """With the second replicate of a softmax, whose weights are kept as that is asked for."""
    made = Home(tmp_path_factory.mktemp("home"))
    assert made.run(*WIDE, "--shard", "2/2", "--keep-models") == 0
    assert made.export("model", *WIDE, "--replicate", "1") == 0
    return made


def _hits(points: list[dict], home: Home, k: int) -> float:
    """Share of the test file's points whose label is among the k first."""
    with (home.folder / "data" / "test.csv").open(encoding="utf-8", newline="") as stream:
        truth = [row["label"] for row in csv.DictReader(stream)]
    found = [label in point["labels"][:k] for label, point in zip(truth, points, strict=True)]
    return sum(found) / len(found)


def test_predictions_of_the_test_file_score_as_the_record_says(home):
    points = home.predict("model", "test.csv", "-k", "5")
    expected = home.record()
    assert expected["test"]["P@1"] > 0.15
    assert _hits(points, home, 1) == pytest.approx(expected["test"]["P@1"], abs=1e-7)
    assert _hits(points, home, 5) == pytest.approx(expected["test"]["top-5"], abs=1e-7)
    assert points[0]["line"] == 2
    assert all(point["scores"] == sorted(point["scores"], reverse=True) for point in points)
    about = json.loads((home.folder / "model" / "model.json").read_text())
    assert about["record"] == expected


def test_texts_come_in_and_tables_go_out_through_pipes(home):
    texts = "bako mi\n\ntübü\n"
    command = [sys.executable, "-m", "bench", "predict", str(home.folder / "model"), "-"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C", "PYTHONUTF8": "0"}
    answer = subprocess.run(
        [*command, "-k", "2", "--to", "tsv", "--probabilities", "--threads", "1"],
        input=texts.encode(),
        capture_output=True,
        env=environment,
    )
    assert answer.returncode == 0, answer.stderr
    head, *rows = (line.split("\t") for line in answer.stdout.decode().splitlines())
    assert head == ["line", "rank", "label", "score"]
    assert [row[:2] for row in rows] == [[str(a), str(b)] for a in (1, 2, 3) for b in (1, 2)]
    assert all(row[2].startswith("Straße ") and 0 < float(row[3]) < 1 for row in rows)


def test_a_bad_row_ends_the_command_with_its_place_and_leaves_no_file(home, capsys):
    bad, out = home.folder / "data" / "bad.csv", home.folder / "never.tsv"
    bad.write_text("title,body\na,b\nc\n")
    command = ["predict", str(home.folder / "model"), str(bad), "--out", str(out)]
    assert main(command) == 2
    assert f"bench: {bad}, line 3: 1 columns; expected 2" in capsys.readouterr().err
    assert not out.exists()
    assert not list(home.folder.glob(".never*"))
    assert main([*command, "-k", "99"]) == 2
    assert "k is 99; expected 1 to L = 12" in capsys.readouterr().err


def _refused(home: Home, capsys, *options: str) -> str:
    assert home.export("refused", *options) == 2
    assert not (home.folder / "refused").exists()
    return str(capsys.readouterr().err)


def test_a_choice_of_several_rows_names_them(home, capsys):
    text = _refused(home, capsys, "--only", "full_softmax")
    assert "expected one row, by --only and --where; these are 2: " in text
    assert "H=16" in text
    assert "H=24" in text


def test_a_row_that_was_not_run_names_the_command_that_runs_it(home, capsys):
    text = _refused(home, capsys, "--only", "full_softmax", "--where", "hidden_dims=(24,)")
    assert "there is no finished record of it" in text
    assert f"bench run {home.study} --only full_softmax --where 'hidden_dims=(24,)'" in text
    assert "--replicates 1 --keep-models" in text


def test_weights_that_were_not_kept_name_the_command_that_brings_them(home, capsys):
    elsewhere = home.folder / "another-cache"
    command = ["export", home.study, *WIDE, "--replicate", "1", str(home.folder / "refused")]
    command += home.options[:2]
    assert main([*command, "--cache-dir", str(elsewhere)]) == 2
    text = capsys.readouterr().err
    assert f"{elsewhere} holds no weights of trial" in text
    assert "--replicates 2 --keep-models" in text
    assert "--rerun` brings them" in text


def test_replicates_and_methods_that_cannot_be_exported_are_refused(home, capsys):
    text = _refused(home, capsys, *WIDE, "--replicate", "2")
    assert "replicate is 2; expected 0 to 1" in text
    text = _refused(home, capsys, "--only", "omikuji")
    assert "(omikuji) is trained by a library of its own, which alone can predict" in text
    assert main(["export", "decode", "x"]) == 2
    assert "study decode is of decoding; expected one that trains" in capsys.readouterr().err
