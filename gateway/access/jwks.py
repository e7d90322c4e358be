"""The public keys that tokens are signed for: from a file, or from the address of whoever issues them.

Nobody's call waits for the network but one whose token names a key that is not known: it waits for one
question, which all such calls share, and which is asked no more often than every ten seconds.
"""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx2
from jwt import PyJWK, PyJWKSet
from jwt.exceptions import PyJWTError

from gateway.access.watching import Mark, look
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.logs import get_logger

_log = get_logger(__name__)
MAX_BYTES: Final = 262_144
MAX_KEYS: Final = 100
LOOK_S: Final = 0.5
LEAST_PAUSE_S: Final = 10.0
"""Between two questions that tokens with unknown keys give rise to."""
_TIMEOUT_S: Final = 5.0
MOST_STALE_S: Final = 86_400.0
"""Keys that could not be fetched again for so long are used no more: they may have been withdrawn."""


class JwksError(Exception):
    """What was read holds no keys; the text says why."""


def parse(content: bytes) -> dict[str, PyJWK]:
    """Return the keys of a JSON Web Key Set by id; "" is that of a key without.

    Raises:
        JwksError: It is none.

    """
    if len(content) > MAX_BYTES:
        raise JwksError(f"has more than {MAX_BYTES} bytes")
    try:
        document = json.loads(content)
        listed = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_KEYS:
            raise JwksError(f'must be an object with a list "keys" of 1 to {MAX_KEYS}')
        # Keys of kinds that are not known are left out; none at all is an error.
        found = {
            key.key_id or "": key
            for key in PyJWKSet.from_dict(document).keys
            if key.public_key_use in (None, "sig") and not isinstance(key.key, bytes)
        }
    except (ValueError, TypeError, RecursionError, PyJWTError) as error:
        raise JwksError(f"is no JSON Web Key Set: {error}") from None
    if not found:
        raise JwksError("has no public key that signs")
    if any(hasattr(key.key, "private_bytes") for key in found.values()):
        raise JwksError("has a private key: whoever reads it signs tokens. Give public keys alone")
    return found


class Jwks:
    """The keys, followed.

    Args:
        source: A file, or an address that begins with https://, or http:// on this machine.
        refresh_s: How often an address is asked.
        clock: Ages what was fetched.
        transport: Of tests.

    Raises:
        SettingsError: The file cannot be used. An address is asked later, and may be away for a while.

    """

    def __init__(
        self, source: str, refresh_s: float, clock: Clock, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self._source = source
        self._url = source if source.startswith(("https://", "http://")) else ""
        self._refresh_s = refresh_s
        self._clock = clock
        self._transport = transport
        self._keys: Mapping[str, PyJWK] = {}
        self._problem = ""
        self._asked_ns = self._fetched_ns = -1
        self._asking: asyncio.Task[None] | None = None
        self._mark: Mark = None
        if not self._url:
            self._mark = look(Path(source))
            try:
                self._keys = self._read()
            except JwksError as error:
                raise SettingsError(f"VOICEMESH_GATEWAY_JWT_JWKS: {source} {error}") from None

    def find(self, key_id: str) -> PyJWK | None:
        """Return a key; for "" the only one that there is."""
        if self._url and self._age_s(self._fetched_ns) > MOST_STALE_S:
            return None
        if not key_id and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    async def watch(self) -> None:
        """Follow the source for ever."""
        while True:
            await self.refresh()
            # An address that did not answer is asked again soon.
            again_s = min(self._refresh_s, LEAST_PAUSE_S) if self._problem else self._refresh_s
            await asyncio.sleep(again_s if self._url else LOOK_S)

    async def unknown(self) -> None:
        """Ask again because of a key that is not known, unless that was done a moment ago."""
        if self._url and (self._asking is not None or self._age_s(self._asked_ns) >= LEAST_PAUSE_S):
            await self.refresh()

    async def refresh(self) -> None:
        """Read the source; who comes meanwhile waits for the same answer."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._refresh(), name="jwks")
            self._asking.add_done_callback(self._asked)
        await asyncio.shield(self._asking)

    async def close(self) -> None:
        """End a question that is under way."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    def _asked(self, task: "asyncio.Task[None]") -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # told to who waited, if anybody did

    async def _refresh(self) -> None:
        try:
            if self._url:
                self._asked_ns = self._clock.now_ns()
                self._use(parse(await self._fetch()))
                self._fetched_ns = self._clock.now_ns()
                return
            mark = await asyncio.to_thread(look, Path(self._source))
            if mark != self._mark:
                self._mark = mark
                self._use(await asyncio.to_thread(self._read))
        except JwksError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                _log.error(
                    "keys of tokens are refused, they stay as they are",
                    source=self._source,
                    reason=str(error),
                )

    def _use(self, keys: Mapping[str, PyJWK]) -> None:
        if keys.keys() != self._keys.keys() or self._problem:
            _log.info("keys of tokens are applied", source=self._source, keys=sorted(keys))
        self._keys, self._problem = keys, ""

    def _read(self) -> dict[str, PyJWK]:
        try:
            with Path(self._source).open("rb") as file:
                return parse(file.read(MAX_BYTES + 1))
        except OSError as error:
            raise JwksError(f"cannot be read: {error.strerror}") from None

    async def _fetch(self) -> bytes:
        try:
            async with (
                asyncio.timeout(_TIMEOUT_S),
                httpx2.AsyncClient(
                    transport=self._transport, follow_redirects=False, timeout=_TIMEOUT_S
                ) as client,
                client.stream("GET", self._url, headers={"accept": "application/json"}) as response,
            ):
                if response.status_code != httpx2.codes.OK:
                    raise JwksError(f"is answered with status {response.status_code}")
                content = bytearray()
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > MAX_BYTES:
                        break  # parse() says so
                return bytes(content)
        except TimeoutError:
            raise JwksError(f"did not answer within {_TIMEOUT_S:g} s") from None
        except (httpx2.HTTPError, OSError) as error:
            raise JwksError(f"cannot be fetched: {type(error).__name__}") from None

    def _age_s(self, then_ns: int) -> float:
        return (self._clock.now_ns() - then_ns) / 1e9 if then_ns >= 0 else float("inf")
