"""A gateway that answers by script: a real gRPC server, no other service behind it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from voicemesh.runtime.server import LEAST_PING_INTERVAL_MS

Put = Callable[[Any], Awaitable[None]]
RATE_HZ = 1000
TTFA_US = 5_000
SILENCE_US = 2_000
FORMAT = common_pb2.AudioFormat(
    encoding=common_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=RATE_HZ, channels=1
)


def status(
    code: grpc.StatusCode,
    reason: str,
    message: str,
    *,
    field: str = "",
    retry_ms: int = 0,
    metadata: Mapping[str, str] | None = None,
):
    details = []

    def pack(detail) -> None:
        packed = any_pb2.Any()
        packed.Pack(detail)
        details.append(packed)

    pack(error_details_pb2.ErrorInfo(reason=reason, domain="voicemesh", metadata=metadata))
    if field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
        pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if retry_ms:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(retry_ms)
        pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(code=code.value[0], message=message, details=details)


def report(turn_id: str, outcome=gateway_pb2.TURN_OUTCOME_COMPLETED, *, text: str = "", audio: bool = True):
    done = gateway_pb2.TurnReport(
        turn_id=turn_id, session_id="session-1", trace_id="0" * 31 + "7", outcome=outcome, text=text
    )
    if audio:
        done.ttft_us = 1_000
        done.ttfa_us = TTFA_US
        done.leading_silence_us = SILENCE_US
        done.total_us = 9_000
        done.audio_us = 20_000
        durations = {
            "LLM_TTFT": 900,
            "LLM_TEXT": 600,
            "TTS_SYNTHESIS": 3_000,
            "TRANSPORT": 400,
            "GATEWAY": 90,
        }
        for name, duration_us in durations.items():
            done.stages.add(stage=common_pb2.Stage.Value(f"STAGE_{name}"), duration_us=duration_us)
        done.unattributed_us = 10
        done.hops.add(hop="tts", duration_us=400)
        done.chunks.add(
            index=0,
            text=text,
            reason=common_pb2.CHUNK_REASON_FLUSH,
            held_us=1_500,
            cache=gateway_pb2.CACHE_OUTCOME_MISS,
            first_frame_us=TTFA_US,
            audio_us=20_000,
        )
        done.reply_cache = gateway_pb2.CACHE_OUTCOME_MISS
        done.usage.input_tokens = 3
        done.usage.output_tokens = 2
        done.characters = len(text)
    return done


def frames(turn_id: str, count: int = 2, chunk_index: int = 0) -> list[common_pb2.Frame]:
    """10 ms frames."""
    return [
        common_pb2.Frame(
            turn_id=turn_id,
            chunk_index=chunk_index,
            sequence=index,
            offset_samples=10 * index,
            turn_offset_samples=10 * index,
            audio=bytes([index % 256, 1]) * 10,
        )
        for index in range(count)
    ]


@dataclass
class FakeGateway(gateway_pb2_grpc.GatewayServiceServicer):
    """Answers a prompt with `Heard: <prompt>.` and two frames. Prompts with a meaning:

    `hang`: goes on until it is interrupted. `fail`: turn_failed. `die`: the call is aborted.
    `silent`: completes without audio. `stale`: sends frames of another turn in between.
    `flood`: 2000 frames. `drop`: the call ends well in mid-turn.
    `begin`: goes on behind its text, without audio. `leave`: refused, for the gateway drains; `leave after
    others`: refused for what another process gave up.
    """

    received: list[gateway_pb2.ConverseRequest] = field(default_factory=list)
    speeches: list[gateway_pb2.SpeakRequest] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    last: gateway_pb2.TurnReport | None = None
    turns: int = 0
    usage: list[gateway_pb2.UsageTotals] = field(default_factory=list)
    listed: list[gateway_pb2.ListedTurn] = field(default_factory=list)
    list_requests: list[gateway_pb2.ListTurnsRequest] = field(default_factory=list)
    forgotten: bool = False
    plain: bool = False
    """True: prompts and texts have no meaning."""
    attempts: list[str] = field(default_factory=list)
    """What callers say how often they asked before."""

    async def Converse(self, request_iterator, context):
        self._note_attempt(context)
        outbox: asyncio.Queue[Any] = asyncio.Queue(maxsize=4096)
        finished = object()
        reader = asyncio.create_task(self._read(request_iterator, outbox.put, finished))
        try:
            while (message := await outbox.get()) is not finished:
                if isinstance(message, status_pb2.Status):
                    await context.abort_with_status(rpc_status.to_status(message))
                if message is None:
                    return
                yield message
            self.ended.set()
        finally:
            reader.cancel()
            if not self.ended.is_set():
                self.cancelled.set()

    def _note_attempt(self, context) -> None:
        metadata = dict(context.invocation_metadata())
        if "voicemesh-attempt" in metadata:
            self.attempts.append(metadata["voicemesh-attempt"])

    async def _read(self, requests: AsyncIterator[Any], put: Put, finished: object) -> None:
        running = ""
        words: dict[str, str] = {}
        async for request in requests:
            self.received.append(request)
            kind = request.WhichOneof("event")
            ends = kind in ("prompt", "interrupt") or (kind == "text" and request.text.turn_id != running)
            if running and ends:
                await put(_completed(report(running, gateway_pb2.TURN_OUTCOME_INTERRUPTED, audio=False)))
                running = ""
            if kind == "prompt":
                text = "".join(part.text for part in request.prompt.parts)
                running = await self._turn(request.prompt.turn_id, text, put)
            elif kind == "text":
                turn_id = running = request.text.turn_id
                words[turn_id] = words.get(turn_id, "") + request.text.text
                if request.text.last:
                    running = await self._turn(turn_id, words.pop(turn_id), put)
        # In the middle of a turn the end of the requests is a cancellation: grpc.aio may show it to
        # the reader before it cancels the handler.
        await put(None if running else finished)

    async def _turn(self, turn_id: str, prompt: str, put: Put) -> str:
        self.turns += 1
        started = gateway_pb2.TurnStarted(
            turn_id=turn_id, session_id="session-1", trace_id="0" * 31 + "7", format=FORMAT
        )
        await put(gateway_pb2.ConverseResponse(turn_started=started))
        text = f"Heard: {prompt}."
        prompt = "" if self.plain else prompt
        if (refusal := _refusal(prompt)) is not None:
            failed = gateway_pb2.TurnFailed(
                turn_id=turn_id, status=refusal, report=report(turn_id, audio=False)
            )
            await put(gateway_pb2.ConverseResponse(turn_failed=failed))
            return ""
        if prompt == "die":
            await put(
                status(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "too long", field="prompt.parts")
            )
            return turn_id
        if prompt == "silent":
            await put(_completed(report(turn_id, audio=False)))
            return ""
        await put(gateway_pb2.ConverseResponse(text_delta=gateway_pb2.TextDelta(turn_id=turn_id, text=text)))
        return turn_id if prompt == "begin" else await self._audio(turn_id, prompt, text, put)

    async def _audio(self, turn_id: str, prompt: str, text: str, put: Put) -> str:
        chunk = common_pb2.Chunk(
            turn_id=turn_id,
            text=text,
            text_length=len(text),
            reason=common_pb2.CHUNK_REASON_FLUSH,
            held_us=1_500,
        )
        await put(gateway_pb2.ConverseResponse(chunk=chunk))
        count = 2000 if prompt == "flood" else 2
        for frame in frames(turn_id, count):
            if prompt == "stale":
                await put(gateway_pb2.ConverseResponse(frame=frames("another")[0]))
            await put(gateway_pb2.ConverseResponse(frame=frame))
        if prompt == "hang":
            return turn_id
        if prompt == "drop":
            await put(None)
            return turn_id
        self.last = report(turn_id, text=text)
        await put(_completed(self.last))
        return ""

    async def Speak(self, request, context):
        self.speeches.append(request)
        if request.speech.voice == "nobody":
            bad = status(
                grpc.StatusCode.NOT_FOUND, "UNKNOWN_VOICE", "no voice 'nobody'", field="speech.voice"
            )
            await context.abort_with_status(rpc_status.to_status(bad))
        started = gateway_pb2.TurnStarted(turn_id=request.turn_id, trace_id="0" * 31 + "7", format=FORMAT)
        yield gateway_pb2.SpeakResponse(turn_started=started)
        if request.text == "begin" and not self.plain:
            await asyncio.Event().wait()
        for frame in frames(request.turn_id):
            yield gateway_pb2.SpeakResponse(frame=frame)
        if request.text == "hang":
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        self.last = report(request.turn_id, text=request.text)
        yield gateway_pb2.SpeakResponse(turn_completed=gateway_pb2.TurnCompleted(report=self.last))

    async def SpeakBatch(self, request, context):
        positions: dict[str, list[int]] = {}
        for index, text in enumerate(request.texts):
            positions.setdefault(text, []).append(index)
        for text, indexes in positions.items():
            turn_id = f"batch-{indexes[0]}"
            answer = gateway_pb2.SpeakBatchResponse
            started = gateway_pb2.TurnStarted(turn_id=turn_id, format=FORMAT)
            yield answer(text_indexes=indexes, started=started)
            if text == "fail":
                bad = status(grpc.StatusCode.UNAVAILABLE, "NO_ENGINE", "nobody can speak")
                failed = gateway_pb2.TurnFailed(
                    turn_id=turn_id, status=bad, report=report(turn_id, audio=False)
                )
                yield answer(text_indexes=indexes, failed=failed)
                continue
            for frame in frames(turn_id):
                yield answer(text_indexes=indexes, frame=frame)
            completed = gateway_pb2.TurnCompleted(report=report(turn_id, text=text))
            yield answer(text_indexes=indexes, completed=completed)

    async def ListVoices(self, request, context):
        voices = [
            common_pb2.Voice(
                name=f"espeak/{language}",
                engine="espeak",
                language=language,
                native_format=FORMAT,
                has_word_timings=True,
                ready_replicas=1,
                is_default=language == "en-us",
            )
            for language in ("de", "en-us")
            if language.startswith(request.language)
        ]
        return gateway_pb2.ListVoicesResponse(voices=voices)

    async def ListTurns(self, request, context):
        self.list_requests.append(request)
        first = gateway_pb2.ListTurnsResponse(
            matched=len(self.listed), remembered=len(self.listed), forgotten=self.forgotten
        )
        yield first
        for turn in self.listed:
            yield gateway_pb2.ListTurnsResponse(turns=[turn])

    async def ExplainTurn(self, request, context):
        if self.last is None or request.turn_id not in ("", self.last.turn_id):
            bad = status(grpc.StatusCode.NOT_FOUND, "UNKNOWN_TURN", "no such turn", field="turn_id")
            await context.abort_with_status(rpc_status.to_status(bad))
        return gateway_pb2.ExplainTurnResponse(report=self.last)

    async def GetUsage(self, request, context):
        rows = self.usage if request.all_tenants else self.usage[:1]
        return gateway_pb2.GetUsageResponse(totals=rows)


def _refusal(prompt: str) -> status_pb2.Status | None:
    """Return why a prompt fails that means to."""
    unavailable = grpc.StatusCode.UNAVAILABLE
    if prompt == "fail":
        return status(unavailable, "LLM_UNAVAILABLE", "no model answers", retry_ms=250)
    if prompt == "leave":
        return status(unavailable, "DRAINING", "is about to stop")
    if prompt == "leave after others":
        return status(unavailable, "DRAINING", "is about to stop", metadata={"retried_by": "gateway"})
    return None


def _completed(done: gateway_pb2.TurnReport) -> gateway_pb2.ConverseResponse:
    return gateway_pb2.ConverseResponse(turn_completed=gateway_pb2.TurnCompleted(report=done))


@asynccontextmanager
async def serve(gateway: FakeGateway, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """Serve `gateway`; yield its address. The server is stopped at the end, whatever is running."""
    least_ping_ms = ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_INTERVAL_MS)
    server = grpc.aio.server(options=[least_ping_ms])
    gateway_pb2_grpc.add_GatewayServiceServicer_to_server(gateway, server)
    health_module: Any = health  # its aio part has no types
    health_servicer = health_module.aio.HealthServicer()
    await health_servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until `condition` holds; the test's own time limit ends a wait in vain."""
    while True:
        if condition():
            return
        await asyncio.sleep(0)
