"""A conversation: one call that carries turns one after another."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable
from types import TracebackType
from typing import Any, Final, Self

import grpc

from voicemesh.call_end import CallEnd
from voicemesh.client.errors import VoiceMeshError, from_rpc_error, from_status, lost
from voicemesh.client.gateways import Attempts, Gateway, Gateways, is_lost
from voicemesh.client.observer import Clock, Observer
from voicemesh.client.options import ConversationOptions, Flush, PromptParts, prompt_to_proto, text_of
from voicemesh.client.turn import Turn
from voicemesh.gateway.v1 import gateway_pb2

Metadata = tuple[tuple[str, str], ...]
"""What goes with a call beside its messages."""

_OTHERS_LIMIT: Final = 64
"""Turns that others began in a channel and nobody has looked at; behind that the call waits."""
_HALF_CLOSE_S: Final = 1.0
"""How long the mesh has to end an idle call by itself before it is cancelled."""


def new_turn_id() -> str:
    """Return an id that no other turn has."""
    return uuid.uuid4().hex


async def end_call(call: Any) -> None:
    """Cancel a call and wait for its end; grpc keeps calls that nobody waits for (grpc/grpc#43462)."""
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
        await call.code()


class Conversation:
    """Turns with one listener, one after another. Made by `VoiceMesh.converse`; use it with `async with`.

    A new turn ends the one before it. Of a turn that is not the present one, or was interrupted,
    nothing is delivered but its end. In a channel, `turns` gives those that others begin.

    A gateway that is lost between turns is replaced by another one when the next turn begins, and one that is
    lost before the first frame of a prompt or a whole text is replaced at once; not in a channel.

    Attributes:
        session_id: The session, for `VoiceMesh.converse(session_id=…)` later; known once a turn started.
        dropped: Events that came for a turn that was not the present one.

    """

    def __init__(
        self,
        gateways: Gateways,
        options: ConversationOptions,
        metadata: Metadata,
        clock: Clock,
        on_close: Callable[["Conversation"], None],
    ) -> None:
        self._configure = options.to_proto()
        self._introduced = False
        self._gateways = gateways
        self._gateway: Gateway = gateways.home_of(options.channel) if options.channel else gateways.present
        self._metadata = metadata
        self._clock = clock
        self._on_close = on_close
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._feeder: asyncio.Task[None] | None = None
        self._introduction: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._moved = asyncio.Event()
        # What began the present turn, where it can be said again as it is, and how often it may be.
        self._again: gateway_pb2.ConverseRequest | None = None
        self._attempts = Attempts(0)
        self._turns: dict[str, Turn] = {}
        self._present: Turn | None = None
        self._draft: Turn | None = None
        self._drafted: PromptParts = ""
        self._draft_message = gateway_pb2.Prompt()
        self._shared = bool(options.channel)
        self._begun_by_others: asyncio.Queue[Turn | None] = asyncio.Queue(_OTHERS_LIMIT)
        self._error: VoiceMeshError | None = None
        self._failed = False
        self.session_id = options.session_id
        self.dropped = 0

    async def __aenter__(self) -> Self:
        """Open the call. Does not wait for the mesh: its first turn raises where it cannot be reached.

        The mesh is told how it is to speak at once, so that it can get ready before the first turn.
        """
        self._begin_call()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the call; a turn that is running is cancelled."""
        await self.aclose()

    def _begin_call(self) -> None:
        self._open()
        if self._introduction is None:
            self._introduction = asyncio.create_task(self._introduce(), name="voicemesh-configure")

    def _open(self) -> None:
        if self._call is None:
            if not self._shared:
                self._gateway = self._gateways.present
            self._call_at(self._gateway)
            self._reader = asyncio.create_task(self._read(), name="voicemesh-conversation")

    def _call_at(self, gateway: Gateway, further: Metadata = ()) -> None:
        converse: Any = gateway.stub.Converse  # the stubs ask for an iterator of requests
        self._gateway = gateway
        self._introduced = False
        self._call = converse(metadata=self._metadata + further)
        self._call_end = CallEnd(self._call)

    async def ask(
        self, prompt: PromptParts, *, turn_id: str = "", traceparent: str = "", asked_at_ns: int | None = None
    ) -> Turn:
        """Begin a turn that the mesh's LLM answers.

        `traceparent` is a W3C trace context to be the parent of the turn's spans. `asked_at_ns` is
        the moment, on the client's clock, that the turn's times count from; None for now. Load
        tools give the moment at which the turn should have begun. A prompt that says what the present
        draft says confirms it: its turn is returned. Raises `VoiceMeshError` where
        the conversation's call has ended.
        """
        draft = self._draft
        if draft is not None and turn_id in ("", draft.turn_id) and self._drafted == prompt:
            return await self.confirm()
        turn = self.new_turn(turn_id, text_of(prompt))
        await self.begin(turn, prompt_to_proto(prompt, turn.turn_id, traceparent), asked_at_ns)
        return turn

    async def say(
        self,
        text: str | AsyncIterable[str | Flush],
        *,
        turn_id: str = "",
        traceparent: str = "",
        asked_at_ns: int | None = None,
    ) -> Turn:
        """Begin a turn with the caller's own words: a text, or pieces of one as they come.

        `traceparent`, and for a whole text `asked_at_ns`, are those of `ask`.

        Pieces are read by a task of the conversation until they or the turn end; the turn's time begins
        with the first. `FLUSH` among them has spoken at once what is held. An exception of the iterator
        interrupts the turn, and is raised by the iteration over the turn.
        """
        turn = self.new_turn(turn_id, "")
        if isinstance(text, str):
            first = gateway_pb2.TextInput(turn_id=turn.turn_id, text=text, last=True, traceparent=traceparent)
            turn.observer.given(text)
            await self.begin(turn, first, asked_at_ns)
        else:
            await self._take_over(turn)
            feed = self._feed(turn, text, traceparent)
            self._feeder = asyncio.create_task(feed, name="voicemesh-words")
        return turn

    async def draft(self, prompt: PromptParts, *, turn_id: str = "", traceparent: str = "") -> Turn:
        """Begin a turn that is not certain yet, such as an interim result of speech recognition.

        The mesh works on it, and nothing of it is delivered before `confirm`. Another draft or turn, or an
        interrupt, discards it: then it ends as interrupted and leaves no trace. Raises as `ask`.
        """
        turn = self.new_turn(turn_id, text_of(prompt))
        turn.observer.begin()
        await self._take_over(turn)
        self._draft, self._drafted = turn, prompt
        message = self._draft_message = prompt_to_proto(prompt, turn.turn_id, traceparent)
        await self._send(gateway_pb2.ConverseRequest(draft=message))
        return turn

    async def confirm(self) -> Turn:
        """Say that the draft is what was meant; return its turn, whose times count from now.

        Raises RuntimeError where there is no draft, and `VoiceMeshError` where the call has ended.
        """
        turn, self._draft = self._draft, None
        if turn is None:
            raise RuntimeError("there is no draft to confirm")
        turn.observer.begin()
        self._may_be_said_again(gateway_pb2.ConverseRequest(prompt=self._draft_message))
        message = gateway_pb2.Confirm(turn_id=turn.turn_id)
        await self._send(gateway_pb2.ConverseRequest(confirm=message))
        return turn

    async def turns(self) -> AsyncIterator[Turn]:
        """Iterate over the turns that other members of the channel begin, as they begin.

        Each should be read to its end: a listener that does not read falls behind, and loses audio. Ends
        with the call; raises `VoiceMeshError` where that failed, for example because of options that are
        not the channel's.
        """
        if not self._shared:
            raise RuntimeError("only in a channel do others begin turns")
        self._begin_call()
        while self._error is None or not self._begun_by_others.empty():
            turn = await self._begun_by_others.get()
            if turn is not None:
                yield turn
        if self._failed:
            raise self._error.copy()

    async def interrupt(self, played_ms: int | None = None) -> None:
        """End the present turn: the user speaks over it. Does nothing where no turn is running.

        `played_ms` is how much of the turn's audio was heard: history keeps the words up to there.
        None lets the mesh estimate it. Nothing of the turn is delivered from now on but its end.
        """
        turn = self._present
        if turn is None or turn.report is not None:
            return
        self._again = None
        await self._stop_feeding()
        await turn.mute()
        await self._end_draft()
        message = gateway_pb2.Interrupt(turn_id=turn.turn_id, played_ms=played_ms)
        await self._send(gateway_pb2.ConverseRequest(interrupt=message))

    async def playback(self, played_ms: int) -> None:
        """Say how much of the present turn's audio was played, in milliseconds."""
        turn = self._present
        if turn is not None and turn.report is None:
            message = gateway_pb2.Playback(turn_id=turn.turn_id, played_ms=played_ms)
            await self._send(gateway_pb2.ConverseRequest(playback=message))

    async def aclose(self) -> None:
        """End the call; a turn that is running is cancelled. May be called again."""
        call, reader = self._call, self._reader
        self._on_close(self)
        await self._stop_feeding()
        if call is None or reader is None:
            return
        try:
            if not self._turns and not reader.done():
                # Nothing is running: let the mesh see an end, not a cancellation.
                with contextlib.suppress(TimeoutError, asyncio.InvalidStateError, grpc.aio.AioRpcError):
                    async with asyncio.timeout(_HALF_CLOSE_S):
                        await call.done_writing()
                        await asyncio.shield(reader)
        finally:
            tasks = [task for task in (reader, self._introduction) if task is not None]
            for task in tasks:
                task.cancel()
            await end_call(call)
            await asyncio.gather(*tasks, return_exceptions=True)

    def speech_to_send(self) -> gateway_pb2.SpeechOptions | None:
        """Return the options of speech as they will be sent; None once they were."""
        return None if self._introduced else self._configure.speech

    def new_turn(self, turn_id: str, prompt: str, **hooks: Any) -> Turn:
        """Make a turn; `begin` begins it."""
        return Turn(turn_id or new_turn_id(), Observer(self._clock, prompt=prompt), **hooks)

    async def begin(
        self,
        turn: Turn,
        message: gateway_pb2.Prompt | gateway_pb2.TextInput,
        asked_at_ns: int | None = None,
    ) -> None:
        """Make `turn` the present one and send its first message. Raises `VoiceMeshError` with its report."""
        turn.observer.begin(asked_at_ns)
        try:
            await self._take_over(turn)
            if isinstance(message, gateway_pb2.Prompt):
                request = gateway_pb2.ConverseRequest(prompt=message)
            else:
                request = gateway_pb2.ConverseRequest(text=message)
            self._may_be_said_again(request)
            await self._send(request)
        except VoiceMeshError as error:
            await turn.lost(error)
            error.report = turn.report
            raise

    async def _take_over(self, turn: Turn) -> None:
        self._again = None
        self._open()
        await self._stop_feeding()
        if self._error is not None:
            if self._shared or not is_lost(self._error):
                raise self._error.copy()
            self._reopen()
        await self._end_draft()
        if self._present is not None:
            await self._present.mute()
        self._present = turn
        self._turns[turn.turn_id] = turn

    def _reopen(self) -> None:
        """Begin another call, behind one whose gateway was lost while no turn was running."""
        self._gateways.lost(self._gateway)
        self._call, self._error, self._failed = None, None, False
        self._open()

    def _may_be_said_again(self, request: gateway_pb2.ConverseRequest) -> None:
        self._again = request
        self._attempts = self._gateways.attempts()

    async def _feed(self, turn: Turn, pieces: AsyncIterable[str | Flush], traceparent: str) -> None:
        began = False
        try:
            async for piece in pieces:
                if turn.report is not None:
                    return
                if not began:
                    turn.observer.begin()
                flush = isinstance(piece, Flush)
                text = gateway_pb2.TextInput(turn_id=turn.turn_id, flush=flush)
                if not isinstance(piece, Flush):
                    turn.observer.given(piece)
                    text.text = piece
                text.traceparent = "" if began else traceparent
                began = True
                await self._send_words(text)
            await self._send_words(gateway_pb2.TextInput(turn_id=turn.turn_id, last=True))
        except VoiceMeshError as error:
            await turn.lost(error)
        except Exception as error:  # noqa: BLE001 - the caller's own; raised to the reader of the turn
            turn.cause = error
            if began:
                with contextlib.suppress(VoiceMeshError):
                    stop = gateway_pb2.Interrupt(turn_id=turn.turn_id)
                    await self._send(gateway_pb2.ConverseRequest(interrupt=stop))
            else:
                # The mesh has not heard of the turn and will not end it.
                await self._unheard(turn)

    async def _end_draft(self) -> None:
        draft, self._draft = self._draft, None
        if draft is not None:
            await self._unheard(draft)

    async def _unheard(self, turn: Turn) -> None:
        """End a turn of which the mesh will say nothing."""
        self._turns.pop(turn.turn_id, None)
        await turn.completed(gateway_pb2.TurnReport(outcome=gateway_pb2.TURN_OUTCOME_INTERRUPTED))

    async def _send_words(self, message: gateway_pb2.TextInput) -> None:
        await self._send(gateway_pb2.ConverseRequest(text=message))

    async def _stop_feeding(self) -> None:
        feeder, self._feeder = self._feeder, None
        if feeder is not None and feeder is not asyncio.current_task():
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)

    async def _introduce(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async with self._writing:
                await self._send_configure()

    async def _send_configure(self) -> None:
        if not self._introduced:
            self._introduced = True
            # Wherever it is asked, the session goes on.
            self._configure.session_id = self._configure.session_id or self.session_id
            await self._call.write(gateway_pb2.ConverseRequest(configure=self._configure))

    async def _send(self, message: gateway_pb2.ConverseRequest) -> None:
        moved = self._moved
        try:
            async with self._writing:
                await self._send_configure()
                await self._call.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The call has ended; its reader knows why, or has asked again at another gateway.
            await self._settled(moved)
            if not moved.is_set():
                raise (self._error or lost(self._gateway.address)).copy() from None

    async def _settled(self, moved: asyncio.Event) -> None:
        assert self._reader is not None
        moving = asyncio.ensure_future(moved.wait())
        try:
            await asyncio.wait({self._reader, moving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            moving.cancel()
            await asyncio.gather(moving, return_exceptions=True)

    async def _read(self) -> None:
        error = lost(self._gateway.address)
        try:
            while True:
                error, self._failed = await self._read_call()
                if not await self._ask_again(error):
                    if self._failed and is_lost(error):
                        self._gateways.lost(self._gateway)
                    heard = self._present is not None and self._present.observer.heard
                    error = await self._gateway.explained(error, heard=heard)
                    return
        finally:
            self._error = error
            turns, self._turns = tuple(self._turns.values()), {}
            for turn in turns:
                await turn.lost(error)
            with contextlib.suppress(asyncio.QueueFull):
                self._begun_by_others.put_nowait(None)

    async def _read_call(self) -> tuple[VoiceMeshError, bool]:
        """Read the present call to its end; return why it ended, and whether it failed."""
        call, call_end, address = self._call, self._call_end, self._gateway.address
        try:
            async for message in call:
                if (refused := self._refused(message)) is not None:
                    await end_call(call)
                    return refused, True
                await self._route(message)
        except grpc.aio.AioRpcError as failure:
            why = await call_end.why(failure)
            if why is not None:
                return from_rpc_error(why, address), True
        return lost(address), False

    def _refused(self, message: gateway_pb2.ConverseResponse) -> VoiceMeshError | None:
        """Return why a gateway refuses the present turn that another one may take."""
        if message.WhichOneof("event") != "turn_failed" or self._again is None:
            return None
        turn, error = self._present, from_status(message.turn_failed.status)
        if turn is None or message.turn_failed.turn_id != turn.turn_id or not is_lost(error):
            return None
        return error

    async def _ask_again(self, error: VoiceMeshError) -> bool:
        """Ask another gateway for the present turn, where it can be; return whether it was."""
        turn, message, gone = self._present, self._again, self._gateway
        if turn is None or message is None or turn.report is not None or self._shared:
            return False
        if not self._attempts.again(error, heard=turn.observer.heard):
            return False
        gateway = await self._gateways.another(gone)
        if gateway is None or self._again is not message:
            return False
        # What other turns wait for is their end, and it went with the call.
        for other in [other for other in self._turns.values() if other is not turn]:
            del self._turns[other.turn_id]
            await other.lost(error)
        await turn.anew(gone.address, gateway.address)
        self._call_at(gateway, self._attempts.metadata())
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # its reader will see why
            async with self._writing:
                await self._send_configure()
                await self._call.write(message)
        self._moved.set()
        self._moved = asyncio.Event()
        return True

    async def _route(self, message: gateway_pb2.ConverseResponse) -> None:
        kind = message.WhichOneof("event")
        if kind == "turn_completed":
            report = message.turn_completed.report
            if (turn := self._turns.pop(report.turn_id, None)) is not None:
                await turn.completed(report)
        elif kind == "turn_failed":
            failure = message.turn_failed
            if (turn := self._turns.pop(failure.turn_id, None)) is not None:
                await turn.failed(failure.status, failure.report)
        elif kind is not None:
            if kind == "turn_started":
                self.session_id = message.turn_started.session_id
                if self._shared and message.turn_started.turn_id not in self._turns:
                    await self._join(message.turn_started.turn_id)
            turn = self._present
            if turn is not None and getattr(message, kind).turn_id == turn.turn_id:
                await turn.deliver(message)
            else:
                self.dropped += 1

    async def _join(self, turn_id: str) -> None:
        """Make a turn that another member began the present one."""
        turn = self.new_turn(turn_id, "")
        self._present = self._turns[turn_id] = turn
        await self._begun_by_others.put(turn)
