"""What the estimate of a prompt's tokens is multiplied by, learned from what providers report.

A vocabulary that differs from the one that the estimate was made for costs a factor that is much the same
from prompt to prompt. It is learned for each provider and model, in this process alone, and begins as 1:

    reported / estimated ─> at most 1.5 times the present factor, at least 2/3 of it: an odd one moves little
                         ─> a share of the way there: 1/n of the first reports, later 1/16
                         ─> 1/4 to 4
"""

from collections import OrderedDict
from typing import Final

LEAST: Final = 0.25
MOST: Final = 4.0
"""The factor's bounds: what is further off is no vocabulary, but another way of counting."""
_STEP: Final = 1.5
"""The most that one report is taken to differ by."""
_MEMORY: Final = 16
"""Reports that the factor is about the mean of."""
_LEAST_TOKENS: Final = 20
"""Shorter prompts say more about what stands around messages than about the vocabulary."""
_MODELS: Final = 64


class Calibration:
    """Factors by provider and model: bounded in number, those that were not used for longest go first."""

    def __init__(self) -> None:
        self._learned: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def factor(self, provider: str, model: str) -> float:
        """Return what an estimate for that model is to be multiplied by; 1 where nothing is known."""
        learned = self._learned.get((provider, model))
        if learned is None:
            return 1.0
        self._learned.move_to_end((provider, model))
        return learned[0]

    def learn(self, provider: str, model: str, estimated: float, reported: int) -> None:
        """Take what a provider said that a prompt had, which was estimated to have `estimated` tokens.

        Reports without a prompt, and those of very short prompts, say nothing and are left out.
        """
        if reported < _LEAST_TOKENS or estimated < _LEAST_TOKENS:
            return
        factor, reports = self._learned.get((provider, model), (1.0, 0))
        heard = min(max(reported / estimated, factor / _STEP), factor * _STEP)
        share = 1 / min(reports + 1, _MEMORY)
        factor = min(max(factor + share * (heard - factor), LEAST), MOST)
        self._learned[provider, model] = factor, min(reports + 1, _MEMORY)
        self._learned.move_to_end((provider, model))
        if len(self._learned) > _MODELS:
            self._learned.popitem(last=False)
