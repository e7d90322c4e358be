"""`voicemesh ask` and `voicemesh say`: one turn, heard, written or told as JSON."""

import asyncio
import json
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from voicemesh.cli import api_key, connection, play
from voicemesh.cli.characters import printable
from voicemesh.cli.console import console_for
from voicemesh.cli.exits import DONE, FAILED, UNREACHABLE, Failure, usage
from voicemesh.cli.exits import report as fail
from voicemesh.cli.failures import failure_of
from voicemesh.cli.waterfall import show
from voicemesh.client import (
    AudioFormat,
    Degraded,
    Event,
    Frame,
    Image,
    SpeakLocally,
    SpeechOptions,
    TextDelta,
    Turn,
    TurnReport,
    TurnStarted,
    VoiceMesh,
    VoiceMeshError,
    write_audio,
)
from voicemesh.client.files import encoding_of

_SHOWN_CHARS: Final = 200
MIN_RATE_HZ: Final = 8000
MAX_RATE_HZ: Final = 48000
_MPEG_RATES_HZ: Final = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
RATES_HZ: Final = {
    "opus": (8000, 12000, 16000, 24000, 48000),
    "mp3": _MPEG_RATES_HZ,
    "aac": _MPEG_RATES_HZ,
}
"""The only rates of an encoding; the others have the voice's own too, which the gateway knows."""


@dataclass(frozen=True, kw_only=True)
class SpeakOptions:
    """How a turn is to be spoken, and what becomes of it.

    Attributes:
        addr: Where the mesh is.
        tenant: Whose turn it is.
        voice: Name of the voice; "" for the default.
        policy: How text is cut; "" for the default.
        session: Session whose history the turn continues.
        images: Pictures that the prompt is about: files, or addresses (https:, data:).
        prompt_variant: Name of a system prompt of the mesh; "" for its choice.
        out: File to write, or None; its name decides the encoding where `encoding` is "".
        play: True to play the audio on this machine.
        as_json: True to print one JSON object instead of text and waterfall.
        cache: False to bypass the caches.
        cache_tags: What can be cached is marked with these.
        speech_text: False to speak markup as it is written.
        encoding: What the audio is encoded as; "" for what `out` holds.
        rate_hz: Samples per second; 0 for the voice's own.

    """

    addr: str
    tenant: str = ""
    voice: str = ""
    policy: str = ""
    session: str = ""
    images: tuple[str, ...] = ()
    prompt_variant: str = ""
    out: Path | None = None
    play: bool = False
    as_json: bool = False
    cache: bool = True
    cache_tags: tuple[str, ...] = ()
    speech_text: bool = True
    encoding: str = ""
    rate_hz: int = 0

    def speech(self) -> SpeechOptions:
        """Return the options of the turn: paced only where somebody listens."""
        if self.out is not None:
            check_out(self.out, self.encoding)
        encoding = self.encoding or (encoding_of(self.out) if self.out is not None else "")
        if self.play and encoding not in ("", "pcm_s16le"):
            raise usage(f"--play takes PCM, and {encoding} was asked for", "leave one of the two out")
        check_rate(self.rate_hz, encoding)
        options = SpeechOptions(
            voice=self.voice,
            policy=self.policy,
            encoding="" if encoding == "pcm_s16le" else encoding,
            sample_rate_hz=self.rate_hz,
            max_lead_ms=None if self.play else 0,
            cache=self.cache,
            cache_tags=self.cache_tags,
            speech_text=self.speech_text,
        )
        check(options)
        return options


def check_out(path: Path, encoding: str) -> None:
    """Raise Failure for a file that cannot be written, before a turn is paid for."""
    if path.is_dir() or not path.parent.is_dir():
        raise usage(f"--out: cannot write {path}: its folder does not exist, or it is a folder itself")
    try:
        held = encoding_of(path)
    except ValueError as error:
        raise usage(f"--out: {error}") from None
    if encoding not in ("", held):
        raise usage(f"--out: {path} takes {held}, and --encoding is {encoding}", "leave one of the two out")


def check_rate(rate_hz: int, encoding: str) -> None:
    """Raise Failure for a rate that no voice has, or that the encoding has not; 0 is the voice's own."""
    if rate_hz and not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise usage(f"--rate: must be {MIN_RATE_HZ} to {MAX_RATE_HZ}, or 0 for the voice's own")
    rates_hz = RATES_HZ.get(encoding, ())
    if rate_hz and rates_hz and rate_hz not in rates_hz:
        raise usage(f"--rate: {encoding} has {', '.join(map(str, rates_hz))}, and not {rate_hz}")


def check(options: SpeechOptions) -> None:
    """Raise Failure for options that cannot be."""
    try:
        options.to_proto()
    except ValueError as error:
        raise usage(str(error)) from None


def picture(source: str) -> Image:
    """Return the picture in a file, or at an address, which the provider reads. Raises Failure."""
    scheme = source.partition(":")[0].lower()
    if scheme == "data" or source.lower().startswith(("https://", "http://")):
        if scheme == "http":
            raise usage(f"--image: {source[:_SHOWN_CHARS]} must begin with https:// or data:image/")
        return Image(url=source)
    try:
        return Image.read(Path(source))
    except OSError as error:
        raise usage(f"--image: cannot read {source[:_SHOWN_CHARS]}: {error.strerror}") from None
    except ValueError as error:
        raise usage(f"--image: {error}") from None


def given_up(event: Degraded) -> str:
    """Return what was given up, and why, in lines of at most 80 columns (a longer word stays whole)."""
    text = f"(given up: {event.what}: {printable(event.detail)})"
    return textwrap.fill(text, 80, subsequent_indent=" ", break_long_words=False, break_on_hyphens=False)


def mesh_at(addr: str, tenant: str) -> VoiceMesh:
    """Return a client of the mesh. Raises Failure for a tenant or a key that cannot be."""
    try:
        return VoiceMesh(
            addr,
            tenant=tenant,
            api_key=api_key.shown(),
            allow_plain_key=api_key.may_be_plain(),
            tls=connection.tls(),
        )
    except ValueError as error:
        raise usage(f"--{error}") from None


def run_ask(prompt: str, options: SpeakOptions) -> int:
    """Ask `prompt`; return the exit status."""
    speech = options.speech()
    parts: tuple[str | Image, ...] = (prompt, *(picture(path) for path in options.images))

    def ask(mesh: VoiceMesh) -> Turn:
        return mesh.ask(
            parts,
            speech=speech,
            session_id=options.session,
            prompt_variant=options.prompt_variant,
            reply_cache=options.cache,
        )

    return asyncio.run(run_turn(options, ask))


def run_say(text: str, options: SpeakOptions) -> int:
    """Speak `text`; return the exit status."""
    speech = options.speech()
    return asyncio.run(run_turn(options, lambda mesh: mesh.say(text, speech=speech)))


async def run_turn(options: SpeakOptions, begin: Callable[[VoiceMesh], Turn]) -> int:
    """Begin a turn, take it to its end, print its account; return the exit status."""
    sink = Sink(options)
    async with mesh_at(options.addr, options.tenant) as mesh:
        turn = begin(mesh)
        try:
            await mesh.connect()
            report = await sink.take(turn)
        except VoiceMeshError as error:
            # Ctrl-C cancels the turn, and may be told as the end of its call.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError from error
            failed = error.report or TurnReport(turn_id=turn.turn_id, error=error)
            sink.finish(failed)
            fail(failure_of(error, options.addr))
            return UNREACHABLE if not error.reached else FAILED
    sink.finish(report)
    return DONE if report.outcome != "failed" else FAILED


class Sink:
    """Where a turn goes: terminal, loudspeaker, file, JSON."""

    def __init__(self, options: SpeakOptions) -> None:
        self._options = options
        self._player = play.Player(play.find_player()) if options.play else None
        self._format = AudioFormat()
        self._frames: list[Frame] = []
        self._wrote_text = False

    async def take(self, turn: Turn) -> TurnReport:
        """Read `turn` to its end. Raises `VoiceMeshError`."""
        try:
            async for event in turn:
                await self._event(event)
            if self._player is not None:
                await self._player.finish()
        finally:
            if self._player is not None:
                await self._player.stop()
        assert turn.report is not None
        return turn.report

    async def _event(self, event: Event) -> None:
        match event:
            case Frame():
                if self._options.out is not None:
                    self._frames.append(event)
                if self._player is not None:
                    await self._player.write(event.audio)
            case TextDelta() if not self._options.as_json:
                print(printable(event.text), end="", flush=True)
                self._wrote_text = True
            case TurnStarted():
                self._format = event.format
                if self._player is not None:
                    await self._player.begin(event.format)
            case SpeakLocally() if not self._options.as_json:
                print(f"\n(no voice could speak this: {printable(event.text)})", file=sys.stderr)
            case Degraded() if not self._options.as_json:
                print(f"\n{given_up(event)}", file=sys.stderr)
            case _:
                pass

    def finish(self, report: TurnReport) -> None:
        """Print the account of the turn, and write the file."""
        if self._options.as_json:
            print(json.dumps(report.to_json()))
        elif report.outcome != "failed" or report.ttfa_ms:
            console = console_for()
            if self._wrote_text:
                console.print("\n")
            show(console, report, seen_by="caller")
            if self._player is None and self._options.out is None and sys.stderr.isatty():
                print("hint: nothing was played: --play plays it, --out FILE.wav keeps it", file=sys.stderr)
        if self._options.out is not None and report.outcome != "failed":
            self._write(self._options.out, report)

    def _write(self, path: Path, report: TurnReport) -> None:
        if not self._frames:
            raise Failure(FAILED, "NO_AUDIO", f"the turn had no audio: {path} was not written")
        try:
            samples = [frame.samples for frame in self._frames]
            write_audio(path, [frame.audio for frame in self._frames], samples, self._format)
        except (OSError, ValueError) as error:
            raise usage(f"--out: cannot write {path}: {error}") from None
        if not self._options.as_json:
            print(f"\nwrote {path} ({report.audio_ms / 1000:.2f} s, {self._format.sample_rate_hz} Hz)")
