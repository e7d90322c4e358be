"""`voicemesh keys …`: names, options and help. What they do is imported when one runs."""

# ruff: noqa: PLC0415 - so that `--help` is quick

from pathlib import Path
from typing import Annotated

import typer

from voicemesh.cli.options import Json, command
from voicemesh.keyfile import PRIORITIES, SCOPES, USUAL_SCOPES

keys_app = typer.Typer(
    name="keys",
    help="Keys that the gateway asks for: made, listed and revoked without a restart.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    epilog=(
        "Examples: `voicemesh keys new shop --tenant acme > key` · `voicemesh keys list` · "
        "`voicemesh keys revoke shop` · Exit status: 0 done · 1 the file is broken, or was not changed · "
        "2 wrong use. docs/access.md says what can be in the file."
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
)

File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        envvar="VOICEMESH_GATEWAY_KEYS_FILE",
        metavar="FILE",
        help="The file that gateways read, as VOICEMESH_GATEWAY_KEYS_FILE names it to them.",
        show_envvar=True,
    ),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="a-z, 0-9, '.' and '-'; at most 64.")]


@keys_app.command()
@command
def new(
    key_id: Id,
    tenant: Annotated[str, typer.Option("--tenant", metavar="NAME", help="Whose calls they are.")] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help=f"What it may do: {', '.join(SCOPES)}. May be repeated. [{' '.join(USUAL_SCOPES)}]",
            show_default=False,
        ),
    ] = None,
    priority: Annotated[
        str,
        typer.Option(
            "--priority", metavar="NAME", help=f"The highest it may ask for: {', '.join(PRIORITIES)}."
        ),
    ] = "normal",
    requests: Annotated[
        int,
        typer.Option(
            "--requests-per-min", metavar="N", min=0, help="Turns a minute; 0: as the settings say."
        ),
    ] = 0,
    characters: Annotated[
        int, typer.Option("--characters-per-min", metavar="N", min=0, help="Characters a minute.")
    ] = 0,
    turns: Annotated[int, typer.Option("--turns", metavar="N", min=0, help="Turns at once.")] = 0,
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="When it ends: 2027-01-31T00:00:00Z, or 90d.")
    ] = "",
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="For people.")] = "",
    file: File = None,
    as_json: Json = False,
) -> int:
    """Make a key and print it, once: the file has its digest alone."""
    from voicemesh.cli.keys import run_new

    limits = {"requests_per_min": requests, "characters_per_min": characters, "turns": turns}
    return run_new(
        file,
        key_id,
        tenant=tenant,
        scopes=scope or list(USUAL_SCOPES),
        priority=priority,
        limits={name: value for name, value in limits.items() if value},
        expires=expires,
        note=note,
        as_json=as_json,
    )


@keys_app.command("list")
@command
def list_(file: File = None, as_json: Json = False) -> int:
    """List the keys: whose they are, what they may do, whether they are good."""
    from voicemesh.cli.keys import run_list

    return run_list(file, as_json=as_json)


@keys_app.command()
@command
def revoke(key_id: Id, file: File = None, as_json: Json = False) -> int:
    """Have a key not be taken any more, within a second; what it had begun goes on to its end."""
    from voicemesh.cli.keys import run_revoke

    return run_revoke(file, key_id, as_json=as_json)
