"""Audio that several turns want at the same time: led, followed, taken over."""

import pytest

from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.report import TurnReport
from gateway.core.values import Message, Word
from tests.unit.gateway.engine import Script, samples
from tests.unit.gateway.world import WORD_SAMPLES, World, pcm_of, words_of

ORDERS = 400
PARTS = 4
QUESTION = Message("user", ("Why?",))


def one_chunk(text: str = "Alpha be gamma.", **changes: object) -> Script:
    """Return a turn whose only chunk is being looked up."""
    script = Script(prompt=None, max_lead_ms=0, word_timings=True, **changes)
    script.start()
    script.on(on.TextArrived(text))
    script.on(on.TextEnded())
    script.say(0, text, 0)
    script.on(on.ChunksEnded())
    return script


def finish(script: Script, *, sent: bool = False) -> TurnReport:
    """Tell that the first frame was sent, unless that was told, and end what is left."""
    if not sent:
        script.on(on.FirstFrameSent())
    script.on(on.HistorySaved())
    return script.report


def heard(script: Script) -> bytes:
    """Return what the caller got; offsets have no gap."""
    offset = 0
    for number, frame in enumerate(script.of(do.EmitFrame)):
        assert (frame.sequence, frame.offset_samples) == (number, offset)
        offset += len(frame.audio) // 2
    return b"".join(frame.audio for frame in script.of(do.EmitFrame))


def told(script: Script) -> list[tuple[str, int]]:
    """Return the words that the caller was told, and where they are heard."""
    return [(word.word, word.offset_samples) for words in script.of(do.EmitWords) for word in words.words]


WORDS = (Word("Alpha", 0, 5, 0), Word("be", 6, 2, WORD_SAMPLES), Word("gamma", 9, 5, 2 * WORD_SAMPLES))
AUDIO = pcm_of(0, 3)
SIZE = len(AUDIO) // 2


def test_a_leader_appends_what_is_made_as_it_comes_and_seals_it() -> None:
    script = one_chunk()
    script.on(on.AudioGranted(0, 0, 50), after_ms=1)
    script.on(on.WordsTimed(0, WORDS[:1]), after_ms=1)
    script.on(on.FrameMade(0, 0, AUDIO[:800], 100, 200, first=True))
    assert script.of(do.AppendAudio) == [
        do.AppendAudio(0, b"", WORDS[:1]),
        do.AppendAudio(0, AUDIO[:800], ()),
    ]
    script.on(on.FrameMade(0, 400, AUDIO[800:]))
    script.on(on.ChunkSpoken(0))
    assert b"".join(part.audio for part in script.of(do.AppendAudio)) == AUDIO
    assert script.of(do.SealAudio) == [do.SealAudio(0)]
    assert not script.of(do.StoreAudio) + script.of(do.ReleaseAudio)
    assert finish(script).chunks[0].cache == "miss"


def test_a_follower_asks_no_engine_and_the_wait_for_the_leader_is_the_engines_time() -> None:
    script = one_chunk()
    script.on(on.AudioFollowing(0, b"", (), 50), after_ms=1)
    script.on(on.AudioPart(0, AUDIO[:882], WORDS[:1]), after_ms=30)
    assert heard(script) == AUDIO[:882], "the first frame leaves as soon as it is there"
    script.on(on.FirstFrameSent())
    script.on(on.AudioPart(0, AUDIO[882:], WORDS[1:]), after_ms=5)
    script.on(on.AudioSealed(0))
    report = finish(script, sent=True)
    assert heard(script) == AUDIO
    assert told(script) == [(word.word, word.offset_samples) for word in WORDS]
    assert not script.of(do.Synthesize) + script.of(do.AppendAudio) + script.of(do.StoreAudio)
    assert (report.chunks[0].cache, report.characters) == ("shared", 0)
    stages = {stage: us for stage, us in report.attribution.stages.items() if us}
    assert stages == {"audio_cache": 50, "transport": 950, "tts_synthesis": 30_000}
    assert report.attribution.unattributed_us == 0
    assert report.chunks[0].synthesis_us == 30_000


def test_a_follower_that_comes_late_has_all_there_is_at_once() -> None:
    script = one_chunk()
    script.on(on.AudioFollowing(0, AUDIO[:8000], WORDS[:1], 50), after_ms=1)
    assert [len(frame.audio) // 2 for frame in script.of(do.EmitFrame)][:2] == [samples(20)] * 2
    script.on(on.FirstFrameSent(), after_ms=1)
    script.on(on.AudioPart(0, AUDIO[8000:], WORDS[1:]), after_ms=40)
    script.on(on.AudioSealed(0))
    assert heard(script) == AUDIO
    stages = {stage: us for stage, us in finish(script, sent=True).attribution.stages.items() if us}
    assert stages == {"audio_cache": 50, "transport": 950, "gateway": 1000}


@pytest.mark.parametrize("taken_at", [0, 1, 441, 5000, WORD_SAMPLES, SIZE])
def test_a_follower_takes_over_at_the_very_sample(taken_at: int) -> None:
    script = one_chunk()
    words = tuple(word for word in WORDS if word.offset_samples < taken_at)
    script.on(on.AudioFollowing(0, AUDIO[: 2 * taken_at], words, 50), after_ms=1)
    script.on(on.AudioGranted(0, taken_at), after_ms=8)
    (asked,) = script.of(do.Synthesize)
    assert (asked.text, asked.start_offset_samples) == ("Alpha be gamma.", taken_at)
    script.on(on.WordsTimed(0, WORDS[len(words) :]), after_ms=2)
    if taken_at < SIZE:
        script.on(on.FrameMade(0, taken_at, AUDIO[2 * taken_at :], 500, 1500, first=True))
    script.on(on.ChunkSpoken(0))
    report = finish(script)
    assert heard(script) == AUDIO
    assert told(script) == [(word.word, word.offset_samples) for word in WORDS]
    assert b"".join(part.audio for part in script.of(do.AppendAudio)) == AUDIO[2 * taken_at :]
    assert script.of(do.SealAudio) == [do.SealAudio(0)]
    assert report.chunks[0].cache == ("shared" if taken_at else "miss")
    assert report.attribution.unattributed_us == 0
    assert sum(report.attribution.stages.values()) == report.attribution.ttfa_us
    if not taken_at:
        assert report.attribution.stages["tts_synthesis"] == 8000 + 1500
        assert report.attribution.stages["tts_queue"] == 500


def test_words_that_were_estimated_are_told_for_the_audio_that_is_there_already() -> None:
    first = Word("Alpha", 0, 5, 0, estimated=True)
    script = one_chunk()
    # Estimated words are told late: "be" lies in the audio that came, and nobody has told it.
    script.on(on.AudioFollowing(0, AUDIO[: 3 * WORD_SAMPLES], (first,), 50))
    script.on(on.AudioGranted(0, 3 * WORD_SAMPLES // 2))
    (asked,) = script.of(do.Synthesize)
    assert asked.start_offset_samples == 1
    script.on(on.WordsTimed(0, WORDS[1:]))
    script.on(on.FrameMade(0, 1, AUDIO[2:1000], first=True))
    script.on(on.FrameMade(0, 500, AUDIO[1000:]))
    script.on(on.ChunkSpoken(0))
    finish(script)
    assert heard(script) == AUDIO
    assert [word for word, _ in told(script)] == ["Alpha", "be", "gamma"]
    assert b"".join(part.audio for part in script.of(do.AppendAudio)) == AUDIO[3 * WORD_SAMPLES :]


def test_a_voice_that_does_not_repeat_itself_goes_on_at_a_whole_word_and_is_not_kept() -> None:
    script = one_chunk(voice_repeats=False)
    at = WORD_SAMPLES + 100
    script.on(on.AudioFollowing(0, AUDIO[: 2 * at], WORDS[:2], 50))
    script.on(on.AudioGranted(0, at))
    (asked,) = script.of(do.Synthesize)
    assert (asked.text, asked.start_offset_samples) == ("gamma.", 0)
    assert script.of(do.ReleaseAudio) == [do.ReleaseAudio(0)]
    rest = pcm_of(7, 1)
    script.on(on.WordsTimed(0, (Word("gamma", 0, 5, 0),)))
    script.on(on.FrameMade(0, 0, rest, first=True))
    script.on(on.ChunkSpoken(0))
    report = finish(script)
    assert heard(script) == AUDIO[: 2 * at] + rest
    assert told(script)[-1] == ("gamma", at)
    assert not script.of(do.AppendAudio) + script.of(do.SealAudio) + script.of(do.StoreAudio)
    assert report.characters == len("gamma.")


def test_a_voice_that_does_not_repeat_itself_has_all_of_it_made_where_nothing_came() -> None:
    script = one_chunk(voice_repeats=False)
    script.on(on.AudioFollowing(0, b"", (), 50))
    script.on(on.AudioGranted(0, 0))
    script.on(on.FrameMade(0, 0, AUDIO, first=True))
    script.on(on.ChunkSpoken(0))
    assert heard(script) == AUDIO
    assert script.of(do.SealAudio) == [do.SealAudio(0)]


def test_a_lease_behind_another_sample_than_was_heard_is_given_back() -> None:
    script = one_chunk()
    script.on(on.AudioFollowing(0, AUDIO[:882], (), 50))
    script.on(on.AudioGranted(0, 442))
    assert script.of(do.ReleaseAudio) == [do.ReleaseAudio(0)]
    (asked,) = script.of(do.Synthesize)
    assert asked.start_offset_samples == 441
    script.on(on.FrameMade(0, 441, AUDIO[882:], first=True))
    script.on(on.ChunkSpoken(0))
    assert heard(script) == AUDIO
    assert not script.of(do.AppendAudio) + script.of(do.StoreAudio)


def test_a_follower_whose_cache_is_gone_goes_on_by_itself_and_says_so() -> None:
    script = one_chunk()
    script.on(on.AudioFollowing(0, AUDIO[:882], (), 50))
    script.on(on.AudioLost(0, "gone"))
    assert [degraded.detail for degraded in script.of(do.EmitDegraded)] == ["gone"]
    script.on(on.FrameMade(0, 441, AUDIO[882:], first=True))
    script.on(on.ChunkSpoken(0))
    assert heard(script) == AUDIO
    assert finish(script).degraded == ("cache",)


def test_an_empty_part_says_only_that_the_cache_sees_to_it() -> None:
    script = one_chunk()
    script.on(on.AudioFollowing(0, b"", (), 50))
    script.on(on.AudioPart(0, b"", ()), after_ms=2000)
    assert not script.of(do.EmitFrame) + script.of(do.Synthesize)
    script.on(on.AudioPart(0, AUDIO, WORDS), after_ms=500)
    script.on(on.AudioSealed(0))
    assert heard(script) == AUDIO
    assert finish(script).chunks[0].synthesis_us == 2_500_000


def test_the_rest_of_an_entry_comes_behind_its_head() -> None:
    script = one_chunk()
    script.on(on.AudioFound(0, AUDIO[:8820], WORDS[:1], "redis", 50, more=True))
    assert script.of(do.EmitFrame)
    script.on(on.AudioPart(0, AUDIO[8820:], WORDS[1:]))
    script.on(on.AudioSealed(0))
    assert heard(script) == AUDIO
    assert finish(script).chunks[0].cache == "redis"


@pytest.mark.parametrize("spoils", [{"fallback": "other"}, {"other_model": True}])
def test_what_another_voice_says_is_released_and_never_appended(spoils: dict[str, object]) -> None:
    script = one_chunk()
    script.on(on.AudioGranted(0, 0, 50))
    script.on(on.FrameMade(0, 0, AUDIO[:882], first=True))
    script.on(on.FrameMade(0, 441, AUDIO[882:2000], **spoils))  # type: ignore[arg-type] # a test's shorthand
    script.on(on.FrameMade(0, 1000, AUDIO[2000:]))
    script.on(on.ChunkSpoken(0))
    assert b"".join(part.audio for part in script.of(do.AppendAudio)) == AUDIO[:882]
    assert script.of(do.ReleaseAudio) == [do.ReleaseAudio(0, foreign=True)]
    assert not script.of(do.SealAudio) + script.of(do.StoreAudio)
    assert heard(script) == AUDIO


@pytest.mark.parametrize(
    "fails", [on.ChunkUnspeakable(0, "bad"), on.SpeechFailed(), on.SpeechFailed(indexes=(0,))]
)
def test_what_a_leader_cannot_finish_others_may(fails: on.Event) -> None:
    script = one_chunk()
    script.on(on.AudioGranted(0, 0, 50))
    script.on(on.FrameMade(0, 0, AUDIO[:882], first=True))
    script.on(fails)
    assert script.of(do.ReleaseAudio) == [do.ReleaseAudio(0)]
    assert len(script.of(do.EmitSpeakLocally)) == 1


def test_the_end_of_a_stream_that_was_not_asked_for_a_chunk_does_not_end_it() -> None:
    script = one_chunk()
    script.on(on.AudioGranted(0, 0, 50))
    script.on(on.SpeechFailed(indexes=()))
    script.on(on.SpeechFailed(indexes=(1,)))
    script.on(on.FrameMade(0, 0, AUDIO, first=True))
    script.on(on.ChunkSpoken(0))
    assert heard(script) == AUDIO


@pytest.mark.parametrize("how", ["asked", "following", "granted", "speaking"])
def test_an_interrupt_leaves_the_audio_to_those_who_still_want_it(how: str) -> None:
    script = one_chunk()
    if how == "following":
        script.on(on.AudioFollowing(0, AUDIO[:882], (), 50))
    elif how != "asked":
        script.on(on.AudioGranted(0, 0, 50))
    if how == "speaking":
        script.on(on.FrameMade(0, 0, AUDIO[:882], first=True))
    actions = script.on(on.Interrupted())
    assert do.ReleaseAudio(0) in actions
    assert script.on(on.AudioGranted(0, 0, 50)) == []


def test_a_chunk_that_follows_does_not_hold_up_the_engine_for_the_next() -> None:
    script = Script(prompt=None, max_lead_ms=0)
    script.start()
    script.on(on.TextArrived("One. Two."))
    script.say(0, "One.", 0)
    script.say(1, "Two.", 5)
    script.on(on.AudioFollowing(0, b"", (), 50))
    script.on(on.AudioGranted(1))
    assert [asked.index for asked in script.of(do.Synthesize)] == [1]
    script.on(on.AudioGranted(0))
    assert [asked.index for asked in script.of(do.Synthesize)] == [1, 0]


def run(seed: int, *, interrupts: bool, repeats: bool) -> World:
    """Run one turn in one order, among others that want the same."""
    prompt = None if seed % 5 == 0 else QUESTION
    script = Script(
        max_lead_ms=0 if seed % 2 else 600, prompt=prompt, word_timings=True, voice_repeats=repeats
    )
    world = World(seed, script, spoils=seed % 3 == 0, shares=True)
    world.start()
    interrupt_at = world.random.randint(0, 30) if interrupts else -1
    steps = 0
    while steps != interrupt_at and world.step():
        steps += 1
    if interrupts:
        world.script.on(on.Interrupted(None))
        world.answer()
        while world.step():
            pass
    assert len(world.script.of(do.Finish)) == 1
    return world


@pytest.mark.parametrize("part", range(PARTS))
def test_in_any_order_every_sample_and_word_is_heard_once(part: int) -> None:
    kept = taken_over = 0
    for seed in range(part * ORDERS // PARTS, (part + 1) * ORDERS // PARTS):
        world = run(seed, interrupts=False, repeats=True)
        script = world.script
        for sent in world.sent:
            if not world.leases.get(sent.chunk.index) and not sent.samples and not sent.local:
                continue
            audio, local = bytes(world.heard_audio.get(sent.chunk.index, b"")), sent.local
            whole = pcm_of(sent.chunk.index, len(sent.words))
            assert whole.startswith(audio) if local else audio == whole
            words = [
                word.text_offset
                for words in script.of(do.EmitWords)
                if words.index == sent.chunk.index
                for word in words.words
            ]
            expected = [word.text_offset for word in words_of(sent.chunk)]
            assert words == expected[: len(words)] if local else words == expected
            lease = world.leases.get(sent.chunk.index)
            if lease is not None:
                # One that failed behind its last word has nothing left for the caller to say.
                assert lease.ended in (("released", "sealed") if world.spoils else ("sealed",))
                kept += lease.ended == "sealed"
        report = script.report
        if report.outcome == "completed":
            assert len(world.heard_audio.keys() | {s.chunk.index for s in world.sent if s.local}) == len(
                world.sent
            )
        attribution = report.attribution
        assert sum(attribution.stages.values()) + attribution.unattributed_us == attribution.ttfa_us
        taken_over += sum(asked.start_offset_samples > 0 for asked in script.of(do.Synthesize))
    assert kept > ORDERS // PARTS // 10
    assert taken_over > ORDERS // PARTS // 20


@pytest.mark.parametrize("part", range(PARTS))
def test_whenever_a_turn_is_interrupted_it_leaves_no_lease_behind(part: int) -> None:
    released = 0
    for seed in range(part * ORDERS // PARTS, (part + 1) * ORDERS // PARTS):
        world = run(seed, interrupts=True, repeats=bool(seed % 4))
        asked = {lookup.index for lookup in world.script.of(do.LookUpAudio)}
        assert all(lease.ended for index, lease in world.leases.items() if index in asked)
        released += sum(lease.ended == "released" for lease in world.leases.values())
    assert released > ORDERS // PARTS // 20
