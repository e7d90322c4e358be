# ruff: noqa: RUF001 - phonemes are written with letters of their own
"""Phonemes in memory against the executable that the library would start, and against what it once said."""

import json
import random
import re
import shutil
import subprocess
import sys
from ctypes.util import find_library

import pytest
from TTS.tts.utils.text.phonemizers import espeak_wrapper, get_phonemizer_by_name

from services.tts.engines.coqui.phonemes import espeak_library, phonemes, use_own_phonemes

TEXTS = {
    "en-us": [
        "hello there how are you today",
        "for the first time it was 12,345 dogs",
        "line one\nline two\n\nline three",
        "the price is $5 & <b>more</b> Dr Smith (maybe)",
        "naïve café",
        "the",
        "for",
        "to the",
        "it was",
        "for\n\nthe",
        "hello there\n\nfor the",
        "a" * 200,
        " ",
        "",
    ],
    "de": ["Guten Morgen wie geht es dem Computer", "Straße", "der", "auf dem", "für die"],
    "fr-fr": ["le football est un jeu de l'année", "le", "je ne", "qu'est-ce", "qu'est-ce que"],
    "es": ["buenos días señora", "de la"],
    "nl": ["het", "van de"],
    "cmn": ["我 你 好", "好 的"],
}
RECORDED = {
    ("en-us", "hello there how are you today"): "həlˈoʊ ðɛɹ hˌaʊ ɑːɹ juː tədˈeɪ",
    ("fr-fr", "bonjour le monde"): "bɔ̃ʒˈuʁ lə- mˈɔ̃d",
    ("de", "Guten Morgen"): "ɡˈuːtən mˈɔɾɡən",
    # Nothing here has a stress of its own: the intonation of the clause gives it one.
    ("en-us", "the"): "ðˈə",
    ("en-us", "for"): "fˈɔːɹ",
    ("en-us", "to the"): "tə ðˈə",
    ("en-us", "it was"): "ɪt wˈʌz",
    ("en-us", "hello there\n\nfor the"): "həlˈoʊ ðˈɛɹfɚðˈə",
    ("de", "der"): "dˈɛɾ",
    ("de", "auf dem"): "ˈaʊf deːm",
    ("de", "für die"): "fˈyːɾ diː",
    ("fr-fr", "le"): "lˈə-",
    ("fr-fr", "je ne"): "ʒˈə- nə-",
    ("fr-fr", "qu'est-ce"): "kˈɛs",
    ("fr-fr", "qu'est-ce que"): "kɛskˈə",
    # Tones depend on their neighbours: the first of two low ones rises less.
    ("cmn", "我 你"): "wˈoɜ nˈi2",
}

ASK = """\
import json, sys
from pathlib import Path
from services.tts.engines.coqui.phonemes import phonemes
from services.tts.engines.espeak_library import EspeakLibrary

library = EspeakLibrary(Path(sys.argv[1]), Path(sys.argv[2]))
texts = json.load(sys.stdin)
print(json.dumps({tag: [phonemes(library, tag, text) for text in of] for tag, of in texts.items()}))
"""


@pytest.mark.parametrize(("said", "expected"), RECORDED.items(), ids=str)
def test_phonemes_are_those_on_record(said, expected):
    assert phonemes(espeak_library(), *said) == expected


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="compares with the executable espeak-ng")
def test_the_executable_says_the_same():
    """Its own library is asked, so that both have one version and one set of data.

    In a process of its own: asked for by its name, the loader would give the one that is loaded already.
    """
    told = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"Data at: (\S+)", told)
    name = find_library("espeak-ng")
    if not found or not name:
        pytest.skip("the executable's library or data are not where they usually are")
    done = subprocess.run(
        [sys.executable, "-c", ASK, name, found.group(1)],
        input=json.dumps(TEXTS),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ours = json.loads(done.stdout)
    for language, texts in TEXTS.items():
        theirs = espeak_wrapper.ESpeak(language)
        for text, said in zip(texts, ours[language], strict=True):
            assert said == theirs.phonemize_espeak(text, ""), text


@pytest.mark.parametrize("seed", range(3))
def test_what_was_said_before_changes_nothing(seed):
    """Some texts are spoken to be known: nothing of that stays behind."""
    asked = [(language, text) for language, texts in TEXTS.items() for text in texts]
    alone = {said: phonemes(espeak_library(), *said) for said in asked}
    random.Random(seed).shuffle(asked)
    assert {said: phonemes(espeak_library(), *said) for said in asked} == alone


def test_every_clause_is_there_however_long_its_sound():
    library = espeak_library()
    library.set_language("en-us")
    said = library.phonemes("\n\n".join(["one " * 100, "two", "the", "four " * 50]))
    assert [len(clause.split()) for clause in said if clause.strip()] == [100, 1, 1, 50]


def test_what_looks_like_phonemes_is_spoken_and_not_obeyed():
    assert phonemes(espeak_library(), "en-us", "[[h@loU]]") != "həloʊ"


def test_the_library_s_models_get_them():
    use_own_phonemes()
    phonemizer = get_phonemizer_by_name("espeak", language="en-us")
    said = phonemizer.phonemize("Hello, there! (Yes?)", separator="")
    assert said == "həlˈoʊ, ðˈɛɹ! jˈɛs?)" or said.startswith("həlˈoʊ, ðˈɛɹ!")
    assert phonemizer.version().startswith("1.")
    assert "en-us" in phonemizer.supported_languages()
