"""Lists of phrases: what is one, and what is said of a line that is none."""

import pathlib

import pytest

from voicemesh.phrases import MOST_PHRASES, Phrase, parse_phrases, read_phrases


def test_each_line_is_a_phrase_once() -> None:
    data = b"Great job!\n\n  Nice try! \r\nGreat job!\n"
    assert parse_phrases(data, "list", as_json=False) == (Phrase(text="Great job!"), Phrase(text="Nice try!"))


def test_json_lines_say_how() -> None:
    how = b'"voice": "anna", "speed": 1, "sample_rate_hz": 8000, "tenant": "acme"'
    data = b'"Hello."\n{"text": "Good day.", ' + how + b"}\n"
    assert parse_phrases(data, "list", as_json=True) == (
        Phrase(text="Hello."),
        Phrase(text="Good day.", voice="anna", speed=1, sample_rate_hz=8000, tenant="acme"),
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "line 2: not valid JSON"),
        (b"[]", 'line 2: must be a string, or an object with "text"'),
        (b'{"voice": "anna"}', 'line 2: must be a string, or an object with "text"'),
        (b'{"text": "a", "pitch": 2}', "line 2: 'pitch' is none of text, voice, speed"),
        (b'{"text": 1}', "line 2: text must be a string, not 1"),
        (b'{"text": "a", "speed": true}', "line 2: speed must be a number, not true"),
        (b'{"text": "a", "speed": 9}', "line 2: speed must be 0.25 to 4, not 9"),
        (b'{"text": "a", "sample_rate_hz": 8000.5}', "line 2: sample_rate_hz must be a whole number"),
        (b'{"text": "a", "sample_rate_hz": -1}', "line 2: sample_rate_hz must not be negative"),
        (b'{"text": " "}', "line 2: text is empty"),
        (b'{"text": "a", "tenant": "a b"}', "line 2: tenant 'a b'"),
        (b'"\xff"', "line 2: not valid UTF-8 at byte 2"),
    ],
)
def test_a_wrong_line_is_named(line: bytes, message: str) -> None:
    with pytest.raises(ValueError, match="list: " + message):
        parse_phrases(b'"fine"\n' + line, "list", as_json=True)


def test_a_list_has_phrases_and_not_too_many() -> None:
    with pytest.raises(ValueError, match="list has no phrase in it"):
        parse_phrases(b"\n \n", "list", as_json=False)
    many = "\n".join(map(str, range(MOST_PHRASES + 1))).encode()
    with pytest.raises(ValueError, match=f"line {MOST_PHRASES + 1}: at most {MOST_PHRASES} phrases"):
        parse_phrases(many, "list", as_json=False)


def test_the_name_of_a_file_says_what_it_holds(tmp_path: pathlib.Path) -> None:
    for name in ("list.txt", "list.jsonl"):
        (tmp_path / name).write_text('"Hello."\n')
    assert read_phrases(tmp_path / "list.txt") == (Phrase(text='"Hello."'),)
    assert read_phrases(tmp_path / "list.jsonl") == (Phrase(text="Hello."),)
