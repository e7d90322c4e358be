"""How soon a device speaks, and how many streams it speaks in real time: a VITS on a GPU, or a CPU.

    .venv/bin/python -m benchmarks.tts_device [--device auto] [--size ljspeech] [--model FOLDER]
        [--streams 1,100,500,1000,2000] [--seconds 20] [--precision fp32] [--service]

One replica's engine, driven as its worker drives it (`services.tts.stepping`), with the messages that the
service would get; needs the extra `coqui`. Without `--model` the weights are random, of the usual size.

Streams: each is a listener who asks for a sentence, hears it to its end in real time, and asks for the next
one; they begin spread over the first sentence. First frame: from asking to the first FRAME message. An
underrun: a frame that comes after its listener, who began at the first frame, had nothing left. The first
sentence of each stream is not counted. With `--service` also through the TTS service, over gRPC, one
sentence at a time.

The ceiling is a product of two large matrices, in the decoder's precision, in the same run; the decoder's
own figure counts the operations that the audio needs and not what windows and padding add.
"""

import argparse
import asyncio
import contextlib
import heapq
import itertools
import json
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from benchmarks.meshes import HEADER, percentile, row, running_mesh
from benchmarks.random_models import SIZES, make_vits
from services.tts import wire
from services.tts.delivery import Voice
from services.tts.engines import coqui
from services.tts.engines.base import SteppedEngine
from services.tts.stepping import Stepping
from voicemesh.tts.v1 import tts_pb2
from voicemesh.tts.v1.tts_pb2_grpc import TtsServiceStub

SENTENCE: Final = (
    "the quick brown fox jumps over the lazy dog while seventeen little birds sing softly above the quiet "
    "green river today"
)
SMOOTH_MS: Final = 50.0
_ALONE: Final = 40


def sentences(seed: int) -> Iterator[str]:
    """Yield sentences of twenty words, no two alike."""
    draw, words = random.Random(seed), SENTENCE.split()
    while True:
        yield " ".join(draw.sample(words, len(words)))


@dataclass
class Listener:
    """One stream: what it hears, and when."""

    number: int
    texts: Iterator[str]
    asked_ns: int = 0
    began_ns: int = 0
    heard_samples: int = 0
    sentences: int = 0


@dataclass
class Heard:
    """What all listeners heard, the first sentence of each left out."""

    first_ms: list[float] = field(default_factory=list)
    underruns: int = 0
    samples: int = 0


class Streams:
    """Listeners of one engine.

    Args:
        engine: Speaks; prepared.
        count: Listeners at once.

    """

    def __init__(self, engine: SteppedEngine, count: int) -> None:
        self.heard = Heard()
        self.rate_hz = engine.capabilities.sample_rate_hz
        self.driver = Stepping(engine, Voice.declared(engine.capabilities, {}), self._message)
        self.listeners = [Listener(number, sentences(number)) for number in range(count)]
        self._ids = itertools.count(1)
        self._who: dict[int, Listener] = {}
        self._parser = wire.Parser()
        self._due: list[tuple[int, int]] = []  # when a listener asks, and which
        self._news = threading.Condition()
        self._over = False

    def run(self, seconds: float, spread_s: float) -> None:
        """Let them listen; the engine runs in this thread."""
        begin_ns = time.monotonic_ns()
        count = len(self.listeners)
        self._due = [(begin_ns + int(n * spread_s * 1e9 / count), n) for n in range(count)]
        asking = threading.Thread(target=self._ask_forever)
        asking.start()
        end_ns = begin_ns + int((seconds + spread_s) * 1e9)
        while (now_ns := time.monotonic_ns()) < end_ns:
            until_ns = self.driver.advance()
            self.driver.wait(min(end_ns, now_ns + 50_000_000 if until_ns is None else until_ns))
        with self._news:
            self._over = True
            self._news.notify()
        asking.join()

    def cancel(self) -> float:
        """End every request; return milliseconds until the engine has nothing left to do."""
        for request_id in tuple(self._who):
            self.driver.cancel(request_id)
        began_ns = time.monotonic_ns()
        while self.driver.advance() is not None:
            pass
        self._who.clear()
        return (time.monotonic_ns() - began_ns) / 1e6

    def ask(self, listener: Listener) -> None:
        """Ask for its next sentence."""
        request_id = next(self._ids)
        self._who[request_id] = listener
        listener.asked_ns, listener.began_ns, listener.heard_samples = time.monotonic_ns(), 0, 0
        listener.sentences += 1
        request = wire.SpeakRequest(next(listener.texts), "", seed=request_id, caller=str(listener.number))
        self.driver.speak(request_id, request)

    def _ask_forever(self) -> None:
        while True:
            with self._news:
                while not self._over and not (self._due and self._due[0][0] <= time.monotonic_ns()):
                    left_ns = self._due[0][0] - time.monotonic_ns() if self._due else 1_000_000_000
                    self._news.wait(max(left_ns, 0) / 1e9)
                if self._over:
                    return
                listener = self.listeners[heapq.heappop(self._due)[1]]
            self.ask(listener)

    def _message(self, message: bytes) -> None:
        now_ns = time.monotonic_ns()
        for kind, request_id, payload in self._parser.feed(message):
            listener = self._who.get(request_id)
            if listener is None:
                continue
            if kind == wire.FRAME:
                self._frame(listener, len(wire.parse_frame(payload)[1]) // 2, now_ns)
            elif kind == wire.FAILED:
                raise RuntimeError(wire.parse_failed(payload)[1])
            elif kind == wire.DONE:
                del self._who[request_id]
                ends_ns = listener.began_ns + listener.heard_samples * 1_000_000_000 // self.rate_hz
                with self._news:
                    heapq.heappush(self._due, (ends_ns, listener.number))
                    self._news.notify()

    def _frame(self, listener: Listener, samples: int, now_ns: int) -> None:
        counts = listener.sentences > 1
        if not listener.began_ns:
            listener.began_ns = now_ns
            if counts:
                self.heard.first_ms.append((now_ns - listener.asked_ns) / 1e6)
        elif counts and now_ns > listener.began_ns + listener.heard_samples * 1_000_000_000 // self.rate_hz:
            self.heard.underruns += 1
        listener.heard_samples += samples
        if counts:
            self.heard.samples += samples


def ceiling(device: Any, dtype: Any) -> float:
    """Return the TFLOP/s of a product of large matrices."""
    import torch  # noqa: PLC0415 - after the library was made loadable

    size = 8192 if device.type == "cuda" else 1024
    one = torch.randn(size, size, device=device, dtype=dtype)
    rounds = 10
    for repeat in range(2):
        if repeat:
            began = time.perf_counter()
        for _ in range(rounds):
            two = one @ one
        float(two[0, 0])  # waits for the device
    return 2 * size**3 * rounds / (time.perf_counter() - began) / 1e12


def decoder_flop(folder: Path) -> float:
    """Return the operations that the library's decoder needs for a second of audio."""
    import torch  # noqa: PLC0415 - after the library was made loadable
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415
    from TTS.utils.synthesizer import Synthesizer  # noqa: PLC0415

    model = Synthesizer(tts_checkpoint=folder / "model.pth", tts_config_path=folder / "config.json").tts_model
    rate, hop = model.config.audio["sample_rate"], model.config.audio["hop_length"]
    frames = round(rate / hop)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.waveform_decoder(torch.zeros(1, model.args.hidden_channels, frames))
    flop: float = counter.get_total_flops() * rate / (frames * hop)
    return flop


def plain(folder: Path, device: Any, count: int) -> list[float]:
    """Return milliseconds that `TTS.tts()` takes for a sentence, one after another."""
    from TTS.api import TTS  # noqa: PLC0415 - after the library was made loadable

    api = TTS(
        model_path=str(folder / "model.pth"), config_path=str(folder / "config.json"), progress_bar=False
    )
    api.to(device)
    texts = sentences(0)
    api.tts(next(texts))
    took = []
    with contextlib.redirect_stdout(None):
        for _ in range(count):
            began = time.perf_counter()
            api.tts(next(texts))
            took.append((time.perf_counter() - began) * 1e3)
    return took


async def through_service(options: dict[str, Any], count: int) -> list[float]:
    """Return milliseconds from asking the TTS service to its first frame, one sentence at a time."""
    declared = {"name": "vits", "engine": "coqui", "options": options}
    first_ms = []
    with running_mesh(
        VOICEMESH_TTS_VOICES=json.dumps([declared]), VOICEMESH_TTS_WARMUP_TIMEOUT_S="600"
    ) as mesh:
        async with grpc.aio.insecure_channel(mesh.addresses["tts"]) as channel:
            stub: Any = TtsServiceStub(channel)
            for text in itertools.islice(sentences(1), count + 2):
                call = stub.Synthesize()
                await call.write(
                    tts_pb2.SynthesizeRequest(configure=tts_pb2.SynthesizeConfigure(turn_id="bench"))
                )
                began = time.perf_counter()
                await call.write(tts_pb2.SynthesizeRequest(chunk=tts_pb2.SynthesizeChunk(text=text)))
                await call.done_writing()
                heard = None
                async for response in call:
                    if heard is None and response.HasField("frame"):
                        heard = time.perf_counter() - began
                if heard is None:
                    raise RuntimeError("a sentence gave no audio")
                first_ms.append(heard * 1e3)
    return first_ms[2:]  # the first ones open the connection


def alone(engine: SteppedEngine) -> list[float]:
    """Return milliseconds to the first frame of sentences one after another, nothing else running."""
    streams = Streams(engine, 1)
    for _ in range(_ALONE + 1):
        streams.ask(streams.listeners[0])
        while streams.driver.advance() is not None:
            pass
    return streams.heard.first_ms


def measure(engine: SteppedEngine, counts: Sequence[int], seconds: float, gflop: float) -> int:
    """Print a row for each number of streams; return the largest that was smooth."""
    print(
        f"\n{'streams':>8} {'first p50':>10} {'p99 ms':>8} {'underruns':>10} {'x real time':>12} "
        f"{'busy':>6} {'mean batch':>11} {'TFLOP/s':>8} {'cancel to idle ms':>18}"
    )
    smooth = 0
    for count in counts:
        streams = Streams(engine, count)
        spread_s = 0.0 if count == 1 else 6.0
        began = time.perf_counter()
        streams.run(seconds, spread_s)
        took_s = time.perf_counter() - began
        figures, heard = streams.driver.figures(), streams.heard
        idle_ms = streams.cancel()
        if not heard.first_ms:
            print(
                f"{count:>8}  no second sentence was heard in {seconds:g} s: too few --seconds, or too much"
            )
            return smooth
        busy_s = figures["busy_ns"] / 1e9
        made_s = heard.samples / streams.rate_hz * took_s / max(took_s - spread_s, 1e-9)
        p50, p99 = percentile(heard.first_ms, 50), percentile(heard.first_ms, 99)
        mean = figures["steps"] / max(figures["batches"], 1)
        print(
            f"{count:>8} {p50:>10.2f} {p99:>8.2f} {heard.underruns:>10} {made_s / busy_s:>12.1f} "
            f"{busy_s / took_s:>6.0%} {mean:>11.1f} {made_s * gflop / busy_s / 1e3:>8.2f} {idle_ms:>18.2f}"
        )
        if heard.underruns or p99 > SMOOTH_MS:
            return smooth
        smooth = count
    return smooth


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--size", choices=SIZES, default="ljspeech")
    parser.add_argument("--model", type=Path, help="a folder with config.json and model.pth")
    parser.add_argument("--streams", default="1,2,4,8,100,500,1000,2000")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--service", action="store_true", help="also through the TTS service")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = chosen.model or make_vits(Path(folder), size=chosen.size)
        options = {"model": str(model), "device": chosen.device, "precision": chosen.precision, "slots": 4096}
        began = time.perf_counter()
        engine = coqui.load("en", options)
        assert isinstance(engine, SteppedEngine)
        loaded_s = time.perf_counter() - began
        Stepping(engine, Voice.declared(engine.capabilities, {}), lambda _: None).prepare(lambda *_: None)
        prepared_s = time.perf_counter() - began - loaded_s

        import torch  # noqa: PLC0415 - after the library was made loadable

        cuda = torch.cuda.is_available() and chosen.device != "cpu"
        device = torch.device(("cuda" if chosen.device == "auto" else chosen.device) if cuda else "cpu")
        name = torch.cuda.get_device_name(device) if cuda else f"CPU, {torch.get_num_threads()} threads"
        dtype = torch.bfloat16 if chosen.precision == "bf16" else torch.float32
        gflop = decoder_flop(Path(model)) / 1e9
        print(f"{name}; torch {torch.__version__}; {chosen.size}, decoder in {chosen.precision}")
        print(f"loaded in {loaded_s:.1f} s, every step and batch run once in {prepared_s:.1f} s")
        print(f"ceiling {ceiling(device, dtype):.2f} TFLOP/s; decoder {gflop:.3g} GFLOP a second of audio\n")
        print(HEADER)
        print(row("TTS.tts(), a sentence (first = all)", plain(Path(model), device, 20 if cuda else 3)))
        print(row("first frame, one stream", alone(engine)))
        if chosen.service:
            print(row("  through the service, over gRPC", asyncio.run(through_service(options, _ALONE))))
        counts = [int(count) for count in chosen.streams.split(",")]
        smooth = measure(engine, counts, chosen.seconds, gflop)
        print(f"\nmost streams without underruns, p99 of first frames within {SMOOTH_MS:g} ms: {smooth}")


if __name__ == "__main__":
    main()
