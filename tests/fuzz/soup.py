"""Texts as models write them on a bad day: markup, nested, broken off and mixed with all of Unicode."""

import random
import sys
import unicodedata
from collections.abc import Callable
from typing import Final

_WORDS: Final = (
    *(
        "the",
        "harbour",
        "opens",
        "at",
        "7",
        "o'clock",
        "Dr.",
        "Lee",
        "e.g.",
        "U.S.",
        "3.14",
        "v2.0.1",
        "$3.50",
    ),
    *(
        "a@b.de",
        "www.a.com",
        "und",
        "\u00fcber",
        "\u4f60\u597d",
        "\u0645\u0631\u062d\u0628\u0627",
        "caf\u00e9",
        "e\u0301",
    ),
    *("no.", "7", "Fig.", "2", "p.m.", "\u0e01\u0e32\u0e23", "\u05e9\u05dc\u05d5\u05dd"),
)
_CATEGORIES: Final = (
    *("Lu", "Ll", "Lo", "Lm", "Mn", "Mc", "Nd", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc"),
    *("Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cn"),
)
_LONELY: Final = tuple("*_`~[](){}<>|#\\$&^=+-!?.,:;\"'/@\u200d\ufe0f\u20e3\u202e\ufeff\x00\x1b\x85")
_TAGS: Final = (
    *("b", "a href='x y'", "p", "script", "style", "br/", "table", "td", "think", "speak", "break time='9s'"),
    "!--",
)
_PAIRS: Final = (
    *(("[", "](x)"), ("(", ")"), ("**", "**"), ("<b>", "</b>"), ("> ", ""), ("- ", "\n"), ("\\frac{", "}")),
    *(("{", "}"), ("<!--", "-->"), ("$", "$"), ("```", "```"), ("_", "*"), ("\u201c", "\u201d"), ("|", "|")),
    ("&amp;", ";"),
)
_COMMANDS: Final = (
    "frac",
    "sqrt",
    "text",
    "mathbb",
    "left(",
    "right)",
    "sum_",
    "begin{align}",
    "end{align}",
    "nosuch",
)


def soup(rng: random.Random, pieces: int, depth: int = 4) -> str:
    """Return a text of so many pieces, each with up to `depth` others inside one another."""
    return "".join(
        _piece(rng, depth) + rng.choice((" ", " ", " ", "", "\n", "\n\n", "\t")) for _ in range(pieces)
    )


def deep(rng: random.Random, depth: int) -> str:
    """Return one kind of mark, nested so deep, perhaps never closed."""
    opening, closing = rng.choice(_PAIRS)
    return opening * depth + "word" + closing * rng.choice((0, depth, depth // 2, depth + 1))


def _piece(rng: random.Random, depth: int) -> str:
    if depth <= 0 or rng.random() < 0.35:
        return rng.choice(_WORDS)
    made: str = rng.choice(_RULES)(rng, depth - 1)
    if rng.random() < 0.1:
        made = made[: rng.randrange(len(made) + 1)]  # broken off
    return made


def _inner(rng: random.Random, depth: int) -> str:
    return " ".join(_piece(rng, depth) for _ in range(rng.randrange(1, 4)))


def _emphasis(rng: random.Random, depth: int) -> str:
    mark = rng.choice(("*", "**", "***", "_", "__", "~~", "`", "``", "=="))
    return mark + _inner(rng, depth) + mark


def _link(rng: random.Random, depth: int) -> str:
    where = rng.choice(("https://a.b/c_(d)?e=f&g", "http://" + "x" * rng.randrange(60), "", "<>", "a b 'c'"))
    return f"{rng.choice(('', '!'))}[{_inner(rng, depth)}]({where})"


def _heading(rng: random.Random, depth: int) -> str:
    return f"\n{'#' * rng.randrange(1, 8)} {_inner(rng, depth)}\n"


def _items(rng: random.Random, depth: int) -> str:
    mark = rng.choice(("- ", "* ", "+ ", "1. ", "99) ", "- [ ] ", "> ", "  - "))
    return "\n" + "\n".join(mark + _inner(rng, depth) for _ in range(rng.randrange(1, 4))) + "\n"


def _table(rng: random.Random, depth: int) -> str:
    rows = [
        "|" + "|".join(_inner(rng, depth - 1) for _ in range(rng.randrange(1, 4))) + "|" for _ in range(3)
    ]
    return "\n" + "\n".join((rows[0], rng.choice(("|---|:-:|", "|-|", "---|---", "||")), *rows[1:])) + "\n"


def _code(rng: random.Random, depth: int) -> str:
    fence = rng.choice(("```", "~~~", "````"))
    language, end = rng.choice(("", "python", "mermaid", " ")), rng.choice((fence, "```", ""))
    return f"\n{fence}{language}\n{_inner(rng, depth)}\n{end}\n"


def _tag(rng: random.Random, depth: int) -> str:
    tag = rng.choice(_TAGS)
    return f"<{tag}>{_inner(rng, depth)}{rng.choice((f'</{tag.split()[0]}>', '', '-->', '</'))}"


def _formula(rng: random.Random, depth: int) -> str:
    opening, closing = rng.choice((("$", "$"), ("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]"), ("", "")))
    inside = "".join(
        f"\\{rng.choice(_COMMANDS)}{{{_inner(rng, depth - 1)}}}^" for _ in range(rng.randrange(1, 3))
    )
    return opening + inside + rng.choice(("x", "{", "}", "2")) + closing


def _entity(rng: random.Random, _depth: int) -> str:
    return rng.choice(
        ("&amp;", "&lt;b&gt;", "&#39;", "&#x1F600;", "&#99999999;", "&nosuch;", "&", "&#xD800;", "&nbsp" * 3)
    )


def _unicode(rng: random.Random, _depth: int) -> str:
    return "".join(_character(rng) for _ in range(rng.randrange(1, 9)))


def _character(rng: random.Random) -> str:
    wanted = rng.choice(_CATEGORIES)
    for _ in range(200):
        character = chr(rng.randrange(0x3000) if rng.random() < 0.8 else rng.randrange(sys.maxunicode + 1))
        if unicodedata.category(character) == wanted:
            return character
    return "\u00e9"


def _marks(rng: random.Random, _depth: int) -> str:
    return rng.choice(_LONELY) * rng.choice((1, 1, 1, 2, 3, 40))


def _long(rng: random.Random, _depth: int) -> str:
    return rng.choice(("x", "7", ".", "\u3002", " ", "-", "\u4f60", "e\u0301", "A.")) * rng.choice(
        (30, 200, 600)
    )


def _dialogue(rng: random.Random, depth: int) -> str:
    opening, closing = rng.choice(
        (("\u201c", "\u201d"), ("\u00ab ", " \u00bb"), ('"', '"'), ("\u300c", "\u300d"), ("\u201e", ""))
    )
    return f"{opening}{_inner(rng, depth)}{rng.choice('.?!,;:')}{closing}"


_RULES: Final[tuple[Callable[[random.Random, int], str], ...]] = (
    *(_emphasis, _emphasis, _link, _heading, _items, _table, _code, _tag, _formula),
    *(_entity, _unicode, _unicode, _marks, _long, _dialogue),
)
