"""One suite for every engine, each in a real worker process."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from services.tts.core.model import Done, ReplicaStartError, SpeakRequest, VoiceSpec, Word
from services.tts.process import WorkerReplica, launch_worker
from services.tts.text import speakable

TEXT = "The quick brown fox doesn't jump over 12,345 lazy dogs, today."
GUARD_S = 30

ENGINES = {
    "espeak": VoiceSpec("espeak", "espeak", 1, "en-us", {}),
    "espeak-timbre": VoiceSpec("espeak", "espeak", 1, "de", {"timbre": "f2", "pitch": 70}),
    "simulated-tone": VoiceSpec("sim", "simulated", 1, "en", {"first_frame_ms": 2, "rtf": 0.002}),
    "simulated-espeak": VoiceSpec("sim", "simulated", 1, "en-us", {"audio": "espeak", "rtf": 0.002}),
}


@dataclass
class Take:
    """What was heard of one request."""

    frames: list[tuple[int, bytes]] = field(default_factory=list)
    timings: list[Word] = field(default_factory=list)
    end: Done | str | None = None

    @property
    def pcm(self) -> bytes:
        return b"".join(pcm for _, pcm in self.frames)

    @property
    def samples(self) -> int:
        return len(self.pcm) // 2

    @property
    def done(self) -> Done:
        assert isinstance(self.end, Done), self.end
        return self.end


class Ear:
    """A `ReplicaListener` that keeps what it hears."""

    def __init__(self) -> None:
        self.takes: dict[int, Take] = {}
        self.gone = ""
        self._news = asyncio.Event()

    def frame(self, request_id: int, offset_samples: int, pcm: bytes) -> None:
        assert self.takes[request_id].end is None
        self.takes[request_id].frames.append((offset_samples, pcm))
        self._news.set()

    def words(self, request_id: int, words: list[Word]) -> None:
        self.takes[request_id].timings += words
        self._news.set()

    def done(self, request_id: int, done: Done) -> None:
        self.takes[request_id].end = done
        self._news.set()

    def failed(self, request_id: int, message: str, *, text_at_fault: bool) -> None:
        self.takes[request_id].end = f"{'text' if text_at_fault else 'engine'}: {message}"
        self._news.set()

    def lost(self, reason: str) -> None:
        self.gone = reason
        self._news.set()

    async def until(self, predicate: Callable[[], bool]) -> None:
        async with asyncio.timeout(GUARD_S):
            while not predicate():
                self._news.clear()
                await self._news.wait()


class Speaker:
    """A replica and its ear."""

    def __init__(self, replica: WorkerReplica, ear: Ear) -> None:
        self.replica = replica
        self.ear = ear
        self._next_id = 1

    def begin(self, text: str, **values: Any) -> tuple[int, Take]:
        number = self._next_id
        self._next_id += 1
        take = self.ear.takes[number] = Take()
        variant = values.pop("variant", self.replica.capabilities.default_variant)
        self.replica.speak(number, SpeakRequest(text, variant, **values))
        return number, take

    async def speak(self, text: str, **values: Any) -> Take:
        _, take = self.begin(text, **values)
        await self.ended(take)
        return take

    async def ended(self, take: Take) -> None:
        await self.ear.until(lambda: take.end is not None)

    async def reached(self, take: Take, samples: int) -> None:
        await self.ear.until(lambda: take.samples >= samples or take.end is not None)


@asynccontextmanager
async def speaker(spec: VoiceSpec) -> AsyncIterator[Speaker]:
    ear = Ear()
    replica = await launch_worker(spec, ear)
    try:
        yield Speaker(replica, ear)
    finally:
        await replica.close()
        assert not alive(replica.pid)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


every_engine = pytest.mark.parametrize("spec", ENGINES.values(), ids=ENGINES.keys())


def check(take: Take, text: str, rate_hz: int, start: int = 0) -> None:
    """What holds for every take: frames without a gap, words in order and inside."""
    assert take.done.made_samples == take.samples + start or not take.frames
    at = start
    for offset, pcm in take.frames:
        assert offset == at
        assert pcm
        assert len(pcm) % 2 == 0
        assert len(pcm) // 2 <= rate_hz // 5
        at += len(pcm) // 2
    text_end = heard_at = 0
    for word in take.timings:
        assert word.text_offset >= text_end
        assert word.text_length >= 1
        text_end = word.text_offset + word.text_length
        assert text_end <= len(text)
        assert heard_at <= word.offset_samples <= take.done.made_samples
        heard_at = word.offset_samples


@every_engine
async def test_text_becomes_frames_and_words(spec):
    async with speaker(spec) as voice:
        capabilities = voice.replica.capabilities
        take = await voice.speak(TEXT)
        check(take, TEXT, capabilities.sample_rate_hz)
        assert take.done.made_samples > capabilities.sample_rate_hz
        assert not take.done.cancelled
        assert take.done.engine_us > 0
        assert len(take.frames[0][1]) == 2 * (capabilities.sample_rate_hz // 50)
        assert capabilities.word_timings
        words = [TEXT[w.text_offset : w.text_offset + w.text_length] for w in take.timings]
        assert words[:5] == ["The", "quick", "brown", "fox", "doesn't"]
        assert "12,345" in words
        assert words[-1] == "today"
        assert (
            max(abs(int.from_bytes(take.pcm[i : i + 2], "little", signed=True)) for i in range(0, 20000, 2))
            > 500
        )


@every_engine
async def test_the_same_request_gives_the_same_samples_in_any_process(spec):
    async with speaker(spec) as voice, speaker(spec) as other:
        assert voice.replica.capabilities == other.replica.capabilities
        assert voice.replica.capabilities.deterministic
        first = await voice.speak(TEXT, seed=7)
        variants = [variant.name for variant in voice.replica.capabilities.variants][::12] or [""]
        for number, variant in enumerate(variants):
            # Other texts, languages, speeds and a cancel in between leave no trace.
            request, take = voice.begin(f"Другой текст 42 — another {number}?", variant=variant, speed=1.5)
            if number % 2:
                voice.replica.cancel(request)
            await voice.ended(take)
        assert (await voice.speak(TEXT, seed=7)).pcm == first.pcm
        theirs = await other.speak(TEXT, seed=7)
        assert theirs.pcm == first.pcm
        assert theirs.timings == first.timings


@every_engine
async def test_a_resumed_request_goes_on_at_its_sample(spec):
    async with speaker(spec) as voice:
        whole = await voice.speak(TEXT, seed=3)
        for start in (1, 441, whole.samples // 2, whole.samples - 1, whole.samples, whole.samples + 1000):
            rest = await voice.speak(TEXT, seed=3, start_offset_samples=start)
            assert rest.pcm == whole.pcm[2 * start :]
            check(rest, TEXT, voice.replica.capabilities.sample_rate_hz, start)
            assert rest.done.made_samples == whole.samples


@every_engine
async def test_a_cancel_stops_the_engine_in_mid_chunk_and_it_speaks_on(spec):
    async with speaker(spec) as voice:
        before = await voice.speak(TEXT, seed=1)
        # The window keeps the engine in mid-chunk until it is told.
        request, take = voice.begin(f"{TEXT} " * 30, seed=2, window_samples=5000)
        await voice.ear.until(lambda: take.samples >= 5000)
        assert take.end is None
        voice.replica.cancel(request)
        await voice.ear.until(lambda: take.end is not None)
        assert take.done.cancelled
        assert take.samples < 30_000
        voice.replica.cancel(request)  # once more, too late: it means nothing
        voice.replica.cancel(999)
        assert (await voice.speak(TEXT, seed=1)).pcm == before.pcm


@every_engine
async def test_a_window_holds_the_engine_until_credit_comes(spec):
    async with speaker(spec) as voice:
        whole = await voice.speak(TEXT, seed=1)
        request, take = voice.begin(TEXT, seed=1, window_samples=2000)
        await voice.ear.until(lambda: take.samples >= 2000)
        reached = take.samples
        while take.end is None:
            voice.replica.grant(request, 6000)
            await voice.reached(take, reached + 1)
            reached = take.samples
        assert take.pcm == whole.pcm
        assert not take.done.cancelled


@every_engine
async def test_requests_in_a_row_and_together_do_not_mix(spec):
    async with speaker(spec) as voice:
        texts = [f"Sentence number {number} is about something else." for number in range(6)]
        alone = [await voice.speak(text, seed=number) for number, text in enumerate(texts)]
        assert len({take.pcm for take in alone}) == len(texts)
        together = [voice.begin(text, seed=number)[1] for number, text in enumerate(texts)]
        await voice.ear.until(lambda: all(take.end is not None for take in together))
        assert [take.pcm for take in together] == [take.pcm for take in alone]


HOSTILE = {
    "blank": " \n\t ",
    "marks": "... ?! — “”",
    "lt": "<",
    "nul": "before\x00after",
    "command": "\x0150S fast \x0110P high",
    "markup": '<speak><voice name="de">hello</voice><break time="90s"/></speak> &lt;b&gt;',
    "phonemes": "[[h@loU]]",
    "controls": "".join(map(chr, range(1, 32))) + "\x7f\x85\x9b",
    "private": "\ue000\uf8ff hello",
    "emoji": "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "combining": "e" + "\u0301" * 200,
    "bidi": "abc \u202e def \u2066 ghi",
    "runes": "ᚠᚢᚦ ᐁᐂ",
    "mixed": "Hello 你好 привет مرحبا नमस्ते",
    "digits": "9" * 300,
    "brackets": "(" * 1000,
    "one word": "a" * 1000,
    "format": "%s%n%d {0} $(reboot) `x` ; DROP TABLE",
    "path": "../../../../etc/passwd",
    "last plane": "\U0010ffff x",
}


@every_engine
async def test_hostile_text_is_spoken_or_passed_over_and_harms_nothing(spec):
    async with speaker(spec) as voice:
        before = await voice.speak(TEXT, seed=1)
        for name, text in HOSTILE.items():
            take = await voice.speak(text, seed=1, speed=4.0)
            check(take, text, voice.replica.capabilities.sample_rate_hz)
            if speakable(text):
                assert take.samples, name
        assert (await voice.speak(TEXT, seed=1)).pcm == before.pcm
        assert not voice.ear.gone


@every_engine
@pytest.mark.parametrize("text", ["", " ", "\n\n", "...", "?!", "—", "“ ”", "<", "((", "\u200b"])
async def test_nothing_to_say_is_no_sample_and_no_failure(spec, text):
    async with speaker(spec) as voice:
        take = await voice.speak(text)
        assert take.done == Done(0, take.done.engine_us, cancelled=False)
        assert take.timings == []


@every_engine
async def test_speed_changes_the_length(spec):
    async with speaker(spec) as voice:
        slow, normal, fast = [await voice.speak(TEXT, speed=speed) for speed in (0.5, 1.0, 2.0)]
        assert slow.samples > 1.3 * normal.samples > 1.3 * 1.3 * fast.samples
        for take in (slow, normal, fast):
            check(take, TEXT, voice.replica.capabilities.sample_rate_hz)
        for extreme in (0.25, 4.0):
            check(await voice.speak(TEXT, speed=extreme), TEXT, voice.replica.capabilities.sample_rate_hz)


@every_engine
async def test_a_long_text_is_spoken_to_its_end(spec):
    async with speaker(spec) as voice:
        text = "This sentence is one of many. " * 66
        take = await voice.speak(text, speed=4.0)
        check(take, text, voice.replica.capabilities.sample_rate_hz)
        assert len(take.timings) == 6 * 66


@every_engine
async def test_a_worker_ends_with_its_socket(spec):
    ear = Ear()
    replica = await launch_worker(spec, ear)
    take = ear.takes[1] = Take()
    variant = replica.capabilities.default_variant
    replica.speak(1, SpeakRequest(f"{TEXT} " * 30, variant, window_samples=5000))
    await ear.until(lambda: take.samples >= 5000)
    await replica.close()
    assert not alive(replica.pid)
    assert not ear.gone  # nothing is heard after close


@every_engine
async def test_a_killed_worker_is_told(spec):
    async with speaker(spec) as voice:
        _, take = voice.begin(f"{TEXT} " * 30, window_samples=5000)
        await voice.ear.until(lambda: take.samples >= 5000)
        os.kill(voice.replica.pid, 9)
        await voice.ear.until(lambda: bool(voice.ear.gone))
        assert take.end is None


async def test_workers_import_nothing_heavy():
    code = (
        "import sys, services.tts.worker, services.tts.engines.espeak, services.tts.engines.simulated;"
        "print({'grpc', 'google.protobuf', 'pydantic', 'numpy', 'asyncio'} & set(sys.modules))"
    )
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    output, _ = await child.communicate()
    assert output.decode().strip() == "set()"


# ---- espeak


async def test_espeak_speaks_all_the_languages_that_it_lists():
    async with speaker(ENGINES["espeak"]) as voice:
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
    async with speaker(ENGINES["espeak"]) as voice:
        lengths = {mark: (await voice.speak(f"Hello there{mark}")).samples for mark in ("", ",", ".")}
        assert lengths[""] + 2000 < lengths[","] < lengths["."] - 2000


async def test_espeak_speaks_signs_that_have_a_name():
    async with speaker(ENGINES["espeak"]) as voice:
        for text in ("%", "\N{SLIGHTLY SMILING FACE}", "+"):
            take = await voice.speak(text)
            assert take.samples > 4000, text
            assert take.timings[0].text_offset == 0


# ---- simulated


def sim(**options: Any) -> VoiceSpec:
    return VoiceSpec("sim", "simulated", 1, "en", options)


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


# ---- declarations


@pytest.mark.parametrize(
    ("engine", "language", "options", "says"),
    [
        ("espeak", "xx-yy", {}, "espeak has no 'xx-yy'"),
        ("espeak", "en-zz", {}, "it has en-029"),
        ("espeak", "en-us", {"tone": 1}, "option tone"),
        ("espeak", "en-us", {"pitch": 100}, "0 to 99"),
        ("espeak", "en-us", {"timbre": "../../x"}, "must be one of"),
        ("simulated", "en", {"rtf": -1}, "option rtf: must be a number from 0 to 1000"),
        ("simulated", "en", {"slots": 0.5}, "whole number"),
        ("simulated", "en", {"audio": "song"}, '"tone" or "espeak"'),
        ("simulated", "en", {"speed": 2}, "option speed"),
        ("none", "en", {}, "there is no engine"),
        ("no_such_package.voices:It", "en", {}, "engine: there is no module 'no_such_package'"),
        ("tests.contract.none:It", "en", {}, "engine: there is no module 'tests.contract.none'"),
        ("tests.contract.own_engines:It", "en", {}, "engine: tests.contract.own_engines has no class 'It'"),
        ("tests.contract.own_engines:not_an_engine", "en", {}, "engine: .* is not a subclass of .*Engine"),
        ("tests.contract.own_engine_that_breaks:It", "en", {}, "engine: .* RuntimeError: no licence file"),
        ("tests.contract.own_engine_in_need:It", "en", {}, "needs the module 'a_package_that_is_not_there'"),
    ],
)
async def test_a_wrong_declaration_says_what_it_may_be(engine, language, options, says):
    with pytest.raises(ReplicaStartError, match=says) as caught:
        await launch_worker(VoiceSpec("voice", engine, 1, language, options), Ear())
    assert caught.value.declaration_at_fault


async def test_an_engine_that_is_named_by_its_class_speaks():
    own = "tests.contract.own_engines:ToneEngine"
    async with speaker(VoiceSpec("own", own, 1, "en", {"period": 32})) as voice:
        assert voice.replica.capabilities.revision == "tone-32"
        take = await voice.speak("Hello.")
        assert take.samples == take.done.made_samples > 0


async def test_revisions_tell_what_sounds_different():
    revisions = []
    declarations: list[tuple[str, str, dict[str, object]]] = [
        ("espeak", "en-us", {}),
        ("espeak", "en-us", {"pitch": 60}),
        ("simulated", "en", {}),
        ("simulated", "en", {"char_ms": 70}),
        ("simulated", "en", {"audio": "espeak"}),
    ]
    for engine, language, options in declarations:
        async with speaker(VoiceSpec("voice", engine, 1, language, options)) as voice:
            revisions.append(voice.replica.capabilities.revision)
    assert len(set(revisions)) == 5
    async with speaker(sim(first_frame_ms=5, rtf=0.1, failure_rate=0.1)) as voice:
        assert voice.replica.capabilities.revision == revisions[2]
