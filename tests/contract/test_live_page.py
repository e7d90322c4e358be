"""The live page over HTTP: what it shows, to whom, and that it holds up nothing."""

import asyncio
import contextlib
import io
import json
import pathlib
import re
import socket
import wave
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from gateway.http.edge import HttpEdge
from gateway.live.api import MAX_READERS, LivePage
from tests.contract.gateway_harness import GUARD_S, REPLY, Gateway, Services, running_gateway
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.tts.v1 import tts_pb2

QUESTION = 'Is <img src=x onerror="alert(1)"> markup?'
ROUTES = (
    "",
    "/files/app.js",
    *(f"/api/{name}" for name in ("turns", "turn", "audio", "series", "state", "events")),
)


@contextlib.asynccontextmanager
async def serving(
    folder: pathlib.Path, services: Services | None = None, **limits: Any
) -> AsyncIterator[tuple[Gateway, HttpEdge, httpx2.AsyncClient]]:
    """Run a gateway with its page; give it, its edge, and a client on this machine."""
    async with running_gateway(str(folder), services or Services(), **limits) as gateway:
        await gateway.serving()
        hosts = limits.get("gateway_live_hosts", ())
        page = LivePage(gateway.live, limits.get("gateway_live_page", "local"), hosts)
        path = f"{folder}/http"
        edge = HttpEdge(
            gateway.turns, gateway.sessions, gateway.readiness, f"unix:{path}", lambda *_: None, page=page
        )
        edge.start()
        try:
            async with client(path) as http:
                yield gateway, edge, http
        finally:
            await edge.close()


def client(path: str) -> httpx2.AsyncClient:
    transport = httpx2.AsyncHTTPTransport(uds=path)
    return httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=GUARD_S)


async def ask(gateway: Gateway, tenant: str = "", turn_id: str = "t1") -> pb.TurnReport:
    prompt = pb.Prompt(turn_id=turn_id, parts=[common_pb2.ContentPart(text=QUESTION)])
    ended = asyncio.Event()
    report = pb.TurnReport()

    async def requests() -> AsyncIterator[pb.ConverseRequest]:
        yield pb.ConverseRequest(configure=pb.Configure(speech=pb.SpeechOptions(max_lead_ms=0)))
        yield pb.ConverseRequest(prompt=prompt)
        await ended.wait()

    metadata = (("voicemesh-tenant", tenant),) if tenant else ()
    async with asyncio.timeout(GUARD_S):
        async for response in gateway.stub.Converse(requests(), metadata=metadata):
            if response.WhichOneof("event") == "turn_completed":
                report = response.turn_completed.report
                ended.set()
    return report


async def followed(gateway: Gateway, turns: int) -> None:
    """Wait until the page knows of so many turns that ended."""
    async with asyncio.timeout(GUARD_S):
        while gateway.live.series("10m")["summary"]["counts"]["turns"] < turns:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)


async def test_the_page_needs_nothing_but_its_own_files_and_no_inline_script(
    socket_folder: pathlib.Path,
) -> None:
    async with serving(socket_folder) as (_, _, http):
        page = await http.get("/live")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\son\w+=|javascript:", page.text)
        assert not re.search(r"(?:https?:)?//", page.text)
        names = re.findall(r'(?:src|href)="(/live/files/[^"]+)"', page.text)
        assert names
        for name in names:
            file = await http.get(name)
            assert file.status_code == 200
            assert file.headers["content-security-policy"] == policy
            assert file.headers["x-content-type-options"] == "nosniff"
            again = await http.get(name, headers={"if-none-match": file.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        for module in re.findall(r'from "\./([^"]+)"', (await http.get("/live/files/app.js")).text):
            assert (await http.get(f"/live/files/{module}")).status_code == 200
        for absent in ("nothing.js", "../api.py", "..%2Fapi.py", ""):
            assert (await http.get(f"/live/files/{absent}")).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "rebound.example"},
        {"host": "localhost.rebound.example:8080"},
        {"x-forwarded-for": "192.0.2.7"},
        {"forwarded": "for=192.0.2.7"},
        {"x-voicemesh-tenant": "acme"},
    ],
)
async def test_who_is_not_on_this_machine_sees_nothing(
    socket_folder: pathlib.Path, headers: dict[str, str]
) -> None:
    async with serving(socket_folder) as (_, _, http):
        for route in ROUTES:
            refused = await http.get(f"/live{route}", headers=headers)
            assert refused.status_code == 403, route
            assert refused.json()["error"]["message"]
        # And nobody is sent there in vain.
        index = await http.get("/", headers={**headers, "accept": "text/html"})
        assert index.json()["name"] == "voicemesh"


async def test_pages_of_other_sites_get_no_figures(socket_folder: pathlib.Path) -> None:
    async with serving(socket_folder) as (_, _, http):
        for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "http://elsewhere.example"}):
            assert (await http.get("/live/api/turns", headers=headers)).status_code == 403
            assert (await http.get("/live", headers=headers)).status_code == 200  # a link to it is fine
        same = {"sec-fetch-site": "same-origin", "origin": "http://localhost"}
        assert (await http.get("/live/api/turns", headers=same)).status_code == 200


async def test_an_open_page_is_for_everybody_but_tenants(socket_folder: pathlib.Path) -> None:
    names = ("mesh.example",)
    async with serving(socket_folder, gateway_live_page="open", gateway_live_hosts=names) as (_, _, http):
        assert (await http.get("/live", headers={"host": "mesh.example"})).status_code == 200
        # A name that another site made to point here.
        assert (await http.get("/live", headers={"host": "elsewhere.example"})).status_code == 403
        assert (await http.get("/live/api/turns", headers={"host": "mesh.example"})).status_code == 200
        assert (await http.get("/live/api/turns", headers={"x-voicemesh-tenant": "acme"})).status_code == 403


async def test_nothing_can_be_changed(socket_folder: pathlib.Path) -> None:
    async with serving(socket_folder) as (_, _, http):
        for route in ROUTES:
            for method in ("POST", "PUT", "PATCH", "DELETE"):
                assert (await http.request(method, f"/live{route}")).status_code == 405, route


async def test_browsers_are_sent_to_the_page_and_programs_are_not(socket_folder: pathlib.Path) -> None:
    async with serving(socket_folder) as (_, _, http):
        browser = await http.get("/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        assert (browser.status_code, browser.headers["location"]) == (303, "/live")
        program = await http.get("/")
        assert "GET /live" in program.json()["endpoints"]


async def test_texts_are_shown_only_where_that_is_switched_on(socket_folder: pathlib.Path) -> None:
    async with serving(socket_folder) as (gateway, _, http):
        await ask(gateway)
        await followed(gateway, 1)
        everything = [(await http.get(f"/live/api/{name}")).text for name in ("turns", "turn?id=t1", "state")]
        everything.append((await read_events(http, 2, last_id=f"{epoch(gateway)}-0"))[1])
        for told in everything:
            assert "markup" not in told
            assert REPLY not in told
        assert [chunk["text"] for chunk in json.loads(everything[1])["chunks"]] == [None]


async def test_a_turn_is_told_with_its_texts_as_data(socket_folder: pathlib.Path) -> None:
    async with serving(socket_folder, gateway_live_text=True) as (gateway, _, http):
        report = await ask(gateway)
        response = await http.get("/live/api/turn?id=t1")
        assert response.headers["content-type"] == "application/json"
        turn = response.json()
        assert turn["prompt"] == QUESTION
        assert [chunk["text"] for chunk in turn["chunks"]] == [REPLY]
        assert turn["trace_id"] == report.trace_id
        assert turn["kind"] == "prompt"
        # The bars of the waterfall add up to the time to first audio.
        assert sum(turn["parts"]) == pytest.approx(report.ttfa_us / 1000)
        row = (await http.get("/live/api/turns")).json()["ended"][0]
        assert row["parts"] == turn["parts"]
        assert (await http.get("/live/api/turn?id=unknown")).status_code == 404
        assert (await http.get("/live/api/turn")).status_code == 404


async def test_no_tenants_turn_is_found_under_another_ones_name(socket_folder: pathlib.Path) -> None:
    async with serving(socket_folder, gateway_live_audio_bytes=100_000) as (gateway, _, http):
        await ask(gateway, tenant="acme")
        await followed(gateway, 1)
        for name in ("turn", "audio"):
            assert (await http.get(f"/live/api/{name}?id=t1")).status_code == 404
            assert (await http.get(f"/live/api/{name}?id=t1&tenant=other")).status_code == 404
            assert (await http.get(f"/live/api/{name}?id=t1&tenant=acme")).status_code == 200


async def test_turns_are_counted_and_their_stages_kept(socket_folder: pathlib.Path) -> None:
    async with serving(socket_folder) as (gateway, _, http):
        report = await ask(gateway)
        await followed(gateway, 1)
        told = (await http.get("/live/api/series?window=1h")).json()
        assert told["summary"]["counts"]["completed"] == 1
        assert told["summary"]["ttfa_ms"]["p50"] == pytest.approx(report.ttfa_us / 1000, abs=0.001)
        (point,) = [point for point in told["points"] if point["turns"]]
        assert sum(point["p95"]) == pytest.approx(report.ttfa_us / 1000, abs=0.01)
        refused = await http.get("/live/api/series?window=forever")
        assert refused.status_code == 400
        assert "window" in refused.json()["error"]["message"]


# ---------------------------------------------------------------- services


async def test_services_are_asked_at_most_once_a_second_and_only_while_somebody_looks(
    socket_folder: pathlib.Path,
) -> None:
    services = Services(pools=[tts_pb2.PoolStats(voice="v", declared_replicas=2, ready_replicas=1)])
    async with serving(socket_folder, services) as (gateway, _, http):
        await ask(gateway)
        assert services.stats_asked == 0
        for _ in range(3):
            states = await asyncio.gather(*(http.get("/live/api/state") for _ in range(3)))
        assert services.stats_asked == 2  # the pools and the cache, once
        services.clock.jump(1.1)
        state = (await http.get("/live/api/state")).json()
        assert services.stats_asked == 4
        assert states[0].json()["pools"][0]["voice"] == "v"
        assert state["services"] == [
            {"name": name, "serving": True} for name in ("llm", "chunker", "tts", "cache")
        ]
        assert [kind["kind"] for kind in state["cache"]["kinds"]] == ["audio"]
        assert state["versions"]["gateway"] == "tested"


# ---------------------------------------------------------------- events


def epoch(gateway: Gateway) -> str:
    return gateway.live.feed.last_id.rpartition("-")[0]


async def read_events(
    http: httpx2.AsyncClient, count: int, last_id: str = "", after: str = ""
) -> tuple[list[tuple[str, str, Any]], str]:
    """Read so many fields `data` of the stream; return (id, event, data) of each, and all as it came."""
    headers = {"last-event-id": last_id} if last_id else {}
    told = ""
    async with (
        asyncio.timeout(GUARD_S),
        http.stream("GET", f"/live/api/events?after={after}", headers=headers) as stream,
    ):
        assert stream.headers["content-type"].startswith("text/event-stream")
        async for text in stream.aiter_text():
            told += text
            if len(re.findall(r"^data: .*\n\n", told, re.MULTILINE)) >= count:
                break
    found = re.findall(r"^id: (.*)\nevent: (.*)\ndata: (.*)\n\n", told, re.MULTILINE)
    return [(name, event, json.loads(data)) for name, event, data in found], told


async def test_turns_are_told_as_they_begin_and_end_and_none_twice(socket_folder: pathlib.Path) -> None:
    async with serving(socket_folder) as (gateway, _, http):
        start = (await http.get("/live/api/turns")).json()["event_id"]
        reading = asyncio.create_task(read_events(http, 2, after=start))
        await ask(gateway)
        events, _ = await reading
        assert [(event, row["turn_id"], row["outcome"]) for _, event, row in events] == [
            ("turn", "t1", "running"), ("turn", "t1", "completed"),
        ]  # fmt: skip
        await ask(gateway, turn_id="t2")
        # As a browser connects again: with the id of the last event, whatever the address says.
        events, _ = await read_events(http, 2, last_id=events[-1][0], after=start)
        assert {row["turn_id"] for _, _, row in events} == {"t2"}
        assert (await http.get("/live/api/turns")).json()["event_id"] == events[-1][0]


async def test_who_comes_from_another_process_is_told_to_begin_anew(socket_folder: pathlib.Path) -> None:
    async with serving(socket_folder) as (gateway, _, http):
        await ask(gateway)
        for strange in ("another-3", "nonsense", f"{epoch(gateway)}-99", f"{epoch(gateway)}-٣"):
            events, _ = await read_events(http, 1, after=strange)
            assert [event for _, event, _ in events] == ["reset"]


async def test_readers_are_bounded_and_a_place_is_free_again(socket_folder: pathlib.Path) -> None:
    async with serving(socket_folder) as (_, _, http), contextlib.AsyncExitStack() as stack:
        for _ in range(MAX_READERS):
            stream = await stack.enter_async_context(http.stream("GET", "/live/api/events"))
            assert stream.status_code == 200
        refused = await http.get("/live/api/events")
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        await stack.aclose()
        async with asyncio.timeout(GUARD_S):
            while True:
                async with http.stream("GET", "/live/api/events") as stream:
                    if stream.status_code == 200:
                        break


async def test_a_reader_that_does_not_read_holds_up_neither_turns_nor_the_end(
    socket_folder: pathlib.Path,
) -> None:
    async with serving(socket_folder) as (gateway, edge, http):
        await read_events(http, 1)  # it answers, and its streams work
        lazy = socket.socket(socket.AF_UNIX)
        with lazy:
            lazy.connect(f"{socket_folder}/http")
            lazy.sendall(b"GET /live/api/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
            large = "x" * 20_000
            for _ in range(2_000):  # far more than sockets hold
                gateway.live.feed.publish("turn", lambda: large)
            await ask(gateway)
            gateway.live.drain()
            async with asyncio.timeout(GUARD_S):
                await edge.drain()


async def test_streams_end_with_the_process(socket_folder: pathlib.Path) -> None:
    async with (
        serving(socket_folder) as (gateway, edge, http),
        http.stream("GET", "/live/api/events") as stream,
    ):
        parts = stream.aiter_text()
        await anext(parts)
        gateway.live.drain()
        async with asyncio.timeout(GUARD_S):
            await asyncio.gather(edge.drain(), _exhausted(parts))


async def _exhausted(parts: AsyncIterator[str]) -> None:
    async for _ in parts:
        pass


# ---------------------------------------------------------------- audio


async def test_a_turn_can_be_heard_again_in_parts(socket_folder: pathlib.Path) -> None:
    async with serving(socket_folder, gateway_live_audio_bytes=100_000) as (gateway, _, http):
        await ask(gateway)
        await followed(gateway, 1)
        address = "/live/api/audio?id=t1"
        whole = await http.get(address)
        assert whole.headers["accept-ranges"] == "bytes"
        with wave.open(io.BytesIO(whole.content)) as sound:
            assert (sound.getframerate(), sound.getnchannels(), sound.getnframes()) == (22050, 1, 441)
            assert sound.readframes(441) == b"\1\0" * 441
        size = len(whole.content)
        for asked, first, end in (
            ("bytes=0-1", 0, 2), ("bytes=40-50", 40, 51), ("bytes=100-", 100, size),
            ("bytes=-10", size - 10, size), (f"bytes=44-{size + 99}", 44, size),
        ):  # fmt: skip
            part = await http.get(address, headers={"range": asked})
            assert part.status_code == 206
            assert part.headers["content-range"] == f"bytes {first}-{end - 1}/{size}"
            assert part.content == whole.content[first:end]
        behind = await http.get(address, headers={"range": f"bytes={size}-"})
        assert (behind.status_code, behind.headers["content-range"]) == (416, f"bytes */{size}")
        for odd in ("bytes=5-2", "lines=1-2", "bytes=0-1,5-6", "bytes=-", "bytes=x-"):
            assert (await http.get(address, headers={"range": odd})).content == whole.content
        assert (await http.get("/live/api/turn?id=t1")).json()["hear"] is True


async def test_no_audio_is_kept_unless_that_is_asked_for(socket_folder: pathlib.Path) -> None:
    async with serving(socket_folder) as (gateway, _, http):
        await ask(gateway)
        refused = await http.get("/live/api/audio?id=t1")
        assert refused.status_code == 404
        assert "VOICEMESH_GATEWAY_LIVE_AUDIO_BYTES" in refused.json()["error"]["message"]
        assert gateway.live.audio.size == 0
