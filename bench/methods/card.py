"""The card of a method: all that the rest of the suite may know of it; and kinds of studies.

Never imports torch. The methods' cards are where `bench.methods.cards.MODULES` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.settings import ModelSpec

KindName = Literal["training", "decoding", "theory", "scale"]

#: Experiment of our own methods, which share one LightningModule and one way to be measured.
TRAINING_ENTRY = "bench.experiments.training"

#: What brings the libraries of peers.
HOW_TO_INSTALL = (
    "`pip install 'mach-bench[peers]'` brings it, in a clone "
    ".venv/bin/python -m pip install -e '.[peers]'"
)

#: What a method trains by where its options leave that open.
LOSS_OF_TASK: Mapping[str, str] = {"multilabel": "bce", "multiclass": "softmax"}


@dataclass(frozen=True, kw_only=True)
class OptionFormat:
    """How a table writes one option of a method.

    Attributes:
        name: of the option.
        text: format of a value, `B={}` or, of a whole number, `B={:,}`; "" writes `name=value`.
        words: values that have a word of their own; "" hides them.
        default: what the method does where the option is not given.
        is_always: shown in every row, not only where rows of the method differ.
        usual: any other value is shown although all rows have it; None: no value is unusual.
        hidden_by: another setting, and those of its values under which this option has no effect.
    """

    name: str
    text: str = ""
    words: Mapping[Any, str] = field(default_factory=dict)
    default: Any = None
    is_always: bool = True
    usual: Any = None
    hidden_by: tuple[str, tuple[Any, ...]] | None = None

    def is_unusual(self, value: Any) -> bool:
        """Whether a value is shown even where all rows have it."""
        return self.usual is not None and value is not None and value != self.usual

    def write(self, value: Any) -> str:
        """The option in short.

        >>> OptionFormat(name="num_buckets", text="B={}").write(512)
        'B=512'
        >>> OptionFormat(name="chunk_size", text="chunk={}", words={None: "plain"}).write(None)
        'plain'
        """
        if isinstance(value, bool | str | None) and value in self.words:
            return self.words[value]
        if value is None:
            return ""
        shown = f"{value:g}" if isinstance(value, float) else value
        return self.text.format(shown) if self.text else f"{self.name.replace('_', ' ')}={shown}"


@dataclass(frozen=True)
class Dimension:
    """A setting that tuning searches (`bench.studies.tuning`).

    Attributes:
        name: of an option, of a training setting, or `hidden_dims` for the width of the layer.
        values: those of the first tries; numbers ascend, each level as far from the next as that
            matters. Words and truth values have no order.
        below: levels that become allowed where the lowest turns out best, the nearest first.
        above: likewise beyond the highest.
        divides_labels: levels are shares 1/value of the number of labels, each rounded to a power
            of two.
        task: the only task in which the setting has a meaning; "" for both.
    """

    name: str
    values: tuple[bool | int | float | str, ...]
    below: tuple[int | float, ...] = ()
    above: tuple[int | float, ...] = ()
    divides_labels: bool = False
    task: str = ""

    @property
    def is_ordered(self) -> bool:
        """Whether levels are numbers, so that there is a lowest and a highest."""
        return not any(isinstance(value, bool | str) for value in self.values)


#: Options of an output layer that may be updated while its loss is computed (`bench.nn.lean`).
UPDATES = (
    OptionFormat(
        name="update",
        words={"optimizer": "", "sgd": "lean (SGD)", "row_adagrad": "lean (row Adagrad)"},
        text="{}",
        default="optimizer",
    ),
    OptionFormat(name="weight_type", words={"float32": ""}, text="{}", default="float32"),
    OptionFormat(name="output_rate", text="output lr={}"),
)

#: What is searched of every method that trains by steps, over the same levels: around Adam's usual
#: rate, from an ε without effect to one as large as BCE's gradients.
TRAINED = (
    Dimension(
        "learning_rate",
        (0.00125, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08),
        below=(0.000625, 0.0003125),
        above=(0.16, 0.32),
    ),
    Dimension("adam_epsilon", (1e-8, 1e-6, 1e-5, 1e-4, 1e-3), above=(1e-2, 1e-1)),
    Dimension("feature_dropout", (0.0, 0.2, 0.4), above=(0.6, 0.8)),
    Dimension("hidden_dims", (64, 128, 256, 512), below=(32,), above=(1024,)),
    Dimension("optimizer", ("row_adam", "adam")),
)
#: Likewise the loss of methods that have both.
LOSSES = Dimension("loss", ("bce", "softmax"), task="multilabel")


@dataclass(frozen=True, kw_only=True)
class Card:
    """One method.

    Attributes:
        name: what `ModelSpec.method` says.
        version: raised by whoever changes what the method computes; records of a lower one are
            stale. Golden runs detect it (`tests/golden`).
        option_versions: option → value → version, where what changed is computed under that value
            alone; only records of trials that have it can be stale by it. 1 where nothing is given.
        label: what readers call it.
        labels_by_loss: another label where a loss makes it another method (`bce`: one-vs-all).
        group: column of the overview; "" leaves the method out of it.
        entry: module with `run` and `time` (`bench.measure.experiment.Experiment`).
        is_timed: whether its trials have a cost.
        target: `module:Class` that the entry builds; "" where it needs none.
        library: module of the extra `peers` without which its trials are left out; "": none.
        arithmetic: what the method is made of at given settings and sizes, without torch (from a
            `bench.methods.arithmetic.Problem` to its `Parts`); None where nothing predicts that.
        kind: of the studies that it stands in.
        has_steps: whether it is trained by steps, so that settings of training have a meaning.
        is_repeatable: whether a trial gives the same again; one that draws from the system's
            entropy or adds up in the order of its threads does not, and is not audited.
        is_trivial: a trivial baseline: not trained by steps, no competitor.
        is_approximate: its answers are not the exact ones, whatever share of them it found.
        ratio_title: column of the others' speed relative to this method; "" has none.
        options: those that a reader sees, in their order.
        along: option that moves along a series in figures; values of the others make series.
        smoke: option → the most that a smoke trial gives it.
        search: what tuning searches; () leaves it as it is in one try, None does not try it.
        search_task: the only task for which it is tried; "" for both.
        most_labels: with more it is not tried, nor trained; None: there is no limit.
        part: of a model and a, b its parts a to b − 1, which are trained without the others; raises
            `SettingsError` for a model without such parts. None: the method has none.
        choices: of a model that leaves something to the memory at hand (MACH's `worlds_per_step`),
            what it can become: what needs most first. Others become themselves alone.
        in_turn: of a model the numbers of the parts that a trial of it trains one after another, as
            `bench.measure.experiment.Context.worlds` asks for some; empty: it does not.
        color: of its lines and points, `#rrggbb`.
        marker: Matplotlib's.
    """

    name: str
    version: int
    option_versions: Mapping[str, Mapping[Any, int]] = field(default_factory=dict)
    label: str
    labels_by_loss: Mapping[str, str] = field(default_factory=dict)
    group: str
    entry: str = TRAINING_ENTRY
    is_timed: bool = True
    target: str = ""
    library: str = ""
    arithmetic: Callable[[Any], Any] | None = None
    kind: KindName = "training"
    is_trivial: bool = False
    has_steps: bool = True
    is_repeatable: bool = True
    is_approximate: bool = False
    ratio_title: str = ""
    options: tuple[OptionFormat, ...] = ()
    along: str = ""
    smoke: Mapping[str, int] = field(default_factory=dict)
    search: tuple[Dimension, ...] | None = None
    search_task: str = ""
    most_labels: int | None = None
    part: Callable[[ModelSpec, int, int], ModelSpec] | None = None
    choices: Callable[[ModelSpec], tuple[ModelSpec, ...]] = lambda model: (model,)
    in_turn: Callable[[ModelSpec], range] | None = None
    color: str = "#999933"
    marker: str = "*"

    def __post_init__(self) -> None:
        if self.version < 1:
            raise ValueError(f"version of {self.name} is {self.version}; expected 1 or more")

    def versions_of_options(self, options: Mapping[str, Any]) -> dict[str, int]:
        """Versions of the values that options have, as `name=value` → version.

        An option that is not given has the default that the card shows for it.
        """
        defaults = {shown.name: shown.default for shown in self.options}
        chosen = {name: options.get(name, defaults.get(name)) for name in self.option_versions}
        return {
            f"{name}={value}": self.option_versions[name][value]
            for name, value in chosen.items()
            if value in self.option_versions[name]
        }

    def name_for(self, loss: str | None) -> str:
        """Label under a loss."""
        return self.labels_by_loss.get(loss or "", self.label)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a study's trials are; their methods are the cards of this kind.

    Attributes:
        name: of the kind, see `bench.methods.card`.
        sources: module that gives of a `DataSpec`, without torch, its `source_version(spec)` and
            `data_fingerprint(spec, data_dir, cache_dir)`; "": the trials take no data.
        prepares_data: whether the data of all trials is loaded into the cache beforehand.
        num_rounds: of timing, at least three, or ratios have no spread.
    """

    name: KindName
    sources: str
    prepares_data: bool = True
    num_rounds: int = 7


#: Trains a method on points and scores it on others.
TRAINING = Kind(name="training", sources="bench.data.sources")
#: Decodes given bucket scores, with no training inside the trial.
DECODING = Kind(
    name="decoding", sources="bench.experiments.decoding.sources", prepares_data=False, num_rounds=3
)
#: Holds the papers' formulas and claims beside draws and counts; needs no data.
THEORY = Kind(name="theory", sources="", prepares_data=False)
#: Trains at the papers' largest sizes, or states by how much they do not fit.
SCALE = Kind(name="scale", sources="bench.data.sources", prepares_data=False, num_rounds=3)
#: What shows the studies that reproduce a paper's table or figure: published beside measured.
PAPERS = "papers"
