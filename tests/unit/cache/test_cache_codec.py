"""What is written to Redis can be read, and nothing else can."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.codec import (
    HEAD_BYTES,
    MAGIC,
    CorruptEntryError,
    OtherLayoutError,
    decode,
    decode_head,
    decode_rest,
    encode,
)
from services.cache.values import (
    AudioValue,
    HistoryValue,
    Image,
    Message,
    ReplyValue,
    TokenUsage,
    Value,
    WordTiming,
    kind_of,
)
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
        '{"bytes":0,"crcs":[]}',
        '{"bytes":0,"format":[1,2,1],"words":[]}',
        '{"bytes":0,"crcs":[],"format":[1,2],"words":[]}',
        '{"bytes":0,"crcs":[],"format":[1,2,true],"words":[]}',
        '{"bytes":0,"crcs":[],"format":[1,2,-1],"words":[]}',
        '{"bytes":0,"crcs":[],"format":[1,2,1],"words":[["a"]]}',
        '{"bytes":0,"crcs":[],"format":[1,2,1],"words":[[1,1,1,1,false]]}',
        '{"bytes":0,"crcs":[],"format":[1,2,1],"words":[["a",1,1,4294967296,false]]}',
        '{"bytes":0,"crcs":[],"format":[1,2,99999999999],"words":[]}',
        '{"bytes":0,"crcs":[],"format":[1,2,1],"words":[["\\ud800",1,1,1,false]]}',
        '{"bytes":3,"crcs":[0],"format":[1,2,1],"words":[]}',
        '{"bytes":0,"crcs":[0],"format":[1,2,1],"words":[]}',
        '{"bytes":"0","crcs":[],"format":[1,2,1],"words":[]}',
        "[" * 100_000,
    ],
)
def test_a_header_that_is_right_json_but_wrong_is_corrupt(header: str) -> None:
    encoded = header.encode()
    length = struct.pack(">I", len(encoded))
    data = struct.pack(">4sBQI", MAGIC, 1, 0, zlib.crc32(length + encoded)) + length + encoded
    with pytest.raises(CorruptEntryError):
        decode(data, "audio")
    with pytest.raises(CorruptEntryError):
        decode_head(data, len(data))


LONG = audio(100_000, *"abcdefghij")  # 200 kB: segments of 16, 32, 64 KiB and the rest


@pytest.mark.parametrize("read", [200, 16_000, 20_000, HEAD_BYTES, 190_000])
def test_a_head_is_the_beginning_and_the_rest_belongs_to_it(read: int) -> None:
    data = encode(LONG)
    head = decode_head(data[:read], len(data))
    if head is None:
        assert read == 200
        return
    assert LONG.audio.startswith(head.value.audio)
    assert len(head.value.audio) in {0, 16_384, 49_152, 114_688}
    assert head.start <= read
    assert decode_rest(head, data[head.start :]) == LONG


def test_a_whole_entry_is_its_own_head() -> None:
    data = encode(audio(100, "one"))
    head = decode_head(data, len(data))
    assert head is not None
    assert head.heard == audio(100, "one")
    assert head.start == len(data)


def test_a_head_has_the_words_that_begin_in_it() -> None:
    words = tuple(WordTiming(str(at), at, 1, at) for at in (0, 8191, 8192, 99_999))
    data = encode(AudioValue(LONG.format, LONG.audio, words))
    head = decode_head(data[:20_000], len(data))
    assert head is not None
    assert head.heard.words == words[:2]


def test_a_broken_byte_of_the_head_or_of_the_rest_is_noticed() -> None:
    data = encode(LONG)
    head = decode_head(data[:HEAD_BYTES], len(data))
    assert head is not None
    for position in (0, 4, 13, 17, 25, 300, head.start - 1):
        broken = bytearray(data)
        broken[position] ^= 0x55
        with pytest.raises(CorruptEntryError):
            decode_head(bytes(broken[:HEAD_BYTES]), len(data))
    for position in (head.start, 150_000, len(data) - 1):
        broken = bytearray(data)
        broken[position] ^= 0x55
        with pytest.raises(CorruptEntryError):
            decode_rest(head, bytes(broken[head.start :]))
    for rest in (b"", data[head.start : -1], data[head.start :] + b"\x00"):
        with pytest.raises(CorruptEntryError):
            decode_rest(head, rest)
    for length in (len(data) - 1, len(data) + 1):
        with pytest.raises(CorruptEntryError):
            decode_head(data[:HEAD_BYTES], length)


def test_another_layout_is_told_from_what_is_broken() -> None:
    data = b"VMC\x01" + encode(LONG)[4:]
    with pytest.raises(OtherLayoutError):
        decode(data, "audio")
    with pytest.raises(OtherLayoutError):
        decode_head(data[:HEAD_BYTES], len(data))


@given(st.binary(max_size=200), st.integers(0, 300))
def test_foreign_bytes_are_no_head(data: bytes, more: int) -> None:
    with pytest.raises(CorruptEntryError):
        decode_head(data, len(data) + more)
