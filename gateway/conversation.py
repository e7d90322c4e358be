"""What a `Converse` stream is about: one caller's messages, and whose turns they are about."""

from collections.abc import AsyncIterator
from typing import Any, Final

from google.protobuf.message import Message as ProtoMessage

from gateway import limits, tenancy
from gateway.callers import OutboxCaller
from gateway.channels import Channels, Listener
from gateway.floor import Floor, Member
from gateway.turns import Turns
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.errors import DrainingError, InvalidFieldError, MeshError, OutOfOrderError
from voicemesh.runtime.sessions import Session
from voicemesh.runtime.streams import one_more_said

LINGER_S: Final = 0.05
"""How long the end of a refused call waits for the caller's next message."""
_LISTENERS_SAY: Final = frozenset({"playback"})
"""What a member of a channel that only listens may send."""


def _response(event: str, message: ProtoMessage) -> pb.ConverseResponse:
    return pb.ConverseResponse(**{event: message})  # type: ignore[arg-type] # events are named by their field


class Conversation:
    """One stream: a floor of its own, or a place in a channel.

    Args:
        turns: Begins turns.
        channels: Where streams share turns.
        session: Owns the tasks.
        context: The call's.

    Attributes:
        caller: Is told what happens.
        heard: Messages that came.

    """

    def __init__(self, turns: Turns, channels: Channels, session: Session, context: Any) -> None:
        self.caller = OutboxCaller(_response)
        self._turns = turns
        self._channels = channels
        self._session = session
        self._timeout_s: float | None = context.time_remaining()
        self._deadline_ns = turns.clock.now_ns() + round((self._timeout_s or 0) * 1e9)
        self._floor: Floor | None = None
        self._who = tenancy.caller_of(context)
        self._member = Member(self.caller, self._who)
        self.heard = 0
        self._listener: Listener | None = None
        self._listen_only = False
        self._said_all = False

    @property
    def configured(self) -> bool:
        """Whether `configure` came."""
        return self._floor is not None

    def end(self, error: MeshError) -> None:
        """End the stream with an error. Does not wait."""
        self._break_off(error)

    async def read(self, requests: AsyncIterator[pb.ConverseRequest]) -> None:
        """Take the caller's messages until it half-closes; then let the present turn finish, and end."""
        try:
            async for request in requests:
                self.heard += 1
                await self._take(request, self._turns.clock.now_ns())
            self._said_all = True
            if self._floor is not None:
                self._floor.half_closed(self._member)
            await self._finish()
        except MeshError as error:
            await one_more_said(requests, LINGER_S)  # what the caller sends right behind may land first
            self._break_off(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the call ends with it
            self._break_off(error)

    async def _finish(self, why: MeshError | None = None) -> None:
        """End the stream behind the present turn; with `why` where its caller did not ask for that."""
        if self._listener is not None:
            self._listener.finish(why)
            return
        if self._floor is not None:
            self._floor.close()
            await self._floor.finish()
        self.caller.outbox.close(why)

    def _break_off(self, error: Exception) -> None:
        self._leave()
        self.caller.outbox.close(error)

    def _leave(self) -> None:
        floor, self._floor = self._floor, None
        if self._listener is not None:
            listener, self._listener = self._listener, None
            self._channels.leave(listener)
        elif floor is not None:
            floor.abandon()

    async def drain(self) -> None:
        """Wait until the gateway drains; then end the stream behind the present turn, and say why."""
        await self._turns.draining.wait()
        if not self._said_all:
            await self._finish(
                DrainingError("this gateway is shutting down; go on at another", retry_after_ms=0)
            )

    def abandon(self) -> None:
        """End everything at once: the caller is gone. Does not wait."""
        self._leave()
        self.caller.outbox.abort()

    # ------------------------------------------------------------ messages

    async def _take(self, request: pb.ConverseRequest, received_ns: int) -> None:
        event = request.WhichOneof("event")
        match event:
            case "configure":
                limits.check(request.configure, "configure")
                await self._turns.peers.known(self._remaining_s())
                self._configure(request.configure)
                return
            case "text":
                limits.check_text(request.text.turn_id, request.text.traceparent, "text")
            case "interrupt" | "confirm" | "playback":
                limits.check_text(getattr(request, event).turn_id, "", event)
        if event is not None and self._floor is None:
            raise OutOfOrderError(f"`{event}` came before `configure`, which must be first", field=event)
        if self._listen_only and event is not None and event not in _LISTENERS_SAY:
            raise OutOfOrderError(f"`{event}` came from a member that listens only", field=event)
        if self._floor is None:
            raise InvalidFieldError("event", "is not set, or is one that this gateway does not know")
        await self._floor.take(self._member, request, received_ns)

    def _configure(self, configure: pb.Configure) -> None:
        if self._floor is not None:
            raise OutOfOrderError("`configure` came twice; it must be first and only once", field="configure")
        tenant = self._who.tenant
        if configure.channel:
            listener = self._channels.join(self._who, configure, self.caller)
            self._listener = self._member = listener
            self._floor = listener.channel.floor
            self._listen_only = configure.listen_only
            self._session.spawn(listener.run(), name="listen")
            return
        for field in ("channel_join", "listen_only"):
            if getattr(configure, field):
                raise InvalidFieldError(f"configure.{field}", "is for a stream that names a `channel`")
        self._floor = Floor(self._turns, tenant, configure, self.caller, self._session, self._remaining_s)

    def _remaining_s(self) -> float | None:
        if self._timeout_s is None:
            return None
        return max(0.0, (self._deadline_ns - self._turns.clock.now_ns()) / 1e9)
