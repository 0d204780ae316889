import pytest
import torch
from batches import facts, perturb, random_batch
from numba.core.dispatcher import Dispatcher

from bench.mach import estimators
from bench.mach.decode import (
    METHODS,
    auto,
    coarse_kernel,
    dense,
    dense_kernel,
    index,
    kernels,
    label_scores_block,
    pruned,
    pruned_kernel,
)
from bench.mach.decode.index import build_index
from bench.mach.hashing import BalancedHash, Murmur3Hash, build_hash
from bench.mach.head import MachHead
from bench.mach.module import Mach, world_subsets
from bench.metrics.torchmetric import RankingMetrics
from tests.mach.costs import TYPICAL, use_costs


def _model(**options) -> Mach:
    settings = {"num_buckets": 8, "num_worlds": 4, "hidden_dims": (6,)} | options
    num_labels = settings.pop("labels", 30)
    model = Mach(facts(20, num_labels, settings.pop("task", "multiclass")), **settings)
    perturb(model)
    return model


def test_a_subset_of_worlds_decodes_as_these_worlds_alone():
    model = _model()
    logits = model.bucket_logits(random_batch(5, 20, 30, "multiclass"))
    scores, labels = model.head.decode_logits(logits, 3, estimator="mean", worlds=[2, 0])
    probs = torch.softmax(logits, dim=2)
    total = sum(probs[:, world, model.head.table[world].long()] for world in (2, 0))
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
    assert found["worlds"][-1]["metrics"] == found["estimators"]["log_mean"]


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
    assert all(table is model.head.table for table in tables)


def num_compiled() -> int:
    found = 0
    for module in (kernels, dense_kernel, coarse_kernel, pruned_kernel, index):
        compiled = [k for k in vars(module).values() if isinstance(k, Dispatcher)]
        found += sum(len(kernel.signatures) for kernel in compiled)
    return found


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("estimator", ["log_mean", "min", "median"])
@pytest.mark.parametrize("shared", [True, False])
def test_prepared_model_compiles_and_builds_nothing_in_top_k(
    method, estimator, shared, monkeypatch
):
    # Sizes at which `dense` has all its ways to go: 2²⁰ lookups, and tables of bytes.
    num_labels = 1 << 14
    use_costs(TYPICAL)
    chosen = {"decode_method": method, "estimator": estimator, "share_encoder": shared}
    model = _model(labels=num_labels, num_buckets=16, num_worlds=64, **chosen)
    model.prepare_inference(3)
    before = num_compiled()
    assert before > 0
    monkeypatch.setattr(index, "build_index", pytest.fail)
    monkeypatch.setattr(auto, "_fit", pytest.fail)
    taken = set()
    for way in ("_single", "_coarse_single", "_tiles", "_coarse"):
        original = getattr(dense._Scan, way)

        def recorded(*arguments, way=way, original=original):
            taken.add(way)
            return original(*arguments)

        monkeypatch.setattr(dense._Scan, way, recorded)
    with torch.no_grad():
        for scale in (0.0, 30.0):  # labels that are all alike, and some that stand out
            model.head.weight.mul_(scale)
            for num_points in (1, 3, 40):
                model.top_k(random_batch(num_points, 20, num_labels, "multiclass"), 3)
            perturb(model)
    assert num_compiled() == before
    if (method, estimator) == ("dense", "log_mean"):
        assert taken == {"_single", "_coarse_single", "_tiles", "_coarse"}
    use_costs(None)


@pytest.mark.parametrize("encoder", ["linear", "mlp"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_top_k_ranks_the_hidden_vectors_as_the_plain_product_does(encoder, shared, task):
    model = _model(encoder=encoder, share_encoder=shared, task=task)
    batch = random_batch(5, 20, 30, task)
    hidden = model.encode(batch)
    scores, labels = model.rank(hidden, 4)
    for found, expected in zip(model.top_k(batch, 4), (scores, labels), strict=True):
        assert torch.equal(found, expected)
    logits = hidden
    if encoder == "mlp":
        logits = torch.einsum("rnh,rhb->rnb", hidden.expand(4, -1, -1), model.head.weight[:, :-1])
        logits = logits + model.head.weight[:, -1:]
    if task == "multiclass":
        logits = logits.log_softmax(-1)
    total = sum(logits[world][:, model.head.table[world].long()] for world in range(4))
    if task == "multiclass":
        total = total / 4
    torch.testing.assert_close(total.topk(4, dim=1).values, scores)
    torch.testing.assert_close(total.gather(1, labels), scores)


@pytest.mark.parametrize("family", ["balanced", "universal", "murmur3", "odp"])
def test_replicates_draw_their_hashes_anew_unless_a_seed_is_given(family):
    options = {"hash_family": family, "num_hashed_features": 7}
    first, again, other = (_model(seed=seed, **options) for seed in (1, 1, 2))
    assert torch.equal(first.head.table, again.head.table)
    assert not torch.equal(first.head.table, other.head.table)
    assert not torch.equal(first.encoder.feature_table, other.encoder.feature_table)
    fixed = [_model(seed=seed, hash_seed=0, **options) for seed in (1, 2)]
    assert torch.equal(fixed[0].head.table, fixed[1].head.table)
    assert torch.equal(fixed[0].head.table, build_hash(family, 30, 8, 4, 0).table())


def test_described_model_computes_no_table_and_knows_its_bytes(monkeypatch):
    options = {"num_buckets": 300, "num_worlds": 2, "num_hashed_features": 12}
    options["decode_method"] = "pruned"
    real = _model(**options)
    monkeypatch.setattr(BalancedHash, "table", pytest.fail)
    monkeypatch.setattr(Murmur3Hash, "table", pytest.fail)
    monkeypatch.setattr(MachHead, "column_counts", pytest.fail)
    with torch.device("meta"):
        described = Mach(facts(20, 30, "multiclass"), hidden_dims=(6,), **options)
    assert described.decode_bytes() == real.decode_bytes()
    for name, buffer in real.named_buffers():
        shadow = described.get_buffer(name)
        assert shadow.device.type == "meta"
        assert (shadow.shape, shadow.dtype) == (buffer.shape, buffer.dtype)
    shapes = {name: parameter.shape for name, parameter in described.named_parameters()}
    assert shapes == {name: parameter.shape for name, parameter in real.named_parameters()}


@pytest.mark.parametrize("method", list(METHODS))
def test_decode_bytes_count_tables_and_the_index_where_there_is_one(method):
    model = _model(num_buckets=300, decode_method=method)
    expected = 4 * 30 * 2
    if method != "dense":
        expected += build_index(model.head.table, 300).num_bytes
    assert model.decode_bytes() == expected


def test_what_auto_chooses_by_is_told():
    use_costs(TYPICAL)
    assert _model().facts_of_inference() == {}
    told = _model(decode_method="auto").facts_of_inference()["decode_costs"]
    assert auto.Costs(**told) == TYPICAL
    use_costs(None)


def test_world_subsets_are_distinct_and_within_range():
    subsets = world_subsets(16, seed=1)
    assert len({tuple(subset) for subset in subsets}) == len(subsets)
    assert {len(subset) for subset in subsets} == {1, 2, 4, 8, 16}
    assert all(0 <= world < 16 for subset in subsets for world in subset)


def test_default_estimator_follows_the_loss():
    assert _model().head.estimator == "log_mean"
    assert _model(task="multilabel").head.estimator == "logit_sum"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share_encoder": True, "num_hashed_features": 5}, "share_encoder"),
        ({"filter_buckets": 9}, "filter_buckets is 9"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        _model(**options)


@pytest.mark.parametrize("estimator", ["log_mean", "mean", "min"])
def test_one_worlds_best_buckets_filter_what_all_worlds_rank(estimator):
    model = _model(filter_buckets=3, estimator=estimator, num_worlds=3)
    batch = random_batch(6, 20, 30, "multiclass")
    model.prepare_inference(30)
    scores, labels = model.top_k(batch, 30)
    every, order = model.head.decode_logits(model.bucket_logits(batch), 30, estimator=estimator)
    first = model.bucket_logits(batch)[:, 0]
    for point in range(6):
        best = set(first[point].topk(3).indices.tolist())
        is_kept = [int(model.head.table[0, label]) in best for label in order[point].tolist()]
        kept = torch.tensor(is_kept)
        size = int(kept.sum())
        assert labels[point].tolist() == order[point, kept].tolist() + [-1] * (30 - size)
        assert torch.equal(scores[point, :size], every[point, kept])


@pytest.mark.parametrize("estimator", ["log_mean", "median"])
def test_analysis_of_a_filtered_model_finds_labels_as_its_prediction_does(estimator):
    settings = {"filter_buckets": 2, "estimator": estimator, "num_hashed_features": 9}
    model = _model(num_worlds=4, task="multilabel", loss="softmax", **settings)
    batches = [random_batch(9, 20, 30, "multilabel", seed) for seed in range(2)]
    metrics = RankingMetrics(ks=(1, 10), task="multilabel")
    found = model.analyse(batches, metrics)

    def measured(ranker) -> dict[str, float]:
        metrics.reset()
        for batch in batches:
            metrics.update(ranker(batch), batch)
        return {name: float(value) for name, value in metrics.compute().items()}

    predicted = measured(lambda batch: model.top_k(batch, 10)[1])
    assert found["worlds"][-1]["metrics"] == predicted
    assert found["estimators"][estimator] == predicted
    plain = settings | {"filter_buckets": None}
    unfiltered = _model(num_worlds=4, task="multilabel", loss="softmax", **plain)
    unfiltered.load_state_dict(model.state_dict())
    assert measured(lambda batch: unfiltered.top_k(batch, 10)[1]) != predicted
    # A subset of the worlds is filtered by its own first one.
    row = next(row for row in found["worlds"] if row["num_worlds"] == 2)
    worlds = row["worlds"]

    def filtered_by_hand(batch):
        logits = model.bucket_logits(batch)[:, worlds]
        best = logits[:, 0].topk(2).indices
        kept = (model.head.table[worlds[0]].long()[None, :, None] == best[:, None, :]).any(2)
        scores = estimators.bucket_scores(logits, "softmax", estimator)
        total = label_scores_block(
            scores, model.head.table[worlds], estimators.reduction(estimator)
        ).masked_fill(~kept, -torch.inf)
        ranked, labels = total.sort(dim=1, descending=True, stable=True)
        return labels.masked_fill(torch.isneginf(ranked), -1)[:, :10]

    assert row["metrics"] == measured(filtered_by_hand)


def test_weights_of_another_hash_are_refused_with_both_values():
    trained = _model(hash_seed=1, num_hashed_features=9)
    for changes, message in (
        ({"hash_seed": 2}, "hash seed is 2, in the loaded weights 1; expected the same"),
        ({"hash_family": "murmur3"}, "hash family is 'murmur3', in the loaded weights 'balanced'"),
        ({"first_world": 1}, "hash worlds is"),
        ({"loss": "bce"}, "loss is 'bce', in the loaded weights 'softmax'"),
    ):
        other = _model(**({"hash_seed": 1, "num_hashed_features": 9} | changes))
        before = {name: value.clone() for name, value in other.state_dict().items()}
        with pytest.raises(ValueError, match=message):
            other.load_state_dict(trained.state_dict())
        assert all(torch.equal(v, before[n]) for n, v in other.state_dict().items())
    same = _model(hash_seed=1, num_hashed_features=9, seed=5)
    same.load_state_dict(trained.state_dict())
    batch = random_batch(5, 20, 30, "multiclass")
    assert torch.equal(same.bucket_logits(batch), trained.bucket_logits(batch))


def test_weights_without_a_word_on_their_hash_are_taken_where_asked_for():
    trained, other = _model(hash_seed=1), _model(hash_seed=2)
    plain = {n: v for n, v in trained.state_dict().items() if n != "_extra_state"}
    with pytest.raises(RuntimeError, match="_extra_state"):
        other.load_state_dict(plain)
    other.load_state_dict(plain, strict=False)
