"""Audio encoders of transformers as featurizers: the hidden states of their layers.

Shapes: waveforms `(B, S)` to hidden states `(B, F, T)`, F the encoder's width. `layers.fronts` prepares their input.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

from soundbench import masks
from soundbench.errors import NotInstalled
from soundbench_plugins.layers.fronts import front_of
from soundbench_plugins.layers.torchaudio_import import import_torchaudio

__all__ = ["Encoder", "Layer", "save_example"]

Layer = int | Literal["weighted"]

# Samples computed at a time where there are no gradients. The first layers make a hundred numbers of each sample, and
# the memory of a batch, gigabytes, would be cleared by the kernel for every batch.
_TOGETHER = 64_000


class _Assets(str):
    """A folder of `assets`, which contains no weights."""


class Encoder(nn.Module):
    """A pretrained encoder, whose hidden states are the features.

    Its own layer dropout and masking are off in training, so that all random changes of a row are addressed draws and
    every layer is trained in every step. Parameters that the features do not depend on are not trained.

    Args:
        rate: sample rate in Hz.
        model: a local folder, or a name on the Hugging Face hub.
        layer: which hidden state: 0 is the input of the first layer, 1 its output, -1 the output of the last layer;
            "weighted" is a learned weighted sum of all of them.
        frozen: whether the encoder's weights are fixed.
        types: the allowed values of `model_type` in its configuration; empty for any.
    """

    unexportable: ClassVar[str] = "encoders of transformers are not exported; use it where PyTorch is installed"

    def __init__(
        self,
        rate: int,
        model: Path | str,
        layer: Layer,
        frozen: bool,
        types: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.config, self.extractor = _describe(model, rate, types)
        try:
            depth, self.bands = int(self.config.num_hidden_layers), int(self.config.hidden_size)
            self.front = front_of(self.config, self.extractor)
        except ValueError as error:
            raise ValueError(f"model must be an encoder {error}, is {str(model)!r}") from None
        except AttributeError as error:  # a model of text, say, with a feature extractor beside it
            raise ValueError(f"model must be an encoder of sound, is {str(model)!r}: {error}") from None
        if layer != "weighted" and not -1 - depth <= layer <= depth:
            raise ValueError(f'layer must be from 0 to {depth}, -1 for the last, or "weighted", is {layer}')
        self.layer = layer if layer == "weighted" else layer % (depth + 1)
        self.ragged, self.shortest = self.front.ragged, self.front.shortest
        self.encoder = _load(model, _trimmed(self.config, self.layer))
        if self.config.model_type == "wavlm":
            # It masks padding with booleans and biases attention with floats. torch correctly converts both to floats,
            # and warns at each call that this is deprecated. A permanent filter, since changing the filters around
            # each call is not safe with threads.
            warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask", UserWarning, "torch.nn.")
        self.frozen = frozen
        if frozen:
            self.encoder.requires_grad_(False).eval()
        else:
            self._freeze_unused()
        if self.layer == "weighted":
            self.weights = nn.Parameter(torch.zeros(depth + 1))

    @classmethod
    def from_assets(cls, folder: Path, rate: int, **options: Any) -> Self:
        """An encoder from the assets that another wrote into `folder`, without its weights."""
        return cls(rate, **options | {"model": _Assets(folder.absolute())})  # never a name on the hub

    def assets(self, folder: Path) -> None:
        """Write the configurations of the encoder and of its feature extractor."""
        self.config.save_pretrained(folder)
        self.extractor.save_pretrained(folder)

    def train(self, mode: bool = True) -> Self:
        """Set training mode, except for a frozen encoder."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms `(B, S)` to hidden states `(B, F, T)` and their lengths in frames `(B,)`."""
        waveform = masks.apply(masks.wide(waveform).float(), lengths)
        whole = (torch.is_grad_enabled() and not self.frozen) or waveform.device.type != "cpu"
        if whole or torch.compiler.is_compiling():  # in a compiled or exported graph the size of a batch is open
            return self._features(waveform, lengths)
        rows = max(1, _TOGETHER // max(1, waveform.shape[1]))
        if rows >= len(waveform):
            return self._features(waveform, lengths)
        parts = [
            self._features(*part) for part in zip(torch.split(waveform, rows), torch.split(lengths, rows), strict=True)
        ]
        longest = max(features.shape[2] for features, _ in parts)
        padded = [functional.pad(features, (0, longest - features.shape[2])) for features, _ in parts]
        return torch.cat(padded), torch.cat([lengths for _, lengths in parts])

    def _features(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        states, lengths = self._states(waveform, lengths)
        if self.layer == "weighted":
            shares = self.weights.softmax(0)
            mixed = sum(share * masks.wide(state) for share, state in zip(shares, states, strict=True))
        else:
            mixed = masks.wide(states[self.layer])
        return masks.apply(self.front.frames(mixed, lengths).transpose(1, 2).contiguous(), lengths), lengths

    def _states(self, waveform: Tensor, lengths: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        """Hidden states, each `(B, N, F)`, beginning with the input of the first layer."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            arguments, lengths = self.front(waveform, lengths)
            return self.encoder(**arguments, output_hidden_states=True).hidden_states, lengths

    def _freeze_unused(self) -> None:
        """Freeze the parameters that the features do not depend on, found by a trial run."""
        waveform = torch.linspace(-0.1, 0.1, 2 * self.shortest).unsqueeze(0)
        states, _ = self._states(waveform, torch.tensor([waveform.shape[1]]))
        out = torch.stack(list(states) if self.layer == "weighted" else [states[self.layer]]).sum()
        parameters = [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]
        for parameter, found in zip(parameters, torch.autograd.grad(out, parameters, allow_unused=True), strict=True):
            parameter.requires_grad_(found is not None)


def _describe(model: Path | str, rate: int, types: Sequence[str]) -> tuple[Any, Any]:
    """The configuration and the feature extractor of a model, checked for its sample rate."""
    name = str(model)
    if not name:
        raise ValueError("model must be a local folder or a name on the hub, is ''")
    local = _is_local(name)
    if not local and (name.startswith((".", "~")) or name.count("/") > 1 or Path(name).is_absolute()):
        raise ValueError(f"model must be an existing folder or a name on the hub, is {name!r}: no such folder")
    try:
        with _quiet():
            config = transformers.AutoConfig.from_pretrained(name, local_files_only=local, trust_remote_code=False)
            extractor = transformers.AutoFeatureExtractor.from_pretrained(
                name, local_files_only=local, trust_remote_code=False
            )
    except Exception as error:  # of several types, depending on what is missing
        what = "a folder with config.json and preprocessor_config.json"
        what = what if local else "an existing folder or a name on the hub"
        raise ValueError(f"model must be {what}, is {name!r}: {_first_line(error)}") from error
    if types and config.model_type not in types:
        raise ValueError(
            f'model must be of the type {" or ".join(types)}, is {config.model_type}; use = "transformers" takes any'
        )
    expected = getattr(extractor, "sampling_rate", rate)
    if expected != rate:
        raise ValueError(f"model must take sound at audio.rate, {rate} Hz, is {name!r}, which takes {expected} Hz")
    return config, extractor


def _trimmed(config: Any, layer: Layer) -> Any:
    """The configuration of the layers needed for a hidden state, with layer dropout and masking off."""
    config = copy.deepcopy(config)
    if layer != "weighted":
        # One layer more than needed: the last layer's state may be normalised, and the wanted one is not the last.
        config.num_hidden_layers = min(layer + 1, config.num_hidden_layers)
    for name in ("layerdrop", "encoder_layerdrop"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    config.apply_spec_augment = False
    return config


def _load(model: Path | str, config: Any) -> nn.Module:
    """The encoder, with weights from a folder or the hub; without weights from a folder of assets."""
    with _quiet():
        if isinstance(model, _Assets):
            return _encoder(transformers.AutoModel.from_config(config))
        try:
            found, info = transformers.AutoModel.from_pretrained(
                str(model),
                config=config,
                local_files_only=_is_local(str(model)),
                trust_remote_code=False,
                output_loading_info=True,
            )
        except Exception as error:
            raise ValueError(f"model must have weights that fit it, is {str(model)!r}: {_first_line(error)}") from error
    encoder = _encoder(found)
    missing = sorted(name for name in info["missing_keys"] if not name.startswith(("decoder.", "masked_spec_embed")))
    if missing:
        raise ValueError(
            f"model must have all its weights, is {str(model)!r}, which lacks {len(missing)}: {missing[0]}, ..."
        )
    return encoder.float()


def _encoder(found: Any) -> nn.Module:
    encoder: nn.Module = found.get_encoder() if found.config.is_encoder_decoder else found
    return encoder


def _is_local(model: str) -> bool:
    return Path(model).is_dir()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def save_example(folder: Path, config: type[transformers.PretrainedConfig]) -> dict[str, Any]:
    """Write a small untrained model similar to wav2vec 2.0, and return the options that name it."""
    small = config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=[16] * 7,
        feat_extract_norm="layer",
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    with _quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.AutoModel.from_config(small).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return {"model": str(folder)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the library's advice and progress bars, with a torchaudio that it can import."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with suppress(NotInstalled):  # the library works without it
                import_torchaudio()
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
