"""What a leak is worth without hearing anything: a clip's label looked up by its recording, on UrbanSound8K.

    SOUNDBENCH_DATA=... python benchmarks/leak.py [--folds 1 2]

Only the metadata is used. A test clip gets the commonest label of the training clips of its recording (Freesound id);
where training has none of that recording, the commonest label of all training clips. Two splits of the given folds:
every tenth clip of the metadata, from the first, as the test set, which is what `macls` 1.0.6 does; and the last of the
folds as the test set, as the publisher of the data asks for. `benchmarks/urbansound.py` has these figures beside those
of a network.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs
import numpy as np
from soundbench_plugins.dataset.urbansound8k import UrbanSound8K
from turns import line

from soundbench.contracts import Clip
from soundbench.report.assessment import assess

HEAD = ["test set", "test clips, recordings", "recording also in training, %", "looked up, % (95%)"]


@attrs.frozen
class Split:
    """Clips to train on and to test on."""

    train: Sequence[Clip]
    test: Sequence[Clip]

    @property
    def shared(self) -> float:
        """The share of the test clips whose recording is in training too."""
        known = {clip.group for clip in self.train}
        return sum(clip.group in known for clip in self.test) / len(self.test)


def every_tenth(clips: Sequence[Clip]) -> Split:
    """The split of `macls` 1.0.6: of the clips in the metadata's order, the 1st, 11th, 21st, ... are the test set."""
    return Split([clip for place, clip in enumerate(clips) if place % 10], clips[::10])


def by_fold(clips: Sequence[Clip], test: object) -> Split:
    """One of the publisher's folds as the test set."""
    return Split([clip for clip in clips if clip.fold != test], [clip for clip in clips if clip.fold == test])


def look_up(split: Split) -> list[str]:
    """The label of each test clip: the commonest of its recording in training, or else of all training clips."""
    everywhere = _commonest(clip.labels[0] for clip in split.train)
    labels: dict[str | None, list[str]] = {}
    for clip in split.train:
        labels.setdefault(clip.group, []).append(clip.labels[0])
    return [_commonest(labels[clip.group]) if clip.group in labels else everywhere for clip in split.test]


def _commonest(labels: Iterable[str]) -> str:
    """The label that is there most often, the first by name of several."""
    return min(Counter(labels).items(), key=lambda item: (-item[1], item[0]))[0]


def accuracy(labels: Sequence[str], predicted: Sequence[str], recordings: Sequence[str | None]) -> dict[str, float]:
    """`value`, `low` and `high` of the accuracy of predicted labels, with the interval of reports, over recordings."""
    classes = sorted({*labels, *predicted})
    _, groups = np.unique([str(recording) for recording in recordings], return_inverse=True)
    one_hot = [np.array([[own == name for name in classes] for own in given], float) for given in (predicted, labels)]
    figure: dict[str, float] = assess(*one_hot, groups, classes)["metrics"]["accuracy"]
    return figure


def percent(figure: dict[str, float]) -> str:
    """A value with its interval, in percent; the value alone where all clips are of one recording."""
    interval = [figure[key] for key in ("low", "high")]
    return f"{100 * figure['value']:.1f}" + (
        "" if None in interval else " ({:.1f} to {:.1f})".format(*(100 * bound for bound in interval))
    )


def looked_up(split: Split) -> str:
    """The accuracy of the look-up, as a cell of a table."""
    test = split.test
    return percent(accuracy([clip.labels[0] for clip in test], look_up(split), [clip.group for clip in test]))


def row(name: str, split: Split) -> list[str]:
    """The table row of a split."""
    recordings = len({clip.group for clip in split.test})
    return [name, f"{len(split.test)}, {recordings}", f"{100 * split.shared:.1f}", looked_up(split)]


def splits(root: Path, folds: Sequence[int]) -> dict[str, Split]:
    """Both splits of some folds, by what their test set is."""
    clips = list(UrbanSound8K(root=root, folds=list(folds)).clips())
    return {"every tenth clip": every_tenth(clips), f"fold {folds[-1]}": by_fold(clips, folds[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", nargs="+", type=int, default=[1, 2])
    options = parser.parse_args()
    root = Path(os.environ["SOUNDBENCH_DATA"]) / "UrbanSound8K"
    print(line(HEAD), line(["---"] * len(HEAD)), sep="\n")
    for name, split in splits(root, options.folds).items():
        print(line(row(name, split)))


if __name__ == "__main__":
    main()
