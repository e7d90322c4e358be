"""A turn's stream to the cache service.

    request ──> with patience: answered in time, or given up, and its breaker opens
            ──> unhurried:     nobody waits; its failure says nothing
            ──> lasting:       with patience up to its first answer; more may come, until one that ends it

There are two patiences. What a lookup spares is soon made anew: it is not worth a long wait. A history nobody
else has: a reply without it does not know what was said. Each has a breaker, so that a cache which is too
slow for the one is still asked for the other.

What belongs to a lease is told on the stream that granted it, or not at all: leases end with their stream.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.breaker import Breaker
from gateway.links import Link
from voicemesh.cache.v1 import cache_pb2
from voicemesh.runtime.status import RemoteError

_UNHURRIED_S: Final = 1.0
"""Longest wait for an answer that nobody waits for."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long turns wait for an answer of a kind; one for all of them.

    Attributes:
        longest_s: The longest wait.
        breaker: Has them not wait at all while such answers fail.

    """

    longest_s: float
    breaker: Breaker


Stream = Link[cache_pb2.ExchangeRequest, cache_pb2.ExchangeResponse]
Answer = Callable[[cache_pb2.ExchangeResponse | None, str], None]
"""Takes the answer to a request, or None and why there is none."""


@dataclass(slots=True)
class _Waiting:
    """A request that is not answered, or not to its end."""

    answer: Answer | None
    timer: asyncio.TimerHandle
    patience: Patience | None
    """None: nobody waits."""
    lasting: bool = False
    heard_s: float = 0.0
    """When something came for it last; 0: nothing has."""


class CacheLink:
    """A turn's stream to the cache service: requests by id, each answered in time or given up.

    A cache that fails or is late opens a breaker, and while it is open nothing of the kind is asked.

    Args:
        open_link: Opens the stream, and has it read with `take` and `ended`.
        lookups: For what can be made anew.
        histories: For what cannot.
        stall_s: Longest wait for more of an answer that comes in parts.

    """

    def __init__(
        self, open_link: Callable[[], Stream], lookups: Patience, histories: Patience, stall_s: float
    ) -> None:
        self._open_link = open_link
        self._lookups = lookups
        self._histories = histories
        self._stall_s = stall_s
        self._link: Stream | None = None
        self._waiting: dict[int, _Waiting] = {}
        self._last_id = 0
        self._draining = False

    @property
    def stream(self) -> Stream | None:
        """The stream that is open; while an answer is given, the one that it came on."""
        return self._link

    @property
    def timeout_ms(self) -> float:
        """Longest wait for what can be made anew, in milliseconds."""
        return self._lookups.longest_s * 1000

    def request(
        self,
        request: cache_pb2.ExchangeRequest,
        answer: Answer | None = None,
        *,
        lasting: bool = False,
        history: bool = False,
    ) -> int:
        """Send a request; return its id, for `forget`.

        `answer` is called from the event loop, never from in here: exactly once, or if the request is
        `lasting`, up to the response that ends it, or the None that does. Without one nobody waits: the
        request may take its time, and its failure says nothing about the turn.
        """
        loop = asyncio.get_running_loop()
        patience = self._histories if history else self._lookups
        if not patience.breaker.allows():
            if answer is not None:
                failed = f": {patience.breaker.why}" if patience.breaker.why else ""
                loop.call_soon(answer, None, f"the cache is held off after it failed{failed}")
            return 0
        if self._link is None or not self._link.open:
            self._link = self._open_link()
        return self._send(
            self._link, request, answer, patience if answer is not None else None, lasting=lasting
        )

    def tell(
        self, stream: Stream | None, request: cache_pb2.ExchangeRequest, answer: Answer | None = None
    ) -> bool:
        """Send what belongs to a lease, without hurry; return False where its stream has ended.

        The breaker has no say: of what is appended to a lease nothing may be left out.
        """
        if stream is None or stream is not self._link or not stream.open:
            return False
        self._send(stream, request, answer, None)
        return True

    def distrust(self, why: str) -> None:
        """Note that the cache said what cannot be: it is held off, as one that failed."""
        self._failed(why)

    def _failed(self, why: str) -> None:
        self._lookups.breaker.failed(why)
        self._histories.breaker.failed(why)

    def forget(self, request_id: int) -> None:
        """Give no more answers to a request. A lease that is granted to it is given back."""
        waiting = self._waiting.pop(request_id, None)
        if waiting is not None:
            waiting.timer.cancel()
            self._close_if_drained()

    def _send(
        self,
        link: Stream,
        request: cache_pb2.ExchangeRequest,
        answer: Answer | None,
        patience: Patience | None,
        *,
        lasting: bool = False,
    ) -> int:
        self._last_id += 1
        request.request_id = self._last_id
        wait_s = patience.longest_s if patience is not None else _UNHURRIED_S
        timer = asyncio.get_running_loop().call_later(wait_s, self._late, self._last_id)
        self._waiting[self._last_id] = _Waiting(answer, timer, patience, lasting)
        link.send(request)
        return self._last_id

    async def take(self, response: cache_pb2.ExchangeResponse) -> None:
        """Take a response from the service; one that comes too late is dropped."""
        waiting = self._waiting.get(response.request_id)
        if waiting is None:
            self._give_back(response)
        else:
            if waiting.lasting and _goes_on(response):
                self._heard(waiting, response.request_id)
            else:
                del self._waiting[response.request_id]
                waiting.timer.cancel()
            if waiting.answer is not None:
                if waiting.patience is not None:
                    waiting.patience.breaker.succeeded()
                waiting.answer(response, "")
        self._close_if_drained()

    def _heard(self, waiting: _Waiting, request_id: int) -> None:
        loop = asyncio.get_running_loop()
        if not waiting.heard_s:
            waiting.timer.cancel()
            waiting.timer = loop.call_later(self._stall_s, self._late, request_id)
        waiting.heard_s = loop.time()

    def _give_back(self, response: cache_pb2.ExchangeResponse) -> None:
        """Let others have what came too late to be used here."""
        lease_id = response.granted.lease_id or response.following.lease_id
        if lease_id and self._link is not None and self._link.open:
            release = cache_pb2.ExchangeRequest(release=cache_pb2.Release(lease_id=lease_id))
            self._send(self._link, release, None, None)

    def ended(self, link: Stream, error: RemoteError | None) -> None:
        """Note that a stream ended: what still waits for it is answered with nothing."""
        if link is not self._link:
            return  # it was drained, and another one is open
        self._link = None
        if error is not None:
            self._failed(error.message)
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            one.timer.cancel()
            if one.answer is not None:
                one.answer(None, error.message if error is not None else "the cache ended the stream")

    def drain(self) -> None:
        """End the stream once everything that was asked is answered."""
        self._draining = True
        self._close_if_drained()

    def _close_if_drained(self) -> None:
        if self._draining and not self._waiting and self._link is not None:
            self._link.half_close()

    def _late(self, request_id: int) -> None:
        waiting = self._waiting[request_id]
        loop = asyncio.get_running_loop()
        if waiting.heard_s and (left_s := waiting.heard_s + self._stall_s - loop.time()) > 0:
            waiting.timer = loop.call_later(left_s, self._late, request_id)
            return
        del self._waiting[request_id]
        if waiting.heard_s:
            # The cache works: it answered. Why nothing more comes, the breaker cannot know.
            why = f"the cache gave no more for {self._stall_s:g} s"
        else:
            longest_s = waiting.patience.longest_s if waiting.patience is not None else _UNHURRIED_S
            why = f"the cache took longer than {longest_s * 1000:.0f} ms"
            if waiting.patience is not None:
                waiting.patience.breaker.failed(why)
        if waiting.answer is not None:
            waiting.answer(None, why)
        self._close_if_drained()


def _goes_on(response: cache_pb2.ExchangeResponse) -> bool:
    """Return whether more responses to the same request follow."""
    result = response.WhichOneof("result")
    return result in ("following", "part") or (result == "hit" and response.hit.more)
