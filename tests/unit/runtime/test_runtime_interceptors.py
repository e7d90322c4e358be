"""What becomes of a call whose peer is gone."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from voicemesh.runtime.interceptors import ErrorInterceptor


class Gone:
    """The context of a call whose peer went away while its first message was on its way."""

    async def write(self, message: object) -> None:
        raise grpc.aio.InternalError("Failed grpc_call_start_batch")


async def test_a_call_whose_peer_is_gone_ends_as_cancelled_so_that_no_status_is_tried() -> None:
    ended = asyncio.Event()

    async def responses(request: object, context: object) -> AsyncIterator[bytes]:
        try:
            yield b"never read"
        finally:
            ended.set()

    async def continuation(details: object) -> Any:
        return grpc.stream_stream_rpc_method_handler(responses, lambda wire: wire)

    details: Any = SimpleNamespace(method="/voicemesh.test/Call")
    guarded = await ErrorInterceptor().intercept_service(continuation, details)
    with pytest.raises(asyncio.CancelledError):
        await guarded.stream_stream(None, Gone())
    assert ended.is_set()
