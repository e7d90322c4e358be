"""The simulated engine: lengths, slots and troubles as they are set."""

from services.tts.core.model import Done
from tests.contract.engine_harness import TEXT, sim, speaker


async def test_simulated_length_comes_from_the_text_and_words_are_exact():
    spec = sim(char_ms=100, sample_rate_hz=8000)
    async with speaker(spec) as voice:
        take = await voice.speak("ab cde")
        # Behind a word there is as little silence as two fades take.
        assert 6 * 800 < take.samples < 6 * 800 + 200
        assert [(w.text_offset, w.offset_samples) for w in take.timings] == [(0, 0), (3, 3 * 800)]
        silence = take.pcm[2 * 2 * 800 : 2 * 3 * 800]
        assert silence == bytes(len(silence))
        assert any(take.pcm[: 2 * 800])


async def test_simulated_slots_speak_at_once():
    async with speaker(sim(slots=4, first_frame_ms=60_000)) as voice:
        held = [voice.begin(TEXT)[0] for _ in range(3)]
        _, free = voice.begin(TEXT, warm_up=True)
        await voice.ear.until(lambda: free.end is not None)
        for request in held:
            voice.replica.cancel(request)
        await voice.ear.until(lambda: all(voice.ear.takes[request].end for request in held))
        assert all(voice.ear.takes[request].done.cancelled for request in held)


async def test_simulated_troubles_are_the_same_every_time():
    spec = sim(failure_rate=0.5, zero_audio_rate=0.3)
    outcomes = []
    for _ in range(2):
        async with speaker(spec) as voice:
            takes = [await voice.speak(TEXT, seed=seed) for seed in range(20)]
            outcomes.append([(take.samples, isinstance(take.end, Done)) for take in takes])
    assert outcomes[0] == outcomes[1]
    kinds = {"failed" if not ok else "silent" if not samples else "well" for samples, ok in outcomes[0]}
    assert kinds == {"failed", "silent", "well"}


async def test_simulated_troubles_differ_between_attempts_but_the_audio_does_not():
    async with speaker(sim(failure_rate=0.5)) as voice:
        well = [await voice.speak(TEXT, seed=5, attempt=attempt) for attempt in range(12)]
        good = {take.pcm for take in well if isinstance(take.end, Done)}
        assert len(good) == 1
        assert any(isinstance(take.end, str) for take in well)
        assert all("simulated failure" in take.end for take in well if isinstance(take.end, str))


async def test_simulated_crash_ends_the_process():
    async with speaker(sim(crash_rate=1)) as voice:
        voice.begin(TEXT)
        await voice.ear.until(lambda: bool(voice.ear.gone))


async def test_simulated_stall_says_nothing_more_until_it_is_cancelled():
    async with speaker(sim(stall_rate=1)) as voice:
        warm = await voice.speak(TEXT, warm_up=True)
        assert warm.samples
        request, take = voice.begin(TEXT)
        _, marks = voice.begin("...")
        await voice.ear.until(lambda: marks.end is not None)
        assert take.end is None
        voice.replica.cancel(request)
        await voice.ear.until(lambda: take.end is not None)
