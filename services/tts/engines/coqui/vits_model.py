"""A VITS and its three stages, each a function of tensors alone: text, flow, window.

    text     tokens [B, T]           ─> statistics [B, 2, C, T], frames of each token [B, T]
                  (here the CPU learns the lengths, the one time it waits for the device)
    flow     those of each frame, noise ─> latent frames [B, C, F]
    window   frames of the window    ─> s16 samples [B, n]

Text and flow are in fp32: in half precision the lengths themselves would change. The window may be in bf16.
Padding changes nothing: tokens and frames that stand beyond an item's length are masked wherever a layer
would mix them in. Parameters that the library keeps as attributes of the model, and noise that it draws from
the global generator, are arguments here, one for each item.

J. Kim, J. Kong, J. Son: Conditional Variational Autoencoder with Adversarial Learning for End-to-End
Text-to-Speech, 2021, https://arxiv.org/abs/2106.06103
"""

from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch.nn.utils import parametrize
from TTS.config import load_config
from TTS.tts.models.vits import Vits

from services.tts.engines.base import OptionsError
from services.tts.engines.coqui.decoder import Plan, WindowedDecoder
from services.tts.engines.coqui.model_files import ModelFiles
from services.tts.engines.coqui.spline import draw_durations
from services.tts.engines.coqui.weights import read_weights, reason, without_random_weights
from services.tts.engines.model_json import beside, read_object

_LEAST_RATE_HZ: Final = 4000
_MOST_RATE_HZ: Final = 192_000


class Speaker(NamedTuple):
    """Who speaks, in which language, as the model takes it."""

    name: str
    language: str
    condition: Any
    """[G, 1], or None."""
    language_condition: Any
    """[L, 1], or None."""


class VitsModel:
    """A loaded VITS, for speaking alone.

    Args:
        files: Of the model.
        device: Where it computes.
        precision: "fp32" or "bf16", of the decoder.

    Raises:
        OptionsError: It is a VITS that this path cannot speak exactly.

    """

    def __init__(self, files: ModelFiles, device: Any, precision: str) -> None:
        model = load_vits(files)
        self.args = model.args
        self.tokenizer = model.tokenizer
        self.sample_rate_hz = int(model.config.audio["sample_rate"])
        self.speakers = tuple(_speakers(model, device))
        for module in model.modules():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")
        model.posterior_encoder = None  # it is for training
        model.to(device)
        self._model = model
        decoder = model.waveform_decoder
        if precision == "bf16":
            decoder = decoder.to(torch.bfloat16)
        try:
            self.decoder = WindowedDecoder(decoder)
        except ValueError as error:
            raise OptionsError(f"option model: its decoder cannot be run in windows: {error}") from None
        self.channels = int(model.args.hidden_channels)
        self.hop = self.decoder.hop

    @property
    def stochastic(self) -> bool:
        """True where durations are drawn."""
        return bool(self.args.use_sdp)

    def text(
        self, tokens: Any, lengths: Any, noise: Any, scale: Any, condition: Any, language: Any
    ) -> tuple[Any, Any]:
        """Encode texts and find the frames of each token.

        Args:
            tokens: [B, T] ids; 0 beyond an item's length.
            lengths: [B] of each item.
            noise: [B, 2, T] for the durations, scaled; only read where the model draws them.
            scale: [B] that durations are multiplied by.
            condition: [B, G, 1] of the speaker, or None.
            language: [B, L, 1] of the language, or None.

        Returns:
            Mean and logarithm of the deviation of each token's frames [B, 2, C, T], and how many frames it
            has [B, T], whole numbers.

        """
        model = self._model
        x, mean, deviation, mask = model.text_encoder(tokens, lengths, lang_emb=language)
        heard = condition if self.args.condition_dp_on_speaker else None
        if self.stochastic:
            log_durations = draw_durations(model.duration_predictor, x, mask, noise, heard, language)
        else:
            log_durations = model.duration_predictor(x, mask, g=heard, lang_emb=language)
        durations = torch.ceil(torch.exp(log_durations) * mask * scale[:, None, None])[:, 0]
        return torch.stack([mean, deviation], 1), durations

    def flow(self, statistics: Any, lengths: Any, noise: Any, condition: Any) -> Any:
        """Return the latent frames.

        Args:
            statistics: [B, 2, C, F], those of its token for each frame.
            lengths: [B] frames of each item.
            noise: [B, C, F], scaled.
            condition: [B, G, 1] of the speaker, or None.

        Returns:
            [B, C, F], zero beyond an item's length.

        """
        mean, deviation = statistics.unbind(1)
        mask = (torch.arange(noise.shape[-1], device=noise.device) < lengths[:, None]).to(noise.dtype)[
            :, None
        ]
        z = (mean + noise * torch.exp(deviation)) * mask
        return self._model.flow(z, mask, g=condition, reverse=True) * mask

    def window(self, frames: Any, room: Any, condition: Any, plan: Plan) -> Any:
        """Return the s16 samples of windows; see `WindowedDecoder.decode`."""
        samples = self.decoder.decode(frames, room, condition, plan)
        return (samples.clamp(-1, 1) * 32767).round().to(torch.int16)


def load_vits(files: ModelFiles) -> Any:
    """Return the library's model with its weights, in fp32, on the CPU; nothing of the file is executed.

    Raises:
        OptionsError: The files are not those of a VITS that can be spoken in windows.

    """
    try:
        config = load_config(str(files.config))
    except Exception as error:  # noqa: BLE001 - of json and of coqpit, in many ways
        raise OptionsError(f"option model: {files.config} is no config of a VITS: {reason(error)}") from None
    # As the file has it: the library passes over a value of a wrong type, and takes its own.
    audio = read_object(files.config, "model").get("audio", {})
    rate_hz = audio.get("sample_rate", config.audio["sample_rate"]) if isinstance(audio, dict) else audio
    if not isinstance(rate_hz, int) or not _LEAST_RATE_HZ <= rate_hz <= _MOST_RATE_HZ:
        raise OptionsError(
            f"option model: {files.config} has the sample_rate {rate_hz!r}; "
            f"it may be {_LEAST_RATE_HZ} to {_MOST_RATE_HZ}"
        )
    _find_beside(config, files.folder)
    if config.model_args.encoder_sample_rate:
        raise OptionsError(
            "option model: a VITS that changes its rate within (encoder_sample_rate) has no windows"
        )
    config.model_args.init_discriminator = False
    assert files.checkpoint is not None
    weights = read_weights(files.checkpoint)
    unused = ("disc.", "speaker_encoder.")
    weights = {name: value for name, value in weights.items() if not name.startswith(unused)}
    try:
        with without_random_weights():
            model = Vits(config)
    except OptionsError:
        raise
    except Exception as error:  # the library takes what a config says as it is
        raise OptionsError(f"option model: no VITS can be made of {files.config}: {reason(error)}") from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise OptionsError(
            f"option model: {files.checkpoint} is not of this config.json: {reason(error)}"
        ) from None
    model.eval()
    return model.float()


def _find_beside(config: Any, folder: Path) -> None:
    """Let every name of a file mean the one beside config.json: nothing that it says leads elsewhere."""
    for holder in (config, config.model_args):
        for name in ("speakers_file", "language_ids_file", "d_vector_file"):
            value = holder.get(name, None)
            if value and not isinstance(value, str):
                if len(value) != 1:
                    raise OptionsError(f"option model: config.json has several files as {name}; one is read")
                value = value[0]
            if isinstance(value, str) and value:
                file = beside(folder, value)
                if not file.is_file():
                    raise OptionsError(f"option model: {file} is missing: config.json has it as {name}")
                holder[name] = [str(file)] if name == "d_vector_file" else str(file)
    # No clips are heard here: the encoder of speakers is for making new ones.
    config.model_args.speaker_encoder_model_path = ""
    config.model_args.speaker_encoder_config_path = ""
    config.model_args.use_speaker_encoder_as_loss = False


def _speakers(model: Any, device: Any) -> list[Speaker]:
    """Return every speaker in every language, in the order of the model."""
    languages = list(model.language_manager.name_to_id.items())
    many = bool(model.args.use_language_embedding)
    found = []
    with torch.inference_mode():
        for name, condition in _conditions(model):
            for language, number in languages if many else languages[:1]:
                own = model.emb_l(torch.tensor([number]))[0][:, None].clone().to(device) if many else None
                found.append(
                    Speaker(name, language, None if condition is None else condition.to(device), own)
                )
    return found


def _conditions(model: Any) -> list[tuple[str, Any]]:
    manager = model.speaker_manager
    if model.args.use_d_vector_file:
        vectors = [(name, manager.get_mean_embedding(name)) for name in manager.speaker_names]
        return [
            (name, torch.nn.functional.normalize(torch.as_tensor(vector).float()[None])[0][:, None])
            for name, vector in vectors
        ]
    if model.args.use_speaker_embedding:
        return [
            (name, model.emb_g(torch.tensor([number]))[0][:, None].clone())
            for name, number in manager.name_to_id.items()
        ]
    return [("", None)]
