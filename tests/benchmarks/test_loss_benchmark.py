import json

import pytest
import torch

from tests.benchmarks import losses
from tests.benchmarks.losses import Problem, Shape, check, contestants, gradients

SMALL = (
    Shape("softmax", 70, 5, 31),
    Shape("bce", 9, 5, 31),
    Shape("softmax", 9, 5, 31, 3),
    Shape("bce", 9, 5, 31, 3, is_shared=True),
)


@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_all_contestants_agree_in_value_and_gradients(shape):
    problem = Problem(shape)
    # Two of a point's ten labels may fall on one column, which dense targets hold once as well.
    check(contestants(problem), problem)


def test_a_contestant_that_is_off_is_refused():
    problem = Problem(SMALL[0])
    found = contestants(problem)
    found["wrong"] = lambda hidden, weight, bias: found["ours, plain"](hidden, weight, 1.01 * bias)
    with pytest.raises(ValueError, match="wrong at softmax"):
        check(found, problem)


def test_a_torch_without_fused_loss_has_the_other_contestants(monkeypatch):
    with_it = set(contestants(Problem(SMALL[0])))
    monkeypatch.delattr(torch.nn, "LinearCrossEntropyOptions", raising=False)
    without = set(contestants(Problem(SMALL[0])))
    assert without == {name for name in with_it if "linear_cross_entropy" not in name}
    assert {"torch cross_entropy", "ours, plain"} <= without


def test_table_and_raw_seconds_are_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(losses, "SHAPES", SMALL[:2])
    losses.main(["--out", str(tmp_path), "--rounds", "3"])
    written = json.loads((tmp_path / "losses.json").read_text())
    assert [row["shape"]["kind"] for row in written["results"]] == ["softmax", "bce"]
    times = written["results"][1]["seconds"]
    assert set(times) == set(contestants(Problem(SMALL[1])))
    assert all(len(seconds) == 3 and min(seconds) > 0 for seconds in times.values())
    text = (tmp_path / "losses.md").read_text()
    printed = capsys.readouterr().out
    assert all(line in printed for line in text.splitlines())
    assert text.count("| 1.00 |") >= 2  # the best of each shape, to itself


def test_gradients_come_in_the_order_of_the_inputs():
    problem = Problem(SMALL[2])
    _, found = gradients(contestants(problem)["ours"], problem)
    assert [grad.shape for grad in found] == [tensor.shape for tensor in problem.inputs]
