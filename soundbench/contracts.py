"""The contracts of plugins: the kinds of component, the arguments that each receives and what each guarantees.

A component is a class or a function of one kind. An entry point in the group `soundbench.<kind>` makes it available:

    [project.entry-points."soundbench.backbone"]
    tiny = "soundbench_tiny:Tiny"

The signature of a component defines its table in a recipe. The first parameters are positional; the framework supplies
their values (see `KINDS`). The keyword-only parameters are the options that a recipe can set; each has a type, and a
default unless it is required. The first line of the docstring is the summary in listings, and its `Args:` section
describes the options. The constructor checks the values and raises a `ValueError` that says what is allowed. `**kwargs`
and options without a type are errors when the component is loaded.

`soundbench.testing.check_component(kind, component)` tests a component against its contract. A component that needs
options without a default, or that reads data, provides options for these tests: `example(folder) -> dict`, a static
method of the class or an attribute of the function. It writes a small amount of data into an empty folder and returns
the options.

Shapes: B rows, S samples, F bands, T frames, C channels, D features, K classes. `lengths` `(B,)` counts the valid
samples or frames of each row. Everything after them is padding and must not change a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import attrs
import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from soundbench.chance import Chance

__all__ = [
    "API_VERSION",
    "KINDS",
    "Annotation",
    "Augmentation",
    "Backbone",
    "Batch",
    "Calibration",
    "Clip",
    "Dataset",
    "Exporter",
    "Featurizer",
    "HeldOut",
    "Hooks",
    "Imported",
    "Importer",
    "Kind",
    "Loss",
    "MakeOptimizer",
    "MakeScheduler",
    "Pooling",
    "Program",
    "Recording",
    "Reject",
    "RunInfo",
    "Runner",
    "hookimpl",
]

API_VERSION = "0.1"
"""The version of the plugin API: that of soundbench without its last number."""

LEAST_SCORE = 1e-12
"""No score counts as less in a log loss, which would else be infinite."""


@attrs.frozen
class Kind:
    """A kind of component.

    Attributes:
        name: as in the entry-point group `soundbench.<name>` and in the recipe's table.
        supplied: the names of the positional parameters, whose values the framework supplies.
        many: whether a recipe can have several of them, written `[[name]]`.
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
        Kind("calibration", ("classes",)),
        Kind("reject", ("classes",)),
        Kind("observer", ("run",), many=True),
        Kind("importer", ("path",)),
        Kind("exporter", ("program",)),
    )
}


@attrs.frozen
class Clip:
    """A section of one sound file with its labels. It holds no samples.

    Attributes:
        path: the sound file, or any unique name if the dataset reads its sound itself.
        labels: class names; exactly one unless the dataset is `multilabel`.
        start: start within the file, in seconds.
        stop: end within the file, in seconds; None for the end of the file.
        fold: the fold that the publisher assigned, if any.
        group: the original recording, the speaker or the site, never in both training and test; None: the file itself.
        extra: further values of the clip by name, all text, such as `{"site": "A4"}`; they are kept in `clips.csv`.
    """

    path: str
    labels: tuple[str, ...]
    start: float = 0.0
    stop: float | None = None
    fold: int | str | None = None
    group: str | None = None
    extra: Mapping[str, str] = attrs.field(factory=dict, hash=False)


@attrs.frozen
class Annotation:
    """A stretch of a recording in which a class sounds.

    Attributes:
        label: the class.
        start: seconds from the start of the recording.
        stop: seconds from the start of the recording.
    """

    label: str
    start: float
    stop: float


@attrs.frozen
class Recording:
    """A sound file whose events are all annotated.

    Attributes:
        path: the sound file.
        annotations: by their start; possibly none.
        group: see `Clip`.
    """

    path: str
    annotations: tuple[Annotation, ...]
    group: str | None = None


@attrs.frozen
class Batch:
    """Rows that the network processes together.

    Attributes:
        data: waveforms `(B, S)` or features `(B, F, T)`, padded at the end.
        lengths: valid samples or frames of each row, `(B,)` int64.
        target: class weights `(B, K)` float32; one-hot unless an augmentation mixes rows.
        index: the clip of each row, as its row in the clip table, `(B,)` int64.
        position: the position of each row in the order of the epoch, `(B,)` int64; random numbers are a function of it.
    """

    data: Tensor
    lengths: Tensor
    target: Tensor
    index: Tensor
    position: Tensor

    # torch.compile cannot trace the one that attrs writes, and augmentations make batches where it traces.
    def __init__(self, data: Tensor, lengths: Tensor, target: Tensor, index: Tensor, position: Tensor) -> None:
        names = ("data", "lengths", "target", "index", "position")
        for name, value in zip(names, (data, lengths, target, index, position), strict=True):
            object.__setattr__(self, name, value)

    @property
    def host_position(self) -> Tensor:
        """`position` on the CPU, for draws that Python looks at: to see those of a GPU, it would have to wait."""
        on_host: Tensor | None = getattr(self.position, "on_host", None)  # see `keep_on_host`
        return self.position.cpu() if on_host is None else on_host


class Dataset(Protocol):
    """A class `(*, ...)`: clips with labels.

    Names of classes and labels may be in any Unicode form: they are compared in NFC. Of a path in another form than the
    file system's, the file is found; several spellings of one path are one file.

    A dataset whose sound is not in files also has a method `read(clip) -> (samples, rate)`, samples `(S,)` float32 in
    [-1, 1], rate in Hz, and a property `fingerprint: str` that changes whenever the result of `read` would; with
    `threads = True` several threads call `read` at once. `multilabel` is True if a clip can have any number of labels.
    One of published sound can state, for model cards, `title`, such as "ESC-50", and `license`, such as "CC-BY-4.0".

    If such sound lies in shards, files that hold many clips each, the dataset also has two more methods. `shards() ->
    Mapping[str, str]` gives the name of each shard, in order, and its fingerprint, which changes whenever the shard
    does; `fingerprint` then says only how shards are read. The path of a clip is the name of its shard, a slash, and
    its own. `read_many(clips)` takes clips of one shard, in the order of `clips()`, and yields for each, in the order
    given, what `read` returns, or the `SoundError` that it raises; it goes through the shard once. What it raises
    itself is the reason why none of the remaining clips can be read. With `threads = True` each thread has a shard.

    A dataset that cuts its clips from annotated recordings also has a method `recordings() -> Iterable[Recording]`, by
    which `soundbench evaluate --events` scores events, and an attribute `negatives`: the class of clips that hold no
    annotation, or None. If it needs the lengths of the recordings, it sets `reads_headers = True`, and may read them in
    `clips()` by `soundbench.audio.info`.

    `classes` and `clips()` raise `soundbench.errors.MissingDataError` with the path of a missing file or table, and
    `DataError` with the row of an invalid entry. The constructor reads no data: `soundbench describe` works without it.
    """

    multilabel: bool

    @property
    def classes(self) -> Sequence[str]:
        """The class names, in the order of the network's outputs."""
        ...

    def clips(self) -> Iterable[Clip]:
        """Yield every clip, in the same order on every machine, without reading sound (see `reads_headers`)."""
        ...


class Augmentation(Protocol):
    """An `nn.Module(rate, *, ...)` that changes the rows of training batches, on the device of the batch.

    `rate` is the sample rate in Hz. `on` says whether it takes waveforms or features. It may change the time dimension
    of `data`; it then returns the new `lengths`, and data after them stay zero. Random numbers come from the methods of
    `chance`, such as `chance.uniform(batch.position, ...)`, never from torch's global generator: each depends only on
    the seed, the epoch, the row's position and the component's place in the recipe. One that changes targets, as one
    that combines rows does, sets `mixes = True`; the sum of each row's target stays the same. One that is for one class
    a clip sets `multilabel = False`. Augmentations are not used in validation, test or prediction.

    One that needs files can have a method `prepare()`, called before a run reads any sound. It raises
    `soundbench.errors.MissingDataError` for missing files and `DataError` for files that cannot be used. The
    constructor does not read data: `soundbench describe` works without it.
    """

    on: ClassVar[Literal["waveform", "features"]]

    def __call__(self, batch: Batch, chance: Chance) -> Batch:
        """Return the changed batch."""
        ...


class Featurizer(Protocol):
    """An `nn.Module(rate, *, ...)`: waveforms `(B, S)` and lengths to features `(B, F, T)` and lengths.

    `rate` is the sample rate in Hz, `bands` is F. The frames of a row are the same alone, padded, and in any batch;
    frames after its length are zero. A row of one sample or more gives at least one frame. Normalisation, if any, is an
    option of the featurizer and ignores padding. A featurizer that cannot guarantee this sets `ragged = False` and
    receives rows of equal length only. `soundbench export` traces it with `torch.export`, as every part of a network.
    One that cannot be exported can give the reason as a text in `unexportable`.

    Optional: `shortest`, the number of samples up to which it pads shorter rows internally (1 if not set).
    `assets(folder)` writes further files that the model needs. The class method `from_assets(folder, rate, **options)`
    makes the featurizer when a model is loaded, from these files, if any; its weights are loaded afterwards.
    """

    bands: int

    def __call__(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features `(B, F, T)` and their lengths in frames `(B,)`."""
        ...


class Backbone(Protocol):
    """An `nn.Module(bands, *, ...)`: features `(B, F, T)` and lengths to `(B, C, T')` and lengths.

    `channels` is C. It takes any F >= 16 and any T >= 1. Where it needs more frames, it pads rows internally and clamps
    their lengths to that minimum (`shortest` is the number of frames; 1 if not set). In evaluation mode padding must
    not change a result. A backbone that cannot guarantee this, such as an ordinary image network, sets `ragged = False`
    and receives rows of equal length only, in training too. Every parameter gets a gradient. `torch.export` works with
    dynamic batch size and length, if rows may differ in length. `unexportable`, `assets` and `from_assets` are as a
    featurizer's. `default_pooling` (a table with `use`; without it, recipes must name one) and `default_head` (a
    `[head]` table) are those of its paper. One that is faster on a CPU without `train.channels_last` sets
    `channels_last = False`; `auto` then does not use it there.
    """

    channels: int
    default_pooling: ClassVar[Mapping[str, Any]]
    default_head: ClassVar[Mapping[str, Any]]

    def __call__(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return frame-level vectors `(B, C, T')` and their lengths `(B,)`."""
        ...


class Pooling(Protocol):
    """An `nn.Module(channels, *, ...)`: `(B, C, T)` and lengths to one vector per row, `(B, D)`.

    `features` is D. It ignores padding and gives finite values for a single frame.
    """

    features: int

    def __call__(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return one vector per row, `(B, D)`."""
        ...


class Loss(Protocol):
    """An `nn.Module(classes, *, ...)` without parameters: logits and targets `(B, K)` to one loss per row, `(B,)`.

    `classes` is K. `classifier` is the last layer of the network: `"linear"`, or `"cosine"` (the cosine between the
    embedding and the weights of each class, in [-1, 1]). Training multiplies the losses by the class weights and
    divides their sum by the size of the global batch. A loss that scores each class independently, for multi-label
    datasets, sets `multilabel = True`.
    """

    classifier: ClassVar[Literal["linear", "cosine"]]

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each row, `(B,)`."""
        ...

    def scores(self, logits: Tensor) -> Tensor:
        """Return the score of each class, in [0, 1], `(B, K)`."""
        ...


@attrs.frozen(eq=False)
class HeldOut:
    """Clips that the network was not trained on, with the logits of their windows, for a calibration to be fitted on.

    A clip has W >= 1 windows, N clips have V in all. Everything is float64 on the CPU.

    Attributes:
        logits: of each window, `(V, K)`.
        clip: the clip of each window, from 0 to N - 1, `(V,)` int64.
        target: the labels of each clip, `(N, K)`, 0 or 1.
        scores: the scores `(V, K)` of calibrated logits `(V, K)`: those of the loss.
        multilabel: whether a clip may have any number of labels.
    """

    logits: Tensor
    clip: Tensor
    target: Tensor
    scores: Callable[[Tensor], Tensor]
    multilabel: bool

    def clip_scores(self, logits: Tensor) -> Tensor:
        """The scores of each clip `(N, K)`, the mean over its windows, if windows had these logits `(V, K)`."""
        scores = self.scores(logits)
        sums = scores.new_zeros(self.target.shape).index_add(0, self.clip, scores)
        return sums / self.clip.bincount(minlength=len(self.target)).unsqueeze(1)

    def log_loss(self, logits: Tensor, target: Tensor | None = None) -> Tensor:
        """The mean over clips of the log loss of their scores, if windows had these logits `(V, K)`.

        With one label a clip: `-sum_k t_k log p_k`. With several: the mean over the classes of the binary cross
        entropy, `-t_k log p_k - (1 - t_k) log(1 - p_k)`. No score counts as less than 1e-12. `target` `(N, K)` may take
        the place of the labels, such as smoothed ones.
        """
        scores = self.clip_scores(logits)
        target = self.target if target is None else target
        present = target * scores.clamp(min=LEAST_SCORE).log()
        if not self.multilabel:
            return -present.sum(1).mean()
        absent = (1 - target) * (1 - scores).clamp(min=LEAST_SCORE).log()
        return -(present + absent).mean()


class Calibration(Protocol):
    """An `nn.Module(classes, *, ...)` without parameters: logits of windows `(B, K)` to calibrated logits `(B, K)`.

    `classes` is K. The loss turns calibrated logits into scores; those of a clip are the mean over its windows. What is
    fitted are options, None unless a recipe gives them: `fit` returns their values, which `model.toml` keeps. While
    they are None, logits are returned as they are. A calibration without options is never fitted.
    """

    def fit(self, held_out: HeldOut) -> Mapping[str, Any]:
        """Return the options that fit these clips; none where the recipe gives them."""
        ...

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the calibrated logits, `(B, K)`."""
        ...


class Reject(Protocol):
    """An `nn.Module(classes, *, ...)`: what the network gives for windows, to one reject score per window, `(B,)`.

    `classes` is K. The score is higher, the more a window is like the sound of training. It depends on this window
    alone. Windows, and clips by their mean, below a threshold are of none of the classes; the framework fits it.

    `embeddings` says whether it needs the embeddings of the windows, the input of the network's last layer. One that
    must know the sound of training has a method `fit(logits, embeddings, targets)`, called once, after training, with
    the windows of the training clips: `(V, K)`, `(V, D)` or None, and their labels `(V, K)`, 0 or 1. Rows of `targets`
    without a label are windows of noise, which is of no class. What it computes it keeps in buffers, which may have
    another shape than before; the model folder keeps them. It does not change its parameters otherwise.
    """

    embeddings: ClassVar[bool]

    def __call__(self, logits: Tensor, embeddings: Tensor | None) -> Tensor:
        """Return the reject score of each window, `(B,)`."""
        ...


class MakeOptimizer(Protocol):
    """A function `(groups, *, ...)` that returns an optimizer.

    Each group is a mapping with `params` and the settings in which it differs, as `torch.optim` takes them.
    """

    def __call__(self, groups: Sequence[Mapping[str, Any]], **options: Any) -> Optimizer:
        """Return the optimizer."""
        ...


class MakeScheduler(Protocol):
    """A function `(optimizer, steps, steps_per_epoch, *, ...)` that returns a scheduler.

    `steps` are all optimizer steps of the run. The schedule scales the learning rate of each parameter group. The
    function's attribute `every` says when `step()` is called: `"step"` (the default) or `"epoch"`.
    """

    def __call__(self, optimizer: Optimizer, steps: int, steps_per_epoch: int, **options: Any) -> LRScheduler:
        """Return the scheduler."""
        ...


@attrs.frozen
class Imported:
    """A model of another program, converted to soundbench.

    Attributes:
        name: the default name of the model's folder.
        tables: the content of `model.toml`: `classes`, `multilabel` and the tables `audio`, `featurizer`, `backbone`,
            `pooling`, `head` and `loss`; options left out have their defaults.
        weights: its tensors by the names in the network's state dict; exactly one for each of the network's.
        constants: tensors of the source that the network computes itself, by the names of its buffers; they are
            compared, not loaded.
        notes: information for the user, such as what was left out and why.
    """

    name: str
    tables: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    constants: Mapping[str, Tensor] = attrs.field(factory=dict)
    notes: Sequence[str] = ()


class Importer(Protocol):
    """A function `(path, *, ...)` that reads a model of another program without executing code from it.

    `soundbench import NAME PATH` calls it, with the options of the command; recipes do not use importers. It raises
    `soundbench.errors.RunError` if the model cannot be used, and `CallError` if a required option is missing.
    """

    def __call__(self, path: Path, **options: Any) -> Imported:
        """Return the model."""
        ...


@attrs.frozen(eq=False)
class Program:
    """What an exporter writes: a module, and what is to be kept with it.

    Attributes:
        module: in evaluation mode, on the CPU; it takes the inputs by position, and returns a tuple of tensors.
        inputs: an example of each input by its name, in order.
        dynamic: the dimensions of each input that may have any size, each with its name: `{"waveform": {0: "batch", 1:
            "samples"}}`. Dimensions of one name have one size.
        outputs: the name of each tensor of the result.
        metadata: a JSON object, which the file must hold; docs/design.md describes that of a model.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    dynamic: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...]
    metadata: Mapping[str, Any] = attrs.field(factory=dict)


class Runner(Protocol):
    """What reads an exported file and computes with it.

    Attributes:
        metadata: the JSON object that the file holds.
    """

    metadata: Mapping[str, Any]

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """The outputs by their names, of inputs by their names."""
        ...


class Exporter(Protocol):
    """A class `(program, *, ...)` that writes a program for a runtime.

    The file computes what the module computes, for any size of the dynamic dimensions from 1, and holds the metadata.
    Whatever stops the export is raised as it is; soundbench finds the component that is to blame, and names it. The
    module is not changed.

    One whose runtime can compute in integers of 8 bits also has a method `int8(examples) -> bytes`. Each example is a
    mapping of inputs by their names, such as one window of sound; the ranges of all values are taken from them.
    A static method `with_metadata(data, metadata) -> bytes` returns such a file with other metadata, since thresholds
    are fitted again to what it computes.
    """

    suffix: ClassVar[str]
    """How the names of its files end, such as `".onnx"`."""

    def export(self) -> bytes:
        """Return the content of the file."""
        ...

    @staticmethod
    def read(data: bytes) -> Runner:
        """Return what computes with the content of such a file.

        Raises:
            soundbench.errors.RunError: it is not of such a file, or damaged.
        """
        ...


@attrs.frozen
class RunInfo:
    """What an observer receives when it is made.

    Attributes:
        directory: the run directory; an observer can add files to it.
        name: the name of the recipe.
        recipe: the resolved recipe, as plain tables.
        classes: the class names.
        clips: the number of clips in each part: train, validation, test, purged.
        epochs: the maximum number of epochs.
        steps_per_epoch: optimizer steps in one epoch.
        start_step: the step that a resumed run continues from; 0 for a new run.
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
    """The hooks of an observer, a class `(run, *, ...)`; `run` is a `RunInfo`.

    An observer implements any of these methods, each decorated with `hookimpl`, with all or some of its arguments, for
    the main process only. If one raises, the log has its file and line, the observer is removed, and the run continues.
    """

    @_spec
    def run_started(self) -> None:
        """Training is about to start."""

    @_spec
    def progressed(self, epoch: int, step: int, loss: float, rate: float, clips_per_second: float) -> None:
        """Training is under way; called a few times a second at most.

        `epoch` is counted from 1, `step` are optimizer steps since the start of the run, `rate` is the learning rate;
        `loss`, a mean, and `clips_per_second` are of the time since the previous call.
        """

    @_spec
    def epoch_completed(self, epoch: int, row: Mapping[str, float]) -> None:
        """An epoch has been trained and validated; `row` is its row of `history.csv`."""

    @_spec
    def checkpoint_saved(self, path: Path) -> None:
        """A checkpoint has been saved to `path`."""

    @_spec
    def run_finished(self, report: Mapping[str, Any]) -> None:
        """The test set has been evaluated and the report written; `report` is the content of `report.json`."""

    @_spec
    def run_failed(self, error: BaseException) -> None:
        """The run ended with an error or was stopped by the user."""
