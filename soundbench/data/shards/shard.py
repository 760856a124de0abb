"""One shard of decoded sound: the samples of sounds, appended, and the journal that finds each of them.

    shard-00000.i16      samples, 16 bits, little-endian, one sound after the other
    shard-00000.journal  a record of 56 bytes (`RECORD`) a sound, written once its samples are on the disk
    shard-00000.lock     held by the one process that appends

A sound exists once its record does. Samples without a record were left by a killed process: the next to append removes
them. What is found wrong stays as it is and is never appended to, since another process may have it mapped.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import zlib
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.files import open_regular, open_to_append

__all__ = [
    *("DIGEST", "LARGEST", "RECORD", "Contents", "Records", "Writer"),
    *("are_whole", "digest_of", "read", "read_records", "record_of"),
]

# Bytes of a shard; the sound that would make it larger begins another.
LARGEST = 1 << 30
DIGEST = 16
# Between two syncs lies at least so many times what the last one took, during which other threads decode.
SYNCING = 2

Records = NDArray[np.void]

# key: of the sound, see `Sounds`; digest: of its samples; offset, length: in samples; scale: the factor of its samples;
# check: CRC-32 of the bytes before it.
RECORD = np.dtype(
    [("key", "S16"), ("digest", "S16"), ("offset", "<i8"), ("length", "<i8"), ("scale", "<f4"), ("check", "<u4")]
)
_CHECKED = RECORD.itemsize - 4


@attrs.frozen(eq=False)
class Contents:
    """What a shard holds.

    Attributes:
        samples: the file of its samples.
        records: those of the sounds that can be read, in the order in which they were written, `(M,)`.
        written: the records of its journal, also those that cannot be used.
        problem: what is wrong with others; empty for nothing.
    """

    samples: Path
    records: Records
    written: int
    problem: str = ""


def read(samples: Path) -> Contents:
    """What a shard holds, without reading its samples.

    Raises:
        OSError: its journal cannot be read.
    """
    records = read_records(samples.with_suffix(".journal"))
    good = are_whole(records)
    problem = "" if good.all() else f"{samples.stem}.journal has {_count(~good)} with a wrong checksum"
    ends = records["offset"] + records["length"]
    starts = np.concatenate([[0], ends[:-1]])
    known = good & np.concatenate([[True], good[:-1]])[: len(good)]
    if (records["offset"] != starts)[known].any():
        problem = "two processes wrote it at once: its file system does not keep locks"
        return Contents(samples, records[:0], len(records), problem)
    try:
        with open_regular(samples) as file:  # a network file system may know the size only of what is opened
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        size = 0
    cut = good & (2 * ends > size)
    if cut.any():
        problem = f"{samples.name} has {size:,} bytes instead of {2 * int(ends[good][-1]):,}"
    return Contents(samples, records[good & ~cut], len(records), problem)


def read_records(journal: Path, skip: int = 0) -> Records:
    """The records of a journal after the first `skip`, without an incomplete last one; none if there is no journal.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with open_regular(journal) as file:
            file.seek(skip * RECORD.itemsize)
            data = file.read()
    except FileNotFoundError:
        data = b""
    return np.frombuffer(data, RECORD, len(data) // RECORD.itemsize)


def digest_of(samples: NDArray[np.int16], scale: float) -> bytes:
    """The digest of a sound's samples as they are stored."""
    digest = hashlib.blake2b(np.float32(scale).tobytes(), digest_size=DIGEST)
    digest.update(np.ascontiguousarray(samples, "<i2").data)
    return digest.digest()


def record_of(key: bytes, offset: int, samples: NDArray[np.int16], scale: float) -> Records:
    """The record `(1,)` of a sound `(S,)` that lies at an offset."""
    record = np.zeros(1, RECORD)
    record[0] = (key, digest_of(samples, scale), offset, len(samples), scale, 0)
    record["check"] = zlib.crc32(record.tobytes()[:_CHECKED])
    return record


def are_whole(records: Records) -> NDArray[np.bool_]:
    """Which records have their checksum, `(M,)`."""
    data, step = memoryview(records.tobytes()), RECORD.itemsize
    found = (zlib.crc32(data[at : at + _CHECKED]) for at in range(0, len(data), step))
    whole: NDArray[np.bool_] = np.fromiter(found, np.uint32, len(records)) == records["check"]
    return whole


def _count(wrong: NDArray[np.bool_]) -> str:
    count = int(wrong.sum())
    return f"{count:,} record{'s' * (count != 1)}"


class Writer:
    """Appends sounds to a shard whose lock its owner holds.

    Args:
        samples: the file of its samples, created if missing.

    Raises:
        ValueError: something is wrong with the shard.
        OSError: it cannot be written.
    """

    def __init__(self, samples: Path) -> None:
        found = read(samples)
        if found.problem:
            raise ValueError(found.problem)
        self._end = int(found.records["offset"][-1] + found.records["length"][-1]) if len(found.records) else 0
        self._pending: list[Records] = []
        self._due = 0.0
        with contextlib.ExitStack() as stack:
            self._samples = stack.enter_context(open_to_append(samples))
            self._journal = stack.enter_context(open_to_append(samples.with_suffix(".journal")))
            os.ftruncate(self._journal.fileno(), len(found.records) * RECORD.itemsize)
            os.ftruncate(self._samples.fileno(), 2 * self._end)
            self._files = stack.pop_all()

    @property
    def behind(self) -> bool:
        """Whether sounds were added that are not committed yet."""
        return bool(self._pending)

    def has_room(self, samples: NDArray[np.int16]) -> bool:
        """Whether a sound `(S,)` fits into this shard; any fits into an empty one."""
        return not self._end or 2 * (self._end + len(samples)) <= LARGEST

    def add(self, key: bytes, samples: NDArray[np.int16], scale: float) -> None:
        """Append a sound `(S,)`, and from time to time commit what was appended.

        Raises:
            OSError: it cannot be written, as on a full disk.
        """
        record = record_of(key, self._end, samples, scale)
        self._samples.write(samples.astype("<i2", copy=False).data)
        self._end += len(samples)
        self._pending.append(record)
        if time.monotonic() >= self._due:
            self.commit()

    def commit(self) -> None:
        """Sync the samples that were appended, then write their records, of which a power failure may lose the last.

        Raises:
            OSError: they cannot be written.
        """
        if not self._pending:
            return
        began = time.monotonic()
        self._samples.flush()
        os.fsync(self._samples.fileno())
        self._journal.write(np.concatenate(self._pending).tobytes())
        self._journal.flush()
        self._pending.clear()
        ended = time.monotonic()
        self._due = ended + SYNCING * (ended - began)

    def close(self) -> None:
        """Sync and close the files; what is not committed is left out."""
        with contextlib.suppress(OSError):
            os.fsync(self._journal.fileno())
        for file in (self._samples, self._journal):
            with contextlib.suppress(OSError):  # no room for what is still buffered
                file.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
