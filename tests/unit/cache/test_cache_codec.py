"""What is written to Redis can be read, and nothing else can."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.codec import CorruptEntryError, decode, encode
from services.cache.values import HistoryValue, Image, Message, ReplyValue, TokenUsage, Value, kind_of
from tests.unit.cache.values_for_tests import audio, history

VALUES: list[Value] = [
    audio(100, "one", "zwei", "三"),
    ReplyValue("Ja, natürlich. 😀", TokenUsage(3, 4, 1)),
    ReplyValue("Ja, natürlich. 😀", TokenUsage(3, 4, 1), b"\x00cuts"),
    history("Hi.", "Hello."),
    HistoryValue(()),
    HistoryValue(
        (
            Message(2, ("See:", Image(data=b"\x00\x01", media_type="image/png"), Image(url="https://x/y"))),
            Message(2, (Image(data=b"", media_type="a"), Image(data=b"abc", media_type="b"), "data")),
        )
    ),
]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_comes_back_as_it_was(value: Value) -> None:
    assert decode(encode(value, 7), kind_of(value)) == (value, 7)


@pytest.mark.parametrize("value", VALUES)
def test_every_broken_byte_is_noticed(value: Value) -> None:
    data = encode(value)
    for position in range(len(data)):
        if 5 <= position < 13:
            continue  # the version: written by the script, so not under the checksum
        broken = bytearray(data)
        broken[position] ^= 0x55
        with pytest.raises(CorruptEntryError):
            decode(bytes(broken), kind_of(value))


def test_a_value_of_another_kind_is_not_taken() -> None:
    with pytest.raises(CorruptEntryError):
        decode(encode(VALUES[0]), "reply")


@given(st.binary(max_size=200))
def test_foreign_bytes_are_corrupt_and_nothing_worse(data: bytes) -> None:
    for data_or_more in (data, encode(VALUES[0])[:21] + data, encode(VALUES[2])[: len(data)]):
        with pytest.raises(CorruptEntryError):
            decode(data_or_more, "audio")


@pytest.mark.parametrize(
    "header",
    [
        "[]",
        "{}",
        '{"bytes":0}',
        '{"bytes":0,"format":[1,2],"words":[]}',
        '{"bytes":0,"format":[1,2,true],"words":[]}',
        '{"bytes":0,"format":[1,2,-1],"words":[]}',
        '{"bytes":0,"format":[1,2,1],"words":[["a"]]}',
        '{"bytes":0,"format":[1,2,1],"words":[[1,1,1,1,false]]}',
        '{"bytes":3,"format":[1,2,1],"words":[]}',
        "[" * 100_000,
    ],
)
def test_a_header_that_is_right_json_but_wrong_is_corrupt(header: str) -> None:
    encoded = header.encode()
    length = struct.pack(">I", len(encoded))
    data = struct.pack(">4sBQI", b"VMC\x01", 1, 0, zlib.crc32(length + encoded)) + length + encoded
    with pytest.raises(CorruptEntryError):
        decode(data, "audio")
