"""The codings of raw samples, by the names of `arecord` and FFmpeg, and the header of a WAV file in a pipe."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.errors import CallError, SoundError
from soundbench.messages import nearest

__all__ = ["FORMATS", "NAME", "Coding", "SampleFormat", "find_format", "read_wav_header"]

NAME = "standard input"
# The most bytes before the samples of a WAV file.
HEADER = 1 << 20


@attrs.frozen
class SampleFormat:
    """How a sample is stored.

    Attributes:
        size: bytes of a sample.
        order: `<` for little-endian, `>` for big-endian.
        kind: `signed`, `unsigned`, `float`, `mu-law` or `a-law`.
        bits: the lowest bits of an integer that hold the sample; those above them are ignored.
    """

    size: int
    order: str = "<"
    kind: str = "signed"
    bits: int = 0

    def decode(self, data: bytes) -> NDArray[np.float32]:
        """Decode whole samples to floats `(S,)` with full scale at 1.0."""
        if self.kind == "float":
            return np.frombuffer(data, f"{self.order}f{self.size}").astype(np.float32)
        if self.kind.endswith("law"):
            return _LAWS[self.kind][np.frombuffer(data, np.uint8)]
        wide = np.zeros((len(data) // self.size, 4), np.uint8)  # little-endian
        read = np.frombuffer(data, np.uint8).reshape(-1, self.size)
        wide[:, : self.size] = read if self.order == "<" else read[:, ::-1]
        left = wide.view("<u4")[:, 0] << np.uint32(32 - (self.bits or 8 * self.size))
        if self.kind == "unsigned":
            left ^= np.uint32(1 << 31)
        return (left.view("<i4") / (1 << 31)).astype(np.float32)


def _mu_law() -> NDArray[np.float32]:
    """Of each byte its value, by ITU-T G.711."""
    byte = ~np.arange(256, dtype=np.uint8)
    value = ((((byte & 15).astype(np.int32) << 3) + 132) << (byte >> 4 & 7)) - 132
    return (np.where(byte & 128, -value, value) / 32768).astype(np.float32)


def _a_law() -> NDArray[np.float32]:
    """Of each byte its value, by ITU-T G.711."""
    byte = np.arange(256, dtype=np.uint8) ^ 0x55
    part, low = (byte >> 4 & 7).astype(np.int32), (byte & 15).astype(np.int32) << 4
    value = np.where(part == 0, low + 8, (low + 264) << np.maximum(part - 1, 0))
    return (np.where(byte & 128, value, -value) / 32768).astype(np.float32)


_LAWS = {"mu-law": _mu_law(), "a-law": _a_law()}


def _formats() -> dict[str, SampleFormat]:
    """The formats by name; those of `arecord` in upper case, those of FFmpeg in lower case."""
    found = {"S8": SampleFormat(1), "U8": SampleFormat(1, kind="unsigned")}
    found |= {"MU_LAW": SampleFormat(1, kind="mu-law"), "A_LAW": SampleFormat(1, kind="a-law")}
    found |= {"s8": found["S8"], "u8": found["U8"], "mulaw": found["MU_LAW"], "alaw": found["A_LAW"]}
    for suffix, order in (("LE", "<"), ("BE", ">")):
        for letter, kind in (("S", "signed"), ("U", "unsigned")):
            for bits, size in ((16, 2), (18, 3), (20, 3), (24, 3), (20, 4), (24, 4), (32, 4)):
                packed = "_3" if size == 3 else "_"
                form = SampleFormat(size, order, kind, bits)
                found[f"{letter}{bits}{packed}{suffix}"] = form
                if bits == 8 * size:
                    found[f"{letter}{bits}{suffix}".lower()] = form
        for bits in (32, 64):
            form = SampleFormat(bits // 8, order, "float")
            found[f"FLOAT{'64' if bits == 64 else ''}_{suffix}"] = found[f"f{bits}{suffix.lower()}"] = form
    return found


# The formats of raw samples by name. `arecord` calls 24 bits in four bytes S24_LE, in three bytes S24_3LE.
FORMATS: Mapping[str, SampleFormat] = _formats()


def find_format(name: str) -> SampleFormat:
    """A format by its name, in upper or lower case.

    Raises:
        CallError: there is no such format.
    """
    known = {key.lower(): form for key, form in FORMATS.items()}
    if name.lower() not in known:
        hint = nearest(name, FORMATS) or ";"
        raise CallError(f"--format: no raw samples are called {name!r}{hint} known: {', '.join(FORMATS)}")
    return known[name.lower()]


@attrs.frozen
class Coding:
    """The encoding of samples as bytes.

    Attributes:
        rate: sample rate in Hz.
        channels: number of channels, interleaved.
        form: how a sample is stored.
    """

    rate: int
    channels: int
    form: SampleFormat

    @property
    def frame(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * self.form.size

    def decode(self, data: bytes) -> NDArray[np.float32]:
        """Decode whole frames to `(S, C)` float32."""
        return self.form.decode(data).reshape(-1, self.channels)


def read_wav_header(read: Callable[[int], bytes]) -> tuple[Coding, int | None]:
    """Read the header of a WAV file: its coding, and the bytes of its samples or None if it does not state them.

    Args:
        read: returns at most the given number of bytes, none at the end.

    Raises:
        SoundError: not a WAV file, or neither PCM nor float.
    """
    head = _exactly(read, 12)
    if head[:4] not in {b"RIFF", b"RIFX", b"RF64", b"BW64"} or head[8:] != b"WAVE":
        wrong = "is not a WAV file; raw samples need --format, such as s16le, and --rate" if head else "is empty"
        raise SoundError(NAME, wrong)
    order = ">" if head[:4] == b"RIFX" else "<"
    coding, passed, long = None, 0, 0
    while passed < HEADER:
        name, size = struct.unpack(order + "4sI", _exactly(read, 8).ljust(8, b"\0"))
        if name == b"data" and coding:
            return coding, _stated(size, long)
        body = _exactly(read, min(size + size % 2, HEADER))
        passed += 8 + len(body)
        if name == b"fmt ":
            coding = _coding(body, order)
        elif name == b"ds64" and len(body) >= 16:  # the sizes that need 64 bits
            (long,) = struct.unpack_from("<Q", body, 8)
        if len(body) < size:
            break
    raise SoundError(NAME, "is a WAV file without samples")


def _stated(size: int, long: int) -> int | None:
    """The bytes of the samples; None if what is stated is a placeholder."""
    if size == 0xFFFFFFFF and 0 < long < 1 << 62:
        return long
    return None if size == 0 or size >= 0x7FFFF000 else size


def _coding(body: bytes, order: str) -> Coding:
    if len(body) < 16:
        raise SoundError(NAME, "is a damaged WAV file: its fmt chunk is cut off")
    tag, channels, rate, _, align, bits = struct.unpack_from(order + "HHIIHH", body)
    if tag == 0xFFFE and len(body) >= 26:
        (tag,) = struct.unpack_from(order + "H", body, 24)
    size = align // channels if channels else 0  # it decides: 24 bits may be stored in four bytes, from the top
    known = {
        1: SampleFormat(size, order, "unsigned" if size == 1 else "signed") if size in (1, 2, 3, 4) else None,
        3: SampleFormat(size, order, "float") if size in (4, 8) else None,
        6: SampleFormat(1, kind="a-law") if size == 1 else None,
        7: SampleFormat(1, kind="mu-law") if size == 1 else None,
    }
    form = known.get(tag)
    if form is None or not rate:
        raise SoundError(NAME, f"is a WAV file of coding {tag} with {bits} bits; PCM and float are read from a pipe")
    return Coding(rate, channels, form)


def _exactly(read: Callable[[int], bytes], count: int) -> bytes:
    """Read this many bytes, or fewer at the end."""
    found = b""
    while len(found) < count and (data := read(count - len(found))):
        found += data
    return found
