"""What only a CUDA device can show: `pytest -m gpu`. Without one every test here is skipped, and says so.

With SOUNDBENCH_TEST_DEVICE=cpu they run on the CPU, except those that a CPU has nothing for: so that they are known to
work before there is a GPU.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import one_rank
from helpers.runs import done, torchrun

import soundbench
from soundbench.contracts import Batch
from soundbench.data.batches import RawBatch, on_device, pack
from soundbench.files import read_rows
from soundbench.machine import settle
from soundbench.model.assembly import assemble
from soundbench.report.run_directory import RunDirectory

DEVICE = os.environ.get("SOUNDBENCH_TEST_DEVICE", "cuda")

missing = DEVICE == "cuda" and not torch.cuda.is_available()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(missing, reason="torch sees no CUDA device: nothing of a GPU was tested"),
]
cuda_alone = pytest.mark.skipif(DEVICE != "cuda", reason="a CPU has nothing of this")
PRECISIONS = ["fp32", "bf16", pytest.param("fp16", marks=cuda_alone)]

BACKBONES = {
    "campplus": {"growth": 8, "width": 32, "layers": [4, 4, 4], "front": 8},
    "ecapa-tdnn": {"channels": 32},
    "resnet-se": {},
}


def recipe(backbone: str = "campplus", **train: Any) -> soundbench.Recipe:
    settings = {"epochs": 1, "batch_size": 16, "device": DEVICE, "precision": "fp32", "threads": 2}
    return soundbench.Recipe(
        dataset={"use": "tones", "clips": 100},
        split={"test": [5], "validation": [4]},
        audio={"window": 1.0},
        augmentation=["speed", "spec-augment"],
        backbone={"use": backbone, **BACKBONES[backbone]},
        observer=[],
        train=settings | train,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def trained(cache: Path, out: Path, made: soundbench.Recipe, **options: Any) -> RunDirectory:
    return soundbench.run(made, out=out, cache=cache, say=lambda _: None, **options).directory


def sounds() -> list[np.ndarray]:
    """Of many lengths, below a window and above."""
    draws = np.random.default_rng(0)
    return [0.1 * draws.standard_normal(size).astype(np.float32) for size in (900, 8000, 16000, 25000, 70001)]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_run_trains_in_every_precision(cache: Path, tmp_path: Path, backbone: str, precision: str) -> None:
    run = trained(cache, tmp_path / "run", recipe(backbone, precision=precision))
    row = read_rows(run.history)[0]
    assert np.isfinite(float(row["train_loss"]))
    assert float(row["train_loss"]) < 4
    assert np.isfinite(float(row["validation_loss"]))
    environment = json.loads(run.environment.read_text())
    assert environment["precision"] == precision
    if DEVICE == "cuda":
        assert environment["device"] == torch.cuda.get_device_name()
    assert json.loads(run.report_json.read_text())["clips"] == 20


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_gpu_scores_like_the_cpu(cache: Path, tmp_path: Path, backbone: str) -> None:
    """Whatever the precision of training was; also a clip alone and in a batch."""
    run = trained(cache, tmp_path / "run", recipe(backbone, precision="bf16"))
    waves = sounds()
    here, there = (soundbench.load(run.path, device=device) for device in ("cpu", DEVICE))
    for one, other in zip(here.predict(waves, 16000), there.predict(waves, 16000), strict=True):
        for label, score in one.scores.items():
            assert other.scores[label] == pytest.approx(score, abs=1e-4)
    together = there.predict(waves, 16000)
    for sound, batched in zip(waves, together, strict=True):
        alone = there.predict(sound, 16000)
        for label, score in batched.scores.items():
            assert alone.scores[label] == pytest.approx(score, abs=1e-5)


def test_the_first_losses_are_those_of_the_cpu(cache: Path, tmp_path: Path) -> None:
    """One epoch of few steps; chance is addressed, so that both see the same windows and augmentations."""
    losses = []
    for number, device in enumerate(("cpu", DEVICE)):
        run = trained(cache, tmp_path / str(number), recipe(device=device, batch_size=60))
        losses.append(float(read_rows(run.history)[0]["train_loss"]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_autocast_computes_about_what_float32_does(precision: Any) -> None:
    machine = settle(DEVICE, precision)
    network = assemble(recipe()).network
    machine.place(network).eval()
    data = 0.1 * torch.randn(4, 16000, generator=torch.Generator().manual_seed(0)).to(machine.device)
    lengths = torch.full((4,), 16000, device=machine.device)
    with torch.inference_mode():
        exact = network(data, lengths)
        with machine.autocast():
            rough = network(data, lengths)
    torch.testing.assert_close(rough.float(), exact, atol=0.05 * float(exact.abs().max()), rtol=0.05)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_scores_in_bf16_are_near_those_in_float32(cache: Path, tmp_path: Path, backbone: str) -> None:
    run = trained(cache, tmp_path / "run", recipe(backbone))
    exact, rough = (soundbench.load(run.path, device=DEVICE, precision=one) for one in ("fp32", "bf16"))
    for one, other in zip(exact.predict(sounds(), 16000), rough.predict(sounds(), 16000), strict=True):
        for label, score in one.scores.items():
            assert other.scores[label] == pytest.approx(score, abs=0.05)


@cuda_alone
def test_tf32_is_of_training_steps_alone() -> None:
    """Products of TF32 have 10 bits of mantissa, those of float32 have 23."""
    machine = settle(DEVICE, "fp32", tf32=True)
    machine.use()
    draws = torch.Generator().manual_seed(0)
    left, right = (torch.randn(1, 512, 512, generator=draws, dtype=torch.float64) for _ in range(2))
    wanted = {"product": left @ right, "convolution": torch.conv1d(left, right[0, :, :, None])}

    def error() -> list[float]:
        one, other = left.float().to(machine.device), right.float().to(machine.device)
        found = {"product": one @ other, "convolution": torch.conv1d(one, other[0, :, :, None])}
        return [float((found[name].cpu() - there).abs().max() / there.abs().max()) for name, there in wanted.items()]

    assert max(error()) < 1e-5
    with machine.training():
        assert min(error()) > 5e-5
    with machine.exact():
        assert max(error()) < 1e-5


@cuda_alone
def test_a_run_in_tf32_says_so_and_scores_like_the_cpu(cache: Path, tmp_path: Path) -> None:
    run, exact = (
        trained(cache, tmp_path / name, recipe(tf32=tf32, cudnn_benchmark=tf32))
        for name, tf32 in (("tf32", True), ("exact", False))
    )
    assert json.loads(run.report_json.read_text())["tf32"] is True
    assert json.loads(run.environment.read_text())["cudnn_benchmark"] is True
    losses = [float(read_rows(one.history)[0]["train_loss"]) for one in (run, exact)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    here, there = (soundbench.load(run.path, device=device) for device in ("cpu", DEVICE))
    for one, other in zip(here.predict(sounds(), 16000), there.predict(sounds(), 16000), strict=True):
        for label, score in one.scores.items():
            assert other.scores[label] == pytest.approx(score, abs=1e-4)


@cuda_alone
def test_a_pinned_batch_arrives_as_it_was() -> None:
    windows = [np.arange(size, dtype=np.int16) for size in (100, 16000, 333)]
    raw = pack(windows, [1 / 32768] * 3, [5, 6, 7], 4)
    pinned = RawBatch(*(part.pin_memory() for part in raw))
    assert all(part.is_pinned() for part in pinned)
    device = torch.device("cuda")
    there, plain = on_device(pinned, device, -20.0), on_device(raw, torch.device("cpu"), -20.0)
    torch.cuda.synchronize()
    for name in ("data", "lengths", "target", "index", "position"):
        moved: torch.Tensor = getattr(there, name)
        assert moved.device.type == "cuda"
        torch.testing.assert_close(moved.cpu(), getattr(plain, name), atol=1e-5, rtol=1e-5)
    assert isinstance(there, Batch)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_resume_on_a_gpu_goes_on(cache: Path, tmp_path: Path, precision: str) -> None:
    """With the losses of the run that nothing had stopped; sums on a GPU may differ in their last digits."""
    run = trained(cache, tmp_path / "run", recipe(epochs=2, precision=precision))
    before = read_rows(run.history)
    run.report_json.unlink()
    for path in sorted(run.checkpoints.glob("step-*.pt"))[1:]:
        path.unlink()
    soundbench.resume(run.path, cache=cache, say=lambda _: None)
    after = read_rows(run.history)
    assert [row["epoch"] for row in after] == ["1", "2"]
    for name in ("train_loss", "validation_loss"):
        assert float(after[1][name]) == pytest.approx(float(before[1][name]), rel=1e-3 if precision == "fp32" else 0.05)
    assert run.report_json.exists()


@cuda_alone
def test_the_gpus_own_time_is_reported(cache: Path, tmp_path: Path) -> None:
    run = trained(cache, tmp_path / "run", recipe(epochs=3), profile=True)
    page = run.profile.read_text()
    assert "of training on a GPU, profiled." in page
    parts = page.partition("Forward, by part\n")[2].splitlines()
    assert {line.split()[0] for line in parts[1:5]} == {"featurizer", "backbone", "pooling", "head"}
    last = run.log.read_text().splitlines()[-1]
    assert "time of a step: " in last
    rows = read_rows(run.history)
    whole = sum(float(row["seconds"]) for row in rows)
    reported = (
        float(last.split(" ms in all")[0].rsplit(" ", 1)[1]) / 1000 * int(last.split("mean of ")[1].split(";")[0])
    )
    assert 0 < reported <= 1.05 * whole


@cuda_alone
def test_the_only_rank_over_nccl_does_all_that_several_do() -> None:
    found = json.loads(done(torchrun(one_rank.__file__, DEVICE)).splitlines()[-1])
    assert found == one_rank.WHOLE | {"backend": "nccl"}


@cuda_alone
def test_the_only_rank_over_nccl_trains_and_evaluates_as_one_alone(cache: Path, tmp_path: Path) -> None:
    alone = trained(cache, tmp_path / "alone", recipe(epochs=2, batch_size=60))
    rank, evaluation, more = tmp_path / "rank", tmp_path / "evaluation", ("--device", DEVICE, "--cache", cache)
    done(torchrun("-m", "soundbench", "run", alone.recipe, "--out", rank, *more))
    done(torchrun("-m", "soundbench", "evaluate", alone.path, "--out", evaluation, *more))
    for row, own in zip(read_rows(RunDirectory(rank).history), read_rows(alone.history), strict=True):
        assert float(row["train_loss"]) == pytest.approx(float(own["train_loss"]), rel=1e-3)
    before, after = (json.loads(run.report_json.read_text())["metrics"] for run in (alone, RunDirectory(evaluation)))
    assert after.keys() == before.keys()
    for name, figure in before.items():
        assert after[name]["value"] == pytest.approx(figure["value"], abs=1e-6)
