"""Models by name: an entry point of the group `soundbench.model` names a model folder that ships in a package.

    [project.entry-points."soundbench.model"]
    owls = "acme_sounds.models.owls"

The value is the folder's path from the package on, with dots. It is found by metadata: nothing is imported, neither the
package nor torch.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import sys
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path

import attrs

from soundbench.errors import BrokenPlugin, CallError, ClaimedTwice
from soundbench.messages import escaped, nearest
from soundbench.recipe.entry_points import MODELS, allowed, only_allowed, origins_of

__all__ = ["GROUP", "NO_SUCH", "NamedModel", "bringing", "installed", "model_path", "refuse_missing"]

GROUP = MODELS

NO_SUCH = "no such run directory, model folder or ONNX file"


@attrs.frozen(order=True)
class NamedModel:
    """A model that an installed distribution brings.

    Attributes:
        name: the name that commands take.
        distribution: the distribution that provides it.
        version: the version of the distribution.
        value: where its folder is: the package and the folders in it, with dots between.
    """

    name: str
    distribution: str
    version: str
    value: str

    @property
    def origin(self) -> str:
        """The distribution and its version."""
        return f"{self.distribution} {self.version}".strip()

    @property
    def can_be_given(self) -> bool:
        """Whether a command can be given its name: it is neither a path nor an option."""
        return not (_is_path(self.name) or self.name.startswith("-"))

    @property
    def cure(self) -> str:
        """What makes its files good again."""
        return f"install {self.origin} again"

    def folder(self) -> Path:
        """Its model folder.

        Raises:
            BrokenPlugin: the name or the value cannot be one, or the package has no such folder.
        """
        if not self.can_be_given:
            raise self._broken("no command can be given this name: it is a path, or begins with a hyphen")
        package, *inside = self.value.split(".")
        if not all((package, *inside)) or re.search(r"[\s/\\:\[\]]", self.value):
            given = f'its entry point has the value "{self.value}", which is no path with dots from the package on'
            raise self._broken(f"{given}, such as acme_sounds.models.owls")
        try:
            spec = importlib.util.find_spec(package)  # of a package that is in no other, which imports nothing
        except (ImportError, ValueError):
            spec = None
        for place in (spec.submodule_search_locations if spec else None) or ():
            if (folder := Path(place, *inside)).is_dir():
                return folder
        missing = f"{'/'.join((package, *inside))}, its folder in the package," if spec else f"its package {package}"
        raise self._broken(f"{missing} is missing; {self.cure}")

    def is_in(self, folder: Path) -> bool:
        """Whether a folder is its model folder."""
        with suppress(BrokenPlugin, OSError):
            return folder.samefile(self.folder())
        return False

    def place(self) -> str:
        """Its model folder for a message, or what stands for it."""
        try:
            return str(self.folder())
        except BrokenPlugin:
            return self.value

    def _broken(self, why: str) -> BrokenPlugin:
        return BrokenPlugin(f'model "{self.name}" ({self.origin}): {why}')


def installed() -> list[NamedModel]:
    """The models of all installed distributions, by name; with `SOUNDBENCH_PLUGINS`, of those that it names."""
    entries = allowed(entry_points(group=GROUP))
    listed = {NamedModel(one.name, *origin[:2], one.value.strip()) for one, origin in origins_of(entries)}
    return sorted(listed)


def bringing(folder: Path) -> NamedModel | None:
    """The installed model that a folder is of, which is for the package alone to change; None if there is none."""
    return next((model for model in installed() if model.is_in(folder)), None)


def model_path(path: str | os.PathLike[str]) -> Path:
    """The path that a caller gives as a run or model: a file or folder, or else the model folder of an installed model.

    A name that is a file or folder too is that one, which a line on standard error says. Whether a path is there is
    left to the caller, unless it may be meant as a name: it has no folder before it.

    Raises:
        CallError: it is no path, or empty, or there is neither a file or folder nor a model of this name.
        ClaimedTwice: two distributions bring a model of this name.
        BrokenPlugin: its folder is missing.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(text := os.fspath(path), str):
        raise CallError(f"a run or model must be a path or a name, as str or Path, is {path!r}")
    if not text:
        raise CallError("the name of the run or model is empty: give a run directory or a name of soundbench models")
    if _is_path(text):
        return _no_name(Path(path))
    models = installed()
    same = [model for model in models if model.name == text]
    if os.path.lexists(text):
        if same:
            taken = f"{text}: taken for the {_kind(text)} of this name here, not for the model of {same[0].origin}"
            _say_once(f"{taken}; for that, call it from another folder")
        return Path(path)
    if len(same) > 1:
        brought = " and ".join(f"{model.origin} ({model.place()})" for model in same)
        raise ClaimedTwice(f'two models are called "{text}", of {brought}: uninstall one, or give the path of a folder')
    if not same:
        names = list(dict.fromkeys(model.name for model in models if model.can_be_given))
        listed = f"{nearest(text, names) or ';'} installed: {', '.join(names) or 'none'}{only_allowed()}"
        listed += " (see soundbench models)"
        raise CallError(f"{text}: no such run directory, model folder, ONNX file or installed model{listed}")
    return same[0].folder()


def refuse_missing(path: str | os.PathLike[str]) -> None:
    """Refuse what is neither there nor the name of an installed model; without torch, so that a typo is told at once.

    Raises:
        CallError: there is nothing.
        PluginError: the installed model of this name cannot be used.
    """
    if not os.path.lexists(path) and not model_path(path).exists():
        raise CallError(f"{os.fspath(path)}: {NO_SUCH}")


def _is_path(text: str) -> bool:
    """Whether what is given as a run or model cannot be a name."""
    return os.path.basename(text) != text or text in ("", ".", "..")


def _no_name(path: Path) -> Path:
    """A path that was given with a folder, such as `./owls`, as one that is not taken for the name of a model later."""
    bare = len(path.parts) == 1 and not path.is_absolute()
    return Path.cwd() / path if bare and path.name in [model.name for model in installed()] else path


def _kind(path: str) -> str:
    return "folder" if os.path.isdir(path) else "file"


@functools.cache
def _say_once(line: str) -> None:
    """Print a line to standard error, once in a program, though a command looks for its model several times."""
    from soundbench import distributed  # with torch, which a listing does without

    if distributed.is_main():
        print(escaped(line), file=sys.stderr, flush=True)
