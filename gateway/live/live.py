"""What the live page shows, gathered from the turns of this gateway and from its peers."""

import asyncio
import platform
import random
import time
import uuid
from collections import OrderedDict
from dataclasses import replace
from typing import Any, Final

import grpc

from gateway.core.values import TurnSpec
from gateway.driver import Caller
from gateway.live import alerts, view
from gateway.live.audio import KeptAudio
from gateway.live.begun import Begun
from gateway.live.feed import Feed
from gateway.live.lately import Lately
from gateway.live.series import PARTS, Series
from gateway.live.services import VOICE_STATES, Services
from gateway.peers import Peers
from gateway.record import DISCARDED, TurnBegun, TurnEnded, TurnName, TurnRecord
from gateway.settings import GatewaySettings
from voicemesh.runtime.clock import Clock

ROWS: Final = 200
"""Turns that ended which the page lists."""
_WAITING: Final = 2_048
"""Turns that may begin and end while the loop is busy elsewhere."""
_SWEEP_S: Final = 30.0
FIGURES_S: Final = 0.5
"""How old figures may be: however many pages ask, they are worked out as often as this."""
_PROMPT_CHARS: Final = 2_000
WINDOWS: Final = {"10m": (600, 10), "1h": (3600, 60)}
"""What the charts show: seconds, and seconds of a column."""


class Live:
    """Follows the turns for whoever looks; costs a turn little where nobody does.

    Args:
        settings: What may be shown.
        record: The turns.
        peers: The services.
        clock: Ages everything.
        version: Of this process.

    Attributes:
        feed: What happens.
        audio: What can be heard again.

    """

    def __init__(
        self, settings: GatewaySettings, record: TurnRecord, peers: Peers, clock: Clock, version: str
    ) -> None:
        self.feed = Feed(uuid.uuid4().hex)
        self.audio = KeptAudio(clock, settings.gateway_live_audio_bytes, settings.gateway_live_audio_s)
        self._settings = settings
        self._record = record
        self._peers = peers
        self._version = version
        self._series = Series(clock, random.Random(clock.now_ns()))  # noqa: S311 - a sample of turns
        self._services = Services(peers, clock)
        self._rows: OrderedDict[TurnName, tuple[int, dict[str, Any]]] = OrderedDict()
        self._told: Lately[dict[str, Any]] = Lately(clock, FIGURES_S)
        self._of_turns: Lately[list[alerts.Alert]] = Lately(clock, FIGURES_S)
        self._begun = Begun(settings.gateway_max_turns, settings.gateway_remembered_turns)
        self._prompts: OrderedDict[TurnName, str] = OrderedDict()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Follow the turns from now on."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._follow(), name="follow turns")]
        if self.audio.on:
            self._tasks.append(loop.create_task(self._forget(), name="forget audio"))

    def drain(self) -> None:
        """End what readers wait for."""
        self.feed.close()

    async def close(self) -> None:
        """End everything."""
        self.feed.close()
        await self._services.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def overhear(self, spec: TurnSpec, caller: Caller) -> Caller:
        """Keep of a turn that begins what may be kept; return who listens to it."""
        if self._settings.gateway_live_text and spec.prompt is not None:
            text = " ".join(part for part in spec.prompt.parts if isinstance(part, str))
            self._prompts[spec.tenant, spec.turn_id] = text[:_PROMPT_CHARS]
            if len(self._prompts) > self._settings.gateway_remembered_turns:
                self._prompts.popitem(last=False)
        if spec.keeps_audio:
            return caller  # it warms the cache: nobody hears it
        return self.audio.listen(caller, spec.tenant, spec.turn_id, spec.sample_rate_hz)

    async def _follow(self) -> None:
        lost = 0
        with self._record.subscribe(most=_WAITING) as turns:
            async for turn in turns:
                if turns.lost != lost:
                    lost = turns.lost
                    self.feed.publish("reset", dict)
                if isinstance(turn, TurnBegun):
                    self._begins(turn)
                else:
                    self._ends(turn)

    async def _forget(self) -> None:
        """Forget audio when its time is over, also where nobody asks for any."""
        while True:
            await asyncio.sleep(min(self._settings.gateway_live_audio_s, _SWEEP_S))
            self.audio.forget_old()

    def _begins(self, turn: TurnBegun) -> None:
        self._begun.begins(turn)
        self.feed.publish("turn", lambda: view.running(turn))

    def _ends(self, turn: TurnEnded) -> None:
        name = turn.tenant, turn.turn_id
        self.audio.ended(*name)
        if turn.outcome == DISCARDED:
            self._prompts.pop(name, None)
            return  # a draft: it is as if it had never been
        begun = self._begun.ends(turn)
        self._series.add(view.figures(turn))
        # Without its report: what is forgotten for want of room must not be held by an event that told of it.
        slim = replace(turn, message=b"")
        self.feed.publish("turn", lambda: self._row(self._record.find(*name) or slim, begun))

    def _row(self, turn: TurnEnded, begun: TurnBegun | None) -> dict[str, Any]:
        name = turn.tenant, turn.turn_id
        kept = self._rows.get(name)
        if kept is None or kept[0] != turn.sequence:
            # Made once: a page that asks for all of them must not hold up who is being spoken to.
            kept = self._rows[name] = turn.sequence, view.ended(turn, begun)
            self._rows.move_to_end(name)
            while len(self._rows) > ROWS:
                self._rows.popitem(last=False)
        return {**kept[1], "hear": self.audio.find(*name) is not None}

    # ------------------------------------------------------------ what is shown

    def turns(self) -> dict[str, Any]:
        """Return the turns that run and the last ones that ended, newest first, and where the feed is."""
        running = self._record.running()
        return {
            "event_id": self.feed.last_id,
            "now_ms": time.time_ns() / 1e6,
            "parts": PARTS,
            "texts": self._settings.gateway_live_text,
            "audio": self.audio.on,
            "windows": list(WINDOWS),
            "running": [view.running(turn) for turn in reversed(running[-ROWS:])],
            "ended": [
                self._row(turn, self._begun.of((turn.tenant, turn.turn_id)))
                for turn in self._record.recent(limit=ROWS, include_refused=True)
            ],
        }

    def turn(self, tenant: str, turn_id: str) -> dict[str, Any] | None:
        """Return all that is known of one turn; None where it is not remembered."""
        turn = self._record.find(tenant, turn_id) if turn_id else None
        if turn is None:
            return None
        name = tenant, turn_id
        texts = self._settings.gateway_live_text
        told = view.whole(turn, self._begun.of(name), self._prompts.get(name, ""), texts=texts)
        recording = self.audio.find(*name)
        return {**told, "hear": recording is not None, "hear_cut": recording is not None and recording.cut}

    def series(self, window: str) -> dict[str, Any]:
        """Return the figures of a window of `WINDOWS`, as columns and as a whole."""
        return self._told.get(window, lambda: self._figures(window))

    def _figures(self, window: str) -> dict[str, Any]:
        window_s, step_s = WINDOWS[window]
        return {
            "window": window,
            "step_s": step_s,
            "parts": PARTS,
            "points": self._series.points(window_s, step_s),
            "summary": self._series.summary(window_s).to_json(),
        }

    def _alerts_of_turns(self) -> list[alerts.Alert]:
        hour = self._series.counts(alerts.HIT_WINDOW_S)
        return list(alerts.of_turns(self._series.summary(alerts.WINDOW_S), hour))

    async def state(self) -> dict[str, Any]:
        """Return how the mesh is doing now."""
        states = await self._services.states()
        peers = self._peers
        serving, breaker = peers.serving, peers.lookups.breaker.state.value.lower()
        found = [
            *alerts.of_peers(serving, breaker),
            *self._of_turns.get("", self._alerts_of_turns),
            *alerts.of_pools(states.pools or (), states.lost_lately),
            *alerts.of_cache(states.cache),
        ]
        return {
            "turns": {"running": len(self._record.running()), "places": self._settings.gateway_max_turns},
            "alerts": [alert.to_json() for alert in sorted(found, key=lambda alert: not alert.severe)],
            "services": [{"name": name, "serving": serves} for name, serves in serving.items()],
            "breakers": {"cache": breaker},
            "versions": self._versions(),
            "voices": [
                {
                    "name": voice.name,
                    "language": voice.language,
                    "state": VOICE_STATES.get(voice.state, ""),
                    "default": voice.is_default,
                    "revision": voice.model_revision,
                    "ready": voice.ready_replicas,
                }
                for voice in peers.list_voices("", include_not_ready=True)
            ],
            "pools": states.pools,
            "cache": states.cache,
            "audio": {"bytes": self.audio.size, "on": self.audio.on},
        }

    def _versions(self) -> dict[str, str]:
        llm = self._peers.llm_ready
        return {
            "gateway": self._version,
            "python": platform.python_version(),
            "grpc": grpc.__version__,
            "llm": "/".join(name for name in (llm.provider, llm.model) if name),
            "llm_revision": llm.revision,
            "chunker_revision": self._peers.chunker_revision,
        }
