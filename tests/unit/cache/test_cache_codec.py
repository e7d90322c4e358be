"""What is written to Redis can be read, and nothing else can."""

import json
import struct

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
from services.cache.sums import Sums, check
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

NAME = "voicemesh:v3:audio:a:b:c:d"


def entry(header: bytes, body: bytes = b"", *, kind: int = 1, name: str = NAME, version: int = 0) -> bytes:
    """Write an entry as somebody does who knows the layout and has no key."""
    rest = struct.pack(">I", len(header)) + header
    named = struct.pack(">BI", kind, len(name)) + name.encode()
    return struct.pack(">4sBQ16s", MAGIC, kind, version, check(named + rest)) + rest + body


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
    assert decode(encode(value, NAME, 7), kind_of(value), NAME) == (value, 7)


@pytest.mark.parametrize("value", VALUES)
def test_every_broken_byte_is_noticed(value: Value) -> None:
    data = encode(value, NAME)
    for position in range(len(data)):
        if 6 <= position < 13:
            continue  # the version: written by the script, so not under the sum
        broken = bytearray(data)
        broken[position] ^= 0x55
        with pytest.raises(CorruptEntryError):
            decode(bytes(broken), kind_of(value), NAME)


def test_a_value_of_another_kind_is_not_taken() -> None:
    with pytest.raises(CorruptEntryError):
        decode(encode(VALUES[0], NAME), "reply", NAME)


@given(st.binary(max_size=200))
def test_foreign_bytes_are_corrupt_and_nothing_worse(data: bytes) -> None:
    for data_or_more in (data, encode(VALUES[0], NAME)[:33] + data, encode(VALUES[2], NAME)[: len(data)]):
        with pytest.raises(CorruptEntryError):
            decode(data_or_more, "audio", NAME)


@pytest.mark.parametrize(
    "header",
    [
        "[]",
        "{}",
        '{"bytes":0,"sums":[]}',
        '{"bytes":0,"format":[1,2,1],"words":[]}',
        '{"bytes":0,"sums":[],"format":[1,2],"words":[]}',
        '{"bytes":0,"sums":[],"format":[1,2,true],"words":[]}',
        '{"bytes":0,"sums":[],"format":[1,2,-1],"words":[]}',
        '{"bytes":0,"sums":[],"format":[1,2,1],"words":[["a"]]}',
        '{"bytes":0,"sums":[],"format":[1,2,1],"words":[[1,1,1,1,false]]}',
        '{"bytes":0,"sums":[],"format":[1,2,1],"words":[["a",1,1,4294967296,false]]}',
        '{"bytes":0,"sums":[],"format":[1,2,99999999999],"words":[]}',
        '{"bytes":0,"sums":[],"format":[1,2,1],"words":[["\\ud800",1,1,1,false]]}',
        '{"bytes":3,"sums":[0],"format":[1,2,1],"words":[]}',
        '{"bytes":0,"sums":[0],"format":[1,2,1],"words":[]}',
        '{"bytes":"0","sums":[],"format":[1,2,1],"words":[]}',
        "[" * 100_000,
    ],
)
def test_a_header_that_is_right_json_but_wrong_is_corrupt(header: str) -> None:
    encoded = header.encode()
    data = entry(encoded)
    with pytest.raises(CorruptEntryError):
        decode(data, "audio", NAME)
    with pytest.raises(CorruptEntryError):
        decode_head(data, len(data), NAME)


LONG = audio(100_000, *"abcdefghij")  # 200 kB: segments of 16, 32, 64 KiB and the rest


@pytest.mark.parametrize("read", [200, 16_000, 20_000, HEAD_BYTES, 190_000])
def test_a_head_is_the_beginning_and_the_rest_belongs_to_it(read: int) -> None:
    data = encode(LONG, NAME)
    head = decode_head(data[:read], len(data), NAME)
    if head is None:
        assert read == 200
        return
    assert LONG.audio.startswith(head.value.audio)
    assert len(head.value.audio) in {0, 16_384, 49_152, 114_688}
    assert head.start <= read
    assert decode_rest(head, data[head.start :]) == LONG


def test_a_whole_entry_is_its_own_head() -> None:
    data = encode(audio(100, "one"), NAME)
    head = decode_head(data, len(data), NAME)
    assert head is not None
    assert head.heard == audio(100, "one")
    assert head.start == len(data)


def test_a_head_has_the_words_that_begin_in_it() -> None:
    words = tuple(WordTiming(str(at), at, 1, at) for at in (0, 8191, 8192, 99_999))
    data = encode(AudioValue(LONG.format, LONG.audio, words), NAME)
    head = decode_head(data[:20_000], len(data), NAME)
    assert head is not None
    assert head.heard.words == words[:2]


def test_a_broken_byte_of_the_head_or_of_the_rest_is_noticed() -> None:
    data = encode(LONG, NAME)
    head = decode_head(data[:HEAD_BYTES], len(data), NAME)
    assert head is not None
    for position in (0, 4, 13, 16, 29, 32, 40, 300, head.start - 1):
        broken = bytearray(data)
        broken[position] ^= 0x55
        with pytest.raises(CorruptEntryError):
            decode_head(bytes(broken[:HEAD_BYTES]), len(data), NAME)
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
            decode_head(data[:HEAD_BYTES], length, NAME)


def test_another_layout_is_told_from_what_is_broken() -> None:
    data = b"VMC\x02" + encode(LONG, NAME)[4:]
    with pytest.raises(OtherLayoutError):
        decode(data, "audio", NAME)
    with pytest.raises(OtherLayoutError):
        decode_head(data[:HEAD_BYTES], len(data), NAME)


KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.mark.parametrize("sums", [Sums(), Sums((KEY,))])
@pytest.mark.parametrize("value", VALUES)
def test_an_entry_says_nothing_under_another_key(value: Value, sums: Sums) -> None:
    data = encode(value, NAME, sums=sums)
    assert decode(data, kind_of(value), NAME, sums) == (value, 0)
    with pytest.raises(CorruptEntryError, match="not"):
        decode(data, kind_of(value), NAME + "x", sums)


@pytest.mark.parametrize("value", VALUES)
def test_every_broken_byte_of_a_signed_entry_is_noticed(value: Value) -> None:
    sums = Sums((KEY,))
    data = encode(value, NAME, sums=sums)
    for position in range(len(data)):
        if 6 <= position < 13:
            continue  # as above
        broken = bytearray(data)
        broken[position] ^= 0x55
        with pytest.raises(CorruptEntryError):
            decode(bytes(broken), kind_of(value), NAME, sums)


def test_with_keys_nothing_is_read_that_is_not_signed_by_one_of_them() -> None:
    plain, signed = encode(LONG, NAME), encode(LONG, NAME, sums=Sums((KEY,)))
    for data in (plain, encode(LONG, NAME, sums=Sums((OTHER,)))):
        with pytest.raises(CorruptEntryError, match="signed"):
            decode(data, "audio", NAME, Sums((KEY,)))
        with pytest.raises(CorruptEntryError, match="signed"):
            decode_head(data[:HEAD_BYTES], len(data), NAME, Sums((KEY,)))
    with pytest.raises(OtherLayoutError):  # left alone by those that have no key
        decode(signed, "audio", NAME)
    # Somebody who knows the layout changes a byte, and mends every check that is none of a key.
    forged = bytearray(signed)
    forged[-1] ^= 1
    with pytest.raises(CorruptEntryError):
        decode(bytes(forged), "audio", NAME, Sums((KEY,)))


def test_keys_are_changed_one_behind_the_other() -> None:
    old, both, turned, new = Sums((KEY,)), Sums((KEY, OTHER)), Sums((OTHER, KEY)), Sums((OTHER,))
    for writer, readers in (
        (old, (old, both, turned)),
        (both, (old, both, turned)),
        (turned, (both, turned, new)),
    ):
        data = encode(LONG, NAME, sums=writer)
        for reader in readers:
            assert decode(data, "audio", NAME, reader) == (LONG, 0)
            head = decode_head(data[:HEAD_BYTES], len(data), NAME, reader)
            assert head is not None
            assert decode_rest(head, data[head.start :]) == LONG


def test_a_key_is_not_in_what_it_signs() -> None:
    assert KEY not in encode(LONG, NAME, sums=Sums((KEY,)))


def header(**changed: object) -> bytes:
    fields = {"format": [1, 22050, 1], "words": [], "bytes": 0, "sums": [], **changed}
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    "spoilt",
    [
        entry(header(format=[1, 22050, 0])),
        entry(header(format=[0, 22050, 1])),
        entry(header(format=[1, 0, 1])),
        entry(header(format=[1, 2**31 - 1, 1])),
        entry(header(format=[1, 22050, 9])),
        entry(header(format=[1, float("nan"), 1])),
        entry(header(format=None)),
        entry(header(bytes=3, sums=[check(b"abc").hex()]), b"abc"),  # an odd number of bytes
        entry(header(bytes=2**31 - 1)),
        entry(header(bytes=10**30)),
        entry(header(bytes=-1)),
        entry(header(bytes=True)),
        entry(header(bytes=2, sums=[12])),
        entry(header(bytes=2, sums=["zz"]), b"ab"),
        entry(header(bytes=2, sums=None), b"ab"),
        entry(header(words=[["a", 0, 1, -1, False]])),
        entry(header(words=[["a", 0, 1, 1, 1]])),
        entry(header(words=[["a", 0, 1, 1, False, 1]])),
        entry(header(words={"a": 1})),
        entry(header(words=5)),
        entry(header(words=[5])),
        entry(header(tags=[1])),
        entry(header(tags=5)),
        entry(b"1" * 10_000),
        entry(b"[]" * 10),
        entry(b"\xff\xfe"),
        entry(b'{"format":' + b"[" * 200_000),
        entry(header(), version=2**53 + 1),
        entry(header(), kind=2),
        entry(header(), kind=129),
        entry(header())[:-1],
        entry(header())[:20],
        entry(header())[:29] + b"\xff\xff\xff\xff" + entry(header())[33:],
    ],
)
def test_audio_that_lies_is_corrupt_and_nothing_worse(spoilt: bytes) -> None:
    with pytest.raises(CorruptEntryError):
        decode(spoilt, "audio", NAME)
    with pytest.raises(CorruptEntryError):
        decode_head(spoilt, len(spoilt), NAME)


@pytest.mark.parametrize(
    ("messages", "body"),
    [
        ([[2, [["data", 4, "image/png"]]]], b"abc"),
        ([[2, [["data", 2, "image/png"]]]], b"abc"),
        ([[2, [["data", -1, "image/png"]]]], b""),
        ([[2, [["url", 1, "image/png"]]]], b""),
        ([[2, [[]]]], b""),
        ([[2, [{}]]], b""),
        ([["system", ["x"]]], b""),
        ([[2]], b""),
        ([2], b""),
        (None, b""),
        ({"a": 1}, b""),
        ([[2, 5]], b""),
    ],
)
def test_a_history_that_lies_is_corrupt_and_nothing_worse(messages: object, body: bytes) -> None:
    sums = [check(body).hex()] if body else []
    data = entry(json.dumps({"messages": messages, "bytes": len(body), "sums": sums}).encode(), body, kind=3)
    with pytest.raises(CorruptEntryError):
        decode(data, "history", NAME)


@pytest.mark.parametrize(
    "fields",
    [
        {"text": 5, "usage": [1, 2, 3]},
        {"text": "x", "usage": [1, 2]},
        {"text": "x", "usage": [1, 2, 3, 4]},
        {"text": "x", "usage": [1, 2, -3]},
        {"text": "x"},
        {"text": "\ud800", "usage": [1, 2, 3]},
        {"text": ["x"], "usage": [1, 2, 3]},
    ],
)
def test_a_reply_that_lies_is_corrupt_and_nothing_worse(fields: dict[str, object]) -> None:
    data = entry(json.dumps({**fields, "bytes": 0, "sums": []}).encode(), kind=2)
    with pytest.raises(CorruptEntryError):
        decode(data, "reply", NAME)


def test_millions_of_items_cost_no_more_than_their_bytes() -> None:
    many = b'{"format":[1,22050,1],"bytes":0,"sums":[],"words":[' + b"[]," * 300_000 + b"[]]}"
    with pytest.raises(CorruptEntryError):
        decode(entry(many), "audio", NAME)


@given(st.sampled_from(VALUES), st.data())
def test_whatever_is_cut_out_or_put_in_is_corrupt_and_nothing_worse(
    value: Value, data: st.DataObject
) -> None:
    whole = encode(value, NAME)
    start = data.draw(st.integers(13, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    spoilt = whole[:start] + data.draw(st.binary(max_size=40)) + whole[end:]
    if spoilt == whole:
        return
    with pytest.raises(CorruptEntryError):
        decode(spoilt, kind_of(value), NAME)


@given(st.binary(max_size=200), st.integers(0, 300))
def test_foreign_bytes_are_no_head(data: bytes, more: int) -> None:
    with pytest.raises(CorruptEntryError):
        decode_head(data, len(data) + more, NAME)
