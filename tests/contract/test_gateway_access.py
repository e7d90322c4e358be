"""Who is let in at the gateway's edges, over real connections."""

import asyncio
import base64
import contextlib
import json
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx2
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from gateway.access.table import METHODS, ROUTES
from gateway.http.edge import HttpEdge
from gateway.live.api import LivePage
from tests.contract.gateway_harness import GUARD_S, Gateway, Services, running_gateway
from voicemesh import keyfile
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.status import reason_of

KEYS = {name: keyfile.new_key(name) for name in ("speaker", "talker", "operator", "front", "rival")}
SCOPES = {
    "speaker": ["speak"],
    "talker": ["converse", "explain", "usage", "batch"],
    "operator": ["operator"],
    "front": ["speak", "explain", "tenant:any"],
    "rival": ["speak", "explain", "converse"],
}
_SERVICE = "/voicemesh.gateway.v1.GatewayService/"


def entries(**changes: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": name,
            "sha256": keyfile.digest(key),
            "tenant": "rival" if name == "rival" else "acme",
            "scopes": SCOPES[name],
            **changes.get(name, {}),
        }
        for name, key in KEYS.items()
    ]


def put(path: pathlib.Path, keys: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps({"keys": keys}))


@contextlib.asynccontextmanager
async def guarded(folder: pathlib.Path, **limits: Any) -> AsyncIterator[Gateway]:
    put(folder / "keys.json", entries())
    limits = {"gateway_keys_file": str(folder / "keys.json"), **limits}
    async with running_gateway(str(folder), Services(), **limits) as gateway:
        await gateway.serving()
        yield gateway


async def change(gateway: Gateway, folder: pathlib.Path, **changes: Any) -> None:
    """Change keys, and have the gateway look at them."""
    put(folder / "keys.json", entries(**changes))
    assert gateway.access._keys is not None
    await gateway.access._keys.refresh()


def bearer(name: str, *more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {KEYS[name]}"), *more)


async def _conversation(*said: str) -> AsyncIterator[pb.ConverseRequest]:
    yield pb.ConverseRequest(configure=pb.Configure())
    for text in said:
        yield pb.ConverseRequest(prompt=pb.Prompt(parts=[common_pb2.ContentPart(text=text)]))


def request_of(method: str) -> Any:
    requests: dict[str, Any] = {
        "Converse": _conversation,
        "Speak": lambda: pb.SpeakRequest(text="Hello."),
        "SpeakBatch": lambda: pb.SpeakBatchRequest(texts=["Hello."]),
        "ListVoices": pb.ListVoicesRequest,
        "ExplainTurn": pb.ExplainTurnRequest,
        "ListTurns": pb.ListTurnsRequest,
        "GetUsage": pb.GetUsageRequest,
    }
    return requests[method]()


async def outcome(gateway: Gateway, method: str, metadata: Any, request: Any = None) -> tuple[str, str, str]:
    """Make a call; return its code, reason and text."""
    call = getattr(gateway.stub, method)(request or request_of(method), metadata=metadata, timeout=GUARD_S)
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        from_call: Any = rpc_status
        status = await from_call.aio.from_call(call)
        return error.code().name, reason_of(status) if status else "", error.details() or ""
    return "OK", "", ""


OURS = sorted(method.removeprefix(_SERVICE) for method in METHODS if method.startswith(_SERVICE))


async def test_every_method_asks_for_a_key_and_for_its_scope(socket_folder: pathlib.Path) -> None:
    async with guarded(socket_folder) as gateway:
        for method in OURS:
            needs = METHODS[_SERVICE + method].scopes
            code, reason, text = await outcome(gateway, method, ())
            assert (code, reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED"), method
            assert "authorization: Bearer" in text
            code, _, text = await outcome(gateway, method, (("authorization", "Bearer vmk_speaker_x"),))
            assert (code, text) == ("UNAUTHENTICATED", "the key or token is not accepted"), method
            for name, scopes in SCOPES.items():
                code, reason, text = await outcome(gateway, method, bearer(name))
                if set(scopes) & set(needs):
                    assert code in ("OK", "NOT_FOUND"), (method, name, text)
                else:
                    assert (code, reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED"), (method, name)
                    assert f"`{needs[0]}`" in text


async def test_health_asks_nobody_and_what_there_is_not_is_unimplemented(socket_folder: pathlib.Path) -> None:
    async with guarded(socket_folder), grpc.aio.insecure_channel(f"unix:{socket_folder}/gateway") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:  # this harness serves none
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
        nothing: Any = channel.unary_unary
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await nothing("/voicemesh.gateway.v1.GatewayService/Nothing")(b"")
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_call_is_its_keys_tenants_whatever_it_says(socket_folder: pathlib.Path) -> None:
    async with guarded(socket_folder) as gateway:
        other = ("voicemesh-tenant", "rival")
        assert (await outcome(gateway, "Speak", bearer("speaker", other)))[0] == "PERMISSION_DENIED"
        assert (await outcome(gateway, "Speak", bearer("speaker", ("voicemesh-tenant", "acme"))))[0] == "OK"
        said = pb.SpeakRequest(text="Hello.", turn_id="theirs")
        assert (await outcome(gateway, "Speak", bearer("front", other), said))[0] == "OK"
        explain = pb.ExplainTurnRequest(turn_id="theirs")
        assert (await outcome(gateway, "ExplainTurn", bearer("rival"), explain))[0] == "OK"
        assert (await outcome(gateway, "ExplainTurn", bearer("front", other), explain))[0] == "OK"
        for name in ("front", "talker", "operator"):
            assert (await outcome(gateway, "ExplainTurn", bearer(name), explain))[0] == "NOT_FOUND"


async def test_only_an_operator_is_told_of_every_tenant(socket_folder: pathlib.Path) -> None:
    async with guarded(socket_folder) as gateway:
        for name in ("speaker", "rival"):
            assert (await outcome(gateway, "Speak", bearer(name)))[0] == "OK"
        for method, request in (
            ("GetUsage", pb.GetUsageRequest(all_tenants=True)),
            ("ListTurns", pb.ListTurnsRequest(all_tenants=True)),
        ):
            code, _, text = await outcome(gateway, method, bearer("talker"), request)
            assert code == "PERMISSION_DENIED"
            assert "all_tenants: this needs the scope `operator`" in text
        usage = await gateway.stub.GetUsage(
            pb.GetUsageRequest(all_tenants=True), metadata=bearer("operator"), timeout=GUARD_S
        )
        assert {totals.tenant for totals in usage.totals} == {"acme", "rival"}
        own = await gateway.stub.GetUsage(pb.GetUsageRequest(), metadata=bearer("talker"), timeout=GUARD_S)
        assert {totals.tenant for totals in own.totals} == {"acme"}


async def test_a_key_that_is_revoked_begins_no_turn_on_a_stream_that_is_open(
    socket_folder: pathlib.Path,
) -> None:
    async with asyncio.timeout(GUARD_S), guarded(socket_folder) as gateway:
        converse: Any = gateway.stub.Converse
        call = converse(metadata=bearer("talker"))
        await call.write(pb.ConverseRequest(configure=pb.Configure()))

        async def turn() -> pb.ConverseResponse:
            part = common_pb2.ContentPart(text="Why?")
            await call.write(pb.ConverseRequest(prompt=pb.Prompt(parts=[part])))
            while True:
                response: pb.ConverseResponse = await call.read()
                if response.WhichOneof("event") in ("turn_completed", "turn_failed"):
                    return response

        assert (await turn()).HasField("turn_completed")
        await change(gateway, socket_folder, talker={"disabled": True})
        failed = (await turn()).turn_failed
        assert reason_of(failed.status) == "UNAUTHENTICATED"
        assert "any more" in failed.status.message
        await call.done_writing()
        assert not await call.read()  # the end of the stream
        assert (await outcome(gateway, "Converse", bearer("talker")))[0] == "UNAUTHENTICATED"


async def test_a_key_that_is_revoked_speaks_no_more_of_a_batch(socket_folder: pathlib.Path) -> None:
    async with asyncio.timeout(GUARD_S), guarded(socket_folder) as gateway:
        texts = [f"This is text {number} of a batch that nobody reads." for number in range(200)]
        call: Any = gateway.stub.SpeakBatch(pb.SpeakBatchRequest(texts=texts), metadata=bearer("talker"))
        await call.read()
        await change(gateway, socket_folder, talker={"disabled": True})
        failed = {}
        while response := await call.read():
            if response.HasField("failed"):
                failed[response.text_indexes[0]] = reason_of(response.failed.status)
        assert failed[199] == "UNAUTHENTICATED"
        assert set(failed.values()) == {"UNAUTHENTICATED"}


async def test_a_listener_whose_key_is_revoked_hears_no_further_turn(socket_folder: pathlib.Path) -> None:
    listens = {"scopes": ["converse"]}
    async with asyncio.timeout(GUARD_S), guarded(socket_folder) as gateway:
        await change(gateway, socket_folder, front=listens)
        converse: Any = gateway.stub.Converse
        host, listener = converse(metadata=bearer("talker")), converse(metadata=bearer("front"))
        await host.write(pb.ConverseRequest(configure=pb.Configure(channel="c")))
        prompt = pb.Prompt(parts=[common_pb2.ContentPart(text="Why?")])

        async def hears(call: Any) -> list[str]:
            events = []
            while response := await call.read():
                events.append(response.WhichOneof("event"))
                if events[-1] == "turn_completed":
                    break
            return events

        await listener.write(pb.ConverseRequest(configure=pb.Configure(channel="c", listen_only=True)))
        await joined(gateway, 2)
        await host.write(pb.ConverseRequest(prompt=prompt))
        for call in (host, listener):
            assert (await hears(call))[-1] == "turn_completed"
        await change(gateway, socket_folder, front={**listens, "disabled": True})
        await host.write(pb.ConverseRequest(prompt=prompt))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            assert await hears(listener) == []
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert (await hears(host))[-1] == "turn_completed"


async def joined(gateway: Gateway, count: int) -> None:
    """Wait until so many streams are configured; the guard of the test ends it."""
    while sum(stream.talk.configured for stream in gateway.streams._open if stream.talk) < count:  # noqa: ASYNC110 - as said
        await asyncio.sleep(0.005)


async def test_a_refusal_does_not_wait_for_the_message(socket_folder: pathlib.Path) -> None:
    async with (
        asyncio.timeout(GUARD_S),
        guarded(socket_folder),
        grpc.aio.insecure_channel(f"unix:{socket_folder}/gateway") as channel,
    ):
        # As a caller that announces a message and never sends it.
        open_stream: Any = channel.stream_stream
        assert await open_stream(f"{_SERVICE}Speak")().code() is grpc.StatusCode.UNAUTHENTICATED


# ---------------------------------------------------------------- HTTP


@contextlib.asynccontextmanager
async def web(
    folder: pathlib.Path, *, keys: bool = True, mode: Any = "local", hosts: Any = (), **limits: Any
) -> AsyncIterator[tuple[HttpEdge, httpx2.AsyncClient]]:
    limits = limits if keys else {"gateway_keys_file": "", **limits}
    hosts = None if keys else hosts
    async with guarded(folder, **limits) as gateway, served(gateway, folder, hosts, mode) as both:
        yield both


@contextlib.asynccontextmanager
async def served(
    gateway: Gateway, folder: pathlib.Path, hosts: Any, mode: Any = "local"
) -> AsyncIterator[tuple[HttpEdge, httpx2.AsyncClient]]:
    edge = HttpEdge(
        gateway.turns,
        gateway.sessions,
        gateway.readiness,
        f"unix:{folder}/http",
        lambda *_: None,
        page=LivePage(gateway.live, mode, hosts),
        access=gateway.access,
    )
    edge.start()
    transport = httpx2.AsyncHTTPTransport(uds=f"{folder}/http")
    try:
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://localhost", timeout=GUARD_S
        ) as client:
            yield edge, client
    finally:
        await edge.close()


BODY = {"input": "Hello.", "response_format": "pcm"}


async def test_every_route_has_a_line_and_asks_for_a_key_and_its_scope(socket_folder: pathlib.Path) -> None:
    async with web(socket_folder) as (edge, client):
        served = {f"{method} {route.path}" for route in edge.routes for method in route.methods or ()}
        assert {name for name in served if not name.startswith("HEAD ")} == set(ROUTES)
        for name, needs in ROUTES.items():
            method, _, path = name.partition(" ")
            path = path.replace("{name}", "app.js")
            body: Any = {"json": BODY} if method == "POST" else {}
            if not needs.scopes:
                assert (await client.request(method, path)).status_code == 200
                continue
            for headers in ({}, {"authorization": "Bearer vmk_speaker_x"}):
                answer = await client.request(method, path, headers=headers, **body)
                assert answer.status_code == 401, name
                scheme = answer.headers["www-authenticate"].partition(" ")[0]
                assert scheme == ("Basic" if path.startswith("/live") else "Bearer")
                assert answer.json()["error"]["code"] == "unauthenticated"
            for who, scopes in SCOPES.items():
                if not set(scopes) & set(needs.scopes):
                    headers = {"authorization": f"Bearer {KEYS[who]}"}
                    answer = await client.request(method, path, headers=headers, **body)
                    assert answer.status_code == 403, (name, who)
                    assert f"`{needs.scopes[0]}`" in answer.json()["error"]["message"]


async def test_speech_over_http_is_its_keys_tenants(socket_folder: pathlib.Path) -> None:
    async with web(socket_folder) as (_, client):
        headers = {"authorization": f"Bearer {KEYS['speaker']}"}
        answer = await client.post("/v1/audio/speech", json=BODY, headers=headers)
        assert answer.status_code == 200
        other = {**headers, "x-voicemesh-tenant": "rival"}
        answer = await client.post("/v1/audio/speech", json=BODY, headers=other)
        assert answer.status_code == 403
        assert "tenant:any" in answer.json()["error"]["message"]
        bad = {**headers, "x-voicemesh-tenant": "a b"}
        assert (await client.post("/v1/audio/speech", json=BODY, headers=bad)).status_code == 400


async def test_a_browser_sees_the_page_with_a_key_as_password(socket_folder: pathlib.Path) -> None:
    async with web(socket_folder) as (_, client):

        def basic(name: str) -> dict[str, str]:
            return {"authorization": "Basic " + base64.b64encode(f"me:{KEYS[name]}".encode()).decode()}

        assert (await client.get("/live", headers=basic("operator"))).status_code == 200
        assert (await client.get("/live/api/turns", headers=basic("operator"))).status_code == 200
        assert (await client.get("/live", headers=basic("speaker"))).status_code == 403
        # Only the page: a browser adds what it knows to whatever any site asks for.
        assert (await client.get("/v1/voices", headers=basic("speaker"))).status_code == 401


async def test_an_open_page_is_for_names_that_are_ours(socket_folder: pathlib.Path) -> None:
    hosts = ("mesh.example",)
    async with web(socket_folder, keys=False, mode="open", hosts=hosts) as (_, client):
        for host, code in (
            ("localhost:8080", 200),
            ("192.0.2.7:8080", 200),
            ("[2001:db8::1]:8080", 200),
            ("mesh.example:8080", 200),
            ("evil.example:8080", 403),
            ("", 403),
        ):
            assert (await client.get("/live/api/turns", headers={"host": host})).status_code == code, host
    async with web(socket_folder, mode="open") as (_, client):
        headers = {"host": "any.example", "authorization": f"Bearer {KEYS['operator']}"}
        assert (await client.get("/live/api/turns", headers=headers)).status_code == 200


async def test_a_page_of_another_site_makes_nobody_speak(socket_folder: pathlib.Path) -> None:
    async with web(socket_folder, keys=False) as (_, client):
        for headers, code in (
            ({}, 200),
            ({"sec-fetch-site": "same-origin", "origin": "https://behind-a-proxy.example"}, 200),
            ({"sec-fetch-site": "cross-site"}, 403),
            ({"origin": "https://evil.example"}, 403),
            ({"origin": "http://localhost"}, 200),
        ):
            # Without preflight: as a form would send it.
            answer = await client.post(
                "/v1/audio/speech",
                content=json.dumps(BODY),
                headers={"content-type": "text/plain", **headers},
            )
            assert answer.status_code == code, headers


async def test_the_live_page_tells_no_more_to_a_key_that_is_revoked(socket_folder: pathlib.Path) -> None:
    headers = {"authorization": f"Bearer {KEYS['operator']}"}
    async with (
        guarded(socket_folder) as gateway,
        served(gateway, socket_folder, None) as (_, client),
    ):
        async with client.stream("GET", "/live/api/events", headers=headers) as stream:
            assert stream.status_code == 200
            parts = stream.aiter_text()
            assert "retry" in await anext(parts)
            await change(gateway, socket_folder, operator={"disabled": True})
            gateway.live.feed.publish("turn", lambda: {"secret": "of a tenant"})
            assert not [part async for part in parts if "secret" in part]
        assert (await client.get("/live/api/events", headers=headers)).status_code == 401
