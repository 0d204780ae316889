"""MACH: R independent worlds over B hash buckets, stacked into one model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from bench.data.batch import Batch
from bench.mach import decode, estimators
from bench.mach.decode import DEFAULT, INDEXED, METHODS, filtered
from bench.mach.decode.index import index_bytes
from bench.mach.hashing import FAMILIES, HashFamily, build_hash
from bench.metrics.torchmetric import RankingMetrics
from bench.nn.checkpoint import SelfDescribing
from bench.nn.classifier import DataFacts, EvaluationBatches, ExtremeClassifier
from bench.nn.layers import Encoder, draw_output
from bench.nn.lean import LeanUpdate, Update, WeightType, refuse_without_update
from bench.nn.losses import (
    LossKind,
    Positives,
    Reduction,
    build_positives,
    chunked_loss,
    fused_loss_of_logits,
    loss_scale,
    refuse_mean_of_softmax,
    with_ones,
)
from bench.nn.options import AtLeast, Count, OneOf, Positive, Size, check_values
from bench.settings import SettingsError, derive_seed

#: Points scored for the curves over R and over estimators, unless a trial asks for more.
ANALYSIS_POINTS = 2048
#: Bucket logits kept for them, in floats (1 GiB); wide models score fewer points.
ANALYSIS_FLOATS = 1 << 28
SUBSETS_PER_R = 5
DEFAULT_ESTIMATORS: Mapping[LossKind, str] = {"softmax": "log_mean", "bce": "logit_sum"}


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

    tables = (*ExtremeClassifier.tables, "table")
    with_bias_row = ("output",)

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
        self.num_buckets = num_buckets
        self.num_worlds = num_worlds
        self.world_ids = tuple(range(first_world, first_world + num_worlds))
        self.loss_kind: LossKind = loss or ("softmax" if self.task == "multiclass" else "bce")
        self.loss_scale = loss_scale(loss_reduction, self.loss_kind, num_buckets)
        self.estimator = estimator or DEFAULT_ESTIMATORS[self.loss_kind]
        self.worlds_per_step = worlds_per_step
        self.num_hashed_features = num_hashed_features
        self.decode_method = decode_method
        self.analysis_points = analysis_points
        self.filter_buckets = filter_buckets
        self.is_shared = share_encoder and self.encoder_kind != "linear"
        seed = derive_seed("hash", self.seed) if hash_seed is None else hash_seed
        self.hashes = self._hash(hash_family, self.num_labels, num_buckets, seed)
        self.register_buffer("table", _table(self.hashes), persistent=False)
        self.table: Tensor
        self.output_rate = output_rate
        self.lean: LeanUpdate | None = None
        self.updates_in_loss = update != "optimizer"
        seeds = tuple(derive_seed("world", self.seed, world) for world in self.world_ids)
        if update != "optimizer":
            rounding = [derive_seed("rounding", seed) for seed in seeds]
            self.lean = LeanUpdate(rounding, num_buckets, rule=update)
        self._build_encoder(seeds, seed)
        if self.encoder_kind != "linear":
            self._build_output(seeds, output_std, getattr(torch, weight_type))
        if self.table.device.type != "meta":
            counts = self._bucket_counts(facts.label_counts)
            self.start_from_prior(self._biases(), counts, self.loss_kind)

    def _hash(self, family: str, num_keys: int, num_buckets: int, seed: int) -> HashFamily:
        """The hash of this model's worlds, of labels or of features."""
        drawn = build_hash(family, num_keys, num_buckets, self.world_ids[-1] + 1, seed)
        return drawn.subset(self.world_ids)

    def _build_encoder(self, seeds: tuple[int, ...], hash_seed: int) -> None:
        """Encoders, each of its world's seed unless they share one."""
        options: dict[str, Any] = {}
        self.feature_hashes: HashFamily | None = None
        if self.num_hashed_features is not None:
            size = self.num_hashed_features
            self.feature_hashes = self._hash("murmur3", self.num_features, size, hash_seed)
            options = {"num_hashed_features": size, "feature_table": _table(self.feature_hashes)}
        self.encoder = self.build_encoder(
            (self.seed,) if self.is_shared else seeds, self.num_buckets, **options
        )

    def _build_output(
        self, seeds: tuple[int, ...], output_std: float, weight_type: torch.dtype
    ) -> None:
        """Output layers, each of its world's seed.

        What an optimiser trains is one parameter whose last row is the bias. A lean update has
        buckets in rows, and biases apart, which keep 32 bits.
        """
        width = self.hidden_dims[-1]
        if self.lean is None:
            weight = torch.zeros(self.num_worlds, width + 1, self.num_buckets)
            kernels, biases = weight[:, :width], weight[:, width]
        else:
            weight = torch.zeros(self.num_worlds, self.num_buckets, width, dtype=weight_type)
            kernels, biases = weight, torch.zeros(self.num_worlds, self.num_buckets)
            self.output_bias = nn.Parameter(biases, requires_grad=False)
        for world, seed in enumerate(seeds):
            draw_output(kernels[world], biases[world], seed, output_std, self.start, width)
        self.output = nn.Parameter(weight, requires_grad=self.lean is None)

    def _biases(self) -> Tensor | None:
        """`(R, B)` view of the output layers' biases; None: they are the encoder's."""
        if self.encoder_kind == "linear":
            return None
        return self.output[:, -1, :] if self.lean is None else self.output_bias

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
        most, num_buckets = settings.get("filter_buckets"), settings["num_buckets"]
        if most is not None and most > num_buckets:
            raise SettingsError(
                f"filter_buckets is {most}; expected None or 1 to B = {num_buckets}"
            )
        refuse_mean_of_softmax(settings)
        refuse_without_update(settings)

    def identity(self) -> Mapping[str, object]:
        """Loss and hash functions: which labels a bucket is made of."""
        hashes = {f"hash {name}": value for name, value in self.hashes.to_dict().items()}
        loss = {"loss": self.loss_kind, "num_hashed_features": self.num_hashed_features}
        return {**super().identity(), **loss, **hashes}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse worlds that settings cannot name.

        Raises:
            ValueError: worlds merged from here and there, whose numbers leave gaps.
        """
        first = self.world_ids[0]
        if self.world_ids != tuple(range(first, first + self.num_worlds)):
            raise ValueError(f"worlds are {self.world_ids}; a checkpoint needs them without gaps")
        super().on_save_checkpoint(checkpoint)

    def _bucket_counts(self, label_counts: Tensor) -> Tensor:
        """`(R, B)` int64 training points of each bucket, from those of each label."""
        table = self.table.cpu()
        counts = torch.zeros(self.num_worlds, self.num_buckets, dtype=torch.int64, device="cpu")
        for world in range(self.num_worlds):  # not all at once: int64 of the size R · L
            counts[world].scatter_add_(0, table[world].long(), label_counts.cpu())
        return counts

    def _positives(self, batch: Batch) -> Positives:
        columns = self.table.index_select(1, batch.label_ids).long()
        return build_positives(
            columns, batch.label_offsets, batch.label_point_ids, self.num_buckets, self.loss_kind
        )

    def training_loss(self, batch: Batch) -> Tensor:
        """Sum over worlds of the mean loss of the batch's points on their hashed labels."""
        positives = self._positives(batch)
        hidden = self.encoder(batch)
        if self.encoder_kind == "linear":
            loss = fused_loss_of_logits(hidden, positives, self.loss_kind)
        elif self.lean is not None:
            return self.lean.loss(
                hidden,
                self.output,
                self.output_bias,
                positives,
                self.loss_kind,
                rate=(self.output_rate or self.learning_rate) * self.rate_factor,
                scale=self.loss_scale,
                weight_decay=self.weight_decay,
            )
        else:
            loss = chunked_loss(
                with_ones(hidden),
                self.output.transpose(1, 2),
                positives,
                self.loss_kind,
                layers_per_chunk=self.worlds_per_step,
            )
        return loss * self.loss_scale if self.loss_scale != 1 else loss

    def bucket_logits(self, batch: Batch) -> Tensor:
        """Logits `(N, R, B)` of every world's buckets, without a gradient."""
        hidden = self.encode(batch)
        with torch.autocast(hidden.device.type, enabled=False):
            return self._logits(hidden)

    def _logits(self, hidden: Tensor) -> Tensor:
        if self.encoder_kind == "linear":
            return hidden.detach().transpose(0, 1).contiguous()
        hidden = hidden.detach().float().expand(self.num_worlds, -1, -1)
        logits = hidden.new_empty(hidden.shape[1], self.num_worlds, self.num_buckets)
        # Written where they belong: a product by itself is (R, N, B), and turning it a copy.
        out = logits.transpose(0, 1)
        if self.lean is None:
            torch.bmm(with_ones(hidden), self.output.detach(), out=out)
        else:
            weight = self.output.float().mT
            torch.baddbmm(self.output_bias.unsqueeze(1), hidden, weight, out=out)
        return logits

    def decode_logits(
        self, logits: Tensor, k: int, *, estimator: str, worlds: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Label scores and labels, each `(N, k)`, from `(N, R, B)` logits of some of the worlds.

        As prediction finds them: with `filter_buckets`, the first of these worlds filters.

        Args:
            logits: of all worlds.
            k: labels wanted, 1 to L.
            estimator: a key of `bench.mach.estimators.ESTIMATORS`.
            worlds: indices of some of the worlds; None: all.
        """
        if worlds is None:
            return self._decode(logits, self.table, k, estimator, self.decode_method)
        index = torch.tensor(list(worlds), device=logits.device)
        logits, table = logits.index_select(1, index), self.table.index_select(0, index)
        # What another method prepares for a table pays when the table is used again.
        return self._decode(logits, table, k, estimator, DEFAULT)

    def _decode(
        self, logits: Tensor, table: Tensor, k: int, estimator: str, method: str
    ) -> tuple[Tensor, Tensor]:
        """Label scores in the estimator's own scale, and labels, by logits and table of worlds."""
        scores = estimators.bucket_scores(logits, self.loss_kind, estimator)
        reduction = estimators.reduction(estimator)
        if self.filter_buckets is None:
            found = decode.top_k(scores, table, k, reduction=reduction, method=method)
        else:
            most = self.filter_buckets
            found = filtered.top_k(scores, table, k, num_best_buckets=most, reduction=reduction)
        num_worlds, num_buckets = logits.shape[1:]
        reduced, labels = found
        return (
            estimators.label_scores(reduced, num_worlds, num_buckets, estimator, self.loss_kind),
            labels,
        )

    def rank(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Estimated label scores and labels, each `(N, k)`, best first.

        Exact over all labels, unless one world filters them (`filter_buckets`).

        Args:
            hidden: `(R, N, H)`, or `(1, N, H)` if shared; of a linear model `(R, N, B)` logits.
            k: labels wanted, 1 to L.
        """
        return self.decode_logits(self._logits(hidden), k, estimator=self.estimator)

    def prepare_inference(self, k: int) -> None:
        """Compile every way that a decode may go, build the index if the method has one."""
        reduction = estimators.reduction(self.estimator)
        sizes = self.table, self.num_buckets, k
        if self.filter_buckets is None:
            decode.prepare(*sizes, reduction=reduction, method=self.decode_method)
        else:
            most = self.filter_buckets
            filtered.prepare(*sizes, num_best_buckets=most, reduction=reduction)

    def fill_tables(self) -> None:
        """The buckets of all labels and, where they are hashed, of all features."""
        self.table = self.hashes.table()
        if self.feature_hashes is not None:
            cast(Encoder, self.encoder).feature_table = self.feature_hashes.table()

    def probabilities(self, batch: Batch, scores: Tensor, labels: Tensor) -> Tensor:
        """The unbiased estimate (estimator `mean`) of softmax worlds, within 0 and 1.

        Of BCE worlds there is none: a bucket's sigmoid is that of any of its labels.

        Source: Medini et al. 2019, theorem 1.
        """
        if self.loss_kind == "bce":
            return super().probabilities(batch, scores, labels)
        chances = self.bucket_logits(batch).softmax(-1).transpose(0, 1)
        own = torch.zeros_like(scores)
        for chance, table in zip(chances, self.table, strict=True):
            own += chance.gather(1, table[labels].long())
        # Where a bucket is one label, nothing of another is to be taken off.
        num_buckets = 1 if self.hashes.family == "identity" else self.num_buckets
        sizes = self.num_worlds, num_buckets
        return estimators.label_scores(own, *sizes, "mean", "softmax").clamp(0, 1)

    def facts_of_inference(self) -> Mapping[str, Any]:
        """`decode_costs`: what `auto` chooses by, where it is the decode method."""
        if self.decode_method != "auto" or self.table.device.type != "cpu":
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
        per_point = self.num_worlds * self.num_buckets
        limit = min(self.analysis_points, ANALYSIS_FLOATS // per_point)
        for batch in batches:
            if num_points >= limit:
                break
            kept.append((batch, self.bucket_logits(batch)))
            num_points += batch.num_points

        def score(estimator: str, worlds: Sequence[int]) -> dict[str, float]:
            metrics.reset()
            index = torch.tensor(list(worlds), device=self.table.device)
            table = self.table.index_select(0, index)  # once: a filter keeps an index of it
            for batch, logits in kept:
                some = logits.index_select(1, index)
                labels = self._decode(some, table, max(metrics.ks), estimator, DEFAULT)[1]
                metrics.update(labels, batch)
            return {name: float(value) for name, value in metrics.compute().items()}

        every = list(range(self.num_worlds))
        rows = [
            {
                "num_worlds": len(worlds),
                "worlds": [self.world_ids[world] for world in worlds],
                "num_points": num_points,
                "metrics": score(self.estimator, worlds),
            }
            for worlds in world_subsets(self.num_worlds, self.seed)
        ]
        by_estimator = {name: score(name, every) for name in estimators.ESTIMATORS}
        metrics.reset()
        return {"worlds": rows, "estimators": by_estimator}

    def activation_bytes(self, batch_size: int, entries_per_point: float) -> int:
        """Two `(r, N, B)` buffers of the worlds in one step, and hidden vectors with gradients.

        A lean update has a chunk of one world's buckets.
        """
        worlds = self.num_worlds
        if self.encoder_kind != "linear":
            worlds = min(self.worlds_per_step or self.num_worlds, self.num_worlds)
        copies = 1 if self.is_shared else self.num_worlds
        hidden = 2 * copies * batch_size * sum(self.hidden_dims)
        if self.lean is not None:
            return self.lean.chunk_bytes(batch_size, self.output) + 4 * hidden
        return 4 * (2 * worlds * batch_size * self.num_buckets + hidden)

    def decode_bytes(self) -> int:
        """Bytes of the hash tables, and of the decode method's index of them."""
        num_bytes = self.table.numel() * self.table.element_size()
        is_indexed = self.filter_buckets is not None or self.decode_method in INDEXED
        if is_indexed and self.table.device.type != "cuda":
            num_bytes += index_bytes(self.num_labels, self.num_worlds, self.num_buckets)
        return num_bytes


def _table(hashes: HashFamily) -> Tensor:
    """All buckets; of a model on the meta device, whose bytes are to be predicted, their shape."""
    is_described = torch.get_default_device().type == "meta"
    return hashes.empty_table() if is_described else hashes.table()


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
