"""Channels: one synthesis, many listeners.

    floor (one turn at a time) ── events ──> log ──┬── Listener ── outbox ── stream of the host
                                                   ├── Listener ── outbox ── stream of a late one
                                                   └── Listener ── (full: stays behind in the log)

The turns of a channel belong to none of its members: they go on while there is one.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import Message as ProtoMessage

from gateway.access.caller import Caller as Who
from gateway.callers import OutboxCaller
from gateway.channel_log import ChannelLog, Entry
from gateway.floor import Floor, Member
from gateway.turns import Turns
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.errors import (
    InvalidFieldError,
    MeshError,
    SlowReceiverError,
    TooManyTurnsError,
    UnauthenticatedError,
)
from voicemesh.runtime.frames import BYTES_PER_SAMPLE
from voicemesh.runtime.sessions import Session, SessionRegistry

_MAX_NAME_CHARS: Final = 128
_RETRY_MS: Final = 5_000
_LEAD_MS: Final = 5_000
"""The lead of a channel where the gateway's default is no limit."""


class Channel:
    """One channel; its floor's caller."""

    def __init__(
        self, turns: Turns, tenant: str, configure: pb.Configure, session: Session, backlog_ms: float
    ) -> None:
        configure = _paced(configure, turns)
        self.listeners: set[Listener] = set()
        self._log = ChannelLog(backlog_ms)
        self._session = session
        self.floor = Floor(turns, tenant, configure, self, session, lambda: None)

    def send(self, event: str, message: ProtoMessage, on_sent: Callable[[], None] | None = None) -> None:
        """Tell every listener, without waiting for any."""
        audio_ms = 0.0
        if isinstance(message, common_pb2.Frame):
            audio_ms = len(message.audio) / BYTES_PER_SAMPLE * 1000 / self.floor.speech.format.sample_rate_hz
        self._log.append(event, message, audio_ms, on_sent)
        for listener in self.listeners:
            listener.wake()

    def drop(self) -> None:
        """Drop what the listeners have not been given yet, but for how turns began and ended."""
        self._log.drop()
        for listener in self.listeners:
            listener.caller.drop()

    async def room(self) -> None:
        """Return at once: a turn of a channel keeps to the pace of playback, and waits for no listener."""

    def full(self) -> bool:
        """Say that it never is."""
        return False

    async def eased(self) -> None:
        """Return at once."""

    def join(self, listener: "Listener", *, beginning: bool) -> None:
        """Take a listener in, at the present or at the beginning of the present turn."""
        present = self._log.present
        if present is not None and beginning:
            listener.begin(self._log, present.number, present.audio_at_ms)
        else:
            if present is not None:
                listener.caller.send(present.event, present.message)
            listener.begin(self._log, self._log.end, self._log.audio_ms)
        self.listeners.add(listener)

    def leave(self, listener: "Listener") -> None:
        """Let a listener go; what it alone had still to read is read by nobody."""
        self.listeners.discard(listener)
        listener.wake()
        self.floor.half_closed(listener)
        self._log.was_read(min((other.cursor for other in self.listeners), default=self._log.end) - 1)

    def end(self) -> None:
        """End everything: nobody listens any more."""
        self.floor.abandon()


class Listener(Member):
    """A member of a channel: moves what is said to its own stream, at the pace at which that is read."""

    def __init__(self, channel: Channel, caller: OutboxCaller, who: Who, *, words: bool) -> None:
        super().__init__(caller, who)
        self.channel = channel
        self.outbox_caller = caller
        self.cursor = 0
        self._position_ms = 0.0
        self._words = words
        self._ending = False
        self._why: MeshError | None = None
        self._news = asyncio.Event()

    def begin(self, log: ChannelLog, cursor: int, position_ms: float) -> None:
        """Begin to read at `cursor`, `position_ms` into the channel's audio."""
        self._log, self.cursor, self._position_ms = log, cursor, position_ms

    def wake(self) -> None:
        """Look at the log again."""
        self._news.set()

    def finish(self, why: MeshError | None = None) -> None:
        """End the stream behind the present turn; with `why` where its caller did not ask for that."""
        self._ending, self._why = True, why
        self.wake()

    async def run(self) -> None:
        """Read the log until the stream ends."""
        outbox = self.outbox_caller.outbox
        while not outbox.closed:
            await outbox.room()
            entry = self._log.next(self.cursor)
            if self._log.has_lost_edges(self.cursor):
                outbox.abort(SlowReceiverError("this member of the channel does not read what it is sent"))
            elif entry is not None:
                try:
                    self._give(entry)
                except UnauthenticatedError as error:
                    outbox.close(error)
            elif self._ending and self._log.present is None:
                outbox.close(self._why)
            else:
                self._news.clear()
                await self._news.wait()

    def _give(self, entry: Entry) -> None:
        self.cursor = entry.number + 1
        if entry.event == "turn_started":
            self.who.check()
            self._position_ms = entry.audio_at_ms
        elif entry.audio_ms or _is_complete(entry.message):
            self._tell_gap(entry)
        if entry.event != "words" or self._words:
            self.caller.send(entry.event, entry.message, lambda: self._log.was_read(entry.number))
        if entry.audio_ms:
            self._position_ms = entry.audio_at_ms + entry.audio_ms

    def _tell_gap(self, entry: Entry) -> None:
        skipped_ms = round(entry.audio_at_ms - max(self._position_ms, self._log.dropped_ms))
        if skipped_ms <= 0:
            return
        turn_id = entry.message.turn_id if entry.audio_ms else entry.message.report.turn_id
        detail = f"{skipped_ms} ms of audio were left out: this listener is too slow, or came too late"
        degraded = pb.Degraded(
            turn_id=turn_id, what=pb.DEGRADATION_SKIPPED, detail=detail, skipped_ms=skipped_ms
        )
        self.caller.send("degraded", degraded)


def _is_complete(message: Any) -> bool:
    return isinstance(message, pb.TurnCompleted) and message.report.outcome == pb.TURN_OUTCOME_COMPLETED


class Channels:
    """All channels of this process, by tenant and name.

    Args:
        turns: Begins turns.
        sessions: Opens a session for each channel.

    """

    def __init__(self, turns: Turns, sessions: SessionRegistry) -> None:
        self._turns = turns
        self._sessions = sessions
        self._channels: dict[tuple[str, str], Channel] = {}

    def __len__(self) -> int:
        """Channels that have a member."""
        return len(self._channels)

    def join(self, who: Who, configure: pb.Configure, caller: OutboxCaller) -> Listener:
        """Take a caller's stream into the channel that it names; the first one makes it.

        Raises:
            InvalidFieldError: A field is unusable, or other than the channel's.
            TooManyTurnsError: There is no place for another channel, or in this one.
            UnknownVoiceError: There is no such voice.

        """
        tenant, name, settings = who.tenant, configure.channel, self._turns.settings
        if len(name) > _MAX_NAME_CHARS:
            raise InvalidFieldError("configure.channel", f"at most {_MAX_NAME_CHARS} characters are taken")
        if configure.channel_join not in pb.ChannelJoin.values():
            known = ", ".join(pb.ChannelJoin.keys())
            raise InvalidFieldError(
                "configure.channel_join", f"is none of {known}, but number {configure.channel_join}"
            )
        channel = self._channels.get((tenant, name))
        if channel is None:
            if len(self._channels) >= settings.gateway_max_channels:
                raise TooManyTurnsError(
                    f"all {settings.gateway_max_channels} places for channels are taken",
                    retry_after_ms=_RETRY_MS,
                )
            backlog_ms = settings.gateway_channel_backlog_s * 1000
            channel = Channel(self._turns, tenant, configure, self._sessions.open(), backlog_ms)
            self._channels[tenant, name] = channel
        else:
            if len(channel.listeners) >= settings.gateway_max_listeners:
                raise TooManyTurnsError(
                    f"all {settings.gateway_max_listeners} places in the channel are taken",
                    retry_after_ms=_RETRY_MS,
                )
            _check_same(configure, channel.floor, self._turns)
        listener = Listener(channel, caller, who, words=configure.speech.word_timings)
        channel.join(listener, beginning=configure.channel_join == pb.CHANNEL_JOIN_BEGINNING)
        return listener

    def leave(self, listener: Listener) -> None:
        """Let a stream go; the channel ends with the last one."""
        channel = listener.channel
        channel.leave(listener)
        name = channel.floor.tenant, channel.floor.configure.channel
        if not channel.listeners and self._channels.get(name) is channel:
            del self._channels[name]
            channel.end()


def _paced(configure: pb.Configure, turns: Turns) -> pb.Configure:
    """Return the options of a channel's host, with a lead: a channel is for people who listen."""
    speech = configure.speech
    if speech.HasField("max_lead_ms") and not speech.max_lead_ms:
        raise InvalidFieldError(
            "configure.speech.max_lead_ms",
            "is 0, but a channel is always paced; leave it absent, or ask for a lead",
        )
    if not speech.HasField("max_lead_ms") and not turns.settings.gateway_max_lead_ms:
        speech.max_lead_ms = _LEAD_MS
    return configure


def _check_same(configure: pb.Configure, floor: Floor, turns: Turns) -> None:
    """Check what a stream that joins asks for against what its host did.

    Raises:
        InvalidFieldError: A field is set, and not to the same.
        UnknownVoiceError: There is no such voice.

    """
    host, asked, speech = floor.configure, configure.speech, floor.speech
    wanted: list[tuple[str, bool, Any, Any]] = [
        ("session_id", bool(configure.session_id), configure.session_id, floor.session_id),
        ("system_prompt", bool(configure.system_prompt), configure.system_prompt, host.system_prompt),
        ("model", bool(configure.model), configure.model, host.model),
        (
            "parameters",
            configure.parameters != common_pb2.GenerationParameters(),
            configure.parameters,
            host.parameters,
        ),
        ("attributes", bool(configure.attributes), configure.attributes, host.attributes),
        ("bypass_reply_cache", configure.bypass_reply_cache, True, host.bypass_reply_cache),
        ("speech.speed", bool(asked.speed), asked.speed, speech.speed),
        (
            "speech.chunk_policy",
            asked.chunk_policy != common_pb2.ChunkPolicy(),
            asked.chunk_policy,
            speech.policy,
        ),
        ("speech.speech_text", asked.HasField("speech_text"), asked.speech_text, speech.speech_text),
        ("speech.bypass_audio_cache", asked.bypass_audio_cache, True, not speech.audio_cache),
        ("speech.cache_tags", bool(asked.cache_tags), tuple(asked.cache_tags), speech.cache_tags),
        ("speech.max_lead_ms", asked.HasField("max_lead_ms"), asked.max_lead_ms, speech.max_lead_ms),
        (
            "speech.format.encoding",
            bool(asked.format.encoding),
            asked.format.encoding,
            speech.heard.encoding,
        ),
        (
            "speech.format.sample_rate_hz",
            bool(asked.format.sample_rate_hz),
            asked.format.sample_rate_hz,
            speech.format.sample_rate_hz,
        ),
        ("speech.format.channels", asked.format.channels > 1, asked.format.channels, 1),
    ]
    if asked.voice:
        voice = turns.peers.voice(asked.voice, "configure.speech.voice")
        wanted.append(("speech.voice", True, voice.name, speech.voice.name))
    for field, is_set, value, theirs in wanted:
        if is_set and value != theirs:
            raise InvalidFieldError(
                f"configure.{field}", "is not what the channel's first stream set; leave it empty to join"
            )
