"""Requests on an engine that takes steps, in virtual time: what the service is told, and when."""

import random
from array import array
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.tts import loudness, wire
from services.tts.delivery import Voice
from services.tts.engines.base import (
    CannotSpeakError,
    Capabilities,
    OutOfMemoryError,
    SpeakRequest,
    Step,
    SteppedEngine,
    Variant,
    Word,
)
from services.tts.stepping import Stepping
from services.tts.wire import Done

RATE_HZ = 8000
MS = RATE_HZ // 1000
NS = 1_000_000
BLOCK = 30 * MS
CAPABILITIES = Capabilities(
    sample_rate_hz=RATE_HZ, slots=99, word_timings=True, deterministic=True, revision="r", language="en"
)


def audio(text: str, seed: int = 0) -> tuple[bytes, list[Word]]:
    """Make a sound for each letter and silence for each space, none like another; a word begins with each."""
    draw = random.Random(f"{text} {seed}")
    samples = array("h")
    words = []
    for place, letter in enumerate(text):
        if letter in " _":  # a long silence, a longer one
            samples.extend(draw.randbytes((60 if letter == " " else 700) * MS))
        elif letter.isalpha():
            words.append(Word(place, 1, len(samples)))
            samples.extend(sample | 0x200 for sample in array("h", draw.randbytes(2 * 45 * MS)))
    return samples.tobytes(), words


class Speaking:
    """A step for the text, then blocks of 30 ms; what is left out goes by whole blocks."""

    def __init__(self, request: SpeakRequest, engine: "Engine") -> None:
        self.pcm, self.timings = audio(request.text, request.seed)
        self.made = self.given = 0
        self.step: Step | None = Step("text", len(request.text) // 8) if self.pcm else None
        self.text = request.text
        self._engine = engine

    def advance(self) -> None:
        assert self.step is not None
        if self.step.stage == "decode":
            self._engine.blocks += 1
            self.made = min(self.made + 2 * BLOCK, len(self.pcm))
        self.step = None if self.made == len(self.pcm) else Step("decode", BLOCK)

    def take(self) -> tuple[bytes, list[Word]]:
        pcm, self.given = self.pcm[self.given : self.made], self.made
        begun = [word for word in self.timings if 2 * word.offset_samples < self.made]
        del self.timings[: len(begun)]
        return pcm, begun

    def skip_to(self, sample: int) -> int:
        assert self.given == self.made
        if self.made and self.step is not None:  # its length is known, and more is to come
            blocks = max(0, 2 * sample - self.made) // (2 * BLOCK)
            self.made = self.given = min(self.made + blocks * 2 * BLOCK, len(self.pcm))
            if self.made == len(self.pcm):
                self.step = None
        return self.made // 2


class Engine(SteppedEngine):
    def __init__(self, world: "World") -> None:
        self.capabilities = CAPABILITIES
        self.memory = 99
        self.blocks = 0
        self.batches: list[list[str]] = []
        self.prepared: list[tuple[Step, int]] = []
        self.spoken: list[str] = []
        self.during: Callable[[], None] = lambda: None
        self._world = world

    def open(self, request: SpeakRequest) -> Speaking:
        if "!" in request.text:
            raise CannotSpeakError("no shouting")
        return Speaking(request, self)

    def run(self, utterances: Any) -> None:
        if len(utterances) > self.memory:
            raise OutOfMemoryError
        self._world.now_ns += (4 + len(utterances)) * NS
        self.batches.append([utterance.text for utterance in utterances])
        self.during()
        for utterance in utterances:
            if "?" in utterance.text:
                raise ValueError("broken")
            utterance.advance()

    def batch_limit(self, step: Step) -> int:
        return 8 if step.stage == "decode" else 2

    def steps(self) -> list[Step]:
        return [Step("text", 1), Step("decode", BLOCK)]

    def prepare(self, step: Step, batch: int) -> None:
        if batch > self.memory:
            raise OutOfMemoryError
        self.prepared.append((step, batch))


class Take:
    def __init__(self) -> None:
        self.frames: list[tuple[int, bytes]] = []
        self.words: list[Word] = []
        self.ends: list[Any] = []

    @property
    def pcm(self) -> bytes:
        return b"".join(pcm for _, pcm in self.frames)


class World:
    def __init__(
        self, joins: dict[str, Any] | None = None, make: "Callable[[World], Engine]" = Engine
    ) -> None:
        self.now_ns = 1_000 * NS
        self.engine = make(self)
        self.takes: dict[int, Take] = {}
        self.sends = 0
        self._parser = wire.Parser()
        voice = Voice.declared(self.engine.capabilities, joins or {})
        self.driver = Stepping(self.engine, voice, self._hear, lambda: self.now_ns)

    def speak(self, text: str, **values: Any) -> int:
        number = len(self.takes) + 1
        self.takes[number] = Take()
        self.driver.speak(number, SpeakRequest(text, values.pop("variant", ""), **values))
        return number

    def run(self) -> "World":
        """Go on until only a command helps."""
        for _ in range(20_000):
            until = self.driver.advance()
            if until is None:
                return self
            self.now_ns = max(self.now_ns, until)
        raise AssertionError("it never rests")

    def _hear(self, data: bytes) -> None:
        self.sends += 1
        for kind, number, payload in self._parser.feed(data):
            take = self.takes[number]
            assert not take.ends, "nothing comes behind the end"
            if kind == wire.FRAME:
                take.frames.append(wire.parse_frame(payload))
            elif kind == wire.WORDS:
                take.words += wire.parse_words(payload)
            else:
                take.ends.append(
                    wire.parse_done(payload) if kind == wire.DONE else wire.parse_failed(payload)
                )


def spoken(text: str, joins: dict[str, Any] | None = None, **values: Any) -> Take:
    world = World(joins)
    take = world.takes[world.speak(text, **values)]
    world.run()
    assert len(take.ends) == 1
    return take


TEXT = "ab cd ef gh ij kl mn op"


def test_many_at_once_are_each_as_if_alone():
    world = World()
    texts = [TEXT[n:] + TEXT[:n].strip() for n in range(12)]
    numbers = [world.speak(text, seed=n) for n, text in enumerate(texts)]
    world.run()
    for number, text in zip(numbers, texts, strict=True):
        alone = spoken(text, seed=number - 1)
        assert world.takes[number].pcm == alone.pcm
        assert world.takes[number].words == alone.words
        assert world.takes[number].ends[0].made_samples == len(alone.pcm) // 2
    assert max(len(batch) for batch in world.engine.batches) == 8


def test_the_first_frame_is_short_and_one_step_is_one_message():
    world = World()
    numbers = [world.speak(TEXT) for _ in range(2)]
    world.driver.advance()
    world.driver.advance()
    assert [len(world.takes[number].frames[0][1]) for number in numbers] == [2 * 20 * MS] * 2
    assert world.sends == 1


def test_engine_time_is_shared_out_among_those_that_had_it():
    world = World()
    numbers = [world.speak(TEXT) for _ in range(4)]
    began_ns = world.now_ns
    world.run()
    total_us = sum(world.takes[number].ends[0].engine_us for number in numbers)
    assert abs(total_us - (world.now_ns - began_ns) / 1000) <= len(numbers)
    assert world.driver.figures()["busy_ns"] == world.now_ns - began_ns


def test_a_cancel_takes_effect_between_two_steps():
    world = World()
    number = world.speak(TEXT)
    other = world.speak(TEXT)
    for _ in range(3):
        world.driver.advance()
    world.engine.during = lambda: world.driver.cancel(number)
    world.driver.advance()
    world.engine.during = lambda: None
    batches = len(world.engine.batches)
    world.run()
    assert all(len(batch) == 1 for batch in world.engine.batches[batches:])
    end = world.takes[number].ends[0]
    assert end.cancelled
    assert 0 < len(world.takes[number].pcm) // 2 <= end.made_samples
    assert world.takes[other].pcm == spoken(TEXT).pcm
    world.driver.cancel(number)
    world.driver.cancel(4711)
    world.run()


def test_a_cancel_before_the_first_step_costs_no_step():
    world = World()
    number = world.speak(TEXT)
    world.driver.cancel(number)
    world.run()
    assert world.takes[number].ends == [Done(0, 0, cancelled=True)]
    assert not world.engine.batches


def test_a_full_window_holds_its_utterance_and_no_other():
    whole = spoken(TEXT)
    world = World()
    held = world.speak(TEXT, window_samples=100 * MS)
    free = world.speak(TEXT)
    world.run()
    assert world.takes[free].ends
    assert world.takes[free].pcm == whole.pcm
    take = world.takes[held]
    assert not take.ends
    assert 100 * MS <= len(take.pcm) // 2 <= (100 + 200) * MS
    while not take.ends:
        sent = len(take.pcm)
        world.driver.add_credit(held, 250 * MS)
        world.run()
        assert take.ends or sent < len(take.pcm)
    assert take.pcm == whole.pcm
    assert take.words == whole.words
    world.driver.add_credit(held, 1)
    world.run()


def test_a_held_one_can_be_cancelled():
    world = World()
    number = world.speak(TEXT, window_samples=1)
    world.run()
    world.driver.cancel(number)
    world.run()
    assert world.takes[number].ends[0].cancelled


def test_bad_texts_fail_alone_and_a_broken_engine_says_so():
    world = World()
    shout, good, blank = world.speak("a!"), world.speak(TEXT), world.speak(" _ "[:0])
    world.run()
    assert world.takes[shout].ends == [(wire.Fault.TEXT, "no shouting")]
    assert world.takes[good].pcm == spoken(TEXT).pcm
    assert world.takes[blank].ends == [Done(0, 0, cancelled=False)]
    broken = world.speak("what? is it")
    world.run()
    assert world.takes[broken].ends == [(wire.Fault.ENGINE, "ValueError: broken")]


def test_what_does_not_fit_together_is_spoken_in_parts():
    world = World()
    world.engine.memory = 3
    numbers = [world.speak(TEXT, seed=n) for n in range(8)]
    world.run()
    assert max(len(batch) for batch in world.engine.batches) == 2
    for n, number in enumerate(numbers):
        assert world.takes[number].pcm == spoken(TEXT, seed=n).pcm
    world.engine.memory = 0
    number = world.speak(TEXT)
    world.run()
    kind, says = world.takes[number].ends[0]
    assert kind == wire.Fault.TEXT
    assert "memory" in says


def test_every_size_of_every_step_is_prepared_and_told():
    world = World()
    told: list[tuple[int, int, str]] = []
    world.driver.prepare(lambda *progress: told.append(progress))
    assert world.engine.prepared == [
        (Step("text", 1), 1),
        (Step("text", 1), 2),
        *((Step("decode", BLOCK), size) for size in (1, 2, 4, 8)),
    ]
    assert told[0] == (0, 6, "text 1 x 1")
    assert [done for done, _, _ in told] == list(range(6))


def test_what_does_not_fit_when_prepared_is_never_tried_and_nothing_at_all_is_an_error():
    world = World()
    world.engine.memory = 4
    world.driver.prepare(lambda *_: None)
    for _ in range(8):
        world.speak(TEXT)
    world.engine.memory = 4
    world.run()
    assert max(len(batch) for batch in world.engine.batches) == 4
    assert world.driver.figures()["lowered"] == 1
    world.engine.memory = 0
    with pytest.raises(OutOfMemoryError):
        world.driver.prepare(lambda *_: None)


# ---- going on -------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(
    st.text("ab _", min_size=1, max_size=14),
    st.floats(0, 1.15),
    st.sampled_from([".", ",", ""]),
    st.booleans(),
    st.sampled_from([0, 0, 0, 16000, 11025]),
)
def test_what_goes_on_is_bit_by_bit_what_it_would_have_been(text, share, mark, trimmed, rate_hz):
    joins = {"trim_silence": trimmed}
    whole = spoken(text + mark, joins, sample_rate_hz=rate_hz)
    offset = int(share * len(whole.pcm) / 2)
    rest = spoken(text + mark, joins, sample_rate_hz=rate_hz, start_offset_samples=offset)
    assert rest.pcm == whole.pcm[2 * offset :]
    assert rest.ends[0].made_samples == whole.ends[0].made_samples
    assert [w for w in rest.words if w.offset_samples >= offset] == [
        w for w in whole.words if w.offset_samples >= offset
    ]


def test_every_offset_of_one_text_goes_on_as_it_was():
    text = "a bc_d."
    whole = spoken(text)
    for offset in range(0, len(whole.pcm) // 2 + 3 * MS, 131):
        rest = spoken(text, start_offset_samples=offset)
        assert rest.pcm == whole.pcm[2 * offset :]
        assert rest.ends[0].made_samples == whole.ends[0].made_samples


def test_going_on_leaves_out_whole_steps():
    text = "abcdefgh" * 10
    world = World()
    world.speak(text)
    blocks = world.run().engine.blocks
    half = len(world.takes[1].pcm) // 4
    again = World()
    again.speak(text, start_offset_samples=half)
    again.run()
    pause_blocks = 300 // 30
    assert again.engine.blocks <= blocks // 2 + pause_blocks + 3
    assert again.takes[1].pcm == world.takes[1].pcm[2 * half :]


# ---- variants that are not equally loud ------------------------------------------------------------


class Chorus(Engine):
    """Three variants of one engine, each half as loud as the one before."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        names = ("loud", "softer", "softest")
        self.capabilities = CAPABILITIES._replace(
            slots=4, variants=tuple(Variant(name, "en") for name in names), default_variant="loud"
        )

    def open(self, request: SpeakRequest) -> Speaking:
        if request.variant == "softest" and request.warm_up:
            raise CannotSpeakError("it has no e")
        self.spoken.append(f"{request.variant}: {request.text}")
        speaking = super().open(request)
        shift = ("loud", "softer", "softest").index(request.variant)
        samples = array("h", speaking.pcm)
        speaking.pcm = array("h", (sample >> 2 + shift for sample in samples)).tobytes()
        return speaking


def chorus(**joins: Any) -> World:
    world = World({"loudness": -14.0, **joins}, Chorus)
    world.speak(loudness.TEXT, variant="loud", warm_up=True)
    return world.run()


def test_a_variant_is_measured_before_its_first_sample():
    world = chorus()
    numbers = [world.speak(TEXT, variant="softer") for _ in range(3)]
    world.run()
    first = world.takes[numbers[0]]
    assert all(world.takes[number].pcm == first.pcm for number in numbers)
    assert world.engine.spoken.count(f"softer: {loudness.TEXT}") == 1
    # As loud as the default one, to what a gain is rounded to and the halves of a sample.
    default = world.takes[world.speak(TEXT, variant="loud")]
    world.run()
    levels = [loudness.integrated_lufs(array("h", take.pcm), RATE_HZ) for take in (first, default)]
    assert levels[0] == pytest.approx(levels[1], abs=0.2)
    # The same in a worker that has spoken with nobody else, and beside other requests.
    other = chorus()
    others = [other.speak(text, variant="loud") for text in ("ab cd", "ef gh")]
    alone = other.takes[other.speak(TEXT, variant="softer")]
    other.run()
    assert alone.pcm == first.pcm
    assert all(other.takes[number].ends for number in others)


def test_a_variant_that_cannot_say_the_text_is_left_as_it_is():
    world, plain = chorus(), chorus(loudness=None)
    takes = [each.takes[each.speak("ab", variant="softest")] for each in (world, plain)]
    for each in (world, plain):
        each.run()
    assert takes[0].pcm == takes[1].pcm != b""


def test_a_cancel_reaches_who_waits_for_a_measure_and_credit_is_kept():
    world = chorus()
    cancelled, short = (world.speak(TEXT, variant="softer", window_samples=samples) for samples in (9999, MS))
    world.driver.advance()
    world.driver.cancel(cancelled)
    world.driver.add_credit(short, 100_000)
    world.run()
    assert world.takes[cancelled].ends == [Done(0, 0, cancelled=True)]
    assert not world.takes[cancelled].frames
    whole = world.takes[world.speak(TEXT, variant="softer")]
    world.run()
    assert world.takes[short].pcm == whole.pcm


def test_an_engine_that_breaks_while_it_measures_fails_who_waits():
    world = chorus()

    def broken() -> None:
        raise ValueError("broken")

    world.engine.during = broken
    numbers = [world.speak(TEXT, variant="softer") for _ in range(2)]
    world.run()
    for number in numbers:
        assert world.takes[number].ends == [(wire.Fault.ENGINE, "ValueError: broken")]


def test_measures_keep_to_the_slots():
    world = chorus()
    numbers = [world.speak("ab cd", variant=name) for name in ("softer", "loud") * 6]
    most = 0
    while not all(world.takes[number].ends for number in numbers):
        world.driver.advance()
        most = max(most, len(world.engine.batches[-1]))
    assert most <= 4
