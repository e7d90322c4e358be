"""What was invalidated lately, and what that makes stale."""

from services.cache.keys import Selector, select, tag
from services.cache.removals import MOST, Removals
from tests.unit.cache.values_for_tests import audio_key
from voicemesh.runtime.clock import ManualClock

KEY = audio_key(voice="a", tenant="acme")


def test_nothing_is_stale_where_nothing_was_invalidated() -> None:
    assert not Removals(ManualClock()).makes_stale(KEY, (), 0)


def test_only_what_matches_and_was_begun_before_is_stale() -> None:
    clock = ManualClock()
    clock.advance_ms(10)
    removals = Removals(clock)
    removals.add(select("tag", "lesson", "acme"))
    before_ns, at_ns, after_ns = clock.now_ns() - 1, clock.now_ns(), clock.now_ns() + 1
    tags = (tag("lesson"),)
    assert removals.makes_stale(KEY, tags, before_ns)
    assert removals.makes_stale(KEY, tags, at_ns)
    assert not removals.makes_stale(KEY, tags, after_ns)
    assert not removals.makes_stale(KEY, (), before_ns)
    assert not removals.makes_stale(audio_key(tenant="rival"), tags, before_ns)
    assert (removals.total, removals.stale_puts) == (1, 2)


def test_beyond_what_is_remembered_all_is_taken_to_be_stale() -> None:
    clock = ManualClock()
    removals = Removals(clock)
    for _ in range(MOST + 1):
        clock.advance_ms(1)
        removals.add(select("voice", "another"))
    first_ns, second_ns = 1_000_000, 2_000_000
    assert removals.makes_stale(KEY, (), first_ns)
    assert not removals.makes_stale(KEY, (), second_ns)
    assert removals.makes_stale(audio_key(voice="another"), (), second_ns)


def test_what_was_read_counts_no_more_from_the_beginning_to_the_end() -> None:
    removals = Removals(ManualClock())
    epochs = [removals.epoch]
    removals.add(Selector("all"))
    epochs.append(removals.epoch)
    removals.ended(3, 4)
    epochs.append(removals.epoch)
    assert len(set(epochs)) == 3
    assert (removals.memory_entries, removals.redis_entries) == (3, 4)


def test_what_goes_on_is_counted_once_and_remembered_at_its_end() -> None:
    clock = ManualClock()
    removals = Removals(clock)
    for again in (False, True):
        clock.advance_ms(10)
        removals.add(select("voice", "a"), again=again)
    assert removals.total == 1
    assert removals.makes_stale(KEY, (), 20_000_000)
    assert not removals.makes_stale(KEY, (), 20_000_001)


def test_work_that_is_older_than_the_clock_is_not_stale_by_that() -> None:
    assert not Removals(ManualClock()).makes_stale(KEY, (), -3_600_000_000_000)
