"""What MACH is made of, by arithmetic from settings and sizes; never imports torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from bench.methods.arithmetic import EVALUATION_POINTS, Memory, Parts, Problem, Product, Weights
from bench.nn.tiles import lean_bytes, tiling
from bench.settings import SettingsError

# Of a world's entry of a point's labels: their buckets, and what sorts them to count each once.
_POSITIVE_BYTES = 32
#: Of the decode's compiled kernels; measured as `bench.methods.arithmetic.PROCESS_BYTES`, of 21
#: records of MACH.
KERNEL_BYTES = 6_300_000
#: Decode methods that keep an index of the table, see `bench.mach.decode.index`.
INDEXED = ("auto", "pruned")


def mach(of: Problem) -> Parts:
    """R worlds over B buckets: a tile of some worlds' logits, hidden vectors, table and index.

    A lean update has a chunk of one world's buckets.
    """
    options, num_points, is_on_host = of.options, of.num_points, of.accelerator == "cpu"
    for name in ("num_worlds", "num_buckets", "worlds_per_step"):
        value = options.get(name)
        if not isinstance(value, int) and not (value is None and name == "worlds_per_step"):
            raise SettingsError(f"{name} is {value!r}; bytes are told of a whole number")
    if options.get("worlds_in_turn"):
        return in_turn(of)
    num_worlds, num_buckets = options["num_worlds"], options["num_buckets"]
    num_labels, num_hashed = of.sizes.num_labels, options.get("num_hashed_features")
    copies = 1 if options["share_encoder"] and not of.is_linear else num_worlds
    encoder = of.encoder(copies=copies, outputs=num_buckets, num_hashed=num_hashed)
    table = num_worlds * num_labels * bucket_item_bytes(num_buckets)
    if is_on_host:
        table += KERNEL_BYTES
        table += index_bytes(num_labels, num_worlds, num_buckets) if _is_indexed(of) else 0
    if num_hashed is not None:
        table += num_worlds * of.sizes.num_features * bucket_item_bytes(num_hashed)
    positives = _POSITIVE_BYTES * num_worlds * int(num_points * of.sizes.labels_per_point)
    step = of.batch_bytes(1 if num_hashed is None else copies) + positives
    # Logits, and what estimator and decode make of them: scores in float32 and in a byte.
    logits = 9 * EVALUATION_POINTS * num_worlds * num_buckets
    if of.is_linear:
        return Parts(
            weights=encoder,
            step_bytes=step + 4 * 2 * num_points * num_worlds * num_buckets,
            evaluation_bytes=logits + 4 * EVALUATION_POINTS * num_worlds * num_buckets,
            table_bytes=table,
        )
    passes = 3
    if of.is_lean:
        width = of.width
        step += lean_bytes(num_points, num_buckets, width, copies=of.lean_copies, device=of.device)
        passes += of.loss == "softmax"
        output: tuple[Weights, ...] = (
            Weights(
                "head.weight", (num_worlds, num_buckets, width), None, of.output_item_bytes, False
            ),
            Weights("head.bias", (num_worlds, num_buckets), is_trained=False),
        )
        table += 4 * num_worlds * num_buckets * (options["update"] == "row_adagrad")
    else:
        tiles = tiling(
            num_worlds,
            num_points,
            num_buckets,
            of.loss,
            layers_per_chunk=options.get("worlds_per_step"),
            device=of.device,
        )
        step += 4 * tiles.floats * (1 if of.loss == "softmax" else 2)  # softplus copies a tile
        if copies == 1 and tiles.layers > 1:  # each world's gradient of the shared hidden vectors
            step += 4 * tiles.layers * num_points * of.width
        output = (Weights("head.weight", (num_worlds, of.width + 1, num_buckets)),)
    return Parts(
        weights=(*encoder, *output),
        step_bytes=step + of.hidden_bytes(copies),
        evaluation_bytes=logits + of.evaluated_bytes(copies),
        table_bytes=table,
        products=(
            *of.inner_products(copies),
            Product(num_worlds, num_points, of.width, num_buckets, passes),
        ),
    )


def _is_indexed(of: Problem) -> bool:
    """Whether an index of the table is kept."""
    filtered = of.options.get("filter_buckets") is not None
    return filtered or of.options.get("decode_method") in INDEXED


def bucket_item_bytes(num_buckets: int) -> int:
    """Of a bucket in a table: uint8 if B ≤ 2⁸, int16 if B ≤ 2¹⁵, else int32."""
    return 1 if num_buckets <= 2**8 else 2 if num_buckets <= 2**15 else 4


def index_bytes(num_labels: int, num_worlds: int, num_buckets: int) -> int:
    """Of an index of a table, see `bench.mach.decode.index.BucketIndex`."""
    of_bucket = 1 if num_buckets <= 2**8 else 2 if num_buckets <= 2**16 else 4
    return num_labels * num_worlds * (of_bucket + 4) + 8 * num_worlds * (num_buckets + 1)


@dataclass(frozen=True, kw_only=True)
class MemoryInTurn(Memory):
    """Bytes of worlds that are trained one after another; those of :class:`Memory` are of one.

    Attributes:
        num_worlds: R.
        is_complete: whether all are trained, so that labels can be found.
        counts: training points of each label.
        table: hash table of a world.
        decode: what finds labels: tables and an index of them, or nothing where the hash is
            recomputed.
        decode_tables: of these, the tables.
    """

    num_worlds: int
    is_complete: bool
    counts: int
    table: int
    decode: int
    decode_tables: int

    @property
    def training(self) -> int:
        """A world's training beside the label counts.

        Before it a world's buckets are counted, which widens its table to the counts' type.
        """
        before = self.parameters + self.table + 2 * self.counts + self.process
        return max(before, super().total + self.counts)

    @property
    def total(self) -> int:
        """The largest phase.

        A world's training, or the merge, in which the weights of worlds and merged model stand
        side by side, or the decode with its table or index.
        """
        if not self.is_complete:
            return self.training
        parameters = self.num_worlds * self.parameters
        merge = 2 * parameters + self.decode_tables + self.table + 2 * self.counts
        decode = parameters + self.decode + self.counts
        return max(self.training, self.process + max(merge, decode))

    def to_record(self) -> dict[str, int | None]:
        """As a record's `memory` block names it; `parameter_bytes` are those of all worlds."""
        return {
            **super().to_record(),
            "parameter_bytes": self.num_worlds * self.parameters,
            "world_bytes": self.parameters,
            "training_bytes": self.training,
            "all_at_once_bytes": self.num_worlds * super().total,
            "decode_bytes": self.decode,
        }


def alone(memory: Memory, worlds: tuple[int, int] | None) -> Memory:
    """The same where some worlds in turn are asked for: there is their training alone."""
    if worlds is None or not isinstance(memory, MemoryInTurn):
        return memory
    return dataclasses.replace(memory, is_complete=False)


@dataclass(frozen=True, kw_only=True)
class WorldInTurn(Parts):
    """One of R worlds that are trained one after another."""

    def memory(self, of: Problem) -> MemoryInTurn:
        """Bytes of all phases."""
        num_worlds, num_labels = of.options["num_worlds"], of.sizes.num_labels
        num_buckets = of.options["num_buckets"]
        decode = of.options.get("decode") or ("auto" if _is_indexed(of) else "dense")
        table = num_labels * bucket_item_bytes(num_buckets)
        tables = 0 if decode == "recompute" else num_worlds * table
        index = index_bytes(num_labels, num_worlds, num_buckets)
        one = super().memory(of)
        return MemoryInTurn(
            **{field.name: getattr(one, field.name) for field in dataclasses.fields(one)},
            num_worlds=num_worlds,
            is_complete=(of.options.get("trained_worlds") or num_worlds) == num_worlds,
            counts=8 * num_labels,
            table=table,
            decode=tables + (index if decode == "auto" else 0),
            decode_tables=tables,
        )


def in_turn(of: Problem) -> Parts:
    """A world of MACH that is trained alone."""
    options = {**of.options, "num_worlds": 1, "share_encoder": False, "worlds_in_turn": False}
    one = mach(dataclasses.replace(of, options=options))
    return WorldInTurn(**{each.name: getattr(one, each.name) for each in dataclasses.fields(one)})
