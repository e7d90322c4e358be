"""What turns cost, and what was consumed."""

from dataclasses import dataclass
from typing import Any

from voicemesh.gateway.v1 import gateway_pb2


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What was paid, in US dollars, by the price tables of the mesh.

    Attributes:
        llm_usd: Tokens of the model.
        speech_usd: Characters and seconds of engines.
        saved_usd: What it would have cost beside that without the mesh's cache.
        prompt_cache_saved_usd: What the provider's own prompt cache took off.
        unpriced: What has no price, as "llm PROVIDER/MODEL" or "speech VOICE": the sums are without it.
        estimated: True where tokens were estimated, because a provider did not say.

    """

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

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "llm_usd": self.llm_usd,
            "speech_usd": self.speech_usd,
            "saved_usd": self.saved_usd,
            "prompt_cache_saved_usd": self.prompt_cache_saved_usd,
            "unpriced": list(self.unpriced),
            "estimated": self.estimated,
        }


@dataclass(frozen=True, kw_only=True)
class UsageTotals:
    """What a tenant consumed with one variant since the gateway began.

    Attributes:
        tenant: The tenant; "" for the one without a name, "*other" for many together.
        variant: What the turns were made with, as "NAME=VALUE" joined by commas.
        turns: Turns that ended.
        input_tokens: Tokens of prompts.
        cached_input_tokens: Those of them that providers had in their prompt caches.
        output_tokens: Tokens of replies.
        characters: Characters given to engines.
        engine_s: Seconds that engines were busy.
        cached_replies: Replies from the mesh's cache.
        cached_characters: Characters whose audio came from the mesh's cache, or was made for somebody else.
        cost: What it cost.
        unpriced_turns: Turns that had something without a price.

    """

    tenant: str
    variant: str
    turns: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    characters: int
    engine_s: float
    cached_replies: int
    cached_characters: int
    cost: Cost
    unpriced_turns: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "tenant": self.tenant,
            "variant": self.variant,
            "turns": self.turns,
            "tokens": {
                "input": self.input_tokens,
                "output": self.output_tokens,
                "cached": self.cached_input_tokens,
            },
            "characters": self.characters,
            "engine_s": self.engine_s,
            "cached_replies": self.cached_replies,
            "cached_characters": self.cached_characters,
            "cost_usd": self.cost.total_usd,
            "cost": self.cost.to_json(),
            "unpriced_turns": self.unpriced_turns,
        }


def cost_from_proto(message: gateway_pb2.Cost) -> Cost:
    """Read what something cost."""
    return Cost(
        llm_usd=message.llm_usd,
        speech_usd=message.speech_usd,
        saved_usd=message.saved_usd,
        prompt_cache_saved_usd=message.prompt_cache_saved_usd,
        unpriced=tuple(message.unpriced),
        estimated=message.estimated,
    )


def totals_from_proto(message: gateway_pb2.UsageTotals) -> UsageTotals:
    """Read what a tenant consumed."""
    return UsageTotals(
        tenant=message.tenant,
        variant=message.variant,
        turns=message.turns,
        input_tokens=message.input_tokens,
        cached_input_tokens=message.cached_input_tokens,
        output_tokens=message.output_tokens,
        characters=message.characters,
        engine_s=message.engine_us / 1e6,
        cached_replies=message.cached_replies,
        cached_characters=message.cached_characters,
        cost=cost_from_proto(message.cost),
        unpriced_turns=message.unpriced_turns,
    )
