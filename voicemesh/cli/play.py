"""Plays PCM through whatever player this machine has."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from voicemesh.cli.exits import usage
from voicemesh.client import AudioFormat, write_wav

_STREAMING: Final = {
    "paplay": "--raw --format=s16le --rate={rate} --channels={channels}",
    "aplay": "-q -t raw -f S16_LE -r {rate} -c {channels}",
    "ffplay": "-nodisp -autoexit -loglevel error -f s16le -ar {rate} -ac {channels} -i -",
}
_FILE_ONLY: Final = "afplay"


def find_player() -> str:
    """Return the name of a player on the PATH. Raises Failure, which says what to install."""
    for name in (*_STREAMING, _FILE_ONLY):
        if shutil.which(name):
            return name
    raise usage(
        "--play: no audio player on this machine (looked for paplay, aplay, ffplay, afplay)",
        "install alsa-utils, pulseaudio-utils or ffmpeg, or use --out FILE.wav",
    )


def command(player: str, fmt: AudioFormat) -> Sequence[str]:
    """Return the command that plays raw PCM of `fmt` from its standard input."""
    arguments = _STREAMING[player].format(rate=fmt.sample_rate_hz, channels=fmt.channels)
    return (player, *arguments.split())


class Player:
    """Plays one turn: `begin`, `write` frames, then `finish` or `stop`."""

    def __init__(self, player: str) -> None:
        self._player = player
        self._format = AudioFormat()
        self._process: asyncio.subprocess.Process | None = None
        self._kept: list[bytes] = []

    async def begin(self, fmt: AudioFormat) -> None:
        """Start the player, if it can play what it is yet to be given."""
        self._format = fmt
        if self._player in _STREAMING:
            self._process = await asyncio.create_subprocess_exec(
                *command(self._player, fmt),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                # Ctrl-C is ours to handle.
                start_new_session=True,
            )

    async def write(self, audio: bytes) -> None:
        """Play more; waits while the player has enough in hand. A player that went away is ignored."""
        if self._process is None:
            self._kept.append(audio)
            return
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._process.stdin.write(audio)
            await self._process.stdin.drain()

    async def finish(self) -> None:
        """Wait until all of it was heard."""
        try:
            if self._process is not None:
                assert self._process.stdin is not None
                self._process.stdin.close()
                await self._process.wait()
            elif self._kept:
                await self._play_file()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Be silent at once."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self._process = None
        self._kept.clear()

    async def _play_file(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "turn.wav"
            write_wav(path, self._kept, self._format)
            self._process = await asyncio.create_subprocess_exec(self._player, str(path))
            await self._process.wait()
