# ruff: noqa: SIM905 - a table of pieces reads best as words
"""Chunks of what is to be said: the shared cases, where they stand in the source, and what holds always."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.chunker.core import Chunk, ChunkerConfig, Policy
from services.chunker.spoken import SpokenChunker, chunker_for
from voicemesh.runtime.errors import InvalidFieldError, OutOfOrderError

MS = 1_000_000
SENTENCES = ChunkerConfig(policy=Policy.SENTENCE)


def cut(tokens: Sequence[str], config: ChunkerConfig = SENTENCES) -> list[Chunk]:
    chunker = SpokenChunker(config)
    chunks = [chunk for token in tokens for chunk in chunker.push(token, 0)]
    return chunks + chunker.end(0)


def parts(source: str, chunk: Chunk) -> list[tuple[str, str]]:
    return [
        (
            chunk.text[run.spoken_offset : run.spoken_offset + run.spoken_length],
            source[run.source_offset : run.source_offset + run.source_length],
        )
        for run in chunk.alignment
    ]


@pytest.mark.parametrize(
    ("source", "chunks"),
    [
        ("- Apples\n- Pears\n- Plums", ["Apples", "Pears", "Plums"]),
        ("This is ***truly*** urgent.", ["This is truly urgent."]),
        ("See the [guide](https://example.com/a.b). Done.", ["See the guide.", "Done."]),
        ("🎉", []),
        ("# Steps\nOpen the box.", ["Steps", "Open the box."]),
        ("I like 3 &lt; 5. And you?", ["I like 3 < 5.", "And you?"]),
        (" \n ", []),
    ],
)
def test_what_is_written_is_said_as_it_should_be(source: str, chunks: list[str]) -> None:
    assert [chunk.text for chunk in cut([source])] == chunks
    assert [chunk.text for chunk in cut(list(source))] == chunks


def test_each_part_is_found_in_the_source() -> None:
    source = "See the **[guide](https://example.com/a)** now. It is &lt;new&gt;."
    first, second = cut([source])
    assert parts(source, first) == [
        ("See the ", "See the "),
        ("", "**["),
        ("guide", "guide"),
        ("", "](https://example.com/a)**"),
        (" now.", " now."),
    ]
    assert source[first.text_offset :][: first.text_length] == source[:47]
    assert ("<", "&lt;") in parts(source, second)
    assert source[second.text_offset :][: second.text_length] == "It is &lt;new&gt;."


def test_what_is_said_as_it_is_written_needs_no_alignment() -> None:
    source = "One here.  Two *there*. Three is here."
    assert [bool(chunk.alignment) for chunk in cut([source])] == [False, True, False]


def test_a_chunk_was_held_since_its_last_written_character_came() -> None:
    chunker = SpokenChunker(SENTENCES)
    for number, token in enumerate(["It is ", "[a li", "nk](https://a.b", "/c)", ". ", "No"]):
        chunks = chunker.push(token, number * 10 * MS)
    # The full stop came with the fifth token, at 40 ms; what follows it, at 50 ms.
    assert [(chunk.text, chunk.held_ns) for chunk in chunks] == [("It is a link.", 10 * MS)]


def test_limits_count_what_is_said_and_the_text_what_is_written() -> None:
    source = "See [this](https://example.com/a/very/long/address/that/nobody/says) now."
    (chunk,) = cut([source], ChunkerConfig(policy=Policy.SENTENCE, max_chars=20))
    assert chunk.text == "See this now."
    chunker = SpokenChunker(ChunkerConfig(max_text_chars=10))
    chunker.push("[a](b) c d", 0)
    assert chunker.text_length == 10
    with pytest.raises(InvalidFieldError, match="at most 10 characters"):
        chunker.push("x", 0)
    chunker.end(0)
    with pytest.raises(OutOfOrderError):
        chunker.push("", 0)


def test_speech_text_can_be_switched_off() -> None:
    chunker = chunker_for(SENTENCES, speech_text=False)
    chunks = chunker.push("**Hi**.", 0) + chunker.end(0)
    assert [chunk.text for chunk in chunks] == ["**Hi**."]


PIECES = (
    "**bold** *it* `code` [a](http://b.c/d) ![x](y) # ## - 1. > | --- ``` ~~~ &lt; &amp; &nbsp; <b> </b> < "
    "🎉 👍🏽 \\* $x^2$ http://a.b/c?d=e one two. three? Dr. 3.5 ** * _ __ [ ]( ) ``"
).split()
written = st.lists(
    st.one_of(st.sampled_from(PIECES), st.sampled_from([" ", "\n", "\n\n", ". "]), st.text(max_size=4)),
    max_size=50,
).map("".join)
configs = st.builds(
    ChunkerConfig,
    policy=st.sampled_from([Policy.SENTENCE, Policy.CLAUSE, Policy.ADAPTIVE]),
    max_chars=st.sampled_from([12, 40, 400]),
)


@settings(max_examples=300, deadline=None)
@given(written, configs, st.lists(st.integers(0, 10_000), max_size=30))
def test_the_tokens_make_no_difference_and_each_part_stands_where_it_says(
    source: str, config: ChunkerConfig, places: list[int]
) -> None:
    whole = cut([source], config)
    marks = sorted({place % (len(source) + 1) for place in places} | {0, len(source)})
    pieces = cut([source[begin:end] for begin, end in itertools.pairwise(marks)], config)
    # How what is not said is divided into runs may differ; what is said may not.
    assert [(chunk.text, chunk.reason) for chunk in pieces] == [(chunk.text, chunk.reason) for chunk in whole]
    at = 0
    for number, chunk in enumerate(whole):
        assert chunk.index == number
        assert chunk.text == chunk.text.strip() != ""
        assert len(chunk.text) <= config.max_chars
        assert chunk.text_offset >= at
        at = chunk.text_offset + chunk.text_length
        assert at <= len(source)
        assert chunk.alignment or chunk.text_length == len(chunk.text)
        if chunk.alignment:
            assert "".join(spoken for spoken, _ in parts(source, chunk)) == chunk.text
            ends = [run.source_offset + run.source_length for run in chunk.alignment]
            assert [run.source_offset for run in chunk.alignment] == [chunk.text_offset, *ends[:-1]]
            assert ends[-1] == at


@settings(deadline=None)
@example("**bold****bold****bold**", ChunkerConfig(policy=Policy.ADAPTIVE, max_chars=12), [1])
@given(written, configs, st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_asking_for_the_deadline_changes_nothing(
    source: str, config: ChunkerConfig, sizes: list[int]
) -> None:
    chunkers = SpokenChunker(config), SpokenChunker(config)
    lengths, at, now_ns = itertools.cycle(sizes), 0, 0
    while at < len(source):
        token = source[at : at + next(lengths)]
        at, now_ns = at + len(token), now_ns + MS
        asked, unasked = (chunker.push(token, now_ns) for chunker in chunkers)
        assert asked == unasked
        chunkers[0].next_deadline_ns()
    assert chunkers[0].next_deadline_ns() == chunkers[1].next_deadline_ns()
    assert chunkers[0].end(now_ns) == chunkers[1].end(now_ns)


def test_quiet_text_waits_for_a_mark_and_empty_tokens_take_no_room() -> None:
    chunker = SpokenChunker(SENTENCES)
    chunker.push("It begins. And then it", 0)
    for _ in range(1000):
        assert chunker.push("", 0) == []
    assert chunker.push(" goes", 0) == chunker.push(" on", 0) == []
    assert [chunk.text for chunk in chunker.push(". Then", 0)] == ["And then it goes on."]
    assert sum(map(len, chunker._quiet)) <= SENTENCES.max_chars
    chunker.end(0)
    with pytest.raises(OutOfOrderError):
        chunker.push("", 0)


@settings(max_examples=60, deadline=None)
@given(written, configs)
def test_the_memory_is_bounded(source: str, config: ChunkerConfig) -> None:
    chunker = SpokenChunker(config)
    runs = arrivals = 0
    for now_ns in range(0, 6 * len(source), 3):
        chunker.push((source * 6)[now_ns : now_ns + 3], now_ns)
        runs, arrivals = max(runs, len(chunker._runs)), max(arrivals, len(chunker._arrivals))
    assert runs <= 2 * (config.max_chars + 150) + 2
    assert arrivals <= 1001


@pytest.mark.parametrize("unit", ["\n🎉", "🎉\n", "** ", "<b></b>", "\n\n", "`", "&nbsp;", "| a |\n|---|\n"])
def test_endless_text_that_says_nothing_is_not_kept(unit: str) -> None:
    chunker = SpokenChunker(ChunkerConfig(max_text_chars=10_000_000))
    for number in range(3000):
        chunker.push(unit, number)
    assert len(chunker._runs) < 1000, unit
    assert len(chunker._arrivals) <= 1001, unit
