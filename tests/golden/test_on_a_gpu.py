"""What only a CUDA device can show; left out where there is none."""

from __future__ import annotations

import json
import math
import statistics
import warnings

import golden
import pytest
import torch

from bench.mach.decode import dense, top_k_reference
from bench.mach.hashing import build_hash
from bench.nn.losses import build_positives, chunked_loss
from bench.nn.ranking import exact_top_k, top_k_of_product

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

# A device draws dropout and samples of its own: such runs are near those on a processor, not equal.
DRAWN = ("feature_dropout", "sampler")


@pytest.mark.parametrize("method", golden.CASES)
def test_method_trains_as_on_a_processor(method):
    pinned = json.loads(golden.golden_path(method).read_text())["cases"]
    told = []
    for name, trial in golden.trials(method):
        found = golden.run(trial, "gpu")
        expected = pinned[name]
        is_drawn = bool(trial.model.options.keys() & set(DRAWN))
        pairs = list(zip(expected["losses"], found["losses"], strict=True))
        if is_drawn:
            pairs = [tuple(statistics.mean(losses) for losses in zip(*pairs, strict=True))]
        for old, new in pairs:
            if not math.isclose(old, new, rel_tol=0.1 if is_drawn else 0.01):
                told.append(f"{name}: loss was {old:.5g}, is {new:.5g}")
        # Of so few steps, P@1 differs by 0.2 between draws.
        if not is_drawn and abs(expected["test"]["P@1"] - found["test"]["P@1"]) > 0.02:
            told.append(f"{name}: P@1 was {expected['test']['P@1']}, is {found['test']['P@1']}")
    assert not told


def _waits(kind, points_per_chunk):
    """How often forward and backward wait for the device."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, 256, 16, generator=generator).cuda().requires_grad_()
    weight = torch.randn(1, 3000, 16, generator=generator).cuda().requires_grad_()
    columns = torch.randint(3000, (1, 256), generator=generator).cuda()
    points = torch.arange(256).cuda()
    positives = build_positives(columns, torch.arange(257).cuda(), points, 3000, kind)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loss = chunked_loss(hidden, weight, positives, kind, points_per_chunk=points_per_chunk)
            loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return len([each for each in caught if "synchroniz" in str(each.message)])


def test_more_chunks_wait_for_the_device_no_more_often():
    _waits("softmax", 128)
    assert _waits("softmax", 16) == _waits("softmax", 128) <= 2
    assert _waits("bce", None) <= 2


@pytest.mark.parametrize("reduction", ["sum", "min", "median"])
@pytest.mark.parametrize("k", [1, 5, 100])
def test_compiled_scan_equals_the_reference(reduction, k):
    scores = torch.randn(37, 8, 500, generator=torch.Generator().manual_seed(0))
    table = build_hash("balanced", 60_000, 500, 8, 0).table()
    found = dense.top_k(scores.cuda(), table.cuda(), k, reduction)
    expected = top_k_reference(scores, table, k, reduction=reduction)
    assert torch.equal(found[1].cpu(), expected[1])
    torch.testing.assert_close(found[0].cpu(), expected[0], rtol=1e-6, atol=1e-6)


def test_equal_scores_go_to_the_smaller_label():
    assert (
        exact_top_k(torch.zeros(3, 50_000, device="cuda"), 5)[1].tolist() == [[0, 1, 2, 3, 4]] * 3
    )
    hidden, weight = torch.ones(300, 4).cuda(), torch.zeros(1_000_000, 4).cuda()
    labels = top_k_of_product(hidden, weight, torch.zeros(1_000_000).cuda(), 3)[1]
    assert labels.unique(dim=0).tolist() == [[0, 1, 2]]
