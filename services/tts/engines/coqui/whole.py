"""Any other model of the library's, through its own API: a sentence at a time, each whole.

The engines for VITS and XTTS speak as they compute. What is here are all other kinds (Tacotron 2, Glow-TTS,
FastPitch, Bark, Tortoise, …), as the library runs them: frames leave after each sentence, one chunk is
spoken at a time, and a cancel takes effect between sentences.

- The same request gives the same samples: all of the library's generators are seeded before each sentence.
- Speed is the model's own `length_scale` where it has one; else the audio is stretched afterwards, at the
  same pitch.
- Louder than full scale is scaled back, sentence by sentence.

Options beside those of every Coqui model: `vocoder` (a folder with `config.json` and a checkpoint; without
one the library's Griffin-Lim, or the vocoder that it lists for a model's name), `speaker`, and `speaker_wav`
for models that clone.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from services.tts.engines.base import (
    CannotSpeakError,
    Capabilities,
    Engine,
    OptionsError,
    Output,
    SpeakRequest,
    Variant,
)
from services.tts.engines.coqui.library import take_device
from services.tts.engines.coqui.model_files import ModelFiles, find_model
from services.tts.engines.coqui.options import Options
from services.tts.engines.coqui.versions import LIBRARIES
from services.tts.engines.coqui.weights import read_saved
from services.tts.engines.coqui.xtts_speakers import slug
from services.tts.engines.coqui.xtts_text import pieces, spell_long_numbers
from services.tts.pauses import pause_ms
from services.tts.text import neutralise, speakable
from voicemesh.runtime.frames import BYTES_PER_SAMPLE

_RENDERING: Final = 2
_MOST_CHARS: Final = 300
"""Of one sentence: attention and memory of most models go astray beyond."""
_SLICE_MS: Final = 100


class WholeEngine(Engine):
    """See the module.

    Args:
        files: Where the model is.
        language: Tag of the language that speaks by default.
        options: See the module.

    Raises:
        OptionsError: The declaration is wrong.

    """

    def __init__(self, files: ModelFiles, language: str, options: dict[str, Any]) -> None:
        taken = Options(options)
        taken.text("model")
        device = take_device(taken)
        vocoder, wanted = taken.text("vocoder"), taken.text("speaker")
        self._clips = taken.texts("speaker_wav")
        taken.finish(f"a model of the kind {files.kind}")
        for clip in self._clips:
            if not Path(clip).expanduser().is_file():
                raise OptionsError(f"option speaker_wav: there is no file {clip}")
        vocoder_files = find_model({"model": vocoder}) if vocoder else None
        self._synthesizer = _load(files, vocoder_files, cuda=device.type == "cuda")
        self._model = self._synthesizer.tts_model
        self._own_scale = getattr(self._model, "length_scale", None)
        speakers = _names(getattr(self._model, "speaker_manager", None), "speaker_names")
        languages = _names(getattr(self._model, "language_manager", None), "language_names")
        if wanted and wanted not in speakers:
            has = f"it has {', '.join(speakers)}" if speakers else "it has one"
            raise OptionsError(f"option speaker: {wanted!r} is not in the model; {has}")
        if wanted:
            speakers = [wanted]
        variants, self._said_by = _variants(speakers, languages, language)
        self._known = _letters(getattr(self._model, "tokenizer", None))
        self.capabilities = Capabilities(
            sample_rate_hz=int(self._synthesizer.output_sample_rate),
            slots=1,
            word_timings=False,
            deterministic=device.type == "cpu",  # the library's kernels on a GPU may add in any order
            revision=_revision(files, vocoder_files, [wanted, *self._clips], device.type),
            variants=variants,
            default_variant=variants[0].name if variants else "",
            language=variants[0].language if variants else _tag(language),
            max_chars=_MOST_CHARS,
        )

    def synthesize(self, request: SpeakRequest, output: Output) -> None:
        """Speak sentence by sentence."""
        speaker, language = self._said_by[request.variant]
        rate_hz = self.capabilities.sample_rate_hz
        sentences = list(self._sentences(request.text, language))
        if not sentences and speakable(request.text):
            raise CannotSpeakError("the model knows none of the letters of the text")
        size = _SLICE_MS * rate_hz // 1000 * BYTES_PER_SAMPLE
        for number, sentence in enumerate(sentences):
            if not output.pause(0):
                return
            pcm = self._speak(sentence, speaker, language, request, number)
            if number < len(sentences) - 1:
                pause = pause_ms(sentence, self.capabilities.language, request.speed)
                pcm += bytes(round(pause * rate_hz / 1000) * BYTES_PER_SAMPLE)
            for start in range(0, len(pcm), size):
                if not output.write(pcm[start : start + size]):
                    return

    def _sentences(self, text: str, language: str | None) -> Iterator[str]:
        plain = spell_long_numbers(neutralise(text))
        segmenters = self._synthesizer.segmenter
        segmenter = segmenters.get(language) or next(iter(segmenters.values()))
        for sentence in segmenter.segment(plain) if plain.strip() else ():
            for piece in pieces(sentence, _MOST_CHARS):
                if self._says(piece):
                    yield self._two_symbols(piece)

    def _says(self, text: str) -> bool:
        """Return whether the model knows a letter of `text`."""
        if self._known is None:
            return speakable(text)
        return any(number in self._known for number in self._model.tokenizer.text_to_ids(text))

    def _two_symbols(self, text: str) -> str:
        """Return `text`, and a mark or itself once more where it is one symbol: some models fail at that."""
        if self._known is None:
            return text
        longer = (text, f"{text}.", f"{text} ", f"{text} {text}")
        numbers = self._model.tokenizer.text_to_ids
        return next((each for each in longer if len(numbers(each)) > 1), text)

    def _speak(
        self, sentence: str, speaker: str | None, language: str | None, request: SpeakRequest, number: int
    ) -> bytes:
        seed = (request.seed + number) & 0xFFFFFFFF
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the one that the library draws from
        torch.manual_seed(seed)
        if self._own_scale is not None:
            self._model.length_scale = self._own_scale / request.speed
        with torch.inference_mode():
            made = self._synthesizer.tts(
                sentence,
                speaker_name=speaker,
                language_name=language,
                speaker_wav=[str(Path(clip).expanduser()) for clip in self._clips] or None,
                split_sentences=False,
            )
        from TTS.utils.synthesizer import PAD_SILENCE_SAMPLES  # noqa: PLC0415 - heavy

        samples = np.asarray(made, dtype=np.float32)[:-PAD_SILENCE_SAMPLES]
        if not np.isfinite(samples).all():
            raise RuntimeError("the model made audio that is no number (NaN or infinity)")
        if self._own_scale is None and request.speed != 1 and len(samples):
            import librosa  # noqa: PLC0415 - heavy, and only for this

            samples = librosa.effects.time_stretch(samples, rate=request.speed)
        loudest = float(np.abs(samples).max(initial=0))
        scaled = samples * (32767 / max(1.0, loudest))
        return bytes(scaled.round().astype("<i2").tobytes())


def _load(files: ModelFiles, vocoder: ModelFiles | None, *, cuda: bool) -> Any:
    from TTS.api import TTS  # noqa: PLC0415 - heavy
    from TTS.utils.synthesizer import Synthesizer  # noqa: PLC0415

    # Nothing of a file is executed: the library reads weights alone, since torch can. Looked at before, so
    # that what is wrong is said of the file that it is wrong with.
    for one in (files, vocoder):
        if one is not None and one.checkpoint is not None:
            read_saved(one.checkpoint)
    if files.name and vocoder is None:
        # By its name: the library adds the vocoder that it lists with the model.
        named = TTS(files.name, progress_bar=False)
        return named.to("cuda").synthesizer if cuda else named.synthesizer
    return Synthesizer(
        tts_checkpoint=str(files.checkpoint or files.folder),
        tts_config_path=str(files.config),
        vocoder_checkpoint=str(vocoder.checkpoint) if vocoder else "",
        vocoder_config=str(vocoder.config) if vocoder else "",
        use_cuda=cuda,
    )


def _names(manager: Any, attribute: str) -> list[str]:
    return [str(name) for name in getattr(manager, attribute, None) or ()]


def _tag(language: str) -> str:
    first, _, region = language.replace("_", "-").partition("-")
    return f"{first.lower()}-{region.upper()}" if region else first.lower()


def _variants(
    speakers: list[str], languages: list[str], own: str
) -> tuple[tuple[Variant, ...], Mapping[str, tuple[str | None, str | None]]]:
    """Return the variants, the default one first, and (speaker, language) as the library names them."""
    near = [name for name in languages if name.partition("-")[0] == own.lower().partition("-")[0]]
    if len(languages) > 1 and not near:
        raise OptionsError(f"language: the model has no {own!r}; it has {', '.join(languages)}")
    ordered: list[str | None] = [*near, *(name for name in languages if name not in near)]
    said_by: dict[str, tuple[str | None, str | None]] = {}
    variants = []
    voices: list[str | None] = [*speakers]
    for speaker in voices or [None]:
        for language in ordered or [None]:
            several = [
                slug(speaker) if speaker is not None and len(speakers) > 1 else "",
                language.lower() if language is not None and len(languages) > 1 else "",
            ]
            name = "-".join(part for part in several if part)
            said_by.setdefault("", (speaker, language))
            if name and name not in said_by:
                said_by[name] = (speaker, language)
                variants.append(Variant(name, _tag(language or own), max_chars=_MOST_CHARS))
    return tuple(variants), said_by


def _letters(tokenizer: Any) -> frozenset[int] | None:
    """Return the numbers of the letters that a tokenizer has; None where it does not say."""
    characters = getattr(tokenizer, "characters", None)
    vocabulary = getattr(characters, "vocab", None)
    if not vocabulary:
        return None
    return frozenset(
        number for number, character in enumerate(vocabulary) if len(character) == 1 and character.isalnum()
    )


def _revision(files: ModelFiles, vocoder: ModelFiles | None, facts: list[str], device: str) -> str:
    digest = hashlib.blake2b(f"{_RENDERING} {LIBRARIES} {facts} {device}".encode(), digest_size=6)
    for one in (files, vocoder):
        for path in (one.config, one.checkpoint) if one is not None else ():
            if path is not None:
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "blake2b").digest())
    return f"{files.kind}-{digest.hexdigest()}"
