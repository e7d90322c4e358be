"""One chunk at work, with an engine that does as it is told; its messages are read as the service does."""

import math
import threading
from array import array
from typing import Any

import pytest

from services.tts import wire
from services.tts.delivery import Voice
from services.tts.engines.base import Capabilities, Engine, Output, Variant
from services.tts.pauses import PAUSES_MS
from services.tts.requests import Request
from services.tts.wire import Done, SpeakRequest, Word

RATE_HZ = 8000
MS = RATE_HZ // 1000
CAPABILITIES = Capabilities(
    sample_rate_hz=RATE_HZ,
    slots=1,
    word_timings=True,
    deterministic=True,
    revision="r1",
    variants=(Variant("gr", "el"),),
    language="en",
)


def tone(ms: int) -> bytes:
    return array("h", (round(9000 * math.sin(0.9 * i + 1.2)) or 999 for i in range(ms * MS))).tobytes()


def silence(ms: int) -> bytes:
    return bytes(2 * ms * MS)


class Script(Engine):
    """Writes what it was given, slice by slice; words stand between the slices."""

    def __init__(self, *steps: bytes | Word) -> None:
        self.steps = steps
        self.stopped_at = -1

    def synthesize(self, request: SpeakRequest, output: Output) -> None:
        for number, step in enumerate(self.steps):
            if isinstance(step, Word):
                output.words([step])
            elif not output.write(step):
                self.stopped_at = number
                return


class Heard:
    """What a service reads of one request."""

    def __init__(self) -> None:
        self.log: list[tuple[int, Any]] = []
        self.sends = 0
        self._parser = wire.Parser()

    def __call__(self, data: bytes) -> None:
        self.sends += 1
        for kind, _, payload in self._parser.feed(data):
            parse: Any = {
                wire.FRAME: wire.parse_frame,
                wire.WORDS: wire.parse_words,
                wire.DONE: wire.parse_done,
            }[kind]
            self.log.append((kind, parse(payload)))

    @property
    def pcm(self) -> bytes:
        return b"".join(value[1] for kind, value in self.log if kind == wire.FRAME)

    @property
    def words(self) -> list[Word]:
        return [word for kind, value in self.log if kind == wire.WORDS for word in value]

    @property
    def end(self) -> Done:
        return self.log[-1][1]  # type: ignore[no-any-return] # the last message is DONE


def speak(
    *steps: bytes | Word,
    text: str = "Hello.",
    capabilities: Capabilities = CAPABILITIES,
    joins: dict[str, Any] | None = None,
    **values: Any,
) -> Heard:
    heard = Heard()
    voice = Voice.declared(capabilities, joins or {})
    # All at one moment: what is told early or late does not depend on how busy the machine is.
    request = Request(heard, 1, SpeakRequest(text, values.pop("variant", ""), **values), voice, lambda: 10**9)
    heard(request.run(Script(*steps)))
    return heard


def tail_ms(pcm: bytes) -> float:
    samples = array("h", pcm)
    return (len(samples) - max(i for i, sample in enumerate(samples) if abs(sample) > 256)) / MS


def test_words_move_to_the_front_with_the_sound_and_come_before_it():
    heard = speak(Word(0, 3, 0), silence(300), Word(4, 2, 400 * MS), tone(100), tone(100), silence(500))
    assert heard.log[0] == (wire.WORDS, [Word(0, 3, 0)])
    assert heard.words == [Word(0, 3, 0), Word(4, 2, (400 - 300 + 5) * MS)]
    sent = 0
    for kind, value in heard.log:
        if kind == wire.FRAME:
            sent += len(value[1]) // 2
        elif kind == wire.WORDS:
            assert all(word.offset_samples >= sent for word in value)
    assert heard.end == Done(len(heard.pcm) // 2, heard.end.engine_us, cancelled=False)


def test_a_word_in_silence_that_was_trimmed_stays_within_the_audio():
    heard = speak(tone(100), Word(6, 1, 900 * MS), silence(900), text="Hello !")
    assert heard.words[-1] == Word(6, 1, heard.end.made_samples)


def test_a_word_that_the_engine_left_out_moves_with_the_sound_too():
    steps = (silence(305), Word(0, 3, 300 * MS), tone(350), Word(8, 4, 650 * MS), tone(200))
    heard = speak(*steps, text="for the fish?")
    assert heard.words == [Word(0, 3, 0), Word(4, 3, 175 * MS, estimated=True), Word(8, 4, 350 * MS)]
    late = speak(silence(300), Word(0, 3, 300 * MS), tone(300), text="of it").words
    assert late[1:] == [Word(3, 2, 185 * MS, estimated=True)]


@pytest.mark.parametrize("offset", [1, 40 * MS, 395 * MS, 405 * MS, 600 * MS, 10_000 * MS])
def test_resuming_counts_the_samples_that_were_sent(offset):
    steps = (silence(77), tone(200), silence(100), tone(100), silence(800))
    whole = speak(*steps)
    rest = speak(*(part for step in steps for part in (step[:100], step[100:])), start_offset_samples=offset)
    assert rest.pcm == whole.pcm[2 * offset :]
    assert rest.end.made_samples == whole.end.made_samples


def test_silence_for_a_text_with_words_is_no_audio():
    heard = speak(Word(0, 5, 100), silence(900), silence(900))
    assert heard.log == [(wire.DONE, Done(0, heard.end.engine_us, cancelled=False))]


def test_the_pause_follows_text_language_and_the_voice():
    lead_ms = 5
    assert tail_ms(speak(tone(50)).pcm) == pytest.approx(PAUSES_MS["sentence"] - lead_ms, abs=5)
    greek = speak(tone(50), text="Πού;", variant="gr")
    assert tail_ms(greek.pcm) == pytest.approx(PAUSES_MS["sentence"] - lead_ms, abs=5)
    own = speak(tone(50), joins={"trim_silence": True, "pauses_ms": {"sentence": 80}})
    assert tail_ms(own.pcm) == pytest.approx(80 - lead_ms, abs=5)


def test_an_engine_or_a_voice_may_keep_its_edges():
    steps = (silence(30), tone(50), silence(20))
    assert speak(*steps, capabilities=CAPABILITIES._replace(own_edges=True)).pcm == b"".join(steps)
    assert speak(*steps, joins={"trim_silence": False}).pcm == b"".join(steps)


def test_messages_of_one_write_leave_in_one_send():
    heard = speak(Word(0, 5, 0), tone(700), tone(700))
    assert [len(value[1]) // 2 // MS for kind, value in heard.log if kind == wire.FRAME][:6] == [
        20,
        20,
        40,
        80,
        160,
        200,
    ]
    assert heard.sends == 2 + 1 + 1  # two writes, the end of the audio, DONE


def test_words_cost_no_message_where_they_come_with_audio():
    steps = [part for n in range(50) for part in (Word(n, 1, n * 60 * MS), tone(60))]
    heard = speak(*steps, in_hand_ms=1000)
    frames = sum(kind == wire.FRAME for kind, _ in heard.log)
    assert frames == 3300 // 200 + 1
    assert len(heard.words) == 50
    assert sum(kind == wire.WORDS for kind, _ in heard.log) <= frames


def test_estimated_words_wait_for_the_true_length_as_long_as_they_can():
    untimed = CAPABILITIES._replace(word_timings=False)
    heard = speak(*[tone(100)] * 40, text="one two three four five.", capabilities=untimed)
    assert all(word.estimated for word in heard.words)
    assert [word.text_offset for word in heard.words] == [0, 4, 8, 14, 19]
    # 24 letters in 4 s; those of the first half second had to be told before that was known.
    assert [word.offset_samples // MS for word in heard.words][2:] == [
        8 * 4000 // 24,
        14 * 4000 // 24,
        19 * 4000 // 24,
    ]
    kinds = [kind for kind, _ in heard.log]
    assert kinds[-4:] in (
        [wire.FRAME, wire.WORDS, wire.FRAME, wire.DONE],
        [wire.WORDS, wire.FRAME, wire.FRAME, wire.DONE],
    )


def test_a_cancel_in_the_pause_is_a_cancel():
    """Else a lease that was taken back would end a chunk whose last samples never came."""
    heard = Heard()
    voice = Voice.declared(CAPABILITIES, {})

    class CancelsAtItsEnd(Script):
        def synthesize(self, request: SpeakRequest, output: Output) -> None:
            super().synthesize(request, output)
            asked.cancel()

    asked = Request(heard, 1, SpeakRequest("Hello.", ""), voice)
    heard(asked.run(CancelsAtItsEnd(tone(205))))
    assert heard.end.cancelled
    assert len(heard.pcm) < 2 * 205 * MS


def test_a_full_window_holds_the_engine_and_a_cancel_frees_it():
    heard = Heard()
    request = Request(
        heard, 1, SpeakRequest("Hello.", "", window_samples=100 * MS), Voice.declared(CAPABILITIES, {})
    )
    script = Script(*[tone(100)] * 20)
    thread = threading.Thread(target=lambda: heard(request.run(script)))
    thread.start()
    request.add_credit(50 * MS)
    request.cancel()
    thread.join(10)
    assert not thread.is_alive()
    assert heard.end.cancelled
    assert len(heard.pcm) <= 2 * (150 + 200) * MS


@pytest.mark.parametrize("offset", [0, 1, 799, 9_000])
def test_at_another_rate_all_is_counted_in_its_samples(offset):
    steps = (silence(300), Word(0, 3, 300 * MS), tone(200), Word(4, 2, 500 * MS), tone(300), silence(900))
    own = speak(*steps, text="one to.")
    heard = speak(*steps, text="one to.", sample_rate_hz=2 * RATE_HZ, start_offset_samples=offset)
    assert [word.offset_samples for word in heard.words] == [2 * word.offset_samples for word in own.words]
    assert heard.end.made_samples == 2 * own.end.made_samples
    assert len(heard.pcm) // 2 == max(0, heard.end.made_samples - offset)
    assert [value[0] for kind, value in heard.log if kind == wire.FRAME][:1] in ([offset], [])
    whole = speak(*steps, text="one to.", sample_rate_hz=2 * RATE_HZ)
    assert heard.pcm == whole.pcm[2 * offset :]


def test_at_another_rate_words_are_estimated_where_they_are_heard():
    untimed = CAPABILITIES._replace(word_timings=False)
    steps = (tone(600), silence(900))
    own = speak(*steps, text="one to three.", capabilities=untimed)
    heard = speak(*steps, text="one to three.", capabilities=untimed, sample_rate_hz=2 * RATE_HZ)
    assert [word.offset_samples for word in heard.words] == [2 * word.offset_samples for word in own.words]
    assert all(word.estimated for word in heard.words)


def test_a_window_counts_wanted_samples():
    heard = Heard()
    speak_request = SpeakRequest("Hello.", "", sample_rate_hz=2 * RATE_HZ, window_samples=100 * 2 * MS)
    request = Request(heard, 1, speak_request, Voice.declared(CAPABILITIES, {}))
    thread = threading.Thread(target=lambda: heard(request.run(Script(*[tone(20)] * 50))))
    thread.start()
    request.add_credit(2**31)
    thread.join(10)
    assert not thread.is_alive()
    assert heard.end.made_samples == len(heard.pcm) // 2 >= 1000 * 2 * MS
