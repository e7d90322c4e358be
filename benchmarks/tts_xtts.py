"""XTTS here and in the library: first audio and total, side by side, for texts of several lengths.

    .venv/bin/python -m benchmarks.tts_xtts [--layers N] [--channels N] [--width N] [--repeat N]

Random weights, made by the library's own code and reduced so that a CPU can run them: the ratios are of
interest, not the seconds. Both take the likeliest token always, so both speak the same tokens. The library
streams in chunks of 20 tokens, as it does by itself. Needs the extra `coqui`.

`--cpu` counts the CPU's time instead of the wall's: for a machine that has other work.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.tts.engines.base import SpeakRequest
from services.tts.engines.coqui import load
from services.tts.engines.coqui.xtts_model import load_xtts
from tests.coqui.random_xtts import make_xtts, write_clip

Clock = Callable[[], float]
TEXT = "The same words for both of them, and for every length."


def ours(engine: Any, clock: Clock) -> tuple[float, float, float]:
    """Return (first audio, total, audio) in seconds."""
    began = clock()
    first, samples = 0.0, 0
    utterance = engine.open(SpeakRequest(TEXT, "en", seed=1))
    while utterance.step is not None:
        engine.run([utterance])
        samples += len(utterance.take()[0]) // 2
        first = first or (clock() - began if samples else 0.0)
    return first, clock() - began, samples / engine.capabilities.sample_rate_hz


def theirs(model: Any, speaker: Any, clock: Clock) -> tuple[float, float, float]:
    """Return the same of the library's `inference_stream`."""
    began = clock()
    first, samples = 0.0, 0
    for part in model.inference_stream(TEXT, "en", speaker.latents[None], speaker.embedding, top_k=1):
        samples += part.shape[-1]
        first = first or clock() - began
    return first, clock() - began, samples / model.args.output_sample_rate


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu", action="store_true")
    values = parser.parse_args()
    clock = time.process_time if values.cpu else time.perf_counter
    warnings.simplefilter("ignore")
    print(
        f"layers {values.layers}, channels {values.channels}, decoder {values.width}, "
        f"threads {values.threads}, {'CPU' if values.cpu else 'wall'} time"
    )
    print("audio s | first audio ms: here  library | total ms: here  library | library / here", flush=True)
    for tokens in (30, 100, 300):
        with tempfile.TemporaryDirectory() as name:
            folder = make_xtts(
                Path(name), layers=values.layers, channels=values.channels, width=values.width, tokens=tokens
            )
            clip = write_clip(folder / "clip.wav")
            options = {"model": name, "speaker_wav": str(clip), "device": "cpu", "threads": values.threads}
            engine: Any = load("en", {**options, "temperature": 0})
            model = load_xtts(folder, folder / "config.json", None).model
            model.gpt.init_gpt_for_inference()
            runs_here = [ours(engine, clock) for _ in range(values.repeat)]
            runs_there = [theirs(model, engine.speakers[0], clock) for _ in range(values.repeat)]
        here, there = (tuple(map(min, zip(*runs, strict=True))) for runs in (runs_here, runs_there))
        print(
            f"{here[2]:7.2f} | {here[0] * 1e3:20.0f} {there[0] * 1e3:8.0f} | {here[1] * 1e3:14.0f} "
            f"{there[1] * 1e3:8.0f} | first {there[0] / here[0]:.1f}, total {there[1] / here[1]:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
