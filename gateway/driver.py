"""Drives one turn: reads the streams of the services into the engine, and does what it says.

    LLM ─┐                                        ┌─> LLM, chunker, TTS, cache
    chunker ─┤  event ──> TurnEngine ──> actions ─┤
    TTS ─┤                (never waits)           └─> the caller's outbox
    cache ─┘

Actions are executed at once and in order, without waiting, so that an interrupt can come between any
two events and nothing overtakes. Backpressure is at the readers: after each message they wait until
the caller's outbox has room again.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol

from google.protobuf.message import Message as ProtoMessage
from opentelemetry.trace import Span

from gateway import translation
from gateway.admission.probe import Probe
from gateway.asking import Asking
from gateway.audio_cache import AudioCache
from gateway.beginnings import Beginnings
from gateway.cache_link import CacheLink
from gateway.chunking import METHOD as CHUNKER_METHOD
from gateway.chunking import Chunking
from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.pace import Pace, WriterMeter
from gateway.core.report import TurnReport
from gateway.core.turn import TurnEngine
from gateway.core.values import Message, TurnSpec
from gateway.links import Link
from gateway.memory import Memory
from gateway.openers import Foresight, Openers
from gateway.options import SpeechChoice, TextChoice
from gateway.peers import NEEDED, Peers
from gateway.settings import GatewaySettings
from gateway.standby import METHOD, Standby
from gateway.synthesis import METHOD as TTS_METHOD
from gateway.synthesis import Synthesis
from voicemesh.cache.v1 import cache_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime import logs
from voicemesh.runtime import trace_names as names
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import MeshError
from voicemesh.runtime.sessions import Session
from voicemesh.runtime.telemetry import Telemetry, trace_id_of

_CLOSE_S: Final = 1.0
_CHUNKER_AHEAD_S: Final = 0.005
_TTS_AHEAD_S: Final = 0.01
"""How long behind the LLM's question the next streams are opened, so as not to get in its way."""
_UNFOUND_S: Final = 0.005
"""Longest wait for a reply that is likely to be found, before the streams are opened that make one."""


class Caller(Protocol):
    """The caller's side of a turn."""

    def send(self, event: str, message: ProtoMessage, on_sent: Callable[[], None] | None = None) -> None:
        """Queue an event, by its field in the response, without waiting."""

    def drop(self) -> None:
        """Drop what is queued, but for how turns began and ended."""

    async def room(self) -> None:
        """Wait until the caller has read enough."""

    def full(self) -> bool:
        """Say whether `room` would wait."""

    async def eased(self) -> None:
        """Wait until the caller has read half of what it may leave."""


class TurnDriver:
    """Runs one turn from `start` to `finished`.

    Attributes:
        spoken_over: True once its caller was known to speak over it.
        finished: Set when the turn has ended and the caller was told.
        settled: Set while no write of the history is under way.

    Args:
        spec: The turn.
        text: How the reply is made.
        speech: How it is spoken.
        peers: The services.
        caller: Who listens.
        session: Owns the tasks.
        standby: Has a stream to the LLM service open; None where the caller asks no more than this.
        span: The turn's span; its end is the recorder's.
        openers: How replies of this gateway usually begin.
        beginnings: How those begin that the cache has.
        started: How the caller is told that the turn begins.
        probe: Watches what the turn shows of the load.
        record: Is given the report when the turn ends; returns what the caller is told, None for nothing.
        late: Is given the engine time, in microseconds, of each chunk that ends behind the turn.
        timeout_s: What is left of the caller's deadline; None where it has none.

    """

    def __init__(
        self,
        spec: TurnSpec,
        text: TextChoice,
        speech: SpeechChoice,
        *,
        settings: GatewaySettings,
        peers: Peers,
        caller: Caller,
        session: Session,
        standby: Standby | None,
        telemetry: Telemetry,
        clock: Clock,
        span: Span,
        openers: Openers,
        beginnings: Beginnings,
        started: pb.TurnStarted,
        probe: Probe,
        record: Callable[[TurnReport], pb.TurnReport | None],
        late: Callable[[int], None],
        timeout_s: float | None,
    ) -> None:
        self.spec = spec
        self.spoken_over = False
        self.finished = asyncio.Event()
        self.settled = asyncio.Event()
        self.settled.set()
        self._pace_meter = peers.paces.meter(speech.voice.name, speech.speed)
        # Words of the caller's own come as they come.
        self._writer_meter = peers.paces.writer(text.model) if spec.prompt is not None else WriterMeter()
        self._engine = TurnEngine(spec, clock, self._pace_meter, self._writer_meter, self._again)
        self._speech = speech
        self._peers = peers
        self._caller = caller
        self._session = session
        self._standby = standby
        self._telemetry = telemetry
        self._clock = clock
        self._span = span
        self._started = started
        self._told_of = False
        self._probe = probe
        self._record = record
        self._late = late
        self._deadline_ns = clock.now_ns() + round(timeout_s * 1e9) if timeout_s is not None else None
        self._links: list[Link[Any, Any]] = []
        self._abandoned = False
        self._behind = False
        """True while the caller does not take what it is sent."""
        self._actions: deque[do.Action] = deque()
        self._acting = False
        self._uncrowded = asyncio.Event()
        """Cleared while no further chunks are wanted."""
        self._uncrowded.set()
        self._timer: asyncio.TimerHandle | None = None
        self._chunking = Chunking(
            spec.turn_id,
            speech,
            pace=self._pace,
            new_link=lambda: self._link("chunker", CHUNKER_METHOD, peers.chunker.Chunk),
            read=self._start,
            handle=self.handle,
            room=self._room_for_chunks,
            revised=peers.hear_chunker,
        )
        self._cache = CacheLink(
            self._open_cache,
            peers.lookups,
            peers.histories,
            settings.gateway_follow_stall_ms / 1000,
        )
        self._audio = AudioCache(spec, speech, peers, self._cache, self.handle, span, clock)
        self._synthesis = Synthesis(
            spec.turn_id,
            speech,
            new_link=lambda: self._link("tts", TTS_METHOD, peers.tts.Synthesize),
            read=self._start,
            handle=self.handle,
            room=caller.room,
        )
        self._memory = Memory(spec, text, speech, peers, self._cache, self.handle, clock, beginnings)
        self._foresight = Foresight(openers, (spec.tenant, spec.system_prompt, text.model))
        self._asking = Asking(
            spec,
            text,
            span,
            peers=peers,
            standby=standby,
            new_link=lambda: self._link("llm", METHOD, peers.llm.Generate),
            adopt=self._links.append,
            read=self._start,
            handle=self.handle,
            room=self._room_for_text,
        )

    @property
    def ended(self) -> bool:
        """True once the turn's outcome is known."""
        return self._engine.ended

    @property
    def history(self) -> tuple[Message, ...]:
        """The session's history as the turn knows it."""
        return self._engine.history

    # ------------------------------------------------------------ in

    def start(self) -> None:
        """Begin the turn.

        Its first question leaves at once, ahead of what the caller is told, and the streams that it will need
        are opened while the answer is on its way: none is opened on the critical path.
        """
        self._do(self._engine.start())
        if not self.spec.draft:
            self._tell_started()
        asyncio.get_running_loop().call_soon(self._open_ahead)

    def confirm(self, received_ns: int) -> None:
        """Tell the caller of a draft, all that was held back first; its times count from `received_ns`."""
        self._tell_started()
        self.handle(on.Confirmed(received_ns))

    def _tell_started(self) -> None:
        if not self._told_of:
            self._told_of = True
            self._caller.send("turn_started", self._started)

    def _say(self, event: str, message: ProtoMessage, on_sent: Callable[[], None] | None = None) -> None:
        self._tell_started()  # whatever is told first, the turn begins ahead of it
        self._caller.send(event, message, on_sent)

    def _open_ahead(self) -> None:
        if self.spec.prompt is None:
            self._open(self._chunking.open_ahead)
            self._open(self._synthesis.open_ahead)
        elif self._memory.beginning:
            # The reply is likely there, cut already: opening these would be in its way.
            asyncio.get_running_loop().call_later(_UNFOUND_S, self._open_unfound)
        else:
            self._open(self._asking.open_ahead)
            if self.spec.reply_cache:
                self._open(self._chunking.open_ahead)  # the reply may be there in one round trip

    def _open_unfound(self) -> None:
        if not self._memory.found:
            self._open(self._asking.open_ahead)
            self._open(self._chunking.open_ahead)

    def _open(self, open_link: Callable[[], object]) -> None:
        """Open a stream ahead of its need, unless the turn needs none any more."""
        if not self._engine.ended:
            open_link()

    def handle(self, event: on.Event) -> None:
        """Take an event, from the caller or from a service."""
        if self._foresight.keep(event):
            return
        if not (made := isinstance(event, on.FrameMade)):
            self._probe.take(event)
        if isinstance(event, on.HistorySaved):
            self.settled.set()
        if self.ended and isinstance(event, (on.ChunkSpoken, on.ChunkUnspeakable)):
            self._late(event.engine_us)
        self._do(self._engine.handle(event))
        if made:
            self._probe.take(event)  # behind the audio, which is waited for

    async def room(self) -> None:
        """Wait until what was said so far is taken: for a caller who brings its own words."""
        await self._chunking.room()

    # ------------------------------------------------------------ actions

    def _do(self, actions: list[do.Action]) -> None:
        self._actions.extend(do.asked_first(actions) if len(actions) > 1 else actions)
        if self._acting:
            return  # an action led to an event: its actions come after those that are queued
        self._acting = True
        try:
            while self._actions:
                self._execute(self._actions.popleft())
        finally:
            self._acting = False
        if not self._uncrowded.is_set() and (self.ended or not self._engine.speech.crowded):
            self._uncrowded.set()

    def _execute(self, action: do.Action) -> None:
        match action:
            case do.EmitFrame() | do.EmitText() | do.EmitChunk() | do.EmitWords():
                self._tell(action)
            case do.EmitSpeakLocally() | do.EmitDegraded():
                self._tell(action)
            case (
                do.FeedChunker() | do.FlushChunker() | do.EndChunker() | do.RestartChunker() | do.TellSlack()
            ):
                self._chunking.tell(action)
            case do.LoadHistory() | do.LookUpReply():
                self._look_up(action)
            case do.LookUpAudio():
                self._look_up_audio(action)
            case do.AppendAudio() | do.SealAudio() | do.ReleaseAudio() | do.StoreAudio():
                self._share_audio(action)
            case do.StoreReply():
                self._memory.store(action)
            case do.SaveHistory():
                self.settled.clear()
                self._memory.store(action)
            case do.StartLlm():
                self._probe.act(action)
                self._ask_llm(action)
            case do.TellPatience() | do.CancelLlm():
                self._asking.tell(action)
            case do.Synthesize():
                self._probe.act(action)
                self._synthesis.ask(action)
            case do.CancelSpeech():
                self._synthesis.cancel()
            case do.SetTimer(at_ns):
                self._set_timer(at_ns)
            case do.DropQueued():
                self._caller.drop()
            case do.Finish(report):
                self._finish(report)

    def _set_timer(self, at_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(0.0, (at_ns - self._clock.now_ns()) / 1e9)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self.handle, on.TimerFired())

    def _look_up(self, action: do.LoadHistory | do.LookUpReply) -> None:
        self._memory.look_up(action)
        if self._memory.beginning and self.spec.audio_cache:
            self._audio.look_ahead(self._memory.beginning)

    def _look_up_audio(self, action: do.LookUpAudio) -> None:
        found = self._foresight.answer(action)
        if found is not None:
            self.handle(found)
        else:
            self._audio.look_up(action)

    def _share_audio(self, action: do.AppendAudio | do.SealAudio | do.ReleaseAudio | do.StoreAudio) -> None:
        match action:
            case do.AppendAudio(index, audio, words):
                self._audio.append(index, audio, words)
            case do.SealAudio(index):
                self._audio.seal(index)
            case do.ReleaseAudio(index, foreign):
                self._audio.release(index, foreign=foreign)
            case do.StoreAudio(text, audio, words):
                self._audio.store(text, audio, words)

    def _tell(self, action: translation.Told) -> None:
        field, message = translation.told_to(self.spec.turn_id, self._speech.voice.language, action)
        on_sent = None
        if isinstance(action, do.EmitFrame) and action.first:
            on_sent = partial(self.handle, on.FirstFrameSent())
        elif isinstance(action, do.EmitDegraded):
            self._span.add_event(names.DEGRADED, {names.DEGRADED: action.what})
        self._say(field, message, on_sent)
        if not self._behind and self._caller.full():
            self._behind = True
            self.handle(on.CallerBehind(behind=True))
            self._session.spawn(self._catch_up(), name=f"caller of turn {self.spec.turn_id}")

    async def _catch_up(self) -> None:
        await self._caller.eased()
        self._behind = False
        self.handle(on.CallerBehind(behind=False))

    # ------------------------------------------------------------ links

    def _link(self, service: str, method: str, open_call: Callable[..., Any]) -> Link[Any, Any]:
        attempt = self._engine.failovers.attempts(service)
        if service in NEEDED:
            self._peers.retries.called(service, attempt)
        link: Link[Any, Any] = Link(
            service,
            method,
            open_call,
            self._telemetry,
            self._span,
            self._left_s(),
            self._peers.calls,
            self.spec.turn_id,
            attempt,
        )
        self._links.append(link)
        return link

    def _start(self, link: Link[Any, Any]) -> None:
        """Have a stream read."""
        with self._about():
            link.start(self._session, f"turn {self.spec.turn_id}")

    def _about(self) -> contextlib.AbstractContextManager[None]:
        """Have what tasks log that are begun inside say which turn it is about."""
        return logs.about(turn_id=self.spec.turn_id, trace_id=trace_id_of(self._span))

    def _open_cache(self) -> Link[cache_pb2.ExchangeRequest, cache_pb2.ExchangeResponse]:
        link = self._link("cache", "voicemesh.cache.v1.CacheService/Exchange", self._peers.cache.Exchange)
        link.listen(self._cache.take, lambda error: self._cache.ended(link, error))
        self._start(link)
        return link

    def _again(self, service: str, error: MeshError, attempt: int) -> bool:
        """Say whether a stream that broke off is opened anew; see `Failovers`."""
        wait_s = self._peers.retries.wait_s(service, error, attempt, self._left_s())
        if wait_s is None:
            return False
        self._span.add_event(names.FAILED_OVER, {names.PEER: service, names.ERROR_TYPE: error.reason})
        return True

    def _left_s(self) -> float | None:
        if self._deadline_ns is None:
            return None
        return max(0.0, (self._deadline_ns - self._clock.now_ns()) / 1e9)

    def _ask_llm(self, action: do.StartLlm) -> None:
        self._asking.ask(action.messages, action.said)
        if self._engine.failovers.attempts("llm"):
            return
        loop = asyncio.get_running_loop()
        loop.call_later(_CHUNKER_AHEAD_S, self._open, self._chunking.open_ahead)
        loop.call_later(_TTS_AHEAD_S, self._open, self._synthesis.open_ahead)
        if self.spec.audio_cache:
            loop.call_later(_TTS_AHEAD_S, self._open, self._look_ahead)

    async def _room_for_chunks(self) -> None:
        await self._caller.room()
        while self._engine.speech.crowded and not self.ended:
            self._uncrowded.clear()
            await self._uncrowded.wait()

    async def _room_for_text(self) -> None:
        await self._caller.room()
        await self.room()

    def _look_ahead(self) -> None:
        guess = self._foresight.guess()
        if guess is not None:
            self._audio.foresee(guess)

    def _pace(self) -> Pace:
        return replace(self._pace_meter.pace(), writer_chars_per_s=self._writer_meter.chars_per_s())

    # ------------------------------------------------------------ the end

    def _finish(self, report: TurnReport) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if report.outcome == "interrupted":
            self._span.add_event(names.CANCELLED if self._abandoned else names.BARGE_IN)
        told = self._record(report)
        if told is None:
            pass  # a draft that nobody wanted
        elif report.outcome == "failed":
            failed = pb.TurnFailed(turn_id=self.spec.turn_id, status=told.error, report=told)
            self._say("turn_failed", failed)
        else:
            self._say("turn_completed", pb.TurnCompleted(report=told))
        with self._about():
            self._session.spawn(self._close(), name=f"close turn {self.spec.turn_id}")
        if self._standby is not None:
            self._standby.prepare_soon()
        self.finished.set()

    async def _close(self) -> None:
        """Let the streams end by themselves for a moment; then end what is left."""
        self._asking.half_close()
        self._synthesis.half_close()
        self._chunking.cancel()
        self._cache.drain()
        clock = asyncio.get_running_loop()
        ends_s = clock.time() + _CLOSE_S
        # An interrupt behind the end may open another, to write what was heard after all.
        while (readers := self._open_readers()) and (left_s := ends_s - clock.time()) > 0:
            await asyncio.wait(readers, timeout=left_s)
        for link in self._links:
            link.cancel()

    def _open_readers(self) -> set[asyncio.Task[None]]:
        return {link.reader for link in self._links if link.reader is not None and not link.reader.done()}

    def abandon(self) -> None:
        """End the turn at once: the caller is gone. Does not wait."""
        if not self.finished.is_set():
            self._abandoned = True
            self.handle(on.Interrupted())
