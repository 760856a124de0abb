"""Sound files and live sound: decoding, resampling, when it was recorded, pipes, microphones, recording.

Plugins may use the names here.
"""

from __future__ import annotations

from soundbench.audio.decoding import (
    SUFFIXES,
    VERSIONS,
    Notice,
    SoundInfo,
    Source,
    blocks,
    decode,
    decode_bytes,
    decode_for,
    info,
    load,
    loud,
    resample,
    trim,
    warn,
)
from soundbench.audio.times.starts import recorded_at

__all__ = [
    "SUFFIXES",
    "VERSIONS",
    "Notice",
    "SoundInfo",
    "Source",
    "blocks",
    "decode",
    "decode_bytes",
    "decode_for",
    "info",
    "load",
    "loud",
    "recorded_at",
    "resample",
    "trim",
    "warn",
]
