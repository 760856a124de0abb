"""Pretrained encoders against the library's own, and their promises to the rows of a batch; all small and local."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers")

from soundbench_plugins.featurizer.transformers_encoder import Transformers  # noqa: E402
from soundbench_plugins.featurizer.wav2vec2 import Wav2Vec2  # noqa: E402
from soundbench_plugins.featurizer.wavlm import WavLM  # noqa: E402

import soundbench  # noqa: E402
from soundbench.errors import RecipeError  # noqa: E402
from soundbench.model.network import Network  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
KIN = SMALL | {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
LAYER = KIN | {"feat_extract_norm": "layer"}


def _waves(config: Any) -> tuple[Any, Any]:
    return config, transformers.Wav2Vec2FeatureExtractor()


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "wavlm": lambda: _waves(transformers.WavLMConfig(**LAYER)),
    "wavlm-stable": lambda: _waves(transformers.WavLMConfig(do_stable_layer_norm=True, **LAYER)),
    "wav2vec2": lambda: _waves(transformers.Wav2Vec2Config(do_stable_layer_norm=True, **LAYER)),
    "hubert": lambda: _waves(transformers.HubertConfig(**LAYER)),
    "unispeech": lambda: _waves(transformers.UniSpeechConfig(**LAYER)),
    "unispeech-sat": lambda: _waves(transformers.UniSpeechSatConfig(**LAYER)),
    "w2v-bert": lambda: (transformers.Wav2Vec2BertConfig(**SMALL), transformers.SeamlessM4TFeatureExtractor()),
    "whisper": lambda: (
        transformers.WhisperConfig(
            d_model=32,
            encoder_layers=3,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_source_positions=50,
        ),
        transformers.WhisperFeatureExtractor(chunk_length=1),
    ),
    "ast": lambda: (
        transformers.ASTConfig(
            max_length=64, num_mel_bins=32, patch_size=8, frequency_stride=4, time_stride=4, **SMALL
        ),
        transformers.ASTFeatureExtractor(max_length=64, num_mel_bins=32),
    ),
    "wavlm-base": lambda: _waves(transformers.WavLMConfig(**KIN)),
    "data2vec": lambda: _waves(transformers.Data2VecAudioConfig(**KIN)),
    "conformer": lambda: _waves(transformers.Wav2Vec2ConformerConfig(**LAYER)),
}
LEAKING = ["wavlm-base", "data2vec", "conformer"]
RAGGED = [name for name in MODELS if name not in LEAKING]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local model is found without a network; a missing one fails at once."""

    def refuse(*_: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Writes a small model once, and gives its folder."""
    root = tmp_path_factory.mktemp("models")

    def saved(name: str) -> str:
        folder = root / name
        if not folder.exists():
            WavLM.example(root / "to-import-the-library")
            config, extractor = MODELS[name]()
            torch.manual_seed(0)
            model = transformers.AutoModel.from_config(config)
            with torch.no_grad():
                for weight in model.parameters():
                    weight.add_(0.05 * torch.randn_like(weight))
            model.save_pretrained(folder)
            extractor.save_pretrained(folder)
        return str(folder)

    return saved


def lone(featurizer: torch.nn.Module, row: torch.Tensor) -> torch.Tensor:
    features, frames = featurizer(row[None], torch.tensor([len(row)]))
    assert frames.tolist() == [features.shape[2]]
    return features[0]


@pytest.mark.parametrize("name", RAGGED)
def test_a_row_is_the_same_alone_padded_and_in_any_batch(name: str, saved: Callable[[str], str]) -> None:
    torch.manual_seed(1)
    featurizer = Transformers(16000, model=saved(name)).eval()
    assert featurizer.ragged
    lengths = torch.tensor([9000, 1, 399, 400, 719, 720, 5001, 8333])
    waveform = torch.randn(8, 9000) * 0.1  # what is beyond the lengths is no silence
    with torch.no_grad():
        features, frames = featurizer(waveform, lengths)
        assert features.shape == (8, 32, int(frames.max()))
        for i, length in enumerate(lengths.tolist()):
            alone = lone(featurizer, waveform[i, :length])
            torch.testing.assert_close(features[i, :, : frames[i]], alone, rtol=0, atol=1e-4)
            assert not features[i, :, frames[i] :].any()


@pytest.mark.parametrize("name", RAGGED)
def test_without_gradients_a_batch_is_computed_a_few_seconds_at_a_time(name: str, saved: Callable[[str], str]) -> None:
    torch.manual_seed(1)
    featurizer = Transformers(16000, model=saved(name), frozen=False).eval()
    lengths = torch.tensor([9000, 4000, 400, 8333, 720, 9000, 5001, 10600, 1, 3000])  # the second part has the longest
    waveform = torch.randn(10, 10600) * 0.1
    rows: list[int] = []
    featurizer.encoder.register_forward_pre_hook(
        lambda _, __, given: rows.append(len(next(iter(given.values())))), with_kwargs=True
    )
    whole, frames = featurizer(waveform, lengths)
    assert rows == [10]
    with torch.no_grad():
        parts, of_parts = featurizer(waveform, lengths)
    assert rows == [10, 6, 4]
    assert torch.equal(frames, of_parts)
    torch.testing.assert_close(parts, whole.detach(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name in RAGGED[:-2] for layer in (0, 1, -1)])
def test_hidden_states_are_the_librarys(name: str, layer: int, saved: Callable[[str], str]) -> None:
    row = torch.randn(6000) * 0.1 + 0.01
    extractor = transformers.AutoFeatureExtractor.from_pretrained(saved(name))
    model = transformers.AutoModel.from_pretrained(saved(name)).eval()
    with torch.no_grad():
        inputs = extractor(row.numpy(), sampling_rate=16000, return_tensors="pt")
        expected = model(**inputs, output_hidden_states=True).hidden_states[layer][0].T
        features = lone(Transformers(16000, model=saved(name), layer=layer).eval(), row)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-4)


def test_whispers_frames_are_the_librarys_less_the_silence(saved: Callable[[str], str]) -> None:
    row = torch.randn(6000) * 0.1
    extractor = transformers.AutoFeatureExtractor.from_pretrained(saved("whisper"))
    model = transformers.AutoModel.from_pretrained(saved("whisper")).get_encoder().eval()
    with torch.no_grad():
        inputs = extractor(row.numpy(), sampling_rate=16000, return_tensors="pt")
        expected = model(**inputs).last_hidden_state[0].T
        features = lone(Transformers(16000, model=saved("whisper"), layer=-1).eval(), row)
    assert features.shape == (32, 19)  # 20 ms each, the last begun
    torch.testing.assert_close(features, expected[:, :19], rtol=0, atol=1e-4)


def test_patches_of_a_spectrogram_become_frames(saved: Callable[[str], str]) -> None:
    row = torch.randn(400 + 63 * 160) * 0.1
    extractor = transformers.AutoFeatureExtractor.from_pretrained(saved("ast"))
    model = transformers.AutoModel.from_pretrained(saved("ast")).eval()
    with torch.no_grad():
        inputs = extractor(row.numpy(), sampling_rate=16000, return_tensors="pt")
        states = model(**inputs, output_hidden_states=True).hidden_states[2][0]
        features = lone(Transformers(16000, model=saved("ast"), layer=2).eval(), row)
    # 7 rows of patches over 32 bands, 15 columns over 64 frames, row by row after two tokens.
    expected = torch.stack([states[2 + column :: 15][:7].mean(0) for column in range(15)], 1)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-4)


def test_a_wavlm_does_not_warn_at_every_step_and_other_warnings_are_kept(saved: Callable[[str], str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        featurizer = Transformers(16000, model=saved("wavlm"))
        assert featurizer.ragged
        for each in (featurizer.train(), featurizer.eval()):
            each(torch.randn(2, 16000), torch.tensor([16000, 9000]))
        warnings.warn("another", UserWarning, stacklevel=1)
    assert [str(each.message) for each in caught] == ["another"]


@pytest.mark.parametrize("name", ["whisper", "ast"])
def test_a_window_longer_than_an_encoder_takes_is_refused(name: str, saved: Callable[[str], str]) -> None:
    with pytest.raises(ValueError, match=r"takes at most (1|0\.66\d*) s at a time, not 1\.25$"):
        Transformers(16000, model=saved(name))(torch.zeros(1, 20000), torch.tensor([20000]))


@pytest.mark.parametrize("name", LEAKING)
def test_an_encoder_that_padding_leaks_into_gets_rows_of_equal_length(name: str, saved: Callable[[str], str]) -> None:
    torch.manual_seed(1)
    featurizer = Transformers(16000, model=saved(name)).eval()
    assert not featurizer.ragged
    network = Network(featurizer, torch.nn.Identity(), torch.nn.Identity(), torch.nn.Identity())
    lengths = torch.tensor([9000, 1, 5001, 9000])
    waveform = torch.randn(4, 9000) * 0.1
    with torch.no_grad():
        features, frames = network.features(waveform, lengths)
        for i, length in enumerate(lengths.tolist()):
            alone = lone(featurizer, waveform[i, :length])
            torch.testing.assert_close(features[i, :, : frames[i]], alone, rtol=0, atol=1e-4)


def test_the_transformer_is_not_thrown_away(saved: Callable[[str], str]) -> None:
    row = torch.randn(4000) * 0.1
    for layer in (1, "weighted"):
        featurizer = WavLM(16000, model=saved("wavlm"), layer=layer).eval()
        before = lone(featurizer, row)
        with torch.no_grad():
            featurizer.encoder.encoder.layers[0].feed_forward.output_dense.weight.normal_()
        assert (lone(featurizer, row) - before).abs().max() > 0.01


def test_the_weighted_sum_begins_as_the_mean_of_all_layers_and_learns(saved: Callable[[str], str]) -> None:
    row = torch.randn(4000) * 0.1
    featurizer = WavLM(16000, model=saved("wavlm")).eval()
    each = [lone(WavLM(16000, model=saved("wavlm"), layer=layer).eval(), row) for layer in range(4)]
    torch.testing.assert_close(lone(featurizer, row), torch.stack(each).mean(0), rtol=0, atol=1e-5)
    assert [name for name, weight in featurizer.named_parameters() if weight.requires_grad] == ["weights"]
    lone(featurizer, row).square().sum().backward()
    assert featurizer.weights.grad is not None
    assert featurizer.weights.grad.ne(0).all()


def test_a_frozen_encoder_stays_in_evaluation(saved: Callable[[str], str]) -> None:
    featurizer = WavLM(16000, model=saved("wavlm"), layer=2).train()
    row = torch.randn(4000) * 0.1
    features = lone(featurizer, row)
    assert not features.requires_grad
    assert torch.equal(features, lone(featurizer, row))
    tuned = WavLM(16000, model=saved("wavlm"), layer=2, frozen=False).train()
    assert not torch.equal(lone(tuned, row), lone(tuned, row))  # its dropout


@pytest.mark.parametrize("layer", [1, -1, "weighted"])
@pytest.mark.parametrize("name", ["wavlm-stable", "wav2vec2", "w2v-bert", "whisper", "ast"])
def test_fine_tuned_every_parameter_that_may_learn_gets_a_gradient(
    name: str, layer: Any, saved: Callable[[str], str]
) -> None:
    torch.manual_seed(1)
    featurizer = Transformers(16000, model=saved(name), layer=layer, frozen=False).train()
    features, _ = featurizer(torch.randn(2, 6000) * 0.1, torch.tensor([6000, 4000]))
    (features * torch.randn_like(features)).sum().backward()
    learning = {name: weight for name, weight in featurizer.named_parameters() if weight.requires_grad}
    assert len(learning) >= 20
    assert [name for name, weight in learning.items() if weight.grad is None] == []


def test_under_autocast_it_is_near_and_wide(saved: Callable[[str], str]) -> None:
    row = torch.randn(6000) * 0.1
    featurizer = WavLM(16000, model=saved("wavlm")).eval()
    with torch.no_grad():
        wide = lone(featurizer, row)
        with torch.autocast("cpu", torch.bfloat16):
            half = lone(featurizer, row)
    assert half.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(wide.flatten(), half.flatten(), dim=0) > 0.99


# -- bad input


def test_what_is_no_model_is_refused_in_one_sentence(saved: Callable[[str], str], tmp_path: Path) -> None:
    lacking = {name: tmp_path / name for name in ("preprocessor_config.json", "config.json", "model.safetensors")}
    for name, folder in lacking.items():
        shutil.copytree(saved("wavlm"), folder)
        (folder / name).unlink()
    messages = {
        "": r"^model must be a local folder or a name on the hub, is ''$",
        str(tmp_path / "nowhere"): r"^model must be an existing folder or a name on the hub, is '.*nowhere': no ",
        "./nowhere": r"^model must be an existing folder or a name on the hub, is './nowhere': no such folder$",
        str(tmp_path): r"^model must be a folder with config.json and preprocessor_config.json, is '",
        str(lacking["preprocessor_config.json"]): r"^model must be a folder with config.json and preprocessor_config",
        str(lacking["config.json"]): r"^model must be a folder with config.json and preprocessor_config.json, is '",
        str(lacking["model.safetensors"]): r"^model must have weights that fit it, is '.*': ",
    }
    for model, message in messages.items():
        with pytest.raises(ValueError, match=message) as caught:
            WavLM(16000, model=model)
        assert "\n" not in str(caught.value)


def test_a_model_of_another_rate_type_or_depth_is_refused(saved: Callable[[str], str]) -> None:
    with pytest.raises(ValueError, match=r"^model must take sound at audio.rate, 8000 Hz, is '.*', which takes 16000"):
        WavLM(8000, model=saved("wavlm"))
    with pytest.raises(
        ValueError, match=r"^model must be of the type wav2vec2, is wavlm; use = \"transformers\" takes"
    ):
        Wav2Vec2(16000, model=saved("wavlm"))
    for layer in (4, -5):
        with pytest.raises(
            ValueError, match=rf'^layer must be from 0 to 3, -1 for the last, or "weighted", is {layer}$'
        ):
            WavLM(16000, model=saved("wavlm"), layer=layer)


def test_weights_of_another_model_are_refused(saved: Callable[[str], str], tmp_path: Path) -> None:
    shutil.copytree(saved("wavlm"), tmp_path / "mixed")
    shutil.copy(Path(saved("w2v-bert")) / "model.safetensors", tmp_path / "mixed")
    with pytest.raises(ValueError, match=r"^model must have (all its weights|weights that fit it), is '.*mixed'"):
        WavLM(16000, model=str(tmp_path / "mixed"))


def test_an_encoder_of_other_features_is_refused(saved: Callable[[str], str], tmp_path: Path) -> None:
    shutil.copytree(saved("wavlm"), tmp_path / "other")
    transformers.ClapFeatureExtractor(sampling_rate=16000).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match=r"^model must be an encoder with features of Wav2Vec2.*, not ClapFeatureExtr"):
        WavLM(16000, model=str(tmp_path / "other"))


def test_a_model_of_text_is_refused_though_a_feature_extractor_lies_beside_it(tmp_path: Path) -> None:
    transformers.BertConfig(hidden_size=16, num_hidden_layers=1).save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"^model must be an encoder of sound, is '.*': 'BertConfig' object has no"):
        Transformers(16000, model=str(tmp_path))


def test_a_foreign_key_names_the_right_ones() -> None:
    with pytest.raises(RecipeError) as caught:
        soundbench.Recipe(dataset="tones", backbone="campplus", featurizer={"use": "wavlm", "bands": 80})
    message = "featurizer.bands: unknown key; known: model, layer, frozen"
    assert message in str(caught.value)


def test_without_the_library_the_extra_is_named() -> None:
    code = """
import sys
from soundbench.errors import NotInstalled
from soundbench.recipe.registry import Registry

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name == "transformers":
            raise ModuleNotFoundError("No module named 'transformers'", name="transformers")

sys.meta_path.insert(0, Refusing())
for use in ("wavlm", "wav2vec2", "transformers"):
    try:
        Registry().get("featurizer", use)
    except NotInstalled as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert line.endswith('needs transformers, which is not installed: pip install "soundbench[ssl]"')


# -- the whole


@pytest.mark.parametrize("use", ["wavlm", "wav2vec2", "transformers"])
def test_a_folder_is_absolute_once_resolved_and_a_name_on_the_hub_stays(
    use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    for model, resolved in (("models/mine", str(tmp_path / "models" / "mine")), ("someone/hers", "someone/hers")):
        recipe = soundbench.Recipe(dataset="tones", backbone="tdnn", featurizer={"use": use, "model": model})
        assert recipe.tables()["featurizer"]["model"] == resolved


def test_a_path_is_a_folder_with_weights_as_its_name_is(saved: Callable[[str], str]) -> None:
    named, given = (WavLM(16000, model=model) for model in (saved("wavlm"), Path(saved("wavlm"))))
    for one, other in zip(named.parameters(), given.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_a_trained_model_loads_without_the_folder_it_came_from(
    saved: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOUNDBENCH_CACHE", str(tmp_path / "cache"))
    source = shutil.copytree(saved("wavlm"), tmp_path / "pretrained")
    recipe = soundbench.Recipe(
        dataset={"use": "tones", "clips": 60},
        audio={"window": 0.5},
        featurizer={"use": "wavlm", "model": str(source), "layer": 1, "frozen": False},
        backbone={"use": "campplus", "growth": 4, "width": 16, "front": 4, "layers": [1, 1, 1]},
        train={"epochs": 1, "batch_size": 16},
        observer=[],
    )
    run = soundbench.run(recipe, out=tmp_path / "run").path
    assert {path.name for path in (run / "model" / "assets").iterdir()} == {"config.json", "preprocessor_config.json"}
    model = shutil.copytree(run / "model", tmp_path / "elsewhere")
    sound = (0.1 * np.random.default_rng(0).standard_normal(12000)).astype(np.float32)
    before = soundbench.load(run).predict(sound, rate=16000).scores
    shutil.rmtree(source)
    after = soundbench.load(model)
    assert after.predict(sound, rate=16000).scores == pytest.approx(before, abs=1e-6)
    weight = after.network.featurizer.encoder.encoder.layers[0].attention.k_proj.weight
    untrained = transformers.AutoModel.from_pretrained(saved("wavlm")).encoder.layers[0].attention.k_proj.weight
    assert not torch.equal(weight.cpu(), untrained)
