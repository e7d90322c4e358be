"""One chunk and all who may speak it: voice after voice, and two at once where the first is late.

    the voice that was asked for ── cannot ──> its first fallback ── cannot ──> … ──> the chunk fails

A voice cannot where its breaker is open, no replica runs, its queue is full (and the next one is free),
or the chunk failed on as many replicas as it may. Replicas of one voice go on at the sample, within
the pool. Another voice, or one that never gives the same samples twice, goes on at a whole word: see
`services.tts.core.leaving`. What it says of samples and text is moved to where it began.

A first chunk that is late is asked for a second time, see `services.tts.core.hedging`. Until the first
frame two legs run; the one that has it goes on alone.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from services.tts.core.job import Job, JobEnd, JobState, Lease
from services.tts.core.leaving import Leaving, leaving
from services.tts.core.legs import LeaseObserver, Leg, RelayListener
from services.tts.core.model import SpeakRequest, Word
from services.tts.core.seeds import seed_of
from services.tts.text import speakable
from voicemesh.runtime.errors import DrainingError, MeshError, NoEngineError, QueueFullError

if TYPE_CHECKING:
    from services.tts.core.buffer import Buffer
    from services.tts.core.speaker import Speaker
    from voicemesh.runtime.clock import Clock

_RESERVED_TIMES_LATE = 2
"""A hedge is taken to cost twice what is late: the one that was asked first, until it is told to stop."""


class Relay:
    """See the module.

    Args:
        speaker: The voice that was asked for, with its fallbacks.
        request: What to speak; its variant and seed are those of `speaker`.
        deadline_ns: When it is due.
        first: Nothing is in front of it: it is hedged where it is late.
        buffer: Where its audio goes.
        clock: For times.
        listener: Hears it.

    """

    def __init__(
        self,
        speaker: "Speaker",
        request: SpeakRequest,
        deadline_ns: int,
        buffer: "Buffer",
        clock: "Clock",
        listener: RelayListener,
        *,
        first: bool,
    ) -> None:
        self.wasted_us = 0
        """Engine time of the legs before the last one that nobody hears."""
        self.engine_us = 0
        """Engine time of these legs, and of the losers of hedges."""
        self._speakers: tuple[Speaker, ...] = (speaker,)
        self._hedges = speaker.hedges
        self._deadline_ns = deadline_ns
        self._buffer = buffer
        self._clock = clock
        self._listener = listener
        self._first = first and self._hedges is not None and speaker.pool.spec.hedge
        self._leg = Leg(self, 0, speaker, request)
        self._second: Leg | None = None
        """Runs beside `_leg` until one of them has a frame."""
        self._resumed = 0
        self._granted = 0
        self._refusals: list[MeshError] = []
        self._admitted = False
        self._cancelled = False
        self._ended = False

    @property
    def leg(self) -> Leg:
        """Who speaks, or spoke last."""
        return self._leg

    # ---- what the chunk asks for --------------------------------------------------------------

    def submit(self, *, admitted: bool) -> None:
        """Ask for it to be spoken, `admitted` as for `Pool.submit`. That nobody can is told the listener."""
        self._admitted = admitted
        # Now: what there was when the chunk came may have been replaced while it waited.
        self._speakers += self._leg.speaker.stand_ins()
        self._ask(self._leg)

    def cancel(self) -> None:
        """End it: the end comes when its engine has stopped."""
        self._cancelled = True
        for leg in (self._leg, self._second):
            if leg is not None and leg.job is not None:
                leg.speaker.pool.cancel(leg.job)

    def take(self, offset_samples: int, samples: int) -> None:
        """Say that the listener took audio: so much more may come."""
        leg = self._leg
        if leg.job is None or offset_samples < leg.begun_at:
            return
        # Told to the pool in parts of the window: a message for each frame would be wasteful.
        self._granted += samples
        if self._granted >= leg.job.request.window_samples // 4:
            granted, self._granted = self._granted, 0
            leg.speaker.pool.grant(leg.job, granted)

    # ---- voice after voice --------------------------------------------------------------------

    def _ask(self, leg: Leg) -> None:
        """Have a leg spoken by its voice, or by the first one behind it that can."""
        while True:
            crowded = any(isinstance(refusal, QueueFullError) for refusal in self._refusals)
            # A voice that would let it wait as well is no better than the one that was asked for.
            if not (crowded and not leg.speaker.pool.spare()):
                try:
                    self._submit(leg)
                except MeshError as error:
                    self._refusals.append(error)
                else:
                    return
            if leg.place + 1 >= len(self._speakers):
                break
            if not self._move(leg, leg.place + 1, str(self._refusals[-1])):
                return
            leg = self._leg
        self._end(JobEnd(self._clock.now_ns()), self._refusal())

    def _move(self, leg: Leg, place: int, reason: str, end: JobEnd | None = None) -> bool:
        """Go on with the voice at `place` where `leg` left off; return False where nothing is left to say."""
        left = self._leave_off(leg)
        if end is not None:
            self._book(leg, end, self._buffer.made_to)
        if left.text_offset and not speakable(leg.request.text[left.text_offset :]):
            self._end(JobEnd(self._clock.now_ns()))
            return False
        self._granted = 0
        attempt = end.lost if end is not None and end.again else 0
        self._leg = self._leg_for(place, leg, left, attempt)
        self._listener.moved(self._leg.speaker, reason)
        return True

    def _submit(self, leg: Leg, beside: Job | None = None, *, once: bool = False) -> None:
        job = leg.speaker.pool.submit(
            leg.request, self._deadline_ns, leg, beside, once=once, admitted=self._admitted
        )
        if leg.end is None:
            leg.job = job

    def _leg_for(self, place: int, before: Leg, left: Leaving | None = None, attempt: int = 0) -> Leg:
        """Return a leg of the voice at `place` for what `before` leaves to say."""
        speaker, request = self._speakers[place], before.request
        left = left or Leaving(0, 0)
        text = request.text[left.text_offset :]
        leg = Leg(
            self,
            place,
            speaker,
            request._replace(
                text=text,
                variant=speaker.variant,
                seed=seed_of(text, speaker.name, speaker.model_revision, request.speed),
                attempt=attempt,
                start_offset_samples=0 if left.samples else request.start_offset_samples,
            ),
        )
        leg.text_offset = before.text_offset + left.text_offset
        leg.base_samples = self._buffer.made_to if left.samples else before.base_samples
        return leg

    def _refusal(self) -> MeshError:
        """Return why nobody speaks it: a load that will pass, before engines that are broken."""
        for refusal in self._refusals:
            if not isinstance(refusal, NoEngineError | DrainingError):
                return refusal
        first = self._refusals[0]
        if isinstance(first, DrainingError):
            return first
        texts = dict.fromkeys(str(refusal) for refusal in self._refusals)
        return NoEngineError("; ".join(texts), retry_after_ms=first.retry_after_ms)

    def _fail_over(self, leg: Leg, end: JobEnd, error: MeshError) -> None:
        """Go on with the next voice, where the last one left off."""
        self._admitted = True  # it was taken on once
        self._refusals.append(error)
        place = leg.place if end.again and not (end.elsewhere and self._spare(leg)) else leg.place + 1
        if place >= len(self._speakers):
            self._end(end, error=self._refusal())
            return
        if self._move(leg, place, str(error), end):
            self._ask(self._leg)

    def _spare(self, leg: Leg) -> bool:
        """Return whether a voice behind that of `leg` would speak at once."""
        return any(speaker.pool.spare() for speaker in self._speakers[leg.place + 1 :])

    def _leave_off(self, leg: Leg) -> Leaving:
        """Cut what a leg made at its last whole word."""
        buffer, base = self._buffer, leg.base_samples
        left = leaving(
            leg.request.text,
            leg.told,
            buffer.delivered_to - base,
            buffer.made_to - base,
            leg.speaker.sample_rate_hz,
            leg.request.speed,
        )
        if left.samples:
            buffer.cut(base + left.samples, leg.text_offset + left.text_offset)
        else:
            buffer.begin_again(base, leg.text_offset)
        if left.unsaid:
            self._listener.words(self._placed(leg, list(left.unsaid)))
        return left

    def _book(self, leg: Leg, end: JobEnd, kept_to: int) -> None:
        """Count what a leg cost that does not end the chunk, as far as its audio is not kept."""
        kept = min(max(0, kept_to - leg.begun_at), end.made_samples)
        wasted_us = end.engine_us - end.engine_us * kept // max(end.made_samples, 1)
        self.wasted_us += wasted_us
        self.engine_us += end.engine_us
        leg.speaker.pool.stats.wasted_us += wasted_us
        self._resumed += end.resumed

    def _end(self, end: JobEnd, error: MeshError | None = None) -> None:
        self._ended = True
        self._listener.ended(replace(end, error=error or end.error, resumed=self._resumed + end.resumed))

    # ---- two at once --------------------------------------------------------------------------

    def late(self) -> None:
        """See `Late`: ask a second time, where somebody is free and the budget allows it."""
        leg, hedges = self._leg, self._hedges
        if self._ended or leg.heard or self._second is not None or hedges is None:
            return
        job = leg.job
        if job is None or job.state is not JobState.RUNNING or leg.place or leg.speaker.pool.queued:
            return
        second = self._free(leg, job)
        reserved_us = _RESERVED_TIMES_LATE * hedges.first_frames(leg.speaker.pool.spec.name).late_us
        if second is None or not hedges.budget.reserve(reserved_us):
            return
        second.reserved_us = reserved_us
        self._second = second
        try:
            self._submit(second, job if second.speaker.pool is leg.speaker.pool else None, once=True)
        except MeshError:
            self._second = None
            hedges.budget.spend(reserved_us, 0)
        else:
            leg.speaker.pool.stats.hedged_chunks += 1

    def _free(self, leg: Leg, job: Job) -> Leg | None:
        """Return who can take a late chunk at once: another replica, which makes the same samples."""
        if leg.speaker.pool.spare(job):
            return self._leg_for(0, leg, attempt=leg.request.attempt + 1)
        own = leg.speaker.pool.spec.name
        for place, speaker in enumerate(self._speakers[1:], 1):
            # Not the model that takes the place of this one: the turn's further chunks are of the old one.
            if speaker.pool.spec.name != own and speaker.pool.spec.hedge and speaker.pool.spare():
                return self._leg_for(place, leg)
        return None

    def _decide(self, winner: Leg) -> None:
        """One of two has something: the other ends."""
        second, first = self._second, self._leg
        if second is None:
            return
        self._second = None
        loser = first if winner is second else second
        if winner is second:
            self._leg = second
            first.reserved_us, second.reserved_us = second.reserved_us, None
            first.speaker.pool.stats.hedges_won += 1
            if first.end is None:
                self._learn(first)
            if first.speaker is not second.speaker:
                self._listener.moved(second.speaker, "the voice that was asked for is late")
            self._buffer.begin_again(first.base_samples, first.text_offset)  # what the first one told is void
            assert second.lease is not None
            self._listener.leased(second.lease)
            if second.job is not None:
                second.job.once = False  # from now on it is worth another replica
            if second.told:
                self._listener.words(self._placed(second, second.told))
        if loser.job is not None:
            loser.speaker.pool.cancel(loser.job)

    def _promote(self, leg: Leg, second: Leg, end: JobEnd) -> None:
        """The first of two failed before either had something: the second is no hedge any more."""
        if self._hedges is not None and second.reserved_us is not None:
            self._hedges.budget.spend(second.reserved_us, 0)
            second.reserved_us = None
        self._decide(second)
        self._lose(leg, end)
        self._resumed += end.resumed

    def _lose(self, leg: Leg, end: JobEnd) -> None:
        """Count what the loser of a hedge cost."""
        stats = leg.speaker.pool.stats
        stats.wasted_us += end.engine_us
        if not self._ended:
            self.wasted_us += end.engine_us
            self.engine_us += end.engine_us
        if leg.reserved_us is not None and self._hedges is not None:
            stats.hedge_us += end.engine_us
            self._hedges.budget.spend(leg.reserved_us, end.engine_us)
            leg.reserved_us = None

    def _learn(self, leg: Leg) -> None:
        if self._hedges is not None and leg.lease is not None:
            took_us = (self._clock.now_ns() - leg.lease.leased_ns) // 1000
            self._hedges.first_frames(leg.speaker.pool.spec.name).took(took_us)

    def watch(self, leg: Leg, lease: Lease) -> LeaseObserver:
        """Return who watches a lease of a leg."""
        return self._listener.watch(leg, lease.replica)

    # ---- what legs say ------------------------------------------------------------------------

    def leg_leased(self, leg: Leg, lease: Lease) -> None:
        """A replica is held for a leg."""
        if leg is not self._leg:
            self._listener.hedged(lease.replica)
            return
        self._listener.leased(lease)
        if self._first and leg.place == 0 and not leg.request.attempt and self._hedges is not None:
            self._hedges.watch(leg.speaker.pool.spec.name, lease.leased_ns, self)

    def leg_frame(self, leg: Leg, offset_samples: int, pcm: bytes) -> None:
        """Take audio of a leg."""
        if leg is not self._leg and leg is not self._second:
            return  # it lost, and is about to stop
        self._decide(leg)
        if not leg.heard:
            leg.heard = True
            if self._first and leg.place == 0 and not leg.request.attempt and leg.text_offset == 0:
                self._learn(leg)
        self._listener.frame(leg, leg.base_samples + offset_samples, pcm)

    def leg_words(self, leg: Leg, words: list[Word]) -> None:
        """Take words of a leg; those of the second of two wait until it has won."""
        if leg is self._leg:
            self._listener.words(self._placed(leg, words))

    @staticmethod
    def _placed(leg: Leg, words: list[Word]) -> list[Word]:
        if not (leg.text_offset or leg.base_samples):
            return words
        return [
            word._replace(
                text_offset=word.text_offset + leg.text_offset,
                offset_samples=word.offset_samples + leg.base_samples,
            )
            for word in words
        ]

    def leg_lost(self, leg: Leg, replica: str, reason: str) -> None:
        """Take the loss of a leg's replica."""
        if leg is self._leg:
            self._listener.lost(replica, reason)

    def leg_ended(self, leg: Leg, end: JobEnd) -> None:
        """Take the end of a leg."""
        if self._hedges is not None:
            self._hedges.budget.earn(end.engine_us)
        if leg is self._second and end.error is None and not end.cancelled:
            self._decide(leg)
        if leg is not self._leg:
            if leg is self._second:
                self._second = None
            self._lose(leg, end)
            return
        if self._cancelled or end.error is None:
            if self._second is not None:
                self._decide(leg)
            self._end(end)
        elif self._second is not None:
            self._promote(leg, self._second, end)
        else:
            self._fail_over(leg, end, end.error)
