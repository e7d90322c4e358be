"""Other kinds of models with random weights, by the library's code: Glow-TTS, FastPitch with HiFi-GAN."""

import json
from pathlib import Path
from typing import Any

from services.tts.engines.coqui.library import load_library

_AUDIO: Any = {
    "sample_rate": 22050,
    "hop_length": 256,
    "win_length": 1024,
    "fft_size": 1024,
    "num_mels": 80,
    "do_trim_silence": False,
    "griffin_lim_iters": 10,
    "mel_fmax": 8000,
}


def make_glow(folder: Path, seed: int = 0) -> Path:
    """Write a Glow-TTS, which has `length_scale`, for the library's Griffin-Lim."""
    load_library()
    import torch
    from TTS.config.shared_configs import BaseAudioConfig
    from TTS.tts.configs.glow_tts_config import GlowTTSConfig
    from TTS.tts.models.glow_tts import GlowTTS

    torch.manual_seed(seed)
    config = GlowTTSConfig(
        audio=BaseAudioConfig(**_AUDIO),
        hidden_channels_enc=32,
        hidden_channels_dec=32,
        hidden_channels_dp=32,
        num_flow_blocks_dec=2,
        text_cleaner="basic_cleaners",
        use_phonemes=False,
    )
    config.encoder_params = {
        **config.encoder_params,
        "num_layers": 1,
        "hidden_channels_ffn": 32,
        "num_heads": 2,
    }
    model = GlowTTS(config)
    with torch.no_grad():
        model.encoder.duration_predictor.proj.bias.fill_(1.5)
    return _write(folder, config, model)


def make_fast_pitch(folder: Path, seed: int = 0, speakers: int = 3) -> Path:
    """Write a FastPitch with speakers, and in its folder `vocoder` a HiFi-GAN."""
    load_library()
    import torch
    from TTS.config.shared_configs import BaseAudioConfig
    from TTS.tts.configs.fast_pitch_config import FastPitchConfig
    from TTS.tts.models.forward_tts import ForwardTTS, ForwardTTSArgs
    from TTS.vocoder.configs import HifiganConfig
    from TTS.vocoder.models.gan import GAN

    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    names = folder / "speakers.json"
    names.write_text(json.dumps({f"Voice {number}": number for number in range(speakers)}))
    small = {"hidden_channels_ffn": 32, "num_heads": 1, "num_layers": 1, "dropout_p": 0.1}
    args = ForwardTTSArgs(
        hidden_channels=32, encoder_params=dict(small), decoder_params=dict(small), use_aligner=False
    )
    args.use_speaker_embedding, args.num_speakers, args.speakers_file = True, speakers, str(names)
    config = FastPitchConfig(
        audio=BaseAudioConfig(**_AUDIO), model_args=args, text_cleaner="english_cleaners", use_phonemes=False
    )
    config.use_speaker_embedding, config.num_speakers, config.speakers_file = True, speakers, str(names)
    model = ForwardTTS(config)
    with torch.no_grad():
        for name, parameter in model.duration_predictor.named_parameters():
            if name.endswith("bias"):
                parameter.fill_(1.0)  # some frames for each letter
    _write(folder, config, model)
    voice = HifiganConfig(audio=BaseAudioConfig(**_AUDIO))
    voice.generator_model_params = {
        **voice.generator_model_params,
        "upsample_initial_channel": 16,
        "resblock_kernel_sizes": [3],
        "resblock_dilation_sizes": [[1, 3, 5]],
    }
    _write(folder / "vocoder", voice, GAN(voice))
    return folder


def _write(folder: Path, config: Any, model: Any) -> Path:
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    config.save_json(str(folder / "config.json"))
    torch.save({"model": model.state_dict(), "config": config.to_dict(), "step": 0}, folder / "model.pth")
    return folder
