from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts import wire
from services.tts.wire import Done, Heartbeat, Parser, SpeakRequest, Word

MESSAGES = [
    wire.json_message(wire.LOAD, 0, {"engine": "espeak", "options": {}}),
    wire.json_message(wire.SPEAK, 7, SpeakRequest("Grüße \N{SLIGHTLY SMILING FACE}", "de")._asdict()),
    wire.message(wire.CANCEL, 7),
    wire.credit_message(7, 2**40),
    wire.frame_message(2**32 - 1, 2**40, b"\1\2" * 300),
    wire.words_message(7, [Word(0, 5, 0), Word(6, 1, 2**33, estimated=True)]),
    wire.done_message(7, Done(5, 6, cancelled=True)),
    wire.failed_message(7, wire.Fault.TEXT, "why"),
    wire.heartbeat_message(Heartbeat(2**40, 5, {"sizes": {"4": 2}})),
]


@given(cuts=st.lists(st.integers(0, sum(map(len, MESSAGES))), max_size=20))
def test_messages_survive_any_slicing(cuts):
    stream = b"".join(MESSAGES)
    parser = Parser()
    heard = []
    bounds = [0, *sorted(cuts), len(stream)]
    for start, end in pairwise(bounds):
        heard += parser.feed(stream[start:end])
    assert [kind for kind, _, _ in heard] == [message[4] for message in MESSAGES]
    payloads = [payload for _, _, payload in heard]
    assert SpeakRequest(**wire.parse_json(payloads[1])).text == "Grüße \N{SLIGHTLY SMILING FACE}"
    assert heard[2][1:] == (7, b"")
    assert wire.parse_credit(payloads[3]) == 2**40
    assert heard[4][1] == 2**32 - 1
    assert wire.parse_frame(payloads[4]) == (2**40, b"\1\2" * 300)
    assert wire.parse_words(payloads[5]) == [Word(0, 5, 0), Word(6, 1, 2**33, estimated=True)]
    assert wire.parse_done(payloads[6]) == Done(5, 6, cancelled=True)
    assert wire.parse_failed(payloads[7]) == (wire.Fault.TEXT, "why")
    assert wire.parse_heartbeat(payloads[8]) == Heartbeat(2**40, 5, {"sizes": {"4": 2}})


def test_the_byte_layout_is_the_one_in_the_drawing():
    message = wire.frame_message(0x01020304, 5, b"\xaa\xbb")
    assert message == bytes.fromhex("0a000000 11 000000 04030201 0500000000000000 aabb")


def test_an_absurd_length_is_refused():
    with pytest.raises(wire.ProtocolError, match="announced"):
        Parser().feed(b"\xff\xff\xff\xff" + bytes(8))
