import pytest
import torch
from batches import facts, perturb, random_batch

from bench.mach.merge import merge_worlds
from bench.mach.module import Mach

D, L = 20, 30


def _model(first_world: int, num_worlds: int, **options) -> Mach:
    settings = {"num_buckets": 7, "hidden_dims": (6, 5), "first_world": first_world} | options
    model = Mach(facts(D, L, "multiclass"), num_worlds=num_worlds, **settings)
    perturb(model, seed=first_world)
    return model


@pytest.mark.parametrize("encoder", ["linear", "mlp"])
@pytest.mark.parametrize("num_hashed_features", [None, 12])
def test_merged_worlds_give_the_logits_of_each_part(encoder, num_hashed_features):
    options = {"encoder": encoder, "num_hashed_features": num_hashed_features}
    parts = [_model(3, 2, **options), _model(0, 1, **options)]
    merged = merge_worlds(parts)
    batch = random_batch(6, D, L, "multiclass")
    logits = merged.bucket_logits(batch)
    assert merged.head.world_ids == (0, 3, 4)
    torch.testing.assert_close(logits[:, :1], parts[1].bucket_logits(batch))
    torch.testing.assert_close(logits[:, 1:], parts[0].bucket_logits(batch))
    scores, labels = merged.top_k(batch, 4)
    assert scores.shape == labels.shape == (6, 4)


def test_a_merged_models_settings_name_its_worlds():
    merged = merge_worlds([_model(3, 2), _model(2, 1)])
    assert (merged.hparams["first_world"], merged.hparams["num_worlds"]) == (2, 3)
    again = Mach(facts(D, L, "multiclass"), **merged.hparams)
    assert again.head.world_ids == merged.head.world_ids == (2, 3, 4)
    again.load_state_dict(merged.state_dict())
    batch = random_batch(6, D, L, "multiclass")
    assert torch.equal(again.bucket_logits(batch), merged.bucket_logits(batch))


def test_merging_leaves_the_parts_alone():
    part = _model(0, 1)
    before = {name: value.clone() for name, value in part.state_dict().items()}
    merged = merge_worlds([part, _model(1, 1)])
    with torch.no_grad():
        for parameter in merged.parameters():
            parameter.zero_()
    for name, value in part.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "no models"),
        ([_model(0, 2), _model(1, 1)], "twice"),
        ([_model(0, 2, share_encoder=True)], "share an encoder"),
        ([_model(0, 1), _model(1, 1, num_buckets=8)], "sizes disagree"),
        ([_model(0, 1, hash_seed=1), _model(1, 1, hash_seed=2)], r"disagree: \('balanced', 2\)"),
        ([_model(0, 1, seed=1), _model(1, 1, seed=2)], "hashes disagree"),
        ([_model(0, 1), _model(1, 1, hash_family="murmur3")], "hashes disagree"),
    ],
)
def test_what_cannot_be_merged_is_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        merge_worlds(parts)
