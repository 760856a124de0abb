"""The folder in which the code of pages runs: the sounds, data, recipes, models and programs that pages speak of."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import soundfile

from helpers import TESTS

ROOT = TESTS.parent

CLASSES = ("dog", "rain", "crying_baby", "nothing", "rooster", "clock_tick")
# Folders of runs that pages name: each is a copy of one trained run.
RUNS = (
    *("RUN", "quickstart", "runs/mine", "runs/esc10", "runs/us", "runs/urbansound", "runs/big", "runs/owls-folds"),
    *("runs/tdnn", "runs/tdnn-seed2", "runs/cnn10", "runs/quickstart-20261125-021953", "runs/quickstart"),
    *("runs/urbansound_campplus-20261122-101500", "runs/esc50_campplus-20261122-101500", "runs/mine-20261129-071940"),
    "runs/owls-20261129-101500",
)
SOUNDS = (
    *("own.wav", "a.wav", "b.wav", "b.flac", "long.flac", "street.wav", "joined.wav", "kitchen.wav", "dog.wav"),
    *(
        "decay.wav",
        "swell.wav",
        "noise.wav",
        "garden.wav",
        "yard.wav",
        "SITE_20200410_163456.wav",
        "20200410_163456.wav",
        "bark.wav",
        "recording.wav",
    ),
    *("day1/1.wav", "day1/2.wav", "recordings/1.wav", "recordings/dog.wav", "SOUNDS/1.wav"),
    *(f"south/100652-3-0-{number}.wav" for number in range(2)),
)
# Of those that are longer than others.
SECONDS = {"long.flac": 3.0, "garden.wav": 3.0, "joined.wav": 3.0, "recordings/1.wav": 10.0}


def tone(seconds: float, rate: int, frequency: float) -> np.ndarray:
    noise = np.random.default_rng(int(frequency)).normal(0, 0.02, int(seconds * rate))
    return (noise + 0.2 * np.sin(2 * np.pi * frequency * np.arange(len(noise)) / rate)).astype(np.float32)


def write_sound(path: Path, seconds: float = 0.6, rate: int = 16000, frequency: float = 500) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(seconds, rate, frequency), rate)


def _class_folders(root: Path, count: int) -> None:
    for place, name in enumerate(CLASSES):
        for number in range(count):
            write_sound(root / name / f"{number + 1}.wav", 0.5, frequency=300 + 400 * place + 7 * number)


def _esc50(root: Path) -> None:
    """ESC-50 in miniature: two recordings of each class of ESC-10 in each fold."""
    names = ["dog", "rooster", "rain", "sea_waves", "crackling_fire", "crying_baby", "sneezing", "clock_tick"]
    targets = dict(zip([*names, "helicopter", "chainsaw"], (0, 1, 10, 11, 12, 20, 21, 38, 40, 41), strict=True))
    rows = []
    for fold in range(1, 6):
        for name, target in targets.items():
            for take in range(2):
                source = f"{fold}{target:02d}{take}"
                file = f"{fold}-{source}-A-{target}.wav"
                rows.append([file, fold, target, name, True, source, "A"])
                write_sound(root / "audio" / file, 0.5, 44100, 300 + 90 * target + 11 * fold + take)
    (root / "meta").mkdir()
    with (root / "meta" / "esc50.csv").open("w", newline="") as file:
        header = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
        csv.writer(file).writerows([header, *rows])


def _urbansound(root: Path) -> None:
    """UrbanSound8K in miniature: two clips of each class in each of the first two folds, one in the others."""
    names = ["air_conditioner", "car_horn", "children_playing", "dog_bark", "drilling", "engine_idling", "gun_shot"]
    rows = []
    for fold in range(1, 11):
        for number, name in enumerate([*names, "jackhammer", "siren", "street_music"]):
            for take in range(2 if fold < 3 else 1):
                source = f"{fold}{number}{take}"
                file = f"{source}-{number}-0-0.wav"
                rows.append([file, source, 0.0, 0.5, 1, fold, number, name])
                write_sound(root / "audio" / f"fold{fold}" / file, 0.5, 16000, 300 + 200 * number + 5 * fold + take)
    (root / "metadata").mkdir()
    with (root / "metadata" / "UrbanSound8K.csv").open("w", newline="") as file:
        header = ["slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class"]
        csv.writer(file).writerows([header, *rows])


def furnish(folder: Path) -> None:
    """Fill a folder with what pages speak of."""
    for name in ("docs", "plugins", "benchmarks", "constraints.txt"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    for place, name in enumerate(SOUNDS):
        write_sound(folder / name, SECONDS.get(name, 0.6), frequency=300 + 50 * place)
    soundfile.write(folder / "silence.wav", np.zeros(8000, np.float32), 16000)
    (folder / "dog.raw").write_bytes((tone(1.0, 16000, 500) * 32767).astype("<i2").tobytes())
    for name, count in (("sounds", 6), ("my_sounds", 6), ("other_sounds", 2)):
        _class_folders(folder / name, count)
    _esc50(folder / "data" / "ESC-50")
    _urbansound(folder / "data" / "UrbanSound8K")
    mine = 'name = "mine"\nextends = "recipes/quickstart.toml"\n[dataset]\nuse = "folder"\nroot = "sounds"\n'
    (folder / "mine.toml").write_text(f"{mine}[split]\ntest = 0.3\nvalidation = 0.2\n")
    (folder / "mine.py").write_text("from soundbench_plugins.backbone.identity import Identity as Net\n\nMyNet = Net\n")
    programs = folder / "bin"
    programs.mkdir()
    for name, does in {"arecord": "cat dog.raw", "ffmpeg": "cat dog.wav", "aplay": "true"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    esc10 = '[dataset]\nuse = "esc50"\nroot = "data/ESC-50"\nsubset = "esc10"\n'
    (folder / "RECIPE").write_text(f'extends = "recipes/quickstart.toml"\n{esc10}[train]\nepochs = 1\n')
    takes = [f"sounds/{name}/{number}.wav,{name},{number}\n" for name in CLASSES for number in range(1, 7)]
    (folder / "owls.csv").write_text("path,label,fold\n" + "".join(takes))
    owls = '[dataset]\nuse = "manifest"\npath = "owls.csv"\n[split]\nvalidation = 0.2\n'
    (folder / "owls.toml").write_text(f'extends = "recipes/quickstart.toml"\n{owls}')
    (folder / "other.csv").write_text("path,label\n" + "".join(f"sounds/{name}/1.wav,{name}\n" for name in CLASSES))
    (folder / "acme_sounds").mkdir()
    marks = ["yes", "noo", *["no"] * 116, "yse", "yes"]
    rows = [f"north/57320-0-0-24.wav,dog,0.5,{mark}\n" for mark in marks]
    (folder / "typo.csv").write_text("path,label,score,correct\n" + "".join(rows))
    write_sound(folder / "TABLES" / "1.wav", 3.0)
    (folder / "TABLES" / "1.txt").write_text("0.5\t1.5\tdog\n")
    lists = folder / "dataset"
    lists.mkdir()
    (lists / "label_list.txt").write_text("dog\nrain\n")
    for part, numbers in (("train", range(1, 5)), ("test", range(5, 7))):
        rows = [f"../sounds/{name}/{n}.wav\t{place}\n" for place, name in enumerate(CLASSES[:2]) for n in numbers]
        (lists / f"{part}_list.txt").write_text("".join(rows))


def furnish_models(folder: Path) -> None:
    """Add models of other programs, small ones, in the places and with the names of those that pages speak of."""
    import torch

    from helpers import macls_models, panns_models
    from soundbench.featurizers import WavLM

    tables = macls_models.settings("CAMPPlus", {"growth_rate": 4, "bn_size": 2, "init_channels": 16, "embd_dim": 24})
    tensors = macls_models.drawn(macls_models.campplus(4, 2, 16, 24, classes=2))
    macls_models.write(folder, tables, tensors, CLASSES[:2], "cam++.yml")
    checkpoint = panns_models.checkpoint(14, [8, 12, 16, 20, 24, 28], embedding=24)
    torch.save({"iteration": 600000, "model": checkpoint}, folder / "Cnn14_mAP=0.431.pth")
    lines = [f'{number},/m/{number:05d},"Sound {number}"\n' for number in range(527)]
    (folder / "class_labels_indices.csv").write_text("index,mid,display_name\n" + "".join(lines))
    WavLM.example(folder / "models" / "wavlm-base-plus")


def furnish_city(folder: Path) -> None:
    """Add recordings of a city, whose names say what they are: what RUN scores higher as a dog is one."""
    import soundbench

    classifier = soundbench.load(folder / "RUN")
    sounds = [tone(0.6, 16000, 300 + 40 * number) for number in range(12)]
    sounds.sort(key=lambda samples: classifier.predict(samples, 16000).scores["dog"])
    (folder / "north").mkdir()
    for number, samples in enumerate(sounds):
        name = f"57320-0-0-{number}" if number < 6 else f"180256-3-0-{number - 6}"
        soundfile.write(folder / "north" / f"{name}.wav", samples, 16000)
