"""One trace a turn over all five processes; the edges that must exist are data."""

import asyncio
from collections import Counter

import pytest

from tests.support.mesh import running_mesh
from tests.support.otlp import OtlpReceiver, ReceivedSpan, otlp_receiver
from voicemesh.client import SpeechOptions, TurnReport, VoiceMesh

UNPACED = SpeechOptions(max_lead_ms=0, cache=False)
"""Nothing is shared: turns that ask at the same moment would hear what one of them has spoken."""
CONCURRENT = 20

LLM = "voicemesh.llm.v1.LlmService/Generate"
CHUNKER = "voicemesh.chunker.v1.ChunkerService/Chunk"
TTS = "voicemesh.tts.v1.TtsService/Synthesize"
CACHE = "voicemesh.cache.v1.CacheService/Exchange"

# (parent's service, parent's span) → (child's service, child's span): in every turn that the LLM answers.
EDGES = [
    (("voicemesh-gateway", "turn"), ("voicemesh-gateway", LLM)),
    (("voicemesh-gateway", "turn"), ("voicemesh-gateway", CHUNKER)),
    (("voicemesh-gateway", "turn"), ("voicemesh-gateway", TTS)),
    (("voicemesh-gateway", "turn"), ("voicemesh-gateway", CACHE)),
    (("voicemesh-gateway", LLM), ("voicemesh-llm", LLM)),
    (("voicemesh-gateway", CHUNKER), ("voicemesh-chunker", CHUNKER)),
    (("voicemesh-gateway", TTS), ("voicemesh-tts", TTS)),
    (("voicemesh-gateway", CACHE), ("voicemesh-cache", CACHE)),
    (("voicemesh-llm", LLM), ("voicemesh-llm", "chat rehearsal")),
    (("voicemesh-tts", TTS), ("voicemesh-tts", "text_to_speech espeak")),
]


@pytest.fixture(scope="module")
def turns() -> tuple[OtlpReceiver, list[TurnReport]]:
    """Run turns at the same time, stop the mesh so that every span is exported, and return both."""

    async def run() -> tuple[OtlpReceiver, list[TurnReport]]:
        async with otlp_receiver("127.0.0.1:0") as receiver:
            async with (
                running_mesh(
                    OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, OTEL_BSP_SCHEDULE_DELAY="200"
                ) as mesh,
                VoiceMesh(mesh.address("gateway")) as client,
            ):
                questions = [f"Tell me about harbour number {number}." for number in range(CONCURRENT)]
                recordings = await asyncio.gather(
                    *(client.ask(q, speech=UNPACED).collect() for q in questions)
                )
            return receiver, [recording.report for recording in recordings]

    return asyncio.run(run())


def parents(spans: list[ReceivedSpan]) -> dict[str, ReceivedSpan]:
    return {span.span_id: span for span in spans}


@pytest.mark.parametrize(("parent", "child"), EDGES, ids=[f"{p[0]}→{c[0]} {c[1]}" for p, c in EDGES])
def test_every_turn_has_this_edge(
    turns: tuple[OtlpReceiver, list[TurnReport]], parent: tuple[str, str], child: tuple[str, str]
) -> None:
    receiver, reports = turns
    for report in reports:
        spans = receiver.trace(report.trace_id)
        by_id = parents(spans)
        edges = {
            ((p.service, p.name), (span.service, span.name))
            for span in spans
            if (p := by_id.get(span.parent_id)) is not None
        }
        assert (parent, child) in edges, f"turn {report.turn_id} has {sorted(edges)}"


def test_each_turn_has_a_trace_of_its_own_with_one_root_and_no_orphan(
    turns: tuple[OtlpReceiver, list[TurnReport]],
) -> None:
    receiver, reports = turns
    assert len({report.trace_id for report in reports}) == CONCURRENT
    assert {span.trace_id for span in receiver.spans} == {report.trace_id for report in reports}
    for report in reports:
        spans = receiver.trace(report.trace_id)
        by_id = parents(spans)
        roots = [span for span in spans if not span.parent_id]
        assert [root.name for root in roots] == ["turn"]
        assert all(span.parent_id in by_id for span in spans if span.parent_id)


def test_no_span_of_one_turn_is_in_another(turns: tuple[OtlpReceiver, list[TurnReport]]) -> None:
    receiver, reports = turns
    turn_of = {report.trace_id: report.turn_id for report in reports}
    tagged = [span for span in receiver.spans if "voicemesh.turn_id" in span.attributes]
    assert {span.service for span in tagged} >= {"voicemesh-gateway", "voicemesh-chunker", "voicemesh-tts"}
    for span in tagged:
        assert span.attributes["voicemesh.turn_id"] == turn_of[span.trace_id], span.name


def test_a_chunk_that_was_spoken_is_one_span(turns: tuple[OtlpReceiver, list[TurnReport]]) -> None:
    receiver, reports = turns
    for report in reports:
        names = Counter(span.name for span in receiver.trace(report.trace_id))
        spoken = [chunk for chunk in report.chunks if chunk.cache == "miss"]
        assert names["text_to_speech espeak"] == len(spoken)


def test_children_lie_within_their_parents_on_one_machine(
    turns: tuple[OtlpReceiver, list[TurnReport]],
) -> None:
    receiver, _ = turns
    by_id = parents(receiver.spans)
    for span in receiver.spans:
        if span.parent_id and span.name in (LLM, CHUNKER, TTS, CACHE):
            assert span.start_ns >= by_id[span.parent_id].start_ns, span.name


def test_the_root_carries_the_stages_and_none_carries_text(
    turns: tuple[OtlpReceiver, list[TurnReport]],
) -> None:
    receiver, reports = turns
    for report in reports:
        (root,) = [span for span in receiver.trace(report.trace_id) if span.name == "turn"]
        stages = {
            name.removeprefix("voicemesh.stage.").removesuffix("_ms"): value
            for name, value in root.attributes.items()
            if name.startswith("voicemesh.stage.")
        }
        assert set(stages) == {str(stage) for stage in report.stages}
        total = sum(stages.values()) + root.attributes["voicemesh.unattributed_ms"]
        assert total == pytest.approx(root.attributes["voicemesh.ttfa_ms"], abs=0.01)
    for span in receiver.spans:
        for name, value in span.attributes.items():
            assert "harbour" not in str(value), f"{span.name} {name}"
