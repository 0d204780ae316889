"""MACH's worlds on several devices end as on one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import worlds_on_devices
from planted import build, facts, mach, trainer

import bench
from bench.mach.merge import give_worlds, worlds_of
from bench.runner.child import TRIAL_ENVIRONMENT
from bench.settings import SettingsError

_REPOSITORY = Path(__file__).parents[2]
# Products of fewer worlds at once may add up in another order.
_ROUNDING = {"rtol": 1e-4, "atol": 1e-5}


def test_worlds_on_two_devices_end_as_on_one(tmp_path):
    environment = os.environ | TRIAL_ENVIRONMENT
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(_REPOSITORY)}
    for devices in "12":
        command = [sys.executable, worlds_on_devices.__file__, str(tmp_path), devices]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (torch.load(tmp_path / f"{count}.pt", weights_only=True) for count in "12")
    for name, (options, _) in worlds_on_devices.CASES.items():
        mine, theirs = two[name], one[name]
        for parameter, value in theirs["weights"].items():
            torch.testing.assert_close(mine["weights"][parameter], value, **_ROUNDING)
        curves = [each["training"].pop("curve") for each in (mine, theirs)]
        assert mine["training"] == theirs["training"]
        for own, alone in zip(*curves, strict=True):
            assert own.pop("metrics") == pytest.approx(alone.pop("metrics"), abs=1e-6)
            assert own == pytest.approx(alone, rel=1e-5)
        assert mine["metrics"] == pytest.approx(theirs["metrics"], abs=1e-6)
        for file in ("middle.ckpt", "end.ckpt"):
            kept = bench.Mach.load_from_checkpoint(tmp_path / f"{name}-2" / file)
            alone = bench.Mach.load_from_checkpoint(tmp_path / f"{name}-1" / file)
            assert kept.head.num_worlds == options["num_worlds"]
            for parameter, value in alone.state_dict().items():
                torch.testing.assert_close(kept.state_dict()[parameter], value, **_ROUNDING)


@pytest.mark.parametrize("options", [{}, {"num_hashed_features": 12}, {"update": "row_adagrad"}])
def test_a_part_of_worlds_is_a_model_of_them(options, tmp_path):
    known = facts(tmp_path)
    whole, part = mach(known, **options), mach(known, num_worlds=2, first_world=1, **options)
    every = worlds_of(whole)
    before = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    give_worlds(whole, every.part(1, 3))
    assert dict(whole.hparams) == dict(part.hparams)
    for name, tensor in part.state_dict().items():
        assert torch.equal(whole.state_dict()[name], tensor)
    assert whole.head.lean is None or whole.head.lean.seeds == part.head.lean.seeds
    give_worlds(whole, every)
    for name, tensor in before.items():
        assert torch.equal(whole.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("name", "model_options", "options", "message"),
    [
        ("full_softmax", {}, {}, "FullSoftmax has no worlds with encoders of their own"),
        ("mach", {"share_encoder": True}, {}, "expected a MACH with share_encoder=False"),
        ("mach", {"num_worlds": 1}, {}, "num_worlds is 1; expected at least one for each of 2"),
        ("mach", {}, {"gradient_clip_val": 0.5}, "expected gradient_clip_algorithm='value'"),
    ],
)
def test_what_cannot_be_split_is_refused(
    name, model_options, options, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(bench.WorldsStrategy, "world_size", 2)
    model = build(name, facts(tmp_path), **model_options)
    fitted = trainer(strategy=bench.WorldsStrategy(), **options)
    fitted.strategy.connect(model)
    with pytest.raises(SettingsError, match=message):
        fitted.strategy._take_part(fitted)


def test_recipes_refuse_no_devices():
    with pytest.raises(ValueError, match="devices is 0; expected at least 1"):
        bench.recipe(bench.TrainSpec(num_epochs=1), devices=0)
