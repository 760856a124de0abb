"""Exports of a run of toys: what a file computes and says, when it is refused, and what is blamed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers.runs import RECIPE, TOYS, toy_run
from helpers.toys import ToyDataset, ToyExporter

import soundbench
from soundbench.cli.main import invoke
from soundbench.contracts import Clip, Runner
from soundbench.errors import BrokenPlugin, CallError, DataError, RecipeError, RunError, RunPlaceError, UnknownPlugin
from soundbench.inference.export.exporting import Export, export

TO = f"{TOYS}:ToyExporter"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of toys, with calibration and what rejects sound."""
    folder = tmp_path_factory.mktemp("exporting")
    recipe = folder / "toy.toml"
    text = RECIPE.replace("window = 0.2", "window = 0.2\nhop = 0.1\nlevel = -20.0")
    text = text.replace(
        f'calibration = "{TOYS}:ToyCalibration"', f'calibration = {{ use = "{TOYS}:ToyCalibration", divisor = 1.7 }}'
    )
    thresholds = "clip_threshold = 0.1, window_threshold = 0.2"
    recipe.write_text(
        text.replace(f'reject = "{TOYS}:ToyReject"', f'reject = {{ use = "{TOYS}:ToyReject", {thresholds} }}')
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOUNDBENCH_CACHE", str(folder / "cache"))
        return toy_run(recipe, folder / "run")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 33 sounds: 20 in one that is named like a class, the others in one that is not."""
    folder, draws = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    for number in range(33):
        path = folder / ("low" if number < 20 else "other") / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.1 * draws.standard_normal(3000), 8000)
    return folder


def exported(run: Path, out: Path, **more: Any) -> Export:
    return export(run, TO, out, trust_code=True, **{"say": lambda line: None} | more)


def read(path: Path) -> Runner:
    return ToyExporter.read(path.read_bytes())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def kept(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Export, list[str]]:
    """The file in the run directory, and what was said."""
    said: list[str] = []
    return export(run, TO, trust_code=True, say=said.append), said


def test_a_file_is_kept_in_the_run_with_what_is_known_of_it(run: Path, kept: tuple[Export, list[str]]) -> None:
    found, said = kept
    assert found.path == run / "exports" / "model.toy"
    assert found.bytes == found.path.stat().st_size
    assert found.macs > 0 < found.milliseconds
    assert found.comparison.sounds >= 32
    assert found.comparison.scores <= 1e-5
    assert found.comparison.flipped == 0
    assert found.comparison.accuracy == found.comparison.accuracy_before
    assert found.compared_on == "16 test clips and 16 other clips of the run"
    (line,) = said
    assert line.startswith(f"compared on {found.compared_on}: largest difference of scores ")
    assert "labels of 0 of 32 sounds differ; accuracy " in line
    record = json.loads((run / "exports" / "export.json").read_text())
    assert record["model.toy"]["comparison"]["sounds"] == found.comparison.sounds
    assert record["model.toy"]["bytes"] == found.bytes


def test_the_metadata_are_the_classifier(run: Path, kept: tuple[Export, list[str]]) -> None:
    classifier = soundbench.load(run, trust_code=True)
    rejector = classifier.scorer.rejector
    assert rejector is not None
    found = read(kept[0].path).metadata
    assert found["format"] == 1
    assert tuple(found["classes"]) == classifier.classes
    assert (found["multilabel"], found["thresholds"]) == (False, None)
    assert (found["rate"], found["window"], found["hop"], found["trim"], found["level"]) == (
        8000,
        1600,
        800,
        "off",
        -20.0,
    )
    assert (found["reject"]["clip_threshold"], found["reject"]["window_threshold"]) == (0.1, 0.2)
    assert found["reject"]["silence"] is rejector.silence
    assert found["calibration"]["divisor"] == 1.7
    assert found["weights"] == json.loads((run / "model" / "digests.json").read_text())["weights.safetensors"][0]
    assert found["card"]["metrics"]["accuracy"] == json.loads((run / "report.json").read_text())["metrics"]["accuracy"]


def cut(samples: np.ndarray, window: int, hop: int) -> list[np.ndarray]:
    """Windows as docs/design.md says: at k hops while a whole one fits, and one that ends at the end."""
    starts = list(range(0, len(samples) - window + 1, hop)) or [0]
    if starts[-1] + window < len(samples):
        starts.append(len(samples) - window)
    return [samples[start : start + window] for start in starts]


@pytest.mark.parametrize("seconds", [0.0005, 0.004, 0.1, 0.2, 0.75, 20.0])
def test_windows_of_any_length_have_the_scores_of_the_model(
    run: Path, kept: tuple[Export, list[str]], seconds: float
) -> None:
    classifier, runner = soundbench.load(run, trust_code=True), read(kept[0].path)
    about = runner.metadata
    samples = 0.1 * np.random.default_rng(3).standard_normal(round(8000 * seconds))
    rounded = np.round(samples / np.abs(samples).max() * 32767) / 32767 * np.abs(samples).max()
    rows = [row.astype(np.float32) for row in cut(rounded, about["window"], about["hop"])]
    rows.append(rows[0][: max(1, len(rows[0]) // 2)])
    data = np.full((len(rows), max(map(len, rows))), 7.0, np.float32)  # beyond the lengths, anything
    for row, values in zip(data, rows, strict=True):
        row[: len(values)] = values
    lengths = np.array([len(row) for row in rows])
    together = runner({"waveform": data, "lengths": lengths})
    for number, row in enumerate(rows[:40]):
        alone = runner({"waveform": row[None], "lengths": lengths[number : number + 1]})
        for name, values in alone.items():
            np.testing.assert_allclose(values[0], together[name][number], rtol=1e-4, atol=1e-5)
    mean = together["scores"][:-1].mean(0)
    prediction = classifier.predict(samples, 8000)
    np.testing.assert_allclose(mean, prediction.probabilities, atol=1e-4)
    evidence = float(together["reject"][:-1].mean())
    assert (evidence < about["reject"]["clip_threshold"]) == prediction.rejected
    np.testing.assert_allclose(together["logits"][:-1].mean(0), classifier.predict_logits(samples, 8000)[0], atol=1e-3)
    np.testing.assert_allclose(together["embeddings"][:-1].mean(0), classifier.embed(samples, 8000), atol=1e-3)


def test_what_differs_is_not_written_unless_it_is_accepted(run: Path, tmp_path: Path) -> None:
    out, off = tmp_path / "off.toy", {"error": 2e-4}
    with pytest.raises(
        RunError, match=r"off.toy: not written: scores may differ by 0.0001, and do by 2.0e-04; .*--accept"
    ):
        exported(run, out, options=off)
    assert list(tmp_path.iterdir()) == []
    assert exported(run, tmp_path / "near.toy", options={"error": 5e-5}).comparison.near
    found = exported(run, out, options=off, accept=True)
    assert found.comparison.scores == pytest.approx(2e-4, rel=0.1)
    assert set(json.loads((tmp_path / "export.json").read_text())) == {"near.toy", "off.toy"}


def test_labels_that_flip_are_counted_beside_the_labels_that_are_right(run: Path, tmp_path: Path) -> None:
    found = exported(run, tmp_path / "turned.toy", options={"turned": True}, accept=True).comparison
    classifier = soundbench.load(run, trust_code=True)
    assert found.accuracy is not None
    assert found.accuracy_before is not None
    assert found.labelled == 32
    right = sum(prediction.nearest == label for prediction, label in predicted(run, classifier, found.labelled))
    assert found.accuracy_before == pytest.approx(right / found.labelled)
    assert found.accuracy == pytest.approx(1 - right / found.labelled)  # of two classes, the other one


def predicted(run: Path, classifier: Any, count: int) -> list[tuple[Any, str]]:
    """The predictions for the test clips, and for as many others as there are in `count`, with their labels."""
    dataset = ToyDataset(clips=64)
    lines = [line.split(",") for line in (run / "clips.csv").read_text().splitlines()[1:]]
    test = [line for line in lines if line[0] == "test"]
    others = [line for part in ("validation", "train") for line in lines if line[0] == part]
    missing = count - len(test)
    chosen = test + [others[number * len(others) // missing] for number in range(missing)]
    return [(classifier.predict(*dataset.read(Clip(line[1], (line[-1],)))), line[-1]) for line in chosen]


def test_given_sounds_are_compared_and_have_the_labels_of_their_folders(
    run: Path, tmp_path: Path, sounds: Path
) -> None:
    said: list[str] = []
    found = exported(run, tmp_path / "a.toy", compare_on=sounds, say=said.append)
    assert (found.comparison.sounds, found.comparison.labelled) == (33, 20)
    assert f"compared on 33 sounds of {sounds}: " in said[0]


def test_fewer_than_32_sounds_are_refused(run: Path, tmp_path: Path, sounds: Path) -> None:
    with pytest.raises(DataError, match=r"low: 20 are too few: give at least 32 sounds to compare on with --sounds"):
        exported(run, tmp_path / "a.toy", compare_on=sounds / "low")
    shutil.copytree(run, tmp_path / "run")
    text = (tmp_path / "run" / "recipe.toml").read_text()
    (tmp_path / "run" / "recipe.toml").write_text(text.replace("clips = 64", "clips = 60"))
    with pytest.raises(DataError, match=r"no longer those of clips.csv; or give at least 32 sounds .* with --sounds"):
        exported(tmp_path / "run", tmp_path / "a.toy")
    assert not (tmp_path / "a.toy").exists()


def test_a_model_folder_alone_is_compared_on_given_sounds(run: Path, tmp_path: Path, sounds: Path) -> None:
    shutil.copytree(run / "model", tmp_path / "model")
    with pytest.raises(CallError, match="a model folder has no place for exports: give a file with --out"):
        export(tmp_path / "model", TO, trust_code=True)
    with pytest.raises(CallError, match="a model folder has no test clips: give at least 32 sounds"):
        exported(tmp_path / "model", tmp_path / "m.toy")
    assert exported(tmp_path / "model", tmp_path / "m.toy", compare_on=sounds).comparison.sounds == 33


def test_nothing_is_overwritten_and_nothing_goes_through_a_link(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.toy").write_text("mine")
    (tmp_path / "b.toy").symlink_to(tmp_path / "elsewhere.toy")
    for name in ("a.toy", "b.toy"):
        with pytest.raises(RunPlaceError, match=f"{name}: exists; remove it, or give another file with --out"):
            exported(run, tmp_path / name)
    assert (tmp_path / "a.toy").read_text() == "mine"
    assert not (tmp_path / "elsewhere.toy").exists()


@pytest.mark.parametrize("text", ["[]", '{"a": '])
def test_a_damaged_record_is_refused_before_the_work(run: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "export.json").write_text(text)
    said: list[str] = []
    with pytest.raises(RunError, match=r"export.json: damaged: "):
        exported(run, tmp_path / "a.toy", say=said.append)
    assert not said
    assert [path.name for path in tmp_path.iterdir()] == ["export.json"]


def test_mistakes_in_the_call(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CallError, match=r"--out .*model.onnx: the name of a file of this exporter must end in .toy"):
        exported(run, tmp_path / "model.onnx")
    with pytest.raises(CallError, match=r"--int8: the exporter .* has no form in 8 bits; leave it out"):
        exported(run, tmp_path / "a.toy", int8=tmp_path)
    with pytest.raises(RecipeError, match=r'eror: unknown key; did you mean "error"\?'):
        exported(run, tmp_path / "a.toy", options={"eror": 1.0})
    with pytest.raises(RecipeError, match="error: must be at least 0, is -1"):
        exported(run, tmp_path / "a.toy", options={"error": -1.0})
    with pytest.raises(UnknownPlugin, match='there is no exporter "onx"'):
        export(run, "onx", tmp_path / "a.toy", trust_code=True)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "bands = 32",
            'bands = 32\n    unexportable = "its samples go to another machine"',
            "featurizer .*ToyFeaturizer.* cannot be exported: its samples go to another machine",
        ),
        (
            "self.channels = channels\n",
            "self.channels = channels\n        self.ragged = False\n",
            "backbone .*ToyBackbone.* cannot be exported: it takes only rows of equal length",
        ),
        (
            "self.features = channels\n\n    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:\n",
            "self.features = channels\n\n    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:\n"
            "        lengths = lengths if float(frames.sum()) else lengths.clone()\n",
            r"pooling .*ToyPooling.* cannot be exported to .*: .*data-dependent.*toys.*, line \d+\)",
        ),
    ],
)
def test_what_cannot_be_exported_is_named_with_the_reason(
    run: Path, tmp_path: Path, sounds: Path, before: str, after: str, message: str
) -> None:
    shutil.copytree(run / "model", tmp_path / "model")
    (code,) = (tmp_path / "model" / "code").iterdir()
    text = code.read_text()
    assert text.count(before) == 1
    code.write_text(text.replace(before, after))
    with pytest.raises(BrokenPlugin, match=message) as raised:
        exported(
            tmp_path / "model", tmp_path / "a.toy", options={"traced": True}, compare_on=sounds, accept_changes=True
        )
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "a.toy").exists()


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["export", str(run), "--to", TO, "--trust-code", "--out", str(tmp_path / "a.toy")]
    assert invoke([*line, "--set", "error"]) == 2
    assert "--set error: must be KEY=VALUE" in capsys.readouterr().err
    assert invoke([*line, "--set", "error=1e-3"]) == 1
    assert "not written: scores may differ" in capsys.readouterr().err
    assert invoke([*line, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["comparison"]["flipped"] == 0
    assert err.startswith("compared on ")
    assert invoke(line) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'a.toy'}: exists; remove it, or give another file with --out\n"
