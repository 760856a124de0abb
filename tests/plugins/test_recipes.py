"""Every recipe that ships trains: two steps of each, on synthetic sounds in place of its data."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from soundbench_plugins.featurizer.wavlm import WavLM

import soundbench

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))

# What takes longest; networks have tests of their own. Of CAM++, the recipes of two datasets are tried each time.
SLOW = {
    *(f"{data}_campplus" for data in ("dialects", "esc10", "esc50", "language", "speechcommands")),
    *("esc10_best", "esc50_mobilenet", "esc50_panns_cnn10", "esc50_panns_cnn14", "language_resnet_se"),
    *(f"urbansound_{network}" for network in ("ecapa_tdnn", "eres2net", "eres2netv2", "mobilenet", "panns_cnn6")),
    *(f"urbansound_{network}" for network in ("panns_cnn10", "panns_cnn14", "res2net", "resnet_se", "tdnn", "wavlm")),
}

# Fourteen clips in two folds: ten to test, four to train on, two at a time.
SMALL = [
    'dataset={use="tones", clips=14}',
    "split={test=[1], validation=0}",
    "audio.window=1.0",
    "observer=[]",
    'train={epochs=1, batch_size=2, device="cpu", precision="fp32", threads=1}',
    'reject="none"',  # which scores many minutes of noise
]

# Networks with published results of `macls`, and one recipe for each other dataset and method.
PROMISED = {
    *(f"urbansound_{name}" for name in ("resnet_se", "campplus", "eres2net", "eres2netv2", "res2net", "tdnn")),
    *(
        f"urbansound_{name}"
        for name in ("panns_cnn6", "panns_cnn10", "panns_cnn14", "ecapa_tdnn", "mobilenet", "wavlm")
    ),
    *("urbansound_wavlm", "language_campplus", "language_resnet_se", "dialects_campplus", "tagging_panns"),
    *("esc50_campplus", "esc50_mobilenet", "esc50_panns_cnn10", "esc50_panns_cnn14"),
    *("speechcommands_campplus", "speechcommands_mobilenet"),
}


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=pytest.mark.slow if path.stem in SLOW else ()) for path in RECIPES],
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_two_steps_of_every_recipe(path: Path, tmp_path: Path) -> None:
    sets = list(SMALL)
    if 'use = "wavlm"' in path.read_text(encoding="utf-8"):
        sets.append(f'featurizer.model="{WavLM.example(tmp_path / "model")["model"]}"')
    recipe = soundbench.read_recipe(path, sets=sets)
    run = soundbench.run(recipe, out=tmp_path / "run", cache=False, say=lambda line: None)
    with (run.path / "history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2"]
    assert run.directory.report_json.is_file()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_opens_with_its_command_what_it_needs_and_what_to_expect(path: Path) -> None:
    comment = path.read_text(encoding="utf-8").partition("\n\n")[0]
    assert all(line.startswith("#") for line in comment.splitlines())
    assert f"\n#     soundbench run recipes/{path.name}" in comment
    assert "\n# Needs " in comment


def test_every_promised_recipe_is_there() -> None:
    assert {path.stem for path in RECIPES} >= PROMISED
