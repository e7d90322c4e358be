"""XTTS with random weights, by the library's own code: seconds to make, milliseconds to speak.

    python -m tests.coqui.random_xtts FOLDER [--layers N] [--channels N] [--width N]

Its stop token grows likelier with every token, so that a piece of text has about `tokens` of them.
"""

import argparse
import math
import wave
from pathlib import Path
from typing import Any

from services.tts.engines.coqui.library import load_library

LETTERS = "abcdefghijklmnopqrstuvwxyz'.,!?-"


def make_xtts(
    folder: Path,
    *,
    layers: int = 2,
    channels: int = 64,
    width: int = 16,
    tokens: int = 44,
    speakers: int = 0,
    seed: int = 0,
) -> Path:
    """Write a model; return its folder.

    Args:
        folder: Where; made if it is not there.
        layers: Of the GPT; 30 in XTTS v2.
        channels: Of the GPT, a multiple of 32; 1024 in XTTS v2.
        width: First channels of the decoder; 512 in XTTS v2.
        tokens: Of each piece of text, about.
        speakers: Entries of its speakers' file; 0 for no file.
        seed: Of the weights.

    """
    load_library()
    import torch
    from TTS.tts.configs.xtts_config import XttsConfig
    from TTS.tts.layers.xtts.hifigan_decoder import HifiDecoder
    from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer
    from TTS.tts.models.xtts import Xtts

    folder.mkdir(parents=True, exist_ok=True)
    write_vocabulary(folder / "vocab.json")
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    config = XttsConfig()
    args = config.model_args
    args.gpt_layers, args.gpt_n_model_channels, args.gpt_n_heads = layers, channels, max(2, channels // 64)
    args.decoder_input_dim = channels
    args.gpt_use_perceiver_resampler = True
    args.gpt_num_audio_tokens, args.gpt_start_audio_token, args.gpt_stop_audio_token = 1026, 1024, 1025
    args.tokenizer_file = "vocab.json"
    model = Xtts(config)
    model.tokenizer = VoiceBpeTokenizer(vocab_file=str(folder / "vocab.json"))
    model.init_models()
    model.hifigan_decoder = HifiDecoder(decoder_input_dim=channels, upsample_initial_channel_decoder=width)
    with torch.no_grad():
        gpt = model.gpt
        for block in gpt.gpt.h:  # GPT-2 begins so small that the text would hardly matter
            for part in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj):
                part.weight.mul_(4)
        gpt.text_embedding.weight.normal_()
        stop = torch.nn.functional.normalize(torch.randn(channels), dim=0)
        places = gpt.mel_pos_embedding.emb.weight
        growth = torch.arange(len(places))[:, None] / tokens
        places.add_(growth * 2 * math.sqrt(channels) * stop)
        gpt.mel_head.weight[args.gpt_stop_audio_token] = 10 * stop
        gpt.mel_head.bias[args.gpt_stop_audio_token] = -10 * math.sqrt(channels) * 0.7
        post = model.hifigan_decoder.waveform_decoder.conv_post
        post.weight.sub_(post.weight.mean(-1, keepdim=True)).mul_(12)  # no offset, and loud enough
    if speakers:
        known = {
            f"Speaker Number{number}": {
                "gpt_cond_latent": torch.randn(1, 32, channels),
                "speaker_embedding": torch.randn(1, 512, 1),
            }
            for number in range(speakers)
        }
        torch.save(known, folder / "speakers_xtts.pth")
    config.save_json(str(folder / "config.json"))
    torch.save({"model": model.state_dict(), "config": config.to_dict()}, folder / "model.pth")
    return folder


def write_vocabulary(path: Path) -> None:
    """Write a `vocab.json` as the weights bring one, but of letters alone."""
    from tokenizers import Tokenizer, models
    from TTS.tts.configs.xtts_config import XttsConfig

    marks = ["[STOP]", "[UNK]", "[SPACE]", "[START]", *(f"[{tag}]" for tag in XttsConfig().languages)]
    vocabulary = {token: number for number, token in enumerate([*marks, *LETTERS])}
    tokenizer: Any = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.add_special_tokens(marks)
    tokenizer.save(str(path))


def write_clip(path: Path, *, seconds: float = 2.0, rate_hz: int = 22050, pitch_hz: float = 120.0) -> Path:
    """Write a clip that sounds like a vowel."""
    count = int(seconds * rate_hz)
    samples = bytearray()
    for number in range(count):
        at = 2 * math.pi * pitch_hz * number / rate_hz
        value = sum(math.sin(at * harmonic) / harmonic for harmonic in range(1, 9))
        samples += int(4000 * value).to_bytes(2, "little", signed=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(bytes(samples))
    return path


def main() -> None:
    """Write a model and a clip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    for name, default in (("layers", 2), ("channels", 64), ("width", 16), ("tokens", 44), ("speakers", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    values = vars(parser.parse_args())
    folder = make_xtts(values.pop("folder"), **values)
    write_clip(folder / "clip.wav")


if __name__ == "__main__":
    main()
