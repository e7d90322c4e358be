"""What an engine made of one chunk, on its way to the service: edges, frames, words, and the window.

    engine ── push ──> level ──> edges ──> rates ──> frames ──┐
           ── words ──> (shifted with the edges; estimated where some or all are missing) ──┴──> messages

Whoever runs the engine decides what happens while a full window holds frames back: a thread of its own
waits (`services.tts.requests`), a thread of many goes on with the others (`services.tts.stepping`).
See `services.tts.loudness`, `services.tts.edges`, `services.tts.resampling` and
`services.tts.estimates`. The engine, the edges and the estimates count samples at the engine's rate;
frames, and all that is told, at the wanted one. Workers import this module: standard library only.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from services.tts import wire
from services.tts.edges import Edges, TrimmedEdges, Untouched
from services.tts.engines.base import CannotSpeakError, Capabilities, RequestFailedError, Utterance
from services.tts.estimates import EstimatedWords, Pace, SkippedWords
from services.tts.loudness import Levels
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
    levels: Levels
    trim_silence: bool = True
    """False: the engine's own edges stay."""
    pauses_ms: Mapping[str, float] = PAUSES_MS
    """See `services.tts.pauses`."""

    @staticmethod
    def declared(capabilities: Capabilities, joins: dict[str, Any]) -> "Voice":
        """Return a voice with the `joins` of its declaration; see `services.tts.wire`."""
        joins = dict(joins)
        levels = Levels(capabilities, joins.pop("loudness", None), joins.pop("gain_db", 0.0))
        return Voice(capabilities, Pace(), levels, **joins)

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


class Delivery:
    """One request's way out. For one thread at a time.

    Args:
        request_id: For the messages.
        request: What is spoken.
        voice: How.

    """

    def __init__(self, request_id: int, request: SpeakRequest, voice: Voice) -> None:
        self.id = request_id
        self.request = request
        self.credit = request.window_samples
        """Samples that may be sent."""
        self.first_sent_ns = 0
        """When its first frame left; 0 before."""
        self._voice = voice
        self._rate_hz = request.sample_rate_hz or voice.capabilities.sample_rate_hz
        self._sent_to = request.start_offset_samples
        warms = request.warm_up and voice.levels.wants(request.variant)
        self._unlevelled: list[bytes] | None = [] if warms else None
        self._begin(may_leave_out=True)

    def _begin(self, *, may_leave_out: bool) -> None:
        self._edges = self._voice.edges(self.request)
        self._estimates = self._voice.estimates(self.request)
        self._skipped = SkippedWords(self.request.text)
        self._words: list[Word] = []
        in_hand_ms = self.request.in_hand_ms + self._sent_ms()
        self._rates = rates(self._voice.capabilities.sample_rate_hz, self._rate_hz)
        self._edged = 0  # samples behind the edges, at the engine's rate
        self._slicer = FrameSlicer(self._rate_hz, self._sent_to, in_hand_ms)
        self._pending: deque[tuple[int, bytes]] = deque()
        self._taken = 0  # the engine's samples so far, those that it left out included
        self._may_leave_out = may_leave_out
        self._finished = False

    # ---- what the engine makes ----------------------------------------------------------------

    def push(self, pcm: bytes) -> None:
        """Take s16le mono PCM from the engine."""
        self._taken += len(pcm) // BYTES_PER_SAMPLE
        if self._unlevelled is not None:
            self._unlevelled.append(pcm)
        edged = self._edges.push(self._voice.levels.apply(self.request.variant, pcm))
        self._edged += len(edged) // BYTES_PER_SAMPLE
        self._pending += self._slicer.push(self._rates.push(edged))

    def measure(self) -> None:
        """Learn from a text that warmed the engine how loud it is."""
        if self._unlevelled is not None:
            self._voice.levels.measure(self.request.variant, b"".join(self._unlevelled))
            self._unlevelled = None

    def words(self, words: list[Word]) -> None:
        """Take the times of words; see `Output.words`."""
        # Where all are estimated there is no gap to fill, and what the engine says after all is not mixed in.
        if self._voice.capabilities.word_timings:
            self._words += self._skipped.fill(words)

    def leave_out(self, utterance: Utterance) -> bool:
        """Have an engine leave out what the listener has, so far as every sample behind it stays the same.

        Returns whether it left out anything; it may be at its end then.
        """
        start = self.request.start_offset_samples
        if not (start and self._may_leave_out and self._edges.begun):
            return False
        context = self._edges.context_samples + self._rates.context_samples
        needed = self._rates.engines(start) + self._edges.trimmed_samples - context
        if needed <= self._taken or (goes_on := utterance.skip_to(needed)) <= self._taken:
            return False
        passed = self._edges.skip(goes_on - self._taken)
        self._edged += passed
        self._slicer.skip(self._rates.skip(passed))
        self._taken = goes_on
        return True

    def finish(self) -> bool:
        """Take the engine's end: the pause, the last frame and the words that are left are next.

        Returns False where it left out too much to know where the chunk ends: then everything has to
        be made once more, and nothing is left out.
        """
        if self._edges.unsure:
            self._begin(may_leave_out=False)
            return False
        spoken = self._edged - self._edges.quiet_samples
        if self._estimates is not None:
            self._voice.learn(self.request, self._estimates.letters, spoken)
            self._words += self._estimates.finish(spoken) if spoken else []
            self._estimates = None
        else:
            self._words += self._skipped.finish(spoken + self._edges.trimmed_samples)
        last = b"".join((self._rates.push(self._edges.finish()), self._rates.finish()))
        self._pending += (*self._slicer.push(last), *self._slicer.flush())
        self._finished = True
        return True

    # ---- what the service gets ----------------------------------------------------------------

    @property
    def held(self) -> bool:
        """True while frames are not out yet: behind `messages` those for which there is no window."""
        return bool(self._pending)

    @property
    def due_after_ns(self) -> int:
        """From the first frame's leaving until the listener runs dry, with all that was made so far."""
        made = max(0, self._slicer.made_samples - self.request.start_offset_samples)
        return self.request.in_hand_ms * 1_000_000 + made * 1_000_000_000 // self._rate_hz

    def messages(self, now_ns: int) -> bytes:
        """Return what may leave now, whole messages, the words in front of the frames that hold them."""
        out: list[bytes] = []
        while self._pending and self.credit > 0:
            offset, pcm = self._pending.popleft()
            samples = len(pcm) // BYTES_PER_SAMPLE
            self.credit -= samples
            self._sent_to = offset + samples
            self.first_sent_ns = self.first_sent_ns or now_ns
            words = (
                self._words_before(self._sent_to) if self._estimates is None else self._due_estimates(now_ns)
            )
            if words:
                out.append(wire.words_message(self.id, words))
            out.append(wire.frame_message(self.id, offset, pcm))
        if self._pending:
            # The wait may be long, and words that are in the audio so far may be played meanwhile.
            if self._estimates is not None and (words := self._estimated(self._sent_to)):
                out.append(wire.words_message(self.id, words))
        elif self._finished and self._slicer.made_samples and (words := self._words_before(None)):
            out.append(wire.words_message(self.id, words))
        return b"".join(out)

    def done(self, engine_ns: int, *, cancelled: bool) -> bytes:
        """Return the message that ends the request."""
        return wire.done_message(self.id, Done(self._slicer.made_samples, engine_ns // 1000, cancelled))

    @property
    def made_samples(self) -> int:
        """Samples behind the edges so far, those left out included."""
        return self._slicer.made_samples

    def _sent_ms(self) -> float:
        return (self._sent_to - self.request.start_offset_samples) * 1000 / self._rate_hz

    def _due_estimates(self, now_ns: int) -> list[Word]:
        """Take the words that may be played soon: nobody can have played more than time has passed."""
        assert self._estimates is not None
        playing_ms = (now_ns - self.first_sent_ns) / 1e6 - self.request.in_hand_ms
        soon = round((playing_ms + _TOLD_AHEAD_MS) * self._rate_hz / 1000)
        return self._estimated(min(self.request.start_offset_samples + soon, self._sent_to))

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


def failed(request_id: int, error: Exception) -> bytes:
    """Return the message that ends a request by what its engine raised."""
    if isinstance(error, CannotSpeakError):
        return wire.failed_message(request_id, wire.Fault.TEXT, str(error))
    if isinstance(error, RequestFailedError):
        return wire.failed_message(request_id, wire.Fault.REQUEST, str(error))
    return wire.failed_message(request_id, wire.Fault.ENGINE, f"{type(error).__name__}: {error}")
