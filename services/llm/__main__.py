"""`python -m services.llm`: the LLM service in its own process."""

import sys

from services.llm.core.call import Defaults, LlmCore
from services.llm.core.generation import RetryPolicy
from services.llm.core.model import Provider
from services.llm.core.openai_provider import OpenAiProvider
from services.llm.core.rehearsal import RehearsalProvider
from services.llm.core.rehearsal_text import TEXT_VERSION
from services.llm.core.validation import Limits
from services.llm.hosted import HostedLlm
from services.llm.servicer import FULL_NAME, LlmServicer
from services.llm.settings import LlmSettings
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.server import Runtime, run


def provider_of(settings: LlmSettings, clock: Clock) -> Provider:
    """Make the provider that the settings name."""
    if settings.answers_with == "rehearsal":
        return RehearsalProvider(
            ttft_ms=settings.rehearsal_ttft_ms,
            tokens_per_s=settings.rehearsal_tokens_per_s,
            clock=clock,
        )
    return OpenAiProvider(
        model=settings.llm_model,
        api_key=settings.openai_api_key.get_secret_value() if settings.openai_api_key else "",
        base_url=settings.openai_base_url,
        connect_timeout_s=settings.llm_connect_timeout_s,
        total_timeout_s=settings.llm_total_timeout_s,
        max_connections=settings.llm_max_connections,
        max_keepalive_connections=settings.llm_max_keepalive_connections,
    )


def build(settings: LlmSettings, runtime: Runtime) -> HostedLlm:
    """Make the service."""
    provider = provider_of(settings, runtime.clock)
    rehearses = settings.answers_with == "rehearsal"
    core = LlmCore(
        provider,
        Defaults(
            max_tokens=settings.llm_max_tokens,
            temperature=settings.llm_temperature,
            top_p=settings.llm_top_p,
        ),
        limits=Limits(message_chars=settings.llm_max_message_chars, image_bytes=settings.llm_max_image_bytes),
        retries=RetryPolicy(settings.llm_max_retries),
        total_timeout_s=settings.llm_total_timeout_s,
        clock=runtime.clock,
        reply_source=TEXT_VERSION if rehearses else settings.openai_base_url,
    )
    return HostedLlm(LlmServicer(core, runtime.sessions, runtime.telemetry), provider, runtime)


if __name__ == "__main__":
    sys.exit(run("llm", FULL_NAME, LlmSettings, lambda settings: settings.llm_listen, build))
