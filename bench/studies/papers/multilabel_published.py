"""Published numbers of multi-label data: the papers', the repository's page, and third parties'."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping

from bench.data.download.catalogue import SETS
from bench.settings import Scalar
from bench.studies.papers.rows import published_rows, shares
from bench.studies.published import PaperRow, Published

_P = ("P@1", "P@3", "P@5")
_PSP = ("PSP@1", "PSP@3", "PSP@5")
_ALL = (*_P, "nDCG@3", "nDCG@5", *_PSP)

_MACH: Mapping[str, Scalar] = {"method": "mach", "num_worlds": 32}
#: System → settings of the rows of ours that it is.
BESIDE: Mapping[str, Mapping[str, Scalar]] = {
    "Parabel": {"method": "omikuji", "preset": "parabel"},
    "Bonsai": {"method": "omikuji", "preset": "bonsai"},
    "1-vs-All": {"method": "full_softmax", "encoder": "linear"},
    "MACH": _MACH,
}

# The page's marks of hardware are left out. "(text)": copied there from the method's paper, whose
# features are texts and whose split is another one: not comparable.
_REPOSITORY: Mapping[str, str] = {
    "bibtex-159": (
        "1-vs-All 62.62/39.09/28.79 59.13/61.58 48.84/52.96/59.29;"
        "CPLST 62.38/37.84/27.62 57.63/59.71 48.17/50.86/56.42;"
        "CS 58.87/33.53/23.72 52.19/53.25 46.04/45.08/48.17;"
        "FastXML 63.42/39.23/28.86 59.51/61.70 48.54/52.30/58.28;"
        "LEML 62.54/38.41/28.21 58.22/60.53 47.97/51.42/57.53;"
        "LPSR 62.11/36.65/26.53 56.50/58.23 49.20/50.14/55.01;"
        "ML-CSSP 44.98/30.43/23.53 44.67/47.97 32.38/38.68/45.96;"
        "PD-Sparse 61.29/35.82/25.74 55.83/57.35 48.34/48.77/52.93;"
        "Parabel 64.53/38.56/27.94 59.35/61.06 50.88/52.42/57.36;"
        "PfastreXML 63.46/39.22/29.14 59.61/62.12 52.28/54.36/60.55;"
        "ProXML 64.60/39.00/28.20 59.20/61.50 50.10/52.00/58.30;"
        "SLEEC 65.08/39.64/28.87 60.47/62.64 51.12/53.95/59.56;"
        "WSABIE 54.78/32.39/23.98 50.11/52.39 43.39/44.00/49.30;"
        "kNN 57.04/34.38/25.44 52.29/54.64 43.71/45.82/51.64"
    ),
    "delicious-983": (
        "CPLST 65.31/59.95/55.31 61.16/57.80 31.10/32.40/33.02;"
        "CS 61.36/56.46/52.07 57.66/54.44 30.60/31.84/32.26;"
        "FastXML 69.61/64.12/59.27 65.47/61.90 32.35/34.51/35.43;"
        "LEML 65.67/60.55/56.08 61.77/58.47 30.73/32.43/33.26;"
        "LPSR 65.01/58.96/53.49 60.45/56.38 31.34/32.57/32.77;"
        "ML-CSSP 63.04/56.26/50.16 57.91/53.36 29.48/30.27/30.02;"
        "PD-Sparse 51.82/44.18/38.95 46.00/42.02 25.22/24.63/23.85;"
        "Parabel 67.44/61.83/56.75 63.15/59.41 32.69/34.00/34.53;"
        "PfastreXML 67.13/62.33/58.62 63.48/60.74 34.57/34.80/35.86;"
        "SLEEC 67.59/61.38/56.56 62.87/59.28 32.11/33.21/33.83;"
        "WSABIE 64.13/58.13/53.64 59.59/56.25 31.25/32.02/32.47;"
        "kNN 64.95/58.89/54.11 60.32/56.77 31.03/32.02/32.43"
    ),
    "eurlex-4k": (
        "AnnexML 79.26/64.30/52.33; Bonsai 82.96/69.76/58.31; DiSMEC 82.40/68.50/57.70;"
        "FastXML 76.37/63.36/52.03; LEML 68.55/55.11/45.12; LPSR 79.89/66.01/53.80;"
        "PD-Sparse 83.83/70.72/59.21; PPD-Sparse 83.40/70.90/59.10; Parabel 82.25/68.71/57.53;"
        "PfastreXML 71.36/59.90/50.39; SLEEC 63.40/50.35/41.28; WSABIE 72.28/58.16/47.73;"
        "kNN 81.73/68.78/57.44; XT 78.97/65.64/54.44; APLC-XLNet (text) 87.72/74.56/62.28;"
        "MatchXML (text) 88.85/76.02/63.30"
    ),
    "wiki10-31k": (
        "AnnexML 86.49/74.27/64.20; Bonsai 84.69/73.69/64.39; DiSMEC 85.20/74.60/65.90;"
        "FastXML 83.03/67.47/57.76; LEML 73.47/62.43/54.35; LPSR-NB 72.72/58.51/49.50;"
        "Parabel 84.17/72.46/63.37; PfastreXML 83.57/68.61/59.10; SLEEC 85.88/72.98/62.70;"
        "XT 86.15/75.18/65.41; XML-CNN (text) 81.42/66.23/56.11;"
        "AttentionXML (text) 87.47/78.48/69.37; LightXML (text) 89.45/78.96/69.85;"
        "CascadeXML (text) 89.18/79.71/71.19; MatchXML (text) 89.74/81.51/72.18"
    ),
    "delicious-200k": (
        "AnnexML 46.79/40.72/37.67; Bonsai 46.69/39.88/36.38; DiSMEC 45.50/38.70/35.50;"
        "FastXML 43.07/38.66/36.19; LEML 40.73/37.71/35.84; LPSR-NB 18.59/15.43/14.07;"
        "PD-Sparse 34.37/29.48/27.04; Parabel 46.86/40.08/36.70; Parabel 46.97/40.08/36.63;"
        "PfastreXML 41.72/37.83/35.58; SLEEC 47.85/42.21/39.43; XT 45.59/39.10/35.92"
    ),
    "amazon-670k": (
        "AnnexML 42.39/36.89/32.98; Astec 47.77/42.79/39.10; Bonsai 45.58/40.39/36.60;"
        "DiSMEC 44.70/39.70/36.10; FastXML 36.99/33.28/30.53; LEML 8.13/6.83/6.03;"
        "LPSR-NB 28.65/24.88/22.37; PPD-Sparse 45.32/40.37/36.92; Parabel 44.89/39.80/36.00;"
        "PfastreXML 39.46/35.81/33.05; ProXML 43.50/38.70/35.30; SLEEC 35.05/31.25/28.56;"
        "SLICE+FastText 33.15/29.76/26.93; XT 42.50/37.87/34.41; XML-CNN (text) 35.39/31.93/29.32;"
        "AttentionXML (text) 47.58/42.61/38.92; LightXML (text) 49.10/43.83/39.85;"
        "XR-Transformer 50.13/44.60/40.69; CascadeXML (text) 52.15/46.54/42.44;"
        "MatchXML (text) 51.64/46.17/42.05; Renee 54.23/48.22/43.83"
    ),
    "amazon-3m": (
        "AnnexML 49.30/45.55/43.11; Bonsai 48.45/45.65/43.49; DiSMEC 47.34/44.96/42.80;"
        "FastXML 44.24/40.83/38.59; Parabel 47.48/44.65/42.53; PfastreXML 43.83/41.81/40.09;"
        "AttentionXML 50.86/48.04/45.83; XR-Transformer 53.67/50.29/47.74;"
        "CascadeXML (text) 53.91/51.24/49.52; MatchXML (text) 55.88/52.39/49.80;"
        "Renee 54.84/52.08/49.77"
    ),
}

_NEURIPS: Mapping[str, str] = {
    "wiki10-31k": (
        "MACH 85.44/71.42/61.51; Parabel 84.31/72.57/63.39; DiSMEC 85.20/74.60/65.90;"
        "PfastreXML 83.57/68.61/59.10; FastXML 83.03/67.47/57.76"
    ),
    "delicious-200k": (
        "MACH 43.66/40.18/38.16; Parabel 46.97/40.08/36.63; DiSMEC 45.50/38.70/35.50;"
        "PfastreXML 41.72/37.83/35.58; FastXML 43.07/38.66/36.19"
    ),
    "amazon-670k": (
        "MACH 41.41/39.71/36.32; Parabel 44.89/39.80/36.00; DiSMEC 44.70/39.70/36.10;"
        "PfastreXML 39.46/35.81/33.05; FastXML 36.99/33.28/30.53"
    ),
}
# Set → B, widths, P@1/3/5 and PSP@1/3/5; which of two set-ups made the row of Wiki10 is not stated.
_THIRD_PARTY: Mapping[str, tuple[tuple[int, ...], str, str]] = {
    "bibtex-159": ((100,), "128-128", "62.90/39.01/28.61 47.67/52.11/58.10"),
    "delicious-983": ((200,), "512-512", "71.20/65.36/60.28 27.25/29.68/30.96"),
    "eurlex-4k": ((500,), "512-512-512", "80.70/66.96/55.98 41.47/45.28/48.65"),
    "wiki10-31k": ((1000, 2000), "500-500", "86.09/73.76/64.31 22.14/18.46/15.48"),
}
# How that project trains and merges: a row of ours with the same B and R alone is not theirs.
_THIRD_PARTY_WAY: Mapping[str, Scalar] = {
    **_MACH,
    "estimator": "mean",
    "hash_family": "murmur3",
    "loss_reduction": "mean",
    "optimizer": "adam",
}
# Authors' draft of 2020: B, then P@1/3/5 by the mean and by the quadratic estimator; R = 16.
_DRAFT: Mapping[str, tuple[int, str, str]] = {
    "wiki10-31k": (1000, "81.48/60.73/50.14", "81.89/65.18/55.44"),
    "delicious-200k": (5000, "37.61/35.39/33.70", "38.81/36.67/35.06"),
}


def multilabel_published(reasons: Mapping[tuple[str, str], str]) -> tuple[PaperRow, ...]:
    """Every published row of these sets, in the order of the sources.

    `reasons`: (set, label) → why a published row differs from ours, where it does.
    """
    return (*_papers(), *_third_parties(reasons), *_pages(reasons), *_drafts())


def published_elsewhere(name: str, *, part: str) -> tuple[PaperRow, ...]:
    """A set's published rows that ours are the systems of, beside another split of it."""
    rows = (*_third_parties({}), *_pages({}))
    return tuple(
        dataclasses.replace(row, part=part, why="of the official split, as far as is known")
        for row in rows
        if row.part == SETS[name].title and row.beside
    )


def _papers() -> Iterator[PaperRow]:
    """MACH's own table; its rivals' columns were copied, but for Wiki10 from today's page.

    The released evaluation divides by min(k, labels of the point), the rivals' numbers by k.
    """
    for name, text in _NEURIPS.items():
        found = published_rows(
            text, _P, part=SETS[name].title, source="NeurIPS 2019, poster", tag="A", beside=BESIDE
        )
        for row in found:
            yield row if row.label != "MACH" else _with_authors_metrics(row)


def _with_authors_metrics(row: PaperRow) -> PaperRow:
    """Their P@3 and P@5 are printed beside both denominators."""
    theirs = {f"authors {name}": row.metrics[name] for name in ("P@3", "P@5")}
    return dataclasses.replace(
        row,
        metrics={**row.metrics, **theirs},
        beside={**_MACH, "estimator": "logit_sum", "optimizer": "tf_adam"},
        why="P@3 and P@5 divided by min(k, labels)",
    )


def _third_parties(reasons: Mapping[tuple[str, str], str]) -> Iterator[PaperRow]:
    for name, (buckets, widths, text) in _THIRD_PARTY.items():
        yield PaperRow(
            label="MACH of a third party",
            metrics=shares(text, (*_P, *_PSP)),
            source="Odaimoko/MACH-Pytorch, results sheet",
            part=SETS[name].title,
            tag="T",
            beside={**_THIRD_PARTY_WAY, "num_buckets": buckets, "hidden_dims": widths},
            why=reasons.get((name, "MACH of a third party"), ""),
        )


def _pages(reasons: Mapping[tuple[str, str], str]) -> Iterator[PaperRow]:
    for name, text in _REPOSITORY.items():
        names = _ALL if name in ("bibtex-159", "delicious-983") else _P
        rows = published_rows(
            text,
            names,
            part=SETS[name].title,
            source="repository's page",
            tag="X",
            beside=BESIDE,
        )
        for row in rows:
            is_sized = (name, row.label) == ("amazon-670k", "Parabel")
            sizes = {"model GB": 2.41, "train hours": 0.41} if is_sized else {}
            why = reasons.get((name, row.label), "")
            yield dataclasses.replace(row, metrics={**row.metrics, **sizes}, why=why)


def _drafts() -> Iterator[PaperRow]:
    for name, (num_buckets, mean, quadratic) in _DRAFT.items():
        for estimator, text in (("mean", mean), ("quadratic", quadratic)):
            yield PaperRow(
                label=f"MACH, {estimator} estimator, B={num_buckets}, R=16",
                metrics=shares(text, _P),
                source="authors' draft of 2020",
                part=SETS[name].title,
                tag="A",
            )


def known_of(name: str, labels: Collection[str]) -> tuple[Published, ...]:
    """Numbers of some systems on a set, for a study of this set alone."""
    rows = [*_pages({}), *_third_parties({})]
    return tuple(
        Published(label=row.label, metrics=row.metrics, source=row.source)
        for row in rows
        if row.part == SETS[name].title and row.label in labels
    )
