"""What every engine has to do: one suite, each engine in a real worker process.

A module runs it on a list of engines:

    from tests.contract.engine_list import listing
    from tests.contract.engine_suite import *  # noqa: F403

    listed = listing(ENGINES)

Each engine has one process for most of the tests, one behind the other, as it has in service. What an
engine says that it can do (`Capabilities`) it is held to; what it cannot do it need not.
"""

import itertools
import os
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from services.tts.core.model import Done, ReplicaStartError, SpeakRequest, VoiceSpec
from services.tts.process import launch_worker
from services.tts.text import speakable
from tests.contract.engine_harness import HOSTILE, TEXT, Ear, Speaker, Take, alive, check, speaker
from tests.contract.engine_list import Listed
from tests.contract.tts_harness import Caller, say, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

SENTENCE = "This sentence is one of many. "
SILENCE_PEAK = 32768 // 128


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def spec(listed: Listed) -> AsyncIterator[VoiceSpec]:
    async with listed.declare() as declared:
        yield declared


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared(spec: VoiceSpec) -> AsyncIterator[Speaker]:
    async with speaker(spec) as voice:
        yield voice


@pytest_asyncio.fixture(loop_scope="module")
async def voice(shared: Speaker) -> AsyncIterator[Speaker]:
    """The process that most tests share; a test must leave it alive, and with nothing at work."""
    assert not shared.ear.gone, "an earlier test has lost the process"
    yield shared
    assert not shared.ear.gone
    assert all(take.end is not None for take in shared.ear.takes.values())


def exact(listed: Listed, voice: Speaker) -> bool:
    """Return whether the same request gives the same samples."""
    return voice.replica.capabilities.deterministic or listed.repeats


def same(listed: Listed, voice: Speaker, take: Take, other: Take, text: str) -> None:
    """Hold two takes of one request against each other, as far as the engine repeats itself."""
    for one in (take, other):
        check(one, text, voice.replica.capabilities.sample_rate_hz)
        assert bool(one.samples) == speakable(text)
    if exact(listed, voice):
        assert take.pcm == other.pcm
        if voice.replica.capabilities.word_timings:
            assert take.timings == other.timings


# ---- audio and words ------------------------------------------------------------------------------


async def test_text_becomes_frames(voice: Speaker) -> None:
    capabilities = voice.replica.capabilities
    assert capabilities.slots >= 1
    assert capabilities.revision
    assert 8000 <= capabilities.sample_rate_hz <= 48000
    take = await voice.speak(TEXT)
    check(take, TEXT, capabilities.sample_rate_hz)
    assert take.samples > capabilities.sample_rate_hz // 10
    assert not take.done.cancelled
    # The first frame is short: it is what the listener waits for.
    assert len(take.frames[0][1]) == 2 * (capabilities.sample_rate_hz // 50)
    assert max(abs(sample) for sample in memoryview(take.pcm).cast("h")) > SILENCE_PEAK


async def test_words_are_those_of_the_text_in_order_and_inside_the_audio(voice: Speaker) -> None:
    take = await voice.speak(TEXT)
    check(take, TEXT, voice.replica.capabilities.sample_rate_hz)
    words = [TEXT[w.text_offset : w.text_offset + w.text_length] for w in take.timings]
    assert words == [
        "The",
        "quick",
        "brown",
        "fox",
        "doesn't",
        "jump",
        "over",
        "12,345",
        "lazy",
        "dogs",
        "today",
    ]
    times = [word.offset_samples for word in take.timings]
    assert times == sorted(times)
    assert times[-1] < take.samples
    # Each says whether the engine timed it. An engine that times words may leave some out.
    estimated = [word.estimated for word in take.timings]
    assert not all(estimated) if voice.replica.capabilities.word_timings else all(estimated)


async def test_speech_at_another_rate_is_as_long_and_goes_on_where_it_broke_off(
    voice: Speaker, listed: Listed
) -> None:
    own_hz = voice.replica.capabilities.sample_rate_hz
    take = await voice.speak(TEXT, seed=5)
    other = await voice.speak(TEXT, seed=5, sample_rate_hz=8000)
    check(other, TEXT, 8000)
    if exact(listed, voice):
        assert abs(other.samples * own_hz - take.samples * 8000) * 2 <= own_hz
        rest = await voice.speak(TEXT, seed=5, sample_rate_hz=8000, start_offset_samples=other.samples // 2)
        assert rest.pcm == other.pcm[other.samples // 2 * 2 :]


@pytest.mark.parametrize("text", [TEXT, "The quick brown fox", "and then,", "one"])
async def test_a_chunk_is_complete_without_further_input(voice: Speaker, listed: Listed, text: str) -> None:
    alone = await voice.speak(text, seed=5)
    check(alone, text, voice.replica.capabilities.sample_rate_hz)
    assert alone.done.made_samples == alone.samples > 0
    assert alone.timings[-1].text_offset + alone.timings[-1].text_length >= len(text.rstrip(".,"))
    # Nor is anything left over for the next one.
    follower = await voice.speak("Next.", seed=6)
    again = await voice.speak("Next.", seed=6)
    same(listed, voice, follower, again, "Next.")


async def test_figures_of_the_end_are_plausible(voice: Speaker) -> None:
    began_ns = time.monotonic_ns()
    take = await voice.speak(TEXT)
    took_us = (time.monotonic_ns() - began_ns) // 1000
    assert take.done.made_samples == take.samples
    assert 0 < take.done.engine_us <= took_us


async def test_a_first_text_warms_the_engine(voice: Speaker) -> None:
    take = await voice.speak("The first sentence warms the voice.", warm_up=True)
    check(take, "The first sentence warms the voice.", voice.replica.capabilities.sample_rate_hz)
    assert take.samples


@pytest.mark.parametrize("speed", [0.25, 0.5, 1.0, 2.0, 4.0])
async def test_any_speed_is_spoken(voice: Speaker, speed: float) -> None:
    check(await voice.speak(TEXT, speed=speed), TEXT, voice.replica.capabilities.sample_rate_hz)


async def test_speed_changes_the_length(voice: Speaker, listed: Listed) -> None:
    slow, normal, fast = [await voice.speak(TEXT, speed=speed, seed=1) for speed in (0.5, 1.0, 2.0)]
    if not listed.random_weights:
        assert slow.samples > 1.3 * normal.samples > 1.3 * 1.3 * fast.samples


# ---- the same again -------------------------------------------------------------------------------


async def test_the_same_request_gives_the_same_samples_in_any_process(
    voice: Speaker, spec: VoiceSpec, listed: Listed
) -> None:
    async with speaker(spec) as other:
        assert voice.replica.capabilities == other.replica.capabilities
        first = await voice.speak(TEXT, seed=7)
        variants = [variant.name for variant in voice.replica.capabilities.variants][::12] or [""]
        for number, variant in enumerate(variants):
            # Other texts, languages, speeds and a cancel in between leave no trace.
            text = f"Another text — number {number}, 42?"
            request, take = voice.begin(text, variant=variant, speed=1.5, seed=number)
            if number % 2:
                voice.replica.cancel(request)
            await voice.ended(take)
        same(listed, voice, await voice.speak(TEXT, seed=7), first, TEXT)
        same(listed, voice, await other.speak(TEXT, seed=7), first, TEXT)


async def test_a_resumed_request_goes_on_at_its_sample(voice: Speaker, listed: Listed) -> None:
    whole = await voice.speak(TEXT, seed=3)
    for start in (1, 441, whole.samples // 2, whole.samples - 1, whole.samples, whole.samples + 1000):
        rest = await voice.speak(TEXT, seed=3, start_offset_samples=start)
        assert isinstance(rest.end, Done)
        assert all(offset >= start for offset, _ in rest.frames)
        if exact(listed, voice):
            assert rest.pcm == whole.pcm[2 * start :]
            check(rest, TEXT, voice.replica.capabilities.sample_rate_hz, start)
            assert rest.done.made_samples == whole.samples


# ---- many at once, and slow listeners -------------------------------------------------------------


async def test_requests_at_once_do_not_mix(voice: Speaker, listed: Listed) -> None:
    capabilities = voice.replica.capabilities
    variants = [variant.name for variant in capabilities.variants] or [""]
    count = min(max(6, capabilities.slots + 2), 12)
    requests: list[dict[str, Any]] = [
        {
            "text": f"Sentence number {number} is about something else.",
            "variant": variants[number * 7 % len(variants)],
            "seed": number,
            "speed": (1.0, 2.0, 0.8)[number % 3],
            "caller": f"turn {number % 4}",
        }
        for number in range(count)
    ]
    alone = [await voice.speak(**request) for request in requests]
    together = [voice.begin(**request)[1] for request in requests]
    await voice.ear.until(lambda: all(take.end is not None for take in together))
    for request, one, other in zip(requests, alone, together, strict=True):
        same(listed, voice, one, other, str(request["text"]))
    if exact(listed, voice):
        assert len({take.pcm for take in alone}) == count


async def test_a_window_holds_the_engine_until_credit_comes(voice: Speaker, listed: Listed) -> None:
    rate_hz = voice.replica.capabilities.sample_rate_hz
    whole = await voice.speak(TEXT, seed=1)
    window = min(2000, whole.samples // 4)
    request, take = voice.begin(TEXT, seed=1, window_samples=window)
    granted = window
    await voice.reached(take, window)
    while take.end is None:
        # A frame may begin within the window and end behind it; no further one begins.
        assert take.samples < granted + rate_hz // 5
        reached = take.samples
        voice.replica.grant(request, 6000)
        granted += 6000
        await voice.reached(take, reached + 1)
    same(listed, voice, take, whole, TEXT)
    assert not take.done.cancelled


# ---- cancels --------------------------------------------------------------------------------------


async def test_a_cancel_stops_a_request_that_waits_for_its_listener(voice: Speaker, listed: Listed) -> None:
    before = await voice.speak(TEXT, seed=1)
    window = min(5000, before.samples // 2)
    text = SENTENCE * listed.sentences
    request, take = voice.begin(text, seed=2, window_samples=window)
    await voice.ear.until(lambda: take.samples >= window)
    assert take.end is None
    voice.replica.cancel(request)
    reached = take.samples
    await voice.ended(take)
    assert take.done.cancelled
    assert take.samples == reached  # no frame after the cancel: it was full
    voice.replica.cancel(request)  # once more, too late: it means nothing
    voice.replica.cancel(999_999)
    same(listed, voice, await voice.speak(TEXT, seed=1), before, TEXT)


async def test_a_cancel_reaches_an_engine_at_work(voice: Speaker, listed: Listed) -> None:
    text = SENTENCE * listed.sentences
    before = await voice.speak(TEXT, seed=1)
    for samples in (0, 1, before.samples):
        request, take = voice.begin(text, seed=2)
        if samples:
            await voice.reached(take, samples)
        voice.replica.cancel(request)
        await voice.ended(take)
        # One that is much faster than speech may have been through before the cancel came.
        assert take.done.cancelled or take.done.made_samples == take.samples
    same(listed, voice, await voice.speak(TEXT, seed=1), before, TEXT)


async def test_a_cancel_leaves_the_others_alone(voice: Speaker, listed: Listed) -> None:
    texts = [f"Request {number} goes on, whatever becomes of the others." for number in range(6)]
    alone = [await voice.speak(text, seed=number) for number, text in enumerate(texts)]
    begun = [voice.begin(text, seed=number) for number, text in enumerate(texts)]
    for request, _ in begun[::2]:
        voice.replica.cancel(request)
    await voice.ear.until(lambda: all(take.end is not None for _, take in begun))
    for number in (1, 3, 5):
        same(listed, voice, begun[number][1], alone[number], texts[number])


# ---- texts that nobody would write ----------------------------------------------------------------


async def test_hostile_text_is_spoken_or_refused_and_harms_nothing(voice: Speaker, listed: Listed) -> None:
    before = await voice.speak(TEXT, seed=1)
    for name, text in HOSTILE.items():
        take = await voice.speak(text, seed=1, speed=4.0)
        if isinstance(take.end, str):
            # Letters that it does not know; one that knew none and said nothing would be taken for broken.
            assert take.end.startswith("text: "), (name, take.end)
            assert speakable(text), name
            assert not take.frames, name
            continue
        check(take, text, voice.replica.capabilities.sample_rate_hz)
        if speakable(text):
            assert take.samples, name
    same(listed, voice, await voice.speak(TEXT, seed=1), before, TEXT)


@pytest.mark.parametrize("text", ["", " ", "\n\n", "...", "?!", "—", "“ ”", "<", "((", "\u200b"])
async def test_nothing_to_say_is_no_sample_and_no_failure(voice: Speaker, text: str) -> None:
    take = await voice.speak(text)
    assert take.done == Done(0, take.done.engine_us, cancelled=False)
    assert take.timings == []


async def test_a_long_text_is_spoken_to_its_end(voice: Speaker, listed: Listed) -> None:
    text = SENTENCE * listed.sentences
    take = await voice.speak(text, speed=4.0)
    check(take, text, voice.replica.capabilities.sample_rate_hz)
    assert len(take.timings) == 6 * listed.sentences
    assert take.timings[-1].text_offset == len(text) - len("many. ")


async def test_ten_thousand_times_one_letter_ends(voice: Speaker, listed: Listed) -> None:
    before = await voice.speak(TEXT, seed=1)
    text = "a" * 10_000
    request, take = voice.begin(text, speed=4.0)
    # Spoken, refused, or at least to be stopped: whoever is at work on it can be told to end.
    await voice.reached(take, 1)
    voice.replica.cancel(request)
    await voice.ended(take)
    assert isinstance(take.end, Done) or str(take.end).startswith("text: "), take.end
    same(listed, voice, await voice.speak(TEXT, seed=1), before, TEXT)


# ---- declarations, and the end of processes --------------------------------------------------------


async def test_an_option_that_there_is_not_is_named(spec: VoiceSpec) -> None:
    wrong = replace(spec, options={**spec.options, "no_such_option": 1})
    with pytest.raises(ReplicaStartError, match="no_such_option") as caught:
        await launch_worker(wrong, Ear())
    assert caught.value.declaration_at_fault


async def test_a_worker_ends_with_its_socket(spec: VoiceSpec, listed: Listed) -> None:
    ear = Ear()
    replica = await launch_worker(spec, ear)
    take = ear.takes[1] = Take()
    variant = replica.capabilities.default_variant
    replica.speak(1, SpeakRequest(SENTENCE * listed.sentences, variant, window_samples=1000))
    await ear.until(lambda: take.samples >= 1000)
    await replica.close()
    assert not alive(replica.pid)
    assert not ear.gone  # nothing is heard after close


async def test_a_killed_worker_is_told(spec: VoiceSpec, listed: Listed) -> None:
    async with speaker(spec) as voice:
        _, take = voice.begin(SENTENCE * listed.sentences, window_samples=1000)
        await voice.reached(take, 1000)
        os.kill(voice.replica.pid, 9)
        await voice.ear.until(lambda: bool(voice.ear.gone))
        assert take.end is None


async def test_a_worker_tells_its_memory_while_it_has_nothing_to_do(voice: Speaker) -> None:
    heard = len(voice.ear.beats)
    await voice.ear.until(lambda: len(voice.ear.beats) >= heard + 2)
    resident = voice.ear.beats[-1].resident_bytes
    assert abs(resident - psutil.Process(voice.replica.pid).memory_info().rss) < resident / 4


async def test_a_chunk_goes_on_in_another_process_when_its_own_is_killed(
    spec: VoiceSpec, listed: Listed, voice: Speaker, socket_folder: Path
) -> None:
    text = SENTENCE * listed.sentences
    # A narrow buffer: the engine is in mid-chunk whenever its listener is.
    async with serving(socket_folder, spec, buffer_s=0.2, warmup_timeout_s=120) as service:
        async with Caller(service) as caller:
            await caller.configure()
            await caller.ask(0, text)
            await caller.frames(1)
            stats = await service.stats()
            assert stats.active_leases == 1
            os.kill(stats.worker_pids[0], 9)
            heard = await caller.chunk()
            assert heard.end.resumed == 1
            assert heard.end.total_samples == len(heard.pcm) // 2
            offsets = [frame.frame.offset_samples for frame in heard.frames]
            assert all(one < other for one, other in itertools.pairwise(offsets))
        if voice.replica.capabilities.deterministic:
            assert (await say(service, text)).pcm == heard.pcm
    # Elsewhere it goes on at its sample, or behind the last whole word: each word is said, and none twice.
    places = [word.text_offset for word in heard.words]
    assert places == [match.start() for match in re.finditer(r"\w+", text)]
