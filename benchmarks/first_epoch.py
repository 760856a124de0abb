"""One epoch of every backbone on the same 300 clips of UrbanSound8K's fold 1, tested on 300 clips of fold 2.

    python benchmarks/first_epoch.py --root data/UrbanSound8K [--only NAME ...] [--write]

Results after 19 steps show that a network can be trained, not how good it is: the order of the rows is not a ranking.
All rows use the same features (fbank, 80 bands), window (3 s), batch size (16), optimizer (AdamW, lr 1e-3) and seed.
Every n-th clip of each fold is used, in the order of the dataset's table; recordings in both folds are purged.
`--write` saves the table between its markers in `docs/models.md`.
"""

from __future__ import annotations

import argparse
import csv
import re
import tempfile
from pathlib import Path

import numpy as np
from soundbench_plugins.dataset.urbansound8k import UrbanSound8K

import soundbench
from soundbench.recipe.registry import Registry

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
BEGIN, END = "<!-- first epoch: begin -->", "<!-- first epoch: end -->"
CLIPS = 300


def write_manifest(root: Path, path: Path) -> None:
    """Write the clips of both folds as a manifest."""
    clips = list(UrbanSound8K(root=root, folds=[1, 2]).clips())
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "fold", "group"])
        for fold in (1, 2):
            own = [clip for clip in clips if clip.fold == fold]
            for place in np.linspace(0, len(own) - 1, CLIPS).round().astype(int):
                clip = own[place]
                rows.writerow([Path(clip.path).absolute(), clip.labels[0], fold, clip.group])


def one_epoch(name: str, manifest: Path, out: Path) -> list[str]:
    """The table's row of one backbone."""
    recipe = soundbench.Recipe(
        name=name,
        dataset={"use": "manifest", "path": manifest},
        split={"test": [2], "validation": 0},
        backbone=name,
        optimizer={"use": "adamw", "lr": 1e-3},
        scheduler={"use": "warmup-cosine", "warmup": 0.1},
        train={"epochs": 1, "batch_size": 16},
        observer=[],
    )
    run = soundbench.run(recipe, out=out, say=lambda line: None)
    report = run.report
    with run.directory.history.open(encoding="utf-8") as file:
        epoch = next(csv.DictReader(file))
    shown = [
        "{:.1f} ({:.1f} to {:.1f})".format(*(100 * report["metrics"][metric][key] for key in ("value", "low", "high")))
        for metric in ("accuracy", "macro_f1")
    ]
    speed, loss = float(epoch["clips_per_second"]), float(epoch["train_loss"])
    return [name, *shown, f"{loss:.2f}", f"{speed:.1f}", report["precision"], f"{report['seconds']:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("data/UrbanSound8K"))
    parser.add_argument("--only", nargs="*", default=[listing.name for listing in Registry().listings("backbone")])
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    head = ["backbone", "accuracy, %", "macro-F1, %", "training loss", "clips/s trained", "precision", "seconds"]
    table = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    with tempfile.TemporaryDirectory() as folder:
        write_manifest(arguments.root, Path(folder) / "clips.csv")
        for name in arguments.only:
            row = one_epoch(name, Path(folder) / "clips.csv", Path(folder) / name)
            table.append(f"| {' | '.join(row)} |")
            print(table[-1], flush=True)
    if arguments.write:
        page = PAGE.read_text(encoding="utf-8")
        between = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
        text = "\n".join([BEGIN, "", *table, "", END])
        PAGE.write_text(between.sub(lambda _: text, page), encoding="utf-8")


if __name__ == "__main__":
    main()
