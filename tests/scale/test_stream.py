"""The stream of queries: the same however it is read, Zipfian, and its products tell themselves."""

import math

import pytest
import torch

from bench.experiments.scale.stream import QueryStream
from bench.settings import SettingsError


def stream(**changes):
    queries = {"num_train_queries": 20_000, "num_test_queries": 500}
    return QueryStream(**(queries | {"num_features": 3000, "num_labels": 1000} | changes))


def read(of, split, batch_size):
    batches = list(of.batches(split, batch_size))
    return (
        torch.cat([batch.label_ids for batch in batches]),
        torch.cat([batch.feature_ids for batch in batches]),
        [batch.num_points for batch in batches],
    )


def test_queries_do_not_depend_on_the_batches_they_are_read_in():
    labels, tokens, sizes = read(stream(), "train", 3000)
    assert sizes == [3000] * 6 + [2000]
    others, other_tokens, _ = read(stream(), "train", 777)
    assert torch.equal(labels, others)
    assert torch.equal(tokens, other_tokens)


def test_splits_and_seeds_are_drawn_apart():
    first = next(stream().batches("test", 500)).label_ids
    assert not torch.equal(first, next(stream().batches("train", 500)).label_ids)
    assert not torch.equal(first, next(stream(seed=1).batches("test", 500)).label_ids)


def test_label_counts_are_those_of_the_training_queries():
    of = stream(num_train_queries=9000)
    labels, _, _ = read(of, "train", 4096)
    assert torch.equal(of.label_counts(), torch.bincount(labels, minlength=1000))


def test_products_are_asked_for_by_zipfs_law():
    of = stream()
    counts = of.label_counts().sort(descending=True).values.double() / 20_000
    for rank in (0, 1, 2, 9):
        expected = math.log((rank + 2) / (rank + 1)) / math.log(1001)
        error = 4 * math.sqrt(expected / 20_000)
        assert abs(float(counts[rank]) - expected) < error + 0.002  # ranks are those of the draw
    # Product numbers say nothing of sales.
    heavy = of.label_counts().topk(20).indices
    assert int(heavy.max()) > 500


def test_a_query_is_a_valid_batch_of_unit_norm():
    of = stream(tokens_per_query=5)
    batch = next(of.batches("train", 64))
    rows = batch.feature_ids.view(64, 5)
    assert bool((rows[:, 1:] >= rows[:, :-1]).all())
    assert 0 <= int(rows.min()) <= int(rows.max()) < 3000
    assert torch.allclose(batch.feature_values.view(64, 5).square().sum(1), torch.ones(64))
    assert torch.equal(batch.label_point_ids, torch.arange(64))


def test_tokens_are_the_products_own_as_often_as_told():
    of = stream(num_features=1_000_000, signal=0.75, signature_size=4)
    labels, tokens, _ = read(of, "train", 8192)
    tokens = tokens.view(-1, of.tokens_per_query)
    common = labels.mode().values
    own = tokens[labels == common]
    # Its own features are few; those of the background hardly ever meet one of them.
    seen, counts = own.flatten().unique(return_counts=True)
    share = float(counts.topk(4).values.sum()) / own.numel()
    assert abs(share - 0.75) < 0.05
    assert len(seen) > 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_labels": 0}, "num_labels is 0"),
        ({"signal": 0.0}, "signal is 0.0"),
        ({"num_train_queries": 0}, "0 training"),
        ({"num_labels": 2**30}, "keys of the hash"),
    ],
)
def test_impossible_sizes_are_refused(changes, said):
    with pytest.raises(SettingsError, match=said):
        stream(**changes)


def test_the_stream_gives_what_its_version_stands_for():
    """Whoever changes these numbers raises `bench.data.sources.STREAM_VERSION`."""
    batch = next(stream().batches("train", 4))
    assert batch.label_ids.tolist() == [334, 600, 394, 394]
    assert batch.feature_ids[:8].tolist() == [12, 109, 109, 109, 109, 255, 542, 2540]
