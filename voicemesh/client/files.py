"""Audio files: which encoding goes into which, and how it is written. Standard library only."""

from collections.abc import Iterable
from os import PathLike, fspath
from pathlib import Path, PurePath
from typing import Final

from voicemesh.client.events import AudioFormat
from voicemesh.client.wav import write_wav
from voicemesh.ogg import OggOpus

ENCODINGS: Final = {
    ".wav": "pcm_s16le",
    ".wave": "pcm_s16le",
    ".opus": "opus",
    ".ogg": "opus",
    ".flac": "flac",
    ".mp3": "mp3",
    ".aac": "aac",
    ".ulaw": "mulaw",
}
"""The encoding to ask for, by the end of a file's name."""

_FLAC_LENGTH_AT: Final = 18
_FLAC_LENGTH_BYTES: Final = 8
_FLAC_LENGTH_BITS: Final = 36


def encoding_of(path: str | PathLike[str]) -> str:
    """Return the encoding of a file by its name; a name without an end is a WAV file.

    Raises ValueError for an end that is none of `ENCODINGS`.
    """
    suffix = PurePath(path).suffix.lower()
    if suffix and suffix not in ENCODINGS:
        raise ValueError(f"{fspath(path)}: {suffix} is none of {', '.join(ENCODINGS)}")
    return ENCODINGS.get(suffix, "pcm_s16le")


def write_audio(
    path: str | PathLike[str], frames: Iterable[bytes], samples: Iterable[int], fmt: AudioFormat
) -> None:
    """Write the audio of a turn, frame by frame, as the name of the file says.

    `samples` are those of each frame (`Frame.samples`). Raises ValueError where `fmt` is not what the
    file holds, OSError where it cannot be written.
    """
    wanted = encoding_of(path)
    if wanted != fmt.encoding:
        fits = ", ".join(end for end, encoding in ENCODINGS.items() if encoding == fmt.encoding)
        raise ValueError(f"{fspath(path)} takes {wanted}, and the audio is {fmt.encoding}: name it {fits}")
    if fmt.encoding == "pcm_s16le":
        write_wav(path, frames, fmt)
        return
    if fmt.sample_rate_hz < 1:
        raise ValueError("the sample rate of the audio is not known: no turn was started")
    with open(path, "wb") as file:  # noqa: PTH123 - a path may be a plain string
        if fmt.encoding != "opus":
            file.writelines(frames)
        else:
            ogg = OggOpus(fmt.sample_rate_hz, fmt.preskip_samples)
            file.writelines(ogg.push(frame, count) for frame, count in zip(frames, samples, strict=True))
            file.write(ogg.finish())
    if fmt.encoding == "flac" and Path(path).is_file():
        _tell_length(Path(path), sum(samples))


def _tell_length(path: Path, samples: int) -> None:
    """Write into the header of a FLAC file how many samples it has: a stream does not know when it begins.

    STREAMINFO is the first block, behind 8 bytes; behind 10 of its own it has 28 bits of rate, channels and
    depth, then 36 bits of samples (RFC 9639, section 8.2).
    """
    with path.open("r+b") as file:
        file.seek(_FLAC_LENGTH_AT)
        field = file.read(_FLAC_LENGTH_BYTES)
        if len(field) == _FLAC_LENGTH_BYTES:
            known = int.from_bytes(field, "big") >> _FLAC_LENGTH_BITS << _FLAC_LENGTH_BITS
            file.seek(_FLAC_LENGTH_AT)
            file.write((known | samples).to_bytes(_FLAC_LENGTH_BYTES, "big"))
