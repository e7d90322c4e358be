"""A model of XTTS, loaded from its folder.

Not by the library's own `load_checkpoint`: that writes an old checkpoint over itself, which replicas that
start together would read half-written, and prepares a loop of transformers that nobody runs here.
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from services.tts.engines.base import OptionsError
from services.tts.engines.coqui.weights import check_finite, reason, without_random_weights
from services.tts.engines.loading import loading
from services.tts.engines.model_json import beside

_NEEDED: Final = {"ja": ("cutlet", "ja"), "zh": ("pypinyin", "zh"), "ko": ("ko_speech_tools", "ko")}
"""What the library needs for a language, beside itself: the module, and the library's extra that has it."""
_UNUSED: Final = ("torch_mel_spectrogram_style_encoder", "torch_mel_spectrogram_dvae", "dvae")
"""Parts of a checkpoint that only training needs."""


class LoadedXtts(NamedTuple):
    """A model in float32, on the CPU."""

    model: Any
    """The library's `Xtts`."""
    languages: tuple[str, ...]
    """Those that it can speak on this machine, as the library names them ("zh-cn")."""
    digest: str
    """Of the weights, the tokens and the config."""


def load_xtts(folder: Path, config_path: Path, checkpoint: Path | None) -> LoadedXtts:
    """Load a model.

    Args:
        folder: Where the other files are.
        config_path: `config.json`.
        checkpoint: Its weights; None for `model.pth` in the folder.

    Raises:
        OptionsError: A file is missing or is not what it should be.

    """
    from TTS.tts.configs.xtts_config import XttsConfig  # noqa: PLC0415 - heavy
    from TTS.tts.layers.xtts.hifigan_decoder import HifiDecoder  # noqa: PLC0415
    from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer  # noqa: PLC0415
    from TTS.tts.models.xtts import Xtts  # noqa: PLC0415

    checkpoint = checkpoint or folder / "model.pth"
    config = XttsConfig()
    try:
        config.load_json(str(config_path))
    except Exception as error:  # noqa: BLE001 - of json and of coqpit, in many ways
        raise OptionsError(f"option model: {config_path} is no config of XTTS: {reason(error)}") from None
    vocabulary = folder / "vocab.json"
    if not vocabulary.is_file():
        vocabulary = beside(folder, config.model_args.tokenizer_file or vocabulary.name)
    for path in (checkpoint, vocabulary):
        if not path.is_file():
            raise OptionsError(f"option model: {folder} has no {path.name}")
    weights = _weights(checkpoint)
    try:
        model = Xtts(config)
        model.tokenizer = VoiceBpeTokenizer(vocab_file=str(vocabulary))
        with without_random_weights():
            model.init_models()
    except Exception as error:  # the library takes what a config says as it is
        raise OptionsError(f"option model: no XTTS can be made of {config_path}: {reason(error)}") from error
    args = model.args
    # The library knows one width of the decoder. A slimmer one is told by its weights.
    width = weights["hifigan_decoder.waveform_decoder.conv_pre.weight"].shape[0]
    if width != model.hifigan_decoder.waveform_decoder.conv_pre.weight.shape[0]:
        model.hifigan_decoder = HifiDecoder(
            input_sample_rate=args.input_sample_rate,
            output_sample_rate=args.output_sample_rate,
            output_hop_length=args.output_hop_length,
            ar_mel_length_compression=args.gpt_code_stride_len,
            decoder_input_dim=args.decoder_input_dim,
            d_vector_dim=args.d_vector_dim,
            cond_d_vector_in_each_upsampling_layer=args.cond_d_vector_in_each_upsampling_layer,
            upsample_initial_channel_decoder=width,
        )
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise OptionsError(f"option model: {checkpoint} does not fit its config: {reason(error)}") from None
    # Not `model.eval()`: it prepares transformers' loop.
    model.gpt.train(mode=False)
    model.hifigan_decoder.train(mode=False)
    model.requires_grad_(requires_grad=False)
    languages = tuple(language for language in config.languages if missing_package(language) is None)
    return LoadedXtts(model, languages, _digest(checkpoint, vocabulary, config_path))


def missing_package(language: str) -> str | None:
    """Return how to install what a language needs, where that is missing."""
    module, extra = _NEEDED.get(language.partition("-")[0], ("", ""))
    if not module or importlib.util.find_spec(module) is not None:
        return None
    return f"pip install 'coqui-tts[{extra}]'"


def _weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    from TTS.tts.models import xtts  # noqa: PLC0415 - heavy

    loading(f"the weights of {checkpoint.name}")
    try:
        # The first checkpoints hold the config as an object of the library's; nothing else is unpickled.
        with xtts._legacy_safe_globals():  # noqa: SLF001 - there is no other way to name the old places
            saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        state = saved["model"]
    except Exception as error:  # noqa: BLE001 - of pickle, zip files and torch, in many ways
        raise OptionsError(f"option model: {checkpoint} is no checkpoint: {reason(error)}") from None
    weights = {}
    for name, tensor in state.items():
        plain = name.removeprefix("xtts.")
        # `gpt_inference` and `wte` are other names of the same weights, for transformers' loop.
        if plain.partition(".")[0] not in _UNUSED and not plain.startswith(
            ("gpt.gpt_inference.", "gpt.gpt.wte.")
        ):
            weights[plain] = tensor
    if "hifigan_decoder.waveform_decoder.conv_pre.weight" not in weights:
        raise OptionsError(f"option model: {checkpoint} holds no weights of XTTS")
    check_finite(weights, checkpoint)
    return weights


def _digest(*paths: Path) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()
