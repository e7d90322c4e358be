"""The LLM service in the process of the test, as its own `__main__` builds it, and a caller of it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.llm.__main__ import build
from services.llm.hosted import HostedLlm
from services.llm.servicer import FULL_NAME
from services.llm.settings import LlmSettings
from tests.support.measured import Measured
from tests.support.openai_server import OpenAiServer
from voicemesh.common.v1 import common_pb2
from voicemesh.llm.v1 import llm_pb2, llm_pb2_grpc
from voicemesh.runtime.clock import SystemClock
from voicemesh.runtime.health import Readiness
from voicemesh.runtime.server import Runtime, make_server
from voicemesh.runtime.telemetry import Telemetry

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
METADATA = (("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01"),)
_STATUS: Any = rpc_status
"""Untyped: its stubs do not know its `aio`."""
GUARD_S = 30.0
"""Only a test that fails waits as long."""
PROMPT = "Why is the sky blue?"


@dataclass
class Failure:
    """How a call failed."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    fields: list[str] = field(default_factory=list)
    retry_ms: int | None = None


class Caller:
    """One call of Generate."""

    def __init__(self, stub: llm_pb2_grpc.LlmServiceStub, *, timeout_s: float | None = None) -> None:
        generate: Any = stub.Generate
        self._call = generate(metadata=METADATA, timeout=timeout_s)
        self.responses: list[llm_pb2.GenerateResponse] = []

    async def say(self, **event: Any) -> None:
        await self._call.write(llm_pb2.GenerateRequest(**event))

    async def start(self, *texts: str, **fields: Any) -> None:
        await self.say(start=start(*texts, **fields))

    async def half_close(self) -> None:
        await self._call.done_writing()

    async def next(self) -> llm_pb2.GenerateResponse:
        response: llm_pb2.GenerateResponse = await self._call.read()
        assert isinstance(response, llm_pb2.GenerateResponse), "the call ended"
        self.responses.append(response)
        return response

    async def until(self, kind: str) -> llm_pb2.GenerateResponse:
        while (response := await self.next()).WhichOneof("event") != kind:
            pass
        return response

    async def to_the_end(self) -> Self:
        while isinstance(response := await self._call.read(), llm_pb2.GenerateResponse):
            self.responses.append(response)
        return self

    async def failure(self) -> Failure:
        """Read to the end, which must be a failure."""
        try:
            await self.to_the_end()
        except grpc.aio.AioRpcError as error:
            failure = Failure(error.code(), error.details() or "")
            status = await _STATUS.aio.from_call(self._call)
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            retry = error_details_pb2.RetryInfo()
            for detail in status.details if status else ():
                if detail.Unpack(info):
                    failure.reason = info.reason
                elif detail.Unpack(bad):
                    failure.fields = [violation.field for violation in bad.field_violations]
                elif detail.Unpack(retry):
                    failure.retry_ms = retry.retry_delay.ToMilliseconds()
            return failure
        raise AssertionError("the call did not fail")

    def cancel(self) -> None:
        self._call.cancel()

    async def ended(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await self._call.code()

    @property
    def kinds(self) -> list[str]:
        """The kinds of the responses, repetitions left out."""
        kinds = [str(response.WhichOneof("event")) for response in self.responses]
        return [kind for position, kind in enumerate(kinds) if position == 0 or kinds[position - 1] != kind]

    @property
    def text(self) -> str:
        return "".join(response.delta.text for response in self.responses)

    @property
    def finished(self) -> llm_pb2.GenerateFinished:
        assert self.responses[-1].WhichOneof("event") == "finished"
        return self.responses[-1].finished


class House:
    """The service, its channel, and the spans that it made."""

    def __init__(self, settings: LlmSettings, target: str) -> None:
        self._exporter = InMemorySpanExporter()
        tracing = TracerProvider(shutdown_on_exit=False)
        tracing.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.readiness = Readiness(FULL_NAME)
        self.measured = Measured()
        self.runtime = Runtime(
            "llm", self.readiness, Telemetry("llm", tracing), SystemClock(), self.measured.metrics
        )
        self.hosted: HostedLlm = build(settings, self.runtime)
        self._server = make_server()
        self.hosted.register(self._server)
        self._server.add_insecure_port(target)
        self._channel = grpc.aio.insecure_channel(target)
        self.stub = llm_pb2_grpc.LlmServiceStub(self._channel)
        self._calls: list[Caller] = []

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for call in self._calls:
            call.cancel()
            await call.ended()
        await self._channel.close(None)
        await self._server.stop(None)
        await self.runtime.sessions.join(timeout_s=5)
        await self.hosted.close()
        self.measured.close()

    def call(self, *, timeout_s: float | None = None) -> Caller:
        call = Caller(self.stub, timeout_s=timeout_s)
        self._calls.append(call)
        return call

    async def ask(self, *texts: str, **fields: Any) -> Caller:
        """Make one call from its start to its end."""
        call = self.call()
        await call.start(*texts, **fields)
        await call.half_close()
        return await call.to_the_end()

    async def fails(self, *texts: str, **fields: Any) -> Failure:
        call = self.call()
        await call.start(*texts, **fields)
        return await call.failure()

    async def idle(self) -> None:
        """Wait until all work is over."""
        async with asyncio.timeout(GUARD_S):
            while len(self.runtime.sessions):  # noqa: ASYNC110 - the registry has no event for it
                await asyncio.sleep(0.005)

    async def spans(self) -> dict[str, Any]:
        """Wait until all work is over; return its spans by name."""
        return {span.name: span for span in await self.all_spans()}

    async def all_spans(self) -> list[Any]:
        """Wait until all work is over; return its spans."""
        await self.idle()
        return list(self._exporter.get_finished_spans())


def message(role: str, *parts: Any) -> common_pb2.Message:
    return common_pb2.Message(
        role=common_pb2.Role.Value(f"ROLE_{role.upper()}"),
        parts=[common_pb2.ContentPart(text=part) if isinstance(part, str) else part for part in parts],
    )


def start(*texts: str, **fields: Any) -> llm_pb2.GenerateStart:
    messages = [message("user", text) for text in texts or (PROMPT,)]
    return llm_pb2.GenerateStart(**({"turn_id": "turn-1", "messages": messages} | fields))


def settings(**variables: Any) -> LlmSettings:
    """Settings for tests: fast, and with time enough for a busy machine."""
    fast = {"rehearsal_ttft_ms": 1, "rehearsal_tokens_per_s": 10_000, "llm_total_timeout_s": 60}
    return LlmSettings(**(fast | variables))


PATIENT: dict[str, Any] = {
    "connect_timeout_s": GUARD_S,
    "first_token_timeout_s": GUARD_S,
    "idle_timeout_s": GUARD_S,
}
"""Of a provider that is not to fail: its first question loads the client, which may take seconds."""


def _patient_settings() -> dict[str, Any]:
    return {f"llm_{name}": value for name, value in PATIENT.items()}


@contextlib.asynccontextmanager
async def openai_house(target: str, **variables: Any) -> AsyncIterator[tuple[House, OpenAiServer]]:
    """Start the service in front of a scripted provider."""
    async with (
        OpenAiServer() as server,
        House(
            settings(**{"OPENAI_BASE_URL": server.base_url, **_patient_settings(), **variables}), target
        ) as house,
    ):
        yield house, server


AnyHouse = AsyncGenerator[House, None]
