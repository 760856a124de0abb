"""Datasets made of a dataset: one without some of its classes, and only the clips of those."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from soundbench.contracts import Clip, Dataset
from soundbench.data.clips import class_names, normal
from soundbench.errors import CallError
from soundbench.messages import nearest, show

__all__ = ["LeftOut", "Relabelled", "without"]


class LeftOut:
    """A dataset without some of its classes and their clips; all else is that of the dataset.

    Args:
        whole: the dataset.
        names: the classes to leave out.
    """

    def __init__(self, whole: Dataset, names: Sequence[str]) -> None:
        self.whole, self.names = whole, tuple(dict.fromkeys(map(normal, names)))

    def __getattr__(self, name: str) -> Any:
        if name == "whole":  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self.whole, name)

    @property
    def classes(self) -> tuple[str, ...]:
        """The other classes.

        Raises:
            CallError: one to leave out is not among the dataset's classes, fewer than two others are left, or clips
                have several labels.
        """
        known = class_names(self.whole)
        key = "--leave-out (reject.leave_out)"
        for name in self.names:
            if name not in known:
                near = nearest(name, known) or ";"
                raise CallError(f"{key}: the dataset has no class {show(name)}{near} known: {', '.join(known)}")
        if self.whole.multilabel:
            raise CallError(f"{key}: clips of this dataset have several labels; it is for datasets with one label")
        left = tuple(name for name in known if name not in self.names)
        if len(left) < 2:
            raise CallError(f"{key}: leaves {len(left)} of the {len(known)} classes; training needs two")
        return left

    def clips(self) -> Iterator[Clip]:
        """The clips of the other classes."""
        return (clip for clip in self.whole.clips() if normal(clip.labels[0]) not in self.names)


class Relabelled:
    """Some clips of a dataset, as clips of the first class of a model: to score sound that has none of its labels.

    Args:
        whole: the dataset that the clips are of, which reads them if it has `read`.
        clips: which clips.
        classes: the classes of the model.
    """

    multilabel = False

    def __init__(self, whole: Any, clips: Sequence[Clip], classes: Sequence[str]) -> None:
        self.whole, self.chosen, self.classes = whole, clips, tuple(classes)

    def __getattr__(self, name: str) -> Any:
        if "whole" not in vars(self) or name not in ("read", "fingerprint") or not hasattr(self.whole, name):
            raise AttributeError(name)
        return self._read if name == "read" else self.whole.fingerprint

    def _read(self, clip: Clip) -> Any:
        """The sound of a clip, which the dataset reads with its own labels."""
        place = clip.path, clip.start, clip.stop
        return self.whole.read(next(own for own in self.chosen if (own.path, own.start, own.stop) == place))

    def clips(self) -> Iterator[Clip]:
        """The clips, each with the first class as its label."""
        return (
            Clip(clip.path, (self.classes[0],), clip.start, clip.stop, clip.fold, clip.group) for clip in self.chosen
        )


def without(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The dataset, without some classes if there are any to leave out."""
    return LeftOut(dataset, names) if names else dataset
