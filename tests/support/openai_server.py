"""A server that speaks OpenAI's protocols for chat and for speech over real HTTP, as a script tells it.

    async with OpenAiServer() as server:
        server.script(Reply.error(429, retry_after="0.1"), Reply(tokens=("Hello", " there.")))
        ...  # point a client at server.base_url
        await server.requests[1].disconnected.wait()

Replies are taken from the script one by one; behind its end every request gets `server.default`, which may be
a function of the request.
Speech has a script of its own: `server.script_speech(Speech(...), Reply.error(429))`.
So have embeddings: `server.script_embeddings(Reply.error(503))`; behind its end they are bags of words
(`tests.support.openai_embeddings`), or what `server.embedding` says of each text.
Also a process of its own: `python -m tests.support.openai_server --port 8000 --tokens-per-s 50`.
"""

import argparse
import asyncio
import contextlib
import json
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from tests.support.openai_embeddings import bag_of_words, embeddings_answer
from tests.support.openai_speech import Speech, speech_of

TEXT = (
    "Hello, this is the scripted model. It speaks in short sentences, so that chunks can be cut. "
    "Nothing here depends on your question. This is the last sentence."
)


def tokens_of(text: str) -> tuple[str, ...]:
    """Cut `text` into words with their leading spaces."""
    return tuple(re.findall(r"\s*\w+|\s*[^\w\s]+", text))


@dataclass(frozen=True)
class Reply:
    """How one request is answered."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    """The whole body, instead of tokens."""
    tokens: Sequence[str] = tokens_of(TEXT)
    ttft_s: float = 0.0
    """From the response headers to the first token."""
    token_interval_s: float = 0.0
    header_delay_s: float = 0.0
    """From the request to the response headers."""
    finish_reason: str | None = "stop"
    """None: the stream ends without one."""
    usage: tuple[int, int, int] | None = None
    """Input, output and cached tokens; None counts them."""
    sends_usage: bool = True
    chunks: Sequence[dict[str, Any]] | None = None
    """The `choices[0].delta` of each chunk, instead of tokens."""
    cut_after: int | None = None
    """The connection breaks behind this many tokens."""
    hangs_before_headers: bool = False
    hangs_after: int | None = None
    """Nothing more comes behind this many tokens."""
    model: str = ""
    """The model it says it is; "" for the one that was asked for."""

    @classmethod
    def error(
        cls, status: int, message: str = "scripted failure", *, code: str = "", retry_after: str = ""
    ) -> Self:
        """Return an answer with an HTTP status and an error in OpenAI's form."""
        error = {"message": message, "type": "scripted", "param": None, "code": code or None}
        headers: list[tuple[str, str]] = [("content-type", "application/json")]
        if retry_after:
            headers.append(("retry-after", retry_after))
        return cls(status=status, headers=tuple(headers), body=json.dumps({"error": error}).encode())

    @classmethod
    def raw(cls, body: bytes, content_type: str = "text/event-stream") -> Self:
        """Return an answer with status 200 and this body."""
        return cls(body=body, headers=(("content-type", content_type),))


@dataclass
class Request:
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    tokens_sent: int = 0
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    """The client closed the connection before the answer was complete."""
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    """The answer was complete."""


class OpenAiServer:
    """The server; an async context manager. Port 0 takes a free one."""

    def __init__(self, port: int = 0, *, default: Reply | Callable[[Request], Reply] | None = None) -> None:
        self.default = default or Reply()
        self.models = Reply.raw(b'{"object": "list", "data": []}', "application/json")
        """The answer to `GET /models`."""
        self.requests: list[Request] = []
        """Every request for a completion, in order."""
        self.speeches: list[Request] = []
        """Every request for speech, in order."""
        self.probes: list[Request] = []
        """Every request for the list of models."""
        self.embedded: list[Request] = []
        """Every request for an embedding, in order."""
        self.embedding: Callable[[str], Sequence[float]] = bag_of_words
        """What the embedding of a text is."""
        self.connections = 0
        """Connections that were ever made."""
        self._port = port
        self._script: deque[Reply] = deque()
        self._speech_script: deque[Reply | Speech] = deque()
        self._embedding_script: deque[Reply] = deque()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def base_url(self) -> str:
        """What OPENAI_BASE_URL is set to."""
        return f"http://127.0.0.1:{self._port}/v1"

    def script(self, *replies: Reply) -> None:
        """Answer the next requests for completions with these, in order."""
        self._script.extend(replies)

    def forget(self) -> None:
        """Take back what the script still says of completions."""
        self._script.clear()

    def script_speech(self, *replies: Reply | Speech) -> None:
        """Answer the next requests for speech with these, in order."""
        self._speech_script.extend(replies)

    def script_embeddings(self, *replies: Reply) -> None:
        """Answer the next requests for embeddings with these, in order."""
        self._embedding_script.extend(replies)

    async def speech(self, number: int) -> Request:
        """Wait for the request for speech with this number, counted from 0."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.speeches) > number)
        return self.speeches[number]

    async def embeddings(self, number: int) -> Request:
        """Wait for the request for an embedding with this number, counted from 0."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.embedded) > number)
        return self.embedded[number]

    async def request(self, number: int) -> Request:
        """Wait for the request with this number, counted from 0."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.requests) > number)
        return self.requests[number]

    async def probe(self, number: int) -> Request:
        """Wait for the request for models with this number, counted from 0."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.probes) > number)
        return self.probes[number]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        early = b""
        try:
            while (request := await _read_request(reader, early)) is not None:
                reply = self._take(request)
                async with self._changed:
                    self._changed.notify_all()
                answering = asyncio.ensure_future(_answer(request, reply, writer))
                watching = asyncio.ensure_future(reader.read(1))
                try:
                    await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
                    if not answering.done() and not watching.result():
                        raise ConnectionResetError
                    if not await answering:
                        return
                    request.answered.set()
                except ConnectionError:
                    request.disconnected.set()
                    raise
                finally:
                    for task in (answering, watching):
                        task.cancel()
                    await asyncio.gather(answering, watching, return_exceptions=True)
                early = b"" if watching.cancelled() else watching.result()
        except ConnectionError:
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def _take(self, request: Request) -> Reply | Speech:
        """Note a request; return how it is answered."""
        if request.path.endswith("/chat/completions"):
            self.requests.append(request)
            if self._script:
                return self._script.popleft()
            return self.default(request) if callable(self.default) else self.default
        if request.path.endswith("/audio/speech"):
            self.speeches.append(request)
            return self._speech_script.popleft() if self._speech_script else Speech()
        if request.path.endswith("/embeddings"):
            self.embedded.append(request)
            if self._embedding_script:
                return self._embedding_script.popleft()
            body = embeddings_answer(request.body, self.embedding)
            return Reply.raw(body, "application/json")
        self.probes.append(request)
        return self.models


async def _read_request(reader: asyncio.StreamReader, early: bytes) -> Request | None:
    try:
        head = early + await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except asyncio.IncompleteReadError:
        return None
    return Request(method, path, headers, json.loads(body) if body else {})


async def _answer(request: Request, reply: Reply | Speech, writer: asyncio.StreamWriter) -> bool:
    """Answer one request; return False where the connection is to be closed behind it."""
    if isinstance(reply, Speech):
        return await _speak(request, reply, writer)
    if reply.hangs_before_headers:
        await asyncio.Event().wait()
    await asyncio.sleep(reply.header_delay_s)
    headers = dict(reply.headers) or {"content-type": "text/event-stream"}
    if reply.body is not None:
        headers["content-length"] = str(len(reply.body))
        _write_head(writer, reply.status, headers)
        writer.write(reply.body)
        await writer.drain()
        return True
    _write_head(writer, reply.status, headers | {"transfer-encoding": "chunked"})
    await writer.drain()
    async for event in _events(request, reply):
        if event is None:
            writer.transport.abort()
            return False
        data = b"data: " + event.encode() + b"\n\n"
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


async def _speak(request: Request, reply: Speech, writer: asyncio.StreamWriter) -> bool:
    if reply.hangs_before_headers:
        await asyncio.Event().wait()
    audio = speech_of(request.body) if reply.audio is None else reply.audio
    _write_head(writer, 200, {"content-type": reply.content_type, "transfer-encoding": "chunked"})
    slices = [audio[at : at + reply.slice_bytes] for at in range(0, len(audio), reply.slice_bytes)]
    for position, data in enumerate(slices):
        if reply.cut_after == position:
            # What was sent is to arrive: an abort would throw away what the kernel still holds.
            return False
        if reply.hangs_after == position:
            await asyncio.Event().wait()
        await asyncio.sleep(reply.slice_interval_s)
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return not reply.closes_behind


def _write_head(writer: asyncio.StreamWriter, status: int, headers: dict[str, str]) -> None:
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))


async def _events(request: Request, reply: Reply) -> AsyncIterator[str | None]:
    """Yield the data of each event, None where the connection breaks."""
    model = reply.model or request.body.get("model", "")
    base = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 0, "model": model}

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return json.dumps(base | {"choices": [choice]})

    yield chunk({"role": "assistant", "content": ""})
    deltas = reply.chunks
    if deltas is None:
        deltas = [{"content": token} for token in reply.tokens]
    began_s = time.monotonic()
    for position, delta in enumerate(deltas):
        if reply.cut_after == position:
            yield None
            return
        if reply.hangs_after == position:
            await asyncio.Event().wait()
        due_s = began_s + reply.ttft_s + position * reply.token_interval_s
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        yield chunk(delta)
        request.tokens_sent += 1
    if reply.cut_after is not None and reply.cut_after >= len(deltas):
        yield None
        return
    if reply.hangs_after is not None and reply.hangs_after >= len(deltas):
        await asyncio.Event().wait()
    if reply.finish_reason is not None:
        yield chunk({}, reply.finish_reason)
        if reply.sends_usage and request.body.get("stream_options", {}).get("include_usage"):
            given, made, cached = reply.usage or (
                sum(len(str(message["content"])) for message in request.body["messages"]) // 4 + 1,
                len(deltas),
                0,
            )
            usage = {
                "prompt_tokens": given,
                "completion_tokens": made,
                "total_tokens": given + made,
                "prompt_tokens_details": {"cached_tokens": cached},
            }
            yield json.dumps(base | {"choices": [], "usage": usage})
        yield "[DONE]"


async def _serve(port: int, default: Reply) -> None:
    async with OpenAiServer(port, default=default) as server:
        print(f"listening on {server.base_url}", flush=True)  # noqa: T201 - it is a program
        await asyncio.Event().wait()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A scripted server that speaks OpenAI's protocol.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ttft-ms", type=float, default=150.0)
    parser.add_argument("--tokens-per-s", type=float, default=50.0)
    parser.add_argument("--text", default=TEXT)
    given = parser.parse_args()
    default = replace(
        Reply(),
        tokens=tokens_of(given.text),
        ttft_s=given.ttft_ms / 1000,
        token_interval_s=1 / given.tokens_per_s,
    )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(given.port, default))


if __name__ == "__main__":
    main()
