"""`voicemesh capacity`: its options and help."""

# ruff: noqa: PLC0415 - what a command does is imported when it runs, so that `--help` is quick

from pathlib import Path
from typing import Annotated

import typer

from voicemesh.cli.options import Json, command

capacity_app = typer.Typer(rich_markup_mode="markdown")
"""Without a name: its command is one of `app`."""

_ASKED = "What is asked for"
_MODEL = "Your model"
_HAVE = "What there is"
_CAME = "How turns come"


@capacity_app.command(
    epilog="Examples: `voicemesh capacity --turns 10000 --p95 700ms` · `voicemesh capacity --rate 40 --p95 "
    "1s --spare 1 --node-cores 8 --node-usd 0.34` · `voicemesh capacity --turns 500 --p95 700ms "
    "--profile mine.json` · `voicemesh capacity --callers 2000 --think 8s --p95 1200 --ttft 350ms,900ms "
    "--tokens-per-s 60` · Exit status: 0 done · 1 no number of replicas is enough · 2 wrong use"
)
@command
def capacity(
    turns: Annotated[
        float | None,
        typer.Option(
            "--turns",
            metavar="N",
            help="Turns at once: from a prompt to the last sound of its reply, heard as it is spoken.",
            rich_help_panel=_ASKED,
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            metavar="R",
            help="Turns that begin in a second, instead of --turns.",
            rich_help_panel=_ASKED,
        ),
    ] = None,
    callers: Annotated[
        float | None,
        typer.Option(
            "--callers",
            metavar="N",
            help="People who talk, instead of --turns: a turn, a pause of --think, and again.",
            rich_help_panel=_ASKED,
        ),
    ] = None,
    think: Annotated[
        str,
        typer.Option(
            "--think",
            metavar="TIME",
            help="From the last sound of a reply to the caller's next prompt: thinking, and speaking. "
            "Default: as long as a turn, so that half of them are in one.",
            rich_help_panel=_ASKED,
        ),
    ] = "",
    p95: Annotated[
        str,
        typer.Option(
            "--p95",
            metavar="TIME",
            help="95 of 100 turns are to have their first audio within it: 300ms, 0.8s; 300 is milliseconds.",
            rich_help_panel=_ASKED,
        ),
    ] = "1s",
    ttft: Annotated[
        str,
        typer.Option(
            "--ttft",
            metavar="P50,P95",
            help="When your model's first token comes, as in 350ms,900ms: half of them, and 95 of 100, "
            "within. Default: as measured.",
            rich_help_panel=_MODEL,
        ),
    ] = "",
    tokens_per_s: Annotated[
        float | None,
        typer.Option(
            "--tokens-per-s",
            metavar="R",
            help="What it writes behind that. Default: as measured.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    model_from: Annotated[
        Path | None,
        typer.Option(
            "--model-from",
            metavar="FILE",
            help="Both as a bench of your model found them: what `bench --no-cache --json` printed.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    cached: Annotated[
        str,
        typer.Option(
            "--cached",
            metavar="PERCENT",
            help="Turns that the cache gives: neither model nor engine works for them.",
            rich_help_panel=_ASKED,
        ),
    ] = "0%",
    speech_s: Annotated[
        float | None,
        typer.Option(
            "--speech-s",
            metavar="S",
            help="Seconds of audio in a turn, in the mean. Default: as measured.",
            rich_help_panel=_ASKED,
        ),
    ] = None,
    utilisation: Annotated[
        str,
        typer.Option(
            "--utilisation",
            metavar="PERCENT",
            help="Nothing is to be busy for more of the time than this.",
            rich_help_panel=_ASKED,
        ),
    ] = "70%",
    spare: Annotated[
        int,
        typer.Option(
            "--spare",
            metavar="N",
            min=0,
            max=1000,
            help="N replicas of each service, and nodes, more than it takes: they may be lost.",
            rich_help_panel=_ASKED,
        ),
    ] = 0,
    profile: Annotated[
        str,
        typer.Option(
            "--profile",
            metavar="NAME|FILE",
            help="What turns take, as measured; --profiles lists those that come along.",
            rich_help_panel=_HAVE,
        ),
    ] = "espeak",
    profiles: Annotated[
        bool,
        typer.Option("--profiles", metavar="", help="List the profiles.", rich_help_panel=_HAVE),
    ] = False,
    max_turns: Annotated[
        int,
        typer.Option(
            "--max-turns",
            metavar="N",
            min=1,
            max=100_000,
            help="Turns of one gateway at once; VOICEMESH_GATEWAY_MAX_TURNS.",
            rich_help_panel=_HAVE,
        ),
    ] = 256,
    prices: Annotated[
        Path | None,
        typer.Option(
            "--prices", metavar="FILE", help="Prices as JSON; docs/capacity.md.", rich_help_panel=_HAVE
        ),
    ] = None,
    node_cores: Annotated[
        float | None,
        typer.Option(
            "--node-cores",
            metavar="N",
            help="Cores that a node has for pods. Default: as many as the machine that was measured.",
            rich_help_panel=_HAVE,
        ),
    ] = None,
    node_gib: Annotated[
        float | None,
        typer.Option(
            "--node-gib",
            metavar="GIB",
            help="Memory that a node has for pods. Default: enough.",
            rich_help_panel=_HAVE,
        ),
    ] = None,
    node_usd: Annotated[
        float | None,
        typer.Option("--node-usd", metavar="USD", help="Price of a node for an hour.", rich_help_panel=_HAVE),
    ] = None,
    gpu_usd: Annotated[
        float | None,
        typer.Option(
            "--gpu-usd",
            metavar="USD",
            help="Price of a GPU for an hour, beside the nodes.",
            rich_help_panel=_HAVE,
        ),
    ] = None,
    llm_usd: Annotated[
        float | None,
        typer.Option(
            "--llm-usd",
            metavar="USD",
            help="What the model's provider takes for 1,000 turns.",
            rich_help_panel=_HAVE,
        ),
    ] = None,
    bursts: Annotated[
        str,
        typer.Option(
            "--bursts",
            metavar="FACTOR[,SECONDS]",
            help="Turns come in bursts of so many times the mean rate, 10 s long unless said.",
            rich_help_panel=_CAME,
        ),
    ] = "",
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="Turns come as recorded: seconds, one a line, or what `bench --rate … --json` printed; at "
            "the rate that was asked for.",
            rich_help_panel=_CAME,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option("--seed", metavar="N", help="Another seed, other chances.", rich_help_panel=_CAME),
    ] = 1,
    as_json: Json = False,
) -> int:
    """Say how many replicas, nodes and GPUs a load needs, what decides that, and what it costs.

    From a measured profile: nothing that was not measured is assumed, and where no GPU was, none is planned.
    A simulation of the mesh checks that the objective is kept. Turns come at random (Poisson) unless
    --bursts or --trace says otherwise.
    """
    from voicemesh.cli.capacity import run_capacity, run_profiles
    from voicemesh.cli.capacity_options import CapacityOptions

    if profiles:
        return run_profiles(as_json=as_json)
    return run_capacity(
        CapacityOptions(
            turns=turns,
            rate_per_s=rate,
            p95=p95,
            callers=callers,
            think=think,
            ttft=ttft,
            tokens_per_s=tokens_per_s,
            model_from=model_from,
            cached=cached,
            speech_s=speech_s,
            utilisation=utilisation,
            spare=spare,
            profile=profile,
            max_turns=max_turns,
            prices=prices,
            node_cores=node_cores,
            node_gib=node_gib,
            node_usd=node_usd,
            gpu_usd=gpu_usd,
            llm_usd=llm_usd,
            bursts=bursts,
            trace=trace,
            seed=seed,
            as_json=as_json,
        )
    )
