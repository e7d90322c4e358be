# ruff: noqa: RUF001 - marks of other scripts are what is meant
"""When chunks leave, why, and how long they were held."""

import pytest

from services.chunker.core import Chunk, Chunker, ChunkerConfig, Policy, Reason
from voicemesh.runtime.errors import InvalidFieldError, OutOfOrderError

MS = 1_000_000


def chunker(policy: Policy = Policy.ADAPTIVE, **options: object) -> Chunker:
    return Chunker(ChunkerConfig(policy=policy, **options))  # type: ignore[arg-type]  # fields by name


def texts(chunks: list[Chunk]) -> list[str]:
    return [chunk.text for chunk in chunks]


def reasons(chunks: list[Chunk]) -> list[Reason]:
    return [chunk.reason for chunk in chunks]


def whole(text: str, policy: Policy = Policy.ADAPTIVE, **options: object) -> list[Chunk]:
    machine = chunker(policy, **options)
    return machine.push(text, 0) + machine.end(0)


@pytest.mark.parametrize(
    ("before", "last", "chunk"),
    [
        ("Hello world. ", "N", "Hello world."),
        ("Hello world.", "\n", "Hello world."),
        ("Hello world", "\n", "Hello world"),
        ("Wait?", " ", "Wait?"),
        ("Really?!", " ", "Really?!"),
        ('He said "no!" ', "T", 'He said "no!"'),
        ("你好。", "下", "你好。"),
        ("真的吗？", "是", "真的吗？"),
        ("「はい。」", "次", "「はい。」"),
        ("هل تأتي؟", " ", "هل تأتي؟"),
        ("नमस्ते।", " ", "नमस्ते।"),
        ("We met at 5 p.m. ", "“", "We met at 5 p.m."),
        ("We met at 5 p.m. Then", " ", "We met at 5 p.m."),
        ("In the U.S. It", " ", "In the U.S."),
        ("Fruit, etc. ", "T", "Fruit, etc."),
    ],
)
def test_a_sentence_leaves_with_the_first_character_that_settles_it(
    before: str, last: str, chunk: str
) -> None:
    machine = chunker(Policy.SENTENCE)
    assert not [out for char in before for out in machine.push(char, 0)]
    assert texts(machine.push(last, 0)) == [chunk]


@pytest.mark.parametrize(
    ("before", "last", "chunk"),
    [
        ("I can help you", ",", "I can help you,"),
        ("I'm sure we'll", ",", "I'm sure we'll,"),
        ("I can help you;", " ", "I can help you;"),
        ("I can say “yes,”", " ", "I can say “yes,”"),
        ("I can help f(x),", " ", "I can help f(x),"),
        ("I can help you", "—a", "I can help you—"),
        ("当然可以", "，", "当然可以，"),
        ("价格是¥3，", "请", "价格是¥3，"),
        ("أنا قادم غدا", "،", "أنا قادم غدا،"),
    ],
)
def test_a_first_clause_leaves_as_early_as_is_safe(before: str, last: str, chunk: str) -> None:
    for policy in (Policy.CLAUSE, Policy.ADAPTIVE):
        machine = chunker(policy)
        assert not [out for char in before for out in machine.push(char, 0)]
        (out,) = machine.push(last, 0)
        assert (out.text, out.reason, out.index) == (chunk, Reason.CLAUSE, 0)


def test_only_the_first_chunk_may_be_a_clause() -> None:
    chunks = whole("I can help you, my friend. If you wait, and sit down, we go.")
    assert texts(chunks) == ["I can help you,", "my friend.", "If you wait, and sit down, we go."]
    assert reasons(chunks) == [Reason.CLAUSE, Reason.SENTENCE, Reason.FLUSH]


def test_held_is_the_time_since_the_last_character_of_the_chunk_came() -> None:
    machine = chunker(Policy.SENTENCE)
    machine.push("Hello wor", 10 * MS)
    machine.push("ld.", 30 * MS)
    machine.push(" ", 45 * MS)
    (first,) = machine.push("Next", 70 * MS)
    assert first.held_ns == 40 * MS
    machine.push(" one", 80 * MS)
    (second,) = machine.end(200 * MS)
    assert (second.text, second.held_ns) == ("Next one", 120 * MS)


def test_a_chunk_that_its_own_token_completes_was_not_held() -> None:
    (chunk,) = chunker(Policy.SENTENCE).push("One line\nand", 5 * MS)
    assert chunk.held_ns == 0


def test_offsets_count_code_points_of_the_whole_text() -> None:
    chunks = whole("  Hi 🎉 there!  \n 你好。 ok ", Policy.SENTENCE)
    assert [(chunk.text, chunk.text_offset, chunk.text_length) for chunk in chunks] == [
        ("Hi 🎉 there!", 2, 11),
        ("你好。", 17, 3),
        ("ok", 21, 2),
    ]


@pytest.mark.parametrize(
    ("text", "chunk", "reason"),
    [
        ("Hello world.", "Hello world.", Reason.SENTENCE),
        ("Hello world. ", "Hello world.", Reason.SENTENCE),
        ("Hello world?", "Hello world?", Reason.SENTENCE),
        ("你好。", "你好。", Reason.SENTENCE),
        ("In the U.S.", "In the U.S.", Reason.SENTENCE),
        ("It is 5 p.m. ", "It is 5 p.m.", Reason.SENTENCE),
        ("I can help you;", "I can help you;", Reason.CLAUSE),
        ("I can help you —", "I can help you —", Reason.CLAUSE),
        ("He said “stop.”", "He said “stop.”", Reason.SENTENCE),
    ],
)
def test_an_undecided_end_leaves_when_it_was_held_too_long(text: str, chunk: str, reason: Reason) -> None:
    machine = chunker()
    assert machine.push(text, 100 * MS) == []
    assert machine.next_deadline_ns() == 400 * MS
    assert machine.tick(399 * MS) == []
    (out,) = machine.tick(400 * MS)
    assert (out.text, out.reason, out.held_ns) == (chunk, reason, 300 * MS)
    assert machine.next_deadline_ns() is None
    assert texts(machine.push(" And more", 500 * MS) + machine.end(500 * MS)) == ["And more"]


@pytest.mark.parametrize(
    "text",
    [
        "I saw Dr.",
        "I saw Dr. ",
        "use e.g.",
        "Pi is 3.",
        "I have 1,",
        "see p.",
        "by J.",
        "by J. S",
        "1.",
        "Hello wor",
    ],
)
def test_what_is_hardly_an_end_waits(text: str) -> None:
    machine = chunker(Policy.CLAUSE)
    machine.push(text, 0)
    assert machine.next_deadline_ns() is None
    assert machine.tick(10_000 * MS) == []


def test_text_that_settles_the_mark_ends_the_wait() -> None:
    machine = chunker(Policy.CLAUSE)
    machine.push("Go to example.", 0)
    assert machine.next_deadline_ns() == 300 * MS
    machine.push("com", 100 * MS)
    assert machine.next_deadline_ns() is None


def test_white_space_does_not_prolong_the_wait() -> None:
    machine = chunker(hold_ns=50 * MS)
    machine.push("Hello world.", 0)
    machine.push(" ", 40 * MS)
    assert machine.next_deadline_ns() == 50 * MS


def test_a_held_chunk_that_is_too_short_waits_for_more() -> None:
    machine = chunker(Policy.CLAUSE)
    machine.push("This is one. OK. ", 0)
    assert machine.next_deadline_ns() is None
    assert texts(machine.push("And this", 0) + machine.end(0)) == ["OK. And this"]


def test_flush_lets_out_what_is_held_and_the_text_goes_on() -> None:
    machine = chunker(Policy.SENTENCE)
    machine.push("Hello. In the U.S. It", 0)
    flushed = machine.flush(7 * MS)
    assert texts(flushed) == ["In the U.S.", "It"]
    assert reasons(flushed) == [Reason.SENTENCE, Reason.FLUSH]
    assert flushed[1].held_ns == 7 * MS
    assert machine.flush(8 * MS) == []
    machine.push(" goes on. Then", 9 * MS)
    rest = machine.end(9 * MS)
    assert texts(rest) == ["Then"]
    assert (rest[0].index, rest[0].text_offset) == (4, 31)


def test_nothing_follows_the_end() -> None:
    machine = chunker()
    assert machine.end(0) == []
    for act in (
        lambda: machine.push("x", 0),
        lambda: machine.flush(0),
        lambda: machine.end(0),
        lambda: machine.tick(0),
        lambda: machine.slack(0, 0),
    ):
        with pytest.raises(OutOfOrderError):
            act()


def test_the_text_has_a_limit() -> None:
    machine = chunker(max_text_chars=10)
    machine.push("0123456789", 0)
    with pytest.raises(InvalidFieldError, match="at most 10 characters") as caught:
        machine.push("x", 0)
    assert caught.value.field == "text.text"


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("one two three four five six seven", ["one two three", "four five six", "seven"]),
        ("one two. three four five six", ["one two.", "three four five", "six"]),
        ("a b c d e f g h", ["a b c", "d e f", "g h"]),
        ("où est elle ? oui je sais", ["où est elle ?", "oui je sais"]),
        ("it is about 1 234 567 people now", ["it is about", "1 234 567", "people now"]),
        ("go - now - please - do it", ["go - now - please", "- do it"]),
        ("Dr. Lee saw Mr. Park today", ["Dr. Lee saw", "Mr. Park today"]),
        ("你好世界我们去公园", ["你好世界我", "们去公园"]),
    ],
)
def test_words(text: str, chunks: list[str]) -> None:
    assert texts(whole(text, Policy.WORDS, words=3)) == chunks


def test_words_have_their_reason_and_the_minimum_of_the_modes_they_come_from() -> None:
    chunks = whole("We go to the park. Now it is ok", Policy.WORDS, words=3)
    assert [(chunk.text, chunk.reason) for chunk in chunks] == [
        ("We go to", Reason.WORDS),
        ("the park.", Reason.SENTENCE),
        ("Now it is", Reason.WORDS),
        ("ok", Reason.FLUSH),
    ]
    assert texts(whole("a b c d e f", Policy.WORDS, words=1)) == ["a b c", "d e f"]
    assert texts(whole("a b c d e f g h i j k l", Policy.WORDS, words=5)) == ["a b c d e", "f g h i j", "k l"]
    assert texts(whole("Yes. No. Yes. No. Yes. No.", Policy.WORDS, words=5)) == [
        "Yes. No.",
        "Yes. No.",
        "Yes. No.",
    ]


def test_the_next_word_lets_a_words_chunk_go() -> None:
    machine = chunker(Policy.WORDS, words=3)
    assert machine.push("one two three ", 0) == []
    assert texts(machine.push("f", 0)) == ["one two three"]
    assert machine.push("our five six ", 10 * MS) == []
    assert texts(machine.tick(310 * MS)) == ["four five six"]


@pytest.mark.parametrize("policy", [Policy.SENTENCE, Policy.CLAUSE, Policy.ADAPTIVE])
def test_a_minimum_that_was_asked_for_counts_for_every_chunk(policy: Policy) -> None:
    chunks = whole("Today? No. Tomorrow then? Maybe after lunch. Yes.", policy, min_chars=20)
    assert texts(chunks) == ["Today? No. Tomorrow then?", "Maybe after lunch. Yes."]


def test_a_long_sentence_is_cut_at_its_last_clause() -> None:
    text = "It begins here, goes on there, and then it does not come to any end at all for a long while."
    chunks = whole(text, Policy.SENTENCE, max_chars=40)
    assert [(chunk.text, chunk.reason) for chunk in chunks] == [
        ("It begins here, goes on there,", Reason.LIMIT),
        ("and then it does not come to any end at", Reason.LIMIT),
        ("all for a long while.", Reason.FLUSH),
    ]


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("we paid about 1 234 567 euros", ["we paid about", "1 234 567 euros"]),
        ("they met at 10:30 in 1,234,567 rooms", ["they met at 10:30 in", "1,234,567 rooms"]),
        ("abcdefghijklmnopqrstuvwxyz", ["abcdefghijklmnopqrst", "uvwxyz"]),
        ("one abcdefghijklmnopqrstuvwxyz", ["one", "abcdefghijklmnopqrst", "uvwxyz"]),
        ("春眠不觉晓处处闻啼鸟夜来风雨声花落知多少", ["春眠不觉晓处处闻啼鸟夜来风雨声花落知多少"]),
        ("春眠不觉晓处处闻啼鸟夜来风雨声花落知多少啊", ["春眠不觉晓处处闻啼鸟夜来风雨声花落知多少", "啊"]),
        ("春眠不觉晓处处闻啼鸟夜来风雨声一二example好", ["春眠不觉晓处处闻啼鸟夜来风雨声一二", "example好"]),
        (
            "春眠不觉晓处处闻啼鸟夜来风雨声，花落知多少啊",
            ["春眠不觉晓处处闻啼鸟夜来风雨声，", "花落知多少啊"],
        ),
        ("ก" * 19 + "กำ" * 2 + "x", ["ก" * 19 + "ก", "ำกำx"]),
        ("e\u0301" * 15, ["e\u0301" * 10, "e\u0301" * 5]),
        ("x" * 19 + "e\u0301" * 2, ["x" * 19, "e\u0301" * 2]),
        ("twenty characters ok " + "then more", ["twenty characters ok", "then more"]),
    ],
)
def test_a_limit_cuts_between_words_and_not_inside_numbers(text: str, chunks: list[str]) -> None:
    out = whole(text, Policy.SENTENCE, max_chars=20)
    assert texts(out) == chunks


def test_endless_text_comes_out_piece_by_piece() -> None:
    for unit in ("word ", "字", "x", ".", "!", "\u0301", '"', "— ", "a.b", "1 ", "- "):
        machine = chunker(max_chars=50)
        for number in range(2000):
            machine.push(unit, number)
            assert len(machine._buffer) < 300, unit
        machine.end(0)
        assert machine.chunk_count > 20 or not (unit * 2).strip()


def test_white_space_alone_says_nothing() -> None:
    machine = chunker()
    for number in range(10_000):
        assert machine.push(" \n", number) == []
    assert len(machine._buffer) < 10
    assert len(machine._arrivals) < 10
    assert machine.end(0) == []


def test_what_cannot_be_spoken_is_no_chunk_of_its_own_until_the_end() -> None:
    assert texts(whole("One.\n---\nTwo.\n***", Policy.SENTENCE)) == ["One.", "---\nTwo.", "***"]
    assert texts(whole("?!", Policy.SENTENCE)) == ["?!"]
