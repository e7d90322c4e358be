"""The `openai` package: its client, and what its failures mean.

Imported late, in a thread: it costs 0.4 s and 20 MB, which a process that only rehearses never pays.
"""

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import openai

from services.llm.core.model import AttemptError
from voicemesh.runtime.errors import (
    DeadlineError,
    LlmKeyRefusedError,
    LlmRateLimitedError,
    LlmRequestRefusedError,
    LlmUnavailableError,
    MeshError,
    UnknownModelError,
)

_KEEPALIVE_EXPIRY_S: Final = 30.0
_DETAIL_CHARS: Final = 300
_LONGEST_RETRY_AFTER_MS: Final = 3_600_000
_RETRYABLE_STATUSES: Final = frozenset({408, 409, 425, 429})

FAILURES: Final = (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, ValueError, TypeError)
"""Everything that asking and reading can raise. `ValueError`: what came is not JSON or not UTF-8;
`TypeError`: it is JSON of another shape."""


def make_client(
    *,
    api_key: str,
    base_url: str,
    connect_timeout_s: float,
    total_timeout_s: float,
    max_connections: int,
    max_keepalive_connections: int,
    keep_warm_s: float = 0.0,
    http2: bool = False,
    headers: Mapping[str, str] | None = None,
) -> openai.AsyncOpenAI:
    """Make a client with a pool of connections. It never retries by itself."""
    timeout = httpx2.Timeout(total_timeout_s, connect=connect_timeout_s)
    http_client = httpx2.AsyncClient(
        timeout=timeout,
        limits=httpx2.Limits(
            max_connections=max_connections,
            max_keepalive_connections=max_keepalive_connections,
            # What is kept warm must not be thrown away in between.
            keepalive_expiry=max(_KEEPALIVE_EXPIRY_S, 2 * keep_warm_s),
        ),
        http2=http2,
        follow_redirects=True,
        # A proxy that the environment names is for other machines.
        trust_env=not _is_loopback(base_url),
    )
    client = openai.AsyncOpenAI(
        # The package insists on a key; servers that need none ignore it.
        api_key=api_key or "none",
        base_url=base_url,
        timeout=timeout,
        max_retries=0,
        default_headers=headers,
        http_client=http_client,
    )
    # It imports what it needs at first use: now, rather than in the first turn.
    _ = client.models
    return client


def answer_of(answer: openai.AsyncStream[object] | BaseException) -> tuple[int, str]:
    """Return the status and the version of HTTP of an answer or of a refusal; (0, "") where none came."""
    response = getattr(answer, "response", None)
    if not isinstance(response, httpx2.Response):
        return 0, ""
    return response.status_code, response.http_version


async def ask(
    client: openai.AsyncOpenAI, body: Mapping[str, Any], headers: Mapping[str, str]
) -> openai.AsyncStream[object]:
    """Ask for a reply and return its stream of chunks, each a `dict` as it came.

    Not by `chat.completions.create`: to make a model of every chunk took more of the processor than all
    else that is done with it.
    """
    return await client.post(
        "/chat/completions",
        body=body,
        options={"headers": headers},
        cast_to=object,
        stream=True,
        stream_cls=openai.AsyncStream[object],
    )


def _is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def attempt_error_of(
    error: Exception, *, model: str, api_key: str, key_variable: str = "OPENAI_API_KEY"
) -> AttemptError:
    """Return what `error`, one of FAILURES, means for the attempt. The key is never in its text."""
    if isinstance(error, openai.APIStatusError):
        return _of_status(error.status_code, error, error.response.headers, model, api_key, key_variable)
    if isinstance(error, openai.APITimeoutError):
        if isinstance(error.__cause__, httpx2.ConnectTimeout):
            return _unavailable("the model's provider did not accept a connection in time")
        return AttemptError(DeadlineError("the model's provider did not answer in time"), retryable=False)
    if isinstance(error, openai.APIConnectionError):
        refused = isinstance(error.__cause__, httpx2.ConnectError)
        how = ": it takes no connection, or has no such name" if refused else ", or closed the connection"
        return _unavailable(f"the model's provider cannot be reached{how}")
    if isinstance(error, openai.APIError):
        # An error that came as an event of the stream, behind response headers that said 200.
        status = int(error.code) if error.code and error.code.isdigit() else 500
        return _of_status(status if 400 <= status < 600 else 500, error, None, model, api_key, key_variable)
    return _unavailable("the model's provider answered with something that is not its protocol")


def refusal_of(error: Exception) -> tuple[str, str] | None:
    """Return the parameter and the text of an error that says what is wrong with a request; else None."""
    if not isinstance(error, openai.APIStatusError) or error.status_code not in (400, 422):
        return None
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    return error.param or "", str(message or error.message)


def _unavailable(message: str) -> AttemptError:
    return AttemptError(LlmUnavailableError(message), retryable=True)


def _of_status(
    status: int,
    error: openai.APIError,
    headers: httpx2.Headers | None,
    model: str,
    api_key: str,
    key_variable: str,
) -> AttemptError:
    retry_after_ms = retry_after_ms_of(headers, time.time()) if headers is not None else None
    mapped: MeshError
    if status in (401, 403):
        advice = f"check {key_variable}" if api_key else f"it needs one: set {key_variable}"
        mapped = LlmKeyRefusedError(f"the model's provider refused the key (HTTP {status}): {advice}")
    elif status == 404:
        mapped = UnknownModelError(
            f"the model's provider has no model {model!r} (HTTP 404): check its name, and the base URL"
        )
    elif status == 429:
        exhausted = error.code == "insufficient_quota"
        what = "quota is used up" if exhausted else "rate limit was hit"
        mapped = LlmRateLimitedError(
            f"the model's provider: its {what} (HTTP 429)", retry_after_ms=retry_after_ms
        )
        # More requests do not bring the quota back.
        return AttemptError(mapped, retryable=not exhausted, retry_after_ms=retry_after_ms)
    elif status in (400, 413, 422):
        detail = _detail_of(error, api_key)
        mapped = LlmRequestRefusedError(f"the model's provider refused the request (HTTP {status}): {detail}")
    else:
        mapped = LlmUnavailableError(f"the model's provider answered with HTTP {status}")
    retryable = status in _RETRYABLE_STATUSES or status >= 500
    return AttemptError(mapped, retryable=retryable, retry_after_ms=retry_after_ms)


def _detail_of(error: openai.APIError, api_key: str) -> str:
    body = error.body
    inner = body.get("message") if isinstance(body, dict) else None
    text = " ".join(str(inner or error.message).split())
    if api_key:
        text = text.replace(api_key, "***")
    return text if len(text) <= _DETAIL_CHARS else f"{text[:_DETAIL_CHARS]}…"


def retry_after_ms_of(headers: httpx2.Headers, now_s: float) -> int | None:
    """Return what `retry-after-ms` or `Retry-After` asks for, in milliseconds; None without them.

    `Retry-After` is seconds, or a date of RFC 9110 that is compared with `now_s` (Unix time).
    More than an hour counts as one.
    """
    for name, factor in (("retry-after-ms", 1.0), ("retry-after", 1000.0)):
        value = headers.get(name, "").strip()
        try:
            wait_ms = float(value) * factor
        except ValueError:
            wait_ms = _ms_until(value, now_s)
        if 0 <= wait_ms < math.inf:
            return round(min(wait_ms, _LONGEST_RETRY_AFTER_MS))
    return None


def _ms_until(date: str, now_s: float) -> float:
    try:
        return max(0.0, (parsedate_to_datetime(date).timestamp() - now_s) * 1000)
    except ValueError:
        return -1.0
