"""One makes it, the others hear it; and whoever makes it may go away at any time."""

import asyncio

import pytest

from services.cache.fills import Following, Granted, Lease, Part, Sealed
from services.cache.keys import select
from services.cache.leases import PART_LIMIT_BYTES, LeaseTable
from services.cache.needs import AT_ONCE, Need
from services.cache.values import AudioFormat, AudioValue
from tests.unit.cache.values_for_tests import FORMAT, audio, audio_key
from voicemesh.runtime.clock import ManualClock
from voicemesh.runtime.errors import InvalidFieldError

TTL_MS = 2000
LIMIT = 4 * PART_LIMIT_BYTES


class Table(LeaseTable):
    def __init__(self, budget_bytes: int = 10 * LIMIT) -> None:
        self.manual_clock = ManualClock()
        super().__init__(self.manual_clock, ttl_ms=TTL_MS, max_value_bytes=LIMIT, budget_bytes=budget_bytes)

    def hold(self, text: str = "Hello.", need: Need = AT_ONCE) -> Lease:
        lease, event = self.acquire(audio_key(text), FORMAT, need)
        assert event == Granted(lease.id, TTL_MS, 0)
        return lease

    def join(self, text: str = "Hello.", need: Need = AT_ONCE) -> tuple[Lease, AudioValue]:
        lease, event = self.acquire(audio_key(text), FORMAT, need)
        assert isinstance(event, Following)
        return lease, event.so_far


def test_followers_get_what_is_there_then_parts_then_the_end() -> None:
    table = Table()
    holder = table.hold()
    table.append(holder, audio(100, "one"))
    follower, so_far = table.join()
    assert so_far == audio(100, "one")
    assert table.take(follower) is None
    table.append(holder, audio(50, "two"))
    table.append(holder, audio(60))
    part = table.take(follower)
    assert part == Part(AudioValue(FORMAT, audio(50).audio + audio(60).audio, audio(50, "two").words))
    table.append(holder, audio(10))
    whole = table.seal(holder)
    assert whole is not None
    assert whole[0] == audio_key()
    assert len(whole[1].audio) == 2 * (100 + 50 + 60 + 10)
    assert table.take(follower) == Part(audio(10))
    assert table.take(follower) == Sealed()
    assert follower.ended
    assert (table.active, table.bytes, table.filling(audio_key())) == (0, 0, False)
    table.hold()  # the next one begins anew


def test_different_entries_have_different_leases() -> None:
    table = Table()
    table.hold("a")
    table.hold("b")
    assert table.active == 2


@pytest.mark.parametrize("way", ["release", "stall"])
def test_the_next_follower_goes_on_where_the_holder_stopped(way: str) -> None:
    table = Table()
    holder = table.hold()
    table.append(holder, audio(100))
    first, _ = table.join()
    second, _ = table.join()
    table.append(holder, audio(50))
    if way == "release":
        table.release(holder)
    else:
        table.manual_clock.advance_ms(TTL_MS)
        table.expire()
    assert table.take(first) == Part(audio(50))
    assert table.take(first) == Granted(first.id, TTL_MS, 150)
    assert first.holds
    with pytest.raises(InvalidFieldError, match=r"append\.lease_id"):
        table.append(holder, audio(1))
    with pytest.raises(InvalidFieldError, match=r"seal\.lease_id"):
        table.seal(holder)
    assert table.take(second) == Part(audio(50))
    table.append(first, audio(7))
    assert table.take(second) == Part(audio(7))
    whole = table.seal(first)
    assert whole is not None
    assert whole[1].audio == audio(100).audio + audio(50).audio + audio(7).audio


def test_a_holder_that_appends_in_time_keeps_its_lease() -> None:
    table = Table()
    holder = table.hold()
    table.join()
    for _ in range(5):
        table.manual_clock.advance_ms(TTL_MS - 1)
        table.append(holder, audio(10))
        table.expire()
    assert holder.holds


def test_a_stalled_holder_whom_nobody_follows_may_come_back() -> None:
    table = Table()
    holder = table.hold()
    table.manual_clock.advance_ms(10 * TTL_MS)
    table.expire()
    table.append(holder, audio(10))
    assert table.seal(holder) is not None


def test_who_comes_to_a_stalled_fill_hears_it_and_takes_it_over() -> None:
    table = Table()
    holder = table.hold()
    table.append(holder, audio(100))
    table.manual_clock.advance_ms(TTL_MS)
    late, so_far = table.join()
    assert so_far == audio(100)
    assert table.take(late) == Granted(late.id, TTL_MS, 100)
    assert holder.ended


def test_who_comes_to_a_stalled_fill_with_nothing_in_it_begins_at_once() -> None:
    table = Table()
    table.hold()
    table.manual_clock.advance_ms(TTL_MS)
    table.hold()
    assert table.active == 1


def test_a_follower_that_does_not_read_is_passed_over_but_not_forgotten() -> None:
    table = Table()
    holder = table.hold()
    slow, _ = table.join()
    quick, _ = table.join()
    table.release(holder)
    assert slow.holds  # and has not read that yet
    table.manual_clock.advance_ms(TTL_MS)
    table.expire()
    assert table.take(quick) == Granted(quick.id, TTL_MS, 0)
    assert not slow.ended
    table.append(quick, audio(10))
    assert table.take(slow) == Part(audio(10))


def test_the_lease_counts_from_when_the_caller_hears_of_it() -> None:
    table = Table()
    holder = table.hold()
    slow, _ = table.join()
    table.release(holder)
    table.manual_clock.advance_ms(TTL_MS - 1)
    assert isinstance(table.take(slow), Granted)
    table.join()
    table.manual_clock.advance_ms(TTL_MS - 1)
    table.expire()
    assert slow.holds


def test_a_follower_may_leave_and_is_not_granted_any_more() -> None:
    table = Table()
    holder = table.hold()
    leaver, _ = table.join()
    stayer, _ = table.join()
    table.release(leaver)
    table.release(leaver)
    table.release(holder)
    assert stayer.holds
    assert not leaver.holds


def test_sealing_nothing_is_refused_and_hands_over() -> None:
    table = Table()
    holder = table.hold()
    follower, _ = table.join()
    with pytest.raises(InvalidFieldError, match="nothing was appended"):
        table.seal(holder)
    assert follower.holds


def test_too_much_audio_is_refused_and_everyone_goes_on_alone() -> None:
    table = Table()
    holder = table.hold()
    table.append(holder, audio(100))
    followers = [table.join()[0] for _ in range(2)]
    with pytest.raises(InvalidFieldError, match=r"append\.part\.audio"):
        table.append(holder, audio(LIMIT // 2))
    for follower in followers:
        assert table.take(follower) == Granted(follower.id, TTL_MS, 100)
        table.append(follower, audio(10))
        assert table.seal(follower) is None  # it has a beginning that nobody kept
    assert (table.bytes, table.active) == (0, 0)


def test_beyond_the_budget_nothing_is_shared_and_nobody_is_refused() -> None:
    table = Table(budget_bytes=1000)
    holder = table.hold()
    table.append(holder, audio(400))
    follower, _ = table.join()
    table.append(holder, audio(400))
    assert table.bytes == 0
    assert table.take(follower) == Granted(follower.id, TTL_MS, 400)
    table.append(holder, audio(400))
    assert table.seal(holder) is None


def test_what_is_invalidated_while_it_is_made_is_not_stored() -> None:
    table = Table()
    holder = table.hold()
    table.append(holder, audio(10))
    assert table.discard(select("voice", "espeak/de")) == 0
    assert table.discard(select("voice", "espeak/en")) == 1
    table.hold()  # the next one makes it anew
    assert table.seal(holder) is None


def test_a_part_must_fit_the_entry() -> None:
    table = Table()
    holder = table.hold()
    for form, data in (
        (AudioFormat(1, 24000, 1), b"12"),
        (AudioFormat(2, 22050, 1), b"12"),
        (AudioFormat(1, 22050, 2), b"1234"),
        (FORMAT, b"123"),
    ):
        with pytest.raises(InvalidFieldError, match=r"append\.part"):
            table.append(holder, AudioValue(form, data))
    table.append(holder, AudioValue(AudioFormat(0, 0, 0), b"12"))  # unsaid: that of the entry
    whole = table.seal(holder)
    assert whole is not None
    assert whole[1].format == FORMAT


def test_a_key_without_a_rate_takes_that_of_the_first_part() -> None:
    table = Table()
    holder, _ = table.acquire(audio_key(), AudioFormat(1, 0, 1))
    with pytest.raises(InvalidFieldError, match="sample_rate_hz"):
        table.append(holder, AudioValue(AudioFormat(1, 0, 1), b"12"))
    table.append(holder, audio(10))
    with pytest.raises(InvalidFieldError, match="format"):
        table.append(holder, AudioValue(AudioFormat(1, 8000, 1), b"12"))
    whole = table.seal(holder)
    assert whole is not None
    assert whole[1].format == FORMAT


def test_a_long_backlog_comes_in_bounded_parts() -> None:
    table = Table()
    holder = table.hold()
    follower, _ = table.join()
    table.append(holder, audio(3 * PART_LIMIT_BYTES // 2 // 2, "a"))
    sizes = []
    while isinstance(event := table.take(follower), Part):
        sizes.append(len(event.value.audio))
    assert sizes == [PART_LIMIT_BYTES, PART_LIMIT_BYTES // 2]


async def test_follow_yields_events_as_they_come() -> None:
    table = Table()
    holder = table.hold()
    follower, _ = table.join()
    events: asyncio.Queue[object] = asyncio.Queue()

    async def read() -> None:
        async for event in table.follow(follower):
            await events.put(event)

    reading = asyncio.create_task(read())
    table.append(holder, audio(10))
    assert await events.get() == Part(audio(10))
    table.append(holder, audio(20))
    assert await events.get() == Part(audio(20))
    table.seal(holder)
    assert await events.get() == Sealed()
    await reading


async def test_who_follows_notices_that_the_holder_stalled() -> None:
    table = LeaseTable(clock := ManualClock(), ttl_ms=20, max_value_bytes=LIMIT, budget_bytes=LIMIT)
    table.acquire(audio_key(), FORMAT)
    follower, _ = table.acquire(audio_key(), FORMAT)
    clock.advance_ms(20)  # nobody is told; the follower's own timer finds out
    assert [event async for event in table.follow(follower)] == [Granted(follower.id, 20, 0)]


async def test_who_is_not_the_next_hears_that_it_is_seen_to() -> None:
    table = LeaseTable(clock := ManualClock(), ttl_ms=20, max_value_bytes=LIMIT, budget_bytes=LIMIT)
    holder, _ = table.acquire(audio_key(), FORMAT)
    second, third = (table.acquire(audio_key(), FORMAT)[0] for _ in range(2))
    follow = aiter(table.follow(third))
    waiting = asyncio.ensure_future(anext(follow))
    await asyncio.sleep(0)
    clock.advance_ms(20)
    assert await waiting == Part(AudioValue(FORMAT, b""))
    assert isinstance(table.take(second), Granted)
    table.append(holder, audio(10))
    assert await anext(follow) == Part(audio(10))


async def test_a_follow_that_is_released_just_ends() -> None:
    table = Table()
    table.hold()
    follower, _ = table.join()
    reading = asyncio.create_task(anext(aiter(table.follow(follower)), None))
    await asyncio.sleep(0)
    table.release(follower)
    assert await reading is None


QUICK = Need(begin_ms=100)
"""That of one whose own synthesis would begin within 100 ms."""


def test_a_holder_that_does_not_begin_is_contended_and_who_appends_first_holds() -> None:
    table = Table()
    holder = table.hold(need=QUICK)
    second, _ = table.join(need=QUICK)
    third, _ = table.join(need=QUICK)
    table.manual_clock.advance_ms(99)
    table.expire()
    assert table.take(second) is None
    table.manual_clock.advance_ms(1)
    table.expire()
    assert table.take(second) == Granted(second.id, TTL_MS, 0)
    assert (table.take(third), holder.ended, table.active) == (None, False, 1)
    table.append(holder, audio(10))  # it was in a queue, and comes first all the same
    assert holder.holds
    assert second.ended
    assert table.take(third) == Part(audio(10))
    with pytest.raises(InvalidFieldError, match="not held"):
        table.append(second, audio(10))
    assert table.seal(holder) == (audio_key(), audio(10))
    assert table.take(third) == Sealed()


def test_the_one_who_contends_may_come_first() -> None:
    table = Table()
    holder = table.hold(need=QUICK)
    second, _ = table.join(need=QUICK)
    third, _ = table.join(need=QUICK)
    table.manual_clock.advance_ms(100)
    table.expire()
    assert isinstance(table.take(second), Granted)
    table.append(second, audio(10))
    assert (second.holds, holder.ended) == (True, True)
    assert table.take(third) == Part(audio(10))


def test_nobody_starves_behind_a_queue_that_is_longer_than_a_lease() -> None:
    table = Table()
    leases = [table.hold(need=QUICK), *(table.join(need=QUICK)[0] for _ in range(50))]
    granted = [leases[0]]
    waited_ms = 0
    while waited_ms < 4 * TTL_MS:  # the queue in front of the first synthesis
        table.manual_clock.advance_ms(100)
        waited_ms += 100
        table.expire()
        granted += [lease for lease in leases if lease.holds and lease not in granted]
        table.take(granted[-1])
    # After 100 ms, and then each time twice as long, up to the lease's time.
    assert 1 < len(granted) <= 9
    table.append(leases[0], audio(10))
    heard = [lease for lease in leases if lease not in granted and table.take(lease) == Part(audio(10))]
    assert len(heard) == len(leases) - len(granted)


def test_who_needs_it_much_sooner_does_not_wait_for_who_can() -> None:
    table = Table()
    warming = table.hold(need=Need(due_ms=60_000, begin_ms=100))
    listener, event = table.acquire(audio_key(), FORMAT, QUICK)
    assert event == Granted(listener.id, TTL_MS, 0)
    others = [table.join(need=QUICK)[0] for _ in range(1000)]
    assert [lease for lease in others if lease.holds] == []
    table.append(listener, audio(10))
    assert warming.ended
    assert all(table.take(lease) == Part(audio(10)) for lease in others)


@pytest.mark.parametrize("way", ["released", "stalled"])
def test_who_needs_it_first_takes_it_over(way: str) -> None:
    table = Table()
    holder = table.hold()
    table.append(holder, audio(10))
    warming, _ = table.join(need=Need(due_ms=60_000))
    listener, _ = table.join()
    if way == "released":
        table.release(holder)
    else:
        table.manual_clock.advance_ms(TTL_MS)
        table.expire()
    assert (listener.holds, warming.holds) == (True, False)


def test_a_contender_goes_on_where_the_holder_gives_up_before_it_begins() -> None:
    table = Table()
    holder = table.hold(need=QUICK)
    second, _ = table.join(need=QUICK)
    third, _ = table.join(need=QUICK)
    table.manual_clock.advance_ms(100)
    table.expire()
    assert isinstance(table.take(second), Granted)
    table.release(second)
    assert (holder.holds, third.holds) == (True, False)
    table.release(holder)
    assert third.holds


def test_what_comes_apart_before_anyone_has_begun_leaves_each_contender_its_own() -> None:
    table = Table()
    holder = table.hold(need=QUICK)
    second, _ = table.join(need=QUICK)
    table.manual_clock.advance_ms(100)
    table.expire()
    assert isinstance(table.take(second), Granted)
    table.discard(select("voice", "espeak/en"))
    for lease in (holder, second):
        table.append(lease, audio(10))
        assert table.seal(lease) is None
    assert table.active == 0


def test_of_those_who_follow_a_replica_that_does_not_begin_one_goes_on_alone() -> None:
    table = Table()
    fill = table.open(audio_key(), FORMAT, remote=True)
    first, _ = table.join(need=QUICK)
    second, _ = table.join(need=QUICK)
    table.manual_clock.advance_ms(100)
    table.expire()
    assert table.take(first) == Granted(first.id, TTL_MS, 0)
    assert table.take(second) is None
    table.append(first, audio(20))
    assert table.seal(first) is None
    assert table.extend(fill, 0, 0, audio(10))
    assert table.take(second) == Part(audio(10))
    table.manual_clock.advance_ms(TTL_MS)
    table.expire()
    assert not second.holds  # it has begun: what becomes of it is that replica's to say
