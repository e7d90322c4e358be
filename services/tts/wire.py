"""What the service and a worker say to each other, over one stream socket.

Every message is a header and a payload, integers little-endian:

     0        4      5          8              12
     +--------+------+----------+--------------+-----------------------+
     | length | kind | 3 * zero | request id   | payload (length bytes)|
     | u32    | u8   |          | u32          |                       |
     +--------+------+----------+--------------+-----------------------+

    service → worker                        worker → service
    LOAD    JSON {engine, language,         READY   JSON of Capabilities
            options, joins}: first, once    FRAME   u64 offset in samples, then s16le PCM
    SPEAK   JSON of SpeakRequest            WORDS   n * (u32 text offset, u32 text length,
    CANCEL  empty                                        u64 offset in samples, u8 estimated)
    CREDIT  u64 samples                     DONE    u64 samples made, u64 engine µs, u8 cancelled
                                            FAILED  u8 Fault, then UTF-8 text
                                            BATCH   JSON of Together: before the end of the first of them
                                            HEARTBEAT  JSON of Heartbeat: about once a second
                                            PROGRESS   JSON of Progress: as its start gets on,
                                                       and before what is loaded when needed first

`joins` is {trim_silence, pauses_ms, loudness, gain_db}, see `services.tts.delivery.Voice`. WORDS come
before the FRAME that holds them. Messages that belong to no single request (LOAD, READY, BATCH, HEARTBEAT,
PROGRESS, a FAILED start) have request id 0; a HEARTBEAT and a PROGRESS may come at any time, also before
READY. A request ends with exactly one DONE or FAILED. CANCEL may cross either: a CANCEL for an unknown id
means nothing.

A worker sends no more samples than the request's window and the CREDIT since allow; then it waits,
and goes on hearing CANCEL. So a slow listener can neither fill the service's memory nor keep a
cancel from its engine. The service always reads. The end of the socket ends the worker.

This module is imported by workers: standard library only, and little of it.
"""

import enum
import json
import struct
from typing import Any, Final, NamedTuple

LOAD: Final = 1
SPEAK: Final = 2
CANCEL: Final = 3
CREDIT: Final = 4
READY: Final = 16
FRAME: Final = 17
WORDS: Final = 18
DONE: Final = 19
FAILED: Final = 20
HEARTBEAT: Final = 21
PROGRESS: Final = 22
BATCH: Final = 23

MAX_PAYLOAD_BYTES: Final = 64 * 1024 * 1024

_HEADER: Final = struct.Struct("<IB3xI")
_U64: Final = struct.Struct("<Q")
_WORD: Final = struct.Struct("<IIQB")
_DONE: Final = struct.Struct("<QQB")


class ProtocolError(Exception):
    """The peer sent what the protocol does not allow."""


class Fault(enum.IntEnum):
    """What a FAILED is due to."""

    ENGINE = 0
    """The engine: its process is to be replaced."""
    TEXT = 1
    """The text: this engine cannot speak it, and is well."""
    OPTIONS = 2
    """The declaration of the voice: starting again will not help."""
    REQUEST = 3
    """What the engine depends on for this request, such as a server: its process is well."""


class Word(NamedTuple):
    """When one word is heard."""

    text_offset: int
    """Code points of the text before the word."""
    text_length: int
    """Length of the word in code points."""
    offset_samples: int
    """Samples of the chunk before the word is heard."""
    estimated: bool = False
    """True where the engine gave no timing and this one was estimated from the text."""


class SpeakRequest(NamedTuple):
    """One chunk for an engine."""

    text: str
    """What to say. May hold anything; engines neutralise what they would obey."""
    variant: str
    """Which of the engine's variants speaks, by its name; "" where it has none."""
    speed: float = 1.0
    """Speed of speech; 1 is the voice's own."""
    seed: int = 0
    """The same text with the same seed gives the same samples, where the engine can do that."""
    attempt: int = 0
    """Replicas that were lost on this chunk before."""
    start_offset_samples: int = 0
    """Samples to leave out at the beginning."""
    window_samples: int = 2**31
    """Samples that may be sent before a CREDIT."""
    in_hand_ms: int = 0
    """Audio that the listener has already: the first frames need not be short."""
    warm_up: bool = False
    """True for the text that warms the engine: no trouble is simulated on it."""
    sample_rate_hz: int = 0
    """Samples per second that are wanted; every other count of samples is in these. 0: the engine's own."""
    caller: str = ""
    """Whose it is, a turn or a batch: no caller's texts starve those of another."""
    traced: bool = False
    """Whether it is to be told which others it was advanced together with."""


class Done(NamedTuple):
    """The end of a request."""

    made_samples: int
    """Samples that the engine made, those left out included."""
    engine_us: int
    """How long the engine was busy, without waiting for CREDIT, in microseconds."""
    cancelled: bool
    """True where a cancel ended it before its last sample."""


class Together(NamedTuple):
    """Requests that an engine advanced in the same steps, from when they met until one of them ended."""

    stage: str
    """Of the steps, as the engine calls it."""
    ids: tuple[int, ...]
    """The requests."""
    steps: int
    """How many they took together."""
    largest: int
    """The most that took one of these together."""
    engine_us: int
    """How long the engine was busy with these steps."""
    began_us: int
    """When the first began, in microseconds before this was sent."""
    ended_us: int
    """When the last one ended, in the same."""


class Heartbeat(NamedTuple):
    """What a worker tells about itself."""

    resident_bytes: int
    """Memory of its process; 0 where the system does not tell."""
    device_bytes: int
    """Memory of devices that its engine holds."""
    figures: dict[str, Any]
    """What else its engine or scheduler counts, by name, since the start of the process."""


class Progress(NamedTuple):
    """How far the preparation of a replica is."""

    done: int
    """Parts that are ready."""
    total: int
    """Of so many; 0 while it is still loaded."""
    what: str
    """What is under way, for people."""


def message(kind: int, request_id: int = 0, payload: bytes = b"") -> bytes:
    """Return a whole message."""
    return _HEADER.pack(len(payload), kind, request_id) + payload


def json_message(kind: int, request_id: int, value: Any) -> bytes:
    """Return a message with a JSON payload."""
    return message(kind, request_id, json.dumps(value, ensure_ascii=False).encode())


def frame_message(request_id: int, offset_samples: int, pcm: bytes) -> bytes:
    """Return a FRAME."""
    header = _HEADER.pack(_U64.size + len(pcm), FRAME, request_id)
    return b"".join((header, _U64.pack(offset_samples), pcm))


def words_message(request_id: int, words: list[Word]) -> bytes:
    """Return a WORDS."""
    return message(WORDS, request_id, b"".join(_WORD.pack(*word) for word in words))


def done_message(request_id: int, done: Done) -> bytes:
    """Return a DONE."""
    return message(DONE, request_id, _DONE.pack(*done))


def failed_message(request_id: int, fault: Fault, text: str) -> bytes:
    """Return a FAILED."""
    return message(FAILED, request_id, bytes((fault,)) + text.encode("utf-8", "replace"))


def heartbeat_message(heartbeat: Heartbeat) -> bytes:
    """Return a HEARTBEAT."""
    return json_message(HEARTBEAT, 0, heartbeat._asdict())


def together_message(together: Together) -> bytes:
    """Return a BATCH."""
    return json_message(BATCH, 0, together._asdict())


def progress_message(progress: Progress) -> bytes:
    """Return a PROGRESS."""
    return json_message(PROGRESS, 0, progress._asdict())


def credit_message(request_id: int, samples: int) -> bytes:
    """Return a CREDIT."""
    return message(CREDIT, request_id, _U64.pack(samples))


def parse_json(payload: bytes) -> Any:
    """Return the value of a JSON payload."""
    return json.loads(payload)


def parse_frame(payload: bytes) -> tuple[int, bytes]:
    """Return (offset in samples, PCM) of a FRAME."""
    return _U64.unpack_from(payload)[0], payload[_U64.size :]


def parse_words(payload: bytes) -> list[Word]:
    """Return the words of a WORDS."""
    return [
        Word(offset, length, samples, bool(e)) for offset, length, samples, e in _WORD.iter_unpack(payload)
    ]


def parse_done(payload: bytes) -> Done:
    """Return the content of a DONE."""
    made_samples, engine_us, cancelled = _DONE.unpack(payload)
    return Done(made_samples, engine_us, bool(cancelled))


def parse_failed(payload: bytes) -> tuple[Fault, str]:
    """Return (fault, text) of a FAILED."""
    return Fault(payload[0]), payload[1:].decode("utf-8", "replace")


def parse_heartbeat(payload: bytes) -> Heartbeat:
    """Return the content of a HEARTBEAT."""
    return Heartbeat(**json.loads(payload))


def parse_together(payload: bytes) -> Together:
    """Return the content of a BATCH."""
    values = json.loads(payload)
    return Together(**{**values, "ids": tuple(values["ids"])})


def parse_progress(payload: bytes) -> Progress:
    """Return the content of a PROGRESS."""
    return Progress(**json.loads(payload))


def parse_credit(payload: bytes) -> int:
    """Return the samples of a CREDIT."""
    samples: int = _U64.unpack(payload)[0]
    return samples


class Parser:
    """Cuts a stream of bytes, however it is sliced, into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Add bytes; return the messages that are whole now, as (kind, request id, payload).

        Raises:
            ProtocolError: A header announces more than `MAX_PAYLOAD_BYTES`.

        """
        if self._rest:
            data = self._rest + data
        messages = []
        start = 0
        while len(data) - start >= _HEADER.size:
            length, kind, request_id = _HEADER.unpack_from(data, start)
            if length > MAX_PAYLOAD_BYTES:
                raise ProtocolError(f"a message of {length} bytes was announced")
            end = start + _HEADER.size + length
            if end > len(data):
                break
            messages.append((kind, request_id, data[start + _HEADER.size : end]))
            start = end
        self._rest = data[start:]
        return messages
