from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.attribution import (
    BEHIND,
    NOBODY,
    PACED,
    ChunkMarks,
    TurnMarks,
    Walk,
    attribute,
    path_of,
    walk_later,
    walk_turn,
)
from voicemesh.common.v1 import common_pb2
from voicemesh.stages import STAGES, Stage

times = st.one_of(st.just(0), st.integers(0, 2_000_000_000))
durations = st.one_of(st.just(0), st.integers(0, 1_000_000))


def marks(kind: type) -> st.SearchStrategy[Any]:
    values = {
        field.name: durations if field.name.endswith("_us") else times
        for field in fields(kind)
        if field.name.endswith(("_us", "_ns"))
    }
    if kind is ChunkMarks:
        values["source"] = st.sampled_from((Stage.TTS_SYNTHESIS, Stage.AUDIO_CACHE))
    return st.builds(kind, **values)


def is_whole(walk: Walk) -> None:
    """Steps are contiguous, none overlaps another, and together they are the whole."""
    at_ns = walk.start_ns
    for step in walk.steps:
        assert step.start_ns == at_ns
        assert step.end_ns > step.start_ns
        assert step.owner in (*STAGES, PACED, BEHIND, NOBODY)
        assert bool(step.hop) == (step.owner == Stage.TRANSPORT)
        at_ns = step.end_ns
    assert at_ns == walk.end_ns


@given(turn=marks(TurnMarks), chunk=marks(ChunkMarks), ttfa_ns=st.integers(0, 4_000_000_000))
def test_whatever_the_marks_the_steps_are_contiguous_and_add_up(
    turn: TurnMarks, chunk: ChunkMarks, ttfa_ns: int
) -> None:
    turn.first_frame_sent_ns = turn.received_ns + ttfa_ns
    is_whole(walk_turn(turn, chunk))
    found = attribute(turn, chunk)
    assert found.ttfa_us == ttfa_ns // 1000
    assert sum(found.stages.values()) + found.unattributed_us == found.ttfa_us
    assert tuple(found.stages) == STAGES
    assert all(duration >= 0 for duration in (*found.stages.values(), found.unattributed_us))
    assert sum(found.hops.values()) == found.stages[Stage.TRANSPORT]


@given(before=marks(ChunkMarks), chunk=marks(ChunkMarks), received_ns=times)
def test_whatever_the_marks_the_path_of_a_later_chunk_adds_up(
    before: ChunkMarks, chunk: ChunkMarks, received_ns: int
) -> None:
    walk = walk_later(received_ns, before, chunk)
    is_whole(walk)
    path = path_of(walk, received_ns)
    assert path.began_us >= 0
    assert sum(path.stages.values()) + path.paced_us + path.unattributed_us == path.length_us
    assert sum(path.hops.values()) == path.stages[Stage.TRANSPORT]


@given(steps=st.lists(st.integers(1000, 50_000_000), min_size=12, max_size=12), shares=st.data())
def test_in_an_ordinary_turn_nothing_is_unattributed_and_hops_are_the_transport(
    steps: list[int], shares: st.DataObject
) -> None:
    at_ns = 1_000
    stamps = []
    for step in steps:
        at_ns += step
        stamps.append(at_ns)
    (admitted, h, ha, r, ra, llm, text, needed, cut, looked, cached, frame) = stamps

    def part_us(start_ns: int, end_ns: int) -> int:
        return shares.draw(st.integers(0, (end_ns - start_ns) // 1000))

    def told_us(start_ns: int, end_ns: int) -> int:
        return max(1, part_us(start_ns, end_ns))

    turn = TurnMarks(
        received_ns=1_000,
        admitted_ns=admitted,
        history_asked_ns=h,
        history_answered_ns=ha,
        history_us=part_us(h, ha),
        reply_asked_ns=r,
        reply_answered_ns=ra,
        reply_us=part_us(r, ra),
        llm_asked_ns=llm,
        first_text_ns=text,
        connect_us=told_us(llm, text),
        first_frame_sent_ns=frame + 500,
    )
    chunk = ChunkMarks(
        needed_ns=needed,
        fed_ns=needed,
        cut_ns=cut,
        held_us=part_us(needed, cut),
        looked_up_ns=looked,
        cache_answered_ns=cached,
        cache_us=part_us(looked, cached),
        asked_ns=cached,
        first_frame_ns=frame,
        synthesis_us=told_us(cached, frame),
    )
    found = attribute(turn, chunk)
    assert found.unattributed_us == found.excess_us == 0
    assert found.stages[Stage.LLM_TEXT] == pytest.approx((needed - text) / 1000, abs=1)
    assert found.stages[Stage.TTS_SYNTHESIS] == pytest.approx(chunk.synthesis_us, abs=1)
    assert found.stages[Stage.TRANSPORT] == sum(found.hops.values())
    assert all(duration >= 0 for duration in found.stages.values())


def test_the_contract_knows_exactly_these_stages_in_this_order() -> None:
    names = [name.removeprefix("STAGE_").lower() for name in common_pb2.Stage.keys()]  # noqa: SIM118
    assert names == ["unspecified", *STAGES]


def test_time_that_no_mark_explains_is_unattributed() -> None:
    found = attribute(TurnMarks(received_ns=0, first_frame_sent_ns=1_000_000_000), ChunkMarks())
    assert found.unattributed_us == found.ttfa_us == 1_000_000
    assert not any(found.stages.values())


def test_the_window_of_a_service_that_says_nothing_is_nobodys() -> None:
    turn = TurnMarks(
        received_ns=0, llm_asked_ns=1, first_text_ns=100_000_000, first_frame_sent_ns=200_000_000
    )
    chunk = ChunkMarks(needed_ns=100_000_000, asked_ns=100_000_000, first_frame_ns=150_000_000)
    found = attribute(turn, chunk)
    assert found.unattributed_us == pytest.approx(150_000, abs=1)
    assert found.stages[Stage.TRANSPORT] == 0
    turn.ttft_us = chunk.queue_us = 1_000
    assert attribute(turn, chunk).unattributed_us == 0


def test_a_service_gets_no_more_than_the_window_and_the_rest_is_told() -> None:
    turn = TurnMarks(
        received_ns=0, llm_asked_ns=1, first_text_ns=100_000_000, first_frame_sent_ns=200_000_000
    )
    turn.connect_us, turn.ttft_us = 80_000, 70_000
    chunk = ChunkMarks(
        needed_ns=100_000_000, asked_ns=100_000_000, first_frame_ns=200_000_000, synthesis_us=90_000
    )
    found = attribute(turn, chunk)
    assert found.stages[Stage.LLM_CONNECT] == 80_000
    assert found.stages[Stage.LLM_TTFT] == pytest.approx(20_000, abs=1)
    assert found.excess_us == pytest.approx(50_000, abs=1)
    assert sum(found.stages.values()) == found.ttfa_us


def test_a_draft_has_no_stage_from_before_it_was_confirmed() -> None:
    turn = TurnMarks(
        received_ns=1_000_000_000,
        admitted_ns=1_000_000,
        llm_asked_ns=2_000_000,
        first_text_ns=1_200_000_000,
        connect_us=900_000,
        ttft_us=290_000,
        first_frame_sent_ns=1_300_000_000,
    )
    chunk = ChunkMarks(
        needed_ns=1_200_000_000, asked_ns=1_200_000_000, first_frame_ns=1_300_000_000, synthesis_us=90_000
    )
    found = attribute(turn, chunk)
    assert found.stages[Stage.ADMISSION] == found.stages[Stage.LLM_CONNECT] == 0
    assert found.stages[Stage.LLM_TTFT] == 192_000  # 998 ms were over; the rest of the window is transport
    assert found.stages[Stage.TRANSPORT] == 18_000
    assert found.excess_us == found.unattributed_us == 0
