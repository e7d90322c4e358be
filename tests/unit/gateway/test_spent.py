"""What a turn is said to have consumed where providers did not count."""

from gateway.core.budget import Answerer
from gateway.core.spent import Spent
from gateway.core.tokens import prompt_tokens, text_tokens
from gateway.core.values import Message, Usage

ANSWERER = Answerer("openai", "m", 2.0)
ASKED = (Message("user", ("Why is the sky blue?",)),)
SAID = "Because short waves of light are scattered more."
COUNTED = Usage(50, 7, provider="openai", model="m")
BROKEN = Usage(20, 0, provider="openai", model="m", estimated=True)


def _tokens(text: str) -> int:
    return round(text_tokens(text) * ANSWERER.factor)


def test_what_a_provider_counted_is_what_is_told() -> None:
    assert Spent(usage=COUNTED).told(ANSWERER, ASKED, SAID, billed=True) == COUNTED
    assert Spent().told(ANSWERER, ASKED, SAID, billed=False) is None


def test_what_nobody_counted_is_estimated_with_who_answered() -> None:
    silent = Usage(0, 0, provider="local", model="llama", estimated=True)
    told = Spent(usage=silent).told(ANSWERER, ASKED, SAID, billed=True)
    prompt = round(prompt_tokens(ASKED, ANSWERER.tiles) * ANSWERER.factor)
    assert told == Usage(prompt, _tokens(SAID), provider="local", model="llama", estimated=True)


def test_the_text_of_an_attempt_that_broke_off_is_billed_once() -> None:
    loser = Usage(20, 0, provider="second", estimated=True)
    counted = Usage(20, 5, provider="openai")
    spent = Spent(usage=COUNTED, also=(loser, BROKEN, counted), resumed_at=19)
    assert [usage.output_tokens for usage in spent.also_told(ANSWERER, SAID)] == [0, _tokens(SAID[:19]), 5]
    # Where the last one did not count either, the estimate of the whole reply has it.
    silent = Spent(usage=Usage(0, 0, estimated=True), also=(BROKEN,), resumed_at=19)
    assert silent.also_told(ANSWERER, SAID) == (BROKEN,)
    # Those that broke off before a text, or lost against a faster one, said nothing.
    assert Spent(usage=COUNTED, also=(BROKEN,)).also_told(ANSWERER, SAID) == (BROKEN,)
    # All counted: nothing is added.
    assert Spent(usage=COUNTED, also=(counted,), resumed_at=19).also_told(ANSWERER, SAID) == (counted,)
