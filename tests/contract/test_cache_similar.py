"""Similar prompts: what is found and what never is, with a server of embeddings and when it is broken."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.cache import instruments
from services.cache.settings import CacheSettings
from tests.contract.cache_harness import GUARD_S, Cache, Stream, audio_key, reply, running_cache, until
from tests.contract.test_cache_process import ROOT, process
from tests.support.openai_server import OpenAiServer, Reply
from tests.support.redis_server import redis_server
from voicemesh.cache.v1 import cache_pb2
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime import settings as runtime_settings
from voicemesh.runtime.breaker_metrics import BREAKER_STATE
from voicemesh.runtime.errors import SettingsError

RAIN = "What is rain?"
LIKE_RAIN = "Can you please tell me what rain is?"
WAIT_MS = 10_000
"""A busy machine is not what is tested."""


def key(prompt: str = RAIN, *, before: tuple[str, ...] = (), image: bool = False, **fields: Any) -> Any:
    messages = [
        common_pb2.Message(role=common_pb2.ROLE_USER, parts=[common_pb2.ContentPart(text=text)])
        for text in (*before, prompt)
    ]
    if image:
        messages[-1].parts.add().image.url = "https://example.org/rain.png"
    return cache_pb2.CacheKey(
        reply=cache_pb2.ReplyKey(**({"llm_revision": "r1", "messages": messages} | fields))
    )


async def look(stream: Stream, wanted: Any, similar_ms: int = WAIT_MS) -> cache_pb2.ExchangeResponse:
    return await stream.ask(get=cache_pb2.Get(key=wanted, similar_ms=similar_ms))


async def put(stream: Stream, wanted: Any, text: str = "Water that falls.", *tags: str) -> None:
    value = cache_pb2.CacheValue(reply=reply(text).reply)
    answer = await stream.ask(put=cache_pb2.Put(key=wanted, value=value, tags=tags))
    assert answer.HasField("done")


async def has_vectors(cache: Cache, number: int) -> None:
    async def there() -> bool:
        return (await cache.stats()).similar.entries == number

    await until(there)


@asynccontextmanager
async def similar(address: str, **changed: Any) -> AsyncIterator[tuple[Cache, Stream, OpenAiServer]]:
    async with OpenAiServer() as server:
        chosen: dict[str, Any] = {
            "cache_similar": True,
            "cache_similar_base_url": server.base_url,
            "cache_similar_model": "bag",
            "cache_similar_timeout_ms": WAIT_MS,
            "cache_similar_threshold": 0.9,
        }
        async with running_cache(address, **(chosen | changed)) as cache, cache.stream() as stream:
            await server.embeddings(0)  # the one that opens the connection
            yield cache, stream, server


async def test_a_similar_prompt_finds_the_reply_and_is_told_as_such(unix_address: str) -> None:
    async with similar(unix_address) as (cache, stream, server):
        await put(stream, key())
        await has_vectors(cache, 1)
        found = (await look(stream, key(LIKE_RAIN))).hit
        assert found.similar
        assert found.value.reply.text == "Water that falls."
        assert server.embedded[-1].body == {
            "model": "bag",
            "encoding_format": "float",
            "input": "can you please tell me what rain is?",
        }
        exact = (await look(stream, key())).hit
        assert not exact.similar
        assert not (await look(stream, key(LIKE_RAIN), similar_ms=0)).HasField("hit")
        await stream.finish()
        stats = await cache.stats()
        replies = next(kind for kind in stats.kinds if kind.kind == "reply")
        assert (replies.memory_hits, replies.misses) == (1, 2)
        assert (stats.similar.hits, stats.similar.misses, stats.similar.guarded) == (1, 0, 0)
        found_as = cache.measured.points(instruments.SIMILAR)
        assert found_as == {("hit",): 1, ("miss",): 0, ("failed",): 0}
        assert cache.measured.points(instruments.ENTRIES)[("vectors",)] == 1
        assert cache.measured.points(instruments.SIZE)[("vectors",)] == stats.similar.bytes
        assert cache.measured.points(BREAKER_STATE) == {("embeddings",): 0}
        asked = cache.spans("embeddings bag")
        assert [dict(span.attributes or {})["gen_ai.operation.name"] for span in asked] == ["embeddings"]
        (served,) = cache.spans("voicemesh.cache.v1.CacheService/Exchange")
        assert dict(served.attributes or {})["voicemesh.cache.similar_hits"] == 1


@pytest.mark.parametrize(
    "other",
    [
        key(LIKE_RAIN, tenant="another"),
        key(LIKE_RAIN, llm_revision="r2"),
        key(LIKE_RAIN, model="another"),
        key(LIKE_RAIN, parameters=common_pb2.GenerationParameters(temperature=0.1)),
        key(LIKE_RAIN, before=("Hello.",)),
        key(LIKE_RAIN, image=True),
    ],
    ids=["tenant", "revision", "model", "parameters", "conversation", "picture"],
)
async def test_another_context_is_never_similar_and_is_not_even_asked_about(
    unix_address: str, other: cache_pb2.CacheKey
) -> None:
    async with similar(unix_address) as (cache, stream, server):
        await put(stream, key())
        await has_vectors(cache, 1)
        asked = len(server.embedded)
        assert (await look(stream, other)).HasField("miss")
        assert len(server.embedded) == asked
        assert (await look(stream, key(LIKE_RAIN))).hit.similar  # it would have been found


async def test_words_that_decide_forbid_what_the_model_takes_for_the_same(unix_address: str) -> None:
    async with similar(unix_address) as (cache, stream, server):
        server.embedding = lambda _: [1.0, 0.0] * 128
        await put(stream, key("Is it 2.5?"))
        await has_vectors(cache, 1)
        for number, prompt in enumerate(("Is it 25?", "Isn't it 2.5?", "Is it 2.5 in Berlin?"), 1):
            assert (await look(stream, key(prompt))).HasField("miss")
            assert (await cache.stats()).similar.guarded == number
        assert (await look(stream, key("Please, is it 2.5?"))).hit.similar


async def test_what_is_removed_is_not_found_any_more(unix_address: str) -> None:
    targets: list[dict[str, Any]] = [
        {"key": key()},
        {"tenant": ""},
        {"tag": "lesson"},
        {"all": True},
    ]
    async with similar(unix_address) as (cache, stream, _):
        for target in targets:
            await put(stream, key(), "Water.", "lesson")
            await has_vectors(cache, 1)
            assert (await look(stream, key(LIKE_RAIN))).hit.similar
            await cache.invalidate(**target)
            stats = (await cache.stats()).similar
            assert (stats.entries, stats.bytes) == (0, 0)
            assert (await look(stream, key(LIKE_RAIN))).HasField("miss")


async def test_what_makes_room_and_what_has_expired_goes_with_its_vector(unix_address: str) -> None:
    async with similar(unix_address, cache_memory_bytes=1024 * 1024, cache_reply_ttl_s=1) as (
        cache,
        stream,
        _,
    ):
        for number in range(20):  # an eighth of it is for replies
            await put(stream, key(f"What is rain of the kind {number}?"), "x" * 20_000)

        async def settled() -> bool:
            stats = await cache.stats()
            kept = next(kind for kind in stats.kinds if kind.kind == "reply").entries
            return 0 < stats.similar.entries == kept < 20

        await until(settled)

        async def expired() -> bool:
            for number in range(20):  # what is read and has expired goes
                await look(stream, key(f"What is rain of the kind {number}?"), similar_ms=0)
            return (await cache.stats()).similar.entries == 0

        await until(expired)


@pytest.mark.parametrize(
    "broken",
    [
        Reply.error(503),
        Reply.error(401, "no such key: sesame"),
        Reply.raw(b"<html>", "text/html"),
        Reply.raw(b'{"data": []}', "application/json"),
        Reply.raw(b'{"data": [{"embedding": "AAAA"}]}', "application/json"),
        Reply.raw(b'{"data": [{"embedding": [1, 2]}]}', "application/json"),
        Reply.raw(b'{"data": [{"embedding": [' + b"0, " * 255 + b"0]}]}", "application/json"),
        Reply(hangs_before_headers=True),
    ],
    ids=["503", "401", "html", "none", "base64", "dimensions", "zeros", "hangs"],
)
async def test_a_server_that_fails_makes_a_miss_and_then_is_left_alone(
    unix_address: str, broken: Reply
) -> None:
    timeout_ms = 50 if broken.hangs_before_headers else WAIT_MS
    async with similar(unix_address, cache_similar_timeout_ms=timeout_ms) as (cache, stream, server):
        await put(stream, key())
        await has_vectors(cache, 1)
        server.script_embeddings(*[broken] * 50)
        for _ in range(8):
            assert (await look(stream, key(LIKE_RAIN))).HasField("miss")
        assert (await cache.stats()).similar.failures == 5
        asked = len(server.embedded)
        assert (await look(stream, key(LIKE_RAIN))).HasField("miss")
        assert (await look(stream, key())).HasField("hit")
        assert len(server.embedded) == asked


async def test_a_prompt_that_is_missing_is_embedded_once_and_found_from_then_on(unix_address: str) -> None:
    async with similar(unix_address) as (cache, stream, server):
        await put(stream, key("How do trees grow?"), "Slowly.")
        await has_vectors(cache, 1)
        assert (await look(stream, key())).HasField("miss")
        asked = len(server.embedded)
        await put(stream, key())
        assert (await cache.stats()).similar.entries == 2
        assert len(server.embedded) == asked
        assert (await look(stream, key(LIKE_RAIN))).hit.value.reply.text == "Water that falls."


async def test_a_request_that_has_no_time_left_asks_nobody(unix_address: str) -> None:
    async with similar(unix_address, cache_similar_timeout_ms=1) as (cache, stream, server):
        await put(stream, key())
        await has_vectors(cache, 1)
        asked = len(server.embedded)
        for budget_ms in (1, WAIT_MS):  # the caller's, and that of the service: it is 1
            assert (await look(stream, key(LIKE_RAIN), budget_ms)).HasField("miss")
        assert len(server.embedded) == asked


async def test_another_replica_learns_of_a_prompt_when_it_reads_its_reply(unix_address: str) -> None:
    async with (
        redis_server() as redis,
        similar(unix_address, redis_url=redis.url) as (cache, stream, _),
        similar(f"{unix_address}-2", redis_url=redis.url) as (second, second_stream, _),
    ):
        await until(lambda: cache.service.core.stats().redis_available)
        await until(lambda: second.service.core.stats().redis_available)
        await put(stream, key())
        await has_vectors(cache, 1)

        async def read() -> bool:  # it is written behind
            return (await look(second_stream, key())).HasField("hit")

        await until(read)
        await has_vectors(second, 1)
        assert (await look(second_stream, key(LIKE_RAIN))).hit.similar


async def test_while_it_is_off_nothing_is_looked_for_and_nothing_imported(unix_address: str) -> None:
    async with running_cache(unix_address) as cache, cache.stream() as stream:
        await put(stream, key())
        assert (await look(stream, key(LIKE_RAIN))).HasField("miss")
        assert not (await cache.stats()).HasField("similar")
    heavy = "{'numpy', 'httpx2', 'openai'}"
    code = f"import sys, services.cache.hosted, services.cache.servicer; print({heavy} & set(sys.modules))"
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(GUARD_S):
        out, _ = await running.communicate()
    assert out.decode().strip() == "set()"


async def test_similar_prompts_are_for_replies(unix_address: str) -> None:
    async with running_cache(unix_address) as cache, cache.stream() as stream:
        answer = await look(stream, audio_key())
        assert "get.similar_ms" in answer.error.message


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("VOICEMESH_CACHE_SIMILAR_BASE_URL", "", "VOICEMESH_CACHE_SIMILAR_BASE_URL"),
        ("VOICEMESH_CACHE_SIMILAR_MODEL", "", "VOICEMESH_CACHE_SIMILAR_MODEL"),
        ("VOICEMESH_CACHE_SIMILAR_BASE_URL", "http://user:sesame@host/v1", "VOICEMESH_CACHE_SIMILAR_API_KEY"),
        ("VOICEMESH_CACHE_SIMILAR_BASE_URL", "host:1", "must be http"),
        ("VOICEMESH_CACHE_SIMILAR_API_KEY", "sesame\nsesame", "HTTP header"),
        ("VOICEMESH_CACHE_SIMILAR_THRESHOLD", "0.2", "VOICEMESH_CACHE_SIMILAR_THRESHOLD"),
        ("VOICEMESH_CACHE_SIMILAR_TIMEOUT_MS", "0", "VOICEMESH_CACHE_SIMILAR_TIMEOUT_MS"),
        ("VOICEMESH_CACHE_SIMILAR_DIMENSIONS", "0", "VOICEMESH_CACHE_SIMILAR_DIMENSIONS"),
    ],
)
def test_a_wrong_setting_is_named_and_its_secret_is_not(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv("VOICEMESH_CACHE_SIMILAR", "true")
    monkeypatch.setenv("VOICEMESH_CACHE_SIMILAR_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("VOICEMESH_CACHE_SIMILAR_MODEL", "m")
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=told) as refused:
        runtime_settings.load(CacheSettings)
    assert "sesame" not in str(refused.value)


async def test_a_package_that_is_missing_is_named_with_the_extra_that_has_it(unix_address: str) -> None:
    code = (
        "import sys, importlib.machinery as m\n"
        "find = m.PathFinder.find_spec\n"
        "m.PathFinder.find_spec = lambda name, *rest: None if name == 'numpy' else find(name, *rest)\n"
        "from services.cache.__main__ import main\n"
        "sys.exit(main())\n"
    )
    environment = {
        "VOICEMESH_CACHE_LISTEN": unix_address,
        "VOICEMESH_CACHE_SIMILAR": "true",
        "VOICEMESH_CACHE_SIMILAR_BASE_URL": "http://127.0.0.1:1/v1",
        "VOICEMESH_CACHE_SIMILAR_MODEL": "m",
    }
    async with process(*("-c", code), **environment) as running:
        assert running.stderr is not None
        text = (await running.stderr.read()).decode()
        assert await running.wait() == 2
    assert "numpy: pip install 'voicemesh[semantic]'" in text


async def test_a_process_serves_while_its_server_of_embeddings_is_away(unix_address: str) -> None:
    environment = {
        "VOICEMESH_CACHE_LISTEN": unix_address,
        "VOICEMESH_CACHE_SIMILAR": "true",
        "VOICEMESH_CACHE_SIMILAR_BASE_URL": "http://127.0.0.1:1/v1",
        "VOICEMESH_CACHE_SIMILAR_MODEL": "m",
        "VOICEMESH_CACHE_SIMILAR_API_KEY": "sesame",
    }
    async with process(**environment) as running:
        assert running.stderr is not None
        lines = []
        while line := (await running.stderr.readline()).decode():
            lines.append(line)
            if "no embedding yet" in line:
                break
        running.terminate()
        lines.append((await running.stderr.read()).decode())
        assert await running.wait() == 0
    text = "".join(lines)
    assert "no embedding yet" in text
    assert "sesame" not in text
