"""The memory tier keeps its budgets, its lifetimes and its order."""

import sys
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.cache.eviction import LeastRecent, S3Fifo
from services.cache.keys import Selector, StoredKey, select
from services.cache.memory import Entry, MemoryTier
from services.cache.values import ReplyValue, Value, size_bytes
from tests.unit.cache.values_for_tests import audio, audio_key, history, history_key
from voicemesh.runtime.clock import ManualClock

MIB = 1024 * 1024
TTL_MS = 1000


def tier(limit_bytes: int = MIB) -> tuple[MemoryTier, ManualClock]:
    clock = ManualClock()
    return MemoryTier(clock, limit_bytes), clock


def test_what_was_asked_for_again_outlives_a_scan() -> None:
    memory, _ = tier()
    common = [audio_key(f"common {number}") for number in range(3)]
    for key in common:
        assert memory.put(key, audio(40_000), TTL_MS)  # 80 kB each; 786 kB for audio
        assert memory.get(key) is not None
    for number in range(500):
        assert memory.put(audio_key(f"once {number}"), audio(40_000), TTL_MS)
    assert all(memory.get(key) is not None for key in common)
    assert memory.counts["audio"].evictions == 500 + 3 - memory.counts["audio"].entries


def test_what_is_new_pushes_out_what_is_not_asked_for_any_more() -> None:
    memory, _ = tier()
    for generation in "abc":
        keys = [audio_key(f"{generation}{number}") for number in range(5)]
        for _ in range(20):
            for key in keys:
                if memory.get(key) is None:
                    memory.put(key, audio(40_000), TTL_MS)
        assert all(memory.get(key) is not None for key in keys)


def test_the_session_that_was_silent_for_the_longest_time_makes_room() -> None:
    memory, _ = tier()
    sessions = [history_key(str(number)) for number in range(10)]
    for key in sessions[:9]:
        assert memory.put(key, history("x" * 13_000), TTL_MS)  # 131 kB for histories
    memory.put(sessions[0], history("x" * 13_000), TTL_MS, version=2)
    memory.put(sessions[9], history("x" * 13_000), TTL_MS)
    assert memory.get(sessions[0]) is not None
    assert memory.get(sessions[1]) is None
    assert memory.counts["history"].evictions == 1


def test_a_flood_of_audio_leaves_histories_alone() -> None:
    memory, _ = tier()
    memory.put(history_key(), history("Hi.", "Hello."), TTL_MS)
    for number in range(100):
        memory.put(audio_key(str(number)), audio(40_000), TTL_MS)
    assert memory.get(history_key()) is not None
    assert memory.bytes <= MIB


def test_an_entry_over_an_eighth_is_not_kept_and_replaces_nothing_else() -> None:
    memory, _ = tier()
    memory.put(audio_key("other"), audio(10), TTL_MS)
    memory.put(audio_key(), audio(10), TTL_MS)
    assert not memory.put(audio_key(), audio(MIB // 16), TTL_MS)
    assert memory.get(audio_key()) is None  # what was there is not the value any more
    assert memory.get(audio_key("other")) is not None


def test_entries_expire_and_reading_does_not_prolong_them() -> None:
    memory, clock = tier()
    memory.put(audio_key(), audio(10), TTL_MS)
    clock.advance_ms(TTL_MS - 1)
    assert memory.get(audio_key()) is not None
    clock.advance_ms(1)
    assert memory.get(audio_key()) is None
    assert memory.bytes == 0


def test_what_has_expired_is_swept_and_is_no_eviction() -> None:
    memory, clock = tier()
    for number in range(5):
        memory.put(audio_key(str(number)), audio(10), TTL_MS)
    clock.advance_ms(TTL_MS)
    memory.put(audio_key("new"), audio(10), TTL_MS)
    assert sum(memory.sweep(2)) == 5
    assert memory.counts["audio"].entries == 1
    assert memory.counts["audio"].evictions == 0


def test_entries_are_removed_by_what_they_belong_to() -> None:
    memory, _ = tier()
    for voice in ("v1", "v2"):
        for tenant in ("", "acme"):
            memory.put(audio_key(voice=voice, tenant=tenant), audio(10), TTL_MS)
    memory.put(history_key(tenant="acme"), history("Hi."), TTL_MS)
    assert sum(memory.remove_matching(select("tenant", "acme"), 1)) == 3
    assert sum(memory.remove_matching(select("voice", "v1"), 1)) == 1
    assert sum(memory.remove_matching(Selector("all"), 1000)) == 1
    assert memory.bytes == 0


def test_copies_are_given_up_and_the_only_ones_are_not() -> None:
    memory, _ = tier()
    memory.put(audio_key(), audio(10), TTL_MS)
    memory.put(history_key("in Redis"), history("Hi."), TTL_MS, durable=True)
    memory.put(history_key("here alone"), history("Hi."), TTL_MS)
    assert sum(memory.remove_copies(1)) == 2
    assert memory.get(history_key("here alone")) is not None


def test_a_mark_does_not_bring_back_what_was_replaced() -> None:
    memory, _ = tier()
    memory.put(history_key(), history("Hi."), TTL_MS, version=1)
    (old,) = memory.histories(durable=False)
    memory.put(history_key(), history("Hi.", "Ho."), TTL_MS, version=2)
    memory.mark(old, durable=True)
    (entry,) = memory.histories(durable=False)
    assert entry.version == 2
    memory.mark(entry, durable=True)
    assert memory.histories(durable=False) == ()


def test_wide_characters_are_counted_as_what_they_take() -> None:
    plain, wide = size_bytes(ReplyValue("a" * 1000)), size_bytes(ReplyValue("語" * 1000))
    assert wide - plain == 1000
    assert size_bytes(ReplyValue("😀" * 1000)) - plain == 3000


class MemoryRules(RuleBasedStateMachine):
    """Whatever is done: within the budgets, sizes add up, and what is found is what was put."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.clock = tier()
        self.put: dict[str, tuple[Value, int]] = {}

    def _put(self, key: StoredKey, value: Value, ttl_ms: int) -> None:
        there = self.memory.put(key, value, ttl_ms)
        assert there is (self.memory.get(key) is not None)
        assert there is (size_bytes(value) + len(key.name) <= self.memory.largest_bytes(key.kind))
        self.put.pop(key.name, None)
        if there:
            self.put[key.name] = (value, self.clock.now_ns() + ttl_ms * 1_000_000)

    @rule(number=st.integers(0, 30), samples=st.integers(0, 70_000), ttl_ms=st.sampled_from([10, TTL_MS]))
    def put_audio(self, number: int, samples: int, ttl_ms: int) -> None:
        self._put(audio_key(str(number)), audio(samples), ttl_ms)

    @rule(number=st.integers(0, 30), letters=st.integers(1, 140_000))
    def put_history(self, number: int, letters: int) -> None:
        self._put(history_key(str(number)), history("x" * letters), TTL_MS)

    @rule(number=st.integers(0, 30), of_audio=st.booleans())
    def get(self, number: int, of_audio: bool) -> None:
        key = audio_key(str(number)) if of_audio else history_key(str(number))
        entry = self.memory.get(key)
        if entry is not None:
            value, expires_ns = self.put[key.name]
            assert entry.value == value
            assert entry.expires_ns == expires_ns > self.clock.now_ns()

    @rule(number=st.integers(0, 30))
    def remove(self, number: int) -> None:
        key = audio_key(str(number))
        there = any(entry.key == key for entry in self._held())
        assert self.memory.remove(key) is there
        assert self.memory.get(key) is None
        self.put.pop(key.name, None)

    @rule(ms=st.integers(1, TTL_MS))
    def wait(self, ms: int) -> None:
        self.clock.advance_ms(ms)

    @rule()
    def sweep(self) -> None:
        sum(self.memory.sweep(5))
        assert all(entry.expires_ns > self.clock.now_ns() for entry in self._held())

    def _held(self) -> list[Entry]:
        return [entry for entries in self.memory._entries.values() for entry in entries.values()]

    @invariant()
    def nothing_is_lost_without_need(self) -> None:
        """While nothing had to make room, all that was put and lives is there."""
        held = {entry.key.name for entry in self._held()}
        evictions = sum(counts.evictions for counts in self.memory.counts.values())
        alive = {name for name, (_, expires_ns) in self.put.items() if expires_ns > self.clock.now_ns()}
        assert len(alive - held) <= evictions

    @invariant()
    def the_books_are_right(self) -> None:
        counts, held = self.memory.counts, self._held()
        assert counts["audio"].bytes <= MIB * 6 // 8
        assert counts["history"].bytes <= MIB // 8
        assert self.memory.bytes == sum(entry.size_bytes for entry in held)
        assert sum(kind.entries for kind in counts.values()) == len(held)
        for kind, order in self.memory._orders.items():
            assert isinstance(order, S3Fifo | LeastRecent)
            assert len(order) == counts[kind].entries


TestMemoryRules = MemoryRules.TestCase


def test_tags_take_room_as_well() -> None:
    tags = tuple(f"{number:012x}" for number in range(8))
    for value in (audio(10), ReplyValue("Yes.")):
        assert size_bytes(replace(value, tags=tags)) - size_bytes(value) >= sum(map(sys.getsizeof, tags))
