"""`soundbench record`: record from a microphone to WAV files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from soundbench.cli import options, output
from soundbench.messages import printable

if TYPE_CHECKING:
    from soundbench.audio.recording import Take
    from soundbench.cli.meter import Meter


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Length of the recording. Default: record until Ctrl-C.",
)
@click.option(
    "--rate",
    default=16000,
    type=click.IntRange(1000, 768000),
    metavar="HZ",
    help="Sample rate of the files. Default: 16000.",
)
@click.option(
    "--channels", default=1, type=click.IntRange(1), metavar="N", help="Number of channels to record. Default: 1."
)
@options.microphone
@options.list_microphones
@click.option(
    "--out",
    type=options.PATH,
    metavar="PATH",
    help="WAV file to write; with --label or --split-on-silence, a folder. Default: named after the time; sounds/ with "
    "--label.",
)
@click.option(
    "--label",
    metavar="CLASS",
    help="Class of the sound: write to a folder of this name in --out. Default: no class.",
)
@click.option(
    "--split-on-silence", "split", is_flag=True, help="Write one file per sound, split at half a second of silence."
)
@click.option(
    "--silence",
    type=float,
    default=-45.0,
    metavar="DB",
    help="Level below which --split-on-silence takes sound as silence, in dB of full scale. Default: -45.",
)
def command(
    seconds: float | None,
    rate: int,
    channels: int,
    mic: str | None,
    out: Path | None,
    label: str | None,
    split: bool,
    silence: float,
) -> None:
    """Record from a microphone to 16-bit WAV files.

    Each finished file is printed with its length and peak. Ctrl-C ends the recording.
    """
    from soundbench.audio.microphone import Microphone
    from soundbench.audio.recording import places, record, refuse_label
    from soundbench.cli.meter import Meter

    if label is not None:
        refuse_label(label)
    place = places(out, label, split)
    microphone = Microphone(mic, rate, channels, say=output.say)
    if microphone.rate != rate:
        output.say(f"the device records at {microphone.rate} Hz; it is resampled to {rate} Hz")
    printer = _Printer(Meter())
    try:
        lost = record(microphone, place, rate, seconds, silence if split else None, printer.level, printer.take)
    finally:
        microphone.close()
    if lost:
        output.say(f"{lost:,} samples were lost")
    if not printer.takes:
        output.say("nothing was recorded" + (": no sound was loud enough, see --silence" if split else ""))


class _Printer:
    """Shows the level, and prints the finished files."""

    def __init__(self, meter: Meter) -> None:
        self._meter, self._began, self.takes = meter, time.monotonic(), 0

    def level(self, level: float) -> None:
        from soundbench.terminal import clock

        self._meter.show(level, f"{clock(time.monotonic() - self._began)}  takes: {self.takes}")

    def take(self, take: Take) -> None:
        self.takes += 1
        self._meter.clear()
        clipped = ", clipped" if take.peak > -0.001 else ""
        output.result(
            f"{printable(str(take.path))}\t{take.seconds:.2f} s\tpeak {round(take.peak, 1) + 0.0:.1f} dB{clipped}"
        )
