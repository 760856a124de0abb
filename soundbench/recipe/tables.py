"""The tables that are not components: their keys, types, defaults and ranges; and the names of default components."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs

from soundbench import limits
from soundbench.errors import CallError
from soundbench.messages import show, unknown_key

__all__ = [
    "ANNOTATIONS_DATASET",
    "CORE",
    "DEFAULTS",
    "FOLDER_DATASET",
    "FORMAT",
    "MANIFEST_DATASET",
    "MULTILABEL_DEFAULTS",
    "MULTILABEL_LOSS",
    "OWN",
    "RENAMED",
    "TABLES",
    "Audio",
    "Calibration",
    "Head",
    "Init",
    "Reject",
    "Report",
    *("Split", "Train", "keyed"),
]

TABLES = (
    *("dataset", "split", "audio", "augmentation", "featurizer", "backbone", "pooling", "head", "init", "loss"),
    *("optimizer", "scheduler", "train", "calibration", "reject", "report", "observer"),
)

# The only place in the core that names components. Pooling and head default to those of the backbone's paper.
DEFAULTS: dict[str, Any] = {
    "augmentation": [],
    "featurizer": {"use": "fbank"},
    "loss": {"use": "cross-entropy"},
    "optimizer": {"use": "adamw"},
    "scheduler": {"use": "warmup-cosine"},
    "calibration": {"use": "temperature"},
    "reject": {"use": "distance"},
    "observer": [{"use": "progress"}],
}

# The defaults where the loss scores each class independently; thresholds then say already that no class is there.
MULTILABEL_DEFAULTS: dict[str, Any] = {"calibration": {"use": "platt"}, "reject": {"use": "none"}}
# The loss that a message suggests if the dataset is multi-label and the loss of the recipe is not.
MULTILABEL_LOSS = "bce"

# The datasets without a recipe: a folder with one folder per class, a table of files, tables of annotated recordings.
FOLDER_DATASET, MANIFEST_DATASET, ANNOTATIONS_DATASET = "folder", "manifest", "annotations"

# The format version of `recipe.toml` and `model.toml` in run directories; the earliest files have none. In format 1,
# `train.seed` also drew the split; `reading.py` gives such a recipe the `split.seed` that it had.
FORMAT = 2

# Keys that were renamed in format 1.
RENAMED = {
    "train.batch": "train.batch_size",
    "train.workers": "train.num_workers",
    "train.clip_gradient": "train.max_grad_norm",
    "optimizer.rate": "optimizer.lr",
}

T = TypeVar("T")
_DEVICES = ("auto", "cpu", "cuda")
Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _range(says: str, holds: Callable[[Any], bool]) -> Validator:
    """A validator of numbers; strings such as "auto" and None are checked by the type."""

    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if _is_number(value) and not holds(value):
            raise ValueError(f"{attribute.name} must be {says}, is {show(value)}")
        if _is_number(value) and not math.isfinite(value):
            raise ValueError(f"{attribute.name} must be finite, is {show(value)}")

    return check


def _at_least(low: int) -> Validator:
    return _range(f"at least {low}", lambda value: value >= low)


def _above(low: int) -> Validator:
    return _range(f"above {low}", lambda value: value > low)


def _at_most(high: int) -> Validator:
    return _range(f"at most {high:,}", lambda value: value <= high or math.isinf(value))


def _between(low: int, high: int) -> Validator:
    return _range(f"from {low} to {high}", lambda value: low <= value <= high)


_below_one = _range("at least 0 and below 1", lambda value: 0 <= value < 1)


def _share(empty: bool) -> Validator:
    """A validator of a fraction of the data or a list of folds, which may be `empty` or not."""

    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if _is_number(value) and not 0 <= value < 1:
            hint = f"; for fold {value:g} write [{value:g}]" if value >= 1 and value == int(value) else ""
            raise ValueError(f"{attribute.name} must be a fraction at least 0 and below 1, is {show(value)}{hint}")
        if isinstance(value, list) and not value and not empty:
            raise ValueError(f"{attribute.name} must name at least one fold, is []; for no test set write 0")

    return check


def _device(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    kind = re.sub(r":\d+$", "", value) if isinstance(value, str) else ""
    if kind not in _DEVICES:
        known = ", ".join(show(device) for device in _DEVICES)
        raise ValueError(f'{attribute.name} must be {known} or one such as "cuda:1", is {show(value)}')


def _weights(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    for name, weight in value.items() if isinstance(value, Mapping) else ():
        if _is_number(weight) and weight < 0:
            raise ValueError(f"{attribute.name} must be at least 0 for every class, {show(name)} has {show(weight)}")
        if _is_number(weight) and not math.isfinite(weight):
            raise ValueError(f"{attribute.name} must be finite for every class, {show(name)} has {show(weight)}")


def _rates(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    for name, rate in value.items() if isinstance(value, Mapping) else ():
        if _is_number(rate) and not 0 < rate < math.inf:
            raise ValueError(f"{attribute.name} must be above 0 for every module, {show(name)} has {show(rate)}")


def keyed(cls: type[T]) -> type[T]:
    """Refuse an unknown keyword of an attrs class as a recipe refuses an unknown key: with the nearest name."""
    make, names = cls.__init__, [field.name for field in attrs.fields(cls)]  # type: ignore[arg-type]

    @functools.wraps(make)
    def checked(self: Any, *values: Any, **named: Any) -> None:
        for name in named:
            if name not in names:
                raise CallError(f"{cls.__name__}: {name}: {unknown_key(name, names)}")
        make(self, *values, **named)

    cls.__init__ = checked  # type: ignore[method-assign]
    return cls


@keyed
@attrs.frozen
class Split:
    """How clips are split into training, validation and test set.

    Attributes:
        test: the folds to test on, or a fraction of the groups; 0 to train on everything, without a test; "auto" for
            the folds of the data that are named test, or else 0.2.
        validation: the folds to validate on, or a fraction of the training groups, stratified by class; 0 or [] for
            none; "auto" for the folds of the data that are named validation, or else 0.1.
        crossing: what to do if clips of one group are in more than one part: "purge" removes them from training,
            "refuse" is an error, "allow" keeps them.
        seed: seed of the draws, where test or validation is a fraction; the same for every `train.seed`.
        near_duplicates: "group" makes clips one group whose sound is nearly the same, such as copies in other formats
            and cuts; all sound is then compared before the split is drawn. "ignore" leaves the groups as they are.
    """

    test: list[int | str] | float | Literal["auto"] = attrs.field(default="auto", validator=_share(empty=False))
    validation: list[int | str] | float | Literal["auto"] = attrs.field(default="auto", validator=_share(empty=True))
    crossing: Literal["purge", "refuse", "allow"] = "purge"
    seed: int = attrs.field(default=1, validator=_between(0, 2**63 - 1))
    near_duplicates: Literal["ignore", "group"] = "ignore"

    def __attrs_post_init__(self) -> None:
        if isinstance(self.test, list) and isinstance(self.validation, list):
            both = [fold for fold in self.validation if fold in self.test]
            if both:
                raise ValueError(f"validation must not use folds of test; both have {show(both[0])}")


@keyed
@attrs.frozen
class Audio:
    """How sound is read and cut into windows.

    Attributes:
        rate: sample rate in Hz; all sound is resampled to it.
        window: length in seconds of the windows that the network processes, at most 600.
        hop: seconds between the starts of two windows when a clip is scored; equal to window if left out.
        level: RMS level in dB that each window is scaled to, or "off".
        trim: cut off the start and end of a sound where it is more than this many dB below its loudest 20 ms, or "off".
        on_error: whether an unreadable clip stops the run, or is skipped and reported.
        store: whether decoded sound is kept on disk; false, for datasets in shards, reads shards anew in each epoch.
        shards_in_memory: if `store` is false, how many shards are in memory, among which clips are shuffled.
    """

    rate: int = attrs.field(default=16000, validator=_between(1000, 384000))
    window: float = attrs.field(default=3.0, validator=[_above(0), _at_most(limits.WINDOW)])
    hop: float | None = attrs.field(default=None, validator=_above(0))
    level: float | Literal["off"] = attrs.field(default="off", validator=_between(-100, 0))
    trim: float | Literal["off"] = attrs.field(default="off", validator=_above(0))
    on_error: Literal["fail", "skip"] = "fail"
    store: bool = True
    shards_in_memory: int = attrs.field(default=8, validator=_between(1, 65536))

    def __attrs_post_init__(self) -> None:
        if self.hop is not None and self.hop > self.window:
            raise ValueError(f"hop must be at most window ({self.window} s), or sound is skipped; is {self.hop}")
        if self.window * self.rate > limits.SAMPLES:
            raise ValueError(f"window must be at most {limits.SAMPLES:,} samples at {self.rate} Hz, is {self.window} s")
        if self.window * self.rate < 1:
            raise ValueError(f"window must be at least one sample long at {self.rate} Hz, is {self.window} s")

    @property
    def window_samples(self) -> int:
        """The length of a window in samples."""
        return max(1, round(self.window * self.rate))

    @property
    def hop_samples(self) -> int:
        """The samples between the starts of two windows when scoring."""
        return max(1, round((self.hop or self.window) * self.rate))


@keyed
@attrs.frozen
class Head:
    """From the pooled vector to one logit per class. A backbone's `default_head` is such a table.

    Attributes:
        embedding: size of the embedding layer; 0 for none: the pooled vector is then the embedding.
        norm_before: batch norm on the pooled vector.
        bias: use a bias in the embedding layer.
        norm_after: batch norm on the embedding: "plain" without, "affine" with a trainable scale and bias.
        activation: activation function after the embedding and its batch norm.
        dropout: dropout rate before the last layer.
    """

    embedding: int = attrs.field(default=192, validator=[_at_least(0), _at_most(limits.WIDTH)])
    norm_before: bool = False
    bias: bool = True
    norm_after: Literal["none", "plain", "affine"] = "none"
    activation: Literal["none", "relu"] = "none"
    dropout: float = attrs.field(default=0.0, validator=_below_one)


@keyed
@attrs.frozen
class Init:
    """The weights of the network before training.

    Attributes:
        from_: a run directory, a model folder, a file of weights or the name of an installed model; tensors that match
            in name and shape are loaded, the others are initialised randomly.
    """

    from_: Path | str | None = attrs.field(default=None, validator=limits.nameable, metadata={"key": "from"})


@keyed
@attrs.frozen
class Train:
    """How the network is trained.

    Attributes:
        epochs: maximum number of epochs.
        batch_size: clips in one optimizer step, over all processes together.
        seed: seed of every random number but those of the split.
        device: "auto", "cpu", "cuda" or a device such as "cuda:1".
        precision: precision of the network in training; "auto" is settled by the machine when the run starts.
        threads: CPU threads of each process, or "auto".
        num_workers: processes that load batches; 0 to load in the training process.
        channels_last: whether to use the channels-last memory layout, or "auto".
        compile: whether `torch.compile` compiles steps; "graphs" as CUDA graphs too, "auto" where it was seen to pay.
        tf32: whether steps on a GPU multiply float32 as TF32, with 10 bits of mantissa instead of 23.
        cudnn_benchmark: whether cuDNN times its algorithms and takes the fastest; last digits then vary between runs.
        sync_batch_norm: whether batch norms in several processes, each with its GPU, use all clips of a step.
        accumulate: backward passes in one optimizer step.
        max_grad_norm: maximum norm of the gradient, which is scaled down if it exceeds it; 0 for off.
        patience: stop after this many epochs without a better validation result; 0 for off.
        class_weights: weights of the classes in the loss: "none", "balanced", or a table of class and weight.
        sampler: "uniform" uses each clip once per epoch; "balanced" draws the same number of clips, equally from each
            class.
        extracted: whether to compute the features of each window once, before training, and cache them; needs a
            featurizer that is not trained, and no augmentation of waveforms.
        freeze: modules of the network that are not trained, such as "featurizer" or "backbone.front".
        rates: learning rates of modules of the network, such as {featurizer = 1e-5}; the others have the optimizer's.
        ema: decay per step of a moving average of the weights, which is evaluated and saved in their place; 0 for off.
        swa: fraction of the steps, at the end, over which the weights are averaged; the average is evaluated and saved
            in their place; 0 for off.
        keep: number of the latest checkpoints to keep.
        checkpoint_steps: save a checkpoint also after every this many steps; 0 for the ends of epochs only.
    """

    epochs: int = attrs.field(default=30, validator=_at_least(1))
    batch_size: int = attrs.field(default=64, validator=_at_least(1))
    seed: int = attrs.field(default=1, validator=_between(0, 2**63 - 1))
    device: str = attrs.field(default="auto", validator=_device)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    threads: int | Literal["auto"] = attrs.field(default="auto", validator=[_at_least(1), _at_most(limits.THREADS)])
    num_workers: int = attrs.field(default=0, validator=[_at_least(0), _at_most(limits.THREADS)])
    channels_last: bool | Literal["auto"] = "auto"
    compile: Literal["auto", "off", "on", "graphs"] = "auto"
    tf32: bool = False
    cudnn_benchmark: bool = False
    sync_batch_norm: bool = False
    accumulate: int = attrs.field(default=1, validator=_at_least(1))
    max_grad_norm: float = attrs.field(default=0.0, validator=_at_least(0))
    patience: int = attrs.field(default=0, validator=_at_least(0))
    class_weights: dict[str, float] | Literal["none", "balanced"] = attrs.field(default="none", validator=_weights)
    sampler: Literal["uniform", "balanced"] = "uniform"
    extracted: bool = False
    freeze: list[str] = attrs.field(factory=list)
    rates: dict[str, float] = attrs.field(factory=dict, validator=_rates)
    ema: float = attrs.field(default=0.0, validator=_below_one)
    swa: float = attrs.field(default=0.0, validator=_below_one)
    keep: int = attrs.field(default=3, validator=_at_least(1))
    checkpoint_steps: int = attrs.field(default=0, validator=_at_least(0))

    def __attrs_post_init__(self) -> None:
        if self.ema and self.swa:
            raise ValueError(f"swa must be 0 if ema is set ({self.ema}): use one of them; is {self.swa}")


@keyed
@attrs.frozen
class Report:
    """What a report shows beside the figures of the whole test set.

    Attributes:
        by: columns of the clips, such as ["site", "recordist"]; metrics are given for each of their values.
        sounds: how many of the worst mistakes `report.html` shows with their sound; 0 for none.
        license: the licence of the model, for its card, such as "CC-BY-4.0"; empty if it is not stated.
        data_license: the licence of the data; empty for what the dataset states itself, if it does.
    """

    by: list[str] = attrs.field(factory=list)
    sounds: int = attrs.field(default=20, validator=_between(0, 200))
    license: str = ""
    data_license: str = ""


CORE: dict[str, type] = {"split": Split, "audio": Audio, "head": Head, "init": Init, "train": Train, "report": Report}


@keyed
@attrs.frozen
class Calibration:
    """The keys of `[calibration]` beside the component's own.

    Attributes:
        predictions: what to fit on: `logits.safetensors` of a run with `--folds all`, the logits of clips that the
            networks were not trained on; the validation set if left out.
    """

    predictions: Path | None = None


@keyed
@attrs.frozen
class Reject:
    """The keys of `[reject]` beside the component's own.

    Attributes:
        keep: share of the validation clips to keep; up to 0.05 less, if noise and `negatives` are rejected by that.
        noise: whether white and pink noise are sound to reject, for the thresholds and for the component.
        negatives: a folder or a manifest of further sound to reject; its labels do not matter.
        predictions: what to fit on: `logits.safetensors` of a run with `--folds all`; the validation set if left out.
        leave_out: classes to train without; the report then says how well they are recognised as unknown.
        clip_threshold: a clip whose reject score is lower is rejected; fitted after training if left out.
        window_threshold: the same for a window.
        silence: whether digital silence is rejected; never if a class of training is silent.
    """

    keep: float = attrs.field(default=0.95, validator=_range("above 0 and at most 1", lambda value: 0 < value <= 1))
    noise: bool = True
    negatives: Path | None = None
    predictions: Path | None = None
    leave_out: tuple[str, ...] = ()
    clip_threshold: float | None = None
    window_threshold: float | None = None
    silence: bool = True


OWN: dict[str, type] = {"calibration": Calibration, "reject": Reject}
"""The framework's own keys in the tables of components."""
