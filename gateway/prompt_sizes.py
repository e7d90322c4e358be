"""`python -m gateway.prompt_sizes`: the named system prompts and about how long they are, as JSON.

For `voicemesh doctor`, which knows no server: it asks in a process of its own.
"""

import json
import sys

from gateway.core.budget import Answerer
from gateway.core.tokens import text_tokens
from gateway.prompts import budget_of, choose
from gateway.settings import GatewaySettings
from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.settings import load


def sizes_of(settings: GatewaySettings) -> dict[str, object]:
    """Return the prompts' tokens by name, what a whole prompt may have, and which is the usual one.

    As estimated before any provider reported, and without a limit of the LLM service's own.
    """
    budget = budget_of(
        tokens=settings.gateway_prompt_tokens,
        context_tokens=0,
        reply_tokens=0,
        messages=settings.gateway_history_messages,
        chars=settings.gateway_history_chars,
        answerer=Answerer(),
    )
    texts = settings.system_prompts
    return {
        "tokens": {name: round(text_tokens(text)) for name, text in texts.items()},
        "budget": settings.gateway_prompt_tokens,
        "usual": choose(texts, settings.gateway_prompt_variant, budget),
    }


def main() -> int:
    """Print them; return 1 where a setting is wrong, which is said on the standard error."""
    try:
        settings = load(GatewaySettings)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(sizes_of(settings)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
