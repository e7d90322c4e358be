"""What turns consumed and cost since the process began, by tenant and variant.

One record a turn goes in, and sums come out: what `GetUsage` answers with. An exporter of metrics would read
the same records. Bounded: a gateway that meets more tenants and variants than `MOST` adds the newest up.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from gateway.core.report import TurnReport
from gateway.core.values import TurnSpec, Usage
from gateway.prices import Cost, Prices, cached_characters

MOST: Final = 2000
OTHER: Final = "*other"
"""The tenant that the rest is added up under: no tenant can be named so."""
_NAMES: Final = 16
"""Most names without a price that are kept for a row."""
_VOICES: Final = 1000
_MEMORY_CHARS: Final = 20_000
"""Characters that the engine time of a voice is the mean of, about."""


@dataclass(slots=True)
class Totals:
    """Sums over turns; see `UsageTotals` of the contract."""

    turns: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    characters: int = 0
    engine_us: int = 0
    cached_replies: int = 0
    cached_characters: int = 0
    llm_usd: float = 0.0
    speech_usd: float = 0.0
    saved_usd: float = 0.0
    prompt_cache_saved_usd: float = 0.0
    unpriced_turns: int = 0
    estimated: bool = False
    unpriced: dict[str, None] = field(default_factory=dict)

    def take_tokens(self, usage: Usage) -> None:
        """Add what one question to a provider consumed."""
        self.input_tokens += usage.input_tokens
        self.cached_input_tokens += usage.cached_input_tokens
        self.output_tokens += usage.output_tokens

    def take_cost(self, cost: Cost) -> None:
        """Add what something cost."""
        self.llm_usd += cost.llm_usd
        self.speech_usd += cost.speech_usd
        self.saved_usd += cost.saved_usd
        self.prompt_cache_saved_usd += cost.prompt_cache_saved_usd
        self.estimated |= cost.estimated
        for name in cost.unpriced:
            if len(self.unpriced) < _NAMES:
                self.unpriced[name] = None


class UsageMeter:
    """Adds up; not for several threads."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._totals: dict[tuple[str, str], Totals] = {}
        self._engine_us: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, report: TurnReport, voice: str, engine: str) -> Cost:
        """Take a turn that ended; return what it cost."""
        characters, busy_us = self._engine_us.get(voice, (0.0, 0.0))
        cost = self._prices.cost_of(report, voice, engine, busy_us / characters if characters else 0.0)
        totals = self._of(report.tenant, variant_of(report))
        totals.turns += 1
        for usage in (report.usage, *report.also_billed):
            if usage is not None:
                totals.take_tokens(usage)
        totals.characters += report.characters
        totals.engine_us += report.engine_us
        totals.cached_replies += report.reply_cache in ("memory", "redis", "similar")
        totals.cached_characters += cached_characters(report)
        totals.unpriced_turns += bool(cost.unpriced)
        totals.take_cost(cost)
        if report.outcome == "completed" and report.engine_us:
            self._learn(voice, report.characters, report.engine_us)
        return cost

    def take_late(self, tenant: str, variant: str, voice: str, engine: str, engine_us: int) -> float:
        """Take engine time of a turn that was told only behind its end, as that of a chunk it cancelled.

        Return what it cost, in US dollars; 0 without a price.
        """
        totals = self._of(tenant, variant)
        totals.engine_us += engine_us
        price = self._prices.speech(voice, engine)
        usd = engine_us * price.engine_second / 1e6 if price is not None else 0.0
        totals.speech_usd += usd
        return usd

    def take_tokens(self, tenant: str, variant: str, usage: Usage) -> None:
        """Take what was consumed for a tenant beside its turns, such as by a summary."""
        totals = self._of(tenant, variant)
        totals.take_tokens(usage)
        totals.take_cost(self._prices.of_tokens((usage,)))

    def rows(self, tenant: str | None) -> list[tuple[str, str, Totals]]:
        """Return tenant, variant and sums, by name; those of one tenant, or of all for None."""
        return [(*name, totals) for name, totals in sorted(self._totals.items()) if tenant in (None, name[0])]

    def _of(self, tenant: str, variant: str) -> Totals:
        name = tenant, variant
        if name not in self._totals and len(self._totals) >= MOST:
            name = OTHER, ""
        return self._totals.setdefault(name, Totals())

    def _learn(self, voice: str, characters: int, busy_us: int) -> None:
        known, known_us = self._engine_us.pop(voice, (0.0, 0.0))
        forget = min(1.0, _MEMORY_CHARS / known) if known else 1.0
        self._engine_us[voice] = known * forget + characters, known_us * forget + busy_us
        if len(self._engine_us) > _VOICES:
            self._engine_us.popitem(last=False)


def variant_of(turn: TurnReport | TurnSpec) -> str:
    """Return what a turn was made with, as one name."""
    varied = dict(turn.variants)
    if turn.prompt_variant:
        varied["prompt"] = turn.prompt_variant
    return ",".join(f"{name}={value}" for name, value in sorted(varied.items()))
