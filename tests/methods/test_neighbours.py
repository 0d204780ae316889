"""Cosine kNN against a dense product."""

import numpy as np
import pytest
import torch

from baselines.neighbours import NearestNeighbours
from bench.data.batch import Batch
from bench.nn.classifier import DataFacts
from bench.nn.ranking import UnrankableError

D, L = 30, 11


def _batch(num_points, rng, *, low=1):
    lengths = rng.integers(low, 6, num_points)
    ids = [np.sort(rng.choice(D, n, replace=False)) for n in lengths]
    counts = rng.integers(1, 4, num_points)
    labels = [np.sort(rng.choice(L, n, replace=False)) for n in counts]
    return Batch(
        feature_offsets=torch.from_numpy(np.r_[0, np.cumsum(lengths)]),
        feature_ids=torch.from_numpy(np.concatenate(ids)),
        feature_values=torch.from_numpy(rng.random(lengths.sum()).astype(np.float32) + 0.1),
        label_offsets=torch.from_numpy(np.r_[0, np.cumsum(counts)]),
        label_ids=torch.from_numpy(np.concatenate(labels)),
    )


def _dense(batch):
    rows = np.zeros((batch.num_points, D))
    points = np.repeat(np.arange(batch.num_points), batch.feature_offsets.diff())
    rows[points, batch.feature_ids] = batch.feature_values
    return rows


def _model(batches, num_neighbours, **options):
    counts = torch.bincount(torch.cat([batch.label_ids for batch in batches]), minlength=L)
    num_points = sum(batch.num_points for batch in batches)
    facts = DataFacts(
        num_features=D,
        num_labels=L,
        task="multilabel",
        label_counts=counts,
        num_train_points=num_points,
    )
    model = NearestNeighbours(facts, num_neighbours=num_neighbours, **options)
    model.fit_closed_form(batches)
    return model


@pytest.mark.parametrize(
    ("num_neighbours", "exponent"), [(1, 1.0), (5, 1.0), (1000, 1.0), (5, 0.0), (5, 2.5)]
)
def test_votes_are_those_of_a_dense_product(num_neighbours, exponent):
    rng = np.random.default_rng(num_neighbours)
    train = [_batch(40, rng), _batch(25, rng)]
    queries = _batch(30, rng, low=0)
    rows = np.concatenate([_dense(batch) for batch in train])
    cosines = _dense(queries) @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T
    near = np.argsort(-cosines.astype(np.float32), axis=1, kind="stable")[:, :num_neighbours]
    held = np.zeros((len(rows), L))
    start = 0
    for batch in train:
        held[start + batch.label_point_ids.numpy(), batch.label_ids.numpy()] = 1
        start += batch.num_points
    weights = np.sign(cosines) * np.abs(cosines) ** exponent
    votes = np.stack([weights[i, near[i]] @ held[near[i]] for i in range(len(near))])
    model = _model(train, num_neighbours, exponent=exponent)
    scores, labels = model.top_k(queries, 4)
    expected = np.take_along_axis(votes, labels.numpy(), axis=1)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        scores.numpy(), -np.sort(-votes, axis=1)[:, :4], rtol=1e-4, atol=1e-6
    )
    again = _model(train, num_neighbours, exponent=exponent)
    again.set_extra_state(model.get_extra_state())
    assert all(
        torch.equal(a, b) for a, b in zip(again.top_k(queries, 4), (scores, labels), strict=True)
    )
    assert model.decode_bytes() > 8 * len(rows)


def test_what_is_near_nothing_gets_the_smallest_labels():
    rng = np.random.default_rng(0)
    query = Batch(
        feature_offsets=torch.tensor([0, 0]),
        feature_ids=torch.zeros(0, dtype=torch.int64),
        feature_values=torch.zeros(0),
        label_offsets=torch.tensor([0, 1]),
        label_ids=torch.tensor([3]),
    )
    scores, labels = _model([_batch(20, rng)], 5).top_k(query, 3)
    assert scores.tolist() == [[0.0, 0.0, 0.0]]
    assert labels.tolist() == [[0, 1, 2]]


def test_a_value_that_is_no_number_is_refused():
    rng = np.random.default_rng(0)
    train = _batch(20, rng)
    query = _batch(2, rng)
    query.feature_values[:] = torch.nan
    with pytest.raises(UnrankableError):
        _model([train], 5).top_k(query, 3)


def test_a_vote_keeps_the_sign_of_its_cosine():
    rng = np.random.default_rng(0)
    train = _batch(20, rng)
    train.feature_values[:] = -train.feature_values
    query = _batch(5, rng)
    plain, halved = (_model([train], 20, exponent=power).top_k(query, L)[0] for power in (1, 0.5))
    assert (plain <= 0).all()
    assert (halved <= 0).all()
    assert not torch.equal(plain, halved)
