"""What things cost: prices by provider and model, and by voice.

A table's keys are patterns in which `*` stands for anything: "openai/gpt-4o-mini*", "*/llama3", "espeak/*".
The pattern with the most letters wins. What matches none has no price, which is said and never taken for 0.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from gateway.core.report import TurnReport
from gateway.core.values import Usage

_Usd = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
_P = TypeVar("_P", bound=BaseModel)
_KNOWN: Final = 4096
CACHED: Final = frozenset({"memory", "redis", "shared"})
"""Where a chunk's audio came from that this turn did not have made."""


class TextPrice(BaseModel):
    """Price of a model's tokens in US dollars for a million."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: _Usd
    output: _Usd
    cached_input: _Usd | None = None
    """Of input tokens that the provider had in its prompt cache; left out: as `input`."""


class SpeechPrice(BaseModel):
    """Price of a voice's speech in US dollars."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mchar: _Usd = 0.0
    """For a million characters given to the engine."""
    engine_second: _Usd = 0.0
    """For a second that the engine was busy, such as the price of its machine."""


def _dated(models: Mapping[str, TextPrice]) -> dict[str, TextPrice]:
    """Return prices of models of OpenAI, under their names and these with a date behind."""
    return {f"openai/{name}{tail}": price for name, price in models.items() for tail in ("", "-2*")}


TEXT_PRICES: Final = _dated(
    {
        "gpt-4o-mini": TextPrice(input=0.15, cached_input=0.075, output=0.60),
        "gpt-4o": TextPrice(input=2.50, cached_input=1.25, output=10.00),
        "gpt-4.1": TextPrice(input=2.00, cached_input=0.50, output=8.00),
        "gpt-4.1-mini": TextPrice(input=0.40, cached_input=0.10, output=1.60),
        "gpt-4.1-nano": TextPrice(input=0.10, cached_input=0.025, output=0.40),
        "gpt-5": TextPrice(input=1.25, cached_input=0.125, output=10.00),
        "gpt-5-mini": TextPrice(input=0.25, cached_input=0.025, output=2.00),
        "gpt-5-nano": TextPrice(input=0.05, cached_input=0.005, output=0.40),
    }
) | {"rehearsal/*": TextPrice(input=0, output=0)}
"""List prices without a contract; a table in the settings goes before them."""
SPEECH_PRICES: Final = {
    f"{engine}:*": SpeechPrice() for engine in ("espeak", "piper", "coqui", "simulated", "simulated-steps")
}
"""Engines that run on machines of one's own: nobody sends a bill for them."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a turn cost, in US dollars; see `Cost` of the contract."""

    llm_usd: float = 0.0
    speech_usd: float = 0.0
    saved_usd: float = 0.0
    prompt_cache_saved_usd: float = 0.0
    unpriced: tuple[str, ...] = ()
    estimated: bool = False

    @property
    def total_usd(self) -> float:
        """What was paid, as far as it has prices."""
        return self.llm_usd + self.speech_usd


class _Table(Generic[_P]):
    def __init__(self, *tables: Mapping[str, _P]) -> None:
        self._rows = [
            (re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL), price)
            for table in tables
            for pattern, price in sorted(
                table.items(), key=lambda row: len(row[0].replace("*", "")), reverse=True
            )
        ]
        self.find = lru_cache(_KNOWN)(self._find)

    def _find(self, *names: str) -> _P | None:
        """Return the price of the first row that one of the names matches."""
        for pattern, price in self._rows:
            if any(pattern.fullmatch(name) for name in names):
                return price
        return None


class Prices:
    """The tables of the settings, and behind them the known prices.

    Args:
        text: By "PROVIDER/MODEL".
        speech: By the voice's name, or by "ENGINE:VOICE".

    """

    def __init__(self, text: Mapping[str, TextPrice], speech: Mapping[str, SpeechPrice]) -> None:
        self._text = _Table(text, TEXT_PRICES)
        self._speech = _Table(speech, SPEECH_PRICES)

    def text(self, provider: str, model: str) -> TextPrice | None:
        """Return the price of a model's tokens."""
        return self._text.find(f"{provider}/{model}")

    def speech(self, voice: str, engine: str) -> SpeechPrice | None:
        """Return the price of a voice's speech."""
        return self._speech.find(voice, f"{engine}:{voice}")

    def cost_of(self, report: TurnReport, voice: str, engine: str, engine_us_per_char: float) -> Cost:
        """Return what a turn cost; audio that was not made would have taken `engine_us_per_char`."""
        unpriced: dict[str, None] = {}
        llm = saved = prompt_cache_saved = 0.0
        billed = [usage for usage in (report.usage, *report.also_billed) if usage is not None]
        for usage in billed:
            price = self.text(usage.provider, usage.model)
            if price is None:
                unpriced[f"llm {usage.provider}/{usage.model}"] = None
                continue
            llm += _of_tokens(usage, price)
            cached = price.input if price.cached_input is None else price.cached_input
            prompt_cache_saved += _cached(usage) * (price.input - cached) / 1e6
        if report.cached_usage is not None and report.cached_usage.provider:
            price = self.text(report.cached_usage.provider, report.cached_usage.model)
            saved += _of_tokens(report.cached_usage, price) if price is not None else 0.0
        spoken = self.speech(voice, engine)
        speech = 0.0
        if spoken is not None:
            speech = _of_speech(spoken, report.characters, report.engine_us)
            characters = cached_characters(report)
            saved += _of_speech(spoken, characters, characters * engine_us_per_char)
        elif report.characters:
            unpriced[f"speech {voice}"] = None
        return Cost(
            llm, speech, saved, prompt_cache_saved, tuple(unpriced), any(usage.estimated for usage in billed)
        )

    def of_tokens(self, usages: Iterable[Usage]) -> Cost:
        """Return what tokens cost that belong to no turn, such as those of a summary."""
        llm, estimated = 0.0, False
        unpriced: dict[str, None] = {}
        for usage in usages:
            estimated |= usage.estimated
            price = self.text(usage.provider, usage.model)
            if price is None:
                unpriced[f"llm {usage.provider}/{usage.model}"] = None
            else:
                llm += _of_tokens(usage, price)
        return Cost(llm_usd=llm, unpriced=tuple(unpriced), estimated=estimated)


def cached_characters(report: TurnReport) -> int:
    """Return the characters whose audio the turn did not have to have made."""
    # Of a chunk that was taken over from somebody else, an engine of this turn's made the rest.
    found = (chunk for chunk in report.chunks if chunk.cache in CACHED and not chunk.engine_us)
    return sum(len(chunk.text) for chunk in found)


def _cached(usage: Usage) -> int:
    return min(usage.cached_input_tokens, usage.input_tokens)


def _of_tokens(usage: Usage, price: TextPrice) -> float:
    cached = _cached(usage)
    cached_price = price.input if price.cached_input is None else price.cached_input
    fresh = usage.input_tokens - cached
    return (fresh * price.input + cached * cached_price + usage.output_tokens * price.output) / 1e6


def _of_speech(price: SpeechPrice, characters: float, engine_us: float) -> float:
    return (characters * price.mchar + engine_us * price.engine_second) / 1e6
