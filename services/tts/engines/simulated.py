"""A voice whose speed and troubles can be set: for tests, and for planning capacity.

All delays are timers, not work, so that one machine can stand for many GPUs. Everything is drawn
from seeds: the same text, options and attempt have the same trouble and the same samples again.
"""

import hashlib
import json
import math
import os
import random
import threading
import time
from array import array
from typing import Any, Final, NamedTuple

from services.tts.engines.base import Capabilities, Engine, OptionsError, Output, SpeakRequest, Word
from services.tts.text import words_of
from voicemesh.runtime.frames import BYTES_PER_SAMPLE, frame_samples
from voicemesh.runtime.nearest import did_you_mean

_RENDERING: Final = 1
_AMPLITUDE: Final = 8000


class Options(NamedTuple):
    """What can be set, with its defaults."""

    audio: str = "tone"
    """`tone`: each word a tone of its own; `espeak`: real speech."""
    first_frame_ms: float = 0.0
    """From the start of a chunk to its first audio."""
    slow_rate: float = 0.0
    """Share of chunks whose first audio comes late."""
    slow_first_frame_ms: float = 1000.0
    """From the start of such a chunk to its first audio."""
    rtf: float = 0.0
    """Seconds per second of audio behind the first frame."""
    char_ms: float = 65.0
    """For `tone`: milliseconds of audio for each character, at speed 1."""
    sample_rate_hz: int = 24000
    """For `tone`."""
    slots: int = 32
    """Chunks that are spoken at once."""
    word_timings: bool = True
    """False: it does not say when words are heard, like most engines; then they are estimated."""
    max_chars: int = 0
    """Characters that it says it speaks well at a time; 0 for no limit."""
    failure_rate: float = 0.0
    """Share of chunks on which the engine reports an error, somewhere in the audio."""
    crash_rate: float = 0.0
    """Share of chunks on which the process dies, somewhere in the audio."""
    stall_rate: float = 0.0
    """Share of chunks on which nothing comes any more, somewhere in the audio."""
    zero_audio_rate: float = 0.0
    """Share of chunks that end well without a sample."""
    silence_rate: float = 0.0
    """Share of chunks that are as long as they should be, and silent."""
    troubled_attempts: int = 1000
    """Attempts at a chunk that may have trouble; later ones go well."""
    leak_mb: float = 0.0
    """Memory that each chunk takes and never gives back, in MB (2^20 bytes)."""
    load_s: float = 0.0
    """How long it takes to load."""
    seed: int = 0
    """Another seed, other troubles."""


class SimulatedEngine(Engine):
    """See the module.

    Args:
        language: Tag of what it pretends to speak; for `espeak` audio the language that speaks.
        options: Those of `Options`.

    Raises:
        OptionsError: An option is unknown or wrong.

    """

    def __init__(self, language: str, options: dict[str, Any]) -> None:
        self._options = _check_options(options)
        self._speech: Engine | None = None
        self._one_speaker = threading.Lock()
        self._leaked: list[bytearray] = []
        time.sleep(self._options.load_s)  # what loading a model costs, in the thread that would load it
        rate, language_tag, revision = self._options.sample_rate_hz, language, ""
        if self._options.audio == "espeak":
            # Imported here: tones need no extra.
            from services.tts.engines.espeak import EspeakEngine  # noqa: PLC0415 - see above

            self._speech = EspeakEngine(language, {})
            speech = self._speech.capabilities
            rate, language_tag, revision = speech.sample_rate_hz, speech.language, speech.revision
        audible = json.dumps([_RENDERING, self._options.audio, self._options.char_ms, rate, revision])
        self.capabilities = Capabilities(
            sample_rate_hz=rate,
            slots=self._options.slots,
            word_timings=self._options.word_timings,
            deterministic=self._speech is None or self._speech.capabilities.deterministic,
            revision="simulated-" + hashlib.blake2b(audible.encode(), digest_size=6).hexdigest(),
            language=language_tag,
            max_chars=self._options.max_chars,
        )

    def synthesize(self, request: SpeakRequest, output: Output) -> None:
        """Speak with the delays and the trouble that were set."""
        pcm, words = self._render(request)
        if not self._options.word_timings:
            words = []
        first_frame_s = self._first_frame_ms(request) / 1000
        trouble, trouble_at = ("", 0) if request.warm_up else self._trouble(request, len(pcm))
        if self._options.leak_mb and not request.warm_up:
            self._leaked.append(bytearray(round(self._options.leak_mb * 2**20)))
        if trouble == "silence":
            pcm, trouble = bytes(len(pcm)), ""
        if trouble == "nothing":
            output.pause(first_frame_s)
            return
        if not output.pause(0 if request.warm_up else first_frame_s):
            return
        rate = self.capabilities.sample_rate_hz
        position = sequence = 0
        while position < len(pcm):
            end = min(position + frame_samples(sequence, rate) * BYTES_PER_SAMPLE, len(pcm))
            seconds = (end - position) / BYTES_PER_SAMPLE / rate
            if sequence and not request.warm_up and not output.pause(seconds * self._options.rtf):
                return
            if trouble and end > trouble_at:
                self._suffer(trouble, output)
                return
            heard = [word for word in words if word.offset_samples * BYTES_PER_SAMPLE < end]
            if heard:
                output.words(heard)
                del words[: len(heard)]
            if not output.write(pcm[position:end]):
                return
            position = end
            sequence += 1

    def _render(self, request: SpeakRequest) -> tuple[bytes, list[Word]]:
        if self._speech is None:
            return tones(request, self.capabilities.sample_rate_hz, self._options.char_ms)
        take = _Take()
        with self._one_speaker:
            variant = self._speech.capabilities.default_variant
            self._speech.synthesize(request._replace(variant=variant), take)
        return b"".join(take.pcm), take.timings

    def _first_frame_ms(self, request: SpeakRequest) -> float:
        draw = random.Random(f"slow {self._options.seed} {request.seed} {request.attempt}")  # noqa: S311 - no secret
        slow = draw.random() < self._options.slow_rate
        return self._options.slow_first_frame_ms if slow else self._options.first_frame_ms

    def _trouble(self, request: SpeakRequest, size: int) -> tuple[str, int]:
        if request.attempt >= self._options.troubled_attempts:
            return "", 0
        draw = random.Random(f"{self._options.seed} {request.seed} {request.attempt}")  # noqa: S311 - no secret
        chance = draw.random()
        at = int(draw.random() * 0.8 * size)
        for name, rate in (
            ("failure", self._options.failure_rate),
            ("crash", self._options.crash_rate),
            ("stall", self._options.stall_rate),
            ("nothing", self._options.zero_audio_rate),
            ("silence", self._options.silence_rate),
        ):
            if chance < rate:
                return name, at
            chance -= rate
        return "", 0

    def _suffer(self, trouble: str, output: Output) -> None:
        if trouble == "failure":
            raise RuntimeError("simulated failure")
        if trouble == "crash":
            os._exit(70)
        while output.pause(3600):
            pass


class _Take:
    """An output that keeps everything."""

    def __init__(self) -> None:
        self.pcm: list[bytes] = []
        self.timings: list[Word] = []

    def write(self, pcm: bytes) -> bool:
        self.pcm.append(pcm)
        return True

    def words(self, words: list[Word]) -> None:
        self.timings += words

    def pause(self, seconds: float) -> bool:  # noqa: ARG002 - the interface's name
        return True


def tones(request: SpeakRequest, rate: int, char_ms: float) -> tuple[bytes, list[Word]]:
    """Give each word a tone as long as its share of the characters, silence to what is between."""
    text = request.text
    spans = words_of(text) if any(character.isalnum() for character in text) else []
    if not spans:
        return b"", []

    def at(offset: int) -> int:
        return round(offset * char_ms / 1000 / request.speed * rate)

    # From the first word to the end of the text: no silence in front, a short one behind.
    first = spans[0][0]
    pcm = bytearray(BYTES_PER_SAMPLE * at(len(text) - first))
    words = []
    for offset, length in spans:
        start, end = at(offset - first), at(offset + length - first)
        word = text[offset : offset + length]
        period = 40 + hashlib.blake2b(f"{word} {request.seed}".encode(), digest_size=2).digest()[0] % 120
        cycle = array("h", (round(_AMPLITUDE * math.sin(2 * math.pi * i / period)) for i in range(period)))
        tone = cycle.tobytes() * ((end - start) // period)
        pcm[BYTES_PER_SAMPLE * start : BYTES_PER_SAMPLE * start + len(tone)] = tone
        words.append(Word(offset, length, start))
    return bytes(pcm), words


def _check_options(options: dict[str, Any]) -> Options:
    unknown = sorted(options.keys() - set(Options._fields))
    if unknown:
        near = did_you_mean(unknown[0], Options._fields)
        raise OptionsError(
            f"option {unknown[0]}: simulated has the options {', '.join(Options._fields)}{near}"
        )
    checked = Options(**options)
    if checked.audio not in ("tone", "espeak"):
        raise OptionsError('option audio: must be "tone" or "espeak"')
    if not isinstance(checked.word_timings, bool):
        raise OptionsError("option word_timings: must be true or false")
    limits: dict[str, tuple[float, float, bool]] = {
        "first_frame_ms": (0, 600_000, False),
        "slow_first_frame_ms": (0, 600_000, False),
        "rtf": (0, 1000, False),
        "char_ms": (1, 10_000, False),
        "sample_rate_hz": (8000, 48000, True),
        "leak_mb": (0, 10_000, False),
        "load_s": (0, 3600, False),
        "slots": (1, 1024, True),
        "max_chars": (0, 100_000, True),
        "troubled_attempts": (1, 1000, True),
        "seed": (0, 2**31, True),
    }
    limits |= {name: (0, 1, False) for name in Options._fields if name.endswith("_rate")}
    check_numbers(checked._asdict(), limits)
    return checked


def check_numbers(options: dict[str, Any], limits: dict[str, tuple[float, float, bool]]) -> None:
    """Check options that are numbers, by (least, most, whole).

    Raises:
        OptionsError: One is no number, or out of its limits.

    """
    for name, (low, high, whole) in limits.items():
        value = options[name]
        number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise OptionsError(
                f"option {name}: must be a {'whole ' if whole else ''}number from {low} to {high}"
            )
