"""Models with random weights, made by the library `coqui-tts` itself: for tests and benchmarks.

They have the shape, the files and the cost of real ones and say nothing that anybody understands. Needs
the extra `coqui`.

    python -m benchmarks.random_models OUT --size ljspeech
    python -m benchmarks.random_models OUT --speakers 4 --phonemes
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any, Final

from services.tts.engines.coqui.library import load_library
from services.tts.engines.coqui.phonemes import use_own_phonemes

SIZES: Final = ("tiny", "ljspeech")

_TINY: Final[dict[str, Any]] = {
    "hidden_channels": 32,
    "hidden_channels_ffn_text_encoder": 64,
    "num_heads_text_encoder": 2,
    "num_layers_text_encoder": 2,
    "num_layers_posterior_encoder": 1,
    "num_layers_flow": 2,
    "resblock_type_decoder": "2",
    "resblock_kernel_sizes_decoder": [3, 5],
    "resblock_dilation_sizes_decoder": [[1, 3], [1, 3]],
    "upsample_rates_decoder": [8, 8, 4],
    "upsample_kernel_sizes_decoder": [16, 16, 8],
    "upsample_initial_channel_decoder": 32,
    "speaker_embedding_channels": 16,
}
_LOUDNESS: Final = 0.1
_FRAMES_PER_TOKEN: Final = 2.5


def make_vits(
    folder: Path,
    *,
    size: str = "tiny",
    phonemes: str = "",
    speakers: int = 0,
    languages: tuple[str, ...] = (),
    stochastic: bool | None = None,
    vectors: int = 0,
    config: dict[str, Any] | None = None,
    seed: int = 0,
    **arguments: Any,
) -> Path:
    """Write config.json and model.pth of a VITS; return the folder.

    Args:
        folder: Where to; made.
        size: "tiny": 0.4 million parameters. "ljspeech": 36 million, as the library's models have.
        phonemes: The language that espeak-ng speaks; "" for a model of letters.
        speakers: Voices of the model, named "Speaker 0" and on; 0 for one without names.
        languages: Its languages; () for one without.
        vectors: Voices that are given by a vector each, in a file, named "Vector 0" and on.
        config: For `VitsConfig`, over the usual.
        stochastic: Whether durations are drawn; where it is absent, as usual for the size.
        seed: Another one, other weights.
        arguments: For `VitsArgs`, over those of the size.

    """
    load_library()
    use_own_phonemes()
    import torch  # noqa: PLC0415 - heavy, and after the line above
    from TTS.tts.models.vits import Vits  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    values: dict[str, Any] = dict(_TINY) if size == "tiny" else {}
    values |= {"init_discriminator": False, "use_sdp": size != "tiny" if stochastic is None else stochastic}
    if speakers:
        names = {f"Speaker {number}": number for number in range(speakers)}
        (folder / "speaker_ids.json").write_text(json.dumps(names))
        values |= {"use_speaker_embedding": True, "speakers_file": str(folder / "speaker_ids.json")}
    if languages:
        (folder / "language_ids.json").write_text(json.dumps({tag: n for n, tag in enumerate(languages)}))
        values |= {"use_language_embedding": True, "embedded_language_dim": 4}
        values |= {"language_ids_file": str(folder / "language_ids.json")}
    if vectors:
        draw = torch.Generator().manual_seed(seed)
        clips = {
            f"clip{number}": {
                "name": f"Vector {number}",
                "embedding": torch.randn(16, generator=draw).tolist(),
            }
            for number in range(vectors)
        }
        (folder / "vectors.json").write_text(json.dumps(clips))
        values |= {"use_d_vector_file": True, "d_vector_dim": 16}
        values |= {"d_vector_file": [str(folder / "vectors.json")]}
    made = _vits_config({**values, **arguments}, phonemes, languages, config or {})
    model = Vits(made)
    model.eval()
    with torch.no_grad():
        _enliven(model)
    made.save_json(str(folder / "config.json"))
    # Tensors and plain values alone: what is loaded later must be nothing but weights.
    torch.save({"model": model.state_dict(), "config": made.to_dict(), "step": 0}, folder / "model.pth")
    return folder


def _vits_config(
    values: dict[str, Any], phonemes: str, languages: tuple[str, ...], over: dict[str, Any]
) -> Any:
    from TTS.config.shared_configs import BaseAudioConfig  # noqa: PLC0415 - heavy
    from TTS.tts.configs.shared_configs import CharactersConfig  # noqa: PLC0415
    from TTS.tts.configs.vits_config import VitsArgs, VitsConfig  # noqa: PLC0415
    from TTS.tts.utils.text import characters  # noqa: PLC0415

    usual: dict[str, Any] = {
        "model_args": VitsArgs(**values),
        "run_name": "random",
        "audio": BaseAudioConfig(
            sample_rate=22050,
            hop_length=math.prod(values.get("upsample_rates_decoder", [256])),
            win_length=1024,
            fft_size=1024,
            do_trim_silence=False,
        ),
        "use_phonemes": bool(phonemes),
        "phonemizer": "espeak" if phonemes else None,
        "phoneme_language": phonemes or None,
        "languages": list(languages or (phonemes or "en",)),
        "compute_input_seq_cache": False,
        "text_cleaner": "phoneme_cleaners" if phonemes else "basic_cleaners",
        "add_blank": True,
        "characters": CharactersConfig(
            characters_class="TTS.tts.models.vits.VitsCharacters",
            pad=characters._pad,  # noqa: SLF001 - the set that the library's models are trained with
            characters=characters._characters,  # noqa: SLF001
            punctuations=characters._punctuations,  # noqa: SLF001
            phonemes=characters._phonemes,  # noqa: SLF001
            eos=None,
            bos=None,
            blank="<BLNK>",
            is_unique=False,
            is_sorted=True,
        ),
    }
    return VitsConfig(**{**usual, **over})


def _enliven(model: Any) -> None:
    """Give every layer an effect, tokens the length of real ones, and the audio a level."""
    import torch  # noqa: PLC0415 - heavy

    for name, parameter in model.named_parameters():
        # Training starts some layers at zero.
        if name.endswith("weight") and not parameter.abs().max():
            parameter.normal_(0, 0.02)
    predictor = model.duration_predictor
    if model.args.use_sdp:
        predictor.flows[0].translation[0] -= math.log(_FRAMES_PER_TOKEN)
    else:
        predictor.proj.bias.fill_(math.log(_FRAMES_PER_TOKEN))
    post = model.waveform_decoder.conv_post
    post.weight.sub_(post.weight.mean(-1, keepdim=True))  # random features are mostly offset
    seen: list[Any] = []
    hook = post.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    tokens = torch.randint(1, 30, (1, 41))
    one = torch.tensor([0])
    model.inference(
        tokens,
        {
            "x_lengths": torch.tensor([41]),
            "speaker_ids": one if model.args.use_speaker_embedding else None,
            "d_vectors": torch.ones(1, 16) if model.args.use_d_vector_file else None,
            "language_ids": one if model.args.use_language_embedding else None,
        },
    )
    hook.remove()
    post.weight.mul_(_LOUDNESS / float(seen[0].std()))


def main() -> None:
    """Make one as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--phonemes", action="store_true", help="a model of American English phonemes")
    parser.add_argument("--speakers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    phonemes = "en-us" if chosen.phonemes else ""
    folder = make_vits(
        chosen.out, size=chosen.size, phonemes=phonemes, speakers=chosen.speakers, seed=chosen.seed
    )
    print(f"{folder}: {(folder / 'model.pth').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
