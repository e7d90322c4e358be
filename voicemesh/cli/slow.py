"""`voicemesh explain --slowest`: what made slow turns slow, from the gateway's record or exported traces."""

import asyncio
import json
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from voicemesh.cli import slow_text
from voicemesh.cli.ages import age_s
from voicemesh.cli.console import console_for
from voicemesh.cli.exits import DONE, FAILED, Failure, usage
from voicemesh.cli.lookup import ask_mesh
from voicemesh.client import VoiceMesh
from voicemesh.critical_path import Analysis, Measure, Population, Turn, analyse
from voicemesh.critical_path.files import UnreadableError, distinct, read_turns
from voicemesh.critical_path.reports import turn_from

_OUTCOMES: Final = ("completed", "interrupted", "failed")
_SHOWN_PROBLEMS: Final = 5
_MOST_PROBLEMS: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class SlowOptions:
    """What is asked of many turns.

    Attributes:
        slowest: How many turns are called slow, at most.
        by: What is measured.
        max_age_s: Only turns that began no longer ago; None for all.
        outcomes: Only these; empty for all.
        files: Exported traces, "-" for standard input; empty to ask the gateway.
        all_tenants: True for every tenant's turns.
        addr: Where the gateway is.
        tenant: Who asks; in files, whose turns; "" for everybody's there.
        as_json: True to print one JSON object.

    """

    slowest: int
    by: Measure
    max_age_s: float | None
    outcomes: Collection[str]
    files: tuple[str, ...]
    all_tenants: bool
    addr: str
    tenant: str
    as_json: bool


@dataclass
class Source:
    """Where turns came from, as people are told it.

    Attributes:
        name: "the gateway", or the files.
        known: Turns that there are, whether or not they were asked for.
        forgotten: True where the gateway has forgotten older ones.
        problems: What was left out: file, line and why.
        left_out: How many that are, also beyond those that are kept.

    """

    name: str
    known: int = 0
    forgotten: bool = False
    problems: list[tuple[str, int, str]] = field(default_factory=list)
    left_out: int = 0


def options_of(
    *,
    slowest: int,
    since: str,
    by: str,
    outcomes: tuple[str, ...],
    files: tuple[str, ...],
    all_tenants: bool,
    addr: str,
    tenant: str,
    as_json: bool,
) -> SlowOptions:
    """Return what the command line says, checked. Raises Failure."""
    if by not in ("ttfa", "total"):
        raise usage(f"--by: {by!r} is neither ttfa nor total")
    for outcome in outcomes:
        if outcome not in _OUTCOMES:
            raise usage(f"--outcome: {outcome!r} is none of {', '.join(_OUTCOMES)}")
    if all_tenants and tenant:
        raise usage("--all: is for who names no tenant", f"leave out --all, or --tenant {tenant}")
    for name in files:
        if files.count(name) > 1:
            raise usage(f"--file: {name} is named twice")
    return SlowOptions(
        slowest=slowest,
        by="ttfa" if by == "ttfa" else "total",
        max_age_s=age_s("--since", since, time.time()) if since else None,
        outcomes=outcomes,
        files=files,
        all_tenants=all_tenants,
        addr=addr,
        tenant=tenant,
        as_json=as_json,
    )


def run_slow(options: SlowOptions) -> int:
    """Print what made slow turns slow. Raises Failure."""
    population = Population(options.by, options.slowest)
    source = _from_files(options, population) if options.files else _from_gateway(options, population)
    analysis = analyse(population)
    if options.as_json:
        print(
            json.dumps(slow_text.to_json(analysis, population, source.problems, forgotten=source.forgotten))
        )
        return DONE
    slow_text.show(console_for(), analysis, population, source.name, forgotten=source.forgotten)
    if not population.taken and source.known:
        print(
            f"({source.known} turns are there that were not asked for: see --since, --outcome and --tenant)"
        )
    if few := too_few(options, analysis):
        print(few)
    return DONE


def too_few(options: SlowOptions, analysis: Analysis) -> str:
    """Return where there may be more turns, where those that were asked for are too few."""
    if analysis.enough or options.files or options.all_tenants:
        return ""
    if options.tenant:
        return f"(of tenant {options.tenant} alone: --all in place of --tenant takes those of every tenant)"
    return (
        "(of who names no tenant: --all takes those of every tenant, --tenant NAME those of one; "
        "each load of `voicemesh bench` is a tenant of its own)"
    )


def _from_gateway(options: SlowOptions, population: Population) -> Source:
    source = Source("the gateway's record")

    async def ask(mesh: VoiceMesh) -> None:
        turns = mesh.turns(
            max_age_s=options.max_age_s or 0.0, outcomes=options.outcomes, all_tenants=options.all_tenants
        )
        async for listed in turns:
            population.add(turn_from(listed.report.to_json(), listed.tenant))
        source.known, source.forgotten = turns.remembered, turns.forgotten

    asyncio.run(ask_mesh(options.addr, ask, options.tenant))
    return source


def _from_files(options: SlowOptions, population: Population) -> Source:
    source = Source(", ".join("standard input" if name == "-" else name for name in options.files))
    oldest_us = (time.time() - options.max_age_s) * 1e6 if options.max_age_s is not None else None
    for turn in distinct(_turns(options.files, source)):
        source.known += 1
        if (
            (oldest_us is None or turn.began_unix_us >= oldest_us)
            and (not options.outcomes or turn.outcome in options.outcomes)
            and (not options.tenant or turn.tenant == options.tenant)
        ):
            population.add(turn)
    for name, line, problem in source.problems[:_SHOWN_PROBLEMS]:
        print(f"{name}: line {line}: {problem}", file=sys.stderr)
    if more := source.left_out - min(len(source.problems), _SHOWN_PROBLEMS):
        print(f"… and {more} more that were left out", file=sys.stderr)
    if source.left_out and not source.known:
        raise usage(
            f"--file: {source.name}: nothing in it can be read as OTLP in JSON",
            "the collector's file exporter writes it: see docs/explain.md",
        )
    if not source.known:
        raise Failure(
            FAILED,
            "NO_TURNS",
            f"{source.name}: has no turn in it",
            "turns are the gateway's spans `turn`: is OTEL_EXPORTER_OTLP_ENDPOINT set for the gateway, too?",
        )
    return source


def _turns(files: tuple[str, ...], source: Source) -> Iterator[Turn]:
    for name in files:

        def complain(line: int, problem: str, name: str = name) -> None:
            source.left_out += 1
            if len(source.problems) < _MOST_PROBLEMS:
                source.problems.append(("standard input" if name == "-" else name, line, problem))

        with _opened(name) as stream:
            try:
                yield from read_turns(stream, complain)
            except UnreadableError as error:
                raise usage(f"--file: {name}: {error}") from None


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    if name == "-":
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(name).open("rb"))
        except OSError as error:
            raise usage(f"--file: cannot read {name}: {error.strerror}") from None
        yield stream
