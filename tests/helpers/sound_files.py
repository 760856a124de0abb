"""Sound files of every format that is read, made in memory, and what an independent reader decodes of them."""

from __future__ import annotations

import functools
import io
import struct
from typing import Any

import numpy as np
import pytest
import soundfile

__all__ = ["RATE", "SOUNDFILE", "PYAV", "by_pyav", "decoded_by_pyav", "files", "mpeg_frames", "noise", "written"]

RATE = 16000

# name: container, coding, options of soundfile
SOUNDFILE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "u8.wav": ("WAV", "PCM_U8", {}),
    "16.wav": ("WAV", "PCM_16", {}),
    "24.wav": ("WAV", "PCM_24", {}),
    "32.wav": ("WAV", "PCM_32", {}),
    "float.wav": ("WAV", "FLOAT", {}),
    "double.wav": ("WAV", "DOUBLE", {}),
    "alaw.wav": ("WAV", "ALAW", {}),
    "ulaw.wav": ("WAV", "ULAW", {}),
    "ms.wav": ("WAV", "MS_ADPCM", {}),
    "ima.wav": ("WAV", "IMA_ADPCM", {}),
    "rifx.wav": ("WAV", "PCM_16", {"endian": "BIG"}),
    "extensible.wav": ("WAVEX", "PCM_24", {}),
    "rf64.wav": ("RF64", "PCM_16", {}),
    "a.w64": ("W64", "PCM_16", {}),
    "a.aiff": ("AIFF", "PCM_16", {}),
    "float.aiff": ("AIFF", "FLOAT", {}),
    "a.au": ("AU", "PCM_16", {}),
    "a.caf": ("CAF", "PCM_16", {}),
    "a.flac": ("FLAC", "PCM_16", {}),
    "24.flac": ("FLAC", "PCM_24", {}),
    "a.ogg": ("OGG", "VORBIS", {}),
    "a.opus": ("OGG", "OPUS", {}),
    "cbr.mp3": ("MP3", "MPEG_LAYER_III", {"bitrate_mode": "CONSTANT", "compression_level": 0.5}),
    "vbr.mp3": ("MP3", "MPEG_LAYER_III", {"bitrate_mode": "VARIABLE", "compression_level": 0.5}),
}
# name: codec, container, layout
PYAV: dict[str, tuple[str, str, str]] = {
    "a.m4a": ("aac", "mp4", "stereo"),
    "lossless.m4a": ("alac", "mp4", "stereo"),
    "a.aac": ("aac", "adts", "mono"),
    "a.webm": ("libopus", "webm", "stereo"),
    "a.mka": ("pcm_s16le", "matroska", "7.1"),
    "a.ac3": ("ac3", "ac3", "stereo"),
    "a.wma": ("wmav2", "asf", "stereo"),
    "a.wv": ("wavpack", "wv", "stereo"),
    "flac.ogg": ("flac", "ogg", "mono"),
    "g722.wav": ("g722", "wav", "mono"),
    "a.mp2": ("mp2", "mp2", "stereo"),
    "pyav.mp3": ("libmp3lame", "mp3", "stereo"),
}


def noise(count: int, seed: int = 1) -> np.ndarray:
    """Noise that is loud and quiet by turns, so that variable bit rates vary."""
    loud = 0.02 + 0.2 * (np.sin(np.arange(count) / 5000) > 0)
    return (loud * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


def written(samples: np.ndarray, form: str, coding: str, rate: int = RATE, **options: Any) -> bytes:
    """A file by soundfile."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=coding, **options)
    return file.getvalue()


def by_pyav(samples: np.ndarray, codec: str, container: str, layout: str, rate: int = RATE, bits: int = 0) -> bytes:
    """A file by PyAV, with the same samples in each channel, or with samples `(C, S)`."""
    av = pytest.importorskip("av", reason="soundbench[av] is not installed")
    file = io.BytesIO()
    with av.open(file, "w", format=container) as opened:
        stream = opened.add_stream(codec, rate=rate, layout=layout)
        context = stream.codec_context
        if bits or codec == "wmav2":
            context.bit_rate = bits or 64000
        channels = stream.layout.nb_channels
        each = np.broadcast_to(samples, (channels, samples.shape[-1])) if samples.ndim == 1 else samples
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(each.T).reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        size = context.frame_size or 0
        shaped = av.AudioResampler(format=context.format, layout=layout, rate=rate, frame_size=size)
        for part in [*shaped.resample(frame), *shaped.resample(None)]:
            opened.mux(stream.encode(part))
        opened.mux(stream.encode(None))
    return file.getvalue()


def decoded_by_pyav(data: bytes, form: str | None = None) -> tuple[int, int]:
    """The number of samples that PyAV decodes, and their rate."""
    av = pytest.importorskip("av", reason="soundbench[av] is not installed")
    with av.open(io.BytesIO(data), format=form) as container:
        frames = [(frame.samples, frame.sample_rate) for frame in container.decode(container.streams.audio[0])]
    return sum(samples for samples, _ in frames), frames[0][1]


@functools.cache
def files(seconds: float = 2.0) -> dict[str, bytes]:
    """A file of each format; those of PyAV only if it is installed."""
    sound = noise(round(seconds * RATE))
    found = {name: written(sound, form, coding, **more) for name, (form, coding, more) in SOUNDFILE.items()}
    try:
        import av  # noqa: F401
    except ImportError:
        return found
    for name, (codec, container, layout) in PYAV.items():
        rate = 48000 if codec in ("libopus", "ac3", "wmav2", "mp2", "libmp3lame") else RATE
        found[name] = by_pyav(sound, codec, container, layout, rate)
    return found


def mpeg_frames(data: bytes) -> list[bytes]:
    """The frames of MPEG-1 and MPEG-2 layer III without tags, by a walk of its own."""
    kbits = {
        3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
        2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    }
    found, at = [], 0
    while at + 4 <= len(data):
        (head,) = struct.unpack(">I", data[at : at + 4])
        assert head >> 21 == 0x7FF
        version = head >> 19 & 3
        rate = (44100, 48000, 32000)[head >> 10 & 3] // (1 if version == 3 else 2)
        slots = 144 if version == 3 else 72
        length = slots * 1000 * kbits[version][head >> 12 & 15] // rate + (head >> 9 & 1)
        found.append(data[at : at + length])
        at += length
    return found
