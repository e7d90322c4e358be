"""Tags and comments of HTML, SSML and their like; a bare `<` is text."""

import re
from typing import Final

from services.chunker.speech import tag_names
from services.chunker.speech.reading import WAIT, Reading, Skip
from services.chunker.speech.urls import spoken_address

_TAG_LIMIT: Final = 400
_NAME: Final = r"</?([A-Za-z][\w:.-]*)"
_VALUE: Final = r"\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>=`]+)"
_TAG: Final = re.compile(rf"{_NAME}(?:\s+[\w:@.-]+(?:{_VALUE})?)*\s*/?>")
_TAG_BEGUN: Final = re.compile(rf"{_NAME}(?:\s[^<>]*|/)?\Z")
_NAME_BEGUN: Final = re.compile(r"</?\Z")
_QUOTED: Final = re.compile(r"\"[^\"]*(?:\"|\Z)|'[^']*(?:'|\Z)")
_BARE_ATTRIBUTE: Final = re.compile(r"\s[\w:@.-]+(?=\s+[^\s=/>]|\s*/?>)")
_AUTOLINK: Final = re.compile(r"<([A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*|[\w.+-]+@[\w.-]+)>")
_AUTOLINK_BEGUN: Final = re.compile(
    r"<(?:[A-Za-z][A-Za-z0-9+.-]{0,31}(?::[^\s<>]*)?|[\w.+-]+(?:@[\w.-]*)?)\Z"
)
_COMMENT_END: Final = re.compile("-->")
_DECLARATION_END: Final = re.compile(">")
_ELEMENT_END: Final = {
    name: re.compile(rf"</{name}\s{{0,8}}>", re.IGNORECASE) for name in tag_names.UNREAD | tag_names.THOUGHTS
}


def less_than(reading: Reading, index: int) -> int:
    """Decide about the `<` at `index`."""
    text = reading.text
    following = text[index + 1 : index + 2]
    if not following and not reading.final:
        return WAIT
    if following in ("!", "?"):
        return _declaration(reading, index)
    if not following.isascii() or not (following.isalpha() or following == "/"):
        return reading.keep(index, 1)
    tag = _TAG.match(text, index, index + _TAG_LIMIT)
    if tag:
        return _tag(reading, index, tag)
    if reading.short_of(index, _TAG_LIMIT):
        begun = _TAG_BEGUN.match(text, index)
        if _NAME_BEGUN.match(text, index) or (begun and _is_meant(reading, index, begun)):
            return WAIT
    return _autolink(reading, index)


def _declaration(reading: Reading, index: int) -> int:
    text = reading.text
    if text.startswith("<!--", index):
        reading.skip = Skip(_COMMENT_END, 2)
        return reading.drop(4)
    if "<!--".startswith(text[index:]) and not reading.final:
        return WAIT
    following = text[index + 2 : index + 3]
    if not following and not reading.final:
        return WAIT
    if following.isalpha() or following == "[":
        reading.skip = Skip(_DECLARATION_END, 0)
        return reading.drop(2)
    return reading.keep(index, 1)


def _autolink(reading: Reading, index: int) -> int:
    """Decide about <https://…> and <name@host>."""
    text = reading.text
    match = _AUTOLINK.match(text, index, index + _TAG_LIMIT)
    if match:
        return reading.say(spoken_address(match[1]), match.end() - index)
    if reading.short_of(index, _TAG_LIMIT) and _AUTOLINK_BEGUN.match(text, index):
        return WAIT
    return reading.keep(index, 1)


def _is_meant(reading: Reading, index: int, tag: re.Match[str]) -> bool:
    """Say whether a tag, or what has come of it, is markup; List<String> and a <b and c> are none."""
    known = tag[1].lower() in tag_names.KNOWN
    attached = reading.previous(index).isalnum()
    if not known and attached:
        # The name of what has come may grow into one that is known.
        return tag.end() == tag.end(1) and any(name.startswith(tag[1].lower()) for name in tag_names.KNOWN)
    return (known and not attached) or not _BARE_ATTRIBUTE.search(_QUOTED.sub("''", tag[0]))


def _tag(reading: Reading, index: int, tag: re.Match[str]) -> int:
    if not _is_meant(reading, index, tag):
        return reading.keep(index, 1)
    name = tag[1].lower()
    length = tag.end() - index
    opens = reading.text[index + 1] != "/" and not tag[0].endswith("/>")
    unread = name in tag_names.UNREAD or (name in tag_names.THOUGHTS and reading.out.at_boundary)
    if opens and unread:
        reading.skip = Skip(_ELEMENT_END[name], len(name) + 12)
        return reading.drop(length)
    if name in tag_names.BLOCKS:
        return reading.say("\n", length)
    if name in tag_names.CELLS:
        return reading.say(" ", length)
    return reading.drop(length)
