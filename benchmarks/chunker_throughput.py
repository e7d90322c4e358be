# ruff: noqa: RUF001 - marks of other scripts are what is meant
"""How much text the chunker cuts on one core: megabytes (UTF-8) a second, medians.

    .venv/bin/python -m benchmarks.chunker_throughput [--megabytes 1] [--rounds 5]

Each text is given as tokens of 4 characters, as a language model streams them, and in one piece; as it
stands, and with the speech text filter before the chunker, as the mesh runs it.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence

from services.chunker.policy import ChunkerConfig, Policy
from services.chunker.spoken import chunker_for

TOKEN_CHARS = 4

PROSE = (
    "Sure, I can help you with that. The first thing to know is that sound travels through the air in "
    "waves, and that each wave has a length and a height. When a string swings, it pushes the air in front "
    "of it, and the air pushes your ear. Does that make sense so far? If it does, let's look at what a "
    "guitar does: its body swings along with the strings, which makes the tone much louder. "
)
DENSE = (
    "Dr. Lee saw Mr. and Mrs. Park at 5 p.m. on Monday, and they left early. The price was $1,234.50, "
    "or about 3.5% more than last year! Would you pay that? See https://example.com/v1.2/page.html for "
    "more: it is long, but clear. “Often?” he said. She lives in the U.S. It is large. "
)
CJK = "你好世界。今天天气很好，我们去公园散步吧！价格是¥3.50，请访问example.com。「元気ですか？」と言った。"
NO_PUNCTUATION = "these are words and more words that never come to any end "
NO_SPACES = "abcdefghijklmnopqrstuvwxyz"
DOTS = "a.b.c. "

TEXTS = {
    "prose": PROSE,
    "dense": DENSE,
    "cjk": CJK,
    "no punctuation": NO_PUNCTUATION,
    "no spaces": NO_SPACES,
    "dots": DOTS,
}
POLICIES = {Policy.ADAPTIVE: 0, Policy.SENTENCE: 0, Policy.CLAUSE: 0, Policy.WORDS: 3}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how much text the chunker cuts on one core.")
    parser.add_argument("--megabytes", type=float, default=1.0, help="size of each text")
    parser.add_argument("--rounds", type=int, default=5, help="the median of so many is shown")
    options = parser.parse_args()
    cuttings = (("tokens of 4", False), ("one piece", False), ("tokens, said", True), ("piece, said", True))
    print(f"{'text':<16}{'policy':<12}" + "".join(f"{name:>14}" for name, _ in cuttings))
    for (name, unit), (policy, words) in itertools.product(TEXTS.items(), POLICIES.items()):
        text = _repeat(unit, round(options.megabytes * 1e6))
        size = len(text.encode()) / 1e6
        config = ChunkerConfig(policy=policy, words=words, max_text_chars=len(text))
        tokens = [text[index : index + TOKEN_CHARS] for index in range(0, len(text), TOKEN_CHARS)]
        rates = [
            size
            / _median_s(config, [text] if "piece" in cutting else tokens, options.rounds, speech_text=said)
            for cutting, said in cuttings
        ]
        print(f"{name:<16}{policy.value:<12}" + "".join(f"{rate:>9.2f} MB/s" for rate in rates))


def _repeat(unit: str, size: int) -> str:
    return unit * max(1, size // len(unit.encode()))


def _median_s(config: ChunkerConfig, tokens: Sequence[str], rounds: int, *, speech_text: bool) -> float:
    return statistics.median(_seconds(config, tokens, speech_text=speech_text) for _ in range(rounds))


def _seconds(config: ChunkerConfig, tokens: Sequence[str], *, speech_text: bool) -> float:
    begin = time.process_time()
    chunker = chunker_for(config, speech_text=speech_text)
    for now_ns, token in enumerate(tokens):
        chunker.push(token, now_ns)
    chunker.end(0)
    return time.process_time() - begin


if __name__ == "__main__":
    main()
