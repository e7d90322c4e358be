"""How `run()` begins and ends the process of any service: real processes, real signals."""

import os
import pathlib
import re
import signal
import subprocess
import sys

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from tests.contract.tiny_process import (
    EOF,
    HANG_S,
    NOT_SERVING,
    ROOT,
    SERVING,
    Tiny,
    answer,
    begin,
    end,
    failure,
    let_go,
    serving,
    watch,
)
from voicemesh.runtime.status import reason_of


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


async def test_calls_end_with_the_grace_and_are_told_so(socket_folder: pathlib.Path) -> None:
    with Tiny(socket_folder, VOICEMESH_DRAIN_GRACE_S="2") as tiny:
        async with tiny.channel() as channel:
            await serving(channel)
            held, flood = await begin(channel, "hold"), await begin(channel, "flood")
            await answer(held)
            await answer(flood)
            tiny.signal(signal.SIGTERM)
            assert await tiny.exit_status() == 0
            told = await failure(held)
            assert (told.code, reason_of(told)) == (14, "DRAINING")
            assert "waited for 2 s" in told.message
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


def test_a_process_whose_supervisor_was_killed_drains_in_order(socket_folder: pathlib.Path) -> None:
    # Standard input ends and nobody reads standard error: every line of the log fails.
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.contract.tiny_service"],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
            "VOICEMESH_TINY_EVENTS": str(socket_folder / "events"),
            "VOICEMESH_EXIT_WITH_STDIN": "1",
        },
        stdin=subprocess.PIPE,
        stderr=write_end,
    )
    os.close(write_end)
    with os.fdopen(read_end) as lines:
        assert any('"event": "serving"' in line for line in lines)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(HANG_S) == 0
    assert (socket_folder / "events").read_text().splitlines() == ["drain", "close"]


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


async def test_a_part_that_is_lost_ends_the_process_in_order(socket_folder: pathlib.Path) -> None:
    with Tiny(socket_folder) as tiny:
        async with tiny.channel() as channel:
            await serving(channel)
            watching = watch(channel)
            assert (await watching.read()).status == SERVING
            held = await begin(channel, "fail")
            # It drains as it does for a signal: what is in flight goes on to its end.
            assert (await watching.read()).status == NOT_SERVING
            assert await let_go(held) == "let go"
            assert await held.read() is EOF
        assert await tiny.exit_status() == 1
    assert tiny.events() == ["drain", "handler of fail ended", "close"]
    (lost,) = [line for line in tiny.logged() if line["event"] == "cannot go on"]
    assert (lost["level"], lost["what"]) == ("error", "a limb")
    assert "gone" in str(lost["exception"])


async def test_a_misspelled_setting_is_named_and_the_process_goes_on(socket_folder: pathlib.Path) -> None:
    with Tiny(socket_folder, VOICEMESH_TINY_LIMT="2", VOICEMESH_TTS_VOICES="[]") as tiny:
        async with tiny.channel() as channel:
            await serving(channel)
        tiny.signal(signal.SIGTERM)
        assert await tiny.exit_status() == 0
    (said,) = [line for line in tiny.logged() if line["event"] == "unknown setting"]
    assert (said["level"], said["variable"]) == ("warning", "VOICEMESH_TINY_LIMT")
    assert "VOICEMESH_TINY_LIMIT" in said["hint"]


def test_nothing_is_looked_through_when_the_process_exits(socket_folder: pathlib.Path) -> None:
    code = (
        "import atexit, gc, runpy\n"
        "atexit.register(lambda: print(gc.get_freeze_count()))\n"
        "runpy.run_module('tests.contract.tiny_service', run_name='__main__')"
    )
    variables = {
        "VOICEMESH_TINY_EVENTS": str(socket_folder / "events"),
        "VOICEMESH_TINY_LISTEN": f"unix:{socket_folder}/tiny.sock",
        "VOICEMESH_TINY_START": "fail",
    }
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert ended.returncode == 1
    assert int(ended.stdout) > 0
