"""Output layers by themselves: any network, any labels, the same layer as the classifiers'."""

from __future__ import annotations

import copy
import doctest

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import baselines.heads
import bench.mach.head
from baselines.full_softmax import FullSoftmax
from baselines.heads import SampledSoftmaxHead, SoftmaxHead
from baselines.sampled_bce import SampledBce
from baselines.sampled_softmax import SampledSoftmax
from bench.mach.head import MachHead
from bench.mach.module import Mach
from bench.nn.classifier import DataFacts
from bench.nn.head import OutputHead
from bench.settings import SettingsError
from tests.methods.batches import random_batch

N, H, L = 12, 8, 30
COUNTS = torch.arange(1, L + 1)
WORLDS = {"num_buckets": 7, "num_worlds": 3}
KINDS = ("mach", "softmax", "sampled")


def build(kind: str, loss: str = "softmax", **options: object) -> OutputHead:
    shared = {"loss": loss, "label_counts": COUNTS, "num_points": 500, "output_std": 0.1}
    if kind == "mach":
        return MachHead(H, L, **(WORLDS | shared | options))
    if kind == "softmax":
        return SoftmaxHead(H, L, **(shared | options))
    return SampledSoftmaxHead(H, L, **({"num_samples": 10} | shared | options))


def vectors(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


LISTS = [[3, 5], [], [29], [0, 1, 2], *([label] for label in range(N - 4))]


@pytest.mark.parametrize("module", [bench.mach.head, baselines.heads])
def test_examples_in_docstrings_hold(module):
    found = doctest.testmod(module)
    assert found.attempted
    assert found.failed == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_labels_mean_the_same_in_every_form(kind, loss):
    hidden, one = vectors(N, H), torch.arange(N) * 2
    offsets = torch.arange(N + 1)
    forms = [(one,), (one.int(),), (one, offsets), (one[:, None].tolist(),), (list(one[:, None]),)]
    first, *others = [float(build(kind, loss)(hidden, *form).detach()) for form in forms]
    assert others == [first] * 4
    flat = torch.tensor([label for labels in LISTS for label in labels])
    counts = torch.tensor([len(labels) for labels in LISTS])
    offsets = F.pad(counts.cumsum(0), (1, 0))
    twice = [[*labels, *labels[::-1]] for labels in LISTS]
    many = [(LISTS,), (flat, offsets), (twice,)]
    first, *others = [float(build(kind, loss)(hidden, *form).detach()) for form in many]
    assert others == [first] * 2


def test_a_softmax_head_is_torchs_cross_entropy_and_one_versus_all():
    hidden, labels = vectors(N, H).requires_grad_(), torch.arange(N)
    head = build("softmax", chunk_size=5)
    logits = F.linear(hidden, head.weight, head.bias)
    loss = head(hidden, labels)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels))
    (mine,) = torch.autograd.grad(loss, hidden, retain_graph=False)
    (theirs,) = torch.autograd.grad(F.cross_entropy(logits, labels), hidden)
    torch.testing.assert_close(mine, theirs)
    found = head.top_k(hidden, 4)
    wanted = F.linear(hidden, head.weight, head.bias).topk(4)
    torch.testing.assert_close(found, (wanted.values, wanted.indices))
    assert not found[0].requires_grad
    shares = head.probabilities(hidden, *found)
    torch.testing.assert_close(shares, logits.softmax(1).gather(1, found[1]))

    head = build("softmax", "bce")
    targets = torch.zeros(N, L)
    for row, point in zip(targets, LISTS, strict=True):
        row[point] = 1
    logits = F.linear(hidden, head.weight, head.bias)
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / N
    torch.testing.assert_close(head(hidden, LISTS), expected)


def test_heads_that_leave_nothing_out_are_the_full_softmax():
    """A sample of all labels, and one world whose buckets are the labels."""
    hidden, labels = vectors(N, H), torch.arange(N)
    full = build("softmax")
    sampled = build("sampled", sampler="all")
    mach = MachHead(H, L, num_buckets=L, num_worlds=1, hash_family="identity")
    mach.weight.data[0] = torch.cat([full.weight.data.t(), full.bias.data[None]])
    for other in (sampled, mach):
        torch.testing.assert_close(other(hidden, labels), full(hidden, labels))
        assert torch.equal(other.top_k(hidden, 5)[1], full.top_k(hidden, 5)[1])


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Mach, WORLDS),
        (Mach, WORLDS | {"update": "sgd", "output_rate": 0.5}),
        (FullSoftmax, {}),
        (FullSoftmax, {"update": "row_adagrad", "weight_type": "bfloat16"}),
        (SampledSoftmax, {"num_samples": 10}),
        (SampledBce, {"num_samples": 10}),
    ],
)
def test_a_classifier_is_its_encoder_and_this_head(kind, options, task):
    facts = DataFacts(20, L, task, COUNTS, 500)
    model = kind(facts, hidden_dims=(H,), output_std=0.1, seed=4, **options)
    shared = {"label_counts": COUNTS, "num_points": 500, "output_std": 0.1, "seed": 4}
    default = "softmax" if task == "multiclass" else "bce"
    if "update" in options:
        shared["output_rate"] = options.get("output_rate", model.learning_rate)
    if kind in (SampledSoftmax, SampledBce):
        loss = "bce" if kind is SampledBce else "softmax"
        alone: OutputHead = SampledSoftmaxHead(H, L, loss=loss, **shared, **options)
    else:
        of = {Mach: MachHead, FullSoftmax: SoftmaxHead}[kind]
        alone = of(H, L, loss=default, **(options | shared))
    theirs = model.head.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in alone.state_dict().items())
    batch = random_batch(N, 20, L, task)
    hidden = model.encode(batch).detach()
    loss = alone(hidden.clone().requires_grad_(), batch.label_ids, batch.label_offsets)
    assert torch.equal(loss, model.training_loss(batch))
    with torch.no_grad():
        for mine, wanted in zip(alone.top_k(hidden, 5), model.head.top_k(hidden, 5), strict=True):
            assert torch.equal(mine, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_decides_all_and_a_state_brings_it_back(kind, tmp_path):
    head, again, other = build(kind, seed=3), build(kind, seed=3), build(kind, seed=4)
    hidden, labels = vectors(N, H), torch.arange(N)
    for mine, same in zip(head.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, same)
    assert torch.equal(head(hidden, labels), again(hidden, labels))
    assert not all(map(torch.equal, head.parameters(), other.parameters()))
    for parameter in head.parameters():
        parameter.data.normal_(generator=torch.Generator().manual_seed(9))
    torch.save(head.state_dict(), tmp_path / "head.pt")
    state = torch.load(tmp_path / "head.pt", weights_only=True)
    again.load_state_dict(state)
    found, wanted = again.top_k(hidden, 5), head.top_k(hidden, 5)
    assert all(map(torch.equal, found, wanted))
    if kind == "mach":  # weights of other buckets
        with pytest.raises(ValueError, match=r"hash seed is \d+, in the loaded weights \d+"):
            other.load_state_dict(state)
    copied = copy.deepcopy(head)
    assert all(map(torch.equal, copied.top_k(hidden, 5), wanted))
    nested = nn.ModuleDict({"head": build(kind, seed=3)})
    nested.load_state_dict({f"head.{name}": value for name, value in state.items()})


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_moves_with_its_network(kind):
    network = nn.Sequential(nn.Linear(5, H), build(kind)).to("meta")
    tensors = [*network.parameters(), *network.buffers()]
    assert all(tensor.device.type == "meta" for tensor in tensors)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_a_head_trains_and_ranks_on_a_gpu(kind):
    hidden, labels = vectors(N, H), torch.arange(N)
    here, there = build(kind), build(kind).to("cuda")
    if kind != "sampled":  # whose draws are a device's own
        torch.testing.assert_close(there(hidden.cuda(), labels).cpu(), here(hidden, labels))
    there(hidden.cuda(), LISTS).backward()
    assert torch.equal(there.top_k(hidden.cuda(), 5)[1].cpu(), here.top_k(hidden, 5)[1])


def test_worlds_may_have_hidden_vectors_of_their_own():
    head = build("mach")
    hidden, labels = vectors(3, N, H), torch.arange(N)
    each = [MachHead(H, L, num_buckets=7, num_worlds=1, first_world=i) for i in range(3)]
    for world, one in enumerate(each):
        one.weight.data.copy_(head.weight.data[world : world + 1])
    total = sum(one(own, labels) for one, own in zip(each, hidden, strict=True))
    torch.testing.assert_close(head(hidden, labels), total)
    assert head.top_k(hidden, 5)[1].shape == (N, 5)


@pytest.mark.parametrize("kind", ["mach", "softmax"])
def test_a_layer_may_be_updated_within_its_loss(kind):
    head = build(kind, update="sgd", output_rate=0.5)
    hidden, labels = vectors(N, H).requires_grad_(), torch.arange(N)
    losses = []
    for _ in range(20):
        loss = head(hidden, labels)
        loss.backward()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert all(parameter.grad is None for parameter in head.parameters())
    head.output_rate = 0.0
    first, again = (float(head(hidden, labels).detach()) for _ in range(2))
    assert first == again


def test_gradients_are_dense_unless_rows_are_asked_for():
    hidden, labels = vectors(N, H), torch.arange(N)
    dense, rows = build("sampled"), build("sampled", sparse=True)
    for head in (dense, rows):
        head(hidden, labels).backward()
    assert rows.weight.grad.is_sparse
    torch.testing.assert_close(rows.weight.grad.to_dense(), dense.weight.grad)
    torch.optim.AdamW(dense.parameters()).step()
    torch.optim.SparseAdam(rows.parameters()).step()


@pytest.mark.parametrize("kind", KINDS)
def test_scores_have_32_bits_under_autocast(kind):
    head, hidden = build(kind), vectors(N, H)
    exact = head.top_k(hidden, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(map(torch.equal, head.top_k(hidden, 5), exact))
        loss = head(hidden.bfloat16().requires_grad_(), torch.arange(N))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, build(kind)(hidden, torch.arange(N)), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((vectors(N, H), torch.zeros(N)), r"labels are torch.float32 of shape \(12,\); expected"),
        ((vectors(N, H), torch.zeros(N, L).long()), r"of shape \(12, 30\); expected integers"),
        ((vectors(N, H), torch.arange(N - 1)), "11 labels of 12 points; expected one each"),
        ((vectors(N, H), torch.full((N,), L)), "a label is 30; expected 0 to L - 1 = 29"),
        ((vectors(N, H), torch.full((N,), -100)), "a label is -100; expected 0 to"),
        ((vectors(N, H), [[1]] * (N + 1)), r"offsets have shape \(14,\) .*expected \(13,\)"),
        ((vectors(N, H), torch.arange(N), torch.arange(N + 1) + 1), "ascending from 0 to 12"),
        ((vectors(N, H), [[1]] * N, torch.arange(N + 1)), "lists and offsets are given"),
        ((vectors(N, H + 1), torch.arange(N)), r"have shape \(12, 9\); expected \(N, 8\)"),
        ((vectors(2, N, H), torch.arange(N)), r"have shape \(2, 12, 8\); expected \(N, 8\)"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_impossible_inputs_are_named(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(kind)(*arguments)


def test_a_head_in_16_bits_is_refused():
    head = build("softmax").bfloat16()
    with pytest.raises(ValueError, match=r"weight is torch.bfloat16; expected torch.float32"):
        head(vectors(N, H).bfloat16(), torch.arange(N))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("mach", {"num_buckets": 0}, "num_buckets is 0; expected"),
        ("mach", {"filter_buckets": 9}, "filter_buckets is 9; expected None or 1 to B = 7"),
        ("mach", {"update": "sgd"}, "output_rate is None and update 'sgd'"),
        ("softmax", {"update": "sgd"}, "output_rate is None and update 'sgd'"),
        ("softmax", {"weight_type": "bfloat16"}, "weight_type is 'bfloat16' and update"),
        ("softmax", {"loss_reduction": "mean"}, "loss_reduction is 'mean' and the loss 'softmax'"),
        ("softmax", {"label_counts": COUNTS[1:]}, r"has shape \(29,\); expected \(30,\)"),
        ("softmax", {"num_points": None, "loss": "bce"}, "num_points is None and loss 'bce'"),
        ("sampled", {"label_counts": None}, "label_counts is None and sampler 'unigram'"),
        ("sampled", {"num_samples": 0}, "num_samples is 0"),
    ],
)
def test_impossible_options_are_named(kind, options, message):
    with pytest.raises(SettingsError, match=message):
        build(kind, **options)
