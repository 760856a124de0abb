"""Read a file by a path or an address; what fails elsewhere is tried again, after longer and longer waits."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from soundbench.errors import DataError, MissingDataError
from soundbench.opening import open_regular

__all__ = ["HERE", "about", "is_remote", "named", "open_source", "patiently", "place"]

Result = TypeVar("Result")

# Seconds between the tries to read a file elsewhere; seconds without an answer after which a try has failed.
WAITS = (1.0, 3.0, 9.0)
ANSWER = 60.0
HERE = "copy it to this machine"
# Answers of HTTP: there is no such file; of those that blame who asks, the ones after which it may help to ask again.
_GONE, _BUSY = (404, 410), (408, 425, 429)


def is_remote(name: str) -> bool:
    """Whether a name is an address, such as `https://host/a.tar` or `s3://bucket/a.tar`, not a path."""
    return "://" in name


def open_source(name: str, seeks: bool = False) -> io.BufferedReader:
    """Open a file to read bytes, also one elsewhere: what fails there is tried again, after longer and longer waits.

    Args:
        name: a path, or an address that fsspec knows.
        seeks: whether parts of it are read, not all from the beginning to the end.

    Raises:
        MissingDataError: it does not exist; of a file elsewhere, reading raises this and `DataError`, too.
        DataError: it cannot be read.
    """
    if is_remote(name):
        return io.BufferedReader(_Remote(name, seeks), 1 << 20)
    with named(name):
        return open_regular(name)


class _Remote(io.RawIOBase):
    """A file elsewhere. Where a server cannot give parts of it, it is read from its beginning, as often as needed."""

    def __init__(self, name: str, seeks: bool) -> None:
        self._name, self._seeks = name, seeks
        self._file: Any = None
        self._at = self._wanted = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._wanted

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            size = patiently(self._name, partial(about, self._name))["size"]
            if size is None:
                raise DataError(f"{self._name}: its server does not say its size; {HERE}")
            offset += int(size)
        self._wanted = offset + (self._wanted if whence == os.SEEK_CUR else 0)
        return self._wanted

    def readinto(self, buffer: Any) -> int:
        data = patiently(self._name, lambda: self._read(len(buffer)))
        buffer[: len(data)] = data
        self._wanted += len(data)
        return len(data)

    def _read(self, size: int) -> bytes:
        try:
            self._go()
            data: bytes = self._file.read(size)
        except ValueError:  # of a server that knows no ranges
            if not self._seeks:
                raise
            self._forget()
            self._seeks = False
            return self._read(size)
        except BaseException:
            self._forget()
            raise
        self._at += len(data)
        return data

    def _go(self) -> None:
        """Open the file, unless it is open, and go to the wanted place."""
        if self._file is not None and self._at > self._wanted and not self._seeks:
            self._forget()
        if self._file is None:
            filesystem, path = place(self._name)
            whole = {"block_size": 0} if self._name.startswith("http") and not self._seeks else {}
            self._file = filesystem.open(path, "rb", **whole)
        if self._seeks:
            self._file.seek(self._wanted)
            self._at = self._wanted
        while self._at < self._wanted:
            skipped = len(self._file.read(min(self._wanted - self._at, 1 << 20)))
            if not skipped:
                break
            self._at += skipped

    def _forget(self) -> None:
        file, self._file, self._at = self._file, None, 0
        if file is not None:
            with suppress(Exception):
                file.close()

    def close(self) -> None:
        self._forget()
        super().close()


def place(name: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    import fsspec

    options: dict[str, Any] = {}
    if name.startswith("http"):
        try:
            import aiohttp
        except ImportError:
            raise ImportError("aiohttp is not installed; pip install 'fsspec[http]'") from None
        options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(None, sock_connect=ANSWER, sock_read=ANSWER)}
    filesystem, path = fsspec.core.url_to_fs(name, **options)
    return filesystem, path


def patiently(name: str, work: Callable[[], Result]) -> Result:
    """The result of asking another machine; what fails is tried again after each of `WAITS`.

    Raises:
        MissingDataError: there is no such file.
        DataError: it cannot be read, in the end or at all.
    """
    waits = list(WAITS)
    while True:
        try:
            return work()
        except (ImportError, ValueError, PermissionError) as error:  # no such protocol, or not installed
            raise DataError(f"{name}: {' '.join(str(error).split())}") from error
        except Exception as raised:  # those of a library of each protocol
            # That of HTTP takes whatever goes wrong for a missing file.
            cause = raised.__cause__ or raised if isinstance(raised, FileNotFoundError) else raised
            status = getattr(cause, "status", 0)
            if isinstance(cause, FileNotFoundError) or status in _GONE:
                raise MissingDataError(f"{name}: no such file") from None
            reason = " ".join(f"{type(cause).__name__} {cause}".split())
            if 400 <= status < 500 and status not in _BUSY:
                raise DataError(f"{name}: {reason}") from raised
            if not waits:
                raise DataError(f"{name}: does not answer, tried {len(WAITS) + 1} times: {reason}") from raised
            time.sleep(waits.pop(0))


def about(name: str) -> Mapping[str, Any]:
    """What the file system of an address says of its file."""
    filesystem, path = place(name)
    filesystem.invalidate_cache()
    found: Mapping[str, Any] = filesystem.info(path)
    return found


@contextmanager
def named(name: str) -> Iterator[None]:
    """Turn an `OSError` about a local file into a `DataError` of one line."""
    try:
        yield
    except FileNotFoundError:
        raise MissingDataError(f"{name}: no such file") from None
    except OSError as error:
        raise DataError(f"{name}: {error.strerror or error}") from error
