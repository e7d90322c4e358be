"""The fuzzer itself: what it makes, and what it would notice."""

import pathlib
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.message import DecodeError, Message

from tests.fuzz import http
from tests.fuzz.calls import Tally, names_field
from tests.fuzz.grammars import CHAR_MS, GRAMMARS, MOST_CHARS
from tests.fuzz.lab import otherwise
from tests.fuzz.messages import Maker, class_of, kinds_within, mutated
from tests.fuzz.plans import GUARD_S, Plan
from voicemesh.gateway.v1 import gateway_pb2
from voicemesh.tts.v1 import tts_pb2


def wire_of(message: Message | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString(deterministic=True)


@pytest.mark.parametrize("service", GRAMMARS)
def test_a_seed_names_a_call(service: str) -> None:
    first, again, other = (GRAMMARS[service].plan(random.Random(seed)) for seed in ("1", "1", "2"))
    assert [*map(wire_of, first.messages)] == [*map(wire_of, again.messages)]
    assert str(first) == str(again)
    assert [*map(wire_of, first.messages)] != [*map(wire_of, other.messages)]


@pytest.mark.parametrize("service", GRAMMARS)
def test_every_method_manner_and_end_comes_up(service: str) -> None:
    plans = [GRAMMARS[service].plan(random.Random(seed)) for seed in range(600)]
    assert {plan.method.name for plan in plans} == set(GRAMMARS[service].service.methods_by_name)
    assert {plan.manner for plan in plans} == {"orderly", "wild", "shuffled", "random", "broken"}
    assert {plan.end for plan in plans} == {"half-close", "cancel", "vanish"}
    assert {plan.hurried for plan in plans} == {True, False}


def test_no_call_asks_for_more_than_can_be_heard_before_its_deadline() -> None:
    """A turn goes at the pace of who listens: a long text at a slow speed looks as if it hung."""
    asked: Counter[str] = Counter()
    for seed in range(3_000):
        plan = GRAMMARS["gateway"].plan(random.Random(seed))
        longest_s = heard_s(plan)
        asked["long"] += longest_s > 5
        assert longest_s < GUARD_S - 15, str(plan)  # a busy machine has some of it, too
    assert asked["long"]  # some are paced all the same


def heard_s(plan: Plan) -> float:
    """Return how long it takes at most to hear what a call of the gateway has said."""
    longest_s, chars, speed = 0.0, 0, 1.0
    for message in plan.messages:
        if isinstance(message, gateway_pb2.ConverseRequest):
            event = message.WhichOneof("event")
            if event == "configure":
                speed = speed_of(message.configure.speech)
            elif event == "text":
                chars = min(MOST_CHARS, chars + len(message.text.text))
                longest_s = max(longest_s, chars * CHAR_MS / speed / 1000)
            if event in ("prompt", "interrupt") or (event == "text" and message.text.last):
                chars = 0
        elif isinstance(message, gateway_pb2.SpeakRequest):
            longest_s = min(MOST_CHARS, len(message.text)) * CHAR_MS / speed_of(message.speech) / 1000
        elif isinstance(message, gateway_pb2.SpeakBatchRequest):
            texts = sorted(
                (len(text) for text in set(message.texts) if len(text) <= MOST_CHARS), reverse=True
            )
            at_once = [sum(texts[place::4]) for place in range(4)]
            longest_s = max(at_once) * CHAR_MS / speed_of(message.speech) / 1000
    return longest_s


def speed_of(speech: gateway_pb2.SpeechOptions) -> float:
    return speech.speed if 0.25 <= speech.speed <= 4 else 1.0  # others are refused


def test_every_field_of_a_request_is_set_at_some_time() -> None:
    maker, seen = Maker(random.Random(1), {}), set()

    def note(message: Message) -> None:
        for field, value in message.ListFields():
            seen.add(field.full_name)
            if field.message_type is not None and not field.message_type.GetOptions().map_entry:
                for part in value if field.is_repeated else [value]:
                    note(part)

    for _ in range(400):
        note(maker.message(gateway_pb2.ConverseRequest, 0.3))
    kinds = kinds_within(gateway_pb2.ConverseRequest.DESCRIPTOR)
    fields = {field.full_name for kind in kinds if not kind.GetOptions().map_entry for field in kind.fields}
    assert seen == fields


def test_accidents_leave_messages_and_what_is_none() -> None:
    rng = random.Random(1)
    whole = tts_pb2.SynthesizeRequest(chunk=tts_pb2.SynthesizeChunk(chunk_index=300, text="Say this."))
    came: Counter[str] = Counter()
    for _ in range(400):
        wire = mutated(rng, whole.SerializeToString())
        try:
            message = class_of(whole.DESCRIPTOR).FromString(wire)
        except DecodeError:
            came["none"] += 1
        else:
            came["same" if message == whole else "other"] += 1
    assert min(came["none"], came["other"]) > 50


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("configure.speech.format.encoding", True),
        ("configure.attributes[a]", True),
        ("prompt.parts[0].image.data", True),
        ("event", True),
        ("start.messages", False),
        ("turn_id", False),
        ("configure.speech.format.encoding.more", False),
    ],
)
def test_a_field_that_is_named_must_be_there(path: str, is_one: bool) -> None:
    assert names_field(gateway_pb2.ConverseRequest.DESCRIPTOR, path) is is_one


@pytest.mark.parametrize(
    ("status", "body", "is_right"),
    [
        (503, b'{"error": {"message": "m", "type": "t", "code": "c", "param": null}}', True),
        (500, b'{"error": {"message": "m", "type": "t", "code": "c", "param": null}}', False),
        (503, b"away", False),
    ],
)
@pytest.mark.parametrize("vanishes", [False, True])
def test_a_mesh_that_lacks_something_may_say_so_whoever_asks(
    status: int, body: bytes, *, is_right: bool, vanishes: bool
) -> None:
    wire = b"HTTP/1.1 %d S\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
    asked = http.Requests(
        "speech", (), () if vanishes else ("POST",), () if vanishes else ("/v1/x",), vanishes
    )
    # Who goes away reads no more than the beginning.
    assert (not http.judge(asked, wire, Tally())) is (is_right or (vanishes and status != 500))


def test_a_probe_is_told_what_it_asks_for() -> None:
    wire = b'HTTP/1.1 503 S\r\nContent-Length: 24\r\n\r\n{"status":"not serving"}'
    assert not http.judge(http.Requests("path", (), ("GET",), ("/healthz?x",)), wire, Tally())
    assert http.judge(http.Requests("path", (), ("GET",), ("/v1/voices",)), wire, Tally())


async def test_an_answer_that_came_before_all_was_sent_is_read(tmp_path: pathlib.Path) -> None:
    path, refused = str(tmp_path / "http.sock"), threading.Event()

    def refuse(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        refused.set()

    def parts() -> Iterator[bytes]:
        yield b"POST / HTTP/1.1\r\n"
        assert refused.wait(GUARD_S)  # nothing is read meanwhile
        yield b"X: y\r\n"

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        refusing = threading.Thread(target=refuse, args=(listening,))
        refusing.start()
        assert (await http.answer_of(path, parts())).startswith(b"HTTP/1.1 400")
        refusing.join()


@pytest.mark.parametrize(
    ("answer", "first", "said"),
    [
        (("a", b"\1\2\3"), ("a", b"\1\4"), "[1] 3 long, was 2; at 1 b'\\x02\\x03', was b'\\x04'"),
        ("one", "one more", "3 long, was 8; at 3 '', was ' more'"),
        ([1], [1, 2], "[1], was [1, 2]"),
    ],
)
def test_an_answer_that_is_another_is_told_by_where_it_differs(answer: Any, first: Any, said: str) -> None:
    assert otherwise(answer, first) == said
