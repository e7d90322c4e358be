"""What stands in front of every call costs a message next to nothing."""

import pathlib
import sys
from collections import Counter
from types import FrameType
from typing import Any

from voicemesh.chunker.v1 import chunker_pb2, chunker_pb2_grpc
from voicemesh.runtime import calls, interceptors
from voicemesh.runtime.channels import open_channel
from voicemesh.runtime.server import make_server


class Echo(chunker_pb2_grpc.ChunkerServiceServicer):
    async def Chunk(self, request_iterator: Any, context: Any) -> Any:
        async for _ in request_iterator:
            yield chunker_pb2.ChunkResponse()


async def exchange(stub: Any, messages: int) -> None:
    """One message at a time, so that each is one round."""
    call = stub.Chunk()
    for _ in range(messages):
        await call.write(chunker_pb2.ChunkRequest())
        await call.read()
    await call.done_writing()
    await call.code()


async def test_a_message_resumes_one_coroutine_more_than_the_guard_of_errors(
    socket_folder: pathlib.Path,
) -> None:
    """Metrics are off, and it is there all the same: it knows what a call's log lines are about."""
    server = make_server()
    chunker_pb2_grpc.add_ChunkerServiceServicer_to_server(Echo(), server)
    server.add_insecure_port(f"unix:{socket_folder}/s")
    await server.start()
    entered: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            entered[frame.f_code.co_filename] += 1

    async with open_channel(f"unix:{socket_folder}/s") as channel:
        stub: Any = chunker_pb2_grpc.ChunkerServiceStub(channel)
        await exchange(stub, 1)
        sys.setprofile(count)
        try:
            await exchange(stub, 1)
            once = entered.copy()
            await exchange(stub, 201)
        finally:
            sys.setprofile(None)
    await server.stop(None)
    rest = {name: entered[name] - 2 * once[name] for name in once}
    guard = rest[interceptors.__file__]
    assert guard >= 200
    # Resumed as often as the guard, and asked for the next message once each.
    assert rest[calls.__file__] <= guard + 200
