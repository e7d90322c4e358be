"""One request to a server that speaks OpenAI's speech protocol: asked, tried again, and read as it comes.

    ask ──> status 200 ──> first bytes ──> … ──> end
     │          │               │           └─ breaks: for good, the audio so far is out
     └──────────┴── fails ──────┴─> asked again, after a moment or as Retry-After says

Behind the first byte nothing is ever asked again: the same text may sound different the next time.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple, TypeVar

import httpx2

from services.tts.engines.base import CannotSpeakError, RequestFailedError
from services.tts.engines.speech_body import NotPcmError, PcmBody

_T = TypeVar("_T")

_BACKOFF_FIRST_S: Final = 0.2
_RETRYABLE: Final = frozenset({408, 409, 425, 429})
_OF_THE_TEXT: Final = frozenset({400, 413, 422})
_DETAIL_CHARS: Final = 300
_MOST_ERROR_BYTES: Final = 65536
_KEEPALIVE_EXPIRY_S: Final = 30.0


class SpeechServerError(Exception):
    """The server, or what was told about it, is at fault."""


class Server(NamedTuple):
    """Where to ask, and how long to wait."""

    base_url: str
    key_name: str
    """The environment variable of the key: what messages call it."""
    key: str
    """Sent to the server, and nowhere else; "" for servers that need none."""
    sample_rate_hz: int
    connect_timeout_s: float
    silence_timeout_s: float
    timeout_s: float
    max_retries: int
    connections: int


class _Again(Exception):  # noqa: N818 - no failure yet: it says that another try may help
    """Nothing was heard, and another try may help."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        """What the server asks for; None leaves it to us."""


class _Budget:
    """Seconds that the server may still take; what its listener takes is not counted."""

    def __init__(self, server: Server) -> None:
        self._silence_s = server.silence_timeout_s
        self._left_s = server.timeout_s
        self._silent_s = 0.0

    @property
    def next_s(self) -> float:
        """How long the next wait may last."""
        return min(self._silence_s - self._silent_s, self._left_s)

    def spend(self, seconds: float, *, heard: bool) -> None:
        """Note a wait, and whether bytes ended it."""
        self._left_s -= seconds
        self._silent_s = 0.0 if heard else self._silent_s + seconds

    def message(self) -> str:
        """Say which limit the next wait reaches first."""
        if self._left_s <= self._silence_s - self._silent_s:
            return "the speech server took too long for the whole text: see the option timeout_s"
        return "the speech server said nothing for too long: see the option silence_timeout_s"


class SpeechClient:
    """Asks one server. Lives in one event loop.

    Args:
        server: See `Server`.

    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._draw = random.Random()  # noqa: S311 - spreads retries, no secret
        host = httpx2.URL(server.base_url).host
        self._client = httpx2.AsyncClient(
            base_url=server.base_url,
            headers={
                "accept-encoding": "identity",
                "user-agent": "voicemesh",
                **({"authorization": f"Bearer {server.key}"} if server.key else {}),
            },
            # Each wait has its own limit, below.
            timeout=httpx2.Timeout(None, connect=server.connect_timeout_s),
            limits=httpx2.Limits(
                max_connections=server.connections,
                max_keepalive_connections=server.connections,
                keepalive_expiry=_KEEPALIVE_EXPIRY_S,
            ),
            follow_redirects=True,
            # A proxy that the environment names is for other machines.
            trust_env=not (host in ("localhost", "::1") or host.startswith("127.")),
        )

    async def speak(self, body: dict[str, Any], *, proven: bool) -> AsyncGenerator[bytes, None]:
        """Yield the samples of an answer as they come, s16le mono. To close it closes the connection.

        Args:
            body: What is asked for.
            proven: True where the same server has spoken with the same settings before: then a
                refusal that names no field is about the text.

        Raises:
            CannotSpeakError: The server refuses the text.
            RequestFailedError: The network fails, or the server is busy, slow or out of order.
            SpeechServerError: Anything else, which a restart with the same declaration finds at once.
                No message holds the key.

        """
        budget = _Budget(self._server)
        for tried in range(self._server.max_retries + 1):
            begun = False
            try:
                async with aclosing(self._attempt(body, budget, proven=proven)) as samples:
                    async for pcm in samples:
                        begun = True
                        yield pcm
            except _Again as error:
                if begun:
                    raise RequestFailedError(f"{error}, in the middle of the audio") from error
                wait_s = self._wait_s(tried, error.wait_s)
                if tried == self._server.max_retries or wait_s >= budget.next_s:
                    tries = f" ({tried + 1} tries)" if tried else ""
                    raise RequestFailedError(f"{error}{tries}") from error
            else:
                return
            budget.spend(wait_s, heard=False)
            await asyncio.sleep(wait_s)

    def _wait_s(self, tried: int, asked_s: float | None) -> float:
        if asked_s is not None and (asked_s or not tried):
            return asked_s
        return _BACKOFF_FIRST_S * (1 << tried) * self._draw.uniform(0.5, 1.5)

    async def _attempt(
        self, body: dict[str, Any], budget: _Budget, *, proven: bool
    ) -> AsyncGenerator[bytes, None]:
        request = self._client.build_request("POST", "audio/speech", json=body)
        response = await self._wait(self._client.send(request, stream=True), budget, heard=False)
        try:
            if response.status_code != httpx2.codes.OK:
                raise await self._refusal(response, budget, proven=proven)
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind.startswith("text/") or kind in (
                "application/json",
                "audio/mpeg",
                "audio/ogg",
                "audio/flac",
            ):
                raise SpeechServerError(f"the speech server answered with {kind} where PCM was asked for")
            samples = PcmBody(self._server.sample_rate_hz)
            silent = True
            blocks = aiter(response.aiter_bytes())
            while block := await self._wait(anext(blocks, b""), budget, heard=True):
                if pcm := _samples(samples, block):
                    silent = False
                    yield pcm
            if pcm := samples.finish():
                silent = False
                yield pcm
            if silent:
                raise _Again("the speech server answered without audio")
        finally:
            await response.aclose()

    async def _wait(self, awaitable: Awaitable[_T], budget: _Budget, *, heard: bool) -> _T:
        """Wait for the network, within the budget; return what came."""
        began_s = time.monotonic()
        got = False
        try:
            async with asyncio.timeout(budget.next_s):
                result = await awaitable
            got = True
        except TimeoutError:
            raise RequestFailedError(budget.message()) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise _Again(f"the speech server takes no connection: {self._clean(error)}") from error
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            # One that was kept from the last request may be gone: a new one is tried at once.
            message = f"the connection to the speech server broke: {self._clean(error)}"
            raise _Again(message, None if heard else 0.0) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise SpeechServerError(f"the speech server cannot be asked: {self._clean(error)}") from error
        finally:
            budget.spend(time.monotonic() - began_s, heard=heard and got)
        return result

    async def _refusal(self, response: httpx2.Response, budget: _Budget, *, proven: bool) -> Exception:
        """Return what an answer with another status than 200 means."""
        status = response.status_code
        field, code, detail = _error_of(await self._read_error(response, budget))
        said = f": {self._clean(detail)}" if detail else ""
        if status in (401, 403):
            name = self._server.key_name
            advice = f"check {name}" if self._server.key else f"it needs one: set {name}"
            return SpeechServerError(f"the speech server refused the key (HTTP {status}): {advice}")
        if status == httpx2.codes.NOT_FOUND:
            message = f"the speech server has no such model, voice or address (HTTP 404){said}"
            return SpeechServerError(f"{message}; check the options base_url, model and voices")
        if status in _OF_THE_TEXT:
            message = f"the speech server refused the request (HTTP {status}){said}"
            of_text = field == "input" or (not field and proven)
            return CannotSpeakError(message) if of_text else SpeechServerError(message)
        message = f"the speech server answered with HTTP {status}{said}"
        # More requests do not bring a used-up quota back.
        if code == "insufficient_quota":
            return RequestFailedError(message)
        if not (status in _RETRYABLE or status >= 500):
            return SpeechServerError(message)
        return _Again(message, _retry_after_s(response.headers, time.time()))

    async def _read_error(self, response: httpx2.Response, budget: _Budget) -> bytes:
        body = b""
        blocks = aiter(response.aiter_bytes())
        while len(body) < _MOST_ERROR_BYTES and (
            block := await self._wait(anext(blocks, b""), budget, heard=True)
        ):
            body += block
        return body

    def _clean(self, said: Exception | str) -> str:
        """Return what was said in one short line, without the key: servers and libraries may repeat it."""
        text = " ".join(str(said).split()) or type(said).__name__
        if self._server.key:
            text = text.replace(self._server.key, "***")
        return text if len(text) <= _DETAIL_CHARS else f"{text[:_DETAIL_CHARS]}…"


def _samples(samples: PcmBody, block: bytes) -> bytes:
    try:
        return samples.push(block)
    except NotPcmError as error:
        raise SpeechServerError(f"the speech server does not keep to the protocol: {error}") from None


def _error_of(body: bytes) -> tuple[str, str, str]:
    """Return (field, code, message) of an error body: OpenAI's form, FastAPI's, or none."""
    try:
        value = json.loads(body)
    except ValueError:
        return "", "", ""
    if not isinstance(value, dict):
        return "", "", ""
    error = value.get("error", value)
    if isinstance(error, str):
        return "", "", error
    if isinstance(details := value.get("detail"), list) and details and isinstance(details[0], dict):
        place = details[0].get("loc") or [""]
        return str(place[-1]), "", str(details[0].get("msg", ""))
    if not isinstance(error, dict):
        return "", "", ""
    message = error.get("message") or value.get("detail") or ""
    return str(error.get("param") or ""), str(error.get("code") or ""), str(message)


def _retry_after_s(headers: httpx2.Headers, now_s: float) -> float | None:
    """Return what `retry-after-ms` or `Retry-After` (seconds, or a date of RFC 9110) asks for."""
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            wait_s = float(value) * factor
        except ValueError:
            try:
                wait_s = max(0.0, parsedate_to_datetime(value).timestamp() - now_s)
            except ValueError:
                continue
        if wait_s >= 0:
            return wait_s
    return None
