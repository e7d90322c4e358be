"""Spans of the TTS service."""

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from services.tts.servicer import SERVICE
from tests.contract.tts_harness import ESPEAK, TEXT, Caller, eventually, serving, sim
from voicemesh.runtime import trace_names as names


async def test_a_turn_has_one_span_and_each_chunk_one_below_it(tmp_path):
    async with serving(tmp_path, sim(2, slots=1, failure_rate=1), ESPEAK, max_attempts=1) as service:
        trace_id, parent_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        metadata = (("traceparent", f"00-{trace_id}-{parent_id}-01"),)
        async with Caller(service, metadata) as caller:
            await caller.configure(voice="espeak/de")
            await caller.ask(0, TEXT)
            await caller.ask(1, "Zwei.")
            await caller.rest()
        async with Caller(service, metadata) as caller:
            await caller.configure(voice="sim")
            await caller.ask(4, TEXT)
            await caller.rest()

        async def ended() -> bool:
            return len(service.spans()) == 7

        await eventually(ended)
        calls = [span for span in service.spans() if span.name == f"{SERVICE}/Synthesize"]
        assert [telemetry_parent(span) for span in calls] == [parent_id, parent_id]
        assert attributes(calls[0])["voicemesh.turn_id"] == "turn-1"
        assert attributes(calls[0])["voicemesh.voice"] == "espeak/de"
        chunks = [span for span in service.spans() if span.name == "text_to_speech espeak"]
        assert [attributes(span)["voicemesh.chunk_index"] for span in chunks] == [0, 1]
        for span in chunks:
            found = attributes(span)
            assert telemetry_parent(span) == f"{calls[0].context.span_id:016x}"
            assert found["gen_ai.operation.name"] == "text_to_speech"
            assert found["gen_ai.output.type"] == "speech"
            assert found["gen_ai.request.model"] == "espeak/de"
            assert found["voicemesh.tts.replica"] == "espeak-0"
            assert found["voicemesh.tts.queue_ms"] >= 0
            assert found["voicemesh.tts.synthesis_ms"] > 0
            assert found["voicemesh.audio_ms"] > 100
            assert span.status.is_ok or span.status.is_unset
        (failed,) = [span for span in service.spans() if span.name == "text_to_speech simulated"]
        assert not failed.status.is_ok
        assert attributes(failed)["error.type"] == "NO_ENGINE"
        assert [event.name for event in failed.events] == [
            names.REPLICA_LOST,
            names.RESUMED,
            names.REPLICA_LOST,
            names.ERROR,
        ]
        leases = [span for span in service.spans() if span.name == f"{names.LEASE_SPAN} simulated"]
        assert len(leases) == 2  # those of a chunk that one replica spoke say nothing that it does not
        assert {telemetry_parent(span) for span in leases} == {f"{failed.context.span_id:016x}"}
        assert all(f"{span.context.trace_id:032x}" == trace_id for span in service.spans())
        assert not any("fox" in str(span.to_json()) for span in service.spans())


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def telemetry_parent(span: ReadableSpan) -> str:
    return f"{span.parent.span_id:016x}" if span.parent is not None else ""
