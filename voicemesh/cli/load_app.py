"""`voicemesh bench` and `voicemesh warm`: what puts many turns, or phrases, through a mesh."""

# ruff: noqa: PLC0415 - what a command does is imported when it runs, so that `--help` is quick

from pathlib import Path
from typing import Annotated

import typer

from voicemesh.cli import exits, inputs
from voicemesh.cli.options import DEFAULT_ADDR, Addr, Json, NoCache, Policy, Rate, Tenant, VoiceName, command

load_app = typer.Typer(rich_markup_mode="markdown")
"""Without a name: its commands are those of `app`."""


@load_app.command(
    epilog="Examples: `voicemesh bench --turns 200 --concurrency 20` · `voicemesh bench --rate 50 --json` · "
    "`voicemesh bench --concurrency 1,4,16 --html report.html` · "
    "`voicemesh bench --compare policy=sentence policy=clause` · "
    "Exit status: 0 done, failed turns are in the result · 1 every turn failed, or --duration-guard ended "
    "the run · 3 the mesh cannot be reached."
)
@command
def bench(
    turns: Annotated[
        int | None,
        typer.Option(
            "--turns", metavar="N", min=1, max=1_000_000, help="How many turns, of each load. Default 100."
        ),
    ] = None,
    concurrency: Annotated[
        str,
        typer.Option(
            "--concurrency",
            metavar="C[,C…]",
            help="Callers, each asking again when answered; several, as 1,4,16, make a sweep. Default 1.",
        ),
    ] = "",
    sweep: Annotated[
        bool, typer.Option("--sweep", metavar="", help="Short for --concurrency 1,2,4,8,16.")
    ] = False,
    rate: Annotated[
        str,
        typer.Option(
            "--rate", metavar="R[,R…]", help="Begin R turns a second, answered or not; several make a sweep."
        ),
    ] = "",
    arrivals: Annotated[
        str,
        typer.Option(
            "--arrivals",
            metavar="NAME",
            help="With --rate: uniform (default), or poisson, as of callers who know nothing of one another.",
        ),
    ] = "",
    latency_tests: Annotated[
        int | None,
        typer.Option(
            "--latency-tests", metavar="N", min=1, max=1_000_000, help="N turns, one after the other."
        ),
    ] = None,
    concurrent_clients: Annotated[
        int | None,
        typer.Option(
            "--concurrent-clients",
            metavar="C",
            min=1,
            max=4096,
            help="C callers at once, behind the latency tests where both are given.",
        ),
    ] = None,
    requests_per_client: Annotated[
        int | None,
        typer.Option(
            "--requests-per-client", metavar="R", min=1, max=1_000_000, help="R turns of each. Default 5."
        ),
    ] = None,
    warmup: Annotated[
        int,
        typer.Option(
            "--warmup", metavar="N", min=0, max=10_000, help="N turns first, of each load, that do not count."
        ),
    ] = 0,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="FILE", help="A prompt a line, asked in turn; .jsonl: JSON lines."),
    ] = None,
    mix: Annotated[
        str,
        typer.Option(
            "--mix",
            metavar="NAME=SHARE,…",
            help="Shares of turns that are cached (the others are then not), interrupted, or own_words.",
        ),
    ] = "",
    interrupt_share: Annotated[
        float,
        typer.Option(
            "--interrupt-share",
            metavar="SHARE",
            min=0,
            max=1,
            help="Share of turns to interrupt, 0 to 1; with --no-cache or --paced, or they end before.",
        ),
    ] = 0.0,
    seed: Annotated[
        int,
        typer.Option("--seed", metavar="N", help="Seed of arrivals, kinds, and moments of interruptions."),
    ] = 1,
    no_cache: NoCache = False,
    paced: Annotated[
        bool,
        typer.Option(
            "--paced", metavar="", help="Let synthesis keep to the pace of playback, as for listeners."
        ),
    ] = False,
    voice: VoiceName = "",
    policy: Policy = "",
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--compare",
            metavar="A B",
            help="Compare two settings (policy=sentence policy=adaptive; model, voice, prompt, addr, or a "
            "flag's variant), turn about, N turns of each; or two files of --json.",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a report: one page that needs nothing else."),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Run nothing: show what --json printed, also as --html."),
    ] = None,
    duration_guard: Annotated[
        float | None,
        typer.Option("--duration-guard", min=0.1, metavar="S", help="End each load's run after S seconds."),
    ] = None,
    as_json: Json = False,
    tenant: Tenant = "",
    addr: Addr = DEFAULT_ADDR,
    rest: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
) -> int:
    """Put load on a mesh and report percentiles, stages, cache hits, and advice.

    With --concurrency, callers wait for their answers; with --rate, turns begin on a schedule that is
    known before the run and their times count from it, so that a slow mesh cannot hide its waiting.
    Percentiles are linear between the closest ranks. Times are those that the caller observed. --compare
    says how B differs from A, with 95% intervals; docs/bench.md and docs/flags.md say how that is done.
    """
    _check_compared(compare, rest or [])
    asked = inputs.read_prompts(prompts)
    from voicemesh.cli import bench_steps
    from voicemesh.cli.bench_options import ARRIVALS, CACHED, INTERRUPTED, BenchOptions
    from voicemesh.cli.load import Output, run_bench, run_compare, show_recorded
    from voicemesh.cli.speak import check
    from voicemesh.client import SpeechOptions

    output = Output(as_json=as_json, html=html)
    if from_ is not None:
        if compare is not None:
            raise exits.usage(
                "--from and --compare exclude each other", "--compare a.json b.json compares two files"
            )
        return show_recorded(from_, output)
    if arrivals not in ("", *ARRIVALS):
        raise exits.usage(f"--arrivals: {arrivals!r} is none of {', '.join(ARRIVALS)}")
    shares = bench_steps.mix(mix)
    if shares and interrupt_share:
        raise exits.usage(
            "--mix and --interrupt-share exclude each other", "--mix interrupted=SHARE is the same"
        )
    if shares.get(CACHED) and no_cache:
        raise exits.usage("--mix cached=… and --no-cache exclude each other")
    speech = SpeechOptions(voice=voice, policy=policy, max_lead_ms=None if paced else 0, cache=not no_cache)
    check(speech)
    plain = BenchOptions(
        addr=addr,
        tenant=tenant,
        turns=1,
        concurrency=1,
        rate_per_s=None,
        prompts=asked,
        warmup=warmup,
        mix=shares or ({INTERRUPTED: interrupt_share} if interrupt_share else {}),
        seed=seed,
        speech=speech,
        reply_cache=not no_cache,
        limit_s=duration_guard,
    )
    steps = bench_steps.steps(
        bench_steps.Asked(
            turns=turns,
            concurrency=concurrency,
            rate=rate,
            sweep=sweep,
            arrivals=arrivals,
            latency_tests=latency_tests,
            concurrent_clients=concurrent_clients,
            requests_per_client=requests_per_client,
        ),
        plain,
    )
    if compare is None:
        return run_bench(steps, output)
    if len(steps) > 1:
        raise exits.usage(
            "--compare and a sweep exclude each other: A and B are compared under one load",
            "save both sweeps with --json and compare the files",
        )
    return run_compare(steps[0], *compare, output)


def _check_compared(compare: tuple[str, str] | None, rest: list[str]) -> None:
    """Raise Failure where `--compare` took an option for its second, or something is left over."""
    taken = next((text for text in compare or () if text.startswith("-")), "")
    if taken or (rest and compare is not None):
        said = f"{taken} was taken for one" if taken else f"{rest[0]!r} is too much"
        raise exits.usage(
            f"--compare: takes two settings or files, A and B; {said}",
            "for example --compare policy=sentence policy=adaptive",
        )
    if rest:
        raise exits.usage(f"bench takes no argument: {rest[0]!r}", "--prompts FILE says what is asked")


@load_app.command(
    epilog="Example: `voicemesh warm phrases.txt --voice anna --voice bert` · Exit status: 0 all of it is in "
    "the cache · 1 some of it is not · 2 wrong use · 3 the mesh cannot be reached."
)
@command
def warm(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A phrase a line; .jsonl: objects with text, voice, …; - reads standard input.",
        ),
    ],
    voice: Annotated[
        list[str] | None,
        typer.Option("--voice", metavar="NAME", help="Who speaks; may be given several times."),
    ] = None,
    speed: Annotated[
        float, typer.Option("--speed", metavar="SPEED", min=0.25, max=4, help="Speed of speech.")
    ] = 1.0,
    rate: Rate = 0,
    policy: Policy = "",
    as_json: Json = False,
    tenant: Tenant = "",
    addr: Addr = DEFAULT_ADDR,
) -> int:
    """Speak common phrases into the cache before they are asked for.

    What is there already is not spoken again. The phrases are cut as turns that say them would cut them, with
    the same voice, speed, rate and policy, and wait for engines behind everything that somebody listens to.
    """
    from voicemesh.cli.warm import WarmOptions, run_warm

    return run_warm(
        WarmOptions(
            addr=addr,
            path=path,
            voices=voice or (),
            speed=speed,
            rate_hz=rate,
            policy=policy,
            tenant=tenant,
            as_json=as_json,
        )
    )
