"""The OpenAI speech API, and every server that speaks its protocol: `POST {base_url}/audio/speech`.

Audio leaves as it comes. What operators should know:

- The key is taken from the environment and is in no message. Texts leave this machine for `base_url`.
- A server makes another rendering of a text each time, so nothing here repeats itself, and a broken stream
  is never asked for again behind its first byte.
- A text without letters and digits is not asked for: servers make noise of it, or an error.
- The first text of a replica warms it up with a real request, so that a wrong key or model is found
  at the start.

    slot thread      synthesize ── bytes <── Transfer <── one task a request      event loop, in a thread
                     └─ told to stop ──> Transfer.cancel ──> the connection closes
"""

import asyncio
import contextlib
import hashlib
import json
import math
import os
import queue
import threading
from collections.abc import AsyncGenerator
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from services.tts.engines.base import Capabilities, Engine, OptionsError, Output, SpeakRequest, Variant
from services.tts.engines.speech_stream import Server, SpeechClient
from services.tts.text import neutralise
from services.tts.text_pieces import pieces_of
from voicemesh.runtime.nearest import did_you_mean

OPENAI_URL: Final = "https://api.openai.com/v1"
_RENDERING: Final = 1
_LOOK_S: Final = 0.01
"""How often an engine that waits for the server looks whether it is to stop."""
_BLOCKS_AHEAD: Final = 4
"""Blocks that are read before the engine took them: a slow listener slows the server down."""


class Options(NamedTuple):
    """What can be set, with its defaults."""

    base_url: str = ""
    """Address of the API, up to `/v1`; empty for $OPENAI_BASE_URL, and for OpenAI where that is not set."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key. Servers of one's own may need none."""
    model: str = "gpt-4o-mini-tts"
    voices: tuple[str, ...] = ("alloy",)
    """The server's voices, each a variant; the first speaks by default."""
    instructions: str = ""
    """How to speak, for models that can be told."""
    sample_rate_hz: int = 24000
    """Of the PCM that the server sends."""
    max_input_chars: int = 4096
    """A longer text is asked for in several pieces."""
    slots: int = 8
    """Requests at once."""
    connect_timeout_s: float = 2.0
    """Longest wait for a connection, after which another is tried."""
    silence_timeout_s: float = 4.5
    """Longest wait for the first bytes, tries included, and for the next. Keep it below
    VOICEMESH_TTS_STALL_TIMEOUT_S, which ends the replica and all its requests."""
    timeout_s: float = 30.0
    """Longest time that the server may take for one text; the listener's time is not counted."""
    max_retries: int = 2
    """Further tries before the first byte."""


class OpenAiSpeechEngine(Engine):
    """See the module.

    Args:
        language: Tag of what the voices speak; for the list of voices alone.
        options: Those of `Options`.

    Raises:
        OptionsError: An option is unknown or wrong, or the key is not there.

    """

    def __init__(self, language: str, options: dict[str, Any]) -> None:
        checked = _check_options(options)
        base_url = checked.base_url or os.environ.get("OPENAI_BASE_URL", "") or OPENAI_URL
        key = os.environ.get(checked.api_key_env, "").strip()
        _check_address(base_url, checked.api_key_env, key)
        self._options = checked
        self._voices = {name.lower(): name for name in checked.voices}
        several = len(checked.voices) > 1
        sound = [
            _RENDERING,
            base_url,
            checked.model,
            checked.voices,
            checked.instructions,
            checked.sample_rate_hz,
        ]
        self.capabilities = Capabilities(
            sample_rate_hz=checked.sample_rate_hz,
            slots=checked.slots,
            word_timings=False,
            deterministic=False,
            revision="openai-" + hashlib.blake2b(json.dumps(sound).encode(), digest_size=6).hexdigest(),
            variants=tuple(Variant(name, language) for name in self._voices) if several else (),
            default_variant=checked.voices[0].lower() if several else "",
            language=language,
            max_chars=checked.max_input_chars,
        )
        self._proven = False
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="http").start()
        server = Server(
            # httpx2 joins paths behind the last slash.
            base_url=base_url.rstrip("/") + "/",
            key_name=checked.api_key_env,
            key=key,
            sample_rate_hz=checked.sample_rate_hz,
            connect_timeout_s=checked.connect_timeout_s,
            silence_timeout_s=checked.silence_timeout_s,
            timeout_s=checked.timeout_s,
            max_retries=checked.max_retries,
            connections=checked.slots,
        )
        self._client = asyncio.run_coroutine_threadsafe(_client(server), self._loop).result()

    def synthesize(self, request: SpeakRequest, output: Output) -> None:
        """Speak; a cancel closes the connection, within 10 ms also where nothing came yet."""
        for piece in pieces_of(neutralise(request.text), self._options.max_input_chars):
            body: dict[str, Any] = {
                "model": self._options.model,
                "voice": self._voices[request.variant or self._options.voices[0].lower()],
                "input": piece,
                "response_format": "pcm",
            }
            if request.speed != 1:
                body["speed"] = request.speed
            if self._options.instructions:
                body["instructions"] = self._options.instructions
            transfer = Transfer(self._client.speak(body, proven=self._proven), self._loop)
            if not transfer.into(output):
                return
            self._proven = True


class Transfer:
    """Bytes on their way from the event loop to a slot thread.

    Args:
        source: Yields them, in `loop`; closed at the end whatever happens.
        loop: Runs in another thread.

    """

    def __init__(self, source: AsyncGenerator[bytes, None], loop: asyncio.AbstractEventLoop) -> None:
        self._source = source
        self._loop = loop
        self._room = asyncio.Semaphore(_BLOCKS_AHEAD)
        self._items: queue.SimpleQueue[bytes | BaseException | None] = queue.SimpleQueue()
        self._task = asyncio.run_coroutine_threadsafe(self._run(), loop)

    async def _run(self) -> None:
        try:
            async with contextlib.aclosing(self._source) as source:
                async for block in source:
                    await self._room.acquire()
                    self._items.put(block)
        except Exception as error:  # noqa: BLE001 - raised again in the slot's thread
            self._items.put(error)
        else:
            self._items.put(None)

    def into(self, output: Output) -> bool:
        """Write all that comes; return False where the output said to stop.

        Raises:
            Exception: What the source raised.

        """
        while True:
            try:
                item = self._items.get(timeout=_LOOK_S)
            except queue.Empty:
                if output.pause(0):
                    continue
                self._task.cancel()
                return False
            if item is None:
                return True
            if isinstance(item, BaseException):
                raise item
            self._loop.call_soon_threadsafe(self._room.release)
            if not output.write(item):
                self._task.cancel()
                return False


async def _client(server: Server) -> SpeechClient:
    return SpeechClient(server)


def _check_address(base_url: str, key_name: str, key: str) -> None:
    try:
        parts = urlsplit(base_url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid or parts.username is not None or parts.query or parts.fragment:
        raise OptionsError(
            "option base_url: must be an address as https://host/v1, without a key, a user or a query in it "
            "(where it is empty, OPENAI_BASE_URL is taken)"
        )
    if not key and (parts.hostname or "").endswith("openai.com"):
        raise OptionsError(
            f"option api_key_env: the environment variable {key_name} is not set, and OpenAI needs a key"
        )
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise OptionsError(
            f"option api_key_env: what {key_name} holds is no key: it has spaces or other letters"
        )


def _check_options(options: dict[str, Any]) -> Options:
    if unknown := sorted(options.keys() - set(Options._fields)):
        near = did_you_mean(unknown[0], Options._fields)
        raise OptionsError(f"option {unknown[0]}: openai has the options {', '.join(Options._fields)}{near}")
    checked = Options(**options)
    for name in ("base_url", "api_key_env", "model", "instructions"):
        value = getattr(checked, name)
        if not isinstance(value, str) or (not value and name in ("api_key_env", "model")):
            raise OptionsError(f"option {name}: must be a text")
    voices = checked.voices
    if not isinstance(voices, (list, tuple)) or not 1 <= len(voices) <= 256:
        raise OptionsError("option voices: must be a list of 1 to 256 names")
    for voice in voices:
        if not isinstance(voice, str) or not voice or voice != voice.strip():
            raise OptionsError("option voices: each must be a name, without spaces around it")
    if len({voice.lower() for voice in voices}) < len(voices):
        raise OptionsError("option voices: two have the same name")
    limits: dict[str, tuple[float, float, bool]] = {
        "sample_rate_hz": (8000, 48000, True),
        "max_input_chars": (16, 100_000, True),
        "slots": (1, 256, True),
        "connect_timeout_s": (0.05, 60, False),
        "silence_timeout_s": (0.05, 600, False),
        "timeout_s": (0.05, 3600, False),
        "max_retries": (0, 10, True),
    }
    for name, (low, high, whole) in limits.items():
        value = getattr(checked, name)
        number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not low <= value <= high:
            raise OptionsError(
                f"option {name}: must be a {'whole ' if whole else ''}number from {low:g} to {high:g}"
            )
    return checked._replace(voices=tuple(voices))
