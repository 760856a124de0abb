"""What a request is refused with: a status and one sentence."""

from __future__ import annotations

import attrs

__all__ = ["BUSY", "Gone", "Limits", "Refused"]

# Seconds after which a client may try again where the server is busy.
BUSY = 1


@attrs.frozen
class Limits:
    """What the server takes on.

    Attributes:
        size: bytes of the body of a request.
        seconds: of sound in a request.
        queue: requests that may wait while others are processed.
        timeout: seconds in which a request must arrive, in which it must be answered after that, and in which a stream
            must bring some sound.
    """

    size: int = 100_000_000
    seconds: float = 3600.0
    queue: int = 128
    timeout: float = 60.0


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: the HTTP status.
        reason: one sentence: what is wrong, and what would be right.
        path: the name of the sound, where it is the sound that is wrong.
        **headers: of the answer, with `_` for `-`.
    """

    def __init__(self, status: int, reason: str, path: str | None = None, **headers: str) -> None:
        super().__init__(reason)
        self.status, self.reason, self.path = status, reason, path
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def to_dict(self) -> dict[str, str]:
        """As plain data: `error`, and the sound's `path`, with the keys of `soundbench infer --json`."""
        return ({} if self.path is None else {"path": self.path}) | {"error": self.reason}


class Gone(Exception):
    """The client has gone, and nobody waits for the answer."""
