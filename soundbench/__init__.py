"""soundbench: train, evaluate and use models that classify sound.

    import soundbench

    recipe = soundbench.Recipe(dataset="tones", backbone="campplus")
    run = soundbench.run(recipe)
    run.metrics["accuracy"]
    soundbench.load(run).predict("a.wav")
    soundbench.Network  # and soundbench.backbones.CAMPPlus, ...: modules of PyTorch for a loop of one's own

Names are imported on first use: importing this package imports neither torch nor any plugin.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soundbench import (
        augmentations,
        backbones,
        calibrations,
        datasets,
        featurizers,
        losses,
        observers,
        optimizers,
        poolings,
        rejects,
        schedulers,
    )
    from soundbench.contracts import API_VERSION, Batch, Clip
    from soundbench.errors import SoundbenchError
    from soundbench.inference.classifier import Classifier
    from soundbench.inference.evaluation import evaluate
    from soundbench.inference.loading import load
    from soundbench.inference.predictions import Prediction
    from soundbench.model.assembly import create
    from soundbench.model.describing import describe
    from soundbench.model.network import Network
    from soundbench.recipe.catalogue import list_components
    from soundbench.recipe.composing import Recipe
    from soundbench.recipe.composing import read as read_recipe
    from soundbench.recipe.registry import Registry
    from soundbench.recipe.tables import Audio, Head, Split, Train
    from soundbench.report.results.run import Run
    from soundbench.studies.comparing.comparison import compare
    from soundbench.training.folds import run_folds
    from soundbench.training.run import resume, run

__all__ = [
    "API_VERSION",
    "Audio",
    "Batch",
    "Classifier",
    "Clip",
    "Head",
    "Network",
    "Prediction",
    "Recipe",
    "Registry",
    "Run",
    "SoundbenchError",
    "Split",
    "Train",
    "__version__",
    "augmentations",
    "backbones",
    "calibrations",
    "compare",
    "create",
    "datasets",
    "describe",
    "evaluate",
    "featurizers",
    "list_components",
    "load",
    "losses",
    "observers",
    "optimizers",
    "poolings",
    "read_recipe",
    "rejects",
    "resume",
    "run",
    "run_folds",
    "schedulers",
]

__version__ = "0.1.0"

_PLACES = {
    "API_VERSION": "contracts:API_VERSION",
    "Audio": "recipe.tables:Audio",
    "Batch": "contracts:Batch",
    "Classifier": "inference.classifier:Classifier",
    "Clip": "contracts:Clip",
    "Head": "recipe.tables:Head",
    "Network": "model.network:Network",
    "Prediction": "inference.predictions:Prediction",
    "Recipe": "recipe.composing:Recipe",
    "Registry": "recipe.registry:Registry",
    "Run": "report.results.run:Run",
    "SoundbenchError": "errors:SoundbenchError",
    "Split": "recipe.tables:Split",
    "Train": "recipe.tables:Train",
    "augmentations": "augmentations",
    "backbones": "backbones",
    "calibrations": "calibrations",
    "compare": "studies.comparing.comparison:compare",
    "create": "model.assembly:create",
    "datasets": "datasets",
    "describe": "model.describing:describe",
    "evaluate": "inference.evaluation:evaluate",
    "featurizers": "featurizers",
    "list_components": "recipe.catalogue:list_components",
    "load": "inference.loading:load",
    "losses": "losses",
    "observers": "observers",
    "optimizers": "optimizers",
    "poolings": "poolings",
    "read_recipe": "recipe.composing:read",
    "rejects": "rejects",
    "resume": "training.run:resume",
    "run": "training.run:run",
    "run_folds": "training.folds:run_folds",
    "schedulers": "schedulers",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        from soundbench.messages import nearest

        raise AttributeError(f"module 'soundbench' has no attribute {name!r}{nearest(name, __all__)}")
    module, _, attribute = _PLACES[name].partition(":")
    found = import_module(f"soundbench.{module}")
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return sorted(__all__)
