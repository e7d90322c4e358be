"""VITS by the mesh's own path beside the library's, on a model of full size with random weights.

    .venv/bin/python -m benchmarks.tts_vits                 # 36 million parameters, the CPU, all cores
    .venv/bin/python -m benchmarks.tts_vits --device cuda

Speaks a sentence of 20 words by turns, `TTS.tts()` and then ours, so that both meet the same machine; prints
medians of each and the medians of the ratios within a turn. Needs the extra `coqui`; weights make no
difference to the time. What is measured:

    first audio     from the text to the first samples that could be played; of `TTS.tts()` all of it
    total           from the text to the last sample
    whole chunk     ours, with one window for the whole sentence: what windows save
"""

import argparse
import json
import logging
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

SENTENCE: Final = (
    "The quick brown fox jumps over the lazy dog while seventeen little birds "
    "sing softly above the quiet river today."
)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="", help="a folder; else one with random weights is made")
    parser.add_argument("--size", default="ljspeech", help="of the model that is made: ljspeech or tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print every number, for a program")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(chosen, Path(chosen.model or folder))
    if chosen.json:
        print(json.dumps(measured))
    else:
        show(chosen, measured)


def measure(chosen: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return every number: name → seconds of each round."""
    from benchmarks.random_models import make_vits  # noqa: PLC0415 - heavy
    from services.tts.engines import coqui  # noqa: PLC0415 - heavy

    if not chosen.model:
        make_vits(folder, size=chosen.size)
    options = {"model": str(folder), "device": chosen.device, "threads": chosen.threads}
    ours: Any = coqui.load("en-us", {**options, "precision": chosen.precision})
    frames = sum(stepped(ours)()) // ours.frame_samples
    whole: Any = coqui.load("en-us", {**options, "precision": chosen.precision, "first_frames": frames})
    theirs = original(folder, chosen.device)
    for step in ours.steps():
        ours.prepare(step, 1)
    times: dict[str, list[float]] = {}
    audio: dict[str, float] = {}
    for turn in range(chosen.rounds + 1):
        for name, run in {"TTS.tts()": theirs, "ours": stepped(ours), "ours, whole": stepped(whole)}.items():
            began = time.perf_counter()
            marks = [(time.perf_counter() - began, samples) for samples in run()]
            if turn:  # the first warms
                times.setdefault(f"{name}: first audio", []).append(marks[0][0])
                times.setdefault(f"{name}: total", []).append(marks[-1][0])
                audio[name] = sum(samples for _, samples in marks) / ours.capabilities.sample_rate_hz
    return {"seconds": times, "audio_seconds": audio, "sentence": SENTENCE, "words": len(SENTENCE.split())}


def stepped(engine: Any) -> Callable[[], Iterator[int]]:
    """Return a run of one of our engines: how many samples came, whenever some come."""
    from services.tts.engines.base import SpeakRequest  # noqa: PLC0415 - with the engine

    def run() -> Iterator[int]:
        utterance = engine.open(SpeakRequest(SENTENCE, engine.capabilities.default_variant, seed=1))
        while utterance.step is not None:
            engine.run([utterance])
            pcm, _ = utterance.take()
            if pcm:
                yield len(pcm) // 2

    return run


def original(folder: Path, device: str) -> Callable[[], Iterator[int]]:
    """Return a run of the library's own call."""
    from TTS.api import TTS  # noqa: PLC0415 - heavy

    tts = TTS(
        model_path=str(folder / "model.pth"), config_path=str(folder / "config.json"), progress_bar=False
    )
    tts.to(device)

    def run() -> Iterator[int]:
        yield len(tts.tts(SENTENCE))

    return run


def show(chosen: argparse.Namespace, measured: dict[str, Any]) -> None:
    """Print the table."""
    import torch  # noqa: PLC0415 - heavy

    times = measured["seconds"]
    where = torch.cuda.get_device_name() if chosen.device.startswith("cuda") else platform.machine()
    size = chosen.model or chosen.size
    print(f"{size}, {measured['words']} words, {chosen.rounds} rounds, {chosen.precision} on {chosen.device}")
    print(f"({where}, {chosen.threads} threads, torch {torch.__version__}); medians in ms\n")
    print(f"{'':14}{'first audio':>14}{'total':>10}{'audio':>10}{'RTF':>8}")
    for name, seconds in measured["audio_seconds"].items():
        first, total = (statistics.median(times[f"{name}: {what}"]) for what in ("first audio", "total"))
        print(f"{name:14}{first * 1e3:14.0f}{total * 1e3:10.0f}{seconds * 1e3:10.0f}{total / seconds:8.2f}")
    print()
    for label, above, below in (
        ("ours / TTS.tts(), first audio", "ours: first audio", "TTS.tts(): first audio"),
        ("ours / TTS.tts(), total", "ours: total", "TTS.tts(): total"),
        ("first audio / whole chunk, ours", "ours: first audio", "ours, whole: total"),
    ):
        ratios = sorted(a / b for a, b in zip(times[above], times[below], strict=True))
        print(f"{label:34}{statistics.median(ratios):7.3f}   ({ratios[0]:.3f} to {ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
