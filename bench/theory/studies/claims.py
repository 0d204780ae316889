"""Sizes that the papers claim, and the models that they are counted on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.published import Tag
from bench.settings import DataSpec, Scalar, Trial
from bench.study import Profile
from bench.theory.published import Claim
from bench.theory.studies.grid import trial_of

_ODP: Mapping[str, Scalar] = {"num_features": 422_713, "num_labels": 105_033}
_IMAGENET: Mapping[str, Scalar] = {"num_features": 6144, "num_labels": 21_841}
_SEARCH: Mapping[str, Scalar] = {"num_features": 715_000, "num_labels": 49_460_000}
# The slides round the products up, and a full layer would see MACH's hashed input.
_SLIDES: Mapping[str, Scalar] = {"num_features": 80_000, "num_labels": 50_000_000}
_FULL: Mapping[str, Scalar] = {"num_features": 80_000, "num_labels": 49_460_000}
_AMAZON_3M: Mapping[str, Scalar] = {"num_features": 337_067, "num_labels": 2_812_281}
# Data set → D, L, B, parameters; 32 worlds of two hidden layers of 500.
_MULTI_LABEL: Mapping[str, tuple[int, int, int, float]] = {
    "Wiki10-31K": (101_938, 30_938, 2000, 1.67e9),
    "Delicious-200K": (782_585, 205_443, 5000, 12.6e9),
    "Amazon-670K": (135_909, 670_091, 10_000, 2.34e9),
}
_TEXTS = "multi-label data sets, two hidden layers of 500"
_LEAN = ((4, "32 bits, update fused"), (2, "bfloat16, update fused"), (1, "float8, update fused"))


def table_claims(profile: Profile) -> list[Trial]:
    """Every size and ratio of sizes that the papers claim, counted on the suite's own models.

    Claim: the published parameter counts, bytes and reductions follow from shapes, up to rounding
    that is named where it matters.
    Command: `make table-claims`. Hardware: 2 CPU cores. Duration: about 2 minutes.
    Expected: of 14 published numbers 6 agree. 480×, 125×, 40 billion parameters and 160 GB agree
    with rounded numbers of labels and weights only, 320 and 0.6 GB with 8 bytes a weight, 5.77
    billion and DSSM's 200 million within 0.2 and 9 % with shapes that are inferred or from memory.
    Our own reckoning from the same shapes stands beside, and agrees.
    """
    return [*_multiclass_sizes(), *_search_sizes(), *_multi_label_sizes(), *_lean_sizes()]


def _counted(
    name: str,
    sizes: Mapping[str, Scalar],
    of: str,
    hidden_dims: tuple[int, ...] = (),
    **options: Scalar,
) -> Trial:
    data = DataSpec(source="shapes", name=name, options=sizes)
    return trial_of(data, "counted", {"of": of, **options}, hidden_dims=hidden_dims)


def _stated(name: str, what: str, **options: Scalar) -> Trial:
    data = DataSpec(source="shapes", name=name, options={"what": what})
    return trial_of(data, "stated", options)


def _multiclass_sizes() -> list[Trial]:
    return [
        _counted("ODP", _ODP, "full_softmax"),
        _counted("ODP", _ODP, "mach", num_buckets=32, num_worlds=25),
        _counted("ODP", _ODP, "mach", num_buckets=4, num_worlds=50),
        _counted("ImageNet", _IMAGENET, "full_softmax"),
        _counted("ImageNet", _IMAGENET, "mach", num_buckets=512, num_worlds=20),
    ]


def _search_sizes() -> list[Trial]:
    name = "Amazon search"
    hashed: dict[str, Scalar] = {"num_worlds": 32, "num_hashed_features": 80_000}
    return [
        _counted(name, _SLIDES, "full_softmax", (2000,)),
        _counted(name, _FULL, "full_softmax", (2000,)),
        _counted(name, _SEARCH, "mach", (2000,), num_buckets=10_000, **hashed),
        _counted(name, _SEARCH, "mach", (2000,), num_buckets=20_000, **hashed),
        _stated(name, "DSSM's token vectors", num_rows=715_000, num_columns=256),
        *(
            _stated(
                name,
                f"full layer, {how}",
                num_rows=49_460_000,
                num_columns=2000,
                bytes_per_weight=b,
            )
            for b, how in _LEAN
        ),
    ]


def _multi_label_sizes() -> list[Trial]:
    trials = []
    for num_features, num_labels, num_buckets, _ in _MULTI_LABEL.values():
        sizes: dict[str, Scalar] = {
            "num_features": num_features,
            "num_labels": num_labels,
            "task": "multilabel",
        }
        trials.append(
            _counted(_TEXTS, sizes, "mach", (500, 500), num_buckets=num_buckets, num_worlds=32)
        )
    return trials


def _lean_sizes() -> list[Trial]:
    name, sizes = "Amazon-3M", {**_AMAZON_3M, "task": "multilabel"}
    worlds: dict[str, Scalar] = {"num_buckets": 10_000, "num_worlds": 16}
    weights: dict[str, Scalar] = {"num_rows": 2_812_281, "num_columns": 768}
    mach: dict[str, Scalar] = {"num_rows": 10_000, "num_columns": 768, "num_copies": 16}
    return [
        _counted(name, sizes, "mach", (4096,), num_hashed_features=100_000, **worlds),
        _counted(name, sizes, "full_softmax", (768,)),
        *(
            _stated(name, f"full layer, H = 768, {how}", bytes_per_weight=b, **weights)
            for b, how in _LEAN
        ),
        _counted(name, sizes, "mach", (768,), **worlds),
        _stated(name, "MACH's layers, bfloat16, update fused", bytes_per_weight=2, **mach),
    ]


def claims_smoke() -> list[Trial]:
    """A full layer, a MACH and a stated shape."""
    return [*_multiclass_sizes()[:2], *_lean_sizes()[-1:]]


def size_claims() -> tuple[Claim, ...]:
    """Every claim of size, in the order of the papers."""
    return (*_multiclass_claims(), *_search_claims(), *_multi_label_claims(), *_lean_claims())


def _multiclass_claims() -> Iterable[Claim]:
    full: dict[str, Scalar] = {"of": "full_softmax"}
    small: dict[str, Scalar] = {"of": "mach", "num_buckets": 4, "num_worlds": 50}
    run: dict[str, Scalar] = {"of": "mach", "num_buckets": 32, "num_worlds": 25}
    wide: dict[str, Scalar] = {"of": "mach", "num_buckets": 512, "num_worlds": 20}
    rounded = "the paper rounds: 422,713 × 105,033 weights are 44.4 billion"
    doubles = "8 bytes a weight, later texts count 4"
    abstract, iclr = "arXiv 1810.04254, abstract", "ICLR 2018 submission"
    slide, notes = "NeurIPS slides, table 1", "our earlier reckoning"

    yield _claim(
        "ODP", "40 B parameters", "parameters", 40e9, abstract, "ABS", full, 0.5e9, rounded
    )
    yield _claim("ODP", "160 GB", "parameter bytes", 160e9, abstract, "ABS", full, 0.5e9, rounded)
    yield _claim("ODP", "0.3 GB at 9 %", "parameter bytes", 0.3e9, abstract, "ABS", small, 0.05e9)
    yield _claim(
        "ODP",
        "480× smaller",
        "parameters",
        480,
        abstract,
        "ABS",
        small,
        5,
        "L/(BR) is 525; 160 GB over 0.338 GB, the rounded sizes, is 473",
        over=full,
    )
    yield _claim(
        "ODP", "320 GB", "parameter bytes", 320e9, iclr, "ABS", full, 5e9, f"{doubles}; {rounded}"
    )
    yield _claim("ODP", "0.6 GB", "parameter bytes", 0.6e9, iclr, "ABS", small, 0.05e9, doubles)
    why = "L/(BR) is 131 with L = 105,033; 125 is that of 100,000 labels"
    yield _claim("ODP", "125×", "parameters", 125, slide, "A", run, 0.5, why, over=full)
    yield _claim("ODP", "338 M parameters", "parameters", 338e6, notes, "I", run, 0.5e6)
    yield _claim("ODP", "1.35 GB", "parameter bytes", 1.35e9, notes, "I", run, 0.005e9)
    yield _claim("ImageNet", "2×", "parameters", 2, slide, "A", wide, 0.5, over=full)
    yield _claim("ImageNet", "134 M parameters", "parameters", 134e6, notes, "I", full, 0.5e6)
    yield _claim("ImageNet", "62.9 M parameters", "parameters", 62.9e6, notes, "I", wide, 0.1e6)


def _claim(
    part: str,
    label: str,
    quantity: str,
    value: float,
    source: str,
    tag: Tag,
    beside: Mapping[str, Scalar],
    tolerance: float,
    why: str = "",
    over: Mapping[str, Scalar] | None = None,
) -> Claim:
    return Claim(
        label=label,
        metrics={quantity: value},
        source=source,
        part=part,
        tag=tag,
        beside=beside,
        over=over or {},
        tolerance=tolerance,
        why=why,
    )


def _search_claims() -> Iterable[Claim]:
    part, slides, table = "Amazon search", "NeurIPS slides, p. 3", "NeurIPS slides, p. 8"
    notes = "our earlier reckoning"
    slides_full: dict[str, Scalar] = {"of": "full_softmax", **_SLIDES}
    full: dict[str, Scalar] = {"of": "full_softmax", **_FULL}
    narrow: dict[str, Scalar] = {"of": "mach", "num_buckets": 10_000}
    wide: dict[str, Scalar] = {"of": "mach", "num_buckets": 20_000}
    yield _claim(
        part, "100 B parameters", "output parameters", 100e9, slides, "A", slides_full, 0.5e9
    )
    yield _claim(part, "1.2 TB", "bytes with momentum", 1.2e12, slides, "A", slides_full, 0.05e12)
    shapes = "the input of 80,000 and the hidden width of 2,000 are inferred"
    yield _claim(part, "5.77 B", "parameters", 5.77e9, table, "A", narrow, 0.005e9, shapes)
    yield _claim(part, "6.4 B", "parameters", 6.4e9, table, "A", wide, 0.05e9, shapes)
    yield Claim(
        label="an order of magnitude fewer parameters",
        metrics={"parameters": 10.0},
        source="100 B and 5.77 B of the slides",
        part=part,
        tag="I",
        beside=narrow,
        over=slides_full,
        relation="≥",
    )
    why = "715,000 tokens is from memory; what else DSSM's towers hold is not stated"
    tokens: dict[str, Scalar] = {"what": "DSSM's token vectors"}
    yield _claim(part, "DSSM, 200 M", "parameters", 200e6, table, "A", tokens, 5e6, why)
    quantity = "output training bytes"
    yield _claim(part, "full layer, Adam", quantity, 1583e9, notes, "I", full, 1e9)
    yield _claim(part, "MACH's output layers, Adam", quantity, 10.2e9, notes, "I", narrow, 0.05e9)
    inputs = "input training bytes"
    yield _claim(part, "MACH's first layers, Adam", inputs, 82e9, notes, "I", narrow, 0.5e9)
    for (b, how), gigabytes in zip(_LEAN, (396, 198, 99), strict=True):
        beside: dict[str, Scalar] = {"what": f"full layer, {how}", "bytes_per_weight": b}
        yield _claim(part, how, "bytes", gigabytes * 1e9, notes, "I", beside, 0.5e9)


def _multi_label_claims() -> Iterable[Claim]:
    for name, (num_features, _, _, value) in _MULTI_LABEL.items():
        beside: dict[str, Scalar] = {"of": "mach", "num_features": num_features}
        slack = 0.05e9 if value > 1e10 else 0.005e9
        source = "our earlier reckoning, from the authors' scripts"
        yield _claim(_TEXTS, name, "parameters", value, source, "I", beside, slack)


def _lean_claims() -> Iterable[Claim]:
    part, notes = "Amazon-3M", "our earlier reckoning"
    hashed: dict[str, Scalar] = {"of": "mach", "num_hashed_features": 100_000}
    yield _claim(part, "2020 configuration", "parameters", 7.2e9, notes, "I", hashed, 0.05e9)
    full: dict[str, Scalar] = {"of": "full_softmax"}
    quantity = "output training bytes"
    yield _claim(part, "full layer, Adam", quantity, 34.6e9, notes, "I", full, 0.05e9)
    for (b, how), gigabytes in zip(_LEAN, (8.6, 4.3, 2.2), strict=True):
        beside: dict[str, Scalar] = {"what": f"full layer, H = 768, {how}", "bytes_per_weight": b}
        yield _claim(part, how, "bytes", gigabytes * 1e9, notes, "I", beside, 0.05e9)
    mach: dict[str, Scalar] = {"of": "mach", "hidden_dims": "768"}
    yield _claim(part, "MACH's layers, Adam", quantity, 2.0e9, notes, "I", mach, 0.05e9)
    fused: dict[str, Scalar] = {"what": "MACH's layers, bfloat16, update fused"}
    yield _claim(part, "MACH's layers, fused", "bytes", 0.25e9, notes, "I", fused, 0.005e9)
    yield Claim(
        label="3 M labels in 6.6 GiB (ELMO)",
        metrics={"bytes": 6.6 * 2**30},
        source="arXiv 2510.11168, abstract; whole training",
        part=part,
        tag="ABS",
        beside={"what": "full layer, H = 768, bfloat16, update fused"},
        relation="≤",
    )
