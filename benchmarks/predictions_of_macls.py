"""The predictor of macls 1.0.6 with a CAM++ in a separate process that is controlled on stdin.

    PYTHON benchmarks/predictions_of_macls.py FOLDER      with a Python that has macls 1.0.6

`benchmarks/predicting.py` starts it; FOLDER holds `labels.txt` and lists of sound files. A model is made there in
macls' layout, with random weights and batch norms adapted to the first sixteen files of `clips.txt`. Commands on stdin:

    single LIST FIRST COUNT     seconds of `predict` for these files one by one
    batch LIST FIRST COUNT      seconds of `predict_batch` for them, ten at a time
    clip                        seconds for one clip of three seconds, an array at 16 kHz
    labels LIST                 the labels of the files: alone, and ten at a time
"""

import json
import sys
import time
from pathlib import Path

import macls
import numpy as np
import torch
import yaml
from macls.data_utils.featurizer import AudioFeaturizer
from macls.models import build_model
from macls.predict import MAClsPredictor
from macls.utils.utils import dict_to_object
from yeaudio.audio import AudioSegment

ANSWERS = sys.stdout
TOGETHER = 10


def names(folder, name):
    return (folder / name).read_text(encoding="utf-8").splitlines()


def make(folder):
    """The model, its configuration beside it."""
    shipped = Path(macls.__file__).parent / "configs" / "cam++.yml"
    tables = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    tables["dataset_conf"]["label_list_path"] = str(folder / "labels.txt")
    tables["model_conf"]["model_args"]["num_class"] = len(names(folder, "labels.txt"))
    (folder / "CAMPPlus_Fbank").mkdir()
    (folder / "CAMPPlus_Fbank" / "model.yml").write_text(yaml.safe_dump(tables), encoding="utf-8")
    torch.manual_seed(1)
    network = build_model(80, dict_to_object(tables)).train()
    for module in network.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            module.momentum = None
    featurizer = AudioFeaturizer("Fbank", False, tables["preprocess_conf"]["method_args"])
    waveforms = torch.zeros(16, 48000)
    for row, path in zip(waveforms, names(folder, "clips.txt"), strict=False):
        segment = AudioSegment.from_file(path)
        segment.resample(16000)
        segment.normalize(target_db=-20)
        samples = torch.tensor(segment.samples[:48000])
        row[: len(samples)] = samples
    with torch.no_grad():
        network(featurizer(waveforms))
    best = folder / "CAMPPlus_Fbank" / "best_model"
    best.mkdir()
    torch.save(network.state_dict(), best / "model.pth")
    state = {"last_epoch": 0, "accuracy": 0.5, "version": "1.0.6", "model": "CAMPPlus", "feature_method": "Fbank"}
    (best / "model.state").write_text(json.dumps(state))
    return str(folder / "CAMPPlus_Fbank" / "model.yml"), str(best)


class Turns:
    """The commands."""

    def __init__(self, folder):
        self.folder = folder
        config, model = make(folder)
        self.own = MAClsPredictor(config, model, use_gpu=False, log_level="error")
        self.noise = (0.1 * np.random.default_rng(0).standard_normal(48000)).astype(np.float32)

    def single(self, name, first, count):
        paths = names(self.folder, name)[int(first) :][: int(count)]
        began = time.perf_counter()
        for path in paths:
            self.own.predict(path)
        return time.perf_counter() - began

    def batch(self, name, first, count):
        paths = names(self.folder, name)[int(first) :][: int(count)]
        began = time.perf_counter()
        self.together(paths)
        return time.perf_counter() - began

    def together(self, paths):
        labels = []
        for at in range(0, len(paths), TOGETHER):
            labels += self.own.predict_batch(paths[at : at + TOGETHER])[0]
        return labels

    def clip(self):
        began = time.perf_counter()
        self.own.predict(self.noise, 16000)
        return time.perf_counter() - began

    def labels(self, name):
        paths = names(self.folder, name)
        return [[self.own.predict(path)[0] for path in paths], self.together(paths)]


def main():
    sys.stdout = sys.stderr  # output of libraries must not mix with the answers
    turns = Turns(Path(sys.argv[1]))
    for command in sys.stdin:
        name, *given = command.split()
        print(json.dumps(getattr(turns, name)(*given)), file=ANSWERS, flush=True)


if __name__ == "__main__":
    main()
