"""`voicemesh flags …`: names, options and help. What they do is imported when one runs."""

# ruff: noqa: PLC0415 - so that `--help` is quick

from pathlib import Path
from typing import Annotated

import typer

from voicemesh.cli.options import Json, Tenant, command

flags_app = typer.Typer(
    name="flags",
    help="Feature flags: who gets what, changed and taken back without a restart.",
    rich_markup_mode="markdown",
    epilog=(
        "Examples: `voicemesh flags` · `voicemesh flags set voicemesh.chunk_policy usual=90,short=10` · "
        "`voicemesh flags rollback` · Exit status: 0 done · 1 the file is broken, or was not changed · "
        "2 wrong use. docs/flags.md says what can be in the file."
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
)

File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        envvar="VOICEMESH_FLAGS_FILE",
        metavar="FILE",
        help="The file that gateways read, as VOICEMESH_FLAGS_FILE names it to them.",
        show_envvar=True,
    ),
]


# A command's own: without a variable, which would win over `voicemesh flags --file FILE set …`.
OwnFile = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="The file, as of `voicemesh flags`.", show_default=False),
]


@flags_app.callback(invoke_without_command=True)
def listed(
    context: typer.Context,
    file: File = None,
    session: Annotated[
        str,
        typer.Option("--session", metavar="ID", help="Also what this session gets; needs the extra flags."),
    ] = "",
    tenant: Tenant = "",
    attribute: Annotated[
        list[str] | None,
        typer.Option(
            "--attribute",
            metavar="NAME=VALUE",
            help="With --session: what rules look at besides, as language=de or turn=text. May be repeated.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the flags: their variants, who gets what, and the versions that are kept."""
    context.obj = file
    if context.invoked_subcommand is None:
        from voicemesh.cli.flags import run_list

        command(run_list)(file, session, tenant, attribute or (), as_json=as_json)


@flags_app.command("set")
def set_(
    context: typer.Context,
    flag: Annotated[str, typer.Argument(metavar="FLAG", help="For example voicemesh.chunk_policy.")],
    variants: Annotated[
        str,
        typer.Argument(
            metavar="VARIANT|SHARES", help="A variant for everyone, or shares: usual=90,short=10."
        ),
    ],
    value: Annotated[
        str | None,
        typer.Option(
            "--value",
            metavar="VALUE",
            help="What VARIANT stands for, which may be new; of shares, the one variant that is new.",
        ),
    ] = None,
    file: OwnFile = None,
    as_json: Json = False,
) -> None:
    """Give everyone a variant, or each variant a share of the sessions.

    Who has a variant keeps it while its share does not become less.
    Rules that the flag had are replaced. Gateways take the change with their next turns.
    """
    from voicemesh.cli.flags import run_set

    command(run_set)(file or context.obj, flag, variants, value, as_json=as_json)


@flags_app.command()
def rollback(
    context: typer.Context,
    flag: Annotated[
        str | None, typer.Argument(metavar="FLAG", help="One flag alone.", show_default=False)
    ] = None,
    to: Annotated[
        int | None,
        typer.Option("--to", metavar="N", min=1, help="Go back to this version.", show_default=False),
    ] = None,
    file: OwnFile = None,
    as_json: Json = False,
) -> None:
    """Take the last change back: all of it, or that of one flag. A second time undoes the first."""
    from voicemesh.cli.flags import run_rollback

    command(run_rollback)(file or context.obj, flag or "", to, as_json=as_json)
