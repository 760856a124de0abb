"""soundbench: teach a machine to know sounds.

    import soundbench

    recipe = soundbench.Recipe(dataset="tones", backbone="campplus")
    run = soundbench.run(recipe)
    soundbench.load(run.path).predict("a.wav")

Names are resolved when they are used: importing this package imports neither torch nor any plugin.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = [
    "Audio",
    "Batch",
    "Classifier",
    "Clip",
    "Head",
    "Network",
    "Prediction",
    "Recipe",
    "Registry",
    "Split",
    "SoundbenchError",
    "Train",
    "__version__",
    "describe",
    "evaluate",
    "load",
    "read_recipe",
    "resume",
    "run",
    "run_folds",
]

__version__ = "0.1.0"

_PLACES = {
    "Audio": "recipe:Audio",
    "Batch": "contracts:Batch",
    "Classifier": "classifier:Classifier",
    "Clip": "contracts:Clip",
    "Head": "recipe:Head",
    "Network": "network:Network",
    "Prediction": "predictions:Prediction",
    "Recipe": "recipe:Recipe",
    "Registry": "registry:Registry",
    "SoundbenchError": "errors:SoundbenchError",
    "Split": "recipe:Split",
    "Train": "recipe:Train",
    "describe": "describing:describe",
    "evaluate": "evaluating:evaluate",
    "load": "classifier:load",
    "read_recipe": "recipe:read",
    "resume": "running:resume",
    "run": "running:run",
    "run_folds": "folds:run_folds",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'soundbench' has no attribute {name!r}")
    module, attribute = _PLACES[name].split(":")
    return getattr(import_module(f"soundbench.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
