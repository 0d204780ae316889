"""MACH's output layer by itself: R layers over B hash buckets, merged back to L labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from bench.mach import decode, estimators
from bench.mach.decode import DEFAULT, METHODS, filtered
from bench.mach.hashing import FAMILIES, HashFamily, build_hash
from bench.nn.checkpoint import SelfDescribing
from bench.nn.head import Labelled, OutputHead
from bench.nn.layers import OWN_START, Start, draw_output
from bench.nn.lean import (
    LeanUpdate,
    Update,
    WeightType,
    rate_of_update,
    refuse_without_update,
)
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
from bench.nn.options import AtLeast, Count, OneOf, Size, check_values
from bench.settings import SettingsError, derive_seed

DEFAULT_ESTIMATORS: Mapping[LossKind, str] = {"softmax": "log_mean", "bce": "logit_sum"}


class MachHead(SelfDescribing, OutputHead):
    """R classifiers over B buckets, to whose scores a label's are added up.

    Worlds are independent: the loss is the sum of theirs, and each is what training it alone would
    give. Its state describes the hash functions, and is refused by a head of others.

    >>> head = MachHead(16, 1000, num_buckets=50, num_worlds=4)
    >>> hidden, labels = torch.randn(8, 16), torch.arange(8)
    >>> head(hidden, labels).shape, head.top_k(hidden, 5)[1].shape
    (torch.Size([]), torch.Size([8, 5]))

    Args:
        hidden_dim: H; None, of our linear models: no layer, hidden vectors are `(R, N, B)` logits.
        num_labels: L.
        num_buckets: B.
        num_worlds: R.
        loss: `softmax` (of points with one label) or `bce` (with any number), of each world.
        label_counts: `(L,)` training points of each label: its biases start at the frequencies of
            the buckets, which spares BCE the steps in which it learns that labels are rare.
        num_points: training points that these are of; None: all have one label.
        seed: of hash functions and initial weights.
        hash_family: see :class:`bench.mach.module.Mach`, and so the options that follow.
        hash_seed: of the hash functions; None: derived from `seed`.
        estimator: of label scores; None: by the loss.
        loss_reduction: of BCE.
        worlds_per_step: worlds whose logits exist together in training.
        update: `sgd` or `row_adagrad`: the layer is updated while the loss is computed, and no
            optimiser knows of it.
        weight_type: `bfloat16` with such an update.
        output_rate: learning rate of such an update; this attribute may be set before any step.
        weight_decay: of such an update.
        first_world: number of the first world.
        decode_method: of :meth:`top_k`, see :func:`bench.mach.decode.top_k`.
        filter_buckets: rank only labels of so many best buckets of the first world.
        output_std: standard deviation of initial weights.
        start: distribution of initial weights and biases in place of that.

    Raises:
        SettingsError: a value or combination that is not what was expected.

    Source: Huang et al. 2018 (arXiv 1810.04254); Medini et al. 2019 (arXiv 1910.13830).
    """

    def __init__(
        self,
        hidden_dim: int | None,
        num_labels: int,
        *,
        num_buckets: Count,
        num_worlds: Count,
        loss: LossKind = "softmax",
        label_counts: Tensor | None = None,
        num_points: int | None = None,
        seed: int = 0,
        hash_family: Annotated[str, OneOf(FAMILIES)] = "balanced",
        hash_seed: int | None = None,
        estimator: Annotated[str, OneOf(estimators.ESTIMATORS)] | None = None,
        loss_reduction: Reduction = "sum",
        worlds_per_step: Count | None = None,
        update: Update = "optimizer",
        weight_type: WeightType = "float32",
        output_rate: Size | None = None,
        weight_decay: Size = 0.0,
        first_world: Annotated[int, AtLeast(0)] = 0,
        decode_method: Annotated[str, OneOf(METHODS)] = DEFAULT,
        filter_buckets: Count | None = None,
        output_std: Size = 0.0,
        start: Start = OWN_START,
    ) -> None:
        given = locals()
        check_values(MachHead.__init__, given)
        self.refuse_together(given | {"encoder": "linear"} if hidden_dim is None else given)
        super().__init__()
        self.hidden_dim = hidden_dim
        self.width = num_buckets if hidden_dim is None else hidden_dim
        self.num_labels = num_labels
        self.num_buckets = num_buckets
        self.world_ids = tuple(range(first_world, first_world + num_worlds))
        self.world_seeds = tuple(derive_seed("world", seed, world) for world in self.world_ids)
        self.loss_kind = loss
        self.loss_scale = loss_scale(loss_reduction, loss, num_buckets)
        self.estimator = estimator or DEFAULT_ESTIMATORS[loss]
        self.worlds_per_step = worlds_per_step
        self.decode_method = decode_method
        self.filter_buckets = filter_buckets
        self.output_rate = rate_of_update(update, output_rate)
        self.weight_decay = weight_decay
        self.weight_dtype = getattr(torch, weight_type)
        self.hash_seed = derive_seed("hash", seed) if hash_seed is None else hash_seed
        self.hashes = self.hash_of(hash_family, num_labels, num_buckets)
        self.register_buffer("table", table_of(self.hashes), persistent=False)
        self.table: Tensor
        self.lean: LeanUpdate | None = None
        if update != "optimizer":
            rounding = [derive_seed("rounding", seed) for seed in self.world_seeds]
            self.lean = LeanUpdate(rounding, num_buckets, rule=update)
        if hidden_dim is not None:
            self._build(hidden_dim, output_std, start)
        self.start_from_prior(label_counts, num_points)

    def _build(self, width: int, output_std: float, start: Start) -> None:
        """Output layers, each of its world's seed.

        What an optimiser trains is one parameter whose last row is the bias. A lean update has
        buckets in rows, and biases apart, which keep 32 bits.
        """
        if self.lean is None:
            weight = torch.zeros(self.num_worlds, width + 1, self.num_buckets)
            kernels, biases = weight[:, :width], weight[:, width]
        else:
            weight = torch.zeros(self.num_worlds, self.num_buckets, width, dtype=self.weight_dtype)
            kernels, biases = weight, torch.zeros(self.num_worlds, self.num_buckets)
        for world, seed in enumerate(self.world_seeds):
            draw_output(kernels[world], biases[world], seed, output_std, start, width)
        self.weight = nn.Parameter(weight, requires_grad=self.lean is None)
        if self.lean is not None:
            self.bias = nn.Parameter(biases, requires_grad=False)

    @property
    def num_worlds(self) -> int:
        """R."""
        return len(self.world_ids)

    @property
    def num_stacked(self) -> int:
        """R."""
        return self.num_worlds

    def hash_of(self, family: str, num_keys: int, num_buckets: int) -> HashFamily:
        """The hash of these worlds, of labels or of features."""
        drawn = build_hash(family, num_keys, num_buckets, self.world_ids[-1] + 1, self.hash_seed)
        return drawn.subset(self.world_ids)

    def biases(self) -> Tensor | None:
        """`(R, B)` view of the biases; None without a layer."""
        if self.hidden_dim is None:
            return None
        return self.weight[:, -1, :] if self.lean is None else self.bias

    def column_counts(self, label_counts: Tensor) -> Tensor:
        """`(R, B)` int64 training points of each bucket, from those of each label."""
        table = self.table.cpu()
        counts = torch.zeros(self.num_worlds, self.num_buckets, dtype=torch.int64, device="cpu")
        for world in range(self.num_worlds):  # not all at once: int64 of the size R · L
            counts[world].scatter_add_(0, table[world].long(), label_counts.cpu())
        return counts

    @classmethod
    def refuse_together(cls, settings: Mapping[str, Any]) -> None:
        """Refuse a filter of more buckets than there are, another loss's mean, or no update.

        Args:
            settings: some or all keywords of the constructor.

        Raises:
            SettingsError: which of them, with their values.
        """
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
        return {"loss": self.loss_kind, **hashes}

    def fill_tables(self) -> None:
        """The buckets of all labels, in a head that was built on the meta device."""
        self.table = self.hashes.table()

    # Training ---------------------------------------------------------------------------------

    def positives(self, points: Labelled) -> Positives:
        """The buckets of the points' labels."""
        columns = self.table.index_select(1, points.label_ids).long()
        return build_positives(
            columns, points.label_offsets, points.label_point_ids, self.num_buckets, self.loss_kind
        )

    def loss(self, hidden: Tensor, points: Labelled) -> Tensor:
        """Sum over worlds of the mean loss of the points on their hashed labels."""
        positives = self.positives(points)
        if hidden.dim() == 2:
            hidden = hidden.unsqueeze(0)
        if self.hidden_dim is None:
            loss = fused_loss_of_logits(hidden, positives, self.loss_kind)
        elif self.lean is not None:
            return self.lean.loss(
                hidden,
                self.weight,
                self.bias,
                positives,
                self.loss_kind,
                rate=self.output_rate,
                scale=self.loss_scale,
                weight_decay=self.weight_decay,
            )
        else:
            loss = chunked_loss(
                with_ones(hidden),
                self.weight.transpose(1, 2),
                positives,
                self.loss_kind,
                layers_per_chunk=self.worlds_per_step,
            )
        return loss * self.loss_scale if self.loss_scale != 1 else loss

    # Prediction -------------------------------------------------------------------------------

    def bucket_logits(self, hidden: Tensor) -> Tensor:
        """Logits `(N, R, B)` of every world's buckets, without a gradient."""
        if self.hidden_dim is None:
            return hidden.detach().transpose(0, 1).contiguous()
        hidden = hidden.detach().float().expand(self.num_worlds, -1, -1)
        logits = hidden.new_empty(hidden.shape[1], self.num_worlds, self.num_buckets)
        # Written where they belong: a product by itself is (R, N, B), and turning it a copy.
        out = logits.transpose(0, 1)
        if self.lean is None:
            torch.bmm(with_ones(hidden), self.weight.detach(), out=out)
        else:
            weight = self.weight.float().mT
            torch.baddbmm(self.bias.unsqueeze(1), hidden, weight, out=out)
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
            return self.decode_by(logits, self.table, k, estimator, self.decode_method)
        index = torch.tensor(list(worlds), device=logits.device)
        logits, table = logits.index_select(1, index), self.table.index_select(0, index)
        # What another method prepares for a table pays when the table is used again.
        return self.decode_by(logits, table, k, estimator, DEFAULT)

    def decode_by(
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
        """
        return self.decode_logits(self.bucket_logits(hidden), k, estimator=self.estimator)

    def probabilities(self, hidden: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        """The unbiased estimate (estimator `mean`) of softmax worlds, within 0 and 1.

        Of BCE worlds there is none: a bucket's sigmoid is that of any of its labels.

        Raises:
            SettingsError: the loss is BCE.

        Source: Medini et al. 2019, theorem 1.
        """
        if self.loss_kind == "bce":
            raise SettingsError("loss is 'bce', whose worlds give scores alone; expected 'softmax'")
        with torch.autocast(hidden.device.type, enabled=False):
            chances = self.bucket_logits(hidden).softmax(-1).transpose(0, 1)
        own = torch.zeros_like(scores)
        for chance, table in zip(chances, self.table, strict=True):
            own += chance.gather(1, table[labels].long())
        # Where a bucket is one label, nothing of another is to be taken off.
        num_buckets = 1 if self.hashes.family == "identity" else self.num_buckets
        sizes = self.num_worlds, num_buckets
        return estimators.label_scores(own, *sizes, "mean", "softmax").clamp(0, 1)

    def prepare_inference(self, k: int) -> None:
        """Compile every way that a decode may go, build the index if the method has one."""
        reduction = estimators.reduction(self.estimator)
        sizes = self.table, self.num_buckets, k
        if self.filter_buckets is None:
            decode.prepare(*sizes, reduction=reduction, method=self.decode_method)
        else:
            most = self.filter_buckets
            filtered.prepare(*sizes, num_best_buckets=most, reduction=reduction)


def table_of(hashes: HashFamily) -> Tensor:
    """All buckets; of a model on the meta device, their shape."""
    is_described = torch.get_default_device().type == "meta"
    return hashes.empty_table() if is_described else hashes.table()
