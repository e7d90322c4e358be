"""Audio files: what is written by the name of a file."""

import wave

import pytest

from voicemesh.client import AudioFormat, write_audio
from voicemesh.client.files import encoding_of


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("a.wav", "pcm_s16le"),
        ("a", "pcm_s16le"),
        ("A.OPUS", "opus"),
        ("a.b.flac", "flac"),
        ("a.mp3", "mp3"),
        ("a.aac", "aac"),
        ("a.ulaw", "mulaw"),
    ],
)
def test_a_name_says_its_encoding(name, encoding):
    assert encoding_of(name) == encoding


def test_another_end_is_refused_with_those_that_there_are(tmp_path):
    with pytest.raises(ValueError, match=r"a\.mp4: \.mp4 is none of \.wav, .*\.flac"):
        encoding_of("a.mp4")
    with pytest.raises(ValueError, match=r"takes flac, and the audio is opus: name it \.opus, \.ogg"):
        write_audio(tmp_path / "a.flac", [b"x"], [1], AudioFormat("opus", 48000))
    with pytest.raises(ValueError, match="no turn was started"):
        write_audio(tmp_path / "a.flac", [], [], AudioFormat("flac"))


def test_what_is_a_stream_already_is_written_as_it_is(tmp_path):
    write_audio(tmp_path / "a.ulaw", [b"\xff", b"\x7f"], [1, 1], AudioFormat("mulaw", 8000))
    assert (tmp_path / "a.ulaw").read_bytes() == b"\xff\x7f"
    write_audio(str(tmp_path / "a.wav"), [b"\1\0", b"\2\0"], [1, 1], AudioFormat("pcm_s16le", 8000))
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getframerate(), file.readframes(9)) == (8000, b"\1\0\2\0")


def test_opus_is_put_into_a_container(tmp_path):
    write_audio(tmp_path / "a.opus", [b"\xfc\xff\xfe"], [960], AudioFormat("opus", 48000, 1, 312))
    data = (tmp_path / "a.opus").read_bytes()
    assert data.startswith(b"OggS")
    assert data.count(b"OggS") == 4
