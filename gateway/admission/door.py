"""Lets turns in, or says at once why not and when to come again.

    the key's limits ─> places of this gateway ─> what the mesh can take ─┬─> a place, until the turn ends
      RATE_LIMITED        TOO_MANY_TURNS           OVERLOADED              └─> with steps of a brown-out

A place counts 1, and a tenth while what its turn gives is in the cache. High priority has a tenth of the
limit for itself while such turns come; low priority has half of it; a draft, which may be for nothing, three
quarters.

No work is done before. Everything here belongs to the event loop, and a refusal costs microseconds.
"""

import random
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from gateway.access.caller import NO_LIMITS, Caller, Limits, Priority
from gateway.admission.brownout import BrownOut, Step
from gateway.admission.limit import AdaptiveLimit
from gateway.admission.rates import KeyName, Rates
from gateway.admission.rules import Rules
from gateway.admission.shares import Shares
from gateway.admission.waiting import Waiting
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import OverloadedError, RateLimitedError, TooManyTurnsError

LIGHT: Final = 0.1
"""What a turn counts whose audio is in the cache: it costs the gateway something, and engines nothing."""
_FOR_LOW: Final = 0.5
_FOR_DRAFTS: Final = 0.75
_KEPT_FOR_HIGH: Final = 0.1
_HIGH_LATELY_NS: Final = 60_000_000_000
_ABOVE: Final = 0.1
"""Share of the limit above it, for what the cache gives;"""
_ABOVE_FOR_SHARES: Final = 0.5
"""for tenants that have less than theirs: also while turns that were let in under a higher limit end."""
_LEAST_RETRY_MS: Final = 500
_MOST_RETRY_MS: Final = 10_000
_JITTER: Final = 0.5
"""A time to come again is up to so much longer: those who are refused together must not come together."""
_REMEMBERED_S: Final = 2.0
_ANY_TENANT: Final = "*"
"""No tenant's name: what is counted under it is a key's, whichever tenant it names."""


class Place:
    """A turn's place. It is given back once, however often that is said.

    Attributes:
        priority: The turn's.
        steps: What the turn gives up.
        cached_only: True where it may have what is in the cache, and nothing else.

    """

    __slots__ = ("_caller", "_door", "_kept", "_taken", "cached_only", "epoch", "priority", "steps")

    def __init__(
        self, door: "Door", caller: Caller, priority: Priority, steps: tuple[Step, ...], epoch: int
    ) -> None:
        self._door = door
        self._caller = caller
        self._taken = 0.0
        self._kept = False
        self.priority = priority
        self.steps = steps
        self.cached_only = Step.CACHED_ONLY in steps
        self.epoch = epoch
        self.weigh(LIGHT if self.cached_only else 1.0)

    def __enter__(self) -> Self:
        """Hold it until `keep`, or else give it back at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back, unless a turn has it."""
        if error is not None or not self._kept:
            self.release()

    def keep(self) -> None:
        """Have it held by a turn that began, which gives it back at its end."""
        self._kept = True

    def weigh(self, weight: float) -> None:
        """Say what the turn costs as far as is known; no more once it was given back."""
        if self._taken >= 0 and weight != self._taken:
            self._door.weigh(self._caller, weight - self._taken)
            self._taken = weight

    def spend(self, characters: int) -> None:
        """Say how many more characters the turn took of its key."""
        self._door.spend(self._caller, characters)

    def release(self) -> None:
        """Give it back. Does nothing the second time."""
        if self._taken >= 0:
            self._door.release(self._caller, self._taken)
            self._taken = -1.0


class Door:
    """The door of one gateway.

    Args:
        clock: Stamps everything.
        limit: What the mesh can take.
        most: Places of this gateway: whatever the mesh could take, no more turns run.
        rules: What callers may take.
        steps: What is given up before a turn is refused, in order.
        chance: Spreads the times to come again.

    Attributes:
        limit: As given.
        brownout: The steps that are taken.
        waiting: Turns that wait for their first audio from an engine.

    """

    def __init__(
        self,
        clock: Clock,
        limit: AdaptiveLimit,
        *,
        most: int,
        rules: Rules | None = None,
        steps: Sequence[Step] = (),
        chance: random.Random | None = None,
    ) -> None:
        self.limit = limit
        self.brownout = BrownOut(steps)
        self.waiting = Waiting()
        self._clock = clock
        self._most = most
        self._rules = rules or Rules()
        self._chance = chance or random.Random()  # noqa: S311 - spreads retries, keeps no secret
        self._shares = Shares()
        self._rates = Rates()
        self._places = 0
        self._high_ns = -_HIGH_LATELY_NS
        self._refused = _Rate()
        self._ended = _Rate()

    def __len__(self) -> int:
        """Places that are taken."""
        return self._places

    @property
    def running(self) -> float:
        """Places that are taken, by what they cost."""
        return self._shares.running

    @property
    def pressed(self) -> bool:
        """True while what is not asked for yet is better left: streams that stand by, say."""
        return self._shares.running >= _FOR_DRAFTS * self.limit.turns

    def admit(self, caller: Caller, wanted: Priority = Priority.NORMAL, *, draft: bool = False) -> Place:
        """Take a turn in.

        Args:
            caller: Whose it is.
            wanted: The priority that it asks for; it gets no more than it may have.
            draft: True where it may be for nothing.

        Raises:
            RateLimitedError: The caller's key has no more for now.
            TooManyTurnsError: Every place of this gateway is taken.
            OverloadedError: The mesh can take no more turns like this one.

        """
        now_ns = self._clock.now_ns()
        accounts = self._accounts(caller)
        for name, limits in accounts:
            refusal = self._rates.refusal(name, limits, now_ns)
            if refusal is not None:
                raise RateLimitedError(
                    _RATES[refusal.limit].format("key" if caller.key_id else "tenant", refusal.most),
                    limit=refusal.limit,
                    retry_after_ms=self._spread(refusal.wait_ms),
                )
        self.waiting.look(self.limit, self.running, now_ns)
        self.limit.ran(self.running, now_ns)
        priority = min(wanted, self._rules.ceiling(caller))
        if priority is Priority.HIGH:
            self._high_ns = now_ns
        steps = self._steps(caller, priority, now_ns, draft=draft)
        for name, limits in accounts:
            self._rates.begin(name, limits, now_ns)
        self._places += 1
        place = Place(self, caller, priority, steps, self.limit.epoch)
        self._note(now_ns)
        return place

    def _accounts(self, caller: Caller) -> list[tuple[KeyName, Limits]]:
        """Return what a caller's turns are counted for, and what each may have."""
        return list(zip(_names(caller), (self._rules.limits(caller), caller.behind), strict=False))

    def _steps(self, caller: Caller, priority: Priority, now_ns: int, *, draft: bool) -> tuple[Step, ...]:
        """Return what a turn must give up that comes in now.

        Raises:
            TooManyTurnsError: Every place of this gateway is taken.
            OverloadedError: The mesh can take no more turns like this one.

        """
        tenant, weight = caller.tenant, self._rules.weight(caller.tenant)
        if self._places >= self._most:
            self._refuse(tenant, weight, now_ns)
            raise TooManyTurnsError(
                f"all {self._most} places for turns are taken", retry_after_ms=self._retry_ms(now_ns)
            )
        limit, shares = self.limit.turns, self._shares
        least_steps = tuple(step for step in self.brownout.steps if step is not Step.CACHED_ONLY)
        cap = self._cap(priority, now_ns, draft=draft)
        if not shares.within(tenant, weight, 1.0, limit, now_ns) and shares.contested(tenant):
            cause, what = "share", "this tenant has its share of the places, and others want theirs"
        elif shares.running + 1 <= cap or (
            (priority > Priority.LOW and not draft)
            and shares.running + 1 <= limit + max(1.0, _ABOVE_FOR_SHARES * limit)
            and shares.is_short(tenant, weight, 1.0, cap)
        ):
            return least_steps
        else:
            cause = "capacity"
            what = f"the mesh can take about {limit:.0f} turns at once now, and {shares.running:.0f} run"
        if self._may_look(priority, draft=draft) and shares.running + LIGHT <= limit + max(
            1.0, _ABOVE * limit
        ):
            return (*least_steps, Step.CACHED_ONLY)
        self._refuse(tenant, weight, now_ns)
        raise OverloadedError(what, limit=cause, retry_after_ms=self._retry_ms(now_ns))

    def _may_look(self, priority: Priority, *, draft: bool) -> bool:
        return Step.CACHED_ONLY in self.brownout.steps and priority is Priority.NORMAL and not draft

    def _cap(self, priority: Priority, now_ns: int, *, draft: bool) -> float:
        """Return up to which number turns of a priority may run; one always may."""
        limit = self.limit.turns
        if priority is Priority.LOW:
            return max(1.0, _FOR_LOW * limit)
        if draft:
            return max(1.0, _FOR_DRAFTS * limit)
        if priority is Priority.HIGH or now_ns - self._high_ns >= _HIGH_LATELY_NS:
            return limit
        return max(1.0, limit - max(1.0, _KEPT_FOR_HIGH * limit))

    # ------------------------------------------------------------ places

    def weigh(self, caller: Caller, more: float) -> None:
        """Take what a place costs more than was known; for `Place`."""
        self._shares.take(caller.tenant, self._rules.weight(caller.tenant), more)

    def spend(self, caller: Caller, characters: int) -> None:
        """Take characters from a caller's key; for `Place`."""
        now_ns = self._clock.now_ns()
        for name in _names(caller):
            self._rates.spend(name, characters, now_ns)

    def release(self, caller: Caller, weight: float) -> None:
        """Take a place back; for `Place`."""
        now_ns = self._clock.now_ns()
        self.limit.ran(self.running, now_ns)
        self._shares.take(caller.tenant, self._rules.weight(caller.tenant), -weight)
        for name in _names(caller):
            self._rates.end(name)
        self._places -= 1
        self._ended.count(now_ns)
        self._note(now_ns)

    def _note(self, now_ns: int) -> None:
        self.brownout.uses(self._shares.running / self.limit.turns, now_ns)

    # ------------------------------------------------------------ refusals

    def _refuse(self, tenant: str, weight: float, now_ns: int) -> None:
        self._shares.refused(tenant, weight, 1.0, now_ns)
        self._refused.count(now_ns)
        self._note(now_ns)

    def _retry_ms(self, now_ns: int) -> int:
        """Return when a place may be free: the longer, the more are refused for each that ends."""
        for_each = self._refused.per_s(now_ns) / max(self._ended.per_s(now_ns), 0.1)
        wait_ms = min(max(_LEAST_RETRY_MS * for_each, _LEAST_RETRY_MS), _MOST_RETRY_MS)
        return self._spread(round(wait_ms))

    def _spread(self, wait_ms: int) -> int:
        return wait_ms + round(wait_ms * _JITTER * self._chance.random())


def _names(caller: Caller) -> tuple[KeyName, ...]:
    own = caller.tenant, caller.key_id
    return (own,) if caller.behind is NO_LIMITS else (own, (_ANY_TENANT, caller.key_id))


_RATES: Final = {
    "requests": "this {} may begin {} turns a minute; wait, or ask for a higher limit",
    "characters": "this {} may have {} characters a minute spoken; wait, or ask for a higher limit",
    "turns": "this {} may have {} turns at once; end one, or ask for a higher limit",
}


class _Rate:
    """How often something happens, as it did in the last seconds."""

    def __init__(self) -> None:
        self._count = 0.0
        self._at_ns = 0

    def count(self, now_ns: int) -> None:
        self._count = self.per_s(now_ns) * _REMEMBERED_S + 1
        self._at_ns = now_ns

    def per_s(self, now_ns: int) -> float:
        elapsed_s = (now_ns - self._at_ns) / 1e9
        return self._count * 2 ** (-elapsed_s / _REMEMBERED_S) / _REMEMBERED_S
