"""What a question to OpenAI's own API has that one to another server has not."""

from typing import Any

from services.llm.core.openai_provider import OpenAiProvider
from tests.unit.llm.virtual import request


def _provider(base_url: str) -> OpenAiProvider:
    return OpenAiProvider(
        model="m",
        api_key="sk-test",
        base_url=base_url,
        connect_timeout_s=1,
        total_timeout_s=1,
        max_connections=1,
        max_keepalive_connections=1,
    )


def _cache_key(base_url: str = "", **session: Any) -> str | None:
    key: str | None = _provider(base_url)._body_of(request(**session)).get("prompt_cache_key")
    return key


def test_a_session_meets_its_own_prompt_cache() -> None:
    keys = {
        _cache_key(tenant="acme", session_id="s"),
        _cache_key(tenant="globex", session_id="s"),
        _cache_key(tenant="acme", session_id="t"),
        _cache_key(session_id="s"),
    }
    assert len(keys) == 4
    assert _cache_key(tenant="acme", session_id="s") in keys
    # OpenAI refuses keys of more than 64 characters; the contract takes sessions of 256.
    long = _cache_key(tenant="acme", session_id="s" * 256)
    assert long is not None
    assert len(long) <= 64


def test_only_openai_is_sent_a_key_and_only_for_sessions() -> None:
    assert _cache_key(tenant="acme") is None
    assert _cache_key("http://127.0.0.1:8000/v1", tenant="acme", session_id="s") is None
    assert _cache_key("https://mine.openai.azure.com/openai/v1", session_id="s") is not None
