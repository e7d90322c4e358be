"""What other rates, encodings and levels cost: CPU for each second of audio, and what the first frame waits.

    python -m benchmarks.audio_formats [--seconds 5] [--json]

One thread, in this process, over speech of espeak-ng. Times are the best of three runs. The first
column of a rate is how much audio the resampler takes in before 20 ms of it come out; of an encoding,
how much PCM before the first packet. Neither is silence where an engine makes more than that at once.
"""

import argparse
import json
import time
from array import array
from collections.abc import Callable
from typing import Any

from gateway.encoding import encoder_for, heard_format
from services.tts.engines.espeak import EspeakEngine
from services.tts.loudness import Levels, integrated_lufs, table
from services.tts.resampling import Resampler, rates
from services.tts.wire import SpeakRequest, Word
from voicemesh.common.v1 import common_pb2

TEXT = "The quick brown fox jumps over the lazy dog, and then it sleeps in the warm sun for an hour. "
FRAME_MS = 20
PAIRS = (
    (22050, 8000),
    (22050, 16000),
    (22050, 24000),
    (22050, 44100),
    (22050, 48000),
    (24000, 8000),
    (24000, 16000),
    (24000, 22050),
    (24000, 48000),
    (16000, 8000),
    (48000, 8000),
)
ENCODINGS = (
    ("MULAW", 8000),
    ("OPUS", 8000),
    ("OPUS", 24000),
    ("OPUS", 48000),
    ("FLAC", 22050),
    ("FLAC", 48000),
    ("MP3", 22050),
    ("AAC", 22050),
)


class _Heard:
    """An engine's output, kept."""

    def __init__(self) -> None:
        self.pcm = bytearray()

    def write(self, pcm: bytes) -> bool:
        self.pcm += pcm
        return True

    def words(self, words: list[Word]) -> None:
        pass

    def pause(self, seconds: float) -> bool:
        return seconds >= 0


def speech(seconds: float) -> tuple[EspeakEngine, bytes]:
    engine = EspeakEngine("en-us", {})
    heard = _Heard()
    engine.synthesize(SpeakRequest(TEXT * (1 + int(seconds / 5)), "en-us"), heard)
    return engine, bytes(heard.pcm[: round(seconds * engine.capabilities.sample_rate_hz) * 2])


def at_rate(pcm: bytes, own_hz: int, wanted_hz: int) -> bytes:
    stage = rates(own_hz, wanted_hz)
    return stage.push(pcm) + stage.finish()


def best_us(run: Callable[[], Any], seconds: float) -> float:
    """Return the least of three times, in microseconds for each second of audio."""
    times = []
    for _ in range(3):
        began_ns = time.perf_counter_ns()
        run()
        times.append(time.perf_counter_ns() - began_ns)
    return min(times) / 1000 / seconds


def slices(pcm: bytes, rate_hz: int) -> list[bytes]:
    step = rate_hz * FRAME_MS // 1000 * 2
    return [pcm[at : at + step] for at in range(0, len(pcm), step)]


def measure_rate(pcm: bytes, engine_hz: int, wanted_hz: int) -> dict[str, Any]:
    parts = slices(at_rate(pcm, 22050, engine_hz), engine_hz)

    def run() -> None:
        stage = Resampler(engine_hz, wanted_hz)
        for part in parts:
            stage.push(part)
        stage.finish()

    probe = Resampler(engine_hz, wanted_hz)
    made = taken = 0
    while made < wanted_hz * FRAME_MS // 1000:
        made += len(probe.push(bytes(2 * (engine_hz // 1000)))) // 2
        taken += 1
    seconds = len(pcm) / 2 / 22050
    cost = best_us(run, seconds)
    return {"what": f"{engine_hz} -> {wanted_hz} Hz", "us_per_s": cost, "first_after_ms": taken}


def measure_encoding(pcm: bytes, name: str, rate_hz: int) -> dict[str, Any]:
    wanted = common_pb2.AudioFormat(
        encoding=common_pb2.AudioEncoding.Value(f"AUDIO_ENCODING_{name}"), sample_rate_hz=rate_hz
    )
    audio = heard_format(wanted, rate_hz, "espeak", "format")
    parts = slices(at_rate(pcm, 22050, rate_hz), rate_hz)
    sizes: list[int] = []

    def run() -> None:
        encoder = encoder_for(audio)
        assert encoder is not None
        packets = [packet for part in parts for packet in encoder.push(part)]
        sizes.append(sum(len(packet.audio) for packet in (*packets, *encoder.finish())))

    probe = encoder_for(audio)
    assert probe is not None
    first = next(n for n, part in enumerate(parts, start=1) if probe.push(part))
    seconds = len(pcm) / 2 / 22050
    cost = best_us(run, seconds)
    return {
        "what": f"{name} {rate_hz} Hz",
        "us_per_s": cost,
        "us_per_20_ms": cost / 50,
        "first_after_ms": first * FRAME_MS,
        "kbit_per_s": sizes[-1] * 8 / seconds / 1000,
    }


def measure_level(engine: EspeakEngine, pcm: bytes) -> list[dict[str, Any]]:
    samples, seconds = array("h", pcm), len(pcm) / 2 / 22050
    levels = Levels(engine.capabilities, None, 6.0)
    return [
        {"what": "measure loudness", "us_per_s": best_us(lambda: integrated_lufs(samples, 22050), seconds)},
        {"what": "apply a gain", "us_per_s": best_us(lambda: levels.apply("", pcm), seconds)},
        {"what": "make a gain's table, once", "us_per_s": best_us(lambda: table(6.0), 1.0)},
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="speech to measure with")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    engine, pcm = speech(asked.seconds)
    level = measure_level(engine, pcm)  # before numpy is loaded: as in a worker of espeak-ng
    rows = [*level, *(measure_rate(pcm, *pair) for pair in PAIRS)]
    rows += [measure_encoding(pcm, *wanted) for wanted in ENCODINGS]
    if asked.json:
        print(json.dumps(rows))
        return
    print(f"{'':<28}{'CPU us/s':>10}{'us/20 ms':>10}{'first after ms':>16}{'kbit/s':>8}")
    for row in rows:
        cells = (row.get(key) for key in ("us_per_s", "us_per_20_ms", "first_after_ms", "kbit_per_s"))
        shown = [f"{cell:.0f}" if cell is not None else "" for cell in cells]
        print(f"{row['what']:<28}{shown[0]:>10}{shown[1]:>10}{shown[2]:>16}{shown[3]:>8}")


if __name__ == "__main__":
    main()
