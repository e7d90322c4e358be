"""Writes that wait are bounded, and never out of date."""

from services.cache.keys import select
from services.cache.writeback import BATCH_BYTES, BATCH_ENTRIES, WriteQueue
from tests.unit.cache.values_for_tests import audio, audio_key


def test_the_oldest_are_dropped_and_counted() -> None:
    queue = WriteQueue(max_entries=3, max_bytes=BATCH_BYTES)
    for number in range(5):
        queue.add(audio_key(str(number)), audio(10), 0)
    assert [write.key for write in queue.take()] == [audio_key(str(number)) for number in (2, 3, 4)]
    assert queue.dropped == 2
    assert (len(queue), queue.bytes) == (0, 0)


def test_bytes_are_bounded_too() -> None:
    queue = WriteQueue(max_entries=100, max_bytes=10_000)
    for number in range(10):
        queue.add(audio_key(str(number)), audio(1000), 0)
    assert queue.bytes <= 10_000
    assert queue.dropped > 0


def test_a_newer_write_takes_the_place_of_an_older_one() -> None:
    queue = WriteQueue(max_entries=10, max_bytes=BATCH_BYTES)
    queue.add(audio_key(), audio(10), 0)
    queue.add(audio_key(), audio(20), 0)
    (write,) = queue.take()
    assert write.value == audio(20)
    queue.add(audio_key(), audio(30), 0)
    queue.give_back([write])
    (write,) = queue.take()
    assert write.value == audio(30)


def test_a_batch_that_failed_goes_first_again() -> None:
    queue = WriteQueue(max_entries=10, max_bytes=BATCH_BYTES)
    queue.add(audio_key("a"), audio(10), 0)
    queue.add(audio_key("b"), audio(10), 0)
    batch = queue.take()
    queue.add(audio_key("c"), audio(10), 0)
    queue.give_back(batch)
    assert [write.key for write in queue.take()] == [audio_key(text) for text in "abc"]


def test_batches_are_bounded_by_number_and_by_size() -> None:
    queue = WriteQueue(max_entries=1000, max_bytes=64 * BATCH_BYTES)
    for number in range(BATCH_ENTRIES + 1):
        queue.add(audio_key(str(number)), audio(10), 0)
    assert len(queue.take()) == BATCH_ENTRIES
    queue.take()
    for number in range(3):
        queue.add(audio_key(str(number)), audio(BATCH_BYTES), 0)  # twice the limit each
    assert len(queue.take()) == 1


def test_what_is_invalidated_is_not_written() -> None:
    queue = WriteQueue(max_entries=10, max_bytes=BATCH_BYTES)
    queue.add(audio_key(voice="a"), audio(10), 0)
    queue.add(audio_key(voice="b"), audio(10), 0)
    assert queue.discard(select("voice", "a")) == 1
    assert [write.key for write in queue.take()] == [audio_key(voice="b")]
