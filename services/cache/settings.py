"""Settings of the cache service."""

import importlib.util
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from services.cache.admission import MOST_REQUESTS
from services.cache.prompts import Match
from services.cache.sums import MOST_KEYS
from voicemesh.runtime.settings import ListenAddress, MetricsAddress, ServerSettings

_HEADROOM_BYTES = 512 * 1024
_LEAST_KEY_CHARS = 32
_MOST_KEY_CHARS = 512


def keys_of(value: SecretStr | None) -> tuple[bytes, ...]:
    """Return the keys of `cache_hmac_keys`."""
    text = value.get_secret_value() if value is not None else ""
    return tuple(key.strip().encode() for key in text.split(",") if key.strip())


class CacheSettings(ServerSettings):
    """What the cache service can be told. Each field is the variable `VOICEMESH_<FIELD>`."""

    cache_listen: ListenAddress = "127.0.0.1:50054"
    """Where it listens."""
    cache_metrics_listen: MetricsAddress = ""
    """Where Prometheus scrapes this process; empty: nowhere. `voicemesh up` sets it."""
    redis_url: SecretStr | None = None
    """Redis behind memory: redis://, rediss:// (TLS) or unix://; not set: memory alone. May hold a
    password, so it is never printed."""
    cache_hmac_keys: SecretStr | None = None
    """Keys that entries in Redis are signed with, apart by commas: the first signs, each is tried for
    reading. Each has 32 to 512 letters. Not set: whoever can write to Redis decides what is said. With keys
    leases are each replica's own. See docs/cache.md."""
    cache_memory_bytes: Annotated[int, Field(ge=1024 * 1024)] = 256 * 1024 * 1024
    """Bytes that entries may take in memory: 3/4 for audio, 1/8 each for replies and histories. Taken as
    they are used, not at the start."""
    cache_fill_bytes: Annotated[int, Field(ge=64 * 1024)] = 32 * 1024 * 1024
    """Bytes that audio may take while it is being made; beyond it, it is not shared or kept."""
    cache_max_value_bytes: Annotated[int, Field(ge=1024)] = 3 * 1024 * 1024
    """Largest value; must leave 512 KiB below `max_message_bytes`."""
    cache_max_text_chars: Annotated[int, Field(ge=1)] = 16_384
    """Longest text of an audio key, in characters."""
    cache_prompt_match: Match = "typing"
    """Which prompts share a reply: `exact`, `typing` (spaces, quotes, dashes, a capital at the beginning, a
    full stop at the end do not count), or `loose` (words and numbers alone do). See docs/cache.md."""
    cache_audio_ttl_s: Annotated[int, Field(ge=1)] = 7200
    """How long audio is kept."""
    cache_reply_ttl_s: Annotated[int, Field(ge=1)] = 1800
    """How long replies are kept."""
    cache_history_ttl_s: Annotated[int, Field(ge=1)] = 3600
    """How long a session's history is kept after its last turn."""
    cache_history_copy_ttl_s: Annotated[int, Field(ge=1)] = 300
    """How long memory keeps a copy of a history that Redis has."""
    cache_admit_requests: Annotated[int, Field(ge=1, le=MOST_REQUESTS)] = 2
    """Requests for audio within the window from which on Redis is given it; 1: at once."""
    cache_admit_memory_requests: Annotated[int, Field(ge=1, le=MOST_REQUESTS)] = 1
    """Requests for audio within the window from which on memory keeps it; 1: at once."""
    cache_admit_window_s: Annotated[int, Field(ge=1)] = 7200
    """How long a request for audio counts; at most twice as long."""
    cache_admit_keys: Annotated[int, Field(ge=1024, le=16_777_216)] = 32_768
    """Different audio whose requests are counted, 32 bytes each; with more of it the window is shorter."""
    cache_lease_ttl_ms: Annotated[int, Field(ge=10, le=600_000)] = 2000
    """Milliseconds without an append after which another may take a lease over."""
    cache_lease_heartbeat_ms: Annotated[int, Field(ge=10, le=60_000)] = 250
    """How often a replica of the cache tells Redis that it holds a lease; after four times as long
    without, another replica takes it over."""
    cache_redis_timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 15
    """Milliseconds that a request waits for Redis at most; then Redis is held off. Less than the 20 that
    the gateway waits for the cache: a slow Redis must not look like a slow cache."""
    cache_redis_retry_min_ms: Annotated[int, Field(ge=10)] = 1000
    """First wait before Redis is tried again; doubles with each failure."""
    cache_redis_retry_max_ms: Annotated[int, Field(ge=10)] = 30_000
    """Longest wait before Redis is tried again."""
    cache_redis_queue_entries: Annotated[int, Field(ge=1)] = 1024
    """Writes to Redis that may wait; beyond it the oldest are given up."""
    cache_redis_queue_bytes: Annotated[int, Field(ge=1024)] = 16 * 1024 * 1024
    """Bytes of writes to Redis that may wait."""
    cache_similar: bool = False
    """Give out the reply to a similar prompt where the exact one is missing. It may be a wrong answer: see
    docs/cache.md. Needs the two below, and the extra `semantic`."""
    cache_similar_base_url: str = ""
    """Address of a server that speaks OpenAI's protocol for embeddings, with its /v1. It is sent prompts."""
    cache_similar_model: str = ""
    """Its model."""
    cache_similar_api_key: SecretStr | None = None
    """Its key; not set: none is sent."""
    cache_similar_dimensions: Annotated[int, Field(ge=1, le=8192)] | None = None
    """Numbers of an embedding to ask for; not set: as many as the model gives."""
    cache_similar_timeout_ms: Annotated[int, Field(ge=1, le=10_000)] = 15
    """Milliseconds that a request may be held for an embedding, from its arrival; never longer than 3/4 of
    `gateway_cache_timeout_ms`."""
    cache_similar_threshold: Annotated[float, Field(ge=0.5, le=1)] = 0.95
    """Least cosine of two prompts that are similar. Models differ: measure yours."""
    cache_similar_bytes: Annotated[int, Field(ge=1024 * 1024)] = 16 * 1024 * 1024
    """Bytes of vectors; beyond it the contexts that were used least recently are forgotten."""
    cache_similar_context_entries: Annotated[int, Field(ge=1, le=65_536)] = 1024
    """Prompts of one context (tenant, model, all messages before); beyond it the oldest is forgotten."""

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return value

    @field_validator("cache_hmac_keys")
    @classmethod
    def _check_hmac_keys(cls, value: SecretStr | None) -> SecretStr | None:
        keys = keys_of(value)
        if len(keys) > MOST_KEYS:
            raise ValueError(f"has {len(keys)} keys; at most {MOST_KEYS} are tried")
        for number, key in enumerate(keys, 1):
            if not _LEAST_KEY_CHARS <= len(key) <= _MOST_KEY_CHARS:
                raise ValueError(
                    f"key {number} has {len(key)} letters; it must have {_LEAST_KEY_CHARS} to "
                    f"{_MOST_KEY_CHARS}, as `openssl rand -hex 32` makes them"
                )
        return value if keys else None

    @field_validator("cache_similar_base_url")
    @classmethod
    def _check_base_url(cls, value: str) -> str:
        value = value.strip()
        if not value:
            return ""
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:
            raise ValueError("not an address: the host or the port is malformed") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be http://HOST… or https://HOST…, for example http://127.0.0.1:8000/v1")
        if parts.username or parts.password:
            raise ValueError(
                "must not hold a user or a password: it is printed. Use VOICEMESH_CACHE_SIMILAR_API_KEY"
            )
        return value

    @field_validator("cache_similar_api_key")
    @classmethod
    def _check_api_key(cls, value: SecretStr | None) -> SecretStr | None:
        key = value.get_secret_value().strip() if value is not None else ""
        if not key.isascii() or not key.isprintable():
            raise ValueError("has characters that no HTTP header may hold")
        return SecretStr(key) if key else None

    @field_validator("cache_similar_dimensions", mode="before")
    @classmethod
    def _check_dimensions(cls, value: object) -> object:
        return None if value == "" else value

    @model_validator(mode="after")
    def _check_similar(self) -> Self:
        if not self.cache_similar:
            return self
        for name in ("base_url", "model"):
            if not getattr(self, f"cache_similar_{name}"):
                raise ValueError(
                    f"VOICEMESH_CACHE_SIMILAR: needs VOICEMESH_CACHE_SIMILAR_{name.upper()}: a server that "
                    "gives embeddings, and its model"
                )
        missing = [package for package in ("numpy", "httpx2") if importlib.util.find_spec(package) is None]
        if missing:
            raise ValueError(
                f"VOICEMESH_CACHE_SIMILAR: needs the package {' and '.join(missing)}: "
                "pip install 'voicemesh[semantic]'"
            )
        return self

    @property
    def max_entry_bytes(self) -> int:
        """Longest entry in Redis: a value of any size that is taken, with its header."""
        return self.cache_max_value_bytes + _HEADROOM_BYTES

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if self.cache_max_value_bytes + _HEADROOM_BYTES > self.max_message_bytes:
            raise ValueError(
                "VOICEMESH_CACHE_MAX_VALUE_BYTES: must be at least 524288 below VOICEMESH_MAX_MESSAGE_BYTES"
            )
        if self.cache_redis_retry_min_ms > self.cache_redis_retry_max_ms:
            raise ValueError(
                "VOICEMESH_CACHE_REDIS_RETRY_MIN_MS: must not exceed VOICEMESH_CACHE_REDIS_RETRY_MAX_MS"
            )
        return self
