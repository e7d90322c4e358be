"""What the core needs of the tier behind memory. The tier of `redis_tier.py` is one."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

from services.cache.keys import Selector, StoredKey
from services.cache.values import AudioFormat, AudioValue, HistoryValue, Value


class DurableUnavailableError(Exception):
    """The tier did not answer, or is held off because it did not answer before."""


class RoundTrips(Protocol):
    """Is told of each round trip that a caller waits for."""

    traceparent: str
    """Of the caller, where its trace is recorded; else ""."""

    def redis(self, operation: str, key: StoredKey) -> AbstractContextManager[object]:
        """Return the context that the round trip of `operation` runs in."""
        ...

    def embeddings(self, model: str) -> AbstractContextManager[object]:
        """Return the context that a question to the server of embeddings runs in."""
        ...


class Untraced:
    """Notes nothing."""

    traceparent = ""

    def redis(self, operation: str, key: StoredKey) -> AbstractContextManager[object]:  # noqa: ARG002 - a Protocol's
        """Return a context that does nothing."""
        return nullcontext()

    def embeddings(self, model: str) -> AbstractContextManager[object]:  # noqa: ARG002 - a Protocol's
        """Return a context that does nothing."""
        return nullcontext()


@dataclass(frozen=True, slots=True)
class DurableEntry:
    """An entry as the tier has it."""

    value: Value
    version: int
    ttl_ms: int | None
    """Milliseconds that it has left to live; None where it lives on."""
    whole: Callable[[], Awaitable[AudioValue | None]] | None = None
    """Where `value` is a head: reads the rest and returns the whole entry, or None where that is not
    what the head belongs to any more. Raises `DurableUnavailableError`."""


@dataclass(frozen=True, slots=True)
class Written:
    """What came of writing a history: its version now, and whether it is what was written."""

    version: int
    done: bool


class DurableTier(Protocol):
    """Entries that outlive the process and that processes share."""

    @property
    def errors(self) -> int:
        """Operations that failed or timed out."""
        ...

    @property
    def corrupt(self) -> int:
        """Entries that could not be read, and were removed."""
        ...

    @property
    def dropped(self) -> int:
        """Writes that were given up: too many waited, or the tier refused them."""
        ...

    @property
    def available(self) -> bool:
        """False while the tier is held off."""
        ...

    async def get(self, key: StoredKey, trips: RoundTrips, head_ms: int = 0) -> DurableEntry | None:
        """Return the entry of `key`, None where there is none.

        With `head_ms`, of a long audio entry only a head of at least that much.

        Raises:
            DurableUnavailableError: Within the tier's timeout there was no answer.

        """
        ...

    def write_behind(self, key: StoredKey, value: Value, ttl_ms: int) -> None:
        """Write an entry soon; never waits. Under pressure the oldest writes are given up."""
        ...

    async def write_history(
        self,
        key: StoredKey,
        value: HistoryValue,
        ttl_ms: int,
        trips: RoundTrips,
        *,
        expected_version: int | None,
        floor_version: int,
    ) -> Written:
        """Compare and set a history, atomically among all processes.

        The present version is that in the tier, or `floor_version` if that is higher: what the
        caller knows of, and the tier may have lost. Where it is `expected_version`, or that is
        None, the history is written with the next version.

        Raises:
            DurableUnavailableError: There was no answer, or the tier refused the write.

        """
        ...

    async def restore_history(
        self, key: StoredKey, value: HistoryValue, ttl_ms: int, version: int
    ) -> Written:
        """Write a history with its `version`, unless the tier has that or a later one.

        Raises:
            DurableUnavailableError: There was no answer, or the tier refused the write.

        """
        ...

    async def announce(self, selector: Selector, removal_id: str = "") -> None:
        """Tell all other processes to write nothing that matches and was begun before: it is being removed.

        `removal_id` names the removal among them.

        Raises:
            DurableUnavailableError: There was no answer.

        """
        ...

    async def invalidate(self, selector: Selector, removal_id: str = "") -> int:
        """Remove all entries that match, also those about to be written; return how many.

        Raises:
            DurableUnavailableError: There was no answer; some may have been removed.

        """
        ...


class SharedLeases(Protocol):
    """Leases that hold among all processes. Those of `redis_leases.py` do."""

    @property
    def available(self) -> bool:
        """False while leases are those of this process alone."""
        ...

    @property
    def timeout_s(self) -> float:
        """Seconds that a caller waits for `look` at most."""
        ...

    async def look(
        self, key: StoredKey, form: AudioFormat, trips: RoundTrips, timeout_s: float
    ) -> Literal["opened", "stored", "alone"]:
        """Take or follow the lease of `key`, which nobody has here; never fails.

        Returns:
            "opened" where `LeaseTable.acquire` is to follow at once, "stored" where the entry is there
            by now, "alone" where nobody else can be asked.

        """
        ...

    def store(self, key: StoredKey, value: AudioValue, ttl_ms: int, *, admitted: bool) -> bool:
        """Write a sealed value soon, and then let its lease go; False where others know of no lease.

        What is not `admitted` is written only where another process follows.
        """
        ...

    async def discard(self, selector: Selector) -> None:
        """Make sure that nothing that matches and is being made in any process is stored.

        Raises:
            DurableUnavailableError: There was no answer.

        """
        ...
