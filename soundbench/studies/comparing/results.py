"""What a run, a directory of all folds or an evaluation has left: its report, and the scores of its test clips."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench import files
from soundbench.contracts import Clip
from soundbench.data import digests
from soundbench.errors import RunError
from soundbench.report.run_directory import FOLDS, RunDirectory, read_predictions

__all__ = ["ClipKey", "Result", "read_result"]

_KEYS = {"metrics": Mapping, "protocol": Mapping, "classes": list, "clips": int, "groups": int}
_TABLES = ("dataset", "audio")


@attrs.frozen(order=True)
class ClipKey:
    """What a clip is known by in several runs, wherever their data are.

    Attributes:
        path: relative to the folder that holds all clips.
        start: in seconds.
        stop: in seconds; infinity for the end of the sound.
        labels: sorted.
        group: the name of its group; for a path, relative as well.
    """

    path: str
    start: float
    stop: float
    labels: tuple[str, ...]
    group: str


@attrs.frozen(eq=False)
class Result:
    """The test set of a run, of all folds together, or of an evaluation, as its network scored it.

    Attributes:
        path: the directory.
        report: the content of `report.json`.
        classes: the K classes, in the order of the scores.
        clips: what each clip is known by; sorted, so that equal test sets have equal clips in each row.
        scores: `(N, K)` float64, in the order of `clips`.
        targets: `(N, K)` of 0 and 1.
        thresholds: `(N, K)`, where a clip may have several labels; None where it has one.
        data: the fingerprint of the data, one for each fold, where the directory has it.
    """

    path: Path
    report: Mapping[str, Any]
    classes: tuple[str, ...]
    clips: tuple[ClipKey, ...]
    scores: NDArray[np.float64]
    targets: NDArray[np.float32]
    thresholds: NDArray[np.float64] | None
    data: tuple[str, ...]

    @property
    def protocol(self) -> Mapping[str, Any]:
        """The protocol of the report."""
        protocol: Mapping[str, Any] = self.report["protocol"]
        return protocol


def read_result(path: Path, accept_changes: bool = False) -> Result:
    """Read what a run, a directory of all folds or an evaluation has left.

    Args:
        path: the directory.
        accept_changes: whether its results may have changed since soundbench wrote them.

    Raises:
        RunError: it is none of these, is not finished, is damaged, has changed, or is of another version.
    """
    directory = _opened(path)
    whole = _report(directory)
    parts = [directory]
    if directory.has_folds:
        parts = [directory.fold(fold) for fold in files.read_json(directory.path / FOLDS, "folds")["folds"]]
        parts = [_opened(part.path) for part in parts]
    if not accept_changes:
        _refuse_changed(parts)
    scored = [read_predictions(part) for part in parts]
    classes = scored[0].classes
    if any(one.classes != classes for one in scored) or list(classes) != list(whole["classes"]):
        raise RunError(f"{directory.path}: damaged: predictions.csv and report.json do not have the same classes")
    clips = [clip for one in scored for clip in one.clips]
    if not clips:
        raise RunError(f"{directory.path}: damaged: predictions.csv has no clips")
    keys = _keys(clips)
    order = sorted(range(len(keys)), key=keys.__getitem__)
    scores, targets = (np.concatenate([getattr(one, name) for one in scored]) for name in ("scores", "targets"))
    thresholds = None
    if whole.get("multilabel"):
        rows = [_thresholds(part, len(one.clips), len(classes)) for part, one in zip(parts, scored, strict=True)]
        thresholds = np.concatenate(rows)[order]
    known = tuple(keys[row] for row in order)
    return Result(path, whole, classes, known, scores[order], targets[order], thresholds, _data(parts))


def _opened(path: Path) -> RunDirectory:
    """The directory of a finished run, of all folds, or of an evaluation, which has no recipe."""
    directory = RunDirectory(path)
    with files.explain_os_errors(path):
        evaluated = directory.report_json.exists() and not directory.recipe.exists()
        needed = [directory.report_json.name] + [directory.predictions.name] * (not directory.has_folds)
    return RunDirectory(path) if evaluated else RunDirectory.open(path, *needed)


def _report(directory: RunDirectory) -> Mapping[str, Any]:
    """The content of `report.json`, with all that is needed of it."""
    report = files.read_json(directory.report_json)
    lacking = [
        key for key, kind in _KEYS.items() if not isinstance(report, dict) or not isinstance(report.get(key), kind)
    ]
    lacking += [
        f"protocol.{key}" for key in _TABLES if not lacking and not isinstance(report["protocol"].get(key), dict)
    ]
    if lacking:
        raise RunError(
            f"{directory.report_json}: is damaged or of another version of soundbench: it has no {', '.join(lacking)}; "
            "soundbench evaluate writes one of this version"
        )
    whole: Mapping[str, Any] = report
    return whole


def _refuse_changed(parts: Sequence[RunDirectory]) -> None:
    """Refuse results that are not as soundbench wrote them; an evaluation and an old run have no digests."""
    for part in parts:
        table = digests.read_table(part.digests) or {}
        read = [one.relative_to(part.path).as_posix() for one in (part.environment, part.predictions, part.report_json)]
        wrong = digests.changed(part.path, {name: table[name] for name in read if name in table})
        digests.refuse_changed(part.path, wrong)


def _keys(clips: Sequence[Clip]) -> list[ClipKey]:
    """What each clip is known by."""
    paths = [posixpath.normpath(clip.path.replace("\\", "/")) for clip in clips]
    alike = len({posixpath.isabs(path) for path in paths}) == 1  # else they have no folder in common
    folder = posixpath.commonpath([posixpath.dirname(path) for path in paths]) if alike else ""
    start = len(folder.rstrip("/")) + 1 if folder else 0
    keys = []
    for clip, path in zip(clips, paths, strict=True):
        group = path[start:] if clip.group in (None, clip.path) else str(clip.group)
        stop = float("inf") if clip.stop is None else clip.stop
        keys.append(ClipKey(path[start:], clip.start, stop, tuple(sorted(clip.labels)), group))
    return keys


def _thresholds(part: RunDirectory, clips: int, classes: int) -> NDArray[np.float64]:
    """The threshold of each class, for each clip `(N, K)`."""
    rows = files.read_json(part.report_json, "per_class")["per_class"]
    try:
        return np.tile(np.array([float(row["threshold"]) for row in rows]).reshape(1, classes), (clips, 1))
    except (KeyError, TypeError, ValueError):
        raise RunError(f"{part.report_json}: damaged: it has no threshold for each class") from None


def _data(parts: Sequence[RunDirectory]) -> tuple[str, ...]:
    """The fingerprint of the data of each run; none where one lacks it, as an evaluation does."""
    found = []
    for part in parts:
        content = files.read_json(part.environment) if part.environment.exists() else {}
        found.append(content.get("data") if isinstance(content, dict) else None)
    return tuple(str(one) for one in found) if all(found) else ()
