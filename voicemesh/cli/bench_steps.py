"""The loads of a bench: what `--turns`, `--concurrency`, `--rate` and their like ask for together."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from voicemesh.cli.bench_options import KINDS, BenchOptions
from voicemesh.cli.exits import usage

SWEEP: Final = (1, 2, 4, 8, 16)
"""Callers of `--sweep`."""
DEFAULT_TURNS: Final = 100
DEFAULT_REQUESTS: Final = 5
MOST_TURNS: Final = 1_000_000
MOST_CALLERS: Final = 4096
LEAST_RATE: Final = 0.001
_MOST_STEPS: Final = 32
N = TypeVar("N", int, float)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was given on the command line about the load; None and "" for what was not.

    Attributes:
        turns: `--turns`.
        concurrency: `--concurrency`.
        rate: `--rate`.
        sweep: `--sweep`.
        arrivals: `--arrivals`.
        latency_tests: `--latency-tests`.
        concurrent_clients: `--concurrent-clients`.
        requests_per_client: `--requests-per-client`.

    """

    turns: int | None = None
    concurrency: str = ""
    rate: str = ""
    sweep: bool = False
    arrivals: str = ""
    latency_tests: int | None = None
    concurrent_clients: int | None = None
    requests_per_client: int | None = None


def steps(asked: Asked, plain: BenchOptions) -> list[BenchOptions]:
    """Return one run for each load that is asked for; `plain` has everything else.

    Where there are several, and nobody named a tenant, each has one of its own: what one left in the cache
    would make the next look faster than its load. Raises Failure for what cannot be.
    """
    _check(asked)
    turns = asked.turns or DEFAULT_TURNS
    if asked.latency_tests is not None or asked.concurrent_clients is not None:
        found = []
        if asked.latency_tests is not None:
            found.append(replace(plain, turns=asked.latency_tests, concurrency=1))
        if asked.concurrent_clients is not None:
            clients = asked.concurrent_clients
            each = asked.requests_per_client or DEFAULT_REQUESTS
            found.append(replace(plain, turns=clients * each, concurrency=clients))
    elif asked.rate:
        rates = _numbers("--rate", asked.rate, _rate)
        found = [
            replace(plain, turns=turns, rate_per_s=rate, arrivals=asked.arrivals or plain.arrivals)
            for rate in rates
        ]
    else:
        callers = SWEEP if asked.sweep else _numbers("--concurrency", asked.concurrency or "1", _callers)
        found = [replace(plain, turns=turns, concurrency=each) for each in callers]
    if len(found) == 1 or plain.tenant or not plain.reply_cache:
        return found
    run = uuid.uuid4().hex[:8]
    return [replace(step, tenant=f"bench-{run}-{place}") for place, step in enumerate(found)]


def _check(asked: Asked) -> None:
    """Raise Failure where two options ask for different things."""
    seeds = {
        "--latency-tests": asked.latency_tests is not None,
        "--concurrent-clients": asked.concurrent_clients is not None,
        "--requests-per-client": asked.requests_per_client is not None,
    }
    plain = {
        "--turns": asked.turns is not None,
        "--concurrency": bool(asked.concurrency),
        "--rate": bool(asked.rate),
        "--sweep": asked.sweep,
    }
    for name, given in seeds.items():
        for other, also in plain.items():
            if given and also:
                raise usage(
                    f"{name} and {other} exclude each other: both say how many turns are asked",
                    "--latency-tests N is --turns N --concurrency 1; --concurrent-clients C "
                    "--requests-per-client R is --turns C*R --concurrency C",
                )
    if seeds["--requests-per-client"] and not seeds["--concurrent-clients"]:
        raise usage(
            "--requests-per-client needs --concurrent-clients: it says how many turns each of them asks"
        )
    if (asked.concurrent_clients or 0) * (asked.requests_per_client or DEFAULT_REQUESTS) > MOST_TURNS:
        raise usage(
            f"--concurrent-clients times --requests-per-client: at most {MOST_TURNS} turns can be asked"
        )
    loads = [name for name in ("--rate", "--concurrency", "--sweep") if plain[name]]
    if len(loads) > 1:
        raise usage(f"{loads[0]} and {loads[1]} exclude each other")
    if asked.arrivals and not asked.rate:
        raise usage("--arrivals needs --rate: callers who wait for their answers come when they have them")


def _numbers(name: str, text: str, read: Callable[[str], N]) -> Sequence[N]:
    found = [read(part.strip()) for part in text.split(",")]
    if len(set(found)) < len(found):
        raise usage(f"{name}: {text!r} names a load twice")
    if len(found) > _MOST_STEPS:
        raise usage(f"{name}: names {len(found)} loads; at most {_MOST_STEPS} are taken")
    return found


def _callers(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= MOST_CALLERS:
        return int(text)
    raise usage(
        f"--concurrency: {text!r} must be a whole number of 1 to {MOST_CALLERS}",
        "several make a sweep: --concurrency 1,4,16",
    )


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not LEAST_RATE <= rate <= 1e6:  # also not a number
        raise usage(
            f"--rate: {text!r} must be a number of {LEAST_RATE} to 1000000 turns a second",
            "several make a sweep: --rate 5,10,20",
        )
    return rate


def mix(text: str) -> Mapping[str, float]:
    """Read `--mix`, as in "cached=0.3,interrupted=0.1". Raises Failure."""
    shares: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        name = name.replace("-", "_")
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if name not in KINDS or not 0 <= share <= 1:
            raise usage(
                f"--mix: {part!r} must be NAME=SHARE, NAME one of {', '.join(KINDS)} and SHARE 0 to 1",
                "for example --mix cached=0.3,interrupted=0.1",
            )
        if name in shares:
            raise usage(f"--mix: names {name} twice")
        shares[name] = share
    if sum(shares.values()) > 1 + 1e-9:
        raise usage(f"--mix: the shares are {sum(shares.values()):g} in sum, and at most 1 can be")
    return shares
