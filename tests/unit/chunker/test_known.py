"""A text that one process began to cut, and another goes on with: the same chunks as of one alone."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chunker.core import Chunk, ChunkerConfig, Policy, Reason
from services.chunker.pacing import MS
from services.chunker.policy import KnownChunk
from services.chunker.spoken import chunker_for
from tests.unit.chunker.test_properties import check, configs, texts
from voicemesh.runtime.errors import InvalidFieldError

FLUSH, WAIT = "<flush>", "<wait>"
"""Steps that are no text: all has to leave; nothing comes until what is held may leave."""
MARKUP = st.sampled_from(
    [
        "**bold** ",
        "[a link](https://a.b/c) ",
        "`x = 1` ",
        "# Title\n",
        "- item\n",
        "300 km/h ",
        "3 &lt; 5 ",
        "🎉 ",
    ]
)
written = st.lists(st.one_of(texts, MARKUP), max_size=8).map("".join)
steps = st.tuples(written, st.lists(st.integers(0, 10_000), max_size=20), st.lists(st.booleans(), max_size=4))


class Stream:
    """A chunker that is told steps, and what it cut."""

    def __init__(self, config: ChunkerConfig, *, speech: bool, known: Sequence[Chunk] = ()) -> None:
        cut = [KnownChunk(chunk.text, chunk.reason) for chunk in known]
        self.chunker = chunker_for(config, speech_text=speech, known=cut)
        self.chunks: list[Chunk] = []
        self.now_ns = 0

    def tell(self, step: str) -> None:
        """Take a step."""
        if step == FLUSH:
            self.chunks += self.chunker.flush(self.now_ns)
        elif step == WAIT:
            while (due_ns := self.chunker.next_deadline_ns()) is not None:
                self.now_ns = max(self.now_ns + 1, due_ns)
                self.chunks += self.chunker.tick(self.now_ns)
        else:
            self.chunks += self.chunker.push(step, self.now_ns)

    def end(self) -> list[Chunk]:
        """End the text; return its chunks, without how long they were held."""
        self.chunks += self.chunker.end(self.now_ns)
        return [replace(chunk, held_ns=0) for chunk in self.chunks]


def steps_of(text: str, places: Sequence[int], flushes: Sequence[bool]) -> list[str]:
    """Cut a text into pieces, some with a flush or a wait behind them."""
    marks = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    pieces = [text[begin:end] for begin, end in itertools.pairwise(marks)]
    for number, flush in enumerate(flushes):
        pieces.insert((2 * number + 1) % (len(pieces) + 1), FLUSH if flush else WAIT)
    return pieces


def broken(
    config: ChunkerConfig, told: Sequence[str], at: int, lost: int, *, speech: bool
) -> tuple[list[Chunk], list[Chunk]]:
    """Return the chunks of one stream, and of one that broke off behind so many steps and its successor.

    The last `lost` chunks of the one that broke off never arrived.
    """
    whole, first = Stream(config, speech=speech), Stream(config, speech=speech)
    for step in told[:at]:
        whole.tell(step)
        first.tell(step)
    arrived = first.chunks[: max(0, len(first.chunks) - lost)]
    second = Stream(config, speech=speech, known=arrived)
    second.now_ns = first.now_ns
    for step in told[:at]:
        if step != WAIT:
            second.tell(step)
    for step in told[at:]:
        if step != WAIT:  # how long something is held begins anew
            whole.tell(step)
            second.tell(step)
    return whole.end(), second.end()


@settings(max_examples=300, deadline=None)
@given(told=steps, config=configs, at=st.integers(0, 30), speech=st.booleans())
def test_cuts_behind_a_break_are_those_of_an_unbroken_stream(
    told: tuple[str, list[int], list[bool]], config: ChunkerConfig, at: int, *, speech: bool
) -> None:
    if config.policy is Policy.ADAPTIVE:
        config = replace(config, policy=Policy.SENTENCE)
    whole, resumed = broken(config, steps_of(*told), at, 0, speech=speech)
    assert resumed == whole


@settings(max_examples=200, deadline=None)
@given(steps, configs, st.integers(0, 30), st.integers(0, 2))
def test_nothing_is_lost_and_nothing_is_said_twice_whatever_had_arrived(
    told: tuple[str, list[int], list[bool]], config: ChunkerConfig, at: int, lost: int
) -> None:
    pieces = steps_of(*told)
    whole, resumed = broken(config, pieces, at, lost, speech=False)
    text = "".join(piece for piece in pieces if piece not in (FLUSH, WAIT))
    check(text, resumed, config)
    for speech in (False, True):
        whole, resumed = broken(config, pieces, at, lost, speech=speech)
        said = ["".join("".join(chunk.text for chunk in chunks).split()) for chunks in (whole, resumed)]
        assert said[0] == said[1]
        assert [chunk.index for chunk in resumed] == list(range(len(resumed)))


def test_text_that_is_not_the_one_that_was_cut_is_refused() -> None:
    known = [KnownChunk("Hello.", Reason.SENTENCE), KnownChunk("There you are.", Reason.SENTENCE)]
    with pytest.raises(InvalidFieldError, match=r"known_chunks\[1\]: is not the next chunk"):
        chunker_for(ChunkerConfig(), speech_text=True, known=known).push("Hello. Here you are, I see.", 0)
    chunker = chunker_for(ChunkerConfig(), speech_text=True, known=known)
    assert chunker.push("Hello. There you", MS) == []
    with pytest.raises(InvalidFieldError, match="the text ends before they do"):
        chunker.end(MS)
