"""Drawing one token from a model's most likely ones, with a generator of the request's own.

Nothing of torch's global generator is used: requests that take turns in one process draw what each would
draw alone. The arithmetic is Python's, so that a draw does not depend on the device or on torch's version.

Workers import this module: standard library only.
"""

import math
import random
from collections.abc import Sequence
from typing import NamedTuple


class Sampling(NamedTuple):
    """How tokens are drawn, as the library's `inference_stream` names it."""

    temperature: float = 0.75
    """0 takes the most likely token always."""
    top_k: int = 50
    """Only so many tokens can be drawn."""
    top_p: float = 0.85
    """Of these only the most likely that together have this share."""
    repetition_penalty: float = 10.0
    """The scores of tokens that were drawn before are divided by it (times it, where negative)."""


class Sampler:
    """Draws the tokens of one request, in order.

    Args:
        sampling: How.
        seed: The same seed and scores give the same tokens.

    """

    def __init__(self, sampling: Sampling, seed: int) -> None:
        self._sampling = sampling
        self._random = random.Random(seed)  # noqa: S311 - speech, no secret

    def draw(self, scores: Sequence[float], tokens: Sequence[int]) -> int:
        """Return one of `tokens`, whose `scores` (penalties applied) are given from the best downwards."""
        if self._sampling.temperature == 0 or len(tokens) == 1:
            return tokens[0]
        shares = kept_shares(scores, self._sampling)
        point = self._random.random() * math.fsum(shares)
        for share, token in zip(shares, tokens, strict=False):
            point -= share
            if point < 0:
                return token
        return tokens[len(shares) - 1]


def kept_shares(scores: Sequence[float], sampling: Sampling) -> list[float]:
    """Return the probabilities, before nucleus sampling's cut, of those tokens that it keeps.

    A token is kept while those that are likelier have less than `top_p` together, as
    `TopPLogitsWarper` of transformers has it: at least one is.
    """
    best = scores[0]
    weights = [math.exp((score - best) / sampling.temperature) for score in scores]
    total = math.fsum(weights)
    kept: list[float] = []
    before = 0.0
    for weight in weights:
        if kept and before >= sampling.top_p:
            break
        kept.append(weight / total)
        before += weight / total
    return kept
