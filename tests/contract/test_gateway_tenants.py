"""Tenants at the edges of the gateway: who is believed to be whom, and what they have in common."""

import asyncio
import json
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx2
import pytest

from gateway.access.caller import Caller, Priority
from gateway.http.edge import HttpEdge
from gateway.prices import SpeechPrice
from gateway.servicer import GatewayServicer
from tests.contract.gateway_harness import GUARD_S, Gateway, Services, running_gateway
from voicemesh.client import SpeechOptions, VoiceMesh, VoiceMeshError
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.errors import InvalidFieldError

BAD = [
    ((("voicemesh-tenant", "a b"),), "must begin with"),
    ((("voicemesh-tenant", "x" * 65),), "65 characters; at most 64"),
    ((("voicemesh-tenant", "*"),), "must begin with"),
    ((("voicemesh-tenant", "a"), ("voicemesh-tenant", "b")), "more than once"),
]


async def spoken(gateway: Gateway, tenant: str, turn_id: str) -> None:
    """Say something as a tenant."""
    async with asyncio.timeout(GUARD_S):
        request = pb.SpeakRequest(text="Hello.", turn_id=turn_id)
        async for _ in gateway.stub.Speak(request, metadata=(("voicemesh-tenant", tenant),)):
            pass


async def _configured(prompt: bool = False) -> AsyncIterator[pb.ConverseRequest]:
    yield pb.ConverseRequest(configure=pb.Configure())
    if prompt:
        part = common_pb2.ContentPart(text="Why?")
        yield pb.ConverseRequest(prompt=pb.Prompt(parts=[part]))


@pytest.mark.parametrize(("metadata", "said"), BAD)
@pytest.mark.parametrize(
    "method", ["Converse", "Speak", "SpeakBatch", "ExplainTurn", "ListTurns", "GetUsage"]
)
async def test_a_tenant_that_cannot_be_is_refused_by_name(
    socket_folder: pathlib.Path, method: str, metadata: Any, said: str
) -> None:
    requests: dict[str, Any] = {
        "Converse": _configured(),
        "Speak": pb.SpeakRequest(text="Hello."),
        "SpeakBatch": pb.SpeakBatchRequest(texts=["Hello."]),
        "ExplainTurn": pb.ExplainTurnRequest(),
        "ListTurns": pb.ListTurnsRequest(),
        "GetUsage": pb.GetUsageRequest(),
    }
    async with running_gateway(str(socket_folder), Services()) as gateway:
        await gateway.serving()
        call = getattr(gateway.stub, method)(requests[method], metadata=metadata)
        answer = call if method in ("ExplainTurn", "GetUsage") else anext(aiter(call))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await asyncio.wait_for(answer, GUARD_S)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "voicemesh-tenant: " in (raised.value.details() or "")
        assert said in (raised.value.details() or "")


async def test_a_stream_is_refused_behind_its_first_message_and_not_before(
    socket_folder: pathlib.Path,
) -> None:
    """Else that message would meet an ended call, and its sender hear of an internal error."""
    async with running_gateway(str(socket_folder), Services()) as gateway:
        await gateway.serving()
        said: list[pb.ConverseRequest] = []

        async def requests() -> AsyncIterator[pb.ConverseRequest]:
            for _ in range(10):
                await asyncio.sleep(0)
            said.append(pb.ConverseRequest(configure=pb.Configure()))
            yield said[0]

        class Context:
            def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
                return BAD[0][0]

            def time_remaining(self) -> None:
                return None

            def peer(self) -> str:
                return "unix:"

        servicer = GatewayServicer(gateway.turns, gateway.recorder, gateway.sessions)
        with pytest.raises(InvalidFieldError):
            await anext(aiter(servicer.Converse(requests(), Context())))
        assert said


async def test_a_turn_is_its_tenants_in_trace_and_account(socket_folder: pathlib.Path) -> None:
    async with running_gateway(str(socket_folder), Services()) as gateway:
        await gateway.serving()
        await spoken(gateway, "acme", "one")
        await spoken(gateway, "rival", "two")
        assert [(span.attributes or {})["voicemesh.tenant"] for span in gateway.spans("turn")] == [
            "acme",
            "rival",
        ]
        async with VoiceMesh(f"unix:{socket_folder}/gateway", tenant="acme") as mesh:
            assert (await mesh.explain()).turn_id == "one"
            assert (await mesh.explain("one")).turn_id == "one"
            with pytest.raises(VoiceMeshError, match="two"):
                await mesh.explain("two")
        async with VoiceMesh(f"unix:{socket_folder}/gateway") as mesh:
            with pytest.raises(VoiceMeshError, match="no turn of this tenant has ended here"):
                await mesh.explain()


@pytest.mark.parametrize(("prices", "cost"), [({}, None), ({"*": SpeechPrice(mchar=1_000_000)}, 6.0)])
async def test_what_has_no_price_has_no_cost_in_the_trace_and_in_the_log(
    socket_folder: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    prices: dict[str, SpeechPrice],
    cost: float | None,
) -> None:
    async with running_gateway(str(socket_folder), Services(), prices_speech=prices) as gateway:
        await gateway.serving()
        await spoken(gateway, "acme", "one")
        (span,) = gateway.spans("turn")
    attributes = span.attributes or {}
    assert attributes.get("voicemesh.cost_usd") == cost
    assert ("voicemesh.unpriced" in attributes) == (cost is None)
    assert f"cost_usd={cost} " in capsys.readouterr().out


async def test_what_others_consumed_is_told_to_nobody_under_a_tenants_name(
    socket_folder: pathlib.Path,
) -> None:
    async with running_gateway(str(socket_folder), Services()) as gateway:
        await gateway.serving()
        for tenant in ("acme", "globex"):
            await spoken(gateway, tenant, "t")

        async def tenants(request: pb.GetUsageRequest, *names: str) -> list[str]:
            metadata = tuple(("voicemesh-tenant", name) for name in names)
            answer = await gateway.stub.GetUsage(request, metadata=metadata, timeout=GUARD_S)
            # No model was asked, so none of its prompts was in use.
            assert {totals.variant for totals in answer.totals} <= {""}
            return [totals.tenant for totals in answer.totals]

        everybody = pb.GetUsageRequest(all_tenants=True)
        assert await tenants(everybody) == ["acme", "globex"]
        assert await tenants(pb.GetUsageRequest(), "acme") == ["acme"]
        assert await tenants(pb.GetUsageRequest()) == []
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await tenants(everybody, "acme")
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "all_tenants: is for callers that name no tenant" in (raised.value.details() or "")


async def test_the_turns_of_others_are_listed_to_nobody_under_a_tenants_name(
    socket_folder: pathlib.Path,
) -> None:
    async with running_gateway(str(socket_folder), Services()) as gateway:
        await gateway.serving()
        for tenant, turn_id in (("acme", "a"), ("globex", "g"), ("acme", "b"), ("", "n")):
            await spoken(gateway, tenant, turn_id)
        address = f"unix:{socket_folder}/gateway"

        async def listed(tenant: str, **options: Any) -> list[tuple[str, str]]:
            async with VoiceMesh(address, tenant=tenant) as mesh:
                return [(turn.tenant, turn.report.turn_id) async for turn in mesh.turns(**options)]

        assert await listed("acme") == [("acme", "b"), ("acme", "a")]
        assert len(await listed("acme", order="ttfa", limit=1)) == 1
        assert sorted(await listed("acme", order="total")) == [("acme", "a"), ("acme", "b")]
        assert await listed("") == [("", "n")]
        assert await listed("stranger") == []
        assert await listed("", all_tenants=True) == [
            ("", "n"),
            ("acme", "b"),
            ("globex", "g"),
            ("acme", "a"),
        ]
        with pytest.raises(VoiceMeshError, match="all_tenants: is for callers that name no tenant"):
            await listed("acme", all_tenants=True)


async def test_turns_are_listed_as_they_are_explained_and_without_their_words(
    socket_folder: pathlib.Path,
) -> None:
    async with running_gateway(str(socket_folder), Services(), gateway_remembered_turns=3) as gateway:
        await gateway.serving()
        for number in range(4):
            await spoken(gateway, "acme", f"t{number}")
        async with VoiceMesh(f"unix:{socket_folder}/gateway", tenant="acme") as mesh:
            turns = mesh.turns(with_text=True, max_age_s=3600)
            reports = [turn.report async for turn in turns]
            assert reports == [await mesh.explain(f"t{number}") for number in (3, 2, 1)]
            assert (turns.matched, turns.remembered, turns.forgotten) == (3, 3, True)
            assert turns.oldest_began_unix_us == reports[-1].began_unix_us > 0
            silent = [turn.report async for turn in mesh.turns()]
            assert {report.text for report in reports} == {"Hello."}
            assert {report.text for report in silent} == {""}
            assert {chunk.text for report in silent for chunk in report.chunks} == {""}
            assert [turn async for turn in mesh.turns(outcomes=["failed"])] == []
            for options in ({"order": "oldest"}, {"outcomes": ["lost"]}, {"limit": -1}, {"max_age_s": -1.0}):
                with pytest.raises(ValueError, match=next(iter(options))):
                    mesh.turns(**options)


async def test_an_id_that_two_tenants_use_names_two_turns(socket_folder: pathlib.Path) -> None:
    async with running_gateway(str(socket_folder), Services()) as gateway:
        await gateway.serving()
        await spoken(gateway, "acme", "same")
        await spoken(gateway, "rival", "same")
        seen = []
        for tenant in ("acme", "rival"):
            async with VoiceMesh(f"unix:{socket_folder}/gateway", tenant=tenant) as mesh:
                seen.append((await mesh.explain("same")).trace_id)
        assert len(set(seen)) == 2


async def test_a_channel_of_one_name_is_each_tenants_own(socket_folder: pathlib.Path) -> None:
    async with running_gateway(str(socket_folder), Services()) as gateway:
        await gateway.serving()
        address = f"unix:{socket_folder}/gateway"
        async with (
            asyncio.timeout(GUARD_S),
            VoiceMesh(address, tenant="acme") as mine,
            VoiceMesh(address, tenant="rival") as theirs,
            mine.converse(channel="c", session_id="s") as host,
        ):
            await (await host.ask("Why?")).collect()
            # Another session would be refused in the same channel.
            async with theirs.converse(channel="c", session_id="other") as guest:
                await (await guest.ask("Why?")).collect()
            async with mine.converse(channel="c", session_id="other") as guest:
                with pytest.raises(VoiceMeshError, match=r"configure\.session_id"):
                    await (await guest.ask("Why?")).collect()


async def test_each_key_names_its_tenant(socket_folder: pathlib.Path) -> None:
    services = Services()
    async with running_gateway(str(socket_folder), services) as gateway:
        await gateway.serving()
        async with (
            asyncio.timeout(GUARD_S),
            VoiceMesh(f"unix:{socket_folder}/gateway", tenant="acme") as mesh,
            mesh.converse(session_id="s") as conversation,
        ):
            await (await conversation.ask("Why?")).collect()
    asked = {
        (key.WhichOneof("key"), getattr(key, key.WhichOneof("key") or "").tenant) for key in services.asked
    }
    assert asked == {("history", "acme"), ("reply", "acme"), ("audio", "acme")}


async def test_http_names_its_tenant_in_a_header(socket_folder: pathlib.Path) -> None:
    async with running_gateway(str(socket_folder), Services(), gateway_max_turns=1) as gateway:
        await gateway.serving()
        path = f"{socket_folder}/http"
        lost: list[str] = []
        edge = HttpEdge(
            gateway.turns,
            gateway.sessions,
            gateway.readiness,
            f"unix:{path}",
            lambda what, _: lost.append(what),
        )
        edge.start()
        body = {"input": "Hello.", "response_format": "pcm"}
        transport = httpx2.AsyncHTTPTransport(uds=path)
        async with httpx2.AsyncClient(transport=transport, base_url="http://mesh", timeout=GUARD_S) as http:
            fine = await http.post("/v1/audio/speech", json=body, headers={"X-Voicemesh-Tenant": "acme"})
            bad = await http.post("/v1/audio/speech", json=body, headers={"X-Voicemesh-Tenant": "a b"})
            both = [("X-Voicemesh-Tenant", "acme"), ("x-voicemesh-tenant", "rival")]
            two = await http.post("/v1/audio/speech", json=body, headers=both)
            with gateway.turns.admit(Caller("rival"), Priority.NORMAL):
                full = await http.post("/v1/audio/speech", json=body)
            again = await http.post("/v1/audio/speech", json=body)
        await edge.drain()
        await edge.close()
        assert not lost
        assert fine.status_code == 200
        attributes = [span.attributes or {} for span in gateway.spans("turn")]
        assert [found["voicemesh.tenant"] for found in attributes] == ["acme", "", ""]
        assert bad.status_code == two.status_code == 400
        assert full.status_code == 429
        assert json.loads(full.content)["error"]["code"] == "too_many_turns"
        assert int(full.headers["retry-after"]) >= 1
        assert again.status_code == 200
        assert json.loads(bad.content)["error"]["param"] == "X-Voicemesh-Tenant"
        assert "more than once" in json.loads(two.content)["error"]["message"]


@pytest.mark.parametrize("name", ["a b", "*", "x" * 65])
def test_the_client_refuses_a_tenant_that_cannot_be(name: str) -> None:
    with pytest.raises(ValueError, match="tenant: "):
        VoiceMesh(tenant=name)


async def test_what_a_turn_stores_has_its_tags_and_says_how_old_it_is(socket_folder: pathlib.Path) -> None:
    services = Services(reply_takes_s=2.5)
    tags = ("lesson-3", "class 7b")
    async with running_gateway(str(socket_folder), services) as gateway:
        await gateway.serving()
        async with (
            asyncio.timeout(GUARD_S),
            VoiceMesh(f"unix:{socket_folder}/gateway") as mesh,
            mesh.converse(speech=SpeechOptions(cache_tags=tags)) as conversation,
        ):
            await (await conversation.ask("Why?")).collect()
    stored = {put.key.WhichOneof("key"): put for put in services.puts}
    for kind in ("audio", "reply"):
        assert tuple(stored[kind].tags) == tags
        assert stored[kind].age_ms >= 2500
    assert not stored["history"].tags


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (("",), r"speech\.cache_tags\[0\]: has 0 characters; 1 to 128"),
        (("x", "x" * 129), r"speech\.cache_tags\[1\]: has 129 characters; 1 to 128"),
        (tuple("abcdefghi"), r"speech\.cache_tags: has 9 tags; at most 8"),
    ],
)
async def test_a_tag_that_cannot_be_is_refused_by_name(
    socket_folder: pathlib.Path, tags: tuple[str, ...], said: str
) -> None:
    async with running_gateway(str(socket_folder), Services()) as gateway:
        await gateway.serving()
        async with asyncio.timeout(GUARD_S), VoiceMesh(f"unix:{socket_folder}/gateway") as mesh:
            for turn in (
                mesh.say("Hello.", speech=SpeechOptions(cache_tags=tags)),
                mesh.ask("Why?", speech=SpeechOptions(cache_tags=tags)),
            ):
                with pytest.raises(VoiceMeshError, match=said):
                    await turn.collect()
