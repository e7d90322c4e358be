"""How the fills of one replica and their records in Redis follow each other; no I/O.

                 ┌──────── Taken ────────┐
    Look ──┬─ Held ──> following ──> Look│   piece* ─┬─ stored
           │              ^   │          │           ├─ yielded, or the time is up: Look
           │              │   └── Redis is away: goes on alone, from what it has
           └─ Taken ──> holding ── Push* ─── Store, or Yield
                          └── Stale: another took it, so follow that one

One question at a time for each fill, made from what the fill is when it is asked: what was appended
while Redis was slow goes with the next question in one piece. Audio goes to Redis only where another
replica follows; a fill that nobody else wants costs one short question each `heartbeat_ms`.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from services.cache.durable import DurableEntry
from services.cache.fills import Fill
from services.cache.keys import StoredKey
from services.cache.leases import PART_LIMIT_BYTES, LeaseTable
from services.cache.records import (
    Answer,
    Condemn,
    Condemned,
    Done,
    Failed,
    Gone,
    Held,
    Kept,
    Look,
    Mail,
    Piece,
    Push,
    Question,
    Stale,
    Store,
    Taken,
    Wanted,
    Yield,
)
from services.cache.values import AudioFormat, AudioValue
from voicemesh.runtime.clock import Clock

HEARTBEATS: Final = 4
"""Heartbeats that a lease lives without."""
_MAILS_KEPT: Final = 256
"""Mails for a fill that is about to be followed."""


@dataclass(eq=False, slots=True)
class _Share:
    """One fill that has a record."""

    fill: Fill
    generation: str
    token: str = ""
    holding: bool = False
    wanted: bool = False
    sent: int = 0
    """Bytes that the record has."""
    sent_words: int = 0
    value: AudioValue | None = None
    """What is to be stored, once sealed."""
    ttl_ms: int = 0
    admitted: bool = False
    """Whether it is to be stored though nobody else wants it."""
    asked: bool = False
    """True while a question is under way."""
    urgent: bool = False
    """A follower's: look now."""
    due_ns: int = 0
    give_up_ns: int | None = None
    """A follower's: when to go on alone, since Redis is away."""
    queued_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and what it is about; to be given back with the answer."""

    question: Question
    share: "_Share | None" = field(default=None, repr=False)


class Replication:
    """All fills of this replica that have a record.

    Args:
        table: The leases of this replica.
        clock: Says when a question is due.
        replica: Names this replica among all.
        heartbeat_ms: How often a record is told that its lease is held; a lease lives
            `HEARTBEATS` times as long, and that long a follower waits before it looks.

    """

    def __init__(self, table: LeaseTable, clock: Clock, *, replica: str, heartbeat_ms: int) -> None:
        self._table = table
        self._clock = clock
        self._heartbeat_ns = heartbeat_ms * 1_000_000
        self._tokens = (f"{replica}-{number}" for number in itertools.count(1))
        self._order = itertools.count()
        self._shares: dict[str, _Share] = {}
        self._dirty: dict[_Share, None] = {}
        self._queue: list[tuple[int, int, _Share]] = []
        self._orphans: deque[Question] = deque(maxlen=1024)
        self._coming: dict[str, deque[Mail]] = {}
        self.hold_ms = HEARTBEATS * heartbeat_ms
        self.on_work: Callable[[], None] = lambda: None
        """Called when `questions` may have something new, or `next_due_ns` is sooner."""
        self.on_copied: Callable[[StoredKey, AudioValue], None] = lambda *_: None
        """Takes a value that another replica has sealed and stored."""
        self.on_unstored: Callable[[StoredKey, AudioValue, int], None] = lambda *_: None
        """Takes a sealed value that did not get into Redis, and its lifetime in milliseconds."""
        table.on_changed = self._changed

    @property
    def next_due_ns(self) -> int | None:
        """When `questions` is to be called, unless `on_work` is before; None where only that counts."""
        return self._queue[0][0] if self._queue else None

    @property
    def records(self) -> int:
        """Number of fills that have a record."""
        return len(self._shares)

    def look(self, key: StoredKey, traceparent: str = "") -> Look:
        """Return the question for a key that is not being made here; give it to `looked` or `unlooked`."""
        self._coming[key.name] = deque(maxlen=_MAILS_KEPT)
        # What is still to be given up or condemned: the new token takes its place.
        before = self._shares.get(key.name)
        fresh = before is not None and before.fill.discarded
        return Look(key.name, next(self._tokens), fresh=fresh, traceparent=traceparent)

    def looked(self, key: StoredKey, form: AudioFormat, question: Look, answer: Held | Taken) -> None:
        """Begin the fill that `answer` is about; `LeaseTable.acquire` is to follow at once."""
        mails = self._coming.pop(key.name, ())
        if self._table.filling(key) or not _fits(answer.piece, form):
            self._abandon(question)
            return
        if (before := self._shares.get(key.name)) is not None:
            self._drop(before)
        maker = answer.maker if isinstance(answer, Held) else ""
        fill = self._table.open(key, form, remote=isinstance(answer, Held), maker=maker)
        share = _Share(fill, answer.generation)
        self._shares[key.name] = share
        self._extend(share, answer.piece)
        if isinstance(answer, Taken):
            self._hold(share, question, answer)
        else:
            self._schedule(share, min(answer.left_ms, self.hold_ms) * 1_000_000)
        for mail in mails:
            self.heard(mail)

    def unlooked(self, question: Look, *, unknown: bool) -> None:
        """Note that there is no use for the answer; `unknown` where the lease may have been given."""
        self._coming.pop(question.name, None)
        if unknown:
            self._abandon(question)

    def store(self, key: StoredKey, value: AudioValue, ttl_ms: int, *, admitted: bool) -> bool:
        """Store a value that was sealed, before its lease goes. False where it has none in Redis.

        What is not `admitted` is stored only where another replica follows.
        """
        share = self._shares.get(key.name)
        if share is None or not share.holding or not share.fill.sealed or share.fill.discarded:
            return False
        share.value, share.ttl_ms, share.admitted = value, ttl_ms, admitted
        self._touch(share)
        return True

    def questions(self, *, reachable: bool, listening: bool) -> list[Asked]:
        """Return what is to be asked now; each goes to `answered`, in any order.

        Args:
            reachable: Whether Redis can be asked.
            listening: Whether mail arrives.

        """
        now_ns = self._clock.now_ns()
        while self._queue and self._queue[0][0] <= now_ns:
            at_ns, _, share = heapq.heappop(self._queue)
            if share.queued_ns == at_ns:
                share.queued_ns = None
                self._dirty[share] = None
        asked: list[Asked] = []
        while reachable and self._orphans:
            asked.append(Asked(self._orphans.popleft()))
        dirty, self._dirty = self._dirty, {}
        for share in dirty:
            if share.asked or self._shares.get(share.fill.key.name) is not share:
                continue
            question = (
                self._holders(share, now_ns, reachable=reachable)
                if share.holding
                else self._followers(share, now_ns, reachable=reachable and listening)
            )
            if question is not None:
                share.asked = True
                asked.append(Asked(question, share))
            elif self._shares.get(share.fill.key.name) is share and share.due_ns > now_ns:
                self._queue_at(share, share.due_ns)
        return asked

    def reconnected(self) -> None:
        """Look after every fill: Redis was away, or mail may have been lost."""
        for share in self._shares.values():
            share.urgent = True
            self._touch(share)

    def disconnected(self) -> None:
        """Note that Redis went away, or mail does: who follows may have to go on alone."""
        for share in self._shares.values():
            self._touch(share)

    def _holders(self, share: _Share, now_ns: int, *, reachable: bool) -> Question | None:
        fill = share.fill
        name, token = fill.key.name, share.token
        length, words = len(fill.audio), len(fill.words)
        if not reachable:
            if fill.discarded:
                self._orphans.append(Condemn(name))  # once Redis can be asked again
                self._drop(share)
            elif share.value is not None or not self._table.knows(fill):
                self._abandon_share(share)
            else:
                self._schedule(share, self._heartbeat_ns)
        elif not fill.shared:
            return Condemn(name) if fill.discarded else Yield(name, token, 0, stay=False)
        elif share.wanted and (length > share.sent or words > share.sent_words):
            end = min(length, share.sent + PART_LIMIT_BYTES)
            audio = bytes(memoryview(fill.audio)[share.sent : end])
            added = tuple(fill.words[share.sent_words :])
            return Push(name, token, Piece(share.sent, share.sent_words, fill.format, audio, added))
        elif share.value is not None and (share.admitted or share.wanted):
            return Store(name, token, share.value, share.ttl_ms)
        elif self._leaves(share):
            return Yield(name, token, length, stay=bool(fill.followers) and not fill.sealed)
        elif now_ns >= share.due_ns:
            return Push(name, token, Piece(share.sent, share.sent_words, None))
        return None

    def _leaves(self, share: _Share) -> bool:
        """Return whether nobody here goes on, so that others are to."""
        if share.wanted and self._table.stalled(share.fill):
            self._table.surrender(share.fill)
        return share.fill.remote or share.fill.sealed or not self._table.knows(share.fill)

    def _followers(self, share: _Share, now_ns: int, *, reachable: bool) -> Question | None:
        fill = share.fill
        if fill.discarded and reachable:
            return Condemn(fill.key.name)
        if not self._table.knows(fill):
            self._drop(share)
            return None
        if not reachable:
            if share.give_up_ns is None:
                share.give_up_ns = now_ns + self._heartbeat_ns
            if now_ns >= share.give_up_ns:
                self._go_alone(share)
            else:
                share.due_ns = share.give_up_ns
            return None
        if not share.urgent and share.give_up_ns is None and now_ns < share.due_ns:
            return None
        share.urgent = False
        token = next(self._tokens)
        return Look(fill.key.name, token, share.generation, len(fill.audio), len(fill.words))

    def answered(self, asked: Asked, answer: Answer) -> None:
        """Note the answer to a question."""
        question, share = asked.question, asked.share
        if share is not None:
            share.asked = False
        if share is None or self._shares.get(share.fill.key.name) is not share:
            if isinstance(question, Look) and isinstance(answer, Taken | Failed):
                self._abandon(question)
            elif share is None and answer == Failed():
                self._orphans.append(question)
            return
        if isinstance(question, Look):
            self._looked_again(share, question, answer)
        elif isinstance(question, Push):
            self._pushed(share, answer)
        elif isinstance(question, Store):
            if isinstance(answer, Failed | Gone):
                self._abandon_share(share)
            else:
                self._drop(share)
        elif isinstance(question, Yield) and isinstance(answer, Wanted):
            share.wanted = True
            self._touch(share)
        elif isinstance(question, Yield) and self._table.knows(share.fill) and not share.fill.sealed:
            share.holding = False
            share.urgent = not isinstance(answer, Done)
            self._schedule(share, self.hold_ms * 1_000_000)
            self._touch(share)
        else:
            if answer == Failed():
                self._orphans.append(question)
            self._drop(share)

    def _looked_again(self, share: _Share, question: Look, answer: Answer) -> None:
        fill = share.fill
        if isinstance(answer, Failed):
            self._abandon(question)
            if answer.refused:
                self._go_alone(share)
            else:
                share.urgent = True
                self._touch(share)
            return
        share.give_up_ns = None
        if isinstance(answer, DurableEntry):
            assert isinstance(answer.value, AudioValue)
            whole = Piece(0, 0, answer.value.format, answer.value.audio, answer.value.words)
            if not _fits(whole, fill.format):
                self._come_apart(share)
            elif self._extend(share, whole):
                self._finish(share, whole.end, answer.value.tags)
        elif isinstance(answer, Held):
            if self._extend(share, answer.piece):
                self._schedule(share, min(answer.left_ms, self.hold_ms) * 1_000_000)
                self._touch(share)
        elif isinstance(answer, Taken):
            if self._extend(share, answer.piece) and len(fill.audio) >= answer.piece.end:
                self._hold(share, question, answer)
                self._table.take_over(fill)
            else:
                self._abandon(question)
        else:
            self._come_apart(share)

    def _pushed(self, share: _Share, answer: Answer) -> None:
        if isinstance(answer, Kept):
            share.sent = min(answer.length, len(share.fill.audio))
            share.sent_words = min(answer.words, len(share.fill.words))
            share.wanted = share.wanted or answer.wanted
            self._schedule(share, self._heartbeat_ns)
            self._touch(share)
        elif isinstance(answer, Stale) and share.fill.sealed:
            self._drop(share)  # made twice: the other stores it
        elif isinstance(answer, Stale):
            self._table.surrender(share.fill)
            share.holding, share.urgent = False, True
            self._touch(share)
        elif isinstance(answer, Condemned):
            self._come_apart(share)
        elif answer == Failed():
            self._schedule(share, self._heartbeat_ns)
            self._touch(share)
        else:  # refused, or Redis has lost the record
            self._abandon_share(share)

    def heard(self, mail: Mail) -> None:
        """Note what a record told this replica."""
        if mail.name in self._coming:
            self._coming[mail.name].append(mail)
            return
        share = self._shares.get(mail.name)
        if share is None or share.generation != mail.generation:
            return
        if mail.event == "condemned":
            self._come_apart(share)
        elif share.holding:
            if mail.event == "wanted":
                share.wanted = True
                self._touch(share)
        elif mail.event == "piece" and mail.piece is not None:
            if self._extend(share, mail.piece):
                self._schedule(share, self.hold_ms * 1_000_000)
        elif mail.event == "stored" and mail.piece is not None:
            fill = share.fill
            if len(fill.audio) >= mail.piece.at and len(fill.words) >= mail.piece.words_at:
                self._finish(share, mail.piece.at, mail.tags)
            else:
                share.urgent = True
                self._touch(share)
        elif mail.event == "yielded":
            share.urgent = True
            self._touch(share)
        elif mail.event == "taken":
            self._schedule(share, self.hold_ms * 1_000_000)

    def _hold(self, share: _Share, question: Look, answer: Taken) -> None:
        share.token, share.holding, share.wanted = question.token, True, answer.wanted
        share.sent, share.sent_words = answer.piece.end, answer.piece.words_end
        share.urgent = False
        self._schedule(share, self._heartbeat_ns)
        self._touch(share)

    def _extend(self, share: _Share, piece: Piece) -> bool:
        """Add to the fill. False where that made it come apart; what is missing is looked for."""
        if not _fits(piece, share.fill.format):
            self._come_apart(share)
            return False
        value = piece.value
        if value is not None and not self._table.extend(share.fill, piece.at, piece.words_at, value):
            share.urgent = True
            self._touch(share)
        return share.fill.shared

    def _finish(self, share: _Share, length: int, tags: tuple[str, ...]) -> None:
        fill = share.fill
        if fill.discarded:
            self._touch(share)  # it is still to be condemned
            return
        self._drop(share)
        value = replace(self._table.finish(fill), tags=tags)
        if len(value.audio) == length:  # else the first of two who made it was heard further here
            self.on_copied(fill.key, value)

    def _go_alone(self, share: _Share) -> None:
        self._drop(share)
        self._table.take_over(share.fill)

    def _come_apart(self, share: _Share) -> None:
        self._drop(share)
        self._table.take_apart(share.fill)

    def _abandon_share(self, share: _Share) -> None:
        """Go on without the record; whoever follows it elsewhere takes it over."""
        self._abandon(Look(share.fill.key.name, share.token))
        self._drop(share)
        if share.value is not None and share.admitted:
            self.on_unstored(share.fill.key, share.value, share.ttl_ms)

    def _abandon(self, question: Look) -> None:
        self._orphans.append(Yield(question.name, question.token, 0, stay=False))
        self.on_work()

    def _drop(self, share: _Share) -> None:
        name = share.fill.key.name
        if self._shares.get(name) is share:
            del self._shares[name]
        share.fill.replicated = False
        if share.fill.sealed:
            self._table.settle(share.fill)

    def _changed(self, fill: Fill) -> None:
        share = self._shares.get(fill.key.name)
        if share is not None and share.fill is fill:
            self._touch(share)

    def _touch(self, share: _Share) -> None:
        self._dirty[share] = None
        self.on_work()

    def _schedule(self, share: _Share, after_ns: int) -> None:
        share.due_ns = self._clock.now_ns() + after_ns
        self._queue_at(share, share.due_ns)

    def _queue_at(self, share: _Share, at_ns: int) -> None:
        """Look after `share` at a time, or before: one place in the queue each."""
        if share.queued_ns is None or share.queued_ns > at_ns:
            share.queued_ns = at_ns
            heapq.heappush(self._queue, (at_ns, next(self._order), share))
            if self._queue[0][2] is share:
                self.on_work()


def _fits(piece: Piece, form: AudioFormat) -> bool:
    """Return whether `piece` can be of a fill of this format, whose rate may still be open."""
    given = piece.format
    if given is None:
        return not piece.audio and not piece.words
    return (
        (given.encoding, given.channels) == (form.encoding, form.channels)
        and given.sample_rate_hz > 0
        and form.sample_rate_hz in (0, given.sample_rate_hz)
        and len(piece.audio) % form.sample_bytes == 0
        and piece.at % form.sample_bytes == 0
    )
