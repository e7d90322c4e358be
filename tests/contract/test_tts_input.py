"""What the TTS service says to wrong messages."""

import asyncio
from typing import Any, cast

import grpc
import pytest

from tests.contract.tts_harness import (
    CONFIGURE,
    ESPEAK,
    LONG,
    TEXT,
    Caller,
    chunk_event,
    field_of,
    say,
    serving,
    sim,
)
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.channels import open_channel
from voicemesh.runtime.status import from_rpc_error, reason_of
from voicemesh.tts.v1 import tts_pb2

BAD = {
    "chunk first": ([chunk_event()], "OUT_OF_ORDER", ""),
    "configure twice": ([CONFIGURE, CONFIGURE], "OUT_OF_ORDER", ""),
    "no event": ([CONFIGURE, {}], "OUT_OF_ORDER", ""),
    "index falls": ([CONFIGURE, chunk_event(2), chunk_event(1)], "OUT_OF_ORDER", ""),
    "index again": ([CONFIGURE, chunk_event(2), chunk_event(2)], "OUT_OF_ORDER", ""),
    "chunk after cancel": (
        [CONFIGURE, chunk_event(0, LONG), {"cancel_turn": tts_pb2.CancelTurn()}, chunk_event(3)],
        "OUT_OF_ORDER",
        "",
    ),
    "empty text": ([CONFIGURE, chunk_event(0, "")], "INVALID_FIELD", "chunk.text"),
    "1 MB": ([CONFIGURE, chunk_event(0, "word " * 200_000)], "INVALID_FIELD", "chunk.text"),
    "unknown cancel": (
        [CONFIGURE, {"cancel_chunk": tts_pb2.CancelChunk(chunk_index=1)}],
        "INVALID_FIELD",
        "cancel_chunk.chunk_index",
    ),
    "speed": (
        [{"configure": tts_pb2.SynthesizeConfigure(speed=9)}],
        "INVALID_FIELD",
        "configure.speed",
    ),
    "encoding": (
        [
            {
                "configure": tts_pb2.SynthesizeConfigure(
                    format=common_pb2.AudioFormat(encoding=common_pb2.AUDIO_ENCODING_FLAC)
                )
            }
        ],
        "INVALID_FIELD",
        "configure.format.encoding",
    ),
    "encoding that is not there": (
        [{"configure": tts_pb2.SynthesizeConfigure(format=common_pb2.AudioFormat(encoding=cast(Any, 77)))}],
        "INVALID_FIELD",
        "configure.format.encoding",
    ),
    "rate": (
        [{"configure": tts_pb2.SynthesizeConfigure(format=common_pb2.AudioFormat(sample_rate_hz=8001))}],
        "INVALID_FIELD",
        "configure.format.sample_rate_hz",
    ),
    "channels": (
        [{"configure": tts_pb2.SynthesizeConfigure(format=common_pb2.AudioFormat(channels=2))}],
        "INVALID_FIELD",
        "configure.format.channels",
    ),
    "voice": ([{"configure": tts_pb2.SynthesizeConfigure(voice="espeak/fr-ca")}], "UNKNOWN_VOICE", ""),
}


async def test_wrong_messages_end_their_stream_with_a_reason_and_no_other(tmp_path):
    async with serving(tmp_path, sim()) as service, Caller(service) as bystander:
        await bystander.configure()
        await bystander.ask(0, TEXT)
        await bystander.frames(1)
        for name, (events, reason, at_fault) in BAD.items():
            async with Caller(service) as caller:
                for event in events:
                    try:
                        await caller.send(**event)
                    except (asyncio.InvalidStateError, grpc.aio.AioRpcError, grpc.aio.UsageError):
                        break  # it has failed already
                status = await caller.error()
                assert reason_of(status) == reason, name
                assert field_of(status) == at_fault, name
                if reason == "UNKNOWN_VOICE":
                    assert "ListVoices" in status.message
        assert (await bystander.rest())[0].end.total_samples > 0
        await service.until(lambda stats: stats.active_leases == 0)


async def test_half_a_character_is_refused_before_it_is_a_text(tmp_path):
    # No stub writes it: a text field of one surrogate, as bytes.
    chunk = tts_pb2.SynthesizeRequest(chunk=tts_pb2.SynthesizeChunk(chunk_index=0, text="abc"))
    broken = chunk.SerializeToString().replace(b"abc", b"\xed\xa0\x80")
    async with serving(tmp_path, sim()) as service, open_channel(f"unix:{tmp_path}/tts.sock") as opened:
        channel: Any = opened  # the stubs want serialisers, and requests that are there already
        call = channel.stream_stream("/voicemesh.tts.v1.TtsService/Synthesize")()
        await call.write(tts_pb2.SynthesizeRequest(**CONFIGURE).SerializeToString())
        await call.write(broken)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
        assert_no_message(refused.value)
        assert (await say(service, TEXT)).end.total_samples > 0


@pytest.mark.parametrize("method", ["ListVoices", "SynthesizeBatch", "GetPoolStats"])
async def test_bytes_that_are_no_message_are_bad_input_of_a_single_request_too(tmp_path, method):
    async with serving(tmp_path, sim()), open_channel(f"unix:{tmp_path}/tts.sock") as opened:
        channel: Any = opened
        path = f"/voicemesh.tts.v1.TtsService/{method}"
        if method == "SynthesizeBatch":
            answer = channel.unary_stream(path)(b"\x0a\xff").read()
        else:
            answer = channel.unary_unary(path)(b"\x0a\xff")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await answer
        assert_no_message(refused.value)


def assert_no_message(error: grpc.aio.AioRpcError) -> None:
    status = from_rpc_error(error, "tts").status
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (reason_of(status), field_of(status)) == ("INVALID_FIELD", "request")


async def test_text_that_engines_might_obey_is_only_spoken(tmp_path):
    async with serving(tmp_path, ESPEAK) as service:
        plain = await say(service, "fast   now")
        for text in ("fast \x01\x02 now", "fast \x00\x9b now"):
            heard = await say(service, text)
            assert len(heard.pcm) == len(plain.pcm)
        assert (await service.stats()).replaced_replicas == 0
