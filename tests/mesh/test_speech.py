"""The audio is speech, and its words are in order: a recogniser hears them.

The recogniser may put the words of the text and a dozen others in any order. The bound is what it makes of
espeak-ng's own output for the same text, spoken in one piece by the library directly.
"""

import difflib
import re
from pathlib import Path

import espeakng_loader
import pytest
from pocketsphinx import Decoder

from services.tts.engines.espeak_library import EspeakLibrary
from voicemesh.client import SpeechOptions, VoiceMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

RATE_HZ = 22050
TEXT = "Children under ten enter for free! Please bring your insurance card in the morning."
OTHER_WORDS = "router account interest winter doctor building cache numbers settings voice picture guide"
SHARE_OF_DIRECT = 0.8
"""Chunks are spoken one by one, with other pauses: the recogniser may mishear a word at a join."""


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def recognised(audio: bytes) -> list[str]:
    vocabulary = sorted(set(words_of(f"{TEXT} {OTHER_WORDS}")))
    decoder = Decoder(samprate=float(RATE_HZ), nfft=1024, loglevel="FATAL", lm=None)
    grammar = f"#JSGF V1.0;\ngrammar any;\npublic <any> = ( {' | '.join(vocabulary)} )+ ;\n"
    decoder.add_jsgf_string("any", grammar)
    decoder.activate_search("any")
    decoder.start_utt()
    decoder.process_raw(audio, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return hypothesis.hypstr.split() if hypothesis is not None else []


def words_in_order(text: str, heard: list[str]) -> float:
    """Return the share of the words of `text` that were heard, in sequence."""
    said = words_of(text)
    blocks = difflib.SequenceMatcher(None, said, heard, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / len(said)


def spoken_directly(text: str) -> bytes:
    library = EspeakLibrary(Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path()))
    library.set_voice("gmw/en-US")
    library.set_speech(175, 50)
    audio = bytearray()

    def keep(pcm: bytes, _words: object) -> bool:
        audio.extend(pcm)
        return True

    library.speak(text, keep, end_pause=True)
    return bytes(audio)


async def test_the_words_are_there_and_in_sequence(client: VoiceMesh) -> None:
    recording = await client.say(TEXT, speech=SpeechOptions(max_lead_ms=0)).collect()
    assert len(recording.report.chunks) == 2
    direct = words_in_order(TEXT, recognised(spoken_directly(TEXT)))
    heard = recognised(recording.audio)
    assert direct > 0.5, "the recogniser understands this voice"
    assert words_in_order(TEXT, heard) >= SHARE_OF_DIRECT * direct
    backwards = " ".join(reversed(TEXT.split()))
    assert words_in_order(backwards, heard) < SHARE_OF_DIRECT * direct, "and would notice another order"
