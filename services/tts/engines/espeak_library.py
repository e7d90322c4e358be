"""libespeak-ng through ctypes, made repeatable.

The library is one global state: one per process, one thread at a time.

**Repeatable audio.** The library keeps four values of its wave generator from one text to the next
and resets them nowhere, not in `espeak_Terminate` either (1.52.0, src/libespeak-ng/wavegen.c): the
position in the flutter table, the automatic gain, a cycle counter and a sign. So the same text gives
a few samples more or less each time. They are function-level statics without an API; the library's
symbol table says where they are. `reset` puts back the values that they had when the library was
loaded, and seeds its random numbers. With that, 1,500 texts of 17 languages in random order, with
cancels in between, gave the same samples every time, also in other processes. Where the symbols are
not to be found (a stripped library, another format than ELF), `repeatable` is False.
"""

import ctypes
import functools
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

_SYNCHRONOUS: Final = 2  # AUDIO_OUTPUT_SYNCHRONOUS: espeak_Synth returns when all is spoken
_DONT_EXIT: Final = 0x8000  # espeakINITIALIZE_DONT_EXIT: without it a failure ends the process
_BUFFER_MS: Final = 200  # 0.2 ms of work; the library takes no less than 60, which costs 10% more in calls
_UTF8: Final = 1
_END_PAUSE: Final = 0x1000
_EVENT_END, _EVENT_WORD = 0, 1
_RATE, _PITCH = 1, 3
_FAST: Final = 450  # words a minute; above, the library speeds up what it has made
_IPA: Final = 2  # bit 1 of the mode of phonemes; bits 8 to 23 are what stands between two of them
_STRESS: Final = "\N{MODIFIER LETTER VERTICAL LINE}"
_TONE_LANGUAGES: Final = frozenset({"cmn", "hak", "shn", "th", "vi", "yue", "zh", "zhy"})
_STATICS: Final = ("Flutter_ix", "agc", "cycle_count", "h_switch_sign")


class WordEvent(NamedTuple):
    """A word begins."""

    text_offset: int
    text_length: int
    offset_samples: int


class ListedVoice(NamedTuple):
    """A voice that the library lists."""

    identifier: str
    """Its file below `voices` or `lang`, for example "gmw/en-US"."""
    languages: tuple[tuple[int, str], ...]
    """(priority, tag), the main one first; a lower priority is a better match."""


OnBuffer = Callable[[bytes, list[WordEvent]], bool]
"""Takes PCM and the words that begin in it; returns False to stop."""


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.POINTER(ctypes.c_char)),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)
_PhonemeCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p)


class EspeakLibrary:
    """The loaded library.

    Args:
        library_path: The shared library.
        data_path: Its folder `espeak-ng-data`.

    Raises:
        RuntimeError: It cannot be loaded with this data.

    """

    def __init__(self, library_path: Path, data_path: Path) -> None:
        lib = self._lib = ctypes.CDLL(str(library_path))
        lib.espeak_Initialize.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
        lib.espeak_SetVoiceByName.argtypes = (ctypes.c_char_p,)
        lib.espeak_SetSynthCallback.argtypes = (_Callback,)
        lib.espeak_SetSynthCallback.restype = None
        lib.espeak_Info.restype = ctypes.c_char_p
        lib.espeak_ListVoices.argtypes = (ctypes.c_void_p,)
        lib.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        lib.espeak_Synth.argtypes = (
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.POINTER(ctypes.c_uint),
            ctypes.c_void_p,
        )
        lib.espeak_TextToPhonemes.argtypes = (ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int)
        lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
        lib.espeak_SetPhonemeTrace.argtypes = (ctypes.c_int, ctypes.c_void_p)
        lib.espeak_SetPhonemeTrace.restype = None
        lib.espeak_SetPhonemeCallback.argtypes = (_PhonemeCallback,)
        lib.espeak_SetPhonemeCallback.restype = None
        lib.espeak_SetVoiceByProperties.argtypes = (ctypes.POINTER(_Voice),)
        self._seed: Any = getattr(lib, "espeak_ng_SetRandSeed", None)  # since 1.52
        if self._seed is not None:
            self._seed.argtypes = (ctypes.c_long,)
        # Before the first text: these are the values as they were loaded.
        self._statics = _read_statics(library_path, lib) if self._seed is not None else {}
        self.repeatable = len(self._statics) == len(_STATICS)
        self.sample_rate_hz: int = lib.espeak_Initialize(
            _SYNCHRONOUS, _BUFFER_MS, str(data_path).encode(), _DONT_EXIT
        )
        if self.sample_rate_hz <= 0:
            raise RuntimeError(f"espeak-ng does not start with the data in {data_path}")
        self.version = lib.espeak_Info(None).decode()
        self._on_buffer: OnBuffer | None = None
        self._fast = False
        self._tonal = False
        self._error: Exception | None = None
        self._callback = _Callback(self._called_back)  # kept: the library holds only its address
        lib.espeak_SetSynthCallback(self._callback)

    def voices(self) -> list[ListedVoice]:
        """Return the library's voices for languages, in its order."""
        listed = self._lib.espeak_ListVoices(None)
        voices = []
        index = 0
        while listed[index]:
            voice = listed[index].contents
            voices.append(ListedVoice(voice.identifier.decode(), tuple(_languages(voice.languages))))
            index += 1
        return voices

    def reset(self, seed: int) -> None:
        """Forget the texts before, so that the next one sounds as in a fresh process."""
        for address, value in self._statics.items():
            ctypes.memmove(address, value, len(value))
        if self._seed is not None:
            self._seed(seed)

    def set_voice(self, identifier: str) -> None:
        """Choose a voice by its identifier, with "+name" for a timbre.

        Raises:
            ValueError: There is no such voice.

        """
        if self._lib.espeak_SetVoiceByName(identifier.encode()):
            raise ValueError(f"espeak-ng has no voice {identifier!r}")

    def set_language(self, language: str) -> None:
        """Choose a voice as the command `espeak-ng -v` does: by its name, else by its language.

        Raises:
            ValueError: There is none for it.

        """
        self._tonal = language.partition("-")[0] in _TONE_LANGUAGES
        if not self._lib.espeak_SetVoiceByName(language.encode()):
            return
        wanted = ctypes.create_string_buffer(language.encode() + b"\0")
        voice = _Voice(languages=ctypes.cast(wanted, ctypes.POINTER(ctypes.c_char)))
        if self._lib.espeak_SetVoiceByProperties(ctypes.byref(voice)):
            raise ValueError(f"espeak-ng has no voice for {language!r}")

    def phonemes(self, text: str, separator: str = "") -> list[str]:
        """Return what is spoken for `text` in the International Phonetic Alphabet, clause by clause.

        Words are separated by spaces, phonemes of a word by `separator`. A word of another language is
        marked, as in "(en)jes(fr)". Markup and phoneme input are off, as for `speak`.

        They are what `espeak-ng --ipa` prints: those of the moment before a clause becomes sound.
        `espeak_TextToPhonemes` is quick, but gives them earlier, before the intonation stresses a clause
        that has no stress ("the"), and before it moves the tones of tone languages (1.52.0,
        src/libespeak-ng/intonation.c, `CalcPitches`). Such a text is spoken, and its sound thrown away.

        Raises:
            RuntimeError: The library failed.

        """
        mode = _IPA | (ord(separator) << 8 if separator else 0)
        clauses = self._early_phonemes(text, mode)
        if self._tonal or any(clause.strip() and _STRESS not in clause for clause in clauses):
            return self._late_phonemes(text, mode)
        return clauses

    def _early_phonemes(self, text: str, mode: int) -> list[str]:
        buffer = ctypes.create_string_buffer(text.encode())
        rest = ctypes.c_void_p(ctypes.addressof(buffer))
        clauses = []
        while rest.value:
            said = self._lib.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, mode)
            clauses.append(said.decode("utf-8", "replace") if said else "")
        return clauses

    def _late_phonemes(self, text: str, mode: int) -> list[str]:
        clauses: list[str] = []

        def note(said: bytes | None) -> int:
            clauses.append((said or b"").decode("utf-8", "replace"))
            return 0

        callback = _PhonemeCallback(note)
        # The library calls back only where it prints as well.
        self._lib.espeak_SetPhonemeTrace(mode, _nowhere())
        self._lib.espeak_SetPhonemeCallback(callback)
        try:
            # To its end: a stop would leave out the clauses behind.
            self._synthesize(text, lambda pcm, words: True, end_pause=False)  # noqa: ARG005
        finally:
            self._lib.espeak_SetPhonemeCallback(_PhonemeCallback())
            self._lib.espeak_SetPhonemeTrace(0, None)
        return clauses

    def set_speech(self, words_per_minute: int, pitch: int) -> None:
        """Set rate (80 to 900; the library takes slower for 80) and pitch (0 to 99)."""
        self._fast = words_per_minute > _FAST
        self._lib.espeak_SetParameter(_RATE, words_per_minute, 0)
        self._lib.espeak_SetParameter(_PITCH, pitch, 0)

    def speak(self, text: str, on_buffer: OnBuffer, *, end_pause: bool) -> None:
        """Speak `text` as plain text, without markup. Blocks; `on_buffer` is called from in here.

        Raises:
            RuntimeError: The library failed.
            Exception: What `on_buffer` raised.

        """
        self._synthesize(text, on_buffer, end_pause=end_pause)
        if self._fast:
            self.set_speech(_FAST, 50)
            self._synthesize("a", lambda pcm, words: False, end_pause=False)  # noqa: ARG005 - stops at once

    def _synthesize(self, text: str, on_buffer: OnBuffer, *, end_pause: bool) -> None:
        encoded = text.encode()
        self._on_buffer, self._error = on_buffer, None
        flags = _UTF8 | (_END_PAUSE if end_pause else 0)
        status = self._lib.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, flags, None, None)
        self._on_buffer = None
        if self._error is not None:
            raise self._error
        if status:
            raise RuntimeError(f"espeak-ng failed with status {status}")

    def _called_back(self, samples: Any, count: int, events: Any) -> int:
        # An exception must not cross the C frames above: it is kept for `speak`.
        try:
            words = []
            index = 0
            while (event := events[index]).type != _EVENT_END:
                if event.type == _EVENT_WORD:
                    words.append(WordEvent(event.text_position - 1, event.length, event.sample))
                index += 1
            pcm = ctypes.string_at(samples, count * 2) if samples and count > 0 else b""
            assert self._on_buffer is not None
            return 0 if self._on_buffer(pcm, words) else 1
        except Exception as error:  # noqa: BLE001 - raised again by `speak`
            self._error = error
            return 1


@functools.cache
def _nowhere() -> int:
    """Return a C stream (`FILE *`) that keeps nothing; open as long as the process."""
    c = ctypes.CDLL(None)
    c.fopen.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    c.fopen.restype = ctypes.c_void_p
    stream: int | None = c.fopen(os.devnull.encode(), b"w")
    if not stream:
        raise RuntimeError(f"{os.devnull} cannot be opened")
    return stream


def _languages(packed: Any) -> Iterator[tuple[int, str]]:
    # priority byte, tag, NUL, priority byte, tag, NUL, …, NUL
    position = 0
    while packed[position] != b"\0":
        priority = packed[position][0]
        end = position + 1
        while packed[end] != b"\0":
            end += 1
        yield priority, packed[position + 1 : end].decode()
        position = end + 1


def _read_statics(library_path: Path, lib: ctypes.CDLL) -> dict[int, bytes]:
    """Return address → present value of the statics that `reset` puts back; empty where unknown."""
    found: dict[str, tuple[int, int]] = {}
    anchor = 0
    try:
        for name, value, size in _symbols(library_path.read_bytes()):
            base = name.split(".")[0]
            if base in _STATICS and 0 < size <= 8:
                found[base] = (value, size)
            elif name == "espeak_Initialize":
                anchor = value
    except (OSError, struct.error, ValueError):
        return {}
    address = ctypes.cast(lib.espeak_Initialize, ctypes.c_void_p).value
    if not anchor or address is None or len(found) != len(_STATICS):
        return {}
    offset = address - anchor
    return {offset + value: ctypes.string_at(offset + value, size) for value, size in found.values()}


def _symbols(image: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield (name, value, size) of the symbol table of a little-endian ELF64 image; none for others."""
    if image[:6] != b"\x7fELF\x02\x01":
        return
    (sections_at,) = struct.unpack_from("<Q", image, 0x28)
    entry_size, count = struct.unpack_from("<HH", image, 0x3A)
    sections = [
        struct.unpack_from("<IIQQQQIIQQ", image, sections_at + index * entry_size) for index in range(count)
    ]
    for _, kind, _, _, offset, size, link, _, _, _ in sections:
        if kind != 2:  # SHT_SYMTAB
            continue
        names_at = sections[link][4]
        for at in range(offset, offset + size, 24):
            name_at, _, _, _, value, length = struct.unpack_from("<IBBHQQ", image, at)
            start = names_at + name_at
            yield image[start : image.index(b"\0", start)].decode("ascii", "replace"), value, length
