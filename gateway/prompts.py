"""Named system prompts: the same instructions at different lengths, to be chosen by setting, caller or flag.

A file, or a variable, of JSON: {"compact": "Answer in one spoken sentence.", "tutor": "You are …"}. What
every turn begins with is paid with every turn, and read by the model before its first token.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.core.budget import Answerer, Budget
from gateway.core.tokens import text_tokens

FULL: Final = "full"
COMPACT: Final = "compact"
AUTO: Final = "auto"
FULL_TEXT: Final = (
    "You are a voice assistant. Your reply is spoken aloud: answer in plain sentences, without lists, "
    "markup or emoji, and begin with a short clause."
)
COMPACT_TEXT: Final = "Voice assistant: short, plain spoken sentences. No lists or markup."
MAX_CHARS: Final = 32_768
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MOST: Final = 100
_COMPACT_ABOVE: Final = 0.25
"""Share of a prompt's budget from which on a system prompt is too long to be the usual choice."""


def checked(texts: Mapping[str, str]) -> dict[str, str]:
    """Return named prompts.

    Raises:
        ValueError: A name or a text cannot be, or there are too many.

    """
    if len(texts) > _MOST:
        raise ValueError(f"has {len(texts)} prompts; at most {_MOST} are taken")
    for name, text in texts.items():
        if not _NAME.fullmatch(name) or name == AUTO:
            raise ValueError(
                f"{name[:80]!r} is no name of a prompt: 1 to 64 of a to z, 0 to 9, '.', '_' and '-', "
                f"beginning with a letter or digit, and not {AUTO!r}"
            )
        if not text.strip():
            raise ValueError(f"the prompt {name!r} is empty")
        if len(text) > MAX_CHARS:
            raise ValueError(f"the prompt {name!r} has {len(text)} characters; at most {MAX_CHARS} are taken")
    return dict(texts)


def read(path: str) -> dict[str, str]:
    """Return the prompts of a file; none for "".

    Raises:
        ValueError: It cannot be read, or is not what it should be.

    """
    if not path:
        return {}
    try:
        texts = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # of JSON or of UTF-8
        raise ValueError(f"{path} is not JSON in UTF-8: {error}") from None
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(f"{path} must hold one object of names and texts")
    try:
        return checked(texts)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def budget_of(
    *, tokens: int, context_tokens: int, reply_tokens: int, messages: int, chars: int, answerer: Answerer
) -> Budget:
    """Return what a prompt may have: `tokens`, or what the model's context leaves beside the reply.

    Estimates are compared with it before they are multiplied, so it is divided instead.
    """
    if context_tokens:
        tokens = max(min(tokens, context_tokens - reply_tokens), 1)
    return Budget(tokens / answerer.factor, messages, chars, answerer.tiles)


def choose(texts: Mapping[str, str], variant: str, budget: Budget) -> str:
    """Return the name of the prompt that is meant by `variant`.

    `auto` is the full one, unless that takes more than a quarter of what the whole prompt may have.
    """
    if variant != AUTO:
        return variant
    return COMPACT if text_tokens(texts[FULL]) > _COMPACT_ABOVE * budget.tokens else FULL
