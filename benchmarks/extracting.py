"""A run with extracted features of a frozen encoder, compared with one that computes them in every epoch; alternating.

    python benchmarks/extracting.py [--rounds 3] [--clips 160] [--width 256] [--layers 4] [--threads 1]

The encoder is an untrained WavLM of that width and depth, since the weights do not affect the measurement. It needs no
data and no download. Each turn is a whole run of two epochs on tones of one second; measured are the training clips/s
of the second epoch and the duration of the whole run. The features are extracted before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import transformers
from soundbench_plugins.layers.torchaudio_import import import_torchaudio
from turns import in_turns, line, machine_info, ratio

import soundbench
from soundbench import files
from soundbench.errors import NotInstalled
from soundbench.training.extraction import extract


def saved(folder: Path, width: int, layers: int) -> str:
    """Save an untrained WavLM to a folder."""
    with suppress(NotInstalled):  # the library might import one that does not load
        import_torchaudio()
    config = transformers.WavLMConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=4 * width,
        conv_dim=[width // 2] * 7,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return str(folder)


def recipe(model: str, clips: int, threads: int, extracted: bool) -> soundbench.Recipe:
    """The recipe of a turn."""
    train: dict[str, Any] = {"epochs": 2, "batch_size": 16, "device": "cpu", "precision": "fp32", "threads": threads}
    return soundbench.Recipe(
        dataset={"use": "tones", "clips": clips},
        audio={"window": 1.0},
        featurizer={"use": "wavlm", "model": model, "layer": "weighted"},
        backbone="identity",
        train={**train, "freeze": ["featurizer"], "extracted": extracted},
        observer=[],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rounds", 3), ("clips", 160), ("width", 256), ("layers", 4), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    rates: list[list[float]] = [[], []]
    seconds: list[list[float]] = [[], []]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["SOUNDBENCH_CACHE"] = str(folder / "cache")
        model = saved(folder / "model", asked.width, asked.layers)
        both = [recipe(model, asked.clips, asked.threads, extracted) for extracted in (False, True)]
        began = time.monotonic()
        found = extract(both[1], say=lambda _: None)
        making = time.monotonic() - began
        for number, turn in enumerate(in_turns(asked.rounds, 2)):
            run = soundbench.run(both[turn], out=folder / f"run-{number}", say=lambda _: None)
            rates[turn].append(float(files.read_rows(run.directory.history)[1]["clips_per_second"]))
            seconds[turn].append(float(run.report["seconds"]))
    print(machine_info())
    print(f"features of {found.blocks.windows} windows: {making:.1f} s once, {found.size_bytes / 1e6:.0f} MB\n")
    print(line(["", "clips/s of training, second epoch", "whole run of two epochs"]))
    print(line(["---"] * 3))
    for name, turn in (("computed in every epoch", 0), ("extracted before", 1)):
        cells = [name, f"{statistics.median(rates[turn]):,.0f}", f"{statistics.median(seconds[turn]):.1f} s"]
        print(line(cells))
    print(line(["ratio", f"{ratio(rates[1], rates[0]):.1f}", f"{ratio(seconds[0], seconds[1]):.1f}"]))


if __name__ == "__main__":
    main()
