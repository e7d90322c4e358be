# ruff: noqa: RUF001 - phonemes are written with letters of their own
"""Phonemes in memory against the executable that the library would start, and against what it once said."""

import re
import shutil
import subprocess
from ctypes.util import find_library
from pathlib import Path

import pytest
from TTS.tts.utils.text.phonemizers import espeak_wrapper, get_phonemizer_by_name

from services.tts.engines.coqui.phonemes import espeak_library, phonemes, use_own_phonemes
from services.tts.engines.espeak_library import EspeakLibrary

TEXTS = {
    "en-us": [
        "hello there how are you today",
        "for the first time it was 12,345 dogs",
        "line one\nline two\n\nline three",
        "the price is $5 & <b>more</b> Dr Smith (maybe)",
        "naïve café",
        "a" * 200,
        " ",
        "",
    ],
    "de": ["Guten Morgen wie geht es dem Computer", "Straße"],
    "fr-fr": ["le football est un jeu de l'année"],
    "es": ["buenos días señora"],
}
RECORDED = {
    ("en-us", "hello there how are you today"): "həlˈoʊ ðɛɹ hˌaʊ ɑːɹ juː tədˈeɪ",
    ("fr-fr", "bonjour le monde"): "bɔ̃ʒˈuʁ lə- mˈɔ̃d",
    ("de", "Guten Morgen"): "ɡˈuːtən mˈɔɾɡən",
}


@pytest.mark.parametrize(("said", "expected"), RECORDED.items(), ids=str)
def test_phonemes_are_those_on_record(said, expected):
    assert phonemes(espeak_library(), *said) == expected


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="compares with the executable espeak-ng")
def test_the_executable_says_the_same():
    """Its own library is asked, so that both have one version and one set of data."""
    told = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"Data at: (\S+)", told)
    name = find_library("espeak-ng")
    if not found or not name:
        pytest.skip("the executable's library or data are not where they usually are")
    library = EspeakLibrary(Path(name), Path(found.group(1)))
    for language, texts in TEXTS.items():
        theirs = espeak_wrapper.ESpeak(language)
        for text in texts:
            assert phonemes(library, language, text) == theirs.phonemize_espeak(text, ""), text


def test_what_looks_like_phonemes_is_spoken_and_not_obeyed():
    assert phonemes(espeak_library(), "en-us", "[[h@loU]]") != "həloʊ"


def test_the_library_s_models_get_them():
    use_own_phonemes()
    phonemizer = get_phonemizer_by_name("espeak", language="en-us")
    said = phonemizer.phonemize("Hello, there! (Yes?)", separator="")
    assert said == "həlˈoʊ, ðˈɛɹ! jˈɛs?)" or said.startswith("həlˈoʊ, ðˈɛɹ!")
    assert phonemizer.version().startswith("1.")
    assert "en-us" in phonemizer.supported_languages()
