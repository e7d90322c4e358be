"""A stream to the LLM service that is open before its prompt comes."""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.links import Link
from gateway.moves import RENEW_S
from gateway.peers import Peers
from voicemesh.llm.v1 import llm_pb2
from voicemesh.runtime.sessions import Session
from voicemesh.runtime.status import RemoteError
from voicemesh.runtime.telemetry import Telemetry

LlmLink = Link[llm_pb2.GenerateRequest, llm_pb2.GenerateResponse]
METHOD: Final = "voicemesh.llm.v1.LlmService/Generate"
_SOON_S: Final = 0.02
"""How long behind `configure` a stream is opened: who asks at once is as fast with one of the turn's own, and
for who has left again by then nothing was opened."""
_AFTER_TURN_S: Final = 0.05
"""How long behind a turn the next stream is opened: a caller that has asked its last is gone by then."""


class Standby:
    """Keeps one stream to the LLM service open while its caller may ask.

        prepare ──> open ─┬─ take ──────────────────> the turn's
                          ├─ broken ──────────────> another, where it was answered before
                          ├─ other processes ─────> another, so that new ones get a share of the prompts
                          └─ idle too long ───────> none, until the next `prepare`

    Opening a stream costs a turn more than a round trip on one that is open. The stream belongs to
    no turn until it is taken: it has no span, and the service has been told nothing.

    Args:
        peers: The services.
        session: Owns the reading of streams that are not taken yet, and of those that are.
        telemetry: Makes the spans of streams that are taken.
        idle_s: How long a stream stands by unused; 0: none ever does.
        remaining_s: Returns what is left of the caller's deadline; None where it has none.

    """

    def __init__(
        self,
        peers: Peers,
        session: Session,
        telemetry: Telemetry,
        idle_s: float,
        remaining_s: Callable[[], float | None],
    ) -> None:
        self._peers = peers
        self._session = session
        self._telemetry = telemetry
        self._idle_s = idle_s
        self._remaining_s = remaining_s
        self._link: LlmLink | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._expires_s = 0.0
        self._answered = False
        self._closed = False
        peers.llm_moves.add(self._renew_soon)

    def prepare(self) -> None:
        """Open a stream, unless one stands by."""
        self._expires_s = asyncio.get_running_loop().time() + self._idle_s
        self._open()

    def _open(self) -> None:
        left_s = self._expires_s - asyncio.get_running_loop().time()
        if self._closed or left_s <= 0 or self._link is not None:
            return
        self._answered = False
        link: LlmLink = Link(
            "llm",
            METHOD,
            self._peers.llm.Generate,
            self._telemetry,
            None,
            self._remaining_s(),
            self._peers.calls,
        )
        link.listen(self._hear, partial(self._ended, link))
        link.start(self._session, "llm stream")
        self._link = link
        # Behind its time it is let go, and none is opened in its place.
        self._set_timer(min(left_s, self._peers.llm_moves.lasts_s()), self._renew)

    def prepare_first(self) -> None:
        """Open a stream a moment behind `configure`."""
        self._set_timer(_SOON_S, self.prepare)

    def prepare_soon(self) -> None:
        """Open a stream a moment behind the end of a turn."""
        if not self._closed and self._link is None:
            self._set_timer(_AFTER_TURN_S, self.prepare)

    @property
    def ready(self) -> bool:
        """True while a stream stands by."""
        return self._link is not None

    def take(self) -> LlmLink | None:
        """Return the stream that stands by, for good; None where there is none."""
        link, self._link = self._link, None
        if self._timer is not None:  # one that was about to be opened is the next turn's
            self._timer.cancel()
        return link

    def close(self) -> None:
        """Let go of it, and open none any more."""
        self._closed = True
        self._peers.llm_moves.discard(self._renew_soon)
        self._let_go()

    async def _hear(self, response: llm_pb2.GenerateResponse) -> None:
        if response.HasField("ready"):
            self._answered = True
            self._peers.hear_llm(response.ready)

    def _ended(self, link: LlmLink, error: RemoteError | None) -> None:  # noqa: ARG002 - the next one may do
        if self._link is link:
            self.take()
            if self._answered:  # its process went away: the next prompt finds another all the same
                self._set_timer(_AFTER_TURN_S, self._open)

    def _renew_soon(self) -> None:
        """Stand by elsewhere in a moment, where there may be somebody new by now: not all at once."""
        if self._link is not None:
            self._set_timer(random.random() * RENEW_S, self._renew)  # noqa: S311 - nobody is to be surprised

    def _renew(self) -> None:
        self._let_go()
        self._open()

    def _let_go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        link = self.take()
        if link is not None:
            link.cancel()

    def _set_timer(self, delay_s: float, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_s, then)
