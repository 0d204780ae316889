from __future__ import annotations

import copy
import itertools
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.metrics.propensity import PROPENSITY, inverse_propensity
from bench.metrics.torchmetric import RankingMetrics

from . import reference

KS = (1, 3, 5)
NUM_LABELS = 20
NUM_TRAIN_POINTS = 500
COUNTS = torch.tensor([200, 120, 70, 50, 40, 30, 20, 12, 10, 9, 7, 6, 5, 4, 3, 2, 1, 1, 0, 0])
GROUPS = torch.tensor([0] * 3 + [1] * 5 + [2] * 12)
PSEUDO_RANDOM = torch.Generator().manual_seed(11)
TOPS = [torch.randperm(NUM_LABELS, generator=PSEUDO_RANDOM)[:6].tolist() for _ in range(40)]
TARGETS = [
    sorted(torch.randperm(NUM_LABELS, generator=PSEUDO_RANDOM)[: index % 8].tolist())
    for index in range(40)
]
SINGLE_TARGETS = [[row[0] if row else 3] for row in TARGETS]


def _metrics(**options: object) -> RankingMetrics:
    settings_ = {
        "label_counts": COUNTS,
        "num_train_points": NUM_TRAIN_POINTS,
        "propensity": PROPENSITY["default"],
        "groups": GROUPS,
    }
    return RankingMetrics(KS, **(settings_ | options))  # type: ignore[arg-type]


def _values(metrics: RankingMetrics) -> dict[str, float]:
    return {name: value.item() for name, value in metrics.compute().items()}


def _update(metrics: RankingMetrics, tops: reference.Rows, targets: reference.Rows) -> None:
    metrics.update(torch.tensor(tops), reference.batch_of(targets))


def _expected() -> dict[str, float]:
    a, b = PROPENSITY["default"]
    weights = inverse_propensity(COUNTS, NUM_TRAIN_POINTS, a=a, b=b).tolist()
    expected: dict[str, float] = {}
    for k in KS:
        expected[f"P@{k}"] = reference.precision(TOPS, TARGETS, k)
        expected[f"nDCG@{k}"] = reference.ndcg(TOPS, TARGETS, k)
        expected[f"R@{k}"] = reference.recall(TOPS, TARGETS, k)
        expected[f"authors P@{k}"] = reference.authors_precision(TOPS, TARGETS, k)
        expected[f"PSP@{k}"] = reference.psprecision(TOPS, TARGETS, weights, k)
        expected[f"PSnDCG@{k}"] = reference.psndcg(TOPS, TARGETS, weights, k)
    for group, name in enumerate(("head", "torso", "tail")):
        members = {label for label in range(NUM_LABELS) if GROUPS[label] == group}
        share = reference.group_share(TOPS, TARGETS, members, 5)
        assert share is not None
        expected[f"R@5 {name}"] = share
    return expected


def test_multilabel_names_and_values_are_those_of_the_slow_reference() -> None:
    metrics = _metrics()
    _update(metrics, TOPS, TARGETS)
    assert _values(metrics) == pytest.approx(_expected(), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(1, len(TOPS) - 1), max_size=12))
def test_any_split_into_batches_gives_the_same(cuts: set[int]) -> None:
    metrics = _metrics()
    for start, stop in itertools.pairwise([0, *sorted(cuts), len(TOPS)]):
        _update(metrics, TOPS[start:stop], TARGETS[start:stop])
    assert _values(metrics) == pytest.approx(_expected(), abs=1e-12)


def test_states_of_two_processes_add_up() -> None:
    whole, left, right = _metrics(), _metrics(), _metrics()
    _update(whole, TOPS, TARGETS)
    _update(left, TOPS[:13], TARGETS[:13])
    _update(right, TOPS[13:], TARGETS[13:])
    left.merge_state(right)
    assert _values(left) == pytest.approx(_values(whole), abs=1e-12)


def test_multiclass_reports_top_k_and_p_at_1() -> None:
    metrics = _metrics(task="multiclass")
    _update(metrics, TOPS, SINGLE_TARGETS)
    values = _values(metrics)
    groups = ("head", "torso", "tail")
    assert list(values) == [
        "P@1",
        *(f"top-{k}" for k in KS),
        *(f"top-1 {name}" for name in groups),
        *(f"R@5 {name}" for name in groups),
    ]
    assert values["P@1"] == values["top-1"] == reference.precision(TOPS, SINGLE_TARGETS, 1)
    assert values["top-5"] == pytest.approx(reference.recall(TOPS, SINGLE_TARGETS, 5))
    members = set(range(3, 8))
    assert values["top-1 torso"] == reference.group_share(TOPS, SINGLE_TARGETS, members, 1)
    assert values["R@5 torso"] == reference.group_share(TOPS, SINGLE_TARGETS, members, 5)


def test_extended_multiclass_adds_the_names_of_multilabel() -> None:
    metrics, extended = _metrics(task="multiclass"), _metrics(task="multiclass", extended=True)
    multilabel = _metrics()
    for each in (metrics, extended, multilabel):
        _update(each, TOPS, SINGLE_TARGETS)
    assert _values(extended) == _values(multilabel) | _values(metrics)


def test_group_share_counts_occurrences_not_points() -> None:
    metrics = RankingMetrics((5,), groups=torch.tensor([0, 0, 0, 2]))
    tops = [[0, 9, 8, 7, 6], [0, 9, 8, 7, 6]]
    with pytest.raises(ValueError, match="predicted label 9 is out of range"):
        _update(metrics, tops, [[0, 1, 2], [0]])
    metrics = RankingMetrics((5,), groups=torch.tensor([0, 0, 0, 2, 1, 1, 1, 1, 1, 1]))
    _update(metrics, tops, [[0, 1, 2], [0]])
    values = _values(metrics)
    assert values["R@5 head"] == 2 / 4
    assert "R@5 tail" not in values
    assert "R@5 torso" not in values


def test_groups_come_from_the_counts_unless_given() -> None:
    metrics = RankingMetrics((5,), label_counts=torch.tensor([4, 4, 2, 2, 1, 1, 1]))
    _update(metrics, [[0, 1, 2, 3, 4]], [[0, 2, 5]])
    names = [name for name in _values(metrics) if " " in name and "authors" not in name]
    assert names == ["R@5 head", "R@5 torso", "R@5 tail"]


def test_without_counts_there_are_neither_groups_nor_propensities() -> None:
    metrics = RankingMetrics((1,))
    _update(metrics, TOPS, TARGETS)
    assert list(_values(metrics)) == ["P@1", "nDCG@1", "R@1", "authors P@1"]


def test_reset_forgets_every_point() -> None:
    metrics = _metrics()
    _update(metrics, TOPS[::-1], TARGETS)
    metrics.reset()
    _update(metrics, TOPS, TARGETS)
    assert _values(metrics) == pytest.approx(_expected(), abs=1e-12)


def test_sums_stay_float64_when_the_module_is_cast_to_half_precision() -> None:
    metrics = _metrics()
    module = torch.nn.ModuleDict({"metrics": metrics}).half().to(torch.bfloat16)
    _update(metrics, TOPS, TARGETS)
    assert metrics.precision_sum.dtype == torch.float64
    assert len(module.state_dict()) == 0
    assert _values(metrics) == pytest.approx(_expected(), abs=1e-12)


def test_copies_are_independent_and_survive_pickling() -> None:
    metrics = _metrics()
    _update(metrics, TOPS, TARGETS)
    copied, pickled = copy.deepcopy(metrics), pickle.loads(pickle.dumps(metrics))
    _update(copied, TOPS, TARGETS)
    assert int(metrics.num_points) == len(TOPS)
    assert int(copied.num_points) == 2 * len(TOPS)
    assert _values(pickled) == _values(metrics)


def test_compute_before_any_point_is_refused() -> None:
    metrics = _metrics()
    _update(metrics, TOPS, TARGETS)
    metrics.num_points.zero_()
    with pytest.raises(ValueError, match="no points were added"):
        metrics.compute()


def test_too_few_predicted_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="k is 5; expected 1 to K = 2"):
        _update(_metrics(), [[0, 1]], [[0]])


@pytest.mark.parametrize("targets", [[[], [1]], [[1, 2], [3]]])
def test_multiclass_points_without_exactly_one_label_are_refused(targets: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="expected exactly one"):
        _update(_metrics(task="multiclass"), TOPS[:2], targets)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ks": ()}, "expected distinct ranks"),
        ({"ks": (0, 1)}, "expected distinct ranks"),
        ({"ks": (3, 3)}, "expected distinct ranks"),
        ({"task": "ranking"}, "task is 'ranking'"),
        ({"propensity": (0.5, 0.4)}, "propensity needs label_counts and num_train_points"),
        ({"groups": torch.tensor([0, 3])}, "groups span 0 to 3; expected 0 to 2"),
        (
            {"groups": torch.tensor([0, 1]), "label_counts": torch.tensor([1, 2, 3])},
            r"groups have shape \(2,\); expected \(3,\)",
        ),
    ],
)
def test_impossible_settings_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RankingMetrics(**options)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_streaming_on_a_gpu_equals_the_cpu() -> None:
    metrics = _metrics().cuda()
    metrics.update(torch.tensor(TOPS).cuda(), reference.batch_of(TARGETS).to("cuda"))
    assert _values(metrics) == pytest.approx(_expected(), abs=1e-12)
