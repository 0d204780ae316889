"""What is asked on the meta device: sizes, without memory or work."""

import pytest
import torch
import torch.nn.functional as F
from batches import facts, random_batch

from baselines import sampled_labels
from baselines.full_softmax import FullSoftmax
from baselines.sampled_bce import SampledBce
from baselines.sampled_softmax import SampledSoftmax
from baselines.trivial import NearestCentroid
from bench.nn import classifier
from bench.nn.classifier import DataFacts, ExtremeClassifier
from bench.nn.ranking import exact_top_k


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


def test_wrong_options_are_refused_without_memory_too():
    data = facts(20, 30, "multiclass")
    with torch.device("meta"), pytest.raises(ValueError, match="'zipf'"):
        SampledSoftmax(data, sampler="zipf")


def test_a_centroid_without_data_holds_nothing():
    assert NearestCentroid(facts(10**6, 30, "multiclass")).decode_bytes() == 0


class Frequencies(ExtremeClassifier):
    """A bias a label and nothing else: the least that a method has to say."""

    def __init__(self, facts: DataFacts, **shared) -> None:
        super().__init__(facts, **shared)
        self.encoder = self.build_encoder((self.seed,), self.num_labels)

    def training_loss(self, batch):
        return F.cross_entropy(self.encode(batch)[0], batch.label_ids)

    def rank(self, hidden, k):
        return exact_top_k(hidden[0], k)


def test_a_method_is_its_layers_a_loss_and_a_ranking():
    model = Frequencies(facts(20, 30, "multiclass"), encoder="linear", learning_rate=0.1)
    batch = random_batch(9, 20, 30, "multiclass")
    optimizer = model.configure_optimizers()
    before = model.training_loss(batch)
    before.backward()
    optimizer.step()
    assert model.training_loss(batch).item() < before.item()
    assert model.top_k(batch, 4)[1].shape == (9, 4)
    model.prepare_inference(4)
    assert (model.decode_bytes(), model.analyse([], None)) == (0, {})
