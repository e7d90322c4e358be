"""Opus in an Ogg stream, read by an implementation that is not ours."""

import math
from array import array

import numpy as np
import pytest

from gateway.encoding import encoder_for, heard_format
from tests.support.decoding import decoded_file, likeness, samples_of
from voicemesh.common.v1 import common_pb2
from voicemesh.ogg import OggOpus


@pytest.mark.parametrize("rate_hz", [8000, 24000, 48000])
@pytest.mark.parametrize("odd", [0, 1, 77])
def test_every_sample_is_there_and_none_more(rate_hz, odd):
    wanted = common_pb2.AudioFormat(encoding=common_pb2.AUDIO_ENCODING_OPUS, sample_rate_hz=rate_hz)
    audio = heard_format(wanted, rate_hz, "v", "f")
    count = rate_hz // 2 + odd
    pcm = array(
        "h", (round(9000 * math.sin(2000 * i / rate_hz * (1 + i / count))) for i in range(count))
    ).tobytes()
    encoder = encoder_for(audio)
    assert encoder is not None
    ogg = OggOpus(rate_hz, audio.preskip_samples)
    pages = [ogg.push(packet.audio, packet.samples) for packet in (*encoder.push(pcm), *encoder.finish())]
    data = b"".join((*pages, ogg.finish()))
    heard, told_hz = decoded_file(data)
    assert told_hz == 48000
    assert abs(len(heard) - count * 48000 // rate_hz) <= 1
    assert likeness(heard[:: 48000 // rate_hz], samples_of(pcm)) > 0.95
    # A page for each packet, so that each can be played when it comes.
    assert all(page.count(b"OggS") == 1 for page in pages[1:25])


def test_a_stream_that_breaks_off_is_still_a_stream():
    wanted = common_pb2.AudioFormat(encoding=common_pb2.AUDIO_ENCODING_OPUS, sample_rate_hz=48000)
    encoder = encoder_for(heard_format(wanted, 48000, "v", "f"))
    assert encoder is not None
    ogg = OggOpus(48000, 312)
    data = b"".join(ogg.push(packet.audio, packet.samples) for packet in encoder.push(bytes(2 * 48000)))
    heard, _ = decoded_file(data + ogg.finish())
    assert len(heard) == 48000 - 312
    assert not np.any(heard)


def test_no_audio_is_a_stream_without_packets():
    data = OggOpus(48000, 312).finish()
    assert data.count(b"OggS") == 3
    assert b"OpusHead" in data
    assert b"OpusTags" in data
