"""What the baselines are made of, by arithmetic from settings and sizes; never imports torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from bench.methods.arithmetic import EVALUATION_POINTS, Parts, Problem, Product, Weights
from bench.nn.tiles import lean_bytes, ranked_columns, tiling
from bench.settings import SettingsError

# Logits of a cluster of an adaptive softmax that exist together, in floats: training wants large
# products. A GPU wants larger ones.
CLUSTER_FLOATS = {"cpu": 1 << 21}
CLUSTER_FLOATS_ELSEWHERE = 1 << 26
LEAST_POINTS = 16


def full(of: Problem) -> Parts:
    """A full softmax or one-vs-all: logits, whose gradient takes their place, or a tile of them."""
    num_points, num_labels = of.num_points, of.sizes.num_labels
    if of.is_linear:  # logits before and after the addition of biases
        return Parts(
            weights=of.encoder(outputs=num_labels),
            step_bytes=4 * 2 * num_points * num_labels + of.batch_bytes(),
            evaluation_bytes=of.evaluated_bytes(outputs=num_labels),
        )
    is_lean, passes = of.is_lean, 3
    if is_lean:
        logits = lean_bytes(
            num_points, num_labels, of.width, copies=of.lean_copies, device=of.device
        )
        passes += of.loss == "softmax"
    else:
        chunk = of.options["chunk_size"]
        tiles = tiling(1, num_points, num_labels, of.loss, points_per_chunk=chunk, device=of.device)
        logits = 4 * tiles.floats * (1 if of.loss == "softmax" else 2)  # softplus copies a tile
    return Parts(
        weights=_label_layer(of, is_lean=is_lean),
        step_bytes=logits + of.hidden_bytes() + of.batch_bytes(),
        evaluation_bytes=_ranked_bytes(of),
        table_bytes=4 * num_labels * (of.options["update"] == "row_adagrad"),
        products=(
            *of.inner_products(),
            Product(1, num_points, of.width, num_labels, passes),
        ),
    )


def sampled(of: Problem) -> Parts:
    """A sampled softmax: logits, others' logits and their exponentials, and gathered rows."""
    return _of_samples(of, arrays=3)


def sampled_bce(of: Problem) -> Parts:
    """The same with BCE: its softplus, gradient and own logits' are arrays of their own."""
    return _of_samples(of, arrays=5)


def two_tower(of: Problem) -> Parts:
    """The same without biases; gathered rows are scaled, and so are all in an evaluation."""
    parts = _of_samples(of, arrays=3)
    rows = touched_labels(of)
    vectors = of.sizes.num_labels
    if of.options["similarity"] == "cosine":
        vectors += of.sizes.num_labels * of.width
    return Parts(
        weights=(*of.encoder(), Weights("output", (of.sizes.num_labels, of.width), rows)),
        step_bytes=parts.step_bytes + 4 * 3 * rows * of.width,
        evaluation_bytes=parts.evaluation_bytes,
        table_bytes=parts.table_bytes + 4 * vectors,
        products=parts.products,
    )


def _of_samples(of: Problem, *, arrays: int) -> Parts:
    rows = touched_labels(of)
    # Twice: their number changes from step to step, and hardly fits what the last step freed.
    logits = 2 * (arrays * of.num_points * rows + rows * of.width)
    return Parts(
        weights=_label_layer(of, rows=rows),
        step_bytes=4 * logits + of.hidden_bytes() + of.batch_bytes(),
        evaluation_bytes=_ranked_bytes(of),
        table_bytes=12 * of.sizes.num_labels,  # probabilities, added up, and their logarithms
        products=(*of.inner_products(), Product(1, of.num_points, of.width, rows)),
    )


def touched_labels(of: Problem) -> int:
    """Labels, own and sampled, that a step can touch."""
    num_labels = of.sizes.num_labels
    drawn = {"in_batch": 0, "all": num_labels}.get(of.options["sampler"])
    num_samples = of.options["num_samples"] if drawn is None else drawn
    return min(int(num_samples + of.num_points * of.sizes.labels_per_point), num_labels)


def adaptive(of: Problem) -> Parts:
    """An adaptive softmax: the largest tile, hidden vectors, and those of the tails."""
    num_tails, width, num_points = of.options["num_tails"], of.width, of.num_points
    ends = cluster_ends(of.sizes.num_labels, num_tails, of.options["head_share"])
    head = ends[0] + num_tails
    weights = [*of.encoder(), Weights("output", (head, width)), Weights("output_bias", (head,))]
    products = [*of.inner_products(), Product(1, num_points, width, head)]
    tile, hidden = _cluster_floats(of, num_points, head), of.hidden_bytes()
    for tail, (start, stop) in enumerate(itertools.pairwise(ends)):
        narrow = max(int(width / of.options["div_value"] ** (tail + 1)), 1)
        weights += [
            Weights(f"projections.{tail}", (narrow, width)),
            Weights(f"tails.{tail}", (stop - start, narrow)),
            Weights(f"tail_biases.{tail}", (stop - start,)),
        ]
        points = math.ceil(num_points * min(of.sizes.share_of_ranks(start, stop), 1.0))
        products += [Product(1, points, width, narrow), Product(1, points, narrow, stop - start)]
        tile = max(tile, _cluster_floats(of, points, stop - start))
        hidden += 4 * 2 * points * (narrow + width)
    return Parts(
        weights=tuple(weights),
        step_bytes=4 * tile + hidden + of.batch_bytes(),
        evaluation_bytes=_ranked_bytes(of),
        table_bytes=16 * of.sizes.num_labels,  # labels by place, and places
        products=tuple(products),
    )


def points_per_chunk(num_columns: int, device: str, floats: Mapping[str, int] | None = None) -> int:
    """Points whose logits of a cluster exist together; `floats` of them on a device."""
    limit = (floats or CLUSTER_FLOATS).get(device, CLUSTER_FLOATS_ELSEWHERE)
    return max(limit // num_columns, LEAST_POINTS)


def _cluster_floats(of: Problem, num_points: int, num_columns: int) -> int:
    points = points_per_chunk(num_columns, of.device)
    return tiling(1, num_points, num_columns, "softmax", points_per_chunk=points).floats


def cluster_ends(num_labels: int, num_tails: int, head_share: float) -> tuple[int, ...]:
    """Labels that the head holds, and with it the first tail, the second and so on; at last L.

    Raises:
        SettingsError: there are fewer labels than head and tails.

    >>> cluster_ends(20_000, 2, 0.075)
    (1500, 5477, 20000)
    """
    if num_labels <= num_tails:
        raise SettingsError(
            f"num_tails is {num_tails} and L = {num_labels}; expected at most {num_labels - 1}"
        )
    ends = [0]
    for tail in range(num_tails + 1):
        share = head_share ** (1 - tail / num_tails) if num_tails else 1.0
        most = num_labels - (num_tails - tail)  # each further one has a label
        ends.append(min(max(round(share * num_labels), ends[-1] + 1), most))
    return tuple(ends[1:])


def counts(of: Problem) -> Parts:
    """A number a label, which is no weight that an optimiser trains."""
    weights = (Weights("counts", (of.sizes.num_labels,), is_trained=False),)
    return Parts(weights=weights, step_bytes=0, evaluation_bytes=0)


def nothing(of: Problem) -> Parts:
    """No weights: what is kept of the training points is known when they are read."""
    return Parts(weights=(), step_bytes=0, evaluation_bytes=0)


def _label_layer(
    of: Problem, *, rows: int | None = None, is_lean: bool = False
) -> tuple[Weights, ...]:
    num_labels, size = of.sizes.num_labels, of.output_item_bytes
    return (
        *of.encoder(),
        Weights("head.weight", (num_labels, of.width), rows, size, is_trained=not is_lean),
        Weights("head.bias", (num_labels,), rows, is_trained=not is_lean),
    )


def _ranked_bytes(of: Problem) -> int:
    """Two tiles of logits: one is made while the last is still there."""
    columns = min(2 * ranked_columns(EVALUATION_POINTS, of.device), of.sizes.num_labels)
    return 4 * EVALUATION_POINTS * columns + of.evaluated_bytes()
