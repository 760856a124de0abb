"""One sound: decoding, containers, resampling, pipes, microphones, recording. Its names here are open to plugins."""

from __future__ import annotations

from soundbench.audio.decoding import (
    SUFFIXES,
    VERSIONS,
    SoundInfo,
    Source,
    blocks,
    decode,
    decode_for,
    info,
    load,
    loud,
    resample,
    trim,
)

__all__ = [
    "SUFFIXES",
    "VERSIONS",
    "SoundInfo",
    "Source",
    "blocks",
    "decode",
    "decode_for",
    "info",
    "load",
    "loud",
    "resample",
    "trim",
]
