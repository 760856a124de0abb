"""Makes the sound files that `soundbench doctor` tries the decoders on: `python tests/helpers/tiny_sounds.py FOLDER`.

Each holds a tone of 1 kHz, as short and at as low a rate as its format allows. The bytes depend on the versions of
libsndfile and FFmpeg, so the files are kept in the repository, and nothing makes them anew.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

__all__ = ["make"]

# suffix: container, coding, sample rate, seconds, options of soundfile
SOUNDFILE: dict[str, tuple[str, str, int, float, dict[str, Any]]] = {
    "wav": ("WAV", "PCM_U8", 8000, 0.05, {}),
    "aiff": ("AIFF", "PCM_S8", 8000, 0.05, {}),
    "au": ("AU", "ULAW", 8000, 0.05, {}),
    "w64": ("W64", "ULAW", 8000, 0.05, {}),
    "flac": ("FLAC", "PCM_S8", 8000, 0.05, {}),
    "ogg": ("OGG", "VORBIS", 8000, 0.05, {}),
    "opus": ("OGG", "OPUS", 8000, 0.05, {}),
    "mp3": ("MP3", "MPEG_LAYER_III", 8000, 0.15, {"bitrate_mode": "CONSTANT", "compression_level": 0.99}),
}
# suffix: container, codec, sample rate, seconds, bits per second (0 where there is no choice)
PYAV: dict[str, tuple[str, str, int, float, int]] = {
    "caf": ("caf", "pcm_alaw", 8000, 0.05, 0),
    "m4a": ("ipod", "aac", 16000, 0.13, 16000),
    "aac": ("adts", "aac", 16000, 0.13, 16000),
    "webm": ("webm", "libopus", 16000, 0.06, 8000),
    "wma": ("asf", "wmav2", 22050, 0.1, 24000),
    "ac3": ("ac3", "ac3", 48000, 0.064, 32000),
    "amr": ("amr", "libopencore_amrnb", 8000, 0.1, 4750),
    "wv": ("wv", "wavpack", 8000, 0.05, 0),
}


def _tone(rate: int, seconds: float) -> np.ndarray:
    times = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * 1000 * times)).astype(np.float32)


def make(folder: Path) -> None:
    """Write a file of each format to a folder."""
    for suffix, (container, coding, rate, seconds, more) in SOUNDFILE.items():
        soundfile.write(folder / f"tone.{suffix}", _tone(rate, seconds), rate, coding, format=container, **more)
    for suffix, row in PYAV.items():
        _by_pyav(folder / f"tone.{suffix}", *row)


def _by_pyav(path: Path, container: str, codec: str, rate: int, seconds: float, bits: int) -> None:
    with av.open(str(path), "w", format=container, options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream(codec, rate=rate, layout="mono", options={"flags": "+bitexact"})
        if bits:
            stream.bit_rate = bits
        frame = av.AudioFrame.from_ndarray(_tone(rate, seconds)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        resampler = av.AudioResampler(stream.codec_context.format, "mono", rate)
        for converted in [*resampler.resample(frame), None]:
            file.mux(stream.encode(converted))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
