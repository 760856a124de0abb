"""UrbanSound8K: 8,732 clips of up to four seconds from ten urban classes, in ten folds.

Salamon, Jacoby, Bello: A Dataset and Taxonomy for Urban Sound Research, ACM Multimedia 2014. The layout is that of the
official archive: `metadata/UrbanSound8K.csv` and `audio/fold1` to `audio/fold10`. The folds must be kept: they keep
every recording (Freesound id) together, except for five ids that have one class in one fold and another in another.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs

from soundbench.contracts import Clip
from soundbench.errors import DataError, MissingDataError
from soundbench_plugins.layers.tables import opened

__all__ = ["UrbanSound8K"]

_FOLDS = range(1, 11)


@attrs.frozen
class _Row:
    """A row of the metadata."""

    file: Path
    label: str
    fold: int
    recording: str


class UrbanSound8K:
    """Ten urban classes, 8,732 clips in ten folds (Salamon et al., 2014); a group is a Freesound recording.

    Args:
        root: the folder that holds `metadata/` and `audio/`.
        folds: the folds to use, by default all ten. The files of other folds may be missing.
    """

    multilabel = False
    title = "UrbanSound8K"
    license = "CC-BY-NC-3.0"
    classes: ClassVar[tuple[str, ...]] = (
        "air_conditioner",
        "car_horn",
        "children_playing",
        "dog_bark",
        "drilling",
        "engine_idling",
        "gun_shot",
        "jackhammer",
        "siren",
        "street_music",
    )

    def __init__(self, *, root: Path = Path("data/UrbanSound8K"), folds: list[int] | None = None) -> None:
        unknown = [fold for fold in folds or () if fold not in _FOLDS]
        if unknown or folds == []:
            raise ValueError(f"folds must be some of 1 to 10, is {folds}")
        self.root, self.folds = Path(root), frozenset(_FOLDS if folds is None else folds)

    @classmethod
    def example(cls, folder: Path) -> Mapping[str, Any]:
        """The layout with one placeholder file per fold."""
        lines = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
        for code, fold in enumerate(_FOLDS):
            path = folder / "audio" / f"fold{fold}" / f"{1000 + fold}-{code}-0-0.wav"
            path.parent.mkdir(parents=True)
            path.write_bytes(b"sound")
            lines.append(f"{path.name},{1000 + fold},0,4,1,{fold},{code},{cls.classes[code]}")
        (folder / "metadata").mkdir()
        (folder / "metadata" / "UrbanSound8K.csv").write_text("\n".join([*lines, ""]), encoding="utf-8")
        return {"root": folder}

    def clips(self) -> Iterator[Clip]:
        """The clips of the chosen folds, in the metadata's order.

        Raises:
            MissingDataError: the metadata, or a file of a chosen fold that it lists, does not exist.
            DataError: a row of the metadata is invalid.
        """
        rows = [row for row in self._rows() if row.fold in self.folds]
        self._check_files(rows)
        for row in rows:
            yield Clip(str(row.file), (row.label,), fold=row.fold, group=row.recording)

    def _rows(self) -> Iterator[_Row]:
        table = self.root / "metadata" / "UrbanSound8K.csv"
        if not table.is_file():
            raise MissingDataError(
                f"{self.root}: not UrbanSound8K: no {table.relative_to(self.root)}"
                if self.root.is_dir()
                else f"{self.root}: no such folder; dataset.root must be the folder of UrbanSound8K (metadata/, audio/)"
            )
        with opened(table) as file:
            reader = csv.DictReader(file)
            for row in reader:
                yield self._row(row, f"{table}, line {reader.line_num}")

    def _row(self, row: dict[str, str], place: str) -> _Row:
        try:
            name, label, fold, code = row["slice_file_name"], row["class"], int(row["fold"]), int(row["classID"])
            recording = row["fsID"]
        except KeyError as error:
            raise DataError(f"{place}: no column {error}") from None
        except (TypeError, ValueError):
            raise DataError(f"{place}: fold {row['fold']!r}, classID {row['classID']!r}: not whole numbers") from None
        if fold not in _FOLDS:
            raise DataError(f"{place}: fold {fold}; folds are 1 to 10")
        if not 0 <= code < len(self.classes) or self.classes[code] != label:
            raise DataError(f"{place}: class {label!r} with classID {code}, which UrbanSound8K does not have")
        return _Row(self.root / "audio" / f"fold{fold}" / name, label, fold, recording)

    def _check_files(self, rows: list[_Row]) -> None:
        """Compare with the content of the folders: one listing per fold instead of one look-up per file."""
        there = {fold: self._names(self.root / "audio" / f"fold{fold}") for fold in self.folds}
        missing = [row.file for row in rows if row.file.name not in there[row.fold]]
        if missing:
            raise MissingDataError(
                f"{missing[0]}: no such file; missing: {len(missing)} of the {len(rows)} clips in the metadata "
                f"of folds {', '.join(map(str, sorted(self.folds)))}"
            )

    @staticmethod
    def _names(folder: Path) -> set[str]:
        return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
