"""The order of a turn's chunks, on a scripted replica."""

import pytest

from services.tts.core.model import (
    AudioFormat,
    ChunkOrder,
    FailedEvent,
    FinishedEvent,
    FrameEvent,
    Word,
    WordsEvent,
)
from tests.unit.tts.speaking import World, nothing_yet, rest, take
from voicemesh.runtime.errors import (
    InvalidFieldError,
    NoEngineError,
    OutOfOrderError,
    QueueFullError,
)


async def test_frames_words_and_the_end_come_as_they_are_made():
    async with World() as world:
        turn = world.turn()
        turn.add(ChunkOrder(3, "Hello there", start_offset_samples=0))
        world.clock.advance_ms(2)
        world.replica().say(Word(0, 5, 0))
        world.clock.advance_ms(1)
        world.replica().make(20)
        (first,) = await take(turn, 1)
        assert isinstance(first, FrameEvent)
        assert first.words == (("Hello", Word(0, 5, 0)),)
        assert (first.index, first.sequence, first.offset_samples, len(first.pcm)) == (3, 0, 0, 40)
        assert first.start is not None
        assert (first.start.queue_us, first.start.synthesis_us) == (0, 3000)
        assert (first.start.replica, first.start.sample_rate_hz) == ("voice-0", 1000)
        assert first.start.model_revision == world.speech.voices()[0].model_revision
        assert await nothing_yet(turn)
        world.replica().make(20)
        (second,) = await take(turn, 1)
        assert (second.sequence, second.offset_samples, second.start) == (1, 20, None)
        turn.half_close()
        world.clock.advance_ms(4)
        world.replica().make(10)
        world.replica().say(Word(6, 5, 50))
        world.replica().finish(us=5000)
        last, words, end = await rest(turn)
        assert (last.sequence, last.words) == (2, ())
        assert words == WordsEvent(3, (("there", Word(6, 5, 50)),))
        assert end == FinishedEvent(3, 50, 7000, cancelled=False, resumed=0, wasted_us=0, engine_us=5000)
        assert [name for name, _ in world.watchers[3].log] == ["leased", "first_frame", "ended"]
        assert world.stats().completed_chunks == 1


async def test_frames_that_wait_for_their_listener_leave_together():
    async with World() as world:
        turn = world.turn()
        turn.add(ChunkOrder(0, "Hello there"))
        turn.half_close()
        for number, samples in enumerate((20, 20, 40, 80, 160, 200, 200, 30)):
            if number in (2, 5):
                world.replica().say(Word(3 * (number - 2), 5, 40 if number == 2 else 320))
            world.replica().make(samples)
        world.replica().finish()
        *frames, _ = await rest(turn)
        # No longer than the longest, but for the end of the chunk.
        assert [len(frame.pcm) // 2 for frame in frames] == [160, 160, 200, 230]
        assert [frame.offset_samples for frame in frames] == [0, 160, 320, 520]
        assert [frame.sequence for frame in frames] == [0, 1, 2, 3]
        assert [[word for word, _ in frame.words] for frame in frames] == [["Hello"], [], ["re"], []]


async def test_words_of_two_replicas_stay_in_order():
    async with World(replicas=2) as world:
        turn = world.turn()
        turn.add(ChunkOrder(0, "one two three"))
        turn.half_close()
        world.replica(0).say(Word(0, 3, 0, estimated=True), Word(4, 3, 190, estimated=True))
        world.replica(0).make(200)
        await take(turn, 1)
        world.replica(0).die()
        # The other one estimates differently.
        world.replica(1).say(*(Word(at, 3, samples, estimated=True) for at, samples in ((4, 100), (8, 150))))
        world.replica(1).make(200)
        world.replica(1).finish()
        frame, _ = await rest(turn)
        assert frame.words == (("thr", Word(8, 3, 190, estimated=True)),)


async def test_queue_time_is_told_apart_from_synthesis_time():
    async with World() as world:
        first, second = world.turn(), world.turn()
        first.add(ChunkOrder(0, "one"))
        second.add(ChunkOrder(0, "two"))
        world.clock.advance_ms(11)
        world.replica().make(1)
        world.replica().finish()
        world.clock.advance_ms(7)
        world.replica().make(20)
        (frame,) = await take(second, 1)
        assert (frame.start.queue_us, frame.start.synthesis_us) == (11_000, 7000)


async def test_what_a_replica_took_that_was_lost_is_no_wait_for_one():
    async with World(replicas=2) as world:
        turn = world.turn()
        turn.add(ChunkOrder(0, "one"))
        world.clock.advance_ms(900)
        world.replica(0).die()
        world.clock.advance_ms(3)
        world.replica(1).make(20)
        (frame,) = await take(turn, 1)
        assert (frame.start.queue_us, frame.start.synthesis_us) == (0, 903_000)


async def test_later_chunks_are_spoken_ahead_but_answered_in_order():
    async with World(replicas=4, chunks_ahead=2) as world:
        turn = world.turn()
        for index in range(4):
            turn.add(ChunkOrder(index, f"chunk {index}"))
        turn.half_close()
        assert [len(replica.asked) for replica in world.launcher.replicas] == [1, 1, 1, 0]
        for replica in (world.replica(2), world.replica(1)):
            replica.make(10)
            replica.finish()
        assert await nothing_yet(turn)
        world.replica(0).make(10)
        world.replica(0).finish()
        events = await take(turn, 2)
        assert [event.index for event in events] == [0, 0]
        assert [request.text for r in world.launcher.replicas for request in r.asked.values()] == ["chunk 3"]
        speaking = next(replica for replica in world.launcher.replicas if replica.asked)
        speaking.make(10)
        speaking.finish()
        assert [event.index for event in await rest(turn)] == [1, 1, 2, 2, 3, 3]


async def test_no_frame_after_a_cancel_and_the_other_chunks_go_on():
    async with World(replicas=2) as world:
        turn = world.turn()
        turn.add(ChunkOrder(0, "cancelled"))
        turn.add(ChunkOrder(1, "goes on"))
        world.replica(0).make(200)
        world.replica(0).make(200)
        await take(turn, 1)
        turn.cancel_chunk(0)
        turn.half_close()
        world.replica(0).make(200)
        world.replica(1).make(30)
        world.replica(1).finish()
        assert await nothing_yet(turn)
        world.replica(0).acknowledge(made=800, us=8000)
        events = await rest(turn)
        assert events[0] == FinishedEvent(
            0, 200, 0, cancelled=True, resumed=0, wasted_us=6000, engine_us=8000
        )
        assert [event.index for event in events] == [0, 1, 1]
        assert (world.stats().cancelled_chunks, world.stats().wasted_us) == (1, 6000)


async def test_cancel_turn_ends_all_chunks_and_then_the_stream():
    async with World() as world:
        turn = world.turn()
        for index in range(5):
            turn.add(ChunkOrder(index, "text"))
        world.replica().make(20)
        turn.cancel_turn()
        world.replica().acknowledge(made=20)
        events = await rest(turn)
        assert [(event.index, event.cancelled) for event in events] == [(index, True) for index in range(5)]
        assert world.stats().active_leases == world.stats().queued_chunks == 0
        with pytest.raises(OutOfOrderError, match="after cancel_turn"):
            turn.add(ChunkOrder(9, "text"))


async def test_a_cancel_of_what_was_answered_means_nothing_and_of_what_never_was_is_wrong():
    async with World() as world:
        turn = world.turn()
        turn.add(ChunkOrder(0, "..."))
        world.replica().finish(made=0)
        await take(turn, 1)
        turn.cancel_chunk(0)
        with pytest.raises(InvalidFieldError, match=r"cancel_chunk\.chunk_index"):
            turn.cancel_chunk(1)


async def test_a_peer_that_goes_away_frees_its_replica_and_its_cost_is_counted():
    async with World() as world:
        turn = world.turn()
        for index in range(3):
            turn.add(ChunkOrder(index, "text"))
        world.replica().make(50)
        await take(turn, 1)
        turn.abandon()
        assert len(world.replica().cancelled) == 1
        world.replica().acknowledge(made=100, us=4000)
        stats = world.stats()
        assert (stats.active_leases, stats.queued_chunks, stats.cancelled_chunks) == (0, 0, 3)
        assert (stats.synthesis_us, stats.wasted_us) == (4000, 2000)
        assert await rest(turn) == []
        assert all(watcher.log[-1][0] == "ended" for watcher in world.watchers.values())


async def test_audio_that_was_made_and_not_taken_is_wasted_too():
    async with World() as world:
        turn = world.turn()
        turn.add(ChunkOrder(0, "text"))
        world.replica().make(200)
        world.replica().make(200)
        world.replica().finish(us=1000)
        await take(turn, 1)
        turn.abandon()
        assert world.stats().wasted_us == 500


async def test_a_resumed_chunk_has_no_gap_in_its_frames():
    async with World(replicas=2) as world:
        turn = world.turn()
        turn.add(ChunkOrder(0, "text"))
        turn.half_close()
        world.replica(0).make(150)
        world.replica(0).make(150)
        world.replica(0).die()
        world.replica(1).make(120)
        world.replica(1).finish(us=550)
        events = await rest(turn)
        frames = [event for event in events if isinstance(event, FrameEvent)]
        assert [(frame.sequence, frame.offset_samples) for frame in frames] == [(0, 0), (1, 150), (2, 300)]
        assert [frame.start is not None for frame in frames] == [True, False, False]
        end = events[-1]
        assert (end.total_samples, end.resumed) == (420, 1)
        assert [name for name, _ in world.watchers[0].log] == [
            "leased",
            "first_frame",
            "lost",
            "leased",
            "ended",
        ]


async def test_a_chunk_that_nobody_can_speak_fails_alone():
    async with World(replicas=2, max_attempts=0) as world:
        turn = world.turn()
        turn.add(ChunkOrder(0, "poison"))
        turn.add(ChunkOrder(1, "well"))
        turn.half_close()
        world.replica(0).make(20)
        world.replica(0).die()
        world.replica(1).make(20)
        world.replica(1).finish()
        events = await rest(turn)
        assert isinstance(events[1], FailedEvent)
        assert isinstance(events[1].error, NoEngineError)
        assert events[1].sent_samples == 20
        assert isinstance(events[-1], FinishedEvent)
        assert (world.stats().failed_chunks, world.stats().completed_chunks) == (1, 1)


async def test_a_full_queue_fails_the_chunk_not_the_stream():
    async with World(max_queued_chunks=1, chunks_ahead=5) as world:
        turn = world.turn()
        for index in range(3):
            turn.add(ChunkOrder(index, "text"))
        turn.half_close()
        for _ in range(2):
            world.replica().make(5)
            world.replica().finish()
        events = await rest(turn)
        assert isinstance(events[-1], FailedEvent)
        assert isinstance(events[-1].error, QueueFullError)


async def test_the_window_follows_the_listener():
    async with World(buffer_s=0.1) as world:
        turn = world.turn()
        turn.add(ChunkOrder(0, "text"))
        for _ in range(5):
            world.replica().make(20)
        assert world.replica().granted == []
        await take(turn, 1)
        assert [samples for _, samples in world.replica().granted] == [100]


async def test_an_offset_behind_the_end_gives_an_empty_chunk():
    async with World() as world:
        turn = world.turn()
        turn.add(ChunkOrder(0, "text", start_offset_samples=500))
        turn.half_close()
        world.replica().finish(made=120)
        (end,) = await rest(turn)
        assert (end.total_samples, end.cancelled) == (120, False)


@pytest.mark.parametrize("speed", [0.1, 5, -1, float("nan"), float("inf")])
async def test_speeds_have_bounds(speed):
    async with World() as world:
        with pytest.raises(InvalidFieldError, match=r"configure\.speed"):
            world.turn(speed=speed)


async def test_order_is_checked():
    async with World(max_pending_chunks=3) as world:
        turn = world.speech.open_turn(world.observe)
        with pytest.raises(OutOfOrderError, match="before configure"):
            turn.add(ChunkOrder(0, "text"))
        with pytest.raises(OutOfOrderError, match="before configure"):
            turn.cancel_turn()
        turn.configure("t", "", AudioFormat(), 0)
        with pytest.raises(OutOfOrderError, match="once"):
            turn.configure("t", "", AudioFormat(), 0)
        turn.add(ChunkOrder(2, "text"))
        for index in (2, 1):
            with pytest.raises(OutOfOrderError, match="does not rise"):
                turn.add(ChunkOrder(index, "text"))
        with pytest.raises(InvalidFieldError, match=r"chunk\.text: must not be empty"):
            turn.add(ChunkOrder(3, ""))
        with pytest.raises(InvalidFieldError, match="2001 characters are more than the limit of 2000"):
            turn.add(ChunkOrder(3, "x" * 2001))
        turn.add(ChunkOrder(4, "text"))
        turn.add(ChunkOrder(5, "text"))
        with pytest.raises(QueueFullError):
            turn.add(ChunkOrder(6, "text"))


async def test_an_error_ends_the_stream_at_once():
    async with World() as world:
        turn = world.turn()
        turn.add(ChunkOrder(0, "text"))
        world.replica().make(20)
        turn.fail(OutOfOrderError("bad"))
        with pytest.raises(OutOfOrderError, match="bad"):
            await anext(turn)
        assert len(world.replica().cancelled) == 1


async def test_the_seed_is_the_same_for_the_same_sound_and_another_for_any_other():
    async with World(replicas=6, chunks_ahead=9) as world:
        seeds = []
        for voice, speed, text in (
            ("", 0, "text"),
            ("voice/en-us", 1, "text"),
            ("VOICE/EN", 1, "text"),
            ("voice/de", 1, "text"),
            ("", 2, "text"),
            ("", 1, "other"),
        ):
            turn = world.turn(voice=voice, speed=speed)
            turn.add(ChunkOrder(0, text))
            seeds.append(next(r for r in world.launcher.replicas if r.asked).last.seed)
            turn.abandon()
            replica = next(r for r in world.launcher.replicas if r.asked)
            replica.acknowledge()
        assert seeds[0] == seeds[1] == seeds[2]
        assert len(set(seeds)) == 4
