"""What the text of a turn consumed: as providers counted it, else estimated from what was asked and said."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.core.budget import Answerer
from gateway.core.tokens import prompt_tokens, text_tokens
from gateway.core.values import Message, Usage


@dataclass(slots=True)
class Spent:
    """What a turn consumed so far.

    usage: Of the reply, as its provider counted it.
    also: What else was asked for it and is billed.
    cached: What a reply from the cache consumed when it was made.
    resumed_at: How many characters of the reply had come when it last went on behind a break; 0: it did not.
    """

    usage: Usage | None = None
    also: tuple[Usage, ...] = ()
    cached: Usage | None = None
    resumed_at: int = 0

    def told(self, answerer: Answerer, asked: Sequence[Message], said: str, *, billed: bool) -> Usage | None:
        """Return what the reply consumed: estimated where it is `billed` and its provider did not say."""
        if self.usage is not None:
            if self.usage.input_tokens or self.usage.output_tokens or not billed:
                return self.usage
            provider = self.usage.provider or answerer.provider
            model = self.usage.model or answerer.model
            return replace(_estimate(answerer, asked, said), provider=provider, model=model)
        return _estimate(answerer, asked, said) if billed else None

    def also_told(self, answerer: Answerer, said: str) -> tuple[Usage, ...]:
        """Return what else was billed, with the text of attempts that broke off where no provider counted it.

        A provider counts at the end of a stream, which one that breaks does not reach; the one that went on
        counted its own part alone. Where that did not count either, `told` has estimated all of the text.
        """
        counted = self.usage is not None and (self.usage.input_tokens or self.usage.output_tokens)
        if not self.resumed_at or not counted:
            return self.also
        also = list(self.also)
        for number in reversed(range(len(also))):
            if also[number].estimated:
                tokens = round(text_tokens(said[: self.resumed_at]) * answerer.factor)
                also[number] = replace(also[number], output_tokens=also[number].output_tokens + tokens)
                break
        return tuple(also)


def _estimate(answerer: Answerer, asked: Sequence[Message], said: str) -> Usage:
    return Usage(
        input_tokens=round(prompt_tokens(asked, answerer.tiles) * answerer.factor),
        output_tokens=round(text_tokens(said) * answerer.factor),
        provider=answerer.provider,
        model=answerer.model,
        estimated=True,
    )
