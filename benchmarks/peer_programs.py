"""A program that `peers.py` measures, in a separate process that is controlled on stdin: a peer's, or soundbench's.

    PYTHON benchmarks/peer_programs.py NAME FOLDER [--epochs N]      with a Python that has what the program imports

FOLDER holds the sounds, below `sounds/NUMBER/`, and the model or the lists that the program reads. Commands on stdin:

    score NUMBER        seconds and processor seconds of scoring the sounds of a folder
    scores NUMBER       their scores, each as {class: score} of the classes that the program returns
    epoch               seconds and processor seconds of training the next epoch
    peak                peak memory of the process in MB
    lines               how many lines the user writes: the body of the function, and the text of its configuration

The functions of the first part are what a user writes to score files, those of the second to train; lists of the sounds
are not counted, as all need them.
"""

import argparse
import inspect
import json
import os
import resource
import sys
import time
import tomllib
from pathlib import Path

try:
    from soundbench.contracts import hookimpl
except ImportError:  # in the environment of a peer
    hookimpl = staticmethod

ANSWERS = sys.stdout


# Scoring: each returns a function of paths ----------------------------------------------------------------------------


def soundbench_scoring(folder):
    import soundbench

    model = soundbench.load(folder / "model")
    return lambda paths: model.predict(paths)


def macls_one_by_one(folder):
    from macls.predict import MAClsPredictor

    trained = folder / "CAMPPlus_Fbank"
    predictor = MAClsPredictor(str(trained / "model.yml"), str(trained / "best_model"), use_gpu=False)
    return lambda paths: [predictor.predict(path) for path in paths]


def macls_in_tens(folder):
    from macls.predict import MAClsPredictor

    trained = folder / "CAMPPlus_Fbank"
    predictor = MAClsPredictor(str(trained / "model.yml"), str(trained / "best_model"), use_gpu=False)
    tens = lambda paths: (paths[at : at + 10] for at in range(0, len(paths), 10))  # noqa: E731
    return lambda paths: [pair for ten in tens(paths) for pair in zip(*predictor.predict_batch(ten), strict=True)]


def autrainer_scoring(folder):
    from autrainer.serving import Inference

    inference = Inference(str(next(folder.glob("results/default/training/Sounds_*"))))
    return lambda paths: inference.predict_directory(str(Path(paths[0]).parent), "wav", update_frequency=0)


def panns_scoring(folder):
    import librosa
    from panns_inference import AudioTagging

    tagging = AudioTagging(checkpoint_path=str(folder / "cnn14.pth"), device="cpu")
    load = lambda path: librosa.load(path, sr=32000)[0][None]  # noqa: E731
    return lambda paths: [tagging.inference(load(path))[0][0] for path in paths]


def transformers_scoring(folder):
    import soundfile
    from transformers import pipeline

    classify = pipeline("audio-classification", str(folder / "wav2vec2"), device="cpu", top_k=None)
    return lambda paths: [classify(soundfile.read(path, dtype="float32")[0]) for path in paths]


# Training: each trains some epochs, and stops before each for its turn ------------------------------------------------

CAMPPLUS = """
augmentation = ["speed", "spec-augment"]
backbone = "campplus"
optimizer = { use = "adam", lr = 1e-3 }
scheduler = "warmup-cosine"
dataset = { use = "manifest", path = "train.txt", labels = "labels.txt", test = "test.txt" }
split = { test = ["test"], validation = 0 }
audio = { rate = 16000, window = 3.0, level = -20 }
featurizer = { use = "fbank", bands = 80 }
train = { epochs = EPOCHS, batch_size = 16, precision = "fp32" }
"""

# The settings of PANNs, which autrainer has under the name log_mel_32k.
CNN10 = """
augmentation = []
backbone = "panns-cnn10"
optimizer = { use = "adam", lr = 1e-3 }
scheduler = "constant"
dataset = { use = "manifest", path = "train.txt", labels = "labels.txt", test = "test.txt" }
split = { test = ["test"], validation = 0 }
audio = { rate = 32000, window = 2.0 }
train = { epochs = EPOCHS, batch_size = 8, precision = "fp32", extracted = true }
[featurizer]
use = "mel-spectrogram"
bands = 64
frame = 1024
hop = 320
n_fft = 1024
low = 50.0
high = 14000.0
scale = "slaney"
norm = "slaney"
log = "decibel"
normalize = "none"
"""

AUTRAINER = """
defaults: [_autrainer_, _self_]
device: cpu
results_dir: results
experiment_id: default
iterations: EPOCHS
progress_bar: false
hydra:
  sweeper:
    params:
      +seed: 1
      +batch_size: 8
      +learning_rate: 0.001
      dataset: Sounds
      model: Cnn10
      optimizer: Adam
"""
AUTRAINER_DATASET = """
id: Sounds
_target_: autrainer.datasets.BaseClassificationDataset
path: data
features_subdir: log_mel_32k
index_column: filename
target_column: label
file_type: npy
file_handler: autrainer.datasets.utils.NumpyFileHandler
criterion: autrainer.criterions.CrossEntropyLoss
metrics: [autrainer.metrics.Accuracy]
tracking_metric: autrainer.metrics.Accuracy
transform: { type: grayscale }
"""

MACLS = """
from macls.trainer import MAClsTrainer
trainer = MAClsTrainer("configs/cam++.yml", use_gpu=False, data_augment_configs="configs/augmentation.yml")
trainer.train()
train_list: train.txt
test_list: test.txt
label_list_path: labels.txt
"""


class Observer:
    """Stops a run of soundbench for the turns."""

    turns = None

    def __init__(self, run):
        self.run = run

    @hookimpl
    def run_started(self):
        self.turns.begin()

    @hookimpl
    def epoch_completed(self, epoch):
        self.turns.end()
        if epoch < self.run.epochs:
            self.turns.begin()


def soundbench_training(folder, turns, text):
    import soundbench

    Observer.turns = turns
    os.chdir(folder)
    tables = tomllib.loads(text.replace("EPOCHS", str(turns.epochs)))
    soundbench.run(soundbench.Recipe(**tables, observer=[Observer]), out="run", say=lambda _: None)


def campplus_of_soundbench(folder, turns):
    soundbench_training(folder, turns, CAMPPLUS)


def cnn10_of_soundbench(folder, turns):
    soundbench_training(folder, turns, CNN10)


def campplus_of_macls(folder, turns):
    from epochs_of_macls import Trainer

    trainer = Trainer(argparse.Namespace(name="cam++", folder=folder, batch=16))
    for _ in range(turns.epochs):
        turns.begin()
        trainer.epoch()
        turns.end()


def cnn10_of_autrainer(folder, turns):
    import autrainer.cli
    from autrainer.core.callbacks import CallbackMixin

    class Callback(CallbackMixin):
        def cb_on_iteration_begin(self, trainer, iteration):
            turns.begin()

        def cb_on_dev_begin(self, trainer, iteration):
            turns.end()

    callback = Callback()  # autrainer keeps no reference
    os.chdir(folder)
    del sys.argv[1:]  # which it reads too
    for name, text in (("config", AUTRAINER), ("dataset/Sounds", AUTRAINER_DATASET)):
        path = folder / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("EPOCHS", str(turns.epochs)))
    autrainer.cli.preprocess(update_frequency=0)
    autrainer.cli.train()
    return callback


WRITTEN = {
    "campplus_of_soundbench": CAMPPLUS,
    "cnn10_of_soundbench": CNN10,
    "campplus_of_macls": MACLS,
    "cnn10_of_autrainer": AUTRAINER + AUTRAINER_DATASET,
}


# Models with random weights, for those that score without having trained ----------------------------------------------


def make_macls(folder):
    from predictions_of_macls import make

    make(folder)


def make_panns(folder):
    import torch

    labels = Path.home() / "panns_data" / "class_labels_indices.csv"  # which it would download
    labels.parent.mkdir()
    labels.write_text("index,mid,display_name\n" + "".join(f"{number},,{number}\n" for number in range(527)))
    from panns_inference.models import Cnn14

    torch.manual_seed(1)
    network = Cnn14(32000, 1024, 320, 64, 50, 14000, 527)
    torch.save({"model": network.state_dict()}, folder / "cnn14.pth")


def make_transformers(folder):
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(1)
    config = transformers.Wav2Vec2Config(
        hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024, num_labels=10
    )
    transformers.Wav2Vec2ForSequenceClassification(config).save_pretrained(folder / "wav2vec2")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder / "wav2vec2")


# Turns ----------------------------------------------------------------------------------------------------------------


def answer(found):
    print(json.dumps(found), file=ANSWERS, flush=True)


def clocks():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(each.ru_utime + each.ru_stime for each in used)


class Turns:
    """Answers commands: between turns of scoring, and in training before each epoch."""

    def __init__(self, name, folder, epochs):
        self.name, self.folder, self.epochs = name, folder, epochs
        self.began = None
        self.program = None

    def begin(self):
        for line in sys.stdin:
            if line.strip() == "epoch":
                break
            self.command(*line.split())
        self.began = clocks()

    def end(self):
        answer([after - before for before, after in zip(self.began, clocks(), strict=True)])

    def command(self, name, *given):
        answer(getattr(self, name)(*given))

    def paths(self, number):
        return sorted(str(path) for path in (self.folder / "sounds" / number).glob("*.wav"))

    def score(self, number):
        paths = self.paths(number)
        began = clocks()
        self.program(paths)
        return [after - before for before, after in zip(began, clocks(), strict=True)]

    def scores(self, number):
        return [as_scores(each) for each in rows(self.program(self.paths(number)))]

    def peak(self):
        # Not `ru_maxrss`, which begins with what the process that started this one has used.
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024

    def lines(self):
        """Lines that the user writes: the configuration, or the body of the function, which ends with the call."""
        written = WRITTEN.get(self.name) or inspect.getsource(globals()[self.name]).partition("\n")[2]
        return sum(bool(line.strip()) for line in written.splitlines())


def rows(found):
    """What a program returned for each sound; autrainer returns a table, in the order of the directory."""
    if hasattr(found, "to_dict"):
        found = found.sort_values("filename").drop(columns=["filename", "prediction", "output"]).to_dict("records")
    return found


def as_scores(found):
    """The scores of a sound as {class: score}, whatever its program returned."""
    if hasattr(found, "scores"):
        return dict(found.scores)
    if hasattr(found, "tolist"):
        return {str(number): score for number, score in enumerate(found.tolist())}
    if isinstance(found, list):
        return {each["label"]: each["score"] for each in found}
    return dict([found]) if isinstance(found, tuple) else found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=0, help="of a program that trains")
    options = parser.parse_args()
    sys.stdout = sys.stderr  # output of libraries must not mix with the answers
    if options.name.startswith("make_"):
        globals()[options.name](options.folder)
        return
    turns = Turns(options.name, options.folder.absolute(), options.epochs)
    if options.epochs:
        globals()[options.name](turns.folder, turns)
    else:
        turns.program = globals()[options.name](turns.folder)
    for command in sys.stdin:
        turns.command(*command.split())


if __name__ == "__main__":
    main()
