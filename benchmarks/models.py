"""The size and cost of every recipe's network, with the published size: the table of `docs/models.md`.

    python benchmarks/models.py [--write]

Each row is from `soundbench describe`, without data: trained parameters, multiply-adds of one window, and the receptive
field of a frame of the backbone. `--write` saves the table between its markers in `docs/models.md`.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from pathlib import Path

import soundbench

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- models: begin -->", "<!-- models: end -->"
COLUMNS = ("recipe", "backbone", "classes", "window", "parameters", "published", "multiply-adds", "a frame sees")

# Recipes with a pretrained model, which is not available here.
LEFT_OUT = {"urbansound_wavlm", "urbansound_wavlm_frozen"}

# Millions of parameters, with 80 bands and ten classes.
PUBLISHED = {
    "campplus": "7.18",
    "ecapa-tdnn": "6.20",
    "eres2net": "6.61",
    "eres2netv2": "5.46",
    "mobilenet": "4.21",
    "panns-cnn10": "4.96",
    "panns-cnn14": "79.7",
    "panns-cnn6": "4.57",
    "res2net": "5.61",
    "resnet-se": "9.13",
    "tdnn": "2.77",
}


def row(path: Path) -> tuple[str, ...]:
    """The table row of a recipe."""
    found = soundbench.describe(soundbench.read_recipe(path))
    backbone, featurizer = found["recipe"]["backbone"], found["recipe"]["featurizer"]
    comparable = found["classes"] == 10 and featurizer["bands"] == 80 and found["name"].startswith("urbansound")
    reach = found["receptive_field"]
    return (
        f"[{path.stem}](../recipes/{path.name})",
        backbone["use"].rpartition("/")[2],
        str(found["classes"]) if found["classes_known"] else "10, say",
        f"{found['window_seconds']:g} s",
        f"{found['parameters']:,}",
        f"{PUBLISHED[backbone['use'].rpartition('/')[2]]} M" if comparable else "",
        f"{found['macs'] / 1e6:,.0f} M",
        "the whole clip" if reach is None else f"{reach['frames']} frames",
    )


def table() -> str:
    """The table of all recipes, the same on every machine."""
    paths = [path for path in sorted((ROOT / "recipes").glob("*.toml")) if path.stem not in LEFT_OUT]
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as nowhere:
        os.chdir(nowhere)  # without data that could have other classes
        try:
            rows = [COLUMNS, ("---",) * len(COLUMNS), *(row(path) for path in paths)]
        finally:
            os.chdir(before)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def main() -> None:
    """Print the table, or write it to the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    made = table()
    if not parser.parse_args().write:
        print(made)
        return
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(re.sub(f"{BEGIN}.*?{END}", f"{BEGIN}\n{made}\n{END}", page, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
