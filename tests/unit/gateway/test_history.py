import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.budget import Budget
from gateway.core.history import PICTURE_GONE, fitted, with_system
from gateway.core.tokens import prompt_tokens
from gateway.core.values import Image, Message

SYSTEM = Message("system", ("Be brief.",))
PICTURE = Image(data=b"png", media_type="image/png")


def said(text: str, *pictures: Image) -> Message:
    return Message("user", (text, *pictures))


def answered(text: str) -> Message:
    return Message("assistant", (text,))


def talk(turns: int, words: int = 20) -> list[Message]:
    """Turns that are told apart by their number."""
    pairs = [
        (said(f"{turn} " + "why " * words), answered(f"{turn} " + "so " * words)) for turn in range(turns)
    ]
    return list(itertools.chain(*pairs))


def test_a_history_within_its_budget_is_kept_as_it_is() -> None:
    history = talk(5)
    assert fitted(history, Budget(), (SYSTEM, said("And now?")), asking=True) == tuple(history)
    assert fitted(history, Budget()) == tuple(history)


def test_over_its_budget_whole_turns_go_down_to_70_percent() -> None:
    history, question = talk(20), said("And now?")
    whole = prompt_tokens((SYSTEM, *history, question), Budget().tiles)
    kept = fitted(history, Budget(tokens=whole - 1), (SYSTEM, question), asking=True)
    assert kept == tuple(history[-len(kept) :])
    assert kept[0].role == "user"
    assert 0.6 * whole < prompt_tokens((SYSTEM, *kept, question), Budget().tiles) <= 0.7 * whole


def test_messages_and_characters_are_limits_too() -> None:
    history = talk(10)
    assert fitted(history, Budget(messages=19)) == tuple(history[-12:])
    assert fitted(history, Budget(messages=0)) == ()
    chars = sum(len(message.text) for message in history)
    assert fitted(history, Budget(chars=chars - 1))[-1] == history[-1]
    assert sum(len(m.text) for m in fitted(history, Budget(chars=chars - 1))) <= 0.7 * chars


def test_the_last_message_stays_whatever_its_size() -> None:
    history = [*talk(1), said("x" * 400), answered("y" * 5000)]
    assert fitted(history, Budget(chars=1000)) == tuple(history[-1:])
    assert fitted(history, Budget(tokens=10)) == tuple(history[-1:])
    assert fitted([said("x"), answered("y")], Budget(messages=1)) == (answered("y"),)


def test_a_question_that_takes_the_whole_budget_is_asked_without_history() -> None:
    assert fitted(talk(3), Budget(tokens=100), (SYSTEM, said("why " * 500)), asking=True) == ()


def test_only_the_last_pictures_are_kept_and_the_others_leave_a_remark() -> None:
    messages = [said("one", PICTURE, PICTURE), said("two", PICTURE, PICTURE), said("three")]
    gone = Message("user", ("one", PICTURE_GONE))
    assert fitted(messages, Budget()) == (gone, messages[1], messages[2])


def test_a_picture_counts_by_its_tiles() -> None:
    history = [*talk(1), said("What is this?", PICTURE), answered("A cat.")]
    # Of a size that is not known: four tiles and the base, 765 tokens.
    assert fitted(history, Budget(tokens=800)) == tuple(history[2:])
    assert fitted(history, Budget(tokens=700)) == tuple(history[3:])
    assert fitted(history, Budget(tokens=1000)) == tuple(history)


def test_a_prompt_begins_with_its_instructions() -> None:
    history = talk(1)
    assert with_system("Be brief.", history) == (SYSTEM, *history)
    assert with_system("", history) == tuple(history)


def test_a_long_conversation_keeps_its_prefix_but_for_a_few_trims() -> None:
    budget = Budget(tokens=1200)
    history: tuple[Message, ...] = ()
    before: tuple[Message, ...] = ()
    trims = 0
    for turn in range(100):
        question = said(f"{turn} " + "why " * 15)
        history = fitted(history, budget, (SYSTEM, question), asking=True)
        prompt = (*with_system("Be brief.", history), question)
        assert prompt_tokens(prompt, budget.tiles) <= budget.tokens
        trims += prompt[: len(before)] != before
        history = fitted((*history, question, answered(f"{turn} " + "so " * 25)), budget, (SYSTEM,))
        before = prompt
    # A turn has some 50 tokens: seven of them fit between 70% and 100%.
    assert trims == 12


MESSAGES = st.lists(
    st.builds(
        Message,
        st.sampled_from(("user", "assistant")),
        st.tuples(st.text(min_size=1, max_size=200)),
    ),
    max_size=30,
)


@given(MESSAGES, st.integers(10, 3000), st.integers(1, 30), st.integers(1, 3000), st.booleans())
def test_what_is_kept_is_an_end_of_it_and_fits(
    history: list[Message], tokens: int, messages: int, chars: int, asking: bool
) -> None:
    budget = Budget(tokens=tokens, messages=messages, chars=chars)
    kept = fitted(history, budget, (SYSTEM,), asking=asking)
    assert kept == tuple(history[len(history) - len(kept) :])
    assert fitted(kept, budget, (SYSTEM,), asking=asking) == kept
    if history and not asking:
        assert kept
    if len(kept) > 1:
        assert len(kept) <= messages
        assert prompt_tokens((SYSTEM, *kept), budget.tiles) <= tokens
        assert sum(len(message.text) for message in kept) <= chars
