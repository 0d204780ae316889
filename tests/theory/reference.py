"""Slow, plain forms of what `bench.experiments.theory` computes, a label and a point at a time."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np

from bench.settings import derive_seed


def draw_of(setting, seed, draw):
    """Points `(labels, points)` and hashes `(R, K)` as a draw of the simulation has them."""
    generator = np.random.default_rng(derive_seed("reconstruction", seed, draw))
    points = generator.random((setting.num_likely, setting.num_points)) < setting.base_prob
    shape = (setting.num_worlds, setting.num_labels)
    return points, generator.integers(0, setting.num_buckets, shape, dtype=np.int32)


def bucket_means(points, hashes, num_buckets):
    means = np.zeros((len(hashes), num_buckets))
    num_points = points.shape[1]
    for world, buckets in enumerate(hashes):
        for point in range(num_points):
            hit = {int(buckets[label]) for label in range(len(points)) if points[label, point]}
            for bucket in hit:  # an OR: however many labels, a point counts once
                means[world, bucket] += 1 / num_points
    return means


def errors(setting, seed, draw):
    """Estimator → R → L2 norm of the error."""
    points, hashes = draw_of(setting, seed, draw)
    means = bucket_means(points, hashes, setting.num_buckets)
    B, V = setting.num_buckets, setting.labels_per_point
    counted = points.sum() / setting.num_points
    found: dict[str, dict[int, float]] = {}
    for r in range(1, setting.num_worlds + 1):
        squares: dict[str, float] = {}
        for label in range(setting.num_labels):
            p = setting.base_prob if label < setting.num_likely else 0.0
            own = [means[world, hashes[world, label]] for world in range(r)]
            for name, estimate in estimates(own, B, V, counted).items():
                squares[name] = squares.get(name, 0.0) + (estimate - p) ** 2
        for name, square in squares.items():
            found.setdefault(name, {})[r] = math.sqrt(square)
    return found


def estimates(own, B, V, counted):
    mean = sum(own) / len(own)
    found = {
        "mean": mean,
        "unbiased mean": B / (B - 1) * (mean - 1 / B),
        "mean less V/B": B / (B - 1) * (mean - V / B),
    }
    if B > V + 1:
        found["quadratic"] = quadratic(mean, B, V)
        found["quadratic clipped to [0, 1]"] = min(max(quadratic(mean, B, V), 0.0), 1.0)
        found["quadratic, V counted"] = quadratic(mean, B, counted)
        each = [quadratic(value, B, V) for value in own]
        found["quadratic of each world, averaged"] = sum(each) / len(each)
    return found


def quadratic(mean, B, V):
    """Root of p² + Mp + V = B·mean, the larger one; M = B − V − 1."""
    M = B - V - 1
    return (-M + math.sqrt(max(0.0, M * M - 4 * (V - B * mean)))) / 2


def pairs(table, num_worlds):
    num_labels = len(table[0])
    return sum(
        all(table[world][i] == table[world][j] for world in range(num_worlds))
        for i, j in combinations(range(num_labels), 2)
    )


def count_min(stream, codes):
    """One table a hash, bucket → how often one of its letters came by."""
    tables = []
    for row in range(len(next(iter(codes.values())))):
        table: dict[int, int] = {}
        for letter in stream:
            table[codes[letter][row]] = table.get(codes[letter][row], 0) + 1
        tables.append(table)
    return tables
