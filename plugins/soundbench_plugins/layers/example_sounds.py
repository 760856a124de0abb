"""Small sound files for the examples that components are proved with."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

__all__ = ["write_sounds"]


def write_sounds(folder: Path, *names: str) -> None:
    """Noise of a quarter of a second that fades, which will do as an impulse response too, in each file `(4000,)`."""
    for number, name in enumerate(names):
        noise = np.random.default_rng(number).standard_normal(4000) * np.exp(-np.arange(4000) / 500)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes((8000 * noise).clip(-32768, 32767).astype("<i2").tobytes())
