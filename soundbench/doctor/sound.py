"""What reads sound: a decoder for each format, tried on a tiny file; PortAudio and microphones."""

from __future__ import annotations

from pathlib import Path

from soundbench.doctor.finding import Finding, absent, broken, ok

__all__ = ["FORMATS", "decoder", "microphones", "portaudio"]

# Each file holds a tone of 1 kHz, at most a few kilobytes; tests/helpers/tiny_sounds.py in the repository makes them.
_SOUNDS = Path(__file__).parent / "sounds"
_PITCH = 1000.0
FORMATS = sorted(path.suffix[1:] for path in _SOUNDS.glob("tone.*"))


def decoder(suffix: str) -> Finding:
    """Whether a file of this format is decoded to the tone that is in it."""
    import numpy as np

    from soundbench.audio import decode
    from soundbench.errors import SoundError

    try:
        samples, rate = decode(_SOUNDS / f"tone.{suffix}")
    except SoundError as error:
        needs_library, _, cure = error.reason.partition(": ")
        if cure.startswith("pip install"):
            return absent(needs_library, cure=cure)
        return broken(f"a sound file that is whole cannot be read: {error.reason}")
    pitch = float(np.abs(np.fft.rfft(samples)).argmax()) * rate / len(samples)
    if abs(pitch - _PITCH) > rate / len(samples):
        return broken(f"a tone of {_PITCH:.0f} Hz is decoded as one of {pitch:.0f} Hz")
    return ok("decoded")


def portaudio() -> Finding:
    """The library that microphones are read with."""
    from soundbench.audio.microphone import portaudio as imported
    from soundbench.errors import DeviceError

    try:
        _, text = imported().get_portaudio_version()
    except DeviceError as error:
        says, _, cure = str(error).partition("; ")
        return absent(says, cure=cure)
    return ok(str(text).partition(",")[0], {"version": str(text)})


def microphones() -> Finding:
    """The microphones; their names, which may be a person's, are left to `stream --list-microphones`."""
    from soundbench.audio.microphone import list_devices
    from soundbench.errors import DeviceError

    try:
        found = list_devices()
    except DeviceError as error:
        return absent(f"none can be looked for: {error}")
    if not found:
        return absent("none: this machine has no audio input device")
    values = [{name: one[name] for name in ("channels", "rate", "default")} for one in found]
    shown = "; ".join(
        f"{one['channels']} channels, {one['rate']} Hz{', the default' if one['default'] else ''}" for one in found
    )
    return ok(f"{len(found)} ({shown}); soundbench stream --list-microphones names them", {"devices": values})
