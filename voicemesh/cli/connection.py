"""How the commands reach the mesh: in plain text, or over TLS as the options of this run say."""

import contextlib
import inspect
import ipaddress
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from voicemesh.cli.exits import usage
from voicemesh.tls import Tls

if TYPE_CHECKING:
    import grpc

VARIABLE: Final = "VOICEMESH_CLIENT_TLS"
_PANEL: Final = "TLS"
_ON = Annotated[
    bool,
    typer.Option(
        "--tls", envvar=VARIABLE, metavar="", help="Speak TLS; the others imply it.", rich_help_panel=_PANEL
    ),
]


def _file(name: str, what: str) -> Any:
    """Return the type of an option that names a file, or a name."""
    option = typer.Option(
        f"--tls-{name}",
        envvar=f"{VARIABLE}_{name.upper().replace('-', '_')}",
        metavar="NAME" if name == "server-name" else "FILE",
        help=what,
        show_default=False,
        rich_help_panel=_PANEL,
    )
    return Annotated[str, option]


_OPTIONS: Final[Mapping[str, tuple[Any, object]]] = {
    "tls": (_ON, False),
    "tls_ca": (_file("ca", "Authorities that are believed, as PEM; else those that gRPC brings."), ""),
    "tls_cert": (_file("cert", "A certificate of yours, where the mesh asks for one."), ""),
    "tls_key": (_file("key", "Its private key."), ""),
    "tls_server_name": (_file("server-name", "The name in the mesh's certificate; else the host."), ""),
}
PARAMETERS: Final = tuple(
    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
    for name, (kind, default) in _OPTIONS.items()
)
"""What every command that reaches the mesh takes beside its own options."""

_present: list[Tls | None] = [None]


def take(arguments: dict[str, Any]) -> None:
    """Take the options of TLS out of the arguments of a command; they hold from now on.

    Raises Failure for files that cannot be.
    """
    on = arguments.pop("tls", False)
    tls = Tls(**{name.removeprefix("tls_"): arguments.pop(name, "") for name in _OPTIONS if name != "tls"})
    _present[0] = tls if on or tls != Tls() else None
    if _present[0] is not None:
        try:
            tls.check()
        except ValueError as error:
            raise usage(f"--tls-{error}", f"or {VARIABLE}_CA and its like; docs/tls.md") from None


def tls() -> Tls | None:
    """Return how the mesh is spoken to; None: in plain text."""
    return _present[0]


def open_channel(
    address: str, options: tuple[tuple[str, Any], ...] = (), *, over: Tls | None = None, host: str = ""
) -> "grpc.aio.Channel":
    """Open a channel to a process of the mesh.

    `over` is how to speak to it, where that is not what the options of this run say; `host` the name that
    stood for `address`, where that was resolved.
    """
    import grpc  # noqa: PLC0415 - options are read before gRPC is needed

    said = over or tls()
    if said is None:
        return grpc.aio.insecure_channel(address, options=options)
    if host and not said.server_name and not _is_ip(host):
        said = replace(said, server_name=host)
    options += said.options(address)
    return grpc.aio.secure_channel(address, said.credentials(), options=options)


def _is_ip(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(host))
    return False
