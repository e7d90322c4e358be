"""A text that is spoken: the call behind a turn of `VoiceMesh.say`."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from voicemesh.client.conversation import Metadata, end_call
from voicemesh.client.errors import VoiceMeshError, from_rpc_error, lost
from voicemesh.client.gateways import Gateways, is_lost
from voicemesh.client.observer import Clock, Observer
from voicemesh.client.turn import Turn
from voicemesh.gateway.v1 import gateway_pb2


class Spoken:
    """The call behind a turn of `VoiceMesh.say`; another gateway's, where one is lost before the first frame.

    Attributes:
        turn: The turn.

    """

    def __init__(
        self,
        gateways: Gateways,
        request: gateway_pb2.SpeakRequest,
        metadata: Metadata,
        clock: Clock,
        on_close: Callable[[Any], None],
    ) -> None:
        observer = Observer(clock, text=request.text)
        self.turn = Turn(
            request.turn_id, observer, start=self._start, close=self.aclose, pace=lambda: request.speech
        )
        self._gateways = gateways
        self._gateway = gateways.present
        self._request = request
        self._metadata = metadata
        self._on_close = on_close
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None

    async def _start(self) -> None:
        if self._call is None:
            self.turn.observer.begin()
            self._gateway = self._gateways.present
            self._ask(())
            self._reader = asyncio.create_task(self._read(), name="voicemesh-speak")

    def _ask(self, further: Metadata) -> None:
        self._call = self._gateway.stub.Speak(self._request, metadata=self._metadata + further)

    async def aclose(self) -> None:
        """End the call."""
        self._on_close(self)
        if self._reader is not None:
            if self.turn.report is None:
                self._reader.cancel()
            # After its last message the call ends by itself.
            await asyncio.gather(self._reader, return_exceptions=True)
            await end_call(self._call)

    async def _read(self) -> None:
        attempts = self._gateways.attempts()
        error = lost(self._gateway.address)
        try:
            while True:
                error = await self._read_call()
                if self.turn.report is not None:
                    return
                heard, gateway = self.turn.observer.heard, None
                if attempts.again(error, heard=heard):
                    gateway = await self._gateways.another(self._gateway)
                elif is_lost(error):
                    self._gateways.lost(self._gateway)
                if gateway is None:
                    error = await self._gateway.explained(error, heard=heard)
                    return
                await self.turn.anew(self._gateway.address, gateway.address)
                self._gateway = gateway
                self._ask(attempts.metadata())
        finally:
            await self.turn.lost(error)

    async def _read_call(self) -> VoiceMeshError:
        """Read the present call to its end; return what that is to a turn that has none yet."""
        address = self._gateway.address
        try:
            async for message in self._call:
                if message.WhichOneof("event") == "turn_completed":
                    await self.turn.completed(message.turn_completed.report)
                else:
                    await self.turn.deliver(message)
        except grpc.aio.AioRpcError as failure:
            return from_rpc_error(failure, address)
        return lost(address)
