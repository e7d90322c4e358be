"""Leases: many ask for the same missing audio, one computes it, the others hear it as it is made.

    acquire ──> holder ── append* ── seal ──> the value
       │           └─ release, its stream ends, or nothing appended for ttl_ms: lost
       └──────> follower ── so_far, part* ──┬─ sealed
                                            └─ granted: it is the holder now, from offset_samples on

Until somebody appends, the lease is no one's alone: a follower is granted it too (it *contends*) where it
needs the audio much sooner than who has it, or where nobody has begun for as long as beginning takes, then
for twice as long, and so on. Who appends first holds it, and the others learn with their first append that
they go on for themselves. So nobody waits for a holder that waits in a queue itself, and a few make what
nobody could say in time who would make first.

There is one buffer a fill; a follower is an offset into it. So a slow follower costs nothing and
holds up nobody: it gets what it has not had yet in one piece when it comes back. Where a fill can no
longer be kept (too large, invalidated, no room), it comes apart: the holder goes on unshared, and
every follower is granted a lease of its own, at the offset that it can go on from.

The holder may be at another replica of the cache: then the fill has no holder here, its buffer is a
copy that `replication.py` keeps up, and the followers here cannot tell the difference.
"""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Final

from services.cache.fills import (
    Fill,
    FollowEvent,
    Following,
    Granted,
    Lease,
    Part,
    Sealed,
)
from services.cache.keys import Selector, StoredKey
from services.cache.needs import AT_ONCE, Need
from services.cache.requests import checked_audio
from services.cache.values import AudioFormat, AudioValue
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import InvalidFieldError

PART_LIMIT_BYTES: Final = 1024 * 1024
"""Largest part that is sent to a follower; more than that comes in several."""
_MUCH_SOONER_NS: Final = 1_000_000_000
"""Who needs the audio by so much sooner than all that are to make it does not wait for them to begin."""


class LeaseTable:
    """All fills of this process.

    Args:
        clock: Tells when a holder has stalled.
        ttl_ms: Milliseconds without an append after which a lease can be taken over.
        max_value_bytes: Limit of one fill's audio.
        budget_bytes: Limit of all fills' audio together; beyond it fills come apart.

    """

    def __init__(self, clock: Clock, *, ttl_ms: int, max_value_bytes: int, budget_bytes: int) -> None:
        self.on_changed: Callable[[Fill], None] = lambda _: None
        """Is told of a fill that was appended to, was sealed, came apart or lost all its leases."""
        self._clock = clock
        self._ttl_ms = ttl_ms
        self._max_value_bytes = max_value_bytes
        self._budget_bytes = budget_bytes
        self._bytes = 0
        self._fills: dict[str, Fill] = {}
        self._leases: dict[str, Lease] = {}
        self.takeovers = 0
        """Leases with which another went on in the place of their holder."""
        self._ids = (f"{secrets.token_hex(4)}-{number}" for number in itertools.count(1))

    @property
    def active(self) -> int:
        """Number of leases that are held; follows are not counted."""
        return sum(lease.holds for lease in self._leases.values())

    @property
    def bytes(self) -> int:
        """Bytes of audio in all fills."""
        return self._bytes

    def filling(self, key: StoredKey) -> bool:
        """Return whether `key` is being made, or stored, as far as this process knows."""
        return key.name in self._fills

    def knows(self, fill: Fill) -> bool:
        """Return whether others may still join `fill`."""
        return self._fills.get(fill.key.name) is fill

    def acquire(
        self, key: StoredKey, form: AudioFormat, need: Need = AT_ONCE
    ) -> tuple[Lease, Granted | Following]:
        """Take the lease of `key`, or follow whoever has it.

        Returns:
            The caller's lease, to be ended by `seal` or `release`, and what to tell the caller.
            After `Following` the events of `follow` come.

        """
        fill = self._fills.get(key.name)
        if fill is not None:
            lease = self._new_lease(fill, need)
            fill.followers.append(lease)
            # Where the holder has stalled the caller may now hold the lease. It still needs what
            # was appended before, so it follows first and is granted by `follow`.
            self._expire(fill)
            if fill.holder is None and not fill.remote and not fill.sealed:
                self._promote(fill)  # this replica was given the lease, and nobody here has it yet
            elif fill.holder is not None and not fill.begun and lease in fill.followers:
                makers = (fill.holder, *fill.contenders)
                if lease.due_ns + _MUCH_SOONER_NS < min(maker.due_ns for maker in makers):
                    fill.followers.remove(lease)
                    self._contend(fill, lease)
            if not lease.holds or fill.audio:
                maker = fill.holder.traceparent if fill.holder is not None else fill.maker
                return lease, Following(lease.id, self._rest(lease, limit=None), maker)
        else:
            fill = Fill(key, form, begin_ms=self._ttl_ms)
            self._fills[key.name] = fill
            lease = self._new_lease(fill, need)
            self._give(fill, lease)
        return lease, self._grant(lease)

    def append(self, lease: Lease, part: AudioValue) -> None:
        """Add to the fill of `lease` and wake its followers.

        Raises:
            InvalidFieldError: The lease is not held any more, or the audio is over the limit; in
                that case the lease has ended.

        """
        fill = self._held(lease, "append.lease_id")
        part = checked_audio(part, fill.format, "append.part")
        fill.deadline_ns = self._deadline_ns()
        self._begin(fill, lease)
        if not fill.shared:
            return
        size = len(fill.audio) + len(part.audio)
        if size > self._max_value_bytes:
            self.take_apart(fill)
            self.release(lease)
            raise InvalidFieldError(
                "append.part.audio", f"{size} bytes in all; the limit is {self._max_value_bytes}"
            )
        if self._bytes + len(part.audio) > self._budget_bytes:
            self.take_apart(fill)
            return
        fill.format = part.format
        fill.audio += part.audio
        fill.words += part.words
        fill.appended = True
        self._bytes += len(part.audio)
        self._wake(fill)
        self.on_changed(fill)

    def seal(self, lease: Lease) -> tuple[StoredKey, AudioValue] | None:
        """Complete the fill of `lease`; its followers hear the rest and the end.

        Returns:
            What is to be stored; None where the fill came apart before.

        Raises:
            InvalidFieldError: The lease is not held any more, or nothing was appended; in that case
                the lease has ended and a follower has taken over.

        """
        fill = self._held(lease, "seal.lease_id")
        if not lease.holds or (fill.shared and not fill.appended):
            self.release(lease)
            raise InvalidFieldError("seal.lease_id", "nothing was appended under this lease")
        self._end(lease)
        fill.holder = None
        if not fill.shared:
            return None
        fill.sealed = True
        if not fill.replicated:
            self._forget(fill)
        self._wake(fill)
        self.on_changed(fill)
        return fill.key, AudioValue(fill.format, bytes(fill.audio), tuple(fill.words))

    def release(self, lease: Lease) -> None:
        """Give the lease back, or stop following. Does nothing if it has ended."""
        if lease.ended:
            return
        self._end(lease)
        fill = lease.fill
        if fill.holder is lease:
            fill.holder = None
            self._succeed(fill)
        elif lease in fill.contenders:
            fill.contenders.remove(lease)
        elif lease in fill.followers:
            fill.followers.remove(lease)
            self._left(fill)

    def discard(self, selector: Selector) -> int:
        """Make sure that no fill that matches is stored: they come apart. Return how many."""
        matching = [fill for fill in self._fills.values() if selector.matches(fill.key)]
        for fill in matching:
            fill.discarded = True
            self.take_apart(fill)
        return len(matching)

    def take_apart(self, fill: Fill) -> None:
        """Stop sharing `fill`: whoever has a part in it goes on alone from what it has."""
        self._forget(fill)
        fill.shared = False
        self.on_changed(fill)
        if fill.sealed:
            return  # its followers have all of it
        followers, fill.followers = fill.followers, []
        for follower in followers:
            self._give(self._alone(fill, follower), follower)
        contenders, fill.contenders = fill.contenders, []
        for contender in contenders:
            self._alone(fill, contender).holder = contender  # it was told already

    def open(self, key: StoredKey, form: AudioFormat, *, remote: bool, maker: str = "") -> Fill:
        """Begin a fill that other replicas know of; who acquires it next holds it, or follows it.

        Args:
            key: What is made; `filling` must be false for it.
            form: As its key wants it.
            remote: Whether another replica has the lease.
            maker: The `traceparent` of who has it there.

        """
        fill = Fill(key, form, maker=maker, remote=remote, replicated=True, begin_ms=self._ttl_ms)
        fill.granted_ns = self._clock.now_ns()
        self._fills[key.name] = fill
        return fill

    def extend(self, fill: Fill, at: int, words_at: int, part: AudioValue) -> bool:
        """Add what was appended at another replica; what is here already is left out.

        Args:
            fill: The fill.
            at: Byte at which the audio of `part` begins.
            words_at: Number of words in front of those of `part`.
            part: What was appended, in its whole format.

        Returns:
            False where something in between is missing: nothing was added.

        """
        have, words = len(fill.audio), len(fill.words)
        if at > have or words_at > words:
            return False
        size = max(0, at + len(part.audio) - have)
        if self._bytes + size > self._budget_bytes or have + size > self._max_value_bytes:
            self.take_apart(fill)
            return True
        fill.format = part.format
        if size:
            fill.audio += memoryview(part.audio)[-size:]
            self._bytes += size
        fill.words += part.words[words - words_at :]
        fill.appended = fill.begun = True
        self._wake(fill)
        return True

    def finish(self, fill: Fill) -> AudioValue:
        """Note that another replica completed `fill`, all of which is here; return the value."""
        fill.remote = False
        fill.sealed = True
        self.settle(fill)
        self._wake(fill)
        return AudioValue(fill.format, bytes(fill.audio), tuple(fill.words))

    def take_over(self, fill: Fill) -> None:
        """Let the next follower of `fill` hold it: the lease is this replica's now."""
        fill.remote = False
        self._succeed(fill)
        self._wake(fill)  # they have a holder now whose stalling is theirs to notice

    def surrender(self, fill: Fill) -> None:
        """Note that the lease of `fill` is not this replica's any more."""
        holder, fill.holder = fill.holder, None
        fill.remote = True
        fill.begun, fill.granted_ns = False, self._clock.now_ns()
        contenders, fill.contenders = fill.contenders, []
        for contender in contenders:
            self._end(contender)
        if holder is not None and holder.told:
            self._end(holder)
        elif holder is not None:
            fill.followers.append(holder)
        if not fill.followers:
            self._forget(fill)

    def stalled(self, fill: Fill) -> bool:
        """Return whether the holder of `fill` has stalled, and nobody here is there to notice."""
        return fill.holder is not None and not fill.followers and self._clock.now_ns() >= fill.deadline_ns

    def settle(self, fill: Fill) -> None:
        """Forget a fill that was sealed: whoever asks finds what it made."""
        fill.replicated = False
        self._forget(fill)

    async def follow(self, lease: Lease) -> AsyncIterator[FollowEvent]:
        """Yield what comes to a follower, until it is sealed, granted or released.

        The follower that waits is who notices that the holder has stalled. While another one is granted the
        lease for that, an empty part says so.
        """
        while not lease.ended:
            event = self.take(lease)
            if event is not None:
                yield event
                if not isinstance(event, Part):
                    return
                continue
            lease.changed.clear()
            due_ns = self._due_ns(lease.fill)
            left_s = None if due_ns is None else max((due_ns - self._clock.now_ns()) / 1e9, 0.001)
            try:
                async with asyncio.timeout(left_s):
                    await lease.changed.wait()
            except TimeoutError:
                self._expire(lease.fill)
                if not (lease.ended or lease.holds or lease.changed.is_set()):
                    yield Part(AudioValue(lease.fill.format, b""))  # it is seen to

    def take(self, lease: Lease) -> FollowEvent | None:
        """Return the next event of a follower; None where there is none yet. `Sealed` ends it."""
        fill = lease.fill
        if lease.offset_bytes < len(fill.audio) or lease.offset_words < len(fill.words):
            return Part(self._rest(lease, limit=PART_LIMIT_BYTES))
        if lease.holds:
            return self._grant(lease)
        if fill.sealed:
            self.release(lease)
            return Sealed()
        return None

    def expire(self) -> None:
        """Take every lease whose holder has stalled away from it, where somebody follows."""
        for fill in tuple(self._fills.values()):
            self._expire(fill)

    def _due_ns(self, fill: Fill) -> int | None:
        """When somebody here is to go on in the holder's place; None: that is another replica's to say."""
        if not fill.begun and (fill.remote or fill.holder is not None):
            window_ms = min(self._ttl_ms, fill.begin_ms << min(fill.contended, 10))
            return fill.granted_ns + window_ms * 1_000_000
        return fill.deadline_ns if fill.holder is not None else None

    def _expire(self, fill: Fill) -> None:
        due_ns = self._due_ns(fill)
        if due_ns is None or not fill.followers or self._clock.now_ns() < due_ns:
            return
        if fill.begun:
            assert fill.holder is not None
            self._take_from(fill.holder)
            self._succeed(fill)
        elif fill.remote:
            # Another replica's scripts say who has the lease: one of those here makes it for itself.
            fill.contended += 1
            fill.granted_ns = self._clock.now_ns()
            hasty = self._next(fill)
            self._give(self._alone(fill, hasty), hasty)
            self._left(fill)
        else:
            self._contend(fill, self._next(fill))

    def _contend(self, fill: Fill, lease: Lease) -> None:
        """Grant the lease to one more, because nobody who has it has begun."""
        assert fill.holder is not None
        fill.contended += 1
        if fill.holder.told:
            fill.contenders.append(fill.holder)
            fill.holder = None
        else:
            self._take_from(fill.holder)
        self._give(fill, lease)

    def _take_from(self, holder: Lease) -> None:
        holder.fill.holder = None
        if holder.told:
            self._end(holder)
        else:
            # It does not read, so it does not know that it holds the lease: back to the end.
            holder.passed += 1
            holder.fill.followers.append(holder)

    def _begin(self, fill: Fill, lease: Lease) -> None:
        """Note that `lease` appends: if it is the first since the lease was granted, it has it alone."""
        fill.begun, fill.contended = True, 0
        if not lease.holds:
            assert fill.holder is not None
            fill.contenders.remove(lease)
            if fill.holder.told:
                fill.contenders.append(fill.holder)
            else:
                self._take_from(fill.holder)
            fill.holder = lease
            self.takeovers += 1
        contenders, fill.contenders = fill.contenders, []
        for contender in contenders:
            self._end(contender)

    def _alone(self, fill: Fill, lease: Lease) -> Fill:
        """Let `lease` go on alone; return its own fill.

        That starts where the shared one stopped. It holds no bytes, because what was before is not there
        any more to be stored with what comes.
        """
        lease.fill = Fill(fill.key, fill.format, shared=False, audio=fill.audio, words=fill.words)
        return lease.fill

    def _left(self, fill: Fill) -> None:
        """Note that a follower is gone."""
        if fill.remote and not fill.followers:
            self._forget(fill)  # nobody listens here any more
            self.on_changed(fill)

    def _next(self, fill: Fill) -> Lease:
        """Take the follower whose turn it is out of the others: who needs it first, and who reads."""
        first = min(fill.followers, key=lambda lease: (lease.passed, lease.due_ns))
        fill.followers.remove(first)
        return first

    def _held(self, lease: Lease, path: str) -> Fill:
        if not lease.may_append:
            raise InvalidFieldError(path, "this lease is not held: it expired, or was never granted")
        return lease.fill

    def _succeed(self, fill: Fill) -> None:
        """Let another go on where the holder does not; count it."""
        self._promote(fill)
        self.takeovers += fill.holder is not None

    def _promote(self, fill: Fill) -> None:
        if fill.contenders:
            fill.holder = fill.contenders.pop(0)  # it is at work already
        elif fill.followers:
            self._give(fill, self._next(fill))
        else:
            self._forget(fill)
            self.on_changed(fill)

    def _give(self, fill: Fill, lease: Lease) -> None:
        fill.holder = lease
        fill.begun = False
        fill.granted_ns, fill.deadline_ns = self._clock.now_ns(), self._deadline_ns()
        lease.changed.set()

    def _grant(self, lease: Lease) -> Granted:
        lease.told = True
        lease.fill.granted_ns, lease.fill.deadline_ns = self._clock.now_ns(), self._deadline_ns()
        samples = lease.offset_bytes // lease.fill.format.sample_bytes
        return Granted(lease.id, self._ttl_ms, samples)

    def _rest(self, lease: Lease, limit: int | None) -> AudioValue:
        fill, start = lease.fill, lease.offset_bytes
        end = len(fill.audio) if limit is None else min(len(fill.audio), start + limit)
        words = tuple(fill.words[lease.offset_words :])
        lease.offset_bytes, lease.offset_words = end, len(fill.words)
        return AudioValue(fill.format, bytes(memoryview(fill.audio)[start:end]), words)

    def _forget(self, fill: Fill) -> None:
        if self._fills.get(fill.key.name) is fill:
            del self._fills[fill.key.name]
            self._bytes -= len(fill.audio)

    def _new_lease(self, fill: Fill, need: Need) -> Lease:
        due_ns = self._clock.now_ns() + need.due_ms * 1_000_000
        lease = Lease(next(self._ids), fill, due_ns, need.traceparent)
        fill.begin_ms = min(fill.begin_ms, need.begin_ms or self._ttl_ms)
        self._leases[lease.id] = lease
        return lease

    def _end(self, lease: Lease) -> None:
        lease.ended = True
        lease.changed.set()
        self._leases.pop(lease.id, None)

    def _deadline_ns(self) -> int:
        return self._clock.now_ns() + self._ttl_ms * 1_000_000

    def _wake(self, fill: Fill) -> None:
        for follower in fill.followers:
            follower.changed.set()
