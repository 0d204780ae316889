"""Adaptive softmax beside the full one, torch's own, and its definition written out."""

import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F
from batches import facts, gradients, perturb, random_batch

from baselines import arithmetic
from baselines.adaptive_softmax import AdaptiveSoftmax
from baselines.arithmetic import cluster_ends
from baselines.full_softmax import FullSoftmax
from bench.methods.arithmetic import DataSizes, predict_memory
from bench.nn.ranking import UnrankableError
from bench.settings import DataSpec, ModelSpec, SettingsError, TrainSpec, Trial

D, L, H = 20, 30, 8
TASKS = ["multiclass", "multilabel"]
COUNTS = torch.randint(9, (L,), generator=torch.Generator().manual_seed(1))  # with equal ones


def _known(task: str):
    return dataclasses.replace(facts(D, L, task), label_counts=COUNTS)


def _adaptive(task: str = "multiclass", **options) -> AdaptiveSoftmax:
    settings = {"hidden_dims": (H,), "head_share": 0.3, "div_value": 2.0}
    return AdaptiveSoftmax(_known(task), **(settings | options))


def _log_probabilities(model: AdaptiveSoftmax, batch) -> torch.Tensor:
    """`(N, L)` by the definition, label after label."""
    hidden = model.encode(batch)
    head = F.log_softmax(F.linear(hidden, model.output, model.output_bias), dim=1)
    ends = model.cluster_ends
    order = sorted(range(L), key=lambda label: (-int(COUNTS[label]), label))
    columns = {label: head[:, i] for i, label in enumerate(sorted(order[: ends[0]]))}
    for tail in range(len(ends) - 1):
        projected = F.linear(hidden, model.projections[tail])
        logits = F.linear(projected, model.tails[tail], model.tail_biases[tail])
        own = head[:, ends[0] + tail, None] + F.log_softmax(logits, dim=1)
        labels = sorted(order[ends[tail] : ends[tail + 1]])
        columns |= {label: own[:, i] for i, label in enumerate(labels)}
    return torch.stack([columns[label] for label in range(L)], dim=1)


def _weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in model.state_dict().items() if name != "_extra_state"}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("optimizer", ["row_adam", "tf_adam"])
def test_without_tails_it_trains_and_answers_as_the_full_softmax_to_the_bit(task, optimizer):
    shared = {"hidden_dims": (H,), "optimizer": optimizer, "output_std": 0.1, "seed": 3}
    full = FullSoftmax(_known(task), loss="softmax", learning_rate=0.05, **shared)
    adaptive = AdaptiveSoftmax(_known(task), num_tails=0, learning_rate=0.05, **shared)
    optimizers = [model.configure_optimizers() for model in (full, adaptive)]
    for step in range(4):
        batch = random_batch(9, D, L, task, seed=step)
        losses = [model.training_loss(batch) for model in (full, adaptive)]
        assert torch.equal(*losses)
        for own, loss in zip(optimizers, losses, strict=True):
            own.zero_grad()
            loss.backward()
        expected, found = gradients(full), gradients(adaptive)
        assert all(torch.equal(found[name], grad) for name, grad in expected.items())
        for own in optimizers:
            own.step()
    weights = _weights(adaptive)
    assert all(torch.equal(weights[name], weight) for name, weight in _weights(full).items())
    for pair in zip(full.top_k(batch, 5), adaptive.top_k(batch, 5), strict=True):
        assert torch.equal(*pair)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("num_tails", [1, 2, 5])
@pytest.mark.parametrize("is_tiled", [False, True])
def test_loss_and_gradients_are_those_of_the_definition(task, num_tails, is_tiled, monkeypatch):
    if is_tiled:
        monkeypatch.setattr(arithmetic, "CLUSTER_FLOATS", {"cpu": 1})
        monkeypatch.setattr(arithmetic, "LEAST_POINTS", 2)
    model = _adaptive(task, num_tails=num_tails)
    perturb(model)
    batch = random_batch(9, D, L, task, seed=2 if task == "multilabel" else 0)
    log_p, counts = _log_probabilities(model, batch), batch.label_offsets.diff()
    own = -log_p[batch.label_point_ids, batch.label_ids] / counts[batch.label_point_ids]
    expected = own.sum() / 9
    wanted = torch.autograd.grad(expected, list(model.parameters()), materialize_grads=True)
    loss = model.training_loss(batch)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    for (name, found), grad in zip(gradients(model).items(), wanted, strict=True):
        grad = grad.to_dense() if grad.is_sparse else grad
        torch.testing.assert_close(found, grad, rtol=1e-5, atol=1e-6, msg=name)


def test_a_point_without_labels_and_tails_without_points_have_gradients_of_zero():
    model = _adaptive("multilabel")
    perturb(model)
    batch = random_batch(9, D, L, "multilabel", seed=2)
    frequent = model.labels[0].expand_as(batch.label_ids)
    loss = model.training_loss(dataclasses.replace(batch, label_ids=frequent))
    loss.backward()
    found = gradients(model)
    tails = [name for name in found if name.startswith(("projections", "tail"))]
    assert len(tails) == 6
    assert all(found[name].eq(0).all() for name in tails)
    nothing = dataclasses.replace(
        batch, label_ids=batch.label_ids[:0], label_offsets=torch.zeros_like(batch.label_offsets)
    )
    model.zero_grad()
    loss = model.training_loss(nothing)
    loss.backward()
    assert loss == 0
    assert all(grad.eq(0).all() for grad in gradients(model).values())


@pytest.mark.parametrize("num_tails", [0, 1, 2, 5])
def test_probabilities_of_all_labels_sum_to_one(num_tails):
    model = _adaptive(num_tails=num_tails)
    perturb(model)
    batch = random_batch(9, D, L, "multiclass")
    log_p = torch.log_softmax(model.logits(batch).double(), dim=1)
    torch.testing.assert_close(log_p.float(), _log_probabilities(model, batch))
    total = _log_probabilities(model, batch).double().exp().sum(dim=1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-6, atol=1e-6)


def test_probabilities_and_loss_are_those_of_torchs_own():
    model = _adaptive(div_value=2.0)
    perturb(model)
    with torch.no_grad():
        for bias in model.tail_biases:
            bias.zero_()  # torch's tails have none
    own = torch.nn.AdaptiveLogSoftmaxWithLoss(
        H, L, list(model.cluster_ends[:-1]), div_value=2.0, head_bias=True
    )
    parts = [model.output, model.output_bias]
    for pair in zip(model.projections, model.tails, strict=True):
        parts += pair
    own.load_state_dict(dict(zip(own.state_dict(), parts, strict=True)))
    batch = random_batch(9, D, L, "multiclass")
    hidden = model.encode(batch)
    log_p = torch.log_softmax(model.logits(batch), dim=1)
    torch.testing.assert_close(log_p[:, model.labels], own.log_prob(hidden))
    expected = own(hidden, model.places[batch.label_ids]).loss
    torch.testing.assert_close(model.training_loss(batch), expected)


@pytest.mark.parametrize("num_points", [0, 1, 12])
@pytest.mark.parametrize("k", [1, 3, 12, L])
@pytest.mark.parametrize("peak", [0.0, 1.0, 8.0])
@pytest.mark.parametrize("is_prepared", [False, True])
def test_ranking_is_that_of_all_labels_probabilities(num_points, k, peak, is_prepared, monkeypatch):
    monkeypatch.setattr("baselines.adaptive_softmax._RANKED_FLOATS", {"cpu": 1})
    monkeypatch.setattr(arithmetic, "LEAST_POINTS", 5)
    for seed in range(6):
        model = _adaptive()
        perturb(model, seed)
        with torch.no_grad():
            model.output.mul_(peak)  # how much one cluster stands out from the others
        if is_prepared:
            model.prepare_inference(k)
        batch = random_batch(max(num_points, 1), D, L, "multiclass", seed)
        hidden = model.encode(batch)[:num_points]
        logits = model.logits(batch)[:num_points]
        scores, labels = model.rank(hidden, k)
        expected, order = logits.sort(dim=1, descending=True, stable=True)
        torch.testing.assert_close(scores, expected[:, :k])
        # Products of few points may differ in a last bit from those of all.
        apart = (expected.diff(dim=1).abs() > 1e-5).all(dim=1)
        assert torch.equal(labels[apart], order[apart, :k])
        assert (torch.log_softmax(logits, 1).gather(1, labels).diff(dim=1) <= 1e-6).all()


def _count_tails(model: AdaptiveSoftmax, monkeypatch) -> list[int]:
    points: list[int] = []
    whole = model._best_of_tail

    def counted(tail, hidden, *rest):
        points.append(hidden.shape[0])
        return whole(tail, hidden, *rest)

    monkeypatch.setattr(model, "_best_of_tail", counted)
    return points


def test_a_tail_is_computed_for_those_points_alone_whose_best_labels_it_may_hold(monkeypatch):
    model = _adaptive(prior_start=False)
    first, second = model.num_head_labels, model.num_head_labels + 1
    hidden = torch.eye(H)[:3]  # each reads a column of the head's weights
    with torch.no_grad():
        model.output[:3, 0] = 5.0  # three labels of the head and no tail
        model.output[first, 1], model.output[second, 2] = 9.0, 9.0
        model.output[first, 2] = -1.0
    expected = model.rank(hidden, 3)
    points = _count_tails(model, monkeypatch)
    model.prepare_inference(3)
    found = model.rank(hidden, 3)
    assert points == [1, 1]
    for pair in zip(found, expected, strict=True):
        assert torch.equal(*pair)
    assert found[1][0].tolist() == model.labels[:3].tolist()
    model.training_loss(random_batch(4, D, L, "multiclass"))
    model.rank(hidden, 3)
    assert points == [1, 1, 3, 3]  # weights may have changed


@pytest.mark.parametrize("k", [1, 4, 20, L])
@pytest.mark.parametrize("num_points", [1, 5])
def test_equal_scores_come_by_smaller_label_in_and_across_clusters(k, num_points):
    model = _adaptive(prior_start=False)
    size = model.num_head_labels
    with torch.no_grad():  # tails as large as their labels: all have the same probability
        for tail, weight in enumerate(model.tails):
            model.output_bias[size + tail] = torch.log_softmax(torch.zeros(len(weight)), 0)[0].neg()
    model.prepare_inference(k)
    scores, labels = model.rank(torch.ones(num_points, H), k)
    assert scores.eq(0).all()
    assert labels.tolist() == [list(range(k))] * num_points


@pytest.mark.parametrize("part", ["projections", "tails", "tail_biases"])
def test_nan_in_a_tail_is_refused_where_it_would_be_passed_over(part):
    model = _adaptive()
    perturb(model)
    with torch.no_grad():
        model.output_bias[model.num_head_labels :] = -100.0
        getattr(model, part)[1].view(-1)[0] = torch.nan
    model.prepare_inference(3)
    with pytest.raises(UnrankableError, match="a label's score is NaN"):
        model.top_k(random_batch(2, D, L, "multiclass"), 3)


def test_a_hidden_vector_too_long_for_a_bound_has_every_tail_computed(monkeypatch):
    model = _adaptive(prior_start=False, output_std=1.0)
    model.prepare_inference(1)
    points = _count_tails(model, monkeypatch)
    hidden = torch.zeros(2, H)
    with torch.no_grad():
        model.output.zero_()
        model.output[0] = 1.0
    hidden[0] = 1.0
    model.rank(hidden[:1], 1)
    assert points == []
    hidden[1, 0] = 1e38
    model.rank(hidden[1:], 1)
    assert points == [1, 1]


def test_labels_go_by_frequency_to_clusters_and_keep_their_order_within():
    model = _adaptive()
    assert model.cluster_ends == (9, 16, 30)
    order = sorted(range(L), key=lambda label: (-int(COUNTS[label]), label))
    expected = [sorted(order[a:b]) for a, b in ((0, 9), (9, 16), (16, 30))]
    assert model.labels.tolist() == [*itertools.chain(*expected)]
    assert torch.equal(model.labels[model.places], torch.arange(L))
    assert [tuple(part.shape) for part in model.projections] == [(4, H), (2, H)]
    assert [tuple(part.shape) for part in model.tails] == [(7, 4), (14, 2)]


def test_untrained_probabilities_are_the_training_frequencies():
    model = _adaptive()
    p = torch.softmax(model.logits(random_batch(3, D, L, "multiclass")), dim=1)
    expected = (COUNTS + 0.5) / (COUNTS + 0.5).sum()
    torch.testing.assert_close(p, expected.expand(3, -1), rtol=0.2, atol=2e-3)


@pytest.mark.parametrize("num_labels", [2, 3, 6, 30, 1000, 10**6])
@pytest.mark.parametrize("num_tails", [0, 1, 2, 5])
@pytest.mark.parametrize("head_share", [1e-6, 0.075, 0.999])
def test_every_cluster_has_a_label(num_labels, num_tails, head_share):
    if num_labels <= num_tails:
        with pytest.raises(SettingsError, match=rf"L = {num_labels}; expected at most"):
            cluster_ends(num_labels, num_tails, head_share)
        return
    ends = cluster_ends(num_labels, num_tails, head_share)
    assert len(ends) == num_tails + 1
    assert ends[-1] == num_labels
    assert all(end > start for start, end in zip((0, *ends), ends, strict=False))


def test_weights_of_other_label_frequencies_are_refused():
    model = _adaptive()
    other = AdaptiveSoftmax(
        dataclasses.replace(_known("multiclass"), label_counts=COUNTS.flip(0)),
        hidden_dims=(H,),
        head_share=0.3,
        div_value=2.0,
    )
    with pytest.raises(ValueError, match=r"labels is .*; expected the same"):
        other.load_state_dict(model.state_dict())
    again = _adaptive(seed=5)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.tails[0], model.tails[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "linear"}, "encoder is 'linear'"),
        ({"num_tails": -1}, "num_tails is -1; expected a whole number of at least 0"),
        ({"num_tails": L}, "num_tails is 30 and L = 30; expected at most 29"),
        ({"head_share": 1.0}, "head_share is 1.0; expected a number above 0 and below 1"),
        ({"div_value": 0.5}, "div_value is 0.5; expected a number of at least 1"),
    ],
)
def test_impossible_options_are_refused_by_name(options, message):
    with pytest.raises(SettingsError, match=message):
        _adaptive(**options)


def test_training_memory_is_that_of_the_largest_tile_and_of_points_expected_in_tails():
    options = {"head_share": 0.3, "div_value": 2.0}
    sizes = DataSizes(
        num_features=D, num_labels=L, task="multiclass", num_train_points=int(COUNTS.sum()),
        entries_per_point=5.0, label_counts=COUNTS,
    )  # fmt: skip
    model = ModelSpec(method="adaptive_softmax", hidden_dims=(2**30,), options=options)
    data = DataSpec(source="planted", name="planted")
    trial = Trial(data=data, model=model, train=TrainSpec(batch_size=8))
    widths = (2**30 + 2**29, 2**30 + 2**28)
    points = [COUNTS.sort(descending=True).values[a:b].sum() for a, b in ((9, 16), (16, 30))]
    of_tails = sum(
        2 * -(-8 * int(own) // int(COUNTS.sum())) * width
        for own, width in zip(points, widths, strict=True)
    )
    tile = 8 * 16  # of the head: 9 labels and 2 tails, rows of 16
    found = predict_memory(trial, sizes).activations
    assert found == 4 * (tile + 4 * 8 * 2**30 + of_tails) + 80 * 8 * 5
    assert _adaptive().decode_bytes() == 8 * L
