"""What a plugin author reads: the kinds of component, what each is given, and what each promises.

A component is a class or function of one kind, offered by an entry point in the group `soundbench.<kind>`:

    [project.entry-points."soundbench.backbone"]
    tiny = "soundbench_tiny:Tiny"

Its signature is its schema. What the framework supplies comes first, by position (see `KINDS`); what a recipe may set
are keyword-only parameters, each with a type and a default. The docstring's first line is the summary in listings, its
`Args:` section explains the options. A value out of range is refused by the constructor with a `ValueError` that says
what is allowed. `**kwargs` and options without a type are refused when the component is loaded.

`soundbench.testing.check_component(kind, component)` proves what follows. A component that cannot be made with its
defaults alone, or that reads data, offers an example to be proved with: `example(folder) -> dict`, a static method of
the class or an attribute of the function, writes what it needs (little) into an empty folder and gives the options.

Shapes everywhere: B rows, S samples, F bands, T frames, C channels, K classes. `lengths` `(B,)` counts the true samples
or frames of each row; what lies beyond them is padding, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import attrs
import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from soundbench.chance import Chance

__all__ = [
    "KINDS",
    "Augmentation",
    "Backbone",
    "Batch",
    "Clip",
    "Dataset",
    "Featurizer",
    "Hooks",
    "Imported",
    "Importer",
    "Kind",
    "Loss",
    "MakeOptimizer",
    "MakeScheduler",
    "Pooling",
    "RunInfo",
    "hookimpl",
]


@attrs.frozen
class Kind:
    """A kind of component.

    Attributes:
        name: as in the entry-point group `soundbench.<name>` and in the recipe's table.
        supplied: the names of the positional parameters that the framework supplies.
        many: whether a recipe may hold several, as `[[name]]`.
    """

    name: str
    supplied: tuple[str, ...]
    many: bool = False

    @property
    def group(self) -> str:
        """The entry-point group."""
        return f"soundbench.{self.name}"


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("dataset", ()),
        Kind("augmentation", ("rate",), many=True),
        Kind("featurizer", ("rate",)),
        Kind("backbone", ("bands",)),
        Kind("pooling", ("channels",)),
        Kind("loss", ("classes",)),
        Kind("optimizer", ("groups",)),
        Kind("scheduler", ("optimizer", "steps", "steps_per_epoch")),
        Kind("observer", ("run",), many=True),
        Kind("importer", ("path",)),
    )
}


@attrs.frozen
class Clip:
    """A stretch of one sound, with what is known of it. It holds no samples.

    Attributes:
        path: the sound's file, or a name of the dataset's own where it reads sound itself.
        labels: class names; exactly one unless the dataset is `multilabel`.
        start: where it begins in the file, in seconds.
        stop: where it ends, in seconds; None for the end of the file.
        fold: the fold that its publisher put it in, if any.
        group: what must not stand on both sides of a split (the original recording, a speaker, a site); None means the
            file itself.
    """

    path: str
    labels: tuple[str, ...]
    start: float = 0.0
    stop: float | None = None
    fold: int | str | None = None
    group: str | None = None


@attrs.frozen
class Batch:
    """Rows that go through the network together.

    Attributes:
        data: waveforms `(B, S)` or features `(B, F, T)`, padded at the end.
        lengths: true samples or frames of each row, `(B,)` int64.
        target: class weights `(B, K)` float32; one-hot until something mixes them.
        index: which clip of the table each row comes from, `(B,)` int64.
        position: each row's place in the epoch's order, `(B,)` int64; what its draws of chance are addressed by.
    """

    data: Tensor
    lengths: Tensor
    target: Tensor
    index: Tensor
    position: Tensor


class Dataset(Protocol):
    """Clips with labels. `clips()` reads no sound and gives the same order on every machine.

    Where sound is no file, it also offers `read(clip) -> (samples, rate)`, samples `(S,)` float32 in [-1, 1], and the
    property `fingerprint: str`, which changes whenever what `read` gives would. Where its target is several classes at
    once, `multilabel` is True.

    Raises `soundbench.errors.MissingDataError` naming a missing file or table, and `DataError` naming the row of a
    wrong one, both from `classes` or `clips()`, never from the constructor: a recipe is described without its data.
    """

    multilabel: bool

    @property
    def classes(self) -> Sequence[str]:
        """The class names, in the order of the network's outputs."""
        ...

    def clips(self) -> Iterable[Clip]:
        """Every clip, in an order that is the same on every machine."""
        ...


class Augmentation(Protocol):
    """An `nn.Module(rate, *, ...)` that changes training batches row by row, on the batch's device.

    `on` says whether it takes waveforms or features. Lengths stay honest; `data` may grow or shrink along time, and
    what lies beyond `lengths` stays zero. Draws are `chance.uniform(batch.position, ...)` and its like, never of
    torch's global state: a row's draw then depends on seed, epoch, its position and this component's place alone. One
    that takes a row's partner from the batch says `mixes = True`, mixes their targets too, and keeps each row's sum of
    them. Never called in judging.

    One that needs files may offer `prepare()`, which a run calls before it reads any sound. What is not there or cannot
    be used is a `soundbench.errors.MissingDataError` or `DataError` from there, never from the constructor: a recipe is
    described without its data.
    """

    on: ClassVar[Literal["waveform", "features"]]

    def __call__(self, batch: Batch, chance: Chance) -> Batch:
        """The changed batch."""
        ...


class Featurizer(Protocol):
    """An `nn.Module(rate, *, ...)`: waveforms `(B, S)` and lengths to features `(B, F, T)` and lengths.

    `bands` is F. A row alone, padded, or in any batch gives the same frames; frames beyond the length are zero. A row
    of any length from one sample gives at least one frame. Normalisation is an option of its own, and masked. One that
    cannot promise it sets `ragged = False` and is given rows of equal length.

    It may offer `shortest`, the samples of the shortest row that is not extended inside (1 if left out). And
    `assets(folder)`, to write what the model must carry along, with the class method `from_assets(folder, rate,
    **options)`, which makes it again from there when a model is loaded, before its weights are filled in.
    """

    bands: int

    def __call__(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(B, F, T)` and their lengths in frames `(B,)`."""
        ...


class Backbone(Protocol):
    """An `nn.Module(bands, *, ...)`: features `(B, F, T)` and lengths to `(B, C, T')` and lengths.

    `channels` is C. Any F from 16 and any T from 1: rows are extended to the shortest input inside, and lengths clamped
    to it (`shortest` says to how many frames; 1 if left out). Padding changes nothing in evaluation; every parameter
    gets a gradient; `torch.export` takes any batch and length. `default_pooling` (a table with `use`) and
    `default_head` (a `[head]` table) are its paper's own. One that is faster on a CPU in the layouts that it gives its
    images itself says `channels_last = False`, and `auto` leaves them.
    """

    channels: int
    default_pooling: ClassVar[Mapping[str, Any]]
    default_head: ClassVar[Mapping[str, Any]]

    def __call__(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frame-level vectors `(B, C, T')` and their lengths `(B,)`."""
        ...


class Pooling(Protocol):
    """An `nn.Module(channels, *, ...)`: `(B, C, T)` and lengths to one vector a row, `(B, D)`.

    `features` is D. Masked, and finite on one frame.
    """

    features: int

    def __call__(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """One vector a row, `(B, D)`."""
        ...


class Loss(Protocol):
    """An `nn.Module(classes, *, ...)` without parameters: logits and targets, both `(B, K)`, to one loss a row `(B,)`.

    `classifier` says which last layer the network gets: `"linear"`, or `"cosine"` (unit vectors against unit class
    weights, in [-1, 1]). The engine weighs rows and divides by the global batch. One that scores each class on its own,
    so that a clip may carry several, has `multilabel = True`.
    """

    classifier: ClassVar[Literal["linear", "cosine"]]

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of each row, `(B,)`."""
        ...

    def scores(self, logits: Tensor) -> Tensor:
        """Scores in [0, 1] of each class, `(B, K)`."""
        ...


class MakeOptimizer(Protocol):
    """A function `(groups, *, ...)`; the groups come ready made, each a mapping with `params` and what differs."""

    def __call__(self, groups: Sequence[Mapping[str, Any]], **options: Any) -> Optimizer:
        """The optimizer."""
        ...


class MakeScheduler(Protocol):
    """A function `(optimizer, steps, steps_per_epoch, *, ...)`; scales each group's own rate.

    The function's attribute `every` is `"step"` (the default) or `"epoch"`, when it is stepped.
    """

    def __call__(self, optimizer: Optimizer, steps: int, steps_per_epoch: int, **options: Any) -> LRScheduler:
        """The scheduler."""
        ...


@attrs.frozen
class Imported:
    """A model of another program, in the words of this one.

    Attributes:
        name: what its folder is called where the user names none.
        tables: what `model.toml` shall say: `classes`, `multilabel` and the tables `audio`, `featurizer`, `backbone`,
            `pooling`, `head` and `loss`; options left out get their defaults.
        weights: its tensors, each under the name of the network's own that it fills; every one is filled, and none is
            left over.
        constants: tensors that it brings though the network makes its own, each under the name of that buffer; they are
            compared, not loaded.
        notes: what a user should know of it, such as what was left out and why.
    """

    name: str
    tables: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    constants: Mapping[str, Tensor] = attrs.field(factory=dict)
    notes: Sequence[str] = ()


class Importer(Protocol):
    """A function `(path, *, ...)`: a model of another program, read without executing anything of it.

    A recipe names none; `soundbench import NAME PATH` does, and its options are those of the command. Raises
    `soundbench.errors.RunError` for a model that cannot be used, `CallError` where something has to be given beside it.
    """

    def __call__(self, path: Path, **options: Any) -> Imported:
        """The model."""
        ...


@attrs.frozen
class RunInfo:
    """What an observer is told of the run when it is made.

    Attributes:
        directory: the run directory; an observer may add files of its own.
        name: the recipe's name.
        recipe: the resolved recipe, as plain tables.
        classes: the class names.
        clips: how many clips each part has: train, validation, test, purged.
        epochs: how many epochs the run trains at most.
        steps_per_epoch: optimizer steps of one epoch.
        start_step: steps done before, where the run was resumed.
    """

    directory: Path
    name: str
    recipe: Mapping[str, Any]
    classes: tuple[str, ...]
    clips: Mapping[str, int]
    epochs: int
    steps_per_epoch: int
    start_step: int = 0


_spec = pluggy.HookspecMarker("soundbench")
hookimpl = pluggy.HookimplMarker("soundbench")


class Hooks:
    """What an observer `Class(run, *, ...)` may listen to, each method marked with `hookimpl`; fewer arguments will do.

    Called on the main process only. An observer that raises is told on the log and dropped; the run goes on.
    """

    @_spec
    def run_started(self) -> None:
        """Training is about to begin."""

    @_spec
    def progressed(self, epoch: int, step: int, loss: float, rate: float, clips_per_second: float) -> None:
        """A few times a second at most: the step of the whole run, mean loss and clips a second since the last call."""

    @_spec
    def epoch_completed(self, epoch: int, row: Mapping[str, float]) -> None:
        """An epoch was trained and validated; `row` is its row of `history.csv`."""

    @_spec
    def checkpoint_saved(self, path: Path) -> None:
        """A checkpoint is on disk."""

    @_spec
    def run_finished(self, report: Mapping[str, Any]) -> None:
        """The test set was judged and the report written; `report` is `report.json`."""

    @_spec
    def run_failed(self, error: BaseException) -> None:
        """The run ends with an error, or was stopped by hand."""
