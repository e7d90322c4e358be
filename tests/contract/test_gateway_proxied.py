"""A service behind a proxy, which knows who of its processes accepts calls: the gateway leaves that to it."""

import pathlib
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc

from gateway.peers import Peers
from gateway.settings import GatewaySettings
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.clock import SystemClock
from voicemesh.runtime.health import HealthServicer, Readiness
from voicemesh.runtime.server import make_server
from voicemesh.tts.v1 import tts_pb2

ANSWER_S = 30.0


async def list_voices(_request: Any, _context: Any) -> tts_pb2.ListVoicesResponse:
    """Have one voice."""
    return tts_pb2.ListVoicesResponse(voices=[common_pb2.Voice(name="ada")])


VOICES: Any = grpc.method_handlers_generic_handler(
    "voicemesh.tts.v1.TtsService",
    {
        "ListVoices": grpc.unary_unary_rpc_method_handler(
            list_voices,
            request_deserializer=tts_pb2.ListVoicesRequest.FromString,
            response_serializer=tts_pb2.ListVoicesResponse.SerializeToString,
        )
    },
)


@pytest.mark.parametrize("proxied", [(), ("tts",)])
async def test_what_is_behind_a_proxy_is_asked_though_it_does_not_say_that_it_accepts(
    socket_folder: pathlib.Path, proxied: tuple[str, ...]
) -> None:
    address = f"unix:{socket_folder}/tts.sock"
    server = make_server()
    server.add_generic_rpc_handlers([VOICES])
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(Readiness("tts")), server)
    server.add_insecure_port(address)
    await server.start()
    nowhere = f"unix:{socket_folder}/nowhere.sock"
    settings = GatewaySettings.model_validate(
        {
            **{f"{name}_addr": nowhere for name in ("llm", "chunker", "cache")},
            "tts_addr": address,
            "gateway_proxied": proxied,
        }
    )
    peers = Peers(settings, Readiness("gateway"), SystemClock())
    asked = peers.tts.ListVoices(tts_pb2.ListVoicesRequest(), timeout=ANSWER_S)
    try:
        if proxied:
            assert [voice.name for voice in (await asked).voices] == ["ada"]
        else:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await asked
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        await peers.close()
        await server.stop(None)
