"""Engines driven by hand, and what comes out of them."""

import warnings
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from services.tts.engines import coqui
from services.tts.engines.base import SpeakRequest, SteppedEngine, Utterance, Word

SENTENCE = (
    "The quick brown fox jumps over the lazy dog, while some little birds sing softly above the river today."
)


def load(folder: Path, language: str = "en-us", **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine = coqui.load(language, {"model": str(folder), "device": "cpu", "threads": 1, **options})
    assert isinstance(engine, SteppedEngine)
    return engine


def begin(engine: SteppedEngine, text: str, variant: str | None = None, **values: Any) -> Any:
    variant = engine.capabilities.default_variant if variant is None else variant
    return engine.open(SpeakRequest(text, variant, **values))


def together(
    engine: SteppedEngine, utterances: list[Utterance], most: int = 64
) -> list[tuple[Any, list[Word]]]:
    """Run all to their ends, as many at once as share a step; return (samples, words) of each."""
    pcm: list[list[bytes]] = [[] for _ in utterances]
    words: list[list[Word]] = [[] for _ in utterances]
    while open_ones := [one for one in utterances if one.step is not None]:
        step = open_ones[-1].step  # the last comes first: the order of the batch is no order of the requests
        batch = [one for one in reversed(open_ones) if one.step == step][:most]
        engine.run(batch)
        for number, one in enumerate(utterances):
            made, timed = one.take()
            pcm[number].append(made)
            words[number] += timed
    return [(samples(b"".join(made)), timed) for made, timed in zip(pcm, words, strict=True)]


def speak(engine: SteppedEngine, text: str, **values: Any) -> tuple[Any, list[Word]]:
    return together(engine, [begin(engine, text, **values)])[0]


def samples(pcm: bytes) -> Any:
    return np.array(array("h", pcm), dtype=np.int16)
