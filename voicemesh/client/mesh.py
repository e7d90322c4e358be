"""The mesh as a Python program sees it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic_ns
from types import TracebackType
from typing import Any, Final, Self

import grpc

from voicemesh.client.api_key import metadata_of
from voicemesh.client.connecting import channel_options, open_channel
from voicemesh.client.conversation import Conversation, Metadata, end_call, new_turn_id
from voicemesh.client.errors import VoiceMeshError, from_rpc_error, from_status, unreachable
from voicemesh.client.events import (
    AudioFormat,
    Frame,
    Voice,
    format_from_proto,
    frame_from_proto,
    voice_from_proto,
)
from voicemesh.client.gateways import Gateway, Gateways, addresses_of
from voicemesh.client.listing import TurnList, request_for
from voicemesh.client.observer import Clock
from voicemesh.client.options import (
    ConversationOptions,
    GenerationOptions,
    PromptParts,
    SpeechOptions,
    prompt_to_proto,
    text_of,
)
from voicemesh.client.report import FAILED, TurnReport, report_from_proto
from voicemesh.client.spoken import Spoken
from voicemesh.client.turn import Recording, Turn, recording
from voicemesh.client.usage import UsageTotals, totals_from_proto
from voicemesh.gateway.v1 import gateway_pb2
from voicemesh.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from voicemesh.tenant import METADATA_KEY, problem
from voicemesh.tls import Tls

DEFAULT_ADDRESS: Final = "127.0.0.1:50050"

LEAST_STALL_S: Final = 0.8
"""Gateways send away who pings more often than that takes."""
_MOST_STALL_S: Final = 3600.0
_MOST_LOOKUP_S: Final = 3600.0
_MOST_ASKED_AGAIN: Final = 10
_UNKNOWN_TURN: Final = "UNKNOWN_TURN"
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
        address: `HOST:PORT`, or anything that gRPC resolves, for example `dns:///name:port`; of several
            gateways a list, or a text with commas. The first is asked until it is lost, then the next.
        tenant: Whose calls they are: sessions, channels and what is cached are each tenant's own. At most 64
            ASCII letters, digits, '.', '_' and '-'; "" for the tenant without a name. A mesh that asks for
            keys knows it by the key; another believes it.
        api_key: A key that the gateway has on its list, or a token; "" where it asks for none.
        allow_plain_key: True to show it to another machine over a connection without TLS.
        tls: How TLS is spoken; None for plain text.
        credentials: Channel credentials of one's own, instead.
        clock: Monotonic nanoseconds, for the times that the caller observes.
        asks_again: How often a turn is asked again at another gateway, where one was lost before the turn's
            first frame; 0 for never.
        stall_s: After so many seconds without an answer to a ping, while a call is open, a gateway counts as
            lost. At least 0.8. A gateway whose process ends is found at once, whatever this says; with little
            of it a live one may be taken for lost where this process or the network is held up for so long.
        lookup_s: How often a name in `address` is looked up, so that gateways that come up behind it are
            asked, too; 0: when a connection ends, as gRPC does.

    Raises ValueError for what cannot be, also in the files of `tls`.

    """

    def __init__(
        self,
        address: str | Sequence[str] = DEFAULT_ADDRESS,
        *,
        tenant: str = "",
        api_key: str = "",
        allow_plain_key: bool = False,
        tls: Tls | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        clock: Clock = monotonic_ns,
        asks_again: int = 2,
        stall_s: float = 5.0,
        lookup_s: float = 5.0,
    ) -> None:
        if wrong := problem(tenant):
            raise ValueError(f"tenant: {tenant[:80]!r} {wrong}")
        if not 0 <= asks_again <= _MOST_ASKED_AGAIN:
            raise ValueError(f"asks_again: {asks_again} is not between 0 and {_MOST_ASKED_AGAIN}")
        if not LEAST_STALL_S <= stall_s <= _MOST_STALL_S:
            raise ValueError(f"stall_s: {stall_s} is not between {LEAST_STALL_S} and {_MOST_STALL_S} seconds")
        if not 0 <= lookup_s <= _MOST_LOOKUP_S:
            raise ValueError(f"lookup_s: {lookup_s} is not between 0 and {_MOST_LOOKUP_S:g} seconds")
        self._lookup_s = lookup_s
        self._addresses = addresses_of(address)
        self.address = ",".join(self._addresses)
        self._asks_again = asks_again
        self._stall_s = stall_s
        if tls is not None and credentials is not None:
            raise ValueError("tls, credentials: give one of them")
        self._tls = tls
        self._credentials = tls.credentials() if tls is not None else credentials
        shown = metadata_of(
            api_key, self._addresses, encrypted=self._credentials is not None, allow_plain=allow_plain_key
        )
        self._metadata: Metadata = (((METADATA_KEY, tenant),) if tenant else ()) + shown
        self._clock = clock
        self._gateways: Gateways | None = None
        self._open: set[Any] = set()

    async def __aenter__(self) -> Self:
        """Begin to connect, without waiting for it; see `connect`."""
        foreign = self._credentials is not None and self._tls is None
        gateways = [
            Gateway(address, self._open_channel(address), self._tls, foreign) for address in self._addresses
        ]
        self._gateways = Gateways(gateways, asks_again=self._asks_again, connect_s=self._stall_s)
        gateways[0].channel.get_state(try_to_connect=True)
        return self

    def _open_channel(self, address: str) -> grpc.aio.Channel:
        tls = self._tls.options(address) if self._tls is not None else ()
        return open_channel(
            address, (*channel_options(self._stall_s), *tls), self._credentials, self._lookup_s
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every call and close the connection."""
        try:
            await asyncio.gather(*(call.aclose() for call in tuple(self._open)))
        finally:
            gateways, self._gateways = self._gateways, None
            if gateways is not None:
                await gateways.close()

    def _all(self) -> Gateways:
        if self._gateways is None:
            raise RuntimeError("VoiceMesh is used outside of `async with`")
        return self._gateways

    @property
    def asked_now(self) -> str:
        """Address of the gateway that is asked now; of several, the first that was not lost."""
        return self._all().present.address

    async def connect(self, timeout_s: float = 5.0) -> None:
        """Wait until the mesh is reached. Raises `VoiceMeshError` (reached=False) where it is not.

        Of several gateways one is enough; each may take `timeout_s` seconds.
        """
        gateways = self._all()
        for gateway in gateways.in_order():
            if await gateway.connected(timeout_s):
                return
            gateways.lost(gateway)
        raise unreachable(self.address, await gateways.present.why_not())

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
        conversation = Conversation(self._all(), options, self._metadata, self._clock, self._open.discard)
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
        spoken = Spoken(self._all(), request, self._metadata, self._clock, self._open.discard)
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
        gateway = self._all().present
        call: Any = gateway.stub.SpeakBatch(request, metadata=self._metadata)
        parts: dict[tuple[int, ...], _BatchParts] = {}
        try:
            async for message in call:
                key = tuple(message.text_indexes)
                item = parts.setdefault(key, _BatchParts()).take(key, message)
                if item is not None:
                    del parts[key]
                    yield item
        except grpc.aio.AioRpcError as error:
            raise await gateway.explained(from_rpc_error(error, gateway.address)) from None
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
        gateway = self._all().present
        call: Any = gateway.stub.SpeakBatch(request, metadata=self._metadata)
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
            raise await gateway.explained(from_rpc_error(error, gateway.address)) from None
        finally:
            await end_call(call)

    async def voices(self, language: str = "", *, include_not_ready: bool = False) -> list[Voice]:
        """Return what can speak, by name; `language` "en" also finds "en-us".

        With `include_not_ready` also what is being loaded, drains, or cannot be loaded: see `Voice.state`.
        """
        request = gateway_pb2.ListVoicesRequest(language=language, include_not_ready=include_not_ready)
        response = await self._unary(
            lambda stub: stub.ListVoices(request, timeout=_UNARY_TIMEOUT_S, metadata=self._metadata)
        )
        return [voice_from_proto(voice) for voice in response.voices]

    async def explain(self, turn_id: str = "") -> TurnReport:
        """Return the account of a turn that ended lately, as the gateway saw it; "" for the last one.

        `turn_id` may be the id of its trace, and the first 6 characters or more of either. Of several
        gateways each is asked until one remembers it.
        """
        request = gateway_pb2.ExplainTurnRequest(turn_id=turn_id)
        places = self._all().in_order()
        for place, gateway in enumerate(places):
            try:
                response = await self._unary(
                    lambda stub: stub.ExplainTurn(request, timeout=_UNARY_TIMEOUT_S, metadata=self._metadata),
                    gateway,
                )
                return report_from_proto(response.report)
            except VoiceMeshError as error:
                if error.reason != _UNKNOWN_TURN or place + 1 == len(places):
                    raise
        raise AssertionError("there is always a gateway")

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
        gateway = self._all().present
        return TurnList(
            lambda: gateway.stub.ListTurns(request, timeout=_LIST_TIMEOUT_S, metadata=self._metadata),
            gateway,
        )

    async def usage(self, *, all_tenants: bool = False) -> list[UsageTotals]:
        """Return what the tenant consumed since the gateway began; with `all_tenants`, what every one did.

        Only a client without a tenant may ask for all.
        """
        request = gateway_pb2.GetUsageRequest(all_tenants=all_tenants)
        response = await self._unary(
            lambda stub: stub.GetUsage(request, timeout=_UNARY_TIMEOUT_S, metadata=self._metadata)
        )
        return [totals_from_proto(totals) for totals in response.totals]

    async def _unary(self, ask: Callable[[GatewayServiceStub], Any], at: Gateway | None = None) -> Any:
        """Ask the present gateway, or that `at` which it is; another one where it is lost."""
        gateways = self._all()
        gateway, attempts = at or gateways.present, gateways.attempts()
        while True:
            try:
                return await ask(gateway.stub)
            except grpc.aio.AioRpcError as error:
                failure = from_rpc_error(error, gateway.address)
            other = None
            if attempts.again(failure, heard=False):
                other = await gateways.another(gateway)
            if other is None:
                raise await gateway.explained(failure)
            gateway = other


def _with_voice(speech: SpeechOptions, voice: str) -> SpeechOptions:
    return replace(speech, voice=voice) if voice else speech


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
