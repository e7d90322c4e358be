"""The mesh as a Python program sees it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic_ns
from types import TracebackType
from typing import Any, Final, Self

import grpc

from voicemesh.client.conversation import Conversation, Metadata, end_call, new_turn_id
from voicemesh.client.errors import VoiceMeshError, from_rpc_error, from_status, lost, unreachable
from voicemesh.client.events import (
    AudioFormat,
    Frame,
    Voice,
    format_from_proto,
    frame_from_proto,
    voice_from_proto,
)
from voicemesh.client.listing import TurnList, request_for
from voicemesh.client.observer import Clock, Observer
from voicemesh.client.options import (
    ConversationOptions,
    GenerationOptions,
    PromptParts,
    SpeechOptions,
    prompt_to_proto,
    text_of,
)
from voicemesh.client.report import FAILED, TurnReport, report_from_proto
from voicemesh.client.turn import Recording, Turn, recording
from voicemesh.client.usage import UsageTotals, totals_from_proto
from voicemesh.gateway.v1 import gateway_pb2
from voicemesh.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from voicemesh.tenant import METADATA_KEY, problem

DEFAULT_ADDRESS: Final = "127.0.0.1:50050"

_OPTIONS: Final[tuple[tuple[str, int | str], ...]] = (
    # Pings find a dead mesh on idle connections; its servers accept them at this rate. The second timeout
    # is for a process that hangs, and would be a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
)
_UNARY_TIMEOUT_S: Final = 10.0
_LIST_TIMEOUT_S: Final = 60.0
_SPEECH: Final = SpeechOptions()
_GENERATION: Final = GenerationOptions()


@dataclass(frozen=True, kw_only=True)
class BatchItem:
    """One spoken text of a batch.

    Attributes:
        text_indexes: Positions in the batch that it answers: more than one where texts are identical.
        recording: Its audio; None where it failed.
        error: Why it failed, or None.

    """

    text_indexes: tuple[int, ...]
    recording: Recording | None
    error: VoiceMeshError | None


@dataclass(frozen=True, kw_only=True)
class WarmItem:
    """One text of a list that was warmed.

    Attributes:
        text_indexes: Positions in the list that it answers: more than one where texts are identical.
        report: The account of it; None where it failed.
        error: Why it failed, or None.

    """

    text_indexes: tuple[int, ...]
    report: TurnReport | None
    error: VoiceMeshError | None

    @property
    def outcome(self) -> str:
        """What came of it: "present" before, "spoken" now, "not kept" (no cache answered), or "failed"."""
        if self.report is None:
            return "failed"
        if {"cache", "voice", "local_speech"} & set(self.report.degraded):
            return "not kept"
        return "spoken" if any(chunk.cache == "miss" for chunk in self.report.chunks) else "present"


class VoiceMesh:
    """A connection to the mesh. Use it with `async with`; leaving ends every call that it made.

    Args:
        address: `HOST:PORT`, or anything that gRPC resolves, for example `dns:///name:port`.
        tenant: Whose calls they are: sessions, channels and what is cached are each tenant's own. At most 64
            ASCII letters, digits, '.', '_' and '-'; "" for the tenant without a name. The mesh believes it.
        credentials: Channel credentials; None for a connection without TLS.
        clock: Monotonic nanoseconds, for the times that the caller observes.

    Raises ValueError for a tenant that cannot be.

    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        tenant: str = "",
        credentials: grpc.ChannelCredentials | None = None,
        clock: Clock = monotonic_ns,
    ) -> None:
        if wrong := problem(tenant):
            raise ValueError(f"tenant: {tenant[:80]!r} {wrong}")
        self._metadata: Metadata = ((METADATA_KEY, tenant),) if tenant else ()
        self.address = address
        self._credentials = credentials
        self._clock = clock
        self._channel: grpc.aio.Channel | None = None
        self._open: set[Any] = set()

    async def __aenter__(self) -> Self:
        """Begin to connect, without waiting for it; see `connect`."""
        if self._credentials is None:
            self._channel = grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(self.address, self._credentials, options=_OPTIONS)
        self._channel.get_state(try_to_connect=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every call and close the connection."""
        try:
            await asyncio.gather(*(call.aclose() for call in tuple(self._open)))
        finally:
            if self._channel is not None:
                await self._channel.close(None)
                self._channel = None

    def _stub(self) -> GatewayServiceStub:
        if self._channel is None:
            raise RuntimeError("VoiceMesh is used outside of `async with`")
        return GatewayServiceStub(self._channel)

    async def connect(self, timeout_s: float = 5.0) -> None:
        """Wait until the mesh is reached. Raises `VoiceMeshError` (reached=False) where it is not."""
        self._stub()
        channel = self._channel
        assert channel is not None
        refused = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while (state := channel.get_state(try_to_connect=True)) not in refused:
                    if state is grpc.ChannelConnectivity.READY:
                        return
                    await channel.wait_for_state_change(state)
        raise unreachable(self.address)

    def converse(
        self,
        *,
        voice: str = "",
        session_id: str = "",
        speech: SpeechOptions = _SPEECH,
        system_prompt: str = "",
        prompt_variant: str = "",
        model: str = "",
        generation: GenerationOptions = _GENERATION,
        reply_cache: bool = True,
        channel: str = "",
        join: str = "now",
        listen_only: bool = False,
        attributes: Mapping[str, str] | None = None,
    ) -> Conversation:
        """Return a conversation; it begins with `async with`, or with its first turn.

        `voice` is short for `SpeechOptions(voice=…)`; the other arguments are those of
        `ConversationOptions`. Raises ValueError for options that cannot be.
        """
        options = ConversationOptions(
            session_id=session_id,
            speech=_with_voice(speech, voice),
            system_prompt=system_prompt,
            prompt_variant=prompt_variant,
            model=model,
            generation=generation,
            reply_cache=reply_cache,
            channel=channel,
            join=join,
            listen_only=listen_only,
            attributes=attributes or {},
        )
        conversation = Conversation(
            self._stub(), options, self._metadata, self.address, self._clock, self._open.discard
        )
        self._open.add(conversation)
        return conversation

    def ask(self, prompt: PromptParts, *, turn_id: str = "", traceparent: str = "", **options: Any) -> Turn:
        """Return a turn that the mesh's LLM answers, in a conversation of its own.

        `options` are those of `converse`. The turn begins when it is iterated over or collected.
        """
        conversation = self.converse(**options)

        async def start() -> None:
            await conversation.begin(turn, prompt_to_proto(prompt, turn.turn_id, traceparent))

        turn = conversation.new_turn(
            turn_id, text_of(prompt), start=start, close=conversation.aclose, pace=conversation.speech_to_send
        )
        return turn

    def say(
        self,
        text: str,
        *,
        voice: str = "",
        speech: SpeechOptions = _SPEECH,
        turn_id: str = "",
        traceparent: str = "",
    ) -> Turn:
        """Return a turn that speaks `text`. It begins when it is iterated over or collected."""
        request = gateway_pb2.SpeakRequest(
            text=text,
            speech=_with_voice(speech, voice).to_proto(),
            turn_id=turn_id or new_turn_id(),
            traceparent=traceparent,
        )
        spoken = _Spoken(self._stub(), request, self._metadata, self.address, self._clock, self._open.discard)
        self._open.add(spoken)
        return spoken.turn

    async def speak_batch(
        self, texts: Sequence[str], *, voice: str = "", speech: SpeechOptions = _SPEECH
    ) -> AsyncIterator[BatchItem]:
        """Speak 1 to 1000 texts; give each as it is ready, identical ones once.

        Raises `VoiceMeshError` where the whole batch fails.
        """
        if isinstance(texts, str):
            raise TypeError("texts: must be a sequence of texts, not one text")
        request = gateway_pb2.SpeakBatchRequest(texts=texts, speech=_with_voice(speech, voice).to_proto())
        call: Any = self._stub().SpeakBatch(request, metadata=self._metadata)
        parts: dict[tuple[int, ...], _BatchParts] = {}
        try:
            async for message in call:
                key = tuple(message.text_indexes)
                item = parts.setdefault(key, _BatchParts()).take(key, message)
                if item is not None:
                    del parts[key]
                    yield item
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self.address) from None
        finally:
            await end_call(call)

    async def warm(
        self, texts: Sequence[str], *, voice: str = "", speech: SpeechOptions = _SPEECH
    ) -> AsyncIterator[WarmItem]:
        """Have 1 to 1000 texts spoken into the cache, behind all that somebody waits for; give each as it is.

        Turns of this tenant that say them with the same options find their audio. Raises `VoiceMeshError`
        where all of it fails, and ValueError for options that bypass the cache.
        """
        if isinstance(texts, str):
            raise TypeError("texts: must be a sequence of texts, not one text")
        options = _with_voice(speech, voice)
        if not options.cache:
            raise ValueError("speech: cache must be True: what is warmed is kept there")
        request = gateway_pb2.SpeakBatchRequest(texts=texts, speech=options.to_proto(), warm=True)
        call: Any = self._stub().SpeakBatch(request, metadata=self._metadata)
        try:
            async for message in call:
                key = tuple(message.text_indexes)
                match message.WhichOneof("event"):
                    case "completed":
                        report = report_from_proto(message.completed.report)
                        yield WarmItem(text_indexes=key, report=report, error=None)
                    case "failed":
                        error = from_status(message.failed.status)
                        report = report_from_proto(message.failed.report)
                        error.report = replace(report, outcome=FAILED, error=error)
                        yield WarmItem(text_indexes=key, report=None, error=error)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self.address) from None
        finally:
            await end_call(call)

    async def voices(self, language: str = "", *, include_not_ready: bool = False) -> list[Voice]:
        """Return what can speak, by name; `language` "en" also finds "en-us".

        With `include_not_ready` also what is being loaded, drains, or cannot be loaded: see `Voice.state`.
        """
        request = gateway_pb2.ListVoicesRequest(language=language, include_not_ready=include_not_ready)
        response = await self._unary(
            self._stub().ListVoices(request, timeout=_UNARY_TIMEOUT_S, metadata=self._metadata)
        )
        return [voice_from_proto(voice) for voice in response.voices]

    async def explain(self, turn_id: str = "") -> TurnReport:
        """Return the account of a turn that ended lately, as the gateway saw it; "" for the last one.

        `turn_id` may be the id of its trace, and the first 6 characters or more of either.
        """
        request = gateway_pb2.ExplainTurnRequest(turn_id=turn_id)
        response = await self._unary(
            self._stub().ExplainTurn(request, timeout=_UNARY_TIMEOUT_S, metadata=self._metadata)
        )
        return report_from_proto(response.report)

    def turns(
        self,
        *,
        max_age_s: float = 0.0,
        outcomes: Collection[str] = (),
        order: str = "newest",
        limit: int = 0,
        with_text: bool = False,
        include_refused: bool = False,
        all_tenants: bool = False,
    ) -> TurnList:
        """Return the turns that ended lately, to be iterated over.

        Args:
            max_age_s: Only turns that began no longer ago, by the gateway's clock; 0 for all it remembers.
            outcomes: Only these: "completed", "interrupted", "failed"; empty for all.
            order: "newest", or those first that took longest: "ttfa" (only turns with audio), "total".
            limit: At most so many; 0 for all.
            with_text: True for what was said, too.
            include_refused: True for those too that were refused before they began.
            all_tenants: True for every tenant's; only a client without a tenant may ask for them.

        Raises ValueError for what cannot be.

        """
        request = request_for(
            max_age_s=max_age_s,
            outcomes=outcomes,
            order=order,
            limit=limit,
            with_text=with_text,
            include_refused=include_refused,
            all_tenants=all_tenants,
        )
        stub = self._stub()
        return TurnList(
            lambda: stub.ListTurns(request, timeout=_LIST_TIMEOUT_S, metadata=self._metadata), self.address
        )

    async def usage(self, *, all_tenants: bool = False) -> list[UsageTotals]:
        """Return what the tenant consumed since the gateway began; with `all_tenants`, what every one did.

        Only a client without a tenant may ask for all.
        """
        request = gateway_pb2.GetUsageRequest(all_tenants=all_tenants)
        response = await self._unary(
            self._stub().GetUsage(request, timeout=_UNARY_TIMEOUT_S, metadata=self._metadata)
        )
        return [totals_from_proto(totals) for totals in response.totals]

    async def _unary(self, call: Any) -> Any:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self.address) from None


def _with_voice(speech: SpeechOptions, voice: str) -> SpeechOptions:
    return replace(speech, voice=voice) if voice else speech


class _Spoken:
    """The call behind a turn of `VoiceMesh.say`."""

    def __init__(
        self,
        stub: GatewayServiceStub,
        request: gateway_pb2.SpeakRequest,
        metadata: Metadata,
        address: str,
        clock: Clock,
        on_close: Callable[[Any], None],
    ) -> None:
        observer = Observer(clock, text=request.text)
        self.turn = Turn(
            request.turn_id, observer, start=self._start, close=self.aclose, pace=lambda: request.speech
        )
        self._stub = stub
        self._request = request
        self._metadata = metadata
        self._address = address
        self._on_close = on_close
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None

    async def _start(self) -> None:
        if self._call is None:
            self.turn.observer.begin()
            self._call = self._stub.Speak(self._request, metadata=self._metadata)
            self._reader = asyncio.create_task(self._read(), name="voicemesh-speak")

    async def aclose(self) -> None:
        self._on_close(self)
        if self._reader is not None:
            if self.turn.report is None:
                self._reader.cancel()
            # After its last message the call ends by itself.
            await asyncio.gather(self._reader, return_exceptions=True)
            await end_call(self._call)

    async def _read(self) -> None:
        error = lost(self._address)
        try:
            async for message in self._call:
                if message.WhichOneof("event") == "turn_completed":
                    await self.turn.completed(message.turn_completed.report)
                else:
                    await self.turn.deliver(message)
        except grpc.aio.AioRpcError as failure:
            error = from_rpc_error(failure, self._address)
        finally:
            await self.turn.lost(error)


class _BatchParts:
    """The parts of one text of a batch that have come."""

    def __init__(self) -> None:
        self._format = AudioFormat()
        self._frames: list[Frame] = []

    def take(self, key: tuple[int, ...], message: gateway_pb2.SpeakBatchResponse) -> BatchItem | None:
        """Take a part; return the item once it is whole."""
        match message.WhichOneof("event"):
            case "started":
                self._format = format_from_proto(message.started.format)
            case "frame":
                self._frames.append(frame_from_proto(message.frame))
            case "completed":
                report = report_from_proto(message.completed.report)
                whole = recording(self._frames, self._format, report)
                return BatchItem(text_indexes=key, recording=whole, error=None)
            case "failed":
                error = from_status(message.failed.status)
                report = report_from_proto(message.failed.report)
                error.report = replace(report, outcome=FAILED, error=error)
                return BatchItem(text_indexes=key, recording=None, error=error)
            case _:
                pass
        return None
