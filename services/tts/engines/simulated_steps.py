"""A voice that batches, with speed and troubles that can be set: for tests, and for planning capacity.

An utterance takes one step `text`, then steps `decode` of one window of audio each, the first one short.
Costs are timers, not work, so that one machine can stand for a GPU. The same text and seed have the same
samples, in any batch and from any offset.
"""

import hashlib
import json
import os
import random
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from services.tts.engines.base import (
    Capabilities,
    OptionsError,
    OutOfMemoryError,
    SpeakRequest,
    Step,
    SteppedEngine,
    Utterance,
    Word,
)
from services.tts.engines.simulated import check_numbers, tones
from voicemesh.runtime.frames import BYTES_PER_SAMPLE

_RENDERING: Final = 1
_FIRST_WINDOW_MS: Final = 80
_TEXT_SIZES: Final = (64, 256, 1024)
_SILENCE_SAMPLE: Final = b"\x05\x00"


class Options(NamedTuple):
    """What can be set, with its defaults."""

    text_ms: float = 0.0
    """A step `text`, for a batch of any size."""
    step_ms: float = 0.0
    """A step `decode`, for a batch of one."""
    item_ms: float = 0.0
    """For each further utterance in it, the bucket's padding included."""
    window_ms: int = 300
    """Audio of a step `decode`, but for the first one."""
    batch: int = 8
    """Utterances that may take a step together."""
    memory: int = 0
    """Utterances for whose step there is memory; 0: for any number."""
    silence_ms: int = 0
    """Silence in front of the speech and behind it."""
    char_ms: float = 65.0
    """Milliseconds of audio for each character, at speed 1."""
    sample_rate_hz: int = 24000
    """Samples per second."""
    slots: int = 64
    """Chunks that are spoken at once."""
    word_timings: bool = True
    """False: it does not say when words are heard; then they are estimated."""
    failure_rate: float = 0.0
    """Share of chunks on which the engine reports an error, somewhere in the audio."""
    crash_rate: float = 0.0
    """Share of chunks on which the process dies, somewhere in the audio."""
    seed: int = 0
    """Another seed, other troubles."""


class _Speaking:
    """One utterance; see `Utterance`."""

    def __init__(self, request: SpeakRequest, options: Options) -> None:
        rate = options.sample_rate_hz
        pcm, words = tones(request, rate, options.char_ms)
        silence = _SILENCE_SAMPLE * (options.silence_ms * rate // 1000)
        self._pcm = silence + pcm + silence if pcm else b""
        shift = len(silence) // BYTES_PER_SAMPLE
        self._words = [word._replace(offset_samples=word.offset_samples + shift) for word in words]
        self._options = options
        self._from = self._at = 0  # bytes: not taken yet, made so far
        size = next((size for size in _TEXT_SIZES if len(request.text) <= size), _TEXT_SIZES[-1])
        self.step: Step | None = Step("text", size) if self._pcm else None
        self.trouble, self._trouble_at = self._draw(request)

    def _draw(self, request: SpeakRequest) -> tuple[str, int]:
        options = self._options
        draw = random.Random(f"{options.seed} {request.seed} {request.attempt}")  # noqa: S311 - no secret
        chance, at = draw.random(), int(draw.random() * 0.8 * len(self._pcm))
        if request.warm_up or chance >= options.failure_rate + options.crash_rate:
            return "", 0
        return ("failure" if chance < options.failure_rate else "crash"), at

    def advance(self) -> None:
        """Take the step that is due."""
        assert self.step is not None
        if self.step.stage == "decode":
            self._at = min(
                self._at + self.step.size * self._options.sample_rate_hz // 1000 * 2, len(self._pcm)
            )
            if self.trouble and self._at > self._trouble_at:
                self._suffer()
        first = not self._at
        self.step = Step("decode", _FIRST_WINDOW_MS if first else self._options.window_ms)
        if self._at == len(self._pcm):
            self.step = None

    def _suffer(self) -> None:
        if self.trouble == "crash":
            os._exit(70)
        raise RuntimeError("simulated failure")

    def take(self) -> tuple[bytes, list[Word]]:
        """See `Utterance`."""
        pcm = self._pcm[self._from : self._at]
        self._from = self._at
        words = [word for word in self._words if word.offset_samples * BYTES_PER_SAMPLE < self._at]
        del self._words[: len(words)]
        return pcm, words if self._options.word_timings else []

    def skip_to(self, sample: int) -> int:
        """See `Utterance`."""
        window = self._options.window_ms * self._options.sample_rate_hz // 1000 * BYTES_PER_SAMPLE
        if self.step is not None and self._at:
            target = min(sample * BYTES_PER_SAMPLE, len(self._pcm) - BYTES_PER_SAMPLE)
            self._at += max(0, target - self._at) // window * window
            self._from = self._at
        return self._at // BYTES_PER_SAMPLE


class SimulatedSteps(SteppedEngine):
    """See the module.

    Args:
        language: Tag of what it pretends to speak.
        options: Those of `Options`.

    Raises:
        OptionsError: An option is unknown or wrong.

    """

    def __init__(self, language: str, options: dict[str, Any]) -> None:
        self._options = _check_options(options)
        audible = json.dumps(
            [
                _RENDERING,
                self._options.char_ms,
                self._options.sample_rate_hz,
                self._options.silence_ms,
            ]
        )
        self.capabilities = Capabilities(
            sample_rate_hz=self._options.sample_rate_hz,
            slots=self._options.slots,
            word_timings=self._options.word_timings,
            deterministic=True,
            revision="simulated-steps-" + hashlib.blake2b(audible.encode(), digest_size=6).hexdigest(),
            language=language,
        )

    def open(self, request: SpeakRequest) -> Utterance:
        """See `SteppedEngine`."""
        return _Speaking(request, self._options)

    def run(self, utterances: Sequence[Utterance]) -> None:
        """See `SteppedEngine`."""
        step = utterances[0].step
        assert step is not None
        size = min(1 << (len(utterances) - 1).bit_length(), self.batch_limit(step))
        self.prepare(step, size)
        for utterance in utterances:
            assert isinstance(utterance, _Speaking)
            utterance.advance()

    def batch_limit(self, step: Step) -> int:  # noqa: ARG002 - the interface's name
        """See `SteppedEngine`."""
        return self._options.batch

    def steps(self) -> Sequence[Step]:
        """See `SteppedEngine`."""
        windows = sorted({_FIRST_WINDOW_MS, self._options.window_ms})
        return [*(Step("text", size) for size in _TEXT_SIZES), *(Step("decode", size) for size in windows)]

    def prepare(self, step: Step, batch: int) -> None:
        """See `SteppedEngine`."""
        if self._options.memory and batch > self._options.memory:
            raise OutOfMemoryError(f"simulated: {batch} do not fit where {self._options.memory} do")
        decode_ms = self._options.step_ms + (batch - 1) * self._options.item_ms
        cost_ms = self._options.text_ms if step.stage == "text" else decode_ms
        if cost_ms:
            time.sleep(cost_ms / 1000)  # what the step costs, in the thread that would run it


def _check_options(options: dict[str, Any]) -> Options:
    unknown = sorted(options.keys() - set(Options._fields))
    if unknown:
        raise OptionsError(
            f"option {unknown[0]}: simulated-steps has the options {', '.join(Options._fields)}"
        )
    checked = Options(**options)
    if not isinstance(checked.word_timings, bool):
        raise OptionsError("option word_timings: must be true or false")
    limits: dict[str, tuple[float, float, bool]] = {
        "text_ms": (0, 60_000, False),
        "step_ms": (0, 60_000, False),
        "item_ms": (0, 60_000, False),
        "window_ms": (_FIRST_WINDOW_MS, 10_000, True),
        "batch": (1, 1024, True),
        "memory": (0, 1024, True),
        "silence_ms": (0, 10_000, True),
        "char_ms": (1, 10_000, False),
        "sample_rate_hz": (8000, 48000, True),
        "slots": (1, 4096, True),
        "seed": (0, 2**31, True),
        "failure_rate": (0, 1, False),
        "crash_rate": (0, 1, False),
    }
    check_numbers(checked._asdict(), limits)
    return checked
