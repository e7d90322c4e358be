"""Makes the calls of plans, and judges how they ended."""

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from tests.fuzz.messages import class_of
from tests.fuzz.plans import LEASE, Plan
from voicemesh.call_end import CallEnd
from voicemesh.runtime.status import known_reasons, reason_of

_LEASE_S: Final = 0.2
"""How long a caller waits for a lease that it wants to use."""
_LISTEN_S: Final = 0.5
"""How long a caller that will cancel waits for the responses that it wants to read first."""
_SLACK_S: Final = 15.0
"""How much later than a call's deadline a busy machine may tell of its end."""
_UNREAD: Final = "Internal error from Core"
"""What grpc.aio says as long as the status is not there."""
_MOST_BYTES: Final = 4 * 1024 * 1024
_UNTYPED: Final = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS", "UNIMPLEMENTED"})
_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}
REASONS: Final = known_reasons() - {"INTERNAL"}
_BESIDE: Final = frozenset({"voicemesh-tenant", "request", "event", "operation"})
"""What is at fault where it is no field: metadata, the whole message, a oneof."""
_FAILURES: Final = {"turn_failed": "status", "failed": "status", "error": ""}
"""Members of responses that tell of a failure, and where in them its status is."""


@dataclass
class Tally:
    """What came of many calls."""

    calls: int = 0
    messages: int = 0
    responses: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    """By code, with the reason where there is one."""
    faults: list[str] = field(default_factory=list)
    """What was wrong, in words, with the call."""


async def perform(channel: Any, plan: Plan, tally: Tally, name: str = "") -> list[str]:
    """Make the call of a plan; return what was wrong with how it ended. `name` finds it again."""
    call = _Performance(plan)
    faults = await call.run(channel)
    tally.calls += 1
    tally.messages += call.sent
    tally.responses += call.received
    tally.ends[call.end] += 1
    faults = [f"{fault} [{name}: {plan}]" for fault in faults]
    tally.faults += faults
    return faults


class _Performance:
    """One call."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._messages = plan.messages or (b"",)
        self._response = class_of(plan.method.output_type)
        self._leases: list[str] = []
        self._news = asyncio.Event()
        self._sent_all = asyncio.Event()
        self._over = asyncio.Event()
        self._faults: list[str] = []
        self._last = ""
        self._turns: set[str] = set()
        self.sent = self.received = 0
        self.end = ""

    async def run(self, channel: Any) -> list[str]:
        """Make it, wait for its end, and return what was wrong."""
        plan, began_s = self._plan, time.monotonic()
        call = self._open(channel)
        call_end = CallEnd(call)
        reading = asyncio.ensure_future(self._read(call))
        try:
            async with asyncio.timeout(plan.timeout_s + _SLACK_S):
                if plan.end == "half-close":
                    await asyncio.wait({reading})
                else:
                    await self._until_cancel(reading)
                    call.cancel()
                code, details, trailers = await _end_of(call, call_end)
        except TimeoutError:
            self.end = "no end"
            return [*self._faults, f"the call does not end in {time.monotonic() - began_s:.0f} s"]
        finally:
            self._over.set()
            call.cancel()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        self._judge(code, details, trailers)
        return self._faults

    # ------------------------------------------------------------ what is sent

    def _open(self, channel: Any) -> Any:
        plan = self._plan
        kind = ("stream" if plan.method.client_streaming else "unary") + (
            "_stream" if plan.method.server_streaming else "_unary"
        )
        requests = self._requests() if plan.method.client_streaming else self._wire(self._messages[0])
        if not plan.method.client_streaming:
            self.sent = 1
            self._sent_all.set()
        # No serialisers: what is sent may be no message.
        callable_: Any = getattr(channel, kind)(plan.path)
        return callable_(requests, timeout=plan.timeout_s, metadata=plan.metadata or None)

    async def _requests(self) -> AsyncIterator[bytes]:
        for message in self._plan.messages:
            if isinstance(message, Message) and self._wants_lease(message):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LEASE_S):
                        while not self._leases:
                            self._news.clear()
                            await self._news.wait()
            self.sent += 1
            yield self._wire(message)
        self._sent_all.set()
        if self._plan.end != "half-close":
            await self._over.wait()

    def _wire(self, message: Message | bytes) -> bytes:
        if isinstance(message, bytes):
            return message
        if self._leases and self._wants_lease(message):
            part = getattr(message, str(message.WhichOneof("operation")))
            part.lease_id = self._leases[-1]
        return bytes(message.SerializeToString())

    @staticmethod
    def _wants_lease(message: Message) -> bool:
        if "operation" not in message.DESCRIPTOR.oneofs_by_name:
            return False
        event = message.WhichOneof("operation")
        return event is not None and getattr(getattr(message, event), "lease_id", "") == LEASE

    async def _until_cancel(self, reading: "asyncio.Task[None]") -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LISTEN_S):
                await self._sent_all.wait()
                while not reading.done() and self.received < self._plan.read_first:
                    self._news.clear()
                    await self._news.wait()

    # ------------------------------------------------------------ what is read

    async def _read(self, call: Any) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            if not self._plan.method.server_streaming:
                self._take(await call)
            elif self._plan.end == "vanish":
                await call.wait_for_connection()
            else:
                async for wire in call:
                    self._take(wire)
        self._news.set()

    def _take(self, wire: bytes) -> None:
        self.received += 1
        try:
            response = self._response.FromString(wire)
        except DecodeError:
            self._faults.append(f"the response is no {self._response.DESCRIPTOR.name}")
            return
        for oneof in response.DESCRIPTOR.oneofs:
            self._last = response.WhichOneof(oneof.name) or ""
            if self._last in _FAILURES:
                failure = getattr(response, self._last)
                status = failure if not _FAILURES[self._last] else getattr(failure, _FAILURES[self._last])
                self._judge_status(status, f"`{self._last}`")
            part = getattr(response, self._last, None)
            if self._last == "turn_started":
                assert part is not None
                self._turns.add(part.turn_id)
            elif self._last in ("turn_completed", "turn_failed"):
                assert part is not None
                self._turns.discard(part.report.turn_id)
            elif lease_id := getattr(part, "lease_id", ""):
                self._leases.append(lease_id)
        self._news.set()

    # ------------------------------------------------------------ how it ended

    def _judge(self, code: grpc.StatusCode, details: str, trailers: dict[str, Any]) -> None:
        plan, name = self._plan, code.name
        self.end = name
        if code is grpc.StatusCode.OK:
            self._judge_whole()
            return
        wire = trailers.get("grpc-status-details-bin")
        if wire is not None:
            status = status_pb2.Status.FromString(wire)
            self.end = f"{name} {reason_of(status)}"
            self._judge_status(status, "the call")
            return
        given_up = plan.end != "half-close" or plan.hurried
        if plan.end == "vanish" and code is grpc.StatusCode.INTERNAL and details == _UNREAD:
            return  # the status lies behind responses that nobody reads
        if given_up and name in ("CANCELLED", "DEADLINE_EXCEEDED"):
            return
        large = any(not isinstance(one, bytes) and one.ByteSize() > _MOST_BYTES for one in plan.messages)
        if name == "RESOURCE_EXHAUSTED" and large:
            return  # gRPC's own answer
        if name == "DEADLINE_EXCEEDED":
            self._faults.append("the call hangs: it ended by its deadline alone")
        else:
            self._faults.append(f"ends with {name} without ErrorInfo: {details[:200]!r}")

    def _judge_whole(self) -> None:
        """Look whether a call that ended well had said all that it owes."""
        if self._plan.end != "half-close":
            return
        if self._turns:
            self._faults.append(f"{len(self._turns)} turns began and have no end")
        if self._plan.method.name == "Chunk" and self._last != "done":
            self._faults.append(f"ends behind {self._last!r}, not `done`")
        if self._plan.method.name == "Generate" and self._last not in ("ready", "finished"):
            self._faults.append(f"ends behind {self._last!r}, not `finished`")

    def _judge_status(self, status: status_pb2.Status, what: str) -> None:
        code, reason = _CODES.get(status.code, str(status.code)), reason_of(status)
        if code in _UNTYPED or code == "OK" or code not in _CODES.values():
            self._faults.append(f"{what} has code {code}: {status.message[:200]!r}")
        if reason not in REASONS:
            self._faults.append(f"{what} has reason {reason!r}: {status.message[:200]!r}")
        wrong = error_details_pb2.BadRequest()
        for detail in status.details:
            if detail.Unpack(wrong):
                for violation in wrong.field_violations:
                    if not names_field(self._plan.method.input_type, violation.field):
                        self._faults.append(
                            f"{what} names {violation.field!r}, which is no field of a request"
                        )


def names_field(descriptor: Descriptor, path: str) -> bool:
    """Say whether a path leads to a field of a message."""
    if path in _BESIDE:
        return True
    kind: Descriptor | None = descriptor
    for part in re.sub(r"\[[^\]]*\]", "", path).split("."):
        if kind is None:
            return False
        if kind.GetOptions().map_entry:
            return True
        if part in kind.oneofs_by_name:
            return True
        found = kind.fields_by_name.get(part)
        if found is None:
            return False
        kind = found.message_type
    return True


async def _end_of(call: Any, call_end: CallEnd) -> tuple[grpc.StatusCode, str, dict[str, Any]]:
    try:
        code, trailers, details = await call.code(), await call.trailing_metadata(), await call.details()
    except asyncio.CancelledError:
        return grpc.StatusCode.CANCELLED, "", {}
    why = await call_end.why(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details, None))
    if why is None:
        return grpc.StatusCode.OK, "", {}
    told: Any = why.trailing_metadata() or ()
    return why.code(), why.details() or "", dict(told)
