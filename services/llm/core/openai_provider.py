"""Any server that speaks OpenAI's chat completions protocol, over pooled HTTP connections."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from services.llm.core.dialect import Dialect
from services.llm.core.model import (
    AttemptError,
    Connected,
    FinishReason,
    HttpObserver,
    ImagePart,
    Message,
    ProviderEnd,
    ProviderEvent,
    ProviderRequest,
    TextPart,
    TextPiece,
    Unspoken,
    Usage,
)
from services.llm.core.surrogates import SurrogateJoiner
from voicemesh.runtime.errors import DeadlineError, LlmKeyRefusedError, LlmUnavailableError

OPENAI_URL: Final = "https://api.openai.com/v1"
_PROBE_TIMEOUT_S: Final = 10.0
_USAGE_WAIT_S: Final = 2.0
"""How long a reply that is complete waits for the usage behind it."""
_REASONS: Final = {
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
}
_UNSPOKEN: Final = ("reasoning_content", "reasoning", "reasoning_details", "tool_calls", "function_call")
"""Fields of a delta that are no text of the reply."""


class OpenAiProvider:
    """Asks through the `openai` package, which is imported in a thread when it is first needed.

    Args:
        model: The model to ask where the caller names none.
        api_key: The key, or "" for servers that need none.
        base_url: Address of the API, or "" for OpenAI.
        connect_timeout_s: Longest wait for a connection.
        total_timeout_s: Longest wait for the next bytes.
        max_connections: Connections at once.
        max_keepalive_connections: Idle ones that are kept.
        name: What it is called.
        key_variable: The environment variable of its key, for people.
        keep_warm_s: How often it is asked something, at least; idle connections are kept for longer.
        http2: Ask by HTTP/2 where the server offers that.
        headers: Of every request.
        continues_by: How it goes on with a reply; see `ProviderDeclaration`.

    """

    def __init__(
        self,
        *,
        model: str,
        api_key: str,
        base_url: str,
        connect_timeout_s: float,
        total_timeout_s: float,
        max_connections: int,
        max_keepalive_connections: int,
        name: str = "openai",
        key_variable: str = "OPENAI_API_KEY",
        keep_warm_s: float = 0.0,
        http2: bool = False,
        headers: Mapping[str, str] | None = None,
        continues_by: str = "ask",
    ) -> None:
        self.name = name
        self.model = model
        self._api_key = api_key
        self._key_variable = key_variable or "api_key_env"
        self._continues_by = continues_by
        self._base_url = base_url or OPENAI_URL
        self._client_options: dict[str, Any] = {
            "connect_timeout_s": connect_timeout_s,
            "total_timeout_s": total_timeout_s,
            "max_connections": max_connections,
            "max_keepalive_connections": max_keepalive_connections,
            "keep_warm_s": keep_warm_s,
            "http2": http2,
            "headers": dict(headers or {}),
        }
        parts = urlsplit(self._base_url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
        self._address = f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}/chat/completions"
        self.server: tuple[str, int] | None = (host, parts.port or (443 if parts.scheme == "https" else 80))
        self._is_openai = host.endswith(("openai.com", "openai.azure.com"))
        self._dialect = Dialect(is_openai=self._is_openai)
        self._loading: asyncio.Future[tuple[Any, Any]] | None = None

    async def _load(self) -> tuple[Any, Any]:
        """Return the client, and the module that knows its failures."""
        if self._loading is None:
            self._loading = asyncio.ensure_future(asyncio.to_thread(self._import))
        try:
            # Shielded: one caller that goes away must not take the client from the others.
            return await asyncio.shield(self._loading)
        except Exception:  # whatever it was, the next caller tries anew; this one is told
            self._loading = None
            raise

    def _import(self) -> tuple[Any, Any]:
        from services.llm.core import openai_client  # noqa: PLC0415 - see its docstring

        client = openai_client.make_client(
            api_key=self._api_key, base_url=self._base_url, **self._client_options
        )
        return client, openai_client

    async def generate(self, request: ProviderRequest) -> AsyncGenerator[ProviderEvent, None]:
        """Ask once and yield the reply as it comes; see `Provider.generate`."""
        client, package = await self._load()
        try:
            stream, http = await self._ask(client, package, request)
            error: BaseException | None = None
            try:
                yield Connected()
                async for event in _events_of(stream, request.model, package.FAILURES):
                    if isinstance(event, ProviderEnd):
                        http.end()
                    yield event
            except BaseException as caught:
                error = caught
                raise
            finally:
                http.end(asyncio.CancelledError() if isinstance(error, GeneratorExit) else error)
                await stream.close()
        except package.FAILURES as error:
            raise self._failure_of(package, error, request.model) from error

    async def _ask(self, client: Any, package: Any, request: ProviderRequest) -> tuple[Any, HttpObserver]:
        """Ask; where a parameter is refused that a reply can be made without, ask at once without it."""
        asked = self._body_of(request)
        while True:
            body = self._dialect.body(asked)
            http = request.watch("POST", self._address)
            try:
                stream = await package.ask(client, body, http.headers)
            except BaseException as error:
                http.answered(*package.answer_of(error))
                http.end(error)
                if not isinstance(error, package.FAILURES):
                    raise
                refusal = package.refusal_of(error)
                if refusal is None or not self._dialect.learn(request.model, body, *refusal):
                    raise
            else:
                http.answered(*package.answer_of(stream))
                return stream, http

    def _failure_of(self, package: Any, error: Exception, model: str) -> AttemptError:
        failure: AttemptError = package.attempt_error_of(
            error, model=model, api_key=self._api_key, key_variable=self._key_variable
        )
        return failure

    def _body_of(self, request: ProviderRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [_message_of(message) for message in request.messages],
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_tokens": request.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.stop:
            body["stop"] = list(request.stop)
        if request.seed is not None:
            body["seed"] = request.seed
        if request.session_id and self._is_openai:
            body["prompt_cache_key"] = _cache_key(request.tenant, request.session_id)
        if request.continues:
            self._continue(body)
        return body

    def _continue(self, body: dict[str, Any]) -> None:
        """Have the server go on behind the last message; some do where it is the assistant's, unasked."""
        if self._continues_by == "prefill":
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        elif self._continues_by == "prefix":
            body["messages"][-1]["prefix"] = True

    async def probe(self) -> None:
        """Ask for the list of models, which also opens a connection; see `Provider.probe`.

        A server without such a list counts as one that can be used.
        """
        client, package = await self._load()
        try:
            # Raw: what the list looks like does not matter.
            await client.models.with_raw_response.list(timeout=_PROBE_TIMEOUT_S)
        except package.FAILURES as error:
            failure = self._failure_of(package, error, self.model)
            unreachable = failure.retryable and isinstance(failure.error, LlmUnavailableError)
            if unreachable or isinstance(failure.error, (LlmKeyRefusedError, DeadlineError)):
                raise failure from error

    async def close(self) -> None:
        """Close every connection."""
        if self._loading is not None:
            client, _ = await self._loading
            await client.close()


@dataclass(frozen=True)
class _Piece:
    """What one chunk of the stream says; empty where it says nothing."""

    text: str
    unspoken: bool
    finish: str
    usage: Usage | None
    model: str
    response_id: str


async def _events_of(
    stream: Any, model: str, failures: tuple[type[Exception], ...]
) -> AsyncGenerator[ProviderEvent, None]:
    joiner = SurrogateJoiner()
    response_id = ""
    while True:
        try:
            piece = _piece_of(await anext(stream))
        except StopAsyncIteration:
            # A server that is done says so. One that just stops was cut off on the way.
            raise AttemptError(
                LlmUnavailableError("the model's provider ended its answer before it was complete"),
                retryable=True,
            ) from None
        model = piece.model or model
        response_id = piece.response_id or response_id
        if piece.usage is not None:
            yield piece.usage
        if text := joiner.join(piece.text, is_last=bool(piece.finish)):
            yield TextPiece(text)
        elif piece.unspoken:
            yield Unspoken()
        if piece.finish:
            break
    if usage := await _usage_behind(stream, failures):
        yield usage
    yield ProviderEnd(_REASONS.get(piece.finish, FinishReason.STOP), model, response_id)


async def _usage_behind(stream: Any, failures: tuple[type[Exception], ...]) -> Usage | None:
    """Read to the end of a stream whose reply is complete: whatever goes wrong here costs the usage only."""
    usage = None
    try:
        async with asyncio.timeout(_USAGE_WAIT_S):
            while True:
                usage = _piece_of(await anext(stream)).usage or usage
    except (StopAsyncIteration, TimeoutError):
        return usage
    except failures:
        return usage


def _piece_of(chunk: Any) -> _Piece:
    # What servers send is not validated, so nothing is taken for granted here.
    choices = _get(chunk, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    delta = _get(choice, "delta")
    # A refusal is the model's text, too. Reasoning and tool calls are not.
    text = _text_of(delta, "content") or _text_of(delta, "refusal")
    return _Piece(
        text=text,
        unspoken=any(_get(delta, name) for name in _UNSPOKEN),
        finish=_text_of(choice, "finish_reason"),
        usage=_usage_of(_get(chunk, "usage")),
        model=_text_of(chunk, "model"),
        response_id=_text_of(chunk, "id"),
    )


def _get(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, dict) else None


def _text_of(holder: Any, name: str) -> str:
    value = _get(holder, name)
    return value if isinstance(value, str) else ""


def _usage_of(usage: Any) -> Usage | None:
    if usage is None:
        return None
    details = _get(usage, "prompt_tokens_details")
    return Usage(
        input_tokens=_count_of(usage, "prompt_tokens"),
        output_tokens=_count_of(usage, "completion_tokens"),
        cached_input_tokens=_count_of(details, "cached_tokens"),
    )


def _count_of(holder: Any, name: str) -> int:
    value = _get(holder, name)
    return value if isinstance(value, int) and 0 <= value < 2**32 else 0


def _cache_key(tenant: str, session_id: str) -> str:
    """Return what one session of one tenant has in common; OpenAI takes 64 characters at most."""
    return hashlib.sha256(f"{tenant}\0{session_id}".encode()).hexdigest()[:32]


def _message_of(message: Message) -> dict[str, Any]:
    assert message.role is not None
    if not any(isinstance(part, ImagePart) for part in message.parts):
        # Plain text, because not every server takes parts.
        return {"role": message.role.value, "content": message.text}
    content: list[dict[str, Any]] = []
    for part in message.parts:
        if isinstance(part, TextPart):
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, ImagePart):
            content.append({"type": "image_url", "image_url": {"url": _url_of(part)}})
    return {"role": message.role.value, "content": content}


def _url_of(image: ImagePart) -> str:
    return image.url or f"data:{image.media_type};base64,{base64.b64encode(image.data).decode('ascii')}"
