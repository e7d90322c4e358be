"""`voicemesh ask` and `voicemesh say`: one turn, heard, written or told as JSON."""

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from voicemesh.cli import play
from voicemesh.cli.console import console_for
from voicemesh.cli.exits import DONE, FAILED, UNREACHABLE, Failure, usage
from voicemesh.cli.exits import report as fail
from voicemesh.cli.failures import failure_of
from voicemesh.cli.waterfall import printable, show
from voicemesh.client import (
    AudioFormat,
    Degraded,
    Event,
    Frame,
    SpeakLocally,
    SpeechOptions,
    TextDelta,
    Turn,
    TurnReport,
    TurnStarted,
    VoiceMesh,
    VoiceMeshError,
    write_wav,
)


@dataclass(frozen=True, kw_only=True)
class SpeakOptions:
    """How a turn is to be spoken, and what becomes of it.

    Attributes:
        addr: Where the mesh is.
        voice: Name of the voice; "" for the default.
        policy: How text is cut; "" for the default.
        session: Session whose history the turn continues.
        out: WAV file to write, or None.
        play: True to play the audio on this machine.
        as_json: True to print one JSON object instead of text and waterfall.
        cache: False to bypass the caches.
        speech_text: False to speak markup as it is written.

    """

    addr: str
    voice: str = ""
    policy: str = ""
    session: str = ""
    out: Path | None = None
    play: bool = False
    as_json: bool = False
    cache: bool = True
    speech_text: bool = True

    def speech(self) -> SpeechOptions:
        """Return the options of the turn: paced only where somebody listens."""
        options = SpeechOptions(
            voice=self.voice,
            policy=self.policy,
            max_lead_ms=None if self.play else 0,
            cache=self.cache,
            speech_text=self.speech_text,
        )
        check(options)
        if self.out is not None:
            check_out(self.out)
        return options


def check_out(path: Path) -> None:
    """Raise Failure for a file that cannot be written, before a turn is paid for."""
    if path.is_dir() or not path.parent.is_dir():
        raise usage(f"--out: cannot write {path}: its folder does not exist, or it is a folder itself")
    if path.suffix.lower() not in ("", ".wav", ".wave"):
        raise usage(f"--out: {path}: only WAV files are written; name it {path.with_suffix('.wav')}")


def check(options: SpeechOptions) -> None:
    """Raise Failure for options that cannot be."""
    try:
        options.to_proto()
    except ValueError as error:
        raise usage(str(error)) from None


def run_ask(prompt: str, options: SpeakOptions) -> int:
    """Ask `prompt`; return the exit status."""
    speech = options.speech()

    def ask(mesh: VoiceMesh) -> Turn:
        return mesh.ask(prompt, speech=speech, session_id=options.session, reply_cache=options.cache)

    return asyncio.run(run_turn(options, ask))


def run_say(text: str, options: SpeakOptions) -> int:
    """Speak `text`; return the exit status."""
    speech = options.speech()
    return asyncio.run(run_turn(options, lambda mesh: mesh.say(text, speech=speech)))


async def run_turn(options: SpeakOptions, begin: Callable[[VoiceMesh], Turn]) -> int:
    """Begin a turn, take it to its end, print its account; return the exit status."""
    sink = Sink(options)
    async with VoiceMesh(options.addr) as mesh:
        turn = begin(mesh)
        try:
            await mesh.connect()
            report = await sink.take(turn)
        except VoiceMeshError as error:
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
        self._audio: list[bytes] = []
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
                    self._audio.append(event.audio)
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
                print(f"\n(given up: {event.what}: {printable(event.detail)})", file=sys.stderr)
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
            show(console, report)
        if self._options.out is not None and report.outcome != "failed":
            self._write(self._options.out, report)

    def _write(self, path: Path, report: TurnReport) -> None:
        if not self._audio:
            raise Failure(FAILED, "NO_AUDIO", f"the turn had no audio: {path} was not written")
        try:
            write_wav(path, self._audio, self._format)
        except (OSError, ValueError) as error:
            raise usage(f"--out: cannot write {path}: {error}") from None
        if not self._options.as_json:
            print(f"\nwrote {path} ({report.audio_ms / 1000:.2f} s, {self._format.sample_rate_hz} Hz)")
