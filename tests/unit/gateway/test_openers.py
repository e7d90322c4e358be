import sys

from gateway.core import actions as do
from gateway.core import events as on
from gateway.openers import _MAX_KINDS, Foresight, Openers


def found(index: int) -> on.AudioFound:
    return on.AudioFound(index, b"\0\0", (), "memory", 120)


def known(*texts: str) -> Openers:
    openers = Openers()
    for text in texts:
        openers.note("kind", text)
    return openers


def test_an_opener_is_usual_where_it_began_two_of_the_last_replies() -> None:
    assert known().usual("kind") == ""
    assert known("Sure,").usual("kind") == ""
    assert known("Sure,", "Well,", "Sure,").usual("kind") == "Sure,"
    assert known("Sure,", "Sure,").usual("other") == ""
    assert known("Sure,", "Sure,", *(f"{n}." for n in range(8))).usual("kind") == ""


def test_what_is_remembered_is_bounded() -> None:
    openers = known("Sure,", "Sure,", "x" * 10_000, "x" * 10_000)
    assert openers.usual("kind") == "Sure,"
    for kind in range(_MAX_KINDS):
        openers.note(kind, "Well,")
    assert openers.usual("kind") == ""


def test_nothing_of_a_kind_itself_is_kept() -> None:
    prompt = "Be brief. " * 3_000  # as a caller may send with each of its turns
    openers = Openers()
    counted = sys.getrefcount(prompt)
    for tenant in range(10):
        openers.note((tenant, prompt), "Sure,")
    assert sys.getrefcount(prompt) == counted


def test_a_right_guess_is_in_hand_and_a_wrong_one_is_looked_up() -> None:
    openers = known("Sure,", "Sure,")
    right, wrong = Foresight(openers, "kind"), Foresight(openers, "kind")
    for foresight in (right, wrong):
        assert foresight.guess() == do.LookUpAudio(-1, "Sure,")
        assert foresight.keep(found(-1))
    answer = right.answer(do.LookUpAudio(0, "Sure,"))
    assert answer == on.AudioFound(0, b"\0\0", (), "memory", 0)
    assert wrong.answer(do.LookUpAudio(0, "Well,")) is None
    assert right.answer(do.LookUpAudio(1, "Sure,")) is None


def test_an_answer_that_is_late_or_empty_is_no_answer() -> None:
    foresight = Foresight(known("Sure,", "Sure,"), "kind")
    foresight.guess()
    assert foresight.answer(do.LookUpAudio(0, "Sure,")) is None
    foresight.guess()
    assert foresight.keep(on.AudioMissing(-1, detail="late"))
    assert foresight.answer(do.LookUpAudio(0, "Sure,")) is None
    assert not foresight.keep(found(0))
    assert not foresight.keep(on.ChunksEnded())


def test_where_replies_begin_differently_nothing_is_asked() -> None:
    assert Foresight(known("Sure,", "Well,"), "kind").guess() is None
