import pytest
import torch
from batches import facts, perturb, random_batch

from baselines.adaptive_softmax import AdaptiveSoftmax
from baselines.full_softmax import FullSoftmax
from baselines.sampled_softmax import SampledSoftmax
from baselines.trivial import ClassFrequency, NearestCentroid
from baselines.two_tower import TwoTower
from bench.mach.decode import METHODS
from bench.mach.estimators import ESTIMATORS
from bench.mach.module import Mach
from bench.nn.ranking import UnrankableError, _selected, exact_top_k, top_k_of_product
from tests.mach.costs import TYPICAL, use_costs


def _reference(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    values, labels = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :k], labels[:, :k]


@pytest.mark.parametrize("rank", [exact_top_k, _selected])
@pytest.mark.parametrize("num_points", [1, 7])
@pytest.mark.parametrize("k", [1, 2, 5, 130, 300])
@pytest.mark.parametrize("levels", [1, 3, 40, 10**6])
def test_equal_scores_come_by_smaller_label(rank, num_points, k, levels):
    generator = torch.Generator().manual_seed(levels + k)
    scores = torch.randint(levels, (num_points, 300), generator=generator).float() - levels / 2
    scores[:, 17:150:9] = -torch.inf
    for found, expected in zip(rank(scores, k), _reference(scores, k), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("rank", [exact_top_k, _selected])
@pytest.mark.parametrize("num_points", [1, 3])
@pytest.mark.parametrize("place", [0, 1, 4, 127, 128, 150, 299])
def test_nan_is_refused_wherever_it_stands(rank, num_points, place):
    scores = torch.arange(300.0, 0.0, -1.0).repeat(num_points, 1)
    scores[-1, place] = torch.nan
    for k in (1, 5, 200, 300):
        with pytest.raises(UnrankableError, match="a label's score is NaN; expected numbers"):
            rank(scores, k)


def test_infinities_are_ranked():
    scores = torch.tensor([[0.0, torch.inf, -torch.inf, torch.inf]])
    assert exact_top_k(scores, 4)[1].tolist() == [[1, 3, 0, 2]]


@pytest.mark.parametrize("num_points", [0, 1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ranking_a_product_equals_ranking_its_logits(num_points, dtype, monkeypatch):
    monkeypatch.setattr("bench.nn.tiles._RANKED_FLOATS", {"cpu": 1})
    monkeypatch.setattr("bench.nn.tiles._LEAST_LABELS", 3)  # fewer than are wanted
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=dtype)
        for shape in ((num_points, 33), (500, 33), (500,))
    )
    scores, labels = top_k_of_product(hidden, weight, bias, 4)
    expected, ids = _reference(hidden @ weight.t() + bias, 4)
    torch.testing.assert_close(scores, expected)
    assert torch.equal(labels, ids)


def _methods() -> dict[str, torch.nn.Module]:
    data = facts(20, 6, "multiclass")
    batch = random_batch(9, 20, 6, "multiclass")
    made = {
        "full": FullSoftmax(data, hidden_dims=(4,)),
        "linear": FullSoftmax(data, encoder="linear"),
        "sampled": SampledSoftmax(data, hidden_dims=(4,)),
        "adaptive": AdaptiveSoftmax(data, hidden_dims=(4,)),
        "mach": Mach(data, num_buckets=3, num_worlds=2, hidden_dims=(4,)),
        "frequency": ClassFrequency(data),
        "centroid": NearestCentroid(data),
    }
    for model in made.values():
        if model.is_closed_form:
            model.fit_closed_form([batch])
    return made


@pytest.mark.parametrize("k", [0, 7])
def test_every_method_refuses_an_impossible_k_in_the_same_words(k):
    batch = random_batch(2, 20, 6, "multiclass")
    for model in _methods().values():
        with pytest.raises(ValueError, match=rf"^k is {k}; expected 1 to L = 6$"):
            model.top_k(batch, k)


def test_every_method_ranks_equal_scores_by_smaller_label():
    batch = random_batch(2, 20, 6, "multiclass")
    for name, model in _methods().items():
        if not model.is_closed_form:
            for parameter in model.parameters():
                parameter.data.zero_()
        scores, labels = model.top_k(batch, 6)
        for row, ids in zip(scores.tolist(), labels.tolist(), strict=True):
            assert sorted(ids, key=lambda label: (-row[ids.index(label)], label)) == ids, name


def _spoiled() -> dict[str, torch.nn.Module]:
    """Every method and decode, with a NaN in whatever it ranks by."""
    data = facts(20, 6, "multiclass")
    made = _methods() | {"towers": TwoTower(data, hidden_dims=(4,))}
    worlds = {"num_buckets": 3, "num_worlds": 2, "hidden_dims": (4,)}
    for options in (
        *({"decode_method": method} for method in METHODS),
        *({"estimator": estimator} for estimator in ESTIMATORS),
        {"filter_buckets": 2},
        {"filter_buckets": 2, "estimator": "min"},
    ):
        made[f"mach {options}"] = Mach(data, **worlds, **options)
    for model in made.values():
        for parameter in model.parameters():
            parameter.data.fill_(torch.nan)
    made["centroid"]._weights[:] = torch.nan
    return made


def test_every_method_and_decode_refuses_nan():
    use_costs(TYPICAL)
    batch = random_batch(4, 20, 6, "multiclass")
    for model in _spoiled().values():
        with pytest.raises(UnrankableError, match=r"is NaN|is nan"):
            model.top_k(batch, 2)
    use_costs(None)


@pytest.mark.parametrize("name", ["full", "linear", "sampled"])
def test_prediction_is_the_same_prepared_or_not_and_in_two_steps(name):
    model = _methods()[name]
    perturb(model)
    batch = random_batch(5, 20, 6, "multiclass")
    before = model.top_k(batch, 3)
    model.prepare_inference(3)
    for after in (model.top_k(batch, 3), model.rank(model.encode(batch), 3)):
        assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert model.decode_bytes() == 0  # nothing is kept beside the parameters


def test_nothing_is_compiled_after_inference_was_prepared():
    from bench.nn import ranking

    model = _methods()["full"]
    model.prepare_inference(3)
    kernels = (ranking._scan, ranking._scan_single, ranking._dot_rows)
    before = [len(kernel.signatures) for kernel in kernels]
    assert all(before)
    for num_points in (1, 5):
        model.top_k(random_batch(num_points, 20, 6, "multiclass"), 3)
    assert [len(kernel.signatures) for kernel in kernels] == before


def test_equal_scores_come_by_smaller_label_across_tiles(monkeypatch):
    monkeypatch.setattr("bench.nn.tiles._RANKED_FLOATS", {"cpu": 1})
    monkeypatch.setattr("bench.nn.tiles._LEAST_LABELS", 7)
    generator = torch.Generator().manual_seed(0)
    bias = torch.randint(3, (50,), generator=generator).float()
    found = top_k_of_product(torch.zeros(4, 2), torch.zeros(50, 2), bias, 30)
    for tensor, expected in zip(found, _reference(bias.expand(4, -1), 30), strict=True):
        assert torch.equal(tensor, expected)
