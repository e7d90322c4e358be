"""The live page over HTTP: its files, and what it asks for. Nothing here changes anything.

GET  /live                  the page
GET  /live/files/NAME       its styles, scripts and picture
GET  /live/api/turns        the turns that run and the last ones that ended
GET  /live/api/turn         one of them: ?id=…&tenant=…
GET  /live/api/audio        its audio, as a WAV file of which parts can be had: ?id=…&tenant=…
GET  /live/api/series       figures of ?window=10m or 1h
GET  /live/api/state        services, voices, pools, cache, alerts
GET  /live/api/events       turns as they begin and end, as server-sent events
"""

import asyncio
import functools
import hashlib
import json
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable, Container
from typing import Any, Final, Literal

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.access.caller import CURRENT
from gateway.live.access import HEADERS, refusal
from gateway.live.audio import HEADER_BYTES, Recording, span_of, wav_header
from gateway.live.feed import Feed
from gateway.live.live import WINDOWS, Live

PATH: Final = "/live"
MAX_READERS: Final = 16
"""Pages that follow the turns at once; more of them ask again and again instead."""
BEAT_S: Final = 10.0
"""Longest silence of a stream: a proxy, or a browser, may take a longer one for the end."""
_PAUSE_S: Final = 0.1
"""Events within this time go out together: a page needs no more than ten pictures a second."""
_RETRY_MS: Final = 1_000
_PART_BYTES: Final = 65_536
_NO_STORE: Final = "no-store"
_EVENTS: Final = "text/event-stream"
_STREAM_HEADERS: Final = {"cache-control": _NO_STORE, "x-accel-buffering": "no"}
_FILES: Final = pathlib.Path(__file__).parent / "page"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_Handler = Callable[[Request], Awaitable[Response]]


class LivePage:
    """Answers for the live page.

    Args:
        live: What it shows.
        mode: Who may look.
        hosts: Names under which it may be asked for, as of `gateway.live.access.refusal`.

    """

    def __init__(self, live: Live, mode: Literal["local", "open"], hosts: Container[str] | None = ()) -> None:
        self._live = live
        self._mode = mode
        self._hosts = hosts
        self._readers = 0
        self._files = {path.name: _File(path) for path in _FILES.iterdir() if path.suffix in _TYPES}
        self.routes = [
            self._route(PATH, self._page, page=True),
            self._route(f"{PATH}/files/{{name}}", self._file),
            *(
                self._route(f"{PATH}/api/{name}", handler)
                for name, handler in (
                    ("turns", self._turns),
                    ("turn", self._turn),
                    ("audio", self._audio),
                    ("series", self._series),
                    ("state", self._state),
                    ("events", self._events),
                )
            ),
        ]

    def admits(self, request: Request) -> bool:
        """Say whether who asks may open the page."""
        return not self._refusal(request, page=True)

    def _refusal(self, request: Request, *, page: bool) -> str:
        return refusal(request, self._mode, page=page, hosts=self._hosts)

    def _route(self, path: str, handler: _Handler, *, page: bool = False) -> Route:
        async def guarded(request: Request) -> Response:
            if reason := self._refusal(request, page=page):
                return _error(403, reason)
            response = await handler(request)
            response.headers.update(HEADERS)
            return response

        return Route(path, functools.wraps(handler)(guarded), methods=["GET"])

    # ------------------------------------------------------------ files

    async def _page(self, request: Request) -> Response:
        return self._files["index.html"].answer(request)

    async def _file(self, request: Request) -> Response:
        file = self._files.get(request.path_params["name"])
        return file.answer(request) if file is not None else _error(404, "the page has no such file")

    # ------------------------------------------------------------ what it asks for

    async def _turns(self, _request: Request) -> Response:
        return _json(self._live.turns())

    async def _turn(self, request: Request) -> Response:
        told = self._live.turn(*_name(request))
        return _json(told) if told is not None else _error(404, "no such turn is remembered here")

    async def _series(self, request: Request) -> Response:
        window = request.query_params.get("window", next(iter(WINDOWS)))
        if window not in WINDOWS:
            return _error(400, f"window: is {window[:20]!r}; it must be one of {', '.join(WINDOWS)}")
        return _json(self._live.series(window))

    async def _state(self, _request: Request) -> Response:
        return _json(await self._live.state())

    async def _audio(self, request: Request) -> Response:
        recording = self._live.audio.find(*_name(request))
        if recording is None:
            hint = "" if self._live.audio.on else "; VOICEMESH_GATEWAY_LIVE_AUDIO_BYTES has it kept"
            return _error(404, f"there is no audio of this turn here{hint}")
        return _sound(recording, request.headers.get("range", ""))

    async def _events(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(headers=_STREAM_HEADERS, media_type=_EVENTS)  # there would be no end to it
        if self._readers >= MAX_READERS:
            return _error(503, f"{MAX_READERS} pages follow the turns already", {"retry-after": "10"})
        self._readers += 1
        last = request.headers.get("last-event-id") or request.query_params.get("after", "")
        caller = CURRENT.get()
        good = caller.is_good if caller is not None else None
        return _Stream(follow(self._live.feed, last, good), self._left)

    def _left(self) -> None:
        self._readers -= 1


class _File:
    """A file of the page, read once."""

    def __init__(self, path: pathlib.Path) -> None:
        self._content = path.read_bytes()
        self._headers = {
            "content-type": _TYPES[path.suffix],
            "etag": f'"{hashlib.sha256(self._content).hexdigest()[:32]}"',
            "cache-control": "no-cache",
        }

    def answer(self, request: Request) -> Response:
        """Return it, unless the browser has it."""
        if request.headers.get("if-none-match") == self._headers["etag"]:
            return Response(status_code=304, headers=self._headers)
        return Response(self._content, headers=self._headers)


class _Stream(StreamingResponse):
    """Server-sent events; `left` is called once, however it ends."""

    def __init__(self, events: AsyncIterator[bytes], left: Callable[[], None]) -> None:
        super().__init__(events, headers=_STREAM_HEADERS, media_type=_EVENTS)
        self._left = left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._left()


async def follow(
    feed: Feed,
    last_id: str,
    is_good: Callable[[], bool] | None = None,
    beat_s: float = BEAT_S,
    pause_s: float = _PAUSE_S,
) -> AsyncIterator[bytes]:
    """Give server-sent events from behind `last_id` on, until the feed is closed.

    It ends as well when `is_good` says that the key of who reads is not accepted any more: the browser then
    asks again, and is asked for a key.

    Where that event is not known any more, or a reader falls behind what is kept, the event `reset` says
    so: the page then asks for the turns anew. Nothing is queued for a reader that takes its time: each part
    is made when the one before it was taken.
    """
    yield f"retry: {_RETRY_MS}\n\n".encode()
    number = feed.number_of(last_id)
    while not feed.closed and (is_good is None or is_good()):
        events = None if number is None else feed.after(number)
        if events is None:
            number = feed.number_of(feed.last_id) or 0
            yield f"id: {feed.last_id}\nevent: reset\ndata: {{}}\n\n".encode()
        elif events:
            number = events[-1].number
            yield b"".join(event.encoded() for event in events)
            await asyncio.sleep(pause_s)
        elif not await feed.changed(number or 0, beat_s):
            yield b": nothing new\n\n"


def _name(request: Request) -> tuple[str, str]:
    """Return tenant and id of the turn that a request names."""
    return request.query_params.get("tenant", ""), request.query_params.get("id", "")


def _sound(recording: Recording, asked: str) -> Response:
    """Return a WAV file, or the part of it that is asked for."""
    samples = recording.samples()
    header = wav_header(recording.rate_hz, len(samples))
    size = HEADER_BYTES + len(samples)
    headers = {"accept-ranges": "bytes", "cache-control": _NO_STORE}
    begin, end, status = 0, size, 200
    try:
        if asked and (span := span_of(asked, size)) is not None:
            (begin, end), status = span, 206
            headers["content-range"] = f"bytes {begin}-{end - 1}/{size}"
    except ValueError as error:
        return _error(416, str(error), {"content-range": f"bytes */{size}"})
    headers["content-length"] = str(end - begin)

    async def parts() -> AsyncIterator[bytes]:
        yield header[begin:end]
        for first in range(max(0, begin - HEADER_BYTES), max(0, end - HEADER_BYTES), _PART_BYTES):
            yield samples[first : min(first + _PART_BYTES, end - HEADER_BYTES)]

    return StreamingResponse(parts(), status, headers, "audio/wav")


def _json(told: Any) -> Response:
    content = json.dumps(told, separators=(",", ":"), allow_nan=False)
    return Response(content, headers={"cache-control": _NO_STORE}, media_type="application/json")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    content = json.dumps({"error": {"message": message}})
    return Response(
        content,
        status,
        {"cache-control": _NO_STORE, **HEADERS, **(headers or {})},
        media_type="application/json",
    )
