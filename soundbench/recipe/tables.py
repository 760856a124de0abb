"""The tables that are the core's own: their keys, types, defaults and ranges; and the names of default components."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from soundbench.messages import show

__all__ = [
    "CORE",
    "DEFAULTS",
    "FOLDER_DATASET",
    "FORMAT",
    "MANIFEST_DATASET",
    "MULTILABEL_LOSS",
    "RENAMED",
    "TABLES",
    "Audio",
    "Head",
    "Init",
    "Split",
    "Train",
]

TABLES = (
    "dataset",
    "split",
    "audio",
    "augmentation",
    "featurizer",
    "backbone",
    "pooling",
    "head",
    "init",
    "loss",
    "optimizer",
    "scheduler",
    "train",
    "observer",
)

# The only place in the core that names components. Pooling and head default to what the backbone's paper has.
DEFAULTS: dict[str, Any] = {
    "augmentation": [],
    "featurizer": {"use": "fbank"},
    "loss": {"use": "cross-entropy"},
    "optimizer": {"use": "adamw"},
    "scheduler": {"use": "warmup-cosine"},
    "observer": [{"use": "progress"}],
}

# What a message names where a multilabel dataset was given a loss that tells one class from the others.
MULTILABEL_LOSS = "bce"

# What sounds that no recipe describes are read by: those of a folder of class folders, and those that a table lists.
FOLDER_DATASET, MANIFEST_DATASET = "folder", "manifest"

# The version of the format of `recipe.toml` and `model.toml` in run directories; those of before have none.
FORMAT = 1

# Keys that had another name before format 1.
RENAMED = {
    "train.batch": "train.batch_size",
    "train.workers": "train.num_workers",
    "train.clip_gradient": "train.max_grad_norm",
    "optimizer.rate": "optimizer.lr",
}

_DEVICES = ("auto", "cpu", "cuda")

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _range(says: str, holds: Callable[[Any], bool]) -> Validator:
    """A validator of numbers; words such as "auto", and what is left out, are for the type to judge."""

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


def _between(low: int, high: int) -> Validator:
    return _range(f"from {low} to {high}", lambda value: low <= value <= high)


def _below_one(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if _is_number(value) and not 0 <= value < 1:
        raise ValueError(f"{attribute.name} must be at least 0 and below 1, is {show(value)}")


def _share(zero: bool) -> Validator:
    """A share of the data, or a list of folds."""

    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        low = "at least 0" if zero else "above 0"
        if _is_number(value) and not (0 < value < 1 or (zero and value == 0)):
            hint = f"; fold {value:g} is written [{value:g}]" if value >= 1 and value == int(value) else ""
            raise ValueError(f"{attribute.name} must be a share {low} and below 1, is {show(value)}{hint}")
        if isinstance(value, list) and not value and not zero:
            raise ValueError(f"{attribute.name} must name at least one fold, is []")

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
            raise ValueError(f"{attribute.name} must be above 0 for every part, {show(name)} has {show(rate)}")


@attrs.frozen
class Split:
    """What is trained on, what is validated on, what is tested on.

    Attributes:
        test: the folds to test on, or a share of the groups.
        validation: the folds to validate on, or a share of the training groups, stratified; 0 or [] for none.
        crossing: what to do with a group on both sides: purge it from training, refuse, or allow it.
    """

    test: list[int | str] | float = attrs.field(default=0.2, validator=_share(zero=False))
    validation: list[int | str] | float = attrs.field(default=0.1, validator=_share(zero=True))
    crossing: Literal["purge", "refuse", "allow"] = "purge"

    def __attrs_post_init__(self) -> None:
        if isinstance(self.test, list) and isinstance(self.validation, list):
            both = [fold for fold in self.validation if fold in self.test]
            if both:
                raise ValueError(f"validation must name other folds than test; both have {show(both[0])}")


@attrs.frozen
class Audio:
    """What sound is made into.

    Attributes:
        rate: samples a second that all sound is resampled to.
        window: seconds that the network is shown at a time.
        hop: seconds between the windows that a clip is judged by; the window if left out.
        level: decibels of RMS that each window is brought to, or "off".
        trim: cut off both ends of a sound what lies more than so many decibels below its loudest 20 ms, or "off".
        on_error: whether an unreadable clip ends the run or is skipped and reported.
    """

    rate: int = attrs.field(default=16000, validator=_between(1000, 384000))
    window: float = attrs.field(default=3.0, validator=_above(0))
    hop: float | None = attrs.field(default=None, validator=_above(0))
    level: float | Literal["off"] = attrs.field(default="off", validator=_between(-100, 0))
    trim: float | Literal["off"] = attrs.field(default="off", validator=_above(0))
    on_error: Literal["fail", "skip"] = "fail"

    def __attrs_post_init__(self) -> None:
        if self.hop is not None and self.hop > self.window:
            raise ValueError(f"hop must be at most window ({self.window} s), or sound is left out; is {self.hop}")
        if self.window * self.rate < 1:
            raise ValueError(f"window must be at least one sample long at {self.rate} Hz, is {self.window} s")

    @property
    def window_samples(self) -> int:
        """Samples of a window."""
        return max(1, round(self.window * self.rate))

    @property
    def hop_samples(self) -> int:
        """Samples between the beginnings of the windows that a clip is judged by."""
        return max(1, round((self.hop or self.window) * self.rate))


@attrs.frozen
class Head:
    """From a pooled vector to one logit a class. A backbone's `default_head` is such a table.

    Attributes:
        embedding: features of the embedding layer; 0 for none, the pooled vector being the embedding then.
        norm_before: batch norm of the pooled vector.
        bias: a bias in the embedding layer.
        norm_after: batch norm of the embedding, without or with weights of its own.
        activation: after that.
        dropout: before the classifier.
    """

    embedding: int = attrs.field(default=192, validator=_at_least(0))
    norm_before: bool = False
    bias: bool = True
    norm_after: Literal["none", "plain", "affine"] = "none"
    activation: Literal["none", "relu"] = "none"
    dropout: float = attrs.field(default=0.0, validator=_below_one)


@attrs.frozen
class Init:
    """What the network's weights are before training.

    Attributes:
        from_: a run, a model folder or a file of weights; what fits by name and shape is taken, the rest is drawn.
    """

    from_: Path | None = attrs.field(default=None, metadata={"key": "from"})


@attrs.frozen
class Train:
    """How it is learnt.

    Attributes:
        epochs: how many at most.
        batch_size: clips of one optimizer step, of all processes together.
        seed: what every draw of chance is addressed by.
        device: "auto", "cpu", "cuda" or one such as "cuda:1".
        precision: what the network computes in; "auto" is a rule on what the machine can do, settled once.
        threads: of the processor, or "auto".
        num_workers: processes that load batches; 0 for the training process itself.
        channels_last: whether images are laid out channels last, or "auto".
        accumulate: backward passes of one optimizer step.
        max_grad_norm: the gradient is scaled down to this norm where it exceeds it; 0 for off.
        patience: epochs without a better validation after which training ends; 0 for off.
        class_weights: "none", "balanced", or a table of classes with their weight in the loss.
        sampler: "uniform" shows each clip once an epoch; "balanced" as many clips, as many of each class.
        extracted: whether features are made ahead of training, once a window, and kept; needs a featurizer that is not
            trained, and no augmentation of waveforms.
        freeze: parts of the network that are not trained, such as "featurizer" or "backbone.front".
        rates: the learning rate of parts of the network, such as {featurizer = 1e-5}; the others have the optimizer's.
        ema: decay, a step, of a moving average of the weights, which is judged in their place; 0 for off.
        swa: share of the steps, at the end, whose weights' mean is judged in their place; 0 for off.
        keep: how many of the last checkpoints are kept.
        checkpoint_steps: a checkpoint also after so many steps; 0 for the ends of epochs alone.
    """

    epochs: int = attrs.field(default=30, validator=_at_least(1))
    batch_size: int = attrs.field(default=64, validator=_at_least(1))
    seed: int = attrs.field(default=1, validator=_between(0, 2**63 - 1))
    device: str = attrs.field(default="auto", validator=_device)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    threads: int | Literal["auto"] = attrs.field(default="auto", validator=_at_least(1))
    num_workers: int = attrs.field(default=0, validator=_at_least(0))
    channels_last: bool | Literal["auto"] = "auto"
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
            raise ValueError(f"swa must be 0 where ema is {self.ema}: there is one average; is {self.swa}")


CORE: dict[str, type] = {"split": Split, "audio": Audio, "head": Head, "init": Init, "train": Train}
