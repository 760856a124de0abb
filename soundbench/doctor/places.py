"""Where things are kept: the cache folder, the disk, fonts for figures, and what the environment changes."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from soundbench.doctor.finding import Finding, absent, broken, ok
from soundbench.errors import CallError

__all__ = ["cache", "disk", "fonts", "settings"]

# Variables of the environment that change what soundbench does.
_VARIABLES = (
    "SOUNDBENCH_CACHE",
    "SOUNDBENCH_PLUGINS",
    "XDG_CACHE_HOME",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "CUDA_VISIBLE_DEVICES",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "MPLCONFIGDIR",
    "NO_COLOR",
)
# Gigabytes that should be free: a training of ten thousand clips of a few seconds, with its checkpoints.
_FREE = 2.0
# Words for "bird" in scripts that class names are written in.
_SCRIPTS = {
    "Latin": "bird",
    "Greek": "πουλί",
    "Cyrillic": "птица",
    "Chinese": "鸟鳥",
    "Japanese": "とりトリ",
    "Korean": "새",
    "Arabic": "طائر",
    "Hebrew": "ציפור",
    "Devanagari": "पक्षी",
    "Thai": "นก",
}


def cache() -> Finding:
    """The cache folder: its size, and whether a file can be written to it, or to the folder it would be made in."""
    from soundbench.data.store import cache_folder

    folder = cache_folder().absolute()
    there = _existing(folder)
    cure = "set SOUNDBENCH_CACHE to a folder that you may write to, or give --cache DIR"
    if not there.is_dir():
        return broken(f"{folder}: {there} is not a folder", cure=cure)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"0")
    except OSError as error:
        return broken(f"{folder}: {there} cannot be written to: {(error.strerror or str(error)).lower()}", cure=cure)
    if there != folder:
        return ok(f"{folder}, which the first run makes", {"place": str(folder), "size": 0})
    size = _size(folder)
    return ok(f"{folder}, {size / 1e9:.1f} GB; soundbench cache list shows it", {"place": str(folder), "size": size})


def _size(folder: Path) -> int:
    """Bytes of the files in a folder; those that cannot be looked at count nothing."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except OSError:
                continue
    return total


def _existing(folder: Path) -> Path:
    """The folder, or what is nearest above it and exists."""
    return next(one for one in (folder, *folder.parents) if os.path.lexists(one))


def disk() -> Finding:
    """What is free where runs are written, the working folder, and where decoded sound is kept."""
    from soundbench.data.store import cache_folder

    places = {"working folder": Path.cwd()}
    with suppress(CallError):  # that it is not known is said by its own check
        places["cache"] = _existing(cache_folder().absolute())
    free = {name: shutil.disk_usage(place).free / 1e9 for name, place in places.items()}
    says = ", ".join(f"{size:.1f} GB free for the {name}" for name, size in free.items())
    values = {name: round(size, 1) for name, size in free.items()}
    if min(free.values()) < _FREE:
        return absent(f"less than {_FREE:g} GB: {says}", values, "soundbench cache prune --unused 30")
    return ok(says, values)


def fonts() -> Finding:
    """The scripts that a figure can show; a figure with a name that it cannot show has numbers instead of names."""
    from soundbench.report.figures import drawing

    can = []
    for script, word in _SCRIPTS.items():
        with drawing(word) as legible:
            can += [script] * legible
    cannot = [script for script in _SCRIPTS if script not in can]
    values = {"can": can, "cannot": cannot}
    if "Latin" not in can:
        return broken("matplotlib finds no font", values, "pip install --force-reinstall matplotlib")
    without = f"; not {', '.join(cannot)}, where figures number the classes" if cannot else ""
    cure = "install fonts for them, such as Noto (Debian and Ubuntu: apt install fonts-noto)" if cannot else ""
    return ok(f"{', '.join(can)}{without}", values, cure)


def settings() -> Finding:
    """Variables of the environment that change what soundbench does."""
    found = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    return ok(", ".join(f"{name}={value}" for name, value in found.items()) or "none is set", found)
