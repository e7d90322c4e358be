"""One chunk at work in a worker: from the engine's output to messages for the service.

    engine ── write ──> edges ──> rates ──> frames ──┐
           ── words ──> (shifted with the edges; estimated where some or all are missing) ──┴──> socket

See `services.tts.edges`, `services.tts.resampling` and `services.tts.estimates`. The engine, the
edges and the estimates count samples at the engine's rate; frames, and all that is told, at the
wanted one. Workers import this module: standard library only.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from services.tts import wire
from services.tts.edges import Edges, TrimmedEdges, Untouched
from services.tts.engines.base import Capabilities, Engine
from services.tts.estimates import EstimatedWords, Pace, SkippedWords
from services.tts.pauses import PAUSES_MS, pause_ms
from services.tts.resampling import rates
from services.tts.wire import Done, SpeakRequest, Word
from voicemesh.runtime.frames import BYTES_PER_SAMPLE, FrameSlicer

_TOLD_AHEAD_MS: Final = 500
"""Estimated words are told so long before they could be played, at the latest."""


class Voice(NamedTuple):
    """What a worker knows of the voice that it is, beside its engine."""

    capabilities: Capabilities
    pace: Pace
    trim_silence: bool = True
    """False: the engine's own edges stay."""
    pauses_ms: Mapping[str, float] = PAUSES_MS
    """See `services.tts.pauses`."""

    @staticmethod
    def declared(capabilities: Capabilities, joins: dict[str, Any]) -> "Voice":
        """Return a voice with the `joins` of its declaration; see `services.tts.wire`."""
        return Voice(capabilities, Pace(), **joins)

    def edges(self, request: SpeakRequest) -> Edges:
        """Return what stands between the engine and the frames of a request."""
        if self.capabilities.own_edges or not self.trim_silence:
            return Untouched()
        pause = pause_ms(request.text, self._language(request.variant), request.speed, self.pauses_ms)
        return TrimmedEdges(self.capabilities.sample_rate_hz, pause)

    def estimates(self, request: SpeakRequest) -> EstimatedWords | None:
        """Return the estimate of a request's words; None where the engine tells them."""
        if self.capabilities.word_timings:
            return None
        letter_ms = self.pace.letter_ms(request.variant) / request.speed
        return EstimatedWords(request.text, letter_ms * self.capabilities.sample_rate_hz / 1000)

    def learn(self, request: SpeakRequest, letters: int, samples: int) -> None:
        """Take the length of a chunk that was spoken to its end."""
        audio_ms = samples * 1000 / self.capabilities.sample_rate_hz
        self.pace.learn(request.variant, letters, audio_ms * request.speed)

    def _language(self, variant: str) -> str:
        for known in self.capabilities.variants:
            if known.name == variant:
                return known.language
        return self.capabilities.language


class Request:
    """One chunk at work: the engine's `Output`, with window and cancel.

    Args:
        send: Takes whole messages.
        request_id: For the messages.
        request: What to speak.
        voice: How.

    """

    def __init__(
        self, send: Callable[[bytes], None], request_id: int, request: SpeakRequest, voice: Voice
    ) -> None:
        self.id = request_id
        self._tell = send
        self._request = request
        self._voice = voice
        self._changed = threading.Condition()
        self._credit = request.window_samples
        self._cancelled = False
        self._stopped = False
        self._waited_ns = 0
        self._edges = voice.edges(request)
        self._estimates = voice.estimates(request)
        self._skipped = SkippedWords(request.text)
        self._words: list[Word] = []
        self._outgoing: list[bytes] = []
        own_hz = voice.capabilities.sample_rate_hz
        self._rate_hz = request.sample_rate_hz or own_hz
        self._rates = rates(own_hz, self._rate_hz)
        self._edged_samples = 0
        """Samples behind the edges, at the engine's rate."""
        self._slicer = FrameSlicer(self._rate_hz, request.start_offset_samples, request.in_hand_ms)
        self._sent_to = 0
        self._first_sent_ns = 0

    def run(self, engine: Engine) -> bytes:
        """Speak; return the message that ends the request."""
        slicer = self._slicer
        began_ns = time.monotonic_ns()
        if not self._cancelled:
            engine.synthesize(self._request, self)
            if not self._stopped:
                self._finish()
        busy_ns = time.monotonic_ns() - began_ns - self._waited_ns
        # A cancel that came behind the last sample changed nothing.
        cancelled = self._stopped or (self._cancelled and not slicer.made_samples)
        return wire.done_message(self.id, Done(slicer.made_samples, busy_ns // 1000, cancelled))

    def write(self, pcm: bytes) -> bool:
        """See `Output`."""
        edged = self._edges.push(pcm)
        self._edged_samples += len(edged) // BYTES_PER_SAMPLE
        for offset, frame in self._slicer.push(self._rates.push(edged)):
            if not self._send(offset, frame):
                break
        self._flush()
        return self._go_on()

    def words(self, words: list[Word]) -> None:
        """See `Output`."""
        # Where all are estimated there is no gap to fill, and what the engine says after all is not mixed in.
        if self._voice.capabilities.word_timings:
            self._words += self._skipped.fill(words)

    def pause(self, seconds: float) -> bool:
        """See `Output`."""
        if seconds > 0:
            with self._changed:
                self._changed.wait_for(lambda: self._cancelled, seconds)
        return self._go_on()

    def cancel(self) -> None:
        """Stop the engine at its next `write`."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def add_credit(self, samples: int) -> None:
        """Let `samples` more be sent."""
        with self._changed:
            self._credit += samples
            self._changed.notify_all()

    def _go_on(self) -> bool:
        # An engine that was told to stop stopped early: that is what `cancelled` reports.
        self._stopped = self._stopped or self._cancelled
        return not self._cancelled

    def _finish(self) -> None:
        """Send what the engine's end lets go: the pause, the last frame, the words that are left."""
        spoken = self._edged_samples - self._edges.quiet_samples
        if self._estimates is not None:
            self._voice.learn(self._request, self._estimates.letters, spoken)
            self._words += self._estimates.finish(spoken) if spoken else []
            self._estimates = None
        else:
            self._words += self._skipped.finish(spoken + self._edges.trimmed_samples)
        last = b"".join((self._rates.push(self._edges.finish()), self._rates.finish()))
        for offset, frame in (*self._slicer.push(last), *self._slicer.flush()):
            if not self._send(offset, frame):
                break
        if self._slicer.made_samples and not self._stopped and (words := self._words_before(None)):
            self._outgoing.append(wire.words_message(self.id, words))
        self._flush()

    def _flush(self) -> None:
        """Send what one call of the engine made, in one go; a cancel meanwhile makes it stale, no more."""
        if self._outgoing:
            self._tell(b"".join(self._outgoing))
            self._outgoing.clear()

    def _send(self, offset: int, pcm: bytes) -> bool:
        if self._credit <= 0:
            self._wait_for_credit()
        if self._cancelled:
            self._stopped = True
            return False
        samples = len(pcm) // BYTES_PER_SAMPLE
        with self._changed:
            self._credit -= samples
        self._sent_to = offset + samples
        words = self._due_estimates() if self._estimates is not None else self._words_before(self._sent_to)
        if words:
            self._outgoing.append(wire.words_message(self.id, words))
        self._outgoing.append(wire.frame_message(self.id, offset, pcm))
        return True

    def _wait_for_credit(self) -> None:
        began_ns = time.monotonic_ns()
        # The wait may be long, and words that are in the audio so far may be played meanwhile.
        if self._estimates is not None and (words := self._estimated(self._sent_to)):
            self._outgoing.append(wire.words_message(self.id, words))
        self._flush()
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or self._credit > 0)
        self._waited_ns += time.monotonic_ns() - began_ns

    def _due_estimates(self) -> list[Word]:
        """Take the words that may be played soon: nobody can have played more than time has passed."""
        assert self._estimates is not None
        now_ns = time.monotonic_ns()
        self._first_sent_ns = self._first_sent_ns or now_ns
        playing_ms = (now_ns - self._first_sent_ns) / 1e6 - self._request.in_hand_ms
        soon = round((playing_ms + _TOLD_AHEAD_MS) * self._rate_hz / 1000)
        return self._estimated(min(self._request.start_offset_samples + soon, self._sent_to))

    def _estimated(self, sample: int) -> list[Word]:
        """Take the estimated words that are heard before `sample`."""
        assert self._estimates is not None
        words = self._estimates.until(self._rates.engines(sample))
        return [word._replace(offset_samples=self._at(word)) for word in words]

    def _words_before(self, sample: int | None) -> list[Word]:
        """Take the words that are heard before `sample`, or all: offsets behind the edges."""
        count = len(self._words)
        if sample is not None:
            count = next((n for n, word in enumerate(self._words) if self._at(word) >= sample), count)
        taken, self._words = self._words[:count], self._words[count:]
        most = self._slicer.made_samples
        return [word._replace(offset_samples=min(self._at(word), most)) for word in taken]

    def _at(self, word: Word) -> int:
        # What is estimated is so from what came out of the edges.
        trimmed = self._edges.trimmed_samples if self._voice.capabilities.word_timings else 0
        return self._rates.wanted(max(0, word.offset_samples - trimmed))
