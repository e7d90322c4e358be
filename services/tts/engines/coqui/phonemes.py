"""Phonemes by libespeak-ng within the process, in place of the executable that the library starts.

The library runs `espeak-ng` once for every fragment between two marks: 11 ms each, and the executable must
be on the PATH. Here the same fragments go to libespeak-ng in the wheel `espeakng-loader`, with the same
voice and the same mode, the language marks taken out. What the library does around it (cleaning, marks kept
apart and put back) stays its own.

The phonemes are those that the executable of the same version prints, but for text in double brackets: it
obeys "[[…]]" as phonemes, here it is read out. Another version can say a word in another way.
"""

import functools
import importlib.util
import re
from pathlib import Path
from typing import Any, Final

from services.tts.engines.base import OptionsError
from services.tts.engines.coqui.library import INSTALL
from services.tts.engines.espeak_library import EspeakLibrary

NAME: Final = "espeak"
"""What configurations call it."""

_LANGUAGE_MARK: Final = re.compile(r"\(.+?\)")
_ALIASES: Final = {"en": "en-us", "zh-cn": "cmn"}  # as the library's own `ESpeak` reads them


@functools.cache
def espeak_library() -> EspeakLibrary:
    """Return the library of this process: there can be one.

    Raises:
        OptionsError: It is not installed.

    """
    try:
        import espeakng_loader  # noqa: PLC0415 - part of an extra
    except ModuleNotFoundError:
        raise OptionsError(
            f"engine: this model needs espeakng-loader, which is not installed: {INSTALL}"
        ) from None
    return EspeakLibrary(Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path()))


def phonemes(library: EspeakLibrary, language: str, text: str, separator: str = "") -> str:
    """Return the phonemes of a fragment as the library's `ESpeak` gives them, words parted by spaces."""
    library.set_language(_ALIASES.get(language, language))
    clauses = library.phonemes(text, "_")
    said = "".join(_LANGUAGE_MARK.sub("", clause.strip()).strip() for clause in clauses)
    return said.replace("_", separator)


def use_own_phonemes() -> None:
    """Have the library's models take their phonemes from here; call it before one is made."""
    from TTS.tts.utils.text import phonemizers  # noqa: PLC0415 - heavy

    own = _phonemizer_class()
    if phonemizers.PHONEMIZERS.get(NAME) is own:
        return
    phonemizers._register_phonemizers()  # noqa: SLF001 - else it would register over ours later
    phonemizers.PHONEMIZERS[NAME] = own
    if importlib.util.find_spec("espeakng_loader") is None:
        return  # models of letters need none of it; one of phonemes says what is missing when it is made
    # As the library has it where the executable is there: before gruut, behind what is for one language.
    known = phonemizers.DEF_LANG_TO_PHONEMIZER
    for language in (*own.supported_languages(), "en"):
        if known.get(language, "gruut") == "gruut":
            known[language] = NAME


@functools.cache
def _phonemizer_class() -> Any:
    from TTS.tts.utils.text.phonemizers.base import BasePhonemizer  # noqa: PLC0415 - heavy
    from TTS.tts.utils.text.punctuation import Punctuation  # noqa: PLC0415 - heavy

    class OwnEspeak(BasePhonemizer):
        """The library's `ESpeak`, without the executable."""

        def __init__(
            self,
            language: str,
            punctuations: str = Punctuation.default_puncs(),
            *,
            keep_puncs: bool = True,
        ) -> None:
            espeak_library()  # says what is missing, if anything is
            super().__init__(language, punctuations=punctuations, keep_puncs=keep_puncs)

        @staticmethod
        def name() -> str:
            return NAME

        def _phonemize(self, text: str, separator: str) -> str:
            return phonemes(espeak_library(), self.language, text, separator)

        def _init_language(self, language: str) -> str:
            try:
                espeak_library().set_language(_ALIASES.get(language, language))
            except ValueError as error:
                raise OptionsError(f"option model: its phonemes are of {language!r}; {error}") from None
            return language

        @staticmethod
        def supported_languages() -> dict[str, str]:
            return {
                tag: voice.identifier
                for voice in espeak_library().voices()
                for _, tag in reversed(voice.languages)
            }

        @classmethod
        def is_available(cls) -> bool:
            return True

        def version(self) -> str:
            return str(espeak_library().version)

    return OwnEspeak
