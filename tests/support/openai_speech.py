"""How the scripted server of `openai_server` answers `POST /v1/audio/speech`."""

import hashlib
import io
import math
import re
import wave
from array import array
from dataclasses import dataclass
from typing import Any

RATE_HZ = 24000
_CHAR_MS = 65
_AMPLITUDE = 8000


def speech_of(body: dict[str, Any]) -> bytes:
    """Return s16le PCM for what was asked: each word a tone of its own, as long as it has letters."""
    letter = round(_CHAR_MS * RATE_HZ / 1000 / body.get("speed", 1))
    pcm = array("h")
    for word, space in re.findall(r"(\S+)(\s*)", body["input"]):
        mark = f"{word} {body['voice']} {body['model']} {body.get('instructions', '')}"
        period = 40 + hashlib.blake2b(mark.encode(), digest_size=2).digest()[0] % 120
        cycle = [round(_AMPLITUDE * math.sin(2 * math.pi * i / period)) for i in range(period)]
        pcm.extend(cycle * max(1, letter * len(word) // period))
        pcm.extend([0] * (letter * len(space)))
    return pcm.tobytes()


def wav_of(pcm: bytes, rate_hz: int = RATE_HZ, channels: int = 1) -> bytes:
    """Put a WAV header in front."""
    with io.BytesIO() as file:
        with wave.open(file, "wb") as sound:
            sound.setnchannels(channels)
            sound.setsampwidth(2)
            sound.setframerate(rate_hz)
            sound.writeframes(pcm)
        return file.getvalue()


@dataclass(frozen=True)
class Speech:
    """How one request for speech is answered, where it is answered with audio."""

    audio: bytes | None = None
    """The whole of it; None makes it of the text that was asked for."""
    content_type: str = "audio/pcm"
    slice_bytes: int = 4801
    """Odd: no slice ends where a sample does."""
    slice_interval_s: float = 0.0
    """In front of each slice."""
    hangs_before_headers: bool = False
    hangs_after: int | None = None
    """Nothing more comes behind this many slices."""
    cut_after: int | None = None
    """The connection breaks behind this many slices."""
    closes_behind: bool = False
    """The connection, which was to be kept, is closed as soon as the answer is complete."""
