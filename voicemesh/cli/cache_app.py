"""`voicemesh cache`: what the cache services have, and removing it."""

# ruff: noqa: PLC0415 - what a command does is imported when it runs, so that `--help` is quick

from typing import Annotated

import typer

from voicemesh.cli import exits
from voicemesh.cli.options import Json, command

DEFAULT_CACHE_ADDR = "127.0.0.1:50054"

cache_app = typer.Typer(
    name="cache",
    help="Look at the cache services, and remove what they have.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

CacheAddr = Annotated[
    str,
    typer.Option(
        "--cache-addr",
        envvar="VOICEMESH_CACHE_ADDR",
        metavar="HOST:PORT",
        help="Where the cache services are: a name may stand for several, and addresses be parted by commas.",
    ),
]


@cache_app.command(
    epilog="Examples: `voicemesh cache invalidate --voice espeak/en-gb` · `voicemesh cache invalidate --tag "
    "lesson-3 --tenant acme` · Exit status: 0 removed everywhere · 1 one of them failed: "
    "try again · 2 wrong use · 3 none can be reached."
)
@command
def invalidate(
    voice: Annotated[str, typer.Option("--voice", metavar="NAME", help="All audio of a voice.")] = "",
    model_revision: Annotated[
        str, typer.Option("--model-revision", metavar="REVISION", help="All audio of a revision of a model.")
    ] = "",
    tag: Annotated[str, typer.Option("--tag", metavar="TAG", help="All that was stored with a tag.")] = "",
    key: Annotated[
        str, typer.Option("--key", metavar="JSON", help="One entry: a CacheKey of the contract as JSON.")
    ] = "",
    everything: Annotated[bool, typer.Option("--all", metavar="", help="Everything.")] = False,
    tenant: Annotated[
        str | None,
        typer.Option(
            "--tenant",
            metavar="NAME",
            help="Everything of a tenant; with another option, of that what is this tenant's. '' is who "
            "names none, '*' what all share.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    cache_addr: CacheAddr = DEFAULT_CACHE_ADDR,
) -> int:
    """Remove entries from the memory of every cache service and from Redis.

    What is being made while they are removed is not stored.
    """
    from voicemesh.cli.invalidate import request_of, run_invalidate

    given = {"voice": voice, "model_revision": model_revision, "tag": tag, "key": key}
    targets = {name: value for name, value in given.items() if value}
    if everything:
        targets["all"] = ""
    if len(targets) > 1:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in targets)
        raise exits.usage(f"{named} exclude each other", "one at a time; --tenant may stand beside any")
    if not targets and tenant is None:
        raise exits.usage(
            "what to remove is not said",
            "one of --voice, --model-revision, --tag, --key, --tenant and --all",
        )
    target, value = next(iter(targets.items())) if targets else ("tenant", "")
    return run_invalidate(request_of(target, value, tenant), cache_addr, as_json=as_json)


@cache_app.command(
    epilog="Example: `voicemesh cache stats --json` · Exit status: 0 all answered · 1 one of them did not · "
    "3 none can be reached."
)
@command
def stats(as_json: Json = False, cache_addr: CacheAddr = DEFAULT_CACHE_ADDR) -> int:
    """Show what each cache service has, found, made room for and removed."""
    from voicemesh.cli.invalidate import run_stats

    return run_stats(cache_addr, as_json=as_json)
