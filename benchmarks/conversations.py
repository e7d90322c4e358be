"""Two hours of conversations, recorded from a model of how people use a voice.

    .venv/bin/python -m benchmarks.conversations [--repetition 1] [--seed 1] [--write]

It is the trace of the cache's figures. The command prints how much of it repeats; with `--write` it
writes `conversations.jsonl`, which is committed and which the benchmarks play: a line a turn, by `at_ms`,
with the fields of `Turn`. The same seed and repetition give the same lines.

Who speaks, and where the numbers come from. No choice aims at a hit rate, but two were made with early ones
in view: classes have 24 pupils and not 12, and replies vary more than at first. `repetition` scales all that
makes turns alike, so that the effect of these choices can be shown.

    classroom   Two schools (tenants), two lessons each, 24 pupils, an utterance every 150 s. The
                application scores it, and asks the model for feedback on the phoneme that was worst and
                the range of its error rate: a prompt of its own each time, without history.
                A pupil has 3 sounds of trouble, and 70% of the worst phonemes are among them; sounds
                are drawn by Zipf with an exponent of 0.8, which gives the 20 commonest of the 156
                patterns 30 to 50% of the prompts: what the guides for such applications state.
                In 20% the application adds the word that was misread, so that hardly two are alike.
    tutor       One tenant, 16 learners, 16 exchanges each, 20 sentences to translate. Half of what it
                says is the application's own (8 phrases), half is the model's, about right or wrong.
    office      One tenant, 60 sessions of 1 to 6 turns, with history. 60% begin with one of 30 common
                questions (Zipf, exponent 1), the others with one that nobody else asks. Later turns: 30%
                acknowledge, 35% ask one of 6 things that can be asked about any answer, the rest is
                new. People type: a third drops capitals, a third the mark at the end, a tenth doubles
                a space, and a tenth of apostrophes are typographic.

At 16 turns a minute this is a small deployment, so that the file stays small. The guides' 5 million
interactions a year, on 200 days of 6 hours, are 69 a minute: about 4 times as many people (`record`).

The model that answers (`reply_to`) says the same to the same conversation, whatever its case, space and
marks; it words the same advice in two ways by what it is asked, has a few openings and closings, and writes a
practice sentence for each prompt.
"""

import argparse
import dataclasses
import hashlib
import json
import pathlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks import conversation_words as words

PATH: Final = pathlib.Path(__file__).with_suffix(".jsonl")
LENGTH_MS: Final = 2 * 3600 * 1000
COMMON_PATTERNS: Final = 20

App = Literal["classroom", "tutor", "office"]

SYSTEM_PROMPTS: Final[dict[str, str]] = {
    "classroom": "Phonics assistant: analyse pronunciation errors. Return 1 to 2 sentences of feedback and a "
    "practice sentence with several instances of the phoneme.",
    "tutor": "You check translations of spoken Urdu sentences into English. Answer in one or two sentences.",
    "office": "You hold the office hours of a university course. Answer in a few short spoken sentences.",
}

_APPS: Final[dict[str, App]] = {
    "maple-school": "classroom",
    "harbour-school": "classroom",
    "tutor": "tutor",
    "campus": "office",
}

_TROUBLE: Final = 0.7
_TROUBLE_SOUNDS: Final = 3
_MISREAD: Final = 0.2
_SOUND_EXPONENT: Final = 0.8
_LESSON_MS: Final = 40 * 60 * 1000
_UTTERANCE_MS: Final = 150 * 1000
_PUPILS: Final = 24
_LEARNERS: Final = 16
_EXCHANGES: Final = 16
_EXCHANGE_MS: Final = 60 * 1000
_OFFICE_SESSIONS: Final = 60
_COMMON_QUESTION: Final = 0.6
_ACKNOWLEDGES: Final = 0.3
_GENERIC: Final = 0.35


@dataclass(frozen=True)
class Turn:
    """One turn, as it came in."""

    at_ms: int
    """From the start of the trace."""
    tenant: str
    session: str
    use: Literal["feedback", "phrase", "question", "follow_up", "acknowledgement"]
    text: str
    """The prompt; of a phrase, the words that are to be spoken as they are."""

    @property
    def app(self) -> App:
        """Which application asks, and so which system prompt holds."""
        return _APPS[self.tenant]

    @property
    def history(self) -> bool:
        """True where the turns of the session before it are a part of what is asked."""
        return self.app == "office"


# ---------------------------------------------------------------- the people


def record(seed: int = 1, repetition: float = 1.0, crowd: int = 1) -> list[Turn]:
    """Return the trace.

    Args:
        seed: Of all that is drawn.
        repetition: 0 to 1, scales the shares of all that repeats: 1 as described above.
        crowd: So many times the pupils, learners and sessions.

    """
    draw = random.Random(seed)
    turns: list[Turn] = []
    for lesson in range(4):
        school = ("maple-school", "harbour-school")[lesson % 2]
        begins_ms = 5 * 60_000 + lesson * 25 * 60_000
        for pupil in range(_PUPILS * crowd):
            turns += _pupil(draw, school, f"lesson{lesson}-pupil{pupil}", begins_ms, repetition)
    for learner in range(_LEARNERS * crowd):
        turns += _learner(draw, f"learner{learner}", repetition)
    for number in range(_OFFICE_SESSIONS * crowd):
        turns += _student(draw, f"office{number}", repetition)
    return sorted(turns, key=lambda turn: (turn.at_ms, turn.session))


def _zipf(draw: random.Random, count: int, exponent: float) -> int:
    return draw.choices(range(count), [1 / (rank + 1) ** exponent for rank in range(count)])[0]


def _sound(draw: random.Random) -> words.Phoneme:
    return words.PHONEMES[_zipf(draw, len(words.PHONEMES), _SOUND_EXPONENT)]


def _pupil(
    draw: random.Random, school: str, session: str, begins_ms: int, repetition: float
) -> Iterator[Turn]:
    trouble = [_sound(draw) for _ in range(_TROUBLE_SOUNDS)]
    level = draw.choices(range(4), (2, 3, 3, 2))[0]
    at_ms = begins_ms + draw.randrange(_UTTERANCE_MS)
    while at_ms < begins_ms + _LESSON_MS:
        sound = draw.choice(trouble) if draw.random() < _TROUBLE * repetition else _sound(draw)
        band = min(3, max(0, level + draw.choices((-1, 0, 1), (1, 2, 1))[0]))
        text = f"phoneme: {sound.name}, error rate: {words.PER_RANGES[band]}%"
        if draw.random() >= (1 - _MISREAD) * repetition:
            word = draw.choice(sound.words)
            text += f', word: "{word}", heard: "{_misheard(draw, word)}"'
        yield Turn(at_ms, school, session, "feedback", text)
        at_ms += round(_UTTERANCE_MS * draw.uniform(0.6, 1.4))


def _misheard(draw: random.Random, word: str) -> str:
    """Return what a recogniser writes where `word` was read wrongly: one letter is another."""
    at = draw.randrange(len(word))
    other = draw.choice([letter for letter in "aeioutdsfw" if letter != word[at]])
    return word[:at] + other + word[at + 1 :]


def _learner(draw: random.Random, session: str, repetition: float) -> Iterator[Turn]:
    at_ms = draw.randrange(LENGTH_MS - _EXCHANGES * _EXCHANGE_MS)
    for _ in range(_EXCHANGES):
        if draw.random() < 0.5:
            phrase = words.STOCK_PHRASES[_zipf(draw, len(words.STOCK_PHRASES), 1.0)]
            yield Turn(at_ms, "tutor", session, "phrase", phrase)
        else:
            sentence = words.EXERCISES[draw.randrange(len(words.EXERCISES))]
            said = sentence
            if draw.random() >= 0.5 * repetition:
                dropped = draw.randrange(len(sentence.split()))
                said = " ".join(word for at, word in enumerate(sentence.split()) if at != dropped)
            text = f'sentence: "{sentence}", said: "{said}"'
            yield Turn(at_ms, "tutor", session, "feedback", text)
        at_ms += round(_EXCHANGE_MS * draw.uniform(0.5, 1.5))


def _student(draw: random.Random, session: str, repetition: float) -> Iterator[Turn]:
    at_ms = draw.randrange(LENGTH_MS - 10 * 60_000)
    count = draw.choices(range(1, 7), (20, 25, 20, 15, 12, 8))[0]
    for turn in range(count):
        use: Literal["question", "follow_up", "acknowledgement"] = "question"
        chance = draw.random()
        if turn == 0 and chance < _COMMON_QUESTION * repetition:
            text = words.QUESTIONS[_zipf(draw, len(words.QUESTIONS), 1.0)][0]
        elif turn and chance < _ACKNOWLEDGES:
            use, text = "acknowledgement", draw.choice(words.ACKNOWLEDGEMENTS)
        elif turn and chance < _ACKNOWLEDGES + _GENERIC * repetition:
            use, text = "follow_up", draw.choice(words.FOLLOW_UPS)[0]
        else:
            trouble = draw.choice(words.TROUBLES).format(n=draw.randrange(2, 400))
            text = f"Why is it that {draw.choice(words.TOPICS)} {trouble}?"
        yield Turn(at_ms, "campus", session, use, _typed(draw, text))
        at_ms += round(draw.uniform(20_000, 90_000))


def _typed(draw: random.Random, text: str) -> str:
    """Return `text` as somebody types it."""
    if draw.random() < 1 / 3:
        text = text.lower()
    if draw.random() < 1 / 3:
        text = text.rstrip("?.!")
    if draw.random() < 0.1:
        text = text.replace(" ", "  ", 1) + " "
    if draw.random() < 0.1:
        text = text.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")
    return text


# ---------------------------------------------------------------- the model


def reply_to(system_prompt: str, prompts: Sequence[str]) -> str:
    """Return what the model says to the last of `prompts`, those of a conversation, oldest first."""
    app = next((app for app, prompt in SYSTEM_PROMPTS.items() if prompt == system_prompt), "office")
    asked = [_meant(prompt) for prompt in prompts]
    if app == "classroom":
        return _feedback(prompts[-1], asked[-1])
    return _correction(prompts[-1], asked[-1]) if app == "tutor" else _answer(asked)


def _meant(prompt: str) -> str:
    """Return what is left of a prompt without case, marks and spaces."""
    kept = re.findall(r"\w+", prompt.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").lower())
    return " ".join(kept)


def _pick(options: Sequence[str], *parts: object) -> str:
    """Return one of `options`, always the same for the same `parts`."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return options[int.from_bytes(digest[:4]) % len(options)]


_HEX: Final = tuple(f"{number:02x}" for number in range(256))


def _feedback(prompt: str, meant: str) -> str:
    found = re.match(r"phoneme: (\w+), error rate: ([\d-]+)%", prompt)
    assert found is not None, prompt
    sound = next(phoneme for phoneme in words.PHONEMES if phoneme.name == found[1])
    band = words.PER_RANGES.index(found[2])
    sentences = [_pick(words.PRAISE[band], meant)]
    misread = re.search(r'word: "(\w+)", heard: "(\w+)"', prompt)
    if misread:
        sentences.append(f'I heard "{misread[2]}" where the text has "{misread[1]}".')
    advice = _pick(words.ADVICE[band], "advice", meant)
    sentences.append(advice.format(letters=sound.letters, advice=sound.advice))
    # As a model writes another practice sentence whenever it is asked something else.
    practice = sorted(sound.words, key=lambda word: _pick(_HEX, word, meant))
    sentences.append(_pick(words.PRACTICE, "practice", meant).format(*practice))
    return " ".join(sentences)


def _correction(prompt: str, meant: str) -> str:
    found = re.match(r'sentence: "(.*)", said: "(.*)"', prompt)
    assert found is not None, prompt
    if found[1] == found[2]:
        praise = _pick(("That is right.", "Correct, well done!", "Perfect."), meant)
        return f'{praise} You said it as it should be: "{found[1]}".'
    return f'Almost. A word is missing in "{found[2]}". Say it with me: {found[1]}.'


def _answer(asked: Sequence[str]) -> str:
    meant = asked[-1]
    if meant in {_meant(one) for one in words.ACKNOWLEDGEMENTS}:
        return _pick(words.WELCOME, *asked)
    known = next((body for question, *body in words.QUESTIONS if _meant(question) == meant), None)
    if known is not None:
        return " ".join((_pick(words.OPENINGS, *asked), *known, _pick(words.CLOSINGS, *asked)))
    generic = next((begin for question, begin in words.FOLLOW_UPS if _meant(question) == meant), None)
    before = next((one for one in reversed(asked[:-1]) if len(one.split()) > 2), "what you asked")
    topic = " ".join(before.split()[-4:])
    if generic is not None:
        body = f"Take {topic}, and change one thing at a time. You will see which part depends on it."
        return f"{generic} {body} {_pick(words.CLOSINGS, *asked)}"
    topic = " ".join(meant.split()[4:12])
    body = f"You say that {topic}. First write down what you expect. Then look at the smallest case."
    return f"{_pick(words.OPENINGS, *asked)} {body} {_pick(words.CLOSINGS, *asked)}"


# ---------------------------------------------------------------- the file


def load(path: pathlib.Path = PATH) -> list[Turn]:
    """Return the recorded trace."""
    return [Turn(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def lines(turns: Iterable[Turn]) -> str:
    """Return a trace as it is written: a JSON object a line."""
    return "".join(json.dumps(dataclasses.asdict(turn), ensure_ascii=False) + "\n" for turn in turns)


def replies(turns: Iterable[Turn]) -> Iterator[tuple[Turn, str]]:
    """Yield each turn and what is spoken in it."""
    before: dict[str, list[str]] = {}
    for turn in turns:
        if turn.use == "phrase":
            yield turn, turn.text
            continue
        asked = before.setdefault(turn.session, []) if turn.history else []
        asked.append(turn.text)
        yield turn, reply_to(SYSTEM_PROMPTS[turn.app], asked)


@dataclass(frozen=True)
class Ideal:
    """What a cache would find that keeps everything for its lifetime and to which turns come one by one."""

    replies: float
    """Share of the prompts whose reply it has."""
    audio: float
    """Share of the sentences that it has spoken."""


def ideal(turns: Iterable[Turn], *, reply_ttl_ms: int = 30 * 60_000, audio_ttl_ms: int = LENGTH_MS) -> Ideal:
    """Return the share of hits by exact texts (case, spaces and marks aside), for each tenant apart."""
    before: dict[str, tuple[str, ...]] = {}
    made_ms: dict[object, int] = {}
    asked: Counter[str] = Counter()
    found: Counter[str] = Counter()

    def look_up(kind: str, key: object, now_ms: int, ttl_ms: int) -> None:
        asked[kind] += 1
        if now_ms - made_ms.get((kind, key), -ttl_ms) < ttl_ms:
            found[kind] += 1
        else:
            made_ms[kind, key] = now_ms

    for turn, reply in replies(turns):
        if turn.use != "phrase":
            conversation = (*before.get(turn.session, ()), _meant(turn.text)) if turn.history else turn.text
            if isinstance(conversation, tuple):
                before[turn.session] = conversation
            look_up("reply", (turn.tenant, conversation), turn.at_ms, reply_ttl_ms)
        for sentence in re.split(r"(?<=[.!?]) ", reply):
            look_up("audio", (turn.tenant, sentence), turn.at_ms, audio_ttl_ms)
    return Ideal(found["reply"] / asked["reply"], found["audio"] / asked["audio"])


def common_share(turns: Iterable[Turn]) -> float:
    """Return the share of the classroom's prompts that the commonest patterns have."""
    patterns = Counter(turn.text.split(", word")[0] for turn in turns if turn.app == "classroom")
    return sum(count for _, count in patterns.most_common(COMMON_PATTERNS)) / patterns.total()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repetition", type=float, default=1.0)
    parser.add_argument("--write", action="store_true", help=f"write {PATH.name}")
    arguments = parser.parse_args()
    turns = record(arguments.seed, arguments.repetition)
    if arguments.write:
        PATH.write_text(lines(turns), encoding="utf-8")
    print(f"{len(turns)} turns, {len({turn.session for turn in turns})} sessions")
    for app in SYSTEM_PROMPTS:
        own = [(turn, reply) for turn, reply in replies(turns) if turn.app == app]
        prompts = [(turn.tenant, reply) for turn, reply in own if turn.use != "phrase"]
        print(f"{app:<10} {len(own):>5} turns; of {len(prompts)} replies {len(set(prompts))} differ")
    print(f"the {COMMON_PATTERNS} commonest patterns: {common_share(turns):.0%} of the classroom's prompts")
    print(f"\n{'an ideal cache has of it':<42} {'replies':>9} {'sentences':>9}")
    for repetition in (1.0, 0.75, 0.5, 0.25, 0.0):
        _print_ideal(f"repetition {repetition:g}", ideal(record(arguments.seed, repetition)))
    for minutes in (60, 120):
        name = f"replies kept for {minutes} minutes instead of 30"
        _print_ideal(name, ideal(record(arguments.seed), reply_ttl_ms=minutes * 60_000))
    for crowd in (2, 4):
        turns = record(arguments.seed, crowd=crowd)
        _print_ideal(f"{crowd} times as many people: {len(turns) / 120:.0f} turns a minute", ideal(turns))


def _print_ideal(name: str, hits: Ideal) -> None:
    print(f"{name:<42} {hits.replies:>9.0%} {hits.audio:>9.0%}")


if __name__ == "__main__":
    main()
