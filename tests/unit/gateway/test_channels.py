"""Listeners of a channel, without a mesh: what each is given, and what it is told of what it missed."""

import asyncio
from typing import Any

import pytest
from google.protobuf.message import Message as ProtoMessage

from gateway.access.caller import Caller
from gateway.callers import OutboxCaller
from gateway.channel_log import ChannelLog
from gateway.channels import Listener
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.errors import SlowReceiverError

FRAME_MS = 100.0


def response(event: str, message: ProtoMessage) -> pb.ConverseResponse:
    fields: Any = {event: message}
    return pb.ConverseResponse(**fields)


class Reader:
    """A listener whose stream is read on request."""

    def __init__(
        self, log: ChannelLog, cursor: int = 0, position_ms: float = 0.0, words: bool = True
    ) -> None:
        self.caller = OutboxCaller(response)
        self.listener = Listener(None, self.caller, Caller(), words=words)  # type: ignore[arg-type] # reads the log alone
        self.listener.begin(log, cursor, position_ms)
        self.task = asyncio.create_task(self.listener.run())

    async def read(self, count: int) -> list[pb.ConverseResponse]:
        found = []
        async with asyncio.timeout(5):
            for _ in range(count):
                item, on_sent = await anext(self.caller.outbox)
                if on_sent is not None:
                    on_sent()
                found.append(item)
        return found

    async def rest(self) -> list[pb.ConverseResponse]:
        self.listener.finish()
        async with asyncio.timeout(5):
            found = [item async for item, _ in self.caller.outbox]
            await self.task
        return found


def kinds(found: list[pb.ConverseResponse]) -> list[str | None]:
    return [item.WhichOneof("event") for item in found]


def start(log: ChannelLog, turn_id: str = "t") -> None:
    log.append("turn_started", pb.TurnStarted(turn_id=turn_id))


def speak(log: ChannelLog, frames: int, turn_id: str = "t") -> None:
    for _ in range(frames):
        log.append("frame", common_pb2.Frame(turn_id=turn_id, audio=b"\0\0"), FRAME_MS)


def end(log: ChannelLog, outcome: pb.TurnOutcome.ValueType = pb.TURN_OUTCOME_COMPLETED) -> None:
    report = pb.TurnReport(turn_id="t", outcome=outcome)
    log.append("turn_completed", pb.TurnCompleted(report=report))


async def test_a_slow_listener_loses_the_oldest_frames_and_is_told_how_much() -> None:
    log = ChannelLog(1000)
    reader = Reader(log)
    start(log)
    speak(log, 90)
    log.append("text_delta", pb.TextDelta(turn_id="t", text="Words."))
    speak(log, 10)
    reader.listener.wake()
    found = await reader.read(4)
    assert kinds(found) == ["turn_started", "text_delta", "degraded", "frame"]
    assert found[2].degraded.what == pb.DEGRADATION_SKIPPED
    assert found[2].degraded.skipped_ms == 9000
    end(log)
    rest = await reader.rest()
    assert kinds(rest) == ["frame"] * 9 + ["turn_completed"]


async def test_a_listener_that_keeps_up_misses_nothing() -> None:
    log = ChannelLog(1000)
    reader = Reader(log)
    start(log)
    found = []
    for _ in range(100):
        speak(log, 1)
        reader.listener.wake()
        found += await reader.read(1)
    end(log)
    found += await reader.rest()
    assert kinds(found) == ["turn_started"] + ["frame"] * 100 + ["turn_completed"]


async def test_what_an_interrupt_dropped_was_not_missed() -> None:
    log = ChannelLog(1000)
    reader = Reader(log)
    start(log)
    speak(log, 5)
    log.drop()
    end(log, pb.TURN_OUTCOME_INTERRUPTED)
    start(log)
    speak(log, 1)
    end(log)
    found = await reader.rest()
    assert kinds(found) == ["turn_started", "turn_completed", "turn_started", "frame", "turn_completed"]


async def test_words_are_for_those_who_asked_for_them() -> None:
    log = ChannelLog(1000)
    start(log)
    log.append("words", common_pb2.WordTimings(turn_id="t"))
    end(log)
    assert kinds(await Reader(log).rest()) == ["turn_started", "words", "turn_completed"]
    assert kinds(await Reader(log, words=False).rest()) == ["turn_started", "turn_completed"]


async def test_a_listener_that_comes_back_after_too_many_turns_is_let_go() -> None:
    log = ChannelLog(1000)
    reader = Reader(log)
    for _ in range(300):
        start(log)
        end(log)
    with pytest.raises(SlowReceiverError):
        await reader.rest()
    await reader.task
