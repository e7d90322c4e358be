import math
from dataclasses import replace

import pytest

from services.llm.core.model import GenerationRequest, ImagePart, Message, Parameters, Role, TextPart
from services.llm.core.validation import Limits, check
from voicemesh.runtime.errors import InvalidFieldError

LIMITS = Limits(message_chars=100, image_bytes=50)
HELLO = Message(Role.USER, (TextPart("Hello"),))
GOOD = GenerationRequest("turn", (HELLO,))
PNG = ImagePart(data=b"png", media_type="image/png")


def _with(*messages: Message) -> GenerationRequest:
    return replace(GOOD, messages=messages)


def _image(image: ImagePart) -> GenerationRequest:
    return _with(Message(Role.USER, (TextPart("What is this?"), image)))


def _parameters(**values: object) -> GenerationRequest:
    return replace(GOOD, parameters=Parameters(**values))  # type: ignore[arg-type]  # spread of a test table


@pytest.mark.parametrize(
    "good",
    [
        GOOD,
        _with(Message(Role.SYSTEM, (TextPart(""),)), Message(Role.ASSISTANT, (TextPart("Hi"),)), HELLO),
        _with(Message(Role.USER, (TextPart("x" * 100),))),
        _with(Message(Role.USER, (PNG,))),
        _image(ImagePart(data=b"x" * 50, media_type="image/svg+xml")),
        _image(ImagePart(url="https://example.org/a.png")),
        _image(ImagePart(url="data:image/png;base64,AAAA")),
        _parameters(max_tokens=1, temperature=0.0, top_p=1.0, stop=("a", "b", "c", "d"), seed=-1),
        _parameters(temperature=2.0),
    ],
)
def test_what_is_allowed(good: GenerationRequest) -> None:
    check(good, LIMITS)


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (_with(), "start.messages"),
        (_with(Message(None, (TextPart("a"),)), HELLO), "start.messages[0].role"),
        (_with(HELLO, Message(Role.USER, ())), "start.messages[1].parts"),
        (_with(Message(Role.USER, (TextPart("a"), None))), "start.messages[0].parts[1]"),
        (_with(HELLO, Message(Role.ASSISTANT, (TextPart("Hi"),))), "start.messages[1].role"),
        (_with(Message(Role.USER, (TextPart(" \n"),))), "start.messages[0].parts"),
        (
            _with(Message(Role.USER, (TextPart("x" * 60),)), Message(Role.USER, (TextPart("x" * 41),))),
            "start.messages",
        ),
        (_with(Message(Role.SYSTEM, (PNG,)), HELLO), "start.messages[0].parts[0].image"),
        (_image(ImagePart()), "start.messages[0].parts[1].image"),
        (_image(ImagePart(data=b"a", media_type="text/html")), "start.messages[0].parts[1].image.media_type"),
        (_image(ImagePart(data=b"a", media_type="image/")), "start.messages[0].parts[1].image.media_type"),
        (_image(ImagePart(data=b"a", media_type="image/p,x")), "start.messages[0].parts[1].image.media_type"),
        (_image(ImagePart(data=b"a" * 51, media_type="image/png")), "start.messages[0].parts[1].image.data"),
        (_image(ImagePart(url="http://example.org/a.png")), "start.messages[0].parts[1].image.url"),
        (_image(ImagePart(url="data:text/html,a")), "start.messages[0].parts[1].image.url"),
        (_image(ImagePart(url="data:image/png;base64," + "A" * 50)), "start.messages[0].parts[1].image.url"),
        (_parameters(max_tokens=0), "start.parameters.max_tokens"),
        (_parameters(temperature=2.1), "start.parameters.temperature"),
        (_parameters(temperature=-0.1), "start.parameters.temperature"),
        (_parameters(temperature=math.nan), "start.parameters.temperature"),
        (_parameters(top_p=0.0), "start.parameters.top_p"),
        (_parameters(top_p=1.01), "start.parameters.top_p"),
        (_parameters(top_p=math.inf), "start.parameters.top_p"),
        (_parameters(stop=("a",) * 5), "start.parameters.stop"),
        (_parameters(stop=("a", "")), "start.parameters.stop[1]"),
        (_parameters(stop=("a" * 257,)), "start.parameters.stop[0]"),
        (replace(GOOD, turn_id="x" * 257), "start.turn_id"),
        (replace(GOOD, model="x" * 257), "start.model"),
        (replace(GOOD, session_id="x" * 257), "start.session_id"),
    ],
)
def test_what_is_refused_is_named(bad: GenerationRequest, field: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        check(bad, LIMITS)
    assert caught.value.field == field
    assert caught.value.message.startswith(f"{field}: ")
