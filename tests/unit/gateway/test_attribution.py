from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.attribution import ChunkMarks, TurnMarks, attribute
from voicemesh.common.v1 import common_pb2
from voicemesh.stages import STAGES, Stage

times = st.integers(0, 2_000_000_000)
durations = st.integers(0, 1_000_000)


def marks(kind: type) -> st.SearchStrategy:
    values = {field.name: durations if field.name.endswith("_us") else times for field in fields(kind)}
    return st.builds(kind, **values)


@given(turn=marks(TurnMarks), chunk=marks(ChunkMarks), ttfa_ns=st.integers(0, 4_000_000_000))
def test_whatever_the_marks_the_sum_is_the_time_to_first_audio(
    turn: TurnMarks, chunk: ChunkMarks, ttfa_ns: int
) -> None:
    turn.first_frame_sent_ns = turn.received_ns + ttfa_ns
    found = attribute(turn, chunk)
    assert found.ttfa_us == ttfa_ns // 1000
    assert sum(found.stages.values()) + found.unattributed_us == found.ttfa_us
    assert set(found.stages) == set(STAGES)


@given(steps=st.lists(st.integers(0, 50_000_000), min_size=12, max_size=12), shares=st.data())
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
        connect_us=part_us(llm, text),
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
        synthesis_us=part_us(cached, frame),
    )
    found = attribute(turn, chunk)
    assert found.unattributed_us == 0
    assert found.stages[Stage.LLM_TEXT] == (needed - text) // 1000
    assert found.stages[Stage.TRANSPORT] == pytest.approx(sum(found.hops.values()), abs=len(found.hops))
    assert all(duration >= 0 for duration in found.stages.values())


def test_the_contract_knows_exactly_these_stages_in_this_order() -> None:
    names = [name.removeprefix("STAGE_").lower() for name in common_pb2.Stage.keys()]  # noqa: SIM118
    assert names == ["unspecified", *STAGES]


def test_time_that_no_mark_explains_is_unattributed() -> None:
    found = attribute(TurnMarks(received_ns=0, first_frame_sent_ns=1_000_000_000), ChunkMarks())
    assert found.unattributed_us == found.ttfa_us == 1_000_000
    assert not any(found.stages.values())
