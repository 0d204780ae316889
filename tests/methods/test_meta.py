"""What is asked on the meta device: sizes, without memory or work."""

import pytest
import torch
from batches import facts

from baselines import sampled_labels
from baselines.full_softmax import FullSoftmax
from baselines.sampled_bce import SampledBce
from baselines.sampled_softmax import SampledSoftmax
from baselines.trivial import NearestCentroid
from bench.nn import classifier


@pytest.mark.parametrize("method", [FullSoftmax, SampledSoftmax, SampledBce])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_a_model_without_memory_has_no_sampler_and_no_prior(method, task, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("computed for a model that has no memory")

    monkeypatch.setattr(sampled_labels, "build_sampler", refuse)
    monkeypatch.setattr(classifier, "prior_bias", refuse)
    data = facts(20, 30, task)
    with torch.device("meta"):
        model = method(data, hidden_dims=(2**40,), output_std=0.1)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model.activation_bytes(8, 5.0) > 4 * 8 * 2**40


def test_wrong_options_are_refused_without_memory_too():
    data = facts(20, 30, "multiclass")
    with torch.device("meta"), pytest.raises(ValueError, match="'zipf'"):
        SampledSoftmax(data, sampler="zipf")


def test_a_centroid_without_data_holds_nothing():
    assert NearestCentroid(facts(10**6, 30, "multiclass")).decode_bytes() == 0
