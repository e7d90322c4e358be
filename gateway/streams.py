"""Streams that cost others nothing: few enough for each caller, and none that says or takes nothing for long.

Nobody measures a stream while it runs: it counts what it did, and all are looked at now and then.

How many a caller opens in a second is limited, too: to open one and to drop it costs more than it seems, and
one Converse stream is enough for any number of turns. Who is refused has had nothing done for it yet.
"""

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gateway.access.caller import CURRENT
from gateway.admission.rates import MOST_KEYS, Bucket
from gateway.callers import Responses
from gateway.settings import GatewaySettings
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import DeadlineError, MeshError, TooManyCallsError
from voicemesh.runtime.logs import get_logger

_log = get_logger(__name__)
_RETRY_MS: Final = 1_000
_LOOKS: Final = 4
"""Times that a stream is looked at while it may be silent."""
_MOST_S: Final = 5.0
_AT_ONCE_S: Final = 10
"""So many seconds' worth of streams may be opened at once: callers who lost a gateway come together."""


class Talk(Protocol):
    """A stream on which a caller may say something."""

    heard: int
    """Messages that came."""

    @property
    def configured(self) -> bool:
        """Whether the first of them said what the stream is for."""

    def end(self, error: MeshError) -> None:
        """End the stream with an error."""


@dataclass(eq=False, slots=True)
class Stream:
    """A stream that has a place. It says nothing of itself until `carry`."""

    task: "asyncio.Task[Any] | None"
    opened_ns: int
    changed_ns: int
    responses: Responses | None = None
    talk: Talk | None = None
    progress: int = 0

    def carry(self, responses: Responses, talk: Talk | None = None) -> None:
        """Say what its caller takes, and where it may say something who says it."""
        self.responses, self.talk = responses, talk


class Streams:
    """All streams of this process.

    Args:
        settings: What they may take.
        clock: Ages them.

    """

    def __init__(self, settings: GatewaySettings, clock: Clock) -> None:
        self._most = settings.gateway_max_caller_streams
        self._per_s = settings.gateway_caller_streams_per_s
        self._configure_s = settings.gateway_configure_s
        self._idle_s = settings.gateway_idle_s
        self._slow_s = settings.gateway_slow_reader_s
        self._clock = clock
        self._open: set[Stream] = set()
        self._by_caller: Counter[str] = Counter()
        self._rates: OrderedDict[str, Bucket] = OrderedDict()
        self._refused = 0
        """Since that was told last."""

    def __len__(self) -> int:
        """Streams that are open."""
        return len(self._open)

    @contextlib.contextmanager
    def place(self, context: Any) -> Iterator[Stream]:
        """Hold a place for the stream that the present task serves: before anything is done for it.

        Raises:
            TooManyCallsError: Its caller has as many open as it may, or opened too many lately.

        """
        caller = CURRENT.get()
        # By the key alone: one that may name any tenant is no other caller for each of them.
        who = caller.key_id if caller is not None else _address(context.peer())
        now_ns = self._clock.now_ns()
        self._admit(who, now_ns)
        stream = Stream(asyncio.current_task(), now_ns, now_ns)
        self._open.add(stream)
        self._by_caller[who] += 1
        try:
            yield stream
        finally:
            self._open.discard(stream)
            self._by_caller[who] -= 1
            if not self._by_caller[who]:
                del self._by_caller[who]

    def _admit(self, who: str, now_ns: int) -> None:
        if self._by_caller[who] >= self._most:
            self._refused += 1
            raise TooManyCallsError(
                f"this caller has {self._most} streams open, as many as it may "
                "(VOICEMESH_GATEWAY_MAX_CALLER_STREAMS)",
                limit="streams",
                retry_after_ms=_RETRY_MS,
            )
        if not self._per_s:
            return
        bucket = self._rates.get(who)
        if bucket is None:
            bucket = self._rates[who] = Bucket(60 * self._per_s, now_ns, max(1.0, _AT_ONCE_S * self._per_s))
            if len(self._rates) > MOST_KEYS:
                self._rates.popitem(last=False)
        self._rates.move_to_end(who)
        if wait_ms := bucket.wait_ms(1, now_ns):
            self._refused += 1
            raise TooManyCallsError(
                f"this caller may open {self._per_s:g} streams a second "
                "(VOICEMESH_GATEWAY_CALLER_STREAMS_PER_S); one Converse stream carries any number of turns",
                limit="streams_per_s",
                retry_after_ms=max(_RETRY_MS, wait_ms),
            )
        bucket.take(1, now_ns)

    async def watch(self) -> None:
        """Look at the streams for ever."""
        limits = [limit for limit in (self._configure_s, self._idle_s, self._slow_s) if limit]
        if not limits:
            return
        pause_s = min(_MOST_S, min(limits) / _LOOKS)
        while True:
            await asyncio.sleep(pause_s)
            self.look()

    def look(self) -> None:
        """End the streams that were silent for too long."""
        now_ns = self._clock.now_ns()
        ended: Counter[str] = Counter()
        for stream in tuple(self._open):
            if why := self._silent(stream, now_ns):
                ended[why] += 1
        if ended:
            _log.warning("streams were ended", **ended)
        if self._refused:
            _log.warning("streams were refused", streams=self._refused)
            self._refused = 0

    def _silent(self, stream: Stream, now_ns: int) -> str:
        """End a stream that was silent for too long; return why, or ""."""
        talk, responses = stream.talk, stream.responses
        if responses is None:
            return ""
        open_s = (now_ns - stream.opened_ns) / 1e9
        if talk is not None and not talk.configured and self._configure_s and open_s >= self._configure_s:
            talk.end(DeadlineError(f"no `configure` came within {self._configure_s:g} s"))
            return "unconfigured"
        progress = responses.taken + (talk.heard if talk is not None else 0)
        if progress != stream.progress:
            stream.progress, stream.changed_ns = progress, now_ns
            return ""
        silent_s = (now_ns - stream.changed_ns) / 1e9
        if responses.writing:
            if self._slow_s and silent_s >= self._slow_s and stream.task is not None:
                # What was written to it is in the way of any error: only the end of the call gets through.
                stream.task.cancel()
                return "slow_readers"
        elif talk is not None and self._idle_s and silent_s >= self._idle_s:
            talk.end(DeadlineError(f"nothing was said on this stream for {self._idle_s:g} s: open another"))
            return "idle"
        return ""


def _address(peer: str) -> str:
    """Return gRPC's name for a peer without its port: `ipv4:10.0.0.1:5000` becomes `ipv4:10.0.0.1`."""
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer
