"""One caller's turns, one after another: what a `Converse` stream is about.

configure ─┬─ prompt ──────────┐      interrupt, or the next prompt, ends the turn that runs;
           ├─ text … last ─────┤      the next one begins when the end of that one is queued,
           └──────<────────────┘      with the history as it was left
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtoMessage

from gateway import convert
from gateway.callers import OutboxCaller
from gateway.core import events as on
from gateway.core.values import Image, Message
from gateway.driver import TurnDriver
from gateway.options import SpeechChoice, TextChoice, speech_choice, text_choice
from gateway.turns import TurnRequest, Turns
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.errors import InvalidFieldError, MeshError, OutOfOrderError
from voicemesh.runtime.logs import get_logger
from voicemesh.runtime.sessions import Session
from voicemesh.runtime.status import to_status

_log = get_logger(__name__)
_LINGER_S: Final = 0.05
"""How long the end of a refused call waits for the caller's next message."""


def _response(event: str, message: ProtoMessage) -> pb.ConverseResponse:
    return pb.ConverseResponse(**{event: message})  # type: ignore[arg-type] # events are named by their field


class Conversation:
    """The caller's side and the order of turns.

    Args:
        turns: Begins turns.
        session: Owns the tasks.
        timeout_s: What is left of the call's deadline; None where it has none.

    """

    def __init__(self, turns: Turns, session: Session, timeout_s: float | None) -> None:
        self.caller = OutboxCaller(_response)
        self._turns = turns
        self._session = session
        self._timeout_s = timeout_s
        self._deadline_ns = turns.clock.now_ns() + round((timeout_s or 0) * 1e9)
        self._standby = turns.standby(session, self._remaining_s)
        self._text: TextChoice | None = None
        self._speech: SpeechChoice | None = None
        self._session_id = ""
        self._known_session = False
        self._turn: TurnDriver | None = None
        self._words_open = False
        self._words_length = 0
        self._dropping: str | None = None  # id of a turn of words whose rest is ignored
        self._said_id = ""  # id of the last turn of words that was complete
        self._history: tuple[Message, ...] = ()

    async def read(self, requests: AsyncIterator[pb.ConverseRequest]) -> None:
        """Take the caller's messages until it half-closes; then let the present turn finish, and end."""
        try:
            async for request in requests:
                await self._take(request, self._turns.clock.now_ns())
            self._standby.close()
            if self._turn is not None:
                if self._words_open:
                    self._end_words()
                await self._turn.finished.wait()
            self.caller.outbox.close()
        except DecodeError:
            self._break_off(InvalidFieldError("request", "is no message of this contract"))
        except MeshError as error:
            # grpc.aio replaces the status by "Internal error from Core" where a caller's write meets a call
            # that has just ended: what the caller sends right behind may land first.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_LINGER_S):
                    await anext(aiter(requests))
            self._break_off(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the call ends with it
            self._break_off(error)

    def _break_off(self, error: Exception) -> None:
        if self._turn is not None:
            self._turn.abandon()
        self._standby.close()
        self.caller.outbox.close(error)

    async def drain(self) -> None:
        """Wait until the gateway drains; then end the stream behind the present turn."""
        await self._turns.draining.wait()
        self._standby.close()
        if self._turn is not None:
            await self._turn.finished.wait()
        self.caller.outbox.close()

    def abandon(self) -> None:
        """End everything at once: the caller is gone. Does not wait."""
        if self._turn is not None:
            self._turn.abandon()
        self._standby.close()
        self.caller.outbox.abort()

    # ------------------------------------------------------------ messages

    async def _take(self, request: pb.ConverseRequest, received_ns: int) -> None:
        event = request.WhichOneof("event")
        if event is None:
            raise InvalidFieldError("event", "is not set, or is one that this gateway does not know")
        if event == "configure":
            self._configure(request.configure)
            return
        if self._text is None:
            raise OutOfOrderError(f"`{event}` came before `configure`, which must be first", field=event)
        match event:
            case "prompt":
                await self._prompt(request.prompt, received_ns)
            case "text":
                await self._words(request.text, received_ns)
            case "interrupt":
                interrupt = request.interrupt
                if self._is_present(interrupt.turn_id):
                    self._words_open = False
                    played_ms = interrupt.played_ms if interrupt.HasField("played_ms") else None
                    self._tell(on.Interrupted(played_ms))
            case "playback":
                if self._is_present(request.playback.turn_id):
                    self._tell(on.PlaybackReported(request.playback.played_ms))

    def _configure(self, configure: pb.Configure) -> None:
        if self._text is not None:
            raise OutOfOrderError("`configure` came twice; it must be first and only once", field="configure")
        self._text = text_choice(configure, self._turns.settings)
        self._speech = speech_choice(
            configure.speech, self._turns.peers, self._turns.settings, "configure.speech"
        )
        self._known_session = bool(configure.session_id)
        self._session_id = configure.session_id or uuid.uuid4().hex
        self._standby.prepare()

    async def _prompt(self, prompt: pb.Prompt, received_ns: int) -> None:
        await self._end_present()
        try:
            message = self._checked(prompt)
            self._begin(
                TurnRequest(prompt.turn_id, self._session_id, received_ns, message, prompt.traceparent)
            )
        except MeshError as error:
            self._refuse(prompt.turn_id, error)

    async def _words(self, text: pb.TextInput, received_ns: int) -> None:
        if self._dropping == text.turn_id:
            # The rest of a turn that was refused or failed: it was answered already.
            if text.last:
                self._dropping = None
            return
        self._dropping = None
        if not (self._words_open and self._is_running(text.turn_id)):
            if text.turn_id and text.turn_id == self._said_id:
                raise OutOfOrderError("`text` came behind the `last` of its turn", field="text.turn_id")
            await self._end_present()
            try:
                self._begin(TurnRequest(text.turn_id, self._session_id, received_ns, None, text.traceparent))
            except MeshError as error:
                self._refuse(text.turn_id, error)
                self._drop_rest(text)
                return
            self._words_open = True
            self._words_length = 0
        self._words_length += len(text.text)
        limit = self._turns.settings.gateway_max_text_chars
        if self._words_length > limit:
            self._words_open = False
            self._tell(
                on.TextFailed(InvalidFieldError("text.text", f"a turn takes at most {limit} characters"))
            )
            self._drop_rest(text)
            return
        if text.text:
            self._tell(on.TextArrived(text.text))
        if text.flush:
            self._tell(on.TextFlushed())
        if text.last:
            self._said_id = text.turn_id
            self._end_words()

    def _drop_rest(self, text: pb.TextInput) -> None:
        self._dropping = None if text.last else text.turn_id

    # ------------------------------------------------------------ turns

    def _begin(self, request: TurnRequest) -> None:
        assert self._text is not None
        assert self._speech is not None
        request = TurnRequest(
            request.turn_id,
            request.session_id,
            request.received_ns,
            request.prompt,
            request.traceparent,
            remembered=self._history,
            new_session=not self._known_session,
        )
        self._turn = self._turns.begin(
            request, self._text, self._speech, self.caller, self._session, self._standby, self._remaining_s()
        )
        self._known_session = True

    def _remaining_s(self) -> float | None:
        if self._timeout_s is None:
            return None
        return max(0.0, (self._deadline_ns - self._turns.clock.now_ns()) / 1e9)

    async def _end_present(self) -> None:
        """Interrupt the present turn, if one runs, and wait for its end: the next one needs its history."""
        self._words_open = False
        if self._turn is None:
            return
        if not self._turn.finished.is_set():
            self._turn.handle(on.Interrupted())
            await self._turn.finished.wait()
        await self._turn.settled.wait()
        self._history = self._turn.history
        self._turn = None

    def _end_words(self) -> None:
        self._words_open = False
        self._tell(on.TextEnded())

    def _is_present(self, turn_id: str) -> bool:
        return self._turn is not None and turn_id in ("", self._turn.spec.turn_id)

    def _is_running(self, turn_id: str) -> bool:
        return self._turn is not None and self._is_present(turn_id) and not self._turn.finished.is_set()

    def _tell(self, event: on.Event) -> None:
        if self._turn is not None:
            self._turn.handle(event)

    def _refuse(self, turn_id: str, error: MeshError) -> None:
        """End a turn that could not begin."""
        turn_id = turn_id or uuid.uuid4().hex
        status = to_status(error)
        _log.warning("turn refused", turn_id=turn_id, session_id=self._session_id, reason=error.reason)
        report = pb.TurnReport(
            turn_id=turn_id, session_id=self._session_id, outcome=pb.TURN_OUTCOME_FAILED, error=status
        )
        self.caller.send("turn_failed", pb.TurnFailed(turn_id=turn_id, status=status, report=report))

    def _checked(self, prompt: pb.Prompt) -> Message:
        """Check a prompt and turn it into a message.

        Raises:
            InvalidFieldError: It has no text, or is over a limit.

        """
        settings = self._turns.settings
        message = Message("user", convert.parts_from(prompt.parts))
        if not message.text.strip():
            raise InvalidFieldError("prompt.parts", "has no text: at least one part must say something")
        if len(message.text) > settings.gateway_max_prompt_chars:
            raise InvalidFieldError(
                "prompt.parts",
                f"has {len(message.text)} characters; at most {settings.gateway_max_prompt_chars} are taken",
            )
        image_bytes = sum(len(part.data) for part in message.parts if isinstance(part, Image))
        if image_bytes > settings.gateway_max_image_bytes:
            raise InvalidFieldError(
                "prompt.parts.image.data",
                f"has {image_bytes} bytes; at most {settings.gateway_max_image_bytes} are taken",
            )
        return message
