"""What espeak-ng does beside what every engine does."""

import random
from typing import Any

import pytest

from services.tts.core.model import VoiceSpec
from tests.contract.engine_harness import HOSTILE, TEXT, speaker
from tests.contract.engine_list import ESPEAK


async def test_espeak_speaks_all_the_languages_that_it_lists():
    async with speaker(ESPEAK) as voice:
        variants = voice.replica.capabilities.variants
        names = [variant.name for variant in variants]
        assert len(variants) > 120
        assert len(set(names)) == len(names)
        assert {"en-us", "en-gb", "de", "fr-fr", "es", "cmn", "ja", "ar", "hi"} <= set(names)
        takes = {}
        for variant in variants:
            take = await voice.speak("Hello 1 2", variant=variant.name)
            takes[variant.name] = take.pcm
            assert take.samples > 1000, variant
        assert takes["en-us"] != takes["en-gb"] != takes["de"]
        aliases = {alias: variant.name for variant in variants for alias in variant.aliases}
        assert aliases["fr"] == "fr-fr"
        assert aliases["en"] == "en-gb"
        assert aliases["zh"] == "cmn"
        assert not set(aliases) & set(names)


@pytest.mark.parametrize("timbre", ["", "f2", "croak", "whisper"])
async def test_espeak_gives_the_same_samples_in_any_order_of_texts(timbre):
    spec = VoiceSpec("espeak", "espeak", 1, "en-us", {"timbre": timbre} if timbre else {})
    draw = random.Random(11)
    async with speaker(spec) as voice, speaker(spec) as other:
        variants = [variant.name for variant in voice.replica.capabilities.variants]
        texts = [*HOSTILE.values(), TEXT, "Grüße, hello 42!", "Ça va? Oui."]
        requests: list[dict[str, Any]] = [
            {
                "text": draw.choice(texts),
                "variant": draw.choice(variants),
                "speed": draw.choice((0.5, 1, 2.5, 4)),
                "seed": n,
            }
            for n in range(40)
        ]
        first = [(await voice.speak(**request)).pcm for request in requests]
        shuffled = list(enumerate(requests))
        draw.shuffle(shuffled)
        for number, request in shuffled:
            if draw.random() < 0.3:
                cancelled, take = other.begin(TEXT * 5, speed=draw.choice((1, 4)), window_samples=3000)
                await other.reached(take, 3000)
                other.replica.cancel(cancelled)
            assert (await other.speak(**request)).pcm == first[number], request


async def test_espeak_pauses_behind_marks_and_not_behind_words():
    async with speaker(ESPEAK) as voice:
        lengths = {mark: (await voice.speak(f"Hello there{mark}")).samples for mark in ("", ",", ".")}
        assert lengths[""] + 2000 < lengths[","] < lengths["."] - 2000


async def test_espeak_speaks_signs_that_have_a_name():
    async with speaker(ESPEAK) as voice:
        for text in ("%", "\N{SLIGHTLY SMILING FACE}", "+"):
            take = await voice.speak(text)
            assert take.samples > 4000, text
            assert take.timings[0].text_offset == 0


async def test_espeak_says_markup_and_commands_and_obeys_none():
    async with speaker(ESPEAK) as voice:
        rate_hz = voice.replica.capabilities.sample_rate_hz
        pause = await voice.speak('a <break time="10s"/> b')
        assert pause.samples < 6 * rate_hz
        words = [
            'a <break time="10s"/> b'[word.text_offset : word.text_offset + word.text_length]
            for word in pause.timings
        ]
        assert "break" in words
        # "[[h@loU]]" would be "hello"; it is spelled.
        phonemes = await voice.speak("[[h@loU]]")
        assert phonemes.pcm != (await voice.speak("hello")).pcm
        assert phonemes.samples > (await voice.speak("hello")).samples
        # A command for half the speed and a high voice is what stands behind it, said as usual.
        for text in ("\x0150S fast \x0199P high", "\x01[[fast]]\x00 high", "fast\u202e\U000e0041 high"):
            plain = "".join(" " if ord(c) < 32 or ord(c) >= 0x2000 else c for c in text)
            assert (await voice.speak(text)).pcm == (await voice.speak(plain)).pcm


async def test_espeak_is_not_held_up_by_floods():
    floods = ("7" * 10_000, "e" + "\u0301" * 10_000, "\u200b" * 10_000, "x" * 10_000, "\u202e" * 10_000)
    async with speaker(ESPEAK) as voice:
        rate_hz = voice.replica.capabilities.sample_rate_hz
        for text in floods:
            assert (await voice.speak(text[:2000])).samples < 60 * rate_hz  # the longest chunk is 2000
