"""Run by the Python of an environment that holds macls 1.0.6: a model in its layout, and what its `predict` says.

    python macls_reference.py train FOLDER MODEL ARGUMENTS SOUND...
    python macls_reference.py predict FOLDER SOUND...

`train` draws the weights, and lets batch norm see a few sounds. `predict` prints a line of JSON a sound: its label and
score, and the features and logits behind them. Nothing of soundbench is imported.
"""

import json
import os
import sys
from pathlib import Path


def configuration(folder, model, arguments):
    import macls
    import yaml

    tables = yaml.safe_load((Path(macls.__file__).parent / "configs" / "cam++.yml").read_text(encoding="utf-8"))
    tables["dataset_conf"]["label_list_path"] = str(folder / "label_list.txt")
    tables["model_conf"] = {"model": model, "model_args": {"num_class": None, **arguments}}
    return tables


def train(folder, model, arguments, sounds):
    import torch
    import yaml
    from macls.data_utils.featurizer import AudioFeaturizer
    from macls.models import build_model
    from macls.utils.utils import dict_to_object
    from yeaudio.audio import AudioSegment

    tables = configuration(folder, model, arguments)
    (folder / "label_list.txt").write_text("".join(f"class {number}\n" for number in range(10)))
    (folder / "model.yml").write_text(yaml.safe_dump(tables))
    torch.manual_seed(1)
    featurizer = AudioFeaturizer("Fbank", False, tables["preprocess_conf"]["method_args"])
    tables["model_conf"]["model_args"]["num_class"] = 10
    network = build_model(80, dict_to_object(tables))
    for module in network.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            module.momentum = None
            if module.affine:
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.normal_(module.bias, 0.0, 0.2)
        elif getattr(module, "bias", None) is not None:
            torch.nn.init.normal_(module.bias, 0.0, 0.1)
    segments = [AudioSegment.from_file(sound) for sound in sounds]
    with torch.no_grad():
        for first in range(0, len(segments), 8):
            waves = torch.zeros(8, 32000)
            for row, segment in zip(waves, segments[first : first + 8], strict=False):
                segment.resample(16000)
                samples = torch.tensor(segment.samples[:32000])
                row[:] = samples.repeat(-(-32000 // len(samples)))[:32000]
            network.train()(featurizer(waves))
    best = folder / f"{model}_Fbank" / "best_model"
    best.mkdir(parents=True)
    torch.save(network.state_dict(), best / "model.pth")
    (best / "model.state").write_text(
        json.dumps({"last_epoch": 0, "accuracy": 0.5, "version": "1.0.6", "model": model, "feature_method": "Fbank"})
    )


def predict(folder, sounds):
    import torch
    from macls.predict import MAClsPredictor

    (best,) = folder.glob("*_Fbank/best_model")
    predictor = MAClsPredictor(str(folder / "model.yml"), str(best), use_gpu=False, log_level="error")
    seen = []
    predictor.predictor.register_forward_hook(lambda _module, given, out: seen.extend([given[0], out]))
    for sound in sounds:
        seen.clear()
        with torch.no_grad():
            label, score = predictor.predict(sound)
        features, logits = (values[0].tolist() for values in seen)
        print("JSON", json.dumps({"label": label, "score": score, "features": features, "logits": logits}), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    task, place, *others = sys.argv[1:]
    if task == "train":
        train(Path(place), others[0], json.loads(others[1]), others[2:])
    else:
        predict(Path(place), others)
