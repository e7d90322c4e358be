"""Whose voice XTTS speaks with: latents of reference clips, or of the model's own speakers.

The latents of a clip cost a second or more, and never change: they are computed once, when the voice is
loaded, and kept in a folder where the operator names one. The key is a digest of everything that decides
them, so a file that is there is right; one that cannot be read is made anew.
"""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from services.tts.engines.base import OptionsError

LEAST_S: Final = 1.0
MOST_S: Final = 60.0
"""Of one clip."""
_SILENCE: Final = 1e-3
_RATE_HZ: Final = 22050
_VERSION: Final = 1


class Speaker(NamedTuple):
    """Whose voice."""

    name: str
    """As the model's file has it; "" for reference clips."""
    latents: torch.Tensor
    """(positions, channels), float32: what the GPT hears first."""
    embedding: torch.Tensor
    """(1, channels, 1), float32: for the decoder."""


def slug(name: str) -> str:
    """Return a speaker's name as a part of a variant's: lower case, hyphens between words."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def own_speakers(path: Path, wanted: Sequence[str]) -> list[Speaker]:
    """Return the speakers of a model's `speakers_xtts.pth`: those `wanted`, or all.

    Raises:
        OptionsError: The file is missing or no such file, or a speaker is not in it.

    """
    if not path.is_file():
        raise OptionsError(
            f"option speaker_wav: the model has no speakers of its own ({path.name}): name a reference clip"
        )
    try:
        known = torch.load(path, map_location="cpu", weights_only=True)
        speakers = {
            str(name): _checked(str(name), *(tensor.float() for tensor in list(of.values())[:2]))
            for name, of in known.items()
        }
    except Exception as error:
        raise OptionsError(f"option model: {path} holds no speakers: {error}") from error
    if missing := [name for name in wanted if name not in speakers]:
        raise OptionsError(
            f"option speaker: {missing[0]!r} is not in the model; it has {', '.join(speakers)}"
        )
    return [speakers[name] for name in wanted or speakers]


def speaker_of_clips(model: Any, paths: Sequence[Path], folder: Path | None, model_digest: str) -> Speaker:
    """Return the speaker of reference clips, from `folder` where it was computed before.

    Args:
        model: The library's `Xtts`, in float32.
        paths: Clips of one speaker.
        folder: Where latents are kept; None for nowhere.
        model_digest: Of the model's weights.

    Raises:
        OptionsError: A clip cannot be used; the folder cannot be written.

    """
    settings = [
        int(model.config[name])
        for name in ("gpt_cond_len", "gpt_cond_chunk_len", "max_ref_len", "sound_norm_refs")
    ]
    digest = hashlib.blake2b(f"{_VERSION} {model_digest} {settings}".encode(), digest_size=16)
    clips = []
    for path in paths:
        clips.append(read_clip(path))
        digest.update(hashlib.blake2b(path.read_bytes(), digest_size=16).digest())
    kept = folder / f"xtts-{digest.hexdigest()}.pth" if folder is not None else None
    if kept is not None and (known := _kept(kept)) is not None:
        return known
    speaker: Speaker = _compute(model, clips, settings)
    if kept is not None:
        _keep(speaker, kept)
    return speaker


def read_clip(path: Path) -> torch.Tensor:
    """Return a clip as (1, samples), float32, 22,050 Hz, one channel.

    Raises:
        OptionsError: It is missing, no audio, too short, too long or silent.

    """
    # Imported here: of this alone. The library's own reader needs torchcodec.
    import soundfile  # noqa: PLC0415 - see above
    import torchaudio  # noqa: PLC0415

    if not path.is_file():
        raise OptionsError(f"option speaker_wav: there is no file {path}")
    try:
        length_s = soundfile.info(path).duration
        if LEAST_S <= length_s <= MOST_S:
            read, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise OptionsError(f"option speaker_wav: {path} cannot be read as audio: {error}") from None
    if not LEAST_S <= length_s <= MOST_S:
        raise OptionsError(
            f"option speaker_wav: {path} has {length_s:.1f} s; a clip has {LEAST_S:g} to {MOST_S:g} s"
        )
    audio = torch.from_numpy(read.T.copy()).mean(0, keepdim=True)
    if not bool(torch.isfinite(audio).all()) or float(audio.abs().max()) < _SILENCE:
        raise OptionsError(f"option speaker_wav: {path} is silent, or holds numbers that are no audio")
    if rate_hz != _RATE_HZ:
        audio = torchaudio.functional.resample(audio, rate_hz, _RATE_HZ)
    return audio.clip_(-1, 1)


@torch.inference_mode()
def _compute(model: Any, clips: Sequence[torch.Tensor], settings: Sequence[int]) -> Speaker:
    """Do as `Xtts.get_conditioning_latents` does with the files."""
    gpt_s, chunk_s, most_s, even = settings
    embeddings, parts = [], []
    for clip in clips:
        audio = clip[:, : _RATE_HZ * most_s]
        if even:
            audio = audio / audio.abs().max() * 0.75
        embeddings.append(model.get_speaker_embedding(audio, _RATE_HZ))
        parts.append(audio)
    latents = model.get_gpt_cond_latents(torch.cat(parts, -1), _RATE_HZ, length=gpt_s, chunk_length=chunk_s)
    return _checked("", latents, torch.stack(embeddings).mean(0))


def _checked(name: str, latents: torch.Tensor, embedding: torch.Tensor) -> Speaker:
    if latents.dim() != 3 or latents.shape[0] != 1 or embedding.dim() != 3 or embedding.shape[0] != 1:
        raise ValueError(f"latents of {name or 'the clips'} have shapes that XTTS does not take")
    if not bool(torch.isfinite(latents).all()) or not bool(torch.isfinite(embedding).all()):
        raise ValueError(f"latents of {name or 'the clips'} hold numbers that are none")
    return Speaker(name, latents[0].detach().clone(), embedding.detach().clone())


def _kept(path: Path) -> Speaker | None:
    if not path.is_file():
        return None
    # Whatever is wrong with it, the latents can be made again.
    with contextlib.suppress(Exception):
        kept = torch.load(path, map_location="cpu", weights_only=True)
        return _checked("", kept["latents"].float()[None], kept["embedding"].float())
    return None


def _keep(speaker: Speaker, path: Path) -> None:
    """Write a whole file or none: replicas that start together may write the same."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            torch.save({"latents": speaker.latents.cpu(), "embedding": speaker.embedding.cpu()}, file)
        os.replace(file.name, path)  # noqa: PTH105 - names as the file object gives them
    except OSError as error:
        raise OptionsError(f"option latents_cache: {path.parent} cannot be written: {error}") from None
