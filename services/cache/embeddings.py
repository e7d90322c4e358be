"""Any server that speaks OpenAI's protocol for embeddings: `POST {base_url}/embeddings`.

Imported only where similar prompts are switched on. It asks by httpx2, which the package `openai` stands on:
one request and one answer need no more, and the package itself would cost the process 0.4 s and 20 MB.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2

from services.cache.similar import EmbeddingError

_KEEPALIVE_EXPIRY_S: Final = 300.0
_CONNECTIONS: Final = 32
_MOST_BYTES: Final = 4 * 1024 * 1024
"""Of an answer: an embedding of 4096 numbers is a twentieth of it."""
_DETAIL_CHARS: Final = 200


class EmbeddingsClient:
    """Asks for embeddings over connections that are kept.

    Args:
        base_url: Address of the API, with its /v1.
        model: The model to ask for.
        api_key: The key, or "" for servers that need none.
        dimensions: Numbers of an embedding to ask for; None: as many as the model gives.

    """

    def __init__(
        self, *, base_url: str, model: str, api_key: str = "", dimensions: int | None = None
    ) -> None:
        self._url = base_url.rstrip("/") + "/embeddings"
        self._api_key = api_key
        self._dimensions = dimensions
        self._body: dict[str, Any] = {"model": model, "encoding_format": "float"}
        if dimensions is not None:
            self._body["dimensions"] = dimensions
        host = urlsplit(base_url).hostname or ""
        self._http = httpx2.AsyncClient(
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            limits=httpx2.Limits(
                max_connections=_CONNECTIONS,
                max_keepalive_connections=_CONNECTIONS,
                keepalive_expiry=_KEEPALIVE_EXPIRY_S,
            ),
            # A proxy that the environment names is for other machines.
            trust_env=not (host in ("localhost", "::1") or host.startswith("127.")),
        )

    async def embed(self, text: str, timeout_s: float) -> Sequence[float]:
        """Return the embedding of a text.

        Raises:
            EmbeddingError: There is none within `timeout_s`. The key is never in its text.

        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._ask(text, timeout_s)
        except TimeoutError:
            raise EmbeddingError(f"no answer within {timeout_s * 1000:.0f} ms", late=True) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise EmbeddingError(f"cannot be reached: {type(error).__name__}") from None

    async def _ask(self, text: str, timeout_s: float) -> Sequence[float]:
        body = {**self._body, "input": text}
        async with self._http.stream("POST", self._url, json=body, timeout=timeout_s) as response:
            content = bytearray()
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > _MOST_BYTES:
                    raise EmbeddingError(f"answered with more than {_MOST_BYTES} bytes")
        if response.status_code != httpx2.codes.OK:
            raise EmbeddingError(f"answered with HTTP {response.status_code}{self._detail(bytes(content))}")
        return self._embedding(bytes(content))

    def _embedding(self, content: bytes) -> Sequence[float]:
        try:
            numbers = json.loads(content)["data"][0]["embedding"]
        except (ValueError, TypeError, LookupError, RecursionError):
            raise EmbeddingError("answered with something that is not an embedding") from None
        if not isinstance(numbers, list) or not all(
            isinstance(number, int | float) and not isinstance(number, bool) for number in numbers
        ):
            raise EmbeddingError("answered with an embedding that is not a list of numbers")
        if self._dimensions is not None and len(numbers) != self._dimensions:
            raise EmbeddingError(
                f"answered with {len(numbers)} numbers where {self._dimensions} were asked for: "
                "VOICEMESH_CACHE_SIMILAR_DIMENSIONS is not for every model"
            )
        return numbers

    def _detail(self, content: bytes) -> str:
        try:
            message = " ".join(str(json.loads(content)["error"]["message"]).split())
        except (ValueError, TypeError, LookupError, RecursionError):
            return ""
        if self._api_key:
            message = message.replace(self._api_key, "***")
        return f": {message[:_DETAIL_CHARS]}"

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
