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
import sys
from importlib.metadata import entry_points
from pathlib import Path

import attrs

from soundbench.errors import BrokenPlugin, CallError, ClaimedTwice
from soundbench.messages import escaped, nearest
from soundbench.recipe.entry_points import allowed, origins_of

__all__ = ["GROUP", "NO_SUCH", "NamedModel", "installed", "model_path", "refuse_missing"]

GROUP = "soundbench.model"

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

    def folder(self) -> Path:
        """Its model folder.

        Raises:
            BrokenPlugin: the package has no such folder.
        """
        package, *inside = self.value.split(".")
        try:
            spec = importlib.util.find_spec(package)  # of a package that is in no other, which imports nothing
        except (ImportError, ValueError):
            spec = None
        for place in (spec.submodule_search_locations if spec else None) or ():
            if (folder := Path(place, *inside)).is_dir():
                return folder
        where = f"{'/'.join((package, *inside))}, its folder in the package, is missing"
        raise BrokenPlugin(f'model "{self.name}" ({self.origin}): {where}; install {self.distribution} again')


def installed() -> list[NamedModel]:
    """The models of all installed distributions, by name; with `SOUNDBENCH_PLUGINS`, of those that it names."""
    entries = allowed(entry_points(group=GROUP))
    listed = {NamedModel(one.name, *origin[:2], one.value.strip()) for one, origin in origins_of(entries)}
    return sorted(listed)


def model_path(path: str | os.PathLike[str]) -> Path:
    """The path that a caller gives as a run or model: a file or folder, or else the model folder of an installed model.

    A name that is a file or folder too is that one, which a line on standard error says. Whether a path is there is
    left to the caller, unless it may be meant as a name: it has no folder before it.

    Raises:
        CallError: it is empty, or there is neither a file or folder nor a model of this name.
        ClaimedTwice: two distributions bring a model of this name.
        BrokenPlugin: its folder is missing.
    """
    text = os.fspath(path)
    if not text:
        raise CallError("the name of the run or model is empty: give a run directory or a name of soundbench models")
    if os.path.basename(text) != text or text in ("", ".", ".."):
        return _no_name(Path(path))
    models = installed()
    same = [model for model in models if model.name == text]
    if os.path.lexists(text):
        if same:
            _say_once(f"{text}: taken for the {_kind(text)} of this name here, not for the model of {same[0].origin}")
        return Path(path)
    if len(same) > 1:
        brought = " and ".join(f"{model.origin} ({model.value})" for model in same)
        raise ClaimedTwice(f'two models are called "{text}", of {brought}: uninstall one, or give the path of a folder')
    if not same:
        names = list(dict.fromkeys(model.name for model in models))
        listed = f"{nearest(text, names) or ';'} installed: {', '.join(names) or 'none'} (see soundbench models)"
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
