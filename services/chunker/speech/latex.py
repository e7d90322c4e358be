# ruff: noqa: PLR0911 - a rule is a list of cases, each with its answer
r"""Mathematics in LaTeX: where it begins and ends, and how it is written so that a voice can say it.

`$5 and $6` are prices: an opening dollar has no space behind it, a closing one none before it and no digit
behind it (Pandoc's rule), and what begins with a number counts as a price unless an operator follows.
What is said is plain text with Unicode signs, the same for all languages: `\frac{a}{b}` is a/b, `x^2` x².
"""

import re
from typing import Final

from services.chunker.speech import latex_names
from services.chunker.speech.reading import WAIT, Reading

_LIMIT: Final = 200  # mathematics in a line is held so far
_DISPLAY_LIMIT: Final = 800
_PRICE_LIMIT: Final = 32
_PRICE: Final = re.compile(r"\$\d[\d.,]*")
_CALCULATES: Final = frozenset("^_\\={+*(")
_INLINE: Final = re.compile(r"\$((?=[^\s$])(?:[^$\\\n]|\\[^\n])*)(?<!\s)\$")
_OVER: Final = re.compile(r"(?<!\\)\$|\n")
_PROSE: Final = re.compile(r"(?<![{A-Za-z])[A-Za-z]{3,}[,;]? +[A-Za-z]{3}")
_NO_BEGINNING: Final = frozenset("$).,;:!?")
_END: Final = {"$$": re.compile(r"\$\$"), "\\(": re.compile(r"\\\)"), "\\[": re.compile(r"\\\]")}
_PARAGRAPH_END: Final = re.compile(r"\n[ \t]*\n")

_GROUP: Final = r"\{((?:[^{}]|\{[^{}]*\})*)\}"
_FRACTION: Final = re.compile(rf"\\[dtc]?frac\s*{_GROUP}\s*{_GROUP}")
_ROOT: Final = re.compile(rf"\\sqrt\s*(?:\[([^\[\]]*)\])?\s*{_GROUP}")
_WRAPPER: Final = re.compile(
    rf"\\(?:text|mathrm|mathbf|mathit|mathsf|mathcal|mathbb|operatorname|boxed|textbf|textit|hat|bar|vec"
    rf"|overline|underline|boldsymbol)\*?\s*{_GROUP}"
)
_ENVIRONMENT: Final = re.compile(r"\\(?:begin|end)\s*\{[^{}]*\}(?:\{[^{}]*\})?")
_POWER: Final = re.compile(rf"\^\s*(?:{_GROUP}|([^\s{{}}\\]))")
_INDEX: Final = re.compile(rf"_\s*(?:{_GROUP}|([^\s{{}}\\]))")
_DEGREE: Final = re.compile(r"\^\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\})")
_BOUNDS: Final = re.compile(rf"([\u220f\u2211\u222b])\s*_{_GROUP}\s*\^(?:{_GROUP}|(\w))")
_COMMAND: Final = re.compile(r"\\([A-Za-z]+)\*?\s*")
_SPACING: Final = re.compile(r"\\[,;:!> ]|\\\\|&|~")
_WHITE: Final = re.compile(r"\s+")
_SUPERSCRIPTS: Final = {"2": "\u00b2", "3": "\u00b3"}
_SIGNED: Final = re.compile(r"[-+\u2212]?\w*")
_SIMPLE: Final = re.compile(r"[\w.]*|[^\W\d_]+\d*")


def dollar(reading: Reading, index: int) -> int:
    """Decide about the `$` at `index`."""
    text = reading.text
    following = text[index + 1 : index + 2]
    if not following and not reading.final:
        return WAIT
    if following == "$":
        return _delimited(reading, index, "$$")
    price = _PRICE.match(text, index, index + _PRICE_LIMIT)
    if price:
        if price.end() == len(text) and reading.short_of(index, _PRICE_LIMIT):
            return WAIT
        if text[price.end() : price.end() + 1] not in _CALCULATES:
            return reading.keep(index, price.end() - index)
    if not following or following.isspace() or reading.previous(index).isalnum():
        return reading.keep(index, 1)
    match = _INLINE.match(text, index, index + _LIMIT)
    if match is None:
        window = text[index + 1 : index + _LIMIT]
        if reading.short_of(index, _LIMIT) and not (_OVER.search(window) or _is_prose(window)):
            return WAIT
        return reading.keep(index, 1)
    if _is_prose(match[1]):
        return reading.keep(index, 1)
    if match.end() == len(text) and reading.short_of(index, _LIMIT):
        return WAIT
    if text[match.end() : match.end() + 1].isdigit():
        return reading.keep(index, 1)
    return reading.say(speakable(match[1]), match.end() - index)


def parenthesis(reading: Reading, index: int) -> int:
    r"""Decide about the `\(` or `\[` at `index`: mathematics, or an escaped bracket."""
    return _delimited(reading, index, reading.text[index : index + 2])


def speakable(tex: str) -> str:
    """Return mathematics as plain text; empty where nothing is left."""
    text = _ENVIRONMENT.sub(" ", tex)
    for _ in range(4):
        # The innermost groups first; deeper ones in the next round.
        before = text
        text = _FRACTION.sub(lambda match: f"{_operand(match[1])}/{_operand(match[2])}", text)
        text = _ROOT.sub(lambda match: f"{match[1] or ''}\u221a{_operand(match[2])}", text)
        text = _WRAPPER.sub(r"\1", text)
        if text == before:
            break
    text = _DEGREE.sub("\u00b0", text)
    text = _SPACING.sub(" ", text)
    text = _COMMAND.sub(_command, text)
    text = _BOUNDS.sub(lambda match: f"{match[1]} {match[2]} \u2026 {match[3] or match[4]} ", text)
    text = _POWER.sub(_power, text)
    text = _INDEX.sub(lambda match: match[1] or match[2] or "", text)
    text = re.sub(r"[{}\\$]", "", text)
    return _WHITE.sub(" ", text).strip()


def _is_prose(tex: str) -> bool:
    """Say whether words follow one another before the first command."""
    return _PROSE.search(tex.partition("\\")[0]) is not None


def _delimited(reading: Reading, index: int, opening: str) -> int:
    """Decide about mathematics between marks of two characters."""
    text = reading.text
    limit = _LIMIT if opening == "\\(" else _DISPLAY_LIMIT
    window = text[index + 2 : index + limit]
    match = _END[opening].search(window)
    inner = window[: match.start()] if match else window
    if not (_PARAGRAPH_END.search(inner) or _is_prose(inner) or window[:1] in _NO_BEGINNING):
        if match:
            return reading.say(speakable(inner), match.end() + 2)
        if reading.short_of(index, limit):
            return WAIT
    return reading.keep(index, 2) if opening == "$$" else reading.say(opening[1], 2)


def _operand(group: str) -> str:
    """Put brackets around what is more than one sign."""
    group = group.strip()
    return group if _SIMPLE.fullmatch(group) else f"({group})"


def _power(match: re.Match[str]) -> str:
    exponent: str = (match[1] or match[2] or "").strip()
    plain = exponent if _SIGNED.fullmatch(exponent) else f"({exponent})"
    return _SUPERSCRIPTS.get(exponent, f"^{plain}")


def _command(match: re.Match[str]) -> str:
    name = match[1]
    sign = latex_names.SIGNS.get(name)
    if sign is not None:
        return sign
    return f" {name} " if name in latex_names.FUNCTIONS else " "
