"""Engines as an operator brings them: named by their class, and ways to get that wrong."""

from typing import Any

from services.tts.engines.base import Capabilities, Engine, OptionsError, Output, SpeakRequest

__all__ = ["Engine", "ToneEngine"]


class ToneEngine(Engine):
    """A square wave for each letter; it takes one option, the period of an "a" in samples."""

    def __init__(self, language: str, options: dict[str, Any]) -> None:
        if unknown := options.keys() - {"period"}:
            raise OptionsError(f"option {min(unknown)}: there is only period")
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
        if not any(character.isalnum() for character in request.text):
            return
        for character in request.text:
            half = self._period // 2 + ord(character) % 32
            wave = b"\x00\x20" * half + b"\x00\xe0" * half
            if not output.write(wave * round(8 / request.speed)):
                return


def not_an_engine() -> None:
    """A function, where a class is asked for."""
