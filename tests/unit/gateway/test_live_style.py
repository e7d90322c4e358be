"""The page's colours: legible in light and in dark."""

import pathlib
import re

import pytest

import gateway.live
from gateway.live.series import PARTS

STYLE = (pathlib.Path(gateway.live.__file__).parent / "page" / "style.css").read_text()
_LIGHT, _DARK = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[:2]
LEAST_TEXT = 4.5
"""https://www.w3.org/TR/WCAG22/#contrast-minimum"""
LEAST_GRAPHIC = 1.8
"""Beside the figures that each bar has: it need not be told by its colour alone."""


def colours(block: str) -> dict[str, tuple[int, int, int]]:
    found = {}
    for name, value in re.findall(r"--([\w-]+): #([0-9a-f]{3,6});", block):
        whole = value if len(value) == 6 else "".join(2 * digit for digit in value)
        found[name] = (int(whole[:2], 16), int(whole[2:4], 16), int(whole[4:], 16))
    return found


def luminance(colour: tuple[int, int, int]) -> float:
    """Return the relative luminance: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    linear = [part / 255 for part in colour]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in linear
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("block", [_LIGHT, _DARK], ids=["light", "dark"])
@pytest.mark.parametrize("text", ["text", "quiet", "accent", "good", "poor"])
def test_texts_can_be_read_on_every_ground(block: str, text: str) -> None:
    known = colours(block)
    for ground in ("ground", "card", "faint"):
        assert contrast(known[text], known[ground]) >= LEAST_TEXT, ground


@pytest.mark.parametrize("block", [_LIGHT, _DARK], ids=["light", "dark"])
def test_warnings_can_be_read(block: str) -> None:
    known = colours(block)
    for text, ground in (("warn-text", "warn-ground"), ("text", "warn-ground"), ("poor", "bad-ground")):
        assert contrast(known[text], known[ground]) >= LEAST_TEXT, (text, ground)


@pytest.mark.parametrize("block", [_LIGHT, _DARK], ids=["light", "dark"])
def test_every_part_has_a_colour_that_can_be_seen(block: str) -> None:
    known = colours(block)
    parts = [known[f"p{place}"] for place in range(len(PARTS))]
    assert len(set(parts)) == len(PARTS)
    for part in parts:
        assert contrast(part, known["card"]) >= LEAST_GRAPHIC
    for place in range(len(PARTS)):
        assert f".p{place} {{ fill:" in STYLE
        assert f".dot.p{place} {{ background:" in STYLE
