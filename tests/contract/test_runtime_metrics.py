"""What `run()` makes of metrics: who scrapes a process, and which of its calls are in them."""

import asyncio
import contextlib
import gzip
import pathlib
import socket
import subprocess
import sys
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from tests.contract.tiny_process import NAME, ROOT, Tiny, answer, begin, end, failure, serving
from tests.support.http_get import get
from tests.support.scraped import OPENMETRICS, Scraped, samples_of, values_of
from tests.unit.runtime.test_runtime_metrics import TURNS
from voicemesh.chunker.v1 import chunker_pb2_grpc
from voicemesh.runtime import scraping
from voicemesh.runtime.calls import ACTIVE, SERVER

COUNT = f"{SERVER.prometheus}_count"
SCRAPED_S = 30.0


async def calls_of(address: str) -> dict[str, float]:
    """Scrape a process; return its calls by status."""
    _, _, text = await asyncio.to_thread(get, address, "/metrics", Accept=OPENMETRICS)
    found = {}
    for labels, value in values_of(samples_of(text), COUNT).items():
        named = dict(labels)
        assert named["rpc_method"] == f"{NAME}/Chunk"  # health and reflection are in none
        found[named["rpc_response_status_code"]] = value
    return found


async def running(address: str) -> float:
    """Scrape a process; return how many of its calls run."""
    _, _, text = await asyncio.to_thread(get, address, "/metrics", Accept=OPENMETRICS)
    return sum(values_of(samples_of(text), ACTIVE.prometheus).values())


async def held_beyond_its_deadline(channel: grpc.aio.Channel) -> None:
    """Have a call end by its deadline that had begun before, however slow the machine is."""
    for timeout_s in (0.05, 0.5, 5.0, SCRAPED_S):
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            call = await begin(channel, "hold", timeout=timeout_s)
            if await answer(call) == "holding":
                await failure(call)
                return


async def test_a_process_is_scraped_until_it_ends(socket_folder: pathlib.Path) -> None:
    address = f"unix:{socket_folder}/metrics"
    with Tiny(socket_folder, VOICEMESH_TINY_METRICS_LISTEN=address) as tiny:
        async with tiny.channel() as channel:
            await serving(channel)
            assert await calls_of(address) == {}
            # Streams that stand by are nobody's: neither while they are open, nor when they are let go.
            stub: Any = chunker_pb2_grpc.ChunkerServiceStub(channel)
            idle = stub.Chunk()
            assert await running(address) == 0
            await end(idle)
            call = await begin(channel, "hello")
            assert await answer(call) == "hello"
            assert await call.code() is StatusCode.OK
            await failure(await begin(channel, "invalid"))
            await failure(await begin(channel, "crash"))
            await failure(await begin(channel, "abort"))
            await held_beyond_its_deadline(channel)
            held = await begin(channel, "hold")
            assert await answer(held) == "holding"
            assert await running(address) >= 1
            await end(held)
            await tiny.event("handler of hold ended", times=2)
            async with asyncio.timeout(SCRAPED_S):
                while sum((calls := await calls_of(address)).values()) < 6 or "CANCELLED" not in calls:
                    pass  # the last handlers are on their way out
                while await running(address):
                    pass
        tiny.signal(15)
        assert await tiny.exit_status() == 0
    # At its deadline a caller cancels, too: whichever the server sees first. More where the machine is slow.
    assert calls.pop("DEADLINE_EXCEEDED", 0) + calls.pop("CANCELLED") >= 2
    assert calls == {"OK": 1, "INVALID_ARGUMENT": 1, "INTERNAL": 1, "FAILED_PRECONDITION": 1}
    assert [line["address"] for line in tiny.logged() if line["event"] == "metrics"] == [address]
    assert not (socket_folder / "metrics").exists()


async def test_an_address_that_is_taken_is_named(socket_folder: pathlib.Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with Tiny(socket_folder, VOICEMESH_TINY_METRICS_LISTEN=address) as tiny:
            assert await tiny.exit_status() == 3
    assert f"cannot listen on {address}: in use" in tiny.text()
    assert "VOICEMESH_TINY_METRICS_LISTEN" in tiny.text()


def test_a_process_that_nobody_scrapes_loads_nothing_for_it() -> None:
    script = (
        "import sys, voicemesh.runtime.server\n"
        "from voicemesh.runtime.metrics import Metrics, make_metrics\n"
        "assert make_metrics('test', scraped=False) is Metrics.off()\n"
        "print(*[name for name in ('opentelemetry.sdk.metrics', 'prometheus_client') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={}, capture_output=True, check=True, text=True
    )
    assert done.stdout.strip() == ""


def test_a_scraper_gets_what_it_asks_for(socket_folder: pathlib.Path) -> None:
    live = Scraped()
    path = socket_folder / "metrics"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()  # as a process that was killed leaves it
    live.prometheus.listen(f"unix:{path}")
    try:
        live.counter(TURNS).add(3, {"outcome": "failed"})
        status, headers, text = get(live.prometheus.address, "/metrics", Accept=OPENMETRICS)
        assert (status, headers["Content-Type"].partition(";")[0]) == (200, "application/openmetrics-text")
        assert values_of(samples_of(text), TURNS.prometheus) == {(("outcome", "failed"),): 3}
        status, headers, plain = get(live.prometheus.address, "/metrics")
        assert (status, headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
        _, headers, packed = get(live.prometheus.address, "/metrics", Accept_Encoding="gzip")
        assert headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed) == plain
        assert get(live.prometheus.address, "/else")[0] == 404
    finally:
        live.prometheus.close()
        live.close()
    assert not path.exists()


def test_more_scrapers_than_there_are_places_are_sent_away_and_hold_up_nobody(
    socket_folder: pathlib.Path,
) -> None:
    live = Scraped()
    live.prometheus.listen(f"unix:{socket_folder}/metrics")
    silent = [socket.socket(socket.AF_UNIX) for _ in range(9)]
    try:
        for waiting in silent:
            waiting.connect(f"{socket_folder}/metrics")
        silent[-1].settimeout(SCRAPED_S)
        assert silent[-1].recv(1) == b""
    finally:
        for waiting in silent:
            waiting.close()
        live.prometheus.close()
        live.close()


def test_who_sends_a_request_bit_by_bit_keeps_no_place(
    socket_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scraping, "_REQUEST_S", 0.1)
    live = Scraped()
    live.prometheus.listen(f"unix:{socket_folder}/metrics")
    try:
        with socket.socket(socket.AF_UNIX) as trickling:
            trickling.connect(f"{socket_folder}/metrics")
            trickling.settimeout(0.02)
            for _ in range(
                int(SCRAPED_S / 0.02)
            ):  # never as long as it may take, and never the end of a line
                try:
                    trickling.send(b"G")
                    assert trickling.recv(1) == b""
                except TimeoutError:
                    continue
                except (BrokenPipeError, ConnectionResetError):
                    pass
                break
            else:
                pytest.fail("it still listens")
    finally:
        live.prometheus.close()
        live.close()
