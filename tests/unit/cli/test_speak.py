"""What `ask` is given, and how it says what was given up."""

import pytest

from voicemesh.cli.exits import Failure
from voicemesh.cli.speak import given_up, picture
from voicemesh.client import Degraded, Image


@pytest.mark.parametrize("url", ["https://example.com/a.png", "data:image/png;base64,iVBORw0KGgo="])
def test_an_address_of_a_picture_goes_on_as_it_is(url):
    assert picture(url) == Image(url=url)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("http://example.com/a.png", "must begin with https:// or data:image/"),
        ("nowhere/a.png", "cannot read nowhere/a.png: No such file or directory"),
    ],
)
def test_what_is_no_picture_is_said_with_what_to_give(source, said):
    with pytest.raises(Failure, match=said):
        picture(source)


def test_what_was_given_up_is_told_in_lines_of_eighty_columns():
    detail = "dead is left alone for 4.4 s after it failed: " + "the server could not be reached; " * 6
    text = given_up(Degraded("t", "model", detail))
    assert text.startswith("(given up: model: dead is left alone for 4.4 s")
    assert max(map(len, text.splitlines())) <= 80
    assert "".join(text.split()) == "".join(f"(given up:model:{detail})".split())
