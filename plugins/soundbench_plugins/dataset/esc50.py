"""ESC-50: 2,000 clips of five seconds from fifty classes of environmental sound in five folds, and its subset ESC-10.

Piczak: ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015. The layout is that of the official
archive: `meta/esc50.csv` and `audio/`. The folds keep every recording (Freesound id) together.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from soundbench.contracts import Clip
from soundbench.errors import DataError, MissingDataError
from soundbench_plugins.layers.tables import opened

__all__ = ["ESC50"]

# By target index, five groups of ten: animals, nature, people, indoors, outdoors.
_CLASSES = (
    *("dog", "rooster", "pig", "cow", "frog", "cat", "hen", "insects", "sheep", "crow"),
    *("rain", "sea_waves", "crackling_fire", "crickets", "chirping_birds"),
    *("water_drops", "wind", "pouring_water", "toilet_flush", "thunderstorm"),
    *("crying_baby", "sneezing", "clapping", "breathing", "coughing"),
    *("footsteps", "laughing", "brushing_teeth", "snoring", "drinking_sipping"),
    *("door_wood_knock", "mouse_click", "keyboard_typing", "door_wood_creaks", "can_opening"),
    *("washing_machine", "vacuum_cleaner", "clock_alarm", "clock_tick", "glass_breaking"),
    *("helicopter", "chainsaw", "siren", "car_horn", "engine", "train", "church_bells", "airplane"),
    *("fireworks", "hand_saw"),
)
_ESC10 = (0, 1, 10, 11, 12, 20, 21, 38, 40, 41)
_FOLDS = range(1, 6)


@attrs.frozen
class _Row:
    """A row of the metadata."""

    file: Path
    target: int
    fold: int
    recording: str


class ESC50:
    """Fifty classes of environmental sound in five folds (Piczak, 2015), or the ten of ESC-10; groups are recordings.

    Args:
        root: the folder that holds `meta/` and `audio/`.
        subset: `esc50` for all fifty classes, `esc10` for the ten of ESC-10.
    """

    multilabel = False

    def __init__(self, *, root: Path = Path("data/ESC-50"), subset: Literal["esc50", "esc10"] = "esc50") -> None:
        self.root = Path(root)
        self.title, self.license = ("ESC-10", "CC-BY-3.0") if subset == "esc10" else ("ESC-50", "CC-BY-NC-3.0")
        self.targets = _ESC10 if subset == "esc10" else tuple(range(len(_CLASSES)))

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        """The layout with two placeholder files per fold."""
        lines = ["filename,fold,target,category,esc10,src_file,take"]
        for number in range(10):
            fold, name = 1 + number // 2, f"{1 + number // 2}-{number}-A-{number}.wav"
            lines.append(f"{name},{fold},{number},{_CLASSES[number]},{number in _ESC10},{number},A")
            (folder / "audio").mkdir(exist_ok=True)
            (folder / "audio" / name).write_bytes(b"sound")
        (folder / "meta").mkdir()
        (folder / "meta" / "esc50.csv").write_text("\n".join([*lines, ""]), encoding="utf-8")
        return {"root": folder}

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, by target index."""
        return tuple(_CLASSES[target] for target in self.targets)

    def clips(self) -> Iterator[Clip]:
        """The clips, in the metadata's order.

        Raises:
            MissingDataError: the metadata, or a file that it lists, does not exist.
            DataError: a row of the metadata is invalid.
        """
        rows = [row for row in self._rows() if row.target in self.targets]
        folder = self.root / "audio"
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        missing = [row.file for row in rows if row.file.name not in there]
        if missing:
            raise MissingDataError(
                f"{missing[0]}: no such file; missing: {len(missing)} of the {len(rows)} clips in the metadata"
            )
        for row in rows:
            yield Clip(str(row.file), (_CLASSES[row.target],), fold=row.fold, group=row.recording)

    def _rows(self) -> Iterator[_Row]:
        table = self.root / "meta" / "esc50.csv"
        if not table.is_file():
            raise MissingDataError(
                f"{self.root}: not ESC-50: no {table.relative_to(self.root)}"
                if self.root.is_dir()
                else f"{self.root}: no such folder; dataset.root must be the folder of ESC-50 (meta/, audio/)"
            )
        with opened(table) as file:
            reader = csv.DictReader(file)
            for row in reader:
                yield self._row(row, f"{table}, line {reader.line_num}")

    def _row(self, row: dict[str, str], place: str) -> _Row:
        try:
            name, label, recording = row["filename"], row["category"], row["src_file"]
            fold, target = int(row["fold"]), int(row["target"])
        except KeyError as error:
            raise DataError(f"{place}: no column {error}") from None
        except (TypeError, ValueError):
            raise DataError(f"{place}: fold {row['fold']!r}, target {row['target']!r}: not whole numbers") from None
        if fold not in _FOLDS:
            raise DataError(f"{place}: fold {fold}; folds are 1 to 5")
        if not 0 <= target < len(_CLASSES) or _CLASSES[target] != label:
            raise DataError(f"{place}: category {label!r} with target {target}, which ESC-50 does not have")
        return _Row(self.root / "audio" / name, target, fold, recording)
