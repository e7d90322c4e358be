"""How much text the speech text filter reads on one core: megabytes (UTF-8) a second, medians.

    .venv/bin/python -m benchmarks.speech_text_throughput [--megabytes 1] [--rounds 5]

Each text is given as tokens of 4 characters, as words with the space before them (as language models
stream them), and in one piece.
"""

import argparse
import re
import statistics
import time
from collections.abc import Callable, Sequence

from benchmarks.chunker_throughput import CJK, DENSE, PROSE, TOKEN_CHARS
from services.chunker.speech import SpeechText

REPLY = (
    "Sure! Here is how to bake a **simple loaf**. You need about two hours, most of which is waiting.\n\n"
    "1. **Mix** 500 g of flour with 350 ml of *warm* water, the salt and the yeast.\n"
    "2. Knead the dough for ten minutes, until it is smooth and no longer sticks to your hands.\n"
    "3. Let it rise under a cloth. See [this guide](https://example.com/rise) if it does not. \U0001f35e\n\n"
)
MARKUP = (
    "# Steps\n\n- **Open** the *box* with care\n- See the [guide](https://example.com/a.b) now\n\n"
    "1. Use `pip install` & go\n2. It costs $5 or &lt;b&gt;\n\n| A | B |\n|---|---|\n| 1 | 2 |\n\n"
    "```py\nprint(1)\n```\n"
)
TEXTS = {
    "prose": PROSE,
    "prose in lines": PROSE.replace(". ", ".\n"),
    "dense prose": DENSE,
    "cjk": CJK,
    "reply": REPLY,
    "markup": MARKUP,
}
_WORD = re.compile(r"\s*\S+|\s+\Z")
CUTTINGS: dict[str, Callable[[str], Sequence[str]]] = {
    "tokens of 4": lambda text: [text[at : at + TOKEN_CHARS] for at in range(0, len(text), TOKEN_CHARS)],
    "words": _WORD.findall,
    "one piece": lambda text: [text],
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how much text the speech text filter reads.")
    parser.add_argument("--megabytes", type=float, default=1.0, help="size of each text")
    parser.add_argument("--rounds", type=int, default=5, help="the median of so many is shown")
    options = parser.parse_args()
    print(f"{'text':<16}" + "".join(f"{name:>16}" for name in CUTTINGS))
    for name, unit in TEXTS.items():
        text = unit * max(1, round(options.megabytes * 1e6) // len(unit.encode()))
        size = len(text.encode()) / 1e6
        rates = (size / _median_s(cut(text), options.rounds) for cut in CUTTINGS.values())
        print(f"{name:<16}" + "".join(f"{rate:>11.2f} MB/s" for rate in rates))


def _median_s(tokens: Sequence[str], rounds: int) -> float:
    return statistics.median(_seconds(tokens) for _ in range(rounds))


def _seconds(tokens: Sequence[str]) -> float:
    begin = time.process_time()
    speech = SpeechText()
    for token in tokens:
        speech.push(token)
    speech.flush()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
