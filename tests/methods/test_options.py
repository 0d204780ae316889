"""Options are held against what a class declares: where given, and before anything runs."""

from __future__ import annotations

import doctest

import pytest
import torch
from batches import facts

from baselines.adaptive_softmax import AdaptiveSoftmax
from baselines.full_softmax import FullSoftmax
from baselines.sampled_bce import SampledBce
from baselines.sampled_softmax import SampledSoftmax
from baselines.trivial import NearestCentroid
from baselines.two_tower import TwoTower
from bench.mach.module import Mach
from bench.methods.cards import cards, check_options
from bench.nn import options as module
from bench.settings import ModelSpec, SettingsError, TrainSpec
from bench.studies import mlp

WORLDS = {"num_buckets": 8, "num_worlds": 2}


@pytest.mark.parametrize(
    ("method", "option", "value", "expected"),
    [
        ("full_softmax", "loss", "Softmax", "'softmax', 'bce' or None"),
        ("full_softmax", "loss", "sofmax", "'softmax', 'bce' or None"),
        ("full_softmax", "loss_reduction", "max", "'sum' or 'mean'"),
        ("full_softmax", "chunk_size", 0, "a whole number of at least 1 or None"),
        ("full_softmax", "chunk_size", "8", "a whole number of at least 1 or None"),
        ("full_softmax", "output_std", -1.0, "a number of at least 0"),
        ("full_softmax", "feature_dropout", 1.0, "a number of at least 0 and below 1"),
        ("full_softmax", "prior_start", "no", "True or False"),
        ("full_softmax", "start", "xavier", "'own', 'truncated_normal' or 'fan_in_uniform'"),
        ("full_softmax", "start_std", 0.0, "a number above 0"),
        ("mach", "loss", "Softmax", "'softmax', 'bce' or None"),
        ("mach", "num_buckets", 0, "a whole number of at least 1"),
        ("mach", "num_buckets", 8.0, "a whole number of at least 1"),
        ("mach", "num_worlds", True, "a whole number of at least 1"),
        ("mach", "hash_family", "md5", "'universal', 'murmur3', 'balanced', 'identity' or 'odp'"),
        ("mach", "hash_seed", "0", "a whole number or None"),
        ("mach", "estimator", "max", "'mean', 'min', 'median', 'logit_sum', 'log_mean' or None"),
        ("mach", "decode_method", "fast", "'dense', 'pruned' or 'auto'"),
        ("mach", "worlds_per_step", 0, "a whole number of at least 1 or None"),
        ("mach", "first_world", -1, "a whole number of at least 0"),
        ("mach", "filter_buckets", 0, "a whole number of at least 1 or None"),
        ("sampled_softmax", "sampler", "unigramm", "'uniform', 'log_uniform', 'unigram', "),
        ("sampled_softmax", "num_samples", -1, "a whole number of at least 0"),
        ("sampled_softmax", "power", "half", "a number"),
        ("sampled_bce", "sampler", "zipf", "'in_batch' or 'all'"),
        ("adaptive_softmax", "num_tails", 1.5, "a whole number of at least 0"),
        ("adaptive_softmax", "head_share", 0.0, "a number above 0 and below 1"),
        ("adaptive_softmax", "div_value", 0.5, "a number of at least 1"),
        ("two_tower", "similarity", "euclid", "'cosine' or 'dot'"),
        ("two_tower", "temperature", 0.0, "a number above 0"),
        ("two_tower", "sampler", "zipf", "'in_batch' or 'all'"),
        ("centroid", "feature_dropout", 2, "a number of at least 0 and below 1"),
        ("frequency", "start", "zero", "'own', 'truncated_normal' or 'fan_in_uniform'"),
    ],
)
def test_a_value_that_a_method_does_not_take_is_one_sentence_wherever_it_is_given(
    method, option, value, expected
):
    given = {option: value} if method != "mach" else WORLDS | {option: value}
    spec = mlp(method, 16, **given)
    told = f"option {option} of method {method!r} is {value!r}; expected "
    with pytest.raises(SettingsError) as refused:
        check_options(spec)
    assert str(refused.value).startswith(told)
    assert expected in str(refused.value)
    with pytest.raises(SettingsError) as built:
        CLASSES[method](facts(20, 30, "multiclass"), **given)
    assert str(built.value) == str(refused.value).replace(
        f"option {option} of method {method!r}", option
    )


CLASSES = {
    "full_softmax": FullSoftmax,
    "mach": Mach,
    "sampled_softmax": SampledSoftmax,
    "sampled_bce": SampledBce,
    "adaptive_softmax": AdaptiveSoftmax,
    "two_tower": TwoTower,
    "centroid": NearestCentroid,
    "frequency": NearestCentroid,
}


@pytest.mark.parametrize("kind", [FullSoftmax, SampledSoftmax, TwoTower])
@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("optimizer", "adamw", "'adam', 'row_adam' or 'tf_adam'"),
        ("encoder", "MLP", "'linear', 'mlp' or a Module"),
        ("learning_rate", "0.1", "a number of at least 0"),
        ("learning_rate", float("inf"), "a number of at least 0"),
        ("adam_epsilon", -1e-8, "a number of at least 0"),
        ("hidden_dims", (0,), "a whole number of at least 1, or a list of such"),
        ("ks", (1, 2.5), "a whole number of at least 1, or a list of such"),
    ],
)
def test_training_settings_are_refused_where_they_are_given(kind, option, value, expected):
    with pytest.raises(SettingsError) as refused:
        kind(facts(20, 30, "multiclass"), **{option: value})
    assert str(refused.value) == f"{option} is {value!r}; expected {expected}"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (mlp("mach", 64, num_bucket=2, num_worlds=2), r"unknown \['num_bucket'\]"),
        (mlp("mach", 64, num_bucket=2), r"missing \['num_buckets', 'num_worlds'\]"),
        (mlp("mach", 64, seed=3, **WORLDS), r"unknown \['seed'\]"),
        (
            mlp("mach", 64, num_hashed_features=9, share_encoder=True, **WORLDS),
            "expected share_encoder=False",
        ),
        (mlp("mach", 64, filter_buckets=9, **WORLDS), "expected None or 1 to B = 8"),
        (
            mlp("mach", 64, loss="softmax", loss_reduction="mean", **WORLDS),
            "loss_reduction is 'mean' and the loss 'softmax'; expected 'bce'",
        ),
        (mlp("full_softmax", 64, loss="softmax", loss_reduction="mean"), "expected 'bce'"),
        (mlp("sampled_softmax", 64, num_samples=0), "num_samples is 0; expected at least 1"),
        (mlp("two_tower", 64, output_std=0.0), "expected above 0 for a cosine"),
        (ModelSpec(method="sampled_bce", encoder="linear"), "needs a hidden layer"),
        (ModelSpec(method="two_tower", encoder="linear"), "expected 'mlp'"),
        (ModelSpec(method="adaptive_softmax", encoder="linear"), "encoder is 'linear'"),
        (mlp("omikuji", 64), "encoder of method 'omikuji' is 'mlp'; expected 'linear'"),
        (
            ModelSpec(method="omikuji", encoder="linear", options={"preset": "fast"}),
            "expected 'parabel', 'wide' or 'bonsai'",
        ),
        (mlp("machh", 64), "method is 'machh'; expected one of"),
    ],
)
def test_what_cannot_be_built_is_refused_before_data_is_read(spec, message):
    with pytest.raises(SettingsError, match=message):
        check_options(spec, TrainSpec())


def test_a_sampler_that_draws_nothing_needs_no_samples():
    check_options(mlp("sampled_softmax", 16, sampler="in_batch", num_samples=0))


# Not those that other tests register.
OWN = [card for card in cards() if card.target.startswith(("bench.", "baselines."))]


@pytest.mark.parametrize("card", OWN, ids=lambda card: card.name)
def test_every_method_says_what_it_takes(card):
    spec = ModelSpec(method=card.name, encoder="linear", options={"no such option": 1})
    with pytest.raises(SettingsError, match=r"unknown \['no such option'\].*it takes"):
        check_options(spec)


def test_one_width_and_one_cut_off_may_stand_alone():
    model = FullSoftmax(facts(20, 30, "multiclass"), hidden_dims=7, ks=5)
    assert (model.hidden_dims, model.ks) == ((7,), (5,))


class Own(FullSoftmax):
    """A user's, with an annotation that nothing can look up."""

    def __init__(self, facts, *, tuned: Somewhere = None, **shared) -> None:  # noqa: F821
        super().__init__(facts, **shared)


def test_a_users_own_annotations_need_not_be_found():
    assert isinstance(Own(facts(20, 30, "multiclass"), tuned=3).head.weight, torch.nn.Parameter)
    with pytest.raises(SettingsError, match="loss is 'sofmax'"):
        Own(facts(20, 30, "multiclass"), loss="sofmax")


def test_examples_in_docstrings_hold():
    assert doctest.testmod(module).failed == 0
