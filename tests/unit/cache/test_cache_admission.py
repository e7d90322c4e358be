"""What is asked for again is kept, within a window and a fixed size."""

from services.cache.admission import Admission, AdmissionCounts, RequestRecord
from tests.unit.cache.values_for_tests import audio_key, history_key
from voicemesh.runtime.clock import ManualClock

WINDOW_MS = 1000


def record(keys: int = 1000) -> tuple[RequestRecord, ManualClock]:
    clock = ManualClock()
    return RequestRecord(clock, window_ms=WINDOW_MS, keys=keys), clock


def test_requests_of_a_key_are_counted() -> None:
    requests, _ = record()
    for count in range(5):
        assert requests.count("a") == count
        requests.add("a")
    assert requests.count("b") == 0


def test_a_request_is_remembered_for_the_window_and_at_most_twice_as_long() -> None:
    requests, clock = record()
    clock.advance_ms(WINDOW_MS - 1)
    requests.add("late")
    clock.advance_ms(WINDOW_MS)
    assert requests.count("late") == 1
    clock.advance_ms(WINDOW_MS)
    assert requests.count("late") == 0


def test_nothing_is_remembered_after_a_long_silence() -> None:
    requests, clock = record()
    requests.add("a")
    clock.advance_ms(2 * WINDOW_MS)
    assert requests.count("a") == 0


def test_requests_on_both_sides_of_a_turn_add_up() -> None:
    requests, clock = record()
    requests.add("a")
    clock.advance_ms(WINDOW_MS)
    requests.add("a")
    assert requests.count("a") == 2


def test_a_count_stays_where_the_counter_is_full() -> None:
    requests, _ = record()
    for _ in range(1000):
        requests.add("a")
    assert requests.count("a") == 255


def test_few_counts_are_too_high_when_the_record_is_full() -> None:
    requests, clock = record(keys=2000)
    for number in range(2000):
        requests.add(f"first {number}")
    clock.advance_ms(WINDOW_MS)
    for number in range(2000):
        requests.add(f"second {number}")
    wrong = sum(requests.count(f"never {number}") > 0 for number in range(10_000))
    assert wrong < 100
    assert all(requests.count(f"first {number}") >= 1 for number in range(2000))


def test_a_flood_of_keys_shortens_what_is_remembered_and_not_how_well() -> None:
    requests, _ = record(keys=500)
    size = requests.bytes
    for number in range(20_000):
        requests.add(f"flood {number}")
    assert sum(requests.count(f"never {number}") > 0 for number in range(1000)) < 20
    assert requests.bytes == size == 32 * 500


def test_each_tier_has_a_number_of_its_own() -> None:
    requests, _ = record()
    admission = Admission(requests, memory_requests=2, redis_requests=3)
    key = audio_key()
    seen = []
    for _ in range(3):
        admission.asked(key)
        seen.append(admission.admit(key, redis=True))
    assert seen == [(False, False), (True, False), (True, True)]
    assert admission.counts == AdmissionCounts(memory_refused=1, redis_refused=2)


def test_one_request_is_no_condition() -> None:
    requests, _ = record()
    admission = Admission(requests)
    admission.asked(audio_key())
    assert requests.count(audio_key().name) == 0  # and costs nothing
    assert admission.admit(audio_key(), redis=True) == (True, True)
    assert Admission().admit(audio_key(), redis=True) == (True, True)


def test_what_is_not_audio_is_always_kept() -> None:
    requests, _ = record()
    admission = Admission(requests, memory_requests=2, redis_requests=2)
    assert admission.admit(history_key(), redis=True) == (True, True)


def test_what_is_worth_keeping_by_itself_needs_one_request() -> None:
    requests, _ = record()
    admission = Admission(requests, memory_requests=2, redis_requests=3)
    admission.asked(audio_key(), keep=True)
    assert admission.admit(audio_key(), redis=True) == (True, True)


def test_redis_is_given_later_what_memory_alone_has() -> None:
    requests, _ = record()
    admission = Admission(requests, redis_requests=2)
    admission.asked(audio_key())
    assert not admission.later(audio_key())
    admission.asked(audio_key())
    assert admission.later(audio_key())
    assert not admission.later(history_key())
    assert admission.counts.redis_later == 1


def test_without_redis_nothing_is_refused_by_it() -> None:
    requests, _ = record()
    admission = Admission(requests, redis_requests=2)
    assert admission.admit(audio_key(), redis=False) == (True, False)
    assert admission.counts == AdmissionCounts()
