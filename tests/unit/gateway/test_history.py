from gateway.core.history import bounded
from gateway.core.values import Image, Message


def said(text: str, *pictures: Image) -> Message:
    return Message("user", (text, *pictures))


def test_the_end_of_the_conversation_is_kept() -> None:
    messages = [said(str(number)) for number in range(10)]
    assert bounded(messages, 3, 1000) == tuple(messages[-3:])
    assert bounded(messages, 0, 1000) == ()


def test_characters_are_bounded_and_the_last_message_is_always_kept() -> None:
    messages = [said("x" * 400), said("y" * 400), said("z" * 400)]
    assert bounded(messages, 10, 1000) == tuple(messages[-2:])
    assert bounded(messages, 10, 100) == tuple(messages[-1:])


def test_only_the_last_pictures_are_kept() -> None:
    picture = Image(data=b"png", media_type="image/png")
    messages = [said("one", picture), said("two", picture, picture), said("three")]
    assert bounded(messages, 10, 1000) == (said("one"), said("two", picture, picture), said("three"))
