"""What `run()` adds around any service, seen from outside: a real process, real signals, real calls."""

import asyncio
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, Self

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from voicemesh.chunker.v1 import chunker_pb2, chunker_pb2_grpc
from voicemesh.runtime.channels import open_channel, remaining_s

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAME = "voicemesh.chunker.v1.ChunkerService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EOF: Final[Any] = vars(grpc.aio)["EOF"]  # the stubs lack it
HANG_S: Final = 30.0
"""A test that waits this long for anything fails."""

Call = Any


class Tiny:
    """A process of `tiny_service`."""

    def __init__(self, folder: pathlib.Path, **variables: str) -> None:
        self.address = variables.setdefault("VOICEMESH_TINY_LISTEN", f"unix:{folder}/tiny.sock")
        self._events = folder / "events"
        self._log = folder / "log"
        self._events.touch()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.contract.tiny_service"],
                cwd=ROOT,
                env={**os.environ, "VOICEMESH_TINY_EVENTS": str(self._events), **variables},
                stdin=subprocess.PIPE,
                stderr=log,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def exit_status(self) -> int:
        """Wait for the end of the process."""
        return await asyncio.to_thread(self.process.wait, HANG_S)

    def text(self) -> str:
        """Return what was written to standard error."""
        return self._log.read_text()

    def logged(self) -> list[dict[str, Any]]:
        """Return the lines that are JSON, which all are but those for people."""
        return [json.loads(line) for line in self.text().splitlines() if line.startswith("{")]

    def events(self) -> list[str]:
        """Return what the hosted object lived through."""
        return self._events.read_text().splitlines()

    async def event(self, text: str, times: int = 1) -> None:
        """Wait until something has happened so many times."""
        async with asyncio.timeout(HANG_S):
            while self.events().count(text) < times:  # noqa: ASYNC110 - what is waited for is in another process
                await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """Open a channel to it."""
        async with open_channel(self.address) as channel:
            yield channel


async def serving(channel: grpc.aio.Channel) -> None:
    """Wait until the service says that it works."""
    watching = watch(channel)
    async with asyncio.timeout(HANG_S):
        while (await watching.read()).status != SERVING:
            pass
    await end(watching)


def watch(channel: grpc.aio.Channel) -> Call:
    """Watch its health."""
    stub = health_pb2_grpc.HealthStub(channel)
    return stub.Watch(health_pb2.HealthCheckRequest(service=NAME), wait_for_ready=True)


async def begin(channel: grpc.aio.Channel, command: str, **options: Any) -> Call:
    """Begin a stream with a command."""
    call = chunker_pb2_grpc.ChunkerServiceStub(channel).Chunk(**options)
    await call.write(
        chunker_pb2.ChunkRequest(configure=chunker_pb2.ChunkConfigure(turn_id=command)),
    )
    return call


async def answer(call: Call) -> str:
    """Read the text of the next answer."""
    async with asyncio.timeout(HANG_S):
        return str((await call.read()).chunk.text)


async def let_go(call: Call) -> str:
    """Let a held call go on; return its last answer."""
    await call.write(chunker_pb2.ChunkRequest(flush=chunker_pb2.ChunkFlush()))
    return await answer(call)


async def failure(call: Call) -> status_pb2.Status:
    """Read to the failure of a call; return its status with details."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(_read_all(call), HANG_S)
    trailers: Any = caught.value.trailing_metadata() or ()
    for key, value in trailers:
        if key == "grpc-status-details-bin":
            return status_pb2.Status.FromString(value)
    return status_pb2.Status(code=caught.value.code().value[0], message=caught.value.details() or "")


async def _read_all(call: Call) -> None:
    while await call.read() is not EOF:
        pass


async def end(call: Call) -> None:
    """Cancel a call and wait for its end."""
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
        await call.code()


def detail(status: status_pb2.Status, message: Message) -> Any:
    """Return the detail of one type."""
    assert any(packed.Unpack(message) for packed in status.details), status
    return message


# --- calls to a process that runs all the while ------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """Run one process for all tests that need nothing special of it."""
    folder = tmp_path_factory.mktemp("tiny")
    socket = pathlib.Path("/tmp") / f"vm-tiny-{os.getpid()}.sock"
    with Tiny(
        folder,
        VOICEMESH_TINY_LISTEN=f"unix:{socket}",
        VOICEMESH_TINY_KEY="hunter2",
        VOICEMESH_TINY_REDIS_URL="redis://me:hunter2@localhost/0",
        VOICEMESH_MAX_MESSAGE_BYTES="65536",
    ) as process:
        yield process
    socket.unlink(missing_ok=True)


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
    assert set((await stub.List(health_pb2.HealthListRequest())).statuses) == {"", NAME}


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


# --- the life of a process -----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains(socket_folder: pathlib.Path, number: int) -> None:
    with Tiny(socket_folder) as tiny:
        async with tiny.channel() as channel:
            await serving(channel)
            watching = watch(channel)
            assert (await watching.read()).status == SERVING
            held = await begin(channel, "hold")
            assert await answer(held) == "holding"
            tiny.signal(number)
            # The peers are told at once, and nobody who watches holds the drain up …
            assert (await watching.read()).status == NOT_SERVING
            assert await watching.read() is EOF
            await tiny.event("drain")
            # … new calls are refused, and the call in flight goes on to its end.
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await begin(channel, "new", timeout=HANG_S)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert tiny.process.poll() is None
            assert await let_go(held) == "let go"
            assert await held.read() is EOF
            assert await held.code() is grpc.StatusCode.OK
        assert await tiny.exit_status() == 0
    assert tiny.events() == ["drain", "handler of hold ended", "held task ended", "close"]
    assert tiny.logged()[-1]["event"] == "stopped"


async def test_an_idle_process_stops_at_once(socket_folder: pathlib.Path) -> None:
    with Tiny(socket_folder, VOICEMESH_DRAIN_GRACE_S="3600") as tiny:
        async with tiny.channel() as channel:
            await serving(channel)
            tiny.signal(signal.SIGTERM)
            assert await tiny.exit_status() == 0
    assert tiny.events() == ["drain", "close"]


async def test_calls_end_with_the_grace(socket_folder: pathlib.Path) -> None:
    with Tiny(socket_folder, VOICEMESH_DRAIN_GRACE_S="0.2") as tiny:
        async with tiny.channel() as channel:
            await serving(channel)
            held, flood = await begin(channel, "hold"), await begin(channel, "flood")
            await answer(held)
            await answer(flood)
            tiny.signal(signal.SIGTERM)
            assert await tiny.exit_status() == 0
            assert (await failure(held)).code in (1, 14)
            await end(flood)
    events = tiny.events()
    assert events[0] == "drain"
    assert sorted(events[1:-1]) == ["handler of flood ended", "handler of hold ended", "held task ended"]
    assert events[-1] == "close"


async def test_the_same_signal_twice_cuts_the_grace(socket_folder: pathlib.Path) -> None:
    with Tiny(socket_folder, VOICEMESH_DRAIN_GRACE_S="3600") as tiny:
        async with tiny.channel() as channel:
            await serving(channel)
            held = await begin(channel, "hold")
            await answer(held)
            tiny.signal(signal.SIGINT)
            await tiny.event("drain")
            tiny.signal(signal.SIGINT)
            assert await tiny.exit_status() == 0
            assert (await failure(held)).code in (1, 14)
    assert tiny.events()[-1] == "close"


async def test_another_signal_does_not_cut_the_grace(socket_folder: pathlib.Path) -> None:
    with Tiny(socket_folder) as tiny:
        async with tiny.channel() as channel:
            await serving(channel)
            held = await begin(channel, "hold")
            await answer(held)
            tiny.signal(signal.SIGINT)
            await tiny.event("drain")
            tiny.signal(signal.SIGTERM)
            assert await let_go(held) == "let go"
            assert await held.read() is EOF
        assert await tiny.exit_status() == 0


async def test_a_drain_of_the_service_ends_with_the_grace(socket_folder: pathlib.Path) -> None:
    with Tiny(socket_folder, VOICEMESH_DRAIN_GRACE_S="0.1", VOICEMESH_TINY_START="long-drain") as tiny:
        async with tiny.channel() as channel:
            await serving(channel)
        tiny.signal(signal.SIGTERM)
        assert await tiny.exit_status() == 0
    assert tiny.events() == ["drain", "close"]


async def test_a_drain_that_fails_is_said_and_the_rest_is_done(socket_folder: pathlib.Path) -> None:
    with Tiny(socket_folder, VOICEMESH_TINY_START="bad-drain") as tiny:
        async with tiny.channel() as channel:
            await serving(channel)
        tiny.signal(signal.SIGTERM)
        assert await tiny.exit_status() == 1
    assert tiny.events() == ["drain", "close"]
    (line,) = (line for line in tiny.logged() if line["level"] == "error")
    assert "ZeroDivisionError" in line["exception"]


async def test_a_signal_ends_a_start_that_takes_long(socket_folder: pathlib.Path) -> None:
    with Tiny(socket_folder, VOICEMESH_TINY_START="forever") as tiny:
        async with tiny.channel() as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            found = await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
            assert found.status == NOT_SERVING
        tiny.signal(signal.SIGTERM)
        assert await tiny.exit_status() == 0
    assert tiny.events() == ["start cancelled", "drain", "close"]


async def test_the_end_of_standard_input_drains_where_it_is_asked_for(socket_folder: pathlib.Path) -> None:
    with Tiny(socket_folder, VOICEMESH_EXIT_WITH_STDIN="true") as tiny:
        async with tiny.channel() as channel:
            await serving(channel)
            assert tiny.process.stdin is not None
            tiny.process.stdin.write(b"not the end")
            tiny.process.stdin.flush()
            call = await begin(channel, "still here")
            assert await answer(call) == "still here"
            assert await call.read() is EOF
            tiny.process.stdin.close()
            assert await tiny.exit_status() == 0


async def test_a_collector_that_is_not_there_does_not_hold_the_end_up(socket_folder: pathlib.Path) -> None:
    with Tiny(socket_folder, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as tiny:
        async with tiny.channel() as channel:
            await serving(channel)
        tiny.signal(signal.SIGTERM)
        assert await tiny.exit_status() == 0


async def test_reflection_can_be_switched_off(socket_folder: pathlib.Path) -> None:
    with Tiny(socket_folder, VOICEMESH_REFLECTION="false") as tiny:
        async with tiny.channel() as channel:
            await serving(channel)
            call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
            assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


# --- processes that cannot start -----------------------------------------------------------------


async def test_an_address_in_use_is_named_with_its_variable(socket_folder: pathlib.Path) -> None:
    other = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    address = f"127.0.0.1:{other.add_insecure_port('127.0.0.1:0')}"
    with Tiny(socket_folder, VOICEMESH_TINY_LISTEN=address) as tiny:
        assert await tiny.exit_status() == 3
    assert f"cannot listen on {address}" in tiny.text()
    assert "VOICEMESH_TINY_LISTEN" in tiny.text()
    assert "Traceback" not in tiny.text()
    await other.stop(None)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("VOICEMESH_TINY_LISTEN", "nowhere"),
        ("VOICEMESH_TINY_LIMIT", "10"),
        ("VOICEMESH_DRAIN_GRACE_S", "-1"),
        ("VOICEMESH_TINY_START", "refuse-settings"),
    ],
)
async def test_a_wrong_setting_is_named(socket_folder: pathlib.Path, variable: str, value: str) -> None:
    with Tiny(socket_folder, **{variable: value}) as tiny:
        assert await tiny.exit_status() == 2
    assert re.search(rf"^voicemesh tiny: wrong settings\n{variable}: ", tiny.text(), re.MULTILINE)
    assert "Traceback" not in tiny.text()


def test_standard_input_must_be_held_open_by_someone(socket_folder: pathlib.Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.contract.tiny_service"],
        cwd=ROOT,
        env={**os.environ, "VOICEMESH_TINY_EVENTS": str(socket_folder), "VOICEMESH_EXIT_WITH_STDIN": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 2
    assert "VOICEMESH_EXIT_WITH_STDIN" in done.stderr


@pytest.mark.parametrize(("start", "traceback"), [("fail", False), ("crash", True)])
async def test_a_service_that_cannot_start_says_why(
    socket_folder: pathlib.Path, start: str, traceback: bool
) -> None:
    with Tiny(socket_folder, VOICEMESH_TINY_START=start) as tiny:
        assert await tiny.exit_status() == 1
    assert tiny.events() == ["drain", "close"]
    (line,) = (line for line in tiny.logged() if line["event"] == "cannot start")
    assert ("exception" in line) == traceback
    if not traceback:
        assert (line["reason"], line["error"]) == ("LLM_UNAVAILABLE", "no model to be had")
