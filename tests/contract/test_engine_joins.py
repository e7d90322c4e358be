"""Chunks that are played end to end: the pause between them, and that no join clicks.

Each is held against what the same engine makes of the same words in one text.
"""

import itertools
import re
from array import array
from collections.abc import Sequence

import pytest

from services.tts.core.model import VoiceSpec
from services.tts.edges import LEAD_MS
from services.tts.pauses import PAUSES_MS
from tests.contract.engine_harness import TEXT, Speaker, check, sim, speaker
from tests.contract.engine_list import ESPEAK

SILENCE_PEAK = 32768 // 128
RATE_HZ = 22050
PLAIN = "Children under ten enter for free, and please bring your insurance card in the morning."
FIRST, SECOND = "We were all home{} ", "Many more men were there."
RAW = VoiceSpec("raw", "espeak", 1, "en-us", {}, trim_silence=False)


def samples_of(pcm: bytes) -> Sequence[int]:
    return array("h", pcm)


def silence_around(pcm: bytes, sample: int) -> int:
    """Return the samples of silence around `sample`, from sound to sound."""
    samples = samples_of(pcm)
    before = next(i for i in range(sample, -1, -1) if abs(samples[i]) > SILENCE_PEAK)
    after = next(i for i in range(sample, len(samples)) if abs(samples[i]) > SILENCE_PEAK)
    return after - before - 1


async def gap_ms(voice: Speaker, first: str, second: str, speed: float) -> float:
    """Return the silence between two chunks that are played end to end."""
    one = await voice.speak(first.rstrip(), speed=speed)
    two = await voice.speak(second, speed=speed)
    return silence_around(one.pcm + two.pcm, one.samples) * 1000 / RATE_HZ


async def gap_inside_ms(voice: Speaker, first: str, second: str, speed: float) -> float:
    """Return the silence that the engine keeps between them in one text."""
    take = await voice.speak(first + second, speed=speed)
    at = next(word.offset_samples for word in take.timings if word.text_offset == len(first))
    samples = samples_of(take.pcm)
    # A word's time may be a little before or behind its first sound.
    quiet = next((i for i in range(at, at - 2000, -1) if abs(samples[i]) <= SILENCE_PEAK), at)
    return silence_around(take.pcm, quiet) * 1000 / RATE_HZ


@pytest.mark.parametrize("mark", [".", "!", "?", ":", ";", ",", "—", "…", ".\n\n"])
async def test_the_pause_of_a_join_is_that_within_a_text(mark):
    async with speaker(ESPEAK) as voice, speaker(RAW) as raw:
        first = FIRST.format(mark)
        inside = await gap_inside_ms(raw, first, SECOND, 1.0)
        one = await voice.speak(first, speed=1.0)
        two = await voice.speak(SECOND, speed=1.0)
        between = silence_around(one.pcm + two.pcm, one.samples) * 1000 / RATE_HZ
        assert between == pytest.approx(inside, abs=12)


@pytest.mark.parametrize("speed", [0.5, 0.7, 1.4])
async def test_pauses_follow_the_speed(speed):
    async with speaker(ESPEAK) as voice, speaker(RAW) as raw:
        for mark in (".", ","):
            first = FIRST.format(mark)
            inside = await gap_inside_ms(raw, first, SECOND, speed)
            between = await gap_ms(voice, first, SECOND, speed)
            assert between == pytest.approx(inside, rel=0.25)


async def test_a_cut_between_words_leaves_hardly_a_pause():
    async with speaker(ESPEAK) as voice:
        for first, second in (
            ("We were all", "home again"),
            ("Please give", "Peter two"),
            ("so much", "fun"),
        ):
            assert await gap_ms(voice, first, second, 1.0) <= PAUSES_MS["none"] + 1


async def test_no_join_clicks():
    """A click is a step that speech does not make: no join steps further than the speech around it."""
    texts = [
        "Children under ten enter for free",
        "Please,",
        "bring your card!",
        "So he said:",
        "fine",
        "Zoe left.",
    ]
    async with speaker(ESPEAK) as voice:
        takes = [samples_of((await voice.speak(text)).pcm) for text in texts]
    within = max(abs(b - a) for take in takes for a, b in itertools.pairwise(take))
    at_joins = []
    for one, two in itertools.pairwise(takes):
        around = [*one[-20:], *two[:20]]
        at_joins.append(max(abs(b - a) for a, b in itertools.pairwise(around)))
    assert max(at_joins) <= 32
    assert within > 100 * max(at_joins)


async def test_words_move_with_what_is_trimmed():
    text = "Please bring it."  # espeak-ng is silent for 50 ms in front
    async with speaker(ESPEAK) as voice, speaker(RAW) as raw:
        shaped, plain = await voice.speak(text), await raw.speak(text)
        cut = plain.timings[1].offset_samples - shaped.timings[1].offset_samples
        assert cut > 0.03 * RATE_HZ
        assert shaped.timings[0].offset_samples == max(0, plain.timings[0].offset_samples - cut)
        assert [w.offset_samples + cut for w in shaped.timings[1:]] == [
            w.offset_samples for w in plain.timings[1:]
        ]
        # The same samples, but for the fades.
        quarter = len(plain.pcm) // 4
        assert shaped.pcm[quarter - 2 * cut : 2 * quarter - 2 * cut] == plain.pcm[quarter : 2 * quarter]


async def test_a_voice_sets_its_pauses_or_keeps_its_own():
    own = VoiceSpec("own", "espeak", 1, "en-us", {}, pauses_ms={"sentence": 700})
    async with speaker(own) as voice:
        assert await gap_ms(voice, "We were home.", SECOND, 1.0) == pytest.approx(700, abs=LEAD_MS)
        assert await gap_ms(voice, "We were home,", SECOND, 1.0) == pytest.approx(
            PAUSES_MS["clause"], abs=LEAD_MS
        )
    async with speaker(VoiceSpec("sim", "simulated", 1, "en", {"char_ms": 100}, trim_silence=False)) as voice:
        assert (await voice.speak("ab cde")).samples == 6 * 2400
        assert (await voice.speak("ab...")).samples == 5 * 2400


@pytest.mark.parametrize(("audio", "within_s"), [("tone", 0.1), ("espeak", 0.35)])
async def test_an_engine_that_tells_no_words_has_them_estimated(audio, within_s):
    told, untold = ({"audio": audio, "word_timings": tells} for tells in (True, False))
    async with speaker(sim(**told)) as exact, speaker(sim(**untold)) as voice:
        assert not voice.replica.capabilities.word_timings
        rate_hz = voice.replica.capabilities.sample_rate_hz
        true, estimated = await exact.speak(PLAIN), await voice.speak(PLAIN)
        check(estimated, PLAIN, rate_hz)
        assert estimated.pcm == true.pcm
        assert all(word.estimated for word in estimated.timings)
        # espeak-ng says "in the" as one word, and gives a time for the first alone.
        assert sum(word.estimated for word in true.timings) == (audio == "espeak")
        for take in (true, estimated):
            said = [PLAIN[w.text_offset :][: w.text_length] for w in take.timings]
            assert said == re.findall(r"\w+", PLAIN)
        guesses = {word.text_offset: word.offset_samples for word in estimated.timings}
        for word in true.timings:
            assert abs(word.offset_samples - guesses[word.text_offset]) < within_s * rate_hz
        slow = await voice.speak(PLAIN, speed=0.5)
        assert len(slow.timings) == len(estimated.timings)
        assert slow.timings[-1].offset_samples > 0.6 * slow.samples


async def test_estimated_words_are_told_while_their_listener_waits():
    async with speaker(sim(word_timings=False)) as voice:
        request, take = voice.begin(f"{TEXT} " * 3, window_samples=48_000)
        # The window is full long before the end: what was sent may be played meanwhile.
        await voice.ear.until(lambda: len(take.timings) >= 6)
        assert take.end is None
        assert take.timings[-1].offset_samples < take.samples
        voice.replica.grant(request, 10_000_000)
        await voice.ended(take)
        check(take, f"{TEXT} " * 3, voice.replica.capabilities.sample_rate_hz)
        assert len(take.timings) == 33
