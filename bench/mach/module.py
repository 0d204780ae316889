"""MACH: R independent worlds over B hash buckets, stacked into one model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

import numpy as np
import torch
from torch import Tensor

from bench.data.batch import Batch
from bench.mach import estimators
from bench.mach.arithmetic import index_bytes
from bench.mach.decode import DEFAULT, INDEXED, METHODS
from bench.mach.hashing import FAMILIES, HashFamily
from bench.mach.head import MachHead, table_of
from bench.metrics.torchmetric import RankingMetrics
from bench.nn.checkpoint import SelfDescribing
from bench.nn.classifier import DataFacts, EvaluationBatches, ExtremeClassifier
from bench.nn.layers import Encoder
from bench.nn.lean import Update, WeightType
from bench.nn.losses import LossKind, Reduction
from bench.nn.options import AtLeast, Count, OneOf, Positive, Size, check_values
from bench.settings import SettingsError, derive_seed

#: Points scored for the curves over R and over estimators, unless a trial asks for more.
ANALYSIS_POINTS = 2048
#: Bucket logits kept for them, in floats (1 GiB); wide models score fewer points.
ANALYSIS_FLOATS = 1 << 28
SUBSETS_PER_R = 5


class Mach(SelfDescribing, ExtremeClassifier):
    """R classifiers over B buckets, one data pass; scores merged back to L labels at decode time.

    Worlds are independent: the loss is the sum of the worlds' losses, every initial weight
    is drawn from its own world's seed, and so each world is what training it alone would give. A
    range of worlds can be trained elsewhere (`first_world`) and merged (`bench.mach.merge`).

    Args:
        facts: sizes and label frequencies of the training data.
        num_buckets: B.
        num_worlds: R.
        hash_family: `balanced`, `universal`, `murmur3`, `odp` or `identity`.
        hash_seed: seed of the hash functions; world r hashes by (seed, r). None: derived from
            `seed`, so that a replicate draws them anew. 0 is the authors' with `murmur3` or `odp`.
        estimator: `mean`, `min`, `median`, `logit_sum` or `log_mean`; needs no retraining. None:
            what ranks best in our measurements, `log_mean` for softmax worlds and `logit_sum` for
            BCE worlds. The papers' own is `mean`, their code's for BCE `logit_sum`.
        share_encoder: one encoder for all worlds rather than one each.
        loss: `softmax` or `bce` of each world. None: resolved by the task, `softmax` for
            multiclass data and `bce` for multi-label data.
        loss_reduction: of BCE over the buckets, `sum`, or `mean` as the papers' code: the same
            gradient divided by B, which Adam cancels but for its ε.
        worlds_in_turn: of a study's row: its worlds are trained one after another, each to its end,
            and merged, so that one of them stands in memory in training and a killed trial goes on
            with the next; needs independent encoders. A trainer of one's own has all at once.
        worlds_per_step: worlds whose bucket logits exist together in training; None: all; of a
            study's row also `auto`, as many as half of the machine's memory holds. Those of an
            update while the loss is computed are taken one by one.
        update: of the output layers, as of :class:`baselines.full_softmax.FullSoftmax`: `optimizer`
            as of all layers, or `sgd` or `row_adagrad` while the loss is computed, without
            gradients or moments in memory (`bench.nn.lean`).
        weight_type: of the output layers; `bfloat16`, rounded stochastically, needs such an update.
        output_rate: learning rate of such an update; None: that of the optimiser.
        num_hashed_features: hash features per world to this many; needs independent encoders.
        first_world: number of the first of the R worlds.
        decode_method: see :func:`bench.mach.decode.top_k`.
        analysis_points: test points that the curves over R and over estimators are scored on, at
            most; they cost one decode per subset. Their bucket logits are kept within 1 GiB.
        filter_buckets: rank only the labels of so many best buckets of the first world, see
            `bench.mach.decode.filtered`; approximate. None: all labels.
        output_std: standard deviation of the output layers' initial weights.
        **shared: see :class:`ExtremeClassifier`.

    Raises:
        SettingsError: an option that is not what its annotation declares, feature hashing with a
            shared encoder, a filter of more buckets than there are, or an update of what is none.
        ValueError: sizes that the hash family cannot hash.

    Source: Huang et al. 2018 (arXiv 1810.04254); Medini et al. 2019 (arXiv 1910.13830).
    """

    tables = (*ExtremeClassifier.tables, "head.table")
    with_bias_row = ("head.weight",)

    def __init__(
        self,
        facts: DataFacts,
        *,
        num_buckets: Count,
        num_worlds: Count,
        hash_family: Annotated[str, OneOf(FAMILIES)] = "balanced",
        hash_seed: int | None = None,
        estimator: Annotated[str, OneOf(estimators.ESTIMATORS)] | None = None,
        share_encoder: bool = False,
        loss: LossKind | None = None,
        loss_reduction: Reduction = "sum",
        worlds_in_turn: bool = False,
        worlds_per_step: Count | None = None,
        update: Update = "optimizer",
        weight_type: WeightType = "float32",
        output_rate: Positive | None = None,
        num_hashed_features: Count | None = None,
        first_world: Annotated[int, AtLeast(0)] = 0,
        decode_method: Annotated[str, OneOf(METHODS)] = DEFAULT,
        analysis_points: Annotated[int, AtLeast(0)] = ANALYSIS_POINTS,
        filter_buckets: Count | None = None,
        output_std: Size = 0.0,
        **shared: Any,
    ) -> None:
        given = locals()
        check_values(Mach.__init__, given)
        self.refuse_together(given | shared)
        super().__init__(facts, **shared)
        self.num_hashed_features = num_hashed_features
        self.analysis_points = analysis_points
        self.is_shared = share_encoder and self.encoder_kind != "linear"
        self.output_rate = output_rate
        self.updates_in_loss = update != "optimizer"
        is_linear = self.encoder_kind == "linear"
        self.head = MachHead(
            None if is_linear else self.hidden_dims[-1],
            self.num_labels,
            num_buckets=num_buckets,
            num_worlds=num_worlds,
            loss=loss or ("softmax" if self.task == "multiclass" else "bce"),
            label_counts=facts.label_counts if self.prior_start and not is_linear else None,
            num_points=facts.num_train_points,
            seed=self.seed,
            hash_family=hash_family,
            hash_seed=hash_seed,
            estimator=estimator,
            loss_reduction=loss_reduction,
            worlds_per_step=worlds_per_step,
            update=update,
            weight_type=weight_type,
            output_rate=self.learning_rate if self.updates_in_loss else None,
            weight_decay=self.weight_decay,
            first_world=first_world,
            decode_method=decode_method,
            filter_buckets=filter_buckets,
            output_std=output_std,
            start=self.start,
        )
        self._build_encoder()
        if is_linear and not self.head.table.is_meta:
            counts = self.head.column_counts(facts.label_counts)
            self.start_from_prior(None, counts, self.head.loss_kind)

    def _build_encoder(self) -> None:
        """Encoders, each of its world's seed unless they share one."""
        options: dict[str, Any] = {}
        self.feature_hashes: HashFamily | None = None
        if self.num_hashed_features is not None:
            size = self.num_hashed_features
            self.feature_hashes = self.head.hash_of("murmur3", self.num_features, size)
            options = {"num_hashed_features": size, "feature_table": table_of(self.feature_hashes)}
        seeds = (self.seed,) if self.is_shared else self.head.world_seeds
        self.encoder = self.build_encoder(seeds, self.head.num_buckets, **options)

    @classmethod
    def refuse_together(cls, settings: Mapping[str, Any]) -> None:
        """What needs encoders of their own, no more than B buckets, another loss or an update."""
        super().refuse_together(settings)
        if settings.get("num_hashed_features") is not None and settings.get("share_encoder"):
            raise SettingsError("num_hashed_features is per world; expected share_encoder=False")
        if settings.get("worlds_in_turn") and settings.get("share_encoder"):
            raise SettingsError(
                "worlds_in_turn is True and worlds share an encoder; expected share_encoder=False, "
                "or worlds_per_step to bound the memory of a step"
            )
        if settings.get("worlds_in_turn") and settings.get("keep_best"):
            raise SettingsError(
                "worlds_in_turn is True and keep_best, and there is no model to validate before "
                "the last world's end; expected keep_best=False"
            )
        MachHead.refuse_together(settings)

    def identity(self) -> Mapping[str, object]:
        """Loss and hash functions: which labels a bucket is made of."""
        own = {**super().identity(), "num_hashed_features": self.num_hashed_features}
        return {**own, **self.head.identity()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse worlds that settings cannot name.

        Raises:
            ValueError: worlds merged from here and there, whose numbers leave gaps.
        """
        worlds = self.head.world_ids
        if worlds != tuple(range(worlds[0], worlds[0] + len(worlds))):
            raise ValueError(f"worlds are {worlds}; a checkpoint needs them without gaps")
        super().on_save_checkpoint(checkpoint)

    def training_loss(self, batch: Batch) -> Tensor:
        """Sum over worlds of the mean loss of the batch's points on their hashed labels."""
        if self.updates_in_loss:
            self.head.output_rate = (self.output_rate or self.learning_rate) * self.rate_factor
        return self.head.loss(self.encoder(batch), batch)

    def bucket_logits(self, batch: Batch) -> Tensor:
        """Logits `(N, R, B)` of every world's buckets, without a gradient."""
        hidden = self.encode(batch)
        with torch.autocast(hidden.device.type, enabled=False):
            return self.head.bucket_logits(hidden)

    def rank(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Estimated label scores and labels, each `(N, k)`, best first.

        Exact over all labels, unless one world filters them (`filter_buckets`).

        Args:
            hidden: `(R, N, H)`, or `(1, N, H)` if shared; of a linear model `(R, N, B)` logits.
            k: labels wanted, 1 to L.
        """
        return self.head.rank(hidden, k)

    def prepare_inference(self, k: int) -> None:
        """Compile every way that a decode may go, build the index if the method has one."""
        self.head.prepare_inference(k)

    def fill_tables(self) -> None:
        """The buckets of all labels and, where they are hashed, of all features."""
        self.head.fill_tables()
        if self.feature_hashes is not None:
            cast(Encoder, self.encoder).feature_table = self.feature_hashes.table()

    def probabilities(self, batch: Batch, scores: Tensor, labels: Tensor) -> Tensor:
        """The unbiased estimate (estimator `mean`) of softmax worlds, within 0 and 1.

        Of BCE worlds there is none: a bucket's sigmoid is that of any of its labels.

        Source: Medini et al. 2019, theorem 1.
        """
        if self.head.loss_kind == "bce":
            return super().probabilities(batch, scores, labels)
        return self.head.probabilities(self.encode(batch), scores, labels)

    def facts_of_inference(self) -> Mapping[str, Any]:
        """`decode_costs`: what `auto` chooses by, where it is the decode method."""
        if self.head.decode_method != "auto" or self.head.table.device.type != "cpu":
            return {}
        from bench.mach.decode import auto

        return {"decode_costs": dataclasses.asdict(auto.costs())}

    def analyse(self, batches: EvaluationBatches, metrics: RankingMetrics) -> Mapping[str, Any]:
        """Accuracy of random subsets of the worlds for each R, and of each estimator.

        Worlds are exchangeable, so that a run with R worlds shows every smaller R. Memory and time
        of a smaller R are another trial's. Labels are found as in prediction; of a subset that
        filters, its own first world does.
        """
        kept: list[tuple[Batch, Tensor]] = []
        num_points = 0
        head = self.head
        per_point = head.num_worlds * head.num_buckets
        limit = min(self.analysis_points, ANALYSIS_FLOATS // per_point)
        for batch in batches:
            if num_points >= limit:
                break
            kept.append((batch, self.bucket_logits(batch)))
            num_points += batch.num_points

        def score(estimator: str, worlds: Sequence[int]) -> dict[str, float]:
            metrics.reset()
            index = torch.tensor(list(worlds), device=head.table.device)
            table = head.table.index_select(0, index)  # once: a filter keeps an index of it
            for batch, logits in kept:
                some = logits.index_select(1, index)
                labels = head.decode_by(some, table, max(metrics.ks), estimator, DEFAULT)[1]
                metrics.update(labels, batch)
            return {name: float(value) for name, value in metrics.compute().items()}

        every = list(range(head.num_worlds))
        rows = [
            {
                "num_worlds": len(worlds),
                "worlds": [head.world_ids[world] for world in worlds],
                "num_points": num_points,
                "metrics": score(head.estimator, worlds),
            }
            for worlds in world_subsets(head.num_worlds, self.seed)
        ]
        by_estimator = {name: score(name, every) for name in estimators.ESTIMATORS}
        metrics.reset()
        return {"worlds": rows, "estimators": by_estimator}

    def decode_bytes(self) -> int:
        """Bytes of the hash tables, and of the decode method's index of them."""
        head = self.head
        num_bytes = head.table.numel() * head.table.element_size()
        is_indexed = head.filter_buckets is not None or head.decode_method in INDEXED
        if is_indexed and head.table.device.type != "cuda":
            num_bytes += index_bytes(self.num_labels, head.num_worlds, head.num_buckets)
        return num_bytes


def world_subsets(num_worlds: int, seed: int) -> list[list[int]]:
    """Random subsets of worlds of sizes 1, 2, 4 … and R: several of each size but the last."""
    sizes = sorted({1, 2, 4, 8, 16, 32, 64, num_worlds} & set(range(1, num_worlds + 1)))
    generator = np.random.default_rng(derive_seed("world subsets", seed, num_worlds))
    subsets: list[list[int]] = []
    for size in sizes:
        found: set[tuple[int, ...]] = set()
        for _ in range(1 if size == num_worlds else SUBSETS_PER_R):
            drawn = generator.permutation(num_worlds)[:size]
            found.add(tuple(sorted(int(world) for world in drawn)))
        subsets.extend(list(subset) for subset in sorted(found))
    return subsets
