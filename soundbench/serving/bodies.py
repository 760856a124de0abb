"""The sound in the body of a request, received into a file: as it is, or as the one file of a form."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import attrs
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from soundbench.messages import megabytes
from soundbench.serving.refusals import BUSY, Gone, Limits, Refused

__all__ = ["Bodies", "Body"]

# All bodies together may have so many times the bytes of the largest.
TOGETHER = 8
# Fields of a form beside its file, and bytes of one.
FIELDS, FIELD = 16, 1 << 16
# What a sound is called that has no name.
NAMELESS = "-"


@attrs.frozen
class Body:
    """A sound that was received.

    Attributes:
        path: the file that holds it.
        name: the name that its sender gave it; `-` if none.
    """

    path: Path
    name: str


class Bodies:
    """Receives the bodies of requests.

    Args:
        folder: of the files that hold them.
        limits: how large they may be, and how long they may take.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        self._held = 0

    @asynccontextmanager
    async def received(self, request: Request) -> AsyncIterator[Body]:
        """The body of a request, kept while the context is open.

        Raises:
            Refused: it is too large, too slow or no form.
            Gone: the client has gone.
        """
        self._refuse_stated(request)
        held = [0]
        try:
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix="request-") as file:
                try:
                    async with asyncio.timeout(self._limits.timeout):
                        chunks = self._counted(request, held)
                        name = await self._receive(request, chunks, file)  # type: ignore[arg-type]
                except TimeoutError:
                    sentence = f"the request did not arrive within {self._limits.timeout:g} s"
                    raise Refused(408, sentence, connection="close") from None
                except ClientDisconnect:
                    raise Gone from None
                yield Body(Path(file.name), name)
        finally:
            self._held -= held[0]

    def _refuse_stated(self, request: Request) -> None:
        stated = request.headers.get("content-length", "")
        if stated.isdecimal() and int(stated) > self._limits.size:
            raise self._too_large()

    async def _counted(self, request: Request, held: list[int]) -> AsyncGenerator[bytes, None]:
        """The body in chunks, as long as it is not too large."""
        async for chunk in request.stream():
            held[0] += len(chunk)
            self._held += len(chunk)
            if held[0] > self._limits.size:
                raise self._too_large()
            if self._held > TOGETHER * self._limits.size:
                sentence = "other requests have sent as much as this server holds; try again in a moment"
                raise Refused(503, sentence, retry_after=str(BUSY))
            yield chunk

    def _too_large(self) -> Refused:
        return Refused(413, f"more than the {megabytes(self._limits.size)} that are taken in a request")

    async def _receive(self, request: Request, chunks: AsyncGenerator[bytes, None], file: BinaryIO) -> str:
        """Write the sound to a file; returns its name."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "multipart/form-data":
            async for chunk in chunks:
                file.write(chunk)
            file.flush()
            return NAMELESS
        try:
            form = await MultiPartParser(
                request.headers, chunks, max_files=1, max_fields=FIELDS, max_part_size=FIELD
            ).parse()
        except (MultiPartException, FormParserError) as error:  # the second is raised by earlier versions of Starlette
            raise Refused(400, f"no form of one file: {error}") from None
        try:
            uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            if not uploads:
                raise Refused(400, "the form has no file; send the sound as its body, or as a file of a form")
            await asyncio.to_thread(shutil.copyfileobj, uploads[0].file, file, 1 << 20)
            file.flush()
            return uploads[0].filename or NAMELESS
        finally:
            await form.close()
