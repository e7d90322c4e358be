"""The memory tier keeps its budgets, its lifetimes and its order."""

from hypothesis import given
from hypothesis import strategies as st

from services.cache.keys import Selector, select
from services.cache.memory import MemoryTier
from services.cache.values import ReplyValue, size_bytes
from tests.unit.cache.values_for_tests import audio, audio_key, history, history_key
from voicemesh.runtime.clock import ManualClock

MIB = 1024 * 1024
TTL_MS = 1000


def tier(limit_bytes: int = MIB) -> tuple[MemoryTier, ManualClock]:
    clock = ManualClock()
    return MemoryTier(clock, limit_bytes), clock


def test_the_least_recently_used_makes_room() -> None:
    memory, _ = tier()
    names = [audio_key(str(number)) for number in range(10)]
    for key in names[:9]:
        assert memory.put(key, audio(40_000), TTL_MS)  # 80 kB each; 786 kB for audio
    assert memory.get(names[0]) is not None
    memory.put(names[9], audio(40_000), TTL_MS)
    assert memory.get(names[0]) is not None
    assert memory.get(names[1]) is None
    assert memory.counts["audio"].evictions == 1


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


@given(
    st.lists(
        st.tuples(
            st.integers(0, 20),
            st.integers(0, 70_000),
            st.sampled_from(["audio", "history", "get", "drop", "wait"]),
        ),
        max_size=60,
    )
)
def test_the_budget_is_never_exceeded(steps: list[tuple[int, int, str]]) -> None:
    memory, clock = tier()
    for number, samples, step in steps:
        match step:
            case "audio":
                memory.put(audio_key(str(number)), audio(samples), TTL_MS)
            case "history":
                memory.put(history_key(str(number)), history("x" * samples), TTL_MS)
            case "get":
                memory.get(audio_key(str(number)))
            case "drop":
                memory.remove(audio_key(str(number)))
            case _:
                clock.advance_ms(samples % TTL_MS)
        counts = memory.counts
        assert counts["audio"].bytes <= MIB * 6 // 8
        assert counts["history"].bytes <= MIB // 8
        held = [entry for entries in memory._entries.values() for entry in entries.values()]
        assert memory.bytes == sum(entry.size_bytes for entry in held)
        assert sum(kind.entries for kind in counts.values()) == len(held)
