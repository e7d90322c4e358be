"""WAV files, by the standard library."""

import wave
from collections.abc import Iterable
from os import PathLike
from typing import IO

from voicemesh.client.events import AudioFormat


def write_wav(
    target: str | PathLike[str] | IO[bytes], audio: Iterable[bytes] | bytes, fmt: AudioFormat
) -> None:
    """Write `audio` (slices of PCM, in order) as a WAV file.

    `target` is a path, or a binary file that can seek. Raises ValueError where `fmt` is not 16-bit
    PCM or its sample rate is not known, OSError where the file cannot be written.
    """
    if fmt.encoding != "pcm_s16le":
        raise ValueError(f"a WAV file takes pcm_s16le, not {fmt.encoding}")
    if fmt.sample_rate_hz < 1:
        raise ValueError("the sample rate of the audio is not known: no turn was started")
    slices = (audio,) if isinstance(audio, bytes) else audio
    name = target if not isinstance(target, PathLike) else str(target)
    with wave.open(name, "wb") as file:
        file.setnchannels(fmt.channels)
        file.setsampwidth(2)
        file.setframerate(fmt.sample_rate_hz)
        for part in slices:
            file.writeframesraw(part)
