from contextlib import contextmanager

import pytest
import torch
from batches import facts, perturb, random_batch

from bench.mach import dense, pruned
from bench.mach.module import Mach, world_subsets
from bench.metrics.modular import RankingMetrics


def _model(**options) -> Mach:
    settings = {"num_buckets": 8, "num_worlds": 4, "hidden_dims": (6,)} | options
    num_labels = settings.pop("labels", 30)
    model = Mach(facts(20, num_labels, settings.pop("task", "multiclass")), **settings)
    perturb(model)
    return model


def test_unbiased_mean_of_true_bucket_probabilities_ranks_the_true_label_first():
    model = _model(num_worlds=8)
    label = 17
    logits = torch.full((1, 8, 8), -20.0)
    logits[0, torch.arange(8), model.table[:, label].long()] = 20.0
    scores, labels = model.decode_logits(logits, 1, estimator="mean")
    assert labels.tolist() == [[label]]
    assert float(scores) == pytest.approx(1.0, abs=1e-5)


def test_a_subset_of_worlds_decodes_as_these_worlds_alone():
    model = _model()
    logits = model.bucket_logits(random_batch(5, 20, 30, "multiclass"))
    scores, labels = model.decode_logits(logits, 3, estimator="mean", worlds=[2, 0])
    probs = torch.softmax(logits, dim=2)
    total = sum(probs[:, world, model.table[world].long()] for world in (2, 0))
    torch.testing.assert_close(scores, (8 * total.gather(1, labels) / 2 - 1) / 7)
    torch.testing.assert_close(total.gather(1, labels), torch.topk(total, 3, dim=1).values)


def test_analysis_reports_every_r_and_every_estimator_and_all_worlds_once():
    model = _model()
    batches = [random_batch(9, 20, 30, "multiclass", seed) for seed in range(2)]
    found = model.analyse(batches, RankingMetrics(ks=(1, 5), task="multiclass"))
    sizes = [row["num_worlds"] for row in found["worlds"]]
    assert sorted(set(sizes)) == [1, 2, 4]
    assert sizes.count(4) == 1
    assert all(row["num_points"] == 18 for row in found["worlds"])
    assert set(found["estimators"]) == {"mean", "min", "median", "logit_sum", "log_mean"}
    assert found["worlds"][-1]["metrics"] == found["estimators"]["mean"]


def test_analysis_prepares_no_index_for_each_subset_of_worlds(monkeypatch):
    model = _model(decode_method="pruned")
    build = pruned.index_of
    tables = []
    monkeypatch.setattr(pruned, "index_of", lambda t, b: tables.append(t) or build(t, b))
    model.analyse(
        [random_batch(9, 20, 30, "multiclass")], RankingMetrics(ks=(1,), task="multiclass")
    )
    assert tables == []
    model.top_k(random_batch(9, 20, 30, "multiclass"), 1)
    assert tables
    assert all(table is model.table for table in tables)


def test_nothing_is_compiled_on_the_decode_clock(monkeypatch):
    # Sizes at which `dense` has all its ways to go: 2²⁰ lookups, and tables of bytes.
    model = _model(labels=1 << 14, num_buckets=16, num_worlds=64)
    ways = ("_single", "_coarse_single", "_tiles", "_coarse")
    taken: list[str] = []
    for way in ways:
        original = getattr(dense._Scan, way)

        def recorded(*arguments, way=way, original=original):
            taken.append(way)
            return original(*arguments)

        monkeypatch.setattr(dense._Scan, way, recorded)

    made_ready: list[int] = []

    @contextmanager
    def clock():
        assert set(taken) == set(ways)
        made_ready.append(len(taken))
        yield

    model.decode_timer = clock
    batch = random_batch(5, 20, 1 << 14, "multiclass")
    model.top_k(batch, 3)
    by_decode = len(taken) - made_ready[0]
    assert by_decode
    model.top_k(batch, 3)
    assert made_ready[1] == made_ready[0] + by_decode  # made ready once
    assert len(taken) == made_ready[1] + by_decode


def test_world_subsets_are_distinct_and_within_range():
    subsets = world_subsets(16, seed=1)
    assert len({tuple(subset) for subset in subsets}) == len(subsets)
    assert {len(subset) for subset in subsets} == {1, 2, 4, 8, 16}
    assert all(0 <= world < 16 for subset in subsets for world in subset)


def test_default_estimator_follows_the_loss():
    assert _model().estimator == "mean"
    assert _model(task="multilabel").estimator == "logit_sum"


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="num_worlds is 0"):
        _model(num_worlds=0)
    with pytest.raises(ValueError, match="'max'"):
        _model(estimator="max")
    with pytest.raises(ValueError, match="share_encoder"):
        _model(share_encoder=True, num_hashed_features=5)
