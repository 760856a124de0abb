"""Options that several commands share: the same name has the same meaning and the same help everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from soundbench import limits
from soundbench.cli import output

__all__ = [
    "PATH",
    "SCORE",
    "accept_changes",
    "batch",
    "cache",
    "device",
    "event_rules",
    "hop",
    "json_object",
    "list_microphones",
    "microphone",
    "no_cache",
    "precision",
    "processes",
    "raw_samples",
    "model",
    "recipe",
    "run_there",
    "set_keys",
    "start_times",
    "trust_code",
    "window",
]

Command = TypeVar("Command", bound=Callable[..., Any])


class _Path(click.Path):
    """A path; an empty text is none: it would be the working folder, as `--out "$WHERE"` with a misspelt variable."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, unless the text is empty."""
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


PATH = _Path(path_type=Path)
SCORE = click.FloatRange(0, 1)

# Recipes and results --------------------------------------------------------------------------------------------------


def _say_which(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    """Refuse what is no recipe; say it where the name of one of soundbench stands for a file of the working folder."""
    from soundbench.recipe.reading import find_recipe, is_bare, shipped_recipes

    if name is not None:
        found = find_recipe(name)  # before torch is imported: a typo costs no second
        if is_bare(name) and name in shipped_recipes() and found != shipped_recipes()[name]:
            output.say(f"{name}: the file {found} of this folder, not the recipe of soundbench with this name")
    return name


def _complete_recipe(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    from soundbench.recipe.reading import shipped_recipes

    names = [CompletionItem(name) for name in shipped_recipes() if name.startswith(begun)]
    return [CompletionItem(begun, type="file"), *names]  # bash drops what stands before a file


def recipe(required: bool = True) -> Callable[[Command], Command]:
    """A recipe: the path of a file, or the name of one that ships with soundbench."""
    return click.argument("recipe", required=required, callback=_say_which, shell_complete=_complete_recipe)


def _known(_: click.Context, __: click.Parameter, path: str) -> str:
    from soundbench.model.named.names import refuse_missing

    refuse_missing(path)
    return path


def model(name: str = "run") -> Callable[[Command], Command]:
    """A run directory, its model folder, an exported file, or the name of an installed model: what is there, by name.

    It is looked for before anything of the command is imported, so that a typo costs no second.
    """
    return click.argument(name, callback=_known)


def run_there(_: click.Context, __: click.Parameter, given: Any) -> Any:
    """A callback for the paths of run directories: refuses one that is not there, likewise."""
    from soundbench.errors import RunPlaceError
    from soundbench.model.named.names import installed

    for path in given if isinstance(given, tuple) else (given,):
        if path is not None and not path.exists():
            named = str(path) in [model.name for model in installed()]
            hint = "; it is an installed model, and this command is for runs" if named else ""
            raise RunPlaceError(f"{path}: no such run directory{hint}")
    return given


set_keys = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the recipe, such as train.epochs=5. May be repeated.",
)
json_object = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
trust_code = click.option("--trust-code", is_flag=True, help="Allow Python code stored with the run to be executed.")
accept_changes = click.option(
    "--accept-changes",
    is_flag=True,
    help="Accept files of a run or model that were changed since soundbench wrote them.",
)

# The machine ----------------------------------------------------------------------------------------------------------


def device(default: str | None = "auto") -> Callable[[Command], Command]:
    """The device to compute on; without a default, that of the recipe."""
    shown = default or "the recipe's train.device"
    return click.option(
        "--device",
        default=default,
        metavar="DEVICE",
        help=f"Device to compute on: auto, cpu, cuda or cuda:N. Default: {shown}.",
    )


precision = click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    help="Precision that the network computes in. bf16 is faster on GPUs, and on CPUs with AMX or AVX512-BF16; scores "
    "differ by up to about 0.03. Default: fp32.",
)
processes = click.option(
    "--processes",
    type=click.IntRange(1, limits.THREADS),
    default=1,
    metavar="N",
    help="Number of processes to divide the work among. Default: 1.",
)
cache = click.option(
    "--cache",
    type=PATH,
    metavar="DIR",
    help="Folder that keeps decoded sound. Default: $SOUNDBENCH_CACHE, or the user's cache folder.",
)
no_cache = click.option("--no-cache", is_flag=True, help="Delete the decoded sound when done. Default: keep it.")

# Windows and events ---------------------------------------------------------------------------------------------------

window = click.option("--window", type=float, metavar="SECONDS", help="Length of the windows. Default: the model's.")
hop = click.option(
    "--hop",
    type=float,
    metavar="SECONDS",
    help="Time between the starts of windows. Default: --window, or the model's hop.",
)
batch = click.option(
    "--batch",
    type=click.IntRange(1),
    metavar="N",
    help="Number of windows processed together. Default: those of one minute of sound, at most 32, or those of "
    "half a minute, at most 256.",
)

_EVENT_RULES = (
    click.option(
        "--off",
        type=SCORE,
        metavar="SCORE",
        help="Score at which an event begins and below which it ends. Default: 0.8 x the threshold.",
    ),
    click.option(
        "--smooth",
        type=int,
        default=1,
        metavar="N",
        help="Average scores over N windows before finding events; N is odd. Default: 1.",
    ),
    click.option(
        "--shortest", type=float, default=0.0, metavar="SECONDS", help="Drop events shorter than this. Default: 0."
    ),
    click.option(
        "--gap",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="Join events of a class that are no further apart than this. Default: 0.",
    ),
    click.option(
        "--refractory",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="Drop events that begin within this time after another of their class. Default: 0.",
    ),
)


def _with(added: Sequence[Callable[[Command], Command]], command: Command) -> Command:
    """The command with options, in their order."""
    for option in reversed(added):
        command = option(command)
    return command


def event_rules(command: Command) -> Command:
    """How scores become events: the fields of `EventRules` but `on`, which is the threshold."""
    return _with(_EVENT_RULES, command)


# Date and time --------------------------------------------------------------------------------------------------------

_START_TIMES = (
    click.option(
        "--time-from",
        type=click.Choice(["auto", "header", "name", "none"]),
        help="Where to look for the date and time at which a recording began: in its header, in its name, or in the "
        "header and else in the name (auto). Default: auto, or name with --time-pattern.",
    ),
    click.option(
        "--time-pattern",
        metavar="PATTERN",
        help="How file names state date and time, with the letters of strptime and * for anything, such as "
        "REC_%Y%m%d-%H%M%S. Default: as known recorders do, and as ISO 8601.",
    ),
)


def start_times(command: Command) -> Command:
    """When recordings began: the arguments of `StartTimes`."""
    return _with(_START_TIMES, command)


# Pipes ----------------------------------------------------------------------------------------------------------------

_RAW_SAMPLES = (
    click.option(
        "--format",
        "form",
        metavar="FORMAT",
        help="Format of raw samples on standard input, as arecord or FFmpeg call it: S16_LE, s16le, S24_3LE, f32le, "
        "mulaw, ... Default: expect a WAV file.",
    ),
    click.option(
        "--rate",
        type=click.IntRange(1),
        metavar="HZ",
        help="Sample rate of raw samples on standard input. Default: none; --format needs it.",
    ),
    click.option(
        "--channels",
        type=click.IntRange(1),
        metavar="N",
        help="Channels of raw samples on standard input, one sample of each in turn. Default: 1.",
    ),
)


def raw_samples(command: Command) -> Command:
    """What raw samples in a pipe are."""
    return _with(_RAW_SAMPLES, command)


# Microphones ----------------------------------------------------------------------------------------------------------


def _list_microphones(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    """Print the devices that can record, and exit."""
    if not asked or ctx.resilient_parsing:
        return
    from soundbench.audio import microphone as microphones
    from soundbench.errors import DeviceError

    found = microphones.list_devices()
    if not found:
        raise DeviceError("no microphone: this machine has no audio input device")
    for one in found:
        mark = "*" if one["default"] else " "
        output.result(f"{mark} {one['index']:2}  {one['name']}  ({one['channels']} channels, {one['rate']} Hz)")
    ctx.exit()


microphone = click.option(
    "--microphone", "mic", metavar="NAME", help="Microphone, by number or part of its name. Default: the system's."
)
list_microphones = click.option(
    "--list-microphones",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_microphones,
    help="List the microphones and exit.",
)
