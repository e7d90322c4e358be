"""HTTP requests as nobody would send them, and what must be true of each answer."""

import asyncio
import http.client
import io
import json
import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from tests.fuzz.calls import Tally
from tests.fuzz.messages import TEXTS, mutated

_GUARD_S: Final = 60.0
_QUIET_S: Final = 0.05
"""How long a caller that will go away listens."""
_SPEECH: Final = "/v1/audio/speech"
_OF_THE_EDGE: Final = (500, 501, 505)
"""No request may be answered so, whole or not: others tell of a mesh that has no room, or lacks a service."""
_PATHS: Final = (
    *(
        "/",
        "/live",
        "/healthz",
        "/metrics",
        "/v1/voices",
        "/v1/nothing",
        "/v1/audio/speech/",
        "/nothing",
        "//",
    ),
    *("/live/files/index.html", "/live/files/..%2f..%2fapi.py", "/live/files/%00", "/live/api/nothing"),
    *(f"/live/api/{name}" for name in ("turns", "turn", "audio", "series", "state")),
    "/live/api/events",
)
_METHODS: Final = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get", "A" * 300)
_MANNERS: Final = ("speech", "speech", "path", "path", "headers", "pipeline", "broken", "torn", "gone")
_EDGES: Final[tuple[Any, ...]] = (
    *(None, True, 0, -1, 1e308, float("nan"), float("inf"), 10**40, [], {}, [[]], "\ud800", "x" * 5_000),
)
_HEADERS: Final = (
    *("traceparent", "range", "last-event-id", "accept", "voicemesh-tenant", "x-voicemesh-tenant", "origin"),
    *("authorization", "if-none-match", "sec-fetch-site", "forwarded", "content-type", "expect", "cookie"),
)
_VALUES: Final = (
    *(
        "",
        "\u00ff\u00fe",
        "x" * 9_000,
        "bytes=0-",
        "bytes=-0",
        "bytes=9-1",
        "bytes=99999999999999999999-",
        "0",
    ),
    *("00-00000000000000000000000000000000-0000000000000000-00", "00-" + "f" * 32 + "-" + "1" * 16 + "-01"),
    *(
        "a:1",
        "1:-1",
        "http://",
        "null",
        "Basic !!!",
        "Bearer ",
        "100-continue",
        "text/html;q=x",
        "application/x",
    ),
)


@dataclass(frozen=True)
class Requests:
    """What one connection sends."""

    manner: str
    parts: tuple[bytes, ...]
    """Sent one behind the other."""
    methods: tuple[str, ...]
    """Of the requests that are owed an answer; empty: what is sent is no request, or not a whole one."""
    paths: tuple[str, ...] = ()
    vanishes: bool = False
    """Goes away without having read to the end."""

    def __str__(self) -> str:
        """Return it in a line."""
        sent = b"".join(self.parts)
        return f"HTTP {self.manner} {sent[:300]!r}, {len(sent)} bytes"


def requests_of(rng: random.Random) -> Requests:
    """Return what one connection sends."""
    manner = rng.choice(_MANNERS)
    if manner == "pipeline":
        many = [_request(rng, last=False) for _ in range(rng.randrange(1, 4))]
        many = [one for one in many if not _never_ends(one[1], one[2])] + [_speech(rng)]
        sent = b"".join(one[0] for one in many)
        return Requests(
            manner, _parts(rng, sent), tuple(one[1] for one in many), tuple(one[2] for one in many)
        )
    sent, method, path = _request(rng) if manner in ("path", "headers") else _speech(rng)
    if manner == "headers":
        sent, method, path = _request(rng, headers=rng.randrange(1, 6))
    if manner == "broken":
        return Requests(manner, _parts(rng, _broken(rng, sent)), (), vanishes=True)
    if manner in ("torn", "gone"):
        cut = rng.randrange(len(sent)) if manner == "torn" else len(sent)
        return Requests(manner, _parts(rng, sent[:cut]), (), vanishes=True)
    if _never_ends(method, path):
        return Requests(manner, _parts(rng, sent), (), vanishes=True)
    return Requests(manner, _parts(rng, sent), (method,), (path,))


def _never_ends(method: str, path: str) -> bool:
    return method == "GET" and path.startswith("/live/api/events")


def _head(method: str, path: str, headers: list[tuple[str, str]]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _speech(rng: random.Random, *, last: bool = True) -> tuple[bytes, str, str]:
    body: Any = {"input": "Say this.", "model": "m", "response_format": rng.choice(("wav", "pcm"))}
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        name = rng.choice(("input", "voice", "speed", "model", "response_format", "stream_format", "x"))
        body[name] = rng.choice((*_EDGES, rng.choice(TEXTS), "sse", "opus", 2))
    if rng.random() < 0.1:
        body = rng.choice((*_EDGES, [body]))
    wire = json.dumps(body, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        wire = rng.choice((mutated(rng, wire), b"[" * 9_000, b"\xff\xfe" + wire, b" " * 1_000_100))
    headers = [("Connection", "close")] if last else []
    if rng.random() < 0.3:
        chunks = (
            b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in _parts(rng, wire) if one) + b"0\r\n\r\n"
        )
        return _head("POST", _SPEECH, [*headers, ("Transfer-Encoding", "chunked")]) + chunks, "POST", _SPEECH
    return _head("POST", _SPEECH, [*headers, ("Content-Length", str(len(wire)))]) + wire, "POST", _SPEECH


def _request(rng: random.Random, *, last: bool = True, headers: int = 0) -> tuple[bytes, str, str]:
    if rng.random() < 0.2:
        return _speech(rng, last=last)
    method, path = rng.choice(("GET", "GET", "GET", *_METHODS)), rng.choice(_PATHS)
    if rng.random() < 0.6:
        query = (
            f"{name}={quote(rng.choice((*TEXTS, '10m', '1h', 't1')), errors='replace')[:4_000]}"
            for name in rng.sample(("id", "tenant", "window", "after", "x"), rng.randrange(1, 4))
        )
        path += "?" + "&".join((*query, rng.choice(("%ff", "%", "=", "id=%ED%A0%80"))))
    told = [(rng.choice(_HEADERS), rng.choice(_VALUES)) for _ in range(headers)]
    return _head(method, path, [*told, *([("Connection", "close")] if last else [])]), method, path


def _broken(rng: random.Random, sent: bytes) -> bytes:
    head, _, body = sent.partition(b"\r\n\r\n")
    return rng.choice(
        (
            mutated(rng, sent),
            rng.randbytes(rng.randrange(1, 400)),
            head + b"\r\nX: " + b"y" * 80_000 + b"\r\n\r\n" + body,
            head + b"\r\nContent-Length: -1\r\n\r\n" + body,
            head + b"\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nzz\r\n" + body,
            # The first is answered, or is being answered, while what is behind it is none.
            _head("GET", "/v1/voices", [("Transfer-Encoding", "chunked")]) + b"zz\r\n",
            _head("POST", _SPEECH, [("Transfer-Encoding", "chunked")]) + b"3\r\n{}\r\nnone\r\n",
            _head("GET", "/healthz", []) + rng.randbytes(40) + b"\r\n\r\n",
            _head("GET", "/", [("Connection", "Upgrade"), ("Upgrade", "websocket")]) + b"\x81\x05",
            sent.replace(b"HTTP/1.1", b"HTTP/9.9"),
            b"\r\n" * 300 + sent,
        )
    )


def _parts(rng: random.Random, sent: bytes) -> tuple[bytes, ...]:
    if rng.random() < 0.5:
        return (sent,)
    cuts = sorted(rng.randrange(len(sent) + 1) for _ in range(rng.randrange(1, 6)))
    return tuple(sent[first:last] for first, last in zip([0, *cuts], [*cuts, len(sent)], strict=True))


# ---------------------------------------------------------------- sending, and judging


async def perform(path: str, plan: Requests, tally: Tally, name: str = "") -> list[str]:
    """Send it on a connection of its own; return what was wrong with the answers."""
    tally.calls += 1
    tally.messages += max(1, len(plan.methods))
    faults: list[str] = []
    try:
        async with asyncio.timeout(_GUARD_S):
            answered = await answer_of(path, plan.parts, _QUIET_S if plan.vanishes else None)
        faults = judge(plan, answered, tally)
    except TimeoutError:
        tally.ends["no end"] += 1
        faults = [f"is not answered to the end in {_GUARD_S:.0f} s"]
    faults = [f"{fault} [{name}: {plan}]" for fault in faults]
    tally.faults += faults
    return faults


async def answer_of(path: str, parts: Iterable[bytes], patience_s: float | None = None) -> bytes:
    """Send the parts to a unix socket; return what comes until the other side ends, or for so long."""
    loop = asyncio.get_running_loop()
    answered = bytearray()
    # No stream of asyncio: one that cannot send any more reads nothing of the answer that says why.
    with socket.socket(socket.AF_UNIX) as wire:
        wire.setblocking(False)
        await loop.sock_connect(wire, path)

        async def read() -> None:
            while part := await loop.sock_recv(wire, 65_536):
                answered.extend(part)

        reading = asyncio.ensure_future(read())
        try:
            for part in parts:
                try:
                    await loop.sock_sendall(wire, part)
                except OSError:
                    break  # it was refused before all was sent
                await asyncio.sleep(0)
            await asyncio.wait({reading}, timeout=patience_s)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    return bytes(answered)


class _Answered(io.BytesIO):
    """What `http.client` takes for a socket; several answers are read from it."""

    def makefile(self, _mode: str) -> "_Answered":
        return self

    def close(self) -> None:
        """Stay open for the next answer."""


def judge(plan: Requests, answered: bytes, tally: Tally) -> list[str]:
    """Return what was wrong with what came for what was sent; count it."""
    faults: list[str] = []
    wire = _Answered(answered)
    for method, path in zip(plan.methods, plan.paths, strict=True):
        try:
            response = http.client.HTTPResponse(wire, method=method)  # type: ignore[arg-type]
            response.begin()
            body = response.read()
        except (http.client.HTTPException, ValueError) as error:
            return [*faults, f"{method} {path[:80]} has no whole answer: {error!r}"]
        tally.responses += 1
        tally.ends[str(response.status)] += 1
        faults += _judge_answer(method, path, response, body)
        if response.getheader("connection") == "close":
            break  # as it may: the rest is not answered
    if not plan.methods:
        status = answered[9:12].decode("latin-1")
        tally.ends[f"{plan.manner} {status}"] += 1
        if answered and (not answered.startswith(b"HTTP/1.1 ") or status in map(str, _OF_THE_EDGE)):
            faults.append(f"is answered with {answered[:200]!r}")
    return faults


def _judge_answer(method: str, path: str, response: http.client.HTTPResponse, body: bytes) -> list[str]:
    status = response.status
    if status in _OF_THE_EDGE or status < 200:
        return [f"{method} {path[:80]} is answered with {status}: {body[:200]!r}"]
    if status < 400 or method == "HEAD" or path.startswith("/metrics"):
        return []
    if status == 503 and path.startswith("/healthz"):
        # For probes, and no part of the API: a service may be away for a moment on a busy machine.
        return [] if body.startswith(b'{"status":') else [f"{method} {path[:80]}: 503 with {body[:200]!r}"]
    try:
        error = json.loads(body)["error"]
        wanted = {"message"} if path.startswith("/live") else {"message", "type", "code", "param"}
        if not error["message"] or not wanted <= set(error):
            return [f"{method} {path[:80]}: {status} has the error {error}"]
    except (ValueError, KeyError, TypeError):
        return [f"{method} {path[:80]}: {status} has no error as OpenAI's: {body[:200]!r}"]
    return []
