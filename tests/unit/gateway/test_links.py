"""A turn's stream to a service: its span and its call end, whatever happens to the task that reads it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from grpc import StatusCode
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.links import Link
from voicemesh.runtime.sessions import SessionRegistry
from voicemesh.runtime.status import RemoteError
from voicemesh.runtime.telemetry import Telemetry
from voicemesh.runtime.trace_names import RPC_STATUS

METHOD = "voicemesh.cache.v1.CacheService/Exchange"


class Call:
    """As gRPC has it, to a service that answers once and then no more until it is told to end."""

    def __init__(self) -> None:
        self.cancelled = False
        self.answer: str | None = "answer"
        self.over = asyncio.Event()

    def cancel(self) -> None:
        self.cancelled = True
        self.over.set()

    def add_done_callback(self, _: Any) -> None:
        pass

    async def __aiter__(self) -> AsyncIterator[str | None]:
        yield self.answer
        await self.over.wait()
        if self.cancelled:
            raise asyncio.CancelledError


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traces(exporter: InMemorySpanExporter) -> Iterator[Telemetry]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Telemetry("test", provider)
    provider.shutdown()


def make(traces: Telemetry) -> tuple[Link[Any, Any], Call, list[RemoteError | None], list[str]]:
    call, ends, heard = Call(), list[RemoteError | None](), list[str]()
    parent = traces.root_span("turn", "")
    link: Link[Any, Any] = Link("cache", METHOD, lambda *_, **__: call, traces, parent, None)

    async def take(response: str) -> None:
        heard.append(response)

    link.listen(take, ends.append)
    return link, call, ends, heard


def statuses(exporter: InMemorySpanExporter) -> list[Any]:
    return [(span.attributes or {}).get(RPC_STATUS) for span in exporter.get_finished_spans()]


async def test_one_of_a_session_that_was_cancelled_ends_all_the_same(
    traces: Telemetry, exporter: InMemorySpanExporter
) -> None:
    session = SessionRegistry().open()
    session.cancel()
    link, call, _, heard = make(traces)
    link.start(session, "turn")
    assert link.reader is not None
    await asyncio.wait({link.reader})
    await asyncio.sleep(0)  # what is told of a task's end is told behind it
    assert (heard, call.cancelled, link.open) == ([], True, False)
    assert len(statuses(exporter)) == 1


async def test_how_it_ended_is_on_its_span(traces: Telemetry, exporter: InMemorySpanExporter) -> None:
    session = SessionRegistry().open()
    for cancelled in (False, True):
        link, call, ends, _ = make(traces)
        link.start(session, "turn")
        assert link.reader is not None
        await asyncio.sleep(0)
        if cancelled:
            link.cancel()
        else:
            call.over.set()
        await link.reader
        assert ends == [None]
    assert statuses(exporter) == [StatusCode.OK.name, StatusCode.CANCELLED.name]
    assert all(span.status.is_unset for span in exporter.get_finished_spans())


async def test_an_answer_that_is_no_message_ends_it_by_a_typed_failure(traces: Telemetry) -> None:
    link, call, ends, heard = make(traces)
    call.answer = None  # what grpc.aio makes of bytes that cannot be read
    link.start(SessionRegistry().open(), "turn")
    assert link.reader is not None
    await link.reader
    assert (heard, call.cancelled, link.open) == ([], True, False)
    (error,) = ends
    assert error is not None
    assert error.reason == "SERVICE_UNAVAILABLE"
