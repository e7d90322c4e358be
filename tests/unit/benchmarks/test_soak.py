"""What the soak calls a violation is one, and what holds is none."""

from dataclasses import replace

import pytest

from benchmarks.soak.checks import Seen, grows, problems, trend
from benchmarks.soak.load import answer, reply_to
from services.llm.core.continuation import INSTRUCTION
from tests.support.openai_server import Request
from voicemesh.client import (
    AudioFormat,
    Chunk,
    Degraded,
    Event,
    Frame,
    TextDelta,
    TurnReport,
    TurnStarted,
    VoiceMeshError,
)

SAID = "It is so. It was so."
REFERENCES = {"It is so.": b"abcdefgh", "It was so.": b"ijkl"}
EVENTS: tuple[Event, ...] = (
    TurnStarted("t", "s", "", AudioFormat(sample_rate_hz=8000)),
    TextDelta("t", "It is so. "),
    TextDelta("t", "It was so."),
    Chunk("t", 0, "It is so.", 0, 9, "sentence", 0.0),
    Chunk("t", 1, "It was so.", 10, 10, "flush", 0.0),
    Frame("t", 0, 0, 0, 0, b"abcd", 2),
    Frame("t", 0, 1, 2, 2, b"efgh", 2),
    Frame("t", 1, 0, 0, 4, b"ijkl", 2),
)
LAST = len(EVENTS) - 1
ANEW = Degraded("t", "gateway", "asked again at another one")
LOST = VoiceMeshError("UNAVAILABLE", "SERVICE_UNAVAILABLE", "gone", reached=False)


def seen(*events: Event, outcome: str = "completed", **values: object) -> Seen:
    report = TurnReport(turn_id="t", outcome=outcome) if outcome else None
    return replace(Seen("new", SAID, "v", list(events or EVENTS), report), **values)  # type: ignore[arg-type]


def rules(turn: Seen) -> set[str]:
    return {rule for rule, _ in problems(turn, REFERENCES)}


def test_a_good_turn_breaks_no_rule():
    assert rules(seen()) == set()


@pytest.mark.parametrize("count", range(1, len(EVENTS)))
def test_what_was_cut_is_a_beginning(count):
    assert rules(seen(*EVENTS[:count], outcome="interrupted", cut=True)) == set()
    assert rules(seen(*EVENTS[:count], outcome="failed", error=LOST)) == set()


@pytest.mark.parametrize(
    ("turn", "rule"),
    [
        (seen(outcome=""), "one end"),
        (seen(error=LOST), "one end"),
        (seen(outcome="interrupted"), "one end"),
        (seen(outcome="failed", error=VoiceMeshError("UNKNOWN", "", "?")), "typed errors"),
        (seen(EVENTS[0], *EVENTS), "order"),
        (seen(*EVENTS[:2], *EVENTS[3:]), "text"),
        (seen(*EVENTS[:3], EVENTS[2], *EVENTS[3:]), "text"),
        (seen(*EVENTS[:LAST]), "audio"),
        (seen(*EVENTS[:6], *EVENTS[7:]), "audio"),
        (seen(*EVENTS, EVENTS[LAST]), "audio"),
        (seen(*EVENTS[:LAST], Frame("t", 1, 0, 0, 4, b"ijkk", 2)), "audio"),
        (seen(*EVENTS[:LAST], Frame("t", 1, 0, 0, 5, b"ijkl", 2)), "audio"),
        (seen(*EVENTS[:5], EVENTS[7], EVENTS[5], EVENTS[6]), "audio"),
        (seen(*EVENTS[:6], EVENTS[7], outcome="interrupted", cut=True), "audio"),
    ],
)
def test_what_is_lost_doubled_or_spoilt_is_found(turn, rule):
    assert rule in rules(turn)


def test_an_interrupt_behind_the_end_drops_what_is_on_its_way():
    assert rules(seen(*EVENTS[:LAST], cut=True)) == set()
    assert rules(seen(*EVENTS[:LAST])) == {"audio"}


def taken(*events: Event) -> Seen:
    turn = seen()
    turn.events = []
    for event in events:
        turn.take(event)
    return turn


def test_what_another_gateway_begins_anew_is_void_unless_it_was_heard():
    assert rules(taken(*EVENTS[:5], ANEW, *EVENTS)) == set()
    assert rules(taken(*EVENTS[:6], ANEW, *EVENTS)) == {"order"}


def test_stages_that_do_not_add_up_are_found():
    turn = seen()
    turn.report = TurnReport(turn_id="t", outcome="completed", ttfa_ms=100.0)
    assert rules(turn) == {"attribution"}


def test_only_what_certainly_grows_grows():
    flat = [(float(second), 100.0 + second % 7) for second in range(600)]
    rising = [(second, value + second / 60) for second, value in flat]
    still, moved = trend(flat), trend(rising)
    assert still is not None
    assert moved is not None
    assert still.low <= 0 <= still.high
    assert moved.low <= 60 <= moved.high
    assert grows(moved, most=10)
    assert not grows(moved, most=70)
    assert not grows(still, most=0)
    assert trend(flat[:5]) is None


def test_a_reply_that_broke_off_is_gone_on_with():
    prompt = "What is it, number 7?"
    whole = reply_to(prompt)
    assert whole.startswith("Number 7 it is.")
    question = {"role": "user", "content": prompt}
    earlier = [{"role": "user", "content": "number 1?"}, {"role": "assistant", "content": "One."}]
    said, rest = whole[:20], whole[20:]
    continued = [{"role": "assistant", "content": said}, {"role": "user", "content": INSTRUCTION}]

    def text(*messages: dict[str, str]) -> str:
        return "".join(answer(Request("POST", "/", {}, {"messages": list(messages)})).tokens)

    assert text(*earlier, question) == whole
    assert text(*earlier, question, *continued) == rest
