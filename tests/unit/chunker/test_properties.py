# ruff: noqa: RUF001, SIM905 - marks of other scripts are what is meant; a table of words reads best as words
"""What holds for every text: nothing is lost, and how the text is cut into tokens makes no difference."""

import itertools
from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.chunker.core import Chunk, Chunker, ChunkerConfig, Policy

TRAPS = (
    "Dr. Mr. Lee St. John U.S. U.K. p.m. a.m. e.g. i.e. etc. Inc. Co. Ltd. No. 7 Fig. 2.1 p. 55 A. B. I. J. "
    "z. B. d. h. ul. ул. г. д. x. 1. 2. 12. 3. 1984. 3.14 1,234 22,1 10:30 v2.0.1 $3.50 www.a.com a@b.de "
    "https://a.b/c.d?e=f.g ... . . . … ?! !! ? ! . 。 ！ ？ ； ， 、 ： 「 」 “ ” ‘ ’ « » „ ( ) [1] [ ] \" ' "
    "— – - -- --- : ; , ؟ ، ۔ । ॥ ։ ՞ ። ፧ ၊ ။ ។ \u037e · αβγ; Որ: 你 好 はい 네 صح שלום The It He the it "
    "Next May Oct. one,two f(a,b) a--b Monday Ltd Yahoo! I is was am 🎉 *** \u200d e\u0301 ก า ﷽"
).split()
SPACES = [" ", "  ", "\n", "\n\n", "\t", "\u00a0", "\r\n", " " * 20]

texts = st.lists(
    st.one_of(
        st.sampled_from(TRAPS),
        st.sampled_from(SPACES),
        st.sampled_from(SPACES[:1]),
        st.text(max_size=6),
        st.sampled_from(["word", "another", "Name", "a" * 50, "字" * 30, "12345678901234567890"]),
    ),
    max_size=60,
).map("".join)

configs = st.one_of(
    st.builds(
        ChunkerConfig,
        policy=st.sampled_from([Policy.SENTENCE, Policy.CLAUSE, Policy.ADAPTIVE]),
        min_chars=st.sampled_from([0, 1, 10, 12]),
        max_chars=st.sampled_from([12, 20, 40, 80, 400]),
        language=st.sampled_from(["", "de", "en-GB", "ru"]),
    ),
    st.builds(
        ChunkerConfig,
        policy=st.just(Policy.WORDS),
        words=st.integers(1, 6),
        min_chars=st.sampled_from([0, 5, 8]),
        max_chars=st.sampled_from([12, 40, 400]),
    ),
)


def cut(config: ChunkerConfig, tokens: Sequence[str]) -> list[Chunk]:
    chunker = Chunker(config)
    chunks = [chunk for token in tokens for chunk in chunker.push(token, 0)]
    chunks += chunker.end(0)
    assert chunker.chunk_count == len(chunks)
    assert chunker.text_length == sum(map(len, tokens))
    return chunks


def split(text: str, places: Sequence[int]) -> list[str]:
    marks = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[begin:end] for begin, end in itertools.pairwise(marks)]


def check(text: str, chunks: Sequence[Chunk], config: ChunkerConfig) -> None:
    position = 0
    for number, chunk in enumerate(chunks):
        assert chunk.index == number
        assert chunk.text == chunk.text.strip() != ""
        assert len(chunk.text) == chunk.text_length <= config.max_chars
        end = chunk.text_offset + chunk.text_length
        assert text[chunk.text_offset : end] == chunk.text
        # Between chunks there is white space alone.
        assert not text[position : chunk.text_offset].strip()
        position = end
    assert not text[position:].strip()


@settings(max_examples=400, deadline=None)
@given(texts, configs, st.lists(st.integers(0, 10_000), max_size=40))
@example("1" + " " * 30 + "2 " * 30, ChunkerConfig(max_chars=12), [3, 5, 20])
@example("« Non ! » dit-il", ChunkerConfig(policy=Policy.SENTENCE), [6, 7, 8])
@example("." * 500, ChunkerConfig(max_chars=40), list(range(0, 500, 3)))
@example("a" * 11 + " " + "。" * 30, ChunkerConfig(max_chars=12), [12, 13])
@example("กU.S.? ", ChunkerConfig(policy=Policy.WORDS, words=1, min_chars=0, max_chars=5), [])
@example(
    "Dr.Dr. กp.?0000U.S.? x", ChunkerConfig(policy=Policy.WORDS, words=1, min_chars=0, max_chars=12), [9]
)
def test_the_tokens_make_no_difference_and_nothing_is_lost(
    text: str, config: ChunkerConfig, places: list[int]
) -> None:
    whole = cut(config, [text])
    check(text, whole, config)
    assert cut(config, split(text, places)) == whole
    assert cut(config, list(text)) == whole


@settings(max_examples=150, deadline=None)
@given(texts, configs, st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 3)), max_size=20))
def test_nothing_is_lost_whatever_happens_between_the_tokens(
    text: str, config: ChunkerConfig, happenings: list[tuple[int, int]]
) -> None:
    chunker = Chunker(config)
    chunks: list[Chunk] = []
    now_ns = 0
    tokens = split(text, [place for place, _ in happenings])
    for number, token in enumerate(tokens):
        now_ns += 150_000_000
        chunks += chunker.push(token, now_ns)
        what = happenings[number % len(happenings)][1] if happenings else 0
        if what == 1:
            chunks += chunker.flush(now_ns)
        elif what == 2:
            chunker.slack(100, now_ns)
        due = chunker.next_deadline_ns()
        if due is not None and what >= 2:
            now_ns = max(now_ns, due)
            ticked = chunker.tick(now_ns)
            after = chunker.next_deadline_ns()
            assert ticked or after is None or after > now_ns, "what is due is done, or given up for now"
            chunks += ticked
    chunks += chunker.end(now_ns)
    check(text, chunks, config)
    assert all(chunk.held_ns >= 0 for chunk in chunks)


@settings(max_examples=60, deadline=None)
@given(texts, configs)
def test_the_memory_is_bounded(text: str, config: ChunkerConfig) -> None:
    chunker = Chunker(config)
    most = 0
    for now_ns, token in enumerate(split(text * 4, range(0, 4 * len(text), 3))):
        chunker.push(token, now_ns)
        most = max(most, len(chunker._buffer), len(chunker._arrivals))
    # A chunk, a lookahead that no run of any character makes longer, and what is dropped at a time.
    assert most <= config.max_chars + 150 + 128
