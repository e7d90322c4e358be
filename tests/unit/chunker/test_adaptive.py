"""The adaptive policy: when it waits, when it does not, and that the player never runs dry."""

import re

import pytest

from services.chunker.core import Chunk, Chunker, ChunkerConfig, Pace, Reason
from services.chunker.pacing import MARGIN_MS
from tests.unit.chunker.player import MS, Engine, play
from tests.unit.chunker.replies import REPLIES

UNSPACED = ("zh", "ja", "ko", "th")


def tokens_of(language: str, text: str) -> list[str]:
    """Cut as tokenizers do: words with the space before them, long ones in two; characters elsewhere."""
    if language in UNSPACED:
        return list(text)
    found: list[str] = []
    for word in re.findall(r" ?\w+| ?[^\s\w]+|\s+", text):
        found += [word] if len(word) <= 8 else [word[:5], word[5:]]
    return found


def speed_of(language: str, ms_per_char: float) -> float:
    return ms_per_char * (3 if language in ("zh", "ja", "ko") else 1)


def engines(ms_per_char: float) -> list[Engine]:
    return [Engine(10, 0, ms_per_char), Engine(60, 0.05, ms_per_char), Engine(200, 0.1, ms_per_char)]


@pytest.mark.parametrize("ms_per_char", [50, 65, 80])
@pytest.mark.parametrize("tokens_per_s", [15, 30, 60, 100, 200])
def test_the_player_never_runs_dry(tokens_per_s: int, ms_per_char: int) -> None:
    for language, text in REPLIES:
        tokens = tokens_of(language, text)
        speed = speed_of(language, ms_per_char)
        if tokens_per_s * len(text) / len(tokens) * speed < 1200:
            continue  # hardly faster written than spoken: nothing could help
        for engine in engines(speed):
            for known in (False, True):
                heard = play(tokens, tokens_per_s=tokens_per_s, engine=engine, language=language, known=known)
                assert not heard.stalls_ms, (engine, heard.stalls_ms, heard.texts)
                assert "".join("".join(heard.texts).split()) == "".join(text.split())


@pytest.mark.parametrize("tokens_per_s", [30, 60, 200])
def test_an_engine_that_needs_time_for_a_whole_chunk_gets_chunks_that_grow(tokens_per_s: int) -> None:
    engine = Engine(300, 0.3, 65)
    for language, text in REPLIES:
        if language not in ("en", "de", "fr", "es"):
            continue
        tokens = tokens_of(language, text)
        heard = play(tokens, tokens_per_s=tokens_per_s, engine=engine, language=language, known=True)
        assert sum(heard.stalls_ms) < 60, heard.texts


def test_a_writer_that_pauses_in_mid_sentence_leaves_no_gap_that_could_be_helped() -> None:
    text = (
        "The harbour was built in the last century by people who came from the north and it has been in use "
        "ever since that time without a break."
    )
    tokens = tokens_of("en", text)
    for pause_at in range(8, len(tokens), 3):
        engine = Engine(60, 0.05, 65)
        heard = play(tokens, tokens_per_s=60, engine=engine, known=True, pauses_ms={pause_at: 700})
        assert not heard.stalls_ms, (pause_at, heard.texts)


@pytest.mark.parametrize(
    "text",
    [
        "You can find it at https://docs.example.com/guide/v1.2/start.html if you like to read. Bye.",
        "Please write to jane_d@mail.example.com or open www.example.org/help.html on your phone. Bye.",
        "It is the file /etc/app.d/main.conf that you have to change before you start it. Then go on.",
    ],
)
def test_no_address_is_cut_wherever_the_writer_pauses(text: str) -> None:
    tokens = re.findall(r" ?\w{1,4}|\W", text)
    for pause_at in range(len(tokens)):
        for engine in engines(65):
            heard = play(tokens, tokens_per_s=30, engine=engine, known=True, pauses_ms={pause_at: 900})
            for chunk in heard.chunks[:-1]:
                assert text[chunk.text_offset + chunk.text_length] == " ", heard.texts


def test_a_name_with_a_full_stop_is_not_cut_while_its_tokens_come_in_time() -> None:
    text = "I can help you with that. The one that you have to edit is config.prod.json in the folder of it."
    tokens = re.findall(r" ?\w{1,4}|\W", text)
    for tokens_per_s in (20, 30, 60, 120):
        for engine in engines(40):
            heard = play(tokens, tokens_per_s=tokens_per_s, engine=engine, known=True)
            assert any("config.prod.json" in chunk for chunk in heard.texts), heard.texts


def test_no_first_clause_ends_inside_a_bracket() -> None:
    text = "The old bridge (built in 1894, rebuilt in 1952) is closed, but the new one is open."
    for tokens_per_s in (30, 60, 200):
        heard = play(tokens_of("en", text), tokens_per_s=tokens_per_s, engine=Engine(10, 0, 65))
        assert all(chunk.count("(") == chunk.count(")") for chunk in heard.texts), heard.texts


def test_with_a_writer_as_slow_as_a_voice_chunks_still_end_at_phrases() -> None:
    text = (
        "The museum opens at nine in the morning and closes at six in the evening on most days of the week."
    )
    heard = play(tokens_of("en", text), tokens_per_s=3, engine=Engine(60, 0.05, 65))
    assert all(len(chunk.split()) >= 3 for chunk in heard.texts), heard.texts


def test_the_first_chunk_is_a_phrase_when_the_writer_is_slow_and_a_clause_when_it_is_fast() -> None:
    text = "When the new release is installed on the test machine, the whole suite runs twice."
    firsts = {
        rate: play(tokens_of("en", text), tokens_per_s=rate, engine=Engine(10, 0, 65)).chunks[0]
        for rate in (15, 60, 200)
    }
    assert [firsts[rate].text for rate in (15, 60)] == ["When the new release is installed"] * 2
    assert firsts[60].reason is Reason.PHRASE
    assert firsts[200].text == "When the new release is installed on the test machine,"
    assert firsts[200].reason is Reason.CLAUSE


def test_a_phrase_is_taken_when_the_writer_stops() -> None:
    machine = Chunker(ChunkerConfig(language="en"))
    text = "When the new release is installed on the test "
    for number, char in enumerate(text):
        assert not machine.push(char, number * MS // 10)
    came_ns = (len(text) - 1) * MS // 10
    due_ns = machine.next_deadline_ns()
    assert due_ns == came_ns + 100 * MS
    (chunk,) = machine.tick(due_ns)
    assert (chunk.text, chunk.reason) == ("When the new release is installed", Reason.PHRASE)


def test_words_are_spoken_when_nothing_came_for_long_in_a_language_without_phrases() -> None:
    machine = Chunker(ChunkerConfig(language="fi"))
    machine.push("Museo avautuu yhdeksältä aamulla ja sul", 0)
    assert machine.tick(100 * MS) == []
    assert machine.next_deadline_ns() == 800 * MS
    (chunk,) = machine.tick(800 * MS)
    assert chunk.reason is Reason.DEADLINE
    assert chunk.text == "Museo avautuu yhdeksältä aamulla ja"


def test_a_first_sentence_too_brief_to_bridge_the_next_takes_it_in_unless_it_comes_late() -> None:
    machine = Chunker(ChunkerConfig(language="en"))
    assert machine.push("No. ", 0) + machine.push("Not", 10 * MS) == []
    assert [chunk.text for chunk in machine.push(" yet. And", 20 * MS)] == ["No. Not yet."]
    machine = Chunker(ChunkerConfig(language="en"))
    assert machine.push("No. Not", 0) == []
    assert machine.next_deadline_ns() == 250 * MS
    assert [chunk.text for chunk in machine.tick(250 * MS)] == ["No."]


def reported(left_ms: float, text: str = "I can help you with that. ") -> Chunker:
    """Return a chunker that has cut its first sentence and knows the player and a quick engine."""
    machine = Chunker(ChunkerConfig(language="en"))
    assert machine.push(text + "And", 0)
    machine.slack(left_ms, 0, pace=Pace(65, 50, 0))
    return machine


def test_short_sentences_are_joined_while_much_is_in_hand() -> None:
    machine = reported(6000)
    assert machine.push(" this is short. And this is short too. But", 0) == []
    (chunk,) = machine.push(" this one goes on for so long that nothing more is joined to it. A", 0)
    assert chunk.text.startswith("And this is short. And this is short too. But this one")
    assert chunk.reason is Reason.SENTENCE
    machine = reported(1000)
    (chunk,) = machine.push(" this is short. And this is short too.", 0)
    assert chunk.text == "And this is short."


def test_a_joined_chunk_has_at_most_200_characters_and_ends_at_a_sentence() -> None:
    machine = reported(60_000)
    sentence = " it is a sentence of some sixty characters that says nothing."
    chunks = machine.push(sentence + (" And" + sentence) * 5, 0)
    assert [chunk.text.count("And it") for chunk in chunks] == [2, 2]
    assert all(len(chunk.text) <= 200 and chunk.text.endswith(".") for chunk in chunks)
    machine = reported(60_000)
    (chunk,) = machine.push(" it is short. And" + " so on and on" * 20, 0)
    assert chunk.text == "And it is short."


def test_a_joined_chunk_leaves_while_there_is_more_than_enough_in_hand() -> None:
    machine = reported(6000)
    machine.push(" this is short. And", 0)
    due_ns = machine.next_deadline_ns()
    assert due_ns == (6000 - 50 - MARGIN_MS - 1500) * MS
    (chunk,) = machine.tick(due_ns)
    assert (chunk.text, chunk.reason) == ("And this is short.", Reason.SENTENCE)


def test_lines_are_not_joined() -> None:
    machine = reported(6000)
    assert [chunk.text for chunk in machine.push(" this.\nAnd that.\nAnd", 0)] == ["And this.", "And that."]


@pytest.mark.parametrize(
    ("text", "chunk"),
    [
        (" if the second one takes long, it may well", "And if the second one takes long,"),
        (
            " the second one will be here in a moment because it",
            "And the second one will be here in a moment",
        ),
        (" the second one will be quite a bit longer tha", "And the second one will be quite a bit longer"),
    ],
)
def test_at_the_deadline_the_best_end_is_taken(text: str, chunk: str) -> None:
    machine = reported(2000)
    assert machine.push(text, 0) == []
    chunks: list[Chunk] = []
    while not chunks and (due_ns := machine.next_deadline_ns()) is not None:
        assert due_ns == (2000 - 50 - MARGIN_MS) * MS
        chunks = machine.tick(due_ns)
    assert [(out.text, out.reason) for out in chunks] == [(chunk, Reason.DEADLINE)]


def test_a_fragment_does_not_leave_even_at_the_deadline() -> None:
    machine = reported(0)
    machine.push(" of the", 0)
    assert machine.next_deadline_ns() is not None
    assert machine.tick(0) == []
    assert machine.next_deadline_ns() is None, "until more text comes"
    machine.push(" harbour in", 10 * MS)
    assert machine.next_deadline_ns() is not None


def test_the_estimate_goes_on_without_reports_and_a_report_corrects_it() -> None:
    machine = Chunker(ChunkerConfig(language="en"))
    machine.push("I can help you with that. And now for more", 0)
    first_ns = machine.next_deadline_ns()
    assert first_ns is not None
    # 25 characters of 65 ms, 85 % of them counted on; 16 wait: 300 + 16 x 5 ms for an unknown engine.
    assert first_ns == pytest.approx((25 * 65 * 0.85 - 300 - 80 - MARGIN_MS) * MS, rel=0.001)
    machine.slack(3000, 100 * MS, chunks_counted=1, pace=Pace(65, 50, 1))
    assert machine.next_deadline_ns() == (100 + 3000 - 50 - 16 - round(MARGIN_MS)) * MS


def test_chunks_that_a_report_does_not_count_are_added_to_it() -> None:
    machine = Chunker(ChunkerConfig(language="en"))
    machine.push("I can help you with that. This is the second one. And now for more", 0)
    machine.slack(1000, 0, chunks_counted=1, pace=Pace(100, 50, 0))
    second_ms = 23 * 65 * 0.85
    assert machine.next_deadline_ns() == pytest.approx((1000 + second_ms - 50 - MARGIN_MS) * MS, rel=0.001)


def test_a_sentence_that_the_engine_would_begin_too_late_is_cut_where_it_is_in_time() -> None:
    slow = Pace(65, 100, 20)
    machine = Chunker(ChunkerConfig(language="en", pace=slow))
    text = (
        "I can help you with that today. When the first part of it is done, which takes a while, you can go "
        "on with all of the rest. Now"
    )
    chunks = machine.push(text, 0)
    assert [chunk.text for chunk in chunks[:2]] == [
        "I can help you with that today.",
        "When the first part of it is done,",
    ]
    assert chunks[1].reason is Reason.DEADLINE
    quick = Chunker(ChunkerConfig(language="en", pace=Pace(65, 50, 0)))
    assert len(quick.push(text, 0)) == 2


def test_other_policies_do_not_listen_to_the_player() -> None:
    for policy in ("sentence", "clause"):
        machine = Chunker(ChunkerConfig(policy=type(ChunkerConfig().policy)(policy)))
        machine.push("This is the first one. And if the second takes long, it may", 0)
        machine.slack(0, 0, pace=Pace(1, 1, 1))
        assert machine.next_deadline_ns() is None


@pytest.mark.parametrize(
    ("language", "unit"),
    [("zh", "春眠不觉晓处处闻啼鸟"), ("ja", "これはとてもながいぶんです"), ("th", "ฉันไปโรงเรียน"), ("", "字")],
)
def test_text_without_spaces_and_marks_does_not_wait_for_the_end(language: str, unit: str) -> None:
    text = unit * (600 // len(unit))
    machine = Chunker(ChunkerConfig(language=language))
    chunks = [chunk for char in text for chunk in machine.push(char, 0)]
    assert chunks
    assert all(len(chunk.text) <= 100 for chunk in chunks)
    assert len(text) - sum(len(chunk.text) for chunk in chunks) <= 101
