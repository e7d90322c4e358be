"""What `run()` adds around the calls of any service, seen from outside."""

import pathlib
import re
import tempfile
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.contract.tiny_process import (
    EOF,
    NAME,
    SERVING,
    TRACEPARENT,
    Tiny,
    answer,
    begin,
    detail,
    end,
    failure,
    let_go,
    serving,
)
from voicemesh.runtime.channels import remaining_s
from voicemesh.runtime.health import ACCEPTS, ALIVE


@pytest.fixture(scope="module")
def tiny() -> Iterator[Tiny]:
    """Run one process for all tests that need nothing special of it."""
    with (
        tempfile.TemporaryDirectory(prefix="vm-") as folder,
        Tiny(
            pathlib.Path(folder),
            VOICEMESH_TINY_KEY="hunter2",
            VOICEMESH_TINY_REDIS_URL="redis://me:hunter2@localhost/0",
            VOICEMESH_MAX_MESSAGE_BYTES="65536",
        ) as process,
    ):
        yield process


@pytest.fixture
async def channel(tiny: Tiny) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to the running process."""
    async with tiny.channel() as opened:
        await serving(opened)
        yield opened


async def test_health_is_told_for_the_process_and_for_the_service_by_name(channel: grpc.aio.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", NAME):
        assert (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status == SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert set((await stub.List(health_pb2.HealthListRequest())).statuses) == {"", NAME, ACCEPTS, ALIVE}


async def test_reflection_lists_the_service(channel: grpc.aio.Channel) -> None:
    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = {service.name for service in (await call.read()).list_services_response.service}
    assert listed == {NAME, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=NAME))
    assert (await call.read()).file_descriptor_response.file_descriptor_proto
    await end(call)


async def test_settings_are_printed_at_the_start_with_secrets_hidden(
    tiny: Tiny, channel: grpc.aio.Channel
) -> None:
    (line,) = (line for line in tiny.logged() if line["event"] == "settings")
    assert line["VOICEMESH_TINY_KEY"] == "set"
    assert line["VOICEMESH_TINY_REDIS_URL"] == "redis://***@localhost/0"
    assert line["VOICEMESH_TINY_LIMIT"] == 3
    assert line["service"] == "tiny"
    assert "hunter2" not in tiny.text()


@pytest.mark.parametrize("command", ["crash", "crash-later"])
async def test_an_unexpected_failure_tells_its_trace_id_and_the_log_the_rest(
    tiny: Tiny, channel: grpc.aio.Channel, command: str
) -> None:
    trace_id = TRACEPARENT.split("-")[1][:-1] + str(len(command) % 10)
    traceparent = f"00-{trace_id}-b7ad6b7169203331-01"
    status = await failure(await begin(channel, command, metadata=(("traceparent", traceparent),)))
    assert (status.code, status.message) == (13, f"internal error; trace id {trace_id}")
    info = detail(status, error_details_pb2.ErrorInfo())
    assert (info.reason, info.domain, info.metadata["trace_id"]) == ("INTERNAL", "voicemesh", trace_id)
    assert b"hidden detail" not in status.SerializeToString()
    (line,) = (line for line in tiny.logged() if line.get("trace_id") == trace_id)
    assert (line["level"], line["method"]) == ("error", f"/{NAME}/Chunk")
    assert "hidden detail" in line["exception"]
    assert "tiny_service.py" in line["exception"]


async def test_a_caller_without_a_trace_gets_an_id_to_ask_for(tiny: Tiny, channel: grpc.aio.Channel) -> None:
    status = await failure(await begin(channel, "crash"))
    found = re.fullmatch("internal error; trace id ([0-9a-f]{32})", status.message)
    assert found
    assert any(line.get("trace_id") == found[1] for line in tiny.logged())


async def test_a_bad_field_is_named(channel: grpc.aio.Channel) -> None:
    status = await failure(await begin(channel, "invalid", metadata=(("traceparent", TRACEPARENT),)))
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert status.message == "configure.turn_id: must be at most 3 characters, is 7"
    info = detail(status, error_details_pb2.ErrorInfo())
    assert (info.reason, info.metadata["trace_id"]) == ("INVALID_FIELD", TRACEPARENT.split("-")[1])
    (violation,) = detail(status, error_details_pb2.BadRequest()).field_violations
    assert violation.field == "configure.turn_id"


async def test_too_much_load_says_when_to_come_back(channel: grpc.aio.Channel) -> None:
    status = await failure(await begin(channel, "full"))
    assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert detail(status, error_details_pb2.ErrorInfo()).reason == "TOO_MANY_TURNS"
    assert detail(status, error_details_pb2.RetryInfo()).retry_delay.ToMilliseconds() == 1500
    other = await failure(await begin(channel, "queue"))
    assert detail(other, error_details_pb2.ErrorInfo()).reason == "QUEUE_FULL"


async def test_a_status_that_a_handler_gives_itself_is_kept(tiny: Tiny, channel: grpc.aio.Channel) -> None:
    status = await failure(await begin(channel, "abort"))
    assert (status.code, status.message) == (grpc.StatusCode.FAILED_PRECONDITION.value[0], "by hand")
    assert "abort" not in " ".join(line["event"] for line in tiny.logged()).lower()


async def test_a_message_over_the_limit_ends_its_call_and_no_other(channel: grpc.aio.Channel) -> None:
    held = await begin(channel, "hold")
    assert await answer(held) == "holding"
    status = await failure(await begin(channel, "x" * 70_000))
    assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert await let_go(held) == "let go"
    await end(held)


async def test_a_handler_knows_the_deadline_of_its_caller(channel: grpc.aio.Channel) -> None:
    call = await begin(channel, "time", timeout=500)
    assert 400 < float(await answer(call)) < 510  # gRPC rounds up
    assert await call.read() is EOF
    call = await begin(channel, "time")
    assert await answer(call) == "None"
    assert await call.read() is EOF


async def test_a_deadline_ends_the_call_on_both_sides(tiny: Tiny, channel: grpc.aio.Channel) -> None:
    ended = tiny.events().count("handler of hold ended")
    status = await failure(await begin(channel, "hold", timeout=0.3))
    assert status.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    await tiny.event("handler of hold ended", ended + 1)


async def test_a_caller_that_goes_away_ends_the_handler_and_its_tasks(
    tiny: Tiny, channel: grpc.aio.Channel
) -> None:
    # The handler waits in its `yield`: nobody reads the flood.
    call = await begin(channel, "flood")
    assert await answer(call)
    await end(call)
    await tiny.event("handler of flood ended")
    held = await begin(channel, "hold")
    await answer(held)
    tasks = tiny.events().count("held task ended")
    await end(held)
    await tiny.event("held task ended", tasks + 1)
    assert not [line for line in tiny.logged() if line["event"] == "task failed"]


class _Context:
    """A call with so much time left."""

    def __init__(self, left_s: float | None) -> None:
        self._left_s = left_s

    def time_remaining(self) -> float | None:
        return self._left_s


@pytest.mark.parametrize(
    ("left_s", "at_most_s", "expected"),
    [
        (None, None, None),
        (None, 5.0, 5.0),
        (3.0, None, 3.0),
        (3.0, 5.0, 3.0),
        (9.0, 5.0, 5.0),
        (-1.0, 5.0, 0.0),
    ],
)
def test_a_deadline_is_passed_on(
    left_s: float | None, at_most_s: float | None, expected: float | None
) -> None:
    assert remaining_s(_Context(left_s), at_most_s) == expected
