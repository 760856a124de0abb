"""The built-ins at work together: recipes that ship, real processes, real sound."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import soundbench

ROOT = Path(__file__).parents[2]

NARROW = ["backbone.growth=4", "backbone.width=16", "backbone.front=4", "backbone.layers=[2,2,2]"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDBENCH_CACHE", str(tmp_path / "cache"))


def sounds(folder: Path, count: int, seconds: float = 1.0) -> list[Path]:
    draws = np.random.default_rng(0)
    paths = []
    for number in range(count):
        paths.append(folder / f"{number:04d}.wav")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(paths[-1], 0.1 * draws.standard_normal(round(seconds * 16000)), 16000)
    return paths


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """Fifty steps over a manifest a hundred times as long take the same anonymous memory."""
    paths = sounds(tmp_path / "sounds", 200)
    observer = tmp_path / "measure.py"
    observer.write_text(
        "import os, re\n"
        "from pathlib import Path\n"
        "from soundbench.contracts import hookimpl\n"
        "class Measure:\n"
        "    def __init__(self, run): pass\n"
        "    @hookimpl\n"
        "    def progressed(self, step):\n"
        "        if step >= 50:\n"
        "            print(re.search(r'RssAnon:\\s+(\\d+)', Path('/proc/self/status').read_text())[1], flush=True)\n"
        "            os._exit(0)\n"
    )

    def anonymous(times: int) -> int:
        lists = tmp_path / f"{times}.csv"
        rows = [f"{path},{('a', 'b')[number % 2]}" for number, path in enumerate(paths)] * times
        lists.write_text("path,label\n" + "\n".join(rows) + "\n")
        recipe = tmp_path / f"{times}.toml"
        recipe.write_text(
            f'dataset = {{ use = "manifest", path = "{lists}" }}\nbackbone = "campplus"\n'
            f'observer = ["{observer}:Measure"]\naudio = {{ window = 1.0 }}\nsplit = {{ validation = 0 }}\n'
            "train = { epochs = 99, batch_size = 8, threads = 1, precision = 'fp32', device = 'cpu' }\n"
        )
        line = [sys.executable, "-m", "soundbench", "run", recipe, "--out", tmp_path / f"run-{times}"]
        sets = [argument for one in NARROW for argument in ("--set", one)]
        done = subprocess.run([str(part) for part in line] + sets, check=True, capture_output=True, text=True)
        return int(done.stdout.split()[-1])

    once, hundred = anonymous(1), anonymous(100)
    assert hundred <= 1.1 * once, f"{once} kB once, {hundred} kB a hundred times"


def test_scores_of_real_clips_are_the_same_alone_and_together(tmp_path: Path, data: Path) -> None:
    clips = sorted((data / "UrbanSound8K" / "audio" / "fold2").glob("*.wav"))[::90][:10]
    recipe = soundbench.Recipe(
        dataset={"use": "tones", "clips": 50},
        backbone={"use": "campplus", "growth": 8, "width": 32, "front": 8, "layers": [2, 2, 2]},
        reject="none",
        audio={"window": 1.0},
        observer=[],
        train={"epochs": 1, "batch_size": 25, "device": "cpu"},
    )
    run = soundbench.run(recipe, out=tmp_path / "run").path

    def scores(*paths: Path) -> dict[str, dict[str, float]]:
        line = [sys.executable, "-m", "soundbench", "infer", str(run), "--json", *map(str, paths)]
        done = subprocess.run(line, check=True, capture_output=True, text=True, env=os.environ)
        return {row["path"]: row["scores"] for row in map(json.loads, done.stdout.splitlines())}

    together = scores(*clips)
    assert len(together) == 10
    classifier = soundbench.load(run)
    for path in clips:
        assert together[str(path)] == pytest.approx(classifier.predict(path).scores, abs=1e-5)
    assert scores(clips[3])[str(clips[3])] == pytest.approx(together[str(clips[3])], abs=1e-5)


@pytest.mark.slow
def test_no_default_path_loads_torchaudio(tmp_path: Path) -> None:
    code = (
        "import sys, soundbench\n"
        "recipe = soundbench.Recipe(dataset={'use': 'tones', 'clips': 50}, backbone={'use': 'campplus', 'growth': 4,"
        " 'width': 16, 'front': 4, 'layers': [1, 1]}, augmentation=['speed', 'spec-augment'], audio={'window': 1.0},"
        " train={'epochs': 1, 'batch_size': 25, 'device': 'cpu', 'precision': 'fp32'})\n"
        "run = soundbench.run(recipe, out=sys.argv[1])\n"
        "soundbench.load(run.path)\n"
        "print('torchaudio' in sys.modules)"
    )
    line = [sys.executable, "-c", code, str(tmp_path / "run")]
    assert subprocess.run(line, check=True, capture_output=True, text=True).stdout == "False\n"
