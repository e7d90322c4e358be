"""Tricky texts, as data: `cases.jsonl` holds the mode, the tokens and the chunks that must come.

Modes: S sentence ends alone, minimum length 1. M as S, with a minimum of 20 characters. F the clause policy.
T as S, with the tokens as a model would stream them, and X as S, both behind the speech text filter.
"""

import json
import pathlib
from typing import Any

import pytest

from services.chunker.core import ChunkerConfig, Policy
from services.chunker.spoken import chunker_for

CASES = [
    json.loads(line)
    for line in (pathlib.Path(__file__).parent / "cases.jsonl").read_text(encoding="utf-8").splitlines()
]
CONFIGS = {
    "S": ChunkerConfig(policy=Policy.SENTENCE),
    "T": ChunkerConfig(policy=Policy.SENTENCE),
    "X": ChunkerConfig(policy=Policy.SENTENCE),
    "M": ChunkerConfig(policy=Policy.SENTENCE, min_chars=20),
    "F": ChunkerConfig(policy=Policy.CLAUSE),
}


def cut(config: ChunkerConfig, tokens: list[str], *, speech_text: bool = False) -> list[str]:
    chunker = chunker_for(config, speech_text=speech_text)
    chunks = [chunk for token in tokens for chunk in chunker.push(token, 0)]
    return [chunk.text for chunk in chunks + chunker.end(0)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['mode']}-{''.join(case['tokens'])[:40]}")
def test_case(case: dict[str, Any]) -> None:
    config, speech_text, text = CONFIGS[case["mode"]], case["mode"] in "XT", "".join(case["tokens"])
    assert cut(config, case["tokens"], speech_text=speech_text) == case["chunks"]
    assert cut(config, list(text), speech_text=speech_text) == case["chunks"]
    for place in range(len(text) + 1):
        assert cut(config, [text[:place], text[place:]], speech_text=speech_text) == case["chunks"], place


@pytest.mark.parametrize(
    "case",
    # A first sentence too brief to bridge the time to the next one is a matter of its own.
    [case for case in CASES if case["mode"] == "F" and len(case["chunks"][0]) >= 8],
    ids=lambda case: case["tokens"][0],
)
def test_adaptive_cuts_as_clause_does_while_nothing_is_known_of_the_player(case: dict[str, Any]) -> None:
    assert cut(ChunkerConfig(policy=Policy.ADAPTIVE), case["tokens"]) == case["chunks"]


@pytest.mark.parametrize(
    ("language", "text", "chunks"),
    [
        (
            "it",
            "Gli animali (ad es. Cani e gatti) dormono. Sì.",
            ["Gli animali (ad es. Cani e gatti) dormono.", "Sì."],
        ),
        ("en", "I love art. It is fun.", ["I love art.", "It is fun."]),
        ("es", "Según el art. IV de la ley. Sí.", ["Según el art. IV de la ley.", "Sí."]),
        ("de-AT", "Siehe S. IV und Hl. Geist. Gut.", ["Siehe S. IV und Hl. Geist.", "Gut."]),
        ("fr", "C'est Me. Durand. Bien.", ["C'est Me. Durand.", "Bien."]),
        ("en", "He told me. Then he left.", ["He told me.", "Then he left."]),
    ],
)
def test_a_known_language_settles_words_that_others_use(language: str, text: str, chunks: list[str]) -> None:
    assert cut(ChunkerConfig(policy=Policy.SENTENCE, language=language), [text]) == chunks
