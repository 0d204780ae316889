"""What a peer has to offer, and how its options are read; imports neither torch nor a library."""

from __future__ import annotations

import dataclasses
import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

from baselines.peers.cards import MAX_OVR_LABELS
from bench.data.csr import Csr, Dataset, Int64s
from bench.measure.processors import num_threads
from bench.methods.card import HOW_TO_INSTALL
from bench.nn.options import is_of, words
from bench.settings import ModelSpec, SettingsError, TrainSpec


class PeerMissing(ImportError):  # noqa: N818 - an outcome of a trial, not a mistake
    """A peer's library is not installed."""


@dataclass(frozen=True, kw_only=True)
class PeerOptions:
    """Options that every peer takes.

    Attributes:
        num_threads: of training and inference; None: as many as the process may use.
    """

    num_threads: int | None = None

    def __post_init__(self) -> None:
        self.require_at_least("num_threads", 1)

    def require_at_least(self, name: str, least: float) -> None:
        """Refuse a smaller value; None is none.

        Raises:
            SettingsError: the option's value is smaller.
        """
        value = getattr(self, name)
        if value is not None and value < least:
            raise SettingsError(f"option {name} is {value}; expected at least {least}")

    def require_above(self, name: str, edge: float) -> None:
        """Refuse a value that is not above an edge.

        Raises:
            SettingsError: the option's value is not above it.
        """
        if not getattr(self, name) > edge:
            raise SettingsError(f"option {name} is {getattr(self, name)}; expected above {edge}")


class Peer(ABC):
    """A classifier of another library: prepared rows in, ranked labels out.

    Called in the order `read`, `train` (any number of times, each from scratch) or `restore`,
    `prepare_inference`, then `queries`, `top_k` and `release` for one block of points after the
    other, at last `finish_inference`.

    Args:
        options: an `options_class`.
        folder: empty, for files that the library needs or leaves; the caller removes it.
        seed: of what the library draws, where it can be told; in [0, 2^31).
    """

    #: Name of its distribution and of the module to import.
    package: ClassVar[str]
    options_class: ClassVar[type[PeerOptions]] = PeerOptions

    def __init__(self, options: Any, *, folder: Path, seed: int) -> None:
        self.options = options
        self.folder = folder
        self.seed = seed
        self.num_threads: int = options.num_threads or num_threads()

    @classmethod
    def check_spec(cls, model: ModelSpec, train: TrainSpec | None = None) -> None:
        """Refuse a model that this peer does not take; its training settings do not matter.

        Raises:
            SettingsError: see :func:`read_options`.
        """
        read_options(cls, model)

    @property
    def max_ranked(self) -> int | None:
        """Labels that it can rank for a point; None for any number."""
        return None

    @property
    def num_epochs(self) -> int | None:
        """Passes over the training data; None where its training is none of passes."""
        return None

    def least_bytes(self) -> int | None:
        """Bytes that training takes at least, by arithmetic; None where nothing tells."""
        return None

    @abstractmethod
    def read(self, dataset: Dataset) -> None:
        """Bring the training split into the form that the library trains from.

        Raises:
            SettingsError: it cannot be trained on such data.
        """

    @abstractmethod
    def train(self) -> None:
        """Train a new model on what was read."""

    @abstractmethod
    def saved(self) -> Path:
        """The trained model's folder, with nothing else in it; written now if not by training."""

    @abstractmethod
    def restore(self, folder: Path) -> None:
        """Take what :meth:`saved` named in an earlier process, instead of training."""

    def model_bytes(self) -> int:
        """Bytes of the trained model's files."""
        return folder_bytes(self.saved())

    @abstractmethod
    def prepare_inference(self, k: int) -> None:
        """Make ready to answer the k best labels."""

    @abstractmethod
    def queries(self, features: Csr) -> Any:
        """Points, `(N, D)`, in the form that the library answers at its fastest."""

    @abstractmethod
    def top_k(self, queries: Any) -> Int64s:
        """`(N, k)` labels, best first; -1 where the library gave fewer."""

    def release(self, queries: Any) -> None:
        """Give back what :meth:`queries` took."""
        return

    def finish_inference(self) -> None:
        """Give back what :meth:`prepare_inference` took."""
        return

    def resolved(self) -> dict[str, Any]:
        """What a record states beside the settings."""
        return {
            **dataclasses.asdict(self.options),
            "num_threads": self.num_threads,
            "seed": self.seed,
            "library": f"{self.package} {version(self.package)}",
            "model_bytes_are": "file on disk",
        }


def import_library(package: str) -> Any:
    """A peer's library.

    Raises:
        PeerMissing: it cannot be imported; says which extra installs it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise PeerMissing(f"{package} cannot be imported ({error}); {HOW_TO_INSTALL}") from None


def refuse_many_labels(dataset: Dataset) -> None:
    """Refuse more labels than one-versus-rest is meant for.

    Raises:
        SettingsError: there are more than `MAX_OVR_LABELS`.
    """
    if dataset.num_labels > MAX_OVR_LABELS:
        raise SettingsError(
            f"one-versus-rest of {dataset.num_labels} labels; expected at most {MAX_OVR_LABELS}"
        )


def read_options(kind: type[Peer], spec: ModelSpec) -> PeerOptions:
    """A peer's options from a model's settings.

    Raises:
        SettingsError: an option is unknown or has an impossible value, or the model has hidden
            layers, which no peer has.
    """
    if spec.encoder != "linear":
        raise SettingsError(
            f"encoder of method {spec.method!r} is {spec.encoder!r}; expected 'linear': "
            f"{kind.package} has no hidden layers"
        )
    expected = get_type_hints(kind.options_class)
    unknown = sorted(set(spec.options) - set(expected))
    if unknown:
        raise SettingsError(
            f"options of method {spec.method!r}: unknown {unknown}; it takes {sorted(expected)}"
        )
    for name, value in spec.options.items():
        if not is_of(value, expected[name]):
            raise SettingsError(
                f"option {name} of method {spec.method!r} is {value!r}; "
                f"expected {words(expected[name])}"
            )
    return kind.options_class(**spec.options)  # type: ignore[arg-type]


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
