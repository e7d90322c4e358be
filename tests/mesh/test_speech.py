"""The audio is speech, and its words are in order: a recogniser hears the demo's reply word by word.

Left to itself the recogniser understands a quarter of what espeak-ng says. So it is given the length of the
reply, and for every word of it eight to choose from: the one that was written and seven others of the same
reply. Whoever guesses is right in one place of eight. What it makes of espeak-ng's own output for the same
text, spoken in one piece by the library directly, is the bound for what comes out of the mesh.
"""

import random
import re
from pathlib import Path

import espeakng_loader
import pytest
from pocketsphinx import Decoder

from services.tts.engines.espeak_library import EspeakLibrary
from voicemesh.cli.demo import DEFAULT_PROMPT
from voicemesh.client import SpeechOptions, VoiceMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

RATE_HZ = 22050
CHOICES = 8
SHARE_OF_DIRECT = 0.9
"""Chunks are spoken one by one: the recogniser may mishear a word beside a join."""
SHARE_OF_WRONG = 0.6
"""Words that were not said, or not in this order, are heard far worse."""
UNDERSTOOD = 0.7
"""Of espeak-ng's own output: 0.85 with espeak-ng 1.52 and pocketsphinx 5.1."""


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def recognised(audio: bytes, words: list[str]) -> float:
    """Return the share of `words` that the recogniser chose at their places; 0.0 where it found no way."""
    chance = random.Random(1)
    vocabulary = sorted(set(words))
    places = []
    for word in words:
        others = chance.sample([other for other in vocabulary if other != word], CHOICES - 1)
        places.append(f"( {' | '.join(sorted([word, *others]))} )")
    # Wide beams: with the narrow ones of dictation a misheard word loses the rest of the audio. The search
    # for a better path behind the first one may end before the last word.
    beams = dict.fromkeys(("beam", "wbeam", "pbeam"), 1e-60)
    decoder = Decoder(
        samprate=float(RATE_HZ), nfft=1024, loglevel="FATAL", lm=None, cmn="batch", bestpath=False, **beams
    )
    decoder.add_jsgf_string("reply", f"#JSGF V1.0;\ngrammar reply;\npublic <reply> = {' '.join(places)} ;\n")
    decoder.activate_search("reply")
    decoder.start_utt()
    decoder.process_raw(audio, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    heard = hypothesis.hypstr.split() if hypothesis is not None else []
    return sum(map(str.__eq__, heard, words)) / len(words)


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


def in_another_order(parts: list[str]) -> str:
    """Return `parts` as one text, the second half first: hardly a word stays in its place."""
    middle = len(parts) // 2
    return " ".join(parts[middle:] + parts[:middle])


async def test_the_demos_reply_is_heard_word_by_word_and_in_order(client: VoiceMesh) -> None:
    recording = await client.ask(DEFAULT_PROMPT, speech=SpeechOptions(max_lead_ms=0)).collect()
    text = recording.text
    words = words_of(text)
    assert len(recording.report.chunks) > 1, "chunks are spoken one by one"

    direct = recognised(spoken_directly(text), words)
    assert direct >= UNDERSTOOD, "the recogniser understands this voice"
    assert recognised(recording.audio, words) >= SHARE_OF_DIRECT * direct

    # The check can fail: it does for the same sentences, or the same words, in another order.
    for wrong in (in_another_order(re.findall(r"[^.]+\.", text)), " ".join(reversed(words))):
        assert recognised(spoken_directly(wrong), words) <= SHARE_OF_WRONG * direct, wrong
    swapped = [word for pair in zip(words[1::2], words[::2], strict=False) for word in pair]
    assert recognised(recording.audio, swapped) <= SHARE_OF_WRONG * direct, "neighbours are told apart"
