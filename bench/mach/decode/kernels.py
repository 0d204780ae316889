"""What several decode kernels share: heaps of the best labels so far, and two instructions."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from bench.store.kernels import njit

#: Label of a free place in a heap, whose score is −inf: it is worse than every label.
NO_LABEL = 2**31 - 1


def data_of(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    """Pointer to an array's first element, within an intrinsic."""
    return context.make_array(array_type)(context, builder, array).data


def splat(builder: Any, value: Any, vector: Any) -> Any:
    """A vector of this type with the value in every lane, within an intrinsic."""
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, undefined, lanes)


def emit_prefetch(builder: Any, pointer: Any) -> None:
    """Ask for a cache line that will be read, within an intrinsic."""
    number = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
    instruction = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
    builder.call(instruction, [pointer, number(0), number(3), number(1)])


def _declare_prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Intrinsic `(flat array, index)`: asks for the cache line of an element, to be read once."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        data = data_of(context, builder, sig.args[0], arguments[0])
        element = builder.gep(data, [arguments[1]])
        emit_prefetch(builder, builder.bitcast(element, ir.IntType(8).as_pointer()))
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


prefetch: Any = intrinsic(_declare_prefetch)


def _declare_lowest_bit(typing_context: Any, mask: Any) -> Any:
    """Intrinsic `mask -> position` of its lowest bit that is set; the mask is not 0."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


lowest_bit: Any = intrinsic(_declare_lowest_bit)


@njit(cache=True, nogil=True)
def is_worse(score: float, label: int, other_score: float, other_label: int) -> bool:
    """Whether the first of two labels ranks below: lower score, or the same and a larger id."""
    return score < other_score or (score == other_score and label > other_label)


@njit(cache=True, nogil=True)
def offer(heap_scores: Any, heap_labels: Any, score: float, label: int) -> Any:
    """Take a label into a heap of the k best, its root the worst; gives the root's new score."""
    if is_worse(heap_scores[0], heap_labels[0], score, label):
        replace_root(heap_scores, heap_labels, heap_scores.shape[0], score, label)
    return heap_scores[0]


@njit(cache=True, nogil=True)
def replace_root(heap_scores: Any, heap_labels: Any, size: int, score: float, label: int) -> None:
    """Put a label where the root was, and in order among the first `size`."""
    position = 0
    while True:
        child = 2 * position + 1
        if child >= size:
            break
        other = child + 1
        if other < size and is_worse(
            heap_scores[other], heap_labels[other], heap_scores[child], heap_labels[child]
        ):
            child = other
        if not is_worse(heap_scores[child], heap_labels[child], score, label):
            break
        heap_scores[position] = heap_scores[child]
        heap_labels[position] = heap_labels[child]
        position = child
    heap_scores[position] = score
    heap_labels[position] = label


@njit(cache=True, nogil=True)
def sort_heap(heap_scores: Any, heap_labels: Any) -> None:
    """Turn a heap into a list, best first."""
    for size in range(heap_scores.shape[0] - 1, 0, -1):
        score, label = heap_scores[size], heap_labels[size]
        heap_scores[size], heap_labels[size] = heap_scores[0], heap_labels[0]
        replace_root(heap_scores, heap_labels, size, score, label)


@njit(cache=True, nogil=True)
def clear_heap(heap_scores: Any, heap_labels: Any) -> None:
    """Leave every place free."""
    heap_scores[:] = -np.inf
    heap_labels[:] = NO_LABEL
