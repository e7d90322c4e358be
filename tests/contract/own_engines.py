"""Engines as an operator brings them: named by their class, and ways to get that wrong."""

from typing import Any

from services.tts.engines.base import Capabilities, Engine, Output, SpeakRequest

__all__ = ["Engine", "ToneEngine"]


class ToneEngine(Engine):
    """A square wave for each text; it takes one option, its period in samples."""

    def __init__(self, language: str, options: dict[str, Any]) -> None:
        self._period = options.get("period", 64)
        self.capabilities = Capabilities(
            sample_rate_hz=8000,
            slots=2,
            word_timings=False,
            deterministic=True,
            revision=f"tone-{self._period}",
            language=language,
        )

    def synthesize(self, request: SpeakRequest, output: Output) -> None:
        half = self._period // 2
        wave = b"\x00\x20" * half + b"\x00\xe0" * half
        for _ in range(len(request.text)):
            if not output.write(wave * 8):
                return


def not_an_engine() -> None:
    """A function, where a class is asked for."""
