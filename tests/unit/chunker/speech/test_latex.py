import pytest

from services.chunker.speech.latex import speakable


@pytest.mark.parametrize(
    ("tex", "spoken"),
    [
        (r"x^2 + y^{3}", "x\u00b2 + y\u00b3"),
        (r"\frac{a+b}{2c}", "(a+b)/2c"),
        (r"\frac{1}{\frac{a}{b}}", "1/(a/b)"),
        (r"\sqrt{x}", "\u221ax"),
        (r"\sqrt[3]{x+1}", "3\u221a(x+1)"),
        (r"90^\circ", "90\u00b0"),
        (r"\sum_{i=1}^{n} x_i", "\u2211 i=1 \u2026 n xi"),
        (r"x_1 \le \alpha", "x1 \u2264 \u03b1"),
        (r"\text{speed} = \frac{d}{t}", "speed = d/t"),
        (r"\sin\theta", "sin \u03b8"),
        (r"10^{-3}", "10^-3"),
        (r"e^{x+1}", "e^(x+1)"),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "a = b c = d"),
        (r"\{a\}", "a"),
        (r"\unknown{x}", "x"),
        ("", ""),
    ],
)
def test_mathematics_is_written_with_signs(tex: str, spoken: str) -> None:
    assert speakable(tex) == spoken
