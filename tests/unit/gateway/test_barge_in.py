"""Interrupts at every moment of a turn, in a thousand orders of everything else."""

from collections import Counter

import pytest

from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.values import Message
from tests.unit.gateway.engine import RATE, Script
from tests.unit.gateway.world import TOLD, World

ORDERS = 1_600
PARTS = 8
QUESTION = Message("user", ("Why?",))


def said(script: Script) -> str:
    """Return what the history keeps of the reply."""
    last = script.engine.history[-1] if script.engine.history else QUESTION
    return last.text if last.role == "assistant" else ""


def run(seed: int) -> str:
    """Run one turn in one order; return what became of it."""
    prompt = None if seed % 5 == 0 else QUESTION
    world = World(seed, Script(max_lead_ms=0 if seed % 2 else 600, prompt=prompt))
    draw, script = world.random, world.script
    world.start()
    interrupt_at = draw.randint(0, 24)
    steps = 0
    while steps < interrupt_at and world.step():
        steps += 1
        if draw.random() < 0.1:
            script.on(on.PlaybackReported(draw.randint(0, 3000)))
            world.answer()
    llm_out, speech_out = world.llm_out, set(world.speech_out)
    was_ended, was_finished = script.engine.ended, script.engine.finished
    told_ms = draw.choice((None, 0, draw.randint(0, 4000), 10**6))
    player_ms = script.engine.speech.player.played_ms(script.clock.now_ns())
    played = round(min(player_ms if told_ms is None else told_ms, world.samples * 1000 / RATE) * RATE / 1000)
    expected = world.heard(played)
    before = said(script)

    actions = script.on(on.Interrupted(told_ms))
    world.answer()
    kinds = Counter(type(action) for action in actions)
    assert kinds[do.DropQueued] == 1
    assert kinds[do.CancelLlm] == (llm_out and not was_ended)
    assert kinds[do.CancelSpeech] == (bool(speech_out) and not was_ended)
    assert not [action for action in actions if isinstance(action, TOLD)]

    # Whatever still arrives: nothing more is told, but that the history could not be written, and nobody
    # but the cache is asked for anything.
    at = len(script.actions)
    while world.step():
        if draw.random() < 0.1:
            script.on(on.Interrupted(draw.choice((None, 10**6))))
            world.answer()
    allowed = (do.SaveHistory, do.Finish, do.DropQueued, do.EmitDegraded)
    assert not [action for action in script.actions[at:] if not isinstance(action, allowed)]
    assert len(script.of(do.Finish)) == 1
    report = script.report
    assert sum(report.attribution.stages.values()) + report.attribution.unattributed_us == (
        report.attribution.ttfa_us
    )
    if not was_ended:
        assert report.outcome == "interrupted"
        assert said(script) == (expected if expected.strip() else "")
    elif report.outcome == "completed" and len(expected) < len(before):
        assert said(script) == (expected if expected.strip() else "")
    if was_finished:
        return f"behind {report.outcome}"
    return report.outcome if was_ended else "interrupted"


@pytest.mark.parametrize("part", range(PARTS))
def test_after_an_interrupt_nothing_is_told_work_that_is_out_is_cancelled_and_history_is_what_was_heard(
    part: int,
) -> None:
    became: Counter[str] = Counter()
    for seed in range(part, ORDERS, PARTS):
        try:
            became[run(seed)] += 1
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
    assert became["interrupted"] > ORDERS / PARTS / 2, became
    assert became["behind completed"], became


def test_the_next_prompt_is_an_interrupt_and_carries_what_was_heard() -> None:
    for seed in range(200):
        world = World(seed, Script(), spoils=False)
        world.start()
        for _ in range(world.random.randint(0, 50)):
            world.step()
        world.script.on(on.Interrupted())
        world.answer()
        while world.step():
            pass
        history = world.script.engine.history
        after = Script(remembered=history)
        after.start()
        after.on(on.HistoryLoaded(history, 1, 1))
        after.on(on.ReplyMissing())
        (asked,) = after.of(do.StartLlm)
        assert asked.messages[:-1] == history
        assert history[0] == QUESTION


def test_an_interrupt_while_the_history_is_written_is_written_behind_it() -> None:
    script = Script(prompt=None)
    script.start()
    world = World(1, script, spoils=False)
    script.on(on.TextArrived("One two."))
    world.answer()
    script.on(on.TextEnded())
    while not script.of(do.SaveHistory):
        world.answer()
        for name in ("chunker", "cache0", "tts", "caller"):
            while world.queues.get(name):
                script.on(world.queues[name].pop(0))
                world.answer()
    assert script.on(on.Interrupted(played_ms=100)) == [do.DropQueued()]
    actions = script.on(on.HistorySaved(version=7))
    amended = do.SaveHistory((Message("assistant", ("One",)),), (), 7)
    assert amended in actions
    assert [type(action) for action in actions] == [do.SaveHistory, do.Finish]
