"""Openers that leave as a chunk of their own: "Sure," where its audio lasts until the next chunk is there."""

import re

import pytest

from services.chunker.core import Chunk, Chunker, ChunkerConfig, Pace, Policy, Reason
from services.chunker.phrases import is_opener, phrase_boundaries
from tests.unit.chunker.player import Engine, play

QUICK = Pace(65, 15, 0, 250)
TEXT = "Sure, I can help. The quickest way is to restart the router and wait two minutes."
REPLIES = (
    ("en", TEXT),
    (
        "en",
        "Yes, the train to Hamburg leaves every hour from platform seven until midnight. Shall I book it?",
    ),
    (
        "en",
        "Well, it depends on what you want to do with the old machine and how much time you can spend on it.",
    ),
    (
        "en",
        "Of course, here is a short summary of the meeting. We agreed on the budget and moved the launch.",
    ),
    (
        "en",
        "Hello, my name is Ada and I will be your guide through the exhibition of modern art this evening.",
    ),
    ("en", "No, you do not need a visa for stays of up to ninety days in any of these countries."),
    ("de", "Klar, ich helfe dir gerne dabei. Öffne zuerst die Einstellungen und suche nach dem Netzwerk."),
    ("de", "Ja, der nächste Zug nach Hamburg fährt um neun Uhr von Gleis sieben ab und hält auch in Berlin."),
    ("fr", "Bien sûr, je peux vous aider avec cela. Ouvrez d'abord les paramètres et cherchez le réseau."),
    ("fr", "Oui, le prochain train pour Lyon part à neuf heures et demie de la voie sept, et il est direct."),
    ("es", "Por supuesto, las habitaciones del hotel tienen vistas al mar y cuestan cien euros por noche."),
    ("es", "Sí, el próximo tren para Madrid sale a las nueve y media de la vía siete, y es directo."),
)


def tokens_of(text: str) -> list[str]:
    return re.findall(r" ?\w{1,6}|\s?[^\s\w]|\s+", text)


def cut(tokens: list[str], pace: Pace, language: str = "en", policy: Policy = Policy.ADAPTIVE) -> list[Chunk]:
    machine = Chunker(ChunkerConfig(policy=policy, language=language, pace=pace))
    return [chunk for token in tokens for chunk in machine.push(token, 0)] + machine.end(0)


def test_an_opener_leaves_at_its_comma_where_its_audio_bridges_the_time_to_the_next_chunk() -> None:
    machine = Chunker(ChunkerConfig(language="en", pace=QUICK))
    assert machine.push("Sure", 0) == []
    (chunk,) = machine.push(",", 16_000_000)
    assert (chunk.text, chunk.reason) == ("Sure,", Reason.CLAUSE)


@pytest.mark.parametrize(
    "pace",
    [
        Pace(65, 15, 0),  # the writer is unknown
        Pace(0, 15, 0, 250),  # the voice
        Pace(65, None, 0, 250),  # its engine
        Pace(65, 15, 0, 100),  # the writer is too slow
        Pace(65, 350, 0, 250),  # the engine
        Pace(65, 15, 4, 250),  # the engine, for as long a chunk
    ],
)
def test_it_waits_where_that_is_not_known_or_not_so(pace: Pace) -> None:
    assert cut(tokens_of(TEXT), pace)[0].text == "Sure, I can help."


def test_no_other_words_and_no_other_policy_leave_so_early() -> None:
    text = "Tomorrow, the museum opens at nine, as usual."
    assert cut(tokens_of(text), QUICK)[0].text == "Tomorrow, the museum opens at nine,"
    assert cut(tokens_of(TEXT), QUICK, policy=Policy.CLAUSE)[0].text == "Sure, I can help."


@pytest.mark.parametrize(
    ("text", "language", "opens"),
    [
        ("Of  course,", "en-GB", True),
        ("D\u2019accord,", "fr", True),
        ("Sí,", "es", True),
        ("Na klar,", "de", True),
        ("Klar,", "en", False),
        ("Klar,", "", True),
        ("Sure,", "fi", False),
        ("Sure", "en", False),
        ("Sure:", "en", False),
        ("", "en", False),
    ],
)
def test_what_is_an_opener(text: str, language: str, opens: bool) -> None:
    assert is_opener(text, language) is opens


def test_tokens_make_no_difference() -> None:
    for language, text in REPLIES:
        whole = cut([text], QUICK, language)
        for place in range(len(text)):
            assert cut([text[:place], text[place:]], QUICK, language) == whole, place


@pytest.mark.parametrize("tokens_per_s", [30, 60, 100, 200])
def test_the_player_never_runs_dry_behind_an_opener_and_the_next_chunk_ends_well(tokens_per_s: int) -> None:
    opened = 0
    for language, text in REPLIES:
        for base_ms in (15, 60, 150, 300):
            for ms_per_char in (55, 65, 80):
                engine = Engine(base_ms, 0.02, ms_per_char, pauses=True)
                heard = play(
                    tokens_of(text),
                    tokens_per_s=tokens_per_s,
                    engine=engine,
                    language=language,
                    known=True,
                    writer_known=True,
                )
                assert not heard.stalls_ms, (engine, heard.texts)
                if is_opener(heard.texts[0], language):
                    opened += 1
                    second = heard.chunks[1]
                    ends = {end.end for end in phrase_boundaries(text[second.text_offset :], language)}
                    assert second.text[-1] in ".?!,;:" or len(second.text) in ends, heard.texts
    assert opened >= 3
