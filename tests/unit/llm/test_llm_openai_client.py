import json

import httpx2
import openai
import pytest

from services.llm.core.openai_client import attempt_error_of, retry_after_ms_of
from voicemesh.runtime.errors import (
    DeadlineError,
    LlmKeyRefusedError,
    LlmRateLimitedError,
    LlmRequestRefusedError,
    LlmUnavailableError,
    UnknownModelError,
)

REQUEST = httpx2.Request("POST", "http://127.0.0.1/v1/chat/completions")
KEY = "sk-very-secret"


def _status(
    status: int, *, code: str | None = None, message: str = "why", **headers: str
) -> openai.APIStatusError:
    response = httpx2.Response(status, headers=headers, request=REQUEST)
    return openai.APIStatusError(message, response=response, body={"message": message, "code": code})


@pytest.mark.parametrize(
    ("status", "expected", "retryable"),
    [
        (400, LlmRequestRefusedError, False),
        (401, LlmKeyRefusedError, False),
        (402, LlmUnavailableError, False),
        (403, LlmKeyRefusedError, False),
        (404, UnknownModelError, False),
        (408, LlmUnavailableError, True),
        (413, LlmRequestRefusedError, False),
        (422, LlmRequestRefusedError, False),
        (429, LlmRateLimitedError, True),
        (500, LlmUnavailableError, True),
        (503, LlmUnavailableError, True),
    ],
)
def test_each_status_has_its_meaning(status: int, expected: type[Exception], retryable: bool) -> None:
    failure = attempt_error_of(_status(status), model="gpt-x", api_key=KEY)
    assert type(failure.error) is expected
    assert failure.retryable is retryable
    assert f"HTTP {status}" in failure.error.message


def test_a_refused_key_names_the_variable_and_never_the_key() -> None:
    failure = attempt_error_of(_status(401, message=f"bad key {KEY}"), model="gpt-x", api_key=KEY)
    assert "check OPENAI_API_KEY" in failure.error.message
    assert KEY not in failure.error.message
    assert "set OPENAI_API_KEY" in attempt_error_of(_status(401), model="gpt-x", api_key="").error.message


def test_a_refused_request_says_why_without_the_key_and_in_bounds() -> None:
    failure = attempt_error_of(_status(400, message=f"{KEY}\n" + "long " * 200), model="gpt-x", api_key=KEY)
    assert "*** long long" in failure.error.message
    assert KEY not in failure.error.message
    assert len(failure.error.message) < 400


def test_a_used_up_quota_is_not_tried_again() -> None:
    failure = attempt_error_of(_status(429, code="insufficient_quota"), model="gpt-x", api_key=KEY)
    assert not failure.retryable
    assert "quota" in failure.error.message


def test_a_rate_limit_says_when() -> None:
    failure = attempt_error_of(_status(429, **{"retry-after": "1.5"}), model="gpt-x", api_key=KEY)
    assert failure.retry_after_ms == 1500
    assert failure.error.retry_after_ms == 1500


def test_timeouts_and_lost_connections() -> None:
    timeout = openai.APITimeoutError(request=REQUEST)
    assert isinstance(attempt_error_of(timeout, model="m", api_key="").error, DeadlineError)
    timeout.__cause__ = httpx2.ConnectTimeout("slow")
    failure = attempt_error_of(timeout, model="m", api_key="")
    assert isinstance(failure.error, LlmUnavailableError)
    assert failure.retryable
    lost = openai.APIConnectionError(request=REQUEST)
    assert attempt_error_of(lost, model="m", api_key="").retryable
    assert attempt_error_of(json.JSONDecodeError("no", "x", 0), model="m", api_key="").retryable


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"message": "overloaded"}, LlmUnavailableError),
        ({"message": "too long", "code": 400}, LlmRequestRefusedError),
        ({"message": "slow", "code": "429"}, LlmRateLimitedError),
        ({"message": "odd", "code": "context_length_exceeded"}, LlmUnavailableError),
        ({"message": "odd", "code": "99999"}, LlmUnavailableError),
    ],
)
def test_errors_that_come_as_an_event_of_the_stream(
    body: dict[str, object], expected: type[Exception]
) -> None:
    error = openai.APIError("failed", REQUEST, body=body)
    assert type(attempt_error_of(error, model="m", api_key="").error) is expected


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2000),
        ({"retry-after": "0"}, 0),
        ({"retry-after-ms": "70", "retry-after": "2"}, 70),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 90_000),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1e99"}, 3_600_000),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Thu, 01 Jan 2099 00:00:00 GMT"}, 3_600_000),
    ],
)
def test_retry_after_is_seconds_milliseconds_or_a_date(headers: dict[str, str], wait_ms: int | None) -> None:
    assert retry_after_ms_of(httpx2.Headers(headers), now_s=10.0) == wait_ms
