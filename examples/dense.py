"""A network of dense features with any number of labels a point, in a plain training loop."""

import torch
from torch import nn

from bench import SampledSoftmaxHead

NUM_POINTS, NUM_FEATURES, NUM_LABELS, WIDTH = 4000, 32, 500, 64


def main():
    directions = torch.randn(NUM_LABELS, NUM_FEATURES)
    labels = [torch.randperm(NUM_LABELS)[:3] for _ in range(NUM_POINTS)]
    features = torch.stack([directions[each].sum(0) for each in labels])
    counts = torch.bincount(torch.cat(labels), minlength=NUM_LABELS)

    network = nn.Sequential(nn.Linear(NUM_FEATURES, WIDTH), nn.ReLU())
    head = SampledSoftmaxHead(
        WIDTH, NUM_LABELS, loss="bce", num_samples=100, label_counts=counts, num_points=NUM_POINTS
    )
    optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=0.01)
    for _ in range(12):
        for points in torch.randperm(NUM_POINTS).split(100):
            loss = head(network(features[points]), [labels[i] for i in points])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    _, best = head.top_k(network(features), 3)
    hits = sum(int(torch.isin(*pair).sum()) for pair in zip(best, labels))
    return hits / (3 * NUM_POINTS)


if __name__ == "__main__":
    print("P@3", main())
