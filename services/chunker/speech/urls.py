"""Addresses: said as they stand, a long one by its host alone; markup inside one is none."""

import re
from typing import Final

from services.chunker.speech.reading import WAIT, Reading, Skip

LONGEST_CHARS: Final = 80
"""A longer address is said by its host."""

_SCHEME: Final = re.compile(r"https?://")
_SCHEME_BEGUN: Final = re.compile(r"https?(?::/?)?\Z")
# An address ends at white space, quotes, brackets that are not round, and Chinese and Japanese text.
_EASTERN: Final = r"\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
_BODY: Final = rf"[^\s<>\"`{{}}|\\^\[\]\u2018-\u201f\u2026\ud800-\udfff{_EASTERN}]"
_ADDRESS: Final = re.compile(f"{_BODY}*")
_TRAILING: Final = ".,;:!?'*_~)"
_HOST: Final = re.compile(r"https?://(?:[^/?#@\s]*@)?(?:www\.)?([^/?#:\s]+)")
_MARKS: Final = f"[{re.escape(_TRAILING)}]"
_MARKS_LIMIT: Final = 16
_ADDRESS_END: Final = re.compile(rf"{_MARKS}{{0,{_MARKS_LIMIT}}}(?!{_BODY})[\s\S]")


def web_address(reading: Reading, index: int) -> int:
    """Decide about the `http` at `index`."""
    text = reading.text
    if reading.previous(index).isalnum():
        return reading.keep(index, 4)
    scheme = _SCHEME.match(text, index)
    if scheme is None:
        if not reading.final and _SCHEME_BEGUN.match(text, index):
            return WAIT
        return reading.keep(index, 4)
    end = _end(text, index, index + LONGEST_CHARS + 1)
    if end - index > LONGEST_CHARS:
        return _host_alone(reading, index)
    if end == len(text) and not reading.final:
        return WAIT
    return reading.keep(index, len(_trimmed(reading, text[index:end])))


def spoken_address(address: str) -> str:
    """Return what is said for a whole address."""
    for scheme in ("mailto:", "tel:"):
        address = address.removeprefix(scheme)
    host = _HOST.match(address)
    return host[1] if host and len(address) > LONGEST_CHARS else address


def _end(text: str, index: int, limit: int) -> int:
    match = _ADDRESS.match(text, index, limit)
    assert match is not None
    return match.end()


def _trimmed(reading: Reading, address: str) -> str:
    """Return an address without the marks behind it, but with the brackets that it opened itself."""
    while address and address[-1] in _TRAILING:
        last = address[-1]
        if last == ")" and address.count("(") >= address.count(")"):
            break
        if last in "*_~" and not reading.emphasis.get(last):
            break
        address = address[:-1]
    return address


def _host_alone(reading: Reading, index: int) -> int:
    host = _HOST.match(reading.text, index, index + LONGEST_CHARS)
    if host is None:
        return reading.keep(index, 4)
    reading.skip = Skip(_ADDRESS_END, _MARKS_LIMIT, inclusive=False)
    return reading.say(host[1], host.end() - index)
