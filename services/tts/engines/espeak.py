"""espeak-ng: speech in 130 languages from a 10 MB wheel, about 500 times faster than it is heard.

The library and its data come with `espeakng-loader`. What callers should know:

- Speed 1.0 is 175 words a minute. espeak-ng speaks no slower than 80, which is 0.46.
- Markup and phoneme input stay off, control characters are spaces: text is spoken, never obeyed.
- A pause follows a text that ends with a mark, as long as the mark asks for; none follows a text
  that was cut between two words.
"""

import hashlib
from pathlib import Path
from typing import Any, Final

from services.tts.engines.base import (
    Capabilities,
    Engine,
    OptionsError,
    Output,
    SpeakRequest,
    Variant,
    Word,
)
from services.tts.engines.espeak_library import EspeakLibrary, ListedVoice, WordEvent
from services.tts.text import WordBounds, neutralise, pauses_at_end, speakable
from voicemesh.runtime.nearest import did_you_mean

_WORDS_PER_MINUTE: Final = 175
_RENDERING: Final = 1
"""Raised whenever this module gives other samples for the same text."""


class EspeakEngine(Engine):
    """espeak-ng with all its voices as variants.

    Args:
        language: Tag of the variant that speaks by default, as the library lists it ("en-us").
        options: `pitch`: 0 to 99, 50 if absent. `timbre`: one of the library's timbres ("f2").

    Raises:
        OptionsError: The language or an option is not one that there is.
        RuntimeError: The library or its data cannot be loaded.

    """

    def __init__(self, language: str, options: dict[str, Any]) -> None:
        # Imported here: it is an extra, and whoever uses another engine need not have it.
        import espeakng_loader  # noqa: PLC0415 - see above

        data_path = Path(espeakng_loader.get_data_path())
        library_path = Path(espeakng_loader.get_library_path())
        self._pitch, self._timbre = _check_options(options, data_path / "voices" / "!v")
        self._library = EspeakLibrary(library_path, data_path)
        variants, self._identifiers = _variants(self._library.voices(), data_path)
        default = _find(variants, language)
        self.capabilities = Capabilities(
            sample_rate_hz=self._library.sample_rate_hz,
            slots=1,
            word_timings=True,
            deterministic=self._library.repeatable,
            revision=_revision(self._library.version, library_path, data_path, options),
            variants=variants,
            default_variant=default.name,
            language=default.language,
        )

    def synthesize(self, request: SpeakRequest, output: Output) -> None:
        """Speak; a cancel takes effect at the next buffer, 200 ms of audio or 0.2 ms of work later."""
        text = neutralise(request.text)
        bounds = WordBounds(text)
        # Without letters or digits there may still be something to say ("%", an emoji). Only a word
        # event tells, so until one comes the audio is held: what has none is silence, and left out.
        held: list[bytes] | None = None if speakable(text) else []

        def on_buffer(pcm: bytes, events: list[WordEvent]) -> bool:
            nonlocal held
            words: list[Word] = []
            for event in events:
                words += bounds.add(*event)
            if held is not None:
                if not words:
                    held.append(pcm)
                    return output.pause(0)
                pcm, held = b"".join((*held, pcm)), None
            if words:
                output.words(words)
            return output.write(pcm) if pcm else output.pause(0)

        self._library.reset(request.seed & 0x7FFFFFFF)
        self._library.set_voice(self._identifiers[request.variant] + self._timbre)
        self._library.set_speech(round(_WORDS_PER_MINUTE * request.speed), self._pitch)
        self._library.speak(text, on_buffer, end_pause=pauses_at_end(text))


def _check_options(options: dict[str, Any], timbres_path: Path) -> tuple[int, str]:
    unknown = sorted(options.keys() - {"pitch", "timbre"})
    if unknown:
        near = did_you_mean(unknown[0], ("pitch", "timbre"))
        raise OptionsError(f"option {unknown[0]}: espeak has the options pitch and timbre{near}")
    pitch = options.get("pitch", 50)
    if not isinstance(pitch, int) or isinstance(pitch, bool) or not 0 <= pitch <= 99:
        raise OptionsError("option pitch: must be a whole number from 0 to 99")
    timbre = options.get("timbre", "")
    # The library speaks with its own voice, without a word, where the timbre is missing.
    if timbre and timbre not in (timbres := sorted(path.name for path in timbres_path.iterdir())):
        raise OptionsError(f"option timbre: must be one of {', '.join(timbres)}")
    return pitch, f"+{timbre}" if timbre else ""


def _variants(voices: list[ListedVoice], data_path: Path) -> tuple[tuple[Variant, ...], dict[str, str]]:
    """Return the variants, and the library's identifier for each name.

    A variant's name is its main language tag; where two share it, the second's is the last part of
    its identifier. Names differ from what the library itself takes: it lists "fr-fr" and has only
    the file "fr". Voices whose dictionary the wheel leaves out cannot speak and are not listed.
    """
    files = frozenset(path.name for path in data_path.iterdir())
    identifiers: dict[str, str] = {}
    aliases: dict[str, list[tuple[int, str]]] = {}
    for voice in voices:
        tag = voice.languages[0][1].lower()
        if f"{tag.split('-')[0]}_dict" not in files and not _has_dictionary(voice, data_path, files):
            continue
        last = voice.identifier.rsplit("/", 1)[-1].lower()
        name = tag if tag not in identifiers else last
        identifiers[name] = voice.identifier
        aliases[name] = [(0, last), *((priority, other.lower()) for priority, other in voice.languages[1:])]
    # An alias belongs to the variant that gives it the best (lowest) priority, names to their own.
    owners: dict[str, tuple[int, str]] = {}
    for name, others in aliases.items():
        for priority, alias in others:
            if alias not in identifiers and (alias not in owners or priority < owners[alias][0]):
                owners[alias] = (priority, name)
    listed = []
    for name in sorted(identifiers):
        own = tuple(sorted(alias for alias, (_, owner) in owners.items() if owner == name))
        tag = next(v.languages[0][1] for v in voices if v.identifier == identifiers[name])
        listed.append(Variant(name, bcp47(tag), own))
    return tuple(listed), identifiers


def _has_dictionary(voice: ListedVoice, data_path: Path, files: frozenset[str]) -> bool:
    with (data_path / "lang" / voice.identifier).open(encoding="utf-8", errors="replace") as file:
        for line in file:
            key, _, value = line.strip().partition(" ")
            if key == "dictionary":
                return f"{value.strip()}_dict" in files
    return False


def _find(variants: tuple[Variant, ...], language: str) -> Variant:
    wanted = language.lower()
    for variant in variants:
        if wanted in (variant.name, *variant.aliases):
            return variant
    near = [variant.name for variant in variants if variant.name.split("-")[0] == wanted.split("-")[0]]
    hint = f"it has {', '.join(near)}" if near else "see ListVoices for those that it has"
    raise OptionsError(f"language: espeak has no {language!r}; {hint}")


def bcp47(tag: str) -> str:
    """Return a language tag with the usual capitals: "en-us" → "en-US", "cmn-latn-x" → "cmn-Latn-x"."""
    first, *rest = tag.lower().split("-")
    parts = [first]
    private = False
    for part in rest:
        if private or not part.isalpha():
            parts.append(part)
        elif part == "x":
            private = True
            parts.append(part)
        else:
            parts.append({2: part.upper(), 4: part.title()}.get(len(part), part))
    return "-".join(parts)


def _revision(version: str, library_path: Path, data_path: Path, options: dict[str, Any]) -> str:
    digest = hashlib.blake2b(
        f"espeak {_RENDERING} {version} {sorted(options.items())}".encode(), digest_size=6
    )
    digest.update(library_path.read_bytes())
    # The dictionaries and phonemes: their names and lengths, because reading 10 MB would take longer
    # than everything else that a worker does before it speaks.
    for path in sorted(path for path in data_path.iterdir() if path.is_file()):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    return f"espeak-{version}-{digest.hexdigest()}"
