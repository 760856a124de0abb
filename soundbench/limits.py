"""The largest inputs and values that are accepted; what exceeds one is refused in one line."""

from __future__ import annotations

__all__ = ["CHUNKS", "TABLE", "TEXT"]

# Bytes of a file. TEXT: a recipe, `model.toml`, a list of classes, YAML and JSON that describe something. TABLE: a
# manifest, a CSV table, a report; ten million rows of 200 bytes fit.
TEXT = 4 << 20
TABLE = 2 << 30
# Chunks of a WAV, AIFF, W64 or CAF file before its sound.
CHUNKS = 10_000
