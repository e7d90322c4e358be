"""Audio of the last turns, to hear them again: bounded by bytes and by age, off unless asked for."""

import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from google.protobuf.message import Message as ProtoMessage

from gateway.driver import Caller
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.frames import BYTES_PER_SAMPLE

_SHARE: Final = 4
"""No turn keeps more than this part of all that may be kept."""
HEADER_BYTES: Final = 44
_Name = tuple[str, str]


class Recording:
    """The samples of one turn, s16le mono, as they were queued for its caller.

    Attributes:
        rate_hz: Samples a second.
        size: Bytes so far.
        complete: Set by the end of the turn.
        cut: True where the turn had more than may be kept.

    """

    def __init__(self, rate_hz: int, begun_ns: int, take: Callable[["Recording", bytes], bool]) -> None:
        self.rate_hz = rate_hz
        self.begun_ns = begun_ns
        self.size = 0
        self.complete = self.cut = False
        self._take = take
        self._parts: list[bytes] = []

    def append(self, audio: bytes) -> None:
        """Add samples, as far as there is room for them."""
        if self.cut or self.complete:
            return
        if self._take(self, audio):
            self._parts.append(audio)
            self.size += len(audio)
        else:
            self.cut = True

    def samples(self) -> bytes:
        """Return all samples in one piece."""
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0] if self._parts else b""

    def drop(self) -> None:
        """Forget the samples, and take no more."""
        self.complete = True
        self._parts.clear()
        self.size = 0


class KeptAudio:
    """The recordings of the last turns.

    Args:
        clock: For their age.
        max_bytes: Bytes of all recordings together; 0: nothing is kept.
        max_s: A recording is forgotten after so many seconds.

    """

    def __init__(self, clock: Clock, max_bytes: int, max_s: float) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._max_ns = round(max_s * 1e9)
        self._bytes = 0
        self._kept: OrderedDict[_Name, Recording] = OrderedDict()

    @property
    def on(self) -> bool:
        """Whether anything is kept."""
        return self._max_bytes > 0

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return self._bytes

    def listen(self, caller: Caller, tenant: str, turn_id: str, rate_hz: int) -> Caller:
        """Return `caller`, with its audio kept; itself where nothing is."""
        if not self.on:
            return caller
        recording = Recording(rate_hz, self._clock.now_ns(), self._take)
        name = tenant, turn_id
        if (known := self._kept.pop(name, None)) is not None:
            self._forget(known)  # an id that came again counts from now
        self._kept[name] = recording
        self.forget_old()
        return _Overheard(caller, recording)

    def ended(self, tenant: str, turn_id: str) -> None:
        """Note that a turn has ended: its audio can be heard."""
        if (recording := self._kept.get((tenant, turn_id))) is None:
            return
        recording.complete = True
        if not recording.size:
            del self._kept[tenant, turn_id]

    def find(self, tenant: str, turn_id: str) -> Recording | None:
        """Return the audio of a turn that has ended; None where there is none, or none any more."""
        self.forget_old()
        recording = self._kept.get((tenant, turn_id))
        return recording if recording is not None and recording.complete and recording.size else None

    def _take(self, recording: Recording, audio: bytes) -> bool:
        """Make room for `audio`; return False where the turn has all that it may have."""
        if recording.size + len(audio) > self._max_bytes // _SHARE:
            return False
        self._bytes += len(audio)
        while self._bytes > self._max_bytes:
            oldest = next(name for name, kept in self._kept.items() if kept is not recording)
            self._forget(self._kept.pop(oldest))
        return True

    def forget_old(self) -> None:
        """Forget what is older than may be kept."""
        born_ns = self._clock.now_ns() - self._max_ns
        while self._kept and next(iter(self._kept.values())).begun_ns < born_ns:
            self._forget(self._kept.popitem(last=False)[1])

    def _forget(self, recording: Recording) -> None:
        self._bytes -= recording.size
        recording.drop()


class _Overheard:
    """A caller, with each frame that it is sent kept beside."""

    def __init__(self, caller: Caller, recording: Recording) -> None:
        self._caller = caller
        self._recording = recording
        self.drop = caller.drop
        self.room = caller.room
        self.full = caller.full
        self.eased = caller.eased

    def send(self, event: str, message: ProtoMessage, on_sent: Callable[[], None] | None = None) -> None:
        """Pass an event on."""
        if isinstance(message, common_pb2.Frame):
            self._recording.append(message.audio)
        self._caller.send(event, message, on_sent)


def wav_header(rate_hz: int, size: int) -> bytes:
    """Return what stands before `size` bytes of s16le mono in a WAV file."""
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        HEADER_BYTES - 8 + size,
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        rate_hz,
        rate_hz * BYTES_PER_SAMPLE,
        BYTES_PER_SAMPLE,
        8 * BYTES_PER_SAMPLE,
        b"data",
        size,
    )


def span_of(header: str, size: int) -> tuple[int, int] | None:
    """Return the first byte and the end of what a `Range` header asks for (RFC 9110, 14.1.2).

    None where it is to be answered as if it were not there: another unit, several ranges, or nonsense.

    Raises:
        ValueError: It lies behind the end.

    """
    unit, _, asked = header.partition("=")
    first, dash, last = asked.strip().partition("-")
    if unit.strip().lower() != "bytes" or not dash or not _are_digits(first, last) or not (first or last):
        return None
    if not first:
        begin, end = max(0, size - int(last)), size
    else:
        begin, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < begin:
            return None
    if begin >= size:
        raise ValueError(f"bytes {begin} and on are asked for; there are {size}")
    return begin, end


def _are_digits(*texts: str) -> bool:
    return all(not text or (text.isascii() and text.isdigit() and len(text) <= 18) for text in texts)
