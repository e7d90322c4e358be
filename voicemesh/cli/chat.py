"""`voicemesh chat`: a conversation. A line that is typed while the mesh speaks interrupts it."""

import asyncio
import contextlib
import json
import os
import sys
import threading
from typing import Final

from voicemesh.cli import play
from voicemesh.cli.characters import printable
from voicemesh.cli.exits import DONE, FAILED, usage
from voicemesh.cli.exits import report as fail
from voicemesh.cli.failures import failure_of
from voicemesh.cli.speak import SpeakOptions, mesh_at
from voicemesh.client import (
    Conversation,
    Frame,
    TextDelta,
    Turn,
    TurnReport,
    TurnStarted,
    VoiceMeshError,
)

_LINES_AHEAD: Final = 64
_QUIT: Final = frozenset({"/quit", "/exit", "/q"})
_HELP: Final = "Enter sends. A line while it speaks interrupts it; an empty line silences it. Ctrl-D ends."


def run_chat(options: SpeakOptions) -> int:
    """Talk until the input ends; return the exit status. Raises Failure where the mesh is not there."""
    options.speech()
    return asyncio.run(_Chat(options).run())


class _Lines:
    """Lines from standard input, read by a thread: a regular file cannot be waited for otherwise.

    The thread reads the descriptor, not `sys.stdin`, whose lock would hold up the interpreter's end.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._places = threading.BoundedSemaphore(_LINES_AHEAD)
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, name="lines", daemon=True).start()

    def _read(self) -> None:
        rest = b""
        while data := os.read(0, 65536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._put(line)
        if rest:
            self._put(rest)
        self._put(None)

    def _put(self, line: bytes | None) -> None:
        self._places.acquire()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads any more
            self._loop.call_soon_threadsafe(self._queue.put_nowait, line)

    async def next(self) -> bytes | None:
        """Return the next line without its end; None where there are no more."""
        line = await self._queue.get()
        self._places.release()
        return line


class _Chat:
    def __init__(self, options: SpeakOptions) -> None:
        self._options = options
        self._player_name = play.find_player() if options.play else ""
        self._player: play.Player | None = None
        self._speaking: asyncio.Task[None] | None = None
        self._turn: Turn | None = None
        self._terminal = sys.stdin.isatty()
        self._failed = False

    async def run(self) -> int:
        options = self._options
        async with mesh_at(options.addr, options.tenant) as mesh:
            try:
                await mesh.connect()
            except VoiceMeshError as error:
                raise failure_of(error, options.addr) from None
            async with mesh.converse(
                speech=options.speech(), session_id=options.session, reply_cache=options.cache
            ) as conversation:
                if self._terminal:
                    print(_HELP, file=sys.stderr)
                try:
                    await self._talk(conversation)
                finally:
                    await self._silence(None)
                if self._terminal:
                    print(
                        f"\nto go on later: voicemesh chat --session {conversation.session_id}",
                        file=sys.stderr,
                    )
        return FAILED if self._failed and not self._terminal else DONE

    async def _talk(self, conversation: Conversation) -> None:
        lines = _Lines()
        number = 0
        while True:
            if self._terminal and (self._speaking is None or self._speaking.done()):
                print("you> ", end="", flush=True)
            elif not self._terminal and self._speaking is not None:
                # Lines from a file or a pipe are not typed over the reply: each waits for its turn.
                await self._speaking
            line = await lines.next()
            number += 1
            if line is None:
                break
            try:
                text = line.decode().strip()
            except UnicodeDecodeError as error:
                wrong = usage(f"standard input: line {number}: not valid UTF-8 at byte {error.start + 1}")
                if not self._terminal:
                    raise wrong from None
                fail(wrong)
                continue
            if text in _QUIT:
                await self._silence(conversation)
                return
            await self._silence(conversation)
            if text:
                await self._say(conversation, text)
        if self._speaking is not None:
            await self._speaking

    async def _say(self, conversation: Conversation, text: str) -> None:
        try:
            self._turn = await conversation.ask(text)
        except VoiceMeshError as error:
            raise failure_of(error, self._options.addr) from None
        self._player = play.Player(self._player_name) if self._player_name else None
        self._speaking = asyncio.create_task(self._speak(self._turn, self._player), name="speaking")

    async def _silence(self, conversation: Conversation | None) -> None:
        """End what is being spoken: at the mesh with its words so far, and in the loudspeaker."""
        speaking, turn = self._speaking, self._turn
        self._speaking = None
        if speaking is None or turn is None:
            return
        if not speaking.done():
            if conversation is None:
                speaking.cancel()
            else:
                with contextlib.suppress(VoiceMeshError):
                    await conversation.interrupt(played_ms=turn.observer.played_ms())
            if self._player is not None:
                await self._player.stop()
        await asyncio.gather(speaking, return_exceptions=True)

    async def _speak(self, turn: Turn, player: play.Player | None) -> None:
        as_json = self._options.as_json
        try:
            async for event in turn:
                if isinstance(event, TextDelta) and not as_json:
                    print(printable(event.text), end="", flush=True)
                elif isinstance(event, TurnStarted) and player is not None:
                    await player.begin(event.format)
                elif isinstance(event, Frame) and player is not None:
                    await player.write(event.audio)
            if player is not None and turn.report is not None and turn.report.outcome == "completed":
                await player.finish()
        except VoiceMeshError as error:
            fail(failure_of(error, self._options.addr))
            self._failed = True
        finally:
            if player is not None:
                await player.stop()
        if turn.report is not None:
            self._told(turn.report)

    def _told(self, done: TurnReport) -> None:
        if self._options.as_json:
            print(json.dumps(done.to_json()), flush=True)
            return
        end = "" if done.outcome == "completed" else f", {done.outcome}"
        print(f"\n[{done.ttfa_ms:.0f} ms to first audio, {done.audio_ms / 1000:.1f} s{end}]", flush=True)
        if self._terminal and done.outcome == "completed":
            print("you> ", end="", flush=True)
