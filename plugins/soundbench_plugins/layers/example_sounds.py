"""Small sound files for the `example` of components."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

__all__ = ["write_sounds"]


def write_sounds(folder: Path, *names: str) -> None:
    """Write fading noise of a quarter of a second, `(4000,)`, to each file; also usable as an impulse response."""
    for number, name in enumerate(names):
        noise = np.random.default_rng(number).standard_normal(4000) * np.exp(-np.arange(4000) / 500)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes((8000 * noise).clip(-32768, 32767).astype("<i2").tobytes())
