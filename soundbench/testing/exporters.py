"""What an exporter promises."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from soundbench import masks
from soundbench.contracts import Program, Runner
from soundbench.errors import RunError
from soundbench.testing.cases import Case, quiet
from soundbench.testing.results import Broken, Checks, NotApplicable

__all__ = ["CHECKS", "example_program"]

_NEAR, _NEAR_INT8 = 1e-5, 0.1  # allowed difference of scores
_SAMPLES = 400
_METADATA = {
    "format": 1,
    "classes": ["Kauz", "Käuzchen", "鸮", "a\nb"],
    "thresholds": None,
    "level": -20.5,
    "more": {"a": [1]},
}


class _Small(nn.Module):
    """Scores of four classes from the level and the roughness of a sound; and its power."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 8), nn.Linear(8, 4)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms `(B, S)` and lengths `(B,)` to scores `(B, 4)` and powers `(B,)`."""
        sound = masks.apply(waveform, lengths)
        power = sound.square().sum(1) / lengths
        steps = nn.functional.pad(sound, (1, 0)).diff(dim=1)
        rough = masks.apply(steps, lengths).square().sum(1) / lengths
        hidden = self.first(torch.stack([power, rough], 1)).relu()
        return self.last(hidden).softmax(1), power


def example_program() -> Program:
    """A small program with inputs as a model's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = _Small().eval()
        inputs = {"waveform": torch.randn(2, _SAMPLES), "lengths": torch.tensor([_SAMPLES, _SAMPLES // 2])}
    dynamic = {"waveform": {0: "batch", 1: "samples"}, "lengths": {0: "batch"}}
    return Program(module, inputs, dynamic, ("scores", "power"), _METADATA)


def _batch(rows: int, size: int) -> dict[str, np.ndarray]:
    """Noise of several lengths, the first row the longest; noise beyond the lengths too."""
    draws = np.random.default_rng([rows, size])
    lengths = draws.integers(1, size + 1, rows)
    lengths[0] = size
    return {"waveform": draws.standard_normal((rows, size)).astype(np.float32), "lengths": lengths.astype(np.int64)}


def _expected(program: Program, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        found = program.module(*(torch.from_numpy(inputs[name]) for name in program.inputs))
    return {name: tensor.numpy() for name, tensor in zip(program.outputs, found, strict=True)}


def _apart(program: Program, runner: Runner, inputs: dict[str, np.ndarray]) -> float:
    """The largest difference from what the module computes, for each row in the batch and alone."""
    worst, wanted = 0.0, _expected(program, inputs)
    rows = len(inputs["lengths"])
    alone = [
        {"waveform": inputs["waveform"][row : row + 1, :length], "lengths": inputs["lengths"][row : row + 1]}
        for row, length in enumerate(inputs["lengths"].tolist())
    ]
    for number, given in enumerate([inputs, *alone]):
        found, part = runner(given), slice(None) if number == 0 else slice(number - 1, number)
        if set(found) != set(program.outputs):
            raise Broken(f"the outputs must be {', '.join(program.outputs)}, are {', '.join(found)}")
        for name, values in found.items():
            right = wanted[name][part]
            if values.shape != right.shape:
                raise Broken(f"{name} has the shape {values.shape} for {rows} rows, not {right.shape}")
            apart = float(np.abs(values - right).max())
            worst = max(worst, apart if np.isfinite(apart) else np.inf)
    return worst


def suffix(case: Case) -> str:
    """It says how the names of its files end."""
    found = getattr(case.component.obj, "suffix", None)
    if not isinstance(found, str) or not found.startswith(".") or len(found) < 2:
        raise Broken(f'suffix must be a text such as ".onnx", is {found!r}')
    return found


def same(case: Case) -> str:
    """The file computes what the module computes, for any batch and length, and changes nothing."""
    program = example_program()
    before = {name: tensor.clone() for name, tensor in program.module.state_dict().items()}
    with quiet():
        data = case.make(program).export()
    if not isinstance(data, bytes):
        raise Broken(f"export() must return bytes, returns {type(data).__name__}")
    after = program.module.state_dict()
    if program.module.training or any(not torch.equal(before[name], after[name]) for name in before):
        raise Broken("it changes the module")
    case.memory["file"] = data
    runner = case.memory["runner"] = _read(case, data)
    worst = max(
        _apart(program, runner, _batch(*sizes)) for sizes in ((1, 1), (1, 3), (4, _SAMPLES), (3, 20 * _SAMPLES))
    )
    if not worst <= _NEAR:
        raise Broken(f"differs from the module by {worst:.1e} (allowed {_NEAR:.0e})")
    return f"any batch and length, alone and padded, differs by at most {worst:.0e} (allowed {_NEAR:.0e})"


def _read(case: Case, data: bytes) -> Any:
    with quiet():
        return case.component.obj.read(data)  # type: ignore[attr-defined]


def metadata(case: Case) -> str:
    """The file holds the metadata."""
    runner = case.memory.get("runner")
    if runner is None:
        raise NotApplicable("no file could be read")
    found = json.loads(json.dumps(dict(runner.metadata)))
    if found != _METADATA:
        raise Broken(f"must be {_METADATA}, are {found}")
    return f"{len(found)} keys come back"


def refuses(case: Case) -> str:
    """What is no such file, or half of one, is refused."""
    if "file" not in case.memory:
        raise NotApplicable("no file could be made")
    whole = case.memory["file"]
    for what, data in (("text", b"no model\n" * 20), ("nothing", b""), ("half of a file", whole[: len(whole) // 2])):
        try:
            _read(case, data)
        except RunError:
            continue
        except Exception as error:
            raise Broken(f"{what}: must raise RunError, raises {type(error).__name__}: {error}") from error
        raise Broken(f"{what} is not refused")
    return "text, nothing and half of a file"


def int8(case: Case) -> str:
    """In 8 bits, scores stay near, and other metadata can be given."""
    if not hasattr(case.component.obj, "int8"):
        raise NotApplicable("it has no form in 8 bits")
    program = example_program()
    with quiet():
        data = case.make(program).int8([_batch(1, _SAMPLES)] * 4)
    runner, inputs = _read(case, data), _batch(4, _SAMPLES)
    apart = float(np.abs(runner(inputs)["scores"] - _expected(program, inputs)["scores"]).max())
    if not apart <= _NEAR_INT8:
        raise Broken(f"scores differ by {apart:.1e} (allowed {_NEAR_INT8})")
    other = _read(case, case.component.obj.with_metadata(data, {"format": 2}))  # type: ignore[attr-defined]
    if dict(other.metadata) != {"format": 2} or not np.array_equal(other(inputs)["scores"], runner(inputs)["scores"]):
        raise Broken("with_metadata() must change the metadata, and nothing else")
    return f"scores differ by at most {apart:.0e} (allowed {_NEAR_INT8}), and metadata can be changed"


CHECKS: Checks = {"suffix": suffix, "same": same, "metadata": metadata, "refuses": refuses, "int8": int8}
