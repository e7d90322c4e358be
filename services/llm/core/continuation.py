"""What a provider is asked where a reply broke off behind its first text."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from services.llm.core.candidates import Candidate
from services.llm.core.model import Message, ProviderRequest, Role, TextPart
from services.llm.core.retries import RetryPolicy
from services.llm.core.seam import Seam
from voicemesh.runtime.errors import LlmStreamBrokenError

INSTRUCTION: Final = (
    "Your reply was cut off at that point. Go on with exactly the words that come next, in the same language "
    "and manner. Do not repeat anything, do not begin again, and do not mention the interruption."
)
_CHARS_PER_TOKEN: Final = 4
_LEAST_TOKENS: Final = 16


def continuing(candidates: Sequence[Candidate], policy: RetryPolicy) -> tuple[Candidate, ...]:
    """Return those of `candidates` that may be asked to go on with a reply that another process began.

    Raises:
        LlmStreamBrokenError: None may.

    """
    able = tuple(each for each in candidates if each.listed.spec.continues_by != "never")
    if not policy.continues or not able:
        raise LlmStreamBrokenError(
            "the reply broke off in the middle, and none of the providers may be asked to go on with it "
            "(VOICEMESH_LLM_CONTINUE, VOICEMESH_LLM_CONTINUES_BY)"
        )
    return able


def seam_for(candidate: Candidate, said: str) -> Seam:
    """Return where the continuation of `said` by this candidate joins it."""
    return Seam(said, exact=candidate.listed.spec.continues_by != "ask")


def request_for(
    candidate: Candidate, asked: ProviderRequest, said: str = "", seam: Seam | None = None
) -> ProviderRequest:
    """Return the question to a candidate: `asked`, or where text was said, to go on behind it.

    OpenAI's own API takes a last message of the assistant for a complete one, so the general way is the
    text as such a message and an instruction behind it. Servers that go on behind a message of the
    assistant are asked to (`continues_by`), without an instruction.
    """
    request = replace(asked, model=candidate.model)
    if seam is None:
        return request
    left = max(_LEAST_TOKENS, asked.max_tokens - len(said) // _CHARS_PER_TOKEN)
    request = replace(request, max_tokens=left)
    if not seam.prefix:
        return request  # nothing but half a word was said
    messages = (*request.messages, Message(Role.ASSISTANT, (TextPart(seam.prefix),)))
    if seam.exact:
        return replace(request, messages=messages, continues=True)
    return replace(request, messages=(*messages, Message(Role.USER, (TextPart(INSTRUCTION),))))
