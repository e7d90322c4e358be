import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llm.core.reasoning import Mode, ReasoningFilter

CASES = [
    ("<think>\nfirst\n</think>\n\nHello there.", "Hello there."),
    ("  <think>x</think> Hello", "Hello"),
    ("<thinking>a < b</thinking>Hello", "Hello"),
    ("<thought>x</thought>Hello", "Hello"),
    ("<reasoning>x</reasoning>Hello", "Hello"),
    ("<seed:think>x</seed:think>Hello", "Hello"),
    ("[THINK]x[/THINK]Hello", "Hello"),
    ("◁think▷x◁/think▷Hello", "Hello"),
    ("<|START_THINKING|>x<|END_THINKING|>Hello", "Hello"),
    ("<think></think>\n\nHello", "Hello"),
    ("<think>one</think><think>two</think>Hello", "Hello"),
    ("<think>never closed, and ends", ""),
    ("<think>closed and nothing more</think>\n", ""),
    (
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hello<|return|>",
        "Hello",
    ),
    ("<|start|>assistant<|channel|>final<|message|>Hello <|x|> you", "Hello <|x|> you"),
    ('<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a":1}<|call|>', ""),
    ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>fin", ""),
    # The reply is about tags, or looks like them.
    ("Use <think> to mark it: <think>x</think>", "Use <think> to mark it: <think>x</think>"),
    ("`<think>` is a tag.", "`<think>` is a tag."),
    ("<thin ice> is dangerous", "<thin ice> is dangerous"),
    ("<p>Hello</p>", "<p>Hello</p>"),
    ("[THE] end", "[THE] end"),
    ("<|channel|", "<|channel|"),
    ("<", "<"),
    ("  Hello", "  Hello"),
    ("   ", "   "),
    ("", ""),
    ("Hello <|end|> there", "Hello <|end|> there"),
]


def _filtered(pieces: list[str], mode: Mode = "strip") -> str:
    filtering = ReasoningFilter(mode)
    return "".join([*(filtering.feed(piece) for piece in pieces), filtering.end()])


@pytest.mark.parametrize(("text", "spoken"), CASES)
def test_reasoning_is_left_out_at_the_beginning_alone(text: str, spoken: str) -> None:
    assert _filtered([text]) == spoken
    assert _filtered(list(text)) == spoken


@given(st.sampled_from(CASES), st.lists(st.integers(0, 200), max_size=12))
def test_however_a_reply_is_cut_the_same_is_spoken(case: tuple[str, str], cuts: list[int]) -> None:
    text, spoken = case
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    assert _filtered(pieces) == spoken


@given(st.text(alphabet="<think>/[THINK] \n|channel", max_size=60), st.integers(0, 60))
def test_a_cut_changes_nothing(text: str, cut: int) -> None:
    assert _filtered([text[:cut], text[cut:]]) == _filtered([text])


def test_what_is_kept_is_kept() -> None:
    assert _filtered(["<think>aloud</think>", " Hello"], "keep") == "<think>aloud</think> Hello"


def test_a_reply_can_begin_inside() -> None:
    assert _filtered(["I must", " say</thi", "nk>\n\nHello"], "begins_inside") == "Hello"
    assert _filtered(["I must say it all"], "begins_inside") == ""


def test_text_is_not_held_back() -> None:
    filtering = ReasoningFilter("strip")
    assert filtering.feed("Hel") == "Hel"
    assert filtering.feed("lo <think>") == "lo <think>"


def test_what_is_held_is_bounded() -> None:
    filtering = ReasoningFilter("strip")
    filtering.feed("<think>")
    for _ in range(1000):
        filtering.feed("on and on " * 10)
    assert len(filtering._held) < 32
    blanks = ReasoningFilter("strip")
    assert len("".join(blanks.feed(" ") for _ in range(1000))) > 900
    header = ReasoningFilter("strip")
    assert header.feed("<|channel|>" + "x" * 500)
