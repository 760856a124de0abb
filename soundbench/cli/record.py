"""`soundbench record`: sound from a microphone into WAV files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from soundbench.cli.stream import show_devices

if TYPE_CHECKING:
    from soundbench.audio.recording import Take
    from soundbench.cli.meter import Meter


@click.command()
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="How long; without it until Ctrl-C.")
@click.option("--rate", default=16000, show_default=True, type=click.IntRange(1000, 768000), help="Samples a second.")
@click.option("--channels", default=1, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--device", help="The microphone: its number or a part of its name; by default the system's.")
@click.option(
    "--list-devices", is_flag=True, is_eager=True, expose_value=False, callback=show_devices, help="Print them and end."
)
@click.option("--out", type=click.Path(path_type=Path), help="The WAV file, or with several takes their folder.")
@click.option("--label", help="Their class: files them in a folder of class folders, sounds/ or --out.")
@click.option("--split-on-silence", "split", is_flag=True, help="A take for each sound, cut at half a second of it.")
@click.option("--silence", type=float, default=-45.0, show_default=True, metavar="DB", help="Of full scale, at most.")
def command(
    seconds: float | None,
    rate: int,
    channels: int,
    device: str | None,
    out: Path | None,
    label: str | None,
    split: bool,
    silence: float,
) -> None:
    """Record from a microphone, in 16 bits; each file is printed when it is done, with its length and peak."""
    from soundbench.audio.microphone import Microphone
    from soundbench.audio.recording import places, record, refuse_label
    from soundbench.cli.meter import Meter

    if label is not None:
        refuse_label(label)
    place = places(out, label, split)
    microphone = Microphone(device, rate, channels, say=lambda text: click.echo(text, err=True))
    if microphone.rate != rate:
        click.echo(f"the device records at {microphone.rate} Hz; it is resampled to {rate} Hz", err=True)
    told = _Told(Meter())
    try:
        lost = record(microphone, place, rate, seconds, silence if split else None, told.level, told.take)
    finally:
        microphone.close()
    if lost:
        click.echo(f"{lost:,} samples were lost", err=True)
    if not told.takes:
        click.echo("nothing was loud enough for a take" if split else "nothing was recorded", err=True)


class _Told:
    """Shows how loud it is, and prints takes."""

    def __init__(self, meter: Meter) -> None:
        self._meter, self._began, self.takes = meter, time.monotonic(), 0

    def level(self, level: float) -> None:
        from soundbench.terminal import clock

        self._meter.show(level, f"{clock(time.monotonic() - self._began)}  takes: {self.takes}")

    def take(self, take: Take) -> None:
        self.takes += 1
        self._meter.clear()
        clipped = ", clipped" if take.peak > -0.001 else ""
        click.echo(f"{take.path}\t{take.seconds:.2f} s\tpeak {round(take.peak, 1) + 0.0:.1f} dB{clipped}")
