"""The table of all checks: a line here, and a function that looks, is all that a new one needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from soundbench.doctor import computing, installed, places, sound
from soundbench.doctor.finding import Check, Finding
from soundbench.errors import CallError
from soundbench.messages import nearest

__all__ = ["chosen", "examine", "table"]


def table() -> list[Check]:
    """Every check, in the order of the report; a name stands once."""
    return [
        Check("computing", "python", computing.python),
        Check("computing", "cpu", computing.cpu),
        Check("computing", "threads", computing.threads),
        Check("computing", "torch", computing.torch_build),
        Check("computing", "gpu", computing.gpu),
        Check("computing", "bf16", computing.bf16),
        Check("installed", "soundbench", installed.soundbench),
        Check("installed", "libraries", installed.libraries),
        *(Check("installed", name, partial(installed.extra, name)) for name in installed.extras()),
        Check("installed", "plugins", installed.plugins),
        Check("installed", "licence", installed.licence),
        *(Check("sound", suffix, partial(sound.decoder, suffix)) for suffix in sound.FORMATS),
        Check("sound", "portaudio", sound.portaudio),
        Check("sound", "mic", sound.microphones),
        Check("places", "cache", places.cache),
        Check("places", "disk", places.disk),
        Check("places", "fonts", places.fonts),
        Check("places", "settings", places.settings),
    ]


def chosen(needs: Sequence[str]) -> list[Check]:
    """The checks of these names, or with none, all.

    Raises:
        CallError: there is no check of a name; with the nearest one and all.
    """
    checks = table()
    known = [check.name for check in checks]
    for need in needs:
        if need not in known:
            raise CallError(
                f'--need: nothing is called "{need}"{nearest(need, known) or ";"} known: {", ".join(known)}'
            )
    return [check for check in checks if not needs or check.name in needs]


def examine(checks: Sequence[Check]) -> Iterator[tuple[Check, Finding]]:
    """Each check with what it finds, one after the other."""
    for check in checks:
        yield check, check.run()
