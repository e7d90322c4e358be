from services.llm.core.surrogates import SurrogateJoiner

HIGH, LOW = "\ud83d", "\ude00"


def test_two_halves_in_two_pieces_become_one_character() -> None:
    joiner = SurrogateJoiner()
    assert joiner.join("a" + HIGH) == "a"
    assert joiner.join(LOW + "b") == "\U0001f600b"


def test_two_halves_in_one_piece_become_one_character() -> None:
    assert SurrogateJoiner().join(HIGH + LOW) == "\U0001f600"


def test_halves_that_stay_alone_are_replaced() -> None:
    joiner = SurrogateJoiner()
    assert joiner.join("a" + LOW) == "a\ufffd"
    assert joiner.join(HIGH) == ""
    assert joiner.join("b") == "\ufffdb"
    assert joiner.join(HIGH, is_last=True) == "\ufffd"


def test_whole_text_is_left_alone() -> None:
    joiner = SurrogateJoiner()
    for text in ("plain", "", "naïve 天空", "\U0001f600"):
        assert joiner.join(text) == text
