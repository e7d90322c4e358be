"""`python -m services.llm`: the LLM service in its own process."""

import json
import os
import sys

from services.llm.core.call import Defaults, LlmCore
from services.llm.core.candidates import ListedProvider, ProviderSpec
from services.llm.core.openai_provider import OpenAiProvider
from services.llm.core.rehearsal import MODEL, RehearsalProvider
from services.llm.core.rehearsal_text import TEXT_VERSION
from services.llm.core.retries import RetryPolicy
from services.llm.core.validation import Limits
from services.llm.declarations import ProviderDeclaration
from services.llm.hosted import HostedLlm
from services.llm.metrics import LlmMetrics
from services.llm.servicer import FULL_NAME, LlmServicer
from services.llm.settings import LlmSettings
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.server import Runtime, run


def providers_of(settings: LlmSettings, clock: Clock) -> list[ListedProvider]:
    """Make the providers that the settings name, in order."""
    if settings.answers_with == "rehearsal":
        rehearsal = RehearsalProvider(
            ttft_ms=settings.rehearsal_ttft_ms,
            tokens_per_s=settings.rehearsal_tokens_per_s,
            clock=clock,
        )
        # It is as slow as it was told to be.
        patient = settings.llm_total_timeout_s
        spec = ProviderSpec(
            rehearsal.name,
            first_token_timeout_s=patient,
            idle_timeout_s=patient,
            total_timeout_s=patient,
            continues_by="assistant",
        )
        return [ListedProvider(rehearsal, spec, clock)]
    return [
        ListedProvider(
            _openai_provider(declaration, settings), declaration.spec(settings.llm_retry_percent), clock
        )
        for declaration in settings.declared_providers
    ]


def _openai_provider(declaration: ProviderDeclaration, settings: LlmSettings) -> OpenAiProvider:
    return OpenAiProvider(
        name=declaration.name,
        model=declaration.model,
        api_key=settings.key_of(declaration),
        key_variable=declaration.key_variable,
        base_url=declaration.base_url,
        connect_timeout_s=declaration.connect_timeout_s,
        total_timeout_s=declaration.total_timeout_s,
        max_connections=declaration.max_connections,
        max_keepalive_connections=declaration.max_keepalive_connections,
        keep_warm_s=settings.llm_keep_warm_s,
        http2=declaration.http2,
        headers=declaration.header_values(os.environ),
        continues_by=declaration.continues_by,
    )


def build(settings: LlmSettings, runtime: Runtime) -> HostedLlm:
    """Make the service."""
    providers = providers_of(settings, runtime.clock)
    core = LlmCore(
        providers,
        Defaults(
            max_tokens=settings.llm_max_tokens,
            temperature=settings.llm_temperature,
            top_p=settings.llm_top_p,
        ),
        limits=Limits(message_chars=settings.llm_max_message_chars, image_bytes=settings.llm_max_image_bytes),
        policy=RetryPolicy(
            patience_s=settings.llm_retry_wait_s,
            continues=settings.llm_continue,
            hedge_percent=settings.llm_hedge_percent,
        ),
        total_timeout_s=settings.llm_total_timeout_s,
        clock=runtime.clock,
        reply_source=_reply_source(settings),
        context_tokens=settings.llm_context_tokens,
    )
    metrics = LlmMetrics(runtime.metrics, runtime.clock, core.figures, providers)
    servicer = LlmServicer(core, runtime.sessions, runtime.telemetry, metrics)
    return HostedLlm(servicer, providers, core.figures, runtime, keep_warm_s=settings.llm_keep_warm_s)


def _reply_source(settings: LlmSettings) -> str:
    """Return what decides about replies but the first provider's name and model."""
    if settings.answers_with == "rehearsal":
        return f"{MODEL} {TEXT_VERSION}"
    declared = settings.declared_providers
    return json.dumps([(each.name, each.base_url, each.model, each.reasoning) for each in declared])


if __name__ == "__main__":
    sys.exit(
        run(
            "llm",
            FULL_NAME,
            LlmSettings,
            lambda settings: settings.llm_listen,
            build,
            lambda settings: settings.llm_metrics_listen,
        )
    )
