"""What a bench runs: its options, and from them each turn and the moment at which it is due."""

import itertools
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from voicemesh.client import SpeechOptions

PLAIN: Final = "plain"
CACHED: Final = "cached"
INTERRUPTED: Final = "interrupted"
OWN_WORDS: Final = "own_words"
KINDS: Final = (INTERRUPTED, CACHED, OWN_WORDS)
"""What a share of the turns can be; the rest is plain. A draw decides in this order."""
ARRIVALS: Final = ("uniform", "poisson")
PRIMED: Final = 8
"""How many prompts are asked ahead for turns that are to find their reply in the cache."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """A run under one load.

    Attributes:
        addr: Where the mesh is.
        tenant: Whose turns they are.
        turns: How many turns are counted.
        concurrency: Callers of a closed loop.
        rate_per_s: Turns a second of an open loop; None for a closed one.
        arrivals: When turns of an open loop are due: "uniform", one as far from the next as any other, or
            "poisson", as of callers who know nothing of one another.
        prompts: What is asked, in turn.
        warmup: How many turns run before those that are counted.
        mix: Share of each of `KINDS`, 0 to 1, at most 1 in sum.
        seed: Seed of the draws: of arrivals, kinds, and moments of interruptions.
        speech: How it is spoken.
        reply_cache: False to bypass cached replies.
        limit_s: Seconds that the run may take; None for no limit.

    """

    addr: str
    tenant: str = ""
    turns: int
    concurrency: int
    rate_per_s: float | None
    arrivals: str = "uniform"
    prompts: Sequence[str]
    warmup: int = 0
    mix: Mapping[str, float] = field(default_factory=dict)
    seed: int
    speech: SpeechOptions
    reply_cache: bool
    limit_s: float | None

    @property
    def load(self) -> str:
        """The load, in words."""
        if self.rate_per_s is not None:
            return f"{self.rate_per_s:g} a second"
        return "1 caller" if self.concurrency == 1 else f"{self.concurrency} callers"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What turns are asked for, and of whom: a run has one, a comparison two.

    Attributes:
        label: How it is called, as it was given.
        addr: Where the mesh is.
        tenant: Whose turns they are.
        speech: How it is spoken.
        model: Model to ask for; "" for the mesh's.
        system_prompt: Instructions to it; "" for the mesh's.
        prompt_variant: Name of the mesh's prompt; "" for its choice.
        reply_cache: False to bypass cached replies.

    """

    label: str = ""
    addr: str
    tenant: str = ""
    speech: SpeechOptions
    model: str = ""
    system_prompt: str = ""
    prompt_variant: str = ""
    reply_cache: bool = True


@dataclass(frozen=True)
class Job:
    """One turn to run.

    Attributes:
        number: Which prompt it is, from 0; turns of two arms that are compared have the same.
        arm: Which of the arms it is for.
        prompt: What to ask, or to say.
        due_ns: When it is meant to begin; None for at once.
        interrupt_at: The moment of its interruption, as a share of what a turn takes; None for none.
        kind: "plain", or one of `KINDS`.

    """

    number: int
    arm: int
    prompt: str
    due_ns: int | None
    interrupt_at: float | None
    kind: str = PLAIN


def arm_of(options: BenchOptions) -> Arm:
    """Return the only arm of a run that compares nothing."""
    return Arm(
        addr=options.addr, tenant=options.tenant, speech=options.speech, reply_cache=options.reply_cache
    )


def due_ns(options: BenchOptions, start_ns: int) -> Iterator[int]:
    """Yield the moments at which turns of an open loop are due, without end; the first at `start_ns`."""
    assert options.rate_per_s is not None
    if options.arrivals == "uniform":
        for place in itertools.count():
            yield start_ns + round(place * 1e9 / options.rate_per_s)
    chance = random.Random(f"{options.seed} arrivals")  # noqa: S311 - repeatable on purpose
    after_s = 0.0
    while True:
        yield start_ns + round(after_s * 1e9)
        after_s += chance.expovariate(options.rate_per_s)


def jobs(options: BenchOptions, arms: int, start_ns: int) -> Iterator[Job]:
    """Yield the turns of a run in the order in which they are to begin, each prompt for every arm."""
    chance = random.Random(options.seed)  # noqa: S311 - repeatable on purpose
    first = random.Random(f"{options.seed} order")  # noqa: S311 - its own, so that arms change no draw
    prompts, primed = itertools.cycle(options.prompts), itertools.cycle(options.prompts[:PRIMED])
    moments = due_ns(options, start_ns) if options.rate_per_s is not None else itertools.repeat(None)
    for number in range(options.turns):
        # Both drawn for every turn, so that another share takes some of the same turns.
        drawn, moment = chance.random(), chance.random()
        kind = _kind(options.mix, drawn)
        prompt = next(primed if kind == CACHED else prompts)
        for arm in first.sample(range(arms), arms):
            yield Job(number, arm, prompt, next(moments), moment if kind == INTERRUPTED else None, kind)


def warmup_jobs(options: BenchOptions, arms: int) -> Iterator[Job]:
    """Yield the turns ahead of a run: those that fill the cache for cached ones, then plain ones."""
    if options.mix.get(CACHED):
        for number, prompt in enumerate(options.prompts[:PRIMED]):
            for arm in range(arms):
                yield Job(number, arm, prompt, None, None, CACHED)
    for number, prompt in zip(range(options.warmup), itertools.cycle(options.prompts), strict=False):
        for arm in range(arms):
            yield Job(number, arm, prompt, None, None)


def uses_cache(options: BenchOptions, kind: str) -> bool:
    """Say whether a turn may be served from the cache: where some are meant to be, no other is by chance."""
    return kind == CACHED or not options.mix.get(CACHED)


def _kind(mix: Mapping[str, float], drawn: float) -> str:
    upto = 0.0
    for kind in KINDS:
        upto += mix.get(kind, 0.0)
        if drawn < upto:
            return kind
    return PLAIN


def as_json_config(options: BenchOptions, *, cut_short: bool) -> dict[str, Any]:
    """Return the settings of a run, in JSON form."""
    return {
        "addr": options.addr,
        "turns": options.turns,
        "loop": "closed" if options.rate_per_s is None else "open",
        "concurrency": options.concurrency if options.rate_per_s is None else None,
        "rate_per_s": options.rate_per_s,
        "arrivals": options.arrivals if options.rate_per_s is not None else None,
        "prompts": len(options.prompts),
        "warmup": options.warmup,
        "mix": dict(options.mix),
        "interrupt_share": options.mix.get(INTERRUPTED, 0.0),
        "seed": options.seed,
        "voice": options.speech.voice,
        "policy": options.speech.policy,
        "cache": options.reply_cache,
        "paced": options.speech.max_lead_ms is None,
        "limit_s": options.limit_s,
        "cut_short": cut_short,
        "percentiles": "linear between closest ranks",
    }


def now_ns() -> int:
    """Return the monotonic clock that turns are timed by."""
    return time.monotonic_ns()
