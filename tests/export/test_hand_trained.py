"""Models that were trained by a Lightning trainer of one's own, and what cannot be exported."""

from __future__ import annotations

import warnings
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from torch import nn

from bench import ExtremeDataModule, FullSoftmax, Mach, Predictor, data_facts, export_model
from bench.data.batch import Batch
from bench.export.folder import ModelError
from bench.nn.checkpoint import own_part
from bench.settings import DataSpec, SettingsError
from tests.export.models import planted


def _data(folder: Path, spec: DataSpec | None = None) -> ExtremeDataModule:
    data = ExtremeDataModule(
        spec or planted(), batch_size=64, data_dir=folder, cache_dir=folder / "cache"
    )
    data.setup()
    return data


def _trained(data: ExtremeDataModule, folder: Path) -> tuple[Mach, lightning.Trainer]:
    model = Mach(data_facts(data), num_buckets=16, num_worlds=3, hidden_dims=(8,), seed=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        trainer.fit(model, datamodule=data)
    return model.eval(), trainer


def _answers(model: Mach, data: ExtremeDataModule) -> tuple[np.ndarray, list]:
    with torch.inference_mode():
        found = [model.top_k(batch, 5) for batch in data.test_dataloader(batch_size=90)]
    return found[0][0].numpy(), found[0][1].tolist()


def test_a_model_and_its_checkpoint_predict_as_they_were_trained(tmp_path):
    data = _data(tmp_path)
    model, trainer = _trained(data, tmp_path)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    scores, labels = _answers(model, data)
    for name, given in (("a", model), ("b", str(tmp_path / "own.ckpt"))):
        folder = export_model(given, data, tmp_path / name)
        found = Predictor.load(folder).top_k(data.dataset.test_features, 5)
        np.testing.assert_array_equal(found[1], scores)
        assert found[0] == labels
    about = Predictor.load(tmp_path / "a").about
    assert about["record"] is None
    assert about["settings"]["num_worlds"] == 3
    assert about["fingerprint"] == data.facts["fingerprint"]


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    data = _data(tmp_path)
    _, trainer = _trained(data, tmp_path)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    other = _data(tmp_path, planted(split_seed=1))
    with pytest.raises(ModelError, match=r"trained on data of fingerprint \w+; expected \w+"):
        export_model(tmp_path / "own.ckpt", other, tmp_path / "model")
    fewer = _data(tmp_path, planted(num_top_labels=7))
    model = FullSoftmax(data_facts(data), hidden_dims=(8,))
    with pytest.raises(SettingsError, match="num_labels of the data is 7, of the model 40"):
        export_model(model, fewer, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_file_that_is_no_checkpoint_of_ours_is_refused(tmp_path):
    with pytest.raises(ValueError, match="of no model of this suite"):
        own_part({})
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="of no model of this suite"):
        export_model(tmp_path / "other.ckpt", _data(tmp_path), tmp_path / "model")


class _Mean(nn.Module):
    def forward(self, batch: Batch) -> torch.Tensor:
        return torch.zeros(batch.num_points, 8)


class _Sub(FullSoftmax):
    pass


def test_what_a_folder_cannot_hold_is_refused_by_name(tmp_path):
    data = _data(tmp_path)
    facts = data_facts(data)
    own = FullSoftmax(facts, encoder=_Mean(), hidden_dims=(8,))
    with pytest.raises(ModelError, match="the encoder is a module of your own, whose code"):
        export_model(own, data, tmp_path / "model")
    with pytest.raises(ModelError, match="_Sub is no registered method; expected one, or a bench"):
        export_model(_Sub(facts, hidden_dims=(8,)), data, tmp_path / "model")
    gaps = Mach(facts, num_buckets=16, num_worlds=3, hidden_dims=(8,))
    gaps.head.hashes = gaps.head.hash_of("murmur3", 40, 16)
    with pytest.raises(ModelError, match="expected a model that its settings name"):
        export_model(gaps, data, tmp_path / "model")
