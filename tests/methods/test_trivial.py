import numpy as np
import torch
from batches import facts, random_batch

from baselines.trivial import ClassFrequency, NearestCentroid


def test_frequency_ranks_labels_by_training_points_and_ties_by_label():
    model = ClassFrequency(facts(20, 6, "multilabel"))
    batches = [random_batch(9, 20, 6, "multilabel", seed) for seed in range(3)]
    model.fit_closed_form(batches)
    counts = np.bincount(np.concatenate([b.label_ids.numpy() for b in batches]), minlength=6)
    expected = np.lexsort((np.arange(6), -counts))[:4]
    scores, labels = model.top_k(batches[0], 4)
    assert labels.tolist() == [expected.tolist()] * 9
    assert scores[0].tolist() == counts[expected].tolist()


def test_centroid_equals_dense_cosine_to_the_sum_of_a_labels_points():
    batches = [random_batch(40, 20, 6, "multilabel", seed) for seed in range(3)]
    model = NearestCentroid(facts(20, 6, "multilabel"))
    model.fit_closed_form(batches)
    sums = np.zeros((6, 20))
    for batch in batches:
        dense = _dense(batch)
        for label, point in zip(
            batch.label_ids.tolist(), batch.label_point_ids.tolist(), strict=True
        ):
            sums[label] += dense[point]
    centroids = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    query = random_batch(10, 20, 6, "multilabel", seed=77)
    reference = _dense(query) @ centroids.T
    scores, labels = model.top_k(query, 3)
    order = np.lexsort((np.tile(np.arange(6), (10, 1)), -reference))[:, :3]
    np.testing.assert_allclose(
        scores.numpy(), np.take_along_axis(reference, order, axis=1), rtol=1e-5
    )
    assert (labels.numpy() == order).all()


def test_centroid_breaks_ties_by_label():
    batch = random_batch(1, 20, 6, "multiclass")
    model = NearestCentroid(facts(20, 6, "multiclass"))
    model.fit_closed_form([batch])
    _, labels = model.top_k(batch, 4)
    own = int(batch.label_ids[0])
    assert labels[0].tolist() == [own, *[label for label in range(6) if label != own][:3]]


def _dense(batch) -> np.ndarray:
    dense = np.zeros((batch.num_points, 20))
    points = torch.repeat_interleave(batch.feature_offsets.diff())
    dense[points.numpy(), batch.feature_ids.numpy()] = batch.feature_values.numpy()
    return dense
