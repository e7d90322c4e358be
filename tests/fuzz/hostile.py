"""Services that say what they like: any messages in any order, bytes that are none, wrong statuses."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from tests.fuzz.messages import Maker, class_of, mutated

_CODES: Final = tuple(code for code in grpc.StatusCode if code is not grpc.StatusCode.OK)
_MANNERS: Final = ("right", "right", "wild", "wild", "random", "broken", "short", "status", "silent")
SILENT_S: Final = 0.3
"""How long a service that says nothing does so."""
_VOCABULARY: Final = {
    "turn_id": ("", "t1"),
    "text": ("Hello.", "One, two.", ""),
    "audio": (b"\1\0" * 441, b"\1\0" * 4410, b"\1", b""),
    "chunk_index": (0, 0, 0, 1),
    "index": (0, 1, 2),
    "sequence": (0, 1),
    "request_id": (1, 2, 3, 4),
    "offset_samples": (0, 441),
    "status.code": (3, 14),
    "text_length": (6, 9),
    "lease_id": ("l1",),
}
PATIENCE_S: Final = 0.6
"""How long a service waits for the next message before it ends the call."""
Answers = Callable[[Message], list[Message]]
"""What a right service answers to a request."""


class HostileServices:
    """Answers the calls of services, each in a manner that `rng` chooses.

    Args:
        rng: Chooses.
        right: What a right service answers, by method; what is not there is answered at random.
        first: What it says before it is asked.

    Attributes:
        lies: False: it answers right.
        calls: How many came.

    """

    def __init__(self, rng: random.Random, right: dict[str, Answers], first: dict[str, Message]) -> None:
        self.rng = rng
        self._right = right
        self._first = first
        self.lies = False
        self.calls = 0

    def handlers(self, service: ServiceDescriptor) -> Any:
        """Return the handlers of a service's methods."""
        return grpc.method_handlers_generic_handler(
            service.full_name, {method.name: self._handler(method) for method in service.methods}
        )

    def _handler(self, method: MethodDescriptor) -> Any:
        kind = ("stream" if method.client_streaming else "unary") + (
            "_stream" if method.server_streaming else "_unary"
        )

        async def stream(requests: Any, context: Any) -> AsyncIterator[bytes]:
            async for wire in self._answers(method, requests, context):
                yield wire

        async def unary(request: Any, context: Any) -> bytes:
            async for wire in self._answers(method, request, context):
                return wire
            return b""

        make = getattr(grpc, f"{kind}_rpc_method_handler")
        # No serialisers: what is answered may be no message.
        return make(stream if method.server_streaming else unary)

    async def _answers(self, method: MethodDescriptor, requests: Any, context: Any) -> AsyncIterator[bytes]:
        self.calls += 1
        rng = random.Random(self.rng.random())
        manner, kind = rng.choice(_MANNERS) if self.lies else "right", class_of(method.output_type)
        maker = Maker(rng, _VOCABULARY)
        if manner == "status":
            details: Any = ()
            if rng.random() < 0.7:
                details = (("grpc-status-details-bin", _status(rng)),)
            context.set_trailing_metadata(details)
            await context.abort(rng.choice(_CODES), "because")
        if manner == "random":
            for _ in range(rng.randrange(12)):
                yield maker.message(kind, 0.3).SerializeToString()
                await asyncio.sleep(0)
            return
        said = 0
        if manner != "silent" and method.name in self._first:
            yield self._first[method.name].SerializeToString()
        async for request in _each(method, requests):
            right = self._right.get(method.name)
            for answer in right(request) if right is not None else [maker.message(kind)]:
                wire = answer.SerializeToString()
                if manner == "silent":
                    await asyncio.sleep(SILENT_S)
                if manner == "wild" and rng.random() < 0.4:
                    wire = maker.message(kind, 0.3).SerializeToString()
                if manner == "broken" and rng.random() < 0.4:
                    wire = mutated(rng, wire)
                yield wire
                said += 1
                if manner == "short" and said >= rng.randrange(4):
                    return


def _status(rng: random.Random) -> bytes:
    """Return the details of a failure, which may be those of none."""
    info, retry = any_pb2.Any(), any_pb2.Any()
    reason = rng.choice(("INVALID_FIELD", "QUEUE_FULL", "DRAINING", ""))
    info.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="voicemesh"))
    retry.Pack(
        error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=rng.choice((-1, 1, 2**62))))
    )
    if rng.random() < 0.3:
        info.value = mutated(rng, info.value)
    code = rng.choice((0, 3, 8, 14, 77, -1))
    wire: bytes = status_pb2.Status(code=code, message="so", details=[info, retry]).SerializeToString()
    return mutated(rng, wire) if rng.random() < 0.3 else wire


async def _each(method: MethodDescriptor, requests: Any) -> AsyncIterator[Message]:
    kind = class_of(method.input_type)
    if not method.client_streaming:
        yield kind.FromString(requests)
        return
    reading = aiter(requests)
    while True:
        try:
            # Who says nothing for long is another matter: here every call ends.
            async with asyncio.timeout(PATIENCE_S):
                wire = await anext(reading)
            yield kind.FromString(wire)
        except (StopAsyncIteration, TimeoutError, DecodeError):
            return
