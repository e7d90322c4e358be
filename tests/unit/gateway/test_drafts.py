"""Drafts: what a caller is not sure of runs, and tells nobody, until it is confirmed."""

from collections import Counter

import pytest

from gateway.core import actions as do
from gateway.core import events as on
from tests.unit.gateway.engine import Script, pcm
from tests.unit.gateway.world import TOLD, World
from voicemesh.runtime.errors import LlmUnavailableError

ORDERS = 800


def spoken_draft() -> Script:
    """A draft whose first frame is ready 300 ms after it came."""
    script = Script(draft=True, max_lead_ms=0)
    script.to_llm()
    script.on(on.TextArrived("Because. It", connect_us=3000, ttft_us=90_000), after_ms=100)
    script.say(0, "Because.", 0, held_us=5000)
    script.on(on.AudioMissing(0, 50), after_ms=1)
    script.on(on.WordsTimed(0, ()))
    script.on(on.FrameMade(0, 0, pcm(20), 500, 2000, first=True), after_ms=197)
    return script


def test_a_confirmed_draft_is_told_at_once_and_its_times_count_from_the_confirmation() -> None:
    script = spoken_draft()
    assert not script.of(do.EmitText) + script.of(do.EmitChunk) + script.of(do.EmitFrame)
    script.clock.advance_ms(200)
    confirmed_ns = script.clock.now_ns()
    actions = script.on(on.Confirmed(confirmed_ns))
    assert [type(action) for action in actions] == [do.EmitText, do.EmitChunk, do.EmitFrame]
    script.on(on.FirstFrameSent(), after_ms=1)
    script.on(on.TextEnded())
    script.on(on.ChunksEnded())
    script.on(on.ChunkSpoken(0))
    script.on(on.HistorySaved())
    report = script.report
    assert report.outcome == "completed"
    assert report.head_start_us == 500_000
    assert report.attribution.ttfa_us == 1000
    assert {name: us for name, us in report.attribution.stages.items() if us} == {"gateway": 1000}
    assert report.attribution.unattributed_us == 0
    assert report.ttft_us == 0
    assert report.chunks[0].first_frame_us == report.attribution.ttfa_us


def test_of_a_call_that_was_under_way_the_part_behind_the_confirmation_counts() -> None:
    script = Script(draft=True)
    script.to_llm()
    script.on(on.Confirmed(script.clock.now_ns() + 40_000_000), after_ms=40)
    script.on(on.TextArrived("Because.", connect_us=10_000, ttft_us=80_000), after_ms=60)
    script.say(0, "Because.", 0)
    script.on(on.AudioMissing(0))
    script.speak(0, 20)
    script.on(on.FirstFrameSent())
    script.on(on.TextEnded())
    script.on(on.ChunksEnded())
    script.on(on.ChunkSpoken(0))
    script.on(on.HistorySaved())
    stages = {name: us for name, us in script.report.attribution.stages.items() if us}
    # 100 ms at the LLM, of which it reports 90: the first 40 were before the time began.
    assert stages["llm_ttft"] == 50_000
    assert "llm_connect" not in stages
    assert script.report.attribution.hops["llm"] == 10_000
    assert script.report.ttft_us == 60_000
    assert script.report.head_start_us == 42_000


@pytest.mark.parametrize("event", [on.Discarded(), on.Interrupted(), on.Interrupted(played_ms=100)])
def test_a_draft_that_is_not_wanted_leaves_no_trace(event: on.Event) -> None:
    script = spoken_draft()
    actions = script.on(event)
    assert [type(action) for action in actions] == [do.CancelLlm, do.CancelSpeech, do.Finish]
    assert script.report.outcome == "discarded"
    assert script.engine.history == ()
    assert script.on(on.Confirmed(script.clock.now_ns())) == []
    assert script.on(on.Interrupted()) == []
    assert not script.of(do.SaveHistory)


def test_a_draft_that_nobody_confirms_is_discarded_in_time() -> None:
    script = Script(draft=True, draft_ms=2000)
    script.to_llm()
    (timer, *_) = script.of(do.SetTimer)
    script.on(on.TimerFired(), after_ms=(timer.at_ns - script.clock.now_ns()) / 1e6)
    assert script.report.outcome == "discarded"
    assert script.clock.now_ns() == script.engine.spec.received_ns + 2_000_000_000


def test_a_draft_that_fails_is_discarded_rather_than_told() -> None:
    script = Script(draft=True)
    script.to_llm()
    script.on(on.TextFailed(LlmUnavailableError("gone")))
    assert script.report.outcome == "discarded"


def test_a_draft_speaks_no_further_than_its_first_chunk_and_does_not_end_by_itself() -> None:
    script = Script(draft=True, max_lead_ms=0)
    script.to_llm()
    script.on(on.TextArrived("One. Two. Three."))
    for index, text in enumerate(("One.", "Two.", "Three.")):
        script.say(index, text, index * 5)
    script.on(on.TextEnded(complete=True))
    script.on(on.ChunksEnded())
    script.on(on.AudioFound(0, pcm(90), (), "memory", 1))
    assert [action.index for action in script.of(do.LookUpAudio)] == [0]
    script.on(on.Confirmed(script.clock.now_ns()))
    assert [action.index for action in script.of(do.LookUpAudio)] == [0, 1, 2]


def test_in_any_order_nothing_is_told_before_the_confirmation_and_all_of_it_behind() -> None:
    became: Counter[str] = Counter()
    for seed in range(ORDERS):
        world = World(seed, Script(draft=True, max_lead_ms=0))
        draw, script = world.random, world.script
        world.start()
        steps = draw.randint(0, 20)
        while steps and world.step():
            steps -= 1
        assert not [action for action in script.actions if isinstance(action, (*TOLD, do.SaveHistory))]
        was_ended = script.engine.ended
        event = draw.choice((on.Confirmed(script.clock.now_ns()), on.Discarded()))
        script.on(event)
        world.answer()
        while world.step():
            pass
        assert len(script.of(do.Finish)) == 1
        report = script.report
        became[report.outcome] += 1
        if was_ended or isinstance(event, on.Discarded):
            assert report.outcome == "discarded"
            assert not [action for action in script.actions if isinstance(action, (*TOLD, do.SaveHistory))]
        else:
            attribution = report.attribution
            assert sum(attribution.stages.values()) + attribution.unattributed_us == attribution.ttfa_us
            assert attribution.unattributed_us <= 0
            assert min(attribution.stages.values(), default=0) >= 0
            assert report.outcome in ("completed", "failed")
            assert "".join(action.text for action in script.of(do.EmitText)) == report.text
    assert became["completed"] > ORDERS / 4
    assert became["discarded"] > ORDERS / 4
