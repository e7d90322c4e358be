"""The commands `voicemesh up` and `voicemesh certs`: their options and help."""

from pathlib import Path
from typing import Annotated

import typer

from voicemesh.cli.options import Json, command
from voicemesh.cli.plan import MOST_REPLICAS


@command
def up(
    free_ports: Annotated[
        bool, typer.Option("--free-ports", metavar="", help="Take ports that are free.")
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            min=0,
            max=65531,
            metavar="PORT",
            help="Prometheus scrapes the five processes at PORT and the four behind it [9450]; 0: at none.",
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", metavar="", help="Show every log line, not only warnings and errors.")
    ] = False,
    as_json: Json = False,
    ready_timeout: Annotated[
        float, typer.Option("--ready-timeout", min=0.1, metavar="S", help="Give up after S seconds.")
    ] = 60.0,
    replicas: Annotated[
        int,
        typer.Option(
            "--replicas",
            min=1,
            max=MOST_REPLICAS,
            metavar="N",
            help="Run N of each process, ten ports apart; of the cache one, unless they share a Redis.",
        ),
    ] = 1,
    restarts: Annotated[
        int,
        typer.Option(
            "--restarts",
            min=0,
            max=1000,
            metavar="N",
            help="Start a process that ended again, up to N times in a row; 0: the mesh ends with it.",
        ),
    ] = 5,
    hung_after: Annotated[
        float,
        typer.Option(
            "--hung-after",
            min=0.0,
            metavar="S",
            help="Kill a process that answers nothing for S seconds, and start it again; 0: never.",
        ),
    ] = 10.0,
    tls: Annotated[
        bool,
        typer.Option(
            "--tls",
            metavar="",
            help="Speak mutual TLS, with certificates of seven days that are gone with the mesh.",
        ),
    ] = False,
) -> int:
    """Run the whole mesh on this machine until Ctrl-C.

    Starts gateway, llm, chunker, tts and cache as five processes, and prints `voicemesh ready` when
    all of them serve. A process that ends or hangs is started again, and a line says so. Ctrl-C lets turns
    in flight finish; a second Ctrl-C stops at once. The processes take their settings from the environment
    (VOICEMESH_…, OPENAI_API_KEY, …).
    """
    from voicemesh.cli.up import UpOptions, run_up  # noqa: PLC0415 - so that `--help` is quick

    return run_up(
        UpOptions(
            free_ports=free_ports,
            metrics_port=metrics_port,
            verbose=verbose,
            as_json=as_json,
            ready_timeout_s=ready_timeout,
            replicas=replicas,
            restarts=restarts,
            hung_after_s=hung_after,
            tls=tls,
        )
    )


@command
def certs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the files go; it is made.")],
    days: Annotated[
        float, typer.Option("--days", min=0.001, max=90, metavar="N", help="How long they hold.")
    ] = 7.0,
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="NAME|IP",
            help="A further host that they are for, beside this machine; may be repeated.",
            show_default=False,
        ),
    ] = None,
    domain: Annotated[
        str, typer.Option("--domain", metavar="DOMAIN", help="The domain of the identities in them.")
    ] = "cluster.local",
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Make others where there are some.")
    ] = False,
) -> int:
    """Make certificates to try mutual TLS with, and say how they are used.

    Of an authority that is made for them, whose key is forgotten: for trying and for tests, not to be kept.
    `voicemesh up --tls` makes some by itself.
    """
    from voicemesh.cli.certs import CertsOptions, run_certs  # noqa: PLC0415 - so that `--help` is quick

    return run_certs(
        CertsOptions(folder=folder, days=days, hosts=tuple(host or ()), domain=domain, force=force)
    )
