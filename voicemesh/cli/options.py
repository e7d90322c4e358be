"""What the commands have in common: their options, and how they end."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, ParamSpec

import typer

from voicemesh.cli import connection, exits

P = ParamSpec("P")

Addr = Annotated[
    str, typer.Option("--addr", envvar="VOICEMESH_ADDR", metavar="HOST:PORT", help="Where the mesh is.")
]
Json = Annotated[
    bool, typer.Option("--json", metavar="", help="Print JSON with stable names instead of text.")
]
VoiceName = Annotated[
    str, typer.Option("--voice", metavar="NAME", help="Who speaks; `voicemesh voices` lists them.")
]
Policy = Annotated[
    str,
    typer.Option(
        "--policy", metavar="POLICY", help="How text is cut: adaptive, sentence, clause or words:N."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE.wav",
        help="Write the audio to a file: .wav, .flac, .opus, .mp3, .aac or .ulaw.",
    ),
]
Encoding = Annotated[
    str,
    typer.Option(
        "--encoding",
        metavar="NAME",
        help="pcm_s16le, mulaw, opus, flac, mp3 or aac; without it, what the file's name says.",
    ),
]
Rate = Annotated[
    int,
    typer.Option(
        "--rate", metavar="HZ", min=0, help="Samples per second, 8000 to 48000; 0: the voice's own."
    ),
]
Play = Annotated[bool, typer.Option("--play", metavar="", help="Play the audio on this machine.")]
Session = Annotated[
    str, typer.Option("--session", metavar="ID", help="Go on with this conversation's history.")
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", metavar="", help="Neither read nor write cached replies and audio.")
]
SpeechText = Annotated[
    bool,
    typer.Option(
        "--speech-text/--no-speech-text",
        metavar="",
        help="Turn markup, links, tables and pictographs into what is said.",
    ),
]
Tenant = Annotated[
    str,
    typer.Option(
        "--tenant",
        envvar="VOICEMESH_TENANT",
        metavar="NAME",
        help="Whose turn it is: sessions, channels and what is cached are each tenant's own.",
    ),
]
Images = Annotated[
    list[str] | None,
    typer.Option(
        "--image",
        metavar="FILE|URL",
        help="A picture: PNG, JPEG, WebP or GIF, or its https: or data: address; may be repeated.",
    ),
]
PromptVariant = Annotated[
    str,
    typer.Option(
        "--prompt-variant",
        metavar="NAME",
        help="System prompt of the mesh to answer with, such as full or compact.",
    ),
]
CacheTags = Annotated[
    list[str] | None,
    typer.Option(
        "--cache-tag",
        metavar="TAG",
        help="What is cached can be removed by this name (`cache invalidate --tag`). May be repeated.",
        show_default=False,
    ),
]
DEFAULT_ADDR: Final = "127.0.0.1:50050"


_ADDRESSES: Final = frozenset({"addr", "cache_addr", "tts_addr"})


def command(run: Callable[P, int]) -> Callable[P, None]:
    """Make a command of a function that returns an exit status or raises Failure.

    One that takes an address of the mesh takes the options of TLS, too.
    """
    signature = inspect.signature(run)
    reaches_mesh = not _ADDRESSES.isdisjoint(signature.parameters)

    @functools.wraps(run)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            if reaches_mesh:
                connection.take(kwargs)
            status = run(*args, **kwargs)
        except exits.Failure as failure:
            exits.report(failure)
            status = failure.status
        except KeyboardInterrupt:
            status = exits.STOPPED
        except BrokenPipeError:
            # Who reads us has seen enough (`voicemesh ask … | head -1`).
            status = exits.FAILED
        raise typer.Exit(status)

    if reaches_mesh:
        parameters = [*signature.parameters.values(), *connection.PARAMETERS]
        vars(wrapped)["__signature__"] = signature.replace(parameters=parameters)
    return wrapped


def source(context: typer.Context, parameter: str) -> str:
    """Return where the value of an option is from: COMMANDLINE, ENVIRONMENT, DEFAULT."""
    source = context.get_parameter_source(parameter)
    return source.name if source is not None else ""
