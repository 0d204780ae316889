"""The papers' data sets: addresses, expected sizes, how each is read. Imports no numba.

Sizes and addresses are facts of others, so each set names where they were read. What is not known
is None. Old and new file sets of the Extreme Classification Repository differ in tokens and order
of points under equal sizes: they are sets of their own here, and the published numbers of the
multi-label papers belong to the old ones.

The repository's LF data sets are left out. Their published numbers leave out labels that are the
point itself, by a filter file for each; nothing here reads one, and unfiltered numbers would stand
beside filtered ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from bench.settings import DataSpec, Propensity, Scalar

Role = Literal["train", "test"]
ROLES: tuple[Role, ...] = ("train", "test")

_REPOSITORY = "Extreme Classification Repository, page of 2025-02-28"
_NAPKINXC = "napkinXC, python/napkinxc/datasets.py"


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file to fetch, the same from each of its addresses.

    Attributes:
        file_name: what it is called, for messages.
        addresses: where it lies, best first.
        role: which of the set's files it is; None for an archive that holds both.
    """

    file_name: str
    addresses: tuple[str, ...]
    role: Role | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedSet:
    """A data set that others have published.

    Attributes:
        name: of the set and of its folder in the data folder.
        title: what papers call it.
        task: `multiclass` or `multilabel`.
        source: registered source that reads it.
        downloads: files to fetch.
        stem: members of its archive are `<stem>_train.txt` and `<stem>_test.txt`, or
            `<stem>_data.txt` with `<stem>_trSplit.txt` and `<stem>_tstSplit.txt`, in any case of
            letters; an empty stem stands for `train.txt` and `test.txt`.
        suffix: of the two files as they lie here, `train` and `test` followed by it.
        num_train_points: N.
        num_test_points: points to test on.
        num_features: D.
        num_labels: L.
        labels_per_point: mean over the training points.
        unverified: names of the sizes that rest on memory, not on something read.
        options: of the source, besides the files.
        propensity: constants of the propensity-scored metrics.
        terms: licence and what to cite.
        origins: where the facts above were read.
        notes: what whoever uses the set must know.
    """

    name: str
    title: str
    task: Literal["multiclass", "multilabel"]
    source: Literal["xmlrepo", "vw"]
    downloads: tuple[Download, ...]
    stem: str | None = None
    suffix: str = ".txt"
    num_train_points: int | None
    num_test_points: int | None
    num_features: int | None
    num_labels: int | None
    labels_per_point: float | None = None
    unverified: frozenset[str] = frozenset()
    options: Mapping[str, Scalar] = field(default_factory=lambda: MappingProxyType({}))
    propensity: Propensity = "default"
    terms: str
    origins: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def file_name(self, role: Role) -> str:
        """Name of one of the two files within the set's folder."""
        return f"{role}{self.suffix}"

    def num_points(self, role: Role) -> int | None:
        """Expected points of one of the two files."""
        return self.num_train_points if role == "train" else self.num_test_points

    def spec(self, **settings: Any) -> DataSpec:
        """Settings of a trial on this set; `settings` are further fields of `DataSpec`.

        >>> SETS["wiki10-31k"].spec(num_validation_points=1000).options["train"]
        'wiki10-31k/train.txt'
        """
        files: dict[str, Scalar] = {role: f"{self.name}/{self.file_name(role)}" for role in ROLES}
        return DataSpec(
            source=self.source,
            name=self.name,
            options={**files, **self.options},
            propensity=self.propensity,
            **settings,
        )


def _sizes(*numbers: int) -> dict[str, Any]:
    names = ("num_train_points", "num_test_points", "num_features", "num_labels")
    return dict(zip(names, numbers, strict=True))


def _vw(
    name: str,
    title: str,
    *,
    addresses: tuple[tuple[str, ...], tuple[str, ...]],
    sizes: tuple[int, int, int, int],
    feature_base: int,
    unverified: set[str],
    origins: tuple[str, str],
    notes: tuple[str, ...] = (),
) -> PublishedSet:
    known = _sizes(*sizes)
    options: dict[str, Scalar] = {"label_base": 1, "feature_base": feature_base}
    options |= {size: known[size] for size in ("num_labels", "num_features")}
    options["task"] = "multiclass"
    return PublishedSet(
        name=name,
        title=title,
        task="multiclass",
        source="vw",
        downloads=tuple(
            Download(file_name=each[0].rpartition("/")[2], addresses=each, role=role)
            for role, each in zip(ROLES, addresses, strict=True)
        ),
        suffix=".vw.gz",
        **known,
        labels_per_point=1.0,
        unverified=frozenset(unverified),
        options=MappingProxyType(options),
        terms="licence not stated",
        origins=origins,
        notes=(
            *notes,
            "plain HTTP: only the checksum pinned at the first download guards the content",
        ),
    )


def _drive(file_name: str, identifiers: tuple[str, ...]) -> tuple[Download, ...]:
    address = "https://drive.google.com/uc?export=download&id="
    return (Download(file_name=file_name, addresses=tuple(address + each for each in identifiers)),)


def _repository(
    name: str,
    title: str,
    stem: str,
    *identifiers: str,
    sizes: tuple[int, int, int, int],
    terms: str = "licence not stated; the repository asks to cite Bhatia et al. 2016 and the set",
    **more: Any,
) -> PublishedSet:
    """A multi-label set of the repository, by its files' identifiers on Google Drive."""
    origins: tuple[str, ...] = (f"sizes and address: {_REPOSITORY}",)
    if len(identifiers) == 2:
        origins = (f"sizes and first address: {_REPOSITORY}", f"mirror and members: {_NAPKINXC}")
    return PublishedSet(
        name=name,
        title=title,
        task="multilabel",
        source="xmlrepo",
        downloads=_drive(f"{stem}.zip", identifiers),
        stem=stem,
        **_sizes(*sizes),
        terms=terms,
        **({"origins": origins} | more),
    )


_MULTICLASS = (
    _vw(
        "odp",
        "ODP (Open Directory Project)",
        addresses=(
            ("http://hunch.net/~vw/odp_train.vw.gz", "http://hunch.net/~jl/odp_train.vw.gz"),
            ("http://hunch.net/~vw/odp_test.vw.gz", "http://hunch.net/~jl/odp_test.vw.gz"),
        ),
        sizes=(1_084_404, 493_014, 422_713, 105_033),
        feature_base=1001,
        unverified={"num_train_points", "num_test_points"},
        origins=(
            "addresses: README of Tharun24/MACH; VowpalWabbit, demo/recall_tree/odp/Makefile",
            "L, D, first label 1 and first feature 1001: tinytinyeye/MACH, src/odp",
        ),
    ),
    _vw(
        "imagenet",
        "fine-grained ImageNet",
        addresses=(
            ("http://hunch.net/~jl/datasets/imagenet/training.txt.gz",),
            ("http://hunch.net/~jl/datasets/imagenet/testing.txt.gz",),
        ),
        sizes=(12_777_062, 1_419_674, 6_144, 21_841),
        feature_base=0,
        unverified={"num_train_points"},
        origins=(
            "addresses and L: VowpalWabbit, demo/recall_tree/imagenet/Makefile",
            "D, first label 1, first feature 0 and test points: tinytinyeye/MACH, src/imagenet",
        ),
        notes=("about 104 GB compressed",),
    ),
)

_OLD = "the repository's first file set, to which the published numbers refer"
_NEW = "the repository's present file set: other tokens and order than the first one's"
_SPLIT = "the official split is the first column of its split files"

_MULTILABEL = (
    _repository(
        "wiki10-31k",
        "Wiki10-31K",
        "wiki10",
        "0B3lPMIHmG6vGaDdOeGliWF9EOTA",
        "1uV-p682ggXQQTiKZyK5M6B0xJJk8_lJx",
        sizes=(14_146, 6_616, 101_938, 30_938),
        labels_per_point=18.64,
        notes=(_OLD, "its labels are bookmarkers' tags, so that propensities are the default ones"),
    ),
    _repository(
        "delicious-200k",
        "Delicious-200K",
        "deliciousLarge",
        "0B3lPMIHmG6vGR3lBWWYyVlhDLWM",
        "18Tb595TuGyFW--nEYGfduwS5WvSbX-sX",
        sizes=(196_606, 100_095, 782_585, 205_443),
        labels_per_point=75.54,
        notes=("a training point has no label",),
    ),
    _repository(
        "amazon-670k",
        "Amazon-670K",
        "amazon",
        "0B3lPMIHmG6vGdUJwRzltS1dvUVk",
        "1PV-wbKVv6Ng1K1XM1USqNxFhaQo2qfk6",
        sizes=(490_449, 153_025, 135_909, 670_091),
        labels_per_point=5.45,
        propensity="amazon",
        notes=(_OLD, "sorted by label: shuffle before drawing a part of it"),
    ),
    _repository(
        "amazon-3m",
        "Amazon-3M",
        "amazon-3M",
        "0B3lPMIHmG6vGUEd4eTRxaWl3YkE",
        "1ork7yeAcliD9JQiRdEx4QknhMFHjVrku",
        sizes=(1_717_899, 742_507, 337_067, 2_812_281),
        labels_per_point=36.17,
        propensity="amazon",
        notes=(_OLD,),
    ),
    _repository(
        "amazoncat-13k",
        "AmazonCat-13K",
        "amazonCat",
        "0B3lPMIHmG6vGa2tMbVJGdDNSMGc",
        "1WvBWF9hH5ZlFcpCRhp8wLVGwdeGZXKD2",
        sizes=(1_186_239, 306_782, 203_882, 13_330),
        labels_per_point=5.04,
        origins=(f"sizes: {_REPOSITORY}", f"addresses and members: {_NAPKINXC}"),
        notes=(_OLD, "in spite of its name its published propensities are the default ones"),
    ),
    _repository(
        "eurlex-4k",
        "EURLex-4K",
        "eurlex",
        "0B3lPMIHmG6vGU0VTR1pCejFpWjg",
        "1xWW1UykQBTD2IorVn7V8XubJatQDScol",
        sizes=(15_539, 3_809, 5_000, 3_993),
        labels_per_point=5.31,
    ),
    _repository(
        "delicious-983",
        "Delicious",
        "delicious",
        "0B3lPMIHmG6vGdG1jZ19VS2NWRVU",
        sizes=(12_920, 3_185, 500, 983),
        labels_per_point=19.03,
        suffix=".txt.gz",
        terms="licence not stated; cite Tsoumakas, Katakis, Vlahavas 2008",
        notes=(_SPLIT,),
    ),
    _repository(
        "bibtex-159",
        "Bibtex",
        "bibtex",
        "0B3lPMIHmG6vGcy1xM2pJZ09MMGM",
        sizes=(4_880, 2_515, 1_836, 159),
        labels_per_point=2.40,
        suffix=".txt.gz",
        terms="licence not stated; cite Katakis, Tsoumakas, Vlahavas 2008",
        notes=(_SPLIT,),
    ),
    _repository(
        "mediamill-101",
        "Mediamill",
        "mediamill",
        "0B3lPMIHmG6vGY3B4TXRmZnZBTkk",
        "1YDlU9GTYSoydU1UYTNT8BpPkRw1BCnFw",
        sizes=(30_993, 12_914, 120, 101),
        labels_per_point=4.38,
        terms="licence not stated; cite Snoek et al. 2006",
        notes=(_SPLIT,),
    ),
)


def _present(name: str, *identifiers: str, notes: tuple[str, ...] = ()) -> PublishedSet:
    """The repository's present file set of the same name and sizes."""
    old = next(each for each in _MULTILABEL if each.name == name)
    return dataclasses.replace(
        old,
        name=f"{name}-v2",
        title=f"{old.title}, present files",
        downloads=_drive(f"{name}-v2.zip", identifiers),
        stem="",
        notes=(_NEW, *notes),
    )


_PRESENT = (
    _present(
        "wiki10-31k", "1-sE0GoT-eE18S9e-B8nQr8j7LdYexGHX", "1WbxhKvvBSynX5_Sf6OaPReTMs8K6bZ8u"
    ),
    _present(
        "amazon-670k", "1TLaXCNB_IDtLhk4ycOnyud0PswWAW6hR", "1d5EMgVxjjDBGjw7M09gaygx5wSt4-AqQ"
    ),
    _present(
        "amazon-3m",
        "1X9CzbgyB-x1dFbPSWUpkbKvKG9TrAU0y",
        "1tepPa5oOSp7jmih7LTEemHOL9KwdBtuB",
        notes=("an edition of the page gave the first address to AmazonCat-13K as well",),
    ),
)

SETS: Mapping[str, PublishedSet] = MappingProxyType(
    {each.name: each for each in (*_MULTICLASS, *_MULTILABEL, *_PRESENT)}
)
