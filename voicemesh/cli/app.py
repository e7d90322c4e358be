"""The commands: names, options and help. What they do is imported when one runs."""

# ruff: noqa: PLC0415 - so that `--help` is quick and `up` spawns before it imports gRPC

from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from voicemesh.cli import api_key, exits, inputs
from voicemesh.cli.cache_app import cache_app
from voicemesh.cli.capacity_app import capacity_app
from voicemesh.cli.flags_app import flags_app
from voicemesh.cli.keys_app import keys_app
from voicemesh.cli.load_app import load_app
from voicemesh.cli.options import (
    DEFAULT_ADDR,
    Addr,
    CacheTags,
    Encoding,
    Images,
    Json,
    NoCache,
    Out,
    Play,
    Policy,
    PromptVariant,
    Rate,
    Session,
    SpeechText,
    Tenant,
    VoiceName,
    command,
    source,
)
from voicemesh.cli.up_app import certs, up

app = typer.Typer(
    name="voicemesh",
    help=(
        "Speech from a language model, with the least silence, and an account of every millisecond of it."
        '\n\nBegin with `voicemesh up` in one terminal and `voicemesh ask "Hello"` in another.'
    ),
    epilog=exits.EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(flags_app)
app.add_typer(cache_app)
app.add_typer(keys_app)
app.add_typer(load_app)
app.add_typer(capacity_app)


def _version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"voicemesh {metadata.version('voicemesh')}")
        except metadata.PackageNotFoundError:
            print("voicemesh (not installed: running from a folder)")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
    api_key_file: Annotated[
        str,
        typer.Option(
            "--api-key-file",
            envvar="VOICEMESH_API_KEY_FILE",
            metavar="FILE",
            help="A file with the key that the gateway asks for; - reads a line of standard input. Without "
            "it: VOICEMESH_API_KEY.",
        ),
    ] = "",
) -> None:
    """Take the options that hold for every command."""
    # The text of the help is that of `app`.
    del version
    api_key.use(api_key_file)


app.command(epilog="Example: `voicemesh certs tls --host voice.example.org` · see docs/tls.md")(certs)
app.command(epilog="Example: `voicemesh up --replicas 2` · Exit status: see `voicemesh --help`.")(up)


@app.command(epilog='Example: `voicemesh ask "Why is the sky blue?" --out sky.wav`')
@command
def ask(
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="What to ask, in quotes; - reads standard input.")
    ],
    out: Out = None,
    play: Play = False,
    as_json: Json = False,
    voice: VoiceName = "",
    policy: Policy = "",
    session: Session = "",
    image: Images = None,
    prompt_variant: PromptVariant = "",
    speech_text: SpeechText = True,
    no_cache: NoCache = False,
    cache_tag: CacheTags = None,
    encoding: Encoding = "",
    rate: Rate = 0,
    tenant: Tenant = "",
    addr: Addr = DEFAULT_ADDR,
) -> int:
    """Ask the model, hear the answer, see where the time went."""
    prompt = inputs.text_or_stdin("PROMPT", prompt)
    from voicemesh.cli.speak import SpeakOptions, run_ask

    return run_ask(
        prompt,
        SpeakOptions(
            addr=addr,
            tenant=tenant,
            voice=voice,
            policy=policy,
            session=session,
            images=tuple(image or ()),
            prompt_variant=prompt_variant,
            out=out,
            play=play,
            as_json=as_json,
            cache=not no_cache,
            cache_tags=tuple(cache_tag or ()),
            speech_text=speech_text,
            encoding=encoding,
            rate_hz=rate,
        ),
    )


@app.command(epilog='Example: `echo "Good morning" | voicemesh say - --out morning.wav`')
@command
def say(
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="What to say, in quotes; - reads standard input.")
    ],
    out: Out = None,
    play: Play = False,
    as_json: Json = False,
    voice: VoiceName = "",
    policy: Policy = "",
    speech_text: SpeechText = True,
    no_cache: NoCache = False,
    cache_tag: CacheTags = None,
    encoding: Encoding = "",
    rate: Rate = 0,
    tenant: Tenant = "",
    addr: Addr = DEFAULT_ADDR,
) -> int:
    """Speak a text of your own."""
    text = inputs.text_or_stdin("TEXT", text)
    from voicemesh.cli.speak import SpeakOptions, run_say

    return run_say(
        text,
        SpeakOptions(
            addr=addr,
            tenant=tenant,
            voice=voice,
            policy=policy,
            out=out,
            play=play,
            as_json=as_json,
            cache=not no_cache,
            cache_tags=tuple(cache_tag or ()),
            speech_text=speech_text,
            encoding=encoding,
            rate_hz=rate,
        ),
    )


@app.command(epilog="Example: `voicemesh chat --play --voice espeak/en-gb`")
@command
def chat(
    play: Play = False,
    as_json: Json = False,
    voice: VoiceName = "",
    policy: Policy = "",
    session: Session = "",
    speech_text: SpeechText = True,
    no_cache: NoCache = False,
    cache_tag: CacheTags = None,
    tenant: Tenant = "",
    addr: Addr = DEFAULT_ADDR,
) -> int:
    """Talk with the model, line by line; it remembers what was said.

    A line that you enter while it speaks interrupts it, an empty line silences it, Ctrl-D ends. From
    a file or a pipe, each line waits for its turn.
    """
    from voicemesh.cli.chat import run_chat
    from voicemesh.cli.speak import SpeakOptions

    return run_chat(
        SpeakOptions(
            addr=addr,
            tenant=tenant,
            voice=voice,
            policy=policy,
            session=session,
            play=play,
            as_json=as_json,
            cache=not no_cache,
            cache_tags=tuple(cache_tag or ()),
            speech_text=speech_text,
        )
    )


@app.command(
    epilog="Examples: `voicemesh explain 3f2a…` · `voicemesh explain --slowest 20 --since 1h` · "
    "`voicemesh explain --file traces.json.gz --by total`"
)
@command
def explain(
    context: typer.Context,
    turn_id: Annotated[
        str,
        typer.Argument(
            metavar="TURN_ID",
            help="The turn, or its trace; the first 6 characters or more of either will do. Without it, the "
            "last one that ended.",
        ),
    ] = "",
    slowest: Annotated[
        int,
        typer.Option("--slowest", metavar="N", min=1, max=1000, help="What made the N slowest turns slow."),
    ] = 20,
    since: Annotated[
        str,
        typer.Option("--since", metavar="AGE|TIME", help="Only turns that began since: 90s, 1h, 2d, a time."),
    ] = "",
    by: Annotated[
        str, typer.Option("--by", metavar="ttfa|total", help="Slow to the first audio, or to the end.")
    ] = "ttfa",
    outcome: Annotated[
        list[str] | None,
        typer.Option(
            "--outcome",
            metavar="OUTCOME",
            help="Only turns that completed, were interrupted or failed; may be repeated.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="Exported traces (OTLP in JSON, also .gz; - for standard input), not the gateway's record; "
            "may be repeated.",
            show_default=False,
        ),
    ] = None,
    all_tenants: Annotated[
        bool, typer.Option("--all", metavar="", help="Turns of every tenant; not with --tenant.")
    ] = False,
    as_json: Json = False,
    tenant: Tenant = "",
    addr: Addr = DEFAULT_ADDR,
) -> int:
    """Show where the time of a turn went, or what made the slow ones of many turns slow.

    One turn, as the gateway saw it: its stages and its chunks. Many, with --slowest, --since, --by,
    --outcome, --file or --all: slow turns are compared with the usual one, and grouped by the stage that made
    them slow and the reason; with what would have helped, and by how much.
    """
    many = any(
        source(context, name) == "COMMANDLINE"
        for name in ("slowest", "since", "by", "outcome", "file", "all_tenants")
    )
    if not many:
        if turn_id:
            inputs.checked("TURN_ID", turn_id)
        from voicemesh.cli.lookup import run_explain

        return run_explain(turn_id, addr, tenant, as_json=as_json)
    if turn_id:
        raise exits.usage(
            "TURN_ID: is for one turn, and the other options ask about many", "leave out one or the others"
        )
    from voicemesh.cli.slow import options_of, run_slow

    return run_slow(
        options_of(
            slowest=slowest,
            since=since,
            by=by,
            outcomes=tuple(outcome or ()),
            files=tuple(file or ()),
            all_tenants=all_tenants,
            addr=addr,
            tenant=tenant,
            as_json=as_json,
        )
    )


@app.command(epilog="Example: `voicemesh usage --all --json`")
@command
def usage(
    all_tenants: Annotated[
        bool, typer.Option("--all", metavar="", help="Every tenant's; not with --tenant.")
    ] = False,
    as_json: Json = False,
    tenant: Tenant = "",
    addr: Addr = DEFAULT_ADDR,
) -> int:
    """Show what was consumed, and what it cost, since the gateway began."""
    from voicemesh.cli.usage import run_usage

    return run_usage(addr, tenant, all_tenants=all_tenants, as_json=as_json)


@app.command(epilog="Example: `voicemesh digest voices/ljspeech` · docs/voices.md says where it goes.")
@command
def digest(path: Annotated[Path, typer.Argument(metavar="PATH", help="A model: its folder or file.")]) -> int:
    """Print the SHA-256 of a model's files, to paste into the declaration of its voice."""
    from voicemesh.cli.digest import run_digest

    return run_digest(path)


@app.command(epilog="Examples: `voicemesh voices --language en` · `voicemesh voices --pools`")
@command
def voices(
    context: typer.Context,
    language: Annotated[
        str, typer.Option("--language", metavar="TAG", help="Only this language; en finds en-us too.")
    ] = "",
    pools: Annotated[
        bool, typer.Option("--pools", help="How the TTS service's replicas are doing, instead.")
    ] = False,
    as_json: Json = False,
    addr: Addr = DEFAULT_ADDR,
    tts_addr: Annotated[
        str,
        typer.Option(
            "--tts-addr",
            envvar="VOICEMESH_TTS_ADDR",
            metavar="HOST:PORT",
            help="Where the TTS service is, which --pools asks.",
        ),
    ] = "127.0.0.1:50053",
) -> int:
    """List what can speak."""
    tts_is_named = source(context, "tts_addr") != "DEFAULT"
    if pools:
        if source(context, "addr") == "COMMANDLINE" and not tts_is_named:
            raise exits.usage(
                f"--pools asks the TTS service, and --addr {addr} is the gateway",
                "say where the TTS service is with --tts-addr or VOICEMESH_TTS_ADDR",
            )
        from voicemesh.cli.pools import run_pools

        return run_pools(tts_addr, as_json=as_json)
    from voicemesh.cli.lookup import run_voices

    # A mesh elsewhere has its TTS service elsewhere, too.
    known = tts_is_named or source(context, "addr") == "DEFAULT"
    return run_voices(language, addr, tts_addr if known else "", as_json=as_json)


@app.command(epilog="Exit status: 0 all that is required is here · 1 something is missing.")
@command
def doctor(as_json: Json = False) -> int:
    """Say what is missing on this machine, and how to get it."""
    from voicemesh.cli.doctor import run_doctor

    return run_doctor(as_json=as_json)


@app.command(epilog='Example: `voicemesh chunk "Dr. Lee is here, at last. Come in!" --policy clause`')
@command
def chunk(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT", help="What to cut, in quotes; - reads standard input.", show_default=False
        ),
    ] = None,
    policy: Annotated[
        str, typer.Option("--policy", metavar="POLICY", help="adaptive, sentence, clause or words:N.")
    ] = "adaptive",
    min_chars: Annotated[
        int,
        typer.Option("--min-chars", metavar="N", help="Shorter chunks merge forward; 0: as the policy."),
    ] = 0,
    max_chars: Annotated[
        int | None,
        typer.Option("--max-chars", metavar="N", help="No chunk is longer.", show_default=False),
    ] = None,
    language: Annotated[
        str, typer.Option("--language", metavar="TAG", help="Language of the text, as in de-AT.")
    ] = "",
    tokens: Annotated[
        bool,
        typer.Option(
            "--tokens",
            metavar="",
            help="Read a JSON array of tokens a line, and print a line of JSON for each.",
        ),
    ] = False,
    as_json: Json = False,
    speech_text: SpeechText = True,
) -> int:
    """Show how a text would be cut into chunks, and why.

    The text is there at once and nobody listens, so chunks that time decides about do not occur.
    """
    from voicemesh.cli.chunks import run_chunk

    text = inputs.text_or_stdin("TEXT", text) if text else text
    arguments = ["--policy", policy, "--min-chars", str(min_chars), "--language", language]
    arguments += ["--max-chars", str(max_chars)] if max_chars is not None else []
    arguments += ["--tokens"] if tokens else []
    arguments += ["--json"] if as_json else []
    arguments += ["--speech-text" if speech_text else "--no-speech-text"]
    # Behind `--`, so that a text may begin with a dash.
    return run_chunk([*arguments, *(["--", text] if text is not None else [])])


@app.command(epilog='Example: `voicemesh demo "Tell me about lighthouses"`')
@command
def demo(
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What to ask.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.wav", help="Where the audio goes.")] = Path(
        "demo.wav"
    ),
    verbose: Annotated[
        bool, typer.Option("--verbose", metavar="", help="Show every log line of the mesh.")
    ] = False,
) -> int:
    """Start a mesh, ask one prompt, write the speech to a file, show the waterfall, stop."""
    from voicemesh.cli.demo import DEFAULT_PROMPT, run_demo

    return run_demo(inputs.checked("PROMPT", prompt) if prompt else DEFAULT_PROMPT, out, verbose=verbose)
