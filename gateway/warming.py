"""Speaks common phrases before they are asked for: at the start, when a voice changes, now and then.

    for each voice of the list   not ready ──> wait
                                 new revision, or `every_s` since the last round ──> a round
    a round   phrase by phrase, one at a time, behind all that somebody waits for: looked up, and
              spoken where the cache has not got it; ends early where nothing can be kept, or the
              voice changes under it, and is tried again

A round over phrases that are all there costs their look-ups. Entries are not prolonged by it: what has
expired or was pushed out is what the next round speaks again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from gateway.settings import GatewaySettings
from gateway.speaking import Speaker
from gateway.turns import Turns
from voicemesh.client.options import SpeechOptions
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.phrases import Phrase, read_phrases
from voicemesh.runtime.errors import DrainingError, MeshError, SettingsError
from voicemesh.runtime.logs import get_logger
from voicemesh.runtime.sessions import Session, SessionRegistry

_log = get_logger(__name__)
AGAIN_S: Final = 30.0
"""How long behind a round that could not do everything the next one is tried."""
_LOSES: Final = frozenset({pb.DEGRADATION_CACHE, pb.DEGRADATION_VOICE, pb.DEGRADATION_LOCAL_SPEECH})
"""What a turn gives up that leaves nothing in the cache."""


class Warmed(Enum):
    """What came of a phrase."""

    SPOKEN = "spoken"
    PRESENT = "present"
    NOT_KEPT = "not kept"
    """It was spoken for nothing: the cache did not answer, or another voice stood in."""


@dataclass(slots=True)
class Round:
    """What came of the phrases of one voice."""

    spoken: int = 0
    present: int = 0
    failed: int = 0
    complete: bool = False

    @property
    def whole(self) -> bool:
        """True where every phrase is in the cache."""
        return self.complete and not self.failed


class Warmer:
    """Keeps the phrases of a list in the cache.

    Args:
        phrases: The list.
        revision: Returns the revision of a voice, by its name in the list; "" while it is not ready.
        speak: Speaks a phrase into the cache. Raises MeshError where it cannot be spoken.
        every_s: Seconds from one round over a voice to the next.
        poll_s: How often the revisions are looked at.

    """

    def __init__(
        self,
        phrases: tuple[Phrase, ...],
        revision: Callable[[str], str],
        speak: Callable[[Phrase], Awaitable[Warmed]],
        *,
        every_s: float,
        poll_s: float,
    ) -> None:
        self._by_voice: dict[str, list[Phrase]] = {}
        for phrase in phrases:
            self._by_voice.setdefault(phrase.voice, []).append(phrase)
        self._revision = revision
        self._speak = speak
        self._every_s = every_s
        self._poll_s = poll_s
        self._warm: dict[str, str] = {}
        self._due_s: dict[str, float] = {}

    async def run(self) -> None:
        """Warm until the gateway drains."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                for voice in self._by_voice:
                    revision = self._revision(voice)
                    changed = revision != self._warm.get(voice)
                    if revision and (changed or loop.time() >= self._due_s[voice]):
                        done = await self._round(voice, revision)
                        self._warm[voice] = revision
                        self._due_s[voice] = loop.time() + (self._every_s if done.whole else AGAIN_S)
                await asyncio.sleep(self._poll_s)
        except DrainingError:
            return

    async def _round(self, voice: str, revision: str) -> Round:
        done = Round()
        for phrase in self._by_voice[voice]:
            if self._revision(voice) != revision:
                break  # what is spoken now would be found by nobody
            try:
                warmed = await self._speak(phrase)
            except DrainingError:
                raise
            except MeshError as error:
                done.failed += 1
                _log.warning(
                    "a phrase cannot be warmed", voice=voice, text=phrase.text[:80], reason=str(error)
                )
                continue
            if warmed is Warmed.NOT_KEPT:
                done.failed += 1
                break
            done.spoken += warmed is Warmed.SPOKEN
            done.present += warmed is Warmed.PRESENT
        else:
            done.complete = True
        if done.spoken or not done.whole:
            _log.info(
                "phrases warmed",
                voice=voice or "default",
                revision=revision,
                spoken=done.spoken,
                present=done.present,
                failed=done.failed,
                complete=done.complete,
            )
        return done


class WarmFile:
    """The gateway's own list: `VOICEMESH_GATEWAY_WARM_FILE`.

    Raises:
        SettingsError: It cannot be read, or a line of it is no phrase.

    """

    def __init__(self, settings: GatewaySettings, turns: Turns, sessions: SessionRegistry) -> None:
        self._turns = turns
        self._sessions = sessions
        self._session: Session | None = None
        self._warmer: Warmer | None = None
        if settings.gateway_warm_file:
            try:
                phrases = read_phrases(Path(settings.gateway_warm_file))
                for phrase in phrases:
                    speech_of(phrase)
            except (OSError, ValueError) as error:
                raise SettingsError(f"VOICEMESH_GATEWAY_WARM_FILE: {error}") from None
            self._warmer = Warmer(
                phrases,
                self._revision,
                self._speak,
                every_s=settings.gateway_warm_every_s,
                poll_s=settings.gateway_voices_poll_s,
            )

    def start(self) -> None:
        """Warm from now on."""
        if self._warmer is not None:
            self._session = self._sessions.open()
            self._session.spawn(self._warmer.run(), name="warm")

    def stop(self) -> None:
        """Warm no more. Does not wait."""
        if self._session is not None:
            self._session.cancel()

    def _revision(self, voice: str) -> str:
        try:
            return str(self._turns.peers.voice(voice, "voice").model_revision)
        except MeshError:
            return ""

    async def _speak(self, phrase: Phrase) -> Warmed:
        assert self._session is not None
        speaker = Speaker(self._turns, self._session, phrase.tenant, None)
        return outcome_of(await speaker.warm(phrase.text, speech_of(phrase)))


def speech_of(phrase: Phrase) -> pb.SpeechOptions:
    """Return how a phrase is spoken. Raises ValueError for a policy that does not exist."""
    return SpeechOptions(
        voice=phrase.voice, speed=phrase.speed, sample_rate_hz=phrase.sample_rate_hz, policy=phrase.policy
    ).to_proto()


def outcome_of(report: pb.TurnReport) -> Warmed:
    """Return what came of a phrase that was spoken into the cache."""
    if set(report.degraded) & _LOSES:
        return Warmed.NOT_KEPT
    made = any(chunk.cache == pb.CACHE_OUTCOME_MISS for chunk in report.chunks)
    return Warmed.SPOKEN if made else Warmed.PRESENT
