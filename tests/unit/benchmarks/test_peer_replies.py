import pytest

from benchmarks.peers.replies import OWN, cuts_of, false_splits

DOCTOR = "Dr. Smith has 2.5 hours. He is in."


def test_chunks_are_found_in_their_reply_whatever_white_space_they_keep():
    assert cuts_of(DOCTOR, ["Dr. Smith has 2.5 hours. ", "He is in."]) == [24]
    assert cuts_of(DOCTOR, ["Dr. Smith has", " 2.5 hours.", "He  is in."]) == [13, 24]
    assert cuts_of(DOCTOR, [DOCTOR]) == []


def test_chunks_with_another_text_are_not_judged():
    assert cuts_of(DOCTOR, ["Doctor Smith has 2.5 hours.", "He is in."]) is None


@pytest.mark.parametrize(
    ("chunks", "wrong"),
    [
        (["Dr. Smith has 2.5 hours.", "He is in."], []),
        (["Dr.", "Smith has 2.5 hours.", "He is in."], ["Dr.| Smith has 2"]),
        (["Dr. Smith has 2.", "5 hours.", "He is in."], ["Smith has 2.|5 hours. He "]),
        (["Dr. Smith has 2.5 ho", "urs. He is in."], ["h has 2.5 ho|urs. He is i"]),
    ],
)
def test_a_cut_in_what_must_stay_whole_or_in_a_word_is_wrong(chunks, wrong):
    cuts = cuts_of(DOCTOR, chunks)
    assert cuts is not None
    assert false_splits(DOCTOR, cuts, ("Dr. Smith", "2.5 hours")) == wrong


def test_text_without_spaces_may_be_cut_anywhere():
    assert false_splits("好的我来帮你", [2], ()) == []


def test_what_must_stay_whole_is_in_the_replies():
    assert all(unit in reply.text for reply in OWN for unit in reply.whole)
    assert len({reply.text for reply in OWN}) == len(OWN) >= 20
