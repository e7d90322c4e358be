"""Sums of usage as the contract has them."""

from gateway.usage import Totals
from voicemesh.gateway.v1 import gateway_pb2 as pb


def totals_to(tenant: str, variant: str, totals: Totals) -> pb.UsageTotals:
    """Turn what a tenant consumed with one variant into the contract's."""
    return pb.UsageTotals(
        tenant=tenant,
        variant=variant,
        turns=totals.turns,
        input_tokens=totals.input_tokens,
        cached_input_tokens=totals.cached_input_tokens,
        output_tokens=totals.output_tokens,
        characters=totals.characters,
        engine_us=totals.engine_us,
        cached_replies=totals.cached_replies,
        cached_characters=totals.cached_characters,
        cost=pb.Cost(
            llm_usd=totals.llm_usd,
            speech_usd=totals.speech_usd,
            saved_usd=totals.saved_usd,
            prompt_cache_saved_usd=totals.prompt_cache_saved_usd,
            unpriced=totals.unpriced,
            estimated=totals.estimated,
        ),
        unpriced_turns=totals.unpriced_turns,
    )
