"""Models trained by macls 1.0.6, `models/<Model>_<feature>/best_model/`.

It saves there `model.pth`, a state dict, and `model.state`, JSON with the network's class. Features, network options
and labels are in files that its user keeps elsewhere: the YAML file of its training, and the label list that the YAML
names.

Its `predict` scores a whole file at once, as a long window does here; the level that it sets before is `audio.level`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from soundbench import files, limits
from soundbench.contracts import Imported
from soundbench.errors import CallError, NotInstalled, RunError
from soundbench_plugins.layers.tables import opened
from soundbench_plugins.layers.third_party_checkpoints import read_tensors, renamed

__all__ = ["macls"]

Table = dict[str, Any]

# Not used by macls: the layer of its PANNs for the classes of AudioSet.
_UNUSED = "fc_audioset."


def macls(path: Path, *, config: Path | None = None, labels: Path | None = None, window: float = 60.0) -> Imported:
    """A model trained by macls 1.0.6: the folder that contains model.pth.

    Args:
        path: that folder, or the one around it.
        config: YAML file that it was trained with. Default: the only one beside the model.
        labels: label list, one class per line. Default: the one that the YAML file names.
        window: length of the windows in seconds. macls scores a whole sound at once; here, a sound longer than this is
            scored in several windows, and their scores are averaged.
    """
    folder = _folder(path)
    settings = Settings.read(config or _config(folder))
    name, networks = _name(settings, folder), _networks()
    if name not in networks:
        known = ", ".join(item for item in networks if item != "any")
        raise RunError(f"{settings.source}: model_conf.model: {name} is not a network of macls; known: {known}")
    weights = _weights(folder / "model.pth", [networks[name], networks["any"]])
    classes = _classes(settings, labels, folder)
    count = len(weights.get("head.classify.bias", classes))
    if count != len(classes):
        raise CallError(f"{folder} has {count} classes, but the label list names {len(classes)}: give it with --labels")
    audio, featurizer, notes = _sound(settings, window)
    tables = {"classes": classes, "multilabel": False, "audio": audio, "featurizer": featurizer}
    tables |= _network(networks[name], settings, count)
    tables["loss"] = {"use": "cross-entropy", "smoothing": float(settings.take("train_conf.label_smoothing", 0.0))}
    method = str(settings.take("preprocess_conf.feature_method", "Fbank"))
    return Imported(f"{name}_{Path(method).name}", tables, weights, notes=notes)


# -- files ---------------------------------------------------------------------------------------------------------


def _folder(path: Path) -> Path:
    """The folder that contains model.pth: the one given, or its `best_model`."""
    for folder in (path, path / "best_model"):
        if (folder / "model.pth").is_file():
            return folder
    raise RunError(f"{path}: not a model of macls: model.pth is missing")


def _config(folder: Path) -> Path:
    places = (folder, folder.parent)
    found = [file for place in places for kind in ("*.yml", "*.yaml") for file in sorted(place.glob(kind))]
    if len(found) == 1:
        return found[0]
    why = f"there are {len(found)} beside it" if found else "macls does not save it with the model"
    raise CallError(f"{folder}: give the YAML file of its training, such as --config configs/cam++.yml; {why}")


def _name(settings: Settings, folder: Path) -> str:
    """The network's class, from the YAML and, if it exists, model.state."""
    try:
        state = files.parse_json(files.read_bytes(folder / "model.state", limits.TEXT))
    except FileNotFoundError:
        state = {}
    except OSError as error:
        raise RunError(f"{folder / 'model.state'}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"{folder / 'model.state'}: damaged: {error}") from error
    kept = str(state.get("model", "")) if isinstance(state, dict) else ""
    name = str(settings.take("model_conf.model", kept))
    if kept and name != kept:
        raise CallError(f"{settings.source}: is for a {name}, but {folder} holds a {kept}: give its file with --config")
    return name


def _classes(settings: Settings, labels: Path | None, folder: Path) -> list[str]:
    """The lines of the label list."""
    named = Path(str(settings.take("dataset_conf.label_list_path", "dataset/label_list.txt")))
    beside = settings.source.absolute().parent
    places = [labels] if labels else [named, beside / named, beside.parent / named, folder / named.name]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        tried = ", ".join(str(place) for place in dict.fromkeys(places))
        raise CallError(f"{folder}: label list not found: give it with --labels (tried {tried})")
    with opened(found, limits.TEXT) as text:
        return text.read().replace("\r\n", "\n").removesuffix("\n").split("\n")


class Settings:
    """The content of the YAML.

    Args:
        source: its path.
        tables: its tables.
    """

    def __init__(self, source: Path, tables: Table) -> None:
        self.source, self.tables = source, tables

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Read a YAML file."""
        try:
            import yaml
        except ModuleNotFoundError as error:
            message = 'importer "macls" needs PyYAML, which is not installed: pip install "soundbench[yaml]"'
            raise NotInstalled(message) from error
        try:
            text = files.read_bytes(path, limits.YAML).decode()
            depth = 0
            for token in yaml.scan(text, yaml.SafeLoader):  # before it is read, which could take hours
                if (kind := type(token).__name__).startswith(("Flow", "Block")):
                    depth += kind.endswith("StartToken") - kind.endswith("EndToken")
                if depth > limits.NESTING:
                    raise CallError(f"{path}: nested too deeply")
                if isinstance(token, yaml.AliasToken):
                    raise CallError(f"{path}: has aliases (*name), which are not read: write the values in their place")
            found = yaml.safe_load(text)
        except OSError as error:
            raise CallError(f"{path}: cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, ValueError) as error:  # of a text, a date or a number that cannot be
            raise CallError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(found, dict) or "model_conf" not in found:
            raise CallError(f"{path}: not a configuration of macls: model_conf is missing")
        return cls(path, found)

    def take(self, key: str, default: Any) -> Any:
        """The value of a dotted key; the default where it is missing or null."""
        *above, last = key.split(".")
        value = self.table(".".join(above)).get(last)
        return default if value is None else value

    def table(self, key: str) -> Table:
        """A table; empty where it is missing or null."""
        node: Any = self.tables
        for part in key.split("."):
            node = node.get(part) or {}
            if not isinstance(node, dict):
                raise CallError(f"{self.source}: {key} must be a table, is {node!r}")
        return dict(node)


class Options:
    """The arguments of a network or of its features; each may be taken once.

    Args:
        given: the arguments by name; null values are left out.
        source: path of the YAML, for messages.
    """

    def __init__(self, given: Table, source: Path) -> None:
        self.given = {name: value for name, value in given.items() if value is not None}
        self.source = source

    def take(self, name: str, default: Any) -> Any:
        """The value, or its default."""
        return self.given.pop(name, default)

    def only(self, name: str, *allowed: Any) -> None:
        """Refuse a value that soundbench does not support."""
        value = self.given.pop(name, allowed[0])
        if value not in allowed:
            raise RunError(f"{self.source}: {name}: {value!r} cannot be imported, {allowed[0]!r} can")

    def spread(self) -> None:
        """Split ECAPA-TDNN's lists for its five layers; the three blocks in the middle are alike here."""
        channels, dilations = self.given.get("channels"), self.given.get("dilations")
        if isinstance(channels, list):
            if len(channels) != 5 or len(set(channels[:4])) > 1:
                raise RunError(f"{self.source}: channels: must be four equal widths and a fifth, is {channels}")
            self.given |= {"channels": channels[0], "aggregation": channels[4]}
        if isinstance(dilations, list):
            if len(dilations) != 5 or dilations[0] != 1 or dilations[4] != 1:
                raise RunError(f"{self.source}: dilations: must be 1, three others and 1, is {dilations}")
            self.given["dilations"] = dilations[1:4]

    def done(self) -> None:
        """Refuse arguments that were not taken."""
        if self.given:
            raise RunError(f"{self.source}: cannot be imported with {', '.join(sorted(self.given))}")


# -- sound ---------------------------------------------------------------------------------------------------------


def _sound(settings: Settings, window: float) -> tuple[Table, Table, list[str]]:
    """The audio and featurizer tables, and notes on differences."""
    rate = int(settings.take("dataset_conf.dataset.sample_rate", 16000))
    level: float | str = "off"
    if settings.take("dataset_conf.dataset.use_dB_normalization", True):
        level = float(settings.take("dataset_conf.dataset.target_dB", -20.0))
    method = str(settings.take("preprocess_conf.feature_method", "Fbank"))
    if settings.take("preprocess_conf.use_hf_model", False) or method not in FEATURES:
        raise RunError(
            f"{settings.source}: features of {method} cannot be imported, only {', '.join(FEATURES)}: "
            "macls computes other features with a transformers model that it does not save"
        )
    options = Options(settings.table("preprocess_conf.method_args"), settings.source)
    featurizer, notes = FEATURES[method](options, rate)
    options.done()
    return {"rate": rate, "window": float(window), "level": level}, featurizer, notes


def _fbank(options: Options, rate: int) -> tuple[Table, list[str]]:
    options.only("sample_frequency", rate)
    options.only("dither", 0.0)
    options.only("window_type", "povey")
    table = {
        "use": "fbank",
        "bands": options.take("num_mel_bins", 23),
        "frame": options.take("frame_length", 25.0) / 1000,
        "hop": options.take("frame_shift", 10.0) / 1000,
        "low": float(options.take("low_freq", 20.0)),
        "high": float(options.take("high_freq", 0.0)),
        "preemphasis": float(options.take("preemphasis_coefficient", 0.97)),
        "normalize": "mean",
    }
    return table, []


def _frames(options: Options) -> Table:
    """The options common to torchaudio's transforms: lengths in samples, no logarithm."""
    n_fft = options.take("n_fft", 400)
    frame = options.take("win_length", n_fft)
    hop = options.take("hop_length", frame // 2)
    return {"frame": frame, "hop": hop, "n_fft": n_fft, "power": float(options.take("power", 2.0))}


def _bands(options: Options, rate: int) -> Table:
    options.only("sample_rate", rate)
    return {
        "low": float(options.take("f_min", 0.0)),
        "high": float(options.take("f_max", rate / 2)),
        "scale": options.take("mel_scale", "htk"),
        "norm": options.take("norm", "none"),
    }


def _mel_spectrogram(options: Options, rate: int) -> tuple[Table, list[str]]:
    table = {"use": "mel-spectrogram", "bands": options.take("n_mels", 128), **_bands(options, rate)}
    return {**table, **_frames(options), "log": "none", "normalize": "mean"}, []


def _spectrogram(options: Options, rate: int) -> tuple[Table, list[str]]:
    return {"use": "spectrogram", **_frames(options), "log": "none", "normalize": "mean"}, []


def _mfcc(options: Options, rate: int) -> tuple[Table, list[str]]:
    options.only("sample_rate", rate)
    inner = Options(options.take("melkwargs", {}), options.source)
    frames = _frames(inner)
    if frames.pop("power") != 2.0:
        raise RunError(f"{options.source}: melkwargs.power: only 2 can be imported")
    bands = _bands(inner, rate) | {"bands": inner.take("n_mels", 128)}
    inner.done()
    table = {"use": "mfcc", "coefficients": options.take("n_mfcc", 40), **bands, **frames}
    note = "MFCC: macls cuts levels 80 dB below a file's maximum, here the floor is -100 dB: scores differ slightly"
    return {**table, "log": "decibel", "normalize": "mean"}, [note]


FEATURES: dict[str, Callable[[Options, int], tuple[Table, list[str]]]] = {
    "Fbank": _fbank,
    "MelSpectrogram": _mel_spectrogram,
    "Spectrogram": _spectrogram,
    "MFCC": _mfcc,
}


# -- networks ------------------------------------------------------------------------------------------------------


def _networks() -> dict[str, Table]:
    """The description of each network, from the TOML file beside this one."""
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def _weights(path: Path, networks: list[Table]) -> dict[str, Tensor]:
    """The tensors, renamed to the parameter names of soundbench's network."""
    used = {name: tensor for name, tensor in read_tensors(path).items() if not name.startswith(_UNUSED)}
    parts = [named for network in networks for named in network["names"].items()]
    return renamed(used, {theirs: f"{part}.{ours}" for part, names in parts for theirs, ours in names.items()})


def _network(network: Table, settings: Settings, classes: int) -> Table:
    """The tables of backbone, pooling and head."""
    options = Options(settings.table("model_conf.model_args"), settings.source)
    options.only("num_class", classes)
    options.spread()
    for name, allowed in network.get("only", {}).items():
        options.only(name, *allowed)
    for name in network.get("ignored", ()):
        options.take(name, None)
    backbone = dict(network["backbone"])
    for name, (ours, default) in network.get("arguments", {}).items():
        backbone[ours] = options.take(name, default)
    head = {**network["head"], "embedding": options.take("embd_dim", network["head"]["embedding"])}
    pooling = network.get("pooling") or _pooling(options)
    options.done()
    return {"backbone": backbone, "pooling": pooling, "head": head}


def _pooling(options: Options) -> Table:
    """The pooling table of networks that can have any of four."""
    attention, context = options.take("attention_channels", 128), options.take("global_context", True)
    kinds: dict[str, Table] = {
        "ASP": {"use": "asp", "attention": attention, "context": context},
        "SAP": {"use": "sap"},
        "TAP": {"use": "tap"},
        "TSP": {"use": "tsp", "spread": "variance"},
    }
    kind = options.take("pooling_type", "ASP")
    if kind not in kinds:
        raise RunError(f"{options.source}: pooling_type: {kind!r} cannot be imported, only {', '.join(kinds)}")
    return kinds[kind]
