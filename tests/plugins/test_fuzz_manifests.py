"""Mutated manifests: each is read, or refused by an exception of soundbench, within two seconds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from helpers.clock import within
from helpers.mutations import PIECES, mutated_tables, mutated_text

from soundbench.data.clips import ClipTable
from soundbench.errors import SoundbenchError
from soundbench.model.assembly import make_component
from soundbench.recipe import dataset_spec
from soundbench.recipe.registry import Registry

QUICK, ALL = 20, 200
REGISTRY = Registry()

ROWS: list[dict[str, Any]] = [
    {"path": "a.wav", "label": "dog", "start": 0.5, "stop": 1.5, "fold": 1, "group": "x"},
    {"path": "b c.wav", "label": "cat", "fold": "two"},
    {"path": "/sounds/ü.flac", "labels": ["dog", "rain"]},
    {"path": "c.wav", "label": 'the "x", and y', "group": 3},
] * 3

CSV = 'path,label,start,stop,fold,group\na.wav,dog,0.5,1.5,1,x\n"b, c.wav","the ""x""",,,2,\nü.wav,rain,1,,two,y\n'
BASES = {
    ".csv": CSV + "d.wav,dog,,,1,\n" * 9,
    ".jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS),
    ".txt": "a.wav\t0\nb c.wav\t1\nd/ü.wav\t1\n" * 4,
}


def mutant(number: int) -> tuple[str, bytes]:
    """A manifest's suffix and content."""
    chance = random.Random(number)
    suffix = chance.choice(list(BASES))
    if suffix == ".jsonl" and chance.random() < 0.5:
        tables = mutated_tables({"rows": ROWS}, chance)
        rows = tables.get("rows", [])
        return suffix, "".join(json.dumps(row, default=str) + "\n" for row in rows).encode()
    if chance.random() < 0.2:
        marks = [b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\xff", b"\0"]
        return suffix, chance.choice(marks) + BASES[suffix].encode(chance.choice(["utf-8", "utf-16", "latin-1"]))
    return suffix, mutated_text(BASES[suffix], chance).encode("utf-8", errors="surrogatepass")


def tried(number: int, folder: Path) -> str:
    """What becomes of a mutant: the type of the exception, or nothing."""
    suffix, data = mutant(number)
    path = folder / f"mutant{suffix}"
    path.write_bytes(data)
    second = "cat" if number % 3 else random.Random(number).choice(PIECES)
    (folder / "labels.txt").write_text(f"dog\n{second}\n", encoding="utf-8", errors="replace")
    try:
        with within():
            spec = dataset_spec(path, bool(number % 2), REGISTRY)
            if suffix == ".txt":
                spec.options["labels"] = folder / "labels.txt"
            dataset = make_component([], "dataset", spec)
            ClipTable.of(dataset).folds_in_order()
    except SoundbenchError as error:
        return type(error).__name__
    return ""


def test_mutated_manifests_are_read_or_refused(tmp_path: Path) -> None:
    for number in range(QUICK):
        tried(number, tmp_path)


@pytest.mark.slow
def test_many_mutated_manifests_are_read_or_refused(tmp_path: Path) -> None:
    ends = [tried(number, tmp_path) for number in range(QUICK, ALL)]
    assert ends.count("") > 20
    assert ends.count("DataError") > 50
