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
_CITE_REPOSITORY = "licence not stated; the repository asks to cite Bhatia et al. 2016 and the set"


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file to fetch, the same from each of its addresses.

    Attributes:
        file_name: what it is called while it lies in the set's folder; none of the set's own names.
        addresses: where it lies, best first.
        role: which of the set's files it is; None for an archive that holds both.
        sha256: published checksum (hex); None where there is none and the first download is pinned.
    """

    file_name: str
    addresses: tuple[str, ...]
    role: Role | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedSet:
    """A data set that others have published.

    Attributes:
        name: of the set and of its folder in the data folder.
        title: what papers call it.
        task: `multiclass` or `multilabel`.
        source: registered source that reads it.
        downloads: what `fetch` brings.
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


def _drive(*identifiers: str) -> tuple[str, ...]:
    return tuple(f"https://drive.google.com/uc?export=download&id={each}" for each in identifiers)


def _archive(stem: str, *identifiers: str) -> tuple[Download, ...]:
    return (Download(file_name=f"{stem}.zip", addresses=_drive(*identifiers)),)


def _pair(train: tuple[str, ...], test: tuple[str, ...]) -> tuple[Download, ...]:
    roles: tuple[tuple[Role, tuple[str, ...]], ...] = (("train", train), ("test", test))
    return tuple(
        Download(file_name=addresses[0].rpartition("/")[2], addresses=addresses, role=role)
        for role, addresses in roles
    )


_MULTICLASS = (
    PublishedSet(
        name="odp",
        title="ODP (Open Directory Project)",
        task="multiclass",
        source="vw",
        downloads=_pair(
            ("http://hunch.net/~vw/odp_train.vw.gz", "http://hunch.net/~jl/odp_train.vw.gz"),
            ("http://hunch.net/~vw/odp_test.vw.gz", "http://hunch.net/~jl/odp_test.vw.gz"),
        ),
        suffix=".vw.gz",
        num_train_points=1_084_404,
        num_test_points=493_014,
        num_features=422_713,
        num_labels=105_033,
        labels_per_point=1.0,
        unverified=frozenset({"num_train_points", "num_test_points"}),
        options=MappingProxyType(
            {
                "label_base": 1,
                "feature_base": 1001,
                "num_labels": 105_033,
                "num_features": 422_713,
                "task": "multiclass",
            }
        ),
        terms="licence not stated",
        origins=(
            "addresses: README of Tharun24/MACH; VowpalWabbit, demo/recall_tree/odp/Makefile",
            "L, D, first label 1 and first feature 1001: tinytinyeye/MACH, src/odp",
        ),
        notes=("plain HTTP: only the checksum pinned at the first download guards the content",),
    ),
    PublishedSet(
        name="imagenet",
        title="fine-grained ImageNet",
        task="multiclass",
        source="vw",
        downloads=_pair(
            ("http://hunch.net/~jl/datasets/imagenet/training.txt.gz",),
            ("http://hunch.net/~jl/datasets/imagenet/testing.txt.gz",),
        ),
        suffix=".vw.gz",
        num_train_points=12_777_062,
        num_test_points=1_419_674,
        num_features=6_144,
        num_labels=21_841,
        labels_per_point=1.0,
        unverified=frozenset({"num_train_points"}),
        options=MappingProxyType(
            {
                "label_base": 1,
                "feature_base": 0,
                "num_labels": 21_841,
                "num_features": 6_144,
                "task": "multiclass",
            }
        ),
        terms="licence not stated",
        origins=(
            "addresses and L: VowpalWabbit, demo/recall_tree/imagenet/Makefile",
            "D, first label 1, first feature 0 and test points: tinytinyeye/MACH, src/imagenet",
        ),
        notes=(
            "about 104 GB compressed",
            "plain HTTP: only the checksum pinned at the first download guards the content",
        ),
    ),
)

_OLD = "the repository's first file set, to which the published numbers refer"
_NEW = "the repository's present file set: other tokens and order than the first one's"

_MULTILABEL = (
    PublishedSet(
        name="wiki10-31k",
        title="Wiki10-31K",
        task="multilabel",
        source="xmlrepo",
        downloads=_archive(
            "wiki10", "0B3lPMIHmG6vGaDdOeGliWF9EOTA", "1uV-p682ggXQQTiKZyK5M6B0xJJk8_lJx"
        ),
        stem="wiki10",
        num_train_points=14_146,
        num_test_points=6_616,
        num_features=101_938,
        num_labels=30_938,
        labels_per_point=18.64,
        terms=_CITE_REPOSITORY,
        origins=(f"sizes and first address: {_REPOSITORY}", f"mirror and members: {_NAPKINXC}"),
        notes=(
            _OLD,
            "its labels are bookmarkers' tags, so that propensities are the default ones",
        ),
    ),
    PublishedSet(
        name="delicious-200k",
        title="Delicious-200K",
        task="multilabel",
        source="xmlrepo",
        downloads=_archive(
            "deliciousLarge", "0B3lPMIHmG6vGR3lBWWYyVlhDLWM", "18Tb595TuGyFW--nEYGfduwS5WvSbX-sX"
        ),
        stem="deliciousLarge",
        num_train_points=196_606,
        num_test_points=100_095,
        num_features=782_585,
        num_labels=205_443,
        labels_per_point=75.54,
        terms=_CITE_REPOSITORY,
        origins=(f"sizes and first address: {_REPOSITORY}", f"mirror and members: {_NAPKINXC}"),
        notes=("a training point has no label",),
    ),
    PublishedSet(
        name="amazon-670k",
        title="Amazon-670K",
        task="multilabel",
        source="xmlrepo",
        downloads=_archive(
            "amazon", "0B3lPMIHmG6vGdUJwRzltS1dvUVk", "1PV-wbKVv6Ng1K1XM1USqNxFhaQo2qfk6"
        ),
        stem="amazon",
        num_train_points=490_449,
        num_test_points=153_025,
        num_features=135_909,
        num_labels=670_091,
        labels_per_point=5.45,
        propensity="amazon",
        terms=_CITE_REPOSITORY,
        origins=(f"sizes and first address: {_REPOSITORY}", f"mirror and members: {_NAPKINXC}"),
        notes=(_OLD, "sorted by label: shuffle before drawing a part of it"),
    ),
    PublishedSet(
        name="amazon-3m",
        title="Amazon-3M",
        task="multilabel",
        source="xmlrepo",
        downloads=_archive(
            "amazon-3M", "0B3lPMIHmG6vGUEd4eTRxaWl3YkE", "1ork7yeAcliD9JQiRdEx4QknhMFHjVrku"
        ),
        stem="amazon-3M",
        num_train_points=1_717_899,
        num_test_points=742_507,
        num_features=337_067,
        num_labels=2_812_281,
        labels_per_point=36.17,
        propensity="amazon",
        terms=_CITE_REPOSITORY,
        origins=(f"sizes and first address: {_REPOSITORY}", f"mirror and members: {_NAPKINXC}"),
        notes=(_OLD,),
    ),
    PublishedSet(
        name="amazoncat-13k",
        title="AmazonCat-13K",
        task="multilabel",
        source="xmlrepo",
        downloads=_archive(
            "amazonCat", "0B3lPMIHmG6vGa2tMbVJGdDNSMGc", "1WvBWF9hH5ZlFcpCRhp8wLVGwdeGZXKD2"
        ),
        stem="amazonCat",
        num_train_points=1_186_239,
        num_test_points=306_782,
        num_features=203_882,
        num_labels=13_330,
        labels_per_point=5.04,
        terms=_CITE_REPOSITORY,
        origins=(f"sizes: {_REPOSITORY}", f"addresses and members: {_NAPKINXC}"),
        notes=(_OLD, "in spite of its name its published propensities are the default ones"),
    ),
    PublishedSet(
        name="eurlex-4k",
        title="EURLex-4K",
        task="multilabel",
        source="xmlrepo",
        downloads=_archive(
            "eurlex", "0B3lPMIHmG6vGU0VTR1pCejFpWjg", "1xWW1UykQBTD2IorVn7V8XubJatQDScol"
        ),
        stem="eurlex",
        num_train_points=15_539,
        num_test_points=3_809,
        num_features=5_000,
        num_labels=3_993,
        labels_per_point=5.31,
        terms=_CITE_REPOSITORY,
        origins=(f"sizes and first address: {_REPOSITORY}", f"mirror and members: {_NAPKINXC}"),
    ),
    PublishedSet(
        name="delicious-983",
        title="Delicious",
        task="multilabel",
        source="xmlrepo",
        downloads=_archive("delicious", "0B3lPMIHmG6vGdG1jZ19VS2NWRVU"),
        stem="delicious",
        suffix=".txt.gz",
        num_train_points=12_920,
        num_test_points=3_185,
        num_features=500,
        num_labels=983,
        labels_per_point=19.03,
        terms="licence not stated; cite Tsoumakas, Katakis, Vlahavas 2008",
        origins=(f"sizes and address: {_REPOSITORY}",),
        notes=("the official split is the first column of its split files",),
    ),
    PublishedSet(
        name="bibtex-159",
        title="Bibtex",
        task="multilabel",
        source="xmlrepo",
        downloads=_archive("bibtex", "0B3lPMIHmG6vGcy1xM2pJZ09MMGM"),
        stem="bibtex",
        suffix=".txt.gz",
        num_train_points=4_880,
        num_test_points=2_515,
        num_features=1_836,
        num_labels=159,
        labels_per_point=2.40,
        terms="licence not stated; cite Katakis, Tsoumakas, Vlahavas 2008",
        origins=(f"sizes and address: {_REPOSITORY}",),
        notes=("the official split is the first column of its split files",),
    ),
    PublishedSet(
        name="mediamill-101",
        title="Mediamill",
        task="multilabel",
        source="xmlrepo",
        downloads=_archive(
            "mediamill", "0B3lPMIHmG6vGY3B4TXRmZnZBTkk", "1YDlU9GTYSoydU1UYTNT8BpPkRw1BCnFw"
        ),
        stem="mediamill",
        num_train_points=30_993,
        num_test_points=12_914,
        num_features=120,
        num_labels=101,
        labels_per_point=4.38,
        terms="licence not stated; cite Snoek et al. 2006",
        origins=(f"sizes and first address: {_REPOSITORY}", f"mirror and members: {_NAPKINXC}"),
        notes=("the official split is the first column of its split files",),
    ),
)


def _present(name: str, *identifiers: str, notes: tuple[str, ...] = ()) -> PublishedSet:
    """The repository's present file set of the same name and sizes."""
    old = next(each for each in _MULTILABEL if each.name == name)
    return dataclasses.replace(
        old,
        name=f"{name}-v2",
        title=f"{old.title}, present files",
        downloads=_archive(f"{name}-v2", *identifiers),
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
