"""What a model is asked, and what that costs: pictures, prompts by name, budgets, prices, sums."""

import base64
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
import pytest_asyncio

from tests.support.mesh import Mesh, running_mesh
from tests.support.openai_server import OpenAiServer, Reply
from voicemesh.client import Image, SpeechOptions, VoiceMesh, VoiceMeshError

pytestmark = pytest.mark.asyncio(loop_scope="module")

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (640).to_bytes(4) + (480).to_bytes(4) + bytes(40)
UNPACED = SpeechOptions(max_lead_ms=0)
PRICES = {"*/m": {"input": 10_000, "cached_input": 5_000, "output": 20_000}}
"""A cent a token, half a cent cached, two cents for one of the reply."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[OpenAiServer]:
    async with OpenAiServer() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(provider: OpenAiServer) -> AsyncIterator[Mesh]:
    async with running_mesh(
        OPENAI_BASE_URL=provider.base_url,
        VOICEMESH_LLM_MODEL="m",
        VOICEMESH_GATEWAY_PROMPTS=json.dumps({"pirate": "Answer as a pirate."}),
        VOICEMESH_GATEWAY_PROMPT_TOKENS="600",
        VOICEMESH_PRICES_LLM=json.dumps(PRICES),
        VOICEMESH_PRICES_SPEECH=json.dumps({"*": {"mchar": 10_000, "engine_second": 0.001}}),
    ) as mesh:
        yield mesh


@pytest_asyncio.fixture(loop_scope="module")
async def client(mesh: Mesh) -> AsyncIterator[VoiceMesh]:
    async with VoiceMesh(mesh.address("gateway")) as client:
        yield client


async def test_a_picture_reaches_the_model_and_the_next_question_is_about_it(
    provider: OpenAiServer, client: VoiceMesh
) -> None:
    before = len(provider.requests)
    async with client.converse(speech=UNPACED) as conversation:
        asked: list[str | Image] = ["What is in this picture?", Image(data=PNG, media_type="image/png")]
        await (await conversation.ask(asked)).collect()
        await (await conversation.ask("And behind it?")).collect()
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    picture = {"type": "image_url", "image_url": {"url": url}}
    first, second = (request.body["messages"] for request in provider.requests[before:])
    assert first[-1]["content"] == [{"type": "text", "text": "What is in this picture?"}, picture]
    assert second[1] == first[1]
    assert second[-1]["content"] == "And behind it?"


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ([Image(data=b"<svg/>", media_type="image/svg+xml")], "prompt.parts[1].image.data"),
        ([Image(data=PNG, media_type="image/jpeg")], "prompt.parts[1].image.media_type"),
        ([Image(url="file:///etc/passwd")], "prompt.parts[1].image.url"),
        ([Image(data=PNG, media_type="image/png")] * 5, "prompt.parts"),
        ([Image(data=PNG + bytes(2_200_000), media_type="image/png")], "prompt.parts.image.data"),
    ],
)
async def test_what_is_no_picture_is_refused_at_the_edge(
    provider: OpenAiServer, client: VoiceMesh, parts: list[Any], field: str
) -> None:
    before = len(provider.requests)
    with pytest.raises(VoiceMeshError) as refused:
        await client.ask(["What is it?", *parts], speech=UNPACED).collect()
    assert refused.value.reason == "INVALID_FIELD"
    assert refused.value.field == field
    assert len(provider.requests) == before


async def test_a_prompt_is_chosen_by_name(provider: OpenAiServer, client: VoiceMesh) -> None:
    for variant, begins in (
        ("pirate", "Answer as"),
        ("compact", "Voice assistant:"),
        ("", "You are a voice"),
    ):
        turn = await client.ask(f"Who are you? {variant}", speech=UNPACED, prompt_variant=variant).collect()
        assert provider.requests[-1].body["messages"][0]["content"].startswith(begins)
        assert turn.report.prompt_variant == (variant or "full")
    with pytest.raises(VoiceMeshError, match="there are auto, full, compact, pirate"):
        await client.ask("Hello?", speech=UNPACED, prompt_variant="none").collect()
    own = await client.ask("Hello?", speech=UNPACED, system_prompt="Be rude.").collect()
    assert own.report.prompt_variant == ""


async def test_prompts_grow_at_their_end_but_for_a_trim(provider: OpenAiServer, client: VoiceMesh) -> None:
    before = len(provider.requests)
    async with client.converse(speech=UNPACED, reply_cache=False) as conversation:
        for turn in range(20):
            provider.script(Reply(tokens=(f"Reply {turn}. ", "It is a very short one of a few words.")))
            question = f"Question number {turn}: what does anybody know about it, and since when?"
            await (await conversation.ask(question)).collect()
    prompts = [request.body["messages"] for request in provider.requests[before:]]
    kept = [later[: len(prompt)] == prompt for prompt, later in pairwise(prompts)]
    assert 8 <= sum(kept) < len(kept)
    assert {prompt[0]["content"] for prompt in prompts} == {prompts[0][0]["content"]}
    assert all(prompt[1]["role"] == "user" for prompt in prompts)
    last, cut = prompts[kept.index(False)], prompts[kept.index(False) + 1]
    tail = cut[1:-2]
    assert tail == last[-len(tail) :]


async def test_what_a_turn_costs_and_what_the_cache_saves(
    provider: OpenAiServer, mesh: Mesh, client: VoiceMesh
) -> None:
    await client.ask("Whose turn is this?", speech=UNPACED).collect()
    async with VoiceMesh(mesh.address("gateway"), tenant="acme") as acme:
        provider.script(Reply(tokens=("It is ", "a cent a token."), usage=(100, 10, 40)))
        paid = (await acme.ask("What does it cost?", speech=UNPACED).collect()).report
        assert paid.cost.llm_usd == pytest.approx(0.6 + 0.2 + 0.2)
        assert paid.cost.prompt_cache_saved_usd == pytest.approx(0.2)
        assert paid.cost.speech_usd == pytest.approx(paid.characters / 100 + paid.engine_ms / 1e6)
        assert paid.engine_ms > 0
        assert paid.cost_usd == pytest.approx(paid.cost.total_usd)
        assert (paid.cost.unpriced, paid.model, paid.cost.saved_usd) == ((), "m", 0)

        hit = (await acme.ask("What does it cost?", speech=UNPACED).collect()).report
        assert (hit.reply_cache, hit.cost_usd, hit.engine_ms) == ("hit", 0, 0)
        # What an engine would have taken is what it took on the mean of the turns before: hardly a cent here.
        assert hit.cost.saved_usd == pytest.approx(paid.cost.total_usd, rel=0.02)

        rows = await acme.usage()
        assert [(row.variant, row.turns) for row in rows] == [("prompt=full", 2)]
        totals = rows[0]
        assert (totals.tenant, totals.variant, totals.turns) == ("acme", "prompt=full", 2)
        assert (totals.input_tokens, totals.cached_input_tokens, totals.output_tokens) == (100, 40, 10)
        assert totals.cost.total_usd == pytest.approx(paid.cost.total_usd)
        assert (totals.cached_replies, totals.cached_characters) == (1, paid.characters)
        # The others' are the operator's to know.
        assert {row.tenant for row in await client.usage(all_tenants=True)} >= {"", "acme"}
        with pytest.raises(VoiceMeshError, match="all_tenants: is for callers that name no tenant"):
            await acme.usage(all_tenants=True)


async def test_a_model_without_a_price_has_no_cost(provider: OpenAiServer, client: VoiceMesh) -> None:
    provider.script(Reply(tokens=("Hello.",), model="unheard-of"))
    report = (await client.ask("Who is that?", speech=UNPACED).collect()).report
    assert report.cost_usd is None
    assert report.cost.unpriced == ("llm openai/unheard-of",)


async def test_tokens_that_nobody_counted_are_estimated(provider: OpenAiServer, client: VoiceMesh) -> None:
    provider.script(Reply(tokens=("Nobody counts ", "these words."), sends_usage=False))
    report = (await client.ask("Do you count?", speech=UNPACED).collect()).report
    assert report.cost.estimated
    assert 30 <= report.input_tokens <= 90
    assert 3 <= report.output_tokens <= 10
