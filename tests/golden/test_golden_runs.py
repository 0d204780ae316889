"""Behaviour is pinned: whoever changes a number raises a version, and records become stale."""

from __future__ import annotations

import json

import golden
import pytest

from bench.methods.card import TRAINING_ENTRY
from bench.methods.cards import cards


@pytest.mark.parametrize("method", golden.CASES)
def test_method_behaves_as_its_version_did(method):
    pinned = json.loads(golden.golden_path(method).read_text())
    told = []
    for name, trial in golden.trials(method):
        told += [
            f"{name}: {text}"
            for text in golden.differences(pinned["cases"][name], golden.run(trial))
        ]
    assert not told, (
        f"{method} gives other numbers than at version {pinned['versions']}: {told[:5]}. If that "
        "is meant, raise the version on its card (in `option_versions` where one value of an "
        "option changed), or in bench/methods/cards.py where the change is in what "
        "all methods share or in how answers are scored; then `python tests/golden/golden.py` "
        "pins them anew"
    )
    assert pinned["versions"] == golden.versions(method), (
        "a version was raised; `python tests/golden/golden.py` pins the numbers of the new one"
    )


def test_every_method_is_pinned():
    own = {card.name for card in cards() if card.entry == TRAINING_ENTRY}
    assert own == set(golden.CASES)


def test_a_loss_that_is_one_per_cent_larger_is_noticed():
    pinned = json.loads(golden.golden_path("mach").read_text())["cases"]["multiclass shared"]
    changed = {**pinned, "losses": [1.01 * loss for loss in pinned["losses"]]}
    assert golden.differences(pinned, pinned) == []
    assert len(golden.differences(pinned, changed)) == len(pinned["losses"])


def test_only_what_a_raised_version_is_of_may_be_pinned_anew():
    cases = dict(golden.trials("sampled_softmax"))
    now = golden.versions("sampled_softmax")
    assert now["sampler=in_batch"] == 2
    old = dict.fromkeys(now, 1) | {"psp": now["psp"]}
    in_batch, uniform = cases["multilabel in_batch"], cases["multilabel uniform"]
    loss, psp = "losses[0] was 1, is 2", "PSP@1 was 1, is 2"
    assert golden.may_change(loss, in_batch, old)
    assert not golden.may_change(loss, uniform, old)
    assert not golden.may_change(psp, uniform, old)
    assert golden.may_change(psp, uniform, now | {"psp": 1})
    assert not golden.may_change(loss, uniform, now | {"psp": 1})
    assert not golden.may_change(loss, in_batch, now)
