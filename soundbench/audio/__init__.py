"""Sound files and live sound: decoding, resampling, pipes, microphones, recording. Plugins may use the names here."""

from __future__ import annotations

from soundbench.audio.decoding import (
    SUFFIXES,
    VERSIONS,
    Notice,
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
    warn,
)

__all__ = [
    "SUFFIXES",
    "VERSIONS",
    "Notice",
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
    "warn",
]
